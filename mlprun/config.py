"""The schema, and every check of a config that needs no torch.

What mlprun owns is typed here; the nodes `model`, `optim`, `scheduler`, `loss` and `data.dataset` belong
to whoever wrote the class in their `_target_`, and stay plain dicts. Defaults and the meaning of the
top-level keys stand in `conf/config.yaml`, those of `data` here.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import itertools
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import setup_globals
from hydra.types import RunMode
from omegaconf import MISSING, BooleanNode, DictConfig, ListConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from mlprun.data.folders import num_class_folders
from mlprun.data.mel import Frames
from mlprun.errors import ConfigError, UserError, near, suggestion
from mlprun.metric_names import TASKS, check_monitor
from mlprun.training.durations import parse as parse_duration
from mlprun.training.durations import parse_seconds

# Nodes whose keys are the arguments of somebody's class: any key may be added with `+`.
FOREIGN = ("model", "optim", "scheduler", "loss", "data.dataset", "data.val_dataset", "data.test_dataset")


# ---------------------------------------------------------------------------------------------- schema


@dataclass
class Augment:
    """Random changes of training images."""

    crop: int = 0  # pixels of black border added before a random crop to the old size; 0: none
    flip: bool = False  # mirror left-right with probability 1/2


@dataclass
class Text:
    """`data.text`: how text becomes token ids; for data that is text."""

    tokens: str = "words"  # words | characters | bpe (byte pairs, learnt from the text; `pip install 'mlprun[text]'`)
    lowercase: bool = True  # The and the are one token
    vocab_size: int = 10000  # rows of the embedding: three special tokens, and the most frequent of the training part
    min_frequency: int = 2  # tokens that occur less often in the training part are unknown
    ngrams: int = 1  # up to so many neighbours are a token too: 2 adds `not good` to `not` and `good`
    max_length: int = 256  # tokens of an example: what is longer is cut at its end
    vocabulary: str | None = None  # a run (directory or checkpoint) whose tokens are taken; null: made of these texts
    # batches whose examples are sorted by length together, so that they need less padding; 0: none
    bucketing: int = 0


@dataclass
class Audio:
    """`data.audio`: how sound becomes pictures of its pitches, log-mel spectrograms; for data that is sound."""

    sample_rate: int = 16000  # Hz that all sound is brought to; nothing above half of it is heard
    seconds: float = 1.0  # length of an example: of longer sounds the middle, shorter ones between silence
    num_mels: int = 64  # bands, the height of the picture
    window_ms: float = 25.0  # milliseconds that a column of the picture sees; longer tells pitches apart better
    hop_ms: float = 10.0  # milliseconds from column to column; shorter shows quicker changes, in a wider picture
    f_min: float = 20.0  # Hz, the lower end of the lowest band
    f_max: float | None = None  # Hz, the upper end of the highest; null: half the sample rate


@dataclass
class DataConfig:
    """`data`: the examples, what they are, and how they are split and scaled."""

    name: str = MISSING  # used in the names of run directories
    dataset: dict[str, Any] = MISSING  # `_target_`: a function that returns a Source, or a torch Dataset
    # a Dataset of its own for val, as `+data.val_dataset._target_=…`; empty: carved from the training part
    val_dataset: dict[str, Any] = field(default_factory=dict)
    test_dataset: dict[str, Any] = field(default_factory=dict)  # likewise; empty: the data set's own, else carved
    task: str = MISSING  # classification | regression | token_classification | language_modeling
    input_shape: list[int] = MISSING  # shape of one example, without the batch
    num_outputs: int = MISSING  # classes, or target values an example
    root: str | None = None  # folder of the files, for data that is read from files
    val_fraction: float = 0.1  # share of the training part that becomes val
    test_fraction: float = 0.2  # share that becomes test, where the data set has no test part of its own
    split_seed: int = 0  # which examples those are; on its own, so that seeds compare on the same split
    normalize: str = "standardize"  # none | minmax | standardize, by statistics of the training split
    # train | test: whose statistics scale the test part. test: by its own, a mistake, for demonstration
    normalize_test_by: str = "train"
    # targets of a regression by mean and standard deviation of the training split's: the loss is of scaled values
    # and comparable between data sets; mse, mae and r2 stay in the data's own units
    normalize_targets: bool = False
    augment: Augment = field(default_factory=Augment)
    text: Text = field(default_factory=Text)
    audio: Audio | None = None  # null: the data are no sounds
    limit: int | None = None  # training examples used; null: all
    limit_eval: int | None = None  # val and test examples used; null: all
    num_workers: int = 0  # DataLoader processes; only for data that is not held in memory


@dataclass
class TrainerConfig:
    """`trainer`: how a step is done."""

    accumulate: int = MISSING
    grad_clip: float | None = MISSING
    precision: str = MISSING
    deterministic: bool = MISSING
    compile: bool = MISSING
    num_threads: int | None = MISSING
    max_time: str | None = MISSING
    on_nan: str = MISSING
    decay_all: bool = MISSING
    weights: str | None = MISSING
    freeze: list[str] = MISSING
    detect_anomaly: bool = MISSING
    profile: bool = MISSING


@dataclass
class CheckpointConfig:
    """`checkpoint`: when and how many."""

    every: str = MISSING
    keep: int = MISSING


@dataclass
class EarlyStoppingConfig:
    """`early_stopping`: when to give up."""

    patience: int | None = MISSING
    min_delta: float = MISSING


@dataclass
class LoggingConfig:
    """`logging`: what is written how often; no result depends on it."""

    every: str = MISSING
    histograms: bool = MISSING
    pictures: list[str] = MISSING


@dataclass
class SweepConfig:
    """`sweep`: how the runs of `mlprun -m` are done together; no run's result depends on it."""

    name: str | None = MISSING
    num_workers: int | None = MISSING
    max_failures: int | None = MISSING
    stale: str = MISSING
    dry_run: bool = MISSING


