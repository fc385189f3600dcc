"""The loop: what happens at which step, when it ends, and that a continued run is the uninterrupted one."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import IterableDataset

from mlprun.data.batches import EvalBatches, TrainBatches
from mlprun.data.normalize import Normalizer
from mlprun.data.source import Examples
from mlprun.errors import RunError
from mlprun.runs import checkpoint
from mlprun.training.learner import Learner
from mlprun.training.loop import Plan, Progress, train
from mlprun.training.schedule import FactorSchedule, Schedule
from mlprun.training.schedules import Plateau, constant
from mlprun.writers.base import Writer, WriterError
from tests.helpers.tasks import make_task

CPU = torch.device("cpu")
AS_STORED = Normalizer(torch.zeros(()), torch.ones(()))
generator = torch.Generator().manual_seed(0)
INPUTS = torch.randn(60, 4, generator=generator)
LABELS = (INPUTS.sum(1) > 0).long() + (INPUTS[:, 0] > 1).long()
TRAINING, HELD_OUT = Examples(INPUTS[:23], LABELS[:23]), Examples(INPUTS[23:], LABELS[23:])  # 5 batches an epoch


class Rows(Writer):
    """A writer that remembers."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, float | None, dict[str, float]]] = []
        self.ticks: list[int] = []
        self.running: list[tuple[int, dict[str, float]]] = []

    def write(self, step: int, epoch: float | None, values: dict[str, float]) -> None:
        self.rows.append((step, epoch, dict(values)))

    def running_means(self, step: int, values: dict[str, float]) -> None:
        self.running.append((step, dict(values)))

    def tick(self, step: int) -> None:
        self.ticks.append(step)

    def steps(self, tag: str) -> list[int]:
        return [step for step, _, values in self.rows if tag in values]

    def after(self, step: int) -> list[Any]:
        """What was written after `step`, without the speed of the machine."""
        return [
            (at, epoch, {tag: value for tag, value in values.items() if not tag.startswith("perf/")})
            for at, epoch, values in self.rows
            if at > step
        ]


class Shelf:
    """A saver that keeps every checkpoint as the bytes a file would hold."""

    def __init__(self) -> None:
        self.last: dict[int, bytes] = {}
        self.best: dict[int, bytes] = {}
        self.next_best: list[int] = []

    def save_last(self, state: dict[str, Any], *, keep: bool = True) -> None:
        self.last[state["step"]] = self._bytes(state)

    def save_best(self, state: dict[str, Any], former: int = 0) -> None:
        self.best[state["step"]] = self._bytes(state)

    def save_step(self, state: dict[str, Any]) -> None:
        self.next_best.append(state["step"])

    @staticmethod
    def _bytes(state: dict[str, Any]) -> bytes:
        file = io.BytesIO()
        torch.save(state, file)
        return file.getvalue()


class Run:
    """All that a run consists of, new; `go` trains it to its end."""

    def __init__(
        self,
        part: Any = TRAINING,
        lr: float = 0.05,
        schedule: Schedule | None = None,
        reduction: str = "mean",
        **planned: Any,
    ) -> None:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))
        task = make_task(nn.CrossEntropyLoss(reduction=reduction), "classification", 3, False)
        self.learner = Learner(
            model, task, torch.optim.Adam(model.parameters(), lr=lr), schedule or FactorSchedule(constant), CPU,
            seed=0,
        )  # fmt: skip
        self.batches = TrainBatches(part, 5, AS_STORED, CPU, seed=0)
        lengths = {"num_steps": 14, "eval_every": 4, "log_every": 3, "save_every": 1}
        self.plan = Plan(
            **{"steps_per_epoch": self.batches.steps_per_epoch, "monitor": "val/loss", "mode": "min"}
            | lengths
            | planned
        )
        self.progress, self.rows, self.shelf = Progress(), Rows(), Shelf()
        self.scores: list[float] | None = None

    def evaluate(self) -> dict[str, float]:
        values = self.learner.evaluate(EvalBatches(HELD_OUT, 5, AS_STORED, CPU)).compute()
        if self.scores is not None:  # a made-up course of the monitored value
            values["loss"] = self.scores.pop(0)
        return {f"val/{name}": value for name, value in values.items()}

    def go(self) -> str:
        return train(
            self.learner, self.batches, self.evaluate, self.plan, self.progress, self.rows, self.shelf, {"note": "x"}
        )

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in self.learner.model.state_dict().items()}

    def restore(self, file: bytes) -> None:
        state = torch.load(io.BytesIO(file), weights_only=True)
        self.learner.load_state_dict(state)
        self.progress.load_state_dict(state["progress"])


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# -------------------------------------------------------------------------------------- what happens when


