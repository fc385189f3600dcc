"""The leaderboard: best first, what chance may explain, what failed, and a file with every digit."""

from __future__ import annotations

import csv
import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from mlprun.analysis.columns import View
from mlprun.analysis.configurations import configurations
from mlprun.analysis.diff import MISSING
from mlprun.analysis.leaderboard import WIDTH, leaderboard, write_csv
from mlprun.errors import RunError
from mlprun.runs.collect import read_runs
from mlprun.runs.record import read_record
from tests.helpers.records import run, seeds, write_runs


def read_csv(folder: Path) -> list[dict[str, str]]:
    with (folder / "leaderboard.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_whole_page():
    runs = [
        *seeds("optim.lr=0.1", values=[0.62, 0.58, 0.66]),
        *seeds("optim.lr=0.01", values=[0.50, 0.52, 0.48]),
        *seeds("optim.lr=0.003", values=[0.50, 0.60, 0.49]),
        run("optim.lr=0.01", "seed=3", value=None, status="failed", error="step 7: not finite\nmore", metrics={}),
        run("optim.lr=1e+30", "seed=0", name="b", status="failed", error="step 1: not finite", metrics={}),
        run("optim.lr=1e+30", "seed=1", name="a", status="interrupted", steps=7, num_steps=20, metrics=MISSING),
        run("optim.lr=0.5", "seed=1", name="c", status="running", metrics=MISSING, elapsed_sec=MISSING),
    ]
    first = int(runs[0][0].name)
    assert leaderboard(runs) == [
        "digits  val/loss (lower is better)  5 configurations, 13 runs, 2 failed",
        "      optim.lr       n  val/loss      sd    ±95%  test/loss  test/accuracy  sec",
        "1         0.01  3 of 4    0.5000  0.0200  0.0497     0.5000         0.7500  2.0",
        "2  =     0.003       3    0.5300  0.0608  0.1511     0.5000         0.7500  2.0",
        "3          0.1       3    0.6200  0.0400  0.0994     0.5000         0.7500  2.0",
        "         1e+30  0 of 2    failed",
        "           0.5  0 of 1   running",
        "= not separable from the best at 3 seeds (Welch's t-test, 95%): 1 configuration",
        "of the best's 4 runs, 1 failed: its mean leaves them out",
        "best    mlprun optim.lr=0.01",
        f"run     outputs/sweeps/it/{first + 5}  best of 3 seeds",
        "",
        "interrupted  outputs/sweeps/it/a  step 7 of 20",
        "running      outputs/sweeps/it/c",
        "",
        f"failed  outputs/sweeps/it/{first + 9}",
        "  step 7: not finite",
        "failed  outputs/sweeps/it/b",
        "  step 1: not finite",
    ]


def test_nothing_found():
    assert leaderboard([]) == ["no runs"]


def test_higher_is_better_for_accuracy():
    runs = [
        run("monitor=val/accuracy", f"optim.lr={lr}", f"seed={seed}", value=value)
        for lr, value in (("0.1", 0.5), ("0.2", 0.9), ("0.3", 0.7))
        for seed, value in enumerate((value, value + 0.05))
    ]
    lines = leaderboard(runs)
    assert lines[0] == "digits  val/accuracy (higher is better)  3 configurations, 6 runs"
    assert [line.split()[1] for line in lines if re.match(r"\d ", line)] == ["0.2", "0.3", "0.1"]
    assert f"run     {runs[3][0]}  best of 2 seeds" in lines


def test_other_data_and_other_metrics_are_tables_of_their_own(tmp_path):
    runs = [
        run("optim.lr=0.1", value=0.9),
        run("data.name=iris", "optim.lr=0.1", value=0.1),
        run("monitor=val/accuracy", "optim.lr=0.1", value=0.2),
        run("data.name=diabetes", value=70.0, metrics={"val/loss": 70.0, "test/loss": 80.0, "test/r2": 0.5}),
        run("data.name=own", value=70.0, metrics={"val/loss": 7.0, "test/loss": 8.0}),
        run("optim.lr=0.2", value=0.3),
    ]
    lines = leaderboard(runs)
    titles = [line for line in lines if "is better" in line]
    assert titles == [
        "digits  val/loss (lower is better)  2 configurations, 2 runs",
        "iris  val/loss (lower is better)  1 configuration, 1 run",
        "digits  val/accuracy (higher is better)  1 configuration, 1 run",
        "diabetes  val/loss (lower is better)  1 configuration, 1 run",
        "own  val/loss (lower is better)  1 configuration, 1 run",
    ]
    scores = [" ".join(re.findall(r"test/(\w+)", line)) for line in lines if "sec" in line]
    assert scores == ["loss accuracy", "loss accuracy", "accuracy", "loss r2", "loss"]
    assert len([line for line in lines if line.startswith("best ")]) == 5
    write_csv(runs, tmp_path / "leaderboard.csv")
    rows = read_csv(tmp_path)
    assert [(row["rank"], row["data"], row["monitor"], row["mean"]) for row in rows] == [
        ("1", "digits", "val/loss", "0.3"),
        ("2", "digits", "val/loss", "0.9"),
        ("1", "iris", "val/loss", "0.1"),
        ("1", "digits", "val/accuracy", "0.2"),
        ("1", "diabetes", "val/loss", "70.0"),
        ("1", "own", "val/loss", "7.0"),
    ]
    assert [row["test/accuracy_mean"] for row in rows] == ["0.75"] * 4 + ["", ""]
    assert [row["test/r2_mean"] for row in rows] == [""] * 4 + ["0.5", ""]


CLOSE, FAR, MIDDLE = [0.50, 0.52, 0.48], [0.90, 0.92, 0.88], [0.51, 0.49, 0.53]


@pytest.mark.parametrize(
    ("samples", "marks", "note"),
    [
        ([[0.5], [0.6]], ["", ""], "one seed each: differences may be chance; add seed=0,1,2,3,4"),
        ([CLOSE, FAR], ["", ""], "the best is separable from all others at 3 seeds (Welch's t-test, 95%)"),
        ([CLOSE, MIDDLE, FAR], ["", "=", ""],
         "= not separable from the best at 3 seeds (Welch's t-test, 95%): 1 configuration"),
        ([CLOSE, [*MIDDLE, 0.5], [0.55, 0.45]], ["", "=", "="],
         "= not separable from the best at 2-4 seeds (Welch's t-test, 95%): 2 configurations"),
        ([[0.4], CLOSE, FAR], ["", "?", "?"], "? not tested, needs 2 or more seeds: 2 configurations"),
        ([CLOSE, FAR, [0.95]], ["", "", "?"], "? not tested, needs 2 or more seeds: 1 configuration"),
        ([CLOSE, FAR, [0.95]], ["", "", "?"],
         "the best is separable from the others at 3 seeds (Welch's t-test, 95%)"),
        ([CLOSE], [""], None),
    ],
)  # fmt: skip
def test_what_chance_may_explain_is_marked(tmp_path, samples, marks, note):
    runs = [r for i, values in enumerate(samples) for r in seeds(f"optim.lr=0.{i + 1}", values=values)]
    lines = leaderboard(runs)
    assert [re.match(r"\d  ([=?]?)", line)[1] for line in lines[2 : 2 + len(samples)]] == marks
    notes = [line for line in lines if re.search("separable|tested|one seed", line)]
    assert note in notes if note else not notes
    write_csv(runs, tmp_path / "leaderboard.csv")
    expected = {"=": "false", "?": "", "": "" if max(map(len, samples)) == 1 else "true"}
    assert [row["separable_from_best"] for row in read_csv(tmp_path)] == ["", *(expected[mark] for mark in marks[1:])]


def test_other_losses_are_said_to_be_not_comparable():
    note = "the losses differ, so val/loss does not compare them: choose another monitor"
    assert note in leaderboard([run("loss.label_smoothing=0.0"), run("loss.label_smoothing=0.1")])
    assert note not in leaderboard([run("optim.lr=0.1"), run("optim.lr=0.2")])
    accuracy = [run("monitor=val/accuracy", f"loss.label_smoothing={x}") for x in (0.0, 0.1)]
    assert not any("losses differ" in line for line in leaderboard(accuracy))


@pytest.mark.parametrize(
    ("lines", "record", "expected"),
    [
        (["optim.lr=0.1", "seed=3"], {}, ["optim.lr=0.1"]),
        (["model=mlp", "model.hidden=[4, 8]", "+model.note=it's"], {},
         ["model=mlp", "model.hidden=[4, 8]", "+model.note=it's"]),
        (["data.limit=5"], {"overrides": ["hydra.job.num=3", "sweep.name=mine", "seed=1", "+seed=2", "data.limit=5"]},
         ["data.limit=5"]),
        (["optim.lr=0.1"], {"command": "mlprun -m --config-dir 'my conf' optim.lr=0.1,0.2"},
         ["--config-dir", "my conf", "optim.lr=0.1"]),
        (["optim.lr=0.1"], {"command": "mlprun optim.lr=0.1 -m --config-dir=mine -cn other"},
         ["--config-dir=mine", "-cn", "other", "optim.lr=0.1"]),
        (["epochs=12"], {"resumed": [{"changed": ["epochs: 10 | 12"]}], "overrides": ["epochs=10"]}, ["epochs=12"]),
        (["steps=12"], {"resumed": [{"step": 3}, {"changed": ["steps: null | 12"]}], "overrides": []}, ["steps=12"]),
        (["epochs=12"], {"command": "mlprun 'open", "resumed": []}, ["epochs=12"]),
    ],
)  # fmt: skip
def test_the_best_as_a_line_to_paste(lines, record, expected):
    runs = [run(*lines, value=0.1, **{"overrides": lines, **record}), run("optim.lr=0.7", "seed=3", value=0.5)]
    (line,) = [line for line in leaderboard(runs) if line.startswith("best ")]
    assert shlex.split(line) == ["best", "mlprun", *expected]


def test_the_line_is_of_the_original_where_there_is_one():
    again = run("epochs=3", "seed=0", command="mlprun reproduce x", reproduces="x")
    original = run("epochs=3", "seed=1", command="mlprun --config-dir mine epochs=3")
    assert "best    mlprun --config-dir mine epochs=3" in leaderboard([again, original])


def test_without_its_lines_the_best_is_reproduced():
    runs = [run("optim.lr=0.7", name="it's", overrides=MISSING)]
    assert "best    mlprun reproduce 'outputs/sweeps/it/it'\"'\"'s'" in leaderboard(runs)


def test_a_page_is_120_columns_and_no_more_rows_than_asked_for(tmp_path):
    runs = [
        run(
            f"model.hidden={[64] * 30}",
            f"optim.lr={i}",
            *(f"+model.argument_{k}={i}{'x' * 30}" for k in range(k)),
            value=i,
        )
        for i in range(60)
        for k in [12]
    ]
    lines = leaderboard(runs[:9])
    table = lines[: lines.index(next(line for line in lines if line.startswith("best")))]
    assert max(map(len, table)) <= WIDTH
    assert any(line.startswith("hidden columns: ") for line in table)
    assert "…" in table[2]
    few = leaderboard(runs, rows=7)
    assert [line.split()[0] for line in few[2:9]] == [str(i) for i in range(1, 8)]
    assert "… 53 more (mlprun runs --wide has all)" in few
    for view, number in ((View(), 50), (View(wide=True), 60)):
        assert sum(bool(re.match(r" *\d+ ", line)) for line in leaderboard(runs, view=view)) == number
    write_csv(runs, tmp_path / "leaderboard.csv")
    rows = read_csv(tmp_path)
    assert len(rows) == 60
    assert rows[7]["model.argument_3"] == f"7{'x' * 30}"


def test_words_stand_left_numbers_right_and_a_single_run_a_row_is_named():
    runs = [run("optim=adam", name="2026-11-21/long_name", value=0.1), run("optim=sgd", name="2026-11-22/b", value=12)]
    assert leaderboard(runs)[1:4] == [
        "   optim  val/loss  test/loss  test/accuracy  sec  run",
        "1  adam     0.1000     0.5000         0.7500  2.0  2026-11-21/long_name",
        "2  sgd     12.0000     0.5000         0.7500  2.0  2026-11-22/b",
    ]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.5, 1e5], ["0.5000", "100000.0000"]),
        ([2.05, 2.06], ["2.0500", "2.0600"]),
        ([123.456, 1e9], ["123.5", "1e+09"]),
        ([41056.5, 41057.75], ["41056", "41058"]),
        ([0.00012345, 0.5], ["0.0001234", "0.5000000"]),
        ([1e-12, 0.5], ["1e-12", "0.50000000"]),
        ([0.0, 0.00001], ["0.00000000", "0.00001000"]),
        ([-3.5, 2.0], ["-3.5000", "2.0000"]),
    ],
)
def test_numbers_show_what_distinguishes_them(values, shown):
    lines = leaderboard([run(f"optim.lr=0.{i + 1}", value=value) for i, value in enumerate(values)])
    assert [line.split()[2] for line in lines[2:4]] == shown


