"""The header of an experiment's file."""

from __future__ import annotations

import pytest

from mlprun.course.experiments import HeaderError, parse
from tests.helpers.users_code import GOOD


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
