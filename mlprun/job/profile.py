"""A torch.profiler trace of a few steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlprun.data.batches import TrainBatches
from mlprun.data.nested import AnyBatch
from mlprun.files import atomic_write


class ProfiledBatches(TrainBatches):
    """The same batches, with a torch.profiler trace of steps 4-8 written to `trace` as they are taken."""

    def __init__(self, batches: TrainBatches, trace: Path) -> None:
        vars(self).update(vars(batches))
        self._trace = trace

    def _write(self, profiler: Any) -> None:
        with atomic_write(self._trace) as file:  # torch itself would follow a link
            profiler.export_chrome_trace(file.name)

    def starting_at(self, step: int) -> Iterator[AnyBatch]:
        from torch.profiler import ProfilerActivity, profile, schedule

        activities = [ProfilerActivity.CPU]
        activities += [ProfilerActivity.CUDA] if self.device.type == "cuda" else []
        with profile(
            activities=activities,
            schedule=schedule(wait=2, warmup=1, active=5, repeat=1),
            on_trace_ready=self._write,
        ) as profiler:
            for batch in super().starting_at(step):
                yield batch
                profiler.step()
