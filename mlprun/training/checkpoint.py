"""Checkpoints: one dict of plain tensors and values, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch

from mlprun.errors import RunError

FORMAT = 1


def save(state: dict[str, Any], path: Path) -> None:
    """Write `state` so that `path` holds either the old checkpoint or the new one, never half of one.

    Raises:
        RunError: the file cannot be written (a full disk, no permission).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        with contextlib.suppress(OSError):
            temporary.unlink()
        text = f"checkpoint {path} could not be written: {error}"
        if isinstance(error, RuntimeError):  # torch's words do not tell a full disk from another fault
            text = f"{text.splitlines()[0]}\n  {shutil.disk_usage(path.parent).free:,} bytes are free on its disk"
        raise RunError(text) from error


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint without running any code in it.

    Raises:
        RunError: the file is missing, damaged or of another format.
    """
    if not path.is_file():
        raise RunError(f"there is no checkpoint {path}")
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load itself does not look at the checksums
            if name := archive.testzip():
                raise ValueError(f"{name} has another checksum than when it was written")
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # a damaged file makes the unpickler raise almost anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RunError(f"checkpoint {path} is damaged: {reason}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise RunError(f"{path} is not a checkpoint of mlprun (format {FORMAT})")
    return state


class Checkpointer:
    """Keeps `last.pt`, `best.pt` and the newest few `step_N.pt` of a run.

    Args:
        folder: made if it is not there.
        keep: older checkpoints kept besides last and best.
    """

    def __init__(self, folder: Path, keep: int = 0) -> None:
        self.folder, self.keep = folder, keep
        folder.mkdir(parents=True, exist_ok=True)

    def save_last(self, state: dict[str, Any]) -> None:
        """Publish `state` as the newest checkpoint."""
        if self.keep:
            save(state, self.folder / f"step_{state['step']}.pt")
            kept = sorted(self.folder.glob("step_*.pt"), key=lambda p: int(p.stem.removeprefix("step_")))
            for old in kept[: -self.keep]:
                old.unlink()
        save(state, self.folder / "last.pt")

    def save_best(self, state: dict[str, Any]) -> None:
        """Publish `state` as the best checkpoint so far."""
        save(state, self.folder / "best.pt")
