"""Synthetic data: reproducible, balanced, and shaped as the formulas say."""

from __future__ import annotations

import inspect
import math
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from mlprun.data import synthetic
from mlprun.data.source import Examples, Source
from mlprun.errors import ConfigError
from tests.helpers.files import REPOSITORY

CONF = REPOSITORY / "conf" / "data"
CLASSIFICATION = ["synthetic_classification", "moons", "circles", "spirals", "xor", "blobs"]
PLANE = ["moons", "circles", "spirals", "xor", "blobs"]
CURVES = ["line", "parabola"]
REGRESSION = ["synthetic_regression", "random_pairs", *CURVES]
ALL = [*CLASSIFICATION, *REGRESSION]


def draw(name: str, **arguments: Any) -> Examples:
    source: Source = getattr(synthetic, name)(**arguments)
    assert isinstance(source.train, Examples)
    assert source.test is None
    return source.train


@pytest.mark.parametrize("name", ALL)
def test_the_same_seed_gives_the_same_bits_whatever_the_global_generators_do(name: str) -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    first = draw(name, seed=5)
    torch.manual_seed(2)
    np.random.seed(2)
    global_state = torch.get_rng_state()
    again = draw(name, seed=5)
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.targets, again.targets)
    assert torch.equal(torch.get_rng_state(), global_state)
    assert not torch.equal(first.inputs, draw(name, seed=6).inputs)


@pytest.mark.parametrize("name", PLANE)
def test_sets_in_the_plane_are_pairs_of_floats(name: str) -> None:
    found = draw(name, num_samples=50)
    assert found.inputs.shape == (50, 2)
    assert found.inputs.dtype == torch.float32


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_every_stretch_of_the_classes_is_balanced(name: str) -> None:
    targets = draw(name, num_samples=301).targets
    assert targets.dtype == torch.int64
    assert targets.shape == (301,)
    for stretch in (targets, targets[:31], targets[100:172]):
        counts = stretch.bincount()
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("name", ["synthetic_classification", "spirals", "blobs"])
@pytest.mark.parametrize("num_classes", [2, 5])
def test_the_number_of_classes_can_be_set(name: str, num_classes: int) -> None:
    assert draw(name, num_classes=num_classes).targets.unique().tolist() == list(range(num_classes))


def test_moons_lie_on_two_half_circles() -> None:
    found = draw("moons", noise=0.0)
    upper, lower = found.inputs[found.targets == 0], found.inputs[found.targets == 1]
    torch.testing.assert_close(upper.norm(dim=1), torch.ones(500))
    torch.testing.assert_close((lower - torch.tensor([1, 0.5])).norm(dim=1), torch.ones(500))
    assert upper[:, 1].min() >= 0
    assert lower[:, 1].max() <= 0.5


def test_circles_have_their_radii() -> None:
    found = draw("circles", factor=0.3, noise=0.0)
    radii = found.inputs.norm(dim=1)
    torch.testing.assert_close(radii[found.targets == 0], torch.ones(500))
    torch.testing.assert_close(radii[found.targets == 1], torch.full((500,), 0.3))
    # The points go all the way round: every quadrant has its quarter, give or take.
    quadrants = (found.inputs > 0).long() @ torch.tensor([1, 2])
    assert quadrants.bincount().min() > 200


@pytest.mark.parametrize("turns", [0.5, 2.0])
def test_spiral_arms_wind_with_the_radius(turns: float) -> None:
    found = draw("spirals", num_classes=3, turns=turns, noise=0.0)
    radius = found.inputs.norm(dim=1)
    assert radius.max() < 1
    angle = 2 * math.pi * (turns * radius + found.targets / 3)
    expected = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
    torch.testing.assert_close(found.inputs, expected, atol=1e-5, rtol=0)


def test_xor_is_one_where_the_signs_differ() -> None:
    found = draw("xor", noise=0.0)
    product = found.inputs.prod(dim=1)
    assert (product != 0).all()
    assert torch.equal(found.targets, (product < 0).long())
    assert found.inputs.abs().max() <= 1
    # Neither coordinate alone tells the class.
    for column in found.inputs.T:
        assert abs((column[found.targets == 1] > 0).float().mean().item() - 0.5) < 0.1


def test_blobs_have_their_centres_and_their_width() -> None:
    found = draw("blobs", num_samples=8000, num_classes=4, radius=2.0, noise=0.5)
    centres = torch.tensor([[2.0, 0.0], [0.0, 2.0], [-2.0, 0.0], [0.0, -2.0]])
    for k, centre in enumerate(centres):
        cloud = found.inputs[found.targets == k]
        torch.testing.assert_close(cloud.mean(dim=0), centre, atol=0.05, rtol=0)
        torch.testing.assert_close(cloud.std(dim=0), torch.tensor([0.5, 0.5]), atol=0.03, rtol=0)


