"""`mlprun resume`: what it refuses, what it says, and how a run is made longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.lines import finish
from tests.helpers.runs import RUN, record_of, rows_of


def test_torchs_own_schedulers_are_recomputed_too(tmp_path):
    words = [
        "data.limit=300", "scheduler=custom", "scheduler._target_=torch.optim.lr_scheduler.CosineAnnealingLR",
        "+scheduler.T_max=100%", "scheduler.warmup=2 steps", "optim=sgd",
    ]  # fmt: skip
    finish(tmp_path, *words, "epochs=6", "hydra.run.dir=long")
    finish(tmp_path, *words, "epochs=3", f"hydra.run.dir={RUN}")
    output = finish(tmp_path, "resume", RUN, "epochs=6")
    assert "the rates of CosineAnnealingLR up to step 30 were those of 30 steps" in output
    rates = [[row["optim/lr"] for row in rows_of(tmp_path / run)][3:] for run in (RUN, "long")]
    assert rates[0] == pytest.approx(rates[1], rel=1e-9)


def test_a_run_that_ended_off_its_period_says_so_when_it_goes_on(tmp_path):
    finish(tmp_path, "data.limit=300", "steps=10", "eval_every=4 steps", f"hydra.run.dir={RUN}")
    output = finish(tmp_path, "resume", RUN, "steps=20")
    assert "eval_every: the evaluation at step 10 was that of the end" in output
    record = record_of(tmp_path / RUN)
    assert (record["steps"], record["config"]["steps"], record["status"]) == (20, 20, "completed")


def test_what_is_done_is_not_done_again(mlprun, tmp_path):
    assert mlprun("debug=fast", f"hydra.run.dir={RUN}").status == 0

    def files() -> dict[Path, tuple[int, bytes]]:
        return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in (tmp_path / RUN).rglob("*") if p.is_file()}

    before = files()
    score = record_of(tmp_path / RUN)["metrics"]["test/loss"]
    for words in (["resume", RUN], ["resume", RUN, "logging.every=9 steps"], ["debug=fast", f"hydra.run.dir={RUN}"]):
        result = mlprun(*words)
        assert result.status == 0, result.err
        assert f"loss {score:.4f}" in result.out
    assert files() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["optim.lr=0.1"], "error: optim.lr=0.1: cannot change when a run is resumed"),
        (["seed=1"], "error: seed=1: cannot change when a run is resumed"),
        (["optim=sgd"], "error: optim=sgd: cannot change"),
        (["+foo=1"], "error: foo=1: cannot change"),
        (["epochs=1,2"], "error: epochs=1,2: takes one value"),
        (["epochs=many"], "error: epochs=many: must be a whole number"),
        (["checkpoint.evry=1 epoch"], "did you mean 'checkpoint.every'?"),
        (["checkpoint=fast"], "choose one of checkpoint.every, checkpoint.keep"),
        (["trainer.max_time=5"], "error: trainer.max_time=5: has no unit"),
        (["steps=1"], "error: steps=1: the run has done 4 steps already"),
        (["epochs=9"], "this run's length is steps=4, which takes precedence"),
        (["epochs"], "error: epochs: cannot be read"),
    ],
)
def test_what_cannot_change_is_refused_by_name(mlprun, trained, words, said):
    record = trained("data.limit=50", "steps=4") / "run.json"
    before = record.read_bytes()
    result = mlprun("resume", RUN, *words)
    assert result.status == 2
    assert said in result.err
    assert record.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ([], 2, "the following arguments are required: RUN_DIR"),
        (["nothing"], 1, "nothing is not a run: it has no run.json"),
        (["outputs"], 1, "outputs is not a run"),
        ([RUN, "--turst"], 2, "--turst: there is no such option\n  did you mean '--trust'?"),
    ],
)
def test_what_is_no_run(mlprun, tmp_path, words, status, said):
    (tmp_path / "outputs").mkdir()
    result = mlprun("resume", *words)
    assert (result.status, said in result.err) == (status, True), result.err
