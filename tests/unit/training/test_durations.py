from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlprun.config.durations import Duration, parse
from mlprun.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("10 epochs", 220),
        ("1 epoch", 22),
        ("0.5 epochs", 11),
        (".5epochs", 11),
        ("500 steps", 500),
        ("1 step", 1),
        ("1_000 steps", 1000),
        ("1e3steps", 1000),
        ("  2   Epochs ", 44),
        ("5%", 50),
        ("5 %", 50),
        ("29%", 290),
        ("100%", 1000),
        ("0", 0),
        (0, 0),
        (0.0, 0),
        ("0%", 0),
        ("0 epochs", 0),
        ("-0 steps", 0),
        ("0.001 epochs", 1),  # a duration above 0 lasts at least a step
        ("0.0001%", 1),
        ("0.25%", 3),  # 2.5 steps: halves go up
        ("1.4 steps", 1),
    ],
)
def test_converts_to_steps(text: object, steps: int) -> None:
    assert parse(text).steps(steps_per_epoch=22, total_steps=1000) == steps


@pytest.mark.parametrize("bare", [100, "100", " 100 "])
def test_a_bare_number_has_no_unit(bare: object) -> None:
    with pytest.raises(ConfigError, match="write '100 steps' or '100 epochs'") as caught:
        parse(bare, key="eval_every")
    assert caught.value.key == "eval_every"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10 epoks", "did you mean 'epochs'"),
        ("10 stpes", "did you mean 'steps'"),
        ("10 batches", "choose from: %, epochs, steps"),
        ("10 steps later", "unknown unit"),
        ("-1 steps", "negative"),
        ("nan epochs", "not a duration"),
        ("inf steps", "not a duration"),
        (float("nan"), "not a duration"),
        ("1e999 steps", "too long"),
        ("1.2.3 steps", "not a number"),
        ("1__0 steps", "not a number"),
        ("epochs", "not a duration"),
        ("", "not a duration"),
        (None, "not a duration"),
        (True, "not a duration"),
        (["1 step"], "not a duration"),
    ],
)
def test_errors_name_the_key_and_the_trouble(text: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse(text, key="scheduler.length")
    assert str(caught.value).startswith("scheduler.length=")


def test_epochs_need_a_known_length() -> None:
    with pytest.raises(ConfigError, match=r"eval_every=2 epochs: .*\n.*'500 steps'"):
        parse("2 epochs", key="eval_every").steps(steps_per_epoch=None, total_steps=100)
    assert parse("20%").steps(steps_per_epoch=None, total_steps=100) == 20
    assert parse("7 steps").steps(steps_per_epoch=None, total_steps=100) == 7


words = st.text() | st.from_regex(r"[0-9._e+-]{1,6} ?(epochs?|steps?|%|[a-z]{0,6})", fullmatch=True)


@given(words)
@example("1_ steps")
@example("٣ steps")
def test_any_text_parses_or_is_a_config_error(text: str) -> None:
    try:
        duration = parse(text)
    except ConfigError:
        return
    assert duration.steps(steps_per_epoch=10, total_steps=1000) >= (duration.amount > 0)


amounts = st.floats(min_value=0, max_value=1e15)


@given(amounts, st.sampled_from(["epochs", "steps", "%"]))
def test_round_trip(amount: float, unit: str) -> None:
    duration = Duration(amount, unit)
    assert parse(str(duration)) == duration


@given(amounts, amounts, st.sampled_from(["epochs", "steps", "%"]))
def test_longer_is_never_fewer_steps(a: float, b: float, unit: str) -> None:
    short, long = (Duration(x, unit).steps(7, 1000) for x in sorted((a, b)))
    assert short <= long
