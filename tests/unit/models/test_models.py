"""Models of images and rows: what they compute, how many parameters they have, what they refuse."""

from __future__ import annotations

import inspect
import math
import pkgutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from mlprun.course.cifar_quick import CifarQuick
from mlprun.course.silu_by_hand import SiLUByHand
from mlprun.errors import ConfigError
from mlprun.models.cnn import CNN
from mlprun.models.mlp import MLP, Linear
from mlprun.models.resnet import resnet18
from tests.helpers.files import choice_files

Model = Callable[..., nn.Module]


SHAPES: list[tuple[Model, list[int]]] = [
    (Linear, [4]),
    (Linear, [1, 8, 8]),
    (MLP, [1]),
    (MLP, [4]),
    (MLP, [3, 5]),
    (MLP, [1, 28, 28]),
    (CNN, [1, 8, 8]),
    (CNN, [1, 28, 28]),
    (CNN, [3, 32, 32]),
    (CNN, [2, 9, 13]),
    (CifarQuick, [1, 8, 8]),
    (CifarQuick, [3, 32, 32]),
    (CifarQuick, [2, 17, 31]),
    (resnet18, [1, 8, 8]),
    (resnet18, [3, 32, 32]),
]


def num_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("model", "shape"), SHAPES)
def test_a_model_runs_on_the_meta_device(model: Model, shape: list[int]) -> None:
    with torch.device("meta"):
        outputs = model(shape, 5)(torch.empty(2, *shape))
    assert outputs.shape == (2, 5)
    assert outputs.is_meta


@pytest.mark.parametrize(("model", "shape"), SHAPES[1::3])
def test_the_global_generator_decides_the_weights(model: Model, shape: list[int]) -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(model(shape, 3).parameters())

    first = weights(1)
    assert torch.equal(first, weights(1))
    assert not torch.equal(first, weights(2))


@pytest.mark.parametrize(
    "model",
    [
        Linear([4], 3),
        MLP([4], 3, dropout=0.5, batch_norm=True),
        MLP([4], 3, activation=SiLUByHand, output_activation="sigmoid"),
        CNN([1, 8, 8], 3),
    ],
)
def test_a_model_compiles_without_a_graph_break(model: nn.Module) -> None:
    inputs = torch.randn(4, 1, 8, 8) if isinstance(model, CNN) else torch.randn(4, 4)
    model.eval()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(inputs), model(inputs))


PARAMETERS: list[tuple[nn.Module, int]] = [
    (Linear([4], 3), 4 * 3 + 3),
    (Linear([1, 28, 28], 10), 784 * 10 + 10),
    (MLP([4], 3, hidden=[]), 4 * 3 + 3),
    (MLP([4], 3, hidden=[5]), (4 * 5 + 5) + (5 * 3 + 3)),
    (MLP([2, 2], 3, hidden=[5, 6]), (4 * 5 + 5) + (5 * 6 + 6) + (6 * 3 + 3)),
    # Batch norm has a scale and a shift a unit; the linear layer before it has no bias.
    (MLP([4], 3, hidden=[5], batch_norm=True), (4 * 5 + 2 * 5) + (5 * 3 + 3)),
    (MLP([4], 3, hidden=[5], dropout=0.5), (4 * 5 + 5) + (5 * 3 + 3)),
    (MLP([1, 8, 8], 10), (64 * 128 + 128) + (128 * 64 + 64) + (64 * 10 + 10)),
    # 8x8 -> 4x4 -> 2x2: the last block's 32 channels make 128 features.
    (
        CNN([1, 8, 8], 10),
        (9 * 1 * 16 + 2 * 16) + (9 * 16 * 32 + 2 * 32) + (32 * 4 * 128 + 2 * 128) + (128 * 10 + 10),
    ),
    (
        CNN([3, 8, 8], 2, channels=[4], kernel=5, hidden=[], batch_norm=False),
        (25 * 3 * 4 + 4) + (4 * 16 * 2 + 2),
    ),
    # An odd side loses a pixel: 9x13 -> 4x6.
    (CNN([1, 9, 13], 2, channels=[4], hidden=[], batch_norm=False), (9 * 4 + 4) + (4 * 24 * 2 + 2)),
    # Caffe's: 145,578 on CIFAR-10
    (
        CifarQuick([3, 32, 32], 10),
        (75 * 32 + 32) + (800 * 32 + 32) + (800 * 64 + 64) + (64 * 16 * 64 + 64) + (64 * 10 + 10),
    ),
    # torchvision's 11,689,512 for 3 channels and 1000 classes, with 3x3 filters in the stem.
    (resnet18([3, 32, 32], 10), 11_689_512 - 64 * 3 * (49 - 9) - (512 + 1) * 990),
    (resnet18([1, 28, 28], 10), 11_689_512 - 64 * (3 * 49 - 9) - (512 + 1) * 990),
    (resnet18([3, 96, 96], 1000), 11_689_512),
]


@pytest.mark.parametrize(("model", "count"), PARAMETERS)
def test_parameter_counts(model: nn.Module, count: int) -> None:
    assert num_parameters(model) == count


