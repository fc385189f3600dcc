"""`mlprun inspect`: what it says is what a run does, and it leaves no run behind."""

from __future__ import annotations

import io
import re
import sys

import pytest
import torch
from torch import nn

from mlprun.config.checks import check
from mlprun.config.compose import Composer
from mlprun.config.identity import fingerprint
from mlprun.inspection.examples import first_examples
from mlprun.inspection.schedule import NUM_DRAWN, draw_schedule
from mlprun.job import summary
from mlprun.job.build_data import build_splits, build_train_batches
from mlprun.job.build_learner import build_model, build_plan
from mlprun.job.hparams import hyperparameters
from mlprun.job.model_check import Layer, ModelSummary
from mlprun.pictures.samples import unscaled
from tests.helpers.runs import rows_of

MODULE = """
import torch
from torch import nn


class TwiceWithAWrongBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 3 * gradient


class Wrong(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(64, 6), nn.Linear(6, 10)

    def forward(self, x):
        return self.last(TwiceWithAWrongBackward.apply(torch.tanh(self.first(x.flatten(1)))))


class Coarse(Wrong):
    def forward(self, x):
        return self.last(self.first(x.flatten(1)).float())


class Raises(Wrong):
    def forward(self, x):
        raise KeyError("a bug of mine")


class Lazy(torch.utils.data.Dataset):
    def __len__(self):
        return 60

    def __getitem__(self, i):
        return torch.full((3, 8, 8), float(i)), i % 2


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        for i in range(200):
            yield torch.tensor([float(i % 2), 1.0, i / 200]), i % 2
"""


LAZY = ["data=custom", "data.dataset._target_=mine.Lazy", "data.input_shape=[3,8,8]", "data.num_outputs=2", "model=cnn"]
STREAM = ["data=custom", "data.dataset._target_=mine.Stream", "data.input_shape=[3]", "data.num_outputs=2",
          "steps=40", "eval_every=50%", "checkpoint.every=50%"]  # fmt: skip


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.py").write_text(MODULE)


def pictures(result):
    """The names of the pictures that a line drew, in the folder that it printed."""
    folder = re.search(r"^drawn   (\S+):", result.out, re.MULTILINE)[1]
    return sorted(file.name for file in (result.folder / folder).iterdir())


def test_a_line_is_looked_at_and_leaves_pictures_and_no_run(mlprun_process):
    result = mlprun_process("inspect", "epochs=5", "scheduler=one_cycle")
    assert result.status == 0, result.err
    assert result.err == ""
    for said in ("data    digits: 1,294 train", "3: 127", "uint8, 0 to 16", "mean 0, standard deviation 1 ",
                 "17,226 parameters, 17,024 multiply-adds", "one_cycle; CrossEntropyLoss", "205 steps of 32 examples",
                 "the last of 14 examples", "5 evaluations, 5 checkpoints", "= 0.03944: gradient noise scale",
                 "learning rate: ", "devices cpu  1 thread", "2048x2048", "per training step on cpu",
                 "drawn   outputs/inspect/",
    ):  # fmt: skip
        assert said in result.out, said
    assert max(map(len, result.out.splitlines())) <= 130
    assert pictures(result) == ["samples.png", "schedule.png"]
    assert result.runs == []
    assert [path.name for path in (result.folder / "outputs").iterdir() if path.is_dir()] == ["inspect"]
    assert "inspect" not in mlprun_process("runs").out


@pytest.mark.parametrize(
    "line",
    [["optm=adam"], ["optim=lbfgs"], ["word"], ["data=iris", "model=cnn"], ["device=cuda:99"]],
)  # fmt: skip
def test_what_is_wrong_is_said_as_a_training_says_it(mlprun, line):
    looked, trained = mlprun("inspect", *line), mlprun(*line)
    assert (looked.status, looked.err) == (trained.status, trained.err)
    assert looked.status == 2
    assert not (looked.folder / "outputs" / "inspect").exists()


def test_a_bug_of_the_users_shows_his_own_frame(mlprun, mine):
    result = mlprun("inspect", "model=custom", "model._target_=mine.Raises")
    assert result.status == 1
    assert 'raise KeyError("a bug of mine")' in result.err
    assert "inspection.py" not in result.err


