"""The command line of a run or a sweep, parsed once."""

from __future__ import annotations

import shlex
from argparse import Namespace
from dataclasses import dataclass, replace
from pathlib import Path

from hydra.core.override_parser.types import Override

from mlprun.cli.usage import parse
from mlprun.cli.verbs import check_words
from mlprun.config.compose import Composer
from mlprun.config.hydra_private import argument_parser
from mlprun.config.project import find_project
from mlprun.errors import ConfigError


@dataclass(frozen=True)
class Line:
    """A parsed command line.

    Attributes:
        command: the whole line, for records.
        options: Hydra's own, such as `multirun`.
        words: the overrides as typed.
        flags: all other words.
    """

    command: str
    options: Namespace
    words: list[str]
    flags: list[str]
    composer: Composer

    @property
    def overrides(self) -> list[Override]:
        return self.composer.parse(self.words)

    @property
    def words_of_task(self) -> list[str]:
        """The overrides that Hydra passes to its sweepers and launchers."""
        return [str(o.input_line) for o in self.overrides if not o.is_hydra_override()]

    def sets(self, key: str) -> bool:
        """Whether an override gives `key` a value."""
        return any(o.key_or_group == key and not o.is_delete() for o in self.overrides)

    def refuse(self, node: str, problem: str, remedy: str) -> None:
        """Raise ConfigError if an override sets a key that only another verb uses."""
        for override in self.overrides:
            if override.key_or_group == node or override.key_or_group.startswith(f"{node}."):
                raise ConfigError(str(override.input_line), ConfigError.MISSING, problem, remedy)

    def refuse_inspect(self) -> None:
        """Raise ConfigError if an override sets a key of `mlprun inspect`."""
        self.refuse("inspect", "is for mlprun inspect", "write mlprun inspect …, or leave it out")


def typed_line(arguments: list[str], command: str | None = None) -> Line:
    """`parse_line` for a line typed in a project: it starts from the project's YAML and defaults, and records them."""
    project = find_project()
    line = parse_line(arguments, command, project.conf)
    typed = {word: o.value() for word, o in zip(line.words, line.overrides, strict=True) if o.key_or_group == "project"}
    words = [word for word in line.words if typed.get(word, word) is not None]  # project=null: without the defaults
    defaults = [f"project={project.defaults}"] if project.defaults is not None and not typed else []
    return replace(line, words=[*defaults, *words])


def parse_line(arguments: list[str], command: str | None = None, config_dir: str | None = None) -> Line:
    """Parse `arguments`.

    Args:
        command: the line for the record, if it was not `mlprun` with these arguments.
        config_dir: the folder of the user's YAML if the line names none.
    """
    options = parse(argument_parser(), arguments)
    flags = [word for word in arguments if word not in options.overrides]
    if options.config_dir is None and config_dir is not None:
        options.config_dir = config_dir
        flags += ["--config-dir", config_dir]
    if not (options.shell_completion or options.info):
        check_words(options.overrides)
    options.config_name = options.config_name or "config"
    composer = Composer(options.config_dir, options.config_name)
    return Line(command or shlex.join(["mlprun", *arguments]), options, options.overrides, flags, composer)


def first_folder(path: Path) -> Path:
    """`outputs` of `outputs/2026-11-21/…`, and the project's outputs; an absolute path unchanged."""
    outputs = find_project().outputs
    if path.is_relative_to(outputs):
        return outputs
    return path if path.is_absolute() or not path.parts else Path(path.parts[0])
