"""From config to device, splits and batches."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch
from torch.utils.data import Dataset

from mlprun import randomness
from mlprun.config.instantiate import construct
from mlprun.config.schema import Config, Text
from mlprun.data.batches import EvalBatches, TrainBatches
from mlprun.data.nested import AnyBatch
from mlprun.data.parts import Part, size
from mlprun.data.source import Examples, Source
from mlprun.data.splits import Splits, make_splits
from mlprun.errors import ConfigError
from mlprun.tasks.base import Task


def find_device(config: Config) -> torch.device:
    """The device to train on; `auto` is cuda, else mps, else cpu.

    Raises:
        ConfigError: it is not there.
    """
    have_cuda, have_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    name = config.device
    if name == "auto":
        name = "cuda" if have_cuda else "mps" if have_mps else "cpu"
    there = ["cpu", *(["mps"] if have_mps else [])]
    there += [f"cuda:{i}" for i in range(torch.cuda.device_count())] if have_cuda else []
    wanted = torch.device(name)
    full_name = f"cuda:{wanted.index or 0}" if wanted.type == "cuda" else wanted.type
    if full_name not in there:
        raise ConfigError("device", config.device, "is not there", f"this machine has: {', '.join(there)}")
    if config.trainer.precision == "fp16" and wanted.type == "cpu":
        raise ConfigError("trainer.precision", "fp16", "needs a GPU", "on the CPU use bf16 or fp32")
    return wanted


def build_splits(config: Config) -> Splits:
    """Load, check, split and scale the data."""
    data = config.data
    randomness.seed_all(data.split_seed, "data")  # a user's data set may draw when it is made
    built = construct(data.dataset, "data.dataset")
    source = built if isinstance(built, Source) else Source(_dataset(built, "data.dataset"))
    if data.test_dataset:
        test = _dataset(construct(data.test_dataset, "data.test_dataset"), "data.test_dataset")
        source = replace(source, test=test)
    val = None
    if data.val_dataset:
        val = _dataset(construct(data.val_dataset, "data.val_dataset"), "data.val_dataset")
    if data.augment.crop > 0 or data.augment.flip:
        name = "crop" if data.augment.crop > 0 else "flip"
        key, value = f"data.augment.{name}", getattr(data.augment, name)
        if data.input_shape is None or len(data.input_shape) != 3:
            shape = "x".join(map(str, data.input_shape or []))
            raise ConfigError(key, value, f"is for images, and these inputs have the shape {shape}", "leave it out")
        if isinstance(source.train, Dataset) and source.augmented is None:
            raise ConfigError(
                key, value, "does not reach a data set of your own",
                "do it in its __getitem__; what it draws at random is seeded by (seed, epoch, index)",
            )  # fmt: skip
    _check_text(config, source)
    return make_splits(
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
    )


def _check_text(config: Config, source: Source) -> None:
    """Refuse keys of `data.text` that the data have no use for: they would do nothing."""
    text, part = config.data.text, source.train
    in_memory = isinstance(part, Examples)
    ids = not part.inputs.is_floating_point() if isinstance(part, Examples) else True  # one's own may be token ids
    if text != Text() and source.tokenizer is None and not (ids and source.value_range is None):
        changed = next(f.name for f in fields(Text) if getattr(text, f.name) != getattr(Text(), f.name))
        raise ConfigError(
            f"data.text.{changed}",
            getattr(text, changed),
            f"is for text, and {config.data.name} is none",
            "leave it out",
        )
    if text.bucketing and not (in_memory and source.padding is not None):
        raise ConfigError(
            "data.text.bucketing",
            text.bucketing,
            "sorts sequences by their lengths, which these data do not tell",
            "write data.text.bucketing=0",
        )


def _dataset(built: Any, key: str) -> Dataset[Any]:
    if not isinstance(built, Dataset):
        raise ConfigError(
            f"{key}._target_",
            type(built).__name__,
            "is neither a torch.utils.data.Dataset nor gives a mlprun.data.source.Source",
            "derive your class from torch.utils.data.Dataset or IterableDataset",
        )
    return built


def split_sizes(parts: Splits) -> dict[str, int | None]:
    """Number of examples of each split."""
    return {name: size(getattr(parts, name)) for name in ("train", "val", "test")}


def trial_batch(parts: Splits) -> AnyBatch:
    """Two validation examples on the CPU, scaled, for `check_model`."""
    part = parts.val
    some = part[slice(0, 2)] if isinstance(part, Examples) else part
    # Sequences in their whole length, not cut: so much a step may cost.
    trial: AnyBatch = next(
        iter(
            EvalBatches(
                some, 2, parts.normalizer, torch.device("cpu"), targets=parts.target_normalizer, perturb=parts.perturb,
                nested=parts.nested,
            )
        )
    )  # fmt: skip
    return trial


def build_train_batches(config: Config, parts: Splits, where: torch.device) -> TrainBatches:
    """Batches of the training split."""
    if config.batch_size == "all" and not hasattr(parts.train, "__len__"):
        raise ConfigError("batch_size", "all", "the training data does not tell its length", "give a number")
    in_memory = isinstance(parts.train, Examples)  # lazy data changes its examples itself
    return TrainBatches(
        parts.train,
        config.batch_size,
        parts.normalizer,
        where,
        config.seed,
        crop=config.data.augment.crop if in_memory else 0,
        flip=config.data.augment.flip and in_memory,
        num_workers=config.data.num_workers,
        targets=parts.target_normalizer,
        padding=parts.padding,
        perturb=parts.perturb,
        bucketing=config.data.text.bucketing,
        nested=parts.nested,
    )


def build_eval_batches(config: Config, part: Part, parts: Splits, where: torch.device, task: Task) -> EvalBatches:
    """Batches of the val or test split."""
    batch_size = config.batch_size if isinstance(config.batch_size, int) else 256
    return EvalBatches(
        part,
        batch_size,
        parts.normalizer,
        where,
        config.data.num_workers,
        parts.target_normalizer,
        padding=parts.padding,
        perturb=parts.perturb,
        num_outputs=task.values_per_token,
        nested=parts.nested,
    )
