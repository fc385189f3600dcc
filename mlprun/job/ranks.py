"""The processes of a run with `trainer.devices`: the first owns its directory, the others follow.

They are started here, or by torchrun. The others know no command line: they get the config, and then the state, from
the first, so all train the same, and nothing but the first writes.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

from mlprun import signals
from mlprun.config.own_modules import find_own_modules
from mlprun.config.schema import Config
from mlprun.config.stored import from_record
from mlprun.errors import ConfigError
from mlprun.process import fast_exit, num_ranks

log = logging.getLogger("mlprun")
ORDER = "mlprun/order"  # key of the store: the run's config, for the processes that follow
READ = "mlprun/read"  # key of the store: how many of them have it
GRACE_SEC = 10.0


def with_devices(config: Config, *, is_typed: bool = True) -> Config:
    """The config with the number of processes that torchrun has started.

    Args:
        is_typed: whether `trainer.devices` is what the user wants now, not what a run had before.

    Raises:
        ConfigError: the user wants another number.
    """
    if (started := num_ranks()) is None or started == config.trainer.devices:
        return config
    if is_typed and config.trainer.devices != 1:
        problem = f"and torchrun has started {started} processes"
        raise ConfigError("trainer.devices", config.trainer.devices, problem, "leave one of the two out")
    return replace(config, trainer=replace(config.trainer, devices=started))


@contextmanager
def joined(config: Config, num_threads: int | None) -> Iterator[Any]:
    """Start the other processes of a run, unless torchrun did, and become the first of them: a `World`."""
    from mlprun.training.distributed import SINGLE, Ranks

    if config.trainer.devices == 1:
        yield SINGLE
        return
    dist: Any = importlib.import_module("torch.distributed")  # late; its types leave out the stores
    processes: list[subprocess.Popen[bytes]] = []
    if num_ranks() is not None:
        store, _, size = next(dist.rendezvous("env://"))
    else:
        size = config.trainer.devices
        store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        processes = [_start(rank, size, store.port) for rank in range(1, size)]
    try:
        order = {"config": config.to_dict(), "num_threads": num_threads, "folder": os.getcwd()}
        store.set(ORDER, json.dumps(order))
        dist.init_process_group(store=dist.PrefixStore("run", store), rank=0, world_size=size)
        yield Ranks(store, 0, size, int(os.environ.get("LOCAL_RANK", "0")))
    except BaseException:
        for process in processes:  # they have nothing to save
            process.kill()
        raise
    finally:
        with suppress(RuntimeError, AssertionError, ValueError):  # it was not, or is no longer, connected
            dist.destroy_process_group()
        os.environ.pop("WORLD_SIZE", None)  # torchrun's processes were for this run
        _end(processes)


def _start(rank: int, size: int, port: int) -> subprocess.Popen[bytes]:
    # the variables of torchrun
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    with signals.deferred:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "mlprun"],
            stdin=subprocess.DEVNULL,
            env={
                **os.environ,
                **{key: str(value) for key, value in own.items()},
                "TORCHELASTIC_USE_AGENT_STORE": "True",  # the store is this process's
                "TORCH_CPP_LOG_LEVEL": "ERROR",  # no stacks of C++ frames when the first process ends
                "MLPRUN_LEADER": str(os.getpid()),
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
            start_new_session=True,  # the first process passes Ctrl-C on
        )


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    with signals.finalizing:
        for process in processes:
            try:
                process.wait(GRACE_SEC)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def dismiss(status: int) -> None:
    """End the processes that torchrun has started, with an exit status, if there was nothing to take part in."""
    dist: Any = importlib.import_module("torch.distributed")
    with suppress(RuntimeError):  # they have ended
        store, _, size = next(dist.rendezvous("env://"))
        if store.check([ORDER]):
            return
        store.set(ORDER, json.dumps({"status": status}))
        limit = time.monotonic() + GRACE_SEC
        while store.add(READ, 0) < size - 1 and time.monotonic() < limit:  # the store may end with this process
            time.sleep(0.02)


def follow() -> int:
    """Take part in the run of the first process, silently; the exit status."""
    if leader := os.environ.get("MLPRUN_LEADER"):
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: end with the first process
        if os.getppid() != int(leader):
            return 1
    from mlprun.job.explain_error import explain
    from mlprun.training.distributed import FAILURE, OtherProcessError, Ranks

    dist: Any = importlib.import_module("torch.distributed")
    rank, local_rank = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    log.disabled = True
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what the user's code prints, the first process prints, too
    try:
        store, _, size = next(dist.rendezvous("env://"))
        store.wait([ORDER], timedelta(days=1))
        order = json.loads(store.get(ORDER))
        store.add(READ, 1)
    except RuntimeError:  # the first process has ended, and the store with it
        return 1
    if "status" in order:
        return int(order["status"])
    if os.path.isdir(order["folder"]):
        os.chdir(order["folder"])
    find_own_modules()
    config = from_record(order["config"])
    try:
        dist.init_process_group(store=dist.PrefixStore("run", store), rank=rank, world_size=size)
        with signals.deferred:  # they are agreed on
            _take_part(config, Ranks(store, rank, size, local_rank), order["num_threads"])
    except KeyboardInterrupt as stop:
        return signals.exit_status(str(stop) or "SIGINT")
    except OtherProcessError:
        return 1
    except Exception as error:
        with suppress(RuntimeError):  # the store is gone, and the first process with it
            store.set(FAILURE, f"process {rank} of {size} failed: {explain(error, config, '')}")
        if os.environ.get("MLPRUN_TRACEBACK") == "1":
            raise
        return 1
    return fast_exit(0)


def _take_part(config: Config, world: Any, num_threads: int | None) -> None:
    from mlprun.data.nested import map_tensors
    from mlprun.job.prepare import prepare
    from mlprun.job.train import monitored
    from mlprun.runs.checkpoint import NoCheckpoints
    from mlprun.training.loop import Progress, train
    from mlprun.writers.base import Writer

    experiment = prepare(config, num_threads=num_threads, has_checkpoint=True, world=world)
    learner, progress = experiment.build_learner(), Progress()
    start: dict[str, Any] = map_tensors(lambda tensor: tensor.to(experiment.device), world.from_main({}))
    learner.load_state_dict(start["learner"])
    progress.load_state_dict(start["progress"])
    val = experiment.eval_batches(experiment.splits.val)
    reason = train(
        learner,
        experiment.batches,
        lambda: monitored(learner.evaluate(val, world=world), config.monitor),
        experiment.plan,
        progress,
        Writer(),
        NoCheckpoints(),
        {},
        is_over=(lambda step, value: world.from_main(False)) if start["is_pruned"] else lambda step, value: False,
    )
    if reason != "pruned":
        learner.end_with(world.from_main({}))
        learner.evaluate(experiment.eval_batches(experiment.splits.test), world=world)
