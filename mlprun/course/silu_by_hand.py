"""An activation with a hand-written gradient: `experiment=silu_by_hand`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class SiLUByHand(nn.Module):
    """The SiLU, `x · σ(x)`, with a hand-written gradient: the values of `torch.nn.SiLU`.

    A pattern for your own functions: a `torch.autograd.Function` in a module that applies it. Check the gradient with
    `torch.autograd.gradcheck`.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = _SiLUFunction.apply(inputs)
        return outputs


class _SiLUFunction(torch.autograd.Function):
    """`f(x) = x σ(x)` with `σ(x) = 1 / (1 + e⁻ˣ)`; Elfwing et al. 2018, equations 3 and 5.

    σ' = σ (1 - σ), so by the product rule f'(x) = σ(x) + x σ(x) (1 - σ(x)) = σ(x) (1 + x (1 - σ(x))).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        """dL/dx = dL/df · f'(x), of differentiable operations, so that second derivatives exist."""
        (x,) = ctx.saved_tensors
        sigmoid = torch.sigmoid(x)
        grad_input: Tensor = grad_output * sigmoid * (1 + x * (1 - sigmoid))
        return grad_input
