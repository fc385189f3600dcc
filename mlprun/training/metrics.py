"""Metrics of a split, summed on the device example by example, so that an uneven last batch weighs what it holds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mlprun.data.source import IGNORED
from mlprun.tasks import BY_TOKEN, TOP5_FROM


def predicted_classes(outputs: Tensor, threshold: float = 0.0) -> Tensor:
    """Class indices (N,) of outputs (N, K); a single output is class 1 above `threshold`, 0 for a logit."""
    return (outputs[:, 0] > threshold).long() if outputs.shape[1] == 1 else outputs.argmax(1)


class Metrics:
    """Accumulates over batches: `update` each, then `compute`. Nothing waits for the device before `compute`.

    Args:
        task: one of `TASKS`.
        num_outputs: classes, or values an example.
        device: where the outputs are.
        threshold: above which a single output means class 1.
        target_scale: (num_outputs,) what the targets of a regression were divided by; `mse` and `mae` are given in
            the units from before. None: they were not.

    Attributes:
        confusion: (K, K) int64 counts, rows the true class, columns the predicted; only for classification.
        count: examples, 0 of them to begin with.
    """

    def __init__(
        self,
        task: str,
        num_outputs: int,
        device: torch.device,
        threshold: float = 0.0,
        target_scale: Tensor | None = None,
    ) -> None:
        self.task, self.threshold = task, threshold
        # Sums of many float32 values lose digits; mps has no float64.
        self._kind = torch.float32 if device.type == "mps" else torch.float64
        self._unit = 1.0 if target_scale is None else target_scale.to(self._kind)
        classes = max(num_outputs, 2) if task == "classification" else 0
        self.confusion = torch.zeros(classes, classes, dtype=torch.int64, device=device)
        none = torch.zeros((), dtype=torch.int64, device=device)
        self._top5 = none.clone() if task != "regression" and num_outputs >= TOP5_FROM else None
        self._hits = self._told = none  # of tokens
        self._loss = torch.zeros((), dtype=self._kind, device=device)
        self._squared = self._absolute = self._sum = self._sum_squares = self._nats = self._loss
        self._origin: Tensor | None = None
        self.count = 0
        self._size: Tensor | int = 0

    def update(
        self,
        outputs: Tensor,
        targets: Tensor,
        loss: Tensor,
        *,
        mean: bool,
        size: Tensor | int | None = None,
        nats: Tensor | None = None,
    ) -> None:
        """Add a batch.

        Args:
            outputs: logits (N, K) or predictions (N, D); logits (N, L, K) where each token has its own.
            targets: (N,) int64, or (N, D) float; (N, L) int64, of which `IGNORED` does not count.
            loss: scalar over the batch.
            mean: whether `loss` is the mean over the examples, rather than their sum.
            size: what that mean divided by, where it is not the number of examples.
            nats: sum of the cross entropy over the tokens that count, where `loss` is another.
        """
        count = len(targets)
        self.count += count
        told = (targets != IGNORED).sum() if self.task in BY_TOKEN else count
        size = told if size is None or not mean else size
        self._size = self._size + size
        summed = loss.to(self._kind) * (size if mean else 1)
        self._loss = self._loss + summed
        if self.task in BY_TOKEN:  # no class is IGNORED, so what does not count is never a hit
            self._hits = self._hits + (outputs.argmax(-1) == targets).sum()
            self._told = self._told + told
            self._nats = self._nats + (summed if nats is None else nats.to(self._kind))
            if self._top5 is not None:
                self._top5 += (outputs.topk(5, dim=-1).indices == targets[..., None]).sum()
            return
        if self.task == "classification":
            # index_add_ of whole numbers: bincount has no deterministic kernel on a GPU
            classes = len(self.confusion)
            pair = targets * classes + predicted_classes(outputs, self.threshold)
            self.confusion.view(-1).index_add_(0, pair, torch.ones_like(pair))
            if self._top5 is not None:
                self._top5 += (outputs.topk(5, dim=1).indices == targets[:, None]).any(1).sum()
            return
        outputs, targets = outputs.to(self._kind), targets.to(self._kind)
        if self._origin is None:  # sums are taken from here, so that a large mean costs no digits
            self._origin = targets.mean(0)
        error, centred = outputs - targets, targets - self._origin
        self._squared = self._squared + error.square().sum(0)
        self._absolute = self._absolute + error.abs().sum(0)
        self._sum = self._sum + centred.sum(0)
        self._sum_squares = self._sum_squares + centred.square().sum(0)

    def compute(self) -> dict[str, float]:
        """Metric name -> value over all examples."""
        if self.count == 0:
            raise ValueError("no examples")
        if self.task in BY_TOKEN and not int(self._told):
            raise ValueError("no tokens that count")
        values = {"loss": float(self._loss) / float(self._size)}
        if self.task in BY_TOKEN:
            # exp of the cross entropy: among how many tokens a uniform guess would be as unsure
            mean = float(self._nats) / int(self._told)
            values["perplexity"] = math.exp(mean) if mean < 700 else math.inf
            values["accuracy"] = int(self._hits) / int(self._told)
            if self._top5 is not None:
                values["top5_accuracy"] = int(self._top5) / int(self._told)
            return values
        if self.task == "classification":
            confusion = self.confusion.cpu()
            hits, true, guessed = confusion.diag(), confusion.sum(1), confusion.sum(0)
            occurs = (true + guessed) > 0
            # F1 = 2 TP / (2 TP + FP + FN), averaged over the classes that occur (as scikit-learn's f1_score)
            f1 = (2 * hits[occurs]).double() / (true + guessed)[occurs]
            values["accuracy"] = int(hits.sum()) / self.count
            values["macro_f1"] = float(f1.mean())
            if self._top5 is not None:
                values["top5_accuracy"] = int(self._top5) / self.count
            return values
        spread = self._sum_squares - self._sum.square() / self.count
        explained = torch.where(
            spread > 0, 1 - self._squared / spread.clamp(min=1e-300), (self._squared == 0).to(self._kind)
        )
        values["mse"] = float((self._squared * self._unit**2 / self.count).mean())
        values["mae"] = float((self._absolute * self._unit / self.count).mean())
        # the share of the variance that is explained: the same in every unit
        values["r2"] = float(explained.mean())
        return values


def confusion_rows(confusion: Tensor, labels: Sequence[str]) -> list[list[str | int]]:
    """The confusion matrix as a table with a header; rows the true class, columns the predicted."""
    header: list[str | int] = ["true \\ predicted", *labels]
    counts: list[list[int]] = confusion.tolist()
    rows: list[list[str | int]] = [[label, *row] for label, row in zip(labels, counts, strict=True)]
    return [header, *rows]
