"""Folders of images, one per class (ImageNet's layout), opened one by one when needed."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mlprun.data.folders import Files, list_parts
from mlprun.data.image_file import RESIZE, read_image
from mlprun.data.image_survey import describe, has_deep_images
from mlprun.data.source import Source
from mlprun.errors import ConfigError, DataError


class ImageFolder(Dataset[tuple[Tensor, int]]):
    """Images at `paths`, each resized to (height, width), and cropped to it.

    An item is (tensor of `input_shape`, int). Random choices come from torch's global generator.

    Args:
        targets: class indices, int64 of shape (N,); readable without opening an image.
        crop: None crops the centre; a number crops at a random place after padding with so many black pixels.
        flip: mirror left and right with probability 1/2.
        resize: as in `image_folder`.
        deep: there are images of more than 8 bits per channel: items are float32, with 255 for white. Else uint8.
    """

    def __init__(
        self,
        paths: Sequence[str],
        targets: Tensor,
        input_shape: Sequence[int],
        crop: int | None = None,
        flip: bool = False,
        resize: str = "cover",
        deep: bool = False,
    ) -> None:
        from torchvision.transforms import v2

        self.paths, self.targets, self.input_shape = paths, targets, tuple(input_shape)
        self.resize, self.deep = resize, deep
        size = self.input_shape[1:]
        transforms = [v2.CenterCrop(size) if crop is None else v2.RandomCrop(size, padding=crop)]
        if flip:
            transforms.append(v2.RandomHorizontalFlip())
        self.transform = v2.Compose([*transforms, v2.PILToTensor()])

    def augmented(self, crop: int, flip: bool) -> ImageFolder:
        """The same images under random transformations."""
        return ImageFolder(self.paths, self.targets, self.input_shape, crop or None, flip, self.resize, self.deep)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, _ = read_image(self.paths[index], self.input_shape, self.resize)
        picture: Tensor = self.transform(image)
        if self.deep:
            picture = picture.to(torch.float32)
        elif picture.dtype != torch.uint8:
            problem = "has more than 8 bits per channel, unlike the images that were looked at first"
            raise DataError(f"{self.paths[index]}: {problem}\n  convert it to 8 bits, or the others to 16")
        return picture, int(self.targets[index])


def image_folder(
    root: str | os.PathLike[str],
    input_shape: Sequence[int] = (3, 224, 224),
    crop: int = 0,
    flip: bool = False,
    resize: str = "cover",
) -> Source:
    """The images under `root`, one folder per class, as lazy data sets.

    `root/train/CLASS/*.jpg` is the training part; the folders of the other splits are those of `list_parts`. Without
    `root/train`, `root/CLASS/*.jpg` is all training, and mlprun holds out the others. Classes are numbered in the
    sorted order of their names. Links are followed, hidden files are skipped, and images may be deeper in their class
    folder.

    Args:
        input_shape: (channels, height, width) of every example: images are resized to it, and centre-cropped.
        crop: augmentation: crop at a random place, after padding with so many black pixels.
        flip: augmentation: mirror left and right at random.
        resize: `cover` (height, width), keeping the aspect ratio, and crop what is outside; `squash` to it; `pad` with
            black what an image of that aspect ratio, inside of it, leaves free.

    Raises:
        ConfigError: `input_shape` is not that of a grey or RGB image, or `resize` is not known.
        DataError: as `list_parts`.
    """
    if len(input_shape) != 3 or input_shape[0] not in (1, 3) or min(input_shape) < 1:
        remedy = "[3, height, width] for colour, [1, height, width] for grey"
        raise ConfigError("input_shape", list(input_shape), "not the shape of an image", remedy)
    if resize not in RESIZE:
        raise ConfigError("resize", resize, "not known", f"choose from: {', '.join(RESIZE)}")
    _, classes, train, test, val, fingerprints = list_parts(root)
    paths = [path for part in (train, test, val) if part for path in part.paths]
    deep = has_deep_images(root, paths)

    def part(files: Files) -> ImageFolder:
        return ImageFolder(files.paths, torch.tensor(files.targets), input_shape, resize=resize, deep=deep)

    return Source(
        train=part(train),
        test=part(test) if test else None,
        val=part(val) if val else None,
        augmented=part(train).augmented(crop, flip) if crop or flip else None,
        value_range=(0, 255),
        class_names=tuple(classes),
        fingerprints=fingerprints,
        resize=resize,
        describe=functools.partial(describe, paths),
    )
