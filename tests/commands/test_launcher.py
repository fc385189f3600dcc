"""A single run goes through the launcher that the user selects, without -m."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.helpers.files import write
from tests.helpers.runs import assert_identical

FAST = ["debug=fast", "data=iris", "steps=2"]
OWN = ["model=custom", "model._target_=net_of_mine.Net"]
NET = """
import os, signal, torch
class Net(torch.nn.Linear):
    def __init__(self, ends=""):
        super().__init__(4, 3)
        if ends == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if ends:
            raise KeyError(ends)
"""


@pytest.fixture
def launched(mlprun_shell, mlprun_process):
    """Run a line by a launcher: joblib's workers outlive a process that ends as a forked one does."""

    def run(launcher, *words, **environment):
        start = mlprun_shell if launcher == "joblib" else mlprun_process
        return start(*FAST, f"hydra/launcher={launcher}", *words, **environment)

    return run


@pytest.mark.parametrize("launcher", ["basic", "joblib", "submitit_local"])
def test_it_has_the_bits_the_directory_and_the_record_of_any_run(mlprun_process, launched, launcher):
    plain = mlprun_process(*FAST, "seed=1", "hydra.run.dir=plain")
    assert "launch" not in plain.out
    result = launched(launcher, "seed=1", "hydra.run.dir='to here'")
    assert result.status == 0, result.err
    run = result.folder / "to here"
    assert f"launch  {launcher}: to here\n" in result.out
    assert "run     to here\ncurves  tensorboard --logdir 'to here'" in result.out
    assert_identical(run, result.folder / "plain")
    assert yaml.safe_load((run / ".hydra/overrides.yaml").read_text()) == [*FAST, "seed=1"]
    node = yaml.safe_load((run / ".hydra/hydra.yaml").read_text())["hydra"]
    assert (node["mode"], node["runtime"]["output_dir"]) == ("RUN", str(run))
    record = json.loads((run / "run.json").read_text())
    assert (record["status"], record["overrides"]) == ("completed", [*FAST, "seed=1"])


REFUSED = [*OWN, "+model.end=x"], 2, "error: model.end=x: net_of_mine.Net takes no argument of that name", False
RAISED = [*OWN, "+model.ends=mine"], 1, "error: KeyError: 'mine'\n  File", True


@pytest.mark.parametrize(
    ("launcher", "words", "status", "said", "is_kept"),
    [("basic", *REFUSED), ("submitit_local", *REFUSED), ("submitit_local", *RAISED), ("joblib", *RAISED)],
)
def test_an_error_is_told_once_wherever_the_job_prints(launched, tmp_path, launcher, words, status, said, is_kept):
    write(tmp_path, {"net_of_mine.py": NET})
    result = launched(launcher, *words)
    assert (result.status, result.err.count("error:")) == (status, 1), result.err
    assert said in result.err
    assert bool(list(tmp_path.glob("outputs/*/*/run.json"))) == is_kept == ("resume  mlprun resume" in result.err)


def test_a_job_that_is_killed_is_an_error_of_its_launcher_and_goes_on(launched, tmp_path):
    write(tmp_path, {"net_of_mine.py": NET})
    line = [*OWN, "+model.ends=${oc.env:ENDS}", "hydra.run.dir=run"]
    result = launched("joblib", *line, ENDS="killed")
    assert (result.status, result.err.count("error:")) == (1, 1), result.err
    assert "error: hydra/launcher=joblib: " in result.err
    earlier = (tmp_path / "run/.hydra/config.yaml").read_text()
    again = launched("basic", *line, ENDS="")
    assert again.status == 0, again.err
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "completed"
    assert (tmp_path / "run/.hydra/config.yaml").read_text() == earlier
