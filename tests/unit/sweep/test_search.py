"""The search proposes from what is recorded, and nothing else."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from mlprun.config.compose import Composer
from mlprun.config.schema import SweepConfig
from mlprun.errors import ConfigError, RunError
from mlprun.runs.record import RunRecord
from mlprun.runs.trial_record import FILE_NAME, read_trials
from mlprun.sweep.search import Search, check_sampler
from tests.helpers.spaces import space_of

NUMBERS = ["optim.lr=tag(log,interval(1e-4,1e-1))", "batch_size=range(16,129,16)", "model.dropout=interval(0,0.5)"]
CHOICES = [*NUMBERS, "model.hidden=choice([64],[128,64])"]


def result(overrides: list[str], *, fails: bool = False) -> RunRecord:
    """The record of a run whose loss is least at lr=0.01 and a batch of 64; one of them in three diverges."""
    values = dict(line.split("=") for line in overrides if "hidden" not in line)
    loss = math.log10(float(values["optim.lr"]) / 0.01) ** 2 + abs(int(values["batch_size"]) - 64) / 64
    ended = {"config": {"monitor": "val/loss"}}
    if fails or int(values["batch_size"]) % 48 == 0:
        return RunRecord(status="failed", **ended)
    return RunRecord(status="completed", metrics={"val/loss": loss + int(values.get("seed", 0))}, **ended)


class Runs:
    """What the directories of the runs hold."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, ...], RunRecord] = {}

    def search(self, folder: Path, words, **settings) -> Search:
        return Search(space_of(words), SweepConfig(**{"num_trials": 12} | settings), folder, self.read)

    def read(self, overrides: list[str]) -> RunRecord:
        return self.records.get(tuple(overrides), RunRecord())

    def work(self, search: Search, num_runs: int = 1000, at_a_time: int = 1) -> list[list[str]]:
        """Do the next runs, and return those that were not done before; each place takes a run as the first ends."""
        running, done = [], []
        while len(done) < num_runs:
            while len(running) < at_a_time and (proposal := search.ask()) is not None:
                if proposal.has_ended or self.read(proposal.overrides):
                    search.tell(proposal, self.read(proposal.overrides))
                else:
                    running.append(proposal)
            if not running:
                break
            proposal = running.pop(0)
            done.append(proposal.overrides)
            self.records[tuple(proposal.overrides)] = result(proposal.overrides)
            search.tell(proposal, self.records[tuple(proposal.overrides)])
        return done


@pytest.mark.parametrize(
    ("sampler", "words"),
    [
        *(("random", CHOICES), ("quasi_random", NUMBERS), ("tpe", CHOICES), ("gp", CHOICES), ("cmaes", NUMBERS)),
        *(("auto", NUMBERS), ("auto", CHOICES), ("tpe", [*CHOICES, "seed=0,1"])),
    ],
)
def test_a_killed_search_proposes_what_an_undisturbed_one_does(tmp_path, monkeypatch, sampler, words):
    monkeypatch.setattr("mlprun.sweep.search.GP_TRIALS", 20)  # then `auto` takes cmaes
    for name in ("undisturbed", "killed"):
        (tmp_path / name).mkdir()
    settings = {"sampler": sampler, "seed": 3, "num_trials": 25 if sampler == "auto" else 12}
    runs = Runs()
    expected = runs.work(runs.search(tmp_path / "undisturbed", words, **settings))
    runs, found = Runs(), []
    for num_runs in (5, 4, 0, 1000):
        search = runs.search(tmp_path / "killed", words, **settings)
        found += runs.work(search, num_runs)
        search.ask()  # this run was under way when the process was killed
    assert found == expected
    assert len(expected) >= 11, "few proposals are repeated"
    sampler_of = [trial.sampler for trial in read_trials(tmp_path / "killed")]
    kinds = {"auto": ["gp"] * 20 + ["cmaes"] * 5 if words is NUMBERS else ["tpe"] * 25}
    assert sampler_of == kinds.get(sampler, [sampler] * 12)


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "quasi_random"])
def test_with_several_workers_nothing_is_lost_or_run_twice(tmp_path, sampler):
    runs, found = Runs(), []
    for num_runs in (4, 3, 1000):
        found += runs.work(runs.search(tmp_path, NUMBERS, sampler=sampler), num_runs, at_a_time=3)
    assert len(found) == len({tuple(overrides) for overrides in found}) == 12
    assert [trial.trial for trial in read_trials(tmp_path)] == list(range(12))


def test_a_trial_is_the_mean_of_its_seeds_and_fails_with_one_of_them(tmp_path):
    runs = Runs()
    search = runs.search(tmp_path, [*NUMBERS, "seed=range(0,3)"], sampler="random")
    runs.work(search)
    for trial in search._study.trials:
        of_trial = [
            record for line, record in runs.records.items() if f"optim.lr={trial.params['optim.lr']:.6g}" in line
        ]
        assert len(of_trial) == 3
        losses = [record.metric("val/loss") for record in of_trial if record.status == "completed"]
        assert trial.value == (pytest.approx(sum(losses) / 3) if losses else None)


