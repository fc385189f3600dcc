"""The built-in tasks and the metrics of each, for configs that are checked before torch is imported."""

from __future__ import annotations

from collections.abc import Iterable

from mlprun.errors import ConfigError, suggestion

TOP5_FROM = 20  # with fewer classes, a fifth guess is right too often to say anything
CUSTOM = "custom"  # a task, or a `training_step` of a model, of the user's own
_TOKENS = ("loss", "perplexity", "accuracy", "top5_accuracy")
METRICS = {
    "classification": ("loss", "accuracy", "macro_f1", "top5_accuracy"),
    "multi_label": ("loss", "accuracy", "exact_match", "macro_f1"),
    "regression": ("loss", "mse", "mae", "r2"),
    "token_classification": _TOKENS,
    "language_modeling": _TOKENS,
}
TASKS = (*METRICS, CUSTOM)
TARGETS = {  # what `data.task` stands for where `task` names nothing
    "classification": "mlprun.tasks.classification.Classification",
    "multi_label": "mlprun.tasks.regression.MultiLabel",
    "regression": "mlprun.tasks.regression.Regression",
    "token_classification": "mlprun.tasks.tokens.TokenClassification",
    "language_modeling": "mlprun.tasks.tokens.LanguageModeling",
}


def names(task: str, num_outputs: int, added: Iterable[str] = ()) -> list[str]:
    """The metrics of a split, without the split's name; `added`: those of the config's `metrics`."""
    own = METRICS.get(task, ("loss",))
    return [*(name for name in own if name != "top5_accuracy" or num_outputs >= TOP5_FROM), *added]


def check_monitor(monitor: str, task: str, num_outputs: int, added: Iterable[str]) -> None:
    """Raise ConfigError if `monitor` is no metric of this task; what a task of one's own logs is known later."""
    known = [f"val/{name}" for name in names(task, num_outputs, added)]
    if monitor not in known and not (task == CUSTOM and monitor.startswith("val/")):
        raise ConfigError("monitor", monitor, f"no such metric for {task}", suggestion(monitor, known))
