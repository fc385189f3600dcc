"""The config layer: whatever is typed, the answer is a config or one clear error."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlprun.config.checks import check
from mlprun.config.compose import Composer
from mlprun.config.identity import fingerprint, identity
from mlprun.config.schema import Config
from mlprun.config.stored import from_record, resumed
from mlprun.errors import ConfigError, UserError

COMPOSER = Composer()
KEYS = [
    "seed", "epochs", "steps", "batch_size", "device", "eval_every", "monitor", "optim.lr", "optim.betas",
    "model.hidden",
    "model.activation", "data", "model", "optim", "scheduler", "loss", "experiment", "debug", "data.val_fraction",
    "data.limit", "trainer.accumulate", "trainer.precision", "trainer.compile", "checkpoint.every", "checkpoint.keep",
    "early_stopping.patience", "logging.every", "lr", "learning_rate", "optm", "hydra.run.dir", "data.dataset._target_",
    "writer", "writers.console", "writers.x._target_",
]  # fmt: skip
VALUES = st.one_of(
    st.integers(-3, 300).map(str),
    st.floats(allow_nan=True).map(str),
    st.sampled_from(["null", "true", "[1,2]", "[]", "{a: 1}", "adam", "mlp", "cuda", "all", "10 epochs", "5%", "'x y'",
                     "${seed}", "${nothing}", "a,b", "???", "", "=", "torch.nn.Linear", "val/loss"]),
    st.text(max_size=12),
)  # fmt: skip
LINES = st.builds(
    lambda prefix, key, value: f"{prefix}{key}={value}",
    st.sampled_from(["", "", "", "+", "++", "~"]),
    st.one_of(st.sampled_from(KEYS), st.text("abcdefgh._@/", min_size=1, max_size=10)),
    VALUES,
)


IMAGES = ["data=image_folder", "data.num_outputs=2"]


@settings(max_examples=40)
@given(st.lists(LINES, max_size=3))
def test_any_line_gives_a_config_or_one_clear_error(lines):
    found = said = None
    try:
        found = check(COMPOSER.compose(lines))
    except UserError as error:
        said = str(error)
    if said is None:
        assert isinstance(found, Config)
        assert found.epochs >= 1
    else:
        assert 1 <= len(said.splitlines()) <= 25


@settings(max_examples=20)
@given(st.lists(LINES, max_size=3))
def test_any_line_of_a_resume_changes_the_config_or_is_one_clear_error(lines):
    before = check(COMPOSER.compose([]))
    after, said = before, None
    try:
        after = resumed(before, lines)
    except UserError as error:
        said = str(error)
    assert said is None or 1 <= len(said.splitlines()) <= 25
    # only what may change has changed
    assert identity(after.to_dict(), length=False) == identity(before.to_dict(), length=False)


@settings(max_examples=25)
@given(st.lists(LINES, max_size=3))
@example(["seed=0", "hydra.run.dir=null"])
@example(["epochs=???"])
def test_a_point_of_a_sweep_is_what_the_line_alone_would_be(lines):
    """Though it is composed in a fraction of the time."""
    said = []
    for compose in (COMPOSER.point, lambda line: check(COMPOSER.compose(line))):
        try:
            said.append(compose(lines).to_dict())
        except UserError:
            said.append("an error")
    assert repr(said[0]) == repr(said[1])  # repr: NaN is NaN


@pytest.mark.parametrize(
    ("lines", "other", "same"),
    [
        (["optim.lr=1e-3"], ["optim.lr=0.001"], True),
        (["optim=adam", "seed=1"], ["seed=1"], True),
        (["device=cpu", "checkpoint.keep=3", "trainer.max_time=1h", "logging.every=9 steps", "sweep.name=x"], [], True),
        (["data=mnist", "data.root=/a"], ["data=mnist", "data.root=/b"], True),
        ([*IMAGES, "data.root=/a"], [*IMAGES, "data.root=/b"], False),
        (["seed=1"], ["seed=2"], False),
        (["epochs=3"], ["epochs=4"], False),
        (["trainer.num_threads=1"], [], False),
        (["~writers.console", "+writers.x._target_=a.B"], [], True),
    ],
)
def test_a_point_is_known_by_what_decides_its_result(lines, other, same):
    marks = {fingerprint(COMPOSER.point(line).to_dict()) for line in (lines, other)}
    assert len(marks) == (1 if same else 2)


@settings(max_examples=10)
@given(seed=st.integers(0, 2**63 - 1), lr=st.floats(0, 1e3), hidden=st.lists(st.integers(1, 9), max_size=3))
def test_a_config_survives_its_record(seed, lr, hidden):
    line = [f"seed={seed}", f"optim.lr={lr}", f"model.hidden={hidden}"]
    config = check(COMPOSER.compose(line))
    assert (config.seed, config.optim["lr"], config.model["hidden"]) == (seed, lr, hidden)
    assert from_record(config.to_dict()) == config


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ([], "tensorboard jsonl images console"),
        (["writer=[jsonl]"], "jsonl"),
        (["writer=jsonl"], "jsonl"),
        (["~writers.console", "~writers.tensorboard"], "jsonl images"),
        (["+writers.x._target_=a.B"], "tensorboard jsonl images console x"),
        (["writer=[jsonl]", "+writer.x._target_=a.B"], None),
        (["~writers.jsonl"], None),
    ],
)
def test_writers_are_chosen_added_and_removed(lines, names):
    if names is None:
        with pytest.raises(ConfigError):
            check(COMPOSER.compose(lines))
    else:
        assert list(check(COMPOSER.compose(lines)).writers) == names.split()


def test_a_resume_adds_changes_and_removes_writers():
    config = resumed(
        check(COMPOSER.compose([])), ["+writers.x={_target_: a.B, y: 1}", "writers.x.y=2", "~writers.console"]
    )
    assert config.writers.pop("x") == {"_target_": "a.B", "y": 2}
    assert list(config.writers) == ["tensorboard", "jsonl", "images"]
    for line, said in (
        ("~writers.consle", "did you mean 'writers.console'"),
        ("+writers.console._target_=a.B", "write writers.console._target_=…"),
        ("writers.console={}", "is a group of keys"),
        ("~writers.jsonl", "is switched off"),
        ("~logging.every", "the key already exists"),
    ):
        with pytest.raises(ConfigError, match=re.escape(said)):
            resumed(check(COMPOSER.compose([])), [line])


def test_a_record_without_writers_has_those_that_every_run_had():
    config = check(COMPOSER.compose([]))
    stored = {key: value for key, value in config.to_dict().items() if key != "writers"}
    assert from_record(stored) == config


def test_a_record_of_another_schema_is_refused():
    stored = check(COMPOSER.compose([])).to_dict()
    with pytest.raises(ConfigError, match=r"trainer\.grad_klip: there is no such key\n.*trainer\.grad_clip"):
        from_record({**stored, "trainer": {**stored["trainer"], "grad_klip": 1.0}})


def test_the_points_of_a_sweep():
    assert list(COMPOSER.points(["seed=0,1", "optim.lr=1e-3", "model=linear,mlp"])) == [
        [f"seed={seed}", "optim.lr=1e-3", f"model={model}"] for seed in (0, 1) for model in ("linear", "mlp")
    ]
    assert list(COMPOSER.points(["seed=1"])) == [["seed=1"]]
    assert list(COMPOSER.points(["~optim.betas", "seed=1,2"])) == [
        ["~optim.betas", "seed=1"],
        ["~optim.betas", "seed=2"],
    ]
