"""All private names of Hydra and OmegaConf that mlprun uses.

- `ConfigLoaderImpl`, `IConfigRepository`, `create_config_search_path`: needed because `hydra.compose` names neither the
  key at fault nor the options of a group, and reads all YAML again for every point of a sweep, until that changes.
- `Hydra`, `Callbacks`, `get_args_parser`: needed because `hydra.main` parses the command line twice and composes three
  times, until it accepts a composed config.
- `_get_node`, `_is_none`, `_is_missing`, `_set_value` and the like of OmegaConf: needed because public access resolves
  interpolations and nothing public converts a single value, until OmegaConf has public access to nodes.
"""

from __future__ import annotations

import copy
import os
import re
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.default_element import ResultDefault
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobRuntime, setup_globals
from hydra.errors import ConfigCompositionException
from hydra.plugins.config_source import ConfigResult
from hydra.types import HydraContext, RunMode
from hydra.version import VersionBase
from omegaconf import DictConfig, ListConfig, OmegaConf, ValueNode, open_dict

from mlprun.config.overrides import (
    TEXT_KEYS,
    TEXT_LISTS,
    check_sweep,
    parse_override,
    quote_numbers,
    refuse_none,
)
from mlprun.config.rows import is_zip, parse_zip
from mlprun.errors import ConfigError

VERSION_BASE = "1.3"
IS_1_4 = not hydra.__version__.startswith("1.3.")
POINT_NAME = "${mlprun.point_name:}"  # the default of hydra.sweep.subdir


def set_up() -> None:
    """Set the process-wide state that `hydra.main` sets: resolvers, version and job name."""
    if IS_1_4:  # which warns of `setbase`
        VersionBase.instance().version_base = VERSION_BASE  # type: ignore[assignment]  # a text for 1.4
    else:
        version.setbase(VERSION_BASE)
    setup_globals()
    JobRuntime.instance().set("name", "mlprun")


@contextmanager
def globals_restored() -> Iterator[None]:
    """Put back, after a block in another's program, what `set_up` and Hydra's jobs set: that program may use Hydra."""
    base, runtime, config = VersionBase.instance(), JobRuntime.instance(), HydraConfig.instance()
    before = base.getbase(), runtime.conf.copy(), config.cfg
    try:
        yield
    finally:
        base.version_base, runtime.conf, config.cfg = before


def register_resolver(name: str, function: Callable[..., Any]) -> None:
    """Register the resolver `${name:}`: 2.3 deprecates the method of 2.4, and 2.4 that of 2.3."""
    register: Any = OmegaConf.register_resolver if IS_1_4 else OmegaConf.register_new_resolver
    register(name, function, replace=True)


@contextmanager
def unlisted() -> Iterator[None]:
    """A block in which Hydra 1.4 does not warn that no whitelist lists what a config may call.

    No list could: a model is any class, and the list has to name what a function returns. Stored configs are checked by
    `trust.py`, and Hydra's own list of forbidden targets applies in 1.3 and 1.4 alike.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\s*hydra\.utils\.instantiate\(\) resolved", UserWarning)
        yield


def argument_parser() -> ArgumentParser:
    """Hydra's parser of its own options and the overrides."""
    return get_args_parser()


