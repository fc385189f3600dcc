"""The schema's fields: each says what its key means, and docs/config.md lists them."""

from __future__ import annotations

from pathlib import Path

from omegaconf import MISSING

from mlprun.config import reference
from mlprun.config.options import iter_options
from mlprun.config.schema import Audio, Config

OPTIONS = {key: (option, default) for key, option, default in iter_options(Config, Config())}
OPTIONS |= {key: (option, default) for key, option, default in iter_options(Audio, Audio(), "data.audio.")}


def test_a_default_is_in_its_own_range():
    for key, (option, default) in OPTIONS.items():
        if option.check is not None and default != MISSING:
            assert option.check.problem(default) is None, key


def test_no_two_configs_share_a_default():
    first, second = Config(), Config()
    first.trainer.freeze.append("conv1")
    assert second.trainer.freeze == []


def test_the_reference_is_what_the_schema_says():
    page = (Path(__file__).parents[3] / "docs" / "config.md").read_text()
    assert page == reference.reference(), "python -m mlprun.config.reference > docs/config.md"


def test_the_reference_has_a_row_for_every_key():
    rows = [line for line in reference.reference().splitlines() if line.startswith("| `")]
    keys = {row.split("`")[1] for row in rows}
    assert keys == {*OPTIONS, "data.audio"}
