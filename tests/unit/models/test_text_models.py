"""Models of text: what they compute, that padding does not matter, who sees what, what they refuse."""

from __future__ import annotations

import inspect
import math
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mlprun import tasks
from mlprun.data.text import tokenizer
from mlprun.errors import ConfigError
from mlprun.models import sequences
from mlprun.models.embedding_average import EmbeddingAverage
from mlprun.models.rnn import RNN, LSTMByHand
from mlprun.models.transformer import MultiHeadAttention, Transformer, sinusoids
from mlprun.training import finetune
from tests.helpers.files import REPOSITORY

CONF = REPOSITORY / "conf"
VOCABULARY, OUTPUTS, LONGEST = 20, 5, 12
Make = Callable[..., nn.Module]


def average(task: str, **arguments: Any) -> nn.Module:
    return EmbeddingAverage(VOCABULARY, OUTPUTS, task, **({"width": 8} | arguments))


def rnn(task: str, **arguments: Any) -> RNN:
    return RNN(VOCABULARY, OUTPUTS, task, **({"width": 8, "hidden_size": 6} | arguments))


def transformer(task: str, **arguments: Any) -> Transformer:
    small = {"width": 8, "num_heads": 2, "num_layers": 2}
    return Transformer(VOCABULARY, OUTPUTS, task, LONGEST, **(small | arguments))


