"""From `_target_` to object: the only place that imports what a config names, and calls it."""

from __future__ import annotations

import importlib
import inspect
import traceback
from collections.abc import Callable
from typing import Any

from hydra.utils import instantiate

from mlprun.errors import ConfigError, UserError, close_matches, did_you_mean, is_users_own
from mlprun.version_one import TARGETS, upgrade_config

Node = dict[str, Any]


def locate(target: str, key: str) -> Callable[..., Any]:
    """What a `_target_`, or the value of another `key`, names.

    Raises:
        ConfigError: no such module or name; shows Python's own ImportError.
    """
    parts = TARGETS.get(str(target), str(target)).split(".")
    for cut in range(len(parts), 0, -1):
        module_name = ".".join(parts[:cut])
        try:
            found: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            missing = error.name or ""
            if module_name == missing or module_name.startswith(missing + "."):
                continue  # the path itself is wrong, or a part of it is a class: try the shorter one
            raise ConfigError(key, target, f"cannot be imported: {error}") from error
        except Exception as error:  # whatever the user's module does when it is imported
            own = [f for f in traceback.extract_tb(error.__traceback__) if is_users_own(f.filename)]
            frames = "".join(traceback.format_list(own)).rstrip().lstrip()
            raise ConfigError(key, target, f"cannot be imported: {type(error).__name__}: {error}", frames) from error
        for name in parts[cut:]:
            if not hasattr(found, name):
                names = [n for n in dir(found) if not n.startswith("_")]
                close = close_matches(name, names)
                hint = did_you_mean([".".join([*parts[:-1], close[0]])]) if close else ""
                where = getattr(found, "__file__", None)
                shown = f"{module_name} ({where})" if where else module_name
                raise ConfigError(key, target, f"{shown} has no '{name}'", hint)
            found = getattr(found, name)
        if not callable(found) and cut == len(parts) > 1:
            continue  # torchvision.models.alexnet is a module, and a function of the package above it
        if not callable(found):
            raise ConfigError(key, target, "is not a class or function")
        return found  # type: ignore[no-any-return]
    raise ConfigError(
        key,
        target,
        f"cannot be imported: No module named '{parts[0]}'",
        "give the full path, such as torch.optim.Adam, or my_module.MyNet for my_module.py in this folder",
    )


def construct(node: Node, key: str, *positional: Any) -> Any:
    """Call the target of `node` with its arguments, after holding them against its signature.

    Args:
        node: `_target_` and keyword arguments; nested nodes with a `_target_` are built first.
        key: the config key of the node, for messages.
        positional: passed before them.

    Raises:
        ConfigError: the target does not exist, does not take these arguments, or refuses a value.
    """
    target = locate(node["_target_"], f"{key}._target_")
    _check_arguments(target, node, key, len(positional))
    for name, value in node.items():
        if isinstance(value, dict) and "_target_" in value:
            locate(value["_target_"], f"{key}.{name}._target_")
    try:
        build = instantiate({**upgrade_config(node), "_partial_": True}, _convert_="all")
        return build(*positional)
    except ConfigError as error:
        if error.key.startswith("data."):  # already the full key, of what the arguments were interpolated from
            raise
        raise error.under(key) from error
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        if _is_users_own(target):
            raise  # the user's own code raised it: its frames say more than we could
        raise ConfigError(key, ConfigError.MISSING, f"{node['_target_']}: {error}") from error


def bind(node: Node, key: str, num_arguments: int) -> Callable[..., Any]:
    """The function that a node names, with the node's arguments bound; of a class, an instance that can be called.

    Args:
        num_arguments: positional arguments that it will be called with.

    Raises:
        ConfigError: as `construct`, or the instance cannot be called.
    """
    target = locate(node["_target_"], f"{key}._target_")
    if isinstance(target, type):
        built = construct(node, key)
        if not callable(built):
            raise ConfigError(f"{key}._target_", node["_target_"], "gives nothing that can be called")
        return built  # type: ignore[no-any-return]
    _check_arguments(target, node, key, num_arguments)
    return instantiate({**upgrade_config(node), "_partial_": True}, _convert_="all")  # type: ignore[no-any-return]


def _is_users_own(target: Callable[..., Any]) -> bool:
    try:
        return is_users_own(inspect.getfile(target))
    except TypeError:
        return False  # built into Python


def _check_arguments(target: Callable[..., Any], node: Node, key: str, num_positional: int) -> None:
    try:
        parameters = list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        return  # some C functions have no signature; the call itself will tell
    given = {name: value for name, value in node.items() if not name.startswith("_")}
    fillable = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    taken = {p.name for p in fillable[:num_positional]}
    by_name = {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)} - taken
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        unknown = [name for name in given if name not in by_name]
        if unknown:
            close = close_matches(unknown[0], by_name)
            hint = f"did you mean '{key}.{close[0]}'? Or remove" if close else "remove"
            line = " ".join(f"~{key}.{name}" for name in unknown)
            raise ConfigError(
                f"{key}.{unknown[0]}",
                given[unknown[0]],
                f"{node['_target_']} takes no argument of that name",
                f"{hint} what it does not take: {line}\n  it takes: {', '.join(sorted(by_name)) or 'nothing'}",
            )
    for p in fillable[num_positional:] + [p for p in parameters if p.kind is p.KEYWORD_ONLY]:
        if p.default is p.empty and p.name not in given:
            raise ConfigError(
                key,
                ConfigError.MISSING,
                f"{node['_target_']} needs the argument '{p.name}'",
                f"add +{key}.{p.name}=…",
            )
