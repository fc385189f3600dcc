"""Random lines: a config that can be trained, or one message without the name of an exception; nothing is left."""

from __future__ import annotations

import os
import random
import re
import shutil

import pytest

from mlprun.cli.verbs import VERBS
from mlprun.config.checks import check
from mlprun.config.compose import Composer
from mlprun.config.hydra_private import iter_nodes
from mlprun.config.schema import Config
from mlprun.errors import UserError
from mlprun.job.prepare import prepare

COMPOSER = Composer()
GROUPS = {group: COMPOSER.loader.options(group) for group in COMPOSER.loader.list_groups("") if group != "hydra"}
DATA = ["digits", "iris", "moons", "line", "diabetes", "reviews", "tones", "image_folder"]
VALUES = """
null true false 0 1 -1 3 0.5 1.5 -0.0 1e3 1e400 nan inf 999999999999999999999 9223372036854775808 0x10 1_000 abc é
'' ' ' 'a_b' [] [1] [1,2] [0] [-1] [a] [[1]] [null] [true] [0.5] {} {a:1} {a:{b:null}} {seconds:2} '5_epochs' 5epochs
'5%' 'nan%' '-5%' '500_steps' '0_steps' '1e9_epochs' 'nan_steps' ??? ${seed} ${nope} '${nope}' ${oc.env:NOPE_NOPE}
${data.nope} $x a/b ../x / mlp adam relu val/loss cuda:-1 cuda:99 None True 1,2 range(3) glob(*) interval(0,1)
torch.nn.Linear torch.nn.Nope os.getcwd mlprun .
""".split()
NAMES = re.compile(
    r"\b\w+(Error|Exception)\b|Traceback|<class|NoneType|object at 0x|(Dict|List)Config|full_key|Optional\b"
    r"|[Ii]nterpolation"
)


def random_line(draw: random.Random) -> list[str]:
    """Choices of groups, and one to three overrides of keys that they have."""
    words = [f"data={draw.choice(DATA)}"]
    words += [
        f"{group}={draw.choice(GROUPS[group])}" for group in ("model", "optim", "scheduler") if draw.random() < 0.3
    ]
    if draw.random() < 0.15:
        group = draw.choice([*GROUPS])
        words.append(draw.choice(["", "", "+", "~"]) + f"{group}={draw.choice([*GROUPS[group], 'null', '[]', 'zzz'])}")
    keys = [key for key, _ in iter_nodes(COMPOSER.compose(words[:1])) if key and not key.startswith("hydra")]
    for _ in range(draw.choice([1, 1, 2, 3])):
        key = draw.choice(keys) + draw.choice([""] * 10 + [".x", "x"])
        words.append(f"{draw.choice(['', '', '', '', '+', '++', '~'])}{key}={draw.choice(VALUES).replace('_', ' ')}")
    return words


def answer(words: list[str], *, build: bool = False) -> str:
    """The message of a line that is refused; empty for one that is not."""
    try:
        config = check(COMPOSER.compose(words))
        assert isinstance(config, Config)
        if build and not config.trainer.compile and config.data.num_workers < 2:
            prepare(config).build_learner()
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("seed", [*range(2), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 300))])
def test_ten_random_lines(seed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw = random.Random(seed)
    for _ in range(10):
        words = random_line(draw)
        said = answer(words)
        assert not NAMES.search(said), (words, said)
        assert len(said.splitlines()) <= 25
    assert os.listdir(tmp_path) == []


@pytest.mark.long
@pytest.mark.parametrize("seed", range(30))
def test_what_is_built_from_ten_random_lines(seed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw = random.Random(seed)
    for _ in range(10):
        words = random_line(draw)
        said = answer(words, build=True)
        assert not NAMES.search(said), (words, said)


ARGUMENTS = "last nope . run sweep /etc/passwd '' é 5.1,3.5,1.4,0.2 text -1 0 a=b data.root=. epochs=3 =".split()
OPTIONS = "--trust --index --json --x --metric --output --changed-data --range --cfg --help -m --nope --epochs".split()


def random_command(draw: random.Random) -> list[str]:
    """A random line of two steps, or a verb with random arguments."""
    if draw.random() < 0.3:
        chosen = [draw.choice(draw.choice([ARGUMENTS, ARGUMENTS, OPTIONS])) for _ in range(draw.choice([0, 1, 2, 3]))]
        return [draw.choice([*VERBS]), *chosen]
    words = random_line(draw)
    short = [] if any("debug" in word for word in words) else ["debug=fast"]
    return [*draw.choice([[], [], [], ["-m"], ["inspect"], ["--cfg", "job"]]), *short, "steps=2", *words]


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 60))])
def test_five_random_lines_through_the_command(seed, tmp_path, mlprun_process):
    draw = random.Random(f"command {seed}")
    for _ in range(5):
        words = random_command(draw)
        done = mlprun_process(*words)
        assert done.status in (0, 1, 2), words
        assert not NAMES.search(done.out + done.err) or (words[:2] == ["--cfg", "job"] and not done.err), words
        assert not (done.status and done.err == ""), words
        if done.status == 2:
            assert [path for path in tmp_path.iterdir() if path.suffix not in (".txt", ".err")] == [], words
        for path in tmp_path.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


SHOWN = {
    "++data.test_dataset={a:1}": "data.test_dataset={a:1}: needs a `_target_`: the class of the data set",
    "data=reviews data.audio={seconds:2}": "data.audio={seconds:2}: is null with these choices, and has no keys",
    "logging=[1]": "logging=[1]: a list and a group of keys do not replace one another",
    "trainer=3": "trainer=3: is a group of keys, not a value",
    "++trainer=${seed}": "trainer=0: is a group of keys, not a value",
    "logging.pictures=${seed}": "logging.pictures=0: must be a list, such as [a,b]",
    "data.input_shape=${data.name}": "data.input_shape=digits: must be a list, such as [a,b]",
    "++data.test_dataset=${epochs}": "data.test_dataset=10: is a group of keys, not a value",
    "device=null": "device=null: cannot be null",
    "experiment=null": "experiment=null: takes a name\n  leave experiment out for none",
    "seed=${nope}": "seed: refers to ${nope}, and there is no such key",
    "seed=${oc.env:NOPE_NOPE}": "seed: refers to the environment variable NOPE_NOPE, which is not set",
}


def test_a_value_that_a_loss_does_not_take_is_named():
    said = answer(["loss.label_smoothing=abc"], build=True)
    assert said == "loss.label_smoothing=abc: must be a number"


@pytest.mark.parametrize("line", SHOWN)
def test_errors_of_omegaconf_in_plain_words(line):
    assert answer(line.split()).startswith(SHOWN[line])
