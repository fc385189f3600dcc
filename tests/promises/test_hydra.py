"""What a line may say to Hydra itself keeps working: its flags, its node, its files, its plugins."""

from __future__ import annotations

import json
import logging
import os
import shlex
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from tests.helpers.files import write

FAST = ["debug=fast", "data=iris", "steps=2"]
IN_PROCESS = "hydra/launcher=basic"  # the jobs of a sweep here, one after the other
GLOBAL = "# @package _global_\n"


@pytest.fixture(autouse=True)
def loggers_as_they_were():
    """Hydra's --info and hydra.verbose leave handlers that write to what the test printed to."""
    handlers, level = [*logging.root.handlers], logging.root.level
    yield
    for handler in set(logging.root.handlers).difference(handlers):
        logging.root.removeHandler(handler)
    logging.root.setLevel(level)


def shown(mlprun, *words: str) -> dict:
    """What `--cfg` prints."""
    result = mlprun(*words)
    assert result.status == 0, result.err
    return yaml.safe_load(result.out)


def run_seeds(folder: Path) -> dict[str, int]:
    """The seed of each run below the folder, by its directory."""
    files = folder.glob("**/run.json")
    return {str(file.parent.relative_to(folder)): json.loads(file.read_text())["config"]["seed"] for file in files}


# ---------------------------------------------------------------------------------------- what a run leaves behind


@pytest.mark.parametrize(
    ("typed", "for_hydra", "directory"),
    [
        (["seed=4"], ["hydra.run.dir=runs/${model.init}_${seed}", "hydra.verbose=true"], "runs/default_4"),
        (["model.hidden=[7, 8]"], ["hydra.run.dir='a b/${now:x}=c,d é'"], "a b/x=c,d é"),
        (["data.root='é, [a]; \"b\" $HOME'"], ["hydra.job.chdir=true", "hydra.run.dir=moved"], "moved"),
    ],
)
def test_a_run_lies_where_it_is_told_to_with_hydras_record_of_it(mlprun, typed, for_hydra, directory):
    result = mlprun(*FAST, *for_hydra, *typed)
    assert result.status == 0, result.err
    (file,) = result.folder.glob("**/run.json")
    run = file.parent
    assert run == result.folder / directory
    assert {"train.log", "metrics.jsonl", "checkpoints"} <= {each.name for each in run.iterdir()}
    assert Path.cwd() == result.folder

    record, typed = json.loads(file.read_text()), [*FAST, *typed]
    assert shlex.split(record["command"]) == ["mlprun", *FAST, *for_hydra, *typed[len(FAST) :]]
    assert yaml.safe_load((run / ".hydra/overrides.yaml").read_text()) == typed == record["overrides"]
    config = OmegaConf.to_container(OmegaConf.load(run / ".hydra/config.yaml"), resolve=True)
    assert config == record["config"]
    node = yaml.safe_load((run / ".hydra/hydra.yaml").read_text())["hydra"]
    assert (node["mode"], node["overrides"]["task"]) == ("RUN", typed)
    assert (node["runtime"]["output_dir"], node["runtime"]["cwd"]) == (str(run), str(result.folder))


JOB = """
import os
import torch

class Net(torch.nn.Linear):
    def __init__(self):
        super().__init__(4, 3)
        with open(os.environ["SEEN_BY_TEST"], "a") as file:
            print(os.environ.get("SET_BY_HYDRA"), file=file)
"""


def test_a_jobs_environment_is_set_for_the_job_and_hydras_record_may_be_left_out(mlprun, monkeypatch):
    folder = mlprun("--version").folder
    monkeypatch.setenv("SEEN_BY_TEST", str(folder / "seen"))
    write(folder, {"job_of_mine.py": JOB})
    line = [*FAST, "model=custom", "model._target_=job_of_mine.Net", "+hydra.job.env_set.SET_BY_HYDRA=yes"]
    result = mlprun(*line, "hydra.job.env_copy=[SEEN_BY_TEST]", "hydra.output_subdir=null")
    assert result.status == 0, result.err
    assert set((folder / "seen").read_text().split()) == {"yes"}
    assert "SET_BY_HYDRA" not in os.environ
    assert not (result.runs[0] / ".hydra").exists()


# ----------------------------------------------------------------------------------------------------- callbacks

