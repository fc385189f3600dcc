"""From config to objects: the only place that imports what a `_target_` names and calls it.

Each function takes a checked `Config` and raises `ConfigError` with the key at fault.
"""

from __future__ import annotations

import importlib
import inspect
import math
import os
import traceback
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import Dataset, Subset

from mlprun import seeding
from mlprun.config import Config, Text
from mlprun.data.batches import Batch, EvalBatches, TrainBatches
from mlprun.data.source import Examples, Source
from mlprun.data.splits import Normalizer, Part, Splits, make_splits, size
from mlprun.data.tokens import PADDING, Tokenizer
from mlprun.errors import ConfigError, UserError, is_users_own, near
from mlprun.metric_names import BY_TOKEN, lower_is_better
from mlprun.training import durations, schedule, transfer
from mlprun.training.learner import Learner
from mlprun.training.loop import Drawn, Plan, nothing
from mlprun.training.losses import Loss

# Multiply-adds of a step below which a second thread saves at most a third of it, and two runs side by side
# make better use of two cores (measured: benchmarks/threads.py).
ONE_THREAD_BELOW = 200e6
# models that take the id 0 for padding
READS_TEXT = ("mlprun.models.embedding_average.", "mlprun.models.rnn.", "mlprun.models.transformer.")
PROBE_EXAMPLES, PROBE_OUTPUTS = 256, 2**24  # for histograms; 64 MiB of outputs where each token has some

Node = dict[str, Any]


# ------------------------------------------------------------------------------------------------ targets


def locate(target: str, key: str) -> Callable[..., Any]:
    """What a `_target_`, or the value of another `key`, names.

    Raises:
        ConfigError: no such module or name; shows Python's own ImportError.
    """
    parts = str(target).split(".")
    for cut in range(len(parts), 0, -1):
        module_name = ".".join(parts[:cut])
        try:
            found: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            missing = error.name or ""
            if module_name == missing or module_name.startswith(missing + "."):
                continue  # the path itself is wrong, or a part of it is a class: try the shorter one
            raise ConfigError(key, target, f"cannot be imported: {error}") from error
        except Exception as error:  # whatever the user's module does when it is imported
            own = [f for f in traceback.extract_tb(error.__traceback__) if is_users_own(f.filename)]
            frames = "".join(traceback.format_list(own)).rstrip().lstrip()
            raise ConfigError(key, target, f"cannot be imported: {type(error).__name__}: {error}", frames) from error
        for name in parts[cut:]:
            if not hasattr(found, name):
                names = [n for n in dir(found) if not n.startswith("_")]
                close = near(name, names)
                hint = f"did you mean '{'.'.join([*parts[:-1], close[0]])}'?" if close else ""
                where = getattr(found, "__file__", None)
                shown = f"{module_name} ({where})" if where else module_name
                raise ConfigError(key, target, f"{shown} has no '{name}'", hint)
            found = getattr(found, name)
        if not callable(found) and cut == len(parts) > 1:
            continue  # torchvision.models.alexnet is a module, and a function of the package above it
        if not callable(found):
            raise ConfigError(key, target, "is not a class or function")
        return found  # type: ignore[no-any-return]
    raise ConfigError(
        key,
        target,
        f"cannot be imported: No module named '{parts[0]}'",
        "give the full path, such as torch.optim.Adam, or my_module.MyNet for my_module.py in this folder",
    )


def construct(node: Node, key: str, *positional: Any) -> Any:
    """Call the target of `node` with its arguments, after holding them against its signature.

    Args:
        node: `_target_` and keyword arguments; nested nodes with a `_target_` are built first.
        key: the config key of the node, for messages.
        positional: passed before them.

    Raises:
        ConfigError: the target does not exist, does not take these arguments, or refuses a value.
    """
    target = locate(node["_target_"], f"{key}._target_")
    _check_arguments(target, node, key, len(positional))
    try:
        build = instantiate({**node, "_partial_": True}, _convert_="all")
        return build(*positional)
    except ConfigError as error:
        if error.key.startswith("data."):  # already the full key, of what the arguments were interpolated from
            raise
        raise error.under(key) from error
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        if _is_users_own(target):
            raise  # the user's own code raised it: its frames say more than we could
        raise ConfigError(key, ConfigError.MISSING, f"{node['_target_']}: {error}") from error


