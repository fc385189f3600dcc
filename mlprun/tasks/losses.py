"""Criteria that torch lacks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NLL(nn.NLLLoss):
    """Negative log likelihood of logits: the value of cross entropy, in two steps.

    A model that ends in `LogSoftmax` gets the same loss, because log_softmax is idempotent.
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return super().forward(F.log_softmax(input, dim=-1), target)


class Hinge(nn.MultiMarginLoss):
    """The hinge loss, for several outputs or one.

    - K outputs f, class y: mean over the K of max(0, margin - f_y + f_k)^p for k ≠ y, as in torch.
    - One output f, classes 0 and 1 read as y = -1 and +1: max(0, margin - y f)^p. With margin 1 it is that of the
      support vector machine (Cortes & Vapnik 1995); with margin 0 it is Rosenblatt's criterion (1958): a correctly
      classified example costs nothing, and gradient descent with batches of one is the perceptron's learning rule.

    A single output exactly on the boundary has a gradient, so that the perceptron also learns from zero weights.
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """The loss of outputs (N, K) and class indices (N,), or of outputs (N, 1) and classes 0 or 1 as (N, 1)."""
        if input.shape[-1] > 1:
            return super().forward(input, target)
        gap = self.margin - (2 * target - 1) * input
        # not clamp, whose gradient at the bound depends on the version of torch
        losses = torch.where(gap >= 0, gap, 0) ** self.p
        if self.weight is not None:
            losses = losses * self.weight[target.long()]
        return losses.sum() if self.reduction == "sum" else losses.mean()
