"""Slurm as an executor: jobs are submitted through submitit, as arrays, and followed in the queue.

A job finishes, resumes or returns the run in its directory, so it may be started any number of times: before its time
limit Slurm sends SIGUSR2, the run saves, and submitit's handler requeues the job, which goes on from there.
"""

from __future__ import annotations

import importlib.util
import math
import os
import pickle
import shutil
import sys
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlprun import signals
from mlprun.config.own_modules import find_own_modules
from mlprun.errors import ConfigError, RunError
from mlprun.files import open_to_write
from mlprun.process import fast_exit, num_cores
from mlprun.runs.directory import RunDirectory
from mlprun.runs.sweep_record import SweepRecord
from mlprun.sweep.forkserver import OUTPUT, Caller, Job, Running
from mlprun.sweep.job_server import write_output_to
from mlprun.sweep.pool import POLL_SECONDS, Ended, close_server, record_death
from mlprun.sweep.slurm_queue import (
    CANCELLED,
    LOST,
    RUNNING,
    LimitError,
    LocalQueue,
    Queue,
    SlurmQueue,
    array_size,
    requeue_if_preempted,
)

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

FOLDER = "submitit"  # in the sweep's directory: scripts, pickled calls and logs of submitit
_LEAST = {"timeout_min": 1, "signal_delay_s": 1, "max_num_timeout": 0, "array_parallelism": 1,
          "cpus_per_task": 1, "gpus_per_node": 0, "mem_gb": 0}  # fmt: skip


def check(settings: Mapping[str, Any]) -> None:
    """Refuse settings of `hydra/launcher=slurm` that cannot work; ConfigError."""
    if settings["cluster"] not in ("slurm", "local"):
        raise ConfigError("hydra.launcher.cluster", settings["cluster"], "is not known", "choose from: local, slurm")
    for key, least in _LEAST.items():
        value, kinds = settings[key], (int, float) if key == "mem_gb" else (int,)
        if value is None and key in ("cpus_per_task", "gpus_per_node", "mem_gb"):
            continue
        if type(value) not in kinds or not least <= value < math.inf:
            kind = "a number" if key == "mem_gb" else "a whole number"
            raise ConfigError(f"hydra.launcher.{key}", value, f"must be {kind}, at least {least}")
    if settings["signal_delay_s"] >= settings["timeout_min"] * 60:
        remedy = f"choose less than the time limit of {settings['timeout_min']} min, the seconds a run needs to save"
        raise ConfigError(
            "hydra.launcher.signal_delay_s", settings["signal_delay_s"], "leaves no time to train", remedy
        )
    setup = settings["setup"]
    if setup is not None and not (isinstance(setup, list) and all(isinstance(line, str) for line in setup)):
        raise ConfigError("hydra.launcher.setup", setup, "is no list of commands", "write '[module load cuda]'")
    if importlib.util.find_spec("submitit") is None:
        problem = "needs submitit, which is not installed"
        raise ConfigError("hydra/launcher", "slurm", problem, "pip install 'mlprun[slurm]'")
    if settings["cluster"] == "slurm":
        if shutil.which("sbatch") is None:
            remedy = "start it where Slurm is, or try it out on this machine: hydra.launcher.cluster=local"
            raise ConfigError("hydra/launcher", "slurm", "sbatch was not found", remedy)
        array_size()  # an error if the cluster does not answer


