"""Results compare if the data, its splits and, for val/loss, the losses are the same; only these are ranked."""

from __future__ import annotations

import re

import pytest

from mlprun.analysis.configurations import configurations
from mlprun.analysis.leaderboard import leaderboard, write_csv
from tests.helpers.records import SHA, run

FOLDER = "data.dataset._target_=mlprun.data.text.documents.text_folder"


def data(letter: str, **digests) -> dict:
    return {"fingerprints": {"texts": SHA[letter]}, "sizes": {"val": 9}, "digests": digests}


def tables(runs) -> list[str]:
    return [line for line in leaderboard(runs) if "is better" in line]


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        (("data.split_seed=0",), ("data.split_seed=1",), "data.split_seed=0"),
        (("data.val_fraction=0.1",), ("data.val_fraction=0.2",), "data.val_fraction=0.1"),
        (("data.limit_eval=8",), ("data.limit_eval=null",), "data.limit_eval=8"),
        (("data.root=/a", "data.dataset.root=/a"), ("data.root=/b", "data.dataset.root=/b"), "data.root=/a"),
        (("data.normalize_targets=true",), ("data.normalize_targets=false",), "data.normalize_targets=true"),
        (("loss.label_smoothing=0.1",), ("loss.label_smoothing=0.2",), "loss.label_smoothing=0.1"),
        (('task={"beta": 1}',), ('task={"beta": 4}',), "task.beta=1"),
    ],
)
def test_what_does_not_compare_is_no_ranking_and_has_no_best(first, second, why):
    runs = [run(FOLDER, *first, value=0.5), run(FOLDER, *second, value=0.4)]
    lines = leaderboard(runs)
    assert len(tables(runs)) == 2
    assert f"not comparable with the other tables of digits: {why}" in lines
    assert not any(re.match("best|equal|run ", line) for line in lines)


def test_what_compares_is_ranked_within_its_table(tmp_path):
    runs = [run(f"data.split_seed={seed}", f"optim.lr={lr}", value=lr * (seed + 1)) for seed in (0, 1) for lr in (1, 2)]
    lines = leaderboard(runs)
    assert [line for line in lines if line.startswith("best")] == [
        f"best    mlprun data.split_seed={seed} optim.lr=1" for seed in (0, 1)
    ]
    write_csv(runs, tmp_path / "leaderboard.csv")
    rows = (tmp_path / "leaderboard.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == ["1", "2", "1", "2"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("data.limit=10",), ("data.limit=20",)),
        (("model.dropout=0.1",), ("model.dropout=0.2",)),
        (("monitor=val/mae", "loss.beta=1"), ("monitor=val/mae", "loss.beta=2")),
        (("monitor=val/r2", "data.normalize_targets=true"), ("monitor=val/r2", "data.normalize_targets=false")),
        (("data.root=/a",), ("data.root=/b",)),  # which the data set does not use
    ],
)
def test_what_changes_neither_the_examples_nor_the_loss_compares(first, second):
    assert len(tables([run(*first), run(*second)])) == 1


def test_seeds_on_changed_data_are_not_averaged():
    runs = [
        run(FOLDER, f"seed={i}", value=v, data=data(d)) for i, (v, d) in enumerate([(0.1, "a"), (0.2, "a"), (0.9, "b")])
    ]
    assert [c.values for c in configurations(runs)] == [[0.1, 0.2], [0.9]]
    lines = leaderboard(runs)
    assert f"not comparable with the other tables of digits: texts=sha256:{'a' * 12}" in lines
    assert not any(line.startswith("best") for line in lines)


def test_changed_examples_of_unchanged_files_are_told_too():
    runs = [run(FOLDER, f"seed={i}", data=data("a", train=SHA[d], val=SHA[d])) for i, d in enumerate("bbc")]
    assert [c.num_runs for c in configurations(runs)] == [2, 1]
    assert any(
        "other tables of digits: examples.train=sha256:bbbbbbbbbbbb, examples.val=" in x for x in leaderboard(runs)
    )


def test_examples_that_are_encoded_otherwise_compare():
    """Longer texts are other tensors, but the same texts."""
    runs = [run(FOLDER, f"data.limit={n}", data=data("a", val=SHA["abcd"[n]])) for n in range(3)]
    assert len(tables(runs)) == 1


def test_data_that_was_moved_compares_if_the_examples_are_known():
    roots = [("data.root=/a", "data.dataset.root=/a"), ("data.root=/b", "data.dataset.root=/b")]
    for digests, count in (({"val": SHA["c"]}, 1), ({}, 2)):
        assert len(tables([run(FOLDER, *root, data=data("a", **digests)) for root in roots])) == count


def test_a_record_of_an_older_version_compares_with_any():
    runs = [run(FOLDER, "seed=0"), run(FOLDER, "seed=1", data=data("a", val=SHA["c"])), run(FOLDER, "seed=2")]
    assert [c.num_runs for c in configurations(runs)] == [3]
