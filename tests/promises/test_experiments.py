"""The ready experiments: each says what it is, its commands compose, and it runs."""

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

from mlprun.cli.verbs import VERBS
from mlprun.config.checks import check
from mlprun.config.compose import Composer
from mlprun.config.schema import Config
from mlprun.course.experiments import parse
from mlprun.data.cifar import CIFAR_SETS, NUM_PIXELS
from mlprun.data.mnist import IDX_FILES, IDX_SETS
from mlprun.models.sequences import PER_TOKEN
from mlprun.sweep import points
from tests.helpers.files import choice_files, idx_bytes, write

FILES = choice_files("experiment")
NEEDS_FILES_OF_YOUR_OWN = ("mlprun.data.image_folder.",)


WORDS = ["a", "the", "was", "not", "never", "good", "bad", "dull", "film", "plot", "and", "but"]


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer()


def check_header(composer: Composer, file: Path) -> None:
    """Each command composes, and the text says what to look at in TensorBoard."""
    found = parse(file.stem, file)
    assert re.search(r"\b[Ss]ee\b", found.expect)
    assert all(len(line) <= 120 for line in file.read_text().splitlines())
    commands = [shlex.split(line) for line, _ in found.commands]
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
            assert len(points.points(composer, composer.points(overrides), None)[0]) > 1, f"{line}: is no sweep"
        else:
            check(composer.compose(overrides))
    assert file.stem in named


def shortening(config: Config) -> tuple[str, ...]:
    """The override lines that make a run of a second or less of any experiment."""
    lines = ["debug=fast", "steps=2", "eval_every=2 steps", "checkpoint.every=2 steps", "data.limit_eval=16"]
    lines += ["checkpoint.keep=0"]  # a checkpoint of resnet18 takes a second
    whole_batches = config.batch_size == "all" or config.trainer.accumulate > 8
    lines += ["batch_size=all" if whole_batches else "batch_size=8"]  # lbfgs takes no other; 8 are not split into 64
    lines += ["data.text.vocab_size=300"] if config.data.task in PER_TOKEN else []
    # 128 examples would not show every class; a vocabulary need not be seen
    many_classes = config.data.num_outputs > 64 and config.data.task not in PER_TOKEN
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
def test_an_experiment_has_a_header_and_runs_shortened(mlprun, tmp_path, composer, files, file):
    check_header(composer, file)
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
