"""An activation whose gradient is written out: `experiment=silu_by_hand`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class SiLUByHand(nn.Module):
    """The SiLU, `x · σ(x)`, with its gradient written out: the values of `torch.nn.SiLU`.

    A pattern for a function of your own: a `torch.autograd.Function` with `forward` and `backward`, in a module
    that applies it. `torch.autograd.gradcheck` tells whether the two belong together.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Floats of any shape -> the same shape."""
        outputs: Tensor = _SiLUFunction.apply(inputs)
        return outputs


class _SiLUFunction(torch.autograd.Function):
    """`f(x) = x σ(x)` with `σ(x) = 1 / (1 + e⁻ˣ)`; Elfwing et al. 2018, equations 3 and 5.

    σ' = σ (1 - σ), so by the product rule f'(x) = σ(x) + x σ(x) (1 - σ(x)) = σ(x) (1 + x (1 - σ(x))).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """f(x), any shape; x is kept for the backward pass."""
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        """dL/dx = dL/df · f'(x), the chain rule; the shape of x.

        Made of operations that have gradients themselves, so there are second derivatives, too.
        """
        (x,) = ctx.saved_tensors
        sigmoid = torch.sigmoid(x)
        grad_input: Tensor = grad_output * sigmoid * (1 + x * (1 - sigmoid))
        return grad_input
