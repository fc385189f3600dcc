"""What all models of text have in common: padding does not matter, who sees what, what they refuse."""

from __future__ import annotations

import inspect
import math
import pkgutil
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional as F

from mlprun.course.lstm_by_hand import LSTMByHand
from mlprun.errors import ConfigError
from mlprun.models.rnn import RNN
from mlprun.models.sequences import PER_TOKEN
from mlprun.models.transformer import Transformer
from mlprun.tasks import names as task_names
from mlprun.training import finetune
from tests.helpers.files import REPOSITORY
from tests.helpers.text_models import (
    LONGEST,
    OUTPUTS,
    VOCABULARY,
    Make,
    average,
    made,
    padded,
    rnn,
    sentences,
    transformer,
)

CONF = REPOSITORY / "conf"


OF_TEXTS: list[tuple[Make, dict[str, Any]]] = [
    (average, {}),
    (average, {"hidden": [7, 6], "activation": "tanh"}),
    (rnn, {"pooling": "last"}),
    (rnn, {"pooling": "max", "cell": "rnn"}),
    (rnn, {"pooling": "mean", "cell": "gru", "num_layers": 2}),
    (rnn, {"pooling": "last", "bidirectional": True, "num_layers": 2}),
    (rnn, {"pooling": "mean", "bidirectional": True, "cell": LSTMByHand}),
    (transformer, {"pooling": "mean"}),
    (transformer, {"pooling": "max", "attention": "written_out"}),
    (transformer, {"pooling": "last", "positions": "sinusoidal"}),
]


OF_TOKENS: list[tuple[Make, dict[str, Any]]] = [
    (rnn, {}),
    (rnn, {"cell": "gru", "num_layers": 2}),
    (rnn, {"cell": LSTMByHand}),
    (transformer, {}),
    (transformer, {"attention": "written_out", "positions": "sinusoidal"}),
]


TWO_SIDED: list[tuple[Make, dict[str, Any]]] = [
    (rnn, {"bidirectional": True, "num_layers": 2}),
    (rnn, {"bidirectional": True, "cell": LSTMByHand}),
    (transformer, {}),
    (transformer, {"attention": "written_out"}),
]
CASES = [
    *[(make, "classification", arguments) for make, arguments in OF_TEXTS],
    *[(make, "regression", arguments) for make, arguments in OF_TEXTS[::4]],
    *[(make, "token_classification", arguments) for make, arguments in OF_TOKENS + TWO_SIDED[:2]],
    *[(make, "language_modeling", arguments) for make, arguments in OF_TOKENS],
]


every_model = pytest.mark.parametrize(("make", "task", "arguments"), CASES)


@every_model
def test_a_text_gives_the_same_alone_and_in_a_padded_batch(make: Make, task: str, arguments: dict[str, Any]) -> None:
    model, texts = made(make, task, **arguments), sentences(7, 1, 4)
    for length in (7, LONGEST):
        together = model(padded(texts, length))
        for text, outputs in zip(texts, together, strict=True):
            (alone,) = model(text[None])
            shown = outputs[: len(text)] if task in PER_TOKEN else outputs
            torch.testing.assert_close(shown, alone, atol=1e-6, rtol=1e-6)


@every_model
def test_the_embedding_of_padding_is_of_no_account(make: Make, task: str, arguments: dict[str, Any]) -> None:
    model, texts = made(make, task, **arguments), sentences(7, 1, 4)
    ids = padded(texts)
    before = model(ids)
    embedding = model.embedding if make is average else model.encoder.embedding
    with torch.no_grad():
        embedding.weight[0] += 100
    after = model(ids)
    if task in PER_TOKEN:
        before, after = (torch.cat([x[n, : len(text)] for n, text in enumerate(texts)]) for x in (before, after))
    assert torch.equal(before, after)


@every_model
def test_a_text_of_padding_alone_gives_finite_outputs_and_gradients(
    make: Make, task: str, arguments: dict[str, Any]
) -> None:
    model = made(make, task, **arguments)
    outputs = model(torch.tensor([[5, 6, 7], [0, 0, 0]]))
    outputs.square().mean().sqrt().backward()
    assert outputs.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@every_model
