"""The terminal."""

from __future__ import annotations

import logging
import math
import time

from mlprun.formatting import format_duration, format_metric
from mlprun.terminal import BEAT_SEC, progress_bar, width
from mlprun.writers.base import RunInfo, Values, Writer

log = logging.getLogger("mlprun")


class Console(Writer):
    """The terminal: a line for each evaluation, and a bar with loss and ETA; without a terminal, a line now and then.

    Bar and lines show the loss that was last logged, so nothing waits for the device.
    """

    def start(self, run: RunInfo) -> None:
        self._run, self._best = run, run.best
        self._monitor = str(run.config.get("monitor", "val/loss"))
        self._train = _MeanSinceLine(run.step)
        self._logged: Values = {}  # the last training values
        self._began = self._shown = time.monotonic()
        self._bar = progress_bar(total=run.num_steps, initial=run.step, unit="step", mininterval=0.2, smoothing=0.05)

    def tick(self, step: int) -> None:
        if self._bar is not None:
            self._bar.update(1)
        elif time.monotonic() - self._shown >= BEAT_SEC:
            self._beat(step)

    def _beat(self, step: int) -> None:
        self._shown = time.monotonic()
        rate = (step - self._run.step) / (self._shown - self._began)
        examples = self._logged.get("perf/examples_per_sec")
        loss = [f"train/loss {format_metric(self._logged['train/loss'])}"] if "train/loss" in self._logged else []
        speed = f"{rate:.3g} steps/s" if examples is None else f"{examples:,.0f} examples/s"
        left = f"about {format_duration(max(1, round((self._run.num_steps - step) / rate)))} left"
        log.info("%s", "  ".join([f"step {step}/{self._run.num_steps}", *loss, speed, left]))

    def running_means(self, step: int, values: Values) -> None:
        self._train.see(step, values["train/loss"], ends=False)

    def write(self, step: int, epoch: float | None, values: Values) -> None:
        """Show an evaluation on a line of its own; training values move into the bar, and into the next line.

        The training loss of a line is the mean since the line before, whatever `logging.every` is.
        """
        if "train/loss" in values:
            self._logged = values
            self._train.see(step, values["train/loss"], ends=True)
            if self._bar is not None:
                self._bar.set_postfix_str(f"loss {format_metric(values['train/loss'])}", refresh=False)
        if not any(tag.startswith("val/") for tag in values):
            return
        self._shown = time.monotonic()
        train = {} if (loss := self._train.take()) is None else {"train/loss": loss}
        # the values of a metric that has several, such as one for each class, would fill the screen
        val = [tag for tag in values if tag.startswith("val/") and (tag.count("/") == 1 or tag == self._monitor)]
        shown = train | {tag: values[tag] for tag in val}
        fields = {tag: f"{tag} {format_metric(value)}" for tag, value in shown.items()}
        total = str(self._run.num_steps)
        where = {"step": f"step {step:{len(total)}d}/{total}"}
        if epoch is not None:
            where["epoch"] = f"epoch {epoch:5.2f}"
        fields = where | fields
        fitted = fit(fields, self._monitor, width())
        best = fitted.get(self._monitor, "") if self._is_best(values.get(self._monitor)) else ""
        log.info("%s", "  ".join(fields.values()), extra={"shown": "  ".join(fitted.values()), "best": best})

    def _is_best(self, value: float | None) -> bool:
        sign = 1 if self._run.higher_is_better else -1
        if value is None or not math.isfinite(value) or not (self._best is None or sign * value > sign * self._best):
            return False
        self._best = value
        return True

    def finish(self, status: str) -> None:
        if self._bar is not None:
            self._bar.close()


class _MeanSinceLine:
    """The mean training loss since the last line, from the means of windows that a line may cut.

    Every step counts the same, so it may differ in the last digit shown if batches differ in size.
    """

    def __init__(self, step: int) -> None:
        self._line, self._start, self._step = step, step, step  # of the last line, of the window, of what was seen
        self._before = self._total = 0.0  # summed over the steps from the last line to the window, and to `_step`

    def see(self, step: int, mean: float, *, ends: bool) -> None:
        """A mean from the beginning of the window to `step`, which `ends` it or not."""
        self._step, self._total = step, self._before + mean * (step - self._start)
        if ends:
            self._start, self._before = step, self._total

    def take(self) -> float | None:
        """The mean up to what was seen last; a line is made of it."""
        if self._step == self._line:
            return None
        mean = self._total / (self._step - self._line)
        self._line = self._step
        self._before = self._before - self._total if math.isfinite(self._total) else 0.0
        self._total = 0.0
        return mean


def fit(fields: dict[str, str], monitor: str, columns: int) -> dict[str, str]:
    """The fields of a line that fit into `columns`: with `val/` once, then without those that matter least."""
    fields = dict(fields)
    vals = [tag for tag in fields if tag.startswith("val/")]
    others = [tag for tag in vals if tag not in (monitor, "val/loss")]
    for tag in ["val/", *others[:0:-1], "epoch", *others[:1], "train/loss", "val/loss"]:
        if len("  ".join(fields.values())) <= columns:
            break
        if tag == "val/":
            fields |= {tag: fields[tag].removeprefix("val/") for tag in vals[1:] if tag != monitor}
        elif tag != monitor:
            fields.pop(tag, None)
    return fields
