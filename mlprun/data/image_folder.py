"""Class-named folders of images (ImageNet's layout), opened one by one when asked for."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mlprun.data.folders import class_folders, listing, part_folders
from mlprun.data.source import Source
from mlprun.errors import ConfigError, DataError

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger("mlprun")


class ImageFolder(Dataset[tuple[Tensor, int]]):
    """Images at `paths`, each resized to cover (height, width) and cropped to it.

    Args:
        paths: the image files.
        targets: class indices, int64 of shape (N,); readable without opening an image.
        input_shape: (channels, height, width); 3 channels are RGB, 1 is grey.
        crop: None crops the centre; a number crops at a random place after padding with so many black pixels.
        flip: mirror left and right with probability 1/2.

    An item is (uint8 tensor of `input_shape`, int). The random choices come from torch's global generator.

    Raises:
        DataError: on reading an item, when the file is missing or is no sound image.
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
    """A picture resized to cover (height, width), its shape kept, so that one side may be longer; and its old size.

    Args:
        path: of the file.
        input_shape: (channels, height, width); 3 channels give RGB, 1 grey.

    Returns:
        An image of 8 bits a channel, and (width, height) as it was in the file.

    Raises:
        DataError: it is missing, or is no sound image.
    """
    from PIL import Image

    channels, height, width = input_shape
    try:
        with Image.open(path) as file:
            size = file.size
            # JPEG can be decoded at a fraction of its size; never below the size asked for.
            file.draft(None, (width, height))
            image: Image.Image = file
            if file.mode.startswith("I"):  # 16 bits of grey, which `convert` would clip at 255
                image = Image.fromarray((np.asarray(file) // 256).clip(0, 255).astype(np.uint8))
            elif "transparency" in file.info:
                image = file.convert("RGBA")
            image = image.convert("RGB" if channels == 3 else "L")
    except Exception as error:  # what a damaged file makes a decoder raise is open-ended
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
    """The images under `root`, one folder a class, as lazy data sets.

    `root/train/CLASS/*.jpg` is the training part and `root/test/CLASS/*.jpg` the test part. Where there is
    no `test` with class folders, `root/val` serves as the test part (mlprun takes its own validation
    examples from the training part). Without a `root/train`, `root/CLASS/*.jpg` is all training and `test` is
    None. Classes are numbered in the sorted order of their names. Links are followed, hidden files are not
    seen, and images may lie deeper in their class folder.

    Args:
        root: the folder.
        input_shape: (channels, height, width) that every image gets: resized to cover it, centre cropped.
        crop: augmentation: crop at a random place, after padding with so many black pixels.
        flip: augmentation: mirror left and right at random.

    Returns:
        `train`, `test` and, with `crop` or `flip`, `augmented` as `ImageFolder`. The fingerprint is one for
        each part: of the names and sizes of its images, not of their content.

    Raises:
        ConfigError: `input_shape` is not that of a grey or RGB image.
        DataError: `root` is missing, has no classes or an empty one, or the test part has a class of its own.
    """
    if len(input_shape) != 3 or input_shape[0] not in (1, 3) or min(input_shape) < 1:
        raise ConfigError(
            "input_shape",
            list(input_shape),
            "not the shape of an image",
            "[3, height, width] for colour, [1, height, width] for grey",
        )
    train_folder, test_folder = part_folders(root)
    classes = class_folders(train_folder)
    paths, targets, fingerprint = listing(train_folder, classes)
    labels = torch.tensor(targets)
    fingerprints = {str(train_folder): fingerprint}
    test = None
    if test_folder:
        unused = test_folder.with_name("val")
        if test_folder != unused and unused.is_dir():
            log.warning("%s is not used: the test part is %s", unused, test_folder)
        test_paths, test_targets, fingerprints[str(test_folder)] = listing(test_folder, classes)
        test = ImageFolder(test_paths, torch.tensor(test_targets), input_shape)
    return Source(
        train=ImageFolder(paths, labels, input_shape),
        test=test,
        augmented=ImageFolder(paths, labels, input_shape, crop or None, flip) if crop or flip else None,
        value_range=(0, 255),
        class_names=tuple(classes),
        fingerprints=fingerprints,
    )
