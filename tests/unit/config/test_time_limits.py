"""Times as people say them."""

from __future__ import annotations

import pytest

from mlprun.config.durations import parse_seconds
from mlprun.errors import ConfigError

TIMES = {
    "2h": 7200, "90 min": 5400, "1h30m": 5400, "1 h 30 m": 5400, "45 s": 45, "45sec": 45, "0.5 h": 1800, "2H": 7200,
    "1d": 86400, "02:00:00": 7200, "1-00:00:00": 86400, "100:00:00": 360000, "0.001 s": 0.001,
}  # fmt: skip
NO_TIMES = {
    "5": "has no unit\n  write '5 min' or '5 h'",
    "2x": "unknown unit 'x'",
    "1e3s": "unknown unit 'e'",
    "0s": "must be above 0",
    "00:00:00": "must be above 0",
    "9999999h": "must be above 0 and below 30 years",
    **dict.fromkeys(["-1h", "soon", "02:00", "1h 30", "1.2.3h", "inf", "1h-30m", "h"], "is not a time"),
}


@pytest.mark.parametrize(("text", "seconds"), TIMES.items())
def test_times(text, seconds):
    assert parse_seconds(text, "trainer.max_time") == seconds


@pytest.mark.parametrize(("text", "said"), [*NO_TIMES.items(), ("", "is not a time"), (True, "is not a time")])
def test_what_is_no_time_is_named(text, said):
    with pytest.raises(ConfigError) as caught:
        parse_seconds(text, "trainer.max_time")
    assert str(caught.value).startswith(f"trainer.max_time={'true' if text is True else text}: ")
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["2h", "1 h 30 m", "02:00:00", "1-00:00:00"])
def test_times_as_typed(mlprun, text):
    result = mlprun(f"trainer.max_time={text}", "--cfg", "job", "-p", "trainer.max_time")
    assert (result.status, result.out) == (0, f"{text}\n"), result.err


@pytest.mark.parametrize("text", ["5", "-1h", "1h 30"])
def test_what_is_no_time_is_one_message(mlprun, text):
    result = mlprun(f"trainer.max_time={text}")
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith(f"error: trainer.max_time={text}: {NO_TIMES[text]}")
    assert len(result.err.splitlines()) == 2
    assert not (result.folder / "outputs").exists()
