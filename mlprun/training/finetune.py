"""Start from existing weights, and freeze some of them (`trainer.weights`, `trainer.freeze`)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlprun.errors import ConfigError, close_matches, did_you_mean
from mlprun.files import expand_home
from mlprun.formatting import first_few
from mlprun.runs.checkpoint import best_checkpoint, read_torch_file

# The prefixes that DistributedDataParallel and torch.compile add to every name.
_WRAPPERS = ("module.", "_orig_mod.")
_LISTED = 8  # names in a message


# ------------------------------------------------------------------------------------------------- weights


@dataclass(frozen=True)
class Weights:
    """The content of a weights file."""

    path: Path
    digest: str  # `sha256:…` of the file
    tensors: dict[str, Tensor]  # by name, on the CPU
    stored: dict[str, Any] = field(
        default_factory=dict
    )  # the other values that were asked for, as far as the file has them


@dataclass(frozen=True)
class MatchedWeights:
    """The weights of a file that fit a model."""

    source: Weights
    tensors: dict[str, Tensor]  # by the model's names, in its dtypes
    new: list[str]  # the model's tensors that the file lacks in that shape
    other_shapes: dict[str, tuple[int, ...]]  # of these, the shapes of those that the file has in another shape


def read(typed: str, others: Iterable[str] = ()) -> Weights:
    """The tensors of a run (its best.pt), a checkpoint of mlprun, or a file of a state dict; runs no code from it.

    Args:
        typed: path of a run directory or a file, as in `trainer.weights`; relative to the current folder.
        others: keys of the file to return as well.

    Raises:
        ConfigError: the file does not exist, is damaged, or holds no tensors.
    """

    def refused(problem: str, remedy: str) -> ConfigError:
        return ConfigError("trainer.weights", typed, problem, remedy)

    path = expand_home(typed).absolute()
    if path.is_dir() and not best_checkpoint(path).is_file():
        remedy = "name the directory of a run that has been evaluated, or a file"
        raise refused("is a folder without checkpoints/best.pt", remedy)
    path = best_checkpoint(path)
    if not path.is_file():
        raise refused("there is no such file", "a relative path starts in the current folder")
    plain = "it must be a checkpoint of mlprun, or a file written by torch.save(model.state_dict(), …)"
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            content = read_torch_file(file)
    except Exception as error:  # a damaged file makes the unpickler raise almost anything
        if "weights_only" in str(error):  # torch's message explains at length how to run the code
            raise refused("holds more than tensors and plain values, and is not read", plain) from error
        internal = not str(error) or isinstance(error, LookupError | AttributeError | TypeError)  # of the unpickler
        reason = "no file that torch.save wrote, or a damaged one" if internal else str(error).splitlines()[0]
        raise refused(f"cannot be read: {reason}", plain) from error
    tensors = _tensors(content)
    if not tensors:
        raise refused("holds no tensors by name", plain)
    return Weights(path, f"sha256:{digest}", tensors, {key: content[key] for key in others if key in content})


def _tensors(content: Any) -> dict[str, Tensor]:
    """The tensors of a state dict, or of one under `model` or `state_dict`, as in most checkpoints."""
    if not isinstance(content, dict):
        return {}
    inner = (content.get(key) for key in ("model", "state_dict"))
    state = next((value for value in inner if isinstance(value, dict)), content)
    return {
        name: value
        for name, value in state.items()
        if isinstance(name, str)
        and isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    }


def fit(weights: Weights, model: nn.Module) -> MatchedWeights:
    """The tensors of the file that have a name and a shape of the model's; wrappers' prefixes are ignored.

    Args:
        model: on any device, also `meta`; not changed.

    Raises:
        ConfigError: nothing fits, or a tensor that does is not finite.
    """

    def refused(problem: str, remedy: str) -> ConfigError:
        return ConfigError("trainer.weights", weights.path, problem, remedy)

    wanted = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    stored = weights.tensors
    while prefix := next((p for p in _WRAPPERS if all(name.startswith(p) for name in stored)), ""):
        if all(name.startswith(prefix) for name in wanted):
            break
        stored = {name.removeprefix(prefix): value for name, value in stored.items()}
    tensors = {}
    for name, value in wanted.items():
        source = stored.get(name)
        if source is None or source.shape != value.shape or _kind(source) != _kind(value):
            continue
        tensors[name] = source.to(value.dtype)
        if not torch.isfinite(tensors[name]).all():
            raise refused(f"{name} has NaN or infinite values", "start from an earlier checkpoint")
    if not tensors:
        remedy = f"it has    {_described(stored)}\n  the model {_described(wanted)}"
        raise refused("no tensor in it has a name and shape of the model's", remedy)
    new = [name for name in wanted if name not in tensors]
    other = {n: tuple(stored[n].shape) for n in new if n in stored and stored[n].shape != wanted[n].shape}
    return MatchedWeights(weights, tensors, new, other)


def _kind(tensor: Tensor) -> tuple[bool, bool]:
    return tensor.is_floating_point(), tensor.is_complex()


def _described(tensors: dict[str, Tensor]) -> str:
    """`conv1.weight 64x3x7x7, bn1.weight 64, bn1.bias 64 and 58 more`."""
    return first_few([f"{name} {'x'.join(map(str, value.shape)) or 'scalar'}" for name, value in tensors.items()], 3)


def load(matched: MatchedWeights, model: nn.Module) -> None:
    """Copy the matched tensors into the model; the rest of it stays as it is."""
    model.load_state_dict(matched.tensors, strict=False)


def summary(matched: MatchedWeights, typed: str) -> str:
    """`60 of 62 tensors from PATH; new: fc.weight (there 1000x512), fc.bias (there 1000)`."""
    total = len(matched.tensors) + len(matched.new)
    shapes = {name: f" (there {'x'.join(map(str, shape))})" for name, shape in matched.other_shapes.items()}
    new = f"; new: {first_few([n + shapes.get(n, '') for n in matched.new], _LISTED)}" if matched.new else ""
    return f"{len(matched.tensors)} of {total} tensors from {typed}{new}"


# -------------------------------------------------------------------------------------------------- frozen


def _prefixes(name: str) -> list[str]:
    """`a.b.c` -> `a`, `a.b`, `a.b.c`."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern matches the parameter `name`, or a module that contains it.

    Patterns are those of the shell (`fnmatch`), case-sensitive, and `*` also matches dots: `conv1` and `layer*` match
    all parameters below modules of such a name, `*.bias` all biases.
    """
    return any(fnmatchcase(prefix, pattern) for prefix in _prefixes(name))


def matched(patterns: Sequence[str], model: nn.Module, key: str) -> set[str]:
    """Names of the parameters that the patterns match; of a shared parameter, all its names.

    Raises:
        ConfigError: a pattern matches no parameter, for the config key `key`.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    names: set[str] = set()
    for pattern in patterns:
        found = {name for name in parameters if matches(pattern, name)}
        if not found:
            parents = [prefix for name in parameters for prefix in _prefixes(name)[:-1]]
            known = list(dict.fromkeys([*parents, *parameters]))
            close = close_matches(pattern, known)
            remedy = did_you_mean(close) if close else f"the model has {first_few(known, _LISTED)}"
            raise ConfigError(key, pattern, "there is no parameter of that name", remedy)
        names |= found
    shared = {id(parameters[name]) for name in names}
    return {name for name, parameter in parameters.items() if id(parameter) in shared}


