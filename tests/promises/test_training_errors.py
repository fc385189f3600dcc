"""NaN, too little memory, a wrong shape or label: the step, the layer, the key and the remedy are named."""

from __future__ import annotations

import json
import math
import re
import signal
from pathlib import Path

import pytest
import torch

from mlprun import randomness
from mlprun.runs import checkpoint
from tests.helpers.lines import Line, finish, wait_until
from tests.helpers.runs import assert_identical, last_step, record_of, rows_of

USERS = """
import torch
from torch import nn
from torch.utils.data import Dataset

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.second(self.first(x).relu())

class Fragile(nn.CrossEntropyLoss):  # NaN at steps that (seed, step) decides
    def __init__(self, below):
        super().__init__()
        self.below = below

    def forward(self, outputs, targets):
        loss = super().forward(outputs, targets)
        return loss * float("nan") if outputs.requires_grad and torch.rand(()) < self.below else loss

class Hungry(Net):
    def forward(self, x):
        if self.training and len(x) > 8:
            torch.empty(2**50)
        return super().forward(x)

class NoKernel(Net):
    text = "could not create a primitive descriptor for the LSTM forward propagation primitive"
    def forward(self, x):
        if self.training and len(x) > 8:
            raise RuntimeError(self.text)
        return super().forward(x)

class NotDeterministic(NoKernel):
    text = "cumsum_cuda_kernel does not have a deterministic implementation, but you set"

class HungryInEvaluation(Net):
    def forward(self, x):
        if not self.training and len(x) > 2:
            torch.empty(2**50)
        return super().forward(x)

class HungryFromTheStart(Net):
    def __init__(self):
        super().__init__()
        self.more = nn.Parameter(torch.empty(2**50))

class FixedBatch(Net):
    def forward(self, x):
        x = self.first(x)
        return self.second(x.view(32, 8) if self.training else x)

class Narrow(Net):
    def forward(self, x):
        x = self.first(x)
        return self.second(x[:, :5] if self.training else x)

class Embeds(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(10, 3), nn.Linear(3, 3)

    def forward(self, x):
        return self.out(self.embed(x).mean(1))

class Raises(Net):
    def forward(self, x):
        if self.training:
            raise KeyError("my own bug")
        return super().forward(x)

class Data(Dataset):
    odd = ()

    def __len__(self):
        return 300

    def __getitem__(self, i):
        example = torch.rand(6) + i % 3, i % 3
        return self.change(*example) if i in self.odd or i == 5 else example

    def change(self, x, y):
        return x, y

class Label(Data):
    def change(self, x, y):
        return x, 3

class Negative(Data):
    def change(self, x, y):
        return x, -1

class Ragged(Data):
    def change(self, x, y):
        return x[:5], y

class Nothing(Data):
    def change(self, x, y):
        return None

class Nan(Data):
    def change(self, x, y):
        return x + float("nan"), y

class ManyNans(Nan):
    odd = range(7, 300, 50)

class Tokens(Data):
    def __getitem__(self, i):
        return torch.full((6,), 12 if i == 5 else i % 10), i % 3

class Greedy(Data):
    def change(self, x, y):
        return torch.empty(2**50), y
"""


RUN = "run"
SHORT = [f"hydra.run.dir={RUN}", "data=custom", "data.input_shape=[6]", "data.num_outputs=3", "epochs=3"]
FRAGILE = ["loss=custom", "loss._target_=users.Fragile"]


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "users.py").write_text(USERS)
    return tmp_path


def own(kind: str, name: str) -> str:
    return f"{ {'data': 'data.dataset', 'model': 'model'}[kind] }._target_=users.{name}".replace(" ", "")


DATA, MODEL = own("data", "Data"), "model=custom"


@pytest.fixture
def fails(mlprun, folder):
    """What a line says that fails with exit status 1, from `error: ` on: `fails("seed=1") -> str`."""

    def message(*words: str) -> str:
        result = mlprun(*words)
        said = result.out + result.err
        assert result.status == 1, said
        assert "Traceback" not in said
        assert said.count("error: ") == 1
        return said[said.index("error: ") :]

    return message


def bad_steps(below: float, count: int) -> list[int]:
    """The steps at which `Fragile` gives NaN in a model that draws nothing else."""
    found = []
    for step in range(count):
        randomness.seed_torch(0, "noise", step)
        found += [step] if torch.rand(()) < below else []
    return found


