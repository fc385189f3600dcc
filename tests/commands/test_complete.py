"""TAB: what Hydra's scripts for bash, zsh and fish are given."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mlprun.cli.complete import MOST_RUNS, offers
from mlprun.cli.verbs import VERBS

RUNS = ["outputs/2026-11-27/10-55-51_iris_mlp_adam_bcf4", "outputs/sweeps/lr", "outputs/sweeps/lr/optim.lr=0.1_ab12"]
LAST_AND_RUNS = ["last", *RUNS[:2]]
OPTIONS = ["--cfg", "--config-dir", "--config-name", "--help", "--hydra-help", "--info", "--multirun", "--package"]
OPTIONS += ["--resolve", "--shell-completion", "--version"]


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for path in RUNS:
        Path(path).mkdir(parents=True)
        Path(path, "sweep.json" if path == RUNS[1] else "run.json").touch()
    Path("outputs/inspect/looked_at").mkdir(parents=True)
    Path("mine/model/sub").mkdir(parents=True)
    Path("mine/model/wide.yaml").write_text("_target_: users.Wide\n")
    Path("mine/other.yaml").write_text("defaults: [config]\n")
    return tmp_path


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("mlprun rep", ["reproduce"]),
        ("mlprun ev", ["eval", "eval_every="]),
        ("mlprun eval ", LAST_AND_RUNS),
        ("mlprun show last ", LAST_AND_RUNS),
        ("mlprun show last last ", []),
        ("mlprun plot --x step last ou", RUNS[:2]),
        ("mlprun predict --trust l", ["last"]),
        ("mlprun reproduce outputs/sweeps/lr/", RUNS[2:]),
        ("mlprun predict last ", []),  # files, which the shell knows
        ("mlprun runs ", []),
        ("mlprun eval last ", ["data.root="]),
        ("mlprun eval last --c", ["--changed-data", "--checkpoint"]),
        ("mlprun plot last --x ", ["epoch", "optim/lr", "seconds", "step"]),
        ("mlprun resume last ste", ["steps="]),
        ("mlprun resume last trainer.", ["trainer.devices=", "trainer.max_time="]),
        ("mlprun resume last sweep.stale=", ["sweep.stale=keep", "sweep.stale=redo"]),
        ("mlprun inspect model=resn", ["model=resnet18"]),
        ("mlprun experiments acc", ["accumulation"]),
        ("mlprun help mod", ["model", "model."]),
        ("mlprun help model", ["model", "model.", "model="]),
        ("mlprun help model=res", ["model=resnet18"]),
        ("mlprun help --config-dir mine model=w", ["model=wide"]),
        ("mlprun help model=cnn model.chan", ["model.channels"]),
        ("mlprun help rep", ["reproduce"]),
        ("mlprun --", OPTIONS),
        ("mlprun --cfg ", ["all", "hydra", "job"]),
        ("mlprun --config-dir mine --config-name ", ["config", "other"]),
        ("mlprun --config-dir mine model=w", ["model=wide"]),
        ("mlprun --config-dir=mine -m model=mlp,s", ["model=mlp,sub/"]),
        ("mlprun inspect -cd mine model=w", ["model=wide"]),
        ("mlprun model=res", ["model=resnet18"]),
        ("mlprun optim=ada", ["optim=adadelta", "optim=adagrad", "optim=adam", "optim=adamw"]),
        ("mlprun sched", ["scheduler.", "scheduler="]),
        ("mlprun -m model=ml", ["model=mlp"]),
        ("mlprun -m seed=1 model=mlp,res", ["model=mlp,resnet18"]),
        ("mlprun seed=1 trainer.prec", ["trainer.precision="]),
        ("mlprun hydra/launcher=subm", ["hydra/launcher=submitit_local", "hydra/launcher=submitit_slurm"]),
        ("mlprun model=lstm model.bid", ["model.bidirectional="]),
        ("mlprun model=lstm model.bidirectional=", ["model.bidirectional=false", "model.bidirectional=true"]),
        ("mlprun nonsense.x=3 seed", ["seed="]),
        ("mlprun ~writers.cons", ["~writers.console"]),
        ("mlprun +experiment=accum", ["+experiment=accumulation"]),
        ("mlprun device=", ["device=auto", "device=cpu", "device=cuda", "device=mps"]),
        ("mlprun trainer.compile=", ["trainer.compile=false", "trainer.compile=true"]),
        ("mlprun trainer.on_nan=s", ["trainer.on_nan=skip", "trainer.on_nan=stop"]),
        ("mlprun trainer.grad_clip=n", ["trainer.grad_clip=null"]),
        ("mlprun logging.pictures=[filters,at", ["logging.pictures=[filters,attention"]),
        ("mlprun debug=n", ["debug=null"]),
        ("mlprun epochs=", ["epochs=10"]),
        ("mlprun trainer.weights=o", [f"trainer.weights={path}" for path in RUNS[:2]]),
        ("mlprun data.root=./m", ["data.root=./mine/"]),
        ("mlprun 'model.hidden=[1, 2", []),
        ("mlprun --config-dir nope mod", None),
        ("mlprun hydra.run.dir=", []),  # ${now:…} would be executed
    ],
)  # fmt: skip
def test_what_can_stand_there_is_offered(project, line, offered):
    if offered is None:
        with pytest.raises(Exception, match="there is no such folder"):
            offers(line)
    else:
        assert offers(line) == sorted(offered)


def test_a_line_begins_with_a_verb_a_group_or_a_key(project):
    assert {*VERBS, "model=", "model.", "seed="} <= {*offers("mlprun ")}
    assert not {*VERBS} & {*offers("mlprun seed=1 ")}


def test_a_name_that_a_shell_would_execute_is_not_offered(project):
    for name in ("$(touch hacked)", "`touch`", "a b", "a;b", "a'b", "größe"):
        Path("outputs", name).mkdir()
        Path("outputs", name, "run.json").touch()
    assert offers("mlprun show outputs/") == sorted([*RUNS[:2], "outputs/größe"])


def test_of_many_runs_the_folders_are_offered(project):
    for day in (1, 2):
        for number in range(MOST_RUNS):
            Path(f"many/{day}/{number}").mkdir(parents=True)
            Path(f"many/{day}/{number}/run.json").touch()
    assert offers("mlprun show many/") == ["many/1/", "many/2/"]
    assert len(offers("mlprun show many/1/")) == MOST_RUNS


@pytest.mark.parametrize(
    "line", ["mlprun eval $(", "~/bin/mlprun --config-dir nope mod", "mlprun\t'", "", "mlprun +++=["]
)
def test_tab_prints_no_error(mlprun, monkeypatch, line):
    monkeypatch.setenv("COMP_LINE", line)
    result = mlprun("-sc", "query=bash")
    assert (result.status, result.err) == (0, "")


@pytest.mark.parametrize(("query", "end"), [("bash", " "), ("zsh", " "), ("fish", "\n")])
def test_the_word_at_the_cursor_is_completed(project, mlprun, monkeypatch, query, end):
    monkeypatch.setenv("COMP_LINE", "mlprun trainer.on_nan=s model=mlp")
    monkeypatch.setenv("COMP_POINT", "23")
    assert mlprun("-sc", f"query={query}").out == f"trainer.on_nan=skip{end}trainer.on_nan=stop\n"


@pytest.mark.parametrize("words", [[], ["install=csh"], ["install=bash", "seed=1"]])
def test_how_to_install_it_is_told(mlprun, words):
    result = mlprun("-sc", *words)
    assert (result.status, result.out, result.err.count("\n")) == (2, "", 2)
    assert "write -sc install=bash" in result.err


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_bash_completes_after_hydras_own_installation(project):
    Path("bin").mkdir()
    Path("bin/mlprun").write_text(f"#!{sys.executable} -P\nfrom mlprun.cli.main import program\nprogram()\n")
    Path("bin/mlprun").chmod(0o755)
    code = 'eval "$(mlprun -sc install=bash)"; complete -p mlprun\n'
    for line in ("mlprun eval la", "mlprun resume last outputs/2", "mlprun show o", "mlprun device=c"):
        words = line.split()
        code += f"COMP_LINE='{line}' COMP_POINT={len(line)} COMP_CWORD={len(words) - 1}; hydra_bash_completion\n"
        code += 'echo "${COMPREPLY[@]}"\n'
    path = f"{Path('bin').absolute()}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, env={**os.environ, "PATH": path})
    assert done.stderr == ""
    rule, *offered = done.stdout.splitlines()
    assert rule.endswith(" -F hydra_bash_completion mlprun")
    assert (
        offered
        == [
            "last",
            "outputs/2026-11-27",  # a file: the shell completes those
            " ".join(RUNS[:2]),
            "device=cpu device=cuda",
        ]
    )
