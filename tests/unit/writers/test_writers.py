"""What the writers leave behind, read back with TensorBoard's own readers."""

from __future__ import annotations

import errno
import gc
import io
import json
import os
import resource
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader, RawEventFileLoader
from tensorboard.backend.event_processing.io_wrapper import IsTensorFlowEventsFile
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

from mlprun import writers
from mlprun.errors import RunError
from mlprun.pictures.confusion import heat_map
from mlprun.writers import tensorboard
from mlprun.writers.base import RunInfo, Writer, WriterError
from mlprun.writers.collection import Writers
from mlprun.writers.console import Console
from mlprun.writers.image_files import ImageFiles
from mlprun.writers.jsonl import JsonLines
from mlprun.writers.tensorboard import TensorBoard, shown_as
from tests.helpers.runs import rows_of

HPARAMS = {"seed": 0, "optim.lr": 1e-3, "model.batch_norm": True, "model.hidden": "[128, 64]"}


W = TypeVar("W", bound=Writer)


def started(
    writer: W,
    folder: Path = Path(),
    keep_until: int | None = None,
    *,
    hparams: dict[str, Any] = HPARAMS,
    num_steps: int = 60,
    step: int = 0,
) -> W:
    """The writer, opened for a run in this directory."""
    writer.start(RunInfo(folder, {}, hparams, num_steps, step, keep_until))
    return writer


def built_in() -> dict[str, Writer]:
    return {"tensorboard": TensorBoard(), "jsonl": JsonLines(), "images": ImageFiles(), "console": Console()}


def event_file(folder: Path) -> Path:
    (file,) = folder.glob("events.out.tfevents.*")
    return file


def watch(folder: Path) -> EventAccumulator:
    """A reader that keeps everything; `Reload()` brings it up to date."""
    return EventAccumulator(str(folder), size_guidance=dict.fromkeys(("tensors", "scalars", "images"), 0))


def read(folder: Path) -> EventAccumulator:
    return watch(folder).Reload()


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
    board = started(TensorBoard(), tmp_path)
    written = {
        10: {"train/loss": 0.5, "optim/lr": 1e-3},
        20: {"train/loss": 0.25, "optim/lr": 5e-4, "val/accuracy": 0.75},
        25: {"val/accuracy": float("nan")},
    }
    for step, values in written.items():
        board.write(step, step / 10, values)
    board.finish("completed")
    found = read(tmp_path)
    tags = {"train/loss": [10, 20], "optim/lr": [10, 20], "val/accuracy": [20, 25]}
    assert set(found.Tags()["scalars"]) == set(map(shown_as, tags))  # nothing else: the epoch is no curve
    for tag, steps in tags.items():
        assert [event.step for event in found.Scalars(shown_as(tag))] == steps
        for event in found.Scalars(shown_as(tag)):
            assert event.value == pytest.approx(written[event.step][tag], rel=1e-6, nan_ok=True)


@pytest.mark.parametrize(
    ("tag", "shown"),
    [
        ("train/loss", "loss/train"),  # beside each other, in the order of the alphabet
        ("val/loss", "loss/val"),
        ("val/top/5", "top/5/val"),
        ("optim/lr", "training/lr"),  # after the metrics
        ("perf/examples_per_sec", "training/examples_per_sec"),
        ("activation_norm/output", "training_activation_norm/output"),
        ("training/activation_norm/output", "training_activation_norm/output"),  # an older version's
        ("weights/output.weight", "training_weights/output.weight"),
        ("train/weights/left", "weights/left/train"),  # a metric of the user's
        ("test/loss", "test/loss"),
        ("noise/variance", "noise/variance"),
        ("loss/train", "loss/train"),
    ],
)
def test_train_and_val_are_side_by_side_and_before_the_rest(tag, shown):
    assert shown_as(tag) == shown
    assert shown_as(shown) == shown  # a resumed run names again what it keeps


