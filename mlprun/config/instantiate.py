"""Builds objects from `_target_`s: the only module that imports and calls what a config names."""

from __future__ import annotations

import importlib
import inspect
import re
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from mlprun.config.environment import filled_in
from mlprun.config.hydra_private import unlisted
from mlprun.config.project import find_project
from mlprun.errors import ConfigError, UserError, close_matches, did_you_mean, is_users_own
from mlprun.version_one import TARGETS, upgrade_config

Node = dict[str, Any]


def locate(target: str, key: str) -> Callable[..., Any]:
    """The class or function that a `_target_`, or the value of another `key`, names; ConfigError if there is none."""
    parts = TARGETS.get(str(target), str(target)).split(".")
    for cut in range(len(parts), 0, -1) if all(parts) else ():
        module_name = ".".join(parts[:cut])
        try:
            located: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            missing = error.name or ""
            if module_name == missing or module_name.startswith(missing + "."):
                continue  # the path is wrong or ends in a class: try a shorter one
            raise ConfigError(key, target, f"cannot be imported: {error}") from error
        except Exception as error:  # raised by the user's module
            frames = [f for f in traceback.extract_tb(error.__traceback__) if is_users_own(f.filename)]
            remedy = "".join(traceback.format_list(frames)).strip()
            raise ConfigError(key, target, f"cannot be imported: {type(error).__name__}: {error}", remedy) from error
        for name in parts[cut:]:
            if not hasattr(located, name):
                close = close_matches(name, [n for n in dir(located) if not n.startswith("_")])
                hint = did_you_mean([".".join([*parts[:-1], close[0]])]) if close else ""
                file = getattr(located, "__file__", None)
                shown = f"{module_name} ({file})" if file else module_name
                raise ConfigError(key, target, f"{shown} has no '{name}'", hint)
            located = getattr(located, name)
        if callable(located):
            return located  # type: ignore[no-any-return]  # getattr gives Any
        if cut < len(parts) or cut == 1:  # else try shorter: torchvision.models.alexnet is a module and a function
            raise ConfigError(key, target, "is not a class or function")
    remedy = "give the full path, such as torch.optim.Adam, or my_module.MyNet for my_module.py in this folder"
    project = find_project().folder
    if (project / parts[0]).is_dir() or (project / f"{parts[0]}.py").is_file():
        remedy = f"it is in the project's folder: cd {project}, or install the project: pip install -e {project}"
    raise ConfigError(key, target, f"cannot be imported: No module named '{parts[0]}'", remedy)


def construct(node: Node, key: str, *positional: Any) -> Any:
    """Call the `_target_` of `node` with `positional` and its other keys, after building nested nodes.

    Raises:
        ConfigError: the target does not exist, does not take these arguments, or rejects a value.
    """
    node = filled_in(node, key)
    target = locate(node["_target_"], f"{key}._target_")
    _check_arguments(target, node, key, len(positional))
    if node.get("_recursive_", True):
        for name, value in node.items():
            _check_nested(value, f"{key}.{name}")
    build = _partial(node, key)
    try:
        return build(*positional)
    except ConfigError as error:
        if error.key.startswith("data."):  # already the full key, from which an argument was interpolated
            raise
        raise error.under(key) from error
    except UserError:
        raise
    except (TypeError, ValueError, RuntimeError, LookupError, OSError, AttributeError, AssertionError) as error:
        if _is_users_own(target) or _has_own_frames(error) or "memory" in str(error):
            raise  # the frames of the user's code say more
        raise ConfigError(key, ConfigError.MISSING, f"{node['_target_']}: {_one_line(error)}") from error


