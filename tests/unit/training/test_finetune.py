"""Which given tensors are taken, and which parameters a pattern freezes."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mlprun.analysis.diff import compare_tensors
from mlprun.errors import ConfigError
from mlprun.training import finetune
from tests.helpers.learners import built
from tests.helpers.runs import through_a_file


def network(width: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 2))


def taken(tensors: dict, model: nn.Module) -> finetune.MatchedWeights:
    return finetune.fit(finetune.Weights(Path("w.pt"), "sha256:0", tensors), model)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_what_has_a_name_and_a_shape_of_the_models_is_taken(prefix):
    there, model = network().state_dict(), network()
    found = taken({f"{prefix}{name}": value for name, value in there.items()}, model)
    finetune.load(found, model)
    assert found.new == []
    assert compare_tensors(dict(model.state_dict()), dict(there)) == []


def test_a_wrapper_of_the_models_own_is_no_prefix():
    model = nn.ModuleDict({"module": network()})
    assert taken(nn.ModuleDict({"module": network()}).state_dict(), model).new == []


def test_what_does_not_fit_stays_as_it_was_and_is_named():
    model, other = network(width=4), network(width=5).state_dict()
    other["3.bias"] = torch.tensor([7.0, 8.0], dtype=torch.float64)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = taken(other, model)
    finetune.load(found, model)
    assert set(found.tensors) == {"1.num_batches_tracked", "3.bias"}
    assert model[3].bias.tolist() == [7.0, 8.0]
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in found.new)
    assert finetune.summary(found, "w.pt") == (
        "2 of 9 tensors from w.pt; new: 0.weight (there 5x3), 0.bias (there 5), 1.weight (there 5), 1.bias (there 5), "
        "1.running_mean (there 5), 1.running_var (there 5), 3.weight (there 2x5)"
    )


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"fc.weight": torch.zeros(2, 3)}, ["no tensor in it", "it has    fc.weight 2x3", "the model 0.weight 4x3"]),
        ({"0.weight": torch.full((4, 3), torch.nan)}, ["0.weight has NaN"]),
        ({"0.weight": torch.full((4, 3), 1e300, dtype=torch.float64)}, ["0.weight has NaN or infinite"]),
        ({"0.weight": torch.zeros(4, 3, dtype=torch.int64)}, ["no tensor in it"]),
    ],
)
def test_tensors_that_cannot_be_a_start_are_refused(tensors, said):
    with pytest.raises(ConfigError) as error:
        taken(tensors, network())
    assert all(text in str(error.value) for text in ["trainer.weights=w.pt", *said])


words = st.lists(st.sampled_from(["layer1", "layer2", "conv", "0", "weight"]), min_size=1, max_size=4)


@given(words, words)
def test_a_name_without_wildcards_means_itself_and_all_below(pattern, name):
    assert finetune.matches(".".join(pattern), ".".join(name)) == (name[: len(pattern)] == pattern)


@given(words, st.text("lay*?12.cw", min_size=1, max_size=6))
def test_a_pattern_means_what_the_shell_means_of_the_name_or_a_parent(name, pattern):
    parents = [".".join(name[:end]) for end in range(1, len(name) + 1)]
    assert finetune.matches(pattern, parents[-1]) == any(fnmatchcase(parent, pattern) for parent in parents)


@given(words)
def test_everything_below_what_matches_is_frozen_too(name):
    assert finetune.matches("*", ".".join(name))
    assert finetune.matches(name[0], ".".join([*name, "bias"]))
    assert not finetune.matches(name[0].upper() + "x", ".".join(name))


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ([], set()),
        (["0"], {"0.weight", "0.bias"}),
        (["*.bias"], {"0.bias", "1.bias", "3.bias"}),
        (["[01].weight", "3.bias"], {"0.weight", "1.weight", "3.bias"}),
    ],
)
def test_patterns_mean_parameters(patterns, expected):
    assert finetune.frozen(patterns, network()) == expected


def test_a_tied_tensor_is_frozen_by_each_of_its_names():
    model = nn.ModuleDict({"encoder": nn.Linear(3, 3), "decoder": nn.Linear(3, 3)})
    model["decoder"].weight = model["encoder"].weight
    assert finetune.frozen(["decoder.weight"], model) == {"encoder.weight", "decoder.weight"}


def test_only_what_is_wholly_frozen_stays_in_evaluation_mode():
    model = nn.ModuleDict({"body": nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, affine=False), nn.Dropout()),
                           "norm": nn.BatchNorm1d(3), "head": nn.Linear(3, 2)})  # fmt: skip

    def still(*patterns: str) -> set[str]:
        return set(finetune.frozen_modules(finetune.frozen(patterns, model), model))

    assert still() == set()
    assert still("norm") == {"norm"}
    assert still("norm.weight", "head.bias") == set()
    assert still("body") == {"body.0", "body.1"}  # its dropout goes on


@pytest.mark.parametrize("optim", ["adamw", "muon", "adagrad"])
@pytest.mark.parametrize("resumed_at", [2, 3, 4])
def test_unfrozen_parameters_train_from_their_step_on_also_after_a_resume(optim, resumed_at):
    words = ["model.batch_norm=true", "trainer.freeze=[hidden.0,hidden.1]", "trainer.unfreeze_at=3 steps", "steps=6"]
    words += [f"optim={optim}", "optim.lr=0.01", "trainer.ema=0.5", "scheduler=cosine", "data.limit=64"]
    whole, batch, _ = built(*words)
    whole.train_mode()
    first, mean = whole.model.get_parameter("hidden.0.weight"), whole.model.get_buffer("hidden.1.running_mean")
    start = first.detach().clone()
    for step in range(6):
        if step == resumed_at:
            again, _, _ = built(*words)
            again.load_state_dict(through_a_file(whole.state_dict()))
            again.unfreeze(step - 1)  # as the training loop does
            again.train_mode()
        whole.train_step(batch, step)
        if step >= resumed_at:
            again.train_step(batch, step)
        is_frozen = step < 3
        assert (torch.equal(first, start), bool(mean.any())) == (is_frozen, not is_frozen)
    assert compare_tensors(whole.state_dict(), again.state_dict()) == []
