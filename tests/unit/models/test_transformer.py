"""Attention written out, and torch's, equal `nn.MultiheadAttention`; positions and first guesses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mlprun.models.transformer import MultiHeadAttention, Transformer, sinusoids
from mlprun.tasks import names as task_names
from tests.helpers.text_models import made, padded, sentences, transformer

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


@pytest.mark.parametrize("task", task_names.TASKS)
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