def _check_nested(value: Any, key: str) -> None:
    """Check targets and arguments of nodes at any depth."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            _check_nested(item, f"{key}[{index}]")
    if isinstance(value, dict):
        if "_target_" in value:
            target = locate(value["_target_"], f"{key}._target_")
            if not value.get("_partial_"):
                _check_arguments(target, value, key, len(value.get("_args_") or []))
        for name, item in value.items():
            _check_nested(item, f"{key}.{name}")


def _raise_cause(error: Exception, key: str) -> NoReturn:
    """Raise what a nested node raised, with its key: Hydra 1.3 wraps the exception, 1.4 adds a note to it."""
    cause: BaseException = error
    while isinstance(cause, InstantiationException) and cause.__cause__ is not None:
        cause = cause.__cause__
    texts = [str(error), *getattr(cause, "__notes__", [])]
    match = re.search(r"^full_key: (\S+)$", "\n".join(texts), re.MULTILINE)
    key = f"{key}.{match[1]}" if match else key
    if isinstance(cause, ConfigError):
        raise cause.under(key) from error
    if isinstance(cause, UserError) or _has_own_frames(cause) or "memory" in str(cause):
        raise cause
    raise ConfigError(key, ConfigError.MISSING, _one_line(cause)) from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _has_own_frames(error: BaseException) -> bool:
    return any(is_users_own(frame.filename) for frame in traceback.extract_tb(error.__traceback__))


def bind(node: Node, key: str, num_arguments: int) -> Callable[..., Any]:
    """The function of a node with the node's arguments bound, or an instance of a class, which must be callable.

    `num_arguments` is the number of positional arguments it will be called with. Raises ConfigError as `construct`.
    """
    node = filled_in(node, key)
    target = locate(node["_target_"], f"{key}._target_")
    if isinstance(target, type):
        built = construct(node, key)
        if not callable(built):
            raise ConfigError(f"{key}._target_", node["_target_"], "does not return anything that can be called")
        return built  # type: ignore[no-any-return]  # an instance of any class
    _check_arguments(target, node, key, num_arguments)
    return _partial(node, key)


def _partial(node: Node, key: str) -> Callable[..., Any]:
    """The target with the arguments of the node, of which nested nodes are built."""
    try:
        with unlisted():
            built: Callable[..., Any] = instantiate({**upgrade_config(node), "_partial_": True}, _convert_="all")
            return built
    except Exception as error:  # of a nested node
        _raise_cause(error, key)


def _is_users_own(target: Callable[..., Any]) -> bool:
    try:
        return is_users_own(inspect.getfile(target))
    except TypeError:
        return False  # built into Python


def _check_arguments(target: Callable[..., Any], node: Node, key: str, num_positional: int) -> None:
    try:
        parameters = list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        return  # a C function without a signature
    given = [name for name in node if not name.startswith("_")]
    fillable = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    taken = {p.name for p in fillable[:num_positional]}
    by_name = {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)} - taken
    unknown = [name for name in given if name not in by_name]
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in parameters):
        close = close_matches(unknown[0], by_name)
        hint = f"did you mean '{key}.{close[0]}'? Or remove" if close else "remove"
        line = " ".join(f"~{key}.{name}" for name in unknown)
        remedy = f"{hint} what it does not take: {line}\n  it takes: {', '.join(sorted(by_name)) or 'nothing'}"
        problem = f"{node['_target_']} takes no argument of that name"
        raise ConfigError(f"{key}.{unknown[0]}", node[unknown[0]], problem, remedy)
    for p in parameters:
        value = node.get(p.name)
        if isinstance(value, int | float) and _is_text(p.annotation):  # 2024_11 has become 202411
            problem = f"is {'a boolean' if isinstance(value, bool) else 'a number'}, and {node['_target_']} takes text"
            raise ConfigError(f"{key}.{p.name}", value, problem, f"quote it as you typed it: \"{key}.{p.name}='…'\"")
    for p in fillable[num_positional:] + [p for p in parameters if p.kind is p.KEYWORD_ONLY]:
        if p.default is p.empty and p.name not in given:
            problem = f"{node['_target_']} needs the argument '{p.name}'"
            raise ConfigError(key, ConfigError.MISSING, problem, f"add +{key}.{p.name}=…")


def _is_text(annotation: Any) -> bool:
    """Whether an annotation, which may be a string, is of text or a path alone."""
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    names = set(re.findall(r"\w+", text)) - {"typing", "pathlib", "os", "Optional", "Union", "None", "NoneType"}
    return bool(names) and names <= {"str", "Path", "PathLike"}
