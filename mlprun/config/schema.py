"""The schema: every key that mlprun owns, with its type, default, unit, range and meaning in one field.

`python -m mlprun.config.reference` writes it as docs/config.md.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from mlprun.config.options import CLOCK_TIME, DURATION, group, option
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
    names_or_paths,
)
from mlprun.task_names import TASKS

# Nodes whose keys are the arguments of somebody's class: any key may be added with `+`.
FOREIGN = (
    *("task", "metrics", "model", "optim", "scheduler", "loss", "writers"),
    *("data.dataset", "data.val_dataset", "data.test_dataset"),
)

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


@dataclass
class Augment:
    """Random changes of training images."""

    crop: int = option(
        0, "black border added on each side before a random crop to the original size; 0: no cropping",
        check=at_least(0), unit="pixels",
    )  # fmt: skip
    flip: bool = option(False, "mirror each image left to right with probability 1/2")


@dataclass
class Text:
    """How text becomes token ids; for text data only."""

    tokens: str = option(
        "words", "what a token is; `bpe`: byte pairs learnt from the text (needs `pip install 'mlprun[text]'`)",
        check=choice("words", "characters", "bpe"),
    )  # fmt: skip
    lowercase: bool = option(True, "convert text to lower case, so that `The` and `the` are the same token")
    vocab_size: int = option(
        10000, "size of the vocabulary: three special tokens and the most frequent tokens of the training split",
        check=at_least(4), unit="tokens",
    )  # fmt: skip
    min_frequency: int = option(
        2, "tokens that occur less often than this in the training split are unknown", check=at_least(1)
    )
    ngrams: int = option(
        1, "longest sequence of words that also becomes a token: 2 adds `not good` to `not` and `good`",
        check=at_least(1),
    )  # fmt: skip
    max_length: int = option(256, "longer examples are truncated at the end", check=at_least(1), unit="tokens")
    vocabulary: str | None = option(
        None, "a run (directory or checkpoint) whose vocabulary is used; null: build one from the training split"
    )
    bucketing: int = option(
        0, "sort this many batches by length together, so that they need less padding; 0: no sorting",
        check=at_least(0), unit="batches",
    )  # fmt: skip


@dataclass
class Audio:
    """How sound becomes log-mel spectrograms; for audio data only."""

    sample_rate: int = option(
        16000, "all audio is resampled to this rate; frequencies above half of it are lost",
        check=at_least(1000), unit="Hz",
    )  # fmt: skip
    seconds: float = option(
        1.0, "length of an example: longer sounds are cropped to their middle, shorter ones padded with silence",
        check=finite_above(0), unit="s",
    )  # fmt: skip
    num_mels: int = option(64, "mel bands, the height of the spectrogram", check=at_least(1))
    window_ms: float = option(
        25.0, "window of one spectrogram column; longer windows resolve frequencies better",
        check=finite_above(0), unit="ms",
    )  # fmt: skip
    hop_ms: float = option(
        10.0, "step from one column to the next; shorter steps resolve time better and make the spectrogram wider",
        check=finite_above(0), unit="ms",
    )  # fmt: skip
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
        MISSING, "shape of one input, without the batch dimension; null: an example is any structure of tensors, for "
        "`task=custom` and `task=model`", check=SHAPE,
    )  # fmt: skip
    num_outputs: int = option(MISSING, "classes, or target values per example", check=at_least(1))
    root: str | None = option(None, "folder of the files, for data that is read from files")
    val_fraction: float = option(
        0.1, "share of the training data that becomes the val split", check=between(0, 1)
    )  # fmt: skip
    test_fraction: float = option(
        0.2, "share of the data that becomes the test split, if the data set has no test split", check=between(0, 1)
    )
    split_seed: int = option(
        0, "seed of the splits; separate from `seed`, so that runs with different seeds share their splits",
        check=at_least(0),
    )  # fmt: skip
    normalize: str = option(
        "standardize", "how inputs are scaled, with statistics of the training split",
        check=choice("none", "minmax", "standardize"),
    )  # fmt: skip
    normalize_targets: bool = option(
        False, "for regression: standardize targets by the training split; the loss is then comparable between data "
        "sets, while mse, mae and r2 stay in the data's units",
    )  # fmt: skip
    augment: Augment = group(Augment)
    audio: Audio | None = option(None, "how sound becomes spectrograms; null: the data is not audio", section=Audio)
    limit: int | None = option(
        None, "number of training examples used; null: all", check=at_least(1), unit="examples"
    )  # fmt: skip
    limit_eval: int | None = option(
        None, "number of val and of test examples used; null: all", check=at_least(1), unit="examples"
    )
    num_workers: int = option(
        0, "DataLoader worker processes; only for data that is not held in memory", check=at_least(0)
    )


@dataclass
class TrainerConfig:
    """How a step is done."""

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
        None, "CPU threads; null: 1 for small models, all cores for others. The number changes the last bits",
        check=at_least(1),
    )  # fmt: skip
    max_time: str | None = option(
        None, "time limit, as `2h`, `90 min` or `02:00:00`: the run then saves, stops and prints how to resume; "
        "null: no limit", unit=CLOCK_TIME,
    )  # fmt: skip
    on_nan: str = option(
        "stop", "stop the run at a loss or gradient that is not finite, or skip the step",
        check=choice("stop", "skip"),
    )  # fmt: skip
    decay_all: bool = option(True, "false: no weight decay on biases, norms and other 1-D parameters")
    weights: str | None = option(
        None,
        "initial weights: a run directory (its best.pt), a checkpoint, or a .pt file with a state dict; null: random",
    )
    freeze: list[str] = option(
        [], "parameters that are not trained, as `[conv1,layer1.*]`; the name of a module freezes all its parameters"
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


@dataclass
class EarlyStoppingConfig:
    """When to stop a run that no longer improves."""

    patience: int | None = option(
        None, "evaluations without improvement of `monitor` before the run ends; null: never",
        check=at_least(1), unit="evaluations",
    )  # fmt: skip
    min_delta: float = option(
        0.0, "smallest change that counts as an improvement", check=at_least(0), unit="that of `monitor`"
    )


@dataclass
class LoggingConfig:
    """What is logged, and how often; does not affect results."""

    every: str = option("50 steps", "how often training metrics are logged", unit=DURATION)
    histograms: bool = option(
        False, "at the start and at each evaluation, log norms and histograms of every layer's activations and of "
        "every parameter's weights, gradients and updates, on up to 256 training examples",
    )  # fmt: skip
    pictures: list[str] = option(
        [], "pictures drawn at the start and at each evaluation; your own are functions of (learner, splits)",
        check=names_or_paths(PICTURES, "picture"),
    )  # fmt: skip


@dataclass
class SweepConfig:
    """How `mlprun -m` executes its runs; does not affect results."""

    name: str | None = option(
        None, "the sweep is stored in outputs/sweeps/NAME, and the same command again completes what is missing; "
        "null: date and time", check=FOLDER_NAME,
    )  # fmt: skip
    num_workers: int | None = option(
        None, "number of runs in parallel; null: as many as cores, GPUs and memory allow", check=at_least(1)
    )
    max_failures: int | None = option(
        None, "number of failed runs after which no further run is started; null: all runs are tried",
        check=at_least(1), unit="runs",
    )  # fmt: skip
    stale: str = option("keep", "keep or redo finished runs whose code has changed since", check=choice("keep", "redo"))
    dry_run: bool = option(False, "show what would be run, and run nothing")


@dataclass
class InspectConfig:
    """What `mlprun inspect` does in addition; not used by runs."""

    check_gradients: bool = option(
        False, "compare gradients with finite differences in float64; takes minutes for a large model"
    )


@dataclass
class Config:
    """One run. Built by `check`, so that every value in it is known to be good."""

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
        {},
        "a task of your own: `task=custom task._target_=…` or `task=model`; empty: the built-in one of `data.task`",
    )
    metrics: dict[str, Any] = option(
        {}, "further metrics by name, each `_target_`, its arguments and, for a function, `higher_is_better`"
    )
    model: dict[str, Any] = option(MISSING, "`model=NAME` selects it")
    optim: dict[str, Any] = option(MISSING, "`optim=NAME` selects it")
    scheduler: dict[str, Any] = option(MISSING, "`scheduler=NAME` selects it")
    loss: dict[str, Any] = option(MISSING, "`loss=NAME` selects it")
    trainer: TrainerConfig = group(TrainerConfig)
    checkpoint: CheckpointConfig = group(CheckpointConfig)
    early_stopping: EarlyStoppingConfig = group(EarlyStoppingConfig)
    logging: LoggingConfig = group(LoggingConfig)
    writers: dict[str, Any] = option(
        {}, "where values and pictures go, by name, each `_target_` and its arguments; `+writer=NAME` adds one of your "
        "YAML, `~writers.NAME` removes one",
    )  # fmt: skip
    sweep: SweepConfig = group(SweepConfig)
    inspect: InspectConfig = group(InspectConfig)

    def to_dict(self) -> dict[str, Any]:
        """The whole config as plain nested dicts and lists."""
        return dataclasses.asdict(self)


ConfigStore.instance().store(name="schema", node=Config)
