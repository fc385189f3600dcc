"""The lines and the bar of a training."""

from __future__ import annotations

import io
import logging
import math
import sys
from pathlib import Path

import pytest

from mlprun.runs.log import RunLog
from mlprun.writers.base import RunInfo
from mlprun.writers.console import Console, fit


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """Seconds that pass only when a test says so, for bar and lines."""
    now = [1000.0]
    monkeypatch.setattr("mlprun.writers.console.time.monotonic", lambda: now[0])
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    return now


@pytest.fixture
def logged(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("mlprun"), "handlers", [caplog.handler])
    monkeypatch.setattr(logging.getLogger("mlprun"), "propagate", False)
    caplog.set_level(logging.INFO, "mlprun")
    return caplog


def started(**known) -> Console:
    console = Console()
    console.start(RunInfo(Path(), {"monitor": "val/loss"}, {}, **known))
    return console


def test_a_line_for_each_evaluation(logged):
    console = started(num_steps=1000)
    console.tick(1)
    console.write(50, 0.5, {"train/loss": 0.6, "optim/lr": 0.1})
    scores = {"val/loss": 0.4, "val/accuracy": 0.9, "val/recall/cat": 0.5}  # the values of each class are in the files
    console.write(100, 1.0, {"train/loss": 0.42478, "optim/lr": 0.1, **scores})
    console.running_means(120, {"train/loss": 0.5, "optim/grad_norm": 2.0})  # at an evaluation between two rows
    console.write(120, 1.2, {"optim/lr": 0.1, "val/loss": 0.39})
    console.write(150, 1.5, {"train/loss": 0.35})  # 20 steps of 0.5, and 30 of 0.25
    console.running_means(180, {"train/loss": 0.2})
    console.write(180, 1.8, {"val/loss": 0.38})
    console.write(200, 2.0, {"train/loss": math.nan, "val/loss": 0.37})
    console.write(250, 2.5, {"train/loss": 0.125, "val/loss": 0.36})
    console.write(1000, None, {"val/loss": 0.25})
    console.finish("completed")
    assert logged.messages == [
        "step  100/1000  epoch  1.00  train/loss 0.5124  val/loss 0.4000  val/accuracy 0.9000",
        "step  120/1000  epoch  1.20  train/loss 0.5000  val/loss 0.3900",
        "step  180/1000  epoch  1.80  train/loss 0.2250  val/loss 0.3800",
        "step  200/1000  epoch  2.00  train/loss nan  val/loss 0.3700",
        "step  250/1000  epoch  2.50  train/loss 0.1250  val/loss 0.3600",
        "step 1000/1000  val/loss 0.2500",
    ]


@pytest.mark.parametrize(
    ("best", "higher", "highlighted"),
    [(None, False, [0.5, 0.4, None]), (0.45, False, [None, 0.4, None]), (None, True, [0.5, None, 0.6])],
)
def test_the_best_so_far_is_highlighted(logged, best, higher, highlighted):
    console = started(num_steps=3, best=best, higher_is_better=higher)
    for step, value in enumerate((0.5, 0.4, 0.6), 1):
        console.write(step, None, {"val/loss": value})
    shown = [f"val/loss {value:.4f}" if value else "" for value in highlighted]
    assert [record.best for record in logged.records] == shown


FIELDS = {
    "step": "step 41/410", "epoch": "epoch  1.00", "train/loss": "train/loss 1.8525", "val/loss": "val/loss 1.1812",
    "val/accuracy": "val/accuracy 0.8750", "val/macro_f1": "val/macro_f1 0.8602",
}  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "monitor", "left"),
    [
        (200, "val/loss", "step 41/410  epoch  1.00  train/loss 1.8525  val/loss 1.1812  val/accuracy 0.8750  "
                          "val/macro_f1 0.8602"),
        (95, "val/loss", "step 41/410  epoch  1.00  train/loss 1.8525  val/loss 1.1812  accuracy 0.8750  "
                         "macro_f1 0.8602"),
        (80, "val/loss", "step 41/410  epoch  1.00  train/loss 1.8525  val/loss 1.1812  accuracy 0.8750"),
        (70, "val/loss", "step 41/410  train/loss 1.8525  val/loss 1.1812  accuracy 0.8750"),
        (50, "val/loss", "step 41/410  train/loss 1.8525  val/loss 1.1812"),
        (80, "val/macro_f1", "step 41/410  train/loss 1.8525  val/loss 1.1812  val/macro_f1 0.8602"),
        (40, "val/macro_f1", "step 41/410  val/macro_f1 0.8602"),
        (20, "val/loss", "step 41/410  val/loss 1.1812"),
    ],
)  # fmt: skip
def test_what_has_room_in_a_line(columns, monitor, left):
    assert "  ".join(fit(FIELDS, monitor, columns).values()) == left


def test_the_log_has_the_whole_line(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    with RunLog(tmp_path / "train.log"):
        started(num_steps=9).write(1, 1.0, {"train/loss": 0.5, "val/loss": 0.25, "val/accuracy": 1.0, "val/f": 1.0})
    whole = "step 1/9  epoch  1.00  train/loss 0.5000  val/loss 0.2500  val/accuracy 1.0000  val/f 1.0000\n"
    assert (tmp_path / "train.log").read_text().endswith(whole)
    assert sys.stdout.getvalue() == "step 1/9  train/loss 0.5000  val/loss 0.2500\n"


def test_a_line_every_half_minute_without_a_terminal(logged, clock):
    console = started(num_steps=1000, step=100)
    for step in range(101, 201):
        clock[0] += 1.0
        if step == 150:
            console.write(150, 0.1, {"train/loss": 0.5, "perf/examples_per_sec": 3200.0})
        if step == 170:
            console.write(170, 0.1, {"val/loss": 0.5})
        console.tick(step)
    assert logged.messages == [
        "step 130/1000  1 steps/s  about 14 min left",
        "step 160/1000  train/loss 0.5000  3,200 examples/s  about 14 min left",
        "step  170/1000  epoch  0.10  train/loss 0.5000  val/loss 0.5000",
        "step 200/1000  train/loss 0.5000  3,200 examples/s  about 13 min left",
    ]


def test_the_bar_shows_the_loss_and_of_a_resumed_run_starts_where_it_does(monkeypatch, clock, logged):
    """60 steps are left, of 1 s each: the 36 that another process did say nothing of this one's speed."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    console = started(num_steps=100, step=36)
    for step in range(37, 41):
        clock[0] += 1.0
        console.write(step, None, {"train/loss": step / 100})
        console.tick(step)
    clock[0] += 60.0
    console.tick(41)
    console.finish("completed")
    shown = terminal.getvalue().split("\r")
    assert any("36%" in text and "36/100" in text for text in shown[:2])
    assert any("40/100 [00:04<01:00," in text and "loss 0.4000" in text for text in shown)
    assert not logged.messages, "a bar is shown: no line is needed"
