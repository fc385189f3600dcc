"""The peak memory of the process."""

from __future__ import annotations

import resource
import sys

import torch


def peak_mem_mib(device: torch.device) -> float:
    """Peak memory so far, MiB: allocated on a GPU, else resident in the process."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux KiB
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)
