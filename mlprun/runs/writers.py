"""Where the values of a run go: TensorBoard's event file, metrics.jsonl, the terminal."""

from __future__ import annotations

import errno
import io
import json
import logging
import math
import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.summary.writer.record_writer import RecordWriter
from tqdm import tqdm

from mlprun.errors import RunError

Values = dict[str, float]
Pixels = np.ndarray[Any, Any]  # uint8 (H, W, 3)
Bins = np.ndarray[Any, Any]  # float64 (bins, 3)

log = logging.getLogger("mlprun")

LABELLED_CLASSES = 20


# tags of the run's end, and of its start in the HParams table: a run that goes on writes them itself
WRITTEN_ANEW = ("test/", metadata.SESSION_START_INFO_TAG, metadata.SESSION_END_INFO_TAG)
EVENT_FILES = f"events.out.tfevents.{10 * '[0-9]'}.*"


class TensorBoard:
    """TensorBoard's event file of one run, with its row of the HParams table.

    torch's SummaryWriter would add a sub-run for the hyperparameters; here they stand in the run's own file.
    Events reach the system as they are written, and no thread writes them: a TensorBoard that watches sees them at
    once, and no worker process is forked while a lock is held.

    A TensorBoard that watches remembers how far it has read a file, so a file is never rewritten. Each start makes a
    new one of what is kept from the newest; at every moment the newest file, by name, is the whole story.

    Args:
        folder: the run's; made where it is missing.
        keep_until: step of the checkpoint from which the run goes on; what was written up to there is kept, but not
            what belongs to a run's end. None for a run that begins: nothing is kept.

    Raises:
        RunError: a file cannot be read or written; every method may raise it.
    """

    def __init__(self, folder: Path, keep_until: int | None = None) -> None:
        with _naming(folder):
            folder.mkdir(parents=True, exist_ok=True)
            old = sorted(folder.glob(EVENT_FILES))
        # Files are read in the order of their names; the clock alone does not make that of their writing.
        seconds = max([int(time.time()), *(int(path.name.split(".")[3]) + 1 for path in old)])
        self._path = folder / f"events.out.tfevents.{seconds:010d}.{socket.gethostname()}.{os.getpid()}.0"
        unfinished = folder / ".events.tmp"  # a name that TensorBoard passes over
        with _naming(self._path):
            unfinished.unlink(missing_ok=True)
            self._file = unfinished.open("wb")
            self._records = RecordWriter(self._file)
            for record in _beginning(old[-1] if old else None, keep_until):
                self._records.write(record)
            self.flush()
            unfinished.rename(self._path)
            _sync_folder(folder)
            # The newest of the old files is emptied, not removed: a TensorBoard that watches it without the data
            # server opens it at each look, and where that fails never comes to the new one.
            for path in old[:-1]:
                path.unlink()
            if old:
                os.truncate(old[-1], 0)

    def hparams(self, values: dict[str, bool | float | str]) -> None:
        """The run's hyperparameters, to be called once, at the start."""
        start = plugin_data_pb2.SessionStartInfo(start_time_secs=time.time())
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                # the table sorts and filters texts and numbers; it shows booleans unreliably
                start.hparams[name].string_value = str(value).lower() if isinstance(value, bool) else str(value)
            else:
                start.hparams[name].number_value = value
        self._session(metadata.SESSION_START_INFO_TAG, session_start_info=start)

    def close(self, status: str) -> None:
        """End the table's row with how the run ended (`completed`, `failed`, `interrupted`), and the file."""
        ended = api_pb2.STATUS_SUCCESS if status == "completed" else api_pb2.STATUS_FAILURE
        end = plugin_data_pb2.SessionEndInfo(status=ended, end_time_secs=time.time())
        try:
            self._session(metadata.SESSION_END_INFO_TAG, session_end_info=end)
        finally:
            with _naming(self._path):
                self._file.close()

    def write(self, step: int, epoch: float | None, values: Values) -> None:
        """One scalar a tag; the epoch is left to metrics.jsonl, so that all curves share the step axis."""
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=v) for tag, v in values.items()])
        self._add(summary, step)

    def image(self, tag: str, pixels: Pixels, step: int) -> None:
        """A picture: uint8 of shape (H, W, 3)."""
        height, width, channels = pixels.shape
        image = Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=_png(pixels))
        self._add(Summary(value=[Summary.Value(tag=tag, image=image)]), step)

    def draw(self, step: int, images: dict[str, Pixels], histograms: dict[str, Bins]) -> None:
        """Pictures, and histograms of (bins, 3) lower edges, upper edges and counts."""
        for tag, pixels in images.items():
            self.image(tag, pixels, step)
        if not histograms:
            return
        from tensorboard.plugins.histogram.metadata import create_summary_metadata
        from tensorboard.util.tensor_util import make_tensor_proto

        described = create_summary_metadata(display_name=None, description=None)
        content = [
            Summary.Value(tag=tag, metadata=described, tensor=make_tensor_proto(bins, dtype=np.float64))
            for tag, bins in histograms.items()
        ]
        self._add(Summary(value=content), step)

    def tick(self, step: int) -> None:
        """Nothing to do at a step without values."""

    def flush(self) -> None:
        """Return when every event is on the disk."""
        with _naming(self._path):
            self._file.flush()
            _sync(self._file.fileno())

    def _session(self, tag: str, **content: Any) -> None:
        data = plugin_data_pb2.HParamsPluginData(version=metadata.PLUGIN_DATA_VERSION, **content)
        value = Summary.Value(tag=tag, metadata=metadata.create_summary_metadata(data))
        self._add(Summary(value=[value]), 0)

    def _add(self, summary: Summary, step: int) -> None:
        with _naming(self._path):
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
        kept = [value for value in event.summary.value if not value.tag.startswith(WRITTEN_ANEW)]
        if len(kept) == len(event.summary.value):
            yield record
        elif kept:
            yield Event(wall_time=event.wall_time, step=event.step, summary=Summary(value=kept)).SerializeToString()