def test_texts_have_the_command_and_the_config_once(tmp_path):
    for keep_until in (None, 10):
        board = TensorBoard()
        board.start(RunInfo(tmp_path, {"optim": {"lr": 0.1}}, {}, 60, 10, keep_until, "mlprun optim.lr=0.1"))
        board.write(10, None, {"train/loss": 0.5})
        board.finish("interrupted")
    found = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload()
    texts = {
        tag: [e.tensor_proto.string_val[0].decode() for e in found.Tensors(tag)] for tag in found.Tags()["tensors"]
    }
    config = '    {\n      "optim": {\n        "lr": 0.1\n      }\n    }\n'
    assert texts == {"run/command": ["    mlprun optim.lr=0.1\n"], "run/config": [config]}


@pytest.mark.parametrize("begun", ["by an older version", "by this one"])
def test_each_tag_of_a_resumed_run_has_one_name(tmp_path, monkeypatch, begun):
    def attempted(start: int, stop: int, keep_until: int | None) -> None:
        board, _ = attempt(tmp_path, start, stop, keep_until)
        board.write(stop, None, {"weight_norm/output": 2.0})
        board.histograms(stop, {"weights/output": np.ones((1, 3))})

    with monkeypatch.context() as older:
        if begun == "by an older version":
            older.setattr(tensorboard, "shown_as", lambda tag: tag)
        attempted(0, 30, None)
    attempted(30, 60, 30)
    found = read(tmp_path)
    assert story(found) == expected(60) | {"training_weight_norm/output": [(30, 2.0), (60, 2.0)]}
    assert sorted(found.Tags()["tensors"]) == ["run/command", "run/config", "training_weights/output"]
    assert [event.step for event in found.Tensors("training_weights/output")] == [30, 60]


def test_a_picture_is_read_back(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3)).astype(np.uint8)
    board = started(TensorBoard(), tmp_path)
    board.images(7, {"test/confusion_matrix": pixels})
    board.finish("completed")
    found = EventAccumulator(str(tmp_path))
    found.Reload()
    (event,) = found.Images("test/confusion_matrix")
    assert (event.step, event.width, event.height) == (7, 9, 6)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(event.encoded_image_string))), pixels)


@pytest.mark.parametrize(
    ("status", "shown"), [("completed", "SUCCESS"), ("failed", "FAILURE"), ("interrupted", "FAILURE")]
)
def test_hparams_stand_once_in_the_runs_own_file(tmp_path, status, shown):
    """No sub-run: one file, one start, one end, and the scalars beside them."""
    run = tmp_path / "run"
    run.mkdir()
    board = started(TensorBoard(), run)
    board.write(1, None, {"val/loss": 1.0})
    board.finish(status)
    assert [p.name for p in run.iterdir()] == [event_file(run).name]
    tags = [value.tag for event in EventFileLoader(str(event_file(run))).Load() for value in event.summary.value]
    start, end = "_hparams_/session_start_info", "_hparams_/session_end_info"
    assert tags == [start, "run/command", "run/config", "loss/val", end]
    (row,) = rows_of_the_table(tmp_path)
    (session,) = row.sessions
    assert api_pb2.Status.Name(session.status) == f"STATUS_{shown}"


def test_runs_share_one_table(tmp_path):
    for number in range(3):
        run = tmp_path / f"run{number}"
        run.mkdir()
        board = started(TensorBoard(), run, hparams={**HPARAMS, "seed": number, "optim.lr": 10.0**-number})
        board.write(1, None, {"val/loss": float(number)})
        board.finish("completed")
    rows = rows_of_the_table(tmp_path)
    assert len(rows) == 3
    assert sorted(row.hparams["seed"].number_value for row in rows) == [0, 1, 2]
    assert {row.hparams["model.batch_norm"].string_value for row in rows} == {"true"}
    assert {row.hparams["model.hidden"].string_value for row in rows} == {"[128, 64]"}
    assert sorted(row.hparams["optim.lr"].number_value for row in rows) == [0.01, 0.1, 1.0]


