"""What a learning-rate range test (`scheduler=range_test`) has found: a suggestion, and a picture of the loss.

The loss of each step stands against its rate. It is flat while rates are too low to learn, falls, and explodes
where they are too high. The suggestion is the rate at which it falls most steeply over log lr, as in fastai's
`lr_find`; the rate of the lowest loss is on the edge of what works (Smith, 2017).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlprun.pictures.figures import new_figure
from mlprun.runs.metrics import read_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEMORY = 0.1  # decades of the rate over which the smoothing forgets all but 1/e
STRETCH = 0.1  # decades to either side over which a slope is measured: less would measure the noise of a batch
EXPLODED = 4.0  # times the best smoothed loss
LEAST_FALL = 0.1  # of the first smoothed loss: less is no learning


@dataclass(frozen=True)
class Curve:
    """A range test.

    Attributes:
        rates: learning rate of each step, ascending.
        losses: training loss of each step; it ends where the loss was no longer finite.
        smoothed: its moving average.
        suggested: rate of the steepest fall; None where the loss never falls.
        lowest: index of the lowest smoothed loss before it explodes.
        explodes: index of the first smoothed loss above `EXPLODED` times the best before, and half-way back up; None.
        ended_early: whether it was not finite at some rate.
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    suggested: float | None
    lowest: int
    explodes: int | None
    ended_early: bool

    @property
    def values(self) -> dict[str, float | None]:
        """For the run's record: `suggested_lr`, `lowest_lr` and `explodes_lr`."""
        return {
            "suggested_lr": self.suggested,
            "lowest_lr": None if self.suggested is None else self.rates[self.lowest],
            "explodes_lr": self._explodes_lr,
        }

    @property
    def _explodes_lr(self) -> float | None:
        if self.explodes is not None:
            return self.rates[self.explodes]
        return self.rates[-1] if self.ended_early else None

    def sentence(self) -> str:
        """The finding in one line."""
        low, high = f"{self.rates[0]:.2g}", f"{self.rates[-1]:.2g}"
        if self.suggested is None:
            return (
                f"no suggestion: train/loss did not fall by {LEAST_FALL:.0%} at any rate from {low} to {high}; try "
                "another optim.lr (the highest rate), more steps, or look at the data and the model"
            )
        end = f"does not explode up to {high}" if self._explodes_lr is None else f"explodes at {self._explodes_lr:.2g}"
        loss = self.smoothed[self.lowest]
        return (
            f"optim.lr={self.suggested:.2g} suggested, where train/loss falls most steeply; "
            f"it is lowest ({loss:.3g}) at {self.rates[self.lowest]:.2g} and {end}"
        )


def read(path: Path) -> tuple[list[float], list[float | None]]:
    """Rates and losses of the rows of a metrics.jsonl; a loss that was not finite is None."""
    rows = [row for row in read_rows(path) if "train/loss" in row]
    return [row["optim/lr"] for row in rows], [row["train/loss"] for row in rows]


def judge(rates: Sequence[float], losses: Iterable[float | None], *, ended_early: bool = False) -> Curve:
    """Read a curve.

    Args:
        rates: of each step, ascending and above 0; at least one.
        losses: of each step, None or not finite where it diverged; what follows the first such is left out.
        ended_early: the run itself broke off, and has no row of that.
    """
    finite: list[float] = []
    for loss in losses:
        if loss is None or not math.isfinite(loss):
            ended_early = True
            break
        finite.append(loss)
    # a test that was made longer begins anew at lower rates: the first rise is read
    rising = next((i for i in range(1, len(finite)) if rates[i] <= rates[i - 1]), len(finite))
    finite = finite[:rising]
    logs = [math.log10(rate) for rate in rates[: len(finite)]]
    smoothed = _smoothed(logs, finite)
    explodes, best = None, math.inf
    for i, value in enumerate(smoothed):
        best = min(best, value)
        # and over half of what it fell: near 0 the noise alone is many times the best
        if best > 0 and value > EXPLODED * best and value > best + 0.5 * (smoothed[0] - best):
            explodes = i
            break
    usable = smoothed[:explodes]
    lowest = min(range(len(usable)), key=usable.__getitem__, default=0)
    suggested = None
    if usable and usable[0] - usable[lowest] > LEAST_FALL * abs(usable[0]):
        suggested = rates[_steepest(logs, smoothed, lowest)]
    return Curve(list(rates[: len(finite)]) or [rates[0]], finite, smoothed, suggested, lowest, explodes, ended_early)


def _smoothed(logs: list[float], losses: list[float]) -> list[float]:
    """An exponential moving average over log10 lr, without the bias of its start (Kingma and Ba, 2015, section 3)."""
    averages: list[float] = []
    total = weight = 0.0
    for i, loss in enumerate(losses):
        decay = math.exp(-(logs[i] - logs[i - 1]) / MEMORY) if i else 0.0
        total, weight = decay * total + (1 - decay) * loss, decay * weight + (1 - decay)
        averages.append(total / weight)
    return averages


def _steepest(logs: list[float], smoothed: list[float], lowest: int) -> int:
    """The index up to `lowest` at which the smoothed loss falls most, from `STRETCH` before it to `STRETCH` after."""

    def slope(i: int) -> float:
        before = after = i
        while before > 0 and logs[i] - logs[before] < STRETCH:
            before -= 1
        while after < lowest and logs[after] - logs[i] < STRETCH:
            after += 1
        # at the ends the stretch is shorter, the slope less certain: the full one stands below the fall
        return (smoothed[after] - smoothed[before]) / max(logs[after] - logs[before], 2 * STRETCH)

    return min(range(lowest + 1), key=slope)


def picture(curve: Curve) -> Figure:
    """The loss, raw and smoothed, against the learning rate on a log axis, with what was found."""
    figure, axes = new_figure("learning-rate range test" + "; no suggestion" * (curve.suggested is None))
    axes.plot(curve.rates[: len(curve.losses)], curve.losses, color="0.8", linewidth=0.8, label="each step")
    axes.plot(curve.rates[: len(curve.smoothed)], curve.smoothed, color="tab:blue", linewidth=1.8, label="smoothed")
    if curve.suggested is not None:
        axes.axvline(curve.suggested, color="tab:red", linewidth=1.2, label=f"suggested {curve.suggested:.2g}")
        lowest = curve.rates[curve.lowest]
        axes.axvline(lowest, color="0.3", linewidth=1.0, linestyle=":", label=f"lowest {lowest:.2g}")
    if curve.losses:  # the explosion itself would press the rest flat
        usable = curve.smoothed[: curve.explodes]
        low, high = min(usable), max(usable)
        bottom = 0.0 if low >= 0 else low - 0.1 * (high - low)
        axes.set_ylim(bottom, high + 0.15 * (high - bottom) or 1.0)
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("train/loss")
    axes.legend(loc="lower left", fontsize=8)
    return figure
