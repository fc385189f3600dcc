"""Which `_target_`s of a stored config may be called: opening someone else's run must not execute their code.

What this user has signed (`runs/signature.py`) may name anything that is installed. For the rest:

A `_target_` can name anything importable, and an import executes code. So a name is checked before anything is
imported, and the object it leads to before it is called.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from types import FunctionType
from typing import Any

from mlprun.config.resolvers import data_root
from mlprun.errors import RunError
from mlprun.files import expand_home
from mlprun.formatting import truncate
from mlprun.runs.provenance import came_together
from mlprun.runs.signature import key_file
from mlprun.version_one import TARGETS

# Packages of public names -> the package that must define the named object. Only these are known to be harmless:
# torch.hub, torch.jit and torch.package load code, torch.fx.GraphModule and torch.distributed.nn.RemoteModule write
# and exec it, torch.ao and torch.testing are not for training, and torch.utils.data.datapipes open any file and apply
# any function. Nested targets are checked too, so callable arguments (a loader, a norm_layer, an lr_lambda) are safe.
_LIBRARIES = {
    "torch.nn": "torch.nn.modules",  # without torch.nn.parallel, and torch.ao in torch.nn.quantized
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
# The first generates code from names, the second is torch.ao.
_NOT_FOR_TRAINING = ("torchvision.models.feature_extraction", "torchvision.models.quantization")
# They read images, tables and plain numbers: a stored `root` may be any folder, with any files in it. Excluded are
# CIFAR10, CIFAR100 and LSUN, which unpickle, FGVCAircraft and Kinetics, which unpack archives without a checksum, and
# DatasetFolder, which needs a loader.
_DATASETS = {
    "Caltech101", "Caltech256", "CelebA", "Country211", "DTD", "EMNIST", "EuroSAT", "FakeData", "FashionMNIST",
    "Flowers102", "Food101", "GTSRB", "ImageFolder", "Imagenette", "KMNIST", "LFWPeople", "MNIST", "Omniglot",
    "OxfordIIITPet", "Places365", "QMNIST", "RenderedSST2", "SEMEION", "STL10", "SUN397", "SVHN", "USPS",
}  # fmt: skip
# The return annotation of functions that may be called.
_BUILT_BY = {
    "mlprun.course": "Source",
    "mlprun.data": "Source",
    "mlprun.models": "nn.Module",
    "mlprun.training": "float",
}
_MAX_DEPTH = 50  # deeper than any config, and far from Python's recursion limit


def check_targets(
    config: dict[str, Any], folder: Path, run: Path | None = None, signed: dict[str, Any] | None = None
) -> None:
    """Check that every `_target_` in `config` may be called without the user's consent.

    If the user has signed it, all are allowed but those in modules that came with the run. Else allowed are modules,
    losses, optimizers, schedulers and data sets (with their transforms) defined by torch, torchvision or mlprun that
    download nothing, functions of these that build such, and classes and functions of a module or package directly in
    `folder`. Modules are imported only if all targets pass by name.

    Args:
        config: plain dicts, lists and values, as stored.
        folder: the current folder; its modules count only if it is on `sys.path`.
        run: the opened run directory or checkpoint: code that came with it is not the user's, even if `folder`
            contains it.
        signed: the config of the run's record, if the user has signed it. `config` may be another, a checkpoint's:
            it counts as signed if all groups of it that lead to a call are the same.

    Raises:
        RunError: a target is not allowed or cannot be found, or the config is not plain.
    """
    folder, run = folder.resolve(), came_together(run.resolve()) if run else None
    if signed is not None and _calling(config).items() <= _calling(signed).items():
        for key, target, _ in _targets(config, "", 0, is_signed=True):
            if problem := _came_along(target, folder, run):
                raise _refused(key, target, problem)
        return
    targets = [(key, TARGETS.get(target, target), node) for key, target, node in _targets(config, "", 0)]
    for key, target, node in targets:
        if problem := _name_problem(target, folder, run) or _writes(target, node, folder, run):
            raise _refused(key, target, problem)
    for key, target, node in targets:
        try:
            problem = _object_problem(target, folder, run) or _downloads(target, node)
        except ImportError as error:
            raise _refused(key, target, f"cannot be imported: {error}") from error
        except (Exception, SystemExit) as error:  # raised by the user's module
            raise _refused(key, target, f"cannot be imported: {type(error).__name__}: {error}") from error
        if problem:
            raise _refused(key, target, problem)


def _refused(key: str, value: object, problem: str) -> RunError:
    def shown(text: object) -> str:  # ASCII: neither control characters nor look-alike letters
        return truncate(ascii(str(text))[1:-1], 120, "...")

    top = str(value).partition(".")[0]
    remedy = "add --trust if you trust whoever made this run"
    if top not in _TOPS and top not in sys.stdlib_module_names:
        if top.isidentifier() and PathFinder.find_spec(top) is not None:  # installed
            remedy = f"this config is not signed with your key, {_place_of_key()}; {remedy}"
        else:
            remedy = f"run this from the folder that contains the run's own classes, or {remedy}"
    return RunError(f"{shown(key)}={shown(value)}: {problem.splitlines()[0]}\n  {remedy}")


def _place_of_key() -> str:
    try:
        return str(key_file())
    except RuntimeError as error:  # no home folder
        return f"which has no place: {error}"


def _calling(config: dict[str, Any]) -> dict[str, Any]:
    """The groups of a config, and the writers, that decide what is called, and with which arguments."""
    writers = config.get("writers")
    nodes = {f"writers.{name}": node for name, node in writers.items()} if isinstance(writers, dict) else {}
    nodes = {name: node for name, node in nodes.items() if not str(node.get("_target_")).startswith("mlprun.writers.")}
    groups = {name: group for name, group in config.items() if name != "writers"} | nodes
    return {name: group for name, group in groups.items() if any(_targets(group, name, 0, is_signed=True))}


def _targets(
    node: object, key: str, depth: int, *, is_signed: bool = False
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(dotted key, name, node) of all targets, in order; raises RunError if the config is not plain."""
    if depth > _MAX_DEPTH:
        raise _refused(key, "", f"more than {_MAX_DEPTH} levels deep")
    if isinstance(node, dict | list | tuple):
        pairs = node.items() if isinstance(node, dict) else enumerate(node)
        for name, value in pairs:
            below = f"{key}.{name}" if key else str(name)
            if key == "logging.pictures" and type(value) is str and "." in value:  # called like a target
                yield below, value, {}
            elif name != "_target_":
                yield from _targets(value, below, depth + 1, is_signed=is_signed)
            elif type(value) is str:
                yield below, value, node if isinstance(node, dict) else {}
            else:
                raise _refused(below, type(value).__name__, "is not a name")
    elif isinstance(node, str):
        if "${" in node and is_signed:
            yield key, node, {}
        elif "${" in node:  # `${oc.create:{_target_:os.system}}` would become a target after this check
            raise _refused(key, node, "a stored value is final, but ${} would be resolved again")
    elif not (node is None or isinstance(node, bool | int | float)):
        raise _refused(key, type(node).__name__, "is not a plain value")


