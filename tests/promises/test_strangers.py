"""A stranger's run or sweep directory executes nothing, and nothing outside of it is touched."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.lines import finish

RUN, SWEEP, OUTSIDE = "theirs/run", "theirs/sweep", "home"
EVENTS = "events.out.tfevents.1999999999.x.1.0"
TRAIN = ["data=iris", "model=linear", "epochs=1", "data.num_workers=0"]
LINES = {
    "eval": ["eval", RUN],
    "predict": ["predict", RUN, "--index", "0"],
    "export": ["export", RUN, "--to", "pt2"],
    "resume": ["resume", RUN, "epochs=2"],
    "reproduce": ["reproduce", RUN],
    "show": ["show", RUN],
    "plot": ["plot", RUN],
    "runs": ["runs", "theirs"],
    "sweep": ["resume", SWEEP],
}
Plant = Callable[[Path], object]  # makes the attack, given the folder that holds `theirs` and `home`


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A run and a sweep, with one point to do, of someone with another key."""
    folder = tmp_path_factory.mktemp("made")
    finish(folder, *TRAIN, f"hydra.run.dir={RUN}")
    finish(folder, "-m", *TRAIN, "seed=0,1", f"hydra.sweep.dir={SWEEP}", "hydra/launcher=basic")
    for file in folder.glob("theirs/**/*.json"):
        record = json.loads(file.read_text())
        assert record.pop("signature")
        file.write_text(json.dumps(record))
    (point,) = folder.glob(f"{SWEEP}/seed=1*")
    shutil.rmtree(point)
    return folder


@pytest.fixture
def there(made, tmp_path, mlprun) -> Path:
    shutil.copytree(made / "theirs", tmp_path / "theirs")
    (tmp_path / OUTSIDE).mkdir()
    for name in ("bashrc", "notes"):
        (tmp_path / OUTSIDE / name).write_text(f"{name} of the user\n")
    edit(tmp_path / SWEEP / "sweep.json", typed_in=str(tmp_path))
    return tmp_path


def edit(file: Path, **values) -> None:
    """Change keys of a JSON file; a dotted key, with `__` for the dots, reaches into groups."""
    record = json.loads(file.read_text())
    for key, value in values.items():
        *above, last = key.split("__")
        node = record
        for name in above:
            node = node[name]
        node[last] = value
    file.write_text(json.dumps(record))


def config(**values) -> Plant:
    return lambda folder: edit(folder / RUN / "run.json", **{f"config__{key}": v for key, v in values.items()})


def replaced(path: str, make: Callable[[Path], object]) -> Plant:
    def plant(folder: Path) -> None:
        for file in folder.glob(path) if "*" in path else [folder / path]:
            shutil.rmtree(file) if file.is_dir() and not file.is_symlink() else file.unlink(missing_ok=True)
            file.parent.mkdir(parents=True, exist_ok=True)
            make(file)

    return plant


def link(path: str, to: str = f"{OUTSIDE}/bashrc") -> Plant:
    return lambda folder: replaced(path, lambda file: file.symlink_to(folder / to))(folder)


def hard_link(path: str) -> Plant:
    return lambda folder: replaced(path, lambda file: os.link(folder / OUTSIDE / "bashrc", file))(folder)


def pipe(path: str) -> Plant:
    return replaced(path, os.mkfifo)


def point(file: str) -> str:
    """A file of the point that is to be done; its fingerprint is that of the line."""
    return f"{SWEEP}/seed=1_POINT/{file}"


