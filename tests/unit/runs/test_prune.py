"""Which runs can go, and how they do."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mlprun.errors import RunError
from mlprun.runs.collect import read_runs
from mlprun.runs.prune import find, is_held, leftovers, remove_run, remove_tree
from tests.helpers.curves import CONFIG, make_run

HOLD = (
    "import sys, pathlib, time\n"
    "from mlprun.runs.directory import RunDirectory\n"
    "with RunDirectory(pathlib.Path(sys.argv[1])).held():\n"
    "    print('mine', flush=True)\n"
    "    time.sleep(60)\n"
)


@pytest.fixture
def outputs(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("outputs")


def found_in(folder: Path) -> dict[str, str]:
    return {each.path.name: each.record.status for each in find(folder)[0]}


def test_what_failed_was_stopped_or_killed_can_go_and_debug_runs(outputs):
    for status in ("completed", "pruned", "failed", "interrupted", "running"):
        make_run(outputs / status, status=status)
    make_run(outputs / "debug", overrides=["debug=fast"])
    assert found_in(outputs) == {
        "failed": "failed",
        "interrupted": "interrupted",
        "running": "killed",
        "debug": "completed",
    }


@pytest.mark.parametrize("held", ["a", "."])
def test_a_run_that_a_process_has_or_whose_sweep_goes_on_stays(outputs, held):
    make_run(outputs / "s/a", status="running")
    (outputs / "s/sweep.json").write_text("{}")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, outputs / "s" / held], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "mine\n"
        assert is_held(outputs / "s" / held)
        candidates, kept = find(outputs)
        other.kill()
    # the record of the first says that it is running, and it is
    assert (candidates, kept) == ([], {} if held == "a" else {outputs / "s/a": "a process has it, or its sweep"})
    assert found_in(outputs) == {"a": "killed"}


def test_what_may_not_be_mlpruns_alone_stays(outputs, tmp_path):
    make_run(outputs / "mine", status="failed")
    (outputs / "mine/thesis.tex").touch()
    make_run(outputs / "damaged", status="failed")
    (outputs / "damaged/run.json").write_text('{"name": "of another program"}')
    make_run(outputs / "start", overrides=["debug=fast"])
    named = {**CONFIG, "trainer": {"weights": "outputs/start/checkpoints/best.pt"}}
    make_run(outputs / "fine_tuned", config=named, folder=str(tmp_path))
    make_run(tmp_path / "elsewhere", status="failed")
    (outputs / "link").symlink_to(tmp_path / "elsewhere")
    candidates, kept = find(outputs)
    assert candidates == []
    assert {path.name: reason for path, reason in kept.items()} == {
        "mine": "it holds thesis.tex, which is not mlprun's",
        "damaged": "run.json is damaged: it holds no config with a monitor",
        "start": "outputs/fine_tuned began with its weights or vocabulary",
    }
    assert find(Path("outputs/link"))[1] == {Path("outputs/link"): "it is a link"}
    make_run(tmp_path / "here", status="failed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path / "here")
        assert find(Path())[1] == {Path(): "the current folder is in it"}


def test_a_run_is_removed_with_the_folders_that_were_only_for_it(outputs, tmp_path):
    (tmp_path / "precious").write_text("kept")
    run = make_run(outputs / "2026-11-27/a", status="failed")
    (run / "pictures").symlink_to(tmp_path)
    (outputs / "2026-11-27/.gitignore").write_text("*\n")
    ((candidate,), _) = find(outputs)
    assert candidate.num_bytes >= 8192
    remove_run(candidate, outputs)
    assert list(outputs.iterdir()) == []
    assert (tmp_path / "precious").read_text() == "kept"


def test_a_run_that_has_been_resumed_since_stays(outputs):
    run = make_run(outputs / "a", status="interrupted")
    ((candidate,), _) = find(outputs)
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "status": "completed"}))
    with pytest.raises(RunError, match="outputs/a is completed now, and stays"):
        remove_run(candidate, outputs)
    assert [path for path, _ in read_runs(outputs)] == [run]


def test_a_removal_that_is_stopped_leaves_no_run_and_is_finished_by_the_next(outputs, monkeypatch):
    make_run(outputs / "a", status="failed")
    ((candidate,), _) = find(outputs)

    def killed(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            remove_run(candidate, outputs)
    assert read_runs(outputs) == []
    (left,) = leftovers(outputs)
    assert (left / "run.json").is_file()
    assert remove_tree(left) >= 8192
    assert list(outputs.iterdir()) == []