@pytest.mark.parametrize("line", [[], ["-m", "seed=0,1"]])
def test_a_training_refuses_what_only_inspect_reads(mlprun, line):
    result = mlprun(*line, "inspect.check_gradients=true")
    assert result.status == 2
    assert result.err.startswith("error: inspect.check_gradients=true: is for mlprun inspect")
    assert result.runs == []


@pytest.mark.parametrize("word", ["-m", "sweep.name=x"])
def test_inspect_looks_at_one_config(mlprun, word):
    result = mlprun("inspect", word)
    assert result.status == 2
    assert "is for sweeps" in result.err


def test_it_is_no_part_of_what_a_run_is():
    line = ["inspect.check_gradients=true"]
    plain, asked = (check(Composer().compose(overrides)).to_dict() for overrides in ([], line))
    assert fingerprint(plain) == fingerprint(asked)
    assert hyperparameters(plain, []) == hyperparameters(asked, line)


def test_a_folder_of_ones_own_is_used_as_it_is_and_that_of_a_run_is_refused(mlprun):
    assert mlprun("inspect", "hydra.run.dir=look").status == 0
    assert (mlprun("inspect", "hydra.run.dir=look").folder / "look" / "samples.png").exists()
    assert mlprun("debug=fast", "hydra.run.dir=run").status == 0
    assert "holds a run" in mlprun("inspect", "hydra.run.dir=run").err


@pytest.mark.parametrize(
    "line",
    [["scheduler=cosine", "scheduler.warmup=3 steps"],
     ["scheduler=custom", "scheduler._target_=torch.optim.lr_scheduler.OneCycleLR", "+scheduler.max_lr=0.1",
      "+scheduler.total_steps=100%", "optim=momentum"],
     ["scheduler=cosine", "+optim.groups.slow={params:hidden,lr:1e-5}", "trainer.decay_all=false"]],
)  # fmt: skip
def test_the_rates_drawn_are_those_that_a_run_logs(mlprun, line):
    line = [*line, "debug=fast", "logging.every=1 step"]
    config = check(Composer().compose(line))
    model = build_model(config)
    drawn = draw_schedule(config, model, build_plan(config, steps_per_epoch=4))
    result = mlprun(*line)
    assert result.status == 0, result.err
    rows = rows_of(result.runs[0])
    assert drawn.steps == [0, 1, 2, 3, 4, 5, 6, 7]
    for curve, values in drawn.curves.items():
        if curve.startswith("momentum"):
            continue
        tag = "optim/lr" if curve == "learning rate" else f"optim/lr/{curve.removeprefix('learning rate of ')}"
        logged = {row["step"]: row[tag] for row in rows if tag in row}
        # a row is written after the update that its rate was used for
        assert {step + 1: rate for step, rate in zip(drawn.steps, values, strict=True)} == logged


def test_a_momentum_that_moves_is_drawn_too(mlprun):
    one_cycle = ["scheduler=custom", "scheduler._target_=torch.optim.lr_scheduler.OneCycleLR", "+scheduler.max_lr=0.1"]
    result = mlprun("inspect", "optim=momentum", *one_cycle, "+scheduler.total_steps=100%")
    assert "momentum: 0.85 to 0.95, 0.95 first, 0.95 last" in result.out
    assert result.err == ""


def test_a_schedule_that_follows_the_scores_is_told_and_not_drawn(mlprun):
    result = mlprun("inspect", "scheduler=plateau", "scheduler.warmup=10 steps")
    assert "Plateau depends on val/loss" in result.out
    assert "begins at 0.001, after a linear warmup of 10 steps" in result.out
    assert pictures(result) == ["samples.png"]


def test_a_long_run_is_drawn_at_even_distances():
    config = check(Composer().compose(["scheduler=cosine", "steps=3000000"]))
    drawn = draw_schedule(config, nn.Linear(1, 1), build_plan(config, 100))
    assert len(drawn.steps) == NUM_DRAWN
    assert {b - a for a, b in zip(drawn.steps, drawn.steps[1:], strict=False)} == {150}


def test_a_terminal_of_any_encoding_can_show_it(mlprun, monkeypatch):
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii", write_through=True))
    result = mlprun("inspect", "scheduler=cosine", "steps=20")
    assert result.status == 0, result.err
    assert b"learning rate: " in shown.getvalue()