def assert_finite(value: object) -> None:
    """Every number in a checkpoint."""
    if isinstance(value, torch.Tensor):
        assert bool(torch.isfinite(value).all())
    elif isinstance(value, float):
        assert math.isfinite(value)
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            assert_finite(item)


def test_nan_at_a_step_stops_the_run_there(folder, fails):
    """The message tells the step, what came before and the knobs; no checkpoint is touched; a resume says the same."""
    below = 0.02
    bad = bad_steps(below, 200)[0]
    assert bad > 12  # there is something before it
    words = [*SHORT, DATA, *FRAGILE, f"+loss.below={below}", "epochs=40", "logging.every=1 step", "batch_size=64"]
    message = fails(*words, "checkpoint.every=4 steps")
    before = rows_of(folder / RUN)[-1]
    assert before["step"] == bad
    first, *knobs = message.splitlines()
    assert first == (
        f"error: step {bad}: loss or gradient is not finite (loss nan, gradient norm nan); step {bad - 1} still had "
        f"loss {before['train/loss']:g} and gradient norm {before['optim/grad_norm']:g}"
    )
    assert knobs == [
        "  try a lower optim.lr (now 0.001), trainer.grad_clip=1 or scheduler.warmup='1 epoch'",
        "  debug=anomaly names the operation, trainer.on_nan=skip passes over such steps",
    ]
    kept = record_of(folder / RUN)
    assert (kept["status"], kept["steps"], kept["error"]) == ("failed", bad, message.removeprefix("error: ").rstrip())
    files = {name: (folder / RUN / "checkpoints" / name) for name in ("last.pt", "best.pt")}
    states = {name: checkpoint.load(file) for name, file in files.items()}
    assert states["last.pt"]["step"] == bad // 4 * 4
    assert 0 < states["best.pt"]["step"] <= bad
    for state in states.values():
        assert_finite(state)

    contents = {name: file.read_bytes() for name, file in files.items()}
    assert fails("resume", RUN) == message
    assert record_of(folder / RUN)["status"] == "failed"
    assert {name: file.read_bytes() for name, file in files.items()} == contents


def test_a_resume_that_fails_at_its_first_step_still_knows_what_came_before(folder, fails):
    below = 0.02
    bad = bad_steps(below, 200)[0]
    words = [*SHORT, DATA, *FRAGILE, f"+loss.below={below}", "epochs=40", "checkpoint.every=1 step"]
    message = fails(*words)
    assert checkpoint.load(folder / RUN / "checkpoints" / "last.pt")["step"] == bad
    assert f"step {bad - 1} still had loss " in message
    assert fails("resume", RUN) == message


def test_a_rate_that_is_too_high_leaves_no_absurd_checkpoint(folder, fails):
    """The update itself overflows: the loss of the next step would tell, but a checkpoint is due before it."""
    words = ["model=linear", "optim=sgd", "optim.lr=3e38", "data.normalize=none", "steps=4", f"hydra.run.dir={RUN}"]
    message = fails(*words, "checkpoint.every=1 step", "eval_every=1 step", "monitor=val/accuracy")
    first, knobs = message.splitlines()
    assert re.fullmatch(
        r"error: step 0: its update left weights that are not finite; step 0 had loss \S+ and gradient norm \S+", first
    )
    assert knobs == "  try a lower optim.lr (now 3e+38), trainer.grad_clip=1 or scheduler.warmup='1 epoch'"
    assert list((folder / RUN / "checkpoints").iterdir()) == []
    assert rows_of(folder / RUN) == []


def test_nan_in_the_data_is_not_blamed_on_the_rate(fails):
    message = fails(*SHORT, own("data", "Nan"))
    assert re.match(r"error: step \d: loss or gradient is not finite \(loss nan, gradient norm nan\)", message)
    assert "\n  data: inputs of this batch are NaN or infinite; repair or leave out such examples\n" in message
    assert "optim.lr" not in message


@pytest.mark.parametrize(
    ("model", "remedy"),
    [("NoKernel", "set trainer.precision=fp32"), ("NotDeterministic", "set trainer.deterministic=false")],
)
def test_what_only_a_new_run_can_set_suggests_no_resume(fails, model, remedy):
    message = fails(*SHORT, DATA, MODEL, own("model", model), "trainer.precision=bf16")
    assert remedy in message
    assert "resume" not in message


