"""What `mlprun help` prints: of a choice its YAML, of a group its choices, of a key its meaning, default and range."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, ListConfig, OmegaConf

from mlprun.config.compose import SEVERAL, Composer
from mlprun.config.hydra_private import find_node
from mlprun.config.reference import find_key, values
from mlprun.errors import ConfigError, shown
from mlprun.formatting import first_few, truncate
from mlprun.text_table import render

WIDTH = 120  # of a line of a list


def description(text: str) -> str:
    """The first line of comment of a YAML file, without its example."""
    comments = (line.lstrip("# ") for line in text.splitlines() if line[:1] == "#")
    return next((line for line in comments if line and not line.startswith(("@package", "topic:"))), "")


class Explainer:
    """Explains the words after `mlprun help`.

    Args:
        words: the overrides of the line: choices, and values of keys.
        others: names that a misspelt word may mean.
    """

    def __init__(self, composer: Composer, words: Sequence[str], others: Sequence[str]) -> None:
        self._composer, self._loader, self._others = composer, composer.loader, others
        self._cfg = composer.compose([*words], multirun=True)
        self._choices: dict[str, Any] = dict(self._cfg.hydra.runtime.choices)

    def lines(self, word: str) -> list[str]:
        """The answer to one word; ConfigError if there is no such name."""
        override = self._loader.parse(word) if "=" in word else None
        if override is not None and self._loader.is_choice(override):
            return [line for choice in _chosen(override) for line in self._choice(override.key_or_group, choice)]
        key = override.key_or_group if override is not None else word
        if self._loader.options(key) and key != "hydra":
            return self._group(key)
        key = key.rstrip(".")
        node = find_node(self._cfg, key) if key else None
        if node is None:
            problem = "there is no such group or key"
            raise ConfigError(word, ConfigError.MISSING, problem, self._elsewhere(key) or self._nearest(key))
        if isinstance(node, DictConfig) and len(node):
            return self._section(key, node)
        return ["  ".join(filter(None, self._key(key, node)))]

    def _choice(self, group: str, choice: str) -> list[str]:
        """The YAML of a choice, with its comments."""
        if (file := self._loader.file_of(f"{group}/{choice}")) is not None:
            return [*_text(file).rstrip().splitlines(), "", f"file    {file}"]
        loaded = self._loader.repository.load_config(f"{group}/{choice}")
        return OmegaConf.to_yaml(loaded.config).splitlines() if loaded is not None else []

    def _group(self, group: str) -> list[str]:
        """The choices of a group, a line each."""
        options = self._loader.options(group)
        rows = []
        for name in options:
            file = self._loader.file_of(f"{group}/{name}")
            about = description(_text(file)) if file is not None else ""
            rows.append((name, re.split(r"[.,:]?\s+`?mlprun ", about)[0].rstrip(".:")))
        present = self._choices.get(group)
        choice = f"{group}={present or options[0]}"
        lines = [f"{choice} is the default"] * bool(present) + [f"mlprun help {choice} shows its YAML"]
        node = find_node(self._cfg, group)
        lines += [f"mlprun help {group}. lists its keys"] * bool(isinstance(node, DictConfig) and len(node))
        return [*(truncate(row, WIDTH) for row in render(rows, "<<")), "", *lines]

    def _section(self, key: str, node: DictConfig) -> list[str]:
        """The keys of a section, a line each."""
        spec = find_key(key)
        about = getattr(spec.metadata["option"].section, "__doc__", None) if spec is not None else None
        rows = []
        for name in map(str, node):
            child = find_node(self._cfg, f"{key}.{name}")
            has_keys = isinstance(child, DictConfig) and len(child)
            rows.append((f"{key}.{name}.", "") if has_keys else self._key(f"{key}.{name}", child))
        return [*([about.strip()] if about else []), *(truncate(row, WIDTH) for row in render(rows, "<<"))]

    def _key(self, key: str, node: Any) -> tuple[str, str]:
        """`optim.lr=0.001` and what is known of the key: its meaning, unit and values, or the comment in its YAML."""
        present = OmegaConf.to_container(node) if isinstance(node, DictConfig | ListConfig) else node._value()
        spec = find_key(key)
        meaning = self._comment(key)
        if spec is not None and "option" in spec.metadata:
            option = spec.metadata["option"]
            details = "; ".join(filter(None, [option.unit, values(spec)]))
            meaning = f"{option.meaning} ({details})" if details else option.meaning
        return f"{key}={shown(present)}", meaning

    def _elsewhere(self, key: str) -> str:
        """Which choice of the key's group has it, if the one that is chosen has not."""
        group, _, inner = key.partition(".")
        files = {option: self._loader.file_of(f"{group}/{option}") for option in self._loader.options(group) if inner}
        known = [option for option, file in files.items() if file and inner in dict(comments(_text(file)))]
        return f"{group}={first_few(known, 5)} has it: mlprun help {group}={known[0]} {key}" if known else ""

    def _nearest(self, key: str) -> str:
        return self._composer.nearest(key, self._cfg, self._others)

    def _comment(self, key: str) -> str:
        """The comment on a key in the YAML that gives it its value, with the choice."""
        for group, choice in self._files():
            file = self._loader.file_of(f"{group.partition('@')[0]}/{choice}")
            if file is None:
                continue
            text = _text(file)
            package = _package(text, group)
            inner = key.removeprefix(f"{package}.") if package else key
            if (inner != key or not package) and (comment := dict(comments(text)).get(inner)):
                return f"{comment} ({group}={choice})"
        return ""

    def _files(self) -> Iterator[tuple[str, str]]:
        """(group, choice) of all YAML that may hold a key, those that are chosen first."""
        yield from ((group, str(choice)) for group, choice in self._choices.items() if choice)
        yield from ((group, option) for group in SEVERAL for option in self._loader.options(group))


def comments(text: str) -> Iterator[tuple[str, str]]:
    """(dotted key, comment) of a YAML file: what stands after the value, else directly above the key, else nothing."""
    try:
        waiting = [("", yaml.compose(text, yaml.SafeLoader))]
    except yaml.YAMLError:  # Hydra says so where the file is chosen
        return
    lines = text.splitlines()
    header = next((number for number, line in enumerate(lines) if line[:1] != "#"), len(lines))
    while waiting:
        prefix, node = waiting.pop()
        if not isinstance(node, yaml.MappingNode):
            continue
        for name, value in node.value:
            number, column = name.end_mark.line, name.end_mark.column
            if value.end_mark.line == number:
                column = value.end_mark.column
            after = re.match(r":?\s*#\s*(.*)", lines[number][column:].strip())
            above = re.match(r"\s*#\s*(.*)", lines[number - 1]) if number > header else None
            comment = after or above
            yield f"{prefix}{name.value}", comment[1].strip() if comment is not None else ""
            waiting.append((f"{prefix}{name.value}.", value))


def _package(text: str, group: str) -> str:
    """The key under which Hydra puts the content of a file."""
    if match := re.match(r"#\s*@package\s+(\S+)", text):
        return "" if match[1] == "_global_" else match[1]
    return group.partition("@")[2] or group.replace("/", ".")


def _chosen(override: Override) -> list[str]:
    given = [*override.sweep_iterator()] if override.is_sweep_override() else [override.value()]
    names = [name for value in given for name in (value if isinstance(value, list) else [value])]
    return [str(name) for name in names if name is not None]


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")