@pytest.mark.parametrize(
    ("line", "said", "drawn"),
    [
        (["data=moons"], "0: 361  1: 359", ["samples.png", "schedule.png"]),
        (["data=synthetic_regression", "data.dataset.num_features=1"], "targets of train  -",
         ["samples.png", "schedule.png"]),
        (["data=diabetes", "model=linear"], "standard deviation 75.4", ["schedule.png"]),
        (LAZY, "of the first 32 examples of train", ["samples.png", "schedule.png"]),
        ([*LAZY, "data.num_workers=1"], "unknown without reading", ["samples.png", "schedule.png"]),
        (STREAM, "train of unknown length", ["schedule.png"]),
    ],
)  # fmt: skip
def test_every_kind_of_data_is_looked_at(mlprun, mine, line, said, drawn):
    result = mlprun("inspect", *line)
    assert result.status == 0, result.err
    assert said in result.out
    assert pictures(result) == drawn


def test_the_examples_shown_are_the_first_of_the_run_as_they_are_stored():
    config = check(Composer().compose(["batch_size=5"]))
    parts = build_splits(config)
    batches = build_train_batches(config, parts, torch.device("cpu"))
    first = first_examples(batches)
    assert len(first.targets) == 20
    stored = unscaled(parts, first.inputs)
    torch.testing.assert_close(stored, stored.round(), atol=1e-4, rtol=0)
    assert 0 <= stored.round().min() < stored.round().max() == 16
    torch.testing.assert_close(first.inputs[:5], next(batches.starting_at(0)).inputs)


def test_a_run_that_would_diverge_is_told(mlprun):
    result = mlprun("inspect", "data=diabetes", "optim=sgd", "optim.lr=1e30")
    assert result.status == 0, result.err
    assert "speed   not measured: the run would stop at step" in result.out


def test_one_table_serves_runs_and_inspections():
    config = check(Composer().compose([]))
    fit = ModelSummary([Layer(f"layer{i}", "Linear", (3,), 12, 9) for i in range(20)], 240, 180)
    assert len(summary.model_lines(config, fit, 240)) == 22
    assert "          … 10 more layers" in summary.model_lines(config, fit, 200, most=12)
    assert summary.model_lines(config, fit, 240, macs=True)[2].endswith("        12              9")


def test_a_long_name_moves_the_column_and_not_a_line():
    config = check(Composer().compose([]))
    names = ["head", "encoder.blocks.0.attention.query_key_value"]
    fit = ModelSummary([Layer(name, "NonDynamicallyQuantizableLinear", (3,), 12, 9) for name in names], 24, 18)
    head, *rows = summary.model_lines(config, fit, 24, macs=True)[1:]
    assert {row.index("  3  ") + 2 for row in rows} == {head.index("output")}
    assert len({len(line) for line in (head, *rows)}) == 1


@pytest.mark.parametrize(
    "line",
    [["model=cnn", "model.dropout=0.4"], ["data=diabetes", "loss=l1"], ["loss=hinge"],
     ["loss=cross_entropy", "+loss.weight=[1,2,3,4,5,6,7,8,9,10]"],
     ["data=moons", "data.num_outputs=1", "loss=bce", "+loss.pos_weight=3"], ["loss=mse", "loss.one_hot=true"]],
)  # fmt: skip
def test_the_gradients_of_what_mlprun_ships_are_right(mlprun, line):
    result = mlprun("inspect", *line, "inspect.check_gradients=true")
    assert result.status == 0, result.err
    assert "  ok" in result.out
    assert "WRONG" not in result.out


def test_a_wrong_backward_is_found_and_named(mlprun, mine):
    result = mlprun("inspect", "model=custom", "model._target_=mine.Wrong", "inspect.check_gradients=true")
    assert result.status == 1
    assert re.search(r"first\.weight .*WRONG", result.out)
    assert re.search(r"last\.weight .*ok", result.out)
    assert len(result.err.splitlines()) == 2
    assert "the gradient of 'first.bias' is wrong" in result.err
    assert "torch.autograd.Function" in result.err
    assert pictures(result) == ["samples.png", "schedule.png"]


def test_a_model_that_insists_on_float32_is_told(mlprun, mine):
    result = mlprun("inspect", "model=custom", "model._target_=mine.Coarse", "inspect.check_gradients=true")
    assert result.status == 2
    assert "computes in float32 (from 'torch.Tensor.float')" in result.err