def test_linear_is_a_matrix_product_and_a_bias() -> None:
    model, inputs = Linear([2, 3], 4), torch.randn(5, 2, 3)
    expected = inputs.reshape(5, 6) @ model.output.weight.T + model.output.bias
    torch.testing.assert_close(model(inputs), expected)


def test_an_mlp_without_hidden_layers_is_the_linear_model() -> None:
    torch.manual_seed(0)
    linear = Linear([4], 3)
    torch.manual_seed(0)
    mlp = MLP([4], 3, hidden=[])
    inputs = torch.randn(5, 4)
    assert torch.equal(linear(inputs), mlp(inputs))


@pytest.mark.parametrize(
    ("model", "layers"),
    [
        (MLP([4], 3, hidden=[5]), "Linear ReLU Linear"),
        (MLP([4], 3, hidden=[5], activation="tanh", dropout=0.5), "Linear Tanh Dropout Linear"),
        (MLP([4], 3, hidden=[5], output_activation="sigmoid"), "Linear ReLU Linear Sigmoid"),
        (
            MLP([4], 3, hidden=[5, 6], dropout=0.1, batch_norm=True),
            "Linear BatchNorm1d ReLU Dropout Linear BatchNorm1d ReLU Dropout Linear",
        ),
        (
            CNN([1, 8, 8], 3, channels=[4], hidden=[5], dropout=0.1),
            "Conv2d BatchNorm2d ReLU MaxPool2d Dropout Linear BatchNorm1d ReLU Dropout Linear",
        ),
        (
            CNN([1, 8, 8], 3, channels=[4, 4], hidden=[], activation="silu", batch_norm=False),
            "Conv2d SiLU MaxPool2d Conv2d SiLU MaxPool2d Linear",
        ),
    ],
)
def test_order_of_layers(model: nn.Module, layers: str) -> None:
    leaves = [m for m in model.modules() if not list(m.children()) and type(m) is not nn.Sequential]
    assert [type(m).__name__ for m in leaves] == layers.split()


@pytest.mark.parametrize("model", [MLP([4], 3, dropout=0.25), CNN([1, 2, 2], 3, channels=[4], dropout=0.25)])
def test_dropout_has_the_rate_asked_for_and_acts_in_training_only(model: nn.Module) -> None:
    drops = [m for m in model.modules() if isinstance(m, nn.Dropout)]
    assert len(drops) == 2
    assert all(m.p == 0.25 for m in drops)
    inputs = torch.randn(8, 1, 2, 2) if isinstance(model, CNN) else torch.randn(8, 4)
    assert not torch.equal(model(inputs), model(inputs))
    model.eval()
    assert torch.equal(model(inputs), model(inputs))


def test_cifar_quick_halves_the_picture_as_caffe_does_where_windows_stick_out() -> None:
    sizes = []
    model = CifarQuick([3, 32, 32], 10)
    for layer in model.modules():
        if isinstance(layer, nn.MaxPool2d | nn.AvgPool2d):
            layer.register_forward_hook(lambda layer, inputs, output: sizes.append(list(output.shape[1:])))
    model(torch.zeros(1, 3, 32, 32))
    assert sizes == [[32, 16, 16], [32, 8, 8], [64, 4, 4]]
    # the mean of what there is: a window over the edge is divided by its pixels within
    assert torch.equal(model.layers.pool2(torch.ones(1, 1, 8, 8)), torch.ones(1, 1, 4, 4))


@pytest.mark.parametrize(("side", "last"), [(8, 1), (32, 4), (64, 8), (65, 3), (224, 7)])
def test_resnet_keeps_the_resolution_of_small_images(side: int, last: int) -> None:
    """Three stages halve a small image; the photograph stem divides a large one by 4 before them."""
    with torch.device("meta"):
        model = resnet18([3, side, side], 2)
        sizes: list[int] = []
        model.get_submodule("layer4").register_forward_hook(lambda *args: sizes.append(args[2].shape[-1]))
        model(torch.empty(2, 3, side, side))
    assert sizes == [last]