@pytest.mark.parametrize(
    ("planned", "evaluated", "logged", "saved"),
    [
        ({}, [4, 8, 12, 14], [3, 6, 9, 12, 14], [*range(1, 15)]),
        ({"save_every": 5}, [4, 8, 12, 14], [3, 6, 9, 12, 14], [5, 10, 14]),
        # The last step is always evaluated, logged and saved.
        ({"eval_every": 100, "log_every": 100, "save_every": 100}, [14], [14], [14]),
        ({"eval_every": 7, "log_every": 1, "save_every": 7}, [7, 14], [*range(1, 15)], [7, 14]),
        ({"num_steps": 1}, [1], [1], [1]),
    ],
)
def test_evaluations_logs_and_checkpoints_come_at_their_steps(planned, evaluated, logged, saved):
    run = Run(**planned)
    assert run.go() == "finished"
    num_steps = planned.get("num_steps", 14)
    assert run.progress.step == num_steps
    assert run.rows.ticks == [*range(1, num_steps + 1)]
    assert run.rows.steps("val/loss") == run.rows.steps("val/accuracy") == evaluated
    assert run.rows.steps("train/loss") == run.rows.steps("perf/examples_per_sec") == logged
    rows = sorted({*evaluated, *logged})
    assert [step for step, *_ in run.rows.rows] == run.rows.steps("optim/lr") == rows  # one row a step
    assert [step for step, _ in run.rows.running] == [step for step in rows if step not in logged]
    assert list(run.shelf.last) == saved
    assert [epoch for _, epoch, _ in run.rows.rows] == [step / 5 for step in rows]


def test_a_row_holds_what_the_documentation_names():
    run = Run()
    run.go()
    tags = {"train/loss", "train/accuracy", "optim/grad_norm", "optim/lr", "optim/noise_scale",
            "perf/examples_per_sec"}  # fmt: skip
    assert set(run.rows.rows[0][2]) == tags
    val = {"val/loss", "val/accuracy", "val/macro_f1"}
    assert set(run.rows.rows[1][2]) == val | {"optim/lr", "optim/noise_scale"}  # these are of the step, no means
    assert set(run.rows.rows[-1][2]) == val | tags
    assert all(type(value) is float for _, _, values in run.rows.rows for value in values.values())


def test_the_noise_scale_is_that_of_whole_batches_and_zero_for_full_ones():
    run = Run(lr=0.05, num_steps=3)
    run.learner.accumulate = 2  # the step's batch counts, not what it is cut into
    run.go()
    assert run.rows.rows[0][2]["optim/noise_scale"] == pytest.approx(0.05 * (23 / 5 - 1))
    assert TrainBatches(TRAINING, "all", AS_STORED, CPU, seed=0).noise_scale(0.05) == {"optim/noise_scale": 0.0}


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_training_values_are_means_by_example_since_the_last_row(reduction):
    """Eight steps of 5, 5, 5, 5, 3, 5, 5, 5 examples; nothing learns, so that the mean can be computed at the end."""
    run = Run(lr=0.0, num_steps=8, log_every=8, eval_every=8, reduction=reduction)
    run.learner.model[3].p = 0.0
    run.learner.model[1].momentum = 0.0
    run.go()
    losses, right, seen = 0.0, 0, 0
    run.learner.model.train()
    with torch.no_grad():
        for batch, _ in zip(run.batches.starting_at(0), range(8), strict=False):
            outputs = run.learner.model(batch.inputs)
            losses += nn.functional.cross_entropy(outputs, batch.targets, reduction="sum").item()
            right += int((outputs.argmax(1) == batch.targets).sum())
            seen += len(batch.targets)
    values = run.rows.rows[-1][2]
    assert seen == 38
    assert values["train/loss"] == pytest.approx(losses / 38, rel=1e-5)
    assert values["train/accuracy"] == pytest.approx(right / 38)


