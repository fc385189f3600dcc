"""What a few examples do in a model: norms and histograms of activations, gradients, weights and updates.

They come from one optimizer step that is undone, so the training continues unchanged.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mlprun import randomness, signals
from mlprun.data.nested import AnyBatch, Batch
from mlprun.training.learner import Learner
from mlprun.writers.base import Bins

NUM_BINS = 30  # as in TensorBoard


class Probed(NamedTuple):
    """Tags begin with the quantity and end with the name of the layer or parameter.

    For sequences, each token counts as an example and padding does not count, so norms do not depend on lengths.

    Attributes:
        values: `activation_norm/LAYER`, the mean over the examples of the L2 norm of its output;
            `gradient_norm/PARAMETER` and `weight_norm/PARAMETER`, L2 norms; `update_ratio/PARAMETER`, the L2 norm of
            the update over that of the weights; `dead_relus/LAYER`, the number of units of a ReLU (channels, after a
            convolution) that are 0 for all examples.
        histograms: `activations/LAYER`, `gradients/PARAMETER`, `updates/PARAMETER`, `weights/PARAMETER`.
    """

    values: dict[str, float]
    histograms: dict[str, Bins]


def probe(learner: Learner, batch: AnyBatch, padding: int | None = None) -> Probed:
    """Do one optimizer step on `batch`, in training mode, and undo it.

    Layers are the modules without children; of a layer that returns several tensors (a recurrent one) the first counts.
    Values that are not finite count in the norms, not in the histograms.

    Args:
        padding: the token id that pads sequences; None: no padding.
    """
    tokens = None  # (N, L) bool, False at padding
    if isinstance(batch, Batch) and not batch.inputs.is_floating_point() and batch.inputs.dim() == 2:
        tokens = torch.ones_like(batch.inputs, dtype=torch.bool) if padding is None else batch.inputs != padding
    outputs: dict[str, Tensor] = {}
    layers = dict(learner.model.named_modules())
    names = {id(layer): name for name, layer in layers.items()}

    def keep(layer: nn.Module, _: object, output: object) -> None:
        name = names[id(layer)]
        if isinstance(output, tuple) and output:
            output = output[0]
        if name in outputs or not isinstance(output, Tensor) or not output.is_floating_point():
            return  # only the first pass of LBFGS counts
        output = output.detach()
        if tokens is not None and output.dim() > 2 and output.shape[:2] == tokens.shape:
            outputs[name] = output[tokens].float()  # (tokens, width): a copy
        else:
            outputs[name] = output.float().clone()  # the next layer may work in place

    hooks = [layer.register_forward_hook(keep) for layer in layers.values() if not any(layer.children())]
    try:
        with signals.deferred, randomness.preserved():  # a request to stop must not find a half-undone step
            randomness.seed_all(learner.seed, "probe")  # the same noise each time
            gradients, updates = learner.try_step(batch)
    finally:
        for hook in hooks:
            hook.remove()
    values: dict[str, float] = {}
    histograms: dict[str, Bins] = {}
    for name, output in outputs.items():
        tag = name or "model"
        values[f"activation_norm/{tag}"] = float(output.flatten(1).norm(dim=1).mean())
        histograms[f"activations/{tag}"] = bins(output)
        if isinstance(layers[name], nn.ReLU):
            units = output.flatten(2).amax(2) if output.dim() > 2 else output
            values[f"dead_relus/{tag}"] = float((units.amax(0) <= 0).sum())
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
    """`NUM_BINS` bins of equal width from the smallest to the largest finite value: (bins, 3); (0, 3) without any."""
    finite = values.detach().flatten().float()
    finite = finite[torch.isfinite(finite)].cpu().double()  # NumPy refuses bins narrower than float32 resolves
    if not len(finite):
        return np.zeros((0, 3))
    counts, edges = np.histogram(finite.numpy(), NUM_BINS)
    return np.stack([edges[:-1], edges[1:], counts], axis=1).astype(np.float64)