def test_a_seed_that_a_double_cannot_hold_is_a_text_in_the_table(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    started(TensorBoard(), run, hparams={"seed": 2**53 + 1}).finish("completed")
    (row,) = rows_of_the_table(tmp_path)
    assert row.hparams["seed"].string_value == str(2**53 + 1)


# --------------------------------------------------------------------------------------- metrics.jsonl


def test_metrics_jsonl_has_a_flat_object_a_row(tmp_path):
    lines = started(JsonLines(), tmp_path)
    lines.write(5, 0.5, {"train/loss": 0.1, "val/accuracy": 1.0})
    rows = (tmp_path / "metrics.jsonl").read_text().splitlines()  # readable at once, not only at the end
    assert [json.loads(row) for row in rows] == [{"step": 5, "epoch": 0.5, "train/loss": 0.1, "val/accuracy": 1.0}]
    lines.write(10, None, {"train/loss": 1 / 3})
    lines.finish("completed")
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[1])
    assert last == {"step": 10, "epoch": None, "train/loss": 1 / 3}  # unrounded


def test_a_file_that_cannot_be_made_is_named(tmp_path):
    with pytest.raises(RunError, match=r"nowhere/metrics\.jsonl cannot be written: No such file"):
        started(JsonLines(), tmp_path / "nowhere")


# ----------------------------------------------------------------------------------- a run that goes on

LOG_EVERY, EVAL_EVERY, NUM_STEPS = 10, 20, 60


def values_at(step: int) -> dict[str, float]:
    values = {"train/loss": 1 / step, "optim/lr": step / 1024}
    return values | {"val/loss": 2 / step} if step % EVAL_EVERY == 0 else values


def picture_at(step: int) -> np.ndarray[Any, Any]:
    return np.full((3, 2, 3), step, np.uint8)


def attempt(folder: Path, start: int, stop: int, keep_until: int | None) -> tuple[TensorBoard, JsonLines]:
    """What a run writes from one step to another; then it is killed: nothing is closed."""
    folder.mkdir(exist_ok=True)
    board, lines = started(TensorBoard(), folder, keep_until), started(JsonLines(), folder, keep_until)
    for step in range(start + 1, stop + 1):
        if step % LOG_EVERY == 0:
            board.write(step, step / 7, values_at(step))
            lines.write(step, step / 7, values_at(step))
        if step % EVAL_EVERY == 0:
            board.images(step, {"val/filters": picture_at(step)})
    return board, lines


def end(board: TensorBoard, step: int, status: str = "completed") -> None:
    board.write(step, None, {"test/loss": 0.5})
    board.images(step, {"test/confusion_matrix": picture_at(step)})
    board.finish(status)


Story = dict[str, list[tuple[int, Any]]]


def story(accumulator: EventAccumulator) -> Story:
    """All that TensorBoard shows, but for the times."""
    shown: Story = {tag: [(e.step, e.value) for e in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]}
    for tag in accumulator.Tags()["images"]:
        shown[tag] = [(event.step, event.encoded_image_string) for event in accumulator.Images(tag)]
    return {tag: events for tag, events in shown.items() if events}


def expected(stop: int, ended: int | None = None) -> Story:
    """The same of a run that nothing interrupted."""
    shown: Story = {}
    for step in range(LOG_EVERY, stop + 1, LOG_EVERY):
        for tag, value in values_at(step).items():
            shown.setdefault(shown_as(tag), []).append((step, float(np.float32(value))))
        if step % EVAL_EVERY == 0:
            shown.setdefault("val/filters", []).append((step, png(picture_at(step))))
    if ended is not None:
        shown["test/loss"] = [(ended, 0.5)]
        shown["test/confusion_matrix"] = [(ended, png(picture_at(ended)))]
    return shown


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, format="PNG")
    return encoded.getvalue()


def rows(folder: Path) -> list[dict[str, Any]]:
    return rows_of(folder)


def expected_rows(stop: int) -> list[dict[str, Any]]:
    return [{"step": s, "epoch": s / 7, **values_at(s)} for s in range(LOG_EVERY, stop + 1, LOG_EVERY)]


def event_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*tfevents*"))


