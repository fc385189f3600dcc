"""`mlprun -m`: the points of a sweep, where they lie, what is done again, and the answer."""

from __future__ import annotations

import csv
import itertools
import json
import re
from pathlib import Path

import pytest

from tests.helpers.files import write
from tests.helpers.runs import record_of
from tests.helpers.sweeps import FAST, SWEEPS, records


def leaderboard(folder: Path) -> list[dict[str, str]]:
    (file,) = folder.glob("**/leaderboard.csv")
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_a_grid_is_one_run_a_point_and_ends_with_a_leaderboard_best_first(mlprun):
    result = mlprun("-m", *FAST, "model=linear,mlp", "optim=sgd,adam", "seed=0,1")
    assert result.status == 0, result.err
    found = records(result.folder)
    assert {(r["config"]["seed"], tuple(r["overrides"])) for r in found.values()} == {
        (seed, ("debug=fast", "data=iris", f"model={model}", f"optim={optim}", f"seed={seed}"))
        for model in ("linear", "mlp")
        for optim in ("sgd", "adam")
        for seed in (0, 1)
    }
    assert len(found) == 8
    assert all(re.fullmatch(r"model=\w+,optim=\w+,seed=\d_[0-9a-f]{10}", name) for name in found)
    rows = leaderboard(result.folder)
    assert [(int(row["rank"]), int(row["n"])) for row in rows] == [(1, 2), (2, 2), (3, 2), (4, 2)]
    means = [float(row["mean"]) for row in rows]
    assert means == sorted(means)
    shown = re.search(r"^best +(mlprun .*)$", result.out, re.MULTILINE)[1]
    assert shown == f"mlprun debug=fast data=iris model={rows[0]['model']} optim={rows[0]['optim']}"


def test_ranges_choices_and_globs_are_swept_as_hydra_does(mlprun):
    words = ["seed=range(0,2)", "data=glob(iri*)", "batch_size=choice(8,16)"]
    result = mlprun("-m", "debug=one_batch", *words)
    assert result.status == 0, result.err
    found = [(r["config"]["seed"], r["config"]["batch_size"]) for r in records(result.folder).values()]
    assert sorted(found) == [(0, 8), (0, 16), (1, 8), (1, 16)]


def test_a_point_that_is_named_twice_is_run_once(mlprun):
    result = mlprun("-m", *FAST, "optim.lr=0.1,1e-1,0.2")
    assert result.status == 0
    assert len(records(result.folder)) == 2
    assert "1 repeated point skipped" in result.err


def test_every_run_of_a_sweep_is_a_run_like_any_other(mlprun):
    result = mlprun("-m", *FAST, "seed=0,1")
    for run in result.runs:
        printed = mlprun("eval", str(run))
        assert printed.status == 0
        record = record_of(run)
        assert f"test/accuracy {record['metrics']['test/accuracy']}\n" in printed.out
        assert record["command"] == "mlprun -m debug=fast data=iris seed=0,1"
    assert mlprun("resume", str(result.runs[0])).status == 0


def test_a_dry_run_shows_the_points_and_runs_nothing(mlprun):
    line = ["-m", *FAST, "optim.lr=0.1,0.2", "sweep.name=dry"]
    result = mlprun(*line, "sweep.dry_run=true")
    assert result.status == 0
    assert re.search(r"^to do +[0-9a-f]{10}  optim\.lr=0\.1$", result.out, re.MULTILINE)
    assert "2 runs: 0 done, 2 to do" in result.out
    assert not (result.folder / "outputs").exists()
    assert mlprun(*line, "seed=0").status == 0
    again = mlprun("-m", *FAST, "optim.lr=0.1,0.2,0.3", "sweep.name=dry", "sweep.dry_run=true", "seed=0")
    assert "3 runs: 2 done, 1 to do" in again.out


