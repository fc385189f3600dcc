"""The queue of a Slurm cluster, and one of processes on this machine, both behind submitit.

submitit looks for the state of jobs in Slurm's accounting, which not every cluster has, and up to ten minutes late:
this asks the queue itself, for all jobs at once.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import logging
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mlprun.errors import RunError
from mlprun.files import open_to_write

if TYPE_CHECKING:
    from submitit import AutoExecutor

log = logging.getLogger("mlprun")
RUNNING, CANCELLED, UNKNOWN = "RUNNING", "CANCELLED", "UNKNOWN"
LOST = {"BOOT_FAIL", "DEADLINE", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT", UNKNOWN}
ENDED = LOST | {"COMPLETED", "FAILED", CANCELLED}
GRACE_SECONDS = 60.0  # from SIGTERM to `scancel`; Slurm takes seconds to pass a signal on
JOBS = "jobs.jsonl"  # in submitit's folder: the directory of each job


class LimitError(RunError):
    """The queue takes no more jobs now."""


class Queue(Protocol):
    poll_seconds: float  # how often to look

    @property
    def most_at_once(self) -> int:
        """Most jobs of an array."""

    def left(self) -> dict[Path, str]:
        """The jobs that an earlier process has left in the queue, by their directory."""

    def submit(self, calls: Sequence[tuple[Path, Any]], num_cpus: int) -> list[str]:
        """Submit calls for directories as one array; returns their ids."""

    def ended(self, numbers: Iterable[str]) -> list[str]:
        """Look, and return those that have ended."""

    def state(self, number: str) -> str:
        """Slurm's word, when it was last looked."""

    def log_of(self, number: str) -> Path:
        """What submitit and Slurm said about a job."""

    def stop(self) -> None:
        """End all jobs of the sweep, first with SIGTERM, and remove them from the queue."""


def _executor(folder: Path, settings: Mapping[str, Any], num_places: int) -> AutoExecutor:
    import submitit

    executor = submitit.AutoExecutor(
        folder, cluster=settings["cluster"], slurm_max_num_timeout=settings["max_num_timeout"]
    )
    names = ("partition", "account", "qos", "constraint", "setup", "additional_parameters", "signal_delay_s")
    executor.update_parameters(
        name=f"mlprun:{folder.parent.name}",
        **{name: settings[name] for name in ("timeout_min", "mem_gb", "gpus_per_node")},
        **{f"slurm_{name}": settings[name] for name in names},
        slurm_array_parallelism=num_places,
    )
    return executor