@pytest.mark.parametrize("ended", [None, "interrupted", "completed"])
@pytest.mark.parametrize(
    ("stops", "checkpoints"),
    [
        ([30], [20]),  # at a logged step
        ([30], [30]),  # the last one
        ([39], [25]),  # between two
        ([30], [39]),  # after the last
        ([50], [0]),
        ([20, 40], [10, 30]),
        ([40, 30], [20, 20]),
        ([40, 50], [35, 5]),  # an older checkpoint than before
    ],
)
def test_a_resumed_run_reads_like_one_that_nothing_interrupted(tmp_path, stops, checkpoints, ended):
    run, start, kept = tmp_path / "run", 0, None
    for stop, checkpoint in zip(stops, checkpoints, strict=True):
        board, _ = attempt(run, start, stop, kept)
        if ended is not None:
            end(board, stop, ended)
        start = kept = checkpoint
    before = {(event.step, event.wall_time) for event in read(run).Scalars("loss/train")}
    began = read(run).FirstEventTimestamp()
    board, lines = attempt(run, start, NUM_STEPS, kept)
    assert story(read(run)) == expected(NUM_STEPS)
    end(board, NUM_STEPS)
    lines.finish("completed")

    found = read(run)
    assert story(found) == expected(NUM_STEPS, ended=NUM_STEPS)
    assert rows(run) == expected_rows(NUM_STEPS)
    after = {(event.step, event.wall_time) for event in found.Scalars("loss/train")}
    assert {(step, when) for step, when in before if step <= kept} == {
        (step, when) for step, when in after if step <= kept
    }
    assert found.FirstEventTimestamp() == began  # TensorBoard sorts the runs by it
    events = list(EventFileLoader(str(event_files(run)[-1])).Load())
    assert [event.WhichOneof("what") for event in events][:2] == ["file_version", "session_log"]
    assert {event.WhichOneof("what") for event in events[2:]} == {"summary"}
    tags = [value.tag for event in events for value in event.summary.value]
    assert tags.count("_hparams_/session_start_info") == tags.count("_hparams_/session_end_info") == 1
    (row,) = rows_of_the_table(tmp_path)
    (session,) = row.sessions
    assert api_pb2.Status.Name(session.status) == "STATUS_SUCCESS"
    # what a reader may still have open lies there empty, and nothing else
    assert [file.stat().st_size > 0 for file in event_files(run)] == [False, True]
    assert {file.name for file in run.iterdir()} == {"metrics.jsonl", *(file.name for file in event_files(run))}


def test_a_run_that_begins_shows_nothing_of_an_attempt_before_it(tmp_path):
    for stop in (40, 20, 30):
        attempt(tmp_path, 0, stop, None)
        assert story(read(tmp_path)) == expected(stop)
        assert rows(tmp_path) == expected_rows(stop)
    assert len(event_files(tmp_path)) == 2


def test_of_values_written_together_only_those_of_the_end_are_dropped(tmp_path):
    started(TensorBoard(), tmp_path).write(10, None, {"train/loss": 0.5, "test/loss": 0.25, "tests/count": 2.0})
    started(TensorBoard(), tmp_path, 10)
    assert story(read(tmp_path)) == {"loss/train": [(10, 0.5)], "tests/count": [(10, 2.0)]}


def test_a_run_whose_files_are_gone_starts_them_anew(tmp_path):
    attempt(tmp_path, 20, 40, 20)
    assert [step for step, _ in story(read(tmp_path))["loss/train"]] == [row["step"] for row in rows(tmp_path)]
    assert len(rows(tmp_path)) == 2


def test_events_can_be_read_as_they_are_written_and_no_thread_writes_them(tmp_path):
    threads = threading.active_count()
    board = started(TensorBoard(), tmp_path)
    for step in (10, 20, 30):
        board.write(step, None, {"val/loss": 0.5})
        assert [e.step for e in read(tmp_path).Scalars("loss/val")][-1] == step
    assert threading.active_count() == threads


@pytest.mark.parametrize("shift", [-86400, 0, 86400])
def test_the_newer_file_has_the_later_name_whatever_the_clock_says(tmp_path, monkeypatch, shift):
    now = time.time()
    for number in range(3):
        monkeypatch.setattr(time, "time", lambda number=number: now + number * shift)
        attempt(tmp_path, 10 * number, 10 * number + 10, 10 * number if number else None)
        assert [file.stat().st_size > 0 for file in event_files(tmp_path)] == [False, True][-number - 1 :]
        assert story(read(tmp_path)) == expected(10 * number + 10)
    assert all(len(file.name.split(".")[3]) == 10 for file in event_files(tmp_path))


