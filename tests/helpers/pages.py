"""The Markdown pages: their blocks, the commands in them, and the files that they show."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests.helpers.files import REPOSITORY

_FILES = (
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").glob("**/*.md")),
)
PAGES = {file.relative_to(REPOSITORY).as_posix(): file.read_text() for file in _FILES}
GENERATED = ("docs/config.md", "docs/experiments.md")  # tests of their own compare them with their source


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[list[str]]:
    """The words after `mlprun` of each command in a page's `sh` blocks."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("mlprun")]


def examples(page: str) -> list[tuple[str, list[str]]]:
    """Each command in a page's `console` blocks, and the output that is shown below it."""
    found: list[tuple[str, list[str]]] = []
    for line in "".join(blocks(page, "console")).splitlines():
        if line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        else:
            found[-1][1].append(line)
    return found


def write_files(page: str, folder: Path) -> None:
    """Write the files that a page shows: Python and YAML blocks that begin with `# FILE`, or do after `# @package`."""
    for language in ("python", "yaml"):
        for block in blocks(page, language):
            if name := re.match(r"(?:# @.*\n)?# (\S+\.(?:py|yaml))\n", block):
                (folder / name[1]).parent.mkdir(parents=True, exist_ok=True)
                (folder / name[1]).write_text(block)
