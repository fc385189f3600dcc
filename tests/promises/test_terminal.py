"""Terminals of several sizes and kinds, real ones: what they show, and what a pipe gets."""

from __future__ import annotations

import re

import pytest

from tests.helpers.sweeps import FAST
from tests.helpers.terminal import ESCAPE, in_terminal, lines_of

RUN = [*FAST, "trainer.accumulate=4", "hydra.run.dir=a"]
SWEEP = ["-m", *FAST, "optim=sgd", "optim.lr=0.1,1e30", "seed=0,1", "sweep.name=s"]


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (200, 50), (40, 12)])
def test_lines_fit_a_terminal(tmp_path, columns, rows):
    status, sent = in_terminal(tmp_path, *RUN, columns=columns, rows=rows)
    assert status == 0, sent
    lines = lines_of(sent)
    assert lines[0] == "run     a", "at once, before torch is imported"
    fitted = [line for line in lines if line.startswith((" " * 10, "step "))]  # paths and commands are for pasting
    assert len(fitted) >= 4 + 3
    assert max(map(len, fitted)) <= columns, fitted
    assert "length  8 steps of 32 examples, 4 x 8 by trainer.accumulate" in lines
    evaluations = [line for line in lines if line.startswith("step ")]
    assert len(evaluations) == 3
    for name, least in (("val/loss", 40), ("accuracy", 80), ("epoch", 80), ("val/macro_f1", 200)):
        assert all((name in line) == (columns >= least) for line in evaluations), (name, evaluations)
    assert "\x1b[1;32mval/loss" in sent
    assert re.search(r"/8 \[.*loss \d", sent), "the bar shows the loss"

    status, sent = in_terminal(tmp_path, *SWEEP, columns=columns, rows=rows)
    assert status == 1
    failures = [line for line in sent.split("\n") if "/4  \x1b[31mfailed" in line]
    assert len(failures) == 2
    assert all(len(line) <= columns for line in lines_of("\n".join(failures)))
    table = lines_of(sent)
    table = table[table.index(next(line for line in table if "optim.lr" in line and "val/loss" in line)) :][:3]
    assert max(map(len, table)) <= columns
    assert ("sec" in table[0]) == (columns > 40)


KINDS = [
    ({}, True, True),
    ({"NO_COLOR": "1"}, False, True),
    ({"TERM": "dumb"}, False, False),
    ({"PYTHONIOENCODING": "ascii"}, True, True),
]


@pytest.mark.parametrize(("environment", "coloured", "barred"), KINDS)
@pytest.mark.parametrize("words", [["lr=3"], RUN])
def test_colour_and_bars_are_for_terminals_that_show_them(tmp_path, words, environment, coloured, barred):
    status, sent = in_terminal(tmp_path, *words, **environment)
    assert status == (2 if words == ["lr=3"] else 0), sent
    assert bool(ESCAPE.search(sent)) is coloured
    if words == RUN:
        assert ("%|" in sent) is barred
    if environment.get("PYTHONIOENCODING"):
        assert sent.isascii()


def test_a_pipe_gets_plain_lines(mlprun_process):
    results = [mlprun_process(*words, TERM="xterm") for words in (["lr=3"], RUN, SWEEP, ["runs", "--debug"])]
    assert not any(re.search(r"[\x1b\r]", result.out + result.err) for result in results)
    assert results[2].out.startswith("check   4 runs before the first starts\nsweep   4 of 4 runs to do")