def test_a_training_step_reaches_every_parameter(make: Make, task: str, arguments: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = make(task, **arguments, dropout=0.2)
    model(padded(sentences(LONGEST, 5, 9))).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.count_nonzero() > 0, name


@every_model
def test_a_model_runs_on_the_meta_device(make: Make, task: str, arguments: dict[str, Any]) -> None:
    """There nothing has a value: no shape depends on one, and nothing asks for one and so waits for a GPU."""
    with torch.device("meta"):
        outputs = make(task, **arguments)(torch.ones(2, 7, dtype=torch.int64))
    assert outputs.is_meta
    assert outputs.shape[0] == 2


@every_model
def test_the_global_generator_decides_weights_and_dropout(make: Make, task: str, arguments: dict[str, Any]) -> None:
    def outputs(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return make(task, **arguments, dropout=0.5)(padded(sentences(7, 3)))

    assert torch.equal(outputs(1), outputs(1))
    assert not torch.equal(outputs(1), outputs(2))


@every_model
def test_dropout_acts_in_training_only(make: Make, task: str, arguments: dict[str, Any]) -> None:
    model, ids = made(make, task, **arguments, dropout=0.5), padded(sentences(7, 3))
    assert torch.equal(model(ids), model(ids))
    model.train()
    assert not torch.equal(model(ids), model(ids))


def has_bf16_lstm() -> bool:
    try:
        torch.nn.LSTM(4, 4)(torch.zeros(1, 1, 4))
    except RuntimeError:
        return False
    return True


@every_model
def test_bf16_gives_nearly_the_same(make: Make, task: str, arguments: dict[str, Any]) -> None:
    model, ids = made(make, task, **arguments), padded(sentences(7, 3))
    with torch.autocast("cpu", torch.bfloat16):
        if any(isinstance(layer, torch.nn.LSTM) for layer in model.modules()) and not has_bf16_lstm():
            pytest.skip("this CPU has no LSTM in bfloat16")
        rounded = model(ids)
    rounded.float().square().mean().backward()
    torch.testing.assert_close(rounded[0].float(), model(ids)[0], atol=0.2, rtol=0.1)


@pytest.mark.parametrize(("make", "arguments"), OF_TEXTS[::2])
def test_every_model_can_learn_texts_by_heart(make: Make, arguments: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = make("classification", **arguments | {"width": 16})
    ids, classes = padded(sentences(*range(1, 11))), torch.arange(10) % OUTPUTS
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        F.cross_entropy(model(ids), classes).backward()
        optimizer.step()
    assert torch.equal(model.eval()(ids).argmax(dim=1), classes)


def change_at(model: nn.Module, length: int = 8, place: int = 4) -> Tensor:
    """By position: whether the outputs differ between two texts that differ at `place` alone."""
    (text,) = sentences(length)
    other = text.clone()
    other[place] = other[place] % (VOCABULARY - 1) + 1
    return (model(text[None]) != model(other[None])).any(dim=2)[0]


@pytest.mark.parametrize(("make", "arguments"), OF_TOKENS)
def test_a_language_model_does_not_see_the_future(make: Make, arguments: dict[str, Any]) -> None:
    changed = change_at(made(make, "language_modeling", **arguments))
    assert not changed[:4].any()
    assert changed[4:].all()


@pytest.mark.parametrize(("make", "arguments"), TWO_SIDED)
def test_a_model_of_tokens_sees_both_sides(make: Make, arguments: dict[str, Any]) -> None:
    assert change_at(made(make, "token_classification", **arguments)).all()


def test_an_rnn_of_one_direction_sees_what_is_before() -> None:
    assert change_at(made(rnn, "token_classification")).tolist() == [False] * 4 + [True] * 4


@pytest.mark.parametrize(("make", "ordered"), [(average, False), (rnn, True), (transformer, True)])
def test_order_is_lost_in_an_average_alone(make: Make, ordered: bool) -> None:
    model, (text,) = made(make, "classification"), sentences(8)
    same = torch.allclose(model(text[None]), model(text.flip(0)[None]), atol=1e-5)
    assert same is not ordered


@pytest.mark.parametrize("source", ["language_modeling", "token_classification"])
@pytest.mark.parametrize("make", [rnn, transformer])
def test_all_but_the_head_of_a_model_of_tokens_starts_a_classifier(make: Make, source: str) -> None:
    many = {"width": 8, "num_layers": 2}
    before: nn.Module
    if make is rnn:
        before = RNN(VOCABULARY, VOCABULARY, source, hidden_size=6, **many)
    else:
        before = Transformer(VOCABULARY, VOCABULARY, source, LONGEST, num_heads=2, tie_weights=True, **many)
    after = make("classification", num_layers=2)
    taken = finetune.fit(finetune.Weights(Path("best.pt"), "", before.state_dict()), after)
    assert taken.new == ["head.weight", "head.bias"]
    finetune.load(taken, after)
    for name in taken.tensors:
        assert torch.equal(after.state_dict()[name], before.state_dict()[name]), name


@pytest.mark.parametrize(
    ("make", "task", "arguments", "key", "message"),
    [
        (average, "language_modeling", {}, "task", "none per token"),
        (average, "classification", {"width": 0}, "width", "must be a positive whole number"),
        (average, "classification", {"hidden": 64}, "hidden", "write hidden=[64]"),
        (average, "classification", {"dropout": 1}, "dropout", "must be a probability in [0, 1)"),
        (average, "classification", {"word_dropout": -1}, "word_dropout", "must be a probability in [0, 1)"),
        (rnn, "language_modeling", {"bidirectional": True}, "bidirectional", "the tokens that the model is to predict"),
        (rnn, "classification", {"cell": "lstn"}, "cell", "did you mean 'lstm'?"),
        (rnn, "classification", {"pooling": "first"}, "pooling", "there is no such pooling"),
        (rnn, "classification", {"hidden_size": [6]}, "hidden_size", "must be a positive whole number"),
        (rnn, "classification", {"num_layers": 0}, "num_layers", "must be a positive whole number"),
        (rnn, "classification", {"dropout": math.nan}, "dropout", "must be a probability in [0, 1)"),
        (rnn, "classification", {"forget_bias": math.inf}, "forget_bias", "must be a finite number"),
        (transformer, "classification", {"num_heads": 3}, "num_heads", "does not divide width=8"),
        (transformer, "classification", {"num_heads": 3}, "num_heads", "num_heads=2 does"),
        (transformer, "classification", {"mlp_ratio": 0.5}, "mlp_ratio", "must be a positive whole number"),
        (transformer, "classification", {"dropout": 1.5}, "dropout", "must be a probability in [0, 1)"),
        (transformer, "classification", {"attention_dropout": 1}, "attention_dropout", "must be a probability"),
        (transformer, "classification", {"positions": "learnt"}, "positions", "did you mean 'learned'?"),
        (transformer, "classification", {"pooling": None}, "pooling", "choose from: last, max, mean"),
        (transformer, "classification", {"attention": "flash"}, "attention", "there is no such attention"),
        (transformer, "classification", {"tie_weights": True}, "tie_weights", "set tie_weights=false"),
        (transformer, "language_modeling", {"tie_weights": True}, "tie_weights", "not one for each of the 20 tokens"),
    ],
)  # fmt: skip
def test_bad_arguments_name_the_key_and_the_remedy(
    make: Make, task: str, arguments: dict[str, Any], key: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make(task, **arguments)
    assert caught.value.key == key
    assert message in str(caught.value)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_a_text_that_is_too_long_is_refused(positions: str) -> None:
    model = transformer("classification", positions=positions)
    assert model(torch.ones(1, LONGEST, dtype=torch.int64)).shape == (1, OUTPUTS)
    with pytest.raises(ConfigError, match="max_length=12: the model has no position for a sequence of 13 tokens"):
        model(torch.ones(1, LONGEST + 1, dtype=torch.int64))


@pytest.mark.parametrize("make", [average, rnn, transformer])
@pytest.mark.parametrize("inputs", [torch.zeros(2, 1, 8, 8), torch.zeros(2, 4), torch.ones(4, dtype=torch.int64)])
def test_what_is_no_text_is_refused(make: Make, inputs: Tensor) -> None:
    with pytest.raises(TypeError, match="reads token ids"):
        make("classification")(inputs)


@pytest.mark.parametrize("task", task_names.TASKS)
@pytest.mark.parametrize("name", ["embedding_average", "rnn", "gru", "lstm", "transformer"])
def test_the_yaml_names_every_argument_and_repeats_the_defaults(name: str, task: str) -> None:
    node = OmegaConf.load(CONF / "model" / f"{name}.yaml")
    data = {"text": {"vocab_size": 30, "max_length": 16}, "num_outputs": 7, "task": task}
    whole = OmegaConf.create({"data": data, "model": node})
    arguments: dict[str, Any] = OmegaConf.to_container(whole.model, resolve=True)
    model = pkgutil.resolve_name(arguments.pop("_target_"))
    if name == "embedding_average" and task in PER_TOKEN:
        with pytest.raises(ConfigError, match="task="):
            model(**arguments)
        return
    outputs = model(**arguments)(torch.ones(2, 16, dtype=torch.int64))
    assert outputs.shape == ((2, 16, 7) if task in PER_TOKEN else (2, 7))
    assert list(arguments) == list(inspect.signature(model).parameters)
    if name in ("gru", "rnn"):
        assert arguments.pop("cell") == name
    for key, value in arguments.items():
        if key not in ("vocab_size", "num_outputs", "task", "max_length"):
            default = inspect.signature(model).parameters[key].default
            assert value == (list(default) if isinstance(default, tuple) else default), key