@pytest.mark.parametrize(
    ("lrs", "shown"),
    [
        (["0.0536176423869913", "1.2345678e-05", "0.1"], ["0.05362", "1.235e-05", "0.1"]),
        (["0.1000000001", "0.1000000002"], ["0.1000000001", "0.1000000002"]),  # else they would look alike
        (["0.0536176423869913", "null"], ["0.05362", "null"]),
    ],
)
def test_values_with_many_digits_are_rounded_on_the_page_alone(tmp_path, lrs, shown):
    runs = [run(f"optim.lr={lr}", value=i) for i, lr in enumerate(lrs)]
    lines = leaderboard(runs)
    assert [line.split()[1] for line in lines[2 : 2 + len(lrs)]] == shown
    assert f"best    mlprun optim.lr={lrs[0]}" in lines
    write_csv(runs, tmp_path / "leaderboard.csv")
    assert [row["optim.lr"] for row in read_csv(tmp_path)] == lrs


def test_a_small_spread_has_two_digits():
    lines = leaderboard(seeds("optim.lr=0.1", values=[0.5, 0.500034]))
    assert lines[2].split()[2:5] == ["0.5000", "0.000024", "0.000216"]


def test_long_lists_of_failures_are_cut():
    runs = [run(f"optim.lr={i + 1}", name=f"{i}", status="failed", error="x" * 300, metrics={}) for i in range(14)]
    lines = leaderboard(runs)
    assert [line for line in lines if line.startswith("failed ")] == [
        f"failed  outputs/sweeps/it/{i}" for i in range(10)
    ]
    assert lines[-1] == "… 4 more failed"
    unfinished = [run(f"optim.lr={i + 1}", status="running", metrics={}) for i in range(12)]
    assert leaderboard(unfinished)[-2:] == [f"running  {unfinished[9][0]}", "… 2 more unfinished"]
    assert max(map(len, lines)) <= WIDTH
    assert not any(line.startswith(("best", "run ")) for line in lines)