def test_evaluating_and_saving_more_often_changes_no_weight():
    often, seldom = Run(eval_every=1, log_every=1), Run(eval_every=14, log_every=14, save_every=14)
    often.go(), seldom.go()
    assert equal(often.weights(), seldom.weights())


def test_an_evaluation_does_not_change_what_is_logged():
    """Every training mean is of `log_every` steps, or of what is left at the end; an early end is one, too."""
    often, seldom = Run(eval_every=1), Run(eval_every=14)
    often.go(), seldom.go()
    means = [
        [(step, values["train/loss"], values["optim/grad_norm"]) for step, _, values in run.rows.rows
         if "train/loss" in values]
        for run in (often, seldom)
    ]  # fmt: skip
    assert means[0] == means[1]
    assert [step for step, *_ in means[0]] == [3, 6, 9, 12, 14]

    stopped = Run(eval_every=4, patience=1)
    stopped.scores = [1.0, 2.0]
    assert stopped.go() == "early_stopping"
    assert stopped.rows.steps("train/loss") == [3, 6, 8]
    assert stopped.rows.rows[-1][2]["train/loss"] == pytest.approx(dict(often.rows.running)[8]["train/loss"])


def test_a_longer_run_logs_the_means_of_one_that_did_not_end_before():
    short, longer, whole = Run(num_steps=4), Run(num_steps=9), Run(num_steps=9)
    short.go(), whole.go()
    longer.restore(short.shelf.last[4])
    longer.go()
    assert longer.rows.rows
    assert longer.rows.after(4) == whole.rows.after(4)


def test_a_checkpoint_is_complete():
    run = Run()
    run.go()
    state = torch.load(io.BytesIO(run.shelf.last[14]), weights_only=True)
    assert {"model", "optimizer", "schedule", "progress", "step", "note"} <= set(state)
    assert (state["step"], state["note"]) == (14, "x")
    assert equal(state["model"], run.weights())
    best = torch.load(io.BytesIO(run.shelf.best[run.progress.best_step]), weights_only=True)
    assert best.keys() == state.keys()  # as complete, so as resumable


# ------------------------------------------------------------------------------------- best, and when to stop


@pytest.mark.parametrize(
    ("scores", "planned", "best_steps", "ended"),
    [
        ([3.0, 2.0, 2.5, 1.0], {}, [1, 2, 4], ("finished", 4)),
        ([3.0, 2.0, 2.5, 1.0], {"mode": "max"}, [1], ("finished", 4)),
        ([1.0, 1.0, 1.0], {}, [1], ("finished", 3)),  # as good is not better
        ([3.0, 3.1, 3.2, 1.0], {"patience": 2}, [1], ("early_stopping", 3)),
        ([3.0, 3.1, 2.9, 3.2, 3.3, 9.0], {"patience": 2}, [1, 3], ("early_stopping", 5)),
        ([3.0, 3.1], {"patience": 1, "num_steps": 2}, [1], ("finished", 2)),  # both at once: it was the end
        # Improvements below min_delta do not count for patience; the best is still the best.
        ([3.0, 2.9, 2.8, 0.0], {"patience": 2, "min_delta": 0.5}, [1, 2, 3], ("early_stopping", 3)),
        # … but they add up: the change is counted from where one last counted.
        ([3.0, 2.7, 2.4, 2.1, 1.8], {"patience": 2, "min_delta": 0.5}, [1, 2, 3, 4, 5], ("finished", 5)),
        ([float("nan"), 3.0, float("nan"), 2.0], {}, [2, 4], ("finished", 4)),
        ([float("nan"), float("inf"), 1.0], {"patience": 2}, [], ("early_stopping", 2)),
    ],
)  # fmt: skip
def test_best_and_early_stopping(scores, planned, best_steps, ended):
    run = Run(**{"num_steps": len(scores), "eval_every": 1, "save_every": 100, **planned})
    run.scores = list(scores)
    assert (run.go(), run.progress.step) == ended
    assert list(run.shelf.best) == best_steps
    if best_steps:
        assert run.progress.best_step == best_steps[-1]
        assert run.progress.best == run.progress.best_values["val/loss"] == scores[best_steps[-1] - 1]
        assert run.progress.best_values["val/accuracy"] >= 0
    else:
        assert run.progress.best is None
    assert list(run.shelf.last) == [ended[1]]  # last is where it ended, whatever was best