def _name_problem(target: str, folder: Path, run: Path | None) -> str:
    """Why the name alone is refused, or an empty string; imports nothing."""
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
        return f"of {parts[0]} only what is in {', '.join(known)} may be called"
    if _within(module, *_NOT_FOR_TRAINING):
        return f"{module} is not for training"
    if _within(module, "mlprun.writers.trackers"):
        return "sends the run to a server"
    if library == "torchvision.datasets" and name not in _DATASETS:
        return "is not among torchvision's data sets that are known to read nothing but data"
    return ""


def _writes(target: str, node: dict[str, Any], folder: Path, run: Path | None) -> str:
    """Why the folder of a data set is refused, to which its files would be downloaded; or an empty string."""
    if not _within(target, "mlprun.data.mnist", "mlprun.data.cifar", "mlprun.data.text.imdb"):
        return ""
    if node.get("mirrors") is not None or "_args_" in node:
        return "its mirrors are the run's, not the published ones"
    if "root" not in node:
        return ""  # an error when it is called
    root = expand_home(str(node["root"])).resolve()
    came_along = run is not None and (root == run or run in root.parents)
    used = [*root.glob("*/.mlprun-fingerprints.json"), *root.glob("*/raw/.mlprun-fingerprints.json")]
    known = {folder, Path(data_root()).resolve()}
    if not came_along and (used or known & {root, *root.parents}):
        return ""
    return f"its files would be written to {root}, a folder that is not yours"


