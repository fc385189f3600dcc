"""Checkpoints: one dict of plain tensors and values, written whole or not at all."""

from __future__ import annotations

import logging
import os
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch

from mlprun.errors import RunError
from mlprun.files import atomic_write
from mlprun.version_one import upgrade_checkpoint, upgrade_config

FORMAT = 2  # one more whenever the keys change, those of `Progress` included; `load` then upgrades the older ones

log = logging.getLogger("mlprun")


class Checkpoint(dict[str, Any]):
    """What a checkpoint holds, also what this version does not know, and typed access to what it does."""

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return int(self["step"])

    @property
    def model(self) -> dict[str, Any]:
        """The model's state dict."""
        return self._dict("model")

    @property
    def optimizer(self) -> dict[str, Any]:
        """The optimizer's state dict."""
        return self._dict("optimizer")

    @property
    def schedule(self) -> dict[str, Any]:
        """The schedule's state dict."""
        return self._dict("schedule")

    @property
    def progress(self) -> dict[str, Any]:
        """How far the run was, and what was best."""
        return self._dict("progress")

    @property
    def config(self) -> dict[str, Any]:
        """The run's, by this version's names."""
        return self._dict("config")

    @property
    def normalizer(self) -> dict[str, torch.Tensor]:
        """`shift` and `scale` of the inputs."""
        return self._dict("normalizer")

    @property
    def target_normalizer(self) -> dict[str, torch.Tensor] | None:
        """`shift` and `scale` of the targets; None where they are not scaled."""
        return self.get("target_normalizer")

    @property
    def tokenizer(self) -> dict[str, Any] | None:
        """What token ids were made with, as plain values; None where the data are no text."""
        return self.get("tokenizer")

    @property
    def class_names(self) -> list[str]:
        """Of the data; may be empty."""
        return list(self["class_names"])

    @property
    def image_format(self) -> dict[str, Any]:
        """`range` of black and white and `border` of the data's images; None each where that is not known."""
        return self.get("image_format") or {"range": None, "border": None}

    def _dict(self, key: str) -> dict[str, Any]:
        value: dict[str, Any] = self[key]
        return value


def best_checkpoint(path: Path) -> Path:
    """The file that a run directory, its folder of checkpoints, or a file itself stands for; it may not be there."""
    if not path.is_dir():
        return path
    return path / "best.pt" if path.name == "checkpoints" else path / "checkpoints" / "best.pt"


def read_torch_file(file: Path | IO[bytes], device: torch.device | str = "cpu") -> Any:
    """What `torch.save` wrote of tensors and plain values; no code in it is run, and its checksums are compared.

    Raises:
        Exception: almost any, for a damaged file.
    """
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:  # torch.load itself does not look at the checksums
            if name := archive.testzip():
                raise ValueError(f"{name} has another checksum than when it was written")
    if not isinstance(file, Path):
        file.seek(0)
    return torch.load(file, map_location=device, weights_only=True)


def save(state: Mapping[str, Any], path: Path) -> None:
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


def load(path: Path, device: torch.device | str = "cpu") -> Checkpoint:
    """Read a checkpoint without running any code in it.

    Raises:
        RunError: the file is missing, damaged or of another format.
    """
    if not path.is_file():
        raise RunError(f"there is no checkpoint {path}")
    try:
        if not zipfile.is_zipfile(path):  # also torch's own older format, which has no checksums
            raise zipfile.BadZipFile("File is not a zip file")
        state = read_torch_file(path, device)
    except Exception as error:  # a damaged file makes the unpickler raise almost anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RunError(f"checkpoint {path} is damaged: {reason}") from error
    if not isinstance(state, dict) or state.get("format") not in range(1, FORMAT + 1):
        raise RunError(f"{path} is not a checkpoint of mlprun (format {FORMAT})")
    if state["format"] == 1:
        upgrade_checkpoint(state)
    if isinstance(state.get("config"), dict):
        state["config"] = upgrade_config(state["config"])
    return Checkpoint(state)


@dataclass(frozen=True)
class Recovered:
    """Where a run can go on.

    Attributes:
        state: the newest whole checkpoint.
        path: its file.
        best_is_lost: no file holds the best checkpoint that `state` tells of.
    """

    state: Checkpoint
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

    def save_last(self, state: Mapping[str, Any], *, keep: bool = True) -> None:
        """Publish `state` as the newest checkpoint, with `keep` also as one of the older ones that are kept."""
        if self.keep and keep:
            save(state, self.folder / f"step_{state['step']}.pt")
            for old in self._older()[self.keep :]:
                old.unlink()
        save(state, self.folder / "last.pt")

    def save_best(self, state: Mapping[str, Any]) -> None:
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
        whole: dict[Path, Checkpoint] = {}
        damage: dict[Path, str] = {}
        newest = None
        for path in [self.folder / "last.pt", self.folder / "best.pt", *self._older()]:
            newest_step = -1 if newest is None else whole[newest].step
            if not path.exists() or (path.stem.startswith("step_") and _number(path) <= newest_step):
                continue
            try:
                whole[path] = load(path, device)
            except RunError as error:
                damage[path] = str(error)
                continue
            if whole[path].step > newest_step:
                newest = path
        if newest is None:
            if not damage:
                return None
            raise RunError("\n".join([*damage.values(), "  and there is no other checkpoint to go on from"]))
        for path, text in damage.items():
            os.replace(path, path.with_name(f"{path.name}.damaged"))
            log.warning("%s\n  it is set aside as %s.damaged; going on from %s", text, path.name, newest)
        state = whole[newest]
        best_step = state.progress["best_step"]
        if (best := whole.get(self.folder / "best.pt")) is not None and best.step == best_step:
            return Recovered(state, newest, best_is_lost=False)
        kept = self.folder / f"step_{best_step}.pt"
        if best_step == state.step and state.progress["best"] is not None:
            self.save_best(state)
        elif kept.exists():
            self.save_best(load(kept, device))
        else:
            return Recovered(state, newest, best_is_lost=state.progress["best"] is not None)
        return Recovered(state, newest, best_is_lost=False)

    def _older(self) -> list[Path]:
        """The step_N.pt, newest first."""
        return sorted(self.folder.glob("step_*.pt"), key=_number, reverse=True)


def _number(path: Path) -> int:
    return int(path.stem.removeprefix("step_"))