CALLBACKS = """
from pathlib import Path
from hydra.experimental.callback import Callback

class Log(Callback):
    def __init__(self, file):
        self.file = Path(file)
    def note(self, name, config, *more):
        with self.file.open("a") as file:
            print(name, config.hydra.mode.name, config.optim.lr, *more, file=file)
    def on_run_start(self, config, **kwargs):
        self.note("run_start", config, kwargs["config_name"])
    def on_run_end(self, config, **kwargs):
        self.note("run_end", config)
    def on_multirun_start(self, config, **kwargs):
        self.note("multirun_start", config, kwargs["config_name"])
    def on_multirun_end(self, config, **kwargs):
        self.note("multirun_end", config)
    def on_job_start(self, config, **kwargs):
        self.note("job_start", config, config.seed, callable(kwargs["task_function"]))
    def on_job_end(self, config, job_return, **kwargs):
        there = Path(config.hydra.runtime.output_dir, "run.json").exists()
        self.note("job_end", config, config.seed, job_return.status.name, type(job_return.return_value).__name__, there)
"""


@pytest.mark.parametrize(
    ("words", "calls"),
    [
        (
            ["seed=1"],
            [
                "run_start RUN 0.25 config",
                "job_start RUN 0.25 1 True",
                "job_end RUN 0.25 1 COMPLETED float True",
                "run_end RUN 0.25",
            ],
        ),
        (
            ["-m", "seed=0,1", "sweep.num_workers=1"],
            [
                "multirun_start MULTIRUN 0.25 config",
                "job_start MULTIRUN 0.25 0 True",
                "job_end MULTIRUN 0.25 0 COMPLETED float True",
                "job_start MULTIRUN 0.25 1 True",
                "job_end MULTIRUN 0.25 1 COMPLETED float True",
                "multirun_end MULTIRUN 0.25",
            ],
        ),
    ],
    ids=["run", "sweep"],
)
def test_callbacks_in_a_users_yaml_are_called(mlprun, words, calls):
    folder = mlprun("--version").folder
    log = folder / "calls"
    node = f"hydra: {{callbacks: {{mine: {{_target_: callbacks_of_mine.Log, file: {log}}}}}}}\noptim: {{lr: 0.25}}\n"
    write(folder, {"callbacks_of_mine.py": CALLBACKS, "mine/experiment/watched.yaml": GLOBAL + node})
    result = mlprun(*FAST, "--config-dir", "mine", "experiment=watched", *words)
    assert result.status == 0, result.err
    assert log.read_text().splitlines() == calls


# --------------------------------------------------------------------------------------------- a user's own YAML

OWN = {
    "mine/model/narrow.yaml": "defaults: [mlp]\nhidden: [7]\n",
    "mine/experiment/short.yaml": GLOBAL + "defaults: [{override /model: narrow}]\nseed: 8\n",
    "mine/primary.yaml": "defaults: [config, _self_]\nseed: 5\n",
}


@pytest.mark.parametrize(
    ("place", "words", "seed", "hidden"),
    [
        ("mine", ["model=narrow"], 0, [7]),
        ("./mine", ["experiment=short"], 8, [7]),
        ("absolute", ["experiment=short", "seed=9"], 9, [7]),
        ("mine", ["--config-name", "primary"], 5, [128, 64]),
        ("absolute", ["-cn=primary", "model=narrow"], 5, [7]),
    ],
)
def test_a_folder_of_ones_own_is_searched(mlprun, place, words, seed, hidden):
    folder = write(mlprun("--version").folder, OWN)
    place = str(folder / "mine") if place == "absolute" else place
    config = shown(mlprun, "--cfg", "job", "--config-dir", place, *words)
    assert (config["seed"], config["model"]["hidden"]) == (seed, hidden)


def test_a_run_of_a_primary_config_of_ones_own(mlprun):
    write(mlprun("--version").folder, OWN)
    result = mlprun("seed=6", "--config-name", "primary", *FAST, "--config-dir", "mine", "model=narrow")
    assert result.status == 0, result.err
    config = result.record()["config"]
    assert (config["seed"], config["model"]["hidden"]) == (6, [7])
    assert (
        yaml.safe_load((result.runs[0] / ".hydra/hydra.yaml").read_text())["hydra"]["job"]["config_name"] == "primary"
    )


# -------------------------------------------------------------------------------------------------------- sweeps


