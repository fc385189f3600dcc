"""Metrics of classes and labels that a config may add (`conf/metrics`): exact over the split, as scikit-learn's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from mlprun.errors import ConfigError
from mlprun.formatting import pluralize
from mlprun.tasks.base import Task
from mlprun.tasks.metrics import PER_CLASS, PER_TOKEN, Undefined, exact, predicted_classes


class ClassMetric:
    """Base class: reads outputs (N, K) and targets as the task does, on their device.

    Targets (N,) are classes: the index of an output, or 0 and 1 where there is a single one. Targets (N, K) are 0 or 1
    for each of K labels.
    """

    higher_is_better = True
    tasks: ClassVar[Sequence[str]] = (*PER_CLASS, "multi_label", *PER_TOKEN)

    def __init__(self) -> None:
        self.task = Task()
        self.reset()

    def set_task(self, task: Task) -> None:
        """Called once, by mlprun: what the outputs mean depends on the task's loss."""
        self.task = task

    def reset(self) -> None:
        self._soft: Tensor | bool = False

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        if outputs.dim() != 2 or targets.shape not in (outputs.shape, outputs.shape[:1]):
            raise ValueError("targets are the class of each example, or 0 and 1 for each output")
        if targets.is_floating_point():  # looked at by `compute`: nothing waits for the device here
            self._soft = self._soft | (targets != targets.round()).any()
        self.add(outputs, targets.long())

    def compute(self) -> Any:
        if bool(self._soft):
            problem = "needs classes, and these targets are probabilities (soft labels)"
            raise ConfigError("", ConfigError.MISSING, problem, "give the metric the most probable class as the target")
        return self.result()

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch; targets are int64."""
        raise NotImplementedError

    def result(self) -> Any:
        """The value, or a dict of several."""
        raise NotImplementedError


class FBeta(ClassMetric):
    """F-beta = (1 + beta²) TP / ((1 + beta²) TP + beta² FN + FP); F1 with beta=1, the harmonic mean of the two others.

    Args:
        beta: weighs recall: below 1 precision counts more, above 1 recall.
        average: `macro`, over the classes that occur in targets or predictions; `micro`, of the counts of all classes;
            `weighted` by the number of targets; `binary`, class 1 of two; `none`, each class by its name. A ratio 0/0
            is 0; with `none`, a class without a target is undefined.
    """

    AVERAGES = ("macro", "micro", "weighted", "binary", "none")

    def __init__(self, beta: float = 1.0, average: str = "macro") -> None:
        if average not in self.AVERAGES:
            raise ConfigError("average", average, "not known", f"choose from: {', '.join(self.AVERAGES)}")
        if not beta > 0:
            raise ConfigError("beta", beta, "must be greater than 0")
        self.beta, self.average = beta, average
        super().__init__()

    def reset(self) -> None:
        super().reset()
        self._counts: Tensor | int = 0  # (3, C): true positives, predictions and targets of each class

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        if targets.dim() == 2:
            predicted = outputs > self.task.threshold
            self._counts = self._counts + torch.stack(
                [(predicted & (targets > 0)).sum(0), predicted.sum(0), targets.sum(0)]
            )
            return
        num_classes = max(outputs.shape[1], 2)
        if self.average == "binary" and num_classes > 2:
            raise ConfigError(
                "average", "binary", f"there are {num_classes} classes", "choose macro, micro or weighted"
            )
        guess = predicted_classes(outputs, self.task.threshold)
        counts = torch.zeros(3, num_classes, dtype=torch.int64, device=outputs.device)
        ones = torch.ones_like(targets)  # bincount has no deterministic kernel on a GPU
        for row, (classes, amount) in zip(
            counts, ((targets, guess == targets), (guess, ones), (targets, ones)), strict=True
        ):
            row.index_add_(0, classes, amount.long())
        self._counts = self._counts + counts

    def ratio(self, hits: Tensor, predicted: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
        """Numerator and denominator of the score, from its counts in float64."""
        weight = self.beta**2
        return (1 + weight) * hits, predicted + weight * true

    def _score(self, counts: Tensor) -> Tensor:
        above, below = self.ratio(*counts.double())
        return torch.where(below > 0, above / below.clamp(min=1e-300), 0.0)

    def result(self) -> float | dict[str, float | Undefined]:
        counts = torch.as_tensor(self._counts).cpu()
        scores, num_true = self._score(counts), counts[2]
        if self.average == "none":
            absent, names = Undefined("no target of the split is of this class"), self.task.names_of(len(scores))
            pairs = zip(names, zip(scores, num_true, strict=True), strict=True)
            return {name: float(score) if count else absent for name, (score, count) in pairs}
        if self.average == "binary":
            return float(scores[-1])
        if self.average == "micro":
            return float(self._score(counts.sum(1)))
        weights = num_true if self.average == "weighted" else (counts[1:].sum(0) > 0)
        return float((scores * weights).sum() / weights.sum().clamp(min=1))


class Precision(FBeta):
    """TP / (TP + FP), the correct share of the predictions of a class; arguments as of `FBeta`."""

    def __init__(self, average: str = "macro") -> None:
        super().__init__(average=average)

    def ratio(self, hits: Tensor, predicted: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
        return hits, predicted


class Recall(Precision):
    """TP / (TP + FN), the share of the targets of a class that is found; arguments as of `FBeta`."""

    def ratio(self, hits: Tensor, predicted: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
        return hits, true


class CalibrationError(ClassMetric):
    """Expected calibration error: sum over bins of |accuracy - mean confidence|, weighted by the examples in a bin.

    Guo et al., On Calibration of Modern Neural Networks, 2017, equation 3, with their 15 bins: bin m holds the
    confidences, the probability of the predicted class, in ((m-1)/15, m/15].
    """

    higher_is_better = False
    tasks = (*PER_CLASS, *PER_TOKEN)

    def __init__(self, num_bins: int = 15) -> None:
        if num_bins < 1:
            raise ConfigError("num_bins", num_bins, "must be 1 or more")
        self.num_bins = num_bins
        super().__init__()

    def reset(self) -> None:
        super().reset()
        self._sums: Tensor | float = 0.0  # (3, bins): examples, confidence and correct ones

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        if targets.dim() == 2:
            raise ValueError("a confidence is that of one class for each example")
        probabilities = self.task.probabilities(exact(outputs))
        if probabilities is None:
            problem = "needs probabilities, and mlprun knows none of the outputs for this loss"
            raise ConfigError("", ConfigError.MISSING, problem, "use loss=cross_entropy or loss=bce")
        confidence = probabilities.amax(1)
        correct = predicted_classes(outputs, self.task.threshold) == targets
        bins = (confidence * self.num_bins).ceil().clamp(1, self.num_bins)[:, None]
        in_bin = bins == torch.arange(1, self.num_bins + 1, device=bins.device)
        values = torch.stack([torch.ones_like(confidence), confidence, correct.to(confidence.dtype)])
        self._sums = self._sums + values @ in_bin.to(confidence.dtype)

    def result(self) -> float:
        count, confidence, correct = torch.as_tensor(self._sums).cpu().double()
        return float((confidence - correct).abs().sum() / count.sum())


class AUROC(ClassMetric):
    """The probability that a target of the class has a higher score than one of another class; ties count one half.

    Of class 1 of two; of more classes, each against the rest, and of labels the mean over those that have both kinds
    of targets in the split. All scores are kept until `compute`, so it is exact.
    """

    tasks = (*PER_CLASS, "multi_label")
    undefined: ClassVar[str] = "the targets of the split are all the same"

    def reset(self) -> None:
        super().reset()
        self._outputs: list[Tensor] = []
        self._targets: list[Tensor] = []

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        self._outputs.append(outputs)
        self._targets.append(targets)

    def result(self) -> float:
        outputs, targets = torch.cat(self._outputs).cpu().double(), torch.cat(self._targets).cpu()
        if not torch.isfinite(outputs).all():
            return float("nan")  # of a model that diverged, as its loss
        columns = self._columns(outputs, targets)
        values = [value for scores, is_true in columns if (value := self.of(scores, is_true)) is not None]
        if not values:
            raise Undefined(f"{self.undefined} ({pluralize(len(targets), 'example')})")
        return sum(values) / len(values)

    def _columns(self, outputs: Tensor, targets: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For each class, or the second of two, or each label: the scores (N,), and where it is the target."""
        if targets.dim() == 2:
            return [(outputs[:, k], targets[:, k] > 0) for k in range(outputs.shape[1])]
        if outputs.shape[1] > 1 and self.task.softmax:
            outputs = outputs[:, 1:] - outputs[:, :1] if outputs.shape[1] == 2 else log_odds(outputs)
        elif outputs.shape[1] == 2:
            outputs = outputs[:, 1:]
        if outputs.shape[1] == 1:
            return [(outputs[:, 0], targets == 1)]
        return [(outputs[:, k], targets == k) for k in range(outputs.shape[1])]

    def of(self, scores: Tensor, is_true: Tensor) -> float | None:
        """Of one class, by counting the pairs in whole numbers; None if there are none."""
        num_true, num_false = int(is_true.sum()), int((~is_true).sum())
        if not num_true or not num_false:
            return None
        true, false = _cumulated(scores, is_true, descending=False)
        in_group, below = true.diff(prepend=true.new_zeros(1)), torch.cat([false.new_zeros(1), false[:-1]])
        return int((in_group * (below + false)).sum()) / (2 * num_true * num_false)