def content(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def some(attacks: list[tuple[str, str]], *shown: str) -> list:
    """The attacks on these files; all others say nearly the same, and are marked."""
    return [pair if pair[0].endswith(shown) else pytest.param(*pair, marks=pytest.mark.long) for pair in attacks]


WRITTEN = [
    *((f"{RUN}/{name}", "resume") for name in ("train.log", "metrics.jsonl", ".lock", "confusion_matrix.csv", EVENTS)),
    *((f"{RUN}/{name}", "resume") for name in ("checkpoints/last.pt", "checkpoints/best.pt", "run.json")),
    (f"{RUN}/curves.png", "plot"),
    (f"{RUN}/export/model.pt2", "export"),
    *((f"{SWEEP}/{name}", "sweep") for name in ("sweep.json", "leaderboard.csv", "multirun.yaml", ".lock")),
    *((point(f".hydra/{name}.yaml"), "sweep") for name in ("config", "hydra", "overrides")),
    *((point(name), "sweep") for name in ("train.log", ".lock", "output.log", "metrics.jsonl")),
]
FOLDERS = [
    *((f"{RUN}/{name}", "resume") for name in ("checkpoints", "pictures")),
    (f"{RUN}/export", "export"),
    (f"{SWEEP}/seed=1_POINT", "sweep"),
    (point(".hydra"), "sweep"),
    (point("checkpoints"), "sweep"),
]
PIPES = [
    *((f"{RUN}/run.json", line) for line in ("eval", "resume", "show", "runs", "plot", "reproduce")),
    *((f"{RUN}/metrics.jsonl", line) for line in ("resume", "plot", "reproduce")),
    *((f"{RUN}/{name}", "resume") for name in ("train.log", ".lock", EVENTS, "checkpoints/last.pt")),
    *((f"{RUN}/checkpoints/best.pt", line) for line in ("eval", "reproduce")),
    (f"{RUN}/export/model.pt2", "export"),
    (f"{SWEEP}/sweep.json", "sweep"),
    (f"{SWEEP}/*/run.json", "sweep"),
    (point("output.log"), "sweep"),
]
EVIL = {"_target_": "os.system", "_args_": ["touch ran"]}
# Attacks by the name alone: test_trust.py.
CALLED = {
    "a model": config(model=EVIL),
    "a loss": config(loss={"_target_": "torch.nn.MSELoss", "reduction": EVIL}),
    "a metric": config(metrics={"evil": EVIL}),
    "a data set": config(data__dataset={**EVIL, "x": 1}),
    "an optimizer": config(optim={"_target_": "torch.optim.SGD", "lr": {"a": [EVIL]}}),
    "a task": config(task=EVIL),
    "a picture": config(logging__pictures=["os.abort"]),
    "a partial": config(model={**EVIL, "_partial_": True}),
    "a text made a node": config(model__bias="${oc.create:{_target_:os.system,_args_:[touch ran]}}"),
    "a secret of the environment": config(model__bias="${oc.env:HOME}"),
    "a download": config(data__dataset={"_target_": "torchvision.datasets.MNIST", "root": OUTSIDE, "download": True}),
    "a download by position": config(
        data__dataset={"_target_": "torchvision.datasets.MNIST", "_args_": [OUTSIDE, True, None, None, True]}
    ),
    "a download passed on": config(
        data__dataset={"_target_": "torchvision.datasets.EMNIST", "root": OUTSIDE, "split": "mnist", "download": True}
    ),
    "weights": config(model={"_target_": "torchvision.models.resnet18", "weights": "DEFAULT"}),
    "weights by an old name": config(model={"_target_": "torchvision.models.resnet18", "pretrained": True}),
    "weights by default": config(model={"_target_": "torchvision.models.segmentation.fcn_resnet50"}),
    "data elsewhere": config(data__dataset={"_target_": "mlprun.data.mnist.idx", "name": "mnist", "root": "/var/x"}),
    "data in the run": config(data__dataset={"_target_": "mlprun.data.mnist.idx", "name": "mnist", "root": RUN}),
    "a mirror": config(
        data__dataset={"_target_": "mlprun.data.mnist.idx", "name": "mnist", "root": "d", "mirrors": ["http://evil"]}
    ),
}
SWEPT = {
    "a callback": ["+hydra.callbacks.evil={_target_:os.system}"],
    "a callback in its YAML": ["--config-dir", "theirs/conf"],
    "the same in one word": ["--config-dir=theirs/conf"],
    "the same in short": ["-cd", "theirs/conf"],
    "another config": ["--config-name", "evil"],
    "a search path": ["hydra.searchpath=[pkg://evil]"],
    "a node put elsewhere": ["+optim@hydra.callbacks.evil=adam"],
    "a sweeper": ["hydra/sweeper=basic", "hydra.sweeper._target_=os.system"],
    "a launcher's argument": ["hydra.launcher._target_=os.system"],
    "a logger": ["hydra.job_logging.handlers.x.class=os.system"],
    "a model": ["model=custom", "model._target_=os.system"],
    "an environment": ["+hydra.job.env_set.LD_PRELOAD=theirs/evil.so"],
    "another folder": [f"hydra.sweep.subdir=../../{OUTSIDE}/x"],
    "a pickle": ["--experimental-rerun", "theirs/evil.pkl"],
}


def attack(there: Path, mlprun, plant: Plant, line: str) -> str:
    """Plant it, type the line, and see that nothing has happened outside; what was printed."""
    plant(there)
    before = content(there / OUTSIDE)
    done = mlprun(*LINES[line])
    assert content(there / OUTSIDE) == before
    assert not [*there.rglob("ran"), *there.rglob("*.ran")]
    assert "LD_PRELOAD" not in os.environ
    printed = done.out + done.err
    assert not re.search(r"error: \w*(Error|Exception):", printed), printed
    assert "\x1b" not in printed
    return printed


@pytest.fixture(scope="module")
def pending(made) -> str:
    """The name that the missing point will have."""
    record = json.loads((made / SWEEP / "sweep.json").read_text())
    (key,) = [key for key, words in record["points"].items() if "seed=1" in words]
    return f"seed=1_{key}"


def named(path: str, pending: str) -> str:
    return path.replace("seed=1_POINT", pending)


@pytest.mark.parametrize("kind", [link, pytest.param(hard_link, marks=pytest.mark.long)])
@pytest.mark.parametrize(("path", "line"), some(WRITTEN, "run/train.log", "run/metrics.jsonl", EVENTS, "multirun.yaml"))
def test_a_link_is_not_written_through(there, mlprun, pending, path, line, kind):
    attack(there, mlprun, kind(named(path, pending)), line)


@pytest.mark.parametrize("path", [f"{RUN}/train.log", f"{RUN}/.lock", f"{SWEEP}/multirun.yaml"])
def test_a_hard_link_is_not_written_through(there, mlprun, path):
    assert "hard link" in attack(there, mlprun, hard_link(path), "sweep" if path.startswith(SWEEP) else "resume")


@pytest.mark.parametrize(("path", "line"), some(FOLDERS, "checkpoints", "POINT"))
def test_a_link_to_a_folder_is_not_written_into(there, mlprun, pending, path, line):
    printed = attack(there, mlprun, link(named(path, pending), OUTSIDE), line)
    assert "it is a link" in printed or path.endswith("pictures")


@pytest.mark.parametrize(("path", "line"), some(PIPES, "run/run.json", "best.pt", "sweep.json"))
def test_a_pipe_is_not_waited_for(there, mlprun, pending, path, line):
    attack(there, mlprun, pipe(named(path, pending)), line)


def test_a_config_calls_nothing(there, mlprun):
    record = there / RUN / "run.json"
    whole = record.read_text()
    for name, plant in CALLED.items():
        assert "add --trust" in attack(there, mlprun, plant, "eval"), name
        record.write_text(whole)


def test_a_line_of_a_sweep_calls_nothing(there, mlprun):
    (there / "theirs/conf").mkdir()
    callback = "hydra: {callbacks: {evil: {_target_: os.system}}}\n"
    (there / "theirs/conf/evil.yaml").write_text(f"defaults: [config]\n{callback}")
    for name, words in SWEPT.items():
        edit(there / SWEEP / "sweep.json", lines=[["-m", *TRAIN, "seed=0,1", *words]])
        assert "--trust" in attack(there, mlprun, lambda _: None, "sweep"), name


# ---------------------------------------------------------------------------------------- what stands beside

# Imported by libraries if they are there, or by Python itself.
OPTIONAL = "pynvml dill cupy pandas IPython jax numba cloudpickle sklearnex triton_kernels brotli h5py orjson psutil"
PLANT = "import os\nopen(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'ran'), 'w')\n"
STANDING = [
    ["-m", "mlprun", "eval", "."],
    pytest.param(["SCRIPT", "resume", ".", "epochs=2"], marks=pytest.mark.long),
    pytest.param(["SCRIPT", "-sc", "install=bash"], marks=pytest.mark.long),
]


@pytest.mark.parametrize("line", STANDING, ids=str)
def test_libraries_import_nothing_from_the_current_folder(there, line):
    for name in OPTIONAL.split():
        (there / RUN / f"{name}.py").write_text(PLANT)
    (there / RUN / "hydra_plugins").mkdir()
    (there / RUN / "hydra_plugins" / "evil.py").write_text(PLANT)
    words = [os.path.join(os.path.dirname(sys.executable), "mlprun") if word == "SCRIPT" else word for word in line]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, *words], cwd=there / RUN, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert not [*there.rglob("ran")]