@pytest.mark.parametrize("words", [["hydra.mode=MULTIRUN"], ["-m", "hydra.mode=RUN"]])
def test_a_sweep_lies_where_it_is_told_to_with_hydras_record_of_it(mlprun, words):
    result = mlprun("data=iris", *words, "seed=0,1", *FAST[::2], IN_PROCESS, "hydra.sweep.dir='to here'")
    assert result.status == 0, result.err
    folder = result.folder / "to here"
    node = yaml.safe_load((folder / "multirun.yaml").read_text())["hydra"]
    assert node["overrides"]["task"] == ["data=iris", "seed=0,1", "debug=fast", "steps=2"]
    assert sorted(run_seeds(folder).values()) == [0, 1]
    for name, seed in run_seeds(folder).items():
        typed = ["data=iris", f"seed={seed}", "debug=fast", "steps=2"]
        assert yaml.safe_load((folder / name / ".hydra/overrides.yaml").read_text()) == typed
        node = yaml.safe_load((folder / name / ".hydra/hydra.yaml").read_text())["hydra"]
        assert (node["mode"], node["job"]["num"], node["job"]["id"]) == ("MULTIRUN", seed, str(seed))


@pytest.mark.parametrize(
    ("subdir", "directories"),
    [("n${hydra.job.num}", ["n0", "n1"]), ("${hydra.job.override_dirname}", ["seed=0", "seed=1"])],
)
def test_a_job_of_a_sweep_lies_where_it_is_told_to(mlprun, subdir, directories):
    line = ["-m", *FAST, "seed=0,1", IN_PROCESS, "hydra.sweep.dir=there", f"hydra.sweep.subdir={subdir}"]
    result = mlprun(*line)
    assert result.status == 0, result.err
    assert sorted(run_seeds(result.folder / "there")) == directories


@pytest.mark.parametrize(
    ("subdir", "first", "second"),
    [
        ("${hydra.job.num}", "seed=0,1", "seed=2,3"),  # the numbers begin at 0 again
        ("run", "seed=0,1", ""),
        ("${model.hidden}", "seed=0,1", ""),
        ("${hydra.job.num}", "seed=0", "seed=1,0"),
    ],
)
def test_two_runs_do_not_share_a_directory(mlprun, subdir, first, second):
    words = ["-m", *FAST, IN_PROCESS, "hydra.sweep.dir=there", f"hydra.sweep.subdir={subdir}"]
    results = [mlprun(*words, seeds) for seeds in (first, second) if seeds]
    assert results[-1].status == 2, results[-1].err
    assert "error: hydra.sweep.subdir: " in results[-1].err
    assert [r.status for r in results[:-1]] == [0] * (len(results) - 1)
    if second:  # the first line again is done
        assert mlprun(*words, first).status == 0
        assert len(run_seeds(results[0].folder / "there")) == len(first.split(","))


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ("hydra: {sweeper: {params: {seed: '3,4'}}}", ["-m", "hydra.sweep.dir=there"]),
        ("hydra: {mode: MULTIRUN, sweep: {dir: there}}", ["seed=3,4"]),
    ],
)
def test_what_is_swept_and_that_it_is_may_stand_in_a_file(mlprun, node, words):
    write(mlprun("--version").folder, {"mine/experiment/swept.yaml": f"{GLOBAL}{node}\n"})
    result = mlprun(*FAST, "--config-dir", "mine", "experiment=swept", IN_PROCESS, *words)
    assert result.status == 0, result.err
    assert sorted(run_seeds(result.folder).values()) == [3, 4]


@pytest.mark.parametrize("chosen", ["", "hydra/launcher=pool"], ids=["file", "line"])
def test_a_launcher_may_be_chosen_in_a_file_and_the_line_wins(mlprun, chosen):
    own = GLOBAL + "defaults:\n  - override /hydra/launcher: basic\n"
    write(mlprun("--version").folder, {"mine/experiment/own.yaml": own})
    line = ["--config-dir", "mine", "experiment=own", *([chosen] if chosen else [])]
    node = shown(mlprun, *line, "--cfg", "hydra")["hydra"]
    assert node["launcher"]["_target_"].rpartition(".")[2] == ("PoolLauncher" if chosen else "BasicLauncher")


PLUGINS = """
from pathlib import Path
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper

class MyLauncher(BasicLauncher):
    def launch(self, job_overrides, initial_job_idx):
        with open("launched", "a") as file:
            print(initial_job_idx, *job_overrides, file=file)
        return super().launch(job_overrides, initial_job_idx)

class MySweeper(Sweeper):
    def __init__(self, times):
        self.times = times
    def setup(self, *, hydra_context, task_function, config):
        from hydra.core.plugins import Plugins
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
    def sweep(self, arguments):
        for number in range(self.times):
            (done,) = self.launcher.launch([[*arguments, f"seed={number + 5}"]], number)
            with open("objectives", "a") as file:
                print(float(done.return_value) > 0, file=file)

STORE = ConfigStore.instance()
STORE.store(group="hydra/launcher", name="mine", node={"_target_": f"{__name__}.MyLauncher"}, provider="mine")
STORE.store(group="hydra/sweeper", name="mine", node={"_target_": f"{__name__}.MySweeper", "times": 1}, provider="mine")
"""


