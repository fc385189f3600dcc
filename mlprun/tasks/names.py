"""Names of the built-in tasks and their metrics, for checking a config before torch is imported."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlprun.errors import ConfigError, suggestion

TOP5_FROM = 20  # number of classes from which top-5 accuracy is informative
CUSTOM = "custom"  # a user's task, or a model with a `training_step`
_TOKENS = ("loss", "perplexity", "accuracy", "top5_accuracy")
METRICS = {
    "classification": ("loss", "accuracy", "macro_f1", "top5_accuracy"),
    "multi_label": ("loss", "accuracy", "exact_match", "macro_f1"),
    "regression": ("loss", "mse", "mae", "r2"),
    "token_classification": _TOKENS,
    "language_modeling": _TOKENS,
}
TASKS = (*METRICS, CUSTOM)
LOSSES = {  # of loss=by_task
    "classification": "torch.nn.CrossEntropyLoss",
    "multi_label": "torch.nn.BCEWithLogitsLoss",
    "regression": "torch.nn.MSELoss",
}
TARGETS = {  # what `data.task` selects when `task` is empty
    "classification": "mlprun.tasks.classification.Classification",
    "multi_label": "mlprun.tasks.regression.MultiLabel",
    "regression": "mlprun.tasks.regression.Regression",
    "token_classification": "mlprun.tasks.tokens.TokenClassification",
    "language_modeling": "mlprun.tasks.tokens.LanguageModeling",
}


def names(task: str, num_outputs: int, added: Iterable[str] = ()) -> list[str]:
    """Metric names without the split; `added` are those of the config's `metrics`."""
    built_in = METRICS.get(task, ("loss",))
    return [*(name for name in built_in if name != "top5_accuracy" or num_outputs >= TOP5_FROM), *added]


def check_monitor(monitor: str, task: str, num_outputs: int, added: Iterable[str]) -> None:
    """Raise ConfigError if the task has no such metric; any `val/` name passes for a custom task.

    `val/NAME/KEY` passes for one of `added`, which may have several values.
    """
    known = [f"val/{name}" for name in names(task, num_outputs, added)]
    if "/".join(monitor.split("/")[:2]) in (f"val/{name}" for name in added):
        return
    if monitor not in known and not (task == CUSTOM and monitor.startswith("val/")):
        raise ConfigError("monitor", monitor, f"no such metric for {task}", suggestion(monitor, known))


def check_data(task: str, name: str, input_shape: Sequence[int] | None, normalize_targets: bool) -> None:
    """Raise ConfigError if a key of the data `name` does not suit the task."""
    if input_shape is None and task != CUSTOM:
        problem = f"data.task={task} needs pairs of input and target"
        remedy = "give the shape of an input; null is for task=custom and task=model"
        raise ConfigError("data.input_shape", None, problem, remedy)
    if normalize_targets and task != "regression":
        problem = f"scales values, and the targets of {name} are classes"
        raise ConfigError("data.normalize_targets", True, problem, "leave it out; it is for data.task=regression")