def own(folder: Path, mlprun) -> None:
    """A run of one's own, of a class in a module beside it."""
    (folder / "mine.py").write_text(f"from torch import nn\n{NET}")
    assert mlprun(*TRAIN, "model=custom", "model._target_=mine.Net", "hydra.run.dir=own").status == 0


NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)
    def forward(self, x):
        return self.layer(x)
"""


def test_a_package_that_is_installed_needs_no_trust_in_ones_own_run(there, mlprun, monkeypatch, tmp_path_factory):
    site = tmp_path_factory.mktemp("site")
    monkeypatch.syspath_prepend(site)
    own(there, mlprun)
    shutil.move(there / "mine.py", site / "mine.py")
    shutil.move(there / "own", there / "moved")
    assert mlprun("eval", "moved").status == 0
    assert mlprun("resume", "moved", "epochs=2").status == 0
    assert mlprun("reproduce", "moved").status == 0
    assert "best    mlprun data=iris" in mlprun("runs", "moved").out
    edit(there / "moved/run.json", signature="hmac-sha256:" + "0" * 64)
    assert re.search(r"not signed with your key, /.*/signing\.key; add --trust", mlprun("eval", "moved").err)
    assert mlprun("eval", "moved", "--trust").status == 0
    assert "best    mlprun reproduce moved" in mlprun("runs", "moved").out


@pytest.mark.parametrize(
    "changed",
    [
        {"config__model": EVIL},
        {"config__seed": 1},
        {"folder": "/elsewhere"},
        {"overrides": ["model=evil"]},
        {"command": "mlprun --config-dir theirs"},
    ],
)
def test_a_signature_covers_what_is_executed_or_pasted(there, mlprun, changed):
    from mlprun.runs.record import read_record

    assert mlprun(*TRAIN, "hydra.run.dir=own").status == 0
    assert read_record(there / "own/run.json").is_own
    edit(there / "own/run.json", **changed)
    assert not read_record(there / "own/run.json").is_own


def test_a_signed_record_does_not_vouch_for_a_module_that_came_with_it(there, mlprun, monkeypatch):
    own(there, mlprun)
    (there / "mine.py").unlink()
    del sys.modules["mine"]
    (there / "own/mine.py").write_text(PLANT)
    monkeypatch.chdir(there / "own")
    assert "No module named 'mine'" in mlprun("eval", ".").err  # it is looked for where the run was started
    moved = there.rename(there.with_name("moved"))
    monkeypatch.chdir(moved / "own")
    assert "came with the run" in mlprun("eval", ".").err
    assert not [*moved.rglob("ran")]


def test_a_strangers_record_is_never_signed(there, mlprun):
    from mlprun.runs import sweep_record
    from mlprun.runs.record import read_record

    assert mlprun("resume", RUN, "epochs=2").status == 0
    assert not read_record(there / RUN / "run.json").is_own
    assert mlprun("-m", *TRAIN, "seed=0,1,2", f"hydra.sweep.dir={SWEEP}", "hydra/launcher=basic").status == 0
    assert not sweep_record.read(there / SWEEP).is_own


def test_a_repository_in_the_run_runs_no_command(there, mlprun, monkeypatch):
    git = ["git", "-c", "user.name=x", "-c", "user.email=x", "-C", str(there / RUN)]
    for words in (["init", "-q"], ["add", "-f", "train.log"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], check=True)
    evil = f"touch {there}/ran; cat"
    with (there / RUN / ".git/config").open("a") as file:
        file.write(f'[core]\n fsmonitor = "{evil}"\n[filter "evil"]\n clean = "{evil}"\n')
    (there / RUN / ".gitattributes").write_text("* filter=evil\n")
    monkeypatch.chdir(there / RUN)
    assert mlprun("resume", ".", "epochs=2").status == 0
    assert not (there / "ran").exists()


# ------------------------------------------------------------------------------------------- names and values

DEEP = "[" * 100_000 + "]" * 100_000
TEXTS = {"deep": f'{{"config": {DEEP}}}', "deep enough": f'{{"config": {"[" * 900}{"]" * 900}}}', "no object": "[]"}
TEXTS |= {"a number": f'{{"status": "completed", "steps": 1{"0" * 4000}}}', "no UTF-8": "\udcff"}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("line", ["runs", *(pytest.param(line, marks=pytest.mark.long) for line in ("plot", "show"))])
def test_one_bad_record_hides_no_other(there, mlprun, name, line):
    text = TEXTS[name].encode(errors="surrogateescape")
    plant = replaced(f"{RUN}/run.json", lambda file: file.write_bytes(text))
    printed = attack(there, mlprun, plant, line)
    assert ("seed=0" in printed) == (line == "runs")
    assert "run.json" in printed


SHOWN = {
    "a command": {"command": "\x1b[2J", "folder": "\x9b2J"},
    "an error": {"status": "failed", "error": "\x1b]0;x\x07"},
    "an override": {"overrides": ["optim.lr=\x1b[2J"]},
    "a monitor": {"config__monitor": "val/\x1b[2J"},
    "a metric": {"metrics": {"test/\x1b[2J": 1.0, "val/loss": 0.5}},
    "a data set": {"config__data__name": "\x1b[2J\u202e"},
    "a status": {"status": "\x1b[2J"},
    "a device": {"device": {"type": "\x1b[2J"}},
}


def test_control_characters_are_shown_as_escapes(there, mlprun):
    record = there / RUN / "run.json"
    whole = record.read_text()
    for name, values in SHOWN.items():
        for line in ("runs", "show"):
            printed = attack(there, mlprun, lambda _, values=values: edit(record, **values), line)
            assert not set("\x07\x9b\u202e") & set(printed), name
            record.write_text(whole)


def test_a_cell_of_the_leaderboard_starts_no_formula():
    from mlprun.formatting import csv_cell

    cells = ["=1+1", "+cmd", "-x", "@SUM(1)", "\tx", "\rx", " =1", "-0.5", "+1e-3", "1e5", "adam", 0.5, None, "\x1b"]
    assert [csv_cell(cell) for cell in cells] == [
        "'=1+1", "'+cmd", "'-x", "'@SUM(1)", "'\\tx", "'\\rx", "' =1", "-0.5", "+1e-3", "1e5", "adam", 0.5, None,
        "\\x1b",
    ]  # fmt: skip
