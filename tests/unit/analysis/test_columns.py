"""The leaderboard sorted, with chosen columns, and as wide as it is; the same as CSV and as rows."""

from __future__ import annotations

import csv

import pytest

from mlprun.analysis.columns import View
from mlprun.analysis.leaderboard import csv_text, leaderboard, typed_rows
from mlprun.errors import ConfigError
from tests.helpers.records import run, seeds

RUNS = [
    *seeds("optim.lr=0.1", values=[0.62, 0.58], elapsed_sec=3.0),
    run("optim.lr=0.02", value=0.5, metrics={"val/loss": 0.5, "val/accuracy": 0.6}, elapsed_sec=5.0),
    run("optim.lr=0.003", value=0.7, metrics={"val/loss": 0.7, "val/accuracy": 0.9}, elapsed_sec=4.0),
    run("optim.lr=1.0", status="failed", metrics={}),
    run("data.name=iris", value=0.4, elapsed_sec=1.0),
]


@pytest.mark.parametrize(
    ("sort", "rates"),
    [
        ("", [0.02, 0.1, 0.003, 1.0]),
        ("optim.lr", [0.003, 0.02, 0.1, 1.0]),
        ("val/accuracy", [0.003, 0.02, 0.1, 1.0]),  # high is best; the others have none
        ("val/loss", [0.02, 0.1, 0.003, 1.0]),
        ("mean", [0.02, 0.1, 0.003, 1.0]),
        ("elapsed_sec_mean", [0.1, 0.003, 0.02, 1.0]),
        ("n", [1.0, 0.02, 0.003, 0.1]),
    ],
)
def test_sorted_in_rows_and_in_the_terminal_alike(sort, rates):
    runs = RUNS[:-1]
    assert [row["optim.lr"] for row in typed_rows(runs, View(sort))] == rates
    lines = leaderboard(runs, view=View(sort, columns=["optim.lr"]))
    assert [float(line.split()[-1]) for line in lines[2:6]] == rates


def test_what_lacks_the_key_is_last_either_way():
    for reverse, rates in ((False, [0.003, 0.02, 0.1, 1.0]), (True, [0.02, 0.003, 0.1, 1.0])):
        assert [row["optim.lr"] for row in typed_rows(RUNS[:-1], View("val/accuracy", reverse))] == rates


def test_the_rank_stays_that_of_the_result():
    lines = leaderboard(RUNS, view=View("optim.lr", columns=["optim.lr", "val/accuracy", "seed", "model"]))
    assert lines[1:6] == [
        "      optim.lr  val/accuracy  seed  model",
        "3  ?     0.003        0.9000  0     mlp",
        "1         0.02        0.6000  0     mlp",
        "2  ?       0.1                0,1   mlp",
        "             1                0     mlp",
    ]


def test_a_column_of_any_kind():
    view = View("elapsed_sec_mean", columns=["data", "rank", "model.hidden", "val/loss"])
    assert typed_rows(RUNS, view)[:2] == [
        {"data": "iris", "rank": 1, "model.hidden": "[128,64]", "val/loss": 0.4},
        {"data": "digits", "rank": 2, "model.hidden": "[128,64]", "val/loss": 0.6},
    ]
    assert list(csv.reader(csv_text(RUNS, view).splitlines()))[:2] == [
        ["data", "rank", "model.hidden", "val/loss"],
        ["iris", "1", "[128,64]", "0.4"],
    ]


@pytest.mark.parametrize("option", ["--sort", "--columns"])
@pytest.mark.parametrize("show", [typed_rows, leaderboard])
def test_a_column_that_is_none(option, show):
    view = View("optm.lr") if option == "--sort" else View(columns=["optm.lr"])
    with pytest.raises(ConfigError, match=rf"{option}=optm\.lr: neither .*\n.*did you mean 'optim\.lr'"):
        show(RUNS, view=view)


def test_wide_hides_and_shortens_nothing(monkeypatch):
    monkeypatch.setattr("mlprun.analysis.leaderboard.width", lambda _: 40)
    runs = [run(f"model.hidden={[width] * 20}", "seed=0", value=0.5) for width in (10, 20)]
    assert max(map(len, leaderboard(runs)[1:4])) <= 40
    assert "hidden columns: " in leaderboard(runs)[4]
    table = leaderboard(runs, view=View(wide=True))[1:4]
    assert f"[{','.join(['10'] * 20)}]" in "".join(table)
    assert {"val/loss", "test/accuracy", "sec", "run"} <= {*table[0].split()}