def _records(path: Path) -> Iterator[bytes]:
    """The records of an event file, up to where TensorBoard can read it: a torn last one is left out."""
    with _naming(path, "read"):
        yield from RawEventFileLoader(str(path)).Load()


class JsonLines:
    """metrics.jsonl: one flat object a logged step, the values that TensorBoard shows.

    Args:
        path: of the file.
        keep_until: step of the checkpoint from which the run goes on; later rows are cut off, and a torn last one.
            None for a run that begins: the file starts empty.

    Raises:
        RunError: a row to be kept is damaged, or the file cannot be written; every method may raise the latter.
    """

    def __init__(self, path: Path, keep_until: int | None = None) -> None:
        self._path = path
        with _naming(path):
            if keep_until is not None and path.exists():
                os.truncate(path, _length(path, keep_until))
            self._file = path.open("w" if keep_until is None else "a", encoding="utf-8")
            _sync_folder(path.parent)

    def write(self, step: int, epoch: float | None, values: Values) -> None:
        """Append a line; JSON knows no NaN, so a value that is not finite becomes null."""
        shown = {tag: value if math.isfinite(value) else None for tag, value in values.items()}
        with _naming(self._path):
            self._file.write(json.dumps({"step": step, "epoch": epoch, **shown}) + "\n")
            self._file.flush()

    def draw(self, step: int, images: dict[str, Pixels], histograms: dict[str, Bins]) -> None:
        """Nothing: rows hold numbers."""

    def tick(self, step: int) -> None:
        """Nothing to do at a step without values."""

    def flush(self) -> None:
        """Return when every row is on the disk."""
        with _naming(self._path):
            self._file.flush()
            _sync(self._file.fileno())

    def close(self, status: str) -> None:
        """Close the file."""
        with _naming(self._path):
            self._file.close()


def _length(path: Path, keep_until: int) -> int:
    """Bytes that the rows up to a step take; steps are ascending."""
    length = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            try:
                later = json.loads(line)["step"] > keep_until
            except (ValueError, KeyError, TypeError) as error:
                raise RunError(
                    f"{path}, line {number}: damaged, not an object with a `step`\n"
                    "  mend the line or remove it, then resume"
                ) from error
            if later:
                break
            length += len(line)
    return length


