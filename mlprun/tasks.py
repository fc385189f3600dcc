"""Which metrics a task has, and which way is better. Imports no torch: configs and leaderboards need it too."""

from __future__ import annotations

from mlprun.errors import ConfigError, suggestion

# What the targets are: a class or values of an example; or a class of each of its tokens, told from all tokens
# (tagging, masked words) or from those before it alone (the next token).
TASKS = ("classification", "regression", "token_classification", "language_modeling")
BY_TOKEN = TASKS[2:]
TOP5_FROM = 20  # with fewer classes, a fifth guess is right too often to say anything


def names(task: str, num_outputs: int) -> list[str]:
    """The metrics of a split, without the split's name."""
    if task == "regression":
        return ["loss", "mse", "mae", "r2"]
    if task in BY_TOKEN:
        return ["loss", "perplexity", "accuracy", *(["top5_accuracy"] if num_outputs >= TOP5_FROM else [])]
    return ["loss", "accuracy", "macro_f1", *(["top5_accuracy"] if num_outputs >= TOP5_FROM else [])]


def lower_is_better(name: str) -> bool:
    """Whether a metric, with or without its split's name, is better when lower."""
    return name.rpartition("/")[2] not in ("accuracy", "macro_f1", "top5_accuracy", "r2")


def check_monitor(monitor: str, task: str, num_outputs: int) -> None:
    """Raise ConfigError if `monitor` is no metric of this task."""
    known = [f"val/{name}" for name in names(task, num_outputs)]
    if monitor not in known:
        raise ConfigError("monitor", monitor, f"no such metric for {task}", suggestion(monitor, known))
