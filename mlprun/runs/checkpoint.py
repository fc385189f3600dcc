"""Checkpoints: a dict of plain tensors and values in a file of `torch.save`, replaced atomically.

The file is a zip archive whose comment is the SHA-256 of all bytes before it: torch reads it as any other, and no byte
of it can change unnoticed. The checksums of zip itself do not cover the archive's own headers.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import shutil
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from mlprun.errors import RunError
from mlprun.files import atomic_write, make_folder, naming_path, rename, sync_folder
from mlprun.runs.record import section
from mlprun.version_one import upgrade_checkpoint, upgrade_config

FORMAT = 3  # incremented whenever the keys change, those of `Progress` included; `load` then upgrades older files

SUMMED = 3  # the first format whose files end with their sum
SUM_PREFIX, SUM_LENGTH = b"sha256:", 64  # the archive's comment: prefix and hexadecimal sum

log = logging.getLogger("mlprun")


class _Dict:
    """Descriptor for a dict in a checkpoint."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, checkpoint: Mapping[str, Any], owner: type) -> dict[str, Any]:
        value: dict[str, Any] = checkpoint[self.name]
        return value


class Checkpoint(dict[str, Any]):
    """The contents of a checkpoint, with typed access to the keys that this version knows."""

    model = _Dict()  # what is evaluated: with `trainer.ema` the average, and the trained weights are in `ema`
    optimizer = _Dict()
    schedule = _Dict()
    progress = _Dict()
    config = _Dict()  # with the names of this version
    normalizer = _Dict()  # `shift` and `scale` of the inputs; `fill` of those that may be missing

    @property
    def step(self) -> int:
        """Number of optimizer steps done."""
        return int(self["step"])

    @property
    def target_normalizer(self) -> dict[str, torch.Tensor] | None:
        """`shift` and `scale` of the targets; None if they are not scaled."""
        return self.get("target_normalizer")

    @property
    def class_weights(self) -> dict[str, list[float]] | None:
        """The argument of the loss by `loss.class_weights`; None if all classes count alike."""
        return self.get("class_weights")

    @property
    def tokenizer(self) -> dict[str, Any] | None:
        """None if the data is not text."""
        return self.get("tokenizer")

    @property
    def class_names(self) -> list[str]:
        return list(self["class_names"])

    @property
    def image_format(self) -> dict[str, Any]:
        """`range` (of black and white) and `border` of the data's images; None if unknown."""
        return self.get("image_format") or {"range": None, "border": None}


def best_checkpoint(path: Path) -> Path:
    """best.pt of a run directory or of its `checkpoints`, or the file itself; it may not exist."""
    if not path.is_dir():
        return path
    return path / "best.pt" if path.name == "checkpoints" else path / "checkpoints" / "best.pt"


def read_torch_file(file: BinaryIO, device: torch.device | str = "cpu") -> Any:
    """Read a file of `torch.save` without running code in it, and verify its checksums; raises any exception."""
    if expected := _stored_sum(file):
        if _compute_sum(file) != expected:
            raise ValueError("it has changed since it was written (SHA-256)")
    elif zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:  # torch.load itself ignores the checksums
            if name := archive.testzip():
                raise ValueError(f"{name} has changed since it was written (CRC)")
    file.seek(0)
    return torch.load(file, map_location=device, weights_only=True)


def sum_of(path: Path) -> str | None:
    """The SHA-256 that a checkpoint ends with, as `sha256:…`; None if it has none, or cannot be read."""
    try:
        with path.open("rb") as file:
            stored = _stored_sum(file)
    except OSError:
        return None
    return (SUM_PREFIX + stored).decode(errors="replace") if stored else None


def _append_sum(file: io.BufferedRandom) -> None:
    """End a zip archive without a comment with its sum as one."""
    file.seek(-2, os.SEEK_END)  # an archive ends with the length of its comment, and the comment
    file.write(struct.pack("<H", len(SUM_PREFIX) + SUM_LENGTH) + SUM_PREFIX)
    file.seek(0)
    file.write(hashlib.file_digest(file, "sha256").hexdigest().encode())


def _stored_sum(file: BinaryIO) -> bytes | None:
    length = file.seek(0, os.SEEK_END)
    file.seek(max(0, length - len(SUM_PREFIX) - SUM_LENGTH))
    return file.read() if file.read(len(SUM_PREFIX)) == SUM_PREFIX else None


def _compute_sum(file: BinaryIO) -> bytes:
    """The sum of all bytes before the stored one."""
    end, digest = file.seek(0, os.SEEK_END) - SUM_LENGTH, hashlib.sha256()
    file.seek(0)
    while chunk := file.read(min(2**20, end - file.tell())):
        digest.update(chunk)
    return digest.hexdigest().encode()


def save(state: Mapping[str, Any], path: Path) -> None:
    """Replace `path` atomically; RunError if it cannot be written (a full disk, no permission)."""
    try:
        with atomic_write(path) as file:
            torch.save({"format": FORMAT, **state}, file)
            _append_sum(file)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        text = f"checkpoint {path} could not be written: {error}"
        if isinstance(error, RuntimeError):  # torch's message does not tell a full disk from other faults
            text = f"{text.splitlines()[0]}\n  {shutil.disk_usage(path.parent).free:,} bytes are free on its disk"
        raise RunError(text) from error