# what lies in a run directory when it was killed -----------------------------------------------------


def record_starts(file: Path) -> list[int]:
    """Where the records begin, and where the last one ends; 16 bytes around each are its length and checksums."""
    starts = [0]
    for record in RawEventFileLoader(str(file)).Load():
        starts.append(starts[-1] + len(record) + 16)
    assert starts[-1] == file.stat().st_size
    return starts


def test_a_torn_event_file_is_kept_up_to_the_tear(tmp_path):
    """Cut at every byte of its last two records, a row and a picture; what was whole before them is kept."""
    attempt(tmp_path / "whole", 0, 40, None)
    (whole,) = event_files(tmp_path / "whole")
    *_, row, image, size = record_starts(whole)
    content = whole.read_bytes()
    without = {tag: [event for event in events if event[0] < 40] for tag, events in expected(40).items()}
    seen = set()
    for cut in range(row, size + 1):
        run = tmp_path / str(cut)
        run.mkdir()
        (run / whole.name).write_bytes(content[:cut])
        started(TensorBoard(), run, NUM_STEPS)
        kept = "all" if cut == size else "row" if cut >= image else "neither"
        pictures = {"val/filters": without["val/filters"]}
        assert story(read(run)) == {"all": expected(40), "row": expected(40) | pictures, "neither": without}[kept], cut
        seen.add(kept)
        attempt(run, 20, NUM_STEPS, 20)
        assert story(read(run)) == expected(NUM_STEPS), cut
    assert seen == {"all", "row", "neither"}


def killed_at(line: int, action: Callable[[], object]) -> bool:
    """Do it in a process of its own that is killed before the n-th line of writers.py; whether it came so far."""
    child = os.fork()
    if child == 0:
        left = line

        def trace(frame: Any, event: str, _: Any) -> Any:
            nonlocal left
            if Path(frame.f_code.co_filename).parent != Path(writers.__file__).parent:
                return None
            if event == "line":
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        try:
            sys.settrace(trace)
            action()
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


@pytest.mark.parametrize(("first", "kept"), [(30, 10), (None, None)])
@pytest.mark.parametrize("stride", [15, pytest.param(1, marks=pytest.mark.long)])
def test_a_kill_at_any_line_of_a_start_leaves_one_whole_story(tmp_path, first, kept, stride):
    """Either the old or the new; and the next start makes it right. With two old files there, and with one."""
    line, seen, before = 1, set(), expected(50)
    after = expected(kept or 0)
    while True:
        run = tmp_path / str(line)
        attempt(run, 0, 40 if first else 50, None)
        if first is not None:
            attempt(run, first, 50, first)
        killed = killed_at(line, lambda run=run: (started(TensorBoard(), run, kept), started(JsonLines(), run, kept)))
        found = story(read(run))
        assert found in (before, after), line
        assert all(file.name.startswith("events.out.tfevents.") for file in event_files(run)), line
        assert rows(run) in (expected_rows(50), expected_rows(kept or 0)), line
        seen.add(found == after)
        attempt(run, kept or 0, NUM_STEPS, kept)
        assert story(read(run)) == expected(NUM_STEPS), line
        assert rows(run) == expected_rows(NUM_STEPS), line
        assert not [p for p in run.iterdir() if p.name != "metrics.jsonl" and not IsTensorFlowEventsFile(str(p))]
        if not killed:
            break
        line += stride
    assert seen == {True, False}


# a TensorBoard that watches ---------------------------------------------------------------------------


