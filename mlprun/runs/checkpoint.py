"""Checkpoints: one dict of plain tensors and values, written whole or not at all."""

from __future__ import annotations

import logging
import os
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mlprun.errors import RunError
from mlprun.files import atomic_write
from mlprun.version_one import upgrade_config

FORMAT = 1  # one more whenever the keys change, those of `Progress` included; `load` then upgrades the older ones

log = logging.getLogger("mlprun")


def save(state: dict[str, Any], path: Path) -> None:
    """Write `state` so that `path` holds either the old checkpoint or the new one, never half of one.

    Raises:
        RunError: the file cannot be written (a full disk, no permission).
    """
    try:
        with atomic_write(path) as file:
            torch.save({"format": FORMAT, **state}, file)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
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
    if isinstance(state.get("config"), dict):
        state["config"] = upgrade_config(state["config"])
    return state


@dataclass(frozen=True)
class Recovered:
    """Where a run can go on.

    Attributes:
        state: the newest whole checkpoint.
        path: its file.
        best_is_lost: no file holds the best checkpoint that `state` tells of.
    """

    state: dict[str, Any]
    path: Path
    best_is_lost: bool


class Checkpointer:
    """Keeps `last.pt`, `best.pt` and the newest few `step_N.pt` of a run.

    Args:
        folder: made if it is not there.
        keep: older checkpoints kept besides last and best.
    """

    def __init__(self, folder: Path, keep: int = 0) -> None:
        self.folder, self.keep = folder, keep
        folder.mkdir(parents=True, exist_ok=True)

    def save_last(self, state: dict[str, Any], *, keep: bool = True) -> None:
        """Publish `state` as the newest checkpoint, with `keep` also as one of the older ones that are kept."""
        if self.keep and keep:
            save(state, self.folder / f"step_{state['step']}.pt")
            for old in self._older()[self.keep :]:
                old.unlink()
        save(state, self.folder / "last.pt")

    def save_best(self, state: dict[str, Any]) -> None:
        """Publish `state` as the best checkpoint so far."""
        save(state, self.folder / "best.pt")

    def is_empty(self) -> bool:
        """Whether there is no checkpoint, whole or damaged."""
        return not any(path.exists() for path in (self.folder / "last.pt", self.folder / "best.pt", *self._older()))

    def recover(self, device: torch.device | str = "cpu") -> Recovered | None:
        """The newest whole checkpoint, None if there is none at all.

        A kill between two writes leaves best.pt or a step_N.pt newer than last.pt; each is complete. What is damaged
        is set aside as `NAME.damaged`, and what a kill left half-written is removed.

        Raises:
            RunError: there are checkpoints, and none of them can be used.
        """
        for leftover in self.folder.glob(".*.tmp"):
            leftover.unlink()
        whole: dict[Path, dict[str, Any]] = {}
        damage: dict[Path, str] = {}
        newest = None
        for path in [self.folder / "last.pt", self.folder / "best.pt", *self._older()]:
            known = -1 if newest is None else whole[newest]["step"]
            if not path.exists() or (path.stem.startswith("step_") and _number(path) <= known):
                continue
            try:
                whole[path] = load(path, device)
            except RunError as error:
                damage[path] = str(error)
                continue
            if whole[path]["step"] > known:
                newest = path
        if newest is None:
            if not damage:
                return None
            raise RunError("\n".join([*damage.values(), "  and there is no other checkpoint to go on from"]))
        for path, text in damage.items():
            os.replace(path, path.with_name(f"{path.name}.damaged"))
            log.warning("%s\n  it is set aside as %s.damaged; going on from %s", text, path.name, newest)
        state = whole[newest]
        best_step = state["progress"]["best_step"]
        if (best := whole.get(self.folder / "best.pt")) is not None and best["step"] == best_step:
            return Recovered(state, newest, best_is_lost=False)
        kept = self.folder / f"step_{best_step}.pt"
        if best_step == state["step"] and state["progress"]["best"] is not None:
            self.save_best(state)
        elif kept.exists():
            self.save_best(load(kept, device))
        else:
            return Recovered(state, newest, best_is_lost=state["progress"]["best"] is not None)
        return Recovered(state, newest, best_is_lost=False)

    def _older(self) -> list[Path]:
        """The step_N.pt, newest first."""
        return sorted(self.folder.glob("step_*.pt"), key=_number, reverse=True)


def _number(path: Path) -> int:
    return int(path.stem.removeprefix("step_"))
