"""`mlprun runs`: the leaderboard, any time, of the runs and in the form asked for."""

from __future__ import annotations

import csv
import json

import jsonschema

import mlprun as api
from tests.helpers.records import run, seeds, write_runs
from tests.helpers.sweeps import FAST

NUMBER = {"type": ["number", "null"]}
PATHS = {"type": "array", "items": {"type": "string"}}
SCHEMA = {
    "type": "object",
    "required": ["folder", "configurations", "unreadable"],
    "additionalProperties": False,
    "properties": {
        "folder": {"type": "string"},
        "unreadable": PATHS,
        "configurations": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["rank", "n", "data", "monitor", "mean", "runs", "failed_runs", "unfinished_runs"],
                "properties": {
                    "rank": {"type": ["integer", "null"]},
                    "n": {"type": "integer"},
                    "data": {"type": "string"},
                    "monitor": {"type": "string"},
                    "separable_from_best": {"type": ["boolean", "null"]},
                    **dict.fromkeys(("mean", "sd", "ci95_low", "ci95_high", "elapsed_sec_mean"), NUMBER),
                    **dict.fromkeys(("runs", "failed_runs", "unfinished_runs"), PATHS),
                },
            },
        },
    },
}


def test_runs_shows_the_leaderboard_any_time(mlprun):
    swept = mlprun("-m", *FAST, "optim.lr=0.1,0.2", "seed=0,1")
    shown = mlprun("runs", "outputs", "--debug")
    assert shown.status == 0
    table = swept.out[swept.out.index("iris") : swept.out.rindex("\nsweep ")]
    assert table.splitlines()[0] in shown.out
    assert "best    mlprun debug=fast data=iris optim.lr=" in shown.out
    assert mlprun("runs").out == "no runs\n4 debug runs left out; --debug includes them\n"
    nothing = mlprun("runs", "nowhere")
    assert nothing.status == 1
    assert "nowhere" in nothing.err


def test_the_runs_asked_for_in_every_form(mlprun, tmp_path, monkeypatch):
    failed = run("optim.lr=9", name="failed", status="failed", metrics={"val/loss": None})
    debug = run("debug=fast", name="debug", value=0.1)
    write_runs(tmp_path, [*seeds("optim.lr=0.1", values=[0.5, 0.6]), run("optim.lr=0.2", value=0.4), failed, debug])
    (tmp_path / "outputs/damaged").mkdir()
    (tmp_path / "outputs/damaged/run.json").write_text("{")
    shown = mlprun("runs", "--where", "val/loss<0.6", "--sort", "optim.lr", "--columns", "optim.lr,n,mean")
    assert shown.out.splitlines()[1:4] == ["   optim.lr  n    mean", "2       0.1  1  0.5000", "1       0.2  1  0.4000"]
    assert "\n2 of 5 runs: --where leaves out the others\n1 debug run left out" in shown.out

    every = mlprun("runs", "--debug", "--where", "status!=running")
    assert (every.status, "left out" in every.out, "leaves out" in every.out) == (0, False, False)

    written = mlprun("runs", "--json")
    found = json.loads(written.out)
    jsonschema.validate(found, SCHEMA)
    assert [row["rank"] for row in found["configurations"]] == [1, 2, None]
    assert found["configurations"][2]["failed_runs"] == ["outputs/sweeps/it/failed"]
    assert found["unreadable"] == ["outputs/damaged"]
    assert written.err == "1 debug run left out; --debug includes them\n"
    rows = list(csv.DictReader(mlprun("runs", "--csv", "--where=status=completed").out.splitlines()))
    assert [(row["optim.lr"], row["mean"]) for row in rows] == [("0.2", "0.4"), ("0.1", "0.55")]
    monkeypatch.chdir(tmp_path)
    selected = api.list_runs(where="val/loss<0.6 and optim.lr>0", sort="optim.lr", columns=["optim.lr", "mean"])
    assert selected[:1] == [{"optim.lr": 0.001, "mean": 0.1}]  # the debug run, which the command leaves out
    assert selected["mean"] == [0.1, 0.5, 0.4]


def test_what_cannot_be_shown(mlprun, tmp_path):
    write_runs(tmp_path, [run()])
    for words, message in (
        (["--where", "val/los<1"], "error: --where=val/los<1: no run has val/los\n  did you mean 'val/loss'"),
        (["--where", "a=1 or b=2"], "only `and` joins comparisons"),
        (["--sort", "optim.rl"], "error: --sort=optim.rl: neither a column, nor"),
        (["--columns", "mean,,n"], "error: --columns=mean,,n: a name is empty"),
        (["--columns", "maen"], "did you mean 'mean'"),
        (["--csv", "--json"], "not allowed with argument"),
        (["--json", "--wide"], "not allowed with argument"),
    ):
        refused = mlprun("runs", *words)
        assert (refused.status, refused.out) == (2, ""), words
        assert message in refused.err