def _is_users_own(target: Callable[..., Any]) -> bool:
    try:
        return is_users_own(inspect.getfile(target))
    except TypeError:
        return False  # built into Python


def _check_arguments(target: Callable[..., Any], node: Node, key: str, num_positional: int) -> None:
    try:
        parameters = list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        return  # some C functions have no signature; the call itself will tell
    given = {name: value for name, value in node.items() if not name.startswith("_")}
    fillable = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    taken = {p.name for p in fillable[:num_positional]}
    by_name = {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)} - taken
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        unknown = [name for name in given if name not in by_name]
        if unknown:
            close = near(unknown[0], by_name)
            hint = f"did you mean '{key}.{close[0]}'? Or remove" if close else "remove"
            line = " ".join(f"~{key}.{name}" for name in unknown)
            raise ConfigError(
                f"{key}.{unknown[0]}",
                given[unknown[0]],
                f"{node['_target_']} takes no argument of that name",
                f"{hint} what it does not take: {line}\n  it takes: {', '.join(sorted(by_name)) or 'nothing'}",
            )
    for p in fillable[num_positional:] + [p for p in parameters if p.kind is p.KEYWORD_ONLY]:
        if p.default is p.empty and p.name not in given:
            raise ConfigError(
                key,
                ConfigError.MISSING,
                f"{node['_target_']} needs the argument '{p.name}'",
                f"add +{key}.{p.name}=…",
            )


# ------------------------------------------------------------------------------------------------- objects


def device(config: Config) -> torch.device:
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


def splits(config: Config) -> Splits:
    """Load, check, split and scale the data."""
    data = config.data
    seeding.seed_all(data.split_seed, "data")  # a user's data set may draw when it is made
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
        if len(data.input_shape) != 3:
            shape = "x".join(map(str, data.input_shape))
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
        normalize_test_by=data.normalize_test_by,
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


def sizes(parts: Splits) -> dict[str, int | None]:
    """Number of examples of each split."""
    return {name: size(getattr(parts, name)) for name in ("train", "val", "test")}


def trial_batch(config: Config, parts: Splits) -> Batch:
    """Two validation examples on the CPU, scaled, for `check_fit`.

    Raises:
        ConfigError: the model takes a token of theirs for padding.
    """
    part = parts.val
    some = part[slice(0, 2)] if isinstance(part, Examples) else part
    # Sequences in their whole length, not cut: so much a step may cost.
    trial = next(
        iter(
            EvalBatches(
                some, 2, parts.normalizer, torch.device("cpu"), targets=parts.target_normalizer, perturb=parts.perturb
            )
        )
    )
    if str(config.model["_target_"]).startswith(READS_TEXT):
        _check_padding(part.inputs if isinstance(part, Examples) else trial.inputs)
    return trial


def _check_padding(ids: Tensor) -> None:
    """Raise ConfigError where the id of padding stands before a token: models leave it out, or count lengths wrong."""
    if ids.dim() != 2 or ids.is_floating_point():
        return
    is_padding = ids == PADDING
    wrong = (is_padding[:, :-1] & ~is_padding[:, 1:]).nonzero()
    if len(wrong):
        row, place = wrong[0].tolist()
        raise ConfigError(
            "data.dataset", ConfigError.MISSING,
            f"validation example {row} has the id {PADDING} at place {place}, before a token: {PADDING} is padding",
            "pad at the end only, and count the ids of tokens from 1",
        )  # fmt: skip


def train_batches(config: Config, parts: Splits, where: torch.device) -> TrainBatches:
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
    )


