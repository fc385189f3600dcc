"""The ready experiments: each says what it is, its commands compose, it runs; and `mlprun experiments` lists them."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from mlprun.cli.line import VERBS
from mlprun.config.checks import check
from mlprun.config.compose import Composer
from mlprun.config.resolvers import conf_dir
from mlprun.config.schema import Config
from mlprun.course import experiments
from mlprun.course.experiments import HeaderError, parse
from mlprun.data.cifar import CIFAR_SETS
from mlprun.data.mnist import IDX_FILES, IDX_SETS, NUM_PIXELS
from mlprun.errors import ConfigError
from mlprun.sweep import points
from mlprun.tasks import BY_TOKEN
from tests.helpers.files import REPOSITORY, idx_bytes, write

FILES = sorted((conf_dir() / "experiment").glob("*.yaml"))
NEEDS_FILES_OF_YOUR_OWN = ("mlprun.data.image_folder.",)
WORDS = ["a", "the", "was", "not", "never", "good", "bad", "dull", "film", "plot", "and", "but"]


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer()


# ------------------------------------------------------------------------------------------- every file, on paper


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_experiment_has_a_header(file):
    found = parse(file.stem, file)
    assert re.search(r"\b[Ss]ee\b", found.expect), f"{file}: the header says what to look at in TensorBoard"
    assert all(len(line) <= 120 for line in file.read_text().splitlines())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_command_of_an_experiment_composes(composer, files, file):
    commands = [shlex.split(line) for line, _ in parse(file.stem, file).commands]
    named: list[str] = []  # some runs need another's first
    for words in [line[1:] for line in commands]:
        line = shlex.join(words)
        if words[0] in VERBS:  # what is done with the run afterwards
            continue
        overrides = [word for word in words if "=" in word]
        names = [word.removeprefix("experiment=").split(",") for word in overrides if word.startswith("experiment=")]
        assert len(names) == 1, line
        named += names[0]
        if "-m" in words or "--multirun" in words:
            assert len(points.points(composer, overrides, None)[0]) > 1, f"{line}: is no sweep"
        else:
            check(composer.compose(overrides))
    assert file.stem in named


# --------------------------------------------------------------------------------------------- every file, running


def shortening(config: Config) -> tuple[str, ...]:
    """The override lines that make a run of a second or less of any experiment."""
    lines = ["debug=fast", "steps=2", "eval_every=2 steps"]
    whole_batches = config.batch_size == "all" or config.trainer.accumulate > 32
    lines += ["batch_size=all"] if whole_batches else []  # lbfgs takes no other, and 32 cannot be split into 64
    # 128 examples would not show every class; a vocabulary need not be seen
    many_classes = config.data.num_outputs > 64 and config.data.task not in BY_TOKEN
    lines += ["data.limit=null"] if many_classes else []
    lines += ["trainer.compile=false"] if config.trainer.compile else []  # half a minute of compiler
    return tuple(lines)


def cifar_bytes(name: str) -> dict[str, bytes]:
    chosen = CIFAR_SETS[name]
    rng = np.random.default_rng(0)
    contents = {chosen.names: "\n".join(f"class{i}" for i in range(chosen.num_classes)).encode()}
    for file in (*chosen.train, *chosen.test):
        records = rng.integers(0, 256, (400, chosen.num_labels + NUM_PIXELS)).astype(np.uint8)
        records[:, : chosen.num_labels] = 0
        records[:, chosen.num_labels - 1] = np.arange(400) % chosen.num_classes
        contents[file] = records.tobytes()
    return contents


def write_texts(root: Path, folders: tuple[str, ...], count: int) -> None:
    """Texts of random words, `count` in each folder."""
    rng = np.random.default_rng(0)
    for folder in folders:
        (root / folder).mkdir(parents=True)
        for i in range(count):
            (root / folder / f"{i}.txt").write_text(" ".join(rng.choice(WORDS, rng.integers(1, 30))))


def wav_bytes(rng: np.random.Generator, seconds: float) -> bytes:
    written = io.BytesIO()
    wavfile.write(written, 16000, rng.integers(-3000, 3000, round(16000 * seconds)).astype(np.int16))
    return written.getvalue()


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Iterator[Path]:
    """Small files of noise in the formats and at the places of MNIST and its likes, CIFAR-10 and CIFAR-100,
    IMDB, and of folders of sounds; MLPRUN_DATA names them."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    contents = {
        name: idx_bytes(rng.integers(0, 256, (400, 28, 28)) if "images" in name else np.arange(400) % 10)
        for name in IDX_FILES
    }
    for idx in IDX_SETS.values():
        write(root / idx.folder / "raw", contents)
    for name, cifar in CIFAR_SETS.items():
        write(root / cifar.folder, cifar_bytes(name))
    write_texts(root / "aclImdb", ("train/neg", "train/pos", "train/unsup", "test/neg", "test/pos"), 60)
    for name in ("bdl", "slt"):
        sentences = {f"arctic_a{number:04}.wav": wav_bytes(rng, 2.5) for number in range(20)}
        write(root / "arctic" / f"cmu_us_{name}_arctic" / "wav", sentences)
    for name in ("no", "yes"):
        words = {f"{number:x}_nohash_0.wav": wav_bytes(rng, 1) for number in range(20)}
        write(root / "speech_commands" / name, words)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLPRUN_DATA", str(root))
        yield root


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_experiment_runs_shortened(mlprun, tmp_path, composer, files, file):
    config = check(composer.compose([f"experiment={file.stem}"]))
    if config.data.dataset["_target_"].startswith(NEEDS_FILES_OF_YOUR_OWN):
        pytest.skip("it needs pictures of one's own")
    if (config.device.startswith("cuda") or config.trainer.precision == "fp16") and not torch.cuda.is_available():
        pytest.skip("it needs a GPU")
    if file.stem == "text_files":
        write_texts(tmp_path / "texts", ("neg", "pos"), 60)
    result = mlprun(f"experiment={file.stem}", *shortening(config))
    assert result.status == 0, f"{result.out}\n{result.err}"
    assert result.record()["status"] == "completed"


