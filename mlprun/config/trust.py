"""Which `_target_`s of a stored config may be called unasked: to open someone else's run must not run their code.

A `_target_` names anything that Python can import, and to import is to run. So a name is judged as it is written
before anything of it is imported, and what it leads to before it is called.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

from mlprun.errors import RunError
from mlprun.formatting import truncate
from mlprun.version_one import TARGETS

# Where public names are looked up -> where what they name must be defined. A list of what is known to be harmless,
# for libraries grow and the rest holds much that runs what it is given: torch.hub, torch.jit and torch.package load
# code, torch.fx.GraphModule and torch.distributed.nn.RemoteModule write and exec it, torch.ao and torch.testing are
# not for training, and torch.utils.data.datapipes open any file and apply any function. scikit-learn has none of
# our kinds. A target inside another is held to the same rules, so the callables that some classes take (a loader,
# a norm_layer, an lr_lambda) are harmless too.
_LIBRARIES = {
    "torch.nn": "torch.nn.modules",  # not torch.nn.parallel, and not what torch.nn.quantized takes from torch.ao
    "torch.optim": "torch.optim",
    "torch.utils.data": "torch.utils.data.dataset",
    "torchmetrics.classification": "torchmetrics.classification",  # others load models from the network
    "torchmetrics.regression": "torchmetrics.regression",
    "torchvision.datasets": "torchvision.datasets",
    "torchvision.models": "torchvision.models",
    "torchvision.ops": "torchvision.ops",
    "torchvision.transforms": "torchvision.transforms",
    "mlprun.course": "mlprun.course",
    "mlprun.data": "mlprun.data",
    "mlprun.models": "mlprun.models",
    "mlprun.tasks": "mlprun.tasks",
    "mlprun.training": "mlprun.training",
    "mlprun.writers": "mlprun.writers",
}
_TOPS = {library.partition(".")[0] for library in _LIBRARIES}
# The first generates code from the names it is given, and the second is torch.ao again.
_NOT_FOR_TRAINING = ("torchvision.models.feature_extraction", "torchvision.models.quantization")
# Those that read pictures, tables and plain numbers: a stored `root` may be any folder, with any files in it.
# Not CIFAR10, CIFAR100 and LSUN, which unpickle (`data=cifar10` reads bytes), nor FGVCAircraft and Kinetics, which
# unpack archives without a checksum, nor DatasetFolder, which needs a loader, nor what is not for mlprun (videos).
_DATASETS = {
    "Caltech101", "Caltech256", "CelebA", "Country211", "DTD", "EMNIST", "EuroSAT", "FakeData", "FashionMNIST",
    "Flowers102", "Food101", "GTSRB", "ImageFolder", "Imagenette", "KMNIST", "LFWPeople", "MNIST", "Omniglot",
    "OxfordIIITPet", "Places365", "QMNIST", "RenderedSST2", "SEMEION", "STL10", "SUN397", "SVHN", "USPS",
}  # fmt: skip
_BUILT_BY = {
    "mlprun.course": "Source",
    "mlprun.data": "Source",
    "mlprun.models": "nn.Module",
    "mlprun.training": "float",
}  # what our functions that build things return
_DEEPEST = 50  # far deeper than any config of ours, and far from the end of Python's stack


def check_targets(config: dict[str, Any], folder: Path, run: Path | None = None) -> None:
    """Hold every `_target_` in `config` against what may be called without asking the user.

    That is: modules, losses, optimizers, schedulers and data sets (with their transforms) that torch, torchvision
    or mlprun itself define, their functions that build such, and classes and functions defined in a module or
    package that lies directly in `folder`. Modules of a target are imported only if all targets pass by name.

    Args:
        config: as stored: plain dicts, lists and values, before OmegaConf has seen them.
        folder: where the user stands; it must be importable from (on `sys.path`) for its modules to count.
        run: what is opened, a run directory or a checkpoint: code that came with it is not the user's own, also
            when the user stands in it or above it.

    Raises:
        RunError: a target is not allowed, cannot be found, or the config is not plain; the first such.
    """
    here, opened = folder.resolve(), run.resolve() if run else None
    targets = [(key, TARGETS.get(target, target)) for key, target in _targets(config, "", 0)]
    for key, target in targets:
        if problem := _name_problem(target, here, opened):
            raise _refused(key, target, problem)
    for key, target in targets:
        try:
            problem = _object_problem(target, here, opened)
        except ImportError as error:
            raise _refused(key, target, f"cannot be imported: {error}") from error
        except (Exception, SystemExit) as error:  # whatever the user's module does when it is imported
            raise _refused(key, target, f"cannot be imported: {type(error).__name__}: {error}") from error
        if problem:
            raise _refused(key, target, problem)


def _refused(key: str, value: object, problem: str) -> RunError:
    def shown(text: object) -> str:  # in ASCII: neither control characters nor letters that look like others
        return truncate(ascii(str(text))[1:-1], 120, "...")

    top = str(value).partition(".")[0]
    remedy = "add --trust if you trust whoever made this run"
    if top not in _TOPS and top not in sys.stdlib_module_names:
        remedy = f"stand in the folder of the run's own classes, or {remedy}"
    return RunError(f"{shown(key)}={shown(value)}: {problem.splitlines()[0]}\n  {remedy}")


def _targets(node: object, key: str, depth: int) -> Iterator[tuple[str, str]]:
    """The dotted keys and names of all targets, in the order of the config; raises RunError if it is not plain."""
    if depth > _DEEPEST:
        raise _refused(key, "", f"more than {_DEEPEST} levels deep")
    if isinstance(node, dict | list | tuple):
        pairs = node.items() if isinstance(node, dict) else enumerate(node)
        for name, value in pairs:
            below = f"{key}.{name}" if key else str(name)
            if key == "logging.pictures" and type(value) is str and "." in value:  # called as a target is
                yield below, value
            elif name != "_target_":
                yield from _targets(value, below, depth + 1)
            elif type(value) is str:
                yield below, value
            else:
                raise _refused(below, type(value).__name__, "is not a name")
    elif isinstance(node, str):
        if "${" in node:  # `${oc.create:{_target_:os.system}}` would become a target after this check
            raise _refused(key, node, "a stored value is final, and ${} would be filled in anew")
    elif not (node is None or isinstance(node, bool | int | float)):
        raise _refused(key, type(node).__name__, "is not a plain value")


# ------------------------------------------------------------------------------------------ before importing


def _name_problem(target: str, folder: Path, run: Path | None) -> str:
    """Why the name alone is reason enough to refuse; empty if it is not."""
    module, _, name = target.rpartition(".")
    parts = target.split(".")
    if not module or not all(part.isidentifier() for part in parts):
        return "is not a dotted name such as torch.nn.Linear"
    if any(part.startswith("_") for part in parts):
        return "has a private part"
    if parts[0] not in _TOPS:
        return _not_own(module, folder, run)
    library = _library(target)
    if not library:
        known = [library for library in _LIBRARIES if _within(library, parts[0])]
        return f"of {parts[0]} only what is in {', '.join(known)} is called unasked"
    if _within(module, *_NOT_FOR_TRAINING):
        return f"{module} is not for training"
    if library == "torchvision.datasets" and name not in _DATASETS:
        return "is not among torchvision's data sets that are known to read nothing but data"
    return ""


def _not_own(module: str, folder: Path, run: Path | None) -> str:
    """Why a module is not one that lies in the user's folder; empty if it does."""
    top, *_ = parts = module.split(".")
    if top in sys.stdlib_module_names:
        return f"{top} is a part of Python"
    path, files = folder, list[Path]()
    for name in parts:
        if files and files[-1].parent != path:
            return f"{files[-1]} is no package"
        path /= name
        files.append(_source(path))
        if not os.path.isfile(files[-1]):
            if os.path.isdir(path):  # else every folder would be a package: Downloads.their_run.evil
                return f"{path} has no __init__.py, so nothing in it is imported unasked"
            return f"is neither in torch, torchvision or mlprun nor in a module in {folder}"
    try:  # of a name without dots nothing is imported
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    origin = spec.origin if spec and spec.origin else "nowhere"
    if os.path.realpath(origin) != os.path.realpath(files[0]):
        return f"Python would take {top} from {origin}, not from {folder}"
    if {"site-packages", "dist-packages"} & {*files[0].parts, *files[0].resolve().parts}:
        return f"{top} is an installed package"
    package = files[0].parent.resolve()
    if run and (run in files[-1].resolve().parents or (package != folder and package in run.parents)):
        return f"{files[-1]} came with the run"
    return ""


