"""What the experiments on rates, batches and reproducibility claim, shortened, on data that needs no download."""

from __future__ import annotations

from tests.helpers.runs import record_of, rows_of


def test_more_training_than_data_overfits_and_patience_ends_it(mlprun):
    """As experiment=overfitting, which needs MNIST."""
    line = ("data=digits", "data.limit=60", "model.hidden=[128]", "optim.lr=0.01", "epochs=60", "eval_every='1 epoch'")
    for name, more in (("full", []), ("stopped", ["early_stopping.patience=5"])):
        result = mlprun(*line, *more, f"hydra.run.dir={name}")
        assert result.status == 0, result.err
    full, stopped = (record_of(result.folder / name) for name in ("full", "stopped"))
    rows = rows_of(result.folder / "full")
    assert rows[-1]["train/loss"] < 0.01
    assert rows[-1]["val/loss"] > full["metrics"]["val/loss"] + 0.02
    assert stopped["ended_by"] == "early_stopping"
    assert stopped["steps"] < full["steps"]