# ------------------------------------------------------------------------------------------------------ the header

GOOD = """\
# @package _global_
# topic: convolution
# A small CNN.
#   mlprun experiment=mine               15 s on one core
#   mlprun -m experiment=mine seed=0,1      30 s
# Expect 98 % accuracy.
# See val/loss in TensorBoard.
epochs: 1
"""


def test_a_header_is_read(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(GOOD)
    found = parse("mine", file)
    assert (found.topic, found.description) == ("convolution", "A small CNN.")
    assert found.commands == (
        ("mlprun experiment=mine", "15 s on one core"),
        ("mlprun -m experiment=mine seed=0,1", "30 s"),
    )
    assert found.expect == "Expect 98 % accuracy. See val/loss in TensorBoard."


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        ("# @package _global_\n", "", "line 1: expected '# @package _global_'"),
        ("topic: convolution", "topic: convolutions", "line 2: expected '# topic: …', one of regression, "),
        ("# topic: convolution\n", "", "line 2: expected '# topic: …'"),
        ("# A small CNN.\n", "", "line 3: expected the description"),
        ("A small CNN.", "A small", "line 3: expected the description, a sentence on one line, found '# A small'"),
        ("#   mlprun experiment=mine               15", "#   mlprun experiment=mine 15", "line 4: .* and the run time"),
        ("experiment=mine", "experiment=other", "line 4: expected a command with experiment=mine"),
        ("#   mlprun", "# mlprun", "line 4: expected a command"),
        ("# Expect", "# Gives", "line 6: expected '# Expect …', the result, found '# Gives 98 % accuracy.'"),
        ("# See", "#\n# See", "line 7: expected '# ' and text, found '#'"),
        ("# Expect 98 % accuracy.\n# See val/loss in TensorBoard.\n", "", "line 6: .* found the end of the header"),
    ],
)
def test_another_header_is_refused_with_its_line(tmp_path, was, now, said):
    file = tmp_path / "mine.yaml"
    assert was in GOOD
    file.write_text(GOOD.replace(was, now))
    with pytest.raises(HeaderError, match=f"mine.yaml, {said}"):
        parse("mine", file)


# -------------------------------------------------------------------------------------------------------- the list


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
    file = conf_dir() / "experiment" / "mnist_cnn.yaml"
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
