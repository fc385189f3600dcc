"""The schema: the keys that mlprun owns, with their types, and what each means."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

# Nodes whose keys are the arguments of somebody's class: any key may be added with `+`.
FOREIGN = ("model", "optim", "scheduler", "loss", "data.dataset", "data.val_dataset", "data.test_dataset")


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