class SlurmQueue:
    poll_seconds = 2.0

    def __init__(self, folder: Path, settings: Mapping[str, Any], num_places: int) -> None:
        self._folder, self._settings, self._num_places = folder, settings, num_places
        self._states: dict[str, str] = {}

    # Not at once: from the first request to stop on, there is a queue to empty.
    @cached_property
    def _executor(self) -> AutoExecutor:
        return _executor(self._folder, self._settings, self._num_places)

    @cached_property
    def most_at_once(self) -> int:
        return array_size()

    def left(self) -> dict[Path, str]:
        file = self._folder / JOBS
        if not file.exists():
            return {}
        in_queue, left = self._in_queue(), {}
        for line in file.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError, TypeError, KeyError):  # a line that was cut off
                entry = json.loads(line)
                if in_queue.get(entry["job"], UNKNOWN) not in ENDED:
                    left[self._folder.parent / entry["run"]] = entry["job"]
        return left

    def submit(self, calls: Sequence[tuple[Path, Any]], num_cpus: int) -> list[str]:
        from submitit.core.utils import FailedJobError

        # srun does not take it from sbatch since Slurm 22.05
        self._executor.update_parameters(cpus_per_task=num_cpus, slurm_srun_args=[f"--cpus-per-task={num_cpus}"])
        try:
            numbers = [job.job_id for job in self._executor.submit_array([call for _, call in calls])]
        except FailedJobError as error:
            text = str(error).strip()
            raise (LimitError if "limit" in text.lower() else RunError)(text) from error
        with open_to_write(self._folder / JOBS, "a", "utf-8") as file:
            for number, (path, _) in zip(numbers, calls, strict=True):
                file.write(json.dumps({"job": number, "run": str(path.relative_to(self._folder.parent))}) + "\n")
        return numbers

    def ended(self, numbers: Iterable[str]) -> list[str]:
        try:
            self._states = self._in_queue()
        except RunError as error:  # the controller restarts, or the network is down: the jobs go on
            log.warning("%s", error)
            return []
        return [number for number in numbers if self.state(number) in ENDED]

    def state(self, number: str) -> str:
        return self._states.get(number, UNKNOWN)

    def log_of(self, number: str) -> Path:
        return self._folder / f"{number}_0_log.err"

    def stop(self) -> None:
        limit = time.monotonic() + GRACE_SECONDS
        while jobs := self._unfinished():
            if time.monotonic() < limit:
                _tell("scancel", "--state=PENDING", *jobs)
                _tell("scancel", "--signal=TERM", *jobs)  # again: a job that was starting did not get it
            else:
                _tell("scancel", *jobs)
            time.sleep(self.poll_seconds)

    def _unfinished(self) -> list[str]:
        return [number for number, state in self._in_queue().items() if state not in ENDED]

    def _in_queue(self) -> dict[str, str]:
        """The states of the sweep's jobs, also of those that have just ended, by id."""
        text = _ask("squeue", "--user", getpass.getuser(), "--array", "--states=all", "--noheader", "--format=%i|%T|%o")
        lines = [line.split("|", 2) for line in text.splitlines()]
        return {number: state for number, state, script in lines if Path(script).parent == self._folder}


def array_size() -> int:
    """How many jobs an array may have on this cluster; RunError if its controller does not answer."""
    size = re.search(r"^MaxArraySize\s*=\s*(\d+)", _ask("scontrol", "show", "config"), re.MULTILINE)
    return int(size[1]) if size else 1001  # Slurm's default


def requeue_if_preempted() -> None:
    """In a job: Slurm requeues one that it ends, but not one that ends by itself in its time of grace."""
    number = os.environ.get("SLURM_JOB_ID")
    if number and re.search(r"JobState=RUNNING\b.*PreemptTime=\d", _ask("scontrol", "show", "job", number), re.DOTALL):
        _ask("scontrol", "requeue", number)


def _ask(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise RunError(f"Slurm does not answer: {reason}\n  {shlex.join(command)} shows more")
    return done.stdout


def _tell(*command: str) -> None:
    subprocess.run(command, capture_output=True)  # some of the jobs may have ended meanwhile


class LocalQueue:
    """Processes of this machine, which submitit starts at once and nobody queues."""

    poll_seconds = 0.5
    most_at_once = 1

    def __init__(self, folder: Path, settings: Mapping[str, Any], num_places: int) -> None:
        self._executor = _executor(folder, settings, num_places)
        self._jobs: dict[str, Any] = {}  # submitit's LocalJob

    def left(self) -> dict[Path, str]:
        return {}

    def submit(self, calls: Sequence[tuple[Path, Any]], num_cpus: int) -> list[str]:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C is for us; they get SIGTERM
        try:
            jobs = self._executor.submit_array([call for _, call in calls])
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._jobs.update((job.job_id, job) for job in jobs)
        return [job.job_id for job in jobs]

    def ended(self, numbers: Iterable[str]) -> list[str]:
        return [number for number in numbers if self.state(number) in ENDED]

    def state(self, number: str) -> str:
        job = self._jobs[number]
        if not job.done():
            return RUNNING
        return "COMPLETED" if job.paths.result_pickle.exists() else "FAILED"

    def log_of(self, number: str) -> Path:
        log: Path = self._jobs[number].paths.stderr
        return log

    def stop(self) -> None:
        for number, job in self._jobs.items():
            if self.state(number) == RUNNING:
                job._process.send_signal(signal.SIGTERM)  # its own `cancel` kills after a second
        for job in self._jobs.values():
            while not job.done():
                time.sleep(0.05)
