"""README and docs: every command runs, every example prints what is shown, every link leads somewhere."""

from __future__ import annotations

import re
import shlex
import shutil
import sys

import numpy as np
import pytest
from scipy.io import wavfile

from tests.helpers.files import REPOSITORY, choice_files, find_mnist, penguins, save_image
from tests.helpers.lines import finish
from tests.helpers.pages import GENERATED, PAGES, blocks, commands, examples, write_files

README = PAGES["README.md"]
# A page in docs/extending is a whole whose commands build on each other: test_extending.py.
WITH_COMMANDS = [page for page in PAGES if page not in GENERATED and not page.startswith("docs/extending/")]
COMMANDS = {shlex.join(words): (page, words) for page in WITH_COMMANDS for words in commands(page)}  # each once
EXAMPLES = {command.partition("#")[0].rstrip(): shown for page in WITH_COMMANDS for command, shown in examples(page)}


def test_the_readme_opens_with_the_two_commands():
    assert README.startswith("# mlprun\n\n    pip install -e . && mlprun\n    pip install -e '.[test]' && pytest\n")
    ci = (REPOSITORY / ".ci" / "run").read_text()
    assert "\npytest\n" in ci
    assert "pip install --quiet -e '.[test,dev]'" in ci


def test_the_readme_is_short_and_links_every_page():
    assert len(README.splitlines()) <= 150
    assert f"[{len(choice_files('experiment'))} experiments]" in README
    for page in PAGES:
        assert page == "README.md" or f"({page})" in README, page


def test_links_lead_somewhere():
    for page, text in PAGES.items():
        for target in re.findall(r"\]\((?!https?:)([^)#]*)", text):
            assert ((REPOSITORY / page).parent / target).exists(), (page, target)


# ------------------------------------------------------------------------------------------------ commands