@pytest.mark.parametrize("name", PLANE)
def test_noise_moves_the_points_by_its_standard_deviation(name: str) -> None:
    moved = draw(name, noise=0.3, num_samples=5000).inputs - draw(name, noise=0.0, num_samples=5000).inputs
    assert moved.std().item() == pytest.approx(0.3, rel=0.05)


def test_classification_clouds_stand_class_sep_from_the_origin_with_unit_width() -> None:
    found = draw("synthetic_classification", num_samples=9000, num_features=5, num_classes=3, class_sep=4.0)
    assert found.inputs.shape == (9000, 5)
    for k in range(3):
        cloud = found.inputs[found.targets == k]
        assert cloud.mean(dim=0).norm().item() == pytest.approx(4.0, abs=0.1)
        assert cloud.std(dim=0).mean().item() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("num_classes", [2, 4])
def test_label_noise_replaces_that_share_of_the_classes(num_classes: int) -> None:
    clean = draw("synthetic_classification", num_classes=num_classes)
    noisy = draw("synthetic_classification", num_classes=num_classes, label_noise=0.25)
    assert torch.equal(clean.inputs, noisy.inputs)
    assert (clean.targets != noisy.targets).sum() == 250
    assert noisy.targets.unique().tolist() == list(range(num_classes))


def test_regression_follows_one_linear_law_whatever_the_number_of_samples() -> None:
    def law(num_samples: int) -> torch.Tensor:
        found = draw("synthetic_regression", num_samples=num_samples, num_features=3, noise=0.0)
        assert found.targets.shape == (num_samples, 1)
        assert found.targets.dtype == found.inputs.dtype == torch.float32
        design = torch.cat([found.inputs, torch.ones(num_samples, 1)], dim=1)
        solution = torch.linalg.lstsq(design, found.targets).solution
        torch.testing.assert_close(design @ solution, found.targets, atol=1e-4, rtol=0)
        return solution

    torch.testing.assert_close(law(50), law(200), atol=1e-4, rtol=0)


