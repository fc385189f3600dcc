"""Train the same command lines at two versions of mlprun, and compare what they write bit for bit.

    python dev/golden.py BASE                 # this working tree against a commit, all lines
    python dev/golden.py BASE mlp sweep       # some of them
    python dev/golden.py BASE --resume        # BASE begins each run, and both versions finish it

Compares the rows of metrics.jsonl (not speeds), what run.json says of the result, and every tensor and value of the
checkpoints but the config, whose `_target_`s name modules that may move. Prints one line per command line: identical,
or the first difference. The exit status is 1 if anything differs. Bits depend on the machine: nothing is stored.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from mlprun.version_one import upgrade_checkpoint

REPOSITORY = Path(__file__).resolve().parents[1]
RECORD = ("status", "steps", "num_steps", "num_parameters", "best_step", "ended_by", "skipped_steps", "data", "metrics")
NOT_COMPARED = ("config", "format")  # of a checkpoint

REVIEWS = "data=reviews data.dataset.num_examples=600 data.text.min_frequency=1"
TRANSFORMER = "model=transformer model.width=16 model.num_heads=2 optim=adamw"
# Name, and what is typed after `mlprun`: no module of mlprun's. `;` separates commands that follow each other in one
# folder. `STOP` sends SIGTERM at the first last.pt.
COMMANDS = f"""
linear          data=diabetes model=linear optim=sgd optim.lr=0.05 batch_size=64 steps=20
mlp             model.dropout=0.2 model.batch_norm=true optim=momentum scheduler=cosine scheduler.warmup=10% steps=24
cnn             model=cnn model.channels=[4,8] data.augment.crop=1 data.augment.flip=true scheduler=one_cycle \
                optim=adamw trainer.decay_all=false checkpoint.keep=1 steps=20
resnet18        model=resnet18 data.limit=32 data.limit_eval=32 batch_size=8 checkpoint.every='2 steps' steps=4
cyclical        data=spirals model.init=he optim=nesterov scheduler=triangular scheduler.step_size='4 steps' steps=20
plateau         data=moons optim=rmsprop optim.lr=0.1 scheduler=plateau scheduler.patience=0 scheduler.gamma=0.5 \
                early_stopping.patience=4 monitor=val/accuracy
accumulation    trainer.accumulate=4 trainer.grad_clip=0.2 model.dropout=0.1 loss.label_smoothing=0.1 steps=16
bf16            trainer.precision=bf16 model=cnn model.channels=[4,8] optim=muon steps=12
lbfgs           data=breast_cancer model=linear optim=lbfgs batch_size=all steps=12
stream          data=custom data.dataset._target_=stream.Stream data.input_shape=[6] data.num_outputs=3 \
                data.num_workers=1 model.dropout=0.1 steps=20
buckets         {REVIEWS} data.text.bucketing=8 model=lstm model.bidirectional=true steps=12
language_model  data=corpus data.root=corpus.txt data.text.max_length=32 model=gru steps=12
masked          data=reviews_masked data.dataset.num_examples=600 {TRANSFORMER} hydra.run.dir=pretrained steps=12; \
                {REVIEWS} {TRANSFORMER} trainer.weights=pretrained data.text.vocabulary=pretrained \
                trainer.freeze=[encoder.embedding] steps=12
audio           data=tones data.dataset.num_samples=200 model=cnn model.channels=[4,8] steps=12
resumed         STOP model.dropout=0.2 optim=adam scheduler=cosine data.augment.crop=1 steps=20; \
                resume run; resume run steps=25
sweep           -m optim.lr=0.1,0.01 seed=0 steps=12; -m optim.lr=0.1,0.01 seed=0,1 steps=12
data            -m data=iris,wine,circles,xor,blobs,synthetic_classification steps=12
losses          -m data=parabola,line,synthetic_regression loss=mse,l1,smooth_l1 steps=12
texts           -m {REVIEWS} model=embedding_average,rnn,gru,lstm,transformer steps=12
optimizers      -m optim=sgd,momentum,nesterov,adagrad,adadelta,rmsprop,adam,adamw,nadam,radam,muon,lbfgs \
                batch_size=all data.limit=100 steps=12