def test_a_larger_total_continues_and_another_space_begins_anew(tmp_path):
    runs = Runs()
    runs.work(runs.search(tmp_path, NUMBERS, sampler="tpe"))
    search = Search(space_of(NUMBERS), SweepConfig(num_trials=15, sampler="gp"), tmp_path, runs.read)
    assert search.summary == "3 of 15 trials to do, sampler gp"
    assert len(runs.work(search)) == 3
    search = runs.search(tmp_path, CHOICES, sampler="tpe")
    assert search.summary == "15 earlier trials are of another space; 12 of 12 trials to do, sampler tpe"


def test_a_choice_is_recorded_by_its_text_so_that_others_are_another_space(tmp_path):
    runs = Runs()
    runs.work(runs.search(tmp_path, CHOICES, sampler="random"), 2)
    assert {trial.values["model.hidden"] for trial in read_trials(tmp_path)} <= {"[64]", "[128,64]"}
    search = runs.search(tmp_path, [*NUMBERS, "model.hidden=choice([32],[16,8])"], sampler="random")
    assert search.summary.startswith("2 earlier trials are of another space")


def test_only_the_torn_last_line_of_the_record_is_dropped(tmp_path):
    runs = Runs()
    runs.work(runs.search(tmp_path, NUMBERS, sampler="random"), 4)
    file = tmp_path / FILE_NAME
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"trial": 4, "val')
    runs.work(runs.search(tmp_path, NUMBERS, sampler="random"))
    assert file.read_bytes().startswith(whole)
    assert len(read_trials(tmp_path)) == 12
    file.write_bytes(whole.replace(b'"trial": 1', b'"trial": 7'))
    with pytest.raises(RunError, match=r"trials.jsonl, line 2: damaged"):
        runs.search(tmp_path, NUMBERS, sampler="random")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["optim.lr=interval(1,1)", "sweep.num_trials=3"], "optim.lr=interval(1,1): contains one number"),
        (["optim.lr=interval(1e-1,1e-3)", "sweep.num_trials=3"], "the smaller number first"),
        (["optim.lr=tag(log,interval(0,1))", "sweep.num_trials=3"], "has no logarithm"),
        (["optim.lr=tag(log,choice(1,2))", "sweep.num_trials=3"], "which is for an interval"),
        (["optim.lr=tag(fast,interval(1,2))", "sweep.num_trials=3"], "has the tag fast"),
        (["optim.lr=interval(1e-4,1e-1)"], "add sweep.num_trials=50"),
        (["optim.lr=1,2", "sweep.sampler=tpe"], "sweep.sampler=tpe: is for a search, and this sweep is a grid"),
        (["seed=0,1", "sweep.seed=3"], "sweep.seed=3: is for a search"),
        (["seed=0,1", "sweep.num_trials=3"], "no key but a seed has several values"),
        (["seed=interval(0,9)", "optim.lr=1,2", "sweep.num_trials=3"], "write seed=0,1,2"),
        (["data=digits,iris", "sweep.num_trials=3"], "changes what val/loss measures"),
        (["loss.label_smoothing=interval(0,0.1)", "sweep.num_trials=3"], "another monitor"),
        (["model.activation=interval(0,1)", "sweep.num_trials=3"], "the key takes words"),
        (["trainer.deterministic=interval(0,1)", "sweep.num_trials=3"], "must be true or false"),
        (["model=interval(0,1)", "sweep.num_trials=3"], "is for numbers"),
        (["model=mlp,cnn", "model.channels=choice([8],[4])", "sweep.num_trials=3"], "is no key of model=mlp"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(words, said):
    composer = Composer()
    with pytest.raises(ConfigError) as error:
        list(composer.points(words))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("batch_size=interval(16,128)", "16 to 128, whole numbers"),
        ("model.dropout=interval(0,1)", "0 to 1"),
        ("model.dropout=int(interval(0,1))", "0 to 1, whole numbers"),
        ("optim.lr=tag(log,interval(1e-4,1e-1))", "0.0001 to 0.1, on a log scale"),
        ("batch_size=tag(log,interval(16,128))", "16 to 128, whole numbers, on a log scale"),
        ("batch_size=range(16,129,16)", "16 to 128, in steps of 16"),
        ("optim.weight_decay=range(0,0.5,0.25)", "0 to 0.25, in steps of 0.25"),
        ("model=mlp,cnn", "mlp, cnn"),
        ("model.hidden=choice([64],[128,64])", "[64], [128,64]"),
        ("+model.extra=interval(1,2)", "1 to 2"),
    ],
)
def test_an_interval_has_whole_numbers_if_its_key_does(typed, meant):
    assert [str(dimension) for dimension in space_of([typed]).dimensions.values()] == [meant]


@pytest.mark.parametrize(("sampler", "missing"), [("tpe", "optuna"), ("cmaes", "cmaes"), ("auto", "cmaes")])
def test_a_sampler_that_is_not_installed_is_named_with_the_remedy(monkeypatch, sampler, missing):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == missing else name)
    with pytest.raises(ConfigError, match=rf"needs the package {missing}(.|\n)*mlprun\[search\]"):
        check_sampler(space_of(NUMBERS), SweepConfig(num_trials=3, sampler=sampler))
