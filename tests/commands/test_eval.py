"""`mlprun eval`: the run's own figures, or what is wrong with it."""

from __future__ import annotations

import itertools
import os
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mlprun.predict.finished import load
from mlprun.predict.test_time import views_of_test_split
from mlprun.runs import checkpoint
from tests.helpers.files import save_image, write
from tests.helpers.lines import finish
from tests.helpers.runs import RUN, record_of, rows_of


@pytest.mark.parametrize(
    "line",
    [
        [],
        ["trainer.precision=bf16", "batch_size=7"],
        ["data=diabetes", "model=linear"],
        ["trainer.ema=0.9", "model.batch_norm=true", "epochs=2", "eval_every=3 steps"],
        [
            "data=iris",
            "metrics=[auroc,f_beta,per_class_recall,calibration_error]",
            "monitor=val/auroc",
            "loss.class_weights=[1,2,3]",
        ],
        ["data=synthetic_classification", "data.dataset.num_classes=25", "data.dataset.num_samples=2000"],
    ],
)
def test_eval_gives_the_runs_own_figures_unrounded(mlprun, line):
    run = mlprun("debug=fast", *line).runs[0]
    result = mlprun("eval", str(run))
    assert result.status == 0
    printed = {name: float(value) for name, value in (row.split() for row in result.out.splitlines())}
    recorded = record_of(run)["metrics"]
    assert printed == {k: v for k, v in recorded.items() if k.startswith("test/")}


def test_each_checkpoint_of_the_best_evaluations_is_listed_and_scored(mlprun, trained):
    """A rate so high that the first evaluation is not the best, nor the last."""
    run = trained("data.limit=200", "epochs=8", "optim.lr=0.05", "checkpoint.keep_best=3")
    rows = {row["step"]: row["val/loss"] for row in rows_of(run) if "val/loss" in row}
    best, *others = sorted(rows, key=lambda step: (rows[step], step))[:3]
    assert record_of(run)["best_step"] == best
    assert {path.name for path in run.glob("checkpoints/*")} == {
        "best.pt",
        "last.pt",
        *(f"step_{n}.pt" for n in others),
    }
    shown = mlprun("show", str(run)).out
    for step in others:
        assert f"step {step}, val/loss {rows[step]:.6g}\n" in shown
    names = ["best", *(f"step_{n}" for n in others)]
    assert len({mlprun("eval", str(run), "--checkpoint", name).out for name in names}) == 3
    assert mlprun("eval", str(run)).out == mlprun("eval", str(run), "--checkpoint", "best").out
    assert mlprun("predict", str(run), "--index", "3", "--checkpoint", names[-1], "--json").status == 0
    for name in ("newest", "../checkpoints/best", f"step_{best}"):
        result = mlprun("eval", str(run), "--checkpoint", name)
        assert (result.status, result.out) == (2, "")
        assert f"checkpoint={name}: is none of the run's\n  choose from: best, last, step_{min(others)}" in result.err
    (run / "checkpoints" / f"step_{others[0]}.pt").unlink()
    lost = mlprun("resume", str(run), "epochs=9", "checkpoint.keep_best=3")
    assert lost.status == 0, lost.err
    assert f"of the next best checkpoints these are lost: step_{others[0]}.pt\n" in lost.out
    few = mlprun("resume", str(run), "epochs=10", "checkpoint.keep_best=1")
    assert few.status == 0, few.err
    assert {path.name for path in run.glob("checkpoints/*")} == {"best.pt", "last.pt"}


CROPS = [
    "data.transforms.train=[{_target_:RandomCrop,size:6},RandomVerticalFlip]",
    "data.transforms.eval=[{_target_:CenterCrop,size:6}]",
    "data.input_shape=[1,6,6]",
]
INVERTED = [
    "data.transforms.train=[{_target_:RandomCrop,size:4,padding:1},{_target_:RandomInvert,p:1}]",
    "data.transforms.eval=[{_target_:RandomInvert,p:1}]",
]
TTA_LINES = {
    "in memory": lambda folder: ["data.augment.crop=1", "data.augment.flip=true", "data.limit_eval=100"],
    "files": lambda folder: [*pictures(folder), "data.augment.flip=true"],
    "transforms in memory": lambda folder: [*CROPS, "data.augment.flip=true", "data.limit_eval=100"],
    "transforms of files": lambda folder: [*pictures(folder), *INVERTED, "data.augment.flip=true"],
}