@dataclass
class InspectConfig:
    """`inspect`: what `mlprun inspect` does beside looking; no run reads it."""

    check_gradients: bool = MISSING


@dataclass
class Config:
    """One run. Built by `check`, so that every value in it is known to be good."""

    seed: int = MISSING
    device: str = MISSING
    batch_size: Any = MISSING  # int, or "all"; `int | str` would accept any string
    epochs: int = MISSING
    steps: int | None = MISSING
    eval_every: str = MISSING
    monitor: str = MISSING
    data: DataConfig = field(default_factory=DataConfig)
    model: dict[str, Any] = MISSING
    optim: dict[str, Any] = MISSING
    scheduler: dict[str, Any] = MISSING
    loss: dict[str, Any] = MISSING
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    inspect: InspectConfig = field(default_factory=InspectConfig)

    def to_dict(self) -> dict[str, Any]:
        """The whole config as plain nested dicts and lists."""
        return dataclasses.asdict(self)


ConfigStore.instance().store(name="schema", node=Config)


def conf_dir() -> Path:
    """The folder of mlprun's own YAML: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).parent
    inside, beside = package / "conf", package.parent / "conf"
    return inside if inside.is_dir() else beside


def _data_root() -> str:
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return os.path.expanduser(os.environ.get("MLPRUN_DATA") or f"{cache}/mlprun/data")


def _run_name(_root_: DictConfig) -> str:
    """`digits_mlp_adam`: the choices, or the class where it is not the choice's."""
    choices, overrides = _root_.hydra.runtime.choices, _root_.hydra.overrides.task
    names = [_root_.data.name]
    for group in ("model", "optim"):
        own = choices[group] == "custom" or any(o.startswith(f"{group}._target_=") for o in overrides)
        names.append(_root_[group]._target_.rpartition(".")[2] if own else choices[group])
    return _file_name("_".join(names))


def _point_name(_root_: DictConfig) -> str:
    """The directory of a point of a sweep: what is swept, as typed, and a hash of what it is.

    A point that was there before keeps its directory, whatever else is swept now.
    """
    mark = fingerprint(check(_root_).to_dict())
    folder = Path(_root_.hydra.sweep.dir)
    if (there := point_directory(folder, mark)) is not None:
        return there.name
    shared = _root_.hydra.job.config.override_dirname.exclude_keys
    lines = [line for line in _root_.hydra.overrides.task if line.partition("=")[0] not in shared]
    return f"{_file_name(','.join(lines))[:80] or 'run'}_{mark}"


def point_directory(folder: Path, mark: str) -> Path | None:
    """Where the point with this fingerprint lies below the sweep's folder, if it was begun."""
    return next(iter(sorted(folder.glob(f"*_{mark}"))), None)


