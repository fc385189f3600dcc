"""One run in several processes: the same examples, the same results, one directory, nothing lost."""

from __future__ import annotations

import json
import math
import random
import signal
import time
from pathlib import Path

import pytest

from tests.helpers.lines import Code, wait_until
from tests.helpers.ranks import ended, started
from tests.helpers.runs import RUN, SMALL, assert_identical, record_of, rows_of, weights_of

LINE = [*SMALL, "epochs=4", "batch_size=50", "model.dropout=0.3", "data.augment.crop=1", "optim=momentum"]


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> Path:
    """The run of `LINE` in three processes."""
    folder = tmp_path_factory.mktemp("three")
    ended(folder, 3, *LINE)
    return folder / RUN


def close(first: list[dict], second: list[dict], tolerance: float) -> bool:
    """Whether the rows have the same keys, and values within a relative tolerance."""
    pairs = zip(first, second, strict=True)
    return all(a.keys() == b.keys() for a, b in pairs) and all(
        math.isclose(a[key] or 0.0, b[key] or 0.0, rel_tol=tolerance)
        for a, b in zip(first, second, strict=True)
        for key in a
    )


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["data.augment.crop=1", "trainer.accumulate=3"], id="mlp, accumulation"),
        pytest.param(["model=cnn", "model.batch_norm=false", "trainer.ema=0.9", "trainer.mixup=0.2"], id="cnn"),
    ],
)
def test_the_curves_are_those_of_one_process(tmp_path, words):
    """1,294 examples in batches of 3: the last has one, for two processes."""
    words = [*words, "batch_size=107", "epochs=2", "logging.every=1 step", "hydra.run.dir=run"]
    for count in (1, 2):
        (tmp_path / str(count)).mkdir()
        ended(tmp_path / str(count), count, *words)
    assert close(*(rows_of(tmp_path / str(count) / RUN) for count in (1, 2)), 2e-5)


def test_a_parameter_without_gradient_stays_and_a_single_number_is_trained(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom torch import nn\n\n\nclass Model(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.layer, self.scale = nn.Linear(64, 10), nn.Parameter(torch.tensor(1.0))\n"
        "        self.unused = nn.Parameter(torch.ones(3))\n\n"
        "    def forward(self, inputs):\n"
        "        return self.scale * self.layer(inputs.flatten(1))\n"
    )
    ended(
        tmp_path,
        2,
        "model=custom",
        "model._target_=mine.Model",
        "epochs=1",
        "optim.weight_decay=0.1",
        f"hydra.run.dir={RUN}",
    )
    weights = weights_of(tmp_path / RUN)
    assert weights["unused"].tolist() == [1.0, 1.0, 1.0], "no weight decay: no process has a gradient of it"
    assert float(weights["scale"]) != 1.0


def test_there_is_one_directory_and_one_row_per_step(three):
    assert sorted(path.name for path in three.parent.iterdir() if path.is_dir()) == [RUN]
    steps = [row["step"] for row in rows_of(three)]
    assert steps == sorted(steps)
    record = record_of(three)
    assert record["status"] == "completed"
    assert record["config"]["trainer"]["devices"] == 3


EVALUATE = """
import json, sys
from pathlib import Path
import torch.distributed as dist
from mlprun.data import batches
from mlprun.job.build_data import build_eval_batches
from mlprun.training.distributed import SINGLE, Ranks
from mlprun.config.checks import check
from mlprun.config.compose import Composer
from mlprun.job.prepare import prepare

batches.EVAL_EXAMPLES = 50  # 359 test examples: seven batches and a last one of nine
store, rank, size = next(dist.rendezvous("env://"))
dist.init_process_group(store=dist.PrefixStore("run", store), rank=rank, world_size=size)
experiment = prepare(check(Composer().compose(sys.argv[1:])))
learner = experiment.build_learner()
found = []
for world in (SINGLE, Ranks(store, rank, size, 0)):
    evaluation = learner.evaluate(experiment.eval_batches(experiment.splits.test), world=world)
    confusion = None if evaluation.confusion is None else evaluation.confusion.tolist()
    found.append([evaluation.compute(), confusion])
Path(f"{rank}.json").write_text(json.dumps(found))
"""


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(
            ["+metrics.area._target_=torchmetrics.classification.MulticlassAUROC", "+metrics.area.num_classes=10",
             "metrics=auroc"],
            id="classification",
        ),
        pytest.param(["data=diabetes"], id="regression"),
    ],
)  # fmt: skip
def test_an_evaluation_gives_the_bits_of_one_process(tmp_path, words):
    """On four processes, which compute batches in turn: each metric, and the confusion matrix count by count."""
    ended(tmp_path, 4, EVALUATE, *words, kind=Code)
    results = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(4)]
    for alone, shared in results:
        assert shared == alone == results[0][0]


@pytest.mark.parametrize("rank", [0, 2])
def test_any_process_may_be_asked_to_stop_and_the_run_resumed_to_the_same_bits(tmp_path, three, rank):
    with started(tmp_path, 3, *LINE) as lines:
        wait_until(lambda: "\nstep " in lines[0].output)
        lines[rank].signal(signal.SIGTERM)
        assert [line.wait() for line in lines] == [128 + signal.SIGTERM] * 3
    assert record_of(tmp_path / RUN)["status"] == "interrupted"
    ended(tmp_path, 3, "resume", RUN)
    assert_identical(tmp_path / RUN, three)


