"""What mlprun leaves behind in the program that calls it: nothing."""

from __future__ import annotations

import gc
import importlib
import io
import logging
import os
import random
import signal
import sys
import threading
import warnings

import hydra
import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobRuntime

import mlprun as api

FAST = ("debug=fast", "data.limit=64", "hydra.run.dir=run")
SIGNALS = [number for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP)]


def state() -> dict[str, object]:
    root, ours = logging.getLogger(), logging.getLogger("mlprun")
    return {
        "signals": {number: signal.getsignal(number) for number in SIGNALS},
        "threads": torch.get_num_threads(),
        "deterministic": (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark),
        "anomaly": torch.is_anomaly_enabled(),
        "gradients": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
        "precision": torch.get_float32_matmul_precision(),
        "random": (random.random(), np.random.rand(), torch.rand(()).item()),
        "logging": (list(root.handlers), root.level, list(ours.handlers), ours.level, ours.propagate),
        "warnings": (warnings.showwarning, list(warnings.filters)),
        "path": list(sys.path),
        "finders": list(sys.meta_path),
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "collects": gc.isenabled(),
        "job": JobRuntime.instance().get("name"),
        "base": hydra.version.getbase(),
        "config": HydraConfig.instance().cfg,
    }


def seed() -> None:
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)


def predict() -> None:
    api.load("run").predict(torch.zeros(2, 1, 8, 8))


def fail() -> None:
    with pytest.raises(api.RunError, match="nan values"):
        api.run("debug=fast", "optim=sgd", "optim.lr=1e9", "epochs=1", "trainer.detect_anomaly=true")


@pytest.mark.parametrize(
    "job", [predict, fail, lambda: api.run("debug=fast", "seed=1"), lambda: api.run_sweep("debug=fast", "seed=0,1")]
)
def test_the_state_of_the_process_is_as_before(tmp_path, monkeypatch, job):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # the one thing that stays
    api.run(*FAST)
    JobRuntime.instance().set("name", "theirs")
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        seed()
        before = state()
        seed()
        job()
        assert state() == before
    finally:
        torch.set_num_threads(threads)
        logging.getLogger().removeHandler(handler)


def test_the_programs_own_settings_change_no_bit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = api.run(*FAST).metrics
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(), torch.device("meta"):
            found = api.run("debug=fast", "data.limit=64").metrics
    finally:
        torch.set_default_dtype(torch.float32)
    assert found == expected


def test_a_program_that_uses_hydra_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs.yaml").write_text("key: 3\n")
    with hydra.initialize_config_dir(str(tmp_path), version_base="1.2", job_name="theirs"):
        one = hydra.compose("theirs")
        api.run(*FAST)
        assert hydra.compose("theirs", ["key=4"]).key == one.key + 1
        assert GlobalHydra.instance().is_initialized()
        assert hydra.version.base_at_least("1.2")
        assert not hydra.version.base_at_least("1.3")


def test_a_module_that_was_edited_is_told_until_it_is_reloaded(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "edited.py"
    file.write_text("from torch import nn\n\n\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n")

    def warnings_of(seed: int) -> str:
        api.run("debug=fast", "model=custom", "model._target_=edited.net", f"seed={seed}")
        return capsys.readouterr().err

    assert warnings_of(0) == warnings_of(1) == ""
    file.write_text(file.read_text().replace("Linear(64, 10)", "Linear(64, 10, bias=False)"))
    for seed in (2, 3):
        assert "edited.py was edited, and this process uses the code of before" in warnings_of(seed)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.reload(sys.modules["edited"])
    assert warnings_of(4) == ""
    del sys.modules["edited"]


def test_one_run_at_a_time_and_from_any_thread(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    began, go_on = threading.Event(), threading.Event()

    class Slow(io.StringIO):
        def write(self, text: str) -> int:
            if "step" in text:
                began.set()
                go_on.wait(60)
            return super().write(text)

    found: list[api.Run] = []
    monkeypatch.setattr(sys, "stdout", Slow())
    thread = threading.Thread(target=lambda: found.append(api.run(*FAST)))
    thread.start()
    assert began.wait(60)
    with pytest.raises(api.RunError, match="busy with another run"):
        api.run("debug=fast")
    go_on.set()
    thread.join()
    assert found[0].status == "completed"
    assert api.run("debug=fast", "data.limit=64").metrics == found[0].metrics
