"""What the runs of `sweep.confirm` say."""

from __future__ import annotations

from mlprun.analysis.configurations import comparable_blocks, configurations
from mlprun.analysis.confirmation import confirmation_lines, confirmed_of
from mlprun.analysis.leaderboard import leaderboard, typed_rows
from tests.helpers.trials import a_run

# In the sweep 0.3 and 0.4, on fresh seeds the other way round.
SWEPT = {0.1: [0.3], 0.2: [0.4], 0.3: [0.9]}
FRESH = {0.1: [0.5, 0.6, 0.7], 0.2: [0.45, 0.56, 0.64]}


def runs(monitor="val/loss", sign=1.0, fresh=FRESH, status="completed"):
    found = [a_run(i, sign * value, lr=lr, monitor=monitor) for i, (lr, (value,)) in enumerate(SWEPT.items())]
    for lr, values in fresh.items():
        for seed, value in enumerate(values, 1000):
            path, record = a_run(seed, sign * value, status, lr=lr, seed=seed, monitor=monitor)
            record.config["sweep"] = {"confirms": True}
            found.append((path / str(lr), record))
    return found


def test_fresh_seeds_neither_rank_nor_are_ranked():
    (block,) = comparable_blocks(configurations(runs()))
    assert [(entry.values, len(entry.confirming)) for entry in block.ranked] == [([0.3], 3), ([0.4], 3), ([0.9], 0)]
    rows = typed_rows(runs())
    assert [row["confirmed_n"] for row in rows] == [3, 3, 0]
    assert [row["n"] for row in rows] == [1, 1, 1]
    assert "confirmed_n" not in typed_rows(runs(fresh={}))[0]


def test_the_difference_is_on_the_same_seeds_and_optimism_has_a_direction():
    for monitor, sign in (("val/loss", 1.0), ("val/accuracy", -1.0)):
        (block,) = comparable_blocks(configurations(runs(monitor, sign)))
        first, second = confirmed_of(block)
        assert (first.rank, second.rank) == (1, 2)
        assert round(first.optimism, 6) == 0.3, "the sweep flattered it, whatever the direction"
        assert first.against is None
        assert second.against is not None
        assert round(second.against.difference, 6) == sign * -0.05


def test_the_leaderboard_has_a_table_of_its_own_for_them():
    lines = leaderboard(runs())
    at = lines.index("confirmed on 3 fresh seeds (1000 to 1002), which did not select them")
    assert lines[0] == "digits  val/loss (lower is better)  3 configurations, 3 runs"
    header, first, second, *notes = lines[at + 1 :]
    assert header.split() == ["n", "in", "the", "sweep", "val/loss", "sd", "difference", "±95%", "p"]
    assert first.split() == ["1", "optim.lr=0.1", "3", "0.3000", "0.6000", "0.1000"]
    assert second.split() == ["2", "optim.lr=0.2", "3", "0.4000", "0.5500", "0.0954", "-0.0500", "0.0248", "0.013"]
    assert notes == [
        "1: val/loss 0.3000 in the sweep, 0.6000 on fresh seeds: the sweep flattered it by 0.3000",
        "better than 1 on fresh seeds: 2",
        "separable from 1: 2 on the same seeds (paired t-test, 95%, not corrected for several)",
    ]


def test_runs_that_failed_again_are_listed_and_not_averaged():
    failed = runs(status="failed")
    assert confirmation_lines(comparable_blocks(configurations(failed))[0]) == []
    assert sum(line.startswith("failed") for line in leaderboard(failed)) == 6


def test_where_there_are_no_others_they_are_ranked():
    fresh = [run for run in runs() if run[1].config["seed"] >= 1000]
    assert [len(entry.runs) for entry in configurations(fresh)] == [3, 3]