def test_a_reader_that_watches_forgets_what_was_dropped(tmp_path):
    attempt(tmp_path, 0, 50, None)
    accumulator = watch(tmp_path)
    assert story(accumulator.Reload()) == expected(50)
    for kept, stop in ((30, 40), (20, 30), (0, 30), (25, NUM_STEPS)):
        board = started(TensorBoard(), tmp_path, kept)
        assert story(accumulator.Reload()) == expected(kept)
        for step in range(kept // 10 * 10 + 10, stop + 1, LOG_EVERY):
            board.write(step, None, values_at(step))
            shown = [step for step, _ in story(accumulator.Reload())["loss/train"]]
            assert shown == list(range(10, step + 1, 10))
            if step % EVAL_EVERY == 0:
                board.images(step, {"val/filters": picture_at(step)})
    assert story(accumulator.Reload()) == expected(NUM_STEPS)
    attempt(tmp_path, 0, 10, None)  # a new beginning
    assert story(accumulator.Reload()) == expected(10)


def test_tensorboard_without_its_data_server_forgets_it_too(tmp_path):
    """What `tensorboard --load_fast=false` reads with: it takes the first START it meets for no restart."""
    run = tmp_path / "run"
    runs = EventMultiplexer()

    def shown() -> list[int]:
        runs.AddRunsFromDirectory(str(tmp_path))
        runs.Reload()
        return [event.step for event in runs.Tensors("run", "loss/train")]

    attempt(run, 0, 50, None)
    assert shown() == [10, 20, 30, 40, 50]
    attempt(run, 20, 30, 20)
    assert shown() == [10, 20, 30]
    attempt(run, 25, 40, 25)
    assert shown() == [10, 20, 30, 40]


# any moments ------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    attempts=st.lists(st.tuples(st.integers(0, 70), st.floats(0, 1), st.floats(0, 1)), max_size=5),
    save_every=st.integers(1, 35),
    watched=st.booleans(),
)
def test_kills_at_any_steps_leave_no_trace(attempts, save_every, watched):
    """Each attempt runs some steps and is killed; of what was written after the last flush, a part is lost."""
    with tempfile.TemporaryDirectory() as name:
        run, checkpoint = Path(name), None
        accumulator = watch(run)
        for num_steps, *shares in [*attempts, (NUM_STEPS, 1.0, 1.0)]:
            start = checkpoint or 0
            board, lines = started(TensorBoard(), run, checkpoint), started(JsonLines(), run, checkpoint)
            files = [event_files(run)[-1], run / "metrics.jsonl"]
            safe = [file.stat().st_size for file in files]
            for step in range(start + 1, min(start + num_steps, NUM_STEPS) + 1):
                if step % LOG_EVERY == 0:
                    board.write(step, step / 7, values_at(step))
                    lines.write(step, step / 7, values_at(step))
                if step % EVAL_EVERY == 0:
                    board.images(step, {"val/filters": picture_at(step)})
                if step % save_every == 0:
                    board.flush()
                    lines.flush()
                    checkpoint, safe = step, [file.stat().st_size for file in files]
            for file, size, share in zip(files, safe, shares, strict=True):
                os.truncate(file, size + int(share * (file.stat().st_size - size)))
            if watched:
                accumulator.Reload()
        assert story(read(run)) == expected(NUM_STEPS)
        assert rows(run) == expected_rows(NUM_STEPS)
        if watched:
            assert story(accumulator) == expected(NUM_STEPS)


def test_flush_brings_all_files_to_the_disk(tmp_path, monkeypatch):
    writer = started(Writers(built_in()), tmp_path)
    writer.write(1, None, {"val/loss": 0.5})
    synced, fsync = set(), os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.add(os.fstat(descriptor).st_ino), fsync(descriptor)))
    writer.flush()
    assert synced == {path.stat().st_ino for path in tmp_path.iterdir()}
    assert len(synced) == 2
    synced.clear()
    started(TensorBoard(), tmp_path, 1)
    assert synced == {path.stat().st_ino for path in (event_files(tmp_path)[-1], tmp_path)}  # also the new name
    synced.clear()
    started(JsonLines(), tmp_path)
    assert tmp_path.stat().st_ino in synced
    writer.finish("completed")


