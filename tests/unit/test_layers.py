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


IMPORTS = {name: imports(file) for name, file in FILES.items()}

# Each line may import from the lines above it, and within itself.
LAYERS = [
    "formatting process version_one",
    "errors terminal text_table",
    "files randomness signals streams",
    "models runs",
    "data writers",
    "tasks",
    "training",
    "pictures",
    "config",
    "analysis",
    "job",
    "predict sweep",
    "inspection",
    "cli",
    "api",
    "course",  # a client as any user is: nothing imports it
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names.split()}


def test_a_module_imports_from_its_layer_and_those_below_only():
    above = []
    for name, package in ((name, name.split(".")[1]) for name in FILES):
        if not package.startswith("__"):
            others = {m.split(".")[1] for m in IMPORTS[name] if m.startswith("mlprun.")} - {package, "__version__"}
            above += [(name, other) for other in others if LEVEL[other] >= LEVEL[package]]
    assert above == []


def test_a_new_module_has_a_layer():
    assert {name.split(".")[1] for name in FILES} - {"__init__", "__main__"} == set(LEVEL)


KNOW_HYDRA = ("mlprun.config.", "mlprun.cli.")


def test_only_config_and_the_command_line_know_hydra():
    know = {name for name in FILES if {m.split(".")[0] for m in IMPORTS[name]} & {"hydra", "omegaconf"}}
    assert [name for name in know if not name.startswith(KNOW_HYDRA)] == []


def test_models_know_nothing_of_mlprun_but_its_errors():
    known = {m for name in FILES if name.startswith("mlprun.models") for m in IMPORTS[name] if m.startswith("mlprun")}
    assert {m for m in known if not m.startswith(("mlprun.errors", "mlprun.models"))} == set()


def test_one_module_can_call_any_target():
    """Whoever imports Hydra's `instantiate`, under whatever name, can run any importable."""
    callers = {name for name in FILES if any(INSTANTIATE.match(module) for module in IMPORTS[name])}
    assert callers == {"mlprun.config.instantiate"}


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
    del known["mlprun"]  # the API's names, for type checkers
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
    from mlprun.data.text import tokenizer
    from mlprun.models import sequences
    from mlprun.tasks import names as task_names

    assert sequences.PADDING == tokenizer.PADDING
    assert {*sequences.PER_TOKEN} < {*task_names.TASKS}


def test_the_names_of_metrics_are_those_of_the_tasks():
    """Configs are checked before torch is imported, so these names stand twice."""
    import torch
    from torch import nn

    from mlprun.data.nested import Batch
    from mlprun.tasks import names as task_names
    from mlprun.tasks.metrics import Evaluation
    from tests.helpers.tasks import Given, make_task

    inputs = {
        "classification": (torch.zeros(2, 30), torch.zeros(2, dtype=torch.int64)),
        "multi_label": (torch.zeros(2, 30), torch.zeros(2, 30)),
        "regression": (torch.zeros(2, 30), torch.zeros(2, 30)),
    }
    tokens = (torch.zeros(2, 3, 30), torch.zeros(2, 3, dtype=torch.int64))
    for name, metrics in task_names.METRICS.items():
        criterion = {"multi_label": nn.BCEWithLogitsLoss(), "regression": nn.MSELoss()}.get(name, nn.CrossEntropyLoss())
        task = make_task(criterion, name, 30)
        evaluation = Evaluation(task, task.metrics(torch.device("cpu")))
        evaluation.update(task.eval_step(Given(), Batch(*inputs.get(name, tokens))))
        assert tuple(evaluation.compute()) == metrics
        assert {metric for metric in task.higher_is_better if metric not in metrics} == set()
