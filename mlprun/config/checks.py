"""Checks of a composed config that need no torch: ranges, durations, and what must fit together."""

from __future__ import annotations

import copy
import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from mlprun.config.durations import parse as parse_duration
from mlprun.config.durations import parse_seconds
from mlprun.config.nodes import iter_nodes
from mlprun.config.schema import Config
from mlprun.config.suggest import raise_explained
from mlprun.errors import ConfigError, suggestion
from mlprun.tasks import TASKS, check_monitor


def _choice(*known: str) -> Callable[[Any], str | None]:
    return lambda v: None if v in known else f"not known; {suggestion(str(v), known)}"


def _at_least(low: float) -> Callable[[Any], str | None]:
    return lambda v: None if v is None or v >= low else f"must be {low} or more"


def _open_interval(low: float, high: float) -> Callable[[Any], str | None]:
    return lambda v: None if low < v < high else f"must be above {low} and below {high}"


def _batch_size(value: Any) -> str | None:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    return None if whole or value == "all" else "must be a whole number of examples, 1 or more, or `all`"


def _device(value: str) -> str | None:
    if re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
        return None
    known = ["auto", "cpu", "cuda", "cuda:0", "mps"]
    return f"not a device; {suggestion('cuda' if value == 'gpu' else value, known)}"


def _shape(value: list[int]) -> str | None:
    return None if all(n >= 1 for n in value) else "every size must be 1 or more"


