"""TensorBoard's event files."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DataType
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.plugins.text import metadata as text_metadata
from tensorboard.summary.writer.record_writer import RecordWriter

from mlprun.files import atomic_write, encode_png, fsync, naming_path, open_to_read, open_to_write
from mlprun.writers.base import Bins, Pixels, RunInfo, Values, Writer

# tags of the run's end, of its start in the HParams table, and of its texts: a run that goes on writes them itself
WRITTEN_ANEW = ("test/", "run/", metadata.SESSION_START_INFO_TAG, metadata.SESSION_END_INFO_TAG)
BY_LAYER = frozenset(  # what logging.histograms adds, for each layer or parameter
    "activation_norm activations dead_relus gradient_norm gradients update_ratio updates weight_norm weights".split()
)
EVENT_FILES = f"events.out.tfevents.{10 * '[0-9]'}.*"


def shown_as(tag: str) -> str:
    """The tag in TensorBoard, which groups tags by their first part, sorts the groups, and opens the first two.

    `train/loss` and `val/loss` are `loss/train` and `loss/val`. What is no metric comes after them: `optim/lr` is
    `training/lr`, and `weights/LAYER` is `training_weights/LAYER`. The values of `test/…`, one each, keep a place of
    their own. A tag that is already TensorBoard's stays: any version may have written what a resumed run keeps.
    """
    if tag.endswith(("/train", "/val")):
        return tag
    first, _, rest = tag.partition("/")
    if first in ("train", "val"):
        return f"{rest}/{first}"
    if first in ("optim", "perf"):
        return f"training/{rest}"
    layer_tag = tag.removeprefix("training/")
    return f"training_{layer_tag}" if layer_tag.partition("/")[0] in BY_LAYER else tag


class TensorBoard(Writer):
    """TensorBoard's event file of one run, with its row of the HParams table, its command and its config.

    torch's SummaryWriter would add a sub-run for the hyperparameters; here they are in the run's own file.
    Events reach the system as they are written, and no thread writes them: a TensorBoard that watches sees them at
    once, and no worker process is forked while a lock is held.

    A TensorBoard that watches remembers how far it has read a file, so a file is never rewritten. Each start makes a
    new one of what is kept from the newest; at every moment the newest file, by name, is the whole story.

    Raises:
        RunError: a file cannot be read or written; every method may raise it.
    """

    def start(self, run: RunInfo) -> None:
        folder = run.directory
        with naming_path(folder):
            old = sorted(folder.glob(EVENT_FILES))
            for unfinished in folder.glob(".*.tmp"):  # a kill left it
                unfinished.unlink()
        # Files are read in the order of their names; the clock alone does not make that of their writing.
        seconds = max([int(time.time()), *(int(path.name.split(".")[3]) + 1 for path in old)])
        self._path = folder / f"events.out.tfevents.{seconds:010d}.{socket.gethostname()}.{os.getpid()}.0"
        with naming_path(self._path):
            with atomic_write(self._path) as file:
                records = RecordWriter(file)
                for record in _beginning(old[-1] if old else None, run.keep_until):
                    records.write(record)
            self._file = open_to_write(self._path, "ab")
            self._records = RecordWriter(self._file)
            # The newest of the old files is emptied, not removed: a TensorBoard that watches it without the data
            # server opens it at each look, and where that fails never comes to the new one.
            for path in old[:-1]:
                path.unlink()
            if old:
                open_to_write(old[-1], "wb").close()
        self._add_hparams(run.hparams)
        self._add_text("run/command", run.command)
        self._add_text("run/config", json.dumps(run.config, indent=2))

    def _add_hparams(self, values: dict[str, bool | float | str]) -> None:
        start = plugin_data_pb2.SessionStartInfo(start_time_secs=time.time())
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) >= 2**53:
                # the table sorts and filters texts and numbers; it shows booleans unreliably, and rounds large numbers
                start.hparams[name].string_value = str(value).lower() if isinstance(value, bool) else str(value)
            else:
                start.hparams[name].number_value = value
        self._session(metadata.SESSION_START_INFO_TAG, session_start_info=start)

    def _add_text(self, tag: str, text: str) -> None:
        """A text is shown as Markdown; indented lines are code."""
        lines = "".join(f"    {line}\n" for line in text.splitlines())
        described = text_metadata.create_summary_metadata(display_name=None, description=None)
        tensor = TensorProto(dtype=DataType.DT_STRING, string_val=[lines.encode()])
        self._add(Summary(value=[Summary.Value(tag=tag, metadata=described, tensor=tensor)]), 0)

    def finish(self, status: str) -> None:
        """End the table's row with how the run ended (`completed`, `failed`, `interrupted`), and the file."""
        ended = api_pb2.STATUS_SUCCESS if status == "completed" else api_pb2.STATUS_FAILURE
        end = plugin_data_pb2.SessionEndInfo(status=ended, end_time_secs=time.time())
        try:
            self._session(metadata.SESSION_END_INFO_TAG, session_end_info=end)
            self.flush()
        finally:
            with naming_path(self._path):
                self._file.close()

    def write(self, step: int, epoch: float | None, values: Values) -> None:
        """One scalar a tag; the epoch is left to metrics.jsonl, so that all curves share the step axis."""
        summary = Summary(value=[Summary.Value(tag=shown_as(tag), simple_value=v) for tag, v in values.items()])
        self._add(summary, step)

    def images(self, step: int, images: dict[str, Pixels]) -> None:
        for tag, pixels in images.items():
            height, width, colors = pixels.shape
            image = Summary.Image(
                height=height, width=width, colorspace=colors, encoded_image_string=encode_png(pixels)
            )
            self._add(Summary(value=[Summary.Value(tag=tag, image=image)]), step)

    def histograms(self, step: int, histograms: dict[str, Bins]) -> None:
        from tensorboard.plugins.histogram.metadata import create_summary_metadata
        from tensorboard.util.tensor_util import make_tensor_proto

        described = create_summary_metadata(display_name=None, description=None)
        content = [
            Summary.Value(tag=shown_as(tag), metadata=described, tensor=make_tensor_proto(bins, dtype=np.float64))
            for tag, bins in histograms.items()
        ]
        self._add(Summary(value=content), step)

    def flush(self) -> None:
        with naming_path(self._path):
            self._file.flush()
            fsync(self._file.fileno())

    def _session(self, tag: str, **content: Any) -> None:
        data = plugin_data_pb2.HParamsPluginData(version=metadata.PLUGIN_DATA_VERSION, **content)
        value = Summary.Value(tag=tag, metadata=metadata.create_summary_metadata(data))
        self._add(Summary(value=[value]), 0)

    def _add(self, summary: Summary, step: int) -> None:
        with naming_path(self._path):
            self._records.write(Event(wall_time=time.time(), step=step, summary=summary).SerializeToString())
            self._records.flush()


