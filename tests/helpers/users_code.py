"""Modules of the user's own, as text that a test writes into the user's folder."""

from __future__ import annotations

USERS_DATA = """
import torch
from torch.utils.data import Dataset, IterableDataset

class Noisy(Dataset):  # draws anew at every reading
    def __len__(self):
        return 300
    def __getitem__(self, i):
        return torch.rand(6) + i % 3, i % 3

class Stream(IterableDataset):
    def __iter__(self):
        for i in range(300):
            yield torch.rand(6) + i % 3, i % 3
"""
OWN = ["data=custom", "data.input_shape=[6]", "data.num_outputs=3", "data.dataset._target_=users_data.{}"]
NOISY = [word.format("Noisy") for word in OWN]
STREAM = [word.format("Stream") for word in OWN]
GOOD = """\
# @package _global_
# topic: convolution
# A small CNN.
#   mlprun experiment=mine               15 s on one core
#   mlprun -m experiment=mine seed=0,1      30 s
# Expect 98 % accuracy.
# See val/loss in TensorBoard.
epochs: 1
"""


USERS = """
import os
import torch
from torch import nn
from torch.utils.data import Dataset

class Net(nn.Module):
    gain = 1.0

    def __init__(self, width=16):
        super().__init__()
        self.first, self.second = nn.Linear(6, width), nn.Linear(width, 3)
        self.calls = 0

    def forward(self, x):
        self.calls += self.training
        return self.second(self.first(x).relu()) * (self.gain if self.calls > 12 else 1)

class Restless(Net):
    def forward(self, x):
        return super().forward(x) + os.urandom(1)[0] / 1000 * torch.arange(3)

class Noisy(Dataset):  # draws anew at every reading
    def __len__(self):
        return 300

    def __getitem__(self, i):
        return torch.rand(6) + i % 3, i % 3

class Table(Dataset):
    def __init__(self, path):
        self.rows = [[float(x) for x in line.split()] for line in open(path)]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return torch.tensor(self.rows[i]), i % 3
"""
