"""What the writers leave behind, read back with TensorBoard's own readers."""

from __future__ import annotations

import io
import json
import logging
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

from mlprun.errors import RunError
from mlprun.runs.writers import Console, JsonLines, TensorBoard, Writers, heat_map


def event_file(folder: Path) -> Path:
    (file,) = folder.glob("events.out.tfevents.*")
    return file


def read(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance={"tensors": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


def rows_of_the_table(outputs: Path) -> list[api_pb2.SessionGroup]:
    """The HParams table that `tensorboard --logdir outputs` shows."""
    runs = EventMultiplexer()
    runs.AddRunsFromDirectory(str(outputs))
    runs.Reload()
    provider = MultiplexerDataProvider(runs, str(outputs))
    context = backend_context.Context(TBContext(logdir=str(outputs), data_provider=provider))
    request = api_pb2.ListSessionGroupsRequest(slice_size=100, allowed_statuses=api_pb2.Status.values())
    handler = list_session_groups.Handler(RequestContext(), context, "", request)
    return list(handler.run().session_groups)


# ---------------------------------------------------------------------------------------- TensorBoard


def test_scalars_are_read_back_under_their_tags_and_steps(tmp_path):
    board = TensorBoard(tmp_path)
    written = {
        10: {"train/loss": 0.5, "optim/lr": 1e-3},
        20: {"train/loss": 0.25, "optim/lr": 5e-4, "val/accuracy": 0.75},
        25: {"val/accuracy": float("nan")},
    }
    for step, values in written.items():
        board.write(step, step / 10, values)
    board.close("completed")
    found = read(tmp_path)
    tags = {"train/loss": [10, 20], "optim/lr": [10, 20], "val/accuracy": [20, 25]}
    assert set(found.Tags()["scalars"]) == set(tags)  # nothing else: the epoch is no curve
    for tag, steps in tags.items():
        assert [event.step for event in found.Scalars(tag)] == steps
        for event in found.Scalars(tag):
            assert event.value == pytest.approx(written[event.step][tag], rel=1e-6, nan_ok=True)


def test_a_picture_is_read_back(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3)).astype(np.uint8)
    board = TensorBoard(tmp_path)
    board.image("test/confusion_matrix", pixels, 7)
    board.close("completed")
    found = EventAccumulator(str(tmp_path))
    found.Reload()
    (event,) = found.Images("test/confusion_matrix")
    assert (event.step, event.width, event.height) == (7, 9, 6)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(event.encoded_image_string))), pixels)


HPARAMS = {"seed": 0, "optim.lr": 1e-3, "model.batch_norm": True, "model.hidden": "[128, 64]"}


@pytest.mark.parametrize(
    ("status", "shown"), [("completed", "SUCCESS"), ("failed", "FAILURE"), ("interrupted", "FAILURE")]
)
def test_hparams_stand_once_in_the_runs_own_file(tmp_path, status, shown):
    """No sub-run: one file, one start, one end, and the scalars beside them."""
    run = tmp_path / "run"
    board = TensorBoard(run)
    board.hparams(HPARAMS)
    board.write(1, None, {"val/loss": 1.0})
    board.close(status)
    assert [p.name for p in run.iterdir()] == [event_file(run).name]
    tags = [value.tag for event in EventFileLoader(str(event_file(run))).Load() for value in event.summary.value]
    assert tags == ["_hparams_/session_start_info", "val/loss", "_hparams_/session_end_info"]
    (row,) = rows_of_the_table(tmp_path)
    (session,) = row.sessions
    assert api_pb2.Status.Name(session.status) == f"STATUS_{shown}"


def test_runs_share_one_table(tmp_path):
    for number in range(3):
        board = TensorBoard(tmp_path / f"run{number}")
        board.hparams({**HPARAMS, "seed": number, "optim.lr": 10.0**-number})
        board.write(1, None, {"val/loss": float(number)})
        board.close("completed")
    rows = rows_of_the_table(tmp_path)
    assert len(rows) == 3
    assert sorted(row.hparams["seed"].number_value for row in rows) == [0, 1, 2]
    assert {row.hparams["model.batch_norm"].string_value for row in rows} == {"true"}
    assert {row.hparams["model.hidden"].string_value for row in rows} == {"[128, 64]"}
    assert sorted(row.hparams["optim.lr"].number_value for row in rows) == [0.01, 0.1, 1.0]


# --------------------------------------------------------------------------------------- metrics.jsonl