def test_a_failure_names_its_log(tmp_path):
    path, record = run("optim.lr=1", name="a", status="failed", error="step 1: not finite", metrics={})
    completed = run("optim.lr=1", name="b", value=None)
    write_runs(tmp_path, [(path, record), completed])
    (tmp_path / path / "train.log").write_text("")
    assert leaderboard(read_runs(tmp_path))[-4:] == [
        f"failed  {tmp_path / path / 'train.log'}",
        "  step 1: not finite",
        f"failed  {tmp_path / completed[0]}",
        "  no finite value to rank it by",
    ]


def test_one_of_several_values_of_a_metric_is_monitored(tmp_path):
    scores = {"val/recall/cat": 0.5, "test/recall/cat": 0.625, "test/accuracy": 0.75}
    runs = [run("monitor=val/recall/cat", metrics=scores, higher_is_better={"recall": True})]
    lines = leaderboard(runs)
    assert lines[0].startswith("digits  val/recall/cat (higher is better)")
    assert lines[1].split()[:2] == ["val/recall/cat", "test/recall/cat"]
    assert lines[2].split()[1:3] == ["0.5000", "0.6250"]
    write_csv(runs, tmp_path / "leaderboard.csv")
    assert "test/recall/cat_mean" in (tmp_path / "leaderboard.csv").read_text()


