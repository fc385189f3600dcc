"""The executor of `hydra/launcher=ray`: a Ray task per job. `ray_job.py` is what a node does. Imports Ray late."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import pickle
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mlprun import signals
from mlprun.errors import ConfigError, RunError, UserError
from mlprun.formatting import pluralize
from mlprun.process import num_cores
from mlprun.runs import sweep_record
from mlprun.runs.sweep_record import SweepRecord
from mlprun.sweep import pool
from mlprun.sweep.forkserver import GRACE_SECONDS, Caller, Job, Running
from mlprun.sweep.pool import POLL_SECONDS, Ended
from mlprun.sweep.ray_files import Folder, read_files
from mlprun.sweep.ray_job import Order, run_order, sees
from mlprun.terminal import print_line

PROBE_SECONDS = 5.0
PORT = 6379  # of a cluster whose address names none
PATIENCE = "RAY_raylet_start_wait_time_s"  # by default 30 s, which a busy machine exceeds
STORE_BYTES = 100 * 2**20  # of a cluster started here: nothing of size passes through it


def check_cluster(address: str | None) -> None:
    """ConfigError if Ray is not installed, or nothing answers at the address."""
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("hydra/launcher", "ray", "needs Ray", "pip install 'mlprun[ray]'")
    key, value = _named(address)
    if value in ("", "local", "auto"):
        return
    remedy = "start it with `ray start --head`, or name another; without one, a cluster is started on this machine"
    if "://" in value:
        raise ConfigError(key, value, "must be host:port", "start the sweep on a node of the cluster")
    host, _, port = value.rpartition(":") if ":" in value else (value, "", str(PORT))
    if not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ConfigError(key, value, "must be host:port", f"such as {host or '192.0.2.1'}:{PORT}")
    try:  # Ray itself tries for two minutes
        socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_SECONDS).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(key, value, f"no Ray cluster answers there ({reason})", remedy) from error


def _named(address: str | None) -> tuple[str, str]:
    """The address, and which key or variable named it; empty if none did."""
    if address:
        return "hydra.launcher.address", address
    return "RAY_ADDRESS", os.environ.get("RAY_ADDRESS", "")


@dataclass(frozen=True)
class RayCluster:
    """Runs the jobs of a sweep on a cluster, which is started here if none is named."""

    address: str | None = None  # host:port; None: RAY_ADDRESS, or none
    num_workers: int | None = None  # concurrent jobs; None: as the CPUs and GPUs of all nodes allow

    def __call__(
        self, jobs: Iterable[Job], plan: SweepRecord, poll: Callable[[list[Job]], None]
    ) -> Generator[Ended, None, None]:
        """Run the jobs; a node or a worker that is lost costs its jobs one retry."""
        check_cluster(self.address)
        ahead = iter(jobs)
        first = next(ahead, None)
        if first is None:  # all are done: no cluster is needed
            return
        pool.close_server()  # it has checked the points; each worker of Ray has its own
        sweep_dir = first.path.parent
        while not (sweep_dir / sweep_record.FILE_NAME).exists():
            sweep_dir = sweep_dir.parent
        marker = sweep_dir / f".ray-{secrets.token_hex(8)}"
        marker.touch()
        try:
            with _connected(_named(self.address)[1] or "local", plan, marker) as folder:
                tasks = _Tasks(itertools.chain([first], ahead), plan, self.num_workers, marker, folder)
                try:
                    while tasks.fill():
                        yield from tasks.wait(poll)
                except BaseException:  # also GeneratorExit
                    tasks.stop()
                    raise
        finally:
            marker.unlink(missing_ok=True)


@contextlib.contextmanager
def _connected(address: str, plan: SweepRecord, marker: Path) -> Iterator[Any]:
    """A connection to the cluster; the actor that takes the files of nodes without the sweep's folder, if any."""
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():  # by the program that calls mlprun
        yield None
        return
    how: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        how |= {"num_cpus": num_cores(), "num_gpus": len(plan.gpus), "include_dashboard": False}
        how |= {"object_store_memory": STORE_BYTES}
    try:
        _init(how)
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        blind = [] if address == "local" else _nodes_that_miss(marker)
        print_line(_describe(address))
        folder = None
        if blind:
            _check_blind(plan, marker.parent, blind)
            names = ", ".join(sorted({node["NodeManagerHostname"] for node in blind}))
            print_line(f"ray     without the sweep's folder, so files are sent: {names}")
            ray.shutdown()
            _init({**how, "runtime_env": _code(marker.parent)})
            here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            actor = ray.remote(num_cpus=0, scheduling_strategy=here)(Folder)
            folder = actor.remote(os.getcwd(), dict(os.environ))
        yield folder
    finally:
        if "ray" in sys.modules:
            sys.modules["ray"].shutdown()