def profiled(batches: TrainBatches, trace: Path) -> TrainBatches:
    """The same batches, with a torch.profiler trace of steps 4-8 written to `trace` as they are taken."""
    return _ProfiledBatches(batches, trace)


class _ProfiledBatches(TrainBatches):
    def __init__(self, batches: TrainBatches, trace: Path) -> None:
        vars(self).update(vars(batches))
        self._trace = trace

    def starting_at(self, step: int) -> Iterator[Batch]:
        from torch.profiler import ProfilerActivity, profile, schedule

        activities = [ProfilerActivity.CPU]
        activities += [ProfilerActivity.CUDA] if self.device.type == "cuda" else []
        with profile(
            activities=activities,
            schedule=schedule(wait=2, warmup=1, active=5, repeat=1),
            on_trace_ready=lambda p: p.export_chrome_trace(str(self._trace)),
        ) as profiler:
            for batch in super().starting_at(step):
                yield batch
                profiler.step()


def eval_batches(config: Config, part: Part, parts: Splits, where: torch.device) -> EvalBatches:
    """Batches of the val or test split."""
    batch_size = config.batch_size if isinstance(config.batch_size, int) else 256
    normalizer = parts.normalizer_of(part)
    return EvalBatches(
        part,
        batch_size,
        normalizer,
        where,
        config.data.num_workers,
        parts.target_normalizer,
        padding=parts.padding,
        perturb=parts.perturb,
        num_outputs=config.data.num_outputs if config.data.task in BY_TOKEN else 0,
    )


def plan(config: Config, steps_per_epoch: int | None) -> Plan:
    """Every duration of the config in steps."""
    if steps_per_epoch is None:
        lengths = {"eval_every": config.eval_every, "checkpoint.every": config.checkpoint.every}
        missing = [] if config.steps is not None else ["steps=1000"]
        missing += [f"{key}=10%" for key, text in lengths.items() if "epoch" in text]
        if missing:
            raise ConfigError(
                "data.dataset",
                ConfigError.MISSING,
                "is a stream, whose epochs have no known number of steps",
                f"give lengths in steps or as a share of the run, for example {' '.join(missing)}",
            )
    num_steps = config.steps if config.steps is not None else config.epochs * (steps_per_epoch or 0)

    def steps(key: str, text: str) -> int:
        return durations.parse(text, key=key).steps(steps_per_epoch, num_steps)

    return Plan(
        num_steps=num_steps,
        steps_per_epoch=steps_per_epoch,
        eval_every=steps("eval_every", config.eval_every),
        log_every=steps("logging.every", config.logging.every),
        save_every=steps("checkpoint.every", config.checkpoint.every),
        monitor=config.monitor,
        mode="min" if lower_is_better(config.monitor) else "max",
        patience=config.early_stopping.patience,
        min_delta=config.early_stopping.min_delta,
    )


def model(config: Config) -> nn.Module:
    """The model, on the CPU, with weights that are a function of the seed."""
    seeding.seed_all(config.seed, "weights")
    built = construct(config.model, "model")
    if not isinstance(built, nn.Module):
        raise ConfigError("model._target_", config.model["_target_"], "does not give a torch.nn.Module")
    if not any(p.requires_grad for p in built.parameters()):
        raise ConfigError("model", ConfigError.MISSING, "has no parameter to train")
    return built


def weights(
    config: Config, module: nn.Module, tokenizer: Tokenizer | None
) -> tuple[transfer.Weights, transfer.Taken] | None:
    """What `trainer.weights` names, and what of it the model takes; None where it is null. Changes nothing.

    Raises:
        ConfigError: it cannot be used, or its token ids mean other tokens than those of `tokenizer`.
    """
    if config.trainer.weights is None:
        return None
    found = transfer.read(config.trainer.weights)
    if tokenizer is not None and found.tokenizer is not None and found.tokenizer != tokenizer.to_plain():
        raise ConfigError(
            "trainer.weights",
            config.trainer.weights,
            "was learnt with another vocabulary: its token ids mean other words than those of these data",
            f"take its vocabulary too: data.text.vocabulary={config.trainer.weights}",
        )
    taken = transfer.fit(found, module)
    if found.tokenizer is not None and tokenizer is not None:
        _check_rows(config, module, taken)
    return found, taken


