"""`last`: the newest run, wherever a run directory is expected."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mlprun.cli.last import newest_run, newest_run_or_sweep
from mlprun.cli.verbs import parser_of
from mlprun.errors import RunError
from tests.helpers.lines import finish
from tests.helpers.runs import RUN, record_of


def record(path: str, started_at: str = "", *, text: str = "", sweep: bool = False) -> Path:
    folder = Path(path)
    folder.mkdir(parents=True)
    values = {"status": "running", "started_at": started_at, "config": {"monitor": "val/loss"}}
    (folder / "run.json").write_text(text or json.dumps(values))
    if sweep:
        (folder.parent / "sweep.json").write_text("{}")
    return folder


def test_the_run_that_was_begun_last_is_taken_and_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for take in (newest_run, newest_run_or_sweep):
        with pytest.raises(RunError, match=r"^last: there is no run in outputs\n  name a run"):
            take("last")
    record("outputs/damaged", text="{")
    record("outputs/2026-11-22/09-00-00_b", "2026-11-22T09:00:00+00:00")
    record("outputs/renamed", "2026-11-22T10:00:00+00:00")
    record("elsewhere/a", "2026-11-24T10:00:00+00:00")
    assert newest_run("last") == newest_run_or_sweep("last") == Path("outputs/renamed")
    point = record("outputs/sweeps/lr/seed=1_ab", "2026-11-23T10:00:00+00:00", sweep=True)
    capsys.readouterr()
    assert (newest_run("last"), newest_run_or_sweep("last")) == (point, point.parent)
    assert capsys.readouterr().err == "last    outputs/sweeps/lr/seed=1_ab\nlast    outputs/sweeps/lr\n"
    assert newest_run("./last") == Path("./last")
    Path("last").mkdir()
    assert newest_run("last") == Path("last")  # a folder of that name is what was typed


@pytest.mark.parametrize("verb", ["show", "eval", "predict", "resume", "reproduce", "plot"])
def test_every_verb_with_a_run_directory_takes_it(verb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    point = record("outputs/sweeps/lr/seed=1_ab", "2026-11-23T10:00:00+00:00", sweep=True)
    options = vars(parser_of(verb)[1].parse_args(["last"]))
    taken = point.parent if verb in ("resume", "plot") else point
    assert options.get("run", options.get("paths")) in (taken, [taken])


def test_a_record_holds_the_run_and_not_the_word(finished, tmp_path):
    source = finished("debug=fast", "data=iris", "model=linear")
    shutil.copytree(source, tmp_path / "outputs" / RUN)
    assert finish(tmp_path, "show", "last").startswith(f"last    outputs/{RUN}\nrun            outputs/{RUN}\n")
    finish(tmp_path, "reproduce", "last")
    [again] = tmp_path.glob("outputs/*/*_again_*")
    assert record_of(again)["command"] == f"mlprun reproduce outputs/{RUN}"
