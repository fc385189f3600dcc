"""Version one's fingerprint: a hash of the whole config, in which the names of its sweeps' directories end.

A sweep of version one is completed by the same line typed again, so its directories must be found. The keys and values
below are those of version one and never change.
"""

from __future__ import annotations

from typing import Any

from mlprun.config.identity import difference, digest, drop_known_root
from mlprun.version_one import downgrade_config, upgrade_config

# The keys that version one had and made its hash of, by their group.
_KEYS = {
    "": "seed batch_size epochs steps eval_every monitor data model optim scheduler loss trainer early_stopping",
    "data": "name dataset val_dataset test_dataset task input_shape num_outputs val_fraction test_fraction split_seed "
    "normalize normalize_targets augment text audio limit limit_eval num_workers",
    "data.augment": "crop flip",
    "data.text": "tokens lowercase vocab_size min_frequency ngrams max_length vocabulary bucketing",
    "data.audio": "sample_rate seconds num_mels window_ms hop_ms f_min f_max",
    "trainer": "accumulate grad_clip precision deterministic compile num_threads on_nan decay_all weights freeze "
    "detect_anomaly profile",
    "early_stopping": "patience min_delta",
}
# Keys that came later than its first hashes, and the value with which they were left out.
_LATER: dict[tuple[str, str], Any] = {
    ("trainer", "weights"): None,
    ("trainer", "freeze"): [],
    ("data", "normalize_targets"): False,
    ("data", "text"): {
        "tokens": "words", "lowercase": True, "vocab_size": 10000, "min_frequency": 2, "ngrams": 1, "max_length": 256,
        "vocabulary": None, "bucketing": 0,
    },
    ("data", "audio"): None,
}  # fmt: skip


def version_one_fingerprint(config: dict[str, Any]) -> str | None:
    """The hash that version one made of a config; None if the config has a key that version one did not know.

    Args:
        config: whole and resolved, as `Config.to_dict` returns it.
    """
    if not _known(difference(config), ""):
        return None
    config = upgrade_config(config)
    dataset = config["data"]["dataset"]
    for name, value in dataset.items():
        for group in ("text", "audio"):
            if isinstance(value, dict) and value == config["data"][group]:
                dataset[name] = _selected(value, f"data.{group}")
    kept = _selected(config, "")
    for (group, key), value in _LATER.items():
        if kept[group][key] == value:
            del kept[group][key]
    drop_known_root(dataset)
    return digest(downgrade_config(kept))


def _known(changed: dict[str, Any], group: str) -> bool:
    names = _KEYS[group].split()
    inner = {name: f"{group}.{name}".lstrip(".") for name in changed}
    return all(
        name in names and (inner[name] not in _KEYS or not isinstance(value, dict) or _known(value, inner[name]))
        for name, value in changed.items()
    )


def _selected(config: dict[str, Any], group: str) -> dict[str, Any]:
    kept = {name: config[name] for name in _KEYS[group].split()}
    for name, value in kept.items():
        inner = f"{group}.{name}".lstrip(".")
        if inner in _KEYS and isinstance(value, dict):
            kept[name] = _selected(value, inner)
    return kept
