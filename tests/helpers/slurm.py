"""A Slurm cluster of this machine alone: Debian's munge and slurm-wlm, in a folder and on ports of a test's own."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.helpers.lines import wait_until

PROGRAMS = ("munged", "slurmctld", "slurmd")
# Without cgroups, as in a container. A requeued job starts after five seconds, not after 120 (`cred_expire`).
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MaxArraySize={max_array_size}
KillWait=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=1,bf_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=low Nodes={host} Default=YES PriorityTier=1 MaxTime=60
PartitionName=graceful Nodes={host} PriorityTier=1 MaxTime=60 GraceTime=20
PartitionName=high Nodes={host} PriorityTier=9 MaxTime=60
"""


def _find(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def is_installed() -> bool:
    """Whether a cluster can be started here; slurmd starts jobs as root."""
    return os.getuid() == 0 and all(map(_find, PROGRAMS))


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def cluster(folder: Path, max_array_size: int = 3) -> Iterator[dict[str, str]]:
    """Start a cluster of one node with two CPUs; yields the environment that `sbatch` and the others need."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    config, key, munge = folder / "slurm.conf", folder / "munge.key", folder / "munge.socket"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    names = {"host": socket.gethostname().partition(".")[0], "user": getpass.getuser(), "folder": folder}
    ports = {"controller_port": _free_port(), "node_port": _free_port()}
    config.write_text(CONFIG.format(**names, **ports, max_array_size=max_array_size))
    environment = {"SLURM_CONF": str(config)}
    files = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "log", "pid", "seed")]

    def answers(*command: str) -> bool:
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
        return done.returncode == 0 and "idle" in done.stdout

    with ExitStack() as stack:
        stack.enter_context(_daemon(folder, "munged", "--foreground", "--force", f"--socket={munge}", *files))
        wait_until(munge.exists)
        for name in ("slurmctld", "slurmd"):
            stack.enter_context(_daemon(folder, name, "-D", "-f", str(config)))
        wait_until(lambda: answers("sinfo", "--noheader", "--format=%T"))
        yield environment


@contextmanager
def _daemon(folder: Path, name: str, *arguments: str) -> Iterator[None]:
    with (folder / f"{name}.out").open("w") as output:
        process = subprocess.Popen(
            [str(_find(name)), *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)
