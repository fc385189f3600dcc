"""Folders of images, written with PIL."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mlprun.data.folders import num_class_folders
from mlprun.data.image_folder import ImageFolder, image_folder
from mlprun.data.source import Source
from mlprun.errors import ConfigError, DataError


def paint(path: Path, color: object = (255, 0, 0), mode: str = "RGB", size: tuple[int, int] = (12, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)
    return path


def paint_gradient(path: Path, size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    row = np.linspace(0, 255, size[0]).astype(np.uint8)
    Image.fromarray(np.stack([np.tile(row, (size[1], 1))] * 3, -1)).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    for part, count in (("train", 3), ("val", 2)):
        for color, name in (((255, 0, 0), "red"), ((0, 0, 255), "blue")):
            for i in range(count):
                paint(root / part / name / f"{i}.png", color)
    return root


def parts(source: Source) -> tuple[ImageFolder, ImageFolder]:
    assert isinstance(source.train, ImageFolder)
    assert isinstance(source.test, ImageFolder)
    return source.train, source.test


def test_imagenets_layout(root: Path) -> None:
    source = image_folder(root, [3, 8, 8])
    train, test = parts(source)
    assert source.class_names == ("blue", "red")
    assert source.value_range == (0, 255)
    assert source.augmented is None
    assert train.targets.tolist() == [0, 0, 0, 1, 1, 1]
    assert train.targets.dtype == torch.int64
    assert (len(train), len(test)) == (6, 4)  # val serves as the test part
    image, target = train[5]
    assert (image.shape, image.dtype, target) == ((3, 8, 8), torch.uint8, 1)
    assert image.flatten(1).float().mean(1).tolist() == [255, 0, 0]
    assert num_class_folders(root) == 2
    assert set(source.fingerprints) == {str(root / "train"), str(root / "val")}
    assert image_folder(root).fingerprints == source.fingerprints
    paint(root / "val" / "red" / "0.png", size=(99, 8))
    assert image_folder(root).fingerprints != source.fingerprints


def test_val_is_the_val_split_beside_a_test_split(root: Path) -> None:
    (root / "test").mkdir()
    paint(root / "test" / "1.png")  # unlabelled, as ImageNet's
    assert len(parts(image_folder(root))[1]) == 4
    assert image_folder(root).val is None
    paint(root / "test" / "red" / "only.png")  # a class may be missing
    source = image_folder(root, [3, 8, 8])
    assert parts(source)[1].targets.tolist() == [1]
    assert isinstance(source.val, ImageFolder)
    assert source.val.targets.tolist() == [0, 0, 1, 1]
    assert set(source.fingerprints) == {str(root / part) for part in ("train", "val", "test")}


def test_classes_directly_under_the_root(tmp_path: Path) -> None:
    for name in ("train", "bus", "car"):  # a class may be called train
        paint(tmp_path / name / "1.png")
    source = image_folder(tmp_path)
    assert source.class_names == ("bus", "car", "train")
    assert source.test is None
    assert num_class_folders(str(tmp_path)) == 3


def test_links_hidden_files_and_extensions(tmp_path: Path) -> None:
    elsewhere = paint(tmp_path / "elsewhere" / "x.png")
    folder = tmp_path / "root" / "a"
    for name in ("1.JPG", "2.Jpeg", "3.bmp", "4.webp", "5.gif", "6.TIF", "7.tiff", "8.ppm", "deep/9.png"):
        paint(folder / name)
    paint(folder / "10.pgm", 7, "L")
    paint(folder / ".hidden.png")
    paint(tmp_path / "root" / ".cache" / "x.png")
    (folder / "notes.txt").write_text("not an image")
    (folder / "link.png").symlink_to(elsewhere)
    (folder / "loop").symlink_to(folder)
    (tmp_path / "root" / "b").symlink_to(elsewhere.parent)
    source = image_folder(tmp_path / "root", [3, 4, 4])
    assert source.class_names == ("a", "b")
    assert isinstance(source.train, ImageFolder)
    assert source.train.targets.tolist() == [0] * 11 + [1]
    names = [path.rsplit("/", 1)[-1] for path in source.train.paths]
    assert source.train.paths[:11] == sorted(source.train.paths[:11])
    assert {"10.pgm", "9.png", "link.png", "1.JPG"} < set(names)
    assert not {".hidden.png", "notes.txt"} & set(names)
    for image, _ in source.train:
        assert image.shape == (3, 4, 4)


def test_images_of_more_than_8_bits_are_floats_and_keep_them(tmp_path: Path) -> None:
    """Scans of 12 bits in 16: // 256 would leave a few grey levels."""
    for i, value in enumerate((1080, 1081)):
        paint(tmp_path / "a" / f"{i}.png", value, "I;16")
    paint(tmp_path / "b" / "8_bits.png", 77, "L")
    train = image_folder(tmp_path, [1, 8, 8]).train
    images = [train[i][0] for i in range(3)]
    assert {image.dtype for image in images} == {torch.float32}  # of one type, as a batch must be
    assert [float(image.mean()) for image in images] == pytest.approx([1080 / 257, 1081 / 257, 77])


def test_an_image_of_more_bits_than_expected_is_refused(tmp_path: Path) -> None:
    path = paint(tmp_path / "a" / "1.png", 77, "I;16")
    dataset = ImageFolder([str(path)], torch.tensor([0]), [1, 8, 8])
    with pytest.raises(DataError, match=r"1\.png: has more than 8 bits per channel, unlike the images .* first"):
        dataset[0]


