"""When does a second CPU thread pay? The step of models of growing size on one thread against all, in turn.

    python benchmarks/threads.py

Prints, for each model, the multiply-adds of a step (three times the forward pass of a batch) and how much faster the
step is on all threads; `build.ONE_THREAD_BELOW` rests on it. On two cores of a Xeon virtual machine the perceptrons
gain 1.1 to 1.3 at any size, the convolutions 1.0 at 19 million multiply-adds a step and 1.5 at 234 million.
"""

from __future__ import annotations

import os
import statistics
import time

import torch
from torch import nn

from mlprun.models.cnn import CNN
from mlprun.models.mlp import MLP

TURNS, STEPS, BATCH = 7, 20, 64
MODELS: dict[str, nn.Module] = {
    "mlp 64-128-64-10": MLP([64], 10, [128, 64]),
    "mlp 784-128-64-10": MLP([784], 10, [128, 64]),
    "mlp 784-256-256-10": MLP([784], 10, [256, 256]),
    "mlp 784-512-512-10": MLP([784], 10, [512, 512]),
    "mlp 784-1024-1024-10": MLP([784], 10, [1024, 1024]),
    "cnn on 1x8x8": CNN([1, 8, 8], 10),
    "cnn on 1x28x28": CNN([1, 28, 28], 10),
    "cnn on 3x32x32": CNN([3, 32, 32], 10),
}
SHAPES = {"cnn on 1x8x8": (1, 8, 8), "cnn on 1x28x28": (1, 28, 28), "cnn on 3x32x32": (3, 32, 32)}


def macs_of(model: nn.Module, inputs: torch.Tensor) -> int:
    """Multiply-adds of the linear and convolution layers for one example, as `build.check_fit` counts them."""
    found = 0

    def count(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal found
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            found += layer.weight.numel() * output[0].numel() // layer.weight.shape[0]

    hooks = [layer.register_forward_hook(count) for layer in model.modules()]
    model(inputs)
    for hook in hooks:
        hook.remove()
    return found


def seconds(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor, threads: int) -> float:
    """Seconds of a training step."""
    torch.set_num_threads(threads)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    start = time.perf_counter()
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    return (time.perf_counter() - start) / STEPS


if __name__ == "__main__":
    cores = os.cpu_count() or 1
    print(f"{'model':22} {'M multiply-adds':>15} {'1 thread':>10} {f'{cores} threads':>10} {'ratio':>6}")
    for name, model in MODELS.items():
        inputs = torch.randn(BATCH, *SHAPES.get(name, (model.hidden[0].in_features,) if isinstance(model, MLP) else ()))
        targets = torch.randint(0, 10, (BATCH,))
        times: dict[int, list[float]] = {1: [], cores: []}
        for turn in range(TURNS + 1):
            for threads in times:
                took = seconds(model, inputs, targets, threads)
                if turn:
                    times[threads].append(took)
        one, many = (statistics.median(times[threads]) for threads in (1, cores))
        work = 3 * macs_of(model, inputs) * BATCH / 1e6
        print(f"{name:22} {work:15.1f} {one * 1e3:7.2f} ms {many * 1e3:7.2f} ms {one / many:6.2f}")
