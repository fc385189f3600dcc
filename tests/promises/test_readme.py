"""Every command in the README runs."""

from __future__ import annotations

import re
import shlex
import shutil
import sys

import numpy as np
import pytest
from scipy.io import wavfile

from tests.helpers.files import REPOSITORY, choice_files, find_mnist
from tests.helpers.lines import finish

TEXT = (REPOSITORY / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


LINES = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("mlprun")]


def test_the_readme_opens_with_the_two_commands():
    assert TEXT.startswith("# mlprun\n\n    pip install -e . && mlprun\n    pip install -e '.[test]' && pytest\n")
    ci = (REPOSITORY / ".ci" / "run").read_text()
    assert "\npytest\n" in ci
    assert "pip install --quiet -e '.[test,dev]'" in ci


def test_there_are_commands():
    assert len(LINES) > 15


@pytest.fixture
def users_folder(tmp_path):
    """The user's own files of the README, and a run to evaluate."""
    (code,) = blocks("python")
    (tmp_path / "my_module.py").write_text(code)
    (yaml,) = blocks("yaml")
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "mine.yaml").write_text(yaml)
    for name in ("neg", "pos"):
        (tmp_path / "texts" / name).mkdir(parents=True)
        (tmp_path / "sounds" / name).mkdir(parents=True)
        for i in range(12):
            (tmp_path / "texts" / name / f"{i}.txt").write_text(f"a {name} film, seen twice")
            tone = np.sin(np.arange(8000) * (i + 10 + 5 * len(name)) / 100)
            wavfile.write(tmp_path / "sounds" / name / f"{i}.wav", 8000, tone.astype(np.float32))
    return tmp_path


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """The folder with the finished runs `a` and `b`."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("a", "b"):
        finish(folder, "epochs=1", "data.limit=100", f"hydra.run.dir={name}")
    return folder


@pytest.mark.parametrize("line", LINES)
def test_every_command_runs(mlprun, users_folder, two_runs, line):
    words = shlex.split(line, comments=True)[1:]
    if "data=mnist" in words:
        if find_mnist() is None:
            pytest.skip("the real MNIST is neither in ../shared/data nor in MLPRUN_DATA")
        words.append(f"data.root={find_mnist()}")
    if "--length" in words:
        mlprun("data=python_docs", "model=lstm", "model.hidden_size=16", "debug=fast", "hydra.run.dir=language")
        words = ["language" if word == "RUN_DIR" else word for word in words]
    elif "trainer.weights=pretrained" in words:
        mlprun("experiment=masked_words", "debug=fast", "hydra.run.dir=pretrained")
        words += ["debug=fast"]
    elif {"RUN_DIR", "RUN_A"} & {*words}:
        shutil.copytree(two_runs, users_folder, dirs_exist_ok=True)
        stands_for = {"RUN_DIR": "a", "RUN_A": "a", "RUN_B": "b"}
        words = [stands_for.get(word, word) for word in words]
    elif "SWEEP_DIR" in words:
        mlprun("-m", "debug=fast", "seed=0,1", "sweep.name=s")
        words = ["outputs/sweeps/s" if word == "SWEEP_DIR" else word for word in words]
    elif words[:1] == ["runs"]:
        mlprun("debug=fast")
    elif any("=" in word for word in words) or not words:
        words += ["debug=fast"] if not any(word.startswith("debug=") for word in words) else []
        words += ["steps=2", "eval_every=2 steps"] if "-m" in words else []
        words += ["data.dataset.num_examples=200"] if "data=reviews" in words else []
    result = mlprun(*words)
    assert result.status == 0, result.err


def test_the_shown_error_is_what_is_printed(mlprun):
    shown = re.search(r"^\$ mlprun lr=0\.1\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)[1]
    assert mlprun("lr=0.1").err == shown


def test_the_shown_choices_are_the_ones_there_are():
    for group, cell in re.findall(r"^\| `(\w+)` \| (`.*) \|$", TEXT, re.MULTILINE):
        named = set(re.findall(r"`(\w+)`", cell))
        assert named == {file.stem for file in choice_files(group)}, group


def test_the_promises_name_tests_that_are_there():
    table = TEXT[TEXT.index("## What is promised") : TEXT.index("## Limits")]
    for file, name in re.findall(r"`((?:\w+/)*test_\w+\.py)(?:::(\w+))?`", table):
        assert f"def {name}" in (REPOSITORY / "tests" / file).read_text(), file


def test_python_is_one_that_is_promised():
    assert (3, 11) <= sys.version_info[:2] <= (3, 13)