def _frames(audio: DictConfig) -> Frames:
    """What follows from a `data.audio`; asked while the config is still being resolved, so it checks the keys."""
    for name in map(str, audio):
        key = f"data.audio.{name}"
        if key in _CHECKS and (problem := _CHECKS[key](audio[name])) is not None:
            raise ConfigError(key, audio[name], problem)
    return Frames(**{str(name): value for name, value in audio.items()})


def _file_name(text: str) -> str:
    """`text` without what a file name or a shell would trip over, at most 120 characters."""
    return re.sub(r"[^\w.,=+-]+", "-", re.sub(r"[\[\]{}'\"]", "", text))[:120].strip("-.")


OmegaConf.register_new_resolver("mlprun.data_root", _data_root, replace=True)
OmegaConf.register_new_resolver("mlprun.run_name", _run_name, replace=True)
OmegaConf.register_new_resolver("mlprun.point_name", _point_name, replace=True)
OmegaConf.register_new_resolver("mlprun.num_class_folders", num_class_folders, replace=True)
OmegaConf.register_new_resolver("mlprun.num_frames", lambda audio: _frames(audio).num_frames, replace=True)


# ------------------------------------------------------------------------------------------ value checks


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


PICTURES = (  # of mlprun/pictures.py
    *("attention", "boundary", "embeddings", "feature_maps", "filters", "fit", "misclassified", "predictions"),
)


def _pictures(names: list[str]) -> str | None:
    unknown = [name for name in names if "." not in name and name not in PICTURES]
    return f"there is no picture '{unknown[0]}'; {suggestion(unknown[0], PICTURES)}" if unknown else None


# What a value must be, beyond its type.
_CHECKS: dict[str, Callable[[Any], str | None]] = {
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

# Words that people type for ours.
_SYNONYMS = {
    "learning_rate": "lr",
    "batch": "batch_size",
    "bs": "batch_size",
    "optimizer": "optim",
    "criterion": "loss",
    "arch": "model",
    "net": "model",
    "dataset": "data",
    "lr_scheduler": "scheduler",
    "max_epochs": "epochs",
    "num_epochs": "epochs",
    "max_steps": "steps",
    "random_seed": "seed",
    "hidden_sizes": "hidden",
    "wd": "weight_decay",
}


def check(cfg: DictConfig) -> Config:
    """The composed config as a `Config`: types, ranges and durations are known to be good. Its `hydra` is left out.

    Raises:
        ConfigError: names the first key that cannot work, its value and the remedy.
    """
    cfg = copy.deepcopy(cfg)
    with flag_override(cfg, ["struct", "readonly"], [False, False]):
        cfg.pop("hydra", None)
    try:
        for key, node in _nodes(cfg):
            if node._is_missing():
                raise ConfigError(key, ConfigError.MISSING, "has no value", f"add {key}=… to the command line")
        config = OmegaConf.to_object(cfg)
    except OmegaConfBaseException as error:
        _explain(error)
    if not isinstance(config, Config):
        raise TypeError(f"expected a config of the schema, got {type(config).__name__}")
    # a whole group that an argument repeats, `audio: ${data.audio}`, is plain, as it is in a record
    config.data.dataset = {
        name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]
        for name, value in config.data.dataset.items()
    }
    for key, problem_of in _CHECKS.items():
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


def from_record(stored: dict[str, Any]) -> Config:
    """The `Config` of a run that was recorded in `run.json`; keys that are newer than the run get their defaults."""
    try:
        cfg = OmegaConf.merge(OmegaConf.structured(Config), stored)
        missing = [key for key, node in _nodes(cfg) if node._is_missing()]  # type: ignore[arg-type]
        if missing:
            defaults = Composer().compose([])
            for key in missing:
                OmegaConf.update(cfg, key, OmegaConf.select(defaults, key))
        return check(cfg)  # type: ignore[arg-type]
    except OmegaConfBaseException as error:
        _explain(error)


# What may change when a run is continued.
RESUMABLE = ("epochs", "steps", "trainer.max_time", "device", "checkpoint", "logging")
_LENGTH = ("epochs", "steps")