@dataclass(frozen=True)
class Call:
    """What submitit calls on a node, at the start of a job and after each requeue."""

    job: bytes  # the pickled target and arguments, which only a process that finds their modules may import
    output: Path
    caller: Caller  # without its environment, which Slurm passes on
    num_threads: int

    def __call__(self) -> None:
        os.chdir(self.caller.directory)
        sys.path[:], sys.argv[:] = self.caller.path, self.caller.arguments
        os.environ["OMP_NUM_THREADS"] = str(self.num_threads)  # not the cores of a node, which would change the bits
        find_own_modules()
        write_output_to(self.output)
        try:
            target, args = pickle.loads(self.job)
            target(*args)
        except KeyboardInterrupt as stop:  # it has saved its state
            requeue_if_preempted()
            fast_exit(signals.exit_status(str(stop) or "SIGINT"))

    def checkpoint(self) -> DelayedSubmission:
        """For submitit's handler, which is called once the run is saved: what the requeued job calls."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class Cluster:
    """The executor of `hydra/launcher=slurm`.

    A sweep that is started again follows the jobs that an earlier process has left in the queue. A run that another
    process has is waited for.

    Args:
        settings: of `hydra.launcher`.
        num_places: most jobs in the queue.
    """

    def __init__(self, sweep_dir: Path, settings: Mapping[str, Any], num_places: int) -> None:
        self._folder = sweep_dir.absolute() / FOLDER
        self._settings, self._num_places = settings, num_places

    def __call__(
        self, jobs: Iterable[Job], plan: SweepRecord, poll: Callable[[list[Job]], None]
    ) -> Generator[Ended, None, None]:
        close_server()  # the check of the points is done
        is_local = self._settings["cluster"] == "local"
        queue = (LocalQueue if is_local else SlurmQueue)(self._folder, self._settings, self._num_places)
        num_places = self._num_places
        if is_local:
            largest = max((needs.num_threads for needs in plan.needs.values()), default=1)
            num_places = min(num_places, plan.num_workers, max(1, num_cores() // largest))
        try:
            followed = _Followed(jobs, queue, num_places, self._settings["cpus_per_task"])
            while followed.fill():
                followed.wait(poll)
                yield from followed.take_ended()
        except BaseException:  # also GeneratorExit
            queue.stop()
            raise


class _Followed:
    """The jobs that were submitted, or wait for it."""

    def __init__(self, jobs: Iterable[Job], queue: Queue, num_places: int, num_cpus: int | None) -> None:
        self._jobs = iter(jobs)
        self._queue, self._num_places, self._num_cpus = queue, num_places, num_cpus
        self._most_at_once = queue.most_at_once
        self._left = queue.left()  # by an earlier process: directory -> id
        self._waiting: list[Running] = []  # for a place in the queue
        self._submitted: dict[str, Running] = {}  # by id
        self._elsewhere: list[Running] = []  # another process has the run

    def fill(self) -> bool:
        """Submit as many jobs as there is room for; whether there are any."""
        while len(self._submitted) + len(self._waiting) + len(self._elsewhere) < self._num_places:
            job = next(self._jobs, None)
            if job is None:
                break
            if number := self._left.pop(job.path.absolute(), None):
                self._submitted[number] = Running(job, [])
            else:
                self._waiting.append(Running(job, []))
        while self._waiting and self._submit():
            pass
        return bool(self._submitted or self._waiting or self._elsewhere)

    def _submit(self) -> bool:
        """Submit jobs of one size as an array; false if the queue has no room for it now."""
        num_cpus = self._cpus(self._waiting[0].job)
        batch = [each for each in self._waiting if self._cpus(each.job) == num_cpus][: self._most_at_once]
        calls = [(each.job.path.absolute(), _call(each.job, num_cpus)) for each in batch]
        try:
            with signals.deferred:  # until the jobs are known
                numbers = self._queue.submit(calls, num_cpus)
                self._submitted.update(zip(numbers, batch, strict=True))
                self._waiting = [each for each in self._waiting if all(each is not other for other in batch)]
        except LimitError:
            if len(batch) == 1 and not self._submitted:
                raise
            self._most_at_once = max(1, len(batch) // 2)
            return len(batch) > 1
        return True

    def _cpus(self, job: Job) -> int:
        return self._num_cpus or job.num_threads

    def wait(self, poll: Callable[[list[Job]], None]) -> None:
        """Wait until the queue may have changed; call `poll` meanwhile."""
        limit = time.monotonic() + self._queue.poll_seconds
        while True:
            poll([each.job for number, each in self._submitted.items() if self._queue.state(number) == RUNNING])
            if (left := limit - time.monotonic()) <= 0:
                return
            time.sleep(min(left, POLL_SECONDS))

    def take_ended(self) -> list[Ended]:
        """Jobs that have ended; one that died for the first time, or was preempted, waits to be submitted again."""
        elsewhere, self._elsewhere = self._elsewhere, []
        for each in elsewhere:  # once it is free, a job finishes the run, or returns its result
            (self._elsewhere if _is_held(each.job) else self._waiting).append(each)
        ended = [self._after(number, self._submitted.pop(number)) for number in self._queue.ended(self._submitted)]
        return [job for job in ended if job is not None]

    def _after(self, number: str, running: Running) -> Ended | None:
        state, job = self._queue.state(number), running.job
        status = _status(job)
        if status == "running" and _is_held(job):
            self._elsewhere.append(running)
            return None
        if status == "interrupted" and state == "PREEMPTED":  # it has saved its state
            self._waiting.append(running)
            return None
        if state != "COMPLETED":
            with open_to_write(job.path / OUTPUT, "a", "utf-8") as file:
                file.write(f"job {number} ended: {state}; see also {self._queue.log_of(number)}\n")
        is_dead = status == "running" or (status not in ("completed", "failed") and state in LOST)
        if is_dead:
            running.deaths.append("exit status 0" if state == "COMPLETED" else state)
            if len(running.deaths) == 1 and state != CANCELLED:
                self._waiting.append(running)
                return None
            record_death(running, time.monotonic() - running.began)
        exitcode = 0 if state == "COMPLETED" else 1
        return Ended(job, exitcode, len(running.deaths) + (not is_dead), time.monotonic() - running.began)


def _call(job: Job, num_threads: int) -> Call:
    caller = replace(Caller(), environment={})
    return Call(pickle.dumps((job.target, job.args)), job.path / OUTPUT, caller, num_threads)


def _status(job: Job) -> str:
    try:
        job.path.chmod(job.path.stat().st_mode)  # makes a network file system look again, as submitit does
        return RunDirectory(job.path).read().status
    except (OSError, RunError):
        return ""


def _is_held(job: Job) -> bool:
    """Whether a process, here or on another node, has the run."""
    try:
        with RunDirectory(job.path).held():
            return False
    except RunError:
        return True