def _beginning(old: Path | None, keep_until: int | None) -> Iterator[bytes]:
    """The first records of an event file: its head, and what is kept of the old one."""
    records = iter(()) if old is None or keep_until is None else _records(old)
    first = next(records, None)
    # TensorBoard sorts runs by the time of their first event, so a run that goes on keeps it.
    began = time.time() if first is None else Event.FromString(first).wall_time
    yield Event(wall_time=began, file_version="brain.Event:2").SerializeToString()
    # A START after another one tells a TensorBoard that watches to forget what it has read from this step on: all.
    yield Event(wall_time=began, session_log=SessionLog(status=SessionLog.START)).SerializeToString()
    for record in records:
        event = Event.FromString(record)
        if event.step > keep_until or event.HasField("session_log"):
            continue
        if not event.HasField("summary"):
            yield record
            continue
        kept = []
        for value in event.summary.value:
            if not value.HasField("image"):  # an older version wrote the tags of metrics.jsonl
                value.tag = shown_as(value.tag)
            if not value.tag.startswith(WRITTEN_ANEW):
                kept.append(value)
        if kept:
            yield Event(wall_time=event.wall_time, step=event.step, summary=Summary(value=kept)).SerializeToString()


def _records(path: Path) -> Iterator[bytes]:
    """The records of an event file, up to where TensorBoard can read it: a torn last one is left out."""
    with naming_path(path, "read"):
        open_to_read(path).close()  # TensorBoard's loader would wait for a pipe
        yield from RawEventFileLoader(str(path)).Load()