OF_TEXTS: list[tuple[Make, dict[str, Any]]] = [
    (average, {}),
    (average, {"hidden": [7, 6], "activation": "tanh"}),
    (rnn, {"pooling": "last"}),
    (rnn, {"pooling": "max", "cell": "rnn"}),
    (rnn, {"pooling": "mean", "cell": "gru", "num_layers": 2}),
    (rnn, {"pooling": "last", "bidirectional": True, "num_layers": 2}),
    (rnn, {"pooling": "mean", "bidirectional": True, "cell": "lstm_by_hand"}),
    (transformer, {"pooling": "mean"}),
    (transformer, {"pooling": "max", "attention": "written_out"}),
    (transformer, {"pooling": "last", "positions": "sinusoidal"}),
]
OF_TOKENS: list[tuple[Make, dict[str, Any]]] = [
    (rnn, {}),
    (rnn, {"cell": "gru", "num_layers": 2}),
    (rnn, {"cell": "lstm_by_hand"}),
    (transformer, {}),
    (transformer, {"attention": "written_out", "positions": "sinusoidal"}),
]
TWO_SIDED: list[tuple[Make, dict[str, Any]]] = [
    (rnn, {"bidirectional": True, "num_layers": 2}),
    (rnn, {"bidirectional": True, "cell": "lstm_by_hand"}),
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


def sentences(*lengths: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(1, VOCABULARY, (length,), generator=generator) for length in lengths]


def padded(texts: list[Tensor], length: int | None = None) -> Tensor:
    length = length or max(map(len, texts))
    return torch.stack([F.pad(text, (0, length - len(text))) for text in texts])


def made(make: Make, task: str, **arguments: Any) -> Any:
    """A model in evaluation mode, with weights large enough that everything in it tells."""
    torch.manual_seed(0)
    model = make(task, **arguments).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    return model


# ------------------------------------------------------------------------------------------------ outputs, padding


@every_model
def test_outputs_are_one_row_a_text_or_one_a_token(make: Make, task: str, arguments: dict[str, Any]) -> None:
    outputs = make(task, **arguments)(padded(sentences(7, 3)))
    assert outputs.shape == ((2, 7, OUTPUTS) if task in tasks.BY_TOKEN else (2, OUTPUTS))
    assert outputs.dtype == torch.float32


@every_model
def test_a_text_gives_the_same_alone_and_in_a_padded_batch(make: Make, task: str, arguments: dict[str, Any]) -> None:
    model, texts = made(make, task, **arguments), sentences(7, 1, 4)
    for length in (7, LONGEST):
        together = model(padded(texts, length))
        for text, outputs in zip(texts, together, strict=True):
            (alone,) = model(text[None])
            shown = outputs[: len(text)] if task in tasks.BY_TOKEN else outputs
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
    if task in tasks.BY_TOKEN:
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


@every_model
def test_bf16_gives_nearly_the_same(make: Make, task: str, arguments: dict[str, Any]) -> None:
    model, ids = made(make, task, **arguments), padded(sentences(7, 3))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(ids)
    rounded.float().square().mean().backward()
    torch.testing.assert_close(rounded[0].float(), model(ids)[0], atol=0.2, rtol=0.1)


@pytest.mark.parametrize(("make", "arguments"), OF_TEXTS)
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


# --------------------------------------------------------------------------------------------------- who sees what


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


# ---------------------------------------------------------------------------------------------------- the average


def test_the_average_is_the_mean_of_the_embeddings_and_a_linear_layer() -> None:
    model = made(average, "classification")
    head = model.head.output
    expected = model.embedding.weight[[3, 4, 4]].mean(dim=0) @ head.weight.T + head.bias
    torch.testing.assert_close(model(torch.tensor([[3, 4, 4, 0, 0]]))[0], expected)


def test_word_dropout_leaves_whole_tokens_out_of_the_mean() -> None:
    torch.manual_seed(0)
    model = average("classification", word_dropout=0.5)
    model.head = nn.Identity()
    both = model.embedding.weight[[3, 4]]
    possible = torch.stack([torch.zeros(8), both[0], both[1], both.mean(dim=0)])
    found = model(torch.tensor([[3, 4, 0]]).repeat(400, 1))
    distances = torch.cdist(found, possible, compute_mode="donot_use_mm_for_euclid_dist")
    assert distances.min(dim=1).values.max() < 1e-6
    counts = distances.argmin(dim=1).bincount(minlength=4)
    assert ((counts - 100).abs() < 40).all()  # four standard errors are 35
    assert torch.equal(model.eval()(torch.tensor([[3, 4, 0]])), both.mean(dim=0, keepdim=True))


# ------------------------------------------------------------------------------------------------------- recurrent

TORCH = {"lstm": nn.LSTM, "lstm_by_hand": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", TORCH)
def test_the_states_are_those_of_torch_for_packed_sequences(cell: str, bidirectional: bool) -> None:
    encoder = made(rnn, "token_classification", cell=cell, num_layers=2, bidirectional=bidirectional).encoder
    theirs = TORCH[cell](8, 6, num_layers=2, bidirectional=bidirectional, batch_first=True)
    weights = {}
    for number, layer in enumerate(encoder.layers):
        for name, value in layer.onward.named_parameters():
            weights[name.replace("_l0", f"_l{number}")] = value
        if bidirectional:
            for name, value in layer.back.named_parameters():
                weights[name.replace("_l0", f"_l{number}_reverse")] = value
    theirs.load_state_dict(weights)

    texts = sentences(4, 9, 1, 6)
    ids = padded(texts)
    packed = pack_padded_sequence(
        encoder.embedding(ids), torch.tensor([4, 9, 1, 6]), batch_first=True, enforce_sorted=False
    )
    found, last = theirs(packed)
    expected, _ = pad_packed_sequence(found, batch_first=True)
    states, final = encoder(ids)
    mask = (ids != 0)[:, :, None]
    torch.testing.assert_close(states * mask, expected * mask, atol=1e-6, rtol=0)
    hidden = last[0] if isinstance(last, tuple) else last  # (layers · directions, batch, hidden)
    torch.testing.assert_close(
        final, torch.cat(list(hidden[-2:] if bidirectional else hidden[-1:]), dim=1), atol=1e-6, rtol=0
    )


def test_the_lstm_written_out_is_that_of_torch_in_values_and_gradients() -> None:
    torch.manual_seed(0)
    theirs, by_hand = nn.LSTM(4, 6, batch_first=True), LSTMByHand(4, 6)
    torch.manual_seed(0)
    assert all(map(torch.equal, theirs.parameters(), LSTMByHand(4, 6).parameters()))  # it also starts as torch's does
    by_hand.load_state_dict(theirs.state_dict())
    results = []
    for model in (theirs, by_hand):
        inputs = torch.randn(3, 10, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
        states, (hidden, memory) = model(inputs)
        (states.square().sum() + hidden.sum() + memory.square().sum()).backward()
        results.append([states, hidden, memory, inputs.grad, *[p.grad for p in model.parameters()]])
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(results[0][:3], results[1][:3], atol=1e-6, rtol=0)


@pytest.mark.parametrize("cell", ["lstm", "lstm_by_hand"])
def test_an_lstm_keeps_its_memory_at_first(cell: str) -> None:
    lstm = rnn("classification", cell=cell, forget_bias=1.5).encoder.layers[0].onward
    both = lstm.bias_ih_l0 + lstm.bias_hh_l0
    assert torch.equal(both[6:12], torch.full((6,), 1.5))
    assert not torch.isin(both[:6], torch.tensor([0.0, 1.5])).any()


def test_reversing_each_sequence_within_its_length() -> None:
    ids = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0], [7, 0, 0, 0], [0, 0, 0, 0]])
    mask = sequences.mask_of(ids)
    there = sequences.reverse(ids[:, :, None], mask)
    assert there[:, :, 0].tolist() == [[4, 3, 2, 1], [6, 5, 0, 0], [7, 0, 0, 0], [0, 0, 0, 0]]
    assert torch.equal(sequences.reverse(there, mask)[:, :, 0], ids)