@pytest.mark.parametrize(
    ("model", "arguments", "key", "message"),
    [
        (Linear, {"init": "xavir"}, "init", "did you mean 'xavier'?"),
        (Linear, {"init": "ones!"}, "init", "choose from: default, he, orthogonal, xavier, zeros"),
        (Linear, {"init": 0}, "init", "for 0 write init=zeros"),
        (Linear, {"init": "-0.1"}, "init", "must be a positive number"),
        (Linear, {"init": math.nan}, "init", "must be a positive number"),
        (Linear, {"init": math.inf}, "init", "must be a positive number"),
        (Linear, {"init": True}, "init", "must be a positive number"),
        (Linear, {"init": None}, "init", "there is no such initialisation"),
        (Linear, {"num_outputs": 0}, "num_outputs", "must be a positive whole number"),
        (Linear, {"num_outputs": 2.0}, "num_outputs", "must be a positive whole number"),
        (Linear, {"input_shape": []}, "input_shape", "needs at least 1 size"),
        (Linear, {"input_shape": [0]}, "input_shape", "0 is not a size"),
        (MLP, {"hidden": 64}, "hidden", "write hidden=[64]"),
        (MLP, {"hidden": "64"}, "hidden", "must be a list of sizes"),
        (MLP, {"hidden": [64, -1]}, "hidden", "hidden=[64,-1]: -1 is not a size"),
        (MLP, {"hidden": [64, 0]}, "hidden", "0 is not a size"),
        (MLP, {"hidden": [6.5]}, "hidden", "6.5 is not a size"),
        (MLP, {"hidden": [True]}, "hidden", "True is not a size"),
        (MLP, {"hidden": None}, "hidden", "must be a list of sizes"),
        (MLP, {"activation": "rellu"}, "activation", "did you mean 'relu'"),
        (MLP, {"activation": "rellu", "hidden": []}, "activation", "did you mean 'relu'"),
        (MLP, {"activation": None}, "activation", "choose from: elu, gelu"),
        (MLP, {"activation": ["relu"]}, "activation", "there is no such activation"),
        (MLP, {"output_activation": "sigmoyd"}, "output_activation", "did you mean 'sigmoid'?"),
        (MLP, {"negative_slope": math.inf}, "negative_slope", "must be a finite number"),
        (MLP, {"dropout": 1.0}, "dropout", "must be a probability in [0, 1)"),
        (MLP, {"dropout": -0.1}, "dropout", "must be a probability in [0, 1)"),
        (MLP, {"dropout": math.nan}, "dropout", "must be a probability in [0, 1)"),
        (MLP, {"dropout": "0.1"}, "dropout", "must be a probability in [0, 1)"),
        (CNN, {"input_shape": [4]}, "input_shape", "needs images, [channels, height, width]"),
        (CNN, {"input_shape": [8, 8]}, "input_shape", "needs images, [channels, height, width]"),
        (CNN, {"channels": []}, "channels", "needs at least 1 size"),
        (CNN, {"channels": [16, 0]}, "channels", "0 is not a size"),
        (CNN, {"channels": [4, 4, 4, 4]}, "channels", "leave no pixel: 8x8 -> 4x4 -> 2x2 -> 1x1 -> 0x0"),
        (CNN, {"channels": [4, 4, 4, 4]}, "channels", "use at most 3"),
        (CNN, {"input_shape": [1, 1, 8]}, "channels", "leave no pixel: 1x8 -> 0x4"),
        (CNN, {"kernel": 4}, "kernel", "must be odd"),
        (CNN, {"kernel": 0}, "kernel", "must be a positive whole number"),
        (CNN, {"hidden": [0]}, "hidden", "0 is not a size"),
        (CNN, {"activation": "tahn"}, "activation", "did you mean 'tanh'?"),
        (CNN, {"dropout": 2}, "dropout", "must be a probability in [0, 1)"),
        (CNN, {"init": "He"}, "init", "did you mean 'he'?"),
        (CifarQuick, {"input_shape": [1, 7, 8]}, "input_shape", "need 8 pixels per side"),
        (CifarQuick, {"input_shape": [64]}, "input_shape", "needs images"),
        (CifarQuick, {"num_outputs": 0}, "num_outputs", "must be a positive whole number"),
        (CifarQuick, {"init": "caffe"}, "init", "there is no such initialisation"),
        (resnet18, {"input_shape": [4]}, "input_shape", "needs images"),
        (resnet18, {"num_outputs": -1}, "num_outputs", "must be a positive whole number"),
    ],
)
def test_bad_arguments_name_the_key_and_the_remedy(
    model: Model, arguments: dict[str, Any], key: str, message: str
) -> None:
    good = {"input_shape": [1, 8, 8], "num_outputs": 3}
    with pytest.raises(ConfigError) as caught:
        model(**(good | arguments))
    assert caught.value.key == key
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["linear", "mlp", "cnn", "cifar_quick", "resnet18"])
def test_the_yaml_names_every_argument_and_repeats_the_defaults(name: str) -> None:
    node = OmegaConf.load(next(file for file in choice_files("model") if file.stem == name))
    whole = OmegaConf.create({"data": {"input_shape": [1, 16, 16], "num_outputs": 7}, "model": node})
    arguments: dict[str, Any] = OmegaConf.to_container(whole.model, resolve=True)
    model = pkgutil.resolve_name(arguments.pop("_target_"))
    assert model(**arguments)(torch.zeros(2, 1, 16, 16)).shape == (2, 7)
    assert list(arguments) == list(inspect.signature(model).parameters)
    for key, value in arguments.items():
        if key not in ("input_shape", "num_outputs"):
            default = inspect.signature(model).parameters[key].default
            assert value == (list(default) if isinstance(default, tuple) else default), key


def test_sizes_may_come_as_an_omegaconf_list() -> None:
    model = MLP(OmegaConf.create([2, 2]), 3, hidden=OmegaConf.create([5]))
    assert model(torch.zeros(1, 2, 2)).shape == (1, 3)