schedules       -m scheduler=constant,step,multistep,exponential,inverse,polynomial,linear,cosine,cosine_restarts,\
triangular,triangular2,exp_range,one_cycle,range_test,plateau optim=sgd data.limit=64 epochs=15
"""
LINES = {line.split()[0]: line.split(maxsplit=1)[1].split(";") for line in COMMANDS.strip().splitlines()}
DEFAULTS = ("trainer.num_threads=1", "eval_every=5 steps", "checkpoint.every=5 steps", "logging.every=1 step")

STREAM = """
import torch
class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        for i in range(300):
            yield torch.rand(6) + i % 3, i % 3
"""
CORPUS = " ".join(f"{number} is {('even', 'odd')[number % 2]}." for number in range(2000))

# Python runs this at its start: no other tree of mlprun's is found, and a run that is to be stopped stops itself.
SITE = """
import os, signal, sys
tree = os.environ["GOLDEN_TREE"]
sys.path[:] = [path for path in sys.path if path == tree or not os.path.exists(path + "/mlprun/__init__.py")]
if os.environ["GOLDEN_STOP"]:
    replace = os.replace
    def replace_and_stop(source, target, **options):
        replace(source, target, **options)
        if os.path.basename(target) == "last.pt":
            os.kill(os.getpid(), signal.SIGTERM)
    os.replace = replace_and_stop
"""


def run(command: str, tree: Path, folder: Path) -> str:
    """Run one command line with the mlprun of `tree`; what went wrong, or the empty string."""
    words = shlex.split(command)
    if stop := words[0] == "STOP":
        words = words[1:]
    if words[0] != "resume":
        where = "hydra.sweep.dir=sweep" if words[0] == "-m" else "hydra.run.dir=run"
        keys = [word.partition("=")[0] for word in words]
        words += [word for word in (where, *DEFAULTS) if word.partition("=")[0] not in keys]
    path = os.pathsep.join([str(folder.parents[1] / "site"), str(tree)])
    environment = {**os.environ, "PYTHONPATH": path, "GOLDEN_TREE": str(tree), "GOLDEN_STOP": "1" if stop else ""}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-m", "mlprun", *words], cwd=folder, env=environment, capture_output=True, text=True
    )
    if stop and any('"status": "interrupted"' in file.read_text() for file in folder.rglob("run.json")):
        return ""
    if not stop and not done.returncode:
        return ""
    said = "\n    ".join(done.stderr.strip().splitlines()[-5:])
    return f"mlprun {command}: exit status {done.returncode}\n    {said}"


def split(commands: list[str], *, resume: bool) -> tuple[list[str], list[str]]:
    """What BASE does for both versions, and what each does itself."""
    if not resume:
        return [], commands
    if len(commands) > 1:
        return commands[:-1], commands[-1:]
    # the same line again finishes a sweep
    return [f"STOP {commands[0]}"], [commands[0] if commands[0].startswith("-m ") else "resume run"]


def find_runs(folder: Path) -> dict[str, Path]:
    """Run directories, by their path, or within a sweep by what was swept."""
    runs: dict[str, Path] = {}
    for file in sorted(folder.rglob("run.json")):
        key = str(file.parent.relative_to(folder))
        if "/" in key:  # directories of a sweep are named by a hash of the config
            key = f"{key.partition('/')[0]}: {' '.join(sorted(json.loads(file.read_text())['overrides']))}"
        while key in runs:
            key += " again"
        runs[key] = file.parent
    return runs


def read(run: Path) -> dict[str, Any]:
    """All that is compared of a run directory."""
    record = json.loads((run / "run.json").read_text())
    record["data"].pop("digests", None)  # newer than version one
    rows = [json.loads(row) for row in (run / "metrics.jsonl").read_text().splitlines()]
    checkpoints = {
        file.name: torch.load(file, map_location="cpu", weights_only=True)
        for file in sorted((run / "checkpoints").iterdir())
    }
    for state in checkpoints.values():
        (state.get("image_format") or {}).pop("resize", None)  # newer, too
        if state["format"] == 1:
            upgrade_checkpoint(state)
    return {
        "metrics.jsonl": [{key: value for key, value in row.items() if not key.startswith("perf/")} for row in rows],
        "run.json": {key: record[key] for key in RECORD if key in record},
        "checkpoints": {
            name: {key: value for key, value in state.items() if key not in NOT_COMPARED}
            for name, state in checkpoints.items()
        },
    }


def difference(old: Any, new: Any, place: str = "") -> str:
    """Where two nested values first differ, with both values; empty if they are the same to the bit."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            if key not in new or key not in old:
                return f"{place} {key}: only at {'BASE' if key in old else 'present'}"
            if found := difference(old[key], new[key], f"{place} {key}"):
                return found
        return ""
    if isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)):
        for number, (first, second) in enumerate(zip(old, new, strict=False)):
            if found := difference(first, second, f"{place} [{number}]"):
                return found
        return "" if len(old) == len(new) else f"{place}: {len(old)} entries at BASE, {len(new)} now"
    if isinstance(old, torch.Tensor) and isinstance(new, torch.Tensor):
        if (old.dtype, old.shape) != (new.dtype, new.shape):
            return f"{place}: {old.dtype} {tuple(old.shape)} at BASE, {new.dtype} {tuple(new.shape)} now"
        bits = [tensor.detach().reshape(-1).contiguous().view(torch.uint8) for tensor in (old, new)]
        if torch.equal(*bits):
            return ""
        where = int((bits[0] != bits[1]).nonzero()[0]) // old.element_size()
        values = [tensor.detach().reshape(-1)[where].item() for tensor in (old, new)]
        return f"{place} entry {where} of {tuple(old.shape)}: {values[0]!r} at BASE, {values[1]!r} now"
    # repr distinguishes all bits of a float, and 0 from 0.0
    return "" if repr(old) == repr(new) else f"{place}: {old!r} at BASE, {new!r} now"