def test_pooling() -> None:
    states = torch.tensor([[[1.0, -5.0], [3.0, -7.0], [100.0, 100.0]]])
    mask = torch.tensor([[True, True, False]])
    assert sequences.pool(states, mask, "mean").tolist() == [[2, -6]]
    assert sequences.pool(states, mask, "max").tolist() == [[3, -5]]
    assert sequences.pool(states, mask, "last").tolist() == [[3, -7]]


# ------------------------------------------------------------------------------------------------------- attention

MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]], dtype=torch.bool)


@pytest.mark.parametrize("written_out", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "padded"])
def test_attention_is_that_of_torch_in_values_and_gradients(
    mask: Tensor | None, causal: bool, written_out: bool
) -> None:
    torch.manual_seed(0)
    ours, theirs = MultiHeadAttention(8, 2, written_out=written_out), nn.MultiheadAttention(8, 2, batch_first=True)
    pairs = [
        (ours.query_key_value.weight, theirs.in_proj_weight),
        (ours.query_key_value.bias, theirs.in_proj_bias),
        (ours.output.weight, theirs.out_proj.weight),
        (ours.output.bias, theirs.out_proj.bias),
    ]
    with torch.no_grad():
        for own, other in pairs:
            own.normal_(std=0.5)
            other.copy_(own)
    states = torch.randn(3, 5, 8, requires_grad=True)
    copy = states.detach().clone().requires_grad_()
    future = torch.ones(5, 5, dtype=torch.bool).triu(1) if causal else None
    outputs = ours(states, mask, causal)
    expected, weights = theirs(
        copy, copy, copy, key_padding_mask=None if mask is None else ~mask, attn_mask=future, average_attn_weights=False
    )
    torch.testing.assert_close(outputs, expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(ours.weights(states, mask, causal), weights, atol=1e-6, rtol=0)
    outputs.square().mean().backward()
    expected.square().mean().backward()
    torch.testing.assert_close(states.grad, copy.grad, atol=1e-6, rtol=1e-5)
    for own, other in pairs:
        torch.testing.assert_close(own.grad, other.grad, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_the_gradient_of_the_attention_written_out(causal: bool) -> None:
    torch.manual_seed(0)
    attention = MultiHeadAttention(4, 2, written_out=True).double()
    mask = torch.tensor([[True, True, True], [True, False, False], [False, False, False]])
    states = torch.randn(3, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: attention(x, mask, causal), states)


@pytest.mark.parametrize("written_out", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_who_may_look_at_none_gets_nothing(causal: bool, written_out: bool) -> None:
    attention = MultiHeadAttention(8, 2, written_out=written_out)
    states = torch.randn(2, 3, 8, requires_grad=True)
    outputs = attention(states, torch.tensor([[True, True, True], [False, False, False]]), causal)
    outputs.sum().backward()
    torch.testing.assert_close(outputs[1], attention.output.bias.expand(3, 8))
    assert states.grad is not None
    assert states.grad.isfinite().all()


@pytest.mark.parametrize("task", tasks.TASKS)
def test_a_transformer_is_the_same_with_attention_written_out(task: str) -> None:
    fused = made(transformer, task)
    written_out = transformer(task, attention="written_out").eval()
    written_out.load_state_dict(fused.state_dict())
    ids = padded(sentences(7, 7))
    torch.testing.assert_close(fused(ids), written_out(ids), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("attention", ["fused", "written_out"])
def test_attention_weights_of_each_layer(attention: str) -> None:
    ids = padded(sentences(7, 3))
    for task in ("classification", "language_modeling"):
        layers = made(transformer, task, attention=attention, num_layers=3).attention_weights(ids)
        assert [layer.shape for layer in layers] == [(2, 2, 7, 7)] * 3
        for weights in layers:
            torch.testing.assert_close(weights.sum(dim=3), torch.ones(2, 2, 7))
            if task == "classification":
                assert (weights[1, :, :, 3:] == 0).all()  # nobody looks at padding
            else:
                assert (weights.triu(1) == 0).all()  # nobody looks ahead


def test_attention_dropout_is_that_of_the_weights() -> None:
    model, ids = made(transformer, "classification", dropout=0.0, attention_dropout=0.5), padded(sentences(7))
    assert torch.equal(model(ids), model(ids))
    model.train()
    assert not torch.equal(model(ids), model(ids))


# ----------------------------------------------------------------------------------------------- positions, weights


def test_sinusoids_by_the_formula() -> None:
    waves = sinusoids(50, 6)
    assert waves.shape == (50, 6)
    for t, i in ((0, 0), (3, 0), (7, 1), (49, 2)):
        angle = t / 10000 ** (2 * i / 6)
        assert waves[t, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-5)
        assert waves[t, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-5)
    # how alike two positions are depends on their distance alone
    alike = waves @ waves.T
    torch.testing.assert_close(alike[0, :20], alike[17, 17:37], atol=1e-4, rtol=0)
    assert sinusoids(5, 7).shape == (5, 7)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
@pytest.mark.parametrize("tie_weights", [False, True])
def test_a_language_model_starts_by_guessing(positions: str, tie_weights: bool) -> None:
    torch.manual_seed(0)
    model = Transformer(500, 500, "language_modeling", 32, positions=positions, tie_weights=tie_weights).eval()
    ids = torch.randint(1, 500, (8, 32))
    loss = F.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(500), abs=0.1)


def test_what_blocks_add_does_not_grow_with_their_number() -> None:
    def spread(num_layers: int) -> float:
        torch.manual_seed(0)
        model = transformer("classification", width=64, num_layers=num_layers).eval()
        added: list[Tensor] = []
        for block in model.encoder.blocks:
            block.register_forward_hook(lambda block, inputs, output: added.append(output - inputs[0]))
        model(padded(sentences(8, 8, 8, 8)))
        return torch.stack(added).sum(dim=0).std().item()

    assert spread(24) == pytest.approx(spread(2), rel=0.5)


def test_tied_weights_are_one_matrix() -> None:
    model = Transformer(20, 20, "language_modeling", 8, width=8, tie_weights=True)
    assert model.head.weight is model.encoder.embedding.weight
    loose = Transformer(20, 20, "language_modeling", 8, width=8)
    sizes = [sum(p.numel() for p in m.parameters()) for m in (loose, model)]
    assert sizes[0] - sizes[1] == 20 * 8


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


# ------------------------------------------------------------------------------------------------- arguments, house


@pytest.mark.parametrize(
    ("make", "task", "arguments", "key", "message"),
    [
        (average, "language_modeling", {}, "task", "none for each token"),
        (average, "token_classification", {}, "task", "use model=transformer or model=lstm"),
        (average, "clasification", {}, "task", "did you mean 'classification'"),
        (average, "classification", {"width": 0}, "width", "must be a positive whole number"),
        (average, "classification", {"hidden": 64}, "hidden", "write hidden=[64]"),
        (average, "classification", {"dropout": 1}, "dropout", "must be a probability in [0, 1)"),
        (average, "classification", {"word_dropout": -1}, "word_dropout", "must be a probability in [0, 1)"),
        (rnn, "ranking", {}, "task", "there is no such task"),
        (rnn, "language_modeling", {"bidirectional": True}, "bidirectional", "see the tokens that it is to predict"),
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
        (transformer, "classification", {"tie_weights": True}, "tie_weights", "write tie_weights=false"),
        (transformer, "language_modeling", {"tie_weights": True}, "tie_weights", "not the 20 tokens"),
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
    with pytest.raises(ConfigError, match="max_length=12: the model has no position for a text of 13 tokens"):
        model(torch.ones(1, LONGEST + 1, dtype=torch.int64))


@pytest.mark.parametrize("make", [average, rnn, transformer])
@pytest.mark.parametrize("inputs", [torch.zeros(2, 1, 8, 8), torch.zeros(2, 4), torch.ones(4, dtype=torch.int64)])
def test_what_is_no_text_is_refused(make: Make, inputs: Tensor) -> None:
    with pytest.raises(TypeError, match="reads token ids"):
        make("classification")(inputs)


@pytest.mark.parametrize("task", tasks.TASKS)
@pytest.mark.parametrize("name", ["embedding_average", "rnn", "gru", "lstm", "transformer"])
def test_the_yaml_names_every_argument_and_repeats_the_defaults(name: str, task: str) -> None:
    node = OmegaConf.load(CONF / "model" / f"{name}.yaml")
    data = {"text": {"vocab_size": 30, "max_length": 16}, "num_outputs": 7, "task": task}
    whole = OmegaConf.create({"data": data, "model": node})
    arguments: dict[str, Any] = OmegaConf.to_container(whole.model, resolve=True)  # type: ignore[assignment]
    model = pkgutil.resolve_name(arguments.pop("_target_"))
    if name == "embedding_average" and task in tasks.BY_TOKEN:
        with pytest.raises(ConfigError, match="task="):
            model(**arguments)
        return
    outputs = model(**arguments)(torch.ones(2, 16, dtype=torch.int64))
    assert outputs.shape == ((2, 16, 7) if task in tasks.BY_TOKEN else (2, 7))
    assert list(arguments) == list(inspect.signature(model).parameters)
    if name in ("gru", "rnn"):
        assert arguments.pop("cell") == name
    for key, value in arguments.items():
        if key not in ("vocab_size", "num_outputs", "task", "max_length"):
            default = inspect.signature(model).parameters[key].default
            assert value == (list(default) if isinstance(default, tuple) else default), key


def test_models_and_data_mean_the_same_padding_and_tasks() -> None:
    assert sequences.PADDING == tokenizer.PADDING
    assert sequences.OF_THE_WHOLE + sequences.BY_TOKEN == tasks.TASKS
    assert sequences.BY_TOKEN == tasks.BY_TOKEN
