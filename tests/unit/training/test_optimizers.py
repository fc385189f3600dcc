from __future__ import annotations

import importlib
import io
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from mlprun.training.muon import MuonWithAdamW
from tests.helpers.files import REPOSITORY

YAMLS = sorted(file for file in (REPOSITORY / "conf" / "optim").glob("*.yaml") if file.stem != "custom")


def problem() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, 5, generator=generator)
    targets = (inputs @ torch.randn(5, 3, generator=generator)).argmax(dim=1)
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 3)), inputs, targets


def train(model: nn.Module, optimizer: torch.optim.Optimizer, num_steps: int) -> list[float]:
    _, inputs, targets = problem()

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        return loss

    return [optimizer.step(closure).item() for _ in range(num_steps)]


@pytest.mark.parametrize("path", YAMLS, ids=lambda p: p.stem)
def test_yaml_learns(path: Path) -> None:
    node: dict[str, Any] = yaml.safe_load(path.read_text())
    module, _, name = node.pop("_target_").rpartition(".")
    model, _, _ = problem()
    optimizer = getattr(importlib.import_module(module), name)(model.parameters(), **node)
    assert optimizer.param_groups[0]["lr"] == node["lr"]
    losses = train(model, optimizer, 60)
    assert losses[-1] < 0.985 * losses[0]


@pytest.mark.parametrize("path", YAMLS, ids=lambda p: p.stem)
def test_defaults_are_pytorchs_unless_the_yaml_says_so(path: Path) -> None:
    node: dict[str, Any] = yaml.safe_load(path.read_text())
    module, _, name = node.pop("_target_").rpartition(".")
    cls = getattr(importlib.import_module(module), name)
    weight = nn.Parameter(torch.zeros(2, 2))
    ours, theirs = (
        cls([weight], **node).param_groups[0],
        cls([weight], lr=cls([weight]).param_groups[0]["lr"]).param_groups[0],
    )
    lines = {line.partition(":")[0]: line for line in path.read_text().splitlines()}
    for key in node.keys() & theirs.keys():
        same = (
            list(ours[key]) == list(theirs[key]) if isinstance(ours[key], (list, tuple)) else ours[key] == theirs[key]
        )
        said = "PyTorch:" in lines[key] or key in ("fused", "nesterov")  # what the file is for
        assert same or said, lines[key]


def test_muon_takes_the_matrices() -> None:
    model, _, _ = problem()
    optimizer = MuonWithAdamW(model.parameters())
    muon, adamw = optimizer.param_groups
    assert all(p.ndim == 2 for p in muon["params"])
    assert all(p.ndim == 1 for p in adamw["params"])
    assert "ns_steps" in muon
    assert "betas" in adamw
    assert len(muon["params"]) + len(adamw["params"]) == len(list(model.parameters()))


def test_muon_is_the_two_of_torch() -> None:
    model, _, _ = problem()
    train(model, MuonWithAdamW(model.parameters(), lr=0.01, adamw_lr=0.003, weight_decay=0.2), 5)
    apart, inputs, targets = problem()
    matrices = [p for p in apart.parameters() if p.ndim == 2]
    others = [p for p in apart.parameters() if p.ndim != 2]
    pair = (
        torch.optim.Muon(matrices, lr=0.01, weight_decay=0.2, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=0.003, weight_decay=0.2, fused=True),
    )
    for _ in range(5):
        apart.zero_grad()
        nn.functional.cross_entropy(apart(inputs), targets).backward()
        for optimizer in pair:
            optimizer.step()
    for one, other in zip(model.parameters(), apart.parameters(), strict=True):
        assert torch.equal(one, other)


def test_muon_keeps_a_groups_options() -> None:
    model, _, _ = problem()
    matrices = [p for p in model.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if p.ndim != 2]
    mixed = [
        {"params": [matrices[0], others[0]]},
        {"params": [matrices[1], *others[1:]], "weight_decay": 0.0},
    ]
    optimizer = MuonWithAdamW(mixed, weight_decay=0.3)
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.3, 0.0, 0.3, 0.0]


@pytest.mark.parametrize("shape", [(3,), (3, 3)])
def test_muon_with_parameters_of_one_kind(shape: tuple[int, ...]) -> None:
    weight = nn.Parameter(torch.ones(shape))
    optimizer = MuonWithAdamW([weight], lr=0.1)
    weight.square().sum().backward()
    optimizer.step()
    assert weight.square().sum() < weight.numel()
    assert optimizer.step() is None
    optimizer.zero_grad()
    assert weight.grad is None


def test_muon_without_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="empty parameter list"):
        MuonWithAdamW([])


def test_muon_resumes_with_the_same_bits() -> None:
    whole, _, _ = problem()
    losses = train(whole, MuonWithAdamW(whole.parameters(), lr=0.01), 12)

    first, _, _ = problem()
    optimizer = MuonWithAdamW(first.parameters(), lr=0.01)
    before = train(first, optimizer, 5)
    file = io.BytesIO()
    torch.save([first.state_dict(), optimizer.state_dict()], file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)

    second, _, _ = problem()
    second.load_state_dict(weights)
    optimizer = MuonWithAdamW(second.parameters(), lr=0.7)  # the rate comes from the state
    optimizer.load_state_dict(state)
    assert before + train(second, optimizer, 7) == losses
    for one, other in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_muon_follows_the_rate_of_its_groups_also_after_loading() -> None:
    model, _, _ = problem()
    optimizer = MuonWithAdamW(model.parameters(), weight_decay=0.0)
    train(model, optimizer, 1)
    optimizer.load_state_dict(optimizer.state_dict())
    for moving in range(2):
        for index, group in enumerate(optimizer.param_groups):
            group["lr"] = 0.1 if index == moving else 0.0
        before = [[p.clone() for p in group["params"]] for group in optimizer.param_groups]
        train(model, optimizer, 1)
        for index, group in enumerate(optimizer.param_groups):
            same = all(torch.equal(a, b) for a, b in zip(before[index], group["params"], strict=True))
            assert same == (index != moving)