@pytest.mark.parametrize(("number", "passes"), [(errno.EINVAL, True), (errno.EIO, False)])
@pytest.mark.parametrize("make", [TensorBoard, JsonLines])
def test_a_file_system_without_fsync_is_passed_over(tmp_path, monkeypatch, make, number, passes):
    writer = started(make(), tmp_path)

    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    if passes:
        writer.flush()
        started(make(), tmp_path)
    else:
        with pytest.raises(RunError, match=r"(metrics\.jsonl|events\.out\S*) cannot be written: Input/output error"):
            writer.flush()


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file can grow past this size: the system's own limit, not a pretended one."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("which", ["events", "rows"])
def test_a_full_disk_is_an_error_that_names_the_file(tmp_path, which):
    board, lines = started(TensorBoard(), tmp_path), started(JsonLines(), tmp_path)
    file = event_file(tmp_path) if which == "events" else tmp_path / "metrics.jsonl"
    writer = Writers({which: board if which == "events" else lines})
    values = {f"train/loss{number}": 0.5 for number in range(10)}
    with full_disk(file.stat().st_size + 10):
        for action in (lambda: writer.write(1, None, values), lambda: writer.finish("failed")):
            with pytest.raises(RunError) as caught:
                action()
            assert str(caught.value) == f"{file} cannot be written: File too large"
    with pytest.raises(WriterError) as failed:
        writer.flush()
    assert "closed file" in str(failed.value.__cause__)


def test_a_full_disk_at_a_resume_takes_nothing(tmp_path):
    attempt(tmp_path, 0, 50, None)
    with full_disk(500), pytest.raises(RunError, match=r"tfevents\S* cannot be written: File too large") as caught:
        started(TensorBoard(), tmp_path, 50)
    assert story(read(tmp_path)) == expected(50)
    attempt(tmp_path, 30, NUM_STEPS, 30)
    del caught  # and with it the file that could not be written, which now tries to write the rest
    gc.collect()
    assert story(read(tmp_path)) == expected(NUM_STEPS)


@pytest.mark.parametrize(("kept", "word"), [(3, "read"), (None, "written")])
def test_an_old_file_that_is_none_is_named(tmp_path, kept, word):
    (tmp_path / "events.out.tfevents.1700000000.host.1.0").mkdir()
    with pytest.raises(RunError, match=rf"events\.out\S* cannot be {word}: Is a directory"):
        started(TensorBoard(), tmp_path, kept)


# ------------------------------------------------------------------------------- several, and a user's own


class Remembers(Writer):
    """Every call, and what it was given; one of the methods may fail."""

    def __init__(self, fails: str = "", error: Exception | None = None) -> None:
        self.calls: list[tuple[Any, ...]] = []
        for method in ("start", *METHODS):
            setattr(self, method, partial(self._call, method, error if method == fails else None))

    def _call(self, method: str, error: Exception | None, *arguments: Any) -> None:
        self.calls.append((method, *arguments))
        if error is not None:
            raise error

    @property
    def called(self) -> list[str]:
        return [method for method, *_ in self.calls]


def call(writer: Writer, method: str) -> None:
    arguments = {
        "write": (1, None, {}), "running_means": (1, {}), "images": (1, {"a": picture_at(1)}),
        "histograms": (1, {"a": np.zeros((1, 3))}), "tick": (1,), "flush": (), "finish": ("failed",),
    }  # fmt: skip
    getattr(writer, method)(*arguments[method])


METHODS = ("write", "running_means", "images", "histograms", "tick", "flush", "finish")


def test_the_base_class_does_nothing(tmp_path):
    writer = started(Writer(), tmp_path)
    for method in METHODS:
        call(writer, method)
    assert not any(tmp_path.iterdir())


def test_several_are_called_in_their_order_and_without_what_there_is_not(tmp_path):
    first, second = Remembers(), Remembers()
    writer = started(Writers({"first": first, "second": second}), tmp_path)
    for method in METHODS:
        call(writer, method)
    writer.images(2, {})
    writer.histograms(2, {})
    assert first.calls == second.calls
    assert first.called == ["start", *METHODS]


