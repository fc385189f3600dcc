"""Version one's fingerprint, a hash of the whole config at the end of its sweeps' directory names.

It finds those directories when the sweep is completed. The keys and values below are version one's and never change.
"""

from __future__ import annotations

from typing import Any

from mlprun.config.identity import difference, digest, drop_known_root, without_unused
from mlprun.version_one import downgrade_config, upgrade_config

# The keys of version one, by group.
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
# Keys that were added during version one, and the value with which they are left out of the hash.
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
    """Version one's hash of a resolved config (`Config.to_dict`); None if it has a key that version one did not."""
    if not _known(difference(config), ""):
        return None
    config = without_unused(upgrade_config(config))
    dataset = config["data"]["dataset"]
    for name, value in dataset.items():
        for group in ("text", "audio"):
            if isinstance(value, dict) and value == config["data"][group]:
                dataset[name] = _selected(value, f"data.{group}")
    selected = _selected(config, "")
    for (group, key), value in _LATER.items():
        if selected[group][key] == value:
            del selected[group][key]
    drop_known_root(dataset)
    return digest(downgrade_config(selected))


def _known(changed: dict[str, Any], group: str) -> bool:
    names = _KEYS[group].split()
    inner = {name: f"{group}.{name}".lstrip(".") for name in changed}
    return all(
        name in names and (inner[name] not in _KEYS or not isinstance(value, dict) or _known(value, inner[name]))
        for name, value in changed.items()
    )


def _selected(config: dict[str, Any], group: str) -> dict[str, Any]:
    selected = {name: config[name] for name in _KEYS[group].split()}
    for name, value in selected.items():
        inner = f"{group}.{name}".lstrip(".")
        if inner in _KEYS and isinstance(value, dict):
            selected[name] = _selected(value, inner)
    return selected