@pytest.mark.parametrize(("resize", "left", "top"), [("cover", 100, 100), ("squash", 255, 100), ("pad", 255, 0)])
def test_resize_covers_squashes_or_pads(tmp_path: Path, resize: str, left: int, top: int) -> None:
    """An image twice as wide as high, grey with a white border at the left, which `cover` crops."""
    image = Image.new("RGB", (32, 16), "white")
    image.paste((100, 100, 100), (4, 0, 32, 16))
    (tmp_path / "a").mkdir()
    image.save(tmp_path / "a" / "1.png")
    source = image_folder(tmp_path, [3, 16, 16], resize=resize)
    pixels = source.train[0][0][0]
    assert source.resize == resize
    assert [int(pixels[8, 0]), int(pixels[8, 12]), int(pixels[0, 12])] == [left, 100, top]


@pytest.mark.parametrize("size", [(30, 40), (5, 7), (3000, 40)])
@pytest.mark.parametrize("extension", ["png", "jpg"])
def test_resized_to_cover_and_centre_cropped(tmp_path: Path, size: tuple[int, int], extension: str) -> None:
    paint_gradient(tmp_path / "a" / f"1.{extension}", size)
    image, _ = image_folder(tmp_path, [3, 16, 24]).train[0]
    assert image.shape == (3, 16, 24)
    columns = image[0].float().mean(0)
    scale = max(24 / size[0], 16 / size[1])
    assert columns.mean().item() == pytest.approx(127.5, abs=4)  # the middle of the gradient
    assert (columns[-1] - columns[0]).item() == pytest.approx(255 * 23 / (size[0] * scale), abs=12)


def test_augmented_twin(tmp_path: Path) -> None:
    for i in range(4):
        paint_gradient(tmp_path / f"c{i % 2}" / f"{i}.png")
    source = image_folder(tmp_path, [3, 16, 16], crop=4, flip=True)
    train, twin = source.train, source.augmented
    assert isinstance(train, ImageFolder)
    assert isinstance(twin, ImageFolder)
    assert twin.paths == train.paths
    assert twin.targets.equal(train.targets)

    def draw(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return twin[0][0]

    draws = [draw(seed) for seed in range(20)]
    assert all(torch.equal(image, draw(seed)) for seed, image in enumerate(draws))  # only torch's generator
    assert len({image.numpy().tobytes() for image in draws}) > 10
    rising = [bool(image[0, 8, 10] > image[0, 8, 5]) for image in draws]
    assert 0 < sum(rising) < len(rising)  # flipped and not
    assert any((image[:, 0] == 0).all() for image in draws)  # padded
    assert torch.equal(train[0][0], train[0][0])


def test_flip_alone_and_crop_alone(tmp_path: Path) -> None:
    paint_gradient(tmp_path / "a" / "1.png")
    plain = image_folder(tmp_path, [3, 16, 16]).train[0][0]
    flipped = image_folder(tmp_path, [3, 16, 16], flip=True).augmented
    cropped = image_folder(tmp_path, [3, 16, 16], crop=2).augmented
    assert flipped is not None
    assert cropped is not None
    seen = {flipped[0][0].numpy().tobytes() for _ in range(30)}
    assert seen == {plain.numpy().tobytes(), plain.flip(-1).numpy().tobytes()}
    # Rising everywhere but in the padding: never mirrored.
    assert all(cropped[0][0][0, 8, 10] > cropped[0][0][0, 8, 5] for _ in range(20))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("empty", "the file is empty"),
        ("garbage", "it has none of the formats that Pillow knows"),
        ("truncated", r"image file is truncated \(\d+ bytes not processed\)"),
        ("gone", "No such file or directory"),
    ],
)
def test_corrupt_image_is_named(tmp_path: Path, damage: str, reason: str) -> None:
    path = paint_gradient(tmp_path / "a" / "bad.jpg", (200, 200))
    source = image_folder(tmp_path)
    content = path.read_bytes()
    path.write_bytes(
        {"empty": b"", "garbage": b"garbage", "truncated": content[: len(content) // 2], "gone": b""}[damage]
    )
    if damage == "gone":
        path.unlink()
    with pytest.raises(DataError, match=rf"a/bad\.jpg: cannot be read as an image: {reason}$"):
        source.train[0]


def test_wrong_folders(tmp_path: Path, root: Path) -> None:
    with pytest.raises(DataError, match=r"missing: no such folder\n.*data\.root"):
        image_folder(tmp_path / "missing")
    with pytest.raises(DataError, match="no such folder"):
        num_class_folders(tmp_path / "missing")
    with pytest.raises(DataError, match="not a folder"):
        num_class_folders(paint(tmp_path / "file.png"))
    (tmp_path / "none" / ".hidden").mkdir(parents=True)
    with pytest.raises(DataError, match="none: no class folders in it"):
        image_folder(tmp_path / "none")
    paint(tmp_path / "parts" / "train" / "1.png")
    paint(tmp_path / "parts" / "test" / "1.png")
    with pytest.raises(DataError, match="parts/train: no class folders in it"):
        num_class_folders(tmp_path / "parts")
    paint(root / "val" / "green" / "1.png")
    with pytest.raises(DataError, match=r"val/green: class 'green' is not one of the 2"):
        image_folder(root)
    (root / "train" / "white").mkdir()
    with pytest.raises(DataError, match="train/white: no images in this class folder"):
        image_folder(root)


def test_dangling_link_is_named(tmp_path: Path) -> None:
    paint(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "2.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(DataError, match=r"a/2\.png: cannot be read: No such file"):
        image_folder(tmp_path)


def test_unknown_resize(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"resize=stretch: not known\n  choose from: cover, squash, pad"):
        image_folder(root, resize="stretch")


@pytest.mark.parametrize("shape", [[3, 8], [2, 8, 8], [3, 0, 8], [8]])
def test_input_shape_of_no_image(root: Path, shape: list[int]) -> None:
    with pytest.raises(ConfigError, match=r"input_shape=.*not the shape of an image"):
        image_folder(root, shape)