@pytest.mark.parametrize(
    ("scores", "planned", "ranking", "saved"),
    [
        ([3.0, 2.0, 2.5, 1.0], {"keep_best": 1}, [4], []),
        ([3.0, 2.0, 2.5, 1.0], {"keep_best": 3}, [4, 2, 3], [3]),
        ([3.0, 2.0, 2.5, 1.0], {"keep_best": 3, "mode": "max"}, [1, 3, 2], [2, 3]),
        ([3.0, 2.0, 2.5, 1.0], {"keep_best": 9}, [4, 2, 3, 1], [3]),
        ([1.0, 2.0, 2.0, 1.0, 2.0], {"keep_best": 3}, [1, 4, 2], [2, 3, 4]),  # of equal ones the earlier
        ([float("nan"), 2.0, float("inf"), 3.0, float("nan")], {"keep_best": 5}, [2, 4], [4]),
    ],
)
def test_the_next_best_evaluations_are_ranked(scores, planned, ranking, saved):
    run = Run(**{"num_steps": len(scores), "eval_every": 1, "save_every": 100, **planned})
    run.scores = list(scores)
    run.go()
    progress = torch.load(io.BytesIO(run.shelf.last[len(scores)]), weights_only=True)["progress"]
    assert [progress["best_step"], *(step for _, step in progress.get("next_best", []))] == ranking
    assert all(value == scores[step - 1] for value, step in progress.get("next_best", []))
    assert run.shelf.next_best == saved  # a former best has its file already


def test_the_schedule_hears_of_every_evaluation():
    run = Run(schedule=Plateau(0, 0.5, 0.0, 0, 0.0), num_steps=4, eval_every=1, log_every=1)
    run.scores = [1.0, 2.0, 3.0, 0.5]
    run.go()
    assert [values["optim/lr"] for _, _, values in run.rows.rows] == [0.05, 0.05, 0.025, 0.0125]


def test_nothing_diverged_is_saved():
    spoiled = Examples(TRAINING.inputs.clone(), TRAINING.targets)
    run = Run(spoiled, eval_every=1)
    numbered = TrainBatches(Examples(INPUTS[:23], torch.arange(23)), 5, AS_STORED, CPU, seed=0)
    of_step_3 = next(numbered.starting_at(3)).targets
    spoiled.inputs[of_step_3[0]] = torch.nan
    with pytest.raises(RunError, match="step 3: loss or gradient is not finite"):
        run.go()
    assert list(run.shelf.last) == [1, 2, 3]
    saved = torch.load(io.BytesIO(run.shelf.last[3]), weights_only=True)
    assert all(torch.isfinite(value).all() for value in saved["model"].values())
    assert run.rows.steps("val/loss") == [1, 2, 3]


# -------------------------------------------------------------------------------------------- continuing


@pytest.fixture(scope="module")
def uninterrupted() -> Run:
    run = Run(schedule=Plateau(0, 0.5, 0.0, 0, 0.0))
    run.go()
    return run


@pytest.mark.parametrize("step", range(1, 15))
def test_a_run_continues_at_any_step(uninterrupted, step):
    """In an epoch, between two rows, at an evaluation: the same bits at the end and the same rows on the way."""
    resumed = Run(schedule=Plateau(0, 0.5, 0.0, 0, 0.0))
    resumed.restore(uninterrupted.shelf.last[step])
    torch.rand(step)  # whatever else has drawn in this process
    assert resumed.go() == "finished"
    assert equal(resumed.weights(), uninterrupted.weights())
    assert resumed.rows.after(step) == resumed.rows.after(0) == uninterrupted.rows.after(step)
    assert {k: v for k, v in resumed.progress.state_dict().items() if k != "sums"} == {
        k: v for k, v in uninterrupted.progress.state_dict().items() if k != "sums"
    }


class Failing(Rows):
    """Fails once, at the n-th call of a method."""

    def __init__(self, method: str, number: int) -> None:
        super().__init__()
        self.left, original = number, getattr(self, method)

        def fail(*arguments: Any) -> None:
            self.left -= 1
            if self.left == 0:
                raise WriterError
            original(*arguments)

        setattr(self, method, fail)


