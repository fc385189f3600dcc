"""Data sets drawn from a formula: any number of examples, the same bits for the same arguments.

Every function has its own generator, seeded by `seed`, and leaves the global ones alone. Inputs are float32
(num_samples, features); class indices are int64 (num_samples,) and go 0, 1, 2, …, 0, 1, 2, …, so every stretch of the
data is balanced; the targets of a regression are float32 (num_samples, values). `noise` is the standard deviation of
Gaussian noise. Arguments that cannot work raise a ConfigError whose `key` is the argument.
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
    """One Gaussian cloud per class: `x ~ N(class_sep · u_k, I)`, with `u_k` a random direction of length 1.

    The directions depend on `seed`, `num_features` and `num_classes` only, so more samples are more of
    the same problem. The best possible classifier is linear. A fraction `label_noise` of the examples, in [0, 1), gets
    a random other class.
    """
    rng, classes = _begin(seed, num_samples, num_classes)
    _check_counts(1, num_features=num_features)
    _check_numbers(class_sep=class_sep)
    _check_fraction(label_noise=label_noise)
    directions = rng.standard_normal((num_classes, num_features))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    inputs = class_sep * directions[classes] + rng.standard_normal((num_samples, num_features))
    wrong = rng.permutation(num_samples)[: round(label_noise * num_samples)]
    classes[wrong] = (classes[wrong] + rng.integers(1, num_classes, size=len(wrong))) % num_classes
    return _classification(inputs, classes)


def synthetic_regression(num_samples: int = 1000, num_features: int = 10, noise: float = 0.1, seed: int = 0) -> Source:
    """A linear law with noise: `y = x · w + b + noise · ε`, with x, w, b and ε all standard normal.

    w and b depend on `seed` and `num_features` only. The lowest possible mean squared error is noise².
    """
    rng = _generator(seed, num_samples=num_samples, num_features=num_features)
    _check_numbers(noise=noise)
    weights, bias = rng.standard_normal((num_features, 1)), rng.standard_normal()
    inputs = rng.standard_normal((num_samples, num_features))
    return _regression(inputs, inputs @ weights + bias + noise * rng.standard_normal((num_samples, 1)))


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

    A fraction `outliers` of the targets, in [0, 1), is moved upwards by `outlier_shift`: a one-sided error, which a
    mean follows and a median does not. Points and noise are the same with and without outliers.
    """
    rng = _generator(seed, num_samples=num_samples)
    for key, value in (("slope", slope), ("intercept", intercept), ("outlier_shift", outlier_shift)):
        if not _is_finite(value):
            raise ConfigError(key, value, "must be a finite number")
    _check_numbers(noise=noise)
    _check_fraction(outliers=outliers)
    inputs = rng.uniform(-1, 1, (num_samples, 1))
    targets = slope * inputs + intercept + noise * rng.standard_normal((num_samples, 1))
    targets[rng.permutation(num_samples)[: round(outliers * num_samples)]] += outlier_shift
    return _regression(inputs, targets)


def parabola(num_samples: int = 400, noise: float = 0.1, seed: int = 0) -> Source:
    """A parabola with noise: `y = x² + noise · ε`, x uniform in [-1, 1), ε standard normal."""
    rng = _generator(seed, num_samples=num_samples)
    _check_numbers(noise=noise)
    inputs = rng.uniform(-1, 1, (num_samples, 1))
    return _regression(inputs, inputs**2 + noise * rng.standard_normal((num_samples, 1)))


def random_pairs(num_samples: int = 100, num_features: int = 1000, num_targets: int = 10, seed: int = 0) -> Source:
    """Standard normal inputs and targets that are independent of each other.

    There is nothing to learn, only to memorise: on new examples no model has an expected squared error below 1, that
    of always predicting 0.
    """
    rng = _generator(seed, num_samples=num_samples, num_features=num_features, num_targets=num_targets)
    inputs = rng.standard_normal((num_samples, num_features))
    return _regression(inputs, rng.standard_normal((num_samples, num_targets)))


def moons(num_samples: int = 1000, noise: float = 0.1, seed: int = 0) -> Source:
    """Two interleaved half circles: `(cos t, sin t)` and `(1 - cos t, ½ - sin t)`, with t uniform in [0, π)."""
    rng, classes = _begin(seed, num_samples)
    t = rng.uniform(0, np.pi, num_samples)
    upper = np.stack([np.cos(t), np.sin(t)], axis=1)
    points = np.where(classes[:, None] == 0, upper, [1, 0.5] - upper)
    return _plane(rng, points, classes, noise)


