"""From config to device, splits and batches."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from mlprun import randomness
from mlprun.config.instantiate import construct
from mlprun.config.schema import INPUT_SECTIONS, Config, DataConfig
from mlprun.data.batches import EvalBatches, TrainBatches
from mlprun.data.folds import Folds
from mlprun.data.nested import AnyBatch
from mlprun.data.parts import known_targets
from mlprun.data.source import Examples, Inputs, Part, Source
from mlprun.data.splits import Splits, make_splits
from mlprun.errors import ConfigError
from mlprun.job.build_mix import build_mix
from mlprun.job.build_transforms import build_transforms
from mlprun.tasks.base import Task

LARGEST_NAMED = 2**28  # bytes; a larger file would delay the start of a run


def find_device(config: Config, local_rank: int = 0) -> torch.device:
    """The device to train on; `auto` is cuda, else mps, else cpu.

    Args:
        local_rank: number of the process among those of a run on this machine, each of which has its own GPU.

    Raises:
        ConfigError: it is not available.
    """
    have_cuda, have_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    name = config.device
    if name == "auto":
        name = "cuda" if have_cuda else "mps" if have_mps else "cpu"
    available = ["cpu", *(["mps"] if have_mps else [])]
    available += [f"cuda:{i}" for i in range(torch.cuda.device_count())] if have_cuda else []
    device = torch.device(name)
    if config.trainer.devices > 1 and device.type == "cuda":
        if device.index is not None:
            problem, remedy = f"is one GPU, and trainer.devices={config.trainer.devices}", "write device=cuda"
            raise ConfigError("device", config.device, problem, remedy)
        device = torch.device("cuda", local_rank)
        if local_rank < torch.cuda.device_count():
            torch.cuda.set_device(device)
    full_name = f"cuda:{device.index or 0}" if device.type == "cuda" else device.type
    if full_name not in available:
        raise ConfigError("device", config.device, "is not available", f"this machine has: {', '.join(available)}")
    if config.trainer.precision == "fp16" and device.type == "cpu":
        raise ConfigError("trainer.precision", "fp16", "needs a GPU", "on the CPU use bf16 or fp32")
    return device


def build_splits(config: Config) -> Splits:
    """Load, check, split and scale the data."""
    data = config.data
    randomness.seed_all(data.split_seed, "data")  # a user's data set may draw random numbers in its constructor
    built = construct(data.dataset, "data.dataset")
    source = built if isinstance(built, Source) else Source(_dataset(built, "data.dataset"))
    if data.test_dataset:
        test = _dataset(construct(data.test_dataset, "data.test_dataset"), "data.test_dataset")
        source = replace(source, test=test)
    val = None
    if data.val_dataset:
        val = _dataset(construct(data.val_dataset, "data.val_dataset"), "data.val_dataset")
    if not source.fingerprints:  # a data set of the user's own
        source = replace(source, fingerprints=_named_files(data.dataset, data.test_dataset, data.val_dataset))
    _check_augment(config, source, source.inputs or Inputs())
    splits = make_splits(
        source,
        val=val,
        task=data.task,
        input_shape=data.input_shape,
        num_outputs=data.num_outputs,
        val_fraction=data.val_fraction,
        test_fraction=data.test_fraction,
        split_seed=data.split_seed,
        normalize=data.normalize,
        normalize_targets=data.normalize_targets,
        limit=data.limit,
        limit_eval=data.limit_eval,
        folds=None if data.num_folds is None or data.fold is None else Folds(data.num_folds, data.fold),
        groups=data.groups,
        transforms=build_transforms(config, source),
    )
    if data.resize != source.resize:
        problem = f"does not reach data.dataset, whose images are resized by {source.resize!r}"
        raise ConfigError("data.resize", data.resize, problem, "leave it out; it is for data=image_folder")
    return replace(splits, inputs=_checked_inputs(config, splits))


def _named_files(*nodes: Any) -> dict[str, str]:
    """The fingerprints of the files that arguments of data sets name."""
    found: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, dict | list):
            found |= _named_files(*(node.values() if isinstance(node, dict) else node))
        elif isinstance(node, str):
            with suppress(OSError, ValueError):  # no name of a file, or it cannot be read
                if os.path.isfile(node) and os.path.getsize(node) <= LARGEST_NAMED:
                    with open(node, "rb") as file:
                        found[node] = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    return found


def _dataset(built: Any, key: str) -> Dataset[Any]:
    if not isinstance(built, Dataset):
        problem = "is not a torch.utils.data.Dataset and does not return a mlprun.data.source.Source"
        remedy = "derive your class from torch.utils.data.Dataset or IterableDataset"
        raise ConfigError(f"{key}._target_", type(built).__name__, problem, remedy)
    return built


def _check_augment(config: Config, source: Source, inputs: Inputs) -> None:
    augment, input_shape = config.data.augment, config.data.input_shape
    if not (augment.crop > 0 or augment.flip):
        return
    if inputs.why_not_augment:
        raise ConfigError("data.augment", asdict(augment), inputs.why_not_augment, "leave it out")
    name = "crop" if augment.crop > 0 else "flip"
    key, value = f"data.augment.{name}", getattr(augment, name)
    if input_shape is None or len(input_shape) != 3:
        shape = "x".join(map(str, input_shape or []))
        raise ConfigError(key, value, f"is for images, and these inputs have the shape {shape}", "leave it out")
    if augment.crop >= min(input_shape[1:]):
        problem = f"may move images of {input_shape[1]}x{input_shape[2]} pixels out of sight"
        raise ConfigError(key, value, problem, f"choose at most {min(input_shape[1:]) - 1}; an eighth is usual")
    if isinstance(source.train, Dataset) and source.augmented is None:
        remedy = "do it in its __getitem__, whose random numbers are seeded by (seed, epoch, index)"
        raise ConfigError(key, value, "has no effect on a data set of your own", remedy)


def _checked_inputs(config: Config, splits: Splits) -> Inputs:
    """The kind of inputs with its options; options of another kind, which have no effect, are refused."""
    data, inputs = config.data, splits.inputs
    for section in INPUT_SECTIONS:
        values = getattr(data, section)
        if values == getattr(DataConfig(), section) or section in (inputs.section, *data.dataset):
            continue
        changed = [f.name for f in fields(values) if getattr(values, f.name) != f.default]
        key, value = (f".{changed[0]}", getattr(values, changed[0])) if changed else ("", {})
        problem = f"is for {section}, and {data.name} is none"
        raise ConfigError(f"data.{section}{key}", value, problem, "leave it out")
    if options := getattr(data, inputs.section, None):
        inputs = replace(inputs, options=vars(options))
    inputs.check(splits.train)
    return inputs


def build_train_batches(
    config: Config, splits: Splits, device: torch.device, share: tuple[int, int] = (0, 1)
) -> TrainBatches:
    """Batches of the training split, or the i-th of n shares of each."""
    if config.batch_size == "all" and not hasattr(splits.train, "__len__"):
        raise ConfigError("batch_size", "all", "the training data have no known length", "give a number")
    reading = splits.reading()
    if (mix := build_mix(config)) is not None:
        reading["perturb"] = mix
    in_memory = isinstance(splits.train, Examples)  # lazy data transform their examples themselves
    return TrainBatches(
        splits.train,
        config.batch_size,
        splits.normalizer,
        device,
        config.seed,
        crop=config.data.augment.crop if in_memory else 0,
        flip=config.data.augment.flip and in_memory,
        bucketing=splits.inputs.bucketing,
        classes=_classes(config, splits),
        num_workers=config.data.num_workers,
        first_pass=splits.first_pass(),
        share=share,
        **reading,
    )


def _classes(config: Config, splits: Splits) -> Tensor | None:
    """The class of each training example, for `data.sampler=balanced`; None without it."""
    if (sampler := config.data.sampler) is None:
        return None

    def refused(problem: str, remedy: str) -> ConfigError:
        return ConfigError("data.sampler", sampler, problem, remedy)

    if config.data.task != "classification":
        raise refused(f"data.task={config.data.task} does not give each example one class", "leave it out")
    if isinstance(splits.train, IterableDataset):
        raise refused("a stream is read in its own order", "leave it out; loss.class_weights=[…] weights the classes")
    targets = known_targets(splits.train)
    if targets is None or splits.class_counts() is None:
        remedy = "give the data set an attribute `targets`, one class per example, as torchvision's have"
        raise refused("the classes of these data are unknown until all examples are read", remedy)
    return targets.cpu().long()


def build_eval_batches(
    config: Config,
    part: Part,
    splits: Splits,
    device: torch.device,
    task: Task,
    make: Callable[..., EvalBatches] = EvalBatches,
) -> EvalBatches:
    """Batches of the val or test split."""
    batch_size = config.batch_size if isinstance(config.batch_size, int) else 256
    how = splits.reading() | {"num_workers": config.data.num_workers, "num_outputs": task.values_per_token}
    return make(part, batch_size, splits.normalizer, device, **how)


def trial_batch(splits: Splits) -> AnyBatch:
    """Two validation examples on the CPU, scaled, with sequences in full length, for `check_model`."""
    part = splits.val[slice(0, 2)] if isinstance(splits.val, Examples) else splits.val
    return first_batch(splits, part, 2, torch.device("cpu"), padding=None)


def first_batch(splits: Splits, part: Part, size: int, device: torch.device, padding: int | None) -> AnyBatch:
    """The first `size` examples of a part, as in an evaluation."""
    how = splits.reading() | {"padding": padding}
    # a batch of any structure
    return next(iter(EvalBatches(part, size, splits.normalizer, device, **how)))  # type: ignore[no-any-return]
