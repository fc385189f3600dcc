"""The search: Optuna proposes the trials, one by one, from the results so far.

The study is never stored: it is rebuilt from `trials.jsonl` and the runs, which are the only record.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlprun.config.schema import SweepConfig
from mlprun.config.space import Dimension, Space
from mlprun.errors import ConfigError, RunError
from mlprun.formatting import pluralize
from mlprun.runs.record import DONE, RunRecord
from mlprun.runs.trial_record import FILE_NAME, TrialRecord, append_trial, read_trials
from mlprun.sweep.scheduler import Proposal
from mlprun.text_table import render

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import Trial

GP_TRIALS = 250  # from there on CMA-ES: a Gaussian process costs the cube of the number of trials
# Samplers that keep a state of their own beside the trials: it is rebuilt by asking them again.
WITH_STATE = ("cmaes", "quasi_random")


class Search:
    """A strategy of the scheduler. A trial is one run, or one for each of the space's repeats.

    The sampler of trial `n` is seeded by (`sweep.seed`, n), so that a search that was stopped proposes what an
    undisturbed one would have, if one run is executed at a time.

    Args:
        read: the record of a run by its overrides, empty if it was not started.
    """

    def __init__(
        self, space: Space, settings: SweepConfig, sweep_dir: Path, read: Callable[[list[str]], RunRecord]
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.space, self.settings, self.sweep_dir = space, settings, sweep_dir
        self.num_trials = settings.num_trials or 0
        self.num_jobs = self.num_trials * len(space.repeats)
        self._distributions = {key: _distribution(d) for key, d in space.dimensions.items()}
        self._study: Study = optuna.create_study()  # minimises; a metric that is better higher is negated
        self._queue: deque[Proposal] = deque()
        self._trials: list[Trial] = []  # by their number in the study
        self._told: set[int] = set()
        self._records: dict[int, dict[int, RunRecord]] = {}  # trial -> repeat -> how it ended
        self._numbers: list[int] = []  # of the trials in `trials.jsonl`, by their number in the study
        self._num_recorded = 0
        self._failed: set[tuple[str, ...]] = set()  # runs that would fail again
        self.ended_before: list[tuple[str, RunRecord]] = []  # overrides and record of each run of an earlier start
        self._ended: list[int] = []  # since the last trial was proposed
        self._restore(read)

    def _restore(self, read: Callable[[list[str]], RunRecord]) -> None:
        """Rebuild the study, in the order in which it came about; what has not ended is to be run."""
        recorded = read_trials(self.sweep_dir)
        self._num_recorded = len(recorded)
        inside = {t.trial: i for i, t in enumerate(t for t in recorded if self.space.has(t.values))}
        results = {
            t.trial: [read(self.space.overrides(t.values, repeat)) for repeat in range(len(self.space.repeats))]
            for t in recorded
            if t.trial in inside
        }
        to_tell = {number for number, records in results.items() if _is_over(records, len(self.space.repeats))}
        for trial in recorded:
            for number in trial.ended:
                if number in to_tell:
                    to_tell.remove(number)
                    self._tell_study(inside[number], results[number])
            if trial.trial in inside:
                self._ask_study(trial)
                self._numbers.append(trial.trial)
        for number, i in inside.items():
            if number in to_tell:  # the process ended before the next trial was proposed
                self._tell_study(i, results[number])
                self._ended.append(number)
            for repeat, record in enumerate(results[number]):
                overrides = self.space.overrides(recorded[number].values, repeat)
                if _has_ended(record):
                    self.ended_before.append((" ".join(overrides), record))
                    self._note(overrides, (i, repeat), record)
                elif i not in self._told:
                    self._queue.append(Proposal(overrides, (i, repeat)))

    @property
    def num_left(self) -> int:
        """The number of trials without a result."""
        return max(0, self.num_trials - len(self._told))

    @property
    def summary(self) -> str:
        """What is to be done, for the terminal."""
        earlier = f"{self._num_recorded - len(self._numbers)} earlier trials are of another space; "
        others = earlier if self._num_recorded > len(self._numbers) else ""
        trials = pluralize(self.num_trials, "trial")
        return f"{others}{self.num_left} of {trials} to do, sampler {self._kind(len(self._told))}"

    def ask(self) -> Proposal | None:
        """The next run, or None if there is no further one."""
        if not self._queue and len(self._numbers) < self.num_trials:
            values = self._ask_study()
            new = len(self._numbers)
            record = TrialRecord(self._num_recorded, values, self._ended, self._kind(new), self.settings.seed)
            append_trial(self.sweep_dir, record)
            self._ended = []
            self._numbers.append(self._num_recorded)
            self._num_recorded += 1
            trial = len(self._numbers) - 1
            for repeat in range(len(self.space.repeats)):
                overrides = self.space.overrides(values, repeat)
                self._queue.append(Proposal(overrides, (trial, repeat), tuple(overrides) in self._failed))
        return self._queue.popleft() if self._queue else None

    def tell(self, proposal: Proposal, record: RunRecord) -> None:
        """Take the result of a run; the study gets the mean of a trial's runs when the last of them has ended."""
        trial = proposal.key[0]
        records = self._note(proposal.overrides, proposal.key, record)
        if trial in self._told or not _is_over(records.values(), len(self.space.repeats)):
            return
        self._tell_study(trial, records.values())
        self._ended.append(self._numbers[trial])
        self._queue = deque(p for p in self._queue if p.key[0] != trial)  # the other seeds of one that was pruned

    def _note(self, overrides: list[str], key: tuple[int, int], record: RunRecord) -> dict[int, RunRecord]:
        """Keep how a run ended; returns the records of its trial."""
        if record.status == "failed":
            self._failed.add(tuple(overrides))
        records = self._records.setdefault(key[0], {})
        records[key[1]] = record
        return records

    def _ask_study(self, recorded: TrialRecord | None = None) -> dict[str, Any]:
        """The values of a new trial: those recorded, or what the sampler proposes now."""
        number = len(self._numbers)
        kind, seed = (self._kind(number), self.settings.seed) if recorded is None else (recorded.sampler, recorded.seed)
        is_given = recorded is not None and kind not in WITH_STATE
        if recorded is not None and is_given:
            self._study.enqueue_trial(recorded.values)
        with warnings.catch_warnings(), _one_thread() if kind == "gp" else nullcontext():
            warnings.simplefilter("ignore")  # that a sampler is experimental
            self._study.sampler = self._sampler(kind, seed, number)
            self._trials.append(self._study.ask(self._distributions))
            values = self._trials[-1].params
        if recorded is not None and values != recorded.values:
            raise RunError(
                f"{self.sweep_dir / FILE_NAME}: this version of Optuna proposes another trial {recorded.trial}"
                "\n  install the version that the search was started with, or start another with another sweep.name"
            )
        return dict(values)

    def _tell_study(self, trial: int, records: Iterable[RunRecord]) -> None:
        """A trial fails if one of its runs has no finite result: the mean of the others would flatter it.

        It is pruned if one of its runs is, whose value the sampler gets with its step.
        """
        from optuna.trial import TrialState

        records = list(records)
        mean = sum(map(_value, records)) / len(records)
        self._told.add(trial)
        if pruned := [record for record in records if record.status == "pruned"]:
            if math.isfinite(value := _value(pruned[0])):
                self._trials[trial].report(value, pruned[0].steps or 0)
            self._study.tell(trial, state=TrialState.PRUNED)
        elif math.isfinite(mean):
            self._study.tell(trial, mean)
        else:
            self._study.tell(trial, state=TrialState.FAIL)

    def _kind(self, number: int) -> str:
        """The sampler of a trial."""
        if self.settings.sampler != "auto":
            return self.settings.sampler
        if any(dimension.choices for dimension in self.space.dimensions.values()):
            return "tpe"
        return "gp" if number < GP_TRIALS else "cmaes"

    def _sampler(self, kind: str, seed: int, number: int) -> BaseSampler:
        import numpy as np
        from optuna import samplers

        of_search, of_trial = (int(np.random.SeedSequence([seed, *n]).generate_state(1)[0]) for n in ((), (number,)))
        random = samplers.RandomSampler(seed=of_trial)
        if kind == "quasi_random":
            return samplers.QMCSampler(
                scramble=True, seed=of_search, independent_sampler=random, warn_asynchronous_seeding=False
            )
        if kind == "tpe":
            return samplers.TPESampler(seed=of_trial)
        if kind == "gp":
            return samplers.GPSampler(seed=of_trial)
        if kind == "cmaes":
            first = self._study.trials[:GP_TRIALS] if self.settings.sampler == "auto" else []
            source = [trial for trial in first if trial.value is not None]
            is_enough = len(source) >= 10  # it starts from the best tenth of them
            return samplers.CmaEsSampler(
                seed=of_search, independent_sampler=random, source_trials=source if is_enough else None
            )
        return random


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute in one thread: the jobs need the others, and their number would change the last bits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_sampler(space: Space, settings: SweepConfig) -> None:
    """ConfigError if the sampler is not installed, or is not for this space."""
    for name in ("optuna", *(["cmaes"] if settings.sampler in ("auto", "cmaes") else [])):
        if importlib.util.find_spec(name) is None:
            problem = f"needs the package {name}, which is not installed"
            raise ConfigError("sweep.sampler", settings.sampler, problem, "pip install 'mlprun[search]'")
    chosen = next((key for key, dimension in space.dimensions.items() if dimension.choices), None)
    if chosen is not None and settings.sampler == "cmaes":
        problem = f"is for numbers, and {chosen} has choices"
        raise ConfigError("sweep.sampler", settings.sampler, problem, "write sweep.sampler=tpe")


