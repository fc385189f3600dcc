"""`--json`: one object on stdout and nothing else, of a fixed schema, null for what is not finite."""

from __future__ import annotations

import json

import jsonschema
import pytest

from tests.helpers.files import write
from tests.helpers.runs import RUN

TEXT, NUMBER = {"type": "string"}, {"type": ["number", "null"]}
OBJECT, LIST = {"type": "object"}, {"type": ["array", "null"]}
COUNT, OR_NULL = {"type": ["integer", "null"]}, {"type": ["string", "null"]}
METRICS = {"type": "object", "additionalProperties": NUMBER}


def exactly(**properties) -> dict:
    return {"type": "object", "required": [*properties], "additionalProperties": False, "properties": properties}


FACTS = exactly(
    **dict.fromkeys(("run", "status", "command", "started_at", "ended_by", "error"), TEXT),
    **dict.fromkeys(("steps", "num_steps", "best_step"), COUNT),
    **dict.fromkeys(("device", "git", "mlprun"), OBJECT),
    next_best={"type": "array", "items": exactly(step=COUNT, value=NUMBER)},
    **dict.fromkeys(("folder", "reproduces"), OR_NULL),
    elapsed_sec=NUMBER, metrics=METRICS, config={"type": ["object", "null"]},
    overrides={"type": "array", "items": TEXT}, resumed={"type": "array", "items": OBJECT},
)  # fmt: skip
PAIRS = {"type": "array", "items": {"type": "object", "required": ["key"]}}
PAIR = exactly(
    first=FACTS, second=FACTS,
    differences=exactly(**dict.fromkeys(("config", "code", "environment", "data"), PAIRS)),
    first_differing_row={"anyOf": [{"type": "null"}, exactly(step=COUNT, differences=PAIRS), exactly(error=TEXT)]},
)  # fmt: skip
COMMAND = exactly(command=TEXT, run_time=TEXT)
EXPERIMENT = exactly(
    **dict.fromkeys(("name", "file", "topic", "description", "expect"), TEXT),
    commands={"type": "array", "items": COMMAND},
)
EXPERIMENTS = exactly(experiments={"type": "array", "items": EXPERIMENT})
INSPECTED = exactly(
    data=exactly(
        name=TEXT, task=TEXT, sizes={"type": "object", "additionalProperties": COUNT},
        **dict.fromkeys(("input_shape", "class_names"), LIST),
    ),
    model=exactly(**{"class": TEXT}, parameters=COUNT, trained_parameters=COUNT, multiply_adds_per_example=COUNT),
    length=exactly(**dict.fromkeys(("steps", "steps_per_epoch", "batch_size", "eval_every", "save_every"), COUNT)),
    rates={
        "type": "object",
        "additionalProperties": exactly(**dict.fromkeys(("first", "last", "lowest", "highest"), NUMBER)),
    },
    speed=exactly(device=TEXT, step_sec=NUMBER, examples_per_sec=NUMBER, problem=TEXT),
    pictures={"type": "array", "items": TEXT},
)  # fmt: skip


def reject(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


@pytest.fixture
def printed(mlprun):
    def run(schema: dict, *words: str) -> dict:
        result = mlprun(*words, "--json")
        assert result.status == 0, result.err
        found = json.loads(result.out, parse_constant=reject)
        jsonschema.validate(found, schema)
        return found

    return run


def test_a_run_and_its_score(printed, mlprun, trained):
    trained("debug=fast", "data=iris")
    shown = printed(FACTS, "show", RUN)
    assert (shown["run"], shown["status"], shown["overrides"]) == (RUN, "completed", ["debug=fast", "data=iris"])
    scored = printed(exactly(run=TEXT, checkpoint=TEXT, tta=COUNT, metrics=METRICS), "eval", RUN)
    assert scored["metrics"] == {k: v for k, v in shown["metrics"].items() if k.startswith("test/")}
    alike = printed(PAIR, "show", RUN, RUN)
    assert alike["first_differing_row"] == {"step": None, "differences": []}
    assert not any(alike["differences"].values())
    for words in (["show", "nowhere"], ["eval", "nowhere"]):
        refused = mlprun(*words, "--json")
        assert (refused.status, refused.out) == (1, "")


def test_two_runs_that_differ(printed, tmp_path):
    record = {"status": "failed", "config": {"seed": 0}, "metrics": {"val/loss": float("nan")}}
    other = record | {"config": {"seed": 1, "mine": float("inf")}}
    write(tmp_path, {"a/run.json": json.dumps(record), "b/run.json": json.dumps(other)})
    found = printed(PAIR, "show", "a", "b")
    assert found["first"]["metrics"] == {"val/loss": None}
    assert {"key": "seed", "first": 0, "second": 1} in found["differences"]["config"]
    assert {"key": "mine", "second": None} in found["differences"]["config"]
    assert found["first_differing_row"] is None  # with another config they differ anyway


def test_the_experiments(printed, mlprun):
    every = printed(EXPERIMENTS, "experiments")["experiments"]
    assert len(every) > 50
    (one,) = printed(EXPERIMENTS, "experiments", "mnist_cnn")["experiments"]
    assert one in every
    assert one["commands"][0]["command"].startswith("mlprun experiment=mnist_cnn")
    assert printed(EXPERIMENTS, "experiments", "convolution")["experiments"][0]["topic"] == "convolution"
    assert mlprun("experiments", "--json", "--markdown").status == 2


@pytest.mark.parametrize(
    "words",
    [["data=iris", "model=mlp"], ["data=reviews", "model=gru"], ["scheduler=plateau"], ["optim.lr=1e30", "optim=sgd"]],
)
def test_what_inspect_finds(printed, tmp_path, words):
    found = printed(INSPECTED, "inspect", "debug=fast", *words)
    assert found["model"]["parameters"] == found["model"]["trained_parameters"] > 0
    assert all((tmp_path / file).is_file() for file in found["pictures"])
    if "data=iris" in words:
        assert found["data"]["class_names"] == ["setosa", "versicolor", "virginica"]
        assert found["rates"]["learning rate"] == dict.fromkeys(("first", "last", "lowest", "highest"), 0.001)


def test_what_ones_own_code_prints_is_on_stderr(mlprun, tmp_path):
    lines = "from torch import nn\nclass Loud(nn.Linear):\n    def forward(self, x):\n        print('loud')\n"
    write(tmp_path, {"loud.py": f"{lines}        return super().forward(x)\n"})
    model = ["model=custom", "model._target_=loud.Loud", "+model.in_features=4", "+model.out_features=3"]
    result = mlprun("inspect", "data=iris", "debug=fast", *model, "--json")
    assert "loud\n" in result.err
    assert json.loads(result.out)["model"]["class"] == "loud.Loud"
