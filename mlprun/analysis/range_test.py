"""The result of a learning-rate range test (`scheduler=range_test`): a suggestion, and a plot of the loss.

The loss is flat at rates too low to learn, then falls, and explodes at rates that are too high. The suggestion is
where it falls most steeply over log lr, as in fastai's `lr_find`; the lowest loss is at the edge (Smith, 2017).
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

MEMORY = 0.1  # decades of the rate: time constant of the smoothing
STRETCH = 0.1  # decades on either side for a slope: fewer would measure the noise of a batch
EXPLODED = 4.0  # times the best smoothed loss
LEAST_FALL = 0.1  # relative to the first smoothed loss


@dataclass(frozen=True)
class Curve:
    """A range test."""

    rates: list[float]  # of each step, ascending
    losses: list[float]  # of each step, up to the first that is not finite
    smoothed: list[float]
    suggested: float | None  # rate of the steepest fall; None if the loss never falls
    lowest: int  # index of the lowest smoothed loss before it explodes
    explodes: int | None  # index of the first smoothed loss above `EXPLODED` times the best, and half-way back up
    ended_early: bool  # a loss was not finite

    @property
    def values(self) -> dict[str, float | None]:
        lowest = None if self.suggested is None else self.rates[self.lowest]
        explodes = self.rates[-1] if self.ended_early else None
        if self.explodes is not None:
            explodes = self.rates[self.explodes]
        return {"suggested_lr": self.suggested, "lowest_lr": lowest, "explodes_lr": explodes}

    def sentence(self) -> str:
        low, high = f"{self.rates[0]:.2g}", f"{self.rates[-1]:.2g}"
        if self.suggested is None:
            return (
                f"no suggestion: train/loss did not fall by {LEAST_FALL:.0%} at any rate from {low} to {high}; try "
                "another optim.lr (the highest rate), more steps, or look at the data and the model"
            )
        explodes = self.values["explodes_lr"]
        end = f"does not explode up to {high}" if explodes is None else f"explodes at {explodes:.2g}"
        loss = self.smoothed[self.lowest]
        return (
            f"optim.lr={self.suggested:.2g} suggested, where train/loss falls most steeply; "
            f"it is lowest ({loss:.3g}) at {self.rates[self.lowest]:.2g} and {end}"
        )


def read(path: Path) -> tuple[list[float], list[float | None]]:
    """Learning rates and losses of a metrics.jsonl; None for a loss that was not finite."""
    rows = [row for row in read_rows(path) if "train/loss" in row]
    return [row["optim/lr"] for row in rows], [row["train/loss"] for row in rows]


def judge(rates: Sequence[float], losses: Iterable[float | None], *, ended_early: bool = False) -> Curve:
    """Analyse the losses of ascending rates; `ended_early`: the run diverged at a step without a row."""
    finite: list[float] = []
    for loss in losses:
        if loss is None or not math.isfinite(loss):
            ended_early = True
            break
        finite.append(loss)
    # a resumed, longer test starts again at lower rates: read the first ramp
    rising = next((i for i in range(1, len(finite)) if rates[i] <= rates[i - 1]), len(finite))
    finite = finite[:rising]
    logs = [math.log10(rate) for rate in rates[: len(finite)]]
    # exponential moving average over log10 lr with bias correction (Kingma and Ba, 2015, section 3)
    smoothed: list[float] = []
    total = weight = 0.0
    for i, loss in enumerate(finite):
        decay = math.exp(-(logs[i] - logs[i - 1]) / MEMORY) if i else 0.0
        total, weight = decay * total + (1 - decay) * loss, decay * weight + (1 - decay)
        smoothed.append(total / weight)
    explodes, best = None, math.inf
    for i, value in enumerate(smoothed):
        best = min(best, value)
        # also half-way back up: near 0, noise alone is many times the best
        if best > 0 and value > EXPLODED * best and value > best + 0.5 * (smoothed[0] - best):
            explodes = i
            break
    usable = smoothed[:explodes]
    lowest = min(range(len(usable)), key=usable.__getitem__, default=0)
    suggested = None
    if usable and usable[0] - usable[lowest] > LEAST_FALL * abs(usable[0]):
        suggested = rates[_steepest(logs, smoothed, lowest)]
    return Curve(list(rates[: len(finite)]) or [rates[0]], finite, smoothed, suggested, lowest, explodes, ended_early)


def _steepest(logs: list[float], smoothed: list[float], lowest: int) -> int:
    """Index up to `lowest` of the steepest slope, measured over `STRETCH` on either side."""

    def slope(i: int) -> float:
        before = after = i
        while before > 0 and logs[i] - logs[before] < STRETCH:
            before -= 1
        while after < lowest and logs[after] - logs[i] < STRETCH:
            after += 1
        # shorter at the ends and less certain: divide by the full stretch all the same
        return (smoothed[after] - smoothed[before]) / max(logs[after] - logs[before], 2 * STRETCH)

    return min(range(lowest + 1), key=slope)


def picture(curve: Curve) -> Figure:
    """The raw and smoothed loss against the learning rate, with the result."""
    figure, axes = new_figure("learning-rate range test" + "; no suggestion" * (curve.suggested is None))
    axes.plot(curve.rates[: len(curve.losses)], curve.losses, color="0.8", linewidth=0.8, label="each step")
    axes.plot(curve.rates[: len(curve.smoothed)], curve.smoothed, color="tab:blue", linewidth=1.8, label="smoothed")
    if curve.suggested is not None:
        axes.axvline(curve.suggested, color="tab:red", linewidth=1.2, label=f"suggested {curve.suggested:.2g}")
        lowest = curve.rates[curve.lowest]
        axes.axvline(lowest, color="0.3", linewidth=1.0, linestyle=":", label=f"lowest {lowest:.2g}")
    if curve.losses:  # the explosion would flatten the rest
        usable = curve.smoothed[: curve.explodes]
        low, high = min(usable), max(usable)
        bottom = 0.0 if low >= 0 else low - 0.1 * (high - low)
        axes.set_ylim(bottom, high + 0.15 * (high - bottom) or 1.0)
    axes.set(xscale="log", xlabel="learning rate", ylabel="train/loss")
    axes.legend(loc="lower left", fontsize=8)
    return figure