def test_a_sweeper_and_a_launcher_of_ones_own(mlprun_shell, tmp_path):
    plugins = PLUGINS.replace("{__name__}", "hydra_plugins.plugins_of_mine")
    chosen = GLOBAL + "defaults: [{override /hydra/sweeper: mine}]\nhydra: {sweeper: {times: 2}}\n"
    write(tmp_path, {"place/hydra_plugins/plugins_of_mine.py": plugins, "mine/experiment/searched.yaml": chosen})
    words = [*FAST, "--config-dir", "mine", "experiment=searched", "hydra/launcher=mine"]
    result = mlprun_shell("-m", *words, PYTHONPATH=str(tmp_path / "place"))
    assert result.status == 0, result.err
    assert sorted(run_seeds(tmp_path).values()) == [5, 6]
    assert "not started" not in result.err
    assert [line[0] for line in (tmp_path / "launched").read_text().splitlines()] == ["0", "1"]
    assert (tmp_path / "objectives").read_text().split() == ["True", "True"]


# ----------------------------------------------------------------------------------------------- what is shown


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        (["job", "data=iris"], "model.input_shape", "${data.input_shape}"),
        (["job", "data=iris", "--resolve"], "model.input_shape", [4]),
        (["job", "--package", "optim", "optim=sgd", "optim.lr=0.5"], "lr", 0.5),
        (["job", "-p", "model", "--resolve"], "input_shape", [1, 8, 8]),
        (["hydra", "seed=3"], "hydra.overrides.task", ["seed=3"]),
        (["hydra", "--package", "hydra.sweep", "hydra.sweep.dir=x"], "dir", "x"),
        (["all", "seed=3"], "seed", 3),
        (["all", IN_PROCESS], "hydra.runtime.choices.hydra/launcher", "basic"),
    ],
)
def test_a_config_is_shown_and_nothing_is_run(mlprun, words, key, value):
    node = shown(mlprun, "--cfg", *words)
    for name in key.split("."):
        node = node[name]
    assert node == value
    assert not (mlprun("--version").folder / "outputs").exists()


PLUGIN_NAMES = ("PoolLauncher", "JoblibLauncher", "BasicSweeper")
HELP = (
    "mlprun model=mlp optim=adam", "mlprun -m optim.lr=1e-3,3e-3 seed=0,1,2", "mlprun eval RUN_DIR", "batch_size=32",
    "mlprun resume DIR", "optim: adadelta, adagrad, adam", "debug=fast", 'eval "$(mlprun -sc install=bash)"',
)  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--info", "all"], ("Config search path", "Defaults List", *PLUGIN_NAMES)),
        (["--info", "config", "model=cnn"], ("Config search path", "model: cnn", "model/cnn ")),
        (["--info", "defaults", "model=cnn"], ("Defaults List", "model/cnn ")),
        (["--info", "defaults-tree", "model=cnn"], ("Defaults Tree", "model: cnn")),
        (["--info", "plugins"], PLUGIN_NAMES),
        (["--info", "searchpath", "--config-dir", "."], ("command-line",)),
        (["--hydra-help"], ("--config-dir,-cd", "--multirun,-m", "mlprun -sc install=bash")),
        (["--help"], HELP),
        (["seed=3", "-h"], ("mlprun resume DIR",)),
        (["-sc", "install=bash"], ("COMP_LINE", "mlprun")),
        (["--version"], ("mlprun ",)),
    ],
)
def test_what_is_asked_of_hydra_is_answered(mlprun, words, said):
    result = mlprun(*words)
    assert (result.status, result.err) == (0, "")
    assert [text for text in said if text not in result.out] == []
    assert not (result.folder / "outputs").exists()


# ------------------------------------------------------------------------------------------------ what is typed


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("data.root=a/b", "a/b"),
        ("data.root=a b", "a b"),
        ("data.root='a=b,c; d'", "a=b,c; d"),
        ('data.root="a=b,c; d"', "a=b,c; d"),
        ("data.root='[a] {b}'", "[a] {b}"),
        ("data.root='é ü 日本'", "é ü 日本"),
        ("data.root='$HOME'", "$HOME"),
        ("data.root='say \"a\"'", 'say "a"'),
        (r"data.root='it\'s'", "it's"),
        ("data.root=''", ""),
        ("data.root=null", None),
        ("data.root=${data.name}", "digits"),
    ],
)
def test_a_value_is_what_was_typed(mlprun, word, value):
    assert shown(mlprun, "--cfg", "job", "--resolve", word)["data"]["root"] == value