class PictureFiles:
    """`pictures/NAME_STEP.png` in the run's directory, to put into a text or a film.

    Args:
        folder: made when there is a picture.

    Raises:
        RunError: a file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def draw(self, step: int, images: dict[str, Pixels], histograms: dict[str, Bins]) -> None:
        """Write each whole or not at all."""
        for tag, pixels in images.items():
            path = self._folder / f"{tag.rpartition('/')[2]}_{step:07d}.png"
            with _naming(path):
                self._folder.mkdir(exist_ok=True)
                half = path.with_name(f".{path.name}")
                half.write_bytes(_png(pixels))
                half.replace(path)

    def write(self, step: int, epoch: float | None, values: Values) -> None:
        """Nothing: numbers are written elsewhere."""

    def tick(self, step: int) -> None:
        """Nothing to do at a step without pictures."""

    def flush(self) -> None:
        """Nothing to do: a picture is drawn again by a resume that needs it."""

    def close(self, status: str) -> None:
        """Nothing is open."""


class Console:
    """The terminal: a progress bar with ETA where there is one, and a line for each evaluation everywhere."""

    def __init__(self, num_steps: int, start: int = 0) -> None:
        self._num_steps = num_steps
        self._bar = (
            tqdm(total=num_steps, initial=start, unit="step", leave=False, mininterval=0.2, smoothing=0.05)
            if sys.stderr.isatty()
            else None
        )

    def tick(self, step: int) -> None:
        """Advance the bar."""
        if self._bar is not None:
            self._bar.update(1)

    def write(self, step: int, epoch: float | None, values: Values) -> None:
        """Show an evaluation on a line of its own; steps that only log training values move the bar alone."""
        if not any(tag.startswith("val/") for tag in values):
            return
        chosen = [tag for tag in values if tag == "train/loss" or tag.startswith("val/")]
        width = len(str(self._num_steps))
        where = f"step {step:{width}d}/{self._num_steps}"
        if epoch is not None:
            where += f"  epoch {epoch:6.2f}"
        log.info("%s", where + "  " + "  ".join(f"{tag} {_shown(values[tag])}" for tag in chosen))

    def draw(self, step: int, images: dict[str, Pixels], histograms: dict[str, Bins]) -> None:
        """Nothing: a terminal shows text."""

    def flush(self) -> None:
        """Nothing to do: the terminal keeps nothing."""

    def close(self, status: str) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()


def _shown(value: float) -> str:
    return f"{value:.4f}" if not abs(value) >= 1e5 else f"{value:.4g}"


class Writers:
    """Several writers as one."""

    def __init__(self, *writers: TensorBoard | JsonLines | PictureFiles | Console) -> None:
        self._writers = writers

    def write(self, step: int, epoch: float | None, values: Values) -> None:
        """Give the values to each."""
        for writer in self._writers:
            writer.write(step, epoch, values)

    def draw(self, step: int, images: dict[str, Pixels], histograms: dict[str, Bins]) -> None:
        """Give what was drawn to each."""
        for writer in self._writers:
            writer.draw(step, images, histograms)

    def tick(self, step: int) -> None:
        """Tell each that a step is done."""
        for writer in self._writers:
            writer.tick(step)

    def flush(self) -> None:
        """Return when all that was written is on the disk."""
        for writer in self._writers:
            writer.flush()

    def close(self, status: str) -> None:
        """Close each, also where one of them fails."""
        with ExitStack() as stack:
            for writer in self._writers:
                stack.callback(writer.close, status)


@contextmanager
def _naming(path: Path, done: str = "written") -> Iterator[None]:
    """Tell the user which file the system refused, and why."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{path} cannot be {done}: {error.strerror}") from error


def _sync(descriptor: int) -> None:
    """Return when a file is on the disk; where the file system has no such wish, at once."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


def _sync_folder(folder: Path) -> None:
    """Return when the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _png(pixels: Pixels) -> bytes:
    from PIL import Image

    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, format="PNG")
    return encoded.getvalue()


def heat_map(counts: np.ndarray[Any, Any], names: Sequence[str]) -> np.ndarray[Any, Any]:
    """A confusion matrix as a picture: rows are the true classes, columns the predicted, dark is many.

    Args:
        counts: (K, K) whole numbers; each row is shaded by its own sum, so that rare classes show too.
        names: one a class; with more than `LABELLED_CLASSES` of them, names and counts would be unreadable.

    Returns:
        uint8 of shape (height, width, 3).
    """
    from PIL import Image, ImageDraw, ImageFont

    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    labelled = len(counts) <= LABELLED_CLASSES
    side = max(2, (640 if labelled else 512) // len(counts))
    # from white to a dark blue
    shade = 255 - share[:, :, None] * (255 - np.array([8.0, 48.0, 107.0]))
    cells = np.kron(shade, np.ones((side, side, 1))).astype(np.uint8)
    if not labelled:
        return cells
    margin = 110
    picture = Image.new("RGB", (margin + cells.shape[1] + 10, margin + cells.shape[0] + 10), "white")
    picture.paste(Image.fromarray(cells), (margin, margin))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=14)
    draw.text((margin, 8), "predicted", "black", font)
    draw.text((8, margin - 24), "true", "black", font)
    wide = max(font.getlength(name[:13]) for name in names) > side
    for row, name in enumerate(names):
        middle = margin + row * side + side // 2
        draw.text((margin - 8, middle), name[:13], "black", font, anchor="rm")
        lift = 18 * (row % 2) if wide else 0  # in turn, so that long names do not touch
        draw.text((middle, margin - 8 - lift), name[:13], "black", font, anchor="mb")
        for column in range(len(counts)):
            ink = "white" if share[row, column] > 0.5 else "black"
            where = (margin + column * side + side // 2, middle)
            draw.text(where, str(counts[row, column]), ink, font, anchor="mm")
    return np.asarray(picture)
