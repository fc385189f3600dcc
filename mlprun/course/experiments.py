"""`mlprun experiments`: the ready experiments, and what each file in `mlprun/course/conf/experiment/` says at its top.

The header of such a file, which `parse` reads and a test holds every file to:

    # @package _global_
    # topic: convolution
    # A small CNN on MNIST.
    #   mlprun experiment=mnist_cnn                              14 s on one core
    #   mlprun -m experiment=mnist_cnn optim.lr=1e-3,3e-3        30 s on two cores
    # Expect 98.4 % accuracy on the test part. See val/loss in TensorBoard.

The topic is one of `TOPICS`; the description is one sentence on one line; a command is indented by three spaces, and
two spaces or more part it from its run time; one of them runs the experiment itself; the result to expect and
what to look at may go on over further lines. Below the header stands the config, without an empty line between.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlprun.errors import ConfigError, UserError, close_matches, did_you_mean
from mlprun.formatting import truncate
from mlprun.text_table import render

TOPICS = (
    "regression",
    "classification",
    "activations and initialisation",
    "inputs and batch norm",
    "learning rate and batch size",
    "convolution",
    "sound",
    "autograd",
    "text",
    "language models",
    "device and speed",
    "early stopping",
    "reproducibility",
)
FOLDER = Path(__file__).parent / "conf" / "experiment"
PICTURES = Path(__file__).parents[2] / "docs" / "images"  # in a checkout; made by `experiment=NAME`, named after it
OWN = "your own"  # the heading of what lies in the user's folder
WIDTH = 100  # of a line of the list


@dataclass(frozen=True)
class Experiment:
    """A file of `course/conf/experiment/`, or of the folder `experiment` of the user's.

    Attributes:
        name: what stands behind `experiment=`.
        file: where it lies.
        topic: one of `TOPICS`, or `OWN`.
        description: one sentence.
        commands: (line, its run time) each; one at least runs the experiment.
        expect: the result, and what to look at; one line of text.
    """

    name: str
    file: Path
    topic: str
    description: str
    commands: tuple[tuple[str, str], ...]
    expect: str


class HeaderError(UserError):
    """The top of an experiment's file is not what this module's docstring says."""


def parse(name: str, file: Path) -> Experiment:
    """The experiment that a file describes.

    Args:
        name: what stands behind `experiment=`.
        file: a YAML file.

    Raises:
        HeaderError: the file, the line and what should stand there.
    """
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    end = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    header = [line.rstrip() for line in lines[:end]]

    def wrong(number: int, wanted: str) -> HeaderError:
        found = f"'{header[number]}'" if number < len(header) else "the end of the header"
        return HeaderError(f"{file}, line {number + 1}: expected {wanted}, found {found}")

    if header[:1] != ["# @package _global_"]:
        raise wrong(0, "'# @package _global_'")
    topic = header[1].removeprefix("# topic: ") if len(header) > 1 else ""
    if topic not in TOPICS:
        raise wrong(1, f"'# topic: …', one of {', '.join(TOPICS)}")
    if len(header) < 3 or not re.fullmatch(r"# \S.*[.!?]", header[2]):
        raise wrong(2, "the description, a sentence on one line")
    position, commands = 3, list[tuple[str, str]]()
    while position < len(header) and header[position].startswith("#   "):
        line, _, run_time = header[position].removeprefix("#   ").partition("  ")
        if not line.startswith("mlprun ") or not run_time.strip():
            raise wrong(position, "'#   mlprun …', two spaces or more, and the run time")
        commands.append((line, run_time.strip()))
        position += 1
    if not commands:
        raise wrong(3, "a command, '#   mlprun …'")
    if not any(f"experiment={name}" in line.split() for line, _ in commands):
        raise wrong(3, f"a command with experiment={name}")
    expected = header[position:]
    if not expected or not re.match(r"# Expect\b", expected[0]):
        raise wrong(position, "'# Expect …', the result")
    for number, line in enumerate(expected, position):
        if not re.match(r"# {1,2}\S", line):
            raise wrong(number, "'# ' and text")
    return Experiment(
        name, file, topic, header[2][2:], tuple(commands), " ".join(line[1:].strip() for line in expected)
    )


def ready() -> list[Experiment]:
    """Those that come with mlprun, by topic, then by name."""
    experiments = [parse(file.stem, file) for file in FOLDER.glob("*.yaml")]
    return sorted(experiments, key=lambda each: (TOPICS.index(each.topic), each.name))


def users_own(config_dir: Path) -> list[Experiment]:
    """Those in the user's folder, by name. They need no header; their first line of comment is the description.

    Args:
        config_dir: as for `--config-dir`.

    Raises:
        ConfigError: there is no such folder.
    """
    if not config_dir.is_dir():
        raise ConfigError("--config-dir", config_dir, "there is no such folder")
    experiments = []
    folder = config_dir / "experiment"
    for file in sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")]):
        if not file.is_file():
            continue
        name = file.relative_to(folder).with_suffix("").as_posix()
        try:
            experiment = parse(name, file)
            described = experiment.description, experiment.commands, experiment.expect
        except HeaderError:
            comments = [
                line.lstrip("# ")
                for line in file.read_text(encoding="utf-8", errors="replace").splitlines()
                if line[:1] == "#"
            ]
            texts = (text for text in comments if text and not text.startswith(("@package", "topic:")))
            described = next(texts, ""), (), ""
        experiments.append(Experiment(name, file, OWN, *described))
    return experiments


def chosen(experiments: Sequence[Experiment], words: str) -> list[Experiment]:
    """Those of a topic, or those in whose name, topic or description the words occur; with no words all.

    Raises:
        ConfigError: there is none; with what was probably meant.
    """
    query = words.lower()
    of_topic = [each for each in experiments if each.topic == query]
    matches = [each for each in experiments if query in f"{each.name} {each.topic} {each.description}".lower()]
    if not (of_topic or matches):
        texts = " ".join(f"{each.name} {each.topic} {each.description}" for each in experiments).lower()
        candidates = [*(each.name for each in experiments), *dict.fromkeys(each.topic for each in experiments)]
        close = close_matches(query, candidates) or close_matches(query, re.findall(r"[\w-]{4,}", texts))
        remedy = did_you_mean(close) if close else ""
        raise ConfigError(
            f"experiments {words}", ConfigError.MISSING, "no experiment has this name, topic or word",
            remedy or "`mlprun experiments` lists them all",
        )  # fmt: skip
    return of_topic or matches


def listing(experiments: Sequence[Experiment]) -> list[str]:
    """A heading for each topic, and below it a line for each of its experiments, at most `WIDTH` wide."""
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
    parser.add_argument("--config-dir", "-cd", type=Path, metavar="DIR", help="list those of your own in DIR, too")
    parser.add_argument("--markdown", action="store_true", help="all of them as a page with what they measured")


def run(options: argparse.Namespace, command: str) -> int:
    """Print them; the exit status."""
    if options.markdown:
        print("\n".join(page(ready())))
        return 0
    words = " ".join(options.words)
    experiments = [*ready(), *(users_own(options.config_dir) if options.config_dir else [])]
    if exact := [each for each in experiments if each.name == words]:
        print(exact[0].file.read_text(encoding="utf-8", errors="replace").rstrip())
        print(f"\nfile    {exact[0].file}")
        return 0
    matches = chosen(experiments, words)
    for line in listing(matches):
        print(line)
    name = matches[0].name if len(matches) == 1 else "NAME"
    option = f" --config-dir {options.config_dir}" if options.config_dir else ""
    rows = [(f"mlprun experiments{option} {name}", "shows its file"), (f"mlprun{option} experiment={name}", "runs it")]
    print("", *render(rows, "<<"), sep="\n")
    return 0