def recorded_runs(space: Space, sweep_dir: Path) -> list[list[str]]:
    """The overrides of the runs of all trials recorded so far that belong to the space."""
    trials = [trial for trial in read_trials(sweep_dir) if space.has(trial.values)]
    return [space.overrides(trial.values, repeat) for trial in trials for repeat in range(len(space.repeats))]


def describe(space: Space) -> list[str]:
    """A line for each dimension."""
    return render([(key, str(dimension)) for key, dimension in space.dimensions.items()], "<<")


def trials_of(space: Space, settings: SweepConfig) -> str:
    """How many trials there are to be, and of how many runs."""
    repeats = f" of {len(space.repeats)} runs each" if len(space.repeats) > 1 else ""
    return f"{pluralize(settings.num_trials or 0, 'trial')}{repeats}, sampler {settings.sampler}"


def _distribution(dimension: Dimension) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if dimension.choices:
        return CategoricalDistribution(dimension.choices)
    if dimension.is_int:
        return IntDistribution(int(dimension.low), int(dimension.high), dimension.is_log, int(dimension.step or 1))
    return FloatDistribution(dimension.low, dimension.high, dimension.is_log, dimension.step)


def _has_ended(record: RunRecord) -> bool:
    return record.status in (*DONE, "failed")


def _is_over(records: Collection[RunRecord], num_repeats: int) -> bool:
    """Whether a trial with these runs has a result."""
    ended = [record for record in records if _has_ended(record)]
    return len(ended) == num_repeats or any(record.status == "pruned" for record in ended)


def _value(record: RunRecord) -> float:
    """What the study minimises; NaN without a result."""
    value = record.metric(record.monitor) if record.status in DONE else None
    if value is None:
        return math.nan
    return -value if record.higher_is_better(record.monitor) else value
