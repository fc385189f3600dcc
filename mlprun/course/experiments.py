"""`mlprun experiments`: the ready-made experiments, as described at the top of `mlprun/course/conf/experiment/*.yaml`.

The header of such a file, which `parse` reads:

    # @package _global_
    # topic: convolution
    # A small CNN on MNIST.
    #   mlprun experiment=mnist_cnn                              14 s on one core
    #   mlprun -m experiment=mnist_cnn optim.lr=1e-3,3e-3        30 s on two cores
    # Expect 98.4 % accuracy on the test part. See val/loss in TensorBoard.

The topic is one of `TOPICS`; the description is one sentence on one line; a command is indented by three spaces and
separated from its run time by two or more; at least one runs the experiment itself; the expected result may take
several lines. The config follows without an empty line.
"""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlprun.config.explain import description
from mlprun.config.project import find_project
from mlprun.errors import ConfigError, UserError, close_matches, did_you_mean
from mlprun.formatting import json_line, truncate
from mlprun.text_table import render

TOPICS = (
    *("regression", "classification", "activations and initialisation", "inputs and batch norm"),
    *("learning rate and batch size", "convolution", "sound", "autograd", "text", "language models"),
    *("device and speed", "early stopping", "reproducibility"),
)
FOLDER = Path(__file__).parent / "conf" / "experiment"
PICTURES = Path(__file__).parents[2] / "docs" / "images"  # in a checkout; made by `experiment=NAME`, named after it
OWN = "your own"  # the heading of the user's experiments
WIDTH = 100  # of a line of the list


@dataclass(frozen=True)
class Experiment:
    """An `experiment=name`; commands are (line, run time), `expect` is the result to expect, as one line."""

    name: str
    file: Path
    topic: str
    description: str
    commands: tuple[tuple[str, str], ...] = ()
    expect: str = ""


class HeaderError(UserError):
    """The header of an experiment's file is not as this module's docstring says."""


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")


def parse(name: str, file: Path) -> Experiment:
    """The experiment in a file; HeaderError names the first wrong line."""
    header = [line.rstrip() for line in itertools.takewhile(lambda line: line[:1] == "#", _read(file).splitlines())]

    def match(number: int, pattern: str, wanted: str) -> re.Match[str]:
        text = header[number] if number < len(header) else ""
        if (matched := re.fullmatch(pattern, text)) is None:
            found = f"'{text}'" if text else "the end of the header"
            raise HeaderError(f"{file}, line {number + 1}: expected {wanted}, found {found}")
        return matched

    match(0, "# @package _global_", "'# @package _global_'")
    topic = match(1, f"# topic: ({'|'.join(TOPICS)})", f"'# topic: …', one of {', '.join(TOPICS)}")[1]
    description = match(2, r"# (\S.*[.!?])", "the description, a sentence on one line")[1]
    end = next((n for n in range(3, len(header)) if not header[n].startswith("#   ")), len(header))
    wanted = "'#   mlprun …', two spaces or more, and the run time"
    matches = [match(n, r"#   (mlprun .*?)  +(\S.*)", wanted) for n in range(3, end)]
    commands = [(each[1], each[2]) for each in matches]
    if not any(f"experiment={name}" in line.split() for line, _ in commands):
        match(3, r"(?!)", f"a command with experiment={name}")
    match(end, r"# Expect\b.*", "'# Expect …', the result")
    expect = [match(n, r"# {1,2}(\S.*)", "'# ' and text")[1] for n in range(end, len(header))]
    return Experiment(name, file, topic, description, tuple(commands), " ".join(expect))


def ready() -> list[Experiment]:
    """The experiments of mlprun, by topic, then by name."""
    experiments = [parse(file.stem, file) for file in FOLDER.glob("*.yaml")]
    return sorted(experiments, key=lambda each: (TOPICS.index(each.topic), each.name))


def users_own(config_dir: Path) -> list[Experiment]:
    """The experiments in the user's `--config-dir`, by name; the first line of comment is the description."""
    if not config_dir.is_dir():
        raise ConfigError("--config-dir", config_dir, "there is no such folder")
    experiments = []
    folder = config_dir / "experiment"
    for file in sorted(path for path in folder.rglob("*") if path.suffix in (".yaml", ".yml") and path.is_file()):
        name = file.relative_to(folder).with_suffix("").as_posix()
        experiments.append(Experiment(name, file, OWN, description(_read(file))))
    return experiments


