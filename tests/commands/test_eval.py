"""`mlprun eval`: the run's own figures, or what is wrong with it."""

from __future__ import annotations

import pytest

from tests.helpers.runs import record_of


@pytest.mark.parametrize(
    "line",
    [
        [],
        ["trainer.precision=bf16", "batch_size=7"],
        ["data=diabetes", "model=linear"],
        ["data=synthetic_classification", "data.dataset.num_classes=25", "data.dataset.num_samples=2000"],
    ],
)
def test_eval_gives_the_runs_own_figures_unrounded(mlprun, line):
    run = mlprun("debug=fast", *line).runs[0]
    result = mlprun("eval", str(run))
    assert result.status == 0
    printed = {name: float(value) for name, value in (row.split() for row in result.out.splitlines())}
    recorded = record_of(run)["metrics"]
    assert printed == {k: v for k, v in recorded.items() if k.startswith("test/")}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda run: (run / "run.json").unlink(), "is not a run"),
        (lambda run: (run / "run.json").write_text("{"), "cannot be read"),
        (lambda run: (run / "checkpoints" / "best.pt").unlink(), "no best checkpoint"),
        (lambda run: (run / "checkpoints" / "best.pt").write_bytes(b"torn"), "is damaged"),
    ],
)
def test_eval_of_a_spoilt_run_says_what_is_wrong(mlprun, trained, spoil, said):
    run = trained("debug=fast", "model=linear")
    spoil(run)
    result = mlprun("eval", str(run))
    assert result.status == 1
    assert said in result.err
    assert "Traceback" not in result.err