class Loader(ConfigLoaderImpl):
    """Hydra's config loader, which reads YAML once per set of choices and parses each override once.

    Hydra's launchers and sweepers get it in their `HydraContext`, so they also compose with it.

    Args:
        folders: mlprun's own YAML; the first has the primary config.
        user_folder: searched after them.

    Attributes:
        point_names: directory name of each planned point of a sweep, by its override lines.
        num_jobs: number of jobs of the sweep, if all of them are planned.
        shared_keys: keys with one value in all points, which `hydra.job.override_dirname` leaves out.
    """

    def __init__(self, folders: Sequence[Path], user_folder: Path | None = None) -> None:
        search_path = create_config_search_path(str(folders[0]))
        for folder in folders[1:]:
            search_path.prepend("mlprun", f"file://{folder}", SearchPathQuery(provider="schema"))
        if user_folder is not None:
            search_path.prepend("command-line", f"file://{user_folder}", SearchPathQuery(provider="schema"))
        set_up()
        Plugins.instance()
        super().__init__(config_search_path=search_path)
        self._bases: dict[tuple[object, ...], DictConfig] = {}
        self._parser = OverridesParser.create(config_loader=self)
        self._parsed: dict[str, Override] = {}
        self._options: dict[str, list[str]] = {}
        self._folders = [*folders, *([user_folder] if user_folder is not None else [])]
        self.point_names: dict[tuple[str, ...], str] = {}
        self.num_jobs: int | None = None
        self.shared_keys: list[str] = []

    def parse(self, line: str) -> Override:
        """The override; raises ConfigError if it cannot be parsed."""
        if line not in self._parsed and is_zip(line):
            self._parsed[line] = parse_zip(line, self.parse)
        if line not in self._parsed:
            override = parse_override(self._parser, line)
            is_choice = self.is_choice(override)
            is_text = override.key_or_group in (*TEXT_KEYS, *TEXT_LISTS)
            if (is_choice or is_text) and (quoted := quote_numbers(line)) != line:
                override = parse_override(self._parser, quoted)
                if not is_choice:  # Hydra itself parses those again
                    override.input_line = line  # as in messages and records
            check_sweep(override, self.options(override.key_or_group))
            if not is_choice:
                refuse_none(override)
            self._parsed[line] = override
        return self._parsed[line]

    def options(self, group: str) -> list[str]:
        """The options of a group; empty if there is no such group."""
        if group not in self._options:
            self._options[group] = self.get_group_options(group, ObjectType.CONFIG) if group else []
        return self._options[group]

    def file_of(self, choice: str) -> Path | None:
        """The YAML file of `group/option`; None for those of Hydra and its plugins."""
        files = (folder / f"{choice}{ending}" for folder in self._folders for ending in (".yaml", ".yml"))
        return next((file for file in files if file.is_file()), None)

    def get_group_options(
        self,
        group_name: str,
        results_filter: ObjectType | None = ObjectType.CONFIG,
        config_name: str | None = None,
        overrides: list[str] | None = None,
    ) -> list[str]:
        # Hydra's own copies all YAML that it has read at each call: most of the time of `--help`.
        if config_name is None and not overrides:
            return list(self.repository.get_group_options(group_name, results_filter))
        return list(super().get_group_options(group_name, results_filter, config_name, overrides))

    def is_choice(self, override: Override) -> bool:
        """Whether the override chooses from a group."""
        return bool(self.options(override.key_or_group))

    def base(self, config_name: str | None, choices: list[str], run_mode: RunMode) -> DictConfig:
        """The composition of a set of choices, cached; copy it before a change."""
        key = (config_name, *choices)
        if key not in self._bases:
            try:
                self._bases[key] = super().load_configuration(config_name, choices, RunMode.RUN)
            except ConfigCompositionException:
                if run_mode is RunMode.RUN:
                    raise
                # a default that is `???` may be swept; not cached, because a run would lack it
                return super().load_configuration(config_name, choices, run_mode)
        return self._bases[key]

    def _load_single_config(self, default: ResultDefault, repo: IConfigRepository) -> ConfigResult:
        loaded = super()._load_single_config(default, repo)
        config: Any = loaded.config
        params = find_node(config, "hydra.sweeper.params")
        swept = dict(iter_nodes(params)) if isinstance(params, DictConfig) else {}
        for key in TEXT_KEYS:
            node = swept.get(key, find_node(config, key))
            if is_value(node) and isinstance(node._value(), int | float):  # the text is lost: 2024_11 is 202411 now
                problem = (
                    f"must be text, and YAML reads the value in {default.config_path}.yaml as a number or a boolean"
                )
                raise ConfigError(key, node._value(), problem, f"quote it there: {key.rpartition('.')[2]}: '…'")
            if is_value(node) and node._value() == "None":
                raise ConfigError(key, "None", f"is a text in {default.config_path}.yaml", "write null there")
        return loaded

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
        skip_missing_defaults: bool = False,
    ) -> DictConfig:
        parsed = [self.parse(line) for line in overrides]
        if validate_sweep_overrides:
            self.validate_sweep_overrides_legal(parsed, run_mode, from_shell)
        single = [o for o in parsed if not o.is_sweep_override()]
        choices = [str(o.input_line) for o in single if self.is_choice(o)]
        cfg: DictConfig = copy.deepcopy(self.base(config_name, choices, run_mode))
        self._apply_overrides_to_config([o for o in single if not self.is_choice(o)], cfg)
        # Record the overrides, as Hydra does at the end of a composition.
        task = [o for o in parsed if not o.is_hydra_override()]
        with open_dict(cfg.hydra):
            cfg.hydra.overrides.task = [o.input_line for o in task]
            cfg.hydra.overrides.hydra = [o.input_line for o in parsed if o.is_hydra_override()]
            for key in cfg.hydra.job.env_copy:
                cfg.hydra.job.env_set[key] = os.environ[key]
        cfg.hydra.runtime.cwd = os.getcwd()
        names = cfg.hydra.job.config.override_dirname
        excluded = [*names.exclude_keys, *self.shared_keys]
        named = sorted(str(o.input_line) for o in task if o.key_or_group not in excluded)
        cfg.hydra.job.override_dirname = names.item_sep.join(named).replace("=", names.kv_sep)
        return cfg

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """As Hydra's, which composes by itself since 1.4, with the directories of sweep and point, or of the run."""
        lines: Any = OmegaConf.to_container(master_config.hydra.overrides.hydra)  # unresolved
        lines += sweep_overrides
        cfg = self.load_configuration(master_config.hydra.job.config_name, lines, RunMode.RUN)
        OmegaConf.copy_cache(from_config=master_config, to_config=cfg)  # the same ${now:}
        cfg.hydra.mode = master_config.hydra.mode
        if cfg.hydra.mode is RunMode.RUN:  # a single run, which a launcher starts
            for key in ("run", "sweep", "output_subdir"):
                cfg.hydra[key] = master_config.hydra[key]
            return cfg
        if not OmegaConf.is_interpolation(master_config.hydra.sweep, "dir"):
            cfg.hydra.sweep.dir = master_config.hydra.sweep.dir
        name = self.point_names.get(tuple(sweep_overrides))
        if name is not None and find_node(cfg, "hydra.sweep.subdir")._value() == POINT_NAME:
            cfg.hydra.sweep.subdir = name
        return cfg

    def show(self, options: Namespace) -> None:
        """Answer `--help`, `--hydra-help`, `--cfg`, `--info` and `--shell-completion`, as `hydra.main` does."""
        from hydra._internal.hydra import Hydra

        hydra, parser = Hydra(task_name="mlprun", config_loader=self), argument_parser()
        name, overrides = options.config_name, options.overrides
        if options.help:
            hydra.app_help(config_name=name, args_parser=parser, args=options)
        elif options.hydra_help:
            hydra.hydra_help(config_name=name, args_parser=parser, args=options)
        elif options.shell_completion:
            hydra.shell_completion(config_name=name, overrides=overrides)
        elif options.info:
            hydra.show_info(options.info, config_name=name, overrides=overrides)
        else:
            hydra.show_cfg(name, overrides, options.cfg, options.package, options.resolve)

    def context(self, cfg: DictConfig) -> HydraContext:
        """The context for Hydra's launchers, sweepers and `run_job`, with the callbacks of the config."""
        return job_context(cfg, self)


