"""`sweep.confirm`: the best again, with fresh seeds."""

from __future__ import annotations

import shutil

from tests.helpers.sweeps import FAST, SWEEPS, records


def test_the_best_are_run_again_and_reported_apart(mlprun):
    line = ["-m", *FAST, "optim.lr=0.1,0.01", "seed=0,1", "sweep.name=c", "sweep.confirm_seeds=2"]
    refused = mlprun(*line, "sweep.confirm=3")
    assert refused.err.startswith("error: sweep.confirm=3: the sweep has 2 configurations, apart from seeds\n")
    assert not (refused.folder / SWEEPS / "c").exists()
    line += ["sweep.confirm=1"]
    dry = mlprun(*line, "sweep.dry_run=true")
    assert dry.out.endswith("then 1 best configuration again, each with seed=1000, 1001\n")
    result = mlprun(*line)
    assert result.status == 0, result.err
    folder = result.folder / SWEEPS / "c"
    assert "confirm 2 of 2 runs to do, with fresh seeds" in result.out
    assert "2 configurations, 4 runs" in result.out, "the fresh seeds rank nothing"
    assert "confirmed on 2 fresh seeds (1000 to 1001), which did not select them" in result.out
    added = {name: run for name, run in records(folder).items() if run["config"]["sweep"]["confirms"]}
    assert sorted(run["config"]["seed"] for run in added.values()) == [1000, 1001]
    assert len({run["config"]["optim"]["lr"] for run in added.values()}) == 1
    assert "left out" not in mlprun("plot", str(folder)).err

    shutil.rmtree(folder / next(iter(added)))  # as if it had been killed before that
    again = mlprun(*line)
    assert "0 of 4 runs to do" in again.out
    assert "confirm 1 of 2 runs to do" in again.out
    more = mlprun("resume", str(folder), "sweep.confirm=2")
    assert "confirm 2 of 4 runs to do" in more.out
    assert len(records(folder)) == 8