def test_nan_at_the_very_first_step_is_not_blamed_on_the_rate(fails):
    message = fails(*SHORT, DATA, *FRAGILE, "+loss.below=1", "trainer.precision=bf16")
    assert message.splitlines()[:2] == [
        "error: step 0: loss or gradient is not finite (loss nan, gradient norm nan)",
        "  with the first weights: look at the data and the loss, or try trainer.precision=fp32",
    ]


def test_skipped_steps_are_counted_and_left_out_of_the_means(folder):
    below = 0.3
    words = [*SHORT, DATA, *FRAGILE, f"+loss.below={below}", "trainer.on_nan=skip", "epochs=6", "eval_every=3 epochs"]
    output = finish(folder, *words, "logging.every=1 step")
    steps = record_of(folder / RUN)["steps"]
    bad = bad_steps(below, steps)
    assert 5 < len(bad) < steps / 2
    assert record_of(folder / RUN)["skipped_steps"] == len(bad)
    assert f"{len(bad)} steps were not finite and were skipped (trainer.on_nan=skip)" in output
    single = {row["step"] - 1: row for row in rows_of(folder / RUN)}
    assert [step for step, row in single.items() if row["train/loss"] is None] == bad

    finish(folder, *words, "logging.every=4 steps", "hydra.run.dir=windows")
    assert (folder / "windows" / "run.json").exists()
    record = record_of(folder / RUN)
    per_epoch, num_examples = record["steps_per_epoch"], record["data"]["sizes"]["train"]
    sizes = {step: 32 if (step + 1) % per_epoch else num_examples % 32 for step in single}
    start = 0
    for line in (folder / "windows" / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        if "train/loss" not in row:  # an evaluation
            continue
        window = [step for step in range(start, row["step"]) if step not in bad]
        start = row["step"]
        if not window:
            assert row["train/loss"] is row["optim/grad_norm"] is row["train/accuracy"] is None
            continue
        for key, weights in (("train/loss", sizes), ("train/accuracy", sizes), ("optim/grad_norm", None)):
            values = [(single[step][key], weights[step] if weights else 1) for step in window]
            mean = sum(value * weight for value, weight in values) / sum(weight for _, weight in values)
            assert row[key] == pytest.approx(mean, rel=1e-5), (row["step"], key)


def test_running_statistics_stay_finite(folder):
    """NaN inputs reach batch norm before anyone knows that the step will be skipped."""
    words = [
        *SHORT,
        own("data", "ManyNans"),
        "+data.val_dataset._target_=users.Data",
        "+data.test_dataset._target_=users.Data",
        "model.batch_norm=true",
    ]
    finish(folder, *words, "trainer.on_nan=skip", "epochs=4")
    assert record_of(folder / RUN)["skipped_steps"] > 10
    for name in ("last.pt", "best.pt"):
        state = checkpoint.load(folder / RUN / "checkpoints" / name)
        assert any("running_var" in key for key in state["model"])
        assert_finite(state["model"])
        assert_finite(state["optimizer"])


def test_after_too_many_in_a_row_it_gives_up_also_across_a_resume(folder, fails):
    below = 0.05
    bad = bad_steps(below, 40)
    words = [*SHORT, DATA, *FRAGILE, "trainer.on_nan=skip", "eval_every=1 step", f"+loss.below={below}"]
    finish(folder, *words, "steps=20")
    assert record_of(folder / RUN)["skipped_steps"] == len([step for step in bad if step < 20]) > 0
    # From here on the user's loss is always NaN.
    (folder / "users.py").write_text(USERS.replace("< self.below", "< 1"))
    output = finish(folder, "resume", RUN, "steps=90")
    assert "steps were not finite and were skipped" in output
    assert checkpoint.load(folder / RUN / "checkpoints" / "last.pt")["skipped_in_a_row"] == 70
    message = fails("resume", RUN, "steps=300")
    assert message.startswith(
        "error: 100 steps in a row had a loss or gradient that is not finite, the last one step 120; "
        "step 19 still had loss "
    )
    assert "trainer.on_nan=skip gives up here" in message
    assert "passes over" not in message
    assert record_of(folder / RUN)["steps"] == 120


def test_a_run_with_skips_that_is_killed_and_resumed_is_the_same(folder, tmp_path_factory):
    whole = tmp_path_factory.mktemp("whole")
    (whole / "users.py").write_text(USERS)
    words = [
        *SHORT, DATA, *FRAGILE, "+loss.below=0.3", "trainer.on_nan=skip", "model.batch_norm=true", "model.dropout=0.2",
        "epochs=25", "logging.every=5 steps", "checkpoint.every=7 steps", "eval_every=10 steps", "optim=adam",
    ]  # fmt: skip
    finish(whole, *words)
    assert record_of(whole / RUN)["skipped_steps"] > 20
    for share in (0.3, 0.7):
        with Line(folder, *(["resume", RUN] if (folder / RUN).exists() else words)) as line:
            # called before the next one
            wait_until(lambda: last_step(folder) >= share * record_of(whole / RUN)["steps"])  # noqa: B023
            line.signal(signal.SIGKILL)
    finish(folder, "resume", RUN)
    assert_identical(folder / RUN, whole / RUN)


def test_out_of_memory_names_the_line_that_keeps_the_effective_batch(folder, fails):
    """Following it leads to a run that fits."""
    words, accumulate = [*SHORT, DATA, MODEL, own("model", "Hungry")], 1
    for expected in (2, 4):
        message = fails(*words, f"trainer.accumulate={accumulate}", f"hydra.run.dir=run-{accumulate}")
        assert message.splitlines()[:4] == [
            f"error: out of memory with batch_size=32 trainer.accumulate={accumulate}, asking for 4,194,304.0 GiB",
            f"  in Hungry with x [{32 // accumulate}, 6]",
            "  at step 0: inputs [32, 6], targets [32]",
            f"  trainer.accumulate={expected} keeps the same effective batch in about 50% of the memory",
        ]
        assert f'File "{folder}/users.py"' in message
        assert "torch.empty(2**50)" in message
        kept = record_of(folder / f"run-{accumulate}")
        assert kept["status"] == "failed"
        assert kept["error"].startswith("out of memory")
        accumulate = int(re.search(r"trainer.accumulate=(\d+) keeps", message)[1])
    finish(folder, *words, f"trainer.accumulate={accumulate}")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([own("model", "Hungry"), "batch_size=all"], "trainer.accumulate=2 keeps the same effective batch"),
        ([own("model", "Hungry"), "batch_size=9"], "trainer.accumulate=2 keeps the same effective batch"),
        ([own("model", "HungryInEvaluation")], "an evaluation reads many examples at once: data.limit_eval=…"),
        ([own("model", "HungryFromTheStart")], "not in a training step: a smaller model, or less data"),
        ([own("data", "Greedy")], "not in a training step: a smaller model, or less data"),
        (
            [own("data", "Greedy"), "data.num_workers=1"],
            "in a DataLoader worker; fewer workers than data.num_workers=1",
        ),
    ],
)
def test_out_of_memory_elsewhere(fails, words, said):
    model = [] if "data" in words[0] else [DATA, MODEL]
    message = fails(*SHORT, *model, *words)
    assert message.startswith("error: out of memory with batch_size=")
    assert f"\n  {said}" in message
    assert ("keeps the same effective batch" in message) == ("keeps" in said)


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        pytest.param(
            [DATA, MODEL, own("model", "Narrow")],
            [
                r"error: RuntimeError: .*mat1 and mat2 shapes cannot be multiplied \(32x5 and 8x3\)",
                r"  in layer 'second' Linear\(in_features=8, out_features=3, bias=True\) with input \[32, 5\]",
                r"  at step 0: inputs \[32, 6\], targets \[32\]",
                r"  data.input_shape=\[6\] data.num_outputs=3 batch_size=32 trainer.accumulate=1",
                r'  File ".*/users.py", line \d+, in forward',
            ],
            id="a layer that gets another shape",
        ),
        pytest.param(
            [DATA, MODEL, own("model", "FixedBatch"), "trainer.accumulate=2"],
            [
                r"error: RuntimeError: shape '\[32, 8\]' is invalid for input of size 128",
                r"  in FixedBatch with x \[16, 8\]",
                r"  at step 0: inputs \[32, 6\], targets \[32\]",
                r"  data.input_shape=\[6\] data.num_outputs=3 batch_size=32 trainer.accumulate=2",
                r'  File ".*/users.py", line \d+, in forward',
            ],
            id="a batch size that is written into the model",
        ),
        pytest.param(
            [own("data", "Tokens"), MODEL, own("model", "Embeds")],
            [
                r"error: IndexError: index out of range in self",
                r"  in layer 'embed' Embedding\(10, 3\) with input \[32, 6\], values 0 to 12",
                r"  at step \d: inputs \[32, 6\], targets \[32\]",
                r"  an index into an embedding must be 0 to num_embeddings - 1",
                r"  data.input_shape=\[6\] .*",
                r'  File ".*/users.py", line \d+, in forward',
            ],
            id="an index outside an embedding",
        ),
        pytest.param(
            [DATA, MODEL, own("model", "Raises")],
            [
                r"error: KeyError: 'my own bug'",
                r"  in Raises with x \[32, 6\]",
                r"  at step 0: inputs \[32, 6\], targets \[32\]",
                r'  File ".*/users.py", line \d+, in forward',
            ],
            id="an error of the user's own",
        ),
        *(
            pytest.param(
                [own("data", name), *loss],
                [
                    r"error: data: at step \d, a label is 3 \(data.num_outputs=3\)",
                    r"  labels are 0 to 2: correct data.num_outputs, or the labels of the data set",
                ],
                id=f"label 3, {' '.join(loss) or 'cross entropy'}",
            )
            for name, loss in (("Label", []), ("Label", ["loss=mse", "loss.one_hot=true"]))
        ),
        pytest.param(
            [own("data", "Negative"), "loss=hinge"],
            [
                r"error: data: \d+ of the 32 labels of a training batch are -1, which a loss may ignore",
                r"  labels are 0 to num_outputs - 1: leave out examples without a label",
            ],
            id="label -1, loss=hinge",
        ),
        *(
            pytest.param(
                [own("data", name), f"data.num_workers={workers}"],
                [
                    r"error: data: the examples of a batch cannot be combined: " + text,
                    r"  each must be \(input, target\), with an input of data.input_shape=\[6\]",
                ],
                id=f"{name}, {workers} workers",
            )
            for name, workers, text in (
                ("Ragged", 0, r"stack expects each tensor to be equal size, but got \[6\] .* and \[5\] at .*"),
                ("Ragged", 1, r"RuntimeError: .*resize.*"),
                ("Nothing", 0, r".*NoneType.*"),
                ("Nothing", 1, r"TypeError: .*NoneType.*"),
            )
        ),
    ],
)
def test_the_layer_the_shapes_and_the_key_are_named(folder, fails, words, lines):
    message = fails(*SHORT, *words).splitlines()
    for line, pattern in zip(message, lines, strict=False):
        assert re.fullmatch(pattern, line), message
    assert len(lines) <= len(message) <= len(lines) + 4
    assert record_of(folder / RUN)["status"] == "failed"


