"""The keys that mlprun owns: type, default, unit, range and meaning; see `mlprun.config.reference`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from mlprun.config.options import CLOCK_TIME, DURATION, as_dict, group, option
from mlprun.config.ranges import (
    BATCH_SIZE,
    DEVICE,
    FOLDER_NAME,
    SEED,
    SHAPE,
    above,
    at_least,
    between,
    choice,
    finite_above,
    from_below,
    from_to,
    names_or_paths,
)
from mlprun.process import MOST_THREADS
from mlprun.tasks.names import TASKS

# Nodes that hold the arguments of a class: any key may be added with `+`.
FOREIGN = (
    *("task", "metrics", "model", "optim", "scheduler", "loss", "writers"),
    *("data.dataset", "data.val_dataset", "data.test_dataset"),
)

# Groups of `data` that are read by data sets of one kind of input only: those that take the group as an argument.
INPUT_SECTIONS = ("text", "audio")

# Keys of `data` that only data sets of tables read, which take them as arguments.
TABLE_KEYS = ("path", "target", "categorical", "numeric", "drop", "impute")

_PICTURES = {
    "images": ("feature_maps", "filters", "misclassified"),
    "plane": ("boundary", "fit", "predictions"),
    "text": ("attention", "embeddings"),
}
# Short names for `logging.pictures`.
PICTURES = {name: f"mlprun.pictures.{module}.{name}" for module, names in _PICTURES.items() for name in names}


@dataclass
class Augment:
    """Random changes of training images."""

    crop: int = option(
        0, "black border per side before a random crop to the original size; 0: off", check=at_least(0), unit="pixels"
    )
    flip: bool = option(False, "mirror each image left to right with probability 1/2")


@dataclass
class Transforms:
    """Transforms of one input at a time, before it is scaled: names of torchvision.transforms.v2, or `_target_`s."""

    train: list[Any] = option([], "of training examples, drawn anew in each epoch; empty: those of `eval`")
    eval: list[Any] = option([], "of all other examples, also in `predict`; empty: none")


@dataclass
class Text:
    """How text becomes token ids; for text data only."""

    tokens: str = option(
        "words", "a token; `bpe` needs `pip install 'mlprun[text]'`", check=choice("words", "characters", "bpe")
    )
    lowercase: bool = option(True, "convert text to lower case, so that `The` and `the` are the same token")
    vocab_size: int = option(
        10000, "vocabulary size: 3 special and the most frequent training tokens", check=at_least(4), unit="tokens"
    )
    min_frequency: int = option(
        2, "tokens that occur less often than this in the training split are unknown", check=at_least(1)
    )
    ngrams: int = option(
        1, "longest word sequence that also becomes a token: 2 adds `not good` to `not` and `good`", check=at_least(1)
    )
    max_length: int = option(256, "longer examples are truncated at the end", check=at_least(1), unit="tokens")
    vocabulary: str | None = option(
        None, "a run (directory or checkpoint) whose vocabulary is used; null: build one from the training split"
    )
    bucketing: int = option(
        0, "batches that are sorted by length together, for less padding; 0: none", check=at_least(0), unit="batches"
    )


@dataclass
class Audio:
    """How sound becomes log-mel spectrograms; for audio data only."""

    sample_rate: int = option(
        16000, "all audio is resampled to it; frequencies above half of it are lost", check=at_least(1000), unit="Hz"
    )
    seconds: float = option(
        1.0, "length of an example; longer audio is centre-cropped, shorter padded", check=finite_above(0), unit="s"
    )
    num_mels: int = option(64, "mel bands, the height of the spectrogram", check=at_least(1))
    window_ms: float = option(
        25.0, "window of a spectrogram column; longer ones resolve frequencies better", check=finite_above(0), unit="ms"
    )
    hop_ms: float = option(
        10.0, "step between columns; shorter ones resolve time better", check=finite_above(0), unit="ms"
    )
    f_min: float = option(20.0, "lower edge of the lowest band", check=at_least(0), unit="Hz")
    f_max: float | None = option(
        None, "upper edge of the highest band; null: half the sample rate", check=above(0), unit="Hz"
    )


@dataclass
class DataConfig:
    """The examples, what they are, and how they are split and scaled. `data=NAME` fills the keys without a default."""

    name: str = option(MISSING, "name of the data in run directories")
    dataset: dict[str, Any] = option(MISSING, "`_target_`: a function that returns a `Source`, or a torch `Dataset`")
    val_dataset: dict[str, Any] = option(
        {}, "a `Dataset` for the val split, as `+data.val_dataset._target_=…`; empty: taken from the training data"
    )
    test_dataset: dict[str, Any] = option(
        {}, "likewise for the test split; empty: the data set's own test split, else taken from the data"
    )
    task: str = option(MISSING, "what the targets are; `custom`: `task` says it", check=choice(*TASKS))
    text: Text = group(Text)
    input_shape: list[int] | None = option(
        MISSING, "shape of one input without the batch dimension; null: any structure of tensors", check=SHAPE
    )
    num_outputs: int = option(MISSING, "classes, or target values per example", check=at_least(1))
    root: str | None = option(None, "folder of the files, for data that is read from files")
    path: str | None = option(None, "the file of data=csv")
    target: str | None = option(None, "the column of data=csv to predict")
    categorical: list[str] = option([], "columns of data=csv that are categories, whatever they look like")
    numeric: list[str] = option([], "likewise those that are numbers")
    drop: list[str] = option([], "likewise those that are not used")
    impute: str | None = option(
        None,
        "how missing values of data=csv are filled, by the training split; null: they are refused",
        check=choice("median", "mean", "most_frequent", optional=True),
    )
    val_fraction: float = option(0.1, "share of the training data that becomes the val split", check=between(0, 1))
    test_fraction: float = option(
        0.2, "share of the data that becomes the test split, if the data set has no test split", check=between(0, 1)
    )
    split_seed: int = option(
        0, "seed of the splits, so that runs with different `seed`s share their splits", check=at_least(0)
    )
    num_folds: int | None = option(
        None,
        "divide train and val into so many folds, of which one is val; null: use `val_fraction`",
        check=at_least(2),
    )
    fold: int | None = option(
        None, "the fold that is val, from 0; `-m 'data.fold=range(0,5)'` runs each of five", check=at_least(0)
    )
    groups: str | None = option(
        None, "name of the groups of examples that no two splits or folds share, such as patients; null: none"
    )
    normalize: str = option(
        "standardize", "scaling of inputs by the training split", check=choice("none", "minmax", "standardize")
    )
    normalize_targets: bool = option(
        False, "standardize the targets of a regression by the training split; metrics stay in the data's units"
    )
    augment: Augment = group(Augment)
    transforms: Transforms = group(Transforms)
    resize: str = option(
        "cover",
        "how an image file gets the size of `input_shape`: cover it and crop, distort, or fit in and pad with black",
        check=choice("cover", "squash", "pad"),
    )
    audio: Audio | None = option(None, "how sound becomes spectrograms; null: the data is not audio", section=Audio)
    limit: int | None = option(None, "number of training examples used; null: all", check=at_least(1), unit="examples")
    limit_eval: int | None = option(
        None, "number of val and of test examples used; null: all", check=at_least(1), unit="examples"
    )
    sampler: str | None = option(
        None,
        "`balanced`: an epoch is as many draws with replacement, each class equally likely; null: every example once",
        check=choice("balanced", optional=True),
    )
    num_workers: int = option(
        0, "DataLoader workers; only for data that is not held in memory, or has `transforms.train`", check=at_least(0)
    )


@dataclass
class TrainerConfig:
    """How an optimizer step is done."""

    accumulate: int = option(
        1, "micro-batches per optimizer step: the same result as the whole batch, in less memory", check=at_least(1)
    )
    grad_clip: float | None = option(None, "largest global gradient norm; null: no clipping", check=above(0))
    precision: str = option(
        "fp32", "autocast precision; `fp16` also scales the loss and needs a GPU", check=choice("fp32", "bf16", "fp16")
    )
    deterministic: bool = option(
        True, "use only deterministic kernels, which give the same bits every time; false may be faster on a GPU"
    )
    compile: bool = option(False, "compile the model with `torch.compile`: the first step is slow, later ones faster")
    num_threads: int | None = option(
        None,
        "CPU threads; null: 1 for small models, OMP_NUM_THREADS or all cores for others. Changes the last bits",
        check=from_to(1, MOST_THREADS),
    )
    devices: int = option(
        1, "processes that share each step, each with its own GPU or `num_threads` CPU threads", check=at_least(1)
    )
    sync_batchnorm: bool = option(
        False, "let batch norm see the whole step, not a process's share of it; needs `devices` with GPUs"
    )
    max_time: str | None = option(
        None, "limit, as `2h`, `90 min` or `02:00:00`: the run then saves and stops; null: none", unit=CLOCK_TIME
    )
    on_nan: str = option(
        "stop", "stop the run at a non-finite loss or gradient, or skip the step", check=choice("stop", "skip")
    )
    decay_all: bool = option(True, "false: no weight decay on biases, norms and other 1-D parameters")
    mixup: float | None = option(
        None, "alpha of MixUp, as 0.2: each example of a batch is blended with another; null: none", check=above(0)
    )
    cutmix: float | None = option(
        None,
        "alpha of CutMix, as 1.0: a box of another image is pasted; beside `mixup`: one per step",
        check=above(0),
    )
    ema: float | None = option(
        None,
        "decay of a moving average of the weights, which is evaluated and saved instead of them, as 0.999; null: none",
        check=from_below(0, 1),
    )
    weights: str | None = option(
        None, "initial weights: a run directory (its best.pt), a checkpoint or a file with a state dict; null: random"
    )
    freeze: list[str] = option(
        [], "parameters that are not trained, as `[conv1,layer1.*]`; the name of a module freezes all its parameters"
    )
    unfreeze_at: str | None = option(
        None, "when the parameters of `freeze` start training, as `3 epochs` or `50%`; null: never", unit=DURATION
    )
    detect_anomaly: bool = option(
        False, "name the operation that produced a NaN in the backward pass; several times slower"
    )
    profile: bool = option(False, "write a torch.profiler trace of steps 4-8 to trace.json in the run directory")


@dataclass
class CheckpointConfig:
    """When checkpoints are written, and how many are kept."""

    every: str = option(
        "1 epoch", "how often last.pt is written (and best.pt, if there is a better one)", unit=DURATION
    )
    keep: int = option(
        0, "number of older checkpoints (step_N.pt) kept besides last and best", check=at_least(0), unit="checkpoints"
    )
    keep_best: int = option(
        1,
        "checkpoints of the best evaluations kept: best.pt, and step_N.pt of the next best",
        check=at_least(1),
        unit="checkpoints",
    )


@dataclass
class EarlyStoppingConfig:
    """When to stop a run that no longer improves."""

    patience: int | None = option(
        None, "evaluations without improvement of `monitor` before the run ends; null: never", check=at_least(1)
    )
    min_delta: float = option(
        0.0, "smallest change that counts as an improvement", check=at_least(0), unit="that of `monitor`"
    )


@dataclass
class LoggingConfig:
    """What is logged, and how often; does not affect results."""

    every: str = option("50 steps", "how often training metrics are logged", unit=DURATION)
    histograms: bool = option(
        False, "at each evaluation, norms and histograms of activations, weights, gradients, updates (256 examples)"
    )
    pictures: list[str] = option(
        [], "drawn at each evaluation; yours: functions of (learner, splits)", check=names_or_paths(PICTURES, "picture")
    )


@dataclass
class SweepConfig:
    """How `mlprun -m` executes its runs; does not affect results."""

    name: str | None = option(
        None, "folder in outputs/sweeps; the same command again completes it; null: date and time", check=FOLDER_NAME
    )
    num_workers: int | None = option(
        None, "number of runs in parallel; null: as many as cores, GPUs and memory allow", check=at_least(1)
    )
    max_failures: int | None = option(
        None, "failed runs after which no further run is started; null: never", check=at_least(1), unit="runs"
    )
    stale: str = option(
        "keep", "keep or redo finished runs whose code, data or start weights have changed since",
        check=choice("keep", "redo"),
    )  # fmt: skip
    points: str | None = option(None, "CSV file whose rows are the points, with one column for each key; null: none")
    dry_run: bool = option(False, "show what would be run, and run nothing")
    num_trials: int | None = option(
        None, "makes the sweep a search with so many trials in all; null: a grid", check=at_least(1), unit="trials"
    )
    sampler: str = option(
        "auto", "how a search proposes trials; auto: tpe if a key has choices, else gp, and cmaes from trial 250 on",
        check=choice("auto", "random", "quasi_random", "tpe", "gp", "cmaes"),
    )  # fmt: skip
    seed: int = option(0, "seed of the sampler", check=at_least(0))
    pruner: str = option(
        "none", "ends runs that do worse than others at an evaluation: than the median; than the best third at "
        "evaluations 1, 3, 9, … (asha); than the best third at the first (top)",
        check=choice("none", "median", "asha", "top"),
    )  # fmt: skip
    confirm: int = option(
        0, "number of best configurations that are run again with fresh seeds when the sweep has ended",
        check=at_least(0), unit="configurations",
    )  # fmt: skip
    confirm_seeds: int = option(
        5, "seeds of each configuration of `sweep.confirm`: 1000, 1001, … without those of the sweep",
        check=at_least(2), unit="seeds",
    )  # fmt: skip
    confirms: bool = option(False, "set by `sweep.confirm` in the runs that it adds, which are not ranked")


@dataclass
class InspectConfig:
    """What `mlprun inspect` does in addition; not used by runs."""

    check_gradients: bool = option(
        False, "compare gradients with finite differences in float64; takes minutes for a large model"
    )


@dataclass
class Config:
    """One run; built by `check`, so all values are valid."""

    seed: int = option(0, "seed of the initial weights, the order of the examples and all noise", check=SEED)
    device: str = option("auto", "`auto`: cuda if available, else mps, else cpu", check=DEVICE)
    batch_size: Any = option(  # int, or "all"; `int | str` would accept any string
        32, "examples per optimizer step; `all`: full-batch gradient descent", check=BATCH_SIZE, unit="examples"
    )
    epochs: int = option(10, "passes over the training split", check=at_least(1), unit="epochs")
    steps: int | None = option(
        None, "optimizer steps; if set, it takes precedence over `epochs`", check=at_least(1), unit="steps"
    )
    eval_every: str = option(
        "1 epoch", "how often the val split is evaluated; the end of the run always is", unit=DURATION
    )
    monitor: str = option(
        "val/loss", "the val metric that selects best.pt and controls early stopping, plateau and leaderboards"
    )
    data: DataConfig = group(DataConfig)
    task: dict[str, Any] = option(
        {}, "your own task: `task=custom task._target_=…` or `task=model`; empty: the one of `data.task`"
    )
    metrics: dict[str, Any] = option(
        {}, "further metrics by name, each `_target_`, its arguments and, for a function, `higher_is_better`"
    )
    model: dict[str, Any] = option(MISSING, "`model=NAME` selects it")
    optim: dict[str, Any] = option(
        MISSING, "`optim=NAME` selects it; `optim.groups`: parameters with arguments or an optimizer of their own"
    )
    scheduler: dict[str, Any] = option(MISSING, "`scheduler=NAME` selects it")
    loss: dict[str, Any] = option(MISSING, "`loss=NAME` selects it")
    trainer: TrainerConfig = group(TrainerConfig)
    checkpoint: CheckpointConfig = group(CheckpointConfig)
    early_stopping: EarlyStoppingConfig = group(EarlyStoppingConfig)
    logging: LoggingConfig = group(LoggingConfig)
    writers: dict[str, Any] = option(
        {}, "writers by name, each `_target_` and its arguments; `+writer=NAME` adds one, `~writers.NAME` removes one"
    )
    sweep: SweepConfig = group(SweepConfig)
    inspect: InspectConfig = group(InspectConfig)

    def to_dict(self) -> dict[str, Any]:
        """The config as nested dicts and lists."""
        values: dict[str, Any] = as_dict(self)
        return values


ConfigStore.instance().store(name="schema", node=Config)
