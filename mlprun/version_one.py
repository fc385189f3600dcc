"""Upgrades configs and checkpoints of version one: its `_target_`s and keys, and what they are today."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_SCHEDULES = (
    "Constant:constant Cosine:cosine CosineRestarts:cosine_restarts ExpRange:exp_range Inverse:inverse Linear:linear "
    "MultiStep:multistep OneCycle:one_cycle Plateau Polynomial:polynomial RangeTest:range_test Step:step_decay "
    "Triangular:triangular Triangular2:triangular2"
)
# Moved names: old module -> {today's module: names, `old:new` if renamed}. If a name has moved twice, version one's
# module comes last, for `_OLD_TARGETS`.
_MOVED = {
    "mlprun.data.text.language_model": {"mlprun.course.python_docs": "python_docs"},
    "mlprun.data.audio": {"mlprun.data.audio.folder": "audio_folder"},
    "mlprun.data.lessons": {"mlprun.course.noisy_digits": "NoisyDigits"},
    "mlprun.data.synthetic_audio": {"mlprun.course.tones": "tones"},
    "mlprun.data.synthetic_text": {"mlprun.course.reviews": "reviews"},
    "mlprun.data.text": {
        "mlprun.data.text.documents": "TextFiles TextStream text_folder",
        "mlprun.data.text.imdb": "imdb imdb_masked",
        "mlprun.data.text.language_model": "language_model masked",
        "mlprun.course.python_docs": "python_docs",
    },
    "mlprun.data.vision": {"mlprun.data.cifar": "cifar", "mlprun.data.mnist": "idx"},
    "mlprun.models.activations": {"mlprun.course.silu_by_hand": "SiLUByHand"},
    "mlprun.models.rnn": {"mlprun.course.lstm_by_hand": "LSTMByHand"},
    "mlprun.training.losses": {"mlprun.tasks.losses": "NLL Hinge"},
    "mlprun.models.cifar_quick": {"mlprun.course.cifar_quick": "CifarQuick"},
    "mlprun.training.schedules": {"mlprun.training.schedules": _SCHEDULES},
    "mlprun.training.schedule": {"mlprun.training.schedules": _SCHEDULES},
}
TARGETS = {
    f"{old}.{name.partition(':')[0]}": f"{new}.{name.rpartition(':')[2]}"
    for old, names in _MOVED.items()
    for new, listed in names.items()
    for name in listed.split()
}
HIGHER_IS_BETTER = ("accuracy", "macro_f1", "top5_accuracy", "r2")  # not in its records
_OLD_TARGETS = {new: old for old, new in TARGETS.items()}

# Layers that models accepted by name.
_LAYERS = {
    word: {"_target_": target, "_partial_": True}
    for word, target in (
        ("lstm_by_hand", "mlprun.course.lstm_by_hand.LSTMByHand"),
        ("silu_by_hand", "mlprun.course.silu_by_hand.SiLUByHand"),
    )
}
_TAKE_LAYERS = ("activation", "cell", "output_activation")
_CHANGING = frozenset(("_target_", *_TAKE_LAYERS))
# `data.normalize_test_by` became a data set of the course, which takes these keys of `data` as arguments.
_OWN_STATISTICS = "mlprun.course.own_statistics.own_statistics"
_SPLITS = "task input_shape num_outputs val_fraction test_fraction split_seed normalize limit limit_eval"


def upgrade_config(config: dict[str, Any]) -> dict[str, Any]:
    """A copy of a stored config with today's `_target_`s and keys."""

    def change(key: str, item: Any) -> Any:
        names = TARGETS if key == "_target_" else _LAYERS
        return names.get(item, item) if isinstance(item, str) else item

    config = _changed(config, change)
    data = config.get("data")
    if isinstance(data, dict) and data.pop("normalize_test_by", "train") == "test" and data.get("normalize") != "none":
        splits = {name: data.get(name) for name in _SPLITS.split()}
        data["dataset"] = {
            "_target_": _OWN_STATISTICS,
            "source": data.get("dataset"),
            "scale_test_by": "test",
            **splits,
        }
    return config


def downgrade_config(config: dict[str, Any]) -> dict[str, Any]:
    """A copy of a config with the `_target_`s of version one, for the hashes in its directory names."""

    def change(key: str, item: Any) -> Any:
        if key in _TAKE_LAYERS:
            return next((word for word, layer in _LAYERS.items() if layer == item), item)
        return _OLD_TARGETS.get(item, item) if key == "_target_" and isinstance(item, str) else item

    return _changed(config, change)  # type: ignore[no-any-return]  # of a dict, a dict


def _changed(value: Any, change: Callable[[str, Any], Any]) -> Any:
    """A copy of nested dicts and lists in which `change` has replaced the items that may change, outermost first."""
    if isinstance(value, dict):
        changed = {}
        for key, item in value.items():
            new = change(key, item) if key in _CHANGING else item
            changed[key] = _changed(new, change) if isinstance(new, (dict, list)) else new
        return changed
    return [_changed(item, change) for item in value] if isinstance(value, list) else value


def upgrade_checkpoint(state: dict[str, Any]) -> None:
    """Name the training sums of a checkpoint of format 1, in place."""
    sums = state["progress"]["sums"]
    if sums is not None:
        loss, num_correct, norm, *num_tokens = sums
        named = {"loss": loss, "accuracy": num_correct, "optim/grad_norm": norm}
        if state["config"]["data"]["task"] == "regression":
            del named["accuracy"]
        state["progress"]["sums"] = named | dict(zip(["num_targets"], num_tokens, strict=False))
