"""`mlprun experiments`: the ready ones by topic, and one's own."""

from __future__ import annotations

import pytest

from mlprun.course import experiments
from mlprun.errors import ConfigError
from tests.helpers.files import REPOSITORY, choice_files
from tests.helpers.users_code import GOOD

FILES = choice_files("experiment")


def test_all_are_listed_by_topic(mlprun):
    lines = mlprun("experiments").out.splitlines()
    headings = [line for line in lines if line in experiments.TOPICS]
    assert headings == [topic for topic in experiments.TOPICS if topic in headings]
    entries = [line for line in lines if line.startswith("  ")]
    assert {line.split()[0] for line in entries} == {file.stem for file in FILES}
    assert max(map(len, lines)) <= 100
    starts = {len(line) - len(line[2:].partition("  ")[2].lstrip()) for line in entries}
    assert len(starts) == 1, "the descriptions stand below each other"


@pytest.mark.parametrize(
    ("words", "shown", "hidden"),
    [
        (["convolution"], "mnist_cnn", "mnist_mlp"),
        (["Convolution"], "mnist_cnn", "mnist_mlp"),
        (["notebook"], "mnist_notebook", "mnist_cnn"),
        (["pixels", "in"], "mnist_notebook", "mnist_cnn"),
    ],
)
def test_a_topic_or_words_choose(mlprun, words, shown, hidden):
    result = mlprun("experiments", *words)
    assert (result.status, result.err) == (0, "")
    names = {line.split()[0] for line in result.out.splitlines() if line.startswith("  ")}
    assert shown in names
    assert hidden not in names


def test_a_name_shows_the_file(mlprun):
    file = experiments.FOLDER / "mnist_cnn.yaml"
    assert mlprun("experiments", "mnist_cnn").out == f"{file.read_text()}\nfile    {file}\n"


@pytest.mark.parametrize(
    ("typed", "meant"), [("covolution", "convolution"), ("mnist_mpl", "mnist_mlp"), ("clasification", "classification")]
)
def test_a_typo_is_an_error_with_a_suggestion(mlprun, typed, meant):
    result = mlprun("experiments", typed)
    assert (result.status, result.out) == (2, "")
    assert f"experiments {typed}: no experiment has this name, topic or word\n  did you mean '{meant}'" in result.err


def test_ones_own_are_listed_last_with_or_without_a_header(mlprun, tmp_path):
    folder = tmp_path / "conf" / "experiment"
    (folder / "deep").mkdir(parents=True)
    (folder / "mine.yaml").write_text(GOOD)
    (folder / "deep" / "plain.yaml").write_text("# @package _global_\n# What I tried.\nepochs: 1\n")
    lines = mlprun("experiments", "--config-dir", "conf").out.splitlines()
    start = lines.index("your own")
    assert [line.split(maxsplit=1) for line in lines[start + 1 : start + 3]] == [
        ["deep/plain", "What I tried."],
        ["mine", "A small CNN."],
    ]
    assert mlprun("experiments", "--config-dir=conf", "mine").out.startswith(GOOD)
    assert mlprun("experiments", "--config-dir", "missing").status == 2
    assert experiments.users_own(tmp_path) == []
    with pytest.raises(ConfigError, match="no such folder"):
        experiments.users_own(tmp_path / "missing")


def test_the_page_of_the_experiments_is_what_their_headers_say():
    page = (REPOSITORY / "docs" / "experiments.md").read_text()
    hint = "mlprun experiments --markdown > docs/experiments.md"
    assert page.splitlines() == experiments.page(experiments.ready()), hint
