"""`mlprun -m` with an interval or a number of trials: a search."""

from __future__ import annotations

import json

import pytest

from mlprun.runs.trial_record import read_trials
from tests.helpers.sweeps import FAST, SWEEPS, records

LR = "optim.lr=tag(log,interval(1e-3,1e-1))"


def test_a_search_says_what_it_searches_and_repeats_each_trial_with_all_seeds(mlprun):
    line = ["-m", *FAST, LR, "model.hidden=choice([8],[8,8])", "seed=0,1", "sweep.num_trials=3", "sweep.name=found"]
    line += ["+optim.maximize=false"]
    dry = mlprun(*line, "sweep.dry_run=true")
    assert dry.out.splitlines() == [
        "optim.lr      0.001 to 0.1, on a log scale",
        "model.hidden  [8], [8,8]",
        "3 trials of 2 runs each, sampler auto",
    ]
    result = mlprun(*line)
    assert result.status == 0, result.err
    folder = result.folder / SWEEPS / "found"
    assert "search  optim.lr      0.001 to 0.1, on a log scale" in result.out
    assert "3 of 3 trials to do, sampler tpe" in result.out
    assert f"plots   mlprun plot {SWEEPS / 'found'}" in result.out
    assert json.loads((folder / "sweep.json").read_text())["scales"] == {"optim.lr": "log"}
    trials = read_trials(folder)
    runs = records(folder).values()
    assert sorted((run["config"]["optim"]["lr"], run["config"]["seed"]) for run in runs) == sorted(
        (float(f"{trial.values['optim.lr']:.6g}"), seed) for trial in trials for seed in (0, 1)
    )
    assert all(name.startswith("model.hidden=8") for name in records(folder)), "named after what is searched"
    again = mlprun(*line)
    assert "0 of 3 trials to do" in again.out
    more = mlprun("resume", str(folder), "sweep.num_trials=4")
    assert more.status == 0, more.err
    assert "1 of 4 trials to do" in more.out
    assert read_trials(folder)[:3] == trials
    assert len(records(folder)) == 8


def test_the_space_may_be_an_experiments_and_the_launcher_hydras(mlprun):
    folder = mlprun("--version").folder
    (folder / "mine" / "experiment").mkdir(parents=True)
    (folder / "mine" / "experiment" / "tuned.yaml").write_text(
        "# @package _global_\n"
        "hydra: {sweeper: {params: {optim.lr: 'interval(0.001,0.1)', batch_size: 'choice(8,16)'}}}\n"
        "sweep: {num_trials: 2, sampler: random, name: tuned}\n"
    )
    line = ["-m", *FAST, "--config-dir", "mine", "experiment=tuned"]
    assert mlprun(*line, "hydra/launcher=basic").status == 0
    assert {run["config"]["batch_size"] for run in records(folder).values()} <= {8, 16}
    assert len(read_trials(folder / SWEEPS / "tuned")) == 2
    assert "0 of 2 trials to do" in mlprun(*line).out, "by whichever launcher they were run"


def test_a_trial_that_diverges_costs_only_itself(mlprun):
    line = ["-m", *FAST, "optim=sgd", "optim.lr=choice(0.1,1e12)", "sweep.sampler=random", "sweep.num_trials=4"]
    result = mlprun(*line, "sweep.name=found")
    statuses = {name: run["status"] for name, run in records(result.folder).items()}
    assert sorted(statuses.values()) == ["completed", "failed"]
    assert result.status == 1
    assert "4/4  done before, " in mlprun(*line, "sweep.name=found").out, "what failed is not tried again"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([LR], "optim.lr=tag(log,interval(1e-3,1e-1)): several values are a sweep"),
        (["-m", LR, "sweep.num_trials=0"], "sweep.num_trials=0: must be 1 or more"),
        (["-m", LR, "sweep.num_trials=2", "hydra.sweep.subdir=x"], "does not tell the trials of a search apart"),
        (["-m", LR, "model.hidden=choice([8],[9])", "sweep.num_trials=2", "sweep.sampler=cmaes"], "is for numbers"),
        (["-m", "batch_size=interval(1.5,8)", "sweep.num_trials=2"], "must be a whole number"),
        (["-m", "data.val_fraction=interval(0.1,0.3)", "sweep.num_trials=2"], "changes what val/loss measures"),
        (["-m", "model=linear,nothing", "sweep.num_trials=2"], "there is no model of that name"),
        (["-m", LR, "sweep.num_trials=2", "model.hidden=[0]"], "model.hidden"),
    ],
)
def test_what_makes_no_sense_is_said_before_the_first_run(mlprun, words, said):
    result = mlprun(*FAST, *words)
    assert result.status == 2
    assert said in result.err
    assert not list((result.folder / "outputs").glob("sweeps/*"))


def test_a_search_of_another_sampler_goes_on_from_the_trials_there_are(mlprun):
    line = ["-m", *FAST, LR, "sweep.name=found", "sweep.num_workers=1"]
    assert mlprun(*line, "sweep.num_trials=2", "sweep.sampler=random").status == 0
    result = mlprun(*line, "sweep.num_trials=3", "sweep.sampler=quasi_random")
    assert result.status == 0, result.err
    rows = [json.loads(row) for row in (result.folder / SWEEPS / "found" / "trials.jsonl").read_text().splitlines()]
    assert [(row["sampler"], row["ended"]) for row in rows] == [("random", []), ("random", [0]), ("quasi_random", [1])]


def test_what_others_beat_is_pruned_and_can_be_resumed_by_hand(mlprun):
    line = [
        "-m",
        "data=iris",
        "epochs=3",
        "optim=sgd",
        "optim.lr=0.1,1e-6,1e-7",
        "sweep.pruner=top",
        "sweep.name=found",
    ]
    line += ["sweep.num_workers=1"]
    result = mlprun(*line)
    assert result.status == 0, result.err
    statuses = [record["status"] for record in records(result.folder).values()]
    assert sorted(statuses) == ["completed", "pruned", "pruned"], "of a grid as of a search"
    assert "pruned  2 of 3 runs, which saved 44 % of all steps" in result.out
    run = next(run for run in result.runs if "1e-06" in run.name)
    assert "others do better (sweep.pruner)" in (result.folder / run / "output.log").read_text()
    assert "0 of 3 runs to do" in mlprun(*line).out
    assert mlprun("resume", str(run)).status == 0
    assert records(result.folder)[run.name]["status"] == "completed"