def load(path: Path, device: torch.device | str = "cpu") -> Checkpoint:
    """Read a checkpoint without running code in it; RunError if it is missing, damaged or of another format."""
    if not path.is_file():
        raise RunError(f"there is no checkpoint {path}")
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):  # also torch's own older format, which has no checksums
                raise zipfile.BadZipFile("File is not a zip file")
            state = read_torch_file(file, device)
            is_ours = isinstance(state, dict) and state.get("format") in range(SUMMED, FORMAT + 1)
            if is_ours and not _stored_sum(file):
                raise ValueError("it does not end with its SHA-256")
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
    """Where a run can be resumed."""

    state: Checkpoint  # the newest intact one
    path: Path
    best_is_lost: bool  # no file holds the best checkpoint that `state` refers to


class Checkpointer:
    """Keeps `last.pt`, `best.pt`, and as `step_N.pt` those in the progress' `next_best` and the newest `keep` others.

    None is removed before a last.pt is on disk that no longer counts it.
    """

    def __init__(self, folder: Path, keep: int = 0) -> None:
        self.folder, self.keep = folder, keep
        self.best = folder / "best.pt"
        with naming_path(folder):
            make_folder(folder)

    def save_last(self, state: Mapping[str, Any], *, keep: bool = True) -> None:
        """Save `state` as last.pt, and with `keep` also as step_N.pt."""
        if self.keep and keep:
            self.save_step(state)
        save(state, self.folder / "last.pt")
        self.remove_old(state)

    def remove_old(self, state: Mapping[str, Any]) -> None:
        """Remove the step_N.pt that the checkpoint of `state`, the newest, has no more use for."""
        counted = _next_best(state)
        if unused := [path for path in self._older() if _number(path) not in counted][self.keep :]:
            for old in unused:
                old.unlink()
            sync_folder(self.folder)

    def save_step(self, state: Mapping[str, Any]) -> None:
        save(state, self._step(state["step"]))

    def save_best(self, state: Mapping[str, Any], former: int = 0) -> None:
        """Save `state` as best.pt; that of step `former` before it becomes step_N.pt if it is one of the next best."""
        if former not in _next_best(state) or not self.best.exists():
            save(state, self.best)
            return
        new = self.folder / ".best.tmp"  # killed between the renames, a run goes on from the former best
        save(state, new)
        with naming_path(self.best):
            rename(self.best, self._step(former))
            rename(new, self.best)

    def has(self, step: int) -> bool:
        return self._step(step).exists()

    def is_empty(self) -> bool:
        return not any(path.exists() for path in (self.folder / "last.pt", self.best, *self._older()))

    def recover(self, device: torch.device | str = "cpu") -> Recovered | None:
        """The newest intact checkpoint; None without any. RunError if there are checkpoints, and none can be used.

        A kill between two writes leaves best.pt or a step_N.pt newer than last.pt; each is complete. Damaged files are
        renamed to `NAME.damaged`, temporary ones removed.
        """
        for leftover in self.folder.glob(".*.tmp"):
            leftover.unlink()
        intact: dict[Path, Checkpoint] = {}
        damage: dict[Path, str] = {}
        newest = None
        for path in [self.folder / "last.pt", self.best, *self._older()]:
            newest_step = -1 if newest is None else intact[newest].step
            if not path.exists() or (path.stem.startswith("step_") and _number(path) <= newest_step):
                continue
            try:
                intact[path] = load(path, device)
            except RunError as error:
                damage[path] = str(error)
                continue
            if intact[path].step > newest_step:
                newest = path
        if newest is None:
            if not damage:
                return None
            raise RunError("\n".join([*damage.values(), "  and there is no other checkpoint to resume from"]))
        for path, text in damage.items():
            rename(path, path.with_name(f"{path.name}.damaged"))
            log.warning("%s\n  renamed to %s.damaged; resuming from %s", text, path.name, newest)
        state = intact[newest]
        best_step = state.progress["best_step"]
        best, older = intact.get(self.best), self._step(best_step)
        if best is None or best.step != best_step:
            if best_step == state.step and state.progress["best"] is not None:
                save(state, self.best)
            elif older.exists():
                save(load(older, device), self.best)
            else:
                return Recovered(state, newest, best_is_lost=state.progress["best"] is not None)
        return Recovered(state, newest, best_is_lost=False)

    def _step(self, step: int) -> Path:
        return self.folder / f"step_{step}.pt"

    def _older(self) -> list[Path]:  # newest first
        return sorted(self.folder.glob("step_*.pt"), key=_number, reverse=True)


class NoCheckpoints(Checkpointer):
    """Saves nothing: for a process whose state is that of another, which saves it."""

    def __init__(self) -> None:
        super().__init__(Path())

    def save_last(self, state: Mapping[str, Any], *, keep: bool = True) -> None:
        pass

    def save_step(self, state: Mapping[str, Any]) -> None:
        pass

    def save_best(self, state: Mapping[str, Any], former: int = 0) -> None:
        pass


def _next_best(state: Mapping[str, Any]) -> list[int]:
    """The steps of the next best evaluations, the better first."""
    return [step for _, step in section(state, "progress").get("next_best", [])]


def _number(path: Path) -> int:
    return int(path.stem.removeprefix("step_"))