def _check_rows(config: Config, module: nn.Module, taken: transfer.Taken) -> None:
    """Refuse to leave out all that was learnt of tokens or of places because one number differs."""
    embeddings = {f"{name}.weight" for name, part in module.named_modules() if isinstance(part, nn.Embedding)}
    own = module.state_dict()
    for name, shape in taken.other_shapes.items():
        if name not in embeddings and name.rpartition(".")[2] != "positions":
            continue
        for key, value in (("vocab_size", config.data.text.vocab_size), ("max_length", config.data.text.max_length)):
            if len(own[name]) == value != shape[0]:
                raise ConfigError(
                    f"data.text.{key}",
                    value,
                    f"{config.trainer.weights} has {shape[0]:,}, so that none of its {name} would be taken",
                    f"write data.text.{key}={shape[0]}",
                )


def check_tokens(config: Config, tokenizer: Tokenizer | None, stored: dict[str, Any], where: Path) -> None:
    """Refuse data whose token ids mean other tokens than those of a checkpoint of the run: all scores would be wrong.

    Args:
        config: of the run.
        tokenizer: of the data as they are now.
        stored: the checkpoint.
        where: it lies.

    Raises:
        ConfigError: they do.
    """
    if "tokenizer" in stored and tokenizer is not None and stored["tokenizer"] != tokenizer.to_plain():
        typed = config.data.text.vocabulary
        changed = "the texts of the training part have" if typed is None else "the run that it names has"
        raise ConfigError(
            "data.text.vocabulary",
            typed,
            f"{changed} changed since {where} was written: token ids mean other tokens than those that were learnt",
            "bring back what was there; or start a new run",
        )


def in_evaluation(config: Config, module: nn.Module) -> dict[str, nn.Module]:
    """The modules, by name, that `trainer.freeze` keeps in evaluation mode while training."""
    return transfer.still(transfer.frozen(config.trainer.freeze, module), module)


def num_trained(config: Config, module: nn.Module) -> int:
    """Parameters that are neither frozen by `trainer.freeze` nor by the module itself."""
    frozen = transfer.frozen(config.trainer.freeze, module)
    return sum(p.numel() for name, p in module.named_parameters() if p.requires_grad and name not in frozen)


def loss(config: Config) -> Loss:
    """The loss; raises ConfigError where it does not fit the targets."""
    node = dict(config.loss)
    one_hot = bool(node.pop("one_hot", False))  # ours; a loss without the key has no use for it
    for name in ("weight", "pos_weight"):  # torch wants tensors, and a line of text has lists and numbers
        if isinstance(node.get(name), list | int | float):
            node[name] = torch.tensor(node[name], dtype=torch.float32)
    criterion = construct(node, "loss")
    if not isinstance(criterion, nn.Module):
        raise ConfigError("loss._target_", node["_target_"], "does not give a torch.nn.Module")
    if config.data.normalize_targets and isinstance(criterion, nn.BCELoss | nn.BCEWithLogitsLoss):
        raise ConfigError(
            "data.normalize_targets", True, f"{type(criterion).__name__} takes probabilities, in [0, 1]", "leave it out"
        )
    return Loss(criterion, config.data.task, config.data.num_outputs, one_hot)


