"""Points of a sweep whose configs are not composed, and those that have to be."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from mlprun.config.checks import check
from mlprun.config.compose import Composer
from mlprun.config.template import Template, _references
from mlprun.errors import ConfigError

COMPOSER = Composer()


@pytest.mark.parametrize(
    ("line", "is_quick"),
    [
        (["seed=3", "optim.lr=1e-3"], True),
        (["trainer.grad_clip=1"], True),  # null before, and a whole number becomes a float
        (["trainer.grad_clip=null"], True),
        (["batch_size=all"], True),
        (["epochs=3", "optim=sgd", "optim.lr=1"], True),
        (["model=cnn", "model.batch_norm=true"], True),
        (["optim.lr=${seed}"], False),
        (["model.hidden=[3,4]"], False),
        (["+optim.foreach=true"], False),
        (["~optim.betas"], False),
        (["data.num_outputs=12"], False),  # the model's number of outputs follows from it
        (["data=tones", "data.audio.num_mels=32"], False),
        (["data.input_shape=[1,8,8]"], False),
    ],
    ids=str,
)
def test_a_point_is_what_its_composition_is(line, is_quick):
    composed = check(COMPOSER.compose(line))
    assert COMPOSER.point(line) == composed
    overrides = [o for o in COMPOSER.parse(line) if not COMPOSER.loader.is_choice(o)]
    choices = [str(o.input_line) for o in COMPOSER.parse(line) if COMPOSER.loader.is_choice(o)]
    quick = Template(COMPOSER.compose(choices)).with_values(overrides)
    assert quick == (composed if is_quick else None)


@pytest.mark.parametrize("line", [["seed=x"], ["seed=-1"], ["trainer.accumulate=8", "batch_size=4"], ["epochs=1.5"]])
def test_what_cannot_work_is_the_same_message(line):
    with pytest.raises(ConfigError) as composed:
        check(COMPOSER.compose(line))
    with pytest.raises(ConfigError) as quick:
        COMPOSER.point(line)
    assert str(quick.value) == str(composed.value)


IMAGES = ["data=image_folder", "data.num_outputs=2", "data.root=/a"]


@pytest.mark.parametrize("line", [["model=custom", "model._target_=torch.nn.Identity"], IMAGES], ids=str)
def test_choices_that_are_no_whole_config_without_a_value(line):
    assert COMPOSER.point(line) == check(COMPOSER.compose(line))


def test_a_point_does_not_change_those_before_it():
    first = COMPOSER.point(["optim.lr=0.5"])
    COMPOSER.point(["optim.lr=0.25"])
    assert first.optim["lr"] == 0.5


def test_a_resolver_of_the_users_own_may_read_anything():
    cfg = OmegaConf.create({"model": {"init": "${users.own:}"}, "seed": 0})
    assert _references(cfg) is None
    assert _references(OmegaConf.create({"model": {"width": "${data.width}", "root": "${oc.env:HOME}"}})) == {
        "data.width"
    }