@pytest.mark.parametrize("method", METHODS)
def test_a_writer_that_fails_is_named_and_not_called_again(method):
    failing, other = Remembers(method, ValueError("no")), Remembers()
    writer = Writers({"failing": failing, "other": other})
    with pytest.raises(WriterError) as caught:
        call(writer, method)
    (note,) = caught.value.__cause__.__notes__
    assert note == f"in {method} of the writer failing; '~writers.failing' goes on without it, also on a resume"
    assert other.called == [method] * (method in ("flush", "finish"))  # which no failure takes from the others
    for name in METHODS:
        call(writer, name)
    assert failing.called == [method]
    assert other.called[-len(METHODS) :] == list(METHODS)


def test_an_error_of_our_own_is_the_users_message_as_it_is(tmp_path):
    with pytest.raises(RunError, match="the disk is full"):
        call(Writers({"jsonl": Remembers("write", RunError("the disk is full"))}), "write")


def test_what_only_some_show(tmp_path):
    """Test metrics are no row and no line; of pictures, files are those that are drawn while it learns."""
    writer = started(Writers(built_in()), tmp_path, num_steps=20)
    writer.write(20, 2.0, {"val/loss": 0.5})
    writer.write(20, None, {"test/loss": 0.25})
    writer.images(20, {"pictures/filters": picture_at(1), "test/confusion_matrix": picture_at(2)})
    writer.finish("completed")
    assert rows(tmp_path) == [{"step": 20, "epoch": 2.0, "val/loss": 0.5}]
    assert [file.name for file in (tmp_path / "pictures").iterdir()] == ["filters_0000020.png"]
    assert sorted(story(read(tmp_path))) == ["loss/val", "pictures/filters", "test/confusion_matrix", "test/loss"]


# ------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize(("classes", "side"), [(101, 5), (600, 2)])
def test_the_heat_map_of_many_classes_is_a_square_of_squares(classes, side):
    picture = heat_map(np.ones((classes, classes), dtype=np.int64), ["x"] * classes)
    assert (picture.shape, picture.dtype) == ((classes * side, classes * side, 3), np.uint8)


def test_a_heat_map_shades_each_row_by_its_true_class():
    counts = np.zeros((128, 128), dtype=np.int64)
    counts[0, :2], counts[1, 1] = (900, 100), 3
    picture = heat_map(counts, ["x"] * 128)
    side = len(picture) // 128
    often, seldom, never, always = (picture[r * side, c * side] for r, c in ((0, 0), (0, 1), (1, 0), (1, 1)))
    assert never.tolist() == [255, 255, 255]  # white
    assert always.tolist() == [8, 48, 107]  # dark
    assert often.sum() < seldom.sum() < 3 * 255
    assert picture[-1].min() == 255  # a class without examples divides by nothing


@pytest.mark.parametrize("classes", [2, 10, 62])
def test_a_heat_map_shows_names_counts_and_recall(classes):
    """Each is seen by what changes in the picture; a long name takes room, and is cut from 24 characters on."""
    counts, names = 40 * np.eye(classes, dtype=np.int64), [*(f"c{i}" for i in range(classes - 1)), "the last"]
    picture = heat_map(counts, names)
    height, width, _ = picture.shape
    assert height < width < 1700

    def changed(counts, names) -> tuple[list[int], list[int]]:
        other = heat_map(counts, names)
        assert other.shape == picture.shape
        return tuple(np.flatnonzero((picture != other).any((axis, 2))).tolist() for axis in (1, 0))

    rows, columns = changed(counts, ["d", *names[1:]])
    assert rows[0] < height / 2 > rows[-1], "above the first column, and left of the first row"
    assert columns[0] < width / 2 > columns[-1]
    wrong = counts.copy()
    wrong[1, :2] = 20, 20
    rows, columns = changed(wrong, names)
    assert 0 < rows[0] < rows[-1] < height, "the row of the second class"
    assert rows[-1] - rows[0] < height / classes
    assert columns[-1] > width - 60, "its recall, at the right"
    assert heat_map(counts, ["n" * 24, *names[1:]]).shape[1] > width
    assert heat_map(counts, ["n" * 30, *names[1:]]).shape == heat_map(counts, ["n" * 99, *names[1:]]).shape
