"""How many CPUs a process may use: of its affinity, its container's quota and OMP_NUM_THREADS."""

from __future__ import annotations

import math
import os

import pytest

from mlprun import process
from tests.helpers.files import write

V2 = "0::/{}\n"
V1 = "12:cpuset:/{0}\n4:cpu,cpuacct:/{0}\n3:memory:/{0}\n"


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, math.inf),
        ({"proc/self/cgroup": V2.format("")}, math.inf),
        ({"proc/self/cgroup": V2.format(""), "sys/fs/cgroup/cpu.max": "max 100000\n"}, math.inf),
        ({"proc/self/cgroup": V2.format(""), "sys/fs/cgroup/cpu.max": "250000 100000\n"}, 2.5),
        # a cluster's job: the limit is above the process's own group
        ({"proc/self/cgroup": V2.format("job/step"), "sys/fs/cgroup/job/cpu.max": "300000 100000\n"}, 3),
        # a container that sees its group at the top, and its host's name of it
        ({"proc/self/cgroup": V2.format("docker/1f"), "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),
        (
            {
                "proc/self/cgroup": V1.format("docker/1f"),
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
        (
            {
                "proc/self/cgroup": V1.format(""),
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            math.inf,
        ),
        ({"proc/self/cgroup": V2.format(""), "sys/fs/cgroup/cpu.max": "odd"}, math.inf),
    ],
)
def test_the_quota_of_control_groups(tmp_path, files, quota):
    assert process.cpu_quota(write(tmp_path, files)) == quota


@pytest.mark.parametrize(("quota", "cores"), [(math.inf, 8), (2.9, 2), (0.5, 1), (100, 8)])
def test_cores_are_whole_and_at_least_one(monkeypatch, quota, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.setattr(process, "cpu_quota", lambda: quota)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert (process.num_cores(), process.num_threads()) == (cores, cores)


@pytest.mark.parametrize(
    ("value", "threads"), [("3", 3), ("2,1", 2), (" 5 ", 5), ("", 8), ("0", 8), ("many", 8), ("100000", 8)]
)
def test_omp_num_threads_is_the_number_of_threads_not_of_cores(monkeypatch, value, threads):
    monkeypatch.setattr(process, "num_cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert process.num_threads() == threads
