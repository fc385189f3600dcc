"""Runs that differ in their seed alone are one configuration, called by what differs."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import pytest

from mlprun.analysis.configurations import configurations, typed_values
from mlprun.analysis.leaderboard import leaderboard, write_csv
from mlprun.runs.record import RunRecord
from tests.helpers.records import run


def read_csv(folder: Path) -> list[dict[str, str]]:
    with (folder / "leaderboard.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    "lines",
    [
        ("seed=0", "seed=1"),
        ("device=cpu", "device=cuda"),
        ("checkpoint.every=1 step", "checkpoint.every=5%"),
        ("logging.every=1 step", "logging.every=5%"),
        ("trainer.max_time=1h", "trainer.max_time=2h"),
        ("sweep.name=a", "sweep.name=b"),
        ("data.root=/a", "data.root=/b"),
        ("optim.lr=1", "optim.lr=1.0"),
        ("optim.lr=1e-3", "epochs=10"),
        ("optim=adam", "seed=4"),
    ],
)
def test_runs_of_one_configuration_are_averaged(lines):
    runs = [run(lines[0], "seed=8", value=0.5), run(lines[1], "seed=9", value=0.25)]
    (found,) = configurations(runs)
    assert found.values == [0.5, 0.25]
    titles = leaderboard(runs)[1].split()
    assert titles == ["n", "val/loss", "sd", "±95%", "test/loss", "test/accuracy", "sec"]


@pytest.mark.parametrize(
    ("lines", "key", "cells"),
    [
        (("optim.lr=0.1", "optim.lr=0.01"), "optim.lr", ["0.1", "0.01"]),
        (("optim.lr=0.1", "epochs=10"), "optim.lr", ["0.1", "0.001"]),  # a default that was not typed
        (("optim.lr=1e-5", "optim.lr=100000.5"), "optim.lr", ["1e-05", "100000.5"]),
        (("optim=sgd", "optim=adam"), "optim", ["sgd", "adam"]),
        (("model=linear", "model=mlp"), "model", ["linear", "mlp"]),
        (("model=linear", "epochs=10"), "model", ["linear", "mlp"]),
        (("model._target_=my.Net", "model=mlp"), "model._target_", ["my.Net", "mlp"]),
        (("model.hidden=[4]", "model.hidden=[4, 8]"), "model.hidden", ["[4]", "[4,8]"]),
        (("trainer.grad_clip=1.5", "trainer.grad_clip=null"), "trainer.grad_clip", ["1.5", "null"]),
        (("steps=7", "steps=8"), "steps", ["7", "8"]),
        (("data.limit=7", "data.limit=8"), "data.limit", ["7", "8"]),
        (("+model.width=7", "epochs=10"), "model.width", ["7", ""]),
    ],
)
def test_the_keys_that_differ_are_columns(tmp_path, lines, key, cells):
    runs = [run(line, "seed=3", value=value) for line, value in zip(lines, (0.25, 0.5), strict=True)]
    write_csv(runs, tmp_path / "leaderboard.csv")
    rows = read_csv(tmp_path)
    assert [row[key] for row in rows] == cells
    assert list(rows[0])[1:3] == [key, "n"], "and no other"


def test_keys_stand_in_the_order_they_were_typed_and_what_all_share_is_left_out(tmp_path):
    grid = itertools.product(
        ("optim=sgd", "optim=adam"), ("epochs=1", "epochs=2"), ("data.limit=5",), ("seed=0", "seed=1")
    )
    runs = [run(*lines, value=i) for i, lines in enumerate(grid)]
    write_csv(runs, tmp_path / "leaderboard.csv")
    rows = read_csv(tmp_path)
    assert list(rows[0])[:4] == ["rank", "optim", "epochs", "n"]
    assert [(row["optim"], row["epochs"], row["n"]) for row in rows] == [
        ("sgd", "1", "2"), ("sgd", "2", "2"), ("adam", "1", "2"), ("adam", "2", "2"),
    ]  # fmt: skip


def test_a_choice_that_the_config_does_not_hold_is_shown_as_typed(tmp_path):
    runs = [run(f"epochs={i}", overrides=[f"experiment={name}"], value=i) for i, name in enumerate("ab")]
    write_csv([*runs, run("epochs=2", overrides=[], value=2)], tmp_path / "leaderboard.csv")
    rows = read_csv(tmp_path)
    assert list(rows[0])[1:3] == ["experiment", "n"]
    assert [row["experiment"] for row in rows] == ["a", "b", ""]


def test_a_choice_that_was_not_typed_is_called_as_others_typed_it():
    typed = run("optim=adam", "optim.lr=0.5", value=1.0), run("optim=sgd", value=2.0)
    (lines,) = [leaderboard([*typed, run("optim.lr=0.7", value=3.0)])]
    assert [line.split()[1:3] for line in lines[1:5]] == [
        ["optim.lr", "val/loss"], ["adam", "0.5"], ["sgd", "0.1"], ["adam", "0.7"],
    ]  # fmt: skip


def test_a_choice_keeps_its_own_word_where_others_differ_only_in_typed_keys():
    runs = [run("optim=sgd", value=1.0), run("optim=sgd", "optim.lr=0.7", value=2.0)]
    runs[1][1]["overrides"] = ["optim=mine", "optim.lr=0.7"]
    assert [line.split()[1:3] for line in leaderboard(runs)[1:4]] == [
        ["optim.lr", "val/loss"], ["sgd", "0.1"], ["mine", "0.7"],
    ]  # fmt: skip


def test_what_nobody_typed_is_shown_where_else_two_rows_would_look_alike(tmp_path):
    runs = [run(value=0.5), run(value=0.25)]
    runs[1][1]["config"]["model"]["dropout"] = 0.5  # a YAML file was edited
    runs[1][1]["config"]["model"]["hidden"] = [1]
    write_csv(runs, tmp_path / "leaderboard.csv")
    rows = read_csv(tmp_path)
    assert list(rows[0])[1:3] == ["model.hidden", "n"]
    assert [row["model.hidden"] for row in rows] == ["[1]", "[128,64]"]


def test_a_seed_counts_once():
    runs = [
        run("seed=0", value=0.5, name="older", started_at="2026-11-21T10:00:00+00:00"),
        run("seed=0", value=0.25, name="newer", started_at="2026-11-22T10:00:00+00:00"),
        run("seed=1", value=0.75, name="original", started_at="2026-11-21T10:00:00+00:00"),
        run("seed=1", value=0.75, name="again", started_at="2026-11-23T10:00:00+00:00", reproduces="original"),
    ]
    (found,) = configurations(runs)
    assert [path.name for path, _ in found.runs] == ["newer", "original"]
    assert "2 older runs of the same seed: ignored" in leaderboard(runs)


def folds(lr: str, values: list[float], **record) -> list:
    made = []
    for fold, value in enumerate(values):
        data = {"sizes": {"val": 9}, "digests": {"val": f"{record.get('digests', '')}{fold}"}}
        line = f"optim.lr={lr}", "data.num_folds=3", f"data.fold={fold}", f"seed={record.get('seed', 0)}"
        made.append(run(*line, value=value, data=data))
    return made


def test_folds_are_averaged_as_seeds_are(tmp_path):
    """Each has val examples of its own, and the configurations compare fold by fold."""
    runs = [*folds("0.1", [0.5, 0.25, 0.75]), *folds("0.2", [0.5, 1.5, 1.0])]
    write_csv(runs, tmp_path / "leaderboard.csv")
    rows = read_csv(tmp_path)
    assert [(row["optim.lr"], row["n"], row["mean"]) for row in rows] == [("0.1", "3", "0.5"), ("0.2", "3", "1.0")]
    assert "data.fold" not in rows[0]
    lines = leaderboard(runs)
    assert "= not separable from the best at 3 folds (Welch's t-test, 95%): 1 configuration" in lines
    assert any("best of 3 folds" in line for line in lines)
    assert any("folds share training examples" in line for line in lines)
    assert "best    mlprun optim.lr=0.1" in lines  # which trains on all of them


def test_folds_of_several_seeds_and_other_folds_of_changed_data():
    both = [*folds("0.1", [0.5, 0.25, 0.75]), *folds("0.1", [0.5, 0.25, 0.75], seed=1)]
    (found,) = configurations(both)
    assert (len(found.runs), found.varied) == (6, "run")
    changed = folds("0.1", [0.5, 0.25, 0.75], digests="other ")
    assert len(configurations([*folds("0.1", [0.5, 0.25, 0.75]), *changed])) == 2
    ordinary = run("optim.lr=0.1", value=0.25)
    assert len([line for line in leaderboard([*both, ordinary]) if "is better" in line]) == 2  # other val examples


def test_a_choice_for_a_group_of_parameters_is_not_the_optimizers():
    record = RunRecord({"overrides": ["optim=adamw", "+optim@optim.groups.matrices=muon", "experiment@_global_=a"]})
    assert typed_values(record) == {"optim": "adamw", "optim.groups.matrices": "muon", "experiment": "a"}
