"""`mlprun --help`, and TAB."""

from __future__ import annotations


def test_tab_completes_groups_choices_and_keys(mlprun_shell):
    def completed(line):
        return mlprun_shell("-sc", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line))).out.split()

    assert completed("mlprun optim=ada") == ["optim=adadelta", "optim=adagrad", "optim=adam", "optim=adamw"]
    assert "trainer.grad_clip=" in completed("mlprun trainer.")
    assert "scheduler=" in completed("mlprun sched")


def test_help_explains_groups_keys_and_examples(mlprun_shell):
    shown = mlprun_shell("--help").out
    explained = [
        "mlprun model=mlp optim=adam",
        "mlprun -m optim.lr=1e-3,3e-3 seed=0,1,2",
        "mlprun eval RUN_DIR",
        "optim: adadelta, adagrad",
        "batch_size=32",
        "debug=fast",
        'eval "$(mlprun -sc install=bash)"',
    ]
    assert [part for part in explained if part not in shown] == []
    assert len(shown.splitlines()) < 60
