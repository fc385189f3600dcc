"""The SiLU written out is torch's, and its gradient belongs to it."""

from __future__ import annotations

import torch
from torch import nn

from mlprun.course.silu_by_hand import SiLUByHand


def test_silu_by_hand_is_silu_in_values_and_gradients() -> None:
    points = torch.tensor([-1e4, -88.0, -5.0, -1.28, 0.0, 0.3, 5.0, 1e4])
    results = []
    for silu in (nn.SiLU(), SiLUByHand()):
        inputs = points.clone().requires_grad_()
        outputs = silu(inputs)
        outputs.sum().backward()
        results.append((outputs.detach(), inputs.grad))
    torch.testing.assert_close(results[0], results[1])


def test_the_gradient_written_out_for_silu_is_that_of_its_values() -> None:
    inputs = torch.linspace(-4, 4, 12, dtype=torch.float64).reshape(3, 4).requires_grad_()
    by_hand = SiLUByHand()
    assert torch.autograd.gradcheck(by_hand, inputs)
    assert torch.autograd.gradgradcheck(by_hand, inputs)
