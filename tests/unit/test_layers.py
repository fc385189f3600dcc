"""The house: who may know whom."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import mlprun

PACKAGE = Path(mlprun.__file__).parent
FILES = {".".join(["mlprun", *file.relative_to(PACKAGE).with_suffix("").parts]): file for file in PACKAGE.rglob("*.py")}
INSTANTIATE = re.compile(r"hydra\.(utils|_internal\.instantiate)\b")


def imports(file: Path, *, late: bool = True) -> set[str]:
    """Modules that a file imports; without `late`, only those that importing it imports."""
    tree = ast.parse(file.read_text())
    nodes = list(ast.walk(tree)) if late else tree.body
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("name", sorted(FILES))
def test_only_cli_config_and_build_know_hydra(name):
    knows = {module.split(".")[0] for module in imports(FILES[name])} & {"hydra", "omegaconf"}
    assert not knows or name in ("mlprun.cli", "mlprun.config", "mlprun.build")


@pytest.mark.parametrize("name", sorted(n for n in FILES if n.startswith("mlprun.models")))
def test_models_know_nothing_of_mlprun_but_its_errors(name):
    known = {m for m in imports(FILES[name]) if m.startswith("mlprun")}
    assert {m for m in known if not m.startswith(("mlprun.errors", "mlprun.models"))} == set()


def test_one_module_can_call_any_target():
    """Whoever imports Hydra's `instantiate`, under whatever name, can run any importable."""
    callers = {name for name, file in FILES.items() if any(INSTANTIATE.match(module) for module in imports(file))}
    assert callers == {"mlprun.build"}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from hydra.utils import call as make", True),
        ("import hydra.utils as u", True),
        ("def late():\n    from hydra import utils", True),
        ("from hydra._internal.instantiate import _instantiate2", True),
        ("from hydra import main", False),
        ("from hydra.core.utils import run_job", False),
    ],
)
def test_the_ways_to_instantiate_are_known(tmp_path, code, found):
    (tmp_path / "module.py").write_text(code)
    assert any(INSTANTIATE.match(module) for module in imports(tmp_path / "module.py")) == found


def test_imports_make_no_circle():
    known = {name.removesuffix(".__init__"): file for name, file in FILES.items()}
    graph = {name: {m for m in imports(file) if m in known and m != name} for name, file in known.items()}
    done: set[str] = set()
    while ready := {name for name in graph if name not in done and graph[name] <= done}:
        done |= ready
    assert set(graph) - done == set()


def test_no_default_hides_in_a_get():
    for name, file in FILES.items():
        if name.startswith(("mlprun.training", "mlprun.models", "mlprun.data")):
            assert "config.get(" not in file.read_text(), name


def test_models_and_data_mean_the_same_by_padding_and_by_tasks():
    """Models know nothing of mlprun, so these words stand twice."""
    from mlprun import metric_names
    from mlprun.data import tokens
    from mlprun.models import sequences

    assert sequences.PADDING == tokens.PADDING
    assert sequences.OF_THE_WHOLE + sequences.BY_TOKEN == metric_names.TASKS
    assert sequences.BY_TOKEN == metric_names.BY_TOKEN
