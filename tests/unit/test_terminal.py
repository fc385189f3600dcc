"""What is decided about a terminal: colour, width, and whether a line can be drawn again."""

from __future__ import annotations

import io
import sys

import pytest

from mlprun.terminal import importing_torch, is_live, print_line, width, wrapped


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def xterm(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("error: lr=3: there is no such key\n  remedy", "\x1b[31merror:\x1b[0m lr=3: there is no such key\n  remedy"),
        ("warning: old", "\x1b[33mwarning:\x1b[0m old"),
        (" 3/12  failed      a", " 3/12  \x1b[31mfailed \x1b[0m     a"),
        ("   3  not run     a", "   3  \x1b[31mnot run \x1b[0m    a"),
        ("3/12  completed   a", "3/12  \x1b[32mcompleted \x1b[0m  a"),
        ("failed  outputs/a", "\x1b[31mfailed \x1b[0m outputs/a"),
        ("interrupted by SIGTERM", "\x1b[33minterrupted \x1b[0mby SIGTERM"),
        ("best    mlprun a=1", "\x1b[32mbest  \x1b[0m  mlprun a=1"),
        ("bestial failed error: x", "bestial failed error: x"),
        ("1  error: x", "1  \x1b[31merror:\x1b[0m x"),
        ("data    \x1b[31m", "data    \\x1b[31m"),  # an escape of somebody else's is text
    ],
)
def test_the_label_of_a_line_has_colour(text, sent):
    terminal = Terminal()
    print_line(text, terminal)
    assert terminal.getvalue() == sent + "\n"


def test_the_best_value_is_highlighted():
    terminal = Terminal()
    print_line("step 1/2  val/loss 0.5", terminal, best="val/loss 0.5")
    assert terminal.getvalue() == "step 1/2  \x1b[1;32mval/loss 0.5\x1b[0m\n"


@pytest.mark.parametrize(
    ("stream", "variable", "value", "live", "coloured"),
    [
        (Terminal, "NO_COLOR", "", True, True),  # no-color.org: only if not empty
        (Terminal, "NO_COLOR", "1", True, False),
        (Terminal, "TERM", "dumb", False, False),
        (io.StringIO, "TERM", "xterm", False, False),
    ],
)
def test_where_there_is_colour(monkeypatch, stream, variable, value, live, coloured):
    monkeypatch.setenv(variable, value)
    stream = stream()
    assert is_live(stream) is live
    print_line("error: x", stream)
    print_line("x", stream, best="x")
    assert ("\x1b" in stream.getvalue()) is coloured


def test_prose_is_wrapped_between_words(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "30")
    assert width(120) == 30
    line = "noise   lr (N/B - 1) = 0.001: scale, derived for SGD"
    assert wrapped(line, " " * 8) == ["noise   lr (N/B - 1) = 0.001:", "        scale, derived for SGD"]
    monkeypatch.setenv("COLUMNS", "3")
    assert width() == 20, "narrower ones are not served"
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert width(120) == 120
    assert wrapped(line, "") == [line]


@pytest.mark.parametrize(("stream", "shown"), [(Terminal, "importing torch …\r                 \r"), (io.StringIO, "")])
def test_what_takes_seconds_is_said_and_wiped_away(monkeypatch, stream, shown):
    monkeypatch.setattr(sys, "stderr", stream())
    monkeypatch.delitem(sys.modules, "torch")
    with pytest.raises(ZeroDivisionError), importing_torch():
        1 / 0  # noqa: B018
    assert sys.stderr.getvalue() == shown
