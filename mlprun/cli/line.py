"""A command line that trains or sweeps, parsed once."""

from __future__ import annotations

import shlex
from argparse import Namespace
from dataclasses import dataclass, replace
from pathlib import Path

from hydra.core.override_parser.types import Override

from mlprun.config.compose import Composer
from mlprun.config.hydra_private import argument_parser
from mlprun.errors import ConfigError, close_matches

VERBS = {
    "inspect": "look before training: data, model, schedule, devices and speed; trains nothing",
    "eval": "test score of a finished run's best checkpoint",
    "resume": "continue a run in its own directory",
    "reproduce": "run again from a run's record, in a new directory, and compare bit by bit",
    "runs": "table and leaderboard of the runs in a folder",
    "show": "one run, or how the configs, code, environments and results of two differ",
    "predict": "predict images, rows of numbers, texts, sounds or the test part with the best checkpoint",
    "plot": "curves of a run, or of several in one picture",
    "experiments": "the ready experiments: all, those of a topic, or one in full",
}


@dataclass(frozen=True)
class Line:
    """What was typed.

    Attributes:
        command: the whole line, for records.
        options: Hydra's own, such as `multirun`.
        words: the overrides as they were typed.
        flags: all other words.
        composer: composes them.
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
    def arguments(self) -> list[str]:
        """The words in the order that a sweep's record keeps: overrides first."""
        return [*self.words, *self.flags]

    def sets(self, key: str) -> bool:
        """Whether an override gives `key` a value."""
        return any(o.key_or_group == key and not o.is_delete() for o in self.overrides)

    def refuse(self, node: str, problem: str, remedy: str) -> None:
        """Raise ConfigError if an override sets what another verb reads."""
        for override in self.overrides:
            if override.key_or_group == node or override.key_or_group.startswith(f"{node}."):
                raise ConfigError(str(override.input_line), ConfigError.MISSING, problem, remedy)

    def with_words(self, words: list[str]) -> Line:
        """The same line with other overrides."""
        return replace(self, words=words)


def parse_line(arguments: list[str], command: str | None = None) -> Line:
    """The line whose words, without the program's name, are `arguments`.

    Args:
        arguments: of the line.
        command: what the record says was typed, if it is not this line.

    Raises:
        ConfigError: a word is no override, or the folder of YAML cannot be used.
        SystemExit: an option that does not exist.
    """
    options = argument_parser().parse_intermixed_args(arguments)
    flags = [word for word in arguments if word not in options.overrides]
    if not (options.help or options.hydra_help or options.shell_completion or options.info):
        check_words(options.overrides)
    options.config_name = options.config_name or "config"
    composer = Composer(options.config_dir, options.config_name)
    return Line(command or shlex.join(["mlprun", *arguments]), options, options.overrides, flags, composer)


def check_words(words: list[str]) -> None:
    """Raise ConfigError for a word that is no override."""
    for word in words:
        if "=" not in word and not word.startswith("~"):
            close = close_matches(word, VERBS)
            remedy = "write key=value without spaces, or quote it: 'model.hidden=[128, 64]'; see mlprun --help"
            if word in VERBS:
                remedy = f"the verb comes first: mlprun {word} …"
            elif close:
                remedy = f"did you mean 'mlprun {close[0]}'?"
            raise ConfigError(word, ConfigError.MISSING, "is neither a verb nor key=value", remedy)


def first_folder(path: Path) -> Path:
    """`outputs` of `outputs/2026-11-21/…`; an absolute path whole."""
    return path if path.is_absolute() or not path.parts else Path(path.parts[0])
