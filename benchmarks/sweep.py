"""A sweep of 32 trainings on MNIST against ONE of the same training in PyTorch Lightning, as whole commands, in turn.

    pip install lightning
    MLPRUN_DATA=... python benchmarks/sweep.py

The sweep: `mlprun -m experiment=mnist_mlp epochs=1`, 8 learning rates x 4 seeds, from the start of the process to the
leaderboard, on all cores. Lightning: one epoch of 784-128-64-10 with Adam at batch 64 on 54,000 images, read by
torchvision's MNIST with ToTensor and Normalize behind a DataLoader, validated on 6,000 and tested on 10,000, with
the metrics of lightning-hydra-template, Lightning's own logger, bar and checkpoint, on one core. Prints the seconds of
each turn, and the ratio of the medians.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TURNS = 3
RATES = "1e-4,3e-4,6e-4,1e-3,2e-3,3e-3,6e-3,1e-2"
SWEEP = ["-m", "mlprun", "-m", "experiment=mnist_mlp", "epochs=1", f"optim.lr={RATES}", "seed=0,1,2,3"]


def lightning() -> None:
    """One training."""
    import lightning
    import torch
    import torchvision
    from torch import nn
    from torch.utils.data import DataLoader, random_split
    from torchmetrics import MeanMetric
    from torchmetrics.classification import Accuracy

    class Net(lightning.LightningModule):
        """As the MNIST module of lightning-hydra-template: a mean loss and an accuracy for each split."""

        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(
                nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)
            )
            splits = ("train", "val", "test")
            self.losses = nn.ModuleDict({f"{name}_loss": MeanMetric() for name in splits})
            self.scores = nn.ModuleDict({f"{name}_acc": Accuracy("multiclass", num_classes=10) for name in splits})

        def step(self, batch: tuple[torch.Tensor, torch.Tensor], name: str) -> torch.Tensor:
            inputs, targets = batch
            outputs = self.layers(inputs)
            loss = nn.functional.cross_entropy(outputs, targets)
            mean, accuracy = self.losses[f"{name}_loss"], self.scores[f"{name}_acc"]
            mean(loss)
            accuracy(outputs.argmax(1), targets)
            self.log(f"{name}/loss", mean, on_step=False, on_epoch=True, prog_bar=True)
            self.log(f"{name}/acc", accuracy, on_step=False, on_epoch=True, prog_bar=True)
            return loss

        def training_step(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
            return self.step(batch, "train")

        def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
            self.step(batch, "val")

        def test_step(self, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
            self.step(batch, "test")

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=3e-4)

    lightning.seed_everything(0, verbose=False)
    torch.set_num_threads(1)
    steps = [torchvision.transforms.ToTensor(), torchvision.transforms.Normalize(0.1307, 0.3081)]
    transform, root = torchvision.transforms.Compose(steps), os.environ["MLPRUN_DATA"]
    train, val = random_split(torchvision.datasets.MNIST(root, transform=transform), [54_000, 6_000])
    test = torchvision.datasets.MNIST(root, train=False, transform=transform)
    trainer = lightning.Trainer(max_epochs=1, accelerator="cpu")
    model = Net()
    trainer.fit(model, DataLoader(train, batch_size=64, shuffle=True), DataLoader(val, batch_size=64))
    trainer.test(model, DataLoader(test, batch_size=64), verbose=False)


def seconds(*arguments: str, one_core: bool = False) -> float:
    """A whole process, in an empty folder."""

    def pin() -> None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, preexec_fn=pin if one_core else None,
        )  # fmt: skip
        return time.perf_counter() - start


def main() -> None:
    """Take turns."""
    ours, theirs = [], []
    for turn in range(TURNS):
        theirs.append(seconds(str(Path(__file__).absolute()), "lightning", one_core=True))
        ours.append(seconds(*SWEEP))
        print(f"turn {turn}: 32 runs of mlprun {ours[-1]:.1f} s, one run of Lightning {theirs[-1]:.1f} s", flush=True)
    print(f"ratio of the medians {statistics.median(ours) / statistics.median(theirs):.2f}")


if __name__ == "__main__":
    lightning() if sys.argv[1:] == ["lightning"] else main()
