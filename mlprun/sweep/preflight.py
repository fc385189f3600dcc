"""Checks before the first run of a sweep: build every point's data, model, loss and optimizer.

They run in a process of their own: the parent does not import torch, and survives the user's classes.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mlprun.config.identity import digest
from mlprun.config.options import as_dict
from mlprun.config.schema import Config
from mlprun.errors import UserError
from mlprun.process import num_cores
from mlprun.runs.sweep_record import Needs
from mlprun.sweep.forkserver import Job
from mlprun.sweep.pool import run

if TYPE_CHECKING:
    from mlprun.sweep.points import Point

T = TypeVar("T")


class PointError(UserError):
    def __init__(self, text: str, exit_status: int) -> None:
        super().__init__(text)
        self.exit_status = exit_status


@dataclass
class Checked:
    """What the checks found."""

    needs: dict[str, Needs] = field(default_factory=dict)  # of each point, by fingerprint
    dead: list[str] = field(default_factory=list)  # fingerprints of the points whose check died
    data: dict[str, dict[str, Any]] = field(default_factory=dict)  # of each data set, see `data_of`

    def data_of(self, config: Config) -> dict[str, Any] | None:
        """The data of a config, as a run would record it; None if it could not be read."""
        return self.data.get(_data_key(config))


def check(points: Sequence[Point], finished: Sequence[Config] = ()) -> Checked:
    """Check every point; PointError for the first invalid one.

    Each data set is read once.

    Args:
        finished: configs of which only the data is read; what cannot be read is left out.
    """
    # Points that differ only in their seed are checked once.
    groups: dict[str, list[str]] = {}  # digest of the config with seed 0 -> fingerprints
    firsts: dict[str, tuple[str, Config]] = {}  # of each group
    for point in points:
        key = digest({**point.config.to_dict(), "seed": 0})
        groups.setdefault(key, []).append(point.fingerprint)
        firsts.setdefault(key, (" ".join(point.overrides), point.config))
    read_only = {_data_key(config): config for config in finished}
    needs: dict[str, Needs] = {}
    data: dict[str, dict[str, Any]] = {}
    dead: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        results = Path(scratch) / "results.jsonl"
        while (rest := [key for key in firsts if key not in needs and key not in dead]) or read_only:
            results.write_text("")
            configs = [(key, firsts[key][1]) for key in rest]
            job = Job(_check, (configs, list(read_only.values()), results), Path(scratch), 1)
            read_only = {}
            list(run([job], num_workers=1, num_cores=num_cores(), retry=False))
            lines = [json.loads(line) for line in results.read_text().splitlines()]
            data |= {line["of"]: line["data"] for line in lines if "of" in line}
            answers = [line for line in lines if "key" in line]
            for answer in answers:
                key = answer.pop("key")
                if "error" in answer:
                    line = firsts[key][0]
                    raise PointError(answer["error"] + f"\n  at the point {line}" * bool(line), answer["status"])
                needs[key] = Needs(**answer)
            if len(answers) < len(rest):  # the next one killed the process: its run will show why
                dead.append(rest[len(answers)])
    by_fingerprint = {member: needs[key] for key in needs for member in groups[key]}
    return Checked(by_fingerprint, [member for key in dead for member in groups[key]], data)


def _data_key(config: Config) -> str:
    return json.dumps(as_dict(config.data), default=str)


def _check(configs: list[tuple[str, Config]], read_only: list[Config], results: Path) -> None:
    """In a process with torch: write a line of results for each config, and for each data set, at once."""
    built: dict[str, Any] = {}
    known: set[str] = set()
    with results.open("a", encoding="utf-8") as file:

        def note_data(config: Config) -> None:
            if (key := _data_key(config)) not in known:
                known.add(key)
                with suppress(Exception):  # of data that cannot be read; the check of the point reports it
                    print(json.dumps({"of": key, "data": _data(config, built)}), file=file, flush=True)

        for key, config in configs:
            answer: dict[str, Any] = {"key": key}
            try:
                answer |= asdict(_needs(config, built))
            except UserError as error:
                answer |= {"error": str(error), "status": error.exit_status}
            except Exception:  # in the user's own code: its run will record it with its traceback
                answer |= {"num_threads": config.trainer.num_threads or 1}
            print(json.dumps(answer), file=file, flush=True)
            note_data(config)
        for config in read_only:
            note_data(config)


def _data(config: Config, built: dict[str, Any]) -> dict[str, Any]:
    from mlprun.job.attempt import data_entry
    from mlprun.job.build_data import build_splits
    from mlprun.job.prepare import configure_torch

    configure_torch(config)
    return data_entry(_once(built, config.to_dict(), ("data",), partial(build_splits, config)))


def _needs(config: Config, built: dict[str, Any]) -> Needs:
    import torch

    from mlprun.job.build_learner import build_schedule
    from mlprun.job.build_optimizer import build_optimizer
    from mlprun.job.build_writers import build_writers
    from mlprun.job.figures import picture_functions
    from mlprun.job.memory import peak_mem_mib
    from mlprun.job.prepare import prepare

    once = partial(_once, built, config.to_dict())
    experiment = prepare(config, dry=True, once=once)
    picture_functions(config)
    once(("writers",), partial(build_writers, config))
    build_schedule(config, build_optimizer(config, experiment.model), experiment.plan)
    device = experiment.device.type
    return Needs(
        num_threads=experiment.num_threads * config.trainer.devices,
        num_processes=config.trainer.devices,
        device=device,
        num_gpus=torch.cuda.device_count() if device == "cuda" else 0,
        memory_mib=peak_mem_mib(torch.device("cpu")),
    )


def _once(built: dict[str, Any], values: dict[str, Any], keys: tuple[str, ...], make: Callable[[], T]) -> T:
    """Reuse what an earlier point has built from the same values of `keys`."""
    key = json.dumps([keys, *(values[k] for k in keys)], default=str)
    if key not in built:
        if keys == ("data",):  # one data set at a time in memory
            built.clear()
        built[key] = make()
    result: T = built[key]
    return result
