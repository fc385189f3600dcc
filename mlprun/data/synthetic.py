"""Data sets drawn from a formula: as many examples as one likes, the same bits for the same arguments.

Every function has its own generator, seeded by `seed`, and leaves the global ones alone. Inputs are float32;
class indices are int64 and go 0, 1, 2, …, 0, 1, 2, …, so every stretch of the data is balanced.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from mlprun.data.source import Examples, Source
from mlprun.errors import ConfigError

Array = npt.NDArray[np.float64]
Classes = npt.NDArray[np.int64]


def synthetic_classification(
    num_samples: int = 1000,
    num_features: int = 20,
    num_classes: int = 3,
    class_sep: float = 3.0,
    label_noise: float = 0.0,
    seed: int = 0,
) -> Source:
    """One Gaussian cloud a class: `x ~ N(class_sep · u_k, I)`, with `u_k` a random direction of length 1.

    The directions depend on `seed`, `num_features` and `num_classes` only, so more samples are more of
    the same problem. The best possible classifier is linear.

    Args:
        num_samples: N; inputs are (N, num_features), targets (N,).
        num_features: features of one example.
        num_classes: number of clouds.
        class_sep: distance of a cloud's centre from the origin, in standard deviations of a cloud.
        label_noise: fraction of the examples, in [0, 1), whose class is replaced by a random other one.
        seed: the same seed gives the same bits.

    Raises:
        ConfigError: an argument has a value that cannot work; its `key` names the argument.
    """
    rng, classes = _begin(seed, num_samples, num_classes)
    _check_count("num_features", num_features, 1)
    _check_number("class_sep", class_sep)
    if _check_number("label_noise", label_noise) >= 1:
        raise ConfigError("label_noise", label_noise, "must be a fraction in [0, 1)")
    directions = rng.standard_normal((num_classes, num_features))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    inputs = class_sep * directions[classes] + rng.standard_normal((num_samples, num_features))
    wrong = rng.permutation(num_samples)[: round(label_noise * num_samples)]
    classes[wrong] = (classes[wrong] + rng.integers(1, num_classes, size=len(wrong))) % num_classes
    return _classification(inputs, classes)


def synthetic_regression(num_samples: int = 1000, num_features: int = 10, noise: float = 0.1, seed: int = 0) -> Source:
    """A linear law with noise: `y = x · w + b + noise · ε`, with x, w, b and ε all standard normal.

    w and b depend on `seed` and `num_features` only. The lowest possible mean squared error is noise².

    Args:
        num_samples: N; inputs are (N, num_features), targets float32 (N, 1).
        num_features: features of one example.
        noise: standard deviation of the noise in the targets.
        seed: the same seed gives the same bits.

    Raises:
        ConfigError: an argument has a value that cannot work; its `key` names the argument.
    """
    rng = _generator(seed)
    _check_count("num_samples", num_samples, 1)
    _check_count("num_features", num_features, 1)
    _check_number("noise", noise)
    weights, bias = rng.standard_normal((num_features, 1)), rng.standard_normal()
    inputs = rng.standard_normal((num_samples, num_features))
    targets = inputs @ weights + bias + noise * rng.standard_normal((num_samples, 1))
    return Source(Examples(_floats(inputs), _floats(targets)))


def line(
    num_samples: int = 400,
    slope: float = 2.0,
    intercept: float = 1.0,
    noise: float = 0.3,
    outliers: float = 0.0,
    outlier_shift: float = 10.0,
    seed: int = 0,
) -> Source:
    """A straight line with noise: `y = slope · x + intercept + noise · ε`, x uniform in [-1, 1), ε standard normal.

    A fraction of the targets can be moved upwards, all by as much: a one-sided error, which a mean follows and a
    median does not. Points and noise are the same with outliers and without.

    Args:
        num_samples: N; inputs are (N, 1), targets float32 (N, 1).
        slope, intercept: of the line.
        noise: standard deviation of the noise in the targets.
        outliers: fraction of the examples, in [0, 1), that are moved.
        outlier_shift: by how much.
        seed: the same seed gives the same bits.

    Raises:
        ConfigError: an argument has a value that cannot work; its `key` names the argument.
    """
    rng = _generator(seed)
    _check_count("num_samples", num_samples, 1)
    for key, value in (("slope", slope), ("intercept", intercept), ("outlier_shift", outlier_shift)):
        _check_finite(key, value)
    _check_number("noise", noise)
    if _check_number("outliers", outliers) >= 1:
        raise ConfigError("outliers", outliers, "must be a fraction in [0, 1)")
    inputs = rng.uniform(-1, 1, (num_samples, 1))
    targets = slope * inputs + intercept + noise * rng.standard_normal((num_samples, 1))
    targets[rng.permutation(num_samples)[: round(outliers * num_samples)]] += outlier_shift
    return Source(Examples(_floats(inputs), _floats(targets)))


def parabola(num_samples: int = 400, noise: float = 0.1, seed: int = 0) -> Source:
    """A parabola with noise: `y = x² + noise · ε`, x uniform in [-1, 1), ε standard normal.

    Args:
        num_samples: N; inputs are (N, 1), targets float32 (N, 1).
        noise: standard deviation of the noise in the targets.
        seed: the same seed gives the same bits.

    Raises:
        ConfigError: an argument has a value that cannot work; its `key` names the argument.
    """
    rng = _generator(seed)
    _check_count("num_samples", num_samples, 1)
    _check_number("noise", noise)
    inputs = rng.uniform(-1, 1, (num_samples, 1))
    targets = inputs**2 + noise * rng.standard_normal((num_samples, 1))
    return Source(Examples(_floats(inputs), _floats(targets)))


def random_pairs(num_samples: int = 100, num_features: int = 1000, num_targets: int = 10, seed: int = 0) -> Source:
    """Inputs and targets that are standard normal and have nothing to do with each other.

    There is nothing to learn, only to learn by heart: on new examples no model has an expected error below 1, that of
    always saying 0.

    Args:
        num_samples: N; inputs are (N, num_features), targets float32 (N, num_targets).
        num_features: features of one example.
        num_targets: values of one target.
        seed: the same seed gives the same bits.

    Raises:
        ConfigError: an argument has a value that cannot work; its `key` names the argument.
    """
    rng = _generator(seed)
    for key, count in (("num_samples", num_samples), ("num_features", num_features), ("num_targets", num_targets)):
        _check_count(key, count, 1)
    inputs = rng.standard_normal((num_samples, num_features))
    return Source(Examples(_floats(inputs), _floats(rng.standard_normal((num_samples, num_targets)))))


def moons(num_samples: int = 1000, noise: float = 0.1, seed: int = 0) -> Source:
    """Two interleaved half circles: `(cos t, sin t)` and `(1 - cos t, ½ - sin t)`, with t uniform in [0, π).

    Args:
        num_samples: N; inputs are (N, 2), targets (N,) with 2 classes.
        noise: standard deviation of the Gaussian noise on each coordinate; a half circle has radius 1.
        seed: the same seed gives the same bits.

    Raises:
        ConfigError: an argument has a value that cannot work; its `key` names the argument.
    """
    rng, classes = _begin(seed, num_samples)
    t = rng.uniform(0, np.pi, num_samples)
    upper = np.stack([np.cos(t), np.sin(t)], axis=1)
    points = np.where(classes[:, None] == 0, upper, [1, 0.5] - upper)
    return _plane(rng, points, classes, noise)


def circles(num_samples: int = 1000, factor: float = 0.5, noise: float = 0.1, seed: int = 0) -> Source:
    """Two rings around the origin: `r · (cos t, sin t)`, r = 1 for class 0 and `factor` for class 1.

    Args:
        num_samples: N; inputs are (N, 2), targets (N,) with 2 classes.
        factor: radius of the inner ring, in [0, 1).
        noise: standard deviation of the Gaussian noise on each coordinate.
        seed: the same seed gives the same bits.

    Raises:
        ConfigError: an argument has a value that cannot work; its `key` names the argument.
    """
    rng, classes = _begin(seed, num_samples)
    if _check_number("factor", factor) >= 1:
        raise ConfigError("factor", factor, "must be in [0, 1): the outer ring has radius 1")
    points = _polar(np.where(classes == 0, 1.0, factor), rng.uniform(0, 2 * np.pi, num_samples))
    return _plane(rng, points, classes, noise)


def spirals(
    num_samples: int = 1000, num_classes: int = 3, turns: float = 1.0, noise: float = 0.02, seed: int = 0
) -> Source:
    """One spiral arm a class: `t · (cos φ, sin φ)` with φ = 2π (turns · t + k / num_classes), t in [0, 1).

    k is the class, and t is uniform.

    Args:
        num_samples: N; inputs are (N, 2), targets (N,).
        num_classes: number of arms.
        turns: how often an arm winds around the origin; more is harder.
        noise: standard deviation of the Gaussian noise on each coordinate; an arm ends at radius 1.
        seed: the same seed gives the same bits.

    Raises:
        ConfigError: an argument has a value that cannot work; its `key` names the argument.
    """
    rng, classes = _begin(seed, num_samples, num_classes)
    _check_number("turns", turns)
    t = rng.uniform(0, 1, num_samples)
    points = _polar(t, 2 * np.pi * (turns * t + classes / num_classes))
    return _plane(rng, points, classes, noise)


def xor(num_samples: int = 1000, noise: float = 0.0, seed: int = 0) -> Source:
    """Points in the square [-1, 1]², of class 1 where the two signs differ; no linear model can learn it.

    Args:
        num_samples: N; inputs are (N, 2), targets (N,) with 2 classes.
        noise: standard deviation of the Gaussian noise on each coordinate.
        seed: the same seed gives the same bits.

    Raises:
        ConfigError: an argument has a value that cannot work; its `key` names the argument.
    """
    rng, classes = _begin(seed, num_samples)
    sign = rng.choice([-1.0, 1.0], num_samples)
    signs = np.stack([sign, np.where(classes == 0, sign, -sign)], axis=1)
    points = signs * (1 - rng.uniform(0, 1, (num_samples, 2)))  # 1 - [0, 1): never on an axis
    return _plane(rng, points, classes, noise)


def blobs(
    num_samples: int = 1000, num_classes: int = 3, radius: float = 3.0, noise: float = 1.0, seed: int = 0
) -> Source:
    """One round Gaussian cloud a class, the centres evenly on a circle.

    The centre of class k is `radius · (cos φ, sin φ)` with φ = 2π k / num_classes.

    Args:
        num_samples: N; inputs are (N, 2), targets (N,).
        num_classes: number of clouds.
        radius: distance of the centres from the origin.
        noise: standard deviation of a cloud, on each coordinate.
        seed: the same seed gives the same bits.

    Raises:
        ConfigError: an argument has a value that cannot work; its `key` names the argument.
    """
    rng, classes = _begin(seed, num_samples, num_classes)
    centres = _polar(np.full(num_samples, _check_number("radius", radius)), 2 * np.pi * classes / num_classes)
    return _plane(rng, centres, classes, noise)


def _begin(seed: int, num_samples: int, num_classes: int = 2) -> tuple[np.random.Generator, Classes]:
    """The generator, and the balanced classes of shape (num_samples,)."""
    _check_count("num_classes", num_classes, 2)
    _check_count("num_samples", num_samples, num_classes)
    return _generator(seed), np.arange(num_samples, dtype=np.int64) % num_classes


def _generator(seed: int) -> np.random.Generator:
    _check_count("seed", seed, 0)
    return np.random.default_rng(seed)


def _polar(radii: Array, angles: Array) -> Array:
    """(N,) radii and angles in radians -> (N, 2) points."""
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _plane(rng: np.random.Generator, points: Array, classes: Classes, noise: float) -> Source:
    """Points in the plane, shape (N, 2), each moved by Gaussian noise."""
    _check_number("noise", noise)
    return _classification(points + noise * rng.standard_normal(points.shape), classes)


def _classification(inputs: Array, classes: Classes) -> Source:
    return Source(Examples(_floats(inputs), torch.from_numpy(classes)))


def _floats(array: Array) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.float32))


def _check_count(key: str, value: int, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(key, value, f"must be a whole number, {least} or more")


def _check_number(key: str, value: float) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
        raise ConfigError(key, value, "must be a number, 0 or more")
    return value


def _check_finite(key: str, value: float) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ConfigError(key, value, "must be a finite number")