def _rate(value: Any) -> str | None:
    """`optim.lr` is the one foreign key that every optimizer has; null where there is none."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value is None or (number and 0 <= value < math.inf):
        return None
    return "must be a finite number, 0 or more, such as 1e-3"


def _folder_name(value: str | None) -> str | None:
    plain = value is None or re.fullmatch(r"\w[\w.+-]*", value) is not None
    return None if plain else "must be letters, digits, and - _ . + between them: it names a folder"


def _positive(value: float | None) -> str | None:
    return None if value is None or value > 0 else "must be above 0"


def _duration(value: float | None) -> str | None:
    return None if value is None or 0 < value < math.inf else "must be above 0, and finite"


_PLANE, _IMAGES, _TEXT = "mlprun.pictures.plane", "mlprun.pictures.images", "mlprun.pictures.text"
PICTURES = {  # what a short name in `logging.pictures` stands for
    "attention": f"{_TEXT}.attention",
    "boundary": f"{_PLANE}.boundary",
    "embeddings": f"{_TEXT}.embeddings",
    "feature_maps": f"{_IMAGES}.feature_maps",
    "filters": f"{_IMAGES}.filters",
    "fit": f"{_PLANE}.fit",
    "misclassified": f"{_IMAGES}.misclassified",
    "predictions": f"{_PLANE}.predictions",
}


def _pictures(names: list[str]) -> str | None:
    unknown = [name for name in names if "." not in name and name not in PICTURES]
    return f"there is no picture '{unknown[0]}'; {suggestion(unknown[0], PICTURES)}" if unknown else None


# What a value must be, beyond its type.
VALUE_CHECKS: dict[str, Callable[[Any], str | None]] = {
    "seed": lambda v: None if 0 <= v < 2**63 else "must be between 0 and 2^63 - 1",
    "device": _device,
    "batch_size": _batch_size,
    "epochs": _at_least(1),
    "steps": _at_least(1),
    "data.task": _choice(*TASKS),
    "data.text.tokens": _choice("words", "characters", "bpe"),
    "data.text.vocab_size": _at_least(4),
    "data.text.min_frequency": _at_least(1),
    "data.text.ngrams": _at_least(1),
    "data.text.max_length": _at_least(1),
    "data.text.bucketing": _at_least(0),
    "data.input_shape": _shape,  # after the keys of text, which it may be made of
    "data.num_outputs": _at_least(1),
    "data.val_fraction": _open_interval(0, 1),
    "data.test_fraction": _open_interval(0, 1),
    "data.split_seed": _at_least(0),
    "data.normalize": _choice("none", "minmax", "standardize"),
    "data.normalize_test_by": _choice("train", "test"),
    "data.augment.crop": _at_least(0),
    "data.audio.sample_rate": _at_least(1000),
    "data.audio.seconds": _duration,
    "data.audio.num_mels": _at_least(1),
    "data.audio.window_ms": _duration,
    "data.audio.hop_ms": _duration,
    "data.audio.f_min": _at_least(0),
    "data.audio.f_max": _positive,
    "data.limit": _at_least(1),
    "data.limit_eval": _at_least(1),
    "data.num_workers": _at_least(0),
    "trainer.accumulate": _at_least(1),
    "trainer.grad_clip": _positive,
    "trainer.precision": _choice("fp32", "bf16", "fp16"),
    "trainer.num_threads": _at_least(1),
    "trainer.on_nan": _choice("stop", "skip"),
    "checkpoint.keep": _at_least(0),
    "early_stopping.patience": _at_least(1),
    "early_stopping.min_delta": _at_least(0),
    "logging.pictures": _pictures,
    "sweep.name": _folder_name,
    "sweep.num_workers": _at_least(1),
    "sweep.max_failures": _at_least(1),
    "sweep.stale": _choice("keep", "redo"),
    "optim.lr": _rate,
    "loss.one_hot": lambda v: None if v is None or isinstance(v, bool) else "must be true or false",
}
_DURATIONS = ("eval_every", "checkpoint.every", "logging.every")


def check(cfg: DictConfig) -> Config:
    """The composed config as a `Config`: types, ranges and durations are known to be good. Its `hydra` is left out.

    Raises:
        ConfigError: names the first key that cannot work, its value and the remedy.
    """
    cfg = copy.deepcopy(cfg)
    with flag_override(cfg, ["struct", "readonly"], [False, False]):
        cfg.pop("hydra", None)
    try:
        for key, node in iter_nodes(cfg):
            if node._is_missing():
                raise ConfigError(key, ConfigError.MISSING, "has no value", f"add {key}=… to the command line")
        config = OmegaConf.to_object(cfg)
    except OmegaConfBaseException as error:
        raise_explained(error)
    if not isinstance(config, Config):
        raise TypeError(f"expected a config of the schema, got {type(config).__name__}")
    # a whole group that an argument repeats, `audio: ${data.audio}`, is plain, as it is in a record
    config.data.dataset = {
        name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]
        for name, value in config.data.dataset.items()
    }
    for key, problem_of in VALUE_CHECKS.items():
        value = OmegaConf.select(cfg, key)
        if (problem := problem_of(value)) is not None:
            raise ConfigError(key, value, problem)
    check_monitor(config.monitor, config.data.task, config.data.num_outputs)
    if config.data.normalize_targets and config.data.task != "regression":
        raise ConfigError(
            "data.normalize_targets",
            True,
            f"scales values, and the targets of {config.data.name} are classes",
            "leave it out; it is for data.task=regression",
        )
    if config.data.audio is not None and (config.data.augment.crop or config.data.augment.flip):
        raise ConfigError(
            "data.augment", dataclasses.asdict(config.data.augment), "is for images: it would play sound backwards",
            "leave it out",
        )  # fmt: skip
    if "_target_" not in config.data.dataset:
        raise ConfigError("data.dataset", ConfigError.MISSING, "needs a `_target_`: the class of the data set")
    for group in ("model", "optim", "scheduler", "loss"):
        if "_target_" not in getattr(config, group):
            raise ConfigError(group, ConfigError.MISSING, "needs a `_target_`: the class to build")
    for key in _DURATIONS:
        if parse_duration(OmegaConf.select(cfg, key), key=key).amount == 0:
            raise ConfigError(key, OmegaConf.select(cfg, key), "must be longer than 0")
    if config.trainer.max_time is not None:
        parse_seconds(config.trainer.max_time, "trainer.max_time")
    if config.batch_size != "all" and config.trainer.accumulate > config.batch_size:
        raise ConfigError(
            "trainer.accumulate",
            config.trainer.accumulate,
            f"cannot split a batch of {config.batch_size} examples into so many parts",
            f"choose at most batch_size={config.batch_size}",
        )
    return config
