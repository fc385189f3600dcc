"""`mlprun help`: groups, choices, keys and verbs."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlprun.config.explain import comments
from tests.helpers.files import REPOSITORY

WAVES = """# A network for waves. `mlprun model=waves`
_target_: mine.Waves
# features of a layer
width: 8
bands: [1, 2]   # edges, in Hz
"""


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            "trainer.accumulate",
            "trainer.accumulate=1  micro-batches per optimizer step: the same result as the whole batch, in less memory"
            " (1 or more)",
        ),
        ("epochs", "epochs=10  passes over the training split (epochs; 1 or more)"),
        ("model.hidden", "model.hidden=[128,64]  width of each hidden layer; [] is a linear model (model=mlp)"),
        ("model=cnn model.kernel", "model.kernel=3  side of the filters in pixels, odd (model=cnn)"),
        ("optim.lr=3", "optim.lr=3  highest rate of any schedule (optim=adam)"),
        ("model.num_outputs", "model.num_outputs=${data.num_outputs}"),
        ("metrics=f_beta metrics.f_beta.beta", "metrics.f_beta.beta=1.0  above 1 recall counts more"),
    ],
)
def test_a_key_is_one_line(mlprun, words, line):
    result = mlprun("help", *words.split())
    assert (result.status, result.err, result.out.count("\n")) == (0, "", 1)
    assert result.out.startswith(line)


def test_a_choice_is_its_yaml_with_the_comments(mlprun):
    text = (REPOSITORY / "conf/model/mlp.yaml").read_text()
    assert mlprun("help", "model=mlp").out.startswith(text + "\nfile ")
    both = mlprun("help", "model=mlp,cnn").out
    assert text in both
    assert (REPOSITORY / "conf/model/cnn.yaml").read_text() in both
    assert mlprun("help", "hydra/launcher=basic").out.startswith("_target_: hydra")


def test_a_group_is_its_choices_and_a_section_its_keys(mlprun):
    lines = mlprun("help", "optim").out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["adadelta", "adagrad", "adam"]
    assert lines[3] == "adamw     Adam with decoupled weight decay"
    assert "optim=adam is the default" in lines
    lines = mlprun("help", "early_stopping").out.splitlines()
    assert lines[0] == "When to stop a run that no longer improves."
    assert [line.split("=")[0] for line in lines[1:]] == ["early_stopping.patience", "early_stopping.min_delta"]
    assert "model.hidden=[128,64]" in mlprun("help", "model.").out


def test_nothing_is_the_help_of_mlprun_and_a_verb_its_own(mlprun):
    assert mlprun("help").out == mlprun("--help").out
    assert mlprun("help", "eval").out == mlprun("eval", "--help").out


@pytest.mark.parametrize("is_project", [False, True])
def test_ones_own_yaml_counts(mlprun, is_project):
    Path("mine/model").mkdir(parents=True)
    Path("mine/model/waves.yaml").write_text(WAVES)
    if is_project:
        Path("mine/project").mkdir()
        Path("mine/project/base.yaml").write_text("# @package _global_\ndefaults:\n  - override /model: waves\n")
        Path("pyproject.toml").write_text('[tool.mlprun]\nconf = "mine"\ndefaults = "base"\n')
    words = [] if is_project else ["--config-dir", "mine", "model=waves"]
    assert mlprun("help", *words, "model.width").out == "model.width=8  features of a layer (model=waves)\n"
    assert mlprun("help", *words, "model.bands").out == "model.bands=[1,2]  edges, in Hz (model=waves)\n"
    assert "waves              A network for waves\n" in mlprun("help", *words[:2], "model").out
    assert WAVES in mlprun("help", *words[:2], "model=waves").out


def test_no_comment_in_our_yaml_is_lost():
    files = [
        file for group in ("model", "optim", "loss", "scheduler") for file in (REPOSITORY / "conf" / group).iterdir()
    ]
    for text in map(Path.read_text, files):
        behind = [line.partition("  # ")[2].strip() for line in text.splitlines() if line[0] != "#" and "  # " in line]
        assert [comment for comment in behind if comment not in dict(comments(text)).values()] == []