def test_the_same_line_again_does_nothing_twice_and_a_wider_one_adds(mlprun):
    line = ["-m", *FAST, "sweep.name=search", "seed=0,1"]
    assert mlprun(*line, "optim.lr=0.1").status == 0
    folder = mlprun("--version").folder / SWEEPS / "search"
    before = {run: run.stat().st_mtime_ns for run in folder.glob("*/run.json")}
    assert len(before) == 2
    again = mlprun(*line, "optim.lr=0.1")
    assert again.status == 0
    assert "0 of 2 runs to do" in again.out
    wider = mlprun(*line, "optim.lr=0.1,0.2")
    assert wider.status == 0
    assert "2 of 4 runs to do" in wider.out
    assert {run: run.stat().st_mtime_ns for run in before} == before
    assert len(records(folder)) == 4
    assert [row["n"] for row in leaderboard(folder)] == ["2", "2"]
    assert json.loads((folder / "sweep.json").read_text())["status"] == "completed"


def test_code_that_changed_since_is_told(mlprun):
    folder = mlprun("--version").folder
    module = "import torch\ndef net():\n    return torch.nn.Linear(4, 3)\n"
    (folder / "my_net.py").write_text(module)
    line = ["-m", *FAST, "model=custom", "model._target_=my_net.net", "seed=0,1", "sweep.name=code"]
    assert mlprun(*line).status == 0
    assert "changed" not in mlprun(*line).err
    (folder / "my_net.py").write_text(module + "# another version\n")
    kept = mlprun(*line)
    assert "warning: my_net.py changed since 2 runs were made: kept; sweep.stale=redo runs them again" in kept.err
    assert "0 of 2 runs to do" in kept.out
    redone = mlprun(*line, "sweep.stale=redo")
    assert "2 of 2 runs to do" in redone.out
    assert "changed" not in mlprun(*line).err


ROWS = """
import torch
from mlprun.data.source import Examples, Source

def rows(path):
    table = torch.tensor([[float(x) for x in line.split(",")] for line in open(path)])
    return Source(Examples(table[:, :2], table[:, 2].long()))
"""


def test_data_that_changed_since_is_told_and_not_averaged(mlprun):
    folder, name = mlprun("--version").folder, "rows.csv"
    write(folder, {"users_rows.py": ROWS, name: "".join(f"{i % 5},{i % 4},{i % 2}\n" for i in range(60))})
    line = ["-m", "debug=fast", "data=custom", "data.dataset._target_=users_rows.rows", f"+data.dataset.path={name}"]
    line += ["data.input_shape=[2]", "data.num_outputs=2", "model=linear", "sweep.name=grown"]
    first = mlprun(*line, "seed=0,1")
    assert first.status == 0, first.err
    assert "changed" not in mlprun(*line, "seed=0,1").err
    (folder / name).write_text((folder / name).read_text().replace("3,3,1", "3,3,0"))
    wider = mlprun(*line, "seed=0,1,2")
    assert f"warning: {name} changed since 2 runs were made: kept; sweep.stale=redo runs them again" in wider.err
    assert "1 of 3 runs to do" in wider.out
    assert "not comparable with the other tables" in wider.out
    assert not re.search("^best", wider.out, re.MULTILINE)
    assert sorted(row["n"] for row in leaderboard(folder)) == ["1", "2"]
    assert mlprun(*line, "seed=0,1,2", "sweep.dry_run=true").out.count("outdated") == 2
    redone = mlprun(*line, "seed=0,1,2", "sweep.stale=redo")
    assert "2 of 3 runs to do" in redone.out
    assert [row["n"] for row in leaderboard(folder)] == ["3"]
    assert "changed" not in mlprun(*line, "seed=0,1,2").err


def test_folders_of_ones_own_are_swept_and_not_ranked(mlprun):
    folder = mlprun("--version").folder
    for root, kind in itertools.product(("old", "new"), ("good", "bad")):
        write(folder / root / kind, {f"{i}.txt": f"this is {kind} no {i} of {root}" for i in range(20)})
    result = mlprun("-m", "debug=fast", "data=text_folder", "data.root=old,new", "model=embedding_average")
    assert result.status == 0, result.err
    assert len(result.runs) == 2
    assert "not comparable with the other tables of text_folder: data.root=" in result.out
    refused = mlprun("-m", *FAST, "data.root=old,new")
    assert refused.err.startswith("error: data.root=new: takes one value in a sweep of data=iris")