def test_metrics_jsonl_has_a_flat_object_a_row(tmp_path):
    lines = JsonLines(tmp_path / "metrics.jsonl")
    lines.write(5, 0.5, {"train/loss": 0.1, "val/accuracy": 1.0})
    rows = (tmp_path / "metrics.jsonl").read_text().splitlines()  # readable at once, not only at the end
    assert [json.loads(row) for row in rows] == [{"step": 5, "epoch": 0.5, "train/loss": 0.1, "val/accuracy": 1.0}]
    lines.write(10, None, {"train/loss": 1 / 3})
    lines.close("completed")
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[1])
    assert last == {"step": 10, "epoch": None, "train/loss": 1 / 3}  # unrounded


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_knows_no_nan(tmp_path, value):
    lines = JsonLines(tmp_path / "metrics.jsonl")
    lines.write(1, 0.1, {"train/loss": value, "optim/lr": 0.1})
    lines.close("failed")

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=refuse) == {"step": 1, "epoch": 0.1, "train/loss": None, "optim/lr": 0.1}


def test_a_continued_run_adds_to_its_rows(tmp_path):
    for step in (1, 2):
        lines = JsonLines(tmp_path / "metrics.jsonl")
        lines.write(step, None, {})
        lines.close("interrupted")
    assert [json.loads(row)["step"] for row in (tmp_path / "metrics.jsonl").open()] == [1, 2]


def test_a_file_that_cannot_be_made_is_named(tmp_path):
    with pytest.raises(RunError, match=r"nowhere/metrics\.jsonl cannot be written: No such file"):
        JsonLines(tmp_path / "nowhere" / "metrics.jsonl")


# --------------------------------------------------------------------------------------- the terminal


def test_the_console_shows_a_line_an_evaluation(caplog):
    console = Console(1000)
    log = logging.getLogger("mlprun")
    log.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.INFO, "mlprun"):
            console.tick(1)
            console.write(50, 0.5, {"train/loss": 0.6, "optim/lr": 0.1})
            console.write(100, 1.0, {"train/loss": 0.51239, "optim/lr": 0.1, "val/loss": 0.4, "val/accuracy": 0.9})
            console.write(1000, None, {"val/loss": 0.25})
            console.close("completed")
    finally:
        log.removeHandler(caplog.handler)
    assert list(dict.fromkeys(record.getMessage() for record in caplog.records)) == [
        "step  100/1000  epoch   1.00  train/loss 0.5124  val/loss 0.4000  val/accuracy 0.9000",
        "step 1000/1000  val/loss 0.2500",
    ]


def test_writers_give_each_of_them_everything(tmp_path):
    writer = Writers(TensorBoard(tmp_path), JsonLines(tmp_path / "metrics.jsonl"), Console(3))
    writer.tick(1)
    writer.write(1, 0.5, {"val/loss": 0.5})
    writer.close("completed")
    (event,) = read(tmp_path).Scalars("val/loss")
    row = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert (event.step, event.value) == (row["step"], row["val/loss"]) == (1, 0.5)


# ------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize(("classes", "side"), [(100, 5), (600, 2)])
def test_the_heat_map_of_many_classes_is_a_square_of_squares(classes, side):
    picture = heat_map(np.ones((classes, classes), dtype=np.int64), ["x"] * classes)
    assert (picture.shape, picture.dtype) == ((classes * side, classes * side, 3), np.uint8)


def test_a_heat_map_shades_each_row_by_its_true_class():
    counts = np.zeros((30, 30), dtype=np.int64)
    counts[0, :2], counts[1, 1] = (900, 100), 3
    picture = heat_map(counts, ["x"] * 30)
    side = len(picture) // 30
    often, seldom, never, always = (picture[r * side, c * side] for r, c in ((0, 0), (0, 1), (1, 0), (1, 1)))
    assert never.tolist() == [255, 255, 255]  # white
    assert always.tolist() == [8, 48, 107]  # dark
    assert often.sum() < seldom.sum() < 3 * 255
    assert picture[-1].min() == 255  # a class without examples divides by nothing


def test_a_heat_map_of_few_classes_names_them():
    counts = np.array([[5, 0], [1, 4]])
    picture = heat_map(counts, ["ant", "bee"])
    assert picture.shape[0] == picture.shape[1] > 640
    assert (picture[:110] < 128).any(), "the predicted classes are written above"
    assert (picture[110:, :100] < 128).any(), "the true ones on the left"
    assert not np.array_equal(picture, heat_map(counts, ["ant", "fly"]))
    assert not np.array_equal(picture, heat_map(counts * 2, ["ant", "bee"])), "and the counts in the cells"