def compare(name: str, trees: dict[str, Path], scratch: Path, *, resume: bool) -> tuple[str, str]:
    """Run a line with both trees; the first difference or failure (empty if none), and what was compared."""
    folders = {version: scratch / version / name for version in trees}
    folders["BASE"].mkdir(parents=True)
    (folders["BASE"] / "stream.py").write_text(STREAM)
    (folders["BASE"] / "corpus.txt").write_text(CORPUS)
    shared, own = split(LINES[name], resume=resume)
    for command in shared:
        if error := run(command, trees["BASE"], folders["BASE"]):
            return f"at BASE: {error}", ""
    shutil.copytree(folders["BASE"], folders["present"], symlinks=True)

    def do(version: str) -> str:
        for command in own:
            if error := run(command, trees[version], folders[version]):
                return f"at {version}: {error}"
        return ""

    with ThreadPoolExecutor(2) as both:
        if errors := [error for error in both.map(do, trees) if error]:
            return "\n".join(errors), ""
    old, new = (find_runs(folders[version]) for version in trees)
    if old.keys() != new.keys() or not old:
        return f"runs: {sorted(old)} at BASE, {sorted(new)} now", ""
    num_rows = 0
    for key in old:
        before, after = read(old[key]), read(new[key])
        num_rows += len(before["metrics.jsonl"])
        if found := difference(before, after, f"{key}:"):
            return found, ""
    return "", f"{len(old)} {'run' if len(old) == 1 else 'runs'}, {num_rows} rows"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", metavar="BASE", help="a commit of this repository")
    parser.add_argument("lines", metavar="LINES", nargs="*", help=f"which; none is all of {', '.join(LINES)}")
    parser.add_argument("--resume", action="store_true", help="runs are begun at BASE and finished by both versions")
    parser.add_argument("--keep", action="store_true", help="keep the run directories, and say where they are")
    options = parser.parse_intermixed_args()
    if unknown := [name for name in options.lines if name not in LINES]:
        parser.error(f"no line is called {unknown[0]}; there are {', '.join(LINES)}")
    scratch = Path(tempfile.mkdtemp(prefix="golden-")).resolve()
    try:
        archive = subprocess.run(["git", "-C", REPOSITORY, "archive", options.base], check=True, stdout=subprocess.PIPE)
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            files.extractall(scratch / "tree", filter="data")
        (scratch / "site").mkdir()
        (scratch / "site" / "sitecustomize.py").write_text(SITE)
        differ = False
        for name in options.lines or LINES:
            start = time.monotonic()
            trees = {"BASE": scratch / "tree", "present": REPOSITORY}
            found, compared = compare(name, trees, scratch, resume=options.resume)
            verdict = f"DIFFERS    {name:14} {found}" if found else f"identical  {name:14} {compared}"
            print(f"{verdict}  ({time.monotonic() - start:.0f} s)", flush=True)
            differ |= bool(found)
        return int(differ)
    finally:
        if options.keep:
            print(f"kept       {scratch}")
        else:
            shutil.rmtree(scratch)


if __name__ == "__main__":
    sys.exit(main())