def resumed(config: Config, lines: list[str]) -> Config:
    """`config` with the override lines of `mlprun resume`.

    Raises:
        ConfigError: a key that decides what the run is, or a value that cannot work.
    """
    cfg = OmegaConf.structured(config)
    typed = set()
    for line in lines:
        override = _parse_line(OverridesParser.create(), line)
        key = override.key_or_group
        typed.add(key)
        if not any(key == known or key.startswith(f"{known}.") for known in RESUMABLE):
            raise ConfigError(
                key, _typed_value(override), "cannot change when a run is continued",
                f"only {', '.join(RESUMABLE)} can; for anything else start a new run",
            )  # fmt: skip
        if override.is_add() or override.is_force_add() or override.is_delete():
            raise ConfigError(line, ConfigError.MISSING, "the key is there already", f"write {key}=…")
        if override.is_sweep_override():
            raise ConfigError(key, _typed_value(override), "takes one value when a run is continued")
        node = _find(cfg, key)
        if isinstance(node, DictConfig):
            known = ", ".join(f"{key}.{name}" for name in map(str, node))
            raise ConfigError(key, _typed_value(override), "is a group of keys", f"choose one of {known}")
        if node is None:
            remedy = _nearest_key(key, [k for k, _ in _nodes(cfg)])
            raise ConfigError(key, _typed_value(override), "there is no such key", remedy)
        try:
            OmegaConf.update(cfg, key, override.value())
        except OmegaConfBaseException as error:
            _explain(error, [override])
    if "epochs" in typed and "steps" not in typed and config.steps is not None:
        raise ConfigError(
            "epochs", cfg.epochs, f"the length of this run is steps={config.steps}, which wins", "write steps=…"
        )
    return check(cfg)


# What no result depends on, beside `RESUMABLE`.
_ASIDE = ("sweep", "inspect", "data.root")
# Keys that came later, with the value that says what every run did before: with it, a run is the same as one that was
# recorded without the key.
_LATER: dict[tuple[str, str], Any] = {
    ("trainer", "weights"): None,
    ("trainer", "freeze"): [],
    ("data", "normalize_targets"): False,
    ("data", "normalize_test_by"): "train",
    ("data", "text"): dataclasses.asdict(Text()),
    ("data", "audio"): None,
}


def identity(stored: dict[str, Any], *, length: bool = True) -> dict[str, Any]:
    """What of a run's config decides its result; without `length`, what must be the same in all its checkpoints."""
    kept = copy.deepcopy(stored)
    for key in (*RESUMABLE, *_ASIDE):
        if length and key in _LENGTH:
            continue
        *parents, last = key.split(".")
        node = kept
        for parent in parents:
            node = node.get(parent, {})
        node.pop(last, None)
    for (group, key), value in _LATER.items():
        if isinstance(kept.get(group), dict):
            kept[group].setdefault(key, copy.copy(value))
    dataset = kept.get("data", {}).get("dataset", {})
    if str(dataset.get("_target_")).startswith("mlprun.data.vision."):
        dataset.pop("root", None)  # known files, by their checksums: it does not matter where they lie
    return kept


