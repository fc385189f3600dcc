"""The search space of a command line."""

from __future__ import annotations

from mlprun.config.compose import Composer
from mlprun.config.space import Space


def space_of(words: list[str], num_trials: int = 12) -> Space:
    composer = Composer()
    words = [*words, f"sweep.num_trials={num_trials}"]
    space = composer.space(words, composer.compose(words, multirun=True))
    assert space is not None
    return space
