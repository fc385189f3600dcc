"""Sweeps on a Ray cluster: the bits of the pool, whatever is lost, stopped or not shared.

A start of Ray takes ten seconds of CPU time: `pytest -n 0 -m 'long or not long' tests/promises/test_ray.py`.
"""

from __future__ import annotations

import signal

import pytest

from tests.helpers.lines import IN_PROC, Line, children, is_running, wait_until
from tests.helpers.ray_nodes import RAY, Nodes
from tests.helpers.runs import assert_identical
from tests.helpers.sweeps import FAST, SWEEPS, records

LONG = ["-m", "data=digits", "model=linear", "epochs=50", "logging.every=500 steps", "checkpoint.every=200 steps"]
LONG += ["eval_every=500 steps", "~writers.tensorboard", "seed=0,1,2,3"]

pytestmark = [IN_PROC, pytest.mark.timeout(500)]


def below(pid):
    found = [pid]
    for each in found:
        if is_running(each):
            found += children(each)
    return found[1:]


@pytest.mark.long
def test_a_cluster_of_this_machine_gives_the_bits_of_the_pool_and_ends_with_the_sweep(mlprun_process):
    line = ["-m", *FAST, "model.dropout=0.3", "seed=0,1"]
    assert mlprun_process(*line, "sweep.name=pool").status == 0
    folder = mlprun_process("--version").folder
    with Line(folder, *line, "sweep.name=ray", "hydra/launcher=ray", **RAY) as process:
        wait_until(lambda: "2 running" in process.output or not process.is_alive, 120)
        started = below(process.pid)
        assert process.wait() == 0, process.output
    assert "ray     a cluster of this machine's own: 1 node" in process.output
    assert len(started) > 3
    wait_until(lambda: not any(is_running(pid) for pid in started))
    for name in records(folder / SWEEPS / "pool"):
        assert_identical(folder / SWEEPS / "pool" / name, folder / SWEEPS / "ray" / name)
    assert not list((folder / SWEEPS / "ray").glob(".ray-*"))


@pytest.mark.long
def test_a_stopped_sweep_leaves_nothing_running_and_every_run_resumable(mlprun_process):
    folder = mlprun_process("--version").folder
    sweep = folder / SWEEPS / "s"
    with Line(folder, *LONG, "sweep.name=s", "hydra/launcher=ray", **RAY) as process:
        wait_until(lambda: len(list(sweep.glob("*/checkpoints/last.pt"))) == 2, 120)
        started = below(process.pid)
        process.signal(signal.SIGINT)
        assert process.wait() == 130, process.output
    wait_until(lambda: not any(is_running(pid) for pid in started))
    assert [r["status"] for r in records(sweep).values()] == ["interrupted"] * 2
    assert "mlprun resume" in process.output


@pytest.mark.long
def test_a_node_that_is_lost_costs_its_runs_one_retry(mlprun_process):
    folder = mlprun_process("--version").folder
    sweep = folder / SWEEPS / "s"
    with Nodes() as nodes:
        first, _ = nodes.add(), nodes.add()
        line = [*LONG, "sweep.name=s", "hydra/launcher=ray", f"hydra.launcher.address={nodes.address}"]
        with Line(folder, *line, **RAY) as process:
            wait_until(lambda: first.outputs() and (first.outputs()[0].parent / "checkpoints/last.pt").exists(), 150)
            lost = first.outputs()[0].parent.name
            first.kill()
            assert process.wait(240) == 0, process.output
    assert f"ray     {nodes.address}: 3 nodes, 2 CPUs" in process.output
    assert f"{lost}  its node or worker was lost" in process.output
    found = records(sweep)
    assert [record["status"] for record in found.values()] == ["completed"] * 4
    assert [len(record.get("resumed", [])) for record in found.values()] == [int(name == lost) for name in found]
    assert mlprun_process(*LONG, "sweep.name=pool").status == 0
    for name in found:
        assert_identical(folder / SWEEPS / "pool" / name, sweep / name)


NET = """
import torch
class Net(torch.nn.Linear):
    def __init__(self):
        super().__init__(64, 10)
    def forward(self, x):
        return super().forward(x.flatten(1))
"""


@pytest.mark.long
def test_a_node_without_the_sweeps_folder_gets_the_code_and_the_checkpoint_and_sends_back_the_runs(mlprun_process):
    """The folder where the sweep is typed is hidden from one node, which takes over when the other is lost."""
    folder = mlprun_process("--version").folder
    (folder / "net_of_mine.py").write_text(NET)
    sweep = folder / SWEEPS / "s"
    words = [word for word in LONG if not word.startswith("model=")]
    words += ["model=custom", "model._target_=net_of_mine.Net"]
    hidden = ("unshare", "-m", "sh", "-c", f'mount -t tmpfs none {folder} && exec "$@"', "sh")
    with Nodes() as nodes:
        first, _ = nodes.add(), nodes.add(hidden)
        line = [*words, "sweep.name=s", "hydra/launcher=ray", f"hydra.launcher.address={nodes.address}"]
        with Line(folder, *line, **RAY) as process:
            wait_until(lambda: first.outputs() and (first.outputs()[0].parent / "checkpoints/last.pt").exists(), 150)
            lost = first.outputs()[0].parent.name
            first.kill()
            assert process.wait(240) == 0, process.output
    assert "ray     without the sweep's folder, so files are sent: " in process.output
    assert f"{lost}  its node or worker was lost" in process.output
    found = records(sweep)
    assert [record["status"] for record in found.values()] == ["completed"] * 4
    assert [len(record.get("resumed", [])) for record in found.values()] == [int(name == lost) for name in found]
    assert {record["folder"] for record in found.values()} == {str(folder)}
    assert mlprun_process(*words, "sweep.name=pool").status == 0
    for name in found:
        assert_identical(folder / SWEEPS / "pool" / name, sweep / name)
    assert mlprun_process("eval", str(sweep / lost)).status == 0  # the user's own, so its code may be called
