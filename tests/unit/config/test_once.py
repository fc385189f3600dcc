"""A line is parsed once, composed once and checked once."""

from __future__ import annotations

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser

from mlprun.config import checks
from tests.helpers import composed


@pytest.fixture
def counts(monkeypatch):
    """How often YAML was composed, an override of mlprun's line parsed, and a config checked; in this process."""
    monkeypatch.setattr(composed, "COMPOSED", {})
    counted = {"compositions": 0, "parses": 0, "checks": 0}

    def count(name, owner, attribute):
        function = getattr(owner, attribute)

        def counting(*args, **kwargs):
            counted[name] += len(kwargs.get("overrides", args[-1])) if name == "parses" else 1
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, attribute, counting)

    count("compositions", ConfigLoaderImpl, "load_configuration")
    count("parses", OverridesParser, "parse_overrides")
    count("checks", checks, "to_config")
    return counted


def test_a_run(mlprun, counts):
    assert mlprun("debug=fast", "device=cpu", "seed=3", "optim.lr=0.01").status == 0
    # Numbers need no parser, and Hydra itself parses the choices once more when it composes them.
    assert counts == {"compositions": 1, "parses": 3, "checks": 1}


@pytest.mark.parametrize(
    ("line", "num_sets"),
    [
        (["debug=fast", "seed=0,1", "optim.lr=0.01,0.1"], 1),
        (["debug=fast", "model=mlp,linear", "seed=0,1"], 3),  # and that of the line itself, without a model
    ],
    ids=str,
)
def test_a_sweep_on_the_pool_composes_each_set_of_choices_once(mlprun, counts, line, num_sets):
    assert mlprun("-m", *line, "sweep.dry_run=true").status == 0
    assert counts["compositions"] == num_sets