def job_context(cfg: DictConfig, loader: Loader | None = None) -> HydraContext:
    """As `Loader.context`; without a loader for a job that composes nothing."""
    with unlisted():
        return HydraContext(config_loader=loader, callbacks=Callbacks(cfg))  # type: ignore[arg-type]  # None: see above


def find_node(cfg: DictConfig, key: str) -> Any:
    """The unresolved node at a dotted key, or None."""
    node: Any = cfg
    for part in re.split(r"[.\[\]]+", key.rstrip("]")):
        if isinstance(node, ListConfig) and part.isdigit() and int(part) < len(node):
            node = node._get_node(int(part))
        elif isinstance(node, DictConfig) and not (node._is_none() or node._is_missing()) and part in list(node):
            node = node._get_node(part)
        else:
            return None
    return node


def iter_nodes(cfg: DictConfig, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, unresolved node) of all keys in `cfg`, at every level."""
    if cfg._is_none() or cfg._is_missing():
        return
    for name in map(str, cfg):
        node = cfg._get_node(name)
        yield f"{prefix}{name}", node
        if isinstance(node, DictConfig):
            yield from iter_nodes(node, f"{prefix}{name}.")


def apply_override(override: Override, cfg: DictConfig) -> None:
    """Change `cfg` as the override says; raises Hydra's error, whose cause is OmegaConf's, if that cannot be."""
    ConfigLoaderImpl._apply_overrides_to_config([override], cfg)


def is_missing(node: Any) -> bool:
    """Whether a node is `???`."""
    return bool(node._is_missing())


def is_optional(node: Any) -> bool:
    """Whether a node of mlprun's own keys may be null."""
    return bool(node._is_optional() and node._metadata.ref_type is not Any)


def is_null_group(node: Any) -> bool:
    """Whether a group of keys is null."""
    return isinstance(node, DictConfig) and node._is_none()


def is_value(node: Any) -> bool:
    """Whether a node is a single value, neither `???` nor an interpolation."""
    return isinstance(node, ValueNode) and not (node._is_missing() or node._is_interpolation())


def converted(node: ValueNode, value: Any) -> Any:
    """The value converted to the type of the node; raises OmegaConf's error if that is impossible."""
    node = copy.copy(node)
    node._set_value(value)
    return node._value()
