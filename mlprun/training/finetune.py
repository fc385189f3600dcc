"""Start from tensors that are there, and leave some of them untrained (`trainer.weights`, `trainer.freeze`)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlprun.errors import ConfigError, close_matches, did_you_mean
from mlprun.formatting import first_few
from mlprun.runs.checkpoint import best_checkpoint, read_torch_file

# What DistributedDataParallel and torch.compile put before every name.
_WRAPPERS = ("module.", "_orig_mod.")
_LISTED = 8  # names in a message


# ------------------------------------------------------------------------------------------------- weights


@dataclass(frozen=True)
class Weights:
    """What a file holds.

    Attributes:
        path: of the file.
        digest: `sha256:…` of its content.
        tensors: on the CPU, by name.
        tokenizer: what the run that wrote it made token ids with, as plain values; None if it read no text.
    """

    path: Path
    digest: str
    tensors: dict[str, Tensor]
    tokenizer: dict[str, Any] | None = None


@dataclass(frozen=True)
class MatchedWeights:
    """What a model takes of a file.

    Attributes:
        tensors: by the model's own names, in its dtypes.
        new: names of the model's tensors that the file does not have in that shape.
        other_shapes: the file's shapes of those that it has in another.
    """

    tensors: dict[str, Tensor]
    new: list[str]
    other_shapes: dict[str, tuple[int, ...]]


def read(typed: str) -> Weights:
    """The tensors of a run (its best.pt), a checkpoint of mlprun, or a file of a state dict; no code in it is run.

    Args:
        typed: path of a run directory or a file, as `trainer.weights` has it; relative to the current folder.

    Raises:
        ConfigError: there is no such file, it is damaged, or it holds no tensors.
    """

    def refused(problem: str, remedy: str = "") -> ConfigError:
        return ConfigError("trainer.weights", typed, problem, remedy)

    path = Path(typed).expanduser().absolute()
    if path.is_dir() and not best_checkpoint(path).is_file():
        raise refused(
            "is a folder without checkpoints/best.pt", "name the directory of a run that has been evaluated, or a file"
        )
    path = best_checkpoint(path)
    if not path.is_file():
        raise refused("there is no such file", "a relative path starts in the folder where you stand")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            held = read_torch_file(file)
    except Exception as error:  # a damaged file makes the unpickler raise almost anything
        if "weights_only" in str(error):  # torch's own words go on for lines about how to run the code
            raise refused("holds more than tensors and plain values, and is not read", _PLAIN) from error
        odd = not str(error) or isinstance(error, LookupError | AttributeError | TypeError)  # of the unpickler's inside
        reason = "no file that torch.save wrote, or a damaged one" if odd else str(error).splitlines()[0]
        raise refused(f"cannot be read: {reason}", _PLAIN) from error
    tensors = _tensors(held)
    if not tensors:
        raise refused("holds no tensors by name", _PLAIN)
    tokenizer = held.get("tokenizer")
    return Weights(path, f"sha256:{digest}", tensors, tokenizer if isinstance(tokenizer, dict) else None)


_PLAIN = "it must be a checkpoint of mlprun, or what torch.save(model.state_dict(), …) wrote"


def _tensors(held: Any) -> dict[str, Tensor]:
    """The tensors of a state dict, or of one that lies under `model` or `state_dict`, as in most checkpoints."""
    if not isinstance(held, dict):
        return {}
    for inner in ("model", "state_dict"):
        if isinstance(held.get(inner), dict):
            held = held[inner]
            break
    return {
        name: value
        for name, value in held.items()
        if isinstance(name, str)
        and isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    }


def fit(weights: Weights, model: nn.Module) -> MatchedWeights:
    """What of the file has a name and a shape of the model's.

    `module.` and `_orig_mod.`, which wrappers put before every name, are left out of account.

    Args:
        weights: of a file.
        model: on any device, also `meta`; not changed.

    Raises:
        ConfigError: nothing fits, or a tensor that does is not finite.
    """
    own = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    found = weights.tensors
    while prefix := next((p for p in _WRAPPERS if all(name.startswith(p) for name in found)), ""):
        if all(name.startswith(prefix) for name in own):
            break
        found = {name.removeprefix(prefix): value for name, value in found.items()}
    taken = {}
    for name, value in own.items():
        there = found.get(name)
        if there is None or there.shape != value.shape or _kind(there) != _kind(value):
            continue
        taken[name] = there.to(value.dtype)
        if not torch.isfinite(taken[name]).all():
            raise ConfigError(
                "trainer.weights",
                weights.path,
                f"{name} has NaN or infinite values",
                "start from an earlier checkpoint",
            )
    new = [name for name in own if name not in taken]
    if not taken:
        raise ConfigError(
            "trainer.weights",
            weights.path,
            "no tensor in it has a name and shape of the model's",
            f"it has    {_described(found)}\n  the model {_described(own)}",
        )
    other = {name: tuple(found[name].shape) for name in new if name in found and found[name].shape != own[name].shape}
    return MatchedWeights(taken, new, other)


def _kind(tensor: Tensor) -> tuple[bool, bool]:
    return tensor.is_floating_point(), tensor.is_complex()


def _described(tensors: dict[str, Tensor]) -> str:
    """`conv1.weight 64x3x7x7, bn1.weight 64, bn1.bias 64 and 58 more`."""
    return first_few([f"{name} {'x'.join(map(str, value.shape)) or 'scalar'}" for name, value in tensors.items()], 3)


def load(taken: MatchedWeights, model: nn.Module) -> None:
    """Copy what was taken into the model; the rest of it stays as it was."""
    model.load_state_dict(taken.tensors, strict=False)


def summary(taken: MatchedWeights, typed: str) -> str:
    """`60 of 62 tensors from PATH; new: fc.weight (there 1000x512), fc.bias (there 1000)`."""
    total = len(taken.tensors) + len(taken.new)
    there = {name: f" (there {'x'.join(map(str, shape))})" for name, shape in taken.other_shapes.items()}
    new = f"; new: {first_few([name + there.get(name, '') for name in taken.new], _LISTED)}" if taken.new else ""
    return f"{len(taken.tensors)} of {total} tensors from {typed}{new}"


# -------------------------------------------------------------------------------------------------- frozen


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern means the parameter `name`: by its name, or by that of a module that holds it.

    Patterns are those of the shell (`fnmatch`), case matters, and `*` also takes dots: `conv1` and `layer*` mean all
    parameters below modules of such a name, `*.bias` all biases.
    """
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[:end]), pattern) for end in range(1, len(parts) + 1))


