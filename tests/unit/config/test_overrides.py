"""Names and paths keep their text, also where Hydra or YAML would read a number."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from mlprun.config.compose import Composer
from mlprun.config.hydra_private import IS_1_4, find_node
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


def test_so_are_the_names_in_a_list(composer):
    cfg = composer.compose([f"trainer.freeze=[{','.join(NAMES)}]"])
    assert [*cfg.trainer.freeze] == NAMES


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


def test_so_is_a_sweep_in_yaml_that_has_lost_the_text(tmp_path):
    params = "# @package hydra.sweeper.params\n"
    write(tmp_path, {"experiment/a.yaml": f"{params}trainer.weights: 2024_11\n"})
    write(tmp_path, {"experiment/b.yaml": f"{params}trainer.weights: 2024_11,2024_12\n"})  # this is text
    with pytest.raises(ConfigError, match=r"trainer\.weights=202411: must be text.*\n  quote it there: weights"):
        list(Composer(str(tmp_path)).points(["experiment=a"]))
    points = list(Composer(str(tmp_path)).points(["experiment=b"]))
    assert [point[0] for point in points] == ["trainer.weights='2024_11'", "trainer.weights='2024_12'"]


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
    # as users write it
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


@pytest.mark.parametrize("root", ["é", "日本/fotos", "fötos(1) & co", "C#/x", "a~b|c"])
def test_a_path_needs_no_quotes_for_its_letters(composer, root):
    assert find_node(composer.compose([f"data.root={root}"]), "data.root")._value() == root


def test_nor_does_a_sweep(composer):
    points = [composer.compose(point) for point in composer.points(["data=text_folder", "data.name=é,b,'ü, ö'"])]
    assert [p.data.name for p in points] == ["é", "b", "ü, ö"]


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("trainer.grad_clip=None", "trainer.grad_clip=null"),
        ("trainer.grad_clip=None,1", "trainer.grad_clip=null,1"),
        ("steps=choice(None,5)", "steps=choice(null,5)"),
        ("sweep.name=None", "sweep.name=null"),
        ("data.root=None", "data.root=null"),
        ("model.hidden=[None]", "model.hidden=[null]"),
        ("optim.betas={a: None}", "optim.betas={a: null}"),
        ("task=None", "task=null for none"),
    ],
)
def test_none_is_null(composer, line, remedy):
    with pytest.raises(ConfigError, match=rf"(?s)None.*\n  write {re.escape(remedy)}$"):
        composer.compose([line], multirun=True)


@pytest.mark.parametrize(
    "line", ["data.name='None'", "data.normalize=none", "data.name=None1", "trainer.grad_clip=null"]
)
def test_what_only_looks_like_none_is_kept(composer, line):
    composer.compose([line])


@pytest.mark.parametrize("line", ["trainer: {grad_clip: None}", "sweep: {name: None}"])
def test_nor_is_none_null_in_a_file(tmp_path, line):
    write(tmp_path, {"experiment/mine.yaml": f"# @package _global_\n{line}\n"})
    with pytest.raises(ConfigError, match="write null there"):
        Composer(str(tmp_path)).compose(["experiment=mine"])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("seed=range(3,1)", "has no values"),
        ("seed=range(1,1)", "has no values"),
        ("seed=range(0,3,0)", "has no values"),
        ("optim.lr=range(0.0,1.0,0.0)", "has no values"),
        ("seed=range(0,inf)", "more than 100,000 values"),
        ("model=glob(mpl*)", "matches nothing\n  there are cifar_quick, cnn"),
        ("model=glob(*,exclude=*)", "matches nothing"),
        ("epochs=glob(*)", "glob is for groups"),
    ],
)
def test_a_sweep_has_the_values_that_were_typed_or_is_refused(line, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        [*Composer().points([line])]


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("seed=sort(range(3),reverse=true)", "210"),
        ("seed=sort(2,0,1)", "012"),
        ("seed=range(2,-1,-1)", "210"),
        ("seed=sort(range(0,6,2))", "024"),
    ],
)
def test_so_is_what_hydra_sorts_well(composer, line, values):
    assert [point[0].partition("=")[2] for point in composer.points([line])] == [*values]


@pytest.mark.parametrize(
    ("line", "said", "values"),
    [
        ("epochs=sort(range(2,7,2),reverse=true)", "Hydra would run 5,3,1\n  write epochs=6,4,2", "246"),
        ("seed=shuffle(sort(range(0,5,2), reverse = True))", "write seed=4,2,0", "024"),
        ("seed=sort(tag(a,range(5,0,-3)))", "Hydra would run", "25"),
    ],
)
def test_a_sorted_range_that_hydra_1_3_gets_wrong_is_refused(composer, line, said, values):
    if IS_1_4:
        assert sorted(point[0].partition("=")[2] for point in composer.points([line])) == [*values]
    else:
        with pytest.raises(ConfigError, match=re.escape(said)):
            [*composer.points([line])]


def test_a_dict_of_new_keys_of_hydra_is_added(composer):
    with pytest.raises(ConfigError, match=re.escape("write +hydra.job.env_set={A: b}, which adds it")):
        composer.compose(["hydra.job.env_set={A: b}"])
    assert composer.compose(["+hydra.job.env_set={A: b}"]).hydra.job.env_set.A == "b"


@pytest.mark.parametrize("header", ["", "# epochs\n# @package _global_\n"])
@pytest.mark.parametrize("name", ["experiment=mine", "experiment=sub/mine", "debug=mine", "+paper=mine"])
def test_the_missing_line_of_a_file_is_named(tmp_path, header, name):
    group, _, file = name.lstrip("+").partition("=")
    write(tmp_path, {f"{group}/{file}.yaml": f"{header}epochs: 3\n"})
    with pytest.raises(ConfigError, match=f"begin {group}/{file}.yaml with: # @package _global_"):
        Composer(str(tmp_path)).compose([name])


def test_a_group_of_ones_own_is_added(tmp_path):
    write(tmp_path, {"paper/mine.yaml": "# @package _global_\nepochs: 3\n"})
    assert Composer(str(tmp_path)).compose(["+paper=mine"]).epochs == 3
    with pytest.raises(ConfigError, match=r"paper: is a group without a default\n  write \+paper="):
        Composer(str(tmp_path)).compose(["paper=mine"])
