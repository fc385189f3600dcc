"""`mlprun plot`: where the picture lies, and what is said."""

from __future__ import annotations

import hashlib
import json

import pytest
from PIL import Image

from mlprun.cli.sweep_summary import draw_search
from mlprun.runs.collect import read_runs
from tests.helpers.curves import make_run


@pytest.mark.parametrize(
    ("words", "picture"),
    [
        (["runs/a"], "runs/a/curves.png"),
        (["runs/a", "runs/b"], "runs/curves.png"),
        (["runs"], "runs/curves.png"),
        (["runs/a", "other/c"], "curves.png"),
        (["runs", "--output", "deep/all.svg"], "deep/all.svg"),
        (["runs/a", "--metric", "train/loss", "--x", "optim/lr"], "runs/a/curves.png"),
        (["runs/a", "--metric=val/accuracy,optim/lr", "--metric=val/loss", "--x=epoch"], "runs/a/curves.png"),
        (["runs", "--against", "optim.lr", "--metric", "test/accuracy"], "runs/curves.png"),
    ],
)
def test_the_picture_lies_in_the_folder_that_holds_all(mlprun, tmp_path, words, picture):
    for name, lr in (("runs/a", 0.1), ("runs/b", 0.01), ("other/c", 0.2)):
        make_run(tmp_path / name, lr=lr)
    result = mlprun("plot", *words)
    assert (result.status, result.out, result.err) == (0, f"{picture}\n", "")
    if picture.endswith(".png"):
        with Image.open(tmp_path / picture) as image:
            assert image.width >= 640
            assert len(image.getcolors(100_000)) > 3
    else:
        assert "<svg" in (tmp_path / picture).read_text()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["missing"], 1, "missing: there is no such folder"),
        (["empty"], 1, "empty: no run with anything in its metrics.jsonl"),
        (["a", "--metric", "val/acuracy"], 2, "--metric=val/acuracy: no row has it\n  did you mean 'val/accuracy'"),
        (["a", "--x", "epochs"], 2, "--x=epochs: no such axis\n  did you mean 'epoch'?"),
        (["a", "--x", "epoch", "--against", "seed"], 2, "--x=epoch: the horizontal axis is seed"),
        (["a", "--final"], 2, "--final: is for --against KEY"),
        (["a", "--size", "8"], 2, "--size=8: must be width x height in inches, 3 to 40 each, such as 8x5"),
        (["a", "--size", "8x500"], 2, "--size=8x500: must be width"),
        (["a", "--dpi", "5"], 2, "--dpi=5: must be 30 to 600"),
        (["a", "--of", "slicess"], 2, "--of=slicess: no such picture\n  did you mean 'slices'?"),
        (["a", "--of", "slices", "--x", "epoch"], 2, "--x: is for curves\n  leave it out, or --of slices"),
        (["a", "--of", "trials", "--output", "a.svg"], 2, "--output=a.svg: is one file for 4 pictures"),
        (["a", "--of", "importance"], 1, "the importance of keys needs 10 completed trials, and there are 1"),
        (["a", "--output", "curves.jpg"], 2, "--output=curves.jpg: is no picture"),
        (["a", "--output", "a/run.json/x.png"], 1, "a/run.json/x.png cannot be written"),
    ],
)
def test_bad_lines_are_one_message(mlprun, tmp_path, words, status, said):
    make_run(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    result = mlprun("plot", *words)
    assert (result.status, result.out) == (status, "")
    assert result.err.startswith(f"error: {said}")


def test_size_and_resolution(mlprun, tmp_path):
    make_run(tmp_path / "a")
    assert mlprun("plot", "a", "--size", "6x3.5", "--dpi", "150").status == 0
    with Image.open(tmp_path / "a/curves.png") as image:
        assert image.size == (900, 525)


def test_the_trials_of_a_sweep(mlprun, tmp_path):
    for i in range(4):
        make_run(tmp_path / "s" / f"r{i}", lr=0.1 * (i + 1), metrics={"val/loss": float(i)})
    result = mlprun("plot", "s", "--of", "trials")
    assert (result.status, result.out) == (0, "s/best_so_far.png\ns/slices.png\ns/parallel.png\n")
    assert result.err == "left out: the importance of keys needs 10 completed trials, and there are 4\n"
    (tmp_path / "s" / "trials.jsonl").touch()
    assert mlprun("plot", "s").out == result.out, "of a search, what is drawn by itself"
    assert mlprun("plot", "s", "--of", "curves").out == mlprun("plot", "s", "--x", "epoch").out == "s/curves.png\n"
    assert mlprun("plot", "s", "--of", "slices", "--output", "a.svg", "--log-y").status == 2, "a value is 0"
    assert mlprun("plot", "s", "--of", "slices", "--output", "a.svg").out == "a.svg\n"


def test_a_search_that_took_a_while_is_drawn_when_it_ends(tmp_path, capsys):
    ended = {"started_at": "2026-11-21T10:00:00+00:00", "ended_at": "2026-11-21T10:01:00+00:00"}
    for i in range(2):
        make_run(tmp_path / f"r{i}", lr=0.1 * (i + 1), elapsed_sec=20.0, metrics={"val/loss": float(i)}, **ended)
    draw_search(tmp_path, read_runs(tmp_path), 0)
    assert capsys.readouterr().out == f"plots   mlprun plot {tmp_path}\n"
    make_run(tmp_path / "r2", lr=1.0, elapsed_sec=20.0, **ended)
    draw_search(tmp_path, read_runs(tmp_path), 2)
    assert capsys.readouterr().out == "plots   best_so_far.png, slices.png, parallel.png\n"
    assert sorted(file.stem for file in tmp_path.glob("*.png")) == ["best_so_far", "parallel", "slices"]
    draw_search(tmp_path, read_runs(tmp_path), 3)
    assert capsys.readouterr().out == "", "nothing has changed"


def test_what_is_left_out_is_said(mlprun, tmp_path):
    make_run(tmp_path / "s" / "a")
    make_run(tmp_path / "s" / "b", seed=1, status="failed")
    assert (
        "left out (no row yet, another try of a seed, or not completed where others are): s/b\n"
        in mlprun("plot", "s").err
    )


def test_a_run_of_ours_is_drawn(mlprun):
    mlprun("-m", "debug=fast", "data=iris", "seed=0,1", "hydra/launcher=basic", "sweep.name=s")
    assert mlprun("plot", "outputs/sweeps/s").out == "outputs/sweeps/s/curves.png\n"
    mlprun("debug=fast", "data=diabetes", "hydra.run.dir=one")
    result = mlprun("plot", "one", "--x", "seconds")
    assert (result.status, result.out) == (0, "one/curves.png\n"), result.err


def test_rows_that_changed_since_the_end_of_the_run_are_drawn_with_a_warning(mlprun, tmp_path, caplog):
    run = make_run(tmp_path / "run")
    text = (run / "metrics.jsonl").read_text()
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "metrics_sha256": hashlib.sha256(text.encode()).hexdigest()}))
    assert mlprun("plot", "run").status == 0
    assert not caplog.messages
    (run / "metrics.jsonl").write_text(text.replace("4.0", "3.0"))
    assert mlprun("plot", "run").status == 0
    assert "run/metrics.jsonl has changed since it was written" in caplog.text
