"""`sweep.confirm`: the best configurations of a sweep again, with seeds that did not choose them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count, islice
from pathlib import Path

from mlprun.analysis.configurations import comparable_blocks, configurations
from mlprun.config.compose import Composer
from mlprun.config.identity import digest, identity
from mlprun.config.schema import SweepConfig
from mlprun.config.space import Space
from mlprun.errors import ConfigError
from mlprun.formatting import pluralize
from mlprun.runs.record import section
from mlprun.sweep.points import Point, points
from mlprun.sweep.search import recorded_runs

FIRST_SEED = 1000
ADDED = ("sweep.pruner=none", "sweep.confirms=true")  # a run that others end says nothing


def check_confirm(composer: Composer, words: list[str], settings: SweepConfig, swept: Sequence[Point] | None) -> None:
    """ConfigError if the sweep has fewer configurations, or directories of the user's own.

    Args:
        swept: the points of a grid; None: a search.
    """
    if next(composer.named_directories(words), None) is not None:
        problem, remedy = "needs directories for further seeds", "leave hydra.sweep.subdir out"
        raise ConfigError("sweep.confirm", settings.confirm, problem, remedy)
    number = settings.num_trials or 0
    has = f"the search has {pluralize(number, 'trial')}"
    if swept is not None:
        number = len({_without_seed(point, without_fold=True) for point in swept})
        has = f"the sweep has {pluralize(number, 'configuration')}, apart from seeds"
    if settings.confirm > number:
        raise ConfigError("sweep.confirm", settings.confirm, has, f"choose at most {number}")


def _without_seed(point: Point, *, without_fold: bool = False) -> str:
    """A hash of the config."""
    config = identity(point.config.to_dict())
    config.pop("seed", None)
    if without_fold:
        section(config, "data").pop("fold", None)
    return digest(config)


def fresh_seeds(settings: SweepConfig, swept: Iterable[Point]) -> list[int]:
    """1000, 1001, …, without those of the sweep."""
    used = {point.config.seed for point in swept}
    return list(islice((seed for seed in count(FIRST_SEED) if seed not in used), settings.confirm_seeds))


def swept_points(composer: Composer, words: list[str], space: Space | None, sweep_dir: Path) -> list[Point]:
    """The points of a sweep as they are now."""
    return points(composer, composer.points(words) if space is None else recorded_runs(space, sweep_dir), sweep_dir)[0]


def confirming(
    composer: Composer, swept: Sequence[Point], sweep_dir: Path, settings: SweepConfig
) -> list[tuple[Point, Point]]:
    """The runs to add, those of a seed together, each with one of `swept` that differs in the seed alone.

    The best are those of the leaderboard, in each of its tables.
    """
    by_path = {point.path: point for point in swept if point.path is not None and point.record}
    bases: dict[str, Point] = {}  # a configuration has one for each fold
    for block in comparable_blocks(configurations([(path, point.record) for path, point in by_path.items()])):
        for entry in block.ranked[: settings.confirm]:
            for path, _ in entry.runs:
                bases.setdefault(_without_seed(by_path[path]), by_path[path])
    pairs: list[tuple[Point, Point]] = []
    for seed in fresh_seeds(settings, swept):
        lines = [[*_other_overrides(composer, like), f"seed={seed}", *ADDED] for like in bases.values()]
        added, _ = points(composer, lines, sweep_dir)
        pairs += zip(added, bases.values(), strict=True)
    return pairs


def _other_overrides(composer: Composer, point: Point) -> list[str]:
    known = ("seed", *(line.partition("=")[0] for line in ADDED))
    parsed = composer.parse(point.overrides)
    return [line for line, override in zip(point.overrides, parsed, strict=True) if override.key_or_group not in known]
