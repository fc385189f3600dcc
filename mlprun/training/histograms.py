"""What the layers of a model do with a few examples: sizes and histograms of activations, gradients and updates.

They do one optimizer step, which is taken back: the training goes on as if nobody had looked.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mlprun import randomness, signals
from mlprun.data.nested import AnyBatch, Batch
from mlprun.training.learner import Learner

NUM_BINS = 30  # TensorBoard's own choice

Bins = np.ndarray[Any, np.dtype[np.float64]]


class Probed(NamedTuple):
    """What a probe found; tags begin with what was measured and end with the name of the layer or parameter.

    Of sequences, what a layer gives for each token counts as an example does, and at padding not at all: neither the
    length of the texts nor the longest of them changes a norm.

    Attributes:
        values: `activation_norm/LAYER`, the mean over the examples of the L2 norm of its output;
            `gradient_norm/PARAMETER` and `weight_norm/PARAMETER`, L2 norms; `update_ratio/PARAMETER`, the L2 norm of
            what one optimizer step changes over that of the weights; `dead_relus/LAYER`, the number of units of a ReLU
            (channels, after a convolution) that are 0 for all examples.
        histograms: `activations/LAYER`, `gradients/PARAMETER`, `updates/PARAMETER`, `weights/PARAMETER`: (bins, 3)
            float64, lower edge, upper edge, count.
    """

    values: dict[str, float]
    histograms: dict[str, Bins]


def probe(learner: Learner, batch: AnyBatch, padding: int | None = None) -> Probed:
    """Forward, backward and one optimizer step on `batch`, in training mode, and back.

    Layers are the modules without children; of several tensors that one gives (a recurrent layer), the first counts,
    its states. Values that are not finite count in the norms, not in the histograms.

    Args:
        learner: does the step.
        batch: the examples.
        padding: the token id that fills sequences up; None: nothing does.
    """
    told = None  # (N, L) bool, where there is a token
    if isinstance(batch, Batch) and not batch.inputs.is_floating_point() and batch.inputs.dim() == 2:
        told = torch.ones_like(batch.inputs, dtype=torch.bool) if padding is None else batch.inputs != padding
    outputs: dict[str, Tensor] = {}
    hooks = []
    layers = dict(learner.model.named_modules())
    for name, layer in layers.items():
        if not any(layer.children()):

            def keep(_: nn.Module, __: object, output: object, name: str = name) -> None:
                if isinstance(output, tuple) and output:
                    output = output[0]
                if name in outputs or not isinstance(output, Tensor) or not output.is_floating_point():
                    return  # of LBFGS's several passes the first
                output = output.detach()
                if told is not None and output.dim() > 2 and output.shape[:2] == told.shape:
                    outputs[name] = output[told].float()  # (tokens, width): a copy
                else:
                    outputs[name] = output.float().clone()  # for a layer in place may come next

            hooks.append(layer.register_forward_hook(keep))
    try:
        with signals.deferred, randomness.preserved():  # a request to stop must not find a step that is half undone
            randomness.seed_all(learner.seed, "probe")  # the same noise each time
            gradients, updates = learner.try_step(batch)
    finally:
        for hook in hooks:
            hook.remove()
    values: dict[str, float] = {}
    histograms: dict[str, Bins] = {}
    for name, output in outputs.items():
        name_shown = name or "model"
        values[f"activation_norm/{name_shown}"] = float(output.flatten(1).norm(dim=1).mean())
        histograms[f"activations/{name_shown}"] = bins(output)
        if isinstance(layers[name], nn.ReLU):
            units = output.flatten(2).amax(2) if output.dim() > 2 else output
            values[f"dead_relus/{name_shown}"] = float((units.amax(0) <= 0).sum())
    weights = dict(learner.model.named_parameters())
    for name, update in updates.items():
        size = float(weights[name].detach().norm())
        values[f"weight_norm/{name}"] = size
        values[f"update_ratio/{name}"] = float(update.norm()) / size if size else float("nan")
        histograms[f"weights/{name}"] = bins(weights[name])
        histograms[f"updates/{name}"] = bins(update)
        if name in gradients:
            values[f"gradient_norm/{name}"] = float(gradients[name].norm())
            histograms[f"gradients/{name}"] = bins(gradients[name])
    return Probed(values, histograms)


def bins(values: Tensor) -> Bins:
    """`NUM_BINS` bins of equal width from the smallest to the largest finite value: (bins, 3), empty without any."""
    finite = values.detach().flatten().float()
    finite = finite[torch.isfinite(finite)].cpu().double()  # NumPy refuses bins that float32 cannot tell apart
    if not len(finite):
        return np.zeros((0, 3))
    counts, edges = np.histogram(finite.numpy(), NUM_BINS)
    return np.stack([edges[:-1], edges[1:], counts], axis=1).astype(np.float64)