def _source(path: Path) -> Path:
    """The file of the module that has this path without its ending; packages go before files, as in an import."""
    package = path / "__init__.py"
    return package if os.path.isfile(package) else path.with_name(f"{path.name}.py")


def _within(name: str, *packages: str) -> bool:
    return f"{name}.".startswith(tuple(f"{package}." for package in packages))


def _library(target: str) -> str:
    """The key of `_LIBRARIES` that a target belongs to, or the empty string."""
    return next((library for library in _LIBRARIES if target.startswith(f"{library}.")), "")


# ------------------------------------------------------------------------------------------- after importing


def _object_problem(target: str, folder: Path, run: Path | None) -> str:
    """Why what the name leads to may not be called; empty if it may. Imports the target's modules."""
    found = _resolve(target)
    defined = getattr(found, "__module__", None)
    if not callable(found) or not isinstance(defined, str):
        return "is not a class or function"
    library = _library(target)
    if not library:
        return f"is really defined in {defined}: {why}" if (why := _not_own(defined, folder, run)) else ""
    if not _within(defined, _LIBRARIES[library]) or _within(defined, *_NOT_FOR_TRAINING):
        return f"is really defined in {defined}"
    return "" if _is_known(found, library) else "is no module, loss, optimizer, scheduler or data set"


def _resolve(target: str) -> object:
    """What `target` names, a part of a module, found as Hydra finds it: by the modules' attributes.

    Raises:
        ImportError: there is no such thing, or the way to it is not by the modules' own names: their other
            attributes lead anywhere (`torch.nn.modules.module.functools.partial`).
    """
    path, _, name = target.rpartition(".")
    module = found = importlib.import_module(path)
    while "." in path:
        path, _, part = path.rpartition(".")
        if getattr(sys.modules[path], part, found) is not found:  # torch.optim deletes its `adam`
            raise ImportError(f"{path}.{part} is not a module of that name")
        found = sys.modules[path]
    try:
        return getattr(module, name)
    except AttributeError:
        raise ImportError(f"{module.__name__} has no '{name}'") from None


def _is_known(found: Any, library: str) -> bool:
    """Whether it is a class of the kinds that one trains with, or a function that is there to build one."""
    if not isinstance(found, type):
        if library == "torchvision.models":  # it keeps a list of them; their weights come from PyTorch's own site
            from torchvision import models

            return found in map(models.get_model_builder, models.list_models())
        return isinstance(found, FunctionType) and found.__annotations__.get("return") == _BUILT_BY.get(library, "")

    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler
    from torch.utils.data import Dataset

    from mlprun.training.schedule import FactorSchedule
    from mlprun.writers.base import Writer

    # Transforms change examples, and several derive from nothing.
    kinds = (nn.Module, Optimizer, LRScheduler, FactorSchedule, Dataset, Writer)
    return library in ("torchvision.transforms", "mlprun.tasks") or issubclass(found, kinds)
