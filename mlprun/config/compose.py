"""Composes overrides into a config as Hydra does, with error messages in the user's own terms."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import BooleanNode, DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from mlprun.config.checks import check
from mlprun.config.hydra_private import POINT_NAME, Loader, find_node, is_null_group, iter_nodes
from mlprun.config.identity import LENGTH_KEYS, RESULT_FREE, RESUMABLE
from mlprun.config.overrides import ask_for_multirun, check_boolean, typed_value
from mlprun.config.resolvers import conf_dirs  # and registers the resolvers
from mlprun.config.rows import Rows, read_points, rows_of
from mlprun.config.schema import FOREIGN, Config, SweepConfig
from mlprun.config.space import Space, build_space, is_search
from mlprun.config.suggest import nearest_key, raise_explained
from mlprun.config.template import Template
from mlprun.errors import ConfigError, UserError, suggestion

OPTIONAL = ("project", "experiment", "debug", "task", "metrics")  # groups that need no choice
SEVERAL = ("metrics", "writer")  # groups of which several options may be chosen
WITH_DEFAULTS = ("writer",)  # groups with default options, to which `+` adds
MISSING = ConfigError.MISSING


class Composer:
    """Composes configs; `config_dir` is the user's folder of YAML (`--config-dir`).

    Methods raise ConfigError for a group, option, key or type that does not exist, with a suggestion.
    """

    def __init__(self, config_dir: str | None = None, config_name: str = "config") -> None:
        folder = None
        # In a checkout ./conf is mlprun's own, which is searched anyway.
        if config_dir is not None and Path(config_dir).resolve() not in [path.resolve() for path in conf_dirs()]:
            folder = Path(config_dir).absolute()
            _check_user_folder(folder)
        self.loader = Loader(conf_dirs(), folder)
        self.config_name = config_name
        self._templates: dict[tuple[str, ...], Template | None] = {}
        self._checked_keys: set[tuple[str | None, tuple[str, ...], RunMode]] = set()

    def parse(self, lines: list[str]) -> list[Override]:
        """The overrides, each parsed once."""
        return [self.loader.parse(line) for line in lines]

    def is_multirun(self, lines: list[str]) -> bool:
        """Whether the overrides, or a YAML file that they choose, set `hydra.mode=MULTIRUN`."""
        parsed = self.parse(lines)
        for override in parsed:
            if override.key_or_group == "hydra.mode":
                return str(override.value()) == RunMode.MULTIRUN.name
        return bool(self._checked_choices(parsed, RunMode.MULTIRUN).hydra.mode == RunMode.MULTIRUN)

    def points(self, overrides: list[str]) -> Iterator[list[str]]:
        """The override lines of each job of a grid sweep; a single point if nothing is swept.

        Of a search: trials to check before it begins. A space of another sweeper is left to it.
        """
        swept = self.compose(overrides, multirun=True)
        if (space := self.space(overrides, swept)) is not None:
            yield from space.samples()
            return
        axes: dict[str, list[list[str]]] = {}
        for override in self._swept(overrides, swept):
            key = override.get_key_element()
            if not override.is_sweep_override():
                axes[key] = [[override.input_line or key]]
            elif override.is_discrete_sweep():
                axes[key] = rows_of(override)
        for point in itertools.product(*axes.values()):
            yield list(itertools.chain(*point))

    def space(self, overrides: list[str], swept: DictConfig) -> Space | None:
        """The search space of the overrides, whose composition is `swept`; None if they are a grid."""
        parsed = self._swept(overrides, swept)
        num_trials = swept.sweep.num_trials
        if not self.is_grid(swept) or not is_search(parsed, num_trials):
            for key in ("num_trials", "sampler", "seed"):
                if (value := swept.sweep[key]) != getattr(SweepConfig(), key):
                    problem, remedy = (
                        "is for a search, and this sweep is a grid",
                        "add sweep.num_trials=50, or leave it out",
                    )
                    if not self.is_grid(swept):
                        problem, remedy = "has no effect with another hydra/sweeper", "leave one of the two out"
                    raise ConfigError(f"sweep.{key}", value, problem, remedy)
            return None
        single = [str(o.input_line) for o in parsed if self.loader.is_choice(o) and not o.is_sweep_override()]
        axes = [
            [[line for line in row if self.loader.is_choice(self.loader.parse(line))] for row in rows_of(o)]
            for o in parsed
            if o.is_discrete_sweep() and (self.loader.is_choice(o) or isinstance(o, Rows))
        ]
        bases = {
            tuple(itertools.chain(*choices)): self.loader.base(
                self.config_name, [*single, *itertools.chain(*choices)], RunMode.MULTIRUN
            )
            for choices in itertools.product(*axes)
        }
        return build_space(parsed, num_trials, str(swept.monitor), bases)

    def _swept(self, overrides: list[str], swept: DictConfig) -> list[Override]:
        """The parsed overrides, with those of `hydra.sweeper.params` first."""
        node: Any = OmegaConf.to_container(swept.hydra.sweeper)
        parameters = node.get("params") or {}
        parsed = self.parse([*(f"{key}={value}" for key, value in parameters.items()), *overrides])
        for override in parsed:
            if isinstance(override, Rows):
                name = override.key_or_group
                if self.loader.options(name) or find_node(swept, name) is not None:
                    problem = "is a key, and a zip has a name of its own"
                    raise ConfigError(name, typed_value(override), problem, f"write pair={typed_value(override)}")
                self._check_rows(override, parsed)
        if (file := swept.sweep.points) is not None:
            parsed.append(read_points(file))
            self._check_rows(parsed[-1], parsed)
        # Whether a result depends on data.root is known when each point has its data set.
        fixed = {*RESUMABLE, *RESULT_FREE, *WITH_DEFAULTS} - {*LENGTH_KEYS, "data.root", "data.path"}
        for override in parsed:
            key = override.key_or_group
            is_swept = override.is_sweep_override() and key != "sweep.points"
            if is_swept and any(f"{key}.".startswith(f"{name}.") for name in fixed):
                problem = "takes one value in a sweep"
                raise ConfigError(override.get_key_element(), typed_value(override), problem, "no result depends on it")
        return parsed

    @staticmethod
    def _check_rows(rows: Override, parsed: list[Override]) -> None:
        """Refuse rows whose keys have values elsewhere."""
        keys = {line.partition("=")[0] for row in rows_of(rows) for line in row}
        if known := next((o for o in parsed if o is not rows and o.get_key_element() in keys), None):
            key = known.get_key_element()
            raise ConfigError(key, typed_value(known), f"has values in {rows.key_or_group} too", "give it one of them")

    @staticmethod
    def is_grid(cfg: DictConfig) -> bool:
        """Whether the config's sweeper runs every combination, and nothing else."""
        return bool(cfg.hydra.sweeper._target_ == "hydra._internal.core_plugins.basic_sweeper.BasicSweeper")

    def named_directories(self, overrides: list[str]) -> Iterator[tuple[Path, list[str]]]:
        """The directory in the sweep's, and the overrides, of each point, if `hydra.sweep.subdir` is the user's."""
        swept = self.compose(overrides, multirun=True)
        pattern = find_node(swept, "hydra.sweep.subdir")._value()
        if pattern == POINT_NAME:
            return
        if not self.is_grid(swept) or self.space(overrides, swept) is not None:
            remedy = "leave it out: the directory of a trial is named after its config"
            raise ConfigError("hydra.sweep.subdir", pattern, "does not tell the trials of a search apart", remedy)
        for number, point in enumerate(self.points(overrides)):
            typed = [str(o.input_line) for o in self.parse(point) if not o.is_hydra_override()]
            cfg = self.loader.load_sweep_config(swept, typed)
            with open_dict(cfg):
                cfg.hydra.job.num, cfg.hydra.job.id = number, str(number)
            try:
                yield Path(cfg.hydra.sweep.subdir), point
            except OmegaConfBaseException as error:
                raise_explained(error)

    def rewritten(self, overrides: list[str]) -> dict[str, str]:
        """The single-value overrides as Hydra's own sweeper writes them; empty if it leaves one out."""
        single = [o for o in self.parse(overrides) if not o.is_sweep_override()]
        return {
            str(o.input_line): "" if o.is_hydra_override() else f"{o.get_key_element()}={o.get_value_element_as_str()}"
            for o in single
        }

    def compose(self, overrides: list[str], *, multirun: bool = False) -> DictConfig:
        """The config, with its `hydra` node; `multirun` allows several values per key."""
        run_mode = RunMode.MULTIRUN if multirun else RunMode.RUN
        if multirun:
            # In `model=lstm,gru model.width=8`, whether the key exists depends on the model: each point checks it.
            parsed = self.parse(overrides)
            choices = [self.loader.parse(line) for o in parsed if o.is_discrete_sweep() for line in rows_of(o)[0]]
            swept = tuple(f"{o.key_or_group}." for o in choices if self.loader.is_choice(o))
            plain = [o for o in parsed if not isinstance(o, Rows)]
            overrides = [str(o.input_line) for o in plain if not o.key_or_group.startswith(swept)]
        parsed = self._checked(overrides, run_mode)[0]
        try:
            return self.loader.load_configuration(self.config_name, overrides, run_mode)
        except Exception as error:  # Hydra answers some lines with a bare ValueError or AssertionError
            raise_explained(error, parsed)

    def point(self, overrides: list[str]) -> Config:
        """The checked config of one job of a sweep; composes only if more than plain values differ from another's."""
        parsed, base = self._checked(overrides, RunMode.RUN)
        choices = tuple(str(o.input_line) for o in parsed if self.loader.is_choice(o))
        if choices not in self._templates:
            try:
                self._templates[choices] = Template(base)
            except UserError:  # `model=custom` alone is incomplete
                self._templates[choices] = None
        template = self._templates[choices]
        values = [o for o in parsed if not self.loader.is_choice(o)]
        config = None if template is None else template.with_values(values)
        return check(self.compose(overrides)) if config is None else config

    def _checked(self, overrides: list[str], run_mode: RunMode) -> tuple[list[Override], DictConfig]:
        """The parsed and checked overrides, and the composition of the choices among them."""
        parsed = self.parse(overrides)
        base = self._checked_choices(parsed, run_mode)
        choices = tuple(str(o.input_line) for o in parsed if self.loader.is_choice(o))
        for override in parsed:
            checked = (override.input_line, choices, run_mode)
            if checked not in self._checked_keys and not self.loader.is_choice(override):
                self._check_key(override, base, run_mode)
                self._checked_keys.add(checked)
        return parsed, base

    def _checked_choices(self, parsed: list[Override], run_mode: RunMode) -> DictConfig:
        choices = [o for o in parsed if self.loader.is_choice(o)]
        for override in choices:
            self._check_choice(override, run_mode)
        for group in WITH_DEFAULTS:
            same_group = [o for o in choices if o.key_or_group == group]
            if len(same_group) > 1:  # Hydra would silently use only one of them
                raise ConfigError(group, typed_value(same_group[1]), "is chosen twice", f"write {group}=[…] once")
        single = [str(o.input_line) for o in choices if not o.is_sweep_override()]
        try:
            return self.loader.base(self.config_name, single, run_mode)
        except Exception as error:  # as above
            raise_explained(error, parsed)

    def _check_choice(self, override: Override, run_mode: RunMode) -> None:
        group, known = override.key_or_group, self.loader.options(override.key_or_group)
        value = typed_value(override)
        if override.is_delete():
            raise ConfigError(f"~{group}", MISSING, "a run needs one", f"write {group}=…; it has {', '.join(known)}")
        is_added = override.is_add() or override.is_force_add()
        if is_added and override.package is None and group not in WITH_DEFAULTS and self._has_default(group):
            remedy = f"write {group}={value}, without the +"
            raise ConfigError(override.input_line or group, MISSING, "the group already exists", remedy)
        swept = override.is_sweep_override()
        if swept and run_mode is RunMode.RUN:
            ask_for_multirun(override)
        if override.is_interval_sweep():
            raise ConfigError(group, value, "is for numbers", f"write {group}=a,b; it has {', '.join(known)}")
        for choice in override.sweep_iterator() if swept else [override.value()]:
            if choice is None and group in OPTIONAL:
                raise ConfigError(group, None, "takes a name", f"leave {group} out for none")
            if isinstance(choice, dict) or (isinstance(choice, list) and group not in SEVERAL):
                raise ConfigError(group, value, "takes one name", "several, with -m: a,b without brackets")
            for name in choice if isinstance(choice, list) else [choice]:
                folder, _, leaf = str(name).rpartition("/")  # users' files may be in subfolders
                options = self.loader.options(f"{group}/{folder}") if folder else known
                if leaf not in options:
                    problem = f"there is no {group} of that name"
                    remedy = suggestion(leaf, options or known)
                    if name == "None" and group in OPTIONAL:
                        remedy = f"write {group}=null for none"
                    raise ConfigError(group, name, problem, remedy)

    def _has_default(self, group: str) -> bool:
        """Whether the primary config has an entry for the group, which may be null."""
        return group in self.loader.base(self.config_name, [], RunMode.MULTIRUN).hydra.runtime.choices

    def _check_key(self, override: Override, base: DictConfig, run_mode: RunMode) -> None:
        key, value = override.key_or_group, typed_value(override)
        if override.is_sweep_override() and run_mode is RunMode.RUN:
            ask_for_multirun(override)
        if key == "hydra.searchpath":
            raise ConfigError(key, value, "is not supported", "name your folder with --config-dir FOLDER")
        if override.package is not None or key.startswith("hydra.") or key == "hydra":
            return  # Hydra checks its own typed nodes
        is_foreign = any(key.startswith(node + ".") for node in FOREIGN)
        is_added = override.is_add() or override.is_force_add()
        if (node := find_node(base, key)) is not None:
            if override.is_delete() and not is_foreign:
                raise ConfigError(f"~{key}", MISSING, "a key of mlprun's own cannot be removed", f"write {key}=…")
            if override.is_add() and not override.is_force_add():
                raise ConfigError(f"+{key}", MISSING, "the key already exists", f"write {key}=…, without the +")
            if not override.is_delete() and isinstance(node, BooleanNode):
                check_boolean(override)
            if isinstance(override.value(), dict) and is_null_group(node):
                raise ConfigError(key, value, "is null with these choices, and has no keys", "leave it out")
        elif is_foreign and is_added:
            pass  # an argument of a class; `construct` checks it against the signature
        elif key.isupper():
            raise ConfigError(key, value, "is a variable of the shell", f"set it first: {key}=… mlprun …")
        else:
            remedy = self.nearest(key, base)
            if is_foreign and not override.is_delete():
                remedy += f"\n  (to pass a further argument to the class in {key.rpartition('.')[0]}, write +{key}=…)"
            raise ConfigError(key, value, "there is no such key", remedy)

    def nearest(self, key: str, base: DictConfig, others: Iterable[str] = ()) -> str:
        """`did you mean …?`, of the groups, the keys of `base` and `others`."""
        keys = [name for name, _ in iter_nodes(base) if not name.startswith("hydra.")]
        groups = [group for group in self.loader.list_groups("") if group != "hydra"]
        return nearest_key(key, [*groups, *keys, *others])


def _check_user_folder(folder: Path) -> None:
    """Refuse a file that has the name of one of mlprun's: Hydra would silently use only one of them."""
    if not folder.is_dir():
        raise ConfigError("--config-dir", folder, "there is no such folder")
    for file in sorted(folder.rglob("*.y*ml")):
        name = file.relative_to(folder)
        if any((path / name).is_file() for path in conf_dirs()):
            problem = f"mlprun has a {name} of its own, and only one of the two could be used"
            remedy = f"rename yours, for example to {name.with_stem('my_' + name.stem)}"
            raise ConfigError("--config-dir", file, problem, remedy)
