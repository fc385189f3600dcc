"""Nothing asks for the task or the kind of input, except the packages that are about them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlprun
from mlprun.config.schema import INPUT_SECTIONS
from mlprun.tasks.names import METRICS
from tests.helpers.files import REPOSITORY

PACKAGE = Path(mlprun.__file__).parent
MAY_ASK = ("tasks/", "data/", "pictures/", "predict/", "course/", "version_one.py")
# CONTRIBUTING.md, "Adding a kind of input", says why.
EXCEPTIONS = {
    "config/schema.py": {"'text'", "'audio'"},
    "config/resolvers.py": {"mlprun.data.audio.mel", "mlprun.data.audio.mel.Frames"},
    "config/version_one_identity.py": {"'text'", "'audio'"},
    "job/build_data.py": {"'classification'", "a comparison of tasks"},
    "job/build_mix.py": {"mlprun.tasks.classification", "mlprun.tasks.classification.Classification"},
    "job/class_weights.py": {"'classification'", "'multi_label'", "'regression'", "a comparison of tasks"},
    "models/sequences.py": {"'token_classification'", "'language_modeling'"},
    "models/rnn.py": {"'language_modeling'"},
    "models/transformer.py": {"'language_modeling'"},
}
FILES = {file.relative_to(PACKAGE).as_posix(): file.read_text(encoding="utf-8") for file in PACKAGE.rglob("*.py")}
KINDS = re.compile(rf"mlprun\.data\.({'|'.join(INPUT_SECTIONS)})\b")
TASKS = re.compile(r"mlprun\.tasks\.(classification|regression|tokens)\b")


def knowledge(source: str) -> Iterator[str]:
    """What a module knows of tasks and kinds of input: imports, names as strings, keys of the config, tokenizers."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom | ast.Import):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names = [".".join([*modules, alias.name]) for alias in node.names]
            yield from (m for m in [*modules, *names] if KINDS.match(m) or TASKS.match(m))
        elif isinstance(node, ast.Constant) and node.value in (*METRICS, *INPUT_SECTIONS):
            yield repr(node.value)
        elif isinstance(node, ast.Attribute) and node.attr in (*INPUT_SECTIONS, "tokenizer"):
            of = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            if of == "data" or node.attr == "tokenizer":
                yield f"{of}.{node.attr}"
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            yield from (
                "a comparison of tasks" for side in sides if isinstance(side, ast.Attribute) and side.attr == "task"
            )


def test_nothing_else_asks_for_the_task_or_the_kind_of_input():
    known = {name: set(knowledge(source)) for name, source in FILES.items() if not name.startswith(MAY_ASK)}
    assert {name: found for name, found in known.items() if found} == EXCEPTIONS


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from mlprun.data.text.tokenizer import PADDING", "mlprun.data.text.tokenizer"),
        ("def late():\n    import mlprun.data.audio.mel", "mlprun.data.audio.mel"),
        ("from mlprun.data import text", "mlprun.data.text"),
        ("if splits.inputs.tokenizer: pass", "inputs.tokenizer"),
        ("bucketing = config.data.text.bucketing", "data.text"),
        ("if data.audio is not None: pass", "data.audio"),
        ("if name in ('text', 'x'): pass", "'text'"),
        ("if task == 'regression': pass", "'regression'"),
        ("if config.data.task != CUSTOM: pass", "a comparison of tasks"),
        ("from mlprun.tasks.tokens import LanguageModeling", "mlprun.tasks.tokens"),
    ],
)
def test_the_ways_to_ask_are_known(code, found):
    assert found in set(knowledge(code))


def test_the_files_that_know_text_and_audio_are_listed():
    page = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = page.partition("## Adding a kind of input")[2].partition("\n## ")[0]
    own = tuple(f"data/{kind}/" for kind in INPUT_SECTIONS)
    ways = (*(f"data.{kind}" for kind in INPUT_SECTIONS), *(repr(kind) for kind in INPUT_SECTIONS))
    know = {
        name
        for name, source in FILES.items()
        if not name.startswith((*own, "course/"))
        and any(KINDS.match(found) or found in ways for found in knowledge(source))
    }
    assert set(re.findall(r"^\| `([\w/.]+\.py)`", section, re.MULTILINE)) == know