def _as_floats(value: Any) -> Any:
    """1 and 1.0 are one value, however they were typed."""
    if isinstance(value, dict):
        return {key: _as_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_floats(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def fingerprint(stored: dict[str, Any]) -> str:
    """Ten hex digits that stand for what a run is: the same for the same `identity`."""
    kept = identity(stored)
    for (group, key), value in _LATER.items():
        if isinstance(kept.get(group), dict) and kept[group][key] == value:
            del kept[group][key]
    text = json.dumps(_as_floats(kept), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


# ------------------------------------------------------------------------------------------- composition


class Composer:
    """Composes configs as Hydra does, but says what is wrong in the user's own terms.

    Args:
        config_dir: the user's folder of YAML (`--config-dir`), or None.
        config_name: the primary config.
    """

    def __init__(self, config_dir: str | None = None, config_name: str = "config") -> None:
        search_path = create_config_search_path(str(conf_dir()))
        # In a checkout ./conf is mlprun's own, which is searched anyway.
        if config_dir is not None and Path(config_dir).resolve() != conf_dir().resolve():
            folder = Path(config_dir).absolute()
            _check_user_folder(folder)
            search_path.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="schema"))
        setup_globals()  # Hydra's own resolvers, such as now:
        Plugins.instance()
        self._loader = ConfigLoaderImpl(config_search_path=search_path)
        self._config_name = config_name
        self._groups: dict[str, list[str]] = {}
        self._bases: dict[tuple[str, ...], DictConfig] = {}  # by the choices of groups
        self._parsed: dict[str, Override] = {}

    def points(self, overrides: list[str]) -> Iterator[list[str]]:
        """The override lines of each job of a grid sweep; one line where nothing is swept.

        A search space that is no grid (`interval(0, 1)`) is left to its sweeper.
        """
        swept = self.compose(overrides, multirun=True)
        parameters = OmegaConf.to_container(swept.hydra.sweeper).get("params") or {}  # type: ignore[union-attr]
        lines = [*(f"{key}={value}" for key, value in parameters.items()), *overrides]
        axes: dict[str, list[str]] = {}
        grid = str(OmegaConf.select(swept, "hydra.sweeper._target_")).endswith(".BasicSweeper")
        for override in self._parse(lines):
            key = override.get_key_element()
            aside = [k for k in (*RESUMABLE, *_ASIDE) if k not in _LENGTH]
            if override.is_sweep_override() and any(key == k or key.startswith(f"{k}.") for k in aside):
                raise ConfigError(key, _typed_value(override), "takes one value in a sweep", "no result depends on it")
            if not override.is_sweep_override():
                axes[key] = [override.input_line or key]
            elif override.is_discrete_sweep():
                axes[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
            elif grid:
                raise ConfigError(
                    key, _typed_value(override), "is no list of values, and the sweep is a grid",
                    "write range(0,5), choice(a,b) or a,b; an interval needs another hydra/sweeper",
                )  # fmt: skip
        for point in itertools.product(*axes.values()):
            yield list(point)

    def compose(self, overrides: list[str], *, multirun: bool = False) -> DictConfig:
        """The config for a line of overrides, with its `hydra` node; `multirun` allows several values a key.

        Raises:
            ConfigError: a group, choice, key or type that does not exist, with what was probably meant.
        """
        run_mode = RunMode.MULTIRUN if multirun else RunMode.RUN
        if multirun:
            aside = self.of_swept_groups(overrides)
            overrides = [line for line in overrides if line not in aside]
        parsed, base = self._checked(overrides, run_mode)
        if all(self._is_group(o.key_or_group) and not o.is_sweep_override() for o in parsed):
            return base
        return self._load(overrides, run_mode, parsed)

    def of_swept_groups(self, overrides: list[str]) -> list[str]:
        """The lines below a group of which several are swept: in `model=lstm,gru model.width=8` the last.

        What keys there are depends on the choice, so each point is held against its own, and not the whole against
        the default.
        """
        parsed = self._parse(overrides)
        groups = {o.key_or_group for o in parsed if o.is_sweep_override() and self._is_group(o.key_or_group)}
        return [
            line
            for line, override in zip(overrides, parsed, strict=True)
            if any(override.key_or_group.startswith(f"{group}.") for group in groups)
        ]

    def point(self, overrides: list[str]) -> Config:
        """The checked config of one job of a sweep, in a fifth of the time: what the groups give is composed once.

        Raises:
            ConfigError: as `compose` and `check`.
        """
        parsed, base = self._checked(overrides, RunMode.RUN)
        cfg = copy.deepcopy(base)
        values = [o for o in parsed if not self._is_group(o.key_or_group)]
        try:
            self._loader._apply_overrides_to_config(values, cfg)  # as Hydra itself ends a composition
        except Exception as error:  # Hydra answers some lines with a bare ValueError or AssertionError
            _explain(error, parsed)
        return check(cfg)

    def _checked(self, overrides: list[str], run_mode: RunMode) -> tuple[list[Override], DictConfig]:
        """The overrides, each known to be possible, and what the choices among them compose to."""
        parsed = self._parse(overrides)
        for override in parsed:
            self._check_choice(override, run_mode)
        choices = [o.input_line or "" for o in parsed if self._is_group(o.key_or_group) and not o.is_sweep_override()]
        key = (run_mode.name, *choices)
        if key not in self._bases:
            self._bases[key] = self._load(choices, run_mode)
        base = self._bases[key]
        for override in parsed:
            if not self._is_group(override.key_or_group):
                self._check_key(override, base, run_mode)
        return parsed, base

    def _load(self, overrides: list[str], run_mode: RunMode, parsed: Iterable[Override] = ()) -> DictConfig:
        try:
            return self._loader.load_configuration(self._config_name, overrides, run_mode)
        except Exception as error:  # Hydra answers some lines with a bare ValueError or AssertionError
            _explain(error, parsed)

    def _parse(self, overrides: list[str]) -> list[Override]:
        parser = OverridesParser.create(config_loader=self._loader)
        for line in overrides:
            if line not in self._parsed:
                self._parsed[line] = _parse_line(parser, line)
        return [self._parsed[line] for line in overrides]

    def _is_group(self, name: str) -> bool:
        return bool(self._choices(name))

    def _choices(self, group: str) -> list[str]:
        if group not in self._groups:
            self._groups[group] = self._loader.get_group_options(group, ObjectType.CONFIG) if group else []
        return self._groups[group]

    def _check_choice(self, override: Override, run_mode: RunMode) -> None:
        group, known = override.key_or_group, self._choices(override.key_or_group)
        if not known:
            return
        if override.is_delete():
            raise ConfigError(
                f"~{group}", ConfigError.MISSING, "a run needs one", f"write {group}=…; it has {', '.join(known)}"
            )
        if override.is_add() or override.is_force_add():
            raise ConfigError(
                override.input_line or group, ConfigError.MISSING, "the group is there already",
                f"write {group}={_typed_value(override)}, without the +",
            )  # fmt: skip
        swept = override.is_sweep_override()
        if swept and run_mode is RunMode.RUN:
            _ask_for_multirun(override)
        for choice in override.sweep_iterator() if swept else [override.value()]:
            if choice is None and group in ("experiment", "debug"):
                continue
            if isinstance(choice, list | dict):
                raise ConfigError(
                    group, _typed_value(override), "takes one name", "several, with -m: a,b without brackets"
                )
            folder, _, leaf = str(choice).rpartition("/")  # a user's own files may lie deeper
            there = self._choices(f"{group}/{folder}") if folder else known
            if leaf not in there:
                raise ConfigError(group, choice, f"there is no {group} of that name", suggestion(leaf, there or known))

    def _check_key(self, override: Override, base: DictConfig, run_mode: RunMode) -> None:
        key = override.key_or_group
        if override.is_sweep_override() and run_mode is RunMode.RUN:
            _ask_for_multirun(override)
        if key == "hydra.searchpath":
            raise ConfigError(
                key, _typed_value(override), "is not supported", "name your folder with --config-dir FOLDER"
            )
        if override.package is not None or key.startswith("hydra.") or key == "hydra":
            return  # Hydra checks its own typed nodes
        foreign = any(key.startswith(node + ".") for node in FOREIGN)
        if (node := _find(base, key)) is not None:
            if override.is_delete() and not foreign:
                raise ConfigError(
                    f"~{key}", ConfigError.MISSING, "a key of mlprun's own cannot be removed", f"write {key}=…"
                )
            if override.is_add() and not override.is_force_add():
                raise ConfigError(
                    f"+{key}",
                    ConfigError.MISSING,
                    "the key is there already",
                    f"write {key}=…, without the +",
                )
            if not override.is_delete() and isinstance(node, BooleanNode):
                _check_boolean(override)
            return
        if foreign and (override.is_add() or override.is_force_add()):
            return  # an argument of somebody's class; build.py holds it against the signature
        if key.isupper():
            raise ConfigError(
                key, _typed_value(override), "is a variable of the shell", f"set it first: {key}=… mlprun …"
            )
        keys = [k for k, _ in _nodes(base) if not k.startswith("hydra.")]
        groups = [g for g in self._loader.list_groups("") if g != "hydra"]
        remedy = _nearest_key(key, [*groups, *keys])
        if foreign and not override.is_delete():
            remedy += f"\n  (to pass a further argument to the class in {key.rsplit('.', 1)[0]}, write +{key}=…)"
        raise ConfigError(key, _typed_value(override), "there is no such key", remedy)


def _parse_line(parser: OverridesParser, line: str) -> Override:
    try:
        return parser.parse_overrides([line])[0]
    except Exception as error:  # the lexer meets some characters with an error of its own
        raise ConfigError(
            line, ConfigError.MISSING, "cannot be read",
            "write key=value; quote a value with spaces, commas or brackets: \"eval_every='100 steps'\"",
        ) from error  # fmt: skip


def _typed_value(override: Override) -> object:
    """What stands behind the `=`, as it was typed."""
    _, equals, value = (override.input_line or "").partition("=")
    return value if equals else ConfigError.MISSING


def _check_boolean(override: Override) -> None:
    """OmegaConf takes any number for true."""
    values = override.sweep_iterator() if override.is_sweep_override() else [override.value()]
    if not all(isinstance(v, bool) or str(v).startswith("${") for v in values):
        raise ConfigError(override.key_or_group, _typed_value(override), "must be true or false")


def _ask_for_multirun(override: Override) -> NoReturn:
    raise ConfigError(
        override.key_or_group,
        _typed_value(override),
        "several values are a sweep",
        f"add -m for one run a value, or write {override.key_or_group}=[…] for a list",
    )


def _check_user_folder(folder: Path) -> None:
    """Refuse a user's file that bears the name of one of ours: Hydra would silently take only one of them."""
    if not folder.is_dir():
        raise ConfigError("--config-dir", folder, "there is no such folder")
    for file in sorted(folder.rglob("*.y*ml")):
        name = file.relative_to(folder)
        if (conf_dir() / name).is_file():
            raise ConfigError(
                "--config-dir",
                file,
                f"mlprun has a {name} of its own, and only one of the two could be used",
                f"rename yours, for example to {name.with_stem('my_' + name.stem)}",
            )


def _find(cfg: DictConfig, key: str) -> Any:
    """The node at a dotted key, with nothing resolved; None where there is none."""
    node: Any = cfg
    for part in re.split(r"[.\[\]]+", key.rstrip("]")):
        if isinstance(node, ListConfig) and part.isdigit() and int(part) < len(node):
            node = node._get_node(int(part))
        elif isinstance(node, DictConfig) and not (node._is_none() or node._is_missing()) and part in list(node):
            node = node._get_node(part)
        else:
            return None
    return node


def _nodes(cfg: DictConfig, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, node) of everything in `cfg`, with nothing resolved."""
    if cfg._is_none() or cfg._is_missing():
        return
    for name in map(str, cfg):
        node = cfg._get_node(name)
        yield f"{prefix}{name}", node
        if isinstance(node, DictConfig):
            yield from _nodes(node, f"{prefix}{name}.")


def _nearest_key(key: str, known: Iterable[str]) -> str:
    """`did you mean 'optim.lr'?` for `lr`, `optim.learning_rate`, `optm` …"""
    known = list(dict.fromkeys(known))
    parent, _, last = key.rpartition(".")
    last = _SYNONYMS.get(last, last)
    siblings = [k for k in known if k.rpartition(".")[0] == parent]
    candidates: list[str] = []
    for exact in (f"{parent}.{last}" if parent else last, f"{parent.split('.')[0]}.{last}"):
        candidates += [k for k in known if k == exact]
    candidates = candidates or [k for k in known if k.rpartition(".")[2] == last]
    candidates = candidates or [
        f"{parent}.{n}" if parent else n for n in near(last, (s.rpartition(".")[2] for s in siblings))
    ]
    candidates = candidates or near(key, known)
    if not candidates:
        leaves: dict[str, str] = {}
        for k in known:
            leaves.setdefault(k.rpartition(".")[2], k)
        candidates = [leaves[name] for name in near(last, leaves)]
    if candidates:
        return "did you mean " + " or ".join(f"'{c}'" for c in dict.fromkeys(candidates[:3])) + "?"
    return "`mlprun --cfg job` shows every key"


def _explain(error: BaseException, overrides: Iterable[Override] = ()) -> NoReturn:
    """Raise what Hydra or OmegaConf found as a `ConfigError` of at most a few lines."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    for cause in chain:
        if isinstance(cause, UserError):
            raise cause
    for cause in chain:
        key = getattr(cause, "full_key", None)
        if isinstance(cause, OmegaConfBaseException) and key:
            problem = (cause.msg or str(cause)).splitlines()[0]
            line = next((o for o in overrides if o.key_or_group == key), None)
            value: object = ConfigError.MISSING
            if line is not None and not line.is_delete():
                value, problem = _typed_value(line), _plain(problem)
            remedy = ""
            if type(cause).__name__ in ("ConfigKeyError", "ConfigAttributeError"):
                problem = "there is no such key"
                known = [k for k, _ in _nodes(OmegaConf.structured(Config))]
                remedy = _nearest_key(key, known)
            raise ConfigError(key, value, problem, remedy) from error
    text = " ".join(str(chain[0]).split())
    raise ConfigError("config", ConfigError.MISSING, text[:600]) from error


def _plain(problem: str) -> str:
    """OmegaConf's type errors in plain words."""
    kinds = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false", "String": "a text"}
    found = re.search(r"could not be converted to (\w+)|is not a valid (bool)", problem)
    if found:
        kind = kinds.get(found[1] or "Boolean", found[1])
        return f"must be {kind}"
    if "is not a ListConfig" in problem:
        return "must be a list, such as [a,b]"
    return problem.replace("\n", " ")