@pytest.mark.parametrize(
    ("method", "number", "saved"),
    [("tick", 7, 7), ("write", 1, 3), ("write", 2, 4), ("histograms", 7, 14), ("flush", 8, 7)],
)
def test_a_run_continues_where_a_writer_failed(uninterrupted, method, number, saved):
    """Whatever fails, the newest checkpoint is whole, and the rows after it are written by the resume."""
    failed = Run(schedule=Plateau(0, 0.5, 0.0, 0, 0.0))
    failed.rows = Failing(method, number)
    with pytest.raises(WriterError):
        failed.go()
    step, file = list(failed.shelf.last.items())[-1]
    assert step == saved
    resumed = Run(schedule=Plateau(0, 0.5, 0.0, 0, 0.0))
    resumed.restore(file)
    before = step - resumed.progress.pending
    assert resumed.go() == "finished"
    assert equal(resumed.weights(), uninterrupted.weights())
    assert resumed.rows.after(before) == uninterrupted.rows.after(before)
    assert vars(resumed.progress) == vars(uninterrupted.progress)


def test_the_best_checkpoint_continues_as_well(uninterrupted):
    step, file = next(iter(uninterrupted.shelf.best.items()))
    resumed = Run(schedule=Plateau(0, 0.5, 0.0, 0, 0.0))
    resumed.restore(file)
    resumed.go()
    assert equal(resumed.weights(), uninterrupted.weights())
    assert resumed.rows.after(0) == uninterrupted.rows.after(step)


@pytest.mark.parametrize(
    ("removed", "added", "said"),
    [
        (["pending"], [], "missing: pending\n"),
        (["stale", "best"], [], "missing: best, stale\n"),
        ([], ["later"], "unknown: later\n"),
        (["stale"], ["patience"], "missing: stale; unknown: patience\n"),
    ],
)
def test_progress_of_another_version_is_refused(uninterrupted, removed, added, said):
    """With defaults for what is missing, the run would go on as another one."""
    state = uninterrupted.progress.state_dict()
    state = {key: value for key, value in state.items() if key not in removed} | dict.fromkeys(added, 1)
    progress = Progress()
    with pytest.raises(RunError, match="another version of mlprun") as caught:
        progress.load_state_dict(state)
    assert f"in its progress, {said}" in str(caught.value)
    assert progress == Progress()


def test_the_keys_of_a_checkpoints_progress_belong_to_its_format():
    """Else FORMAT rises, and `checkpoint.load` upgrades the old ones."""
    assert (checkpoint.FORMAT, set(Progress().state_dict())) == (
        3,
        {"step", "best", "best_step", "best_values", "reference", "stale", "sums", "examples", "updates", "skipped",
         "num_rows", "pending"},
    )  # fmt: skip


@pytest.mark.parametrize("ended", ["finished", "early_stopping"])
def test_a_run_that_had_ended_trains_no_further(ended):
    planned = {"eval_every": 2, "patience": 1} if ended == "early_stopping" else {}
    first, again = Run(**planned), Run(**planned)
    first.scores = [1.0, *[2.0] * 9]
    assert first.go() == ended
    again.restore(first.shelf.last[first.progress.step])
    assert again.go() == ended
    assert again.progress.step == first.progress.step
    assert equal(again.weights(), first.weights())
    assert again.rows.rows == []


# ----------------------------------------------------------------------------------------------- streams


class Stream(IterableDataset[Any]):
    """A stream of the training examples; with `once`, a second pass gives nothing."""

    def __init__(self, once: bool) -> None:
        self.once, self.passes = once, 0

    def __iter__(self) -> Any:
        self.passes += 1
        if self.once and self.passes > 1:
            return
        yield from zip(TRAINING.inputs, TRAINING.targets.tolist(), strict=True)


def test_a_stream_has_steps_and_no_epochs():
    run = Run(Stream(once=False), num_steps=12)
    assert run.go() == "finished"
    assert {epoch for _, epoch, _ in run.rows.rows} == {None}


def test_a_stream_that_ends_early_says_so():
    run = Run(Stream(once=True), num_steps=12)
    with pytest.raises(RunError, match=r"ended after step 5 of 12") as stop:
        run.go()
    assert "each pass calls iter() on the data set again" in str(stop.value)