@pytest.fixture
def users_folder(tmp_path):
    """Folders of images, texts and sounds in two classes."""
    for name in ("neg", "pos"):
        for kind in ("images", "texts", "sounds"):
            (tmp_path / kind / name).mkdir(parents=True)
        for i in range(12):
            save_image(tmp_path / "images" / name / f"{i}.png", np.full((32, 32, 3), 10 * i + len(name)))
            (tmp_path / "texts" / name / f"{i}.txt").write_text(f"a {name} film, seen twice")
            tone = np.sin(np.arange(8000) * (i + 10 + 5 * len(name)) / 100)
            wavfile.write(tmp_path / "sounds" / name / f"{i}.wav", 8000, tone.astype(np.float32))
    shutil.copytree(tmp_path / "texts", tmp_path / "new_texts")
    penguins(tmp_path)
    rows = [f"{i},{i % 7},{'No' if i % 4 else 'Yes'}" for i in range(400)]  # in the place of 5,822 real ones
    (tmp_path / "caravan.csv").write_text("\n".join(["MOSTYPE,MAANTHUI,Purchase", *rows]))
    return tmp_path


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """A folder with the finished runs `a` and `b`; augmented, for `eval --tta`."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("a", "b"):
        finish(folder, "epochs=1", "data.limit=100", "data.augment.crop=1", f"hydra.run.dir={name}")
    return folder


def fill_in(words: list[str], **runs: str) -> list[str]:
    """Put the directories of runs in the place of RUN_DIR, SWEEP_DIR and so on."""
    return [re.sub("|".join(runs), lambda found: runs[found[0]], word) for word in words]


def is_single_run(words: list[str]) -> bool:
    """Whether words train one model: they neither begin with a verb nor start a sweep."""
    return "-m" not in words and (not words or "=" in words[0] or words[0].startswith("-"))


def shortened(words: list[str]) -> list[str]:
    """The same training or sweep in a second or two."""
    words = [*words, *([] if any(word.startswith("debug=") for word in words) else ["debug=fast"])]
    words = [re.sub(r"^seed=0,1,.*", "seed=0,1", word) for word in words]
    words += ["steps=2", "eval_every=2 steps"] if {"-m", "data=python_docs"} & {*words} else []
    less = {
        "data=reviews": ["data.dataset.num_examples=200", "data.text.max_length=16"],
        "data=python_docs": ["data.text.max_length=32", "data.limit_eval=16"],
        "data=tones": ["data.dataset.num_samples=100"],
    }
    return words + [word for data in less if data in words for word in less[data]]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_runs(mlprun, users_folder, two_runs, line):
    page, words = COMMANDS[line]
    write_files(page, users_folder)
    is_training = not words or (any("=" in word for word in words) and words[0] not in ("runs", "prune"))
    if "data=mnist" in words or any(word.startswith("experiment=mnist") for word in words):
        if find_mnist() is None:
            pytest.skip("the real MNIST is neither in ../shared/data nor in MLPRUN_DATA")
        words = [*words, f"data.root={find_mnist()}"]
    if "hydra/launcher=slurm" in words:  # `test_slurm.py` has runs
        words = [*words, "sweep.dry_run=true"]
    if "onnx" in words:
        pytest.importorskip("onnxscript", reason="needs mlprun[onnx]")
    if "--length" in words:
        mlprun("data=python_docs", "model=lstm", "model.hidden_size=16", "debug=fast", "hydra.run.dir=language")
        words = fill_in(words, RUN_DIR="language")
    elif "trainer.weights=pretrained" in words:
        mlprun("experiment=masked_words", "debug=fast", "hydra.run.dir=pretrained")
    elif re.search("RUN_DIR|RUN_A", line):
        shutil.copytree(two_runs, users_folder, dirs_exist_ok=True)
        words = fill_in(words, RUN_DIR="a", RUN_A="a", RUN_B="b")
        is_training = is_training and "resume" not in words
    elif "last" in words:
        shutil.copytree(two_runs, users_folder / "outputs")
    elif "outputs/sweeps/lr" in words:
        mlprun("-m", "debug=fast", "seed=0,1", "sweep.name=lr")
    elif "SWEEP_DIR" in words or words[:1] in (["runs"], ["prune"]):
        mlprun("-m", "debug=fast", "seed=0,1", "sweep.name=s")
        words = fill_in(words, SWEEP_DIR="outputs/sweeps/s")
    result = mlprun(*(shortened(words) if is_training else words))
    assert result.status == 0, result.err


# ------------------------------------------------------------------------------------------------ examples


def masked(line: str) -> str:
    """A line of output without what another machine prints otherwise: numbers, names of directories, widths."""
    line = re.sub(r"(?:outputs/|RUN_)[^\s/]+(?:/\S+)?", "DIRECTORY", line)
    return " ".join(re.sub(r"\d[\d.,:e+-]*", "0", line).split())


def test_the_examples_print_what_is_shown(mlprun, tmp_path):
    for page in WITH_COMMANDS:
        write_files(page, tmp_path)
    penguins(tmp_path)
    (tmp_path / "new.csv").write_text("\n".join(blocks("docs/tables.md", "csv")))
    first_run: list[str] = []
    for command, shown in EXAMPLES.items():
        words = shlex.split(command, comments=True)[1:]
        if is_single_run(words):
            words = shortened(words)
        result = mlprun(*(fill_in(words, RUN_DIR=first_run[0]) if first_run else words))
        printed = iter([masked(line) for line in (result.out + result.err).splitlines()])
        for line in shown:  # in this order; `…` stands for what is left out
            assert line == "…" or line.startswith("device") or masked(line) in printed, f"{command}\n{line}"
        first_run = first_run or [str(result.runs[0].relative_to(tmp_path))]


def test_the_shown_error_is_what_is_printed(mlprun):
    assert mlprun("lr=0.1").err.splitlines() == EXAMPLES["mlprun lr=0.1"]


# ------------------------------------------------------------------------------------------------ what is promised


def test_the_shown_choices_are_the_ones_there_are():
    named: dict[str, set[str]] = {}
    for group, cell in re.findall(r"^\| `(\w+)`[^|]*\| (`.*) \|$", PAGES["docs/command_line.md"], re.MULTILINE):
        named.setdefault(group, set()).update(re.findall(r"`(\w+)`", cell))
    assert {"data", "task", "metrics", "model", "optim", "scheduler", "loss", "writer", "debug"} <= {*named}
    for group, choices in named.items():
        assert choices == {file.stem for file in choice_files(group)}, group


def test_the_promises_name_tests_that_are_there():
    table = PAGES["CONTRIBUTING.md"].partition("## What is promised")[2].partition("\n## ")[0]
    names = re.findall(r"`((?:\w+/)*test_\w+\.py)`(?: `(\w+)`)?", table)
    assert len(names) > 30
    for file, name in names:
        assert f"def {name}" in (REPOSITORY / "tests" / file).read_text(), file


def test_python_is_one_that_is_promised():
    assert "Python 3.11 to 3.13" in README
    assert (3, 11) <= sys.version_info[:2] <= (3, 14)
