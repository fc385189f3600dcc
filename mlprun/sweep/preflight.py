"""The checks of a sweep that need torch, before its first run: every point's data, model, loss and optimizer are built.

They run in a process of their own, so that the parent stays without torch and outlives whatever a user's class does.
"""

from __future__ import annotations

import json
import os
import resource
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from mlprun.config.identity import fingerprint
from mlprun.config.schema import Config
from mlprun.errors import UserError
from mlprun.sweep.forkserver import Job
from mlprun.sweep.pool import run


@dataclass(frozen=True)
class Needs:
    """What a point takes.

    Attributes:
        num_threads: CPU threads of its run.
        device: `cpu`, `cuda` or `mps`.
        num_gpus: how many there are, if it wants one.
        memory_mib: resident memory of a process that has built it; None if that is not known.
    """

    num_threads: int = 1
    device: str = "cpu"
    num_gpus: int = 0
    memory_mib: float | None = None


class PointError(UserError):
    """A point that cannot work, with the lines that make it."""

    def __init__(self, text: str, exit_status: int) -> None:
        super().__init__(text)
        self.exit_status = exit_status


def check(named: Sequence[tuple[str, Config]]) -> tuple[dict[str, Needs], list[str]]:
    """What each point needs, by its mark; and the marks of those whose check itself died, if any.

    Args:
        named: (what was typed, checked config) of each point.

    Raises:
        PointError: names the first point that cannot work, and why.
    """
    # Points that differ in their seed only are checked once.
    alike: dict[str, list[str]] = {}
    chosen: dict[str, tuple[str, Config]] = {}
    for line, config in named:
        key = fingerprint(replace(config, seed=0).to_dict())
        alike.setdefault(key, []).append(fingerprint(config.to_dict()))
        chosen.setdefault(key, (line, config))
    needs: dict[str, Needs] = {}
    dead: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        results = Path(scratch) / "results.jsonl"
        while rest := [key for key in chosen if key not in needs and key not in dead]:
            results.write_text("")
            job = Job(_check, ([(key, chosen[key][1]) for key in rest], results), Path(scratch), 1)
            list(run([job], num_workers=1, num_cores=os.cpu_count() or 1, retry=False))
            answers = [json.loads(line) for line in results.read_text().splitlines()]
            for answer in answers:
                key = answer.pop("key")
                if "error" in answer:
                    line = chosen[key][0]
                    raise PointError(
                        f"{answer['error']}\n  at the point {line}" if line else answer["error"], answer["status"]
                    )
                needs[key] = Needs(**answer)
            if len(answers) < len(rest):  # the next one took the process with it: its run will tell
                dead.append(rest[len(answers)])
    marks = {mark: found for key, found in needs.items() for mark in alike[key]}
    return marks, [mark for key in dead for mark in alike[key]]


def _check(named: list[tuple[str, Config]], results: Path) -> None:
    """In a process with torch: one line of results a point, as soon as it is known."""
    import torch

    from mlprun.job.build_data import build_splits, build_train_batches, find_device
    from mlprun.job.build_learner import (
        build_optimizer,
        build_plan,
        build_schedule,
        frozen_modules,
    )
    from mlprun.job.figures import picture_functions
    from mlprun.job.model_check import check_batch_norm
    from mlprun.job.weights import initial_weights

    torch.set_num_threads(1)
    remembered: dict[str, Any] = {}

    def once(name: str, config: Config, keys: Sequence[str], make: Callable[[], Any]) -> Any:
        values = config.to_dict()
        key = json.dumps([name, *(values[k] for k in keys)], default=str)
        if key not in remembered:
            if name == "parts":  # one data set at a time in memory
                remembered.clear()
            remembered[key] = make()
        return remembered[key]

    with results.open("a", encoding="utf-8") as file:
        for key, config in named:
            answer: dict[str, Any] = {"key": key}
            try:
                where = find_device(config)
                parts = once("parts", config, ["data"], partial(build_splits, config))
                batches = build_train_batches(config, parts, torch.device("cpu"))
                plan = build_plan(config, batches.steps_per_epoch)

                model, fit = once("fit", config, ["data", "model", "loss"], partial(_fit, config, parts))
                first_weights = partial(initial_weights, config, model, parts.tokenizer)
                once("weights", config, ["data", "model", "trainer"], first_weights)
                frozen = frozen_modules(config, model)
                check_batch_norm(fit, batches, config.trainer.accumulate, frozen)
                picture_functions(config)
                build_schedule(config, build_optimizer(config, model), plan)
                micro_batch = batches.batch_size // config.trainer.accumulate
                answer["num_threads"] = config.trainer.num_threads or fit.num_threads(micro_batch)
                answer["device"] = where.type
                answer["num_gpus"] = torch.cuda.device_count() if where.type == "cuda" else 0
                unit = 2**20 if os.uname().sysname == "Darwin" else 2**10
                answer["memory_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)
            except UserError as error:
                answer |= {"error": str(error), "status": error.exit_status}
            except Exception:  # the user's own code: its run will record it, frames and all
                answer |= {"num_threads": config.trainer.num_threads or 1}
            print(json.dumps(answer), file=file, flush=True)


def _fit(config: Config, parts: Any) -> Any:
    """The model and what a trial batch tells of it; without its numbers where the model can do without them."""
    import torch

    from mlprun.job.build_data import trial_batch
    from mlprun.job.build_learner import (
        build_loss,
        build_model,
    )
    from mlprun.job.model_check import check_model

    trial = trial_batch(config, parts)
    try:
        with torch.device("meta"):
            model, criterion = build_model(config), build_loss(config)
        shapes = trial._replace(inputs=trial.inputs.to("meta"), targets=trial.targets.to("meta"))
        return model, check_model(config, model, criterion, shapes)
    except Exception:  # a mismatch, or a model that looks at its numbers: the real batch will tell which
        model = build_model(config)
        return model, check_model(config, model, build_loss(config), trial)
