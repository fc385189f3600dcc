"""The Python API: what the command does, in a program, a notebook and a test of the user's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap

import nbformat
import pytest
from nbclient import NotebookClient

import mlprun as api
from tests.helpers.files import REPOSITORY
from tests.helpers.lines import Code, finish, run_code
from tests.helpers.pages import blocks
from tests.helpers.runs import RUN, SMALL, assert_identical, record_of


def test_importing_it_imports_neither_torch_nor_hydra():
    code = (
        "import sys, mlprun; mlprun.UserError, dir(mlprun); print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "hydra", "omegaconf", "numpy", "tqdm"} & {*done.stdout.split()}


def test_every_name_is_there_and_says_what_it_raises():
    assert {*api.__all__} <= {*dir(api)}
    for name in ("run", "run_sweep", "load", "list_runs"):
        assert "Raises:" in getattr(api, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        _ = api.runn


def test_several_runs_of_a_process_have_the_bits_of_the_command(mlprun, tmp_path, monkeypatch):
    line = [*SMALL[1:], "epochs=6", "model.dropout=0.3"]
    assert mlprun(*line, "hydra.run.dir=typed").status == 0
    for name in ("first", "second"):
        api.run(*line, f"hydra.run.dir={name}")
        assert_identical(tmp_path / name, tmp_path / "typed")
    assert record_of(tmp_path / "first")["command"].startswith("mlprun epochs=")
    reproduced = mlprun("reproduce", "first")
    assert reproduced.status == 0, reproduced.err
    assert "identical" in reproduced.out


INTERRUPTED = """
import os, signal, sys, threading
import mlprun

def ask():
    while not os.path.exists("run/checkpoints/last.pt"):
        pass
    os.kill(os.getpid(), int(sys.argv[1]))

threading.Thread(target=ask, daemon=True).start()
try:
    mlprun.run(*sys.argv[2:])
except KeyboardInterrupt:
    print("interrupted in the program", mlprun.Run("run").status)
    print(mlprun.run(*sys.argv[2:]).status)
"""


def test_ctrl_c_saves_the_run_and_the_same_call_continues_it(tmp_path):
    finish(tmp_path, *SMALL[1:], "hydra.run.dir=whole")
    done = run_code(tmp_path, INTERRUPTED, str(int(signal.SIGINT)), *SMALL)
    assert done.status == 0, done.err
    assert "interrupted in the program interrupted" in done.out
    assert done.out.endswith("completed\n")
    assert "mlprun resume run" in done.err
    assert_identical(tmp_path / RUN, tmp_path / "whole")


def test_sigterm_saves_the_run_and_ends_the_program(tmp_path):
    with Code(tmp_path, INTERRUPTED, str(int(signal.SIGTERM)), *SMALL) as program:
        assert program.wait() == -signal.SIGTERM, program.output
    assert record_of(tmp_path / RUN)["stopped_by"] == "SIGTERM"
    finish(tmp_path, "resume", RUN)


APPLICATION = """
import gc
import hydra
import mlprun
from hydra.core.hydra_config import HydraConfig

@hydra.main(version_base="1.2", config_path=None)
def main(cfg):
    run = mlprun.run("debug=fast", "hydra.run.dir=run")
    print("job", HydraConfig.get().job.name, hydra.version.base_at_least("1.3"), run.status, gc.get_freeze_count())

main()
"""


def test_an_application_of_hydras_calls_it(tmp_path):
    (tmp_path / "application.py").write_text(APPLICATION)
    done = subprocess.run([sys.executable, "application.py"], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "job application False completed 0" in done.stdout


def test_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks("docs/python.md", "python"):
        exec(compile(block, "docs/python.md", "exec"), names)
    names["test_the_model_learns"](tmp_path / "test")
    assert len(names["sweep"].leaderboard) == 2
    assert names["predictions"].probabilities.shape == (5, 10)


CELLS = (
    'import mlprun\nrun = mlprun.run("epochs=2", "data.limit=200")',
    "run.history",
    "!{sys.executable} -m mlprun epochs=1 data.limit=100",
    'mlprun.run("lr=0.1")',
    """
    import os, signal, threading
    threading.Timer(2, os.kill, (os.getpid(), signal.SIGINT)).start()
    mlprun.run("epochs=100000", "hydra.run.dir=long")
    """,
    'mlprun.Run("long").status',
    'sweep = mlprun.run_sweep("debug=fast", "seed=0,1")\nlen(sweep.runs)',
)


def test_a_notebook(tmp_path):
    source = [nbformat.v4.new_code_cell(textwrap.dedent(cell).strip()) for cell in ("import sys", *CELLS)]
    notebook = nbformat.v4.new_notebook(cells=source)
    where = {"metadata": {"path": str(tmp_path)}}
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    NotebookClient(notebook, kernel_name="python3", resources=where, allow_errors=True).execute(env=environment)
    run, history, typed, error, stopped, status, swept = (cell.outputs for cell in notebook.cells[1:])

    printed = "".join(output.text for output in run if output.output_type == "stream")
    assert "\ndata    digits" in printed
    assert "\n\n" not in printed
    assert "\r" not in printed
    (bar,) = (output.data["text/plain"] for output in run if output.output_type == "display_data")
    assert bar.startswith("100%|█")
    assert "14/14" in bar
    assert history[0].data["text/plain"].startswith("step")
    lines = "".join(output.text for output in typed).replace("\r\n", "\n")
    assert "\r" not in lines  # no bar that Jupyter could not overwrite
    assert "accuracy" in lines
    assert (error[0].ename, error[0].evalue) == (
        "ConfigError",
        "lr=0.1: there is no such key\n  did you mean 'optim.lr'?",
    )
    assert stopped[-1].ename == "KeyboardInterrupt"
    assert status[0].data["text/plain"] == "'interrupted'"
    assert swept[-1].data["text/plain"] == "2"
    assert json.loads((tmp_path / "long" / "run.json").read_text())["stopped_by"] == "SIGINT"
