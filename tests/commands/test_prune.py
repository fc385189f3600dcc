"""`mlprun prune`: what it shows, asks and removes."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import jsonschema
import pytest

from mlprun.sweep.forkserver import OUTPUT
from tests.helpers.curves import make_run
from tests.helpers.sweeps import FAST, SWEEPS, records

BOOLEAN, NUMBER = {"type": "boolean"}, {"type": "number"}
SCHEMA = {
    "type": "object",
    "required": ["folder", "runs", "kept", "freed_bytes"],
    "additionalProperties": False,
    "properties": {
        "folder": {"type": "string"},
        "kept": {"type": "object", "additionalProperties": {"type": "string"}},
        "freed_bytes": {"type": "integer"},
        "runs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["path", "status", "debug", "bytes", "age_sec", "removed"],
                "additionalProperties": False,
                "properties": {
                    "path": {"type": "string"},
                    "status": {"enum": ["failed", "interrupted", "killed", "completed"]},
                    **dict.fromkeys(("debug", "removed"), BOOLEAN),
                    **dict.fromkeys(("bytes", "age_sec"), NUMBER),
                },
            },
        },
    },
}


@pytest.fixture
def outputs(tmp_path) -> Path:
    make_run(tmp_path / "outputs/good")
    make_run(tmp_path / "outputs/failed", status="failed")
    make_run(tmp_path / "outputs/killed", status="running", lr=0.5)
    return tmp_path / "outputs"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("answer", "stays"), [("y\n", False), ("\n", True), ("n\n", True), ("", True)])
def test_it_asks(mlprun, outputs, monkeypatch, answer, stays):
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    result = mlprun("prune")
    lines = result.out.splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [["outputs/failed", "failed"], ["outputs/killed", "killed"]]
    assert lines[3].startswith("remove 2 runs, 16 KiB? [y/N]")
    assert (result.status, names(outputs)) == (0, ["failed", "good", "killed"] if stays else ["good"])
    assert result.out.endswith("2 runs, 16 KiB: nothing is removed\n" if stays else "removed 2 runs: 16 KiB freed\n")


@pytest.mark.parametrize(
    ("words", "status", "stay"),
    [
        (["--yes"], 0, ["good"]),
        (["--dry-run"], 0, ["failed", "good", "killed"]),
        (["--yes", "--where", "status=killed and optim.lr=0.5"], 0, ["failed", "good"]),
        ([], 2, ["failed", "good", "killed"]),
        (["--json"], 2, ["failed", "good", "killed"]),
        (["nowhere", "--yes"], 1, ["failed", "good", "killed"]),
    ],
)
def test_without_a_terminal_an_option_decides(mlprun, outputs, words, status, stay):
    result = mlprun("prune", *words)
    assert (result.status, names(outputs)) == (status, stay)
    assert status == 0 or "add --yes, or --dry-run" in result.err or "there is no such folder" in result.err


def test_json(mlprun, outputs):
    (outputs / "failed/mine.txt").touch()
    said = json.loads(mlprun("prune", "--json", "--yes").out)
    jsonschema.validate(said, SCHEMA)
    assert [(each["path"], each["removed"]) for each in said["runs"]] == [("outputs/killed", True)]
    assert said["kept"] == {"outputs/failed": "it holds mine.txt, which is not mlprun's"}
    assert said["freed_bytes"] == said["runs"][0]["bytes"]


def test_nothing_that_a_run_writes_is_taken_for_the_users(mlprun, tmp_path):
    words = ["scheduler=range_test", "optim.lr=1", "trainer.profile=true", "logging.pictures=[misclassified]"]
    assert mlprun("debug=fast", *words).status == 0
    (run,) = tmp_path.glob("outputs/2*/*")
    (run / OUTPUT).touch()
    assert mlprun("plot", str(run)).status == 0
    assert {"trace.json", "lr_range.png", "pictures", "curves.png", OUTPUT} <= {*names(run)}
    result = mlprun("prune", "--yes")
    assert (result.status, "kept" in result.out, run.exists()) == (0, False, False)


def test_a_sweep_runs_again_what_was_removed(mlprun, tmp_path):
    line = ["-m", *FAST, "optim=sgd", "optim.lr=0.1,1e30", "sweep.name=s", "hydra/launcher=basic"]
    assert mlprun(*line).status == 1
    sweep = tmp_path / SWEEPS / "s"
    before = records(sweep)
    assert sorted(record["status"] for record in before.values()) == ["completed", "failed"]
    assert mlprun("prune", "--yes", "--where", "status=failed").out.endswith("freed\n")
    assert [record["status"] for record in records(sweep).values()] == ["completed"]
    assert "1e+30" not in (sweep / "leaderboard.csv").read_text()
    assert mlprun("runs", "--debug", str(sweep)).status == 0
    again = mlprun("resume", str(sweep))
    assert (again.status, "sweep   1 of 2 runs to do" in again.out) == (1, True)
    assert {name: record["status"] for name, record in records(sweep).items()} == {
        name: record["status"] for name, record in before.items()
    }
