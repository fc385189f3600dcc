"""The cost of `data.transforms` for an example in memory, against crop and flip of a whole batch, on one thread.

python benchmarks/augmentation.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torchvision.transforms import v2

from mlprun.data.augment import augment
from mlprun.data.transforms import Chain

SHAPES = {"digits": (1, 8, 8), "cifar10": (3, 32, 32)}
BATCH, ROUNDS = 64, 15


def microseconds(function: Callable[[], object]) -> float:
    """Of the fastest of some calls, per example: others may use the machine."""
    function()
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds) / BATCH * 1e6


def main() -> None:
    torch.set_num_threads(1)
    print(f"{'data':<9}{'transforms':<32}{'us per example':>15}{'ratio':>8}")
    for name, shape in SHAPES.items():
        images = torch.randint(0, 256, (BATCH, *shape), dtype=torch.uint8)
        generator = torch.Generator()
        first = microseconds(lambda: augment(images, 2, True, generator))  # noqa: B023  called at once
        print(f"{name:<9}{'data.augment: crop and flip':<32}{first:>15.1f}{1:>8}")
        lists = {
            "RandomCrop, RandomHorizontalFlip": [v2.RandomCrop(shape[1:], padding=2), v2.RandomHorizontalFlip()],
            "TrivialAugmentWide": [v2.TrivialAugmentWide()],
            "RandAugment": [v2.RandAugment()],
        }
        for title, steps in lists.items():
            chain = Chain("data.transforms.train", [(title, step) for step in steps], shape)
            cost = microseconds(lambda: [chain(image) for image in images])  # noqa: B023  called at once
            print(f"{name:<9}{title:<32}{cost:>15.1f}{cost / first:>8.0f}")


if __name__ == "__main__":
    main()
