"""Where the values of a run go: TensorBoard's event file, metrics.jsonl, the terminal."""

from __future__ import annotations

import io
import json
import logging
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tqdm import tqdm

from mlprun.errors import RunError

Values = dict[str, float]

log = logging.getLogger("mlprun")

LABELLED_CLASSES = 20


class TensorBoard:
    """TensorBoard's event file of one run, with its row of the HParams table.

    torch's SummaryWriter would add a sub-run for the hyperparameters; here they stand in the run's own file.
    """

    def __init__(self, folder: Path) -> None:
        self._writer = EventFileWriter(str(folder))

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
        self._session(metadata.SESSION_END_INFO_TAG, session_end_info=end)
        self._writer.close()

    def write(self, step: int, epoch: float | None, values: Values) -> None:
        """One scalar a tag; the epoch is left to metrics.jsonl, so that all curves share the step axis."""
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=v) for tag, v in values.items()])
        self._add(summary, step)

    def image(self, tag: str, pixels: np.ndarray[Any, Any], step: int) -> None:
        """A picture: uint8 of shape (H, W, 3)."""
        from PIL import Image

        encoded = io.BytesIO()
        Image.fromarray(pixels).save(encoded, format="PNG")
        height, width, channels = pixels.shape
        image = Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=encoded.getvalue())
        self._add(Summary(value=[Summary.Value(tag=tag, image=image)]), step)

    def tick(self, step: int) -> None:
        """Nothing to do at a step without values."""

    def _session(self, tag: str, **content: Any) -> None:
        data = plugin_data_pb2.HParamsPluginData(version=metadata.PLUGIN_DATA_VERSION, **content)
        value = Summary.Value(tag=tag, metadata=metadata.create_summary_metadata(data))
        self._add(Summary(value=[value]), 0)

    def _add(self, summary: Summary, step: int) -> None:
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))


class JsonLines:
    """metrics.jsonl: one flat object a logged step, the values that TensorBoard shows."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise RunError(f"{path} cannot be written: {error.strerror}") from error

    def write(self, step: int, epoch: float | None, values: Values) -> None:
        """Append a line; JSON knows no NaN, so a value that is not finite becomes null."""
        shown = {tag: value if math.isfinite(value) else None for tag, value in values.items()}
        self._file.write(json.dumps({"step": step, "epoch": epoch, **shown}) + "\n")
        self._file.flush()

    def tick(self, step: int) -> None:
        """Nothing to do at a step without values."""

    def close(self, status: str) -> None:
        """Close the file."""
        self._file.close()


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
        log.info("%s", where + "  " + "  ".join(f"{tag} {values[tag]:.4f}" for tag in chosen))

    def close(self, status: str) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()


class Writers:
    """Several writers as one."""

    def __init__(self, *writers: TensorBoard | JsonLines | Console) -> None:
        self._writers = writers

    def write(self, step: int, epoch: float | None, values: Values) -> None:
        """Give the values to each."""
        for writer in self._writers:
            writer.write(step, epoch, values)

    def tick(self, step: int) -> None:
        """Tell each that a step is done."""
        for writer in self._writers:
            writer.tick(step)

    def close(self, status: str) -> None:
        """Close each."""
        for writer in self._writers:
            writer.close(status)


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