def frozen(patterns: Sequence[str], model: nn.Module) -> set[str]:
    """Names of the parameters that the patterns mean; a tensor with several names is there with all of them.

    Raises:
        ConfigError: a pattern means no parameter, or together they leave none to train.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    found: set[str] = set()
    for pattern in patterns:
        meant = {name for name in parameters if matches(pattern, name)}
        if not meant:
            parents = [".".join(name.split(".")[:end]) for name in parameters for end in range(1, name.count(".") + 1)]
            known = list(dict.fromkeys([*parents, *parameters]))
            close = close_matches(pattern, known)
            words = did_you_mean(close) if close else f"the model has {first_few(known, _LISTED)}"
            raise ConfigError("trainer.freeze", pattern, "there is no parameter of that name", words)
        found |= meant
    shared = {id(parameters[name]) for name in found}
    found |= {name for name, parameter in parameters.items() if id(parameter) in shared}
    if patterns and not any(p.requires_grad for name, p in parameters.items() if name not in found):
        raise ConfigError("trainer.freeze", list(patterns), "leaves nothing to train", "freeze fewer layers")
    return found


def frozen_modules(names: set[str], model: nn.Module) -> dict[str, nn.Module]:
    """The modules, by name, that frozen parameters leave nothing to learn: those whose own parameters are all frozen.

    Where all parameters of a module are frozen, that goes for what it holds too, if it has a state (batch norm without
    a scale). While training these stay in evaluation mode, so that running statistics do not move. Dropout, which has
    no state, does not: it still regularises what is trained above it.

    Args:
        names: of the frozen parameters, as `frozen` gives them.
        model: that has them.
    """
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        own = [f"{name}.{p}".lstrip(".") for p, _ in module.named_parameters(recurse=False)]
        if own:
            if all(parameter in names for parameter in own):
                found[name] = module
        elif any(True for _ in module.buffers(recurse=False)) and _inside_frozen(name, names, model):
            found[name] = module
    return found


def _inside_frozen(name: str, names: set[str], model: nn.Module) -> bool:
    """Whether a module lies in one that has parameters, all of them frozen."""
    all_names = [parameter for parameter, _ in model.named_parameters(remove_duplicate=False)]
    parts = name.split(".")
    for end in range(1, len(parts)):
        parent = ".".join(parts[:end]) + "."
        below = [parameter for parameter in all_names if parameter.startswith(parent)]
        if below and all(parameter in names for parameter in below):
            return True
    return False