@pytest.mark.parametrize("make", TTA_LINES.values(), ids=TTA_LINES)
def test_test_time_augmentation_scores_the_mean_of_the_draws(mlprun, tmp_path, make):
    assert mlprun("debug=fast", "model=linear", *make(tmp_path), f"hydra.run.dir={RUN}").status == 0
    plain, one, many = (mlprun("eval", RUN, *words) for words in ([], ["--tta", "1"], ["--tta", "6"]))
    assert many == mlprun("eval", RUN, "--tta", "6")
    assert many.status == 0, many.err
    assert len({plain.out, one.out, many.out}) == 3
    run = load(tmp_path / RUN, data=True)
    assert run.splits is not None
    views, _ = views_of_test_split(run.config, run.splits, run.learner, 6)
    probabilities, targets = [], []
    with torch.inference_mode():
        for batch in views:
            each = [run.learner.model(view).softmax(1) for view in batch.inputs]
            probabilities.append(torch.stack(each).mean(0))
            targets.append(batch.targets)
    mean, labels = torch.cat(probabilities), torch.cat(targets)
    printed = {name: float(value) for name, value in (line.split() for line in many.out.splitlines())}
    assert printed["test/accuracy"] == (mean.argmax(1) == labels).double().mean()
    assert printed["test/loss"] == pytest.approx(nn.functional.nll_loss(mean.log(), labels).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("line", "words", "said"),
    [
        (["model=linear"], ["--tta", "8"], "--tta=8: averages over the augmentation of the training, and this run"),
        (
            ["model=linear", "data.transforms.eval=[{_target_:RandomInvert,p:1}]"],
            ["--tta", "8"],
            "--tta=8: averages over the augmentation of the training, and this run",
        ),
        (["model=linear"], ["--tta", "0"], "--tta=0: must be 1 or more"),
        (["data=reviews", "model=embedding_average"], ["--tta", "2"], "and this run had none\n  leave it out"),
    ],
)
def test_test_time_augmentation_without_one_is_refused(mlprun, trained, line, words, said):
    refused = mlprun("eval", str(trained("debug=fast", *line)), *words)
    assert (refused.status, refused.out) == (2, "")
    assert said in refused.err


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda run: (run / "run.json").unlink(), "is not a run"),
        (lambda run: (run / "run.json").write_text("{"), "cannot be read"),
        (lambda run: (run / "checkpoints" / "best.pt").unlink(), "no best checkpoint"),
        (lambda run: (run / "checkpoints" / "best.pt").write_bytes(b"torn"), "is damaged"),
    ],
)
def test_eval_of_a_spoilt_run_says_what_is_wrong(mlprun, trained, spoil, said):
    run = trained("debug=fast", "model=linear")
    spoil(run)
    result = mlprun("eval", str(run))
    assert result.status == 1
    assert said in result.err
    assert "Traceback" not in result.err


# ------------------------------------------------------------------------------- what changed since the run


def bmp(file: Path, number: int) -> None:
    """A picture of noise: all files have the same size."""
    save_image(file, np.random.default_rng(number).integers(0, 256, (4, 4, 3)))


def pictures(folder: Path) -> list[str]:
    for kind in ("cat", "dog"):
        (folder / "mine" / kind).mkdir(parents=True)
        for i in range(20):
            bmp(folder / "mine" / kind / f"{i:02}.bmp", 20 * len(kind + "s" * (kind == "dog")) + i)
    return ["data=image_folder", "data.root=mine", "data.input_shape=[3,4,4]", "data.num_workers=0"]


