"""One epoch of MNIST on one thread: mlprun's loop against the loop of a notebook, in turn, in one process.

    MLPRUN_DATA=... python benchmarks/epoch.py

Both train 784-128-64-10 (ReLU) with Adam at batch 64 on the 60,000 training images. The notebook reads them as most
introductions do: torchvision's MNIST with ToTensor and Normalize behind a shuffling DataLoader. Prints the seconds
of each turn, and the ratio of the medians.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time

import torch
import torchvision
from torch import nn

from mlprun.config.checks import check
from mlprun.config.compose import Composer
from mlprun.job.build_data import build_eval_batches, build_splits, build_train_batches
from mlprun.job.build_learner import build_learner, build_model, build_plan
from mlprun.training.loop import Progress, train
from mlprun.writers.base import Writer

TURNS = 3
ROOT = os.environ["MLPRUN_DATA"]


class Silent(Writer):
    """Writes and saves nothing: only the training is timed."""

    def save_last(self, *_: object, keep: bool = False) -> None: ...

    def save_best(self, *_: object) -> None: ...


def of_mlprun() -> float:
    """Seconds of an epoch in mlprun's loop: data in memory, metrics, finiteness checks and gradient norms included."""
    config = check(
        Composer().compose(["experiment=mnist_mlp", "epochs=1", f"data.root={ROOT}", "data.val_fraction=0.001"])
    )
    cpu = torch.device("cpu")
    parts = build_splits(config)
    batches = build_train_batches(config, parts, cpu)
    plan = build_plan(config, batches.steps_per_epoch)
    learner = build_learner(config, build_model(config), plan, cpu)
    val = build_eval_batches(config, parts.val, parts, cpu, learner.task)
    start = time.perf_counter()
    train(
        learner,
        batches,
        lambda: {f"val/{name}": value for name, value in learner.evaluate(val).compute().items()},
        plan,
        Progress(),
        Silent(),
        Silent(),
        {},
    )
    return time.perf_counter() - start


def of_a_notebook() -> float:
    """Seconds of an epoch in a notebook's loop."""
    steps = [torchvision.transforms.ToTensor(), torchvision.transforms.Normalize(0.1307, 0.3081)]
    transform = torchvision.transforms.Compose(steps)
    data = torchvision.datasets.MNIST(ROOT, train=True, transform=transform)
    loader = torch.utils.data.DataLoader(data, batch_size=64, shuffle=True)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)
    )
    optimizer, loss_of = torch.optim.Adam(model.parameters(), lr=3e-4), nn.CrossEntropyLoss()
    start = time.perf_counter()
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = loss_of(model(inputs), targets)
        loss.backward()
        optimizer.step()
    return time.perf_counter() - start


if __name__ == "__main__":
    torch.set_num_threads(1)
    seconds: dict[str, list[float]] = {"mlprun": [], "notebook": []}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for turn in range(TURNS + 1):  # the first turn warms up
            for name, measure in (("mlprun", of_mlprun), ("notebook", of_a_notebook)):
                took = measure()
                if turn:
                    seconds[name].append(took)
    for name, values in seconds.items():
        print(f"{name:9} " + "  ".join(f"{value:6.2f}" for value in values) + " s")
    print(f"ratio     {statistics.median(seconds['notebook']) / statistics.median(seconds['mlprun']):.1f}")