def test_regression_noise_is_the_standard_deviation_of_the_residuals() -> None:
    quiet = draw("synthetic_regression", noise=0.0, num_samples=5000)
    noisy = draw("synthetic_regression", noise=0.5, num_samples=5000)
    assert torch.equal(quiet.inputs, noisy.inputs)
    assert (noisy.targets - quiet.targets).std().item() == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize(
    ("name", "arguments", "curve"),
    [
        ("line", {}, lambda x: 2 * x + 1),
        ("line", {"slope": -3, "intercept": 0.5}, lambda x: -3 * x + 0.5),
        ("parabola", {}, lambda x: x**2),
    ],
)
def test_curves_are_their_formula_with_noise(
    name: str, arguments: dict[str, Any], curve: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    exact = draw(name, noise=0, **arguments)
    assert exact.inputs.shape == exact.targets.shape == (len(exact), 1)
    assert exact.inputs.dtype == exact.targets.dtype == torch.float32
    assert -1 <= exact.inputs.min() < -0.9
    assert 0.9 < exact.inputs.max() <= 1
    torch.testing.assert_close(exact.targets, curve(exact.inputs))
    noisy = draw(name, noise=0.3, num_samples=5000, **arguments)
    residuals = noisy.targets - curve(noisy.inputs)
    assert residuals.mean().item() == pytest.approx(0, abs=0.02)
    assert residuals.std().item() == pytest.approx(0.3, rel=0.05)


def test_outliers_are_that_share_of_the_targets_and_leave_the_others_alone() -> None:
    clean, moved = draw("line"), draw("line", outliers=0.1, outlier_shift=-7.0)
    assert torch.equal(clean.inputs, moved.inputs)
    difference = (moved.targets - clean.targets).flatten()
    changed = difference[difference != 0]
    assert len(changed) == 40
    torch.testing.assert_close(changed, torch.full((40,), -7.0))


def test_random_pairs_are_standard_normal_and_tell_nothing_of_each_other() -> None:
    found = draw("random_pairs", num_samples=5000, num_features=3, num_targets=2)
    assert found.inputs.shape == (5000, 3)
    assert found.targets.shape == (5000, 2)
    together = torch.cat([found.inputs, found.targets], dim=1)
    torch.testing.assert_close(together.mean(dim=0), torch.zeros(5), atol=0.06, rtol=0)
    torch.testing.assert_close(together.T.cov(), torch.eye(5), atol=0.08, rtol=0)


@pytest.mark.parametrize(
    ("names", "arguments", "message"),
    [
        (ALL, {"num_samples": 0}, "must be a whole number"),
        (ALL, {"num_samples": 10.5}, "must be a whole number"),
        (ALL, {"num_samples": True}, "must be a whole number"),
        (ALL, {"seed": -1}, "must be a whole number, 0 or more"),
        (ALL, {"seed": None}, "must be a whole number, 0 or more"),
        ([*PLANE, *CURVES, "synthetic_regression"], {"noise": -0.1}, "must be a number, 0 or more"),
        ([*PLANE, *CURVES, "synthetic_regression"], {"noise": math.nan}, "must be a number, 0 or more"),
        ([*PLANE, *CURVES, "synthetic_regression"], {"noise": "0.1"}, "must be a number, 0 or more"),
        (["synthetic_classification", "spirals", "blobs"], {"num_classes": 1}, "2 or more"),
        (["synthetic_classification", "synthetic_regression", "random_pairs"], {"num_features": 0}, "1 or more"),
        (["random_pairs"], {"num_targets": 0}, "1 or more"),
        (["line"], {"slope": math.nan}, "must be a finite number"),
        (["line"], {"intercept": "1"}, "must be a finite number"),
        (["line"], {"outlier_shift": math.inf}, "must be a finite number"),
        (["line"], {"outliers": 1.0}, "must be a fraction in [0, 1)"),
        (["line"], {"outliers": -0.1}, "must be a number, 0 or more"),
        (["synthetic_classification"], {"class_sep": math.inf}, "must be a number, 0 or more"),
        (["synthetic_classification"], {"label_noise": 1.0}, "must be a fraction in [0, 1)"),
        (["circles"], {"factor": 1.0}, "must be in [0, 1)"),
        (["spirals"], {"turns": -1.0}, "must be a number, 0 or more"),
        (["blobs"], {"radius": -1.0}, "must be a number, 0 or more"),
    ],
)
def test_bad_arguments_name_their_key(names: list[str], arguments: dict[str, Any], message: str) -> None:
    for name in names:
        with pytest.raises(ConfigError) as caught:
            draw(name, **arguments)
        assert [caught.value.key] == list(arguments)
        assert message in str(caught.value)


def test_every_class_needs_an_example() -> None:
    with pytest.raises(ConfigError, match="num_samples=4: must be a whole number, 5 or more"):
        draw("blobs", num_samples=4, num_classes=5)


@dataclass
class Node:
    """The typed part of the `data` node that the interpolations touch."""

    dataset: dict[str, Any] = field(default_factory=dict)
    input_shape: list[int] = field(default_factory=list)
    num_outputs: int = 0
    split_seed: int = 3


def read(name: str, **changes: Any) -> Node:
    """The YAML of a data set under a typed schema, with `changes` to `dataset`, resolved."""
    loaded = OmegaConf.masked_copy(OmegaConf.load(CONF / f"{name}.yaml"), list(Node.__annotations__))
    root = OmegaConf.create({"data": OmegaConf.merge(OmegaConf.structured(Node), loaded, {"dataset": changes})})
    node: Any = OmegaConf.to_object(root.data)
    assert isinstance(node, Node)
    return node


@pytest.mark.parametrize("name", ALL)
def test_the_yaml_names_every_argument_repeats_the_defaults_and_describes_the_data(name: str) -> None:
    node = read(name)
    function: Callable[..., Source] = pkgutil.resolve_name(node.dataset.pop("_target_"))
    assert node.dataset.pop("seed") == 3  # data.split_seed
    defaults = {key: p.default for key, p in inspect.signature(function).parameters.items() if key != "seed"}
    assert node.dataset == defaults
    found = draw(name)
    assert list(found.inputs.shape[1:]) == node.input_shape
    if name in CLASSIFICATION:
        assert len(found.targets.unique()) == node.num_outputs
    else:
        assert found.targets.shape[1:] == (node.num_outputs,)


def test_the_sizes_of_the_data_follow_the_arguments() -> None:
    node = read("synthetic_classification", num_features=7, num_classes=4)
    assert (node.input_shape, node.num_outputs) == ([7], 4)
    assert all(type(size) is int for size in node.input_shape)
    assert read("synthetic_regression", num_features=2).input_shape == [2]
    pairs = read("random_pairs", num_features=7, num_targets=4)
    assert (pairs.input_shape, pairs.num_outputs) == ([7], 4)
    assert read("spirals", num_classes=5).num_outputs == read("blobs", num_classes=5).num_outputs == 5
