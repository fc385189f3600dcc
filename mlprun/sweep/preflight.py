"""The checks of a sweep that need torch, before its first run: every point's data, model, loss and optimizer are built.

They run in a process of their own, so that the parent stays without torch and outlives whatever a user's class does.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from mlprun.config.identity import fingerprint
from mlprun.config.schema import Config
from mlprun.errors import UserError
from mlprun.runs.sweep_record import Needs
from mlprun.sweep.forkserver import Job
from mlprun.sweep.pool import run

T = TypeVar("T")


class PointError(UserError):
    """A point that cannot work, with the lines that make it."""

    def __init__(self, text: str, exit_status: int) -> None:
        super().__init__(text)
        self.exit_status = exit_status


def check(points: Sequence[tuple[str, Config]]) -> tuple[dict[str, Needs], list[str]]:
    """What each point needs, by its fingerprint; and the fingerprints of those whose check itself died, if any.

    Args:
        points: (overrides as one line, checked config) of each.

    Raises:
        PointError: names the first point that cannot work, and why.
    """
    # Points that differ in their seed only are checked once.
    groups: dict[str, list[str]] = {}  # fingerprint with seed 0 -> fingerprints
    firsts: dict[str, tuple[str, Config]] = {}  # of each group
    for line, config in points:
        key = fingerprint(replace(config, seed=0).to_dict())
        groups.setdefault(key, []).append(fingerprint(config.to_dict()))
        firsts.setdefault(key, (line, config))
    needs: dict[str, Needs] = {}
    dead: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        results = Path(scratch) / "results.jsonl"
        while rest := [key for key in firsts if key not in needs and key not in dead]:
            results.write_text("")
            job = Job(_check, ([(key, firsts[key][1]) for key in rest], results), Path(scratch), 1)
            list(run([job], num_workers=1, num_cores=os.cpu_count() or 1, retry=False))
            answers = [json.loads(line) for line in results.read_text().splitlines()]
            for answer in answers:
                key = answer.pop("key")
                if "error" in answer:
                    line = firsts[key][0]
                    raise PointError(
                        f"{answer['error']}\n  at the point {line}" if line else answer["error"], answer["status"]
                    )
                needs[key] = Needs(**answer)
            if len(answers) < len(rest):  # the next one took the process with it: its run will tell
                dead.append(rest[len(answers)])
    by_fingerprint = {member: needs[key] for key in needs for member in groups[key]}
    return by_fingerprint, [member for key in dead for member in groups[key]]


def _check(configs: list[tuple[str, Config]], results: Path) -> None:
    """In a process with torch: one line of results per config, as soon as it is known."""
    memory = _Memory()
    with results.open("a", encoding="utf-8") as file:
        for key, config in configs:
            answer: dict[str, Any] = {"key": key}
            try:
                answer |= asdict(_needs(config, memory))
            except UserError as error:
                answer |= {"error": str(error), "status": error.exit_status}
            except Exception:  # the user's own code: its run will record it, frames and all
                answer |= {"num_threads": config.trainer.num_threads or 1}
            print(json.dumps(answer), file=file, flush=True)


def _needs(config: Config, memory: _Memory) -> Needs:
    import torch

    from mlprun.job.build_learner import build_optimizer, build_schedule
    from mlprun.job.build_writers import build_writers
    from mlprun.job.figures import picture_functions
    from mlprun.job.memory import peak_mem_mib
    from mlprun.job.prepare import prepare

    experiment = prepare(config, dry=True, once=partial(memory.once, config.to_dict()))
    picture_functions(config)
    memory.once(config.to_dict(), ("writers",), partial(build_writers, config))
    build_schedule(config, build_optimizer(config, experiment.model), experiment.plan)
    device = experiment.device.type
    return Needs(
        num_threads=experiment.num_threads,
        device=device,
        num_gpus=torch.cuda.device_count() if device == "cuda" else 0,
        memory_mib=peak_mem_mib(torch.device("cpu")),
    )


class _Memory:
    """What points before have built, for those with the same values of some keys."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def once(self, values: dict[str, Any], keys: tuple[str, ...], make: Callable[[], T]) -> T:
        key = json.dumps([keys, *(values[k] for k in keys)], default=str)
        if key not in self._made:
            if keys == ("data",):  # one data set at a time in memory
                self._made.clear()
            self._made[key] = make()
        made: T = self._made[key]
        return made