def _init(how: dict[str, Any]) -> None:
    """Connect; Ray's handler of SIGTERM, which exits, does not replace the one that saves."""
    is_set = PATIENCE in os.environ
    os.environ.setdefault(PATIENCE, "150")  # read when Ray is imported
    before = {number: signal.getsignal(number) for number in signals.REQUESTS}
    try:
        import ray

        ray.init(**how)
    except KeyboardInterrupt:
        raise
    except Exception as error:
        raise RunError(f"no connection to the Ray cluster {how['address']}: {error}") from error
    finally:
        if not is_set:
            del os.environ[PATIENCE]
        for number, handler in before.items():
            if handler is not None:  # else it was installed by C code
                signal.signal(number, handler)


def _describe(address: str) -> str:
    import ray

    nodes = _alive()
    total = ray.cluster_resources()
    gpus = f", {pluralize(int(total['GPU']), 'GPU')}" if total.get("GPU") else ""
    where = "a cluster of this machine's own" if address == "local" else address
    return f"ray     {where}: {pluralize(len(nodes), 'node')}, {pluralize(int(total.get('CPU', 0)), 'CPU')}{gpus}"


def _alive() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def _nodes_that_miss(marker: Path) -> list[dict[str, Any]]:
    """The nodes that do not see the sweep's folder under its name."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as At

    nodes = _alive()
    task = ray.remote(num_cpus=0, max_retries=0)(sees)
    asked = [
        task.options(scheduling_strategy=At(node["NodeID"], soft=False)).remote(os.path.abspath(marker))
        for node in nodes
    ]
    blind = []
    for node, ref in zip(nodes, asked, strict=True):
        with contextlib.suppress(ray.exceptions.RayError):  # it is lost; its jobs would be, too
            if not ray.get(ref):
                blind.append(node)
    return blind


def _check_blind(plan: SweepRecord, sweep_dir: Path, blind: list[dict[str, Any]]) -> None:
    if (sweep_dir / "evaluations.jsonl").exists() or any("sweep.pruner=" in w for line in plan.lines for w in line):
        name = blind[0]["NodeManagerHostname"]
        raise RunError(
            f"the Ray node {name} does not see {sweep_dir}, through which runs with sweep.pruner compare themselves"
            "\n  put the sweep in a folder that all nodes share: hydra.sweep.dir=FOLDER"
        )


def _code(sweep_dir: Path) -> dict[str, Any]:
    """The runtime environment that brings the current folder to the nodes; RunError if it is too large for Ray."""
    excludes = []
    with contextlib.suppress(ValueError):
        excludes.append("/" + sweep_dir.resolve().relative_to(Path.cwd()).as_posix())
    return {"working_dir": os.getcwd(), "excludes": excludes}


@dataclass
class _Task:
    """A job that was given to Ray."""

    job: Job
    size: tuple[int, int]  # CPUs and GPUs
    running: Running = field(init=False)

    def __post_init__(self) -> None:
        self.running = Running(self.job, [])


class _Tasks:
    """The jobs of a sweep that Ray has.

    Args:
        folder: the actor that takes the files of nodes without the sweep's folder; None: all see it.
    """

    def __init__(
        self, jobs: Iterator[Job], plan: SweepRecord, num_workers: int | None, marker: Path, folder: Any
    ) -> None:
        import ray

        self._ray = ray
        self._jobs, self._plan, self._num_workers = jobs, plan, num_workers
        self._marker, self._folder = marker, folder
        self._remote = ray.remote(max_retries=0)(run_order)  # retried here, with the files as they are by then
        self._caller = Caller()
        self._next: Job | None = None  # waits for room
        self._tasks: dict[Any, _Task] = {}  # by their object references
        self._is_warned = False

    def fill(self) -> bool:
        """Submit as many jobs as there is room for; whether any is on its way."""
        nodes = [node["Resources"] for node in _alive()]
        room = [int(sum(node.get(name, 0) for node in nodes)) for name in ("CPU", "GPU")]
        largest = {name: max((node.get(name, 0) for node in nodes), default=0) for name in ("CPU", "GPU", "memory")}
        while self._num_workers is None or len(self._tasks) < self._num_workers:
            self._next = self._next or next(self._jobs, None)
            if self._next is None:
                break
            size = self._size(self._next, largest)
            taken = [sum(task.size[i] for task in self._tasks.values()) for i in range(2)]
            if (
                self._num_workers is None
                and self._tasks
                and any(t + s > r for t, s, r in zip(taken, size, room, strict=True))
            ):
                break
            self._submit(_Task(self._next, size), largest)
            self._next = None
        return bool(self._tasks)

    def _size(self, job: Job, largest: dict[str, float]) -> tuple[int, int]:
        """CPUs and GPUs of a job; one that wants more CPUs than any node has gets all of a node, as on one machine."""
        gpus = job.num_gpus if self._plan.needs_of(job.path).device == "cuda" else 0
        cpus = max(1, min(job.num_threads, int(largest["CPU"])))
        problems = []
        if job.num_threads > largest["CPU"]:
            how = "shares those of a whole node" if largest["CPU"] else "waits until a node with CPUs joins"
            problems.append(
                f"a run wants {job.num_threads} CPUs, and no node has more than {largest['CPU']:g}: it {how}"
            )
        if gpus > largest["GPU"]:
            problems.append("a run wants a GPU, and no node has one: it waits until a node with GPUs joins")
        if problems and not self._is_warned:
            self._is_warned = True
            for problem in problems:
                print_line(f"warning: {problem}", sys.stderr)
        return cpus, gpus

    def _submit(self, task: _Task, largest: dict[str, float]) -> None:
        job = task.job
        memory = min((self._plan.needs_of(job.path).memory_mib or 0) * 2**20, largest["memory"])
        order = Order(
            call=pickle.dumps((job.target, job.args)),
            path=job.path,
            num_threads=job.num_threads,
            caller=self._caller,
            marker=self._marker,
            has_gpu=task.size[1] > 0,
            is_retry=bool(task.running.deaths),
            folder=self._folder,
            files={} if self._folder is None else read_files(job.path),
        )
        needs = {"num_cpus": task.size[0], "num_gpus": task.size[1], "memory": int(memory), "name": job.path.name}
        self._tasks[self._remote.options(**needs).remote(order)] = task

    def wait(self, poll: Callable[[list[Job]], None]) -> Iterator[Ended]:
        """Wait for a job; those that have ended."""
        ended, _ = self._ray.wait([*self._tasks], timeout=POLL_SECONDS)
        poll([task.job for task in self._tasks.values()])
        for ref in ended:
            task = self._tasks.pop(ref)
            seconds = time.monotonic() - task.running.began
            try:
                exitcode, attempts = self._ray.get(ref)
            except (self._ray.exceptions.RayTaskError, self._ray.exceptions.RuntimeEnvSetupError) as error:
                cause = getattr(error, "cause", error)
                raise (
                    cause if isinstance(cause, UserError) else RunError(f"Ray could not run a job: {cause}")
                ) from error
            except self._ray.exceptions.RayError as error:
                task.running.deaths.append(f"the loss of its node or worker ({type(error).__name__})")
                if len(task.running.deaths) == 1:
                    print_line(f"retry       {task.job.path.name}  its node or worker was lost", sys.stderr)
                    self._submit(task, {"memory": float("inf")})
                    continue
                pool.record_death(task.running, seconds)
                exitcode, attempts = -signal.SIGKILL, 2
            yield Ended(task.job, exitcode, attempts, seconds)

    def stop(self) -> None:
        """End the jobs, first as Ctrl-C does, so that they save; later by force."""
        refs = [*self._tasks]
        for cancel in (partial(self._ray.cancel, force=False), partial(self._ray.cancel, force=True)):
            for ref in refs:
                cancel(ref)
            if refs:
                _, refs = self._ray.wait(refs, num_returns=len(refs), timeout=GRACE_SECONDS + 5)