def chosen(experiments: Sequence[Experiment], words: str) -> list[Experiment]:
    """The experiments of a topic, or with the words in their name, topic or description; ConfigError if none."""
    query = words.lower()
    of_topic = [each for each in experiments if each.topic == query]
    matches = [each for each in experiments if query in f"{each.name} {each.topic} {each.description}".lower()]
    if not (of_topic or matches):
        texts = " ".join(f"{each.name} {each.topic} {each.description}" for each in experiments).lower()
        names = [*(each.name for each in experiments), *(each.topic for each in experiments)]
        close = close_matches(query, names) or close_matches(query, re.findall(r"[\w-]{4,}", texts))
        remedy = did_you_mean(close) if close else "`mlprun experiments` lists them all"
        problem = "no experiment has this name, topic or word"
        raise ConfigError(f"experiments {words}", ConfigError.MISSING, problem, remedy)
    return of_topic or matches


def listing(experiments: Sequence[Experiment]) -> list[str]:
    """A heading for each topic, and a line for each of its experiments, at most `WIDTH` wide."""
    lines, topic = [], ""
    rows = render([(each.name, each.description) for each in experiments], "<<", indent="  ")
    for each, row in zip(experiments, rows, strict=True):
        lines += ["", each.topic] if each.topic != topic else []
        lines.append(truncate(row, WIDTH))
        topic = each.topic
    return lines[1:]


def page(experiments: Iterable[Experiment]) -> list[str]:
    """The lines of `docs/experiments.md`: a section for each experiment, with its commands, result and picture."""
    experiments = list(experiments)
    topics = list(dict.fromkeys(each.topic for each in experiments))
    lines = [
        "# The experiments",
        "",
        "Each experiment is a small YAML file to start from: `mlprun experiments NAME` shows it, and",
        "`mlprun experiment=NAME KEY=VALUE` changes it. Results are those of the first seed unless they say",
        "otherwise. They were measured with version one (b22247e) on two CPU cores, with torch 2.15 and MNIST.",
        "A picture is the last one in `RUN_DIR/pictures` of the first command.",
        "",
        "This page is generated from the headers in `mlprun/course/conf/experiment` by",
        "`mlprun experiments --markdown > docs/experiments.md`; do not edit.",
        "",
        *(f"- [{topic.capitalize()}](#{topic.replace(' ', '-')})" for topic in topics),
    ]
    topic = ""
    for each in experiments:
        if each.topic != topic:
            topic = each.topic
            lines += ["", f"## {topic.capitalize()}"]
        lines += ["", f"### {each.name}", "", each.description, "", "```sh"]
        lines += render([(line, f"# {run_time}") for line, run_time in each.commands], "<<")
        lines += ["```", ""]
        not_measured = each.expect.removeprefix("Expect: ")
        lines.append(each.expect if not_measured == each.expect else not_measured[0].upper() + not_measured[1:])
        if (PICTURES / f"{each.name}.png").is_file():
            lines += ["", f"![{each.name}](images/{each.name}.png)"]
    return lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", metavar="TOPIC, NAME or word", nargs="*")
    parser.add_argument("--config-dir", "-cd", type=Path, metavar="DIR", help="also list your own experiments in DIR")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print a page with all results")
    form.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace, command: str) -> int:
    if options.markdown:
        print("\n".join(page(ready())))
        return 0
    words = " ".join(options.words)
    config_dir = options.config_dir or find_project().conf
    experiments = [*ready(), *(users_own(Path(config_dir)) if config_dir else [])]
    exact = [each for each in experiments if each.name == words]
    if options.json:
        print(json_line({"experiments": [_as_json(each) for each in exact or chosen(experiments, words)]}))
        return 0
    if exact:
        print(f"{_read(exact[0].file).rstrip()}\n\nfile    {exact[0].file}")
        return 0
    matches = chosen(experiments, words)
    name = matches[0].name if len(matches) == 1 else "NAME"
    option = f" --config-dir {options.config_dir}" if options.config_dir else ""
    rows = [(f"mlprun experiments{option} {name}", "shows its file"), (f"mlprun{option} experiment={name}", "runs it")]
    print(*listing(matches), "", *render(rows, "<<"), sep="\n")
    return 0


def _as_json(each: Experiment) -> dict[str, Any]:
    commands = [{"command": line, "run_time": run_time} for line, run_time in each.commands]
    return {**vars(each), "commands": commands}