def texts(folder: Path) -> list[str]:
    for kind in ("good", "bad"):
        write(folder / "mine" / kind, {f"{i:02}.txt": f"this is {kind} no {i % 7}" for i in range(20)})
    return ["data=text_folder", "data.root=mine", "model=embedding_average"]


def rows(folder: Path) -> list[str]:
    write(folder, {"mine.csv": "".join(f"{i % 3},{i % 5},{i % 2}\n" for i in range(60)), "users_rows.py": ROWS})
    shape = ["data.input_shape=[2]", "data.num_outputs=2"]
    return ["data=custom", "data.dataset._target_=users_rows.Rows", "+data.dataset.path=mine.csv", *shape]


def in_memory(folder: Path) -> list[str]:
    return [*rows(folder), "data.dataset._target_=users_rows.in_memory"]


ROWS = """
import torch
from mlprun.data.source import Examples, Source
from torch.utils.data import Dataset

class Rows(Dataset):
    def __init__(self, path):
        self.rows = [[float(x) for x in line.split(",")] for line in open(path)]
    def __len__(self):
        return len(self.rows)
    def __getitem__(self, i):
        return torch.tensor(self.rows[i][:2]), int(self.rows[i][2])

def in_memory(path):
    table = torch.tensor(Rows(path).rows)
    return Source(Examples(table[:, :2], table[:, 2].long()))
"""


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with data and a run of them, trained at its first use; not to be changed."""

    @cache
    def train(make) -> Path:
        folder = tmp_path_factory.mktemp("project")
        finish(folder, "debug=fast", "model=linear", *make(folder), f"hydra.run.dir={RUN}")
        return folder

    return train


@pytest.fixture
def copied(project, tmp_path):
    """A copy of it, in which lines are typed."""
    return lambda make: shutil.copytree(project(make), tmp_path, dirs_exist_ok=True)


@pytest.mark.parametrize(
    ("make", "change", "said"),
    [
        (pictures, lambda f: bmp(f / "mine/cat/20.bmp", 1), "\n  mine: sha256:"),
        (pictures, lambda f: os.rename(f / "mine/cat/03.bmp", f / "mine/dog/20.bmp"), "\n  mine: sha256:"),
        (pictures, lambda f: [bmp(file, i) for i, file in enumerate(f.glob("mine/*/*"))], "\n  examples.test: sha256:"),
        (texts, lambda f: [edit(file, "no", "0n") for file in f.glob("mine/*/*")], "vocabulary"),
        (rows, lambda f: edit(f / "mine.csv", "2,4,", "2,5,"), "\n  examples.test: sha256:"),  # one feature
        (rows, lambda f: edit(f / "mine.csv", ",0\n", ",1\n"), "\n  examples.test: sha256:"),  # one label
        (in_memory, lambda f: edit(f / "mine.csv", "2,4,", "2,5,"), "\n  examples.test: sha256:"),
    ],
)
def test_another_test_split_is_not_scored_unless_asked_for(mlprun, copied, make, change, said):
    folder, same = copied(make), mlprun("eval", RUN)
    assert same.err == ""
    change(folder)
    refused = mlprun("eval", RUN)
    assert (refused.status != 0, refused.out) == (True, "")
    assert said in refused.err
    assert mlprun("predict", RUN, "--index", "0") == refused
    if "--changed-data" in refused.err:
        scored = mlprun("eval", RUN, "--changed-data")
        assert scored.status == 0, scored.err
        assert said in scored.err
        assert [line.split()[0] for line in scored.out.splitlines()] == [x.split()[0] for x in same.out.splitlines()]


@pytest.mark.parametrize(
    ("make", "change", "said"),
    [
        (pictures, lambda f: os.rename(f / "mine", f / "x") or os.symlink(f / "x", f / "mine"), ""),
        (pictures, lambda f: edit(f / RUN / "run.json", '"root": "mine"', f'"root": "{f}/mine"'), ""),  # moved
        (pictures, lambda f: edit(f / RUN / "run.json", '"digests": {', '"unknown": {'), ""),  # an older record
        (texts, lambda f: [edit(file, "this is", "THIS IS") for file in f.glob("mine/*/*")], ""),  # the same tokens
        (rows, lambda f: edit(f / "users_rows.py", "import torch", "import torch "),
         "sources.users_rows.py: sha256:"),
        (rows, lambda f: edit(f / RUN / "run.json", '"torch": "', '"torch": "1.'), "packages.torch: 1."),
        (rows, lambda f: edit(f / RUN / "run.json", '"val_fraction": 0.1', '"val_fraction": 0.3'),
         "run.json is not the config of the run; that of the checkpoint is used:\n  data.val_fraction: 0.3 | 0.1\n"),
        (rows, lambda f: edit(f / RUN / "run.json", '"every": "', '"every": "1'), ""),  # a resume may change it
    ],
)  # fmt: skip
def test_other_changes_are_named_and_the_score_is_the_same(mlprun, copied, make, change, said):
    folder, before = copied(make), mlprun("eval", RUN)
    change(folder)
    after = mlprun("eval", RUN)
    assert (after.status, after.out) == (0, before.out), after.err
    assert said in after.err
    assert bool(said) == bool(after.err)


def test_other_training_examples_are_told_and_the_same_test_examples_scored(mlprun, copied):
    """With a test folder of its own; the scaling is that of the training."""
    folder = copied(parts)
    before = mlprun("eval", RUN)
    bmp(folder / "mine/train/cat/new.bmp", 1)
    after = mlprun("eval", RUN)
    assert (after.status, after.out) == (0, before.out), after.err
    assert "its data has changed, but not the test split:\n  train: sha256:" in after.err
    predicted = mlprun("predict", RUN, "--index", "0")
    assert (predicted.status, "but not the test split" in predicted.err) == (0, True)


def parts(folder: Path) -> list[str]:
    for part, kind in itertools.product(("train", "test"), ("cat", "dog")):
        (folder / "mine" / part / kind).mkdir(parents=True)
        for i in range(10):
            bmp(folder / "mine" / part / kind / f"{i:02}.bmp", len(part + kind) * 20 + i)
    return ["data=image_folder", "data.root=mine", "data.input_shape=[3,4,4]", "data.num_workers=0"]


def test_examples_of_another_test_split_are_not_predicted_unless_asked_for(mlprun, copied):
    folder = copied(pictures)
    bmp(folder / "mine/cat/20.bmp", 1)
    refused = mlprun("predict", RUN, "--index", "0")
    assert refused.status == 1
    assert "--changed-data" in refused.err
    assert mlprun("predict", RUN, "--index", "0", "--changed-data").status == 0
    assert mlprun("predict", RUN, "mine/cat/20.bmp").err == ""  # needs no data
    assert mlprun("predict", RUN, "mine/cat/20.bmp", "--changed-data").status == 2


def test_another_checkpoint_of_the_same_config_in_the_place_of_the_best_is_told(mlprun, copied):
    best = copied(rows) / RUN / "checkpoints/best.pt"
    state = checkpoint.load(best)
    checkpoint.save({**state, "step": 1}, best)
    result = mlprun("eval", RUN)
    assert result.status == 0
    assert "warning: run/checkpoints/best.pt is not the checkpoint that the run ended with (step " in result.err
    assert result.err.endswith("): it is of step 1\n")


def test_start_weights_that_changed_are_told(mlprun, copied):
    folder = copied(rows)
    line = ["debug=fast", "model=linear", *rows(folder), f"trainer.weights={RUN}", "hydra.run.dir=tuned"]
    assert mlprun(*line).status == 0
    assert mlprun("eval", "tuned").err == ""
    assert mlprun("resume", RUN, "epochs=4").status == 0
    told = mlprun("eval", "tuned")
    assert told.status == 0
    assert "\n  weights: sha256:" in told.err
