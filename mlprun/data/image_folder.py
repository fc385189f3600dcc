"""Folders of images, one per class (ImageNet's layout), opened one by one when needed."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mlprun.data.folders import list_parts
from mlprun.data.source import Source
from mlprun.errors import ConfigError, DataError

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger("mlprun")


class ImageFolder(Dataset[tuple[Tensor, int]]):
    """Images at `paths`, each resized to cover (height, width) and cropped to it.

    An item is (uint8 tensor of `input_shape`, int). Random choices come from torch's global generator.

    Args:
        targets: class indices, int64 of shape (N,); readable without opening an image.
        crop: None crops the centre; a number crops at a random place after padding with so many black pixels.
        flip: mirror left and right with probability 1/2.
    """

    def __init__(
        self,
        paths: Sequence[str],
        targets: Tensor,
        input_shape: Sequence[int],
        crop: int | None = None,
        flip: bool = False,
    ) -> None:
        from torchvision.transforms import v2

        self.paths, self.targets, self.input_shape = paths, targets, tuple(input_shape)
        size = self.input_shape[1:]
        transforms = [v2.CenterCrop(size) if crop is None else v2.RandomCrop(size, padding=crop)]
        if flip:
            transforms.append(v2.RandomHorizontalFlip())
        self.transform = v2.Compose([*transforms, v2.PILToTensor()])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, _ = read_image(self.paths[index], self.input_shape)
        picture: Tensor = self.transform(image)
        return picture, int(self.targets[index])


def read_image(path: str, input_shape: Sequence[int]) -> tuple[Image, tuple[int, int]]:
    """An image resized to cover (height, width), keeping its aspect ratio; and its (width, height) in the file.

    It has 8 bits per channel; 3 channels in `input_shape`, (channels, height, width), give RGB, 1 grey.

    Raises:
        DataError: the file is missing, or damaged.
    """
    from PIL import Image

    channels, height, width = input_shape
    try:
        with Image.open(path) as file:
            size = file.size
            # JPEG can be decoded at a fraction of its size; never below the size requested.
            file.draft(None, (width, height))
            image: Image.Image = file
            if file.mode.startswith("I"):  # 16 bits of grey, which `convert` would clip at 255
                image = Image.fromarray((np.asarray(file) // 256).clip(0, 255).astype(np.uint8))
            elif "transparency" in file.info:
                image = file.convert("RGBA")
            image = image.convert("RGB" if channels == 3 else "L")
    except Exception as error:  # a damaged file can make a decoder raise anything
        raise DataError(f"{path}: cannot be read as an image: {type(error).__name__}: {error}") from error
    scale = max(height / image.height, width / image.width)
    covering = max(width, round(image.width * scale)), max(height, round(image.height * scale))
    return image if image.size == covering else image.resize(covering, Image.Resampling.BILINEAR), size


def image_folder(
    root: str | os.PathLike[str],
    input_shape: Sequence[int] = (3, 224, 224),
    crop: int = 0,
    flip: bool = False,
) -> Source:
    """The images under `root`, one folder per class, as lazy data sets.

    `root/train/CLASS/*.jpg` is the training part and `root/test/CLASS/*.jpg` the test part. Without class folders in
    `test`, `root/val` is the test part (mlprun holds its own val out of the training part). Without `root/train`,
    `root/CLASS/*.jpg` is all training and `test` is None. Classes are numbered in the sorted order of their names.
    Links are followed, hidden files are skipped, and images may be deeper in their class folder.

    Args:
        input_shape: (channels, height, width) of every example: images are resized to cover it and centre-cropped.
        crop: augmentation: crop at a random place, after padding with so many black pixels.
        flip: augmentation: mirror left and right at random.

    Raises:
        ConfigError: `input_shape` is not that of a grey or RGB image.
        DataError: as `list_parts`.
    """
    if len(input_shape) != 3 or input_shape[0] not in (1, 3) or min(input_shape) < 1:
        remedy = "[3, height, width] for colour, [1, height, width] for grey"
        raise ConfigError("input_shape", list(input_shape), "not the shape of an image", remedy)
    folder, classes, train, test, fingerprints = list_parts(root)
    if test and (unused := folder.with_name("val")).is_dir() and str(unused) not in fingerprints:
        log.warning("%s is not used: the test part is %s", unused, folder.with_name("test"))
    labels = torch.tensor(train.targets)
    return Source(
        train=ImageFolder(train.paths, labels, input_shape),
        test=ImageFolder(test.paths, torch.tensor(test.targets), input_shape) if test else None,
        augmented=ImageFolder(train.paths, labels, input_shape, crop or None, flip) if crop or flip else None,
        value_range=(0, 255),
        class_names=tuple(classes),
        fingerprints=fingerprints,
    )