def optimizer(config: Config, module: nn.Module) -> torch.optim.Optimizer:
    """The optimizer over the parameters that are trained."""
    frozen = transfer.frozen(config.trainer.freeze, module)
    trained = [p for name, p in module.named_parameters() if p.requires_grad and name not in frozen]
    groups: list[Any] = trained
    if not config.trainer.decay_all:
        # Biases and the scales of norms are 1-D; decaying them shrinks what carries no complexity.
        groups = [
            {"params": [p for p in trained if p.dim() > 1]},
            {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
    built = construct(config.optim, "optim", groups)
    if not isinstance(built, torch.optim.Optimizer):
        raise ConfigError("optim._target_", config.optim["_target_"], "does not give a torch.optim.Optimizer")
    if isinstance(built, torch.optim.LBFGS) and config.trainer.precision == "fp16":
        raise ConfigError("trainer.precision", "fp16", "cannot be scaled within a step of lbfgs", "use fp32 or bf16")
    if isinstance(built, torch.optim.LBFGS) and config.batch_size != "all":
        raise ConfigError(
            "batch_size", config.batch_size, "lbfgs needs the whole data at every step", "add batch_size=all"
        )
    return built


def make_schedule(config: Config, the_optimizer: torch.optim.Optimizer, steps: Plan) -> schedule.Schedule:
    """The learning-rate schedule over the run, after `scheduler.warmup`."""
    node = dict(config.scheduler)
    text = node.pop("warmup", "0 steps")  # a scheduler of the user's own may leave our key out
    warmup = durations.parse(text, key="scheduler.warmup").steps(steps.steps_per_epoch, steps.num_steps)
    if warmup >= steps.num_steps > 1:
        raise ConfigError("scheduler.warmup", text, f"fills the whole run of {steps.num_steps} steps", "shorten it")
    cls = locate(node.pop("_target_"), "scheduler._target_")
    if not (isinstance(cls, type) and issubclass(cls, (schedule.FactorSchedule, LRScheduler))):
        raise ConfigError(
            "scheduler._target_", config.scheduler["_target_"], "is not a schedule",
            "derive it from mlprun.training.schedule.FactorSchedule or torch.optim.lr_scheduler.LRScheduler",
        )  # fmt: skip

    def in_steps(key: str, value: object) -> int:
        return durations.parse(value, key=key).steps(steps.steps_per_epoch, steps.num_steps - warmup)

    try:
        arguments = schedule.lengths_in_steps(cls, node, in_steps)
    except ConfigError as error:
        raise error.under("scheduler") from error
    full = {"_target_": config.scheduler["_target_"], **arguments}
    if issubclass(cls, schedule.FactorSchedule):
        return schedule.Warmup(construct(full, "scheduler"), warmup)
    # a torch scheduler writes the rates as it is made, so it gets the optimizer that trains
    return schedule.TorchSchedule(construct(full, "scheduler", the_optimizer), warmup)


def rates(config: Config, module: nn.Module, steps: Plan, up_to: int) -> list[list[float]]:
    """The learning rates of every parameter group at steps 0 to `up_to` - 1, without training."""
    scratch = optimizer(config, module)
    the_schedule = make_schedule(config, scratch, steps)
    drawn = []
    for step in range(up_to):
        the_schedule.apply(scratch, step)
        drawn.append([float(group["lr"]) for group in scratch.param_groups])
    return drawn


def length_effects(before: Config, now: Config, module: nn.Module, steps_per_epoch: int | None, step: int) -> list[str]:
    """Why a run that changes its length at `step` ends differently from one of the new length; empty: it does not."""
    old, new = plan(before, steps_per_epoch), plan(now, steps_per_epoch)
    found = []
    if rates(before, module, old, step) != rates(now, module, new, step):
        name = now.scheduler["_target_"].rpartition(".")[2]
        found.append(f"scheduler: the rates of {name} up to step {step} were those of {old.num_steps} steps")
    for key, was, becomes in (("eval_every", old.eval_every, new.eval_every),
                              ("logging.every", old.log_every, new.log_every)):  # fmt: skip
        if was != becomes:
            found.append(f"{key}: {was} steps up to step {step}, {becomes} from there")
    if step == old.num_steps and step % new.eval_every:
        found.append(f"eval_every: the evaluation at step {step} was that of the end")
    return found


def learner(
    config: Config, module: nn.Module, steps: Plan, where: torch.device, targets: Normalizer | None = None
) -> Learner:
    """The learner, with the module moved to the device and what is frozen held; `targets`: how they are scaled."""
    if config.data.normalize_targets and targets is None:
        raise TypeError("the metrics need to know how the targets were scaled")
    module.to(where)
    frozen = transfer.frozen(config.trainer.freeze, module)
    for name, parameter in module.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    the_optimizer = optimizer(config, module)
    return Learner(
        module,
        loss(config).to(where),
        the_optimizer,
        make_schedule(config, the_optimizer, steps),
        where,
        task=config.data.task,
        num_outputs=config.data.num_outputs,
        seed=config.seed,
        accumulate=config.trainer.accumulate,
        grad_clip=config.trainer.grad_clip,
        precision=config.trainer.precision,
        on_nan=config.trainer.on_nan,
        compiled=config.trainer.compile,
        in_evaluation=in_evaluation(config, module).values(),
        targets=targets,
    )


# --------------------------------------------------------------------------------------------------- fitting


@dataclass(frozen=True)
class Layer:
    """A layer with weights, as a trial batch met it; shapes without the batch."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    num_parameters: int
    macs: int = 0  # multiply-adds for one example, of a linear or convolution layer


@dataclass(frozen=True)
class Fit:
    """What a trial batch tells of a model.

    Attributes:
        layers: those with parameters of their own, in the order they ran.
        num_parameters: all, trained or not.
        macs: multiply-adds of the linear, convolution and recurrent layers for one example.
    """

    layers: list[Layer]
    num_parameters: int
    macs: int

    def num_threads(self, batch_size: int) -> int:
        """CPU threads that pay for a step of this size: a function of the config and the machine alone."""
        work = 3 * max(self.macs, self.num_parameters) * batch_size  # forward, and twice that backward
        return 1 if work < ONE_THREAD_BELOW else len(os.sched_getaffinity(0)) if hasattr(
            os, "sched_getaffinity"
        ) else os.cpu_count() or 1  # fmt: skip


def check_fit(config: Config, module: nn.Module, criterion: Loss, trial: Batch) -> Fit:
    """Run two examples through model and loss, and say which layer and which key is at fault if they do not fit.

    Args:
        module: on the CPU; its state is not changed.
        trial: a batch on the CPU.

    Raises:
        ConfigError: model and data, or outputs and loss, do not fit.
    """
    running: list[tuple[str, nn.Module, list[int]]] = []
    layers: list[Layer] = []

    def entered(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
            shape = list(inputs[0].shape) if inputs and isinstance(inputs[0], Tensor) else []
            running.append((name, layer, shape))

        return hook

    def left(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        name, *_ = running.pop()
        own = sum(p.numel() for p in layer.parameters(recurse=False))
        output = output[0] if isinstance(layer, nn.RNNBase) else output
        if own and isinstance(output, Tensor):
            weight = getattr(layer, "weight", None)
            macs = 0
            if isinstance(layer, nn.RNNBase):  # each weight meets each token
                macs = sum(p.numel() for p in layer.parameters() if p.dim() > 1) * inputs[0].shape[-2]
            elif isinstance(weight, Tensor) and weight.dim() > 1 and not isinstance(layer, nn.Embedding):
                macs = weight.numel() * output[0].numel() // weight.shape[0]
            layers.append(Layer(name, type(layer).__name__, tuple(output.shape[1:]), own, macs))

    hooks = [m.register_forward_pre_hook(entered(name)) for name, m in module.named_modules()]
    hooks += [m.register_forward_hook(left) for m in module.modules()]
    inputs, targets = trial.inputs[:2], trial.targets[:2]
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            outputs = module(inputs)
    except torch.OutOfMemoryError:
        raise  # the shapes are not to blame
    except ConfigError as error:
        raise error.under("model") from error
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        name, layer, shape = running[-1] if running else ("", module, list(inputs.shape))
        where = f"layer '{name}' {_short(layer)}" if name else _short(layer)
        raise ConfigError(
            "model", ConfigError.MISSING,
            f"{where} cannot take an input of shape {shape}: {str(error).splitlines()[0]}",
            _remedy(config, inputs, layer),
        ) from error  # fmt: skip
    finally:
        for handle in hooks:
            handle.remove()
        module.train(was_training)
    by_token = config.data.task in BY_TOKEN
    wanted = [*inputs.shape[: 2 if by_token else 1], config.data.num_outputs]
    if not isinstance(outputs, Tensor) or list(outputs.shape) != wanted:
        found = list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ConfigError(
            "model", ConfigError.MISSING, f"gives outputs of shape {found} for {len(inputs)} examples, not {wanted}",
            f"data.task={config.data.task} needs data.num_outputs={config.data.num_outputs} outputs at each token"
            if by_token
            else f"the data has data.num_outputs={config.data.num_outputs}: the model's last layer must be as wide",
        )  # fmt: skip
    if config.data.task == "language_modeling" and not inputs.is_meta:
        _check_causal(module, inputs, outputs)
    try:
        with torch.no_grad():
            value = criterion(outputs, targets)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise ConfigError(
            "loss", ConfigError.MISSING,
            f"{config.loss['_target_']} does not fit outputs of shape {list(outputs.shape)} and targets of shape "
            f"{list(targets.shape)} ({targets.dtype}): {str(error).splitlines()[0]}",
            "for classes use loss=cross_entropy, for values loss=mse",
        ) from error  # fmt: skip
    if value.dim() != 0:
        raise ConfigError(
            "loss",
            ConfigError.MISSING,
            f"gives shape {list(value.shape)}, not one number",
            "set loss.reduction=mean",
        )
    return Fit(layers, sum(p.numel() for p in module.parameters()), sum(layer.macs for layer in layers))


def _remedy(config: Config, inputs: Tensor, layer: nn.Module) -> str:
    """What to do about a model that cannot take the inputs of the data; `layer` is where it failed."""
    if not inputs.is_floating_point() and isinstance(layer, nn.Embedding) and not inputs.is_meta:
        low, high = int(inputs.min()), int(inputs.max())
        if low < 0 or high >= layer.num_embeddings:
            return (
                f"it has {layer.num_embeddings} rows, and the ids of two examples go from {low} to {high}: "
                "set data.text.vocab_size to one more than the largest id there is"
            )
    if not inputs.is_floating_point() and not isinstance(layer, nn.Embedding):
        return "the inputs are whole numbers, as of texts: choose from embedding_average, rnn, gru, lstm, transformer"
    if inputs.is_floating_point() and any(isinstance(m, nn.Embedding) for m in layer.modules()):
        return (
            f"the inputs of {config.data.name} are no token ids: choose a model of numbers or images, such as model=mlp"
        )
    return (
        f"one example has data.input_shape={_listed(config.data.input_shape)}; "
        "do the sizes in the model follow from input_shape?"
    )


def _check_causal(module: nn.Module, inputs: Tensor, outputs: Tensor) -> None:
    """Raise ConfigError if an output of a language model depends on tokens that come after its own."""
    middle = inputs.shape[1] // 2
    changed = inputs.clone()
    changed[:, middle:] = (changed[:, middle:] + 1) % outputs.shape[-1]
    was_training = module.training
    module.eval()
    with torch.no_grad():
        again = module(changed)
    module.train(was_training)
    if not torch.allclose(outputs[:, :middle], again[:, :middle], rtol=1e-3, atol=1e-4):
        raise ConfigError(
            "model", ConfigError.MISSING, "sees the tokens that it is to predict: its outputs change with what follows",
            "a language model may look back only; for words hidden in a text, which both sides tell, use "
            "data.task=token_classification",
        )  # fmt: skip


def picture_functions(config: Config) -> dict[str, Callable[[Learner, Splits], Any]]:
    """Tag -> function of each of `logging.pictures`.

    Raises:
        ConfigError: there is none of that name.
    """
    if not config.logging.pictures:
        return {}
    from mlprun import pictures  # and matplotlib

    found: dict[str, Callable[[Learner, Splits], Any]] = {}
    for name in config.logging.pictures:
        tag = f"pictures/{name.rpartition('.')[2]}"
        if tag in found:
            raise ConfigError("logging.pictures", name, f"there are two that would be called {tag}", "rename one")
        found[tag] = locate(name, "logging.pictures") if "." in name else getattr(pictures, name)
    return found


def drawer(config: Config, the_learner: Learner, parts: Splits) -> Callable[[int], Drawn]:
    """What draws, at a step, the pictures and histograms that the config asks for, and changes nothing by it."""
    functions = picture_functions(config)
    if not functions and not config.logging.histograms:
        return nothing
    examples = _probe_batch(config, parts, the_learner.device) if config.logging.histograms else None

    def draw(step: int) -> Drawn:
        from mlprun.pictures import pixels

        values: dict[str, float] = {}
        histograms: dict[str, Any] = {}
        if examples is not None:
            from mlprun.training.probe import probe

            values, histograms = probe(the_learner, examples, parts.padding)
        images = {}
        for tag, function in functions.items():
            try:
                with seeding.preserved():
                    seeding.seed_all(config.seed, "picture", step)  # the same picture of a step, whatever came before
                    images[tag] = pixels(function(the_learner, parts), f"step {step}")
            except UserError:
                raise
            except Exception as error:
                error.add_note(f"in {tag} of logging.pictures; logging.pictures=[] goes on without, also on a resume")
                raise
        return Drawn(values, images, histograms)

    return draw


def _probe_batch(config: Config, parts: Splits, where: torch.device) -> Batch:
    """`PROBE_EXAMPLES` training examples, the same in every run on these data; of a stream the first.

    Fewer where each of their tokens has outputs, so that those are `PROBE_OUTPUTS` at most.
    """
    part, count, most = parts.train, size(parts.train), PROBE_EXAMPLES
    if config.data.task in BY_TOKEN:
        most = min(most, max(1, PROBE_OUTPUTS // (math.prod(config.data.input_shape) * config.data.num_outputs)))
    if count is not None:
        chosen = torch.randperm(count, generator=seeding.generator(0, "probe"))[:most]
        part = part[chosen] if isinstance(part, Examples) else Subset(part, chosen.tolist())
    with seeding.preserved():
        batches = EvalBatches(
            part,
            most,
            parts.normalizer,
            where,
            targets=parts.target_normalizer,
            padding=parts.padding,
            perturb=parts.perturb,
        )
        return next(iter(batches))


def check_batch_norm(fit: Fit, batches: TrainBatches, accumulate: int, frozen: Collection[str] = ()) -> None:
    """Raise ConfigError if batch normalisation would meet a single value a channel, which has no variance.

    Args:
        fit: tells the layers.
        batches, accumulate: how many examples meet.
        frozen: names of layers that stay in evaluation mode, and look at no batch.
    """
    norms = [x for x in fit.layers if x.kind.startswith("BatchNorm") and x.name not in frozen]
    alone = [x for x in norms if math.prod(x.output_shape[1:]) == 1]
    count = batches.num_examples
    if not alone or count is None:
        return

    def smallest(batch_size: int) -> int:
        last = count % batch_size or batch_size
        return min(batch_size // accumulate, last // min(accumulate, last))

    if smallest(batches.batch_size) < 2:
        fits = next((size for size in range(batches.batch_size + 1, count + 1) if smallest(size) > 1), None)
        raise ConfigError(
            "batch_size",
            batches.batch_size,
            f"a batch (of {count} examples in all) would give the layer '{alone[0].name}' a single one to normalise",
            f"choose batch_size={fits}" if fits else "use more data, or a model without batch normalisation",
        )


def _short(layer: nn.Module) -> str:
    text = repr(layer)
    return text if len(text) < 100 and "\n" not in text else type(layer).__name__


def _listed(values: list[int]) -> str:
    return "[" + ",".join(map(str, values)) + "]"