def frozen(patterns: Sequence[str], model: nn.Module) -> set[str]:
    """Names of the parameters that `trainer.freeze` matches.

    Raises:
        ConfigError: a pattern matches no parameter, or together they leave none to train.
    """
    names = matched(patterns, model, "trainer.freeze")
    if patterns and not any(p.requires_grad for name, p in model.named_parameters() if name not in names):
        raise ConfigError("trainer.freeze", list(patterns), "leaves nothing to train", "freeze fewer layers")
    return names


def frozen_modules(names: set[str], model: nn.Module) -> dict[str, nn.Module]:
    """The modules, by name, whose own parameters are all frozen; they stay in evaluation mode during training.

    If all parameters of a module are frozen, this includes modules inside it that have buffers only (batch norm
    without a scale), so that running statistics do not move. Dropout stays active: it still regularises the trained
    layers above it.

    Args:
        names: of the frozen parameters, as returned by `frozen`.
    """
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}

    def all_frozen(module_name: str) -> bool:
        below = {name for name in parameters if name.startswith(f"{module_name}.")}
        return bool(below) and below <= names

    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        own = {f"{name}.{p}".lstrip(".") for p, _ in module.named_parameters(recurse=False)}
        if own:
            is_frozen = own <= names
        else:
            is_frozen = any(True for _ in module.buffers(recurse=False)) and any(map(all_frozen, _prefixes(name)[:-1]))
        if is_frozen:
            found[name] = module
    return found
