"""Modules of the user's own, as text that a test writes into the user's folder."""

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
