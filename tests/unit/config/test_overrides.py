"""Names and paths keep their text, also where Hydra or YAML would read a number."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from mlprun.config.compose import Composer
from mlprun.config.hydra_private import find_node
from mlprun.config.instantiate import construct
from mlprun.config.overrides import TEXT_KEYS, quote_numbers
from mlprun.config.ranges import FOLDER_NAME
from mlprun.config.schema import Config
from mlprun.errors import ConfigError
from tests.helpers.files import write

NAMES = ["2024_11_21", "2024_11", "83e2", "1e5", "1.50", "010", "+5", "-1_0", "True", "false", "inf", "NaN", "7", "1.5"]


@pytest.fixture(scope="module")
def composer():
    return Composer()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_the_word_that_was_typed(composer, name):
    cfg = composer.compose([f"{key}={name}" for key in TEXT_KEYS])
    assert {key: find_node(cfg, key)._value() for key in TEXT_KEYS} == dict.fromkeys(TEXT_KEYS, name)


def test_so_it_is_in_a_sweep_and_a_list_and_beside_quotes(composer):
    lines = ["trainer.weights=2024_10,83e2,'1_0',choice.pt", "data.name=choice(1_0,2)", "data=text_folder", "seed=1_0"]
    points = [composer.compose(point) for point in composer.points(lines)]
    assert [(p.trainer.weights, p.data.name) for p in points] == [
        (weights, name) for weights in ("2024_10", "83e2", "1_0", "choice.pt") for name in ("1_0", "2")
    ]
    assert points[0].seed == 10


@pytest.mark.parametrize("value", ["null", "${data.name}_1_0", "${now:%Y}1_0", "x 1_0", r"C:\2024", "''", '"a,1_0"'])
def test_the_rest_stays_as_it_is(value):
    assert quote_numbers(f"data.root={value}") == f"data.root={value}"


@given(st.text("_.+-eE0123456789aTruefalsinN", min_size=1, max_size=8))
def test_any_word_that_is_quoted_or_not_is_the_word(word):
    value = OverridesParser.create().parse_override(quote_numbers(f"sweep.name={word}")).value()
    assert value is None or str(value) == word


def test_a_file_of_ones_own_may_have_such_a_name(tmp_path):
    write(tmp_path, {"experiment/2024_11.yaml": "# @package _global_\nseed: 5\n"})
    assert Composer(str(tmp_path)).compose(["experiment=2024_11"]).seed == 5


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("root", "2024_11", 202411),
        ("root", "10:30", 630),
        ("name", "017", 15),
        ("name", "true", True),
        ("root", "1e3", 1e3),
    ],
)
def test_yaml_that_has_lost_the_text_is_refused(tmp_path, key, text, value):
    write(tmp_path, {"experiment/mine.yaml": f"# @package _global_\ndata:\n  {key}: {text}\n"})
    with pytest.raises(ConfigError) as refused:
        Composer(str(tmp_path)).compose(["experiment=mine"])
    assert str(refused.value).startswith(f"data.{key}={str(value).lower()}: must be text, and YAML reads the value in ")
    assert str(refused.value).endswith(f"quote it there: {key}: '…'")


def test_text_keys_are_all_names_and_paths_of_the_schema():
    def names(section: type, prefix: str = "") -> Iterator[str]:
        for spec in dataclasses.fields(section):
            option = spec.metadata["option"]
            if option.section is not None:
                yield from names(option.section, f"{prefix}{spec.name}.")
            elif spec.type in ("str", "str | None") and option.check in (None, FOLDER_NAME) and not option.unit:
                yield prefix + spec.name

    assert sorted(names(Config)) == [key for key in TEXT_KEYS if not key.startswith("hydra.")]


class Reader:
    def __init__(self, root: str | Path, other: Optional[str] = None, size: int | str = 0) -> None:  # noqa: UP045
        self.values = root, other, size


@pytest.mark.parametrize(("name", "value"), [("root", 202411), ("other", 8300.0), ("root", True)])
def test_a_number_for_a_text_argument_of_a_class_is_refused(name, value):
    node = {"_target_": f"{__name__}.Reader", "root": "data", name: value}
    with pytest.raises(ConfigError, match=rf"data\.dataset\.{name}=.* takes text\n  quote it as you typed it"):
        construct(node, "data.dataset")


def test_a_number_for_another_argument_is_a_number():
    node = {"_target_": f"{__name__}.Reader", "root": "data", "size": 5}
    assert construct(node, "data.dataset").values == ("data", None, 5)