def test_after_a_kill_the_others_end_and_the_run_is_resumed_to_the_same_bits(tmp_path, three):
    with started(tmp_path, 3, *LINE) as lines:
        wait_until(lambda: (tmp_path / RUN / "checkpoints" / "last.pt").exists())
        lines[1].signal(signal.SIGKILL)
        assert [line.wait() for line in lines] == [1, -signal.SIGKILL, 1]
        assert "another process of this run died" in lines[0].output
        assert not lines[2].output
    ended(tmp_path, 3, "resume", RUN)
    assert_identical(tmp_path / RUN, three)


def test_it_may_go_on_in_another_number_of_processes(tmp_path):
    for count, length in ((3, 1), (1, 2), (2, 3)):
        words = ["resume", RUN, f"epochs={length}", f"trainer.devices={count}"] if length > 1 else [*LINE, "epochs=1"]
        ended(tmp_path, count, *words)
    record = record_of(tmp_path / RUN)
    assert record["steps"] == 3 * 26
    changes = [" ".join(entry["changed"]) for entry in record["resumed"]]
    assert all("trainer.devices" in change for change in changes), changes


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise ArithmeticError('too hot')", "error: process 1 of 2 failed: ArithmeticError: too hot"),
        ("inputs = inputs * float('nan')", "not finite"),  # told as on one device: all processes see it
    ],
    ids=["an error", "NaN"],
)
def test_what_goes_wrong_in_one_process_ends_all_and_is_told_once(tmp_path, code, message):
    (tmp_path / "mine.py").write_text(
        "import os\nfrom mlprun.models.mlp import MLP\n\n\nclass Model(MLP):\n"
        "    def forward(self, inputs):\n"
        "        if self.training and os.environ['RANK'] == '1':\n"
        f"            {code}\n"
        "        return super().forward(inputs)\n"
    )
    with started(tmp_path, 2, *LINE, "model._target_=mine.Model") as lines:
        assert [line.wait() for line in lines] == [1, 1]
        assert lines[0].output.count("error: ") == 1
        assert message in lines[0].output
        assert not lines[1].output
    assert message.removeprefix("error: ") in record_of(tmp_path / RUN)["error"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-m", "seed=1,2"], "-m: is a sweep, and torchrun starts one run"),
        (["trainer.devices=3"], "trainer.devices=3: and torchrun has started 2 processes"),
        (["trainer.sync_batchnorm=true"], "trainer.sync_batchnorm=true: needs GPUs"),
        (["optim.lr=x"], "optim.lr"),
    ],
    ids=["a sweep", "another number", "batch norm", "a value"],
)
def test_what_cannot_work_is_told_once_and_ends_all(tmp_path, words, message):
    with started(tmp_path, 2, *words) as lines:
        statuses = [line.wait() for line in lines]
        assert statuses[0] == 2
        assert statuses[1] != 0
        assert lines[0].output.count("error: ") == 1
        assert message in lines[0].output
        assert not lines[1].output


def test_a_verb_that_trains_nothing_ends_all(tmp_path, three):
    assert "val/loss" in ended(tmp_path, 2, "show", str(three))


@pytest.mark.long
def test_twenty_sigkills_of_random_processes(tmp_path, three):
    chance = random.Random(0)
    for _ in range(20):
        words = ["resume", RUN] if (tmp_path / RUN / "run.json").exists() else LINE
        with started(tmp_path, 3, *words) as lines:
            wait_until(lambda first=lines[0]: "\nstep " in first.output or not first.is_alive)
            time.sleep(chance.uniform(0.0, 0.05))
            lines[chance.randrange(3)].signal(signal.SIGKILL)
            assert all(line.wait() in (0, 1, -signal.SIGKILL) for line in lines)
    ended(tmp_path, 3, "resume", RUN)
    assert_identical(tmp_path / RUN, three)


@pytest.mark.long
def test_from_four_processes_to_two_to_one_to_three(tmp_path):
    for count, length in ((4, 1), (2, 2), (1, 3), (3, 4)):
        ended(tmp_path, count, *(["resume", RUN, f"epochs={length}"] if length > 1 else [*LINE, "epochs=1"]))
    ended(tmp_path, 1, *LINE, "model.dropout=0", "hydra.run.dir=one")
    assert record_of(tmp_path / RUN)["steps"] == record_of(tmp_path / "one")["steps"]


@pytest.mark.long
def test_a_time_limit_ends_all(tmp_path):
    with started(tmp_path, 2, *LINE, "epochs=9999", "trainer.max_time=3s") as lines:
        assert [line.wait() for line in lines] == [128 + signal.SIGTERM] * 2
    assert record_of(tmp_path / RUN)["stopped_by"] == "trainer.max_time"


@pytest.mark.long
def test_a_sweep_of_runs_in_two_processes_and_its_bits_again(mlprun_shell):
    words = ["-m", *LINE[1:], "trainer.devices=2", "seed=0,1", "epochs=1", "sweep.name=two"]
    result = mlprun_shell(*words)
    assert result.status == 0, result.err
    assert {record_of(run)["config"]["trainer"]["devices"] for run in result.runs} == {2}
    again = mlprun_shell("reproduce", str(result.runs[0]))
    assert again.status == 0, again.out
    assert "identical" in again.out


@pytest.mark.long
def test_trainer_devices_starts_the_processes(mlprun_shell):
    result = mlprun_shell(*LINE, "trainer.devices=2", "epochs=1")
    assert result.status == 0, result.err
    assert json.loads((result.folder / RUN / "run.json").read_text())["config"]["trainer"]["devices"] == 2