def test_a_label_that_only_the_evaluation_meets_is_named_too(fails):
    words = [*SHORT, own("data", "Label"), "+data.val_dataset._target_=users.Label", "data.dataset._target_=users.Data"]
    message = fails(*words)
    assert message.startswith("error: data: at an evaluation, a label is 3 (data.num_outputs=3)\n")


LAZY = """
from torch import nn
class Net(nn.Module):
    def __init__(self, num_outputs):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.LazyLinear(16), nn.ReLU(), nn.Dropout(), nn.LazyLinear(num_outputs))
    def forward(self, x): return self.net(x)
"""


def test_lazy_layers_have_shapes_wherever_a_run_is_read(mlprun, tmp_path):
    (tmp_path / "lazy.py").write_text(LAZY)
    line = ["model=custom", "model._target_=lazy.Net", "+model.num_outputs=10", "debug=fast"]
    line += ["optim=adamw", "trainer.decay_all=false", "trainer.freeze=[net.1.*]"]
    assert mlprun(*line, "hydra.run.dir=run").status == 0
    for verb in (["eval", "run"], ["predict", "run", "--index", "0"], ["resume", "run", "epochs=3"], ["inspect", *line,
                 "inspect.check_gradients=true"]):  # fmt: skip
        result = mlprun(*verb)
        assert result.status == 0, result.err