def _downloads(target: str, node: dict[str, Any]) -> str:
    """Why the arguments are refused, or an empty string; imports the target's module."""
    if not _within(target, "torchvision.datasets", "torchvision.models"):
        return ""
    words = {name: value for name, value in node.items() if not str(name).startswith("_")}
    try:
        # something without a signature raises a TypeError
        bound = inspect.signature(_resolve(target)).bind_partial(*node.get("_args_", ()), **words)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        return str(error)
    bound.apply_defaults()
    given = {**bound.arguments, **words}
    for name, value in given.items():
        if value and str(name).startswith(("download", "weights", "pretrained")):
            return f"{name}={truncate(str(value), 40, '...')} would download files"
    return ""


def _came_along(target: str, folder: Path, run: Path | None) -> str:
    """Why a signed target is refused: the signature covers the config, and not a module that lies beside it."""
    top = target.partition(".")[0]
    if top in _TOPS or not top.isidentifier() or PathFinder.find_spec(top) is not None:
        return ""
    file = _source(folder / top)
    return f"{file} came with the run" if run is not None and run in file.resolve().parents else ""


def _not_own(module: str, folder: Path, run: Path | None) -> str:
    """Why a module is not in the user's folder, or an empty string."""
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
                return f"{path} has no __init__.py, so nothing in it is imported"
            return f"is neither in torch, torchvision or mlprun nor in a module in {folder}"
    try:  # imports nothing for a name without dots
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
    """The file of a module, given without its suffix; a package takes precedence, as in an import."""
    package = path / "__init__.py"
    return package if os.path.isfile(package) else path.with_name(f"{path.name}.py")


def _within(name: str, *packages: str) -> bool:
    return f"{name}.".startswith(tuple(f"{package}." for package in packages))


def _library(target: str) -> str:
    """The key of `_LIBRARIES` that a target belongs to, or an empty string."""
    return next((library for library in _LIBRARIES if target.startswith(f"{library}.")), "")


def _object_problem(target: str, folder: Path, run: Path | None) -> str:
    """Why the named object is refused, or an empty string; imports the target's modules."""
    target_object = _resolve(target)
    defined = getattr(target_object, "__module__", None)
    if not callable(target_object) or not isinstance(defined, str):
        return "is not a class or function"
    library = _library(target)
    if not library:
        return f"is really defined in {defined}: {why}" if (why := _not_own(defined, folder, run)) else ""
    if not _within(defined, _LIBRARIES[library]) or _within(defined, *_NOT_FOR_TRAINING):
        return f"is really defined in {defined}"
    return "" if _is_known(target_object, library) else "is no module, loss, optimizer, scheduler or data set"


def _resolve(target: str) -> object:
    """The attribute of a module that `target` names, found as Hydra finds it.

    Raises:
        ImportError: there is none, or a part of its path is not a module of that name: other attributes lead
            anywhere (`torch.nn.modules.module.functools.partial`).
    """
    path, _, name = target.rpartition(".")
    module = child = importlib.import_module(path)
    while "." in path:
        path, _, part = path.rpartition(".")
        if getattr(sys.modules[path], part, child) is not child:  # torch.optim deletes its `adam`
            raise ImportError(f"{path}.{part} is not a module of that name")
        child = sys.modules[path]
    try:
        return getattr(module, name)
    except AttributeError:
        raise ImportError(f"{module.__name__} has no '{name}'") from None


def _is_known(target: Any, library: str) -> bool:
    """Whether it is a class that trainings use, or a function that builds one."""
    if not isinstance(target, type):
        if library == "torchvision.models":  # its registered models take weights from PyTorch's own site only
            from torchvision import models

            return target in map(models.get_model_builder, models.list_models())
        return isinstance(target, FunctionType) and target.__annotations__.get("return") == _BUILT_BY.get(library, "")

    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler
    from torch.utils.data import Dataset

    from mlprun.training.schedule import FactorSchedule
    from mlprun.writers.base import Writer

    # several transforms have no base class
    kinds = (nn.Module, Optimizer, LRScheduler, FactorSchedule, Dataset, Writer)
    return library in ("torchvision.transforms", "mlprun.tasks") or issubclass(target, kinds)