def test_a_redo_that_cannot_work_leaves_what_there_was(mlprun):
    folder = mlprun("--version").folder
    (folder / "my_net2.py").write_text("import torch\ndef net():\n    return torch.nn.Linear(4, 3)\n")
    line = ["-m", *FAST, "model=custom", "model._target_=my_net2.net", "seed=0,1", "sweep.name=code"]
    assert mlprun(*line).status == 0
    # of another size too: a file of the same second and size would be taken for the one that is compiled already
    (folder / "my_net2.py").write_text("import torch\ndef net():\n    return torch.nn.Linear(55, 3)\n")
    assert mlprun(*line, "sweep.stale=redo").status == 2
    assert [record["status"] for record in records(folder).values()] == ["completed"] * 2


def test_a_folder_with_the_time_in_its_name_is_one_folder_and_the_users_own_gets_no_gitignore(mlprun):
    result = mlprun("-m", *FAST, "seed=0,1", "hydra.sweep.dir=mine/${now:%f}")
    assert result.status == 0, result.err
    assert len(list((result.folder / "mine").iterdir())) == 1
    assert not (result.folder / "mine" / ".gitignore").exists()
    single = mlprun(*FAST, "hydra.run.dir=own/${now:%f}")
    (directory,) = (single.folder / "own").iterdir()
    assert (directory / "run.json").exists()


def test_a_run_that_was_made_longer_is_not_the_sweeps_point_any_more(mlprun):
    line = ["-m", "data=iris", "epochs=1", "seed=0,1", "sweep.name=s"]
    run = mlprun(*line).folder / sorted((SWEEPS / "s").glob("seed=0*"))[0]
    assert mlprun("resume", str(run), "epochs=2").status == 0
    again = mlprun(*line)
    assert again.status == 1
    assert "its config was changed, by a resume perhaps" in again.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sweep.name=x"], "sweep.name=x: is for sweeps\n  add -m"),
        (["-m", "sweep.num_workers=1,2"], "sweep.num_workers=1,2: takes one value in a sweep"),
        (["-m", "device=cpu,auto"], "device=cpu,auto: takes one value in a sweep"),
        (["-m", "seed=0,1", "sweep.name=a b"], "sweep.name=a b: must be letters"),
        (["-m", "seed=0,1", "sweep.stale=maybe"], "sweep.stale=maybe: not known"),
        (["-m", "seed=0,1", "--cfg", "job"], "--cfg: shows one config"),
    ],
)
def test_what_makes_no_sense_is_said(mlprun, words, said):
    result = mlprun(*words)
    assert result.status == 2
    assert said in result.err


def test_a_sweep_without_a_terminal_says_how_long_it_will_take(mlprun):
    result = mlprun("-m", "seed=0,1,2", "debug=fast")
    lines = [line for line in result.out.splitlines() if re.match(r"\d/3 ", line)]
    assert [bool(re.search(r"  about \d+ (s|min) left$", line)) for line in lines] == [True, True, False]


def test_warnings_of_the_runs_are_repeated_once_with_their_number(mlprun, tmp_path):
    write(tmp_path, {f"d/{kind}/{i}.txt": f"{kind} {i} words" for kind in ("good", "bad") for i in range(20)})
    line = ["data=text_folder", "data.root=d", "model=embedding_average", "debug=fast", "data.text.max_length=2,3"]
    result = mlprun("-m", *line, "seed=0,1", "sweep.name=s")
    assert result.status == 0
    (told,) = [row for row in result.err.splitlines() if "texts are longer" in row]
    assert told.startswith("warning in 2 of 4 runs: 40 of 40 texts are longer than data.text.max_length=2")
