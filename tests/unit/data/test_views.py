"""Several random views of each example: what decides their draws."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from mlprun.data.normalize import Normalizer
from mlprun.data.source import Examples
from mlprun.data.views import ViewBatches, augmented

CPU = torch.device("cpu")
IMAGES = torch.rand(2500, 1, 6, 6, generator=torch.Generator().manual_seed(0))
TARGETS = torch.arange(2500) % 3


class Lazy(Dataset[Any]):
    def __init__(self, crop: int | None = None, flip: bool = False) -> None:
        self.crop = crop

    def augmented(self, crop: int, flip: bool) -> Lazy:
        return Lazy(crop, flip)

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        noise = torch.rand(1, 6, 6) if self.crop else torch.zeros(1, 6, 6)
        return IMAGES[index] + noise, int(TARGETS[index])


def read(part: Any, num_views: int, batch_size: int = 8, seed: int = 0, num_workers: int = 0) -> tuple[Tensor, Tensor]:
    """All views, (num_views, N, 1, 6, 6), and targets."""
    normalizer = Normalizer(torch.tensor(0.0), torch.tensor(1.0))
    batches = [*ViewBatches(
        augmented(part, 2, True), batch_size, normalizer, CPU, seed=seed, num_views=num_views, crop=2, flip=True,
        num_workers=num_workers,
    )]  # fmt: skip
    return torch.cat([batch.inputs for batch in batches], 1), torch.cat([batch.targets for batch in batches])


@pytest.mark.parametrize("part", [Examples(IMAGES, TARGETS), Subset(Lazy(), [*range(20)])], ids=["memory", "lazy"])
def test_a_view_is_a_function_of_seed_view_and_example(part):
    count = len(part)
    views, targets = read(part, 3)
    assert views.shape == (3, count, 1, 6, 6)
    assert torch.equal(targets, TARGETS[:count])
    again, _ = read(part, 5, batch_size=3, num_workers=0 if isinstance(part, Examples) else 1)
    assert torch.equal(again[:3], views)
    fewer = part[:7] if isinstance(part, Examples) else Subset(part, [*range(7)])
    assert torch.equal(read(fewer, 3)[0], views[:, :7])
    other, _ = read(part, 3, seed=1)
    for first, second in ((views[0], views[1]), (views[0], other[0]), (views[0], IMAGES[:count])):
        assert not torch.equal(first, second)


def test_lazy_data_without_an_augmentation_have_no_views():
    class Plain(Lazy):
        augmented = None  # type: ignore[assignment]

    assert augmented(Subset(Plain(), [1, 2]), 2, True) is None