def test_the_csv_has_every_digit(tmp_path):
    values = {"0.1": [0.1 + 0.2, 1 / 3, 2 / 3], "0.2": [5.1, 5.2], "0.3": [7.0]}
    runs = [r for lr, some in values.items() for r in seeds(f"optim.lr={lr}", '+model.note=a;"b,', values=some)]
    runs += [run("optim.lr=0.1", '+model.note=a;"b,', "seed=7", status="failed", name="x", metrics={})]
    runs += [run("optim.lr=0.4", '+model.note=a;"b,', status="running", name="y", metrics=MISSING)]
    file = tmp_path / "leaderboard.csv"
    write_csv([(tmp_path / path, record) for path, record in runs], file)
    assert b"\r" not in file.read_bytes()
    rows = read_csv(tmp_path)
    assert list(rows[0]) == [
        "rank", "optim.lr", "n", "data", "monitor", "mean", "sd", "ci95_low", "ci95_high", "test/loss_mean",
        "test/accuracy_mean", "elapsed_sec_mean", "separable_from_best", "runs", "failed_runs", "unfinished_runs",
    ]  # fmt: skip
    assert [(row["rank"], row["optim.lr"], row["n"]) for row in rows] == [
        ("1", "0.1", "3"), ("2", "0.2", "2"), ("3", "0.3", "1"), ("", "0.4", "0"),
    ]  # fmt: skip
    for row, some in zip(rows, values.values(), strict=False):
        assert float(row["mean"]) == pytest.approx(np.mean(some), rel=1e-15)
        if len(some) > 1:
            assert float(row["sd"]) == pytest.approx(np.std(some, ddof=1), rel=1e-14)
            limits = stats.t.interval(0.95, len(some) - 1, loc=np.mean(some), scale=stats.sem(some))
            assert (float(row["ci95_low"]), float(row["ci95_high"])) == pytest.approx(limits, rel=1e-9)
    assert [rows[2][key] for key in ("sd", "ci95_low", "ci95_high", "separable_from_best")] == [""] * 4
    assert [row["elapsed_sec_mean"] for row in rows] == ["2.0", "2.0", "2.0", ""]
    assert [Path(name).name for name in rows[0]["runs"].split(";")] == [path.name for path, _ in runs[:3]]
    assert (tmp_path / rows[0]["runs"].split(";")[0]) == tmp_path / runs[0][0]
    assert [(row["failed_runs"], row["unfinished_runs"]) for row in rows] == [
        ("outputs/sweeps/it/x", ""), ("", ""), ("", ""), ("", "outputs/sweeps/it/y"),
    ]  # fmt: skip