class AveragePrecision(AUROC):
    """The sum over thresholds of precision times the increase of recall, without interpolation (as scikit-learn's).

    Of class 1 of two; of more classes, each against the rest, and of labels the mean over those that are the target of
    an example in the split.
    """

    undefined = "no target of the split is positive"

    def of(self, scores: Tensor, is_true: Tensor) -> float | None:
        if not is_true.any():
            return None
        true, false = _cumulated(scores, is_true, descending=True)
        precision = true.double() / (true + false)
        return float((true.diff(prepend=true.new_zeros(1)) * precision).sum() / true[-1])


def _cumulated(scores: Tensor, is_true: Tensor, *, descending: bool) -> tuple[Tensor, Tensor]:
    """The number of true and of other targets up to each different score."""
    scores, order = scores.sort(descending=descending)
    ends = torch.cat([scores.diff() != 0, torch.ones(1, dtype=torch.bool)])
    true = is_true[order].cumsum(0)[ends]
    return true, ends.nonzero().flatten() + 1 - true


def log_odds(logits: Tensor) -> Tensor:
    """log(p / (1 - p)) of the softmax of logits (N, K): orders a class's probabilities also where they round to 1."""
    log_p = logits.log_softmax(1)
    top = logits.argmax(1, keepdim=True)
    others = logits.scatter(1, top, -torch.inf).logsumexp(1, keepdim=True)  # log1p(-1) would lose the largest
    odds: Tensor = log_p - torch.log1p(-log_p.exp().clamp(max=0.75))
    return odds.scatter(1, top, logits.gather(1, top) - others)