def circles(num_samples: int = 1000, factor: float = 0.5, noise: float = 0.1, seed: int = 0) -> Source:
    """Two rings around the origin: `r · (cos t, sin t)`, r = 1 for class 0 and `factor`, in [0, 1), for class 1."""
    rng, classes = _begin(seed, num_samples)
    _check_numbers(factor=factor)
    if factor >= 1:
        raise ConfigError("factor", factor, "must be in [0, 1): the outer ring has radius 1")
    points = _polar(np.where(classes == 0, 1.0, factor), rng.uniform(0, 2 * np.pi, num_samples))
    return _plane(rng, points, classes, noise)


def spirals(
    num_samples: int = 1000, num_classes: int = 3, turns: float = 1.0, noise: float = 0.02, seed: int = 0
) -> Source:
    """One spiral arm per class: `t · (cos φ, sin φ)` with φ = 2π (turns · t + k / num_classes), t uniform in [0, 1).

    k is the class. An arm winds around the origin `turns` times, and ends at radius 1; more turns are harder.
    """
    rng, classes = _begin(seed, num_samples, num_classes)
    _check_numbers(turns=turns)
    t = rng.uniform(0, 1, num_samples)
    points = _polar(t, 2 * np.pi * (turns * t + classes / num_classes))
    return _plane(rng, points, classes, noise)


def xor(num_samples: int = 1000, noise: float = 0.0, seed: int = 0) -> Source:
    """Points in the square [-1, 1]², of class 1 where the two signs differ; no linear model can learn it."""
    rng, classes = _begin(seed, num_samples)
    sign = rng.choice([-1.0, 1.0], num_samples)
    signs = np.stack([sign, np.where(classes == 0, sign, -sign)], axis=1)
    points = signs * (1 - rng.uniform(0, 1, (num_samples, 2)))  # 1 - [0, 1): never on an axis
    return _plane(rng, points, classes, noise)


def blobs(
    num_samples: int = 1000, num_classes: int = 3, radius: float = 3.0, noise: float = 1.0, seed: int = 0
) -> Source:
    """One round Gaussian cloud per class, the centres evenly on a circle.

    The centre of class k is `radius · (cos φ, sin φ)` with φ = 2π k / num_classes.
    """
    rng, classes = _begin(seed, num_samples, num_classes)
    _check_numbers(radius=radius)
    centres = _polar(np.full(num_samples, radius), 2 * np.pi * classes / num_classes)
    return _plane(rng, centres, classes, noise)


def _begin(seed: int, num_samples: int, num_classes: int = 2) -> tuple[np.random.Generator, Classes]:
    """The generator, and the balanced classes of shape (num_samples,)."""
    _check_counts(2, num_classes=num_classes)
    _check_counts(num_classes, num_samples=num_samples)
    return _generator(seed), np.arange(num_samples, dtype=np.int64) % num_classes


def _generator(seed: int, **counts: int) -> np.random.Generator:
    """A generator; checks `counts` to be 1 or more."""
    _check_counts(0, seed=seed)
    _check_counts(1, **counts)
    return np.random.default_rng(seed)


def _polar(radii: Array, angles: Array) -> Array:
    """(N,) radii and angles in radians -> (N, 2) points."""
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _plane(rng: np.random.Generator, points: Array, classes: Classes, noise: float) -> Source:
    """Points in the plane, shape (N, 2), each moved by Gaussian noise."""
    _check_numbers(noise=noise)
    return _classification(points + noise * rng.standard_normal(points.shape), classes)


def _classification(inputs: Array, classes: Classes) -> Source:
    return Source(Examples(_floats(inputs), torch.from_numpy(classes)))


def _regression(inputs: Array, targets: Array) -> Source:
    return Source(Examples(_floats(inputs), _floats(targets)))


def _floats(array: Array) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.float32))


def _check_counts(least: int, **counts: int) -> None:
    for key, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ConfigError(key, value, f"must be a whole number, {least} or more")


def _check_numbers(**numbers: float) -> None:
    for key, value in numbers.items():
        if not _is_finite(value) or value < 0:
            raise ConfigError(key, value, "must be a number, 0 or more")


def _check_fraction(**fractions: float) -> None:
    _check_numbers(**fractions)
    for key, value in fractions.items():
        if value >= 1:
            raise ConfigError(key, value, "must be a fraction in [0, 1)")


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