def test_a_csv_of_nothing_has_its_header(tmp_path):
    write_csv([], tmp_path / "leaderboard.csv")
    assert (tmp_path / "leaderboard.csv").read_text().startswith("rank,n,data,monitor,mean,sd,")


def test_the_csv_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "leaderboard.csv"
    write_csv([run(value=0.5)], file)
    before = file.read_text()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RunError, match=r"leaderboard\.csv cannot be written: No space left on device"):
        write_csv([run(value=0.25)], file)
    assert file.read_text() == before
    assert os.listdir(tmp_path) == ["leaderboard.csv"]


def test_a_real_sweep_and_its_best_line(mlprun):
    line = ["debug=fast", "data=iris", "optim=sgd", "model.hidden=[4],[4,4]", "optim.lr=0.1,1e30", "seed=0,1"]
    assert mlprun("-m", *line).status == 1
    runs = read_runs(Path("outputs"))
    assert len(runs) == 8
    lines = leaderboard(runs)
    assert lines[0] == "iris  val/loss (lower is better)  4 configurations, 8 runs, 4 failed"
    assert lines[1].split()[:4] == ["model.hidden", "optim.lr", "n", "val/loss"]
    logs = [Path(found[1]) for line in lines if (found := re.match(r"failed  (\S.*train\.log)$", line))]
    assert len(logs) == 4
    assert all("not finite" in log.read_text() for log in logs)

    best, *_ = sorted((c for c in configurations(runs) if c.runs), key=lambda c: np.mean(c.values))
    (to_paste,) = [line.removeprefix("best ") for line in lines if line.startswith("best ")]
    assert mlprun(*shlex.split(to_paste)[1:], "seed=1", "hydra.run.dir=again").status == 0
    again = read_record(Path("again/run.json"))
    ((_, original),) = [run for run in best.runs if run[1]["config"]["seed"] == 1]
    assert again["metrics"] == original["metrics"]
    assert len(configurations([*runs, (Path("again"), again)])) == 4


def test_what_is_equal_is_not_called_best():
    """A swept key that the monitor cannot see, or that moves the last bits only."""
    equal = [run("trainer.accumulate=1", value=0.1853), run("trainer.accumulate=4", value=0.1853 * (1 + 1e-7))]
    shown = "\n".join(leaderboard(equal))
    assert "the first 2 are equal in val/loss: it does not choose between them" in shown
    assert "\nequal   mlprun" in shown
    assert "best " not in shown
    shown = "\n".join(leaderboard([equal[0], run("trainer.accumulate=4", value=0.1854)]))
    assert "\nbest    mlprun" in shown
