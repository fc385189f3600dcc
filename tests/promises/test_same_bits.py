"""The same line gives the same bits, and its own directory."""

from __future__ import annotations

import re

from mlprun.runs.directory import RunDirectory
from tests.helpers.lines import Line
from tests.helpers.runs import record_of, rows_of, same, weights_of


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(mlprun_process):
    lines = (["seed=0"], ["seed=0"], ["seed=1"])
    first, again, other = [
        mlprun_process("debug=fast", "model.dropout=0.2", *line, f"hydra.run.dir=outputs/{i}").folder / f"outputs/{i}"
        for i, line in enumerate(lines)
    ]
    assert same(weights_of(first), weights_of(again))
    assert rows_of(first) == rows_of(again)
    assert not same(weights_of(first), weights_of(other))
    assert record_of(first)["seed"] == 0, "0 is a seed"


def test_six_runs_started_in_the_same_second_have_six_directories(tmp_path):
    # all of them with the very same name to begin with: the claim has to keep them apart
    lines = [Line(tmp_path, "debug=one_batch", "data=iris") for _ in range(6)]
    assert [line.wait() for line in lines] == [0] * 6
    named = {re.findall(r"^run +(\S+)$", line.output, re.MULTILINE)[-1] for line in lines}
    assert len(named) == 6
    assert all(RunDirectory(tmp_path / name).read()["status"] == "completed" for name in named)
