"""`mlprun inspect`: what a training would be, before it is one. Nothing is trained, and no run comes of it."""

from __future__ import annotations

import itertools
import math
import shutil
import sys
import warnings
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlprun import build, introduction, seeding, speed
from mlprun.config import Config
from mlprun.data.batches import Batch, TrainBatches, lengths, together
from mlprun.data.inputs import shortened
from mlprun.data.source import IGNORED, Examples
from mlprun.data.splits import Normalizer, Splits
from mlprun.data.tokens import PADDING, UNKNOWN, Tokenizer
from mlprun.errors import DivergedError, RunError, UserError
from mlprun.failures import explain
from mlprun.introduction import counted
from mlprun.metric_names import BY_TOKEN
from mlprun.runs import directory, sketch
from mlprun.training import gradients, transfer
from mlprun.training.loop import Plan
from mlprun.training.schedule import Schedule, Warmup

NUM_SHOWN = 16  # examples in samples.png
NUM_POINTS = 2000  # of a scatter plot
NUM_VALUES = 20_000_000  # input values that statistics are made of, at most
NUM_DRAWN = 20_000  # steps of a longer run that are drawn
NUM_GRADIENT_EXAMPLES = 4


def inspect(config: Config, folder: Path, *, claim: bool) -> int:
    """Print what the config would train, and draw it; the exit status.

    Args:
        config: checked.
        folder: for the pictures.
        claim: add four hex digits to the folder's name that make it this call's alone.

    Raises:
        UserError: what a training of the config would fail with before its first step; a wrong gradient.
    """
    try:
        return _inspect(config, folder, claim=claim)
    except (UserError, BrokenPipeError):  # `mlprun inspect | head`
        raise
    except Exception as error:
        raise RunError(explain(error, config)) from error


def _inspect(config: Config, folder: Path, *, claim: bool) -> int:
    # In the order of a run, so that what is wrong is said in its order, too.
    torch.set_num_threads(config.trainer.num_threads or 1)
    seeding.set_determinism(config.trainer.deterministic)
    where = build.device(config)
    parts = build.splits(config)
    criterion = build.loss(config)
    batches = build.train_batches(config, parts, where)
    plan = build.plan(config, batches.steps_per_epoch)
    model = build.model(config)
    fit = build.check_fit(config, model, criterion, build.trial_batch(config, parts))
    build.check_batch_norm(fit, batches, config.trainer.accumulate, build.in_evaluation(config, model))
    weights = build.weights(config, model, parts.tokenizer)
    torch.set_num_threads(
        config.trainer.num_threads or fit.num_threads(batches.batch_size // config.trainer.accumulate)
    )
    drawn = draw_schedule(config, model, plan)
    first = first_examples(batches)

    _print(introduction.data_line(config, build.sizes(parts)))
    _print(*data_lines(config, parts, first))
    _print(*introduction.model_lines(config, fit, build.num_trained(config, model), macs=True))
    if weights is not None:
        _print(f"weights {transfer.summary(weights[1], str(config.trainer.weights))}")
    _print(introduction.optim_line(config))
    _print(*length_lines(config, plan, batches, criterion.reduction))
    _print(*drawn.lines(unicode=_can_print("⣿┤└─│")))
    pictures = {}
    if drawn.steps:
        pictures["schedule.png"] = sketch.schedule_figure(
            drawn.steps, drawn.curves, f"{introduction.optim_line(config)[8:]}", plan.steps_per_epoch
        )
    if (samples := _samples(config, parts, first)) is not None:
        pictures["samples.png"] = samples
    _print(*device_lines(parts, first, batches.batch_size))
    _print(*step_lines(config, plan, batches, where, parts.target_normalizer))
    wrong = _check_gradients(config, first) if config.inspect.check_gradients else None
    if pictures:
        _save(pictures, folder, claim=claim)
    if wrong is not None:
        raise wrong
    return 0


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _print(*lines: str) -> None:
    encoding = sys.stdout.encoding or "ascii"
    for line in lines:
        print(line.encode(encoding, "replace").decode(encoding), flush=True)  # names of classes may be in any script


def _save(pictures: dict[str, Any], folder: Path, *, claim: bool) -> None:
    if claim:
        folder = directory.claim(str(folder))
        directory.keep_out_of_git(Path(folder.parts[0]))
    else:
        directory.make(folder)
    try:
        for name, figure in pictures.items():
            sketch.save(figure, folder / name)
    except BaseException:
        if claim:
            shutil.rmtree(folder)
        raise
    _print(f"drawn   {folder}: {', '.join(pictures)}")


# ------------------------------------------------------------------------------------------------------ data


def first_examples(batches: TrainBatches) -> Batch:
    """At least `NUM_SHOWN` examples, the first that the run meets, augmented and scaled as it gets them; on the CPU."""
    taken: list[Batch] = []
    with seeding.preserved():
        for batch in batches.starting_at(0):
            taken.append(batch)
            if sum(len(each.targets) for each in taken) >= NUM_SHOWN or len(taken) == batches.steps_per_epoch:
                break
    return together(taken)


def data_lines(config: Config, parts: Splits, first: Batch) -> list[str]:
    """Targets and inputs of the training split in numbers, before and after scaling."""
    lines = []
    targets = _targets(parts.train)
    if targets is None:
        lines.append("          targets of train  not counted: only reading all of it would tell")
    elif config.data.task in BY_TOKEN:
        told = f"{int((targets != IGNORED).sum()):,} tokens"
        if parts.perturb is not None:
            share = float((first.targets != IGNORED).sum() / (first.inputs != PADDING).sum())
            told = f"{share:.0%} of the tokens, others in every batch"
        lines.append(f"          targets of train  {told}, each of {config.data.num_outputs:,} classes")
    elif config.data.task == "classification":
        counts = torch.bincount(targets.flatten(), minlength=max(config.data.num_outputs, 2)).tolist()
        lines += _counts(counts, _class_names(config, parts))
    else:
        lines.append(f"          targets of train  {_statistics(targets)}")
    if parts.tokenizer is not None:
        return [*lines, *_text_lines(config, parts, parts.tokenizer, first)]
    part = parts.train
    if isinstance(part, Examples):
        per_example = max(1, part.inputs[:1].numel())
        many = max(1, NUM_VALUES // per_example)
        chosen = torch.randperm(len(part), generator=seeding.generator(0, "inspect"))[:many].sort().values
        raw = part.inputs if len(part) <= many else part.inputs[chosen]
        scaled = parts.normalizer(raw)
        of = "train" if len(raw) == len(part) else f"{len(raw):,} examples of train, drawn at random"
    else:
        scaled = first.inputs
        raw = _unscaled(parts, scaled)
        of = f"the first {len(scaled)} examples of train"
    kind = str(raw.dtype).removeprefix("torch.")
    lines.append(f"          inputs as stored  {f'{kind}, ' if isinstance(part, Examples) else ''}{_statistics(raw)}")
    if scaled.dtype == raw.dtype and not raw.is_floating_point():
        lines.append("          inputs, scaled    whole numbers are left as they are")
    else:
        lines.append(f"          inputs, scaled    {_statistics(scaled)}  (data.normalize={config.data.normalize})")
    lines[-2] += f"  (of {of})"
    return lines


def _text_lines(config: Config, parts: Splits, tokenizer: Tokenizer, first: Batch) -> list[str]:
    """The vocabulary, how long the texts are, what is unknown and what is padding, and the first example."""
    text = config.data.text
    part = parts.train.inputs if isinstance(parts.train, Examples) else first.inputs
    of = "train" if isinstance(parts.train, Examples) else f"the first {len(part)} examples of train"
    sizes = lengths(part, PADDING)
    kind = {"bpe": "byte pairs"}.get(text.tokens, text.tokens) + f", up to {text.ngrams} of them" * (text.ngrams > 1)
    unknown = int((part == UNKNOWN).sum()) / int(sizes.sum())
    full = float((sizes == text.max_length).double().mean())
    ids = first.inputs[0, : int(lengths(first.inputs[:1], PADDING))].tolist()
    target = ""
    if config.data.task == "classification":
        target = f"  -> {_class_names(config, parts)[int(first.targets[0])]}"
    # `first` is some batches as one, padded to the longest of all; a batch alone, to its own
    size = len(first.inputs) if config.batch_size == "all" else config.batch_size
    batches = lengths(first.inputs, PADDING).split(size)
    cells = sum(len(batch) * int(batch.max()) for batch in batches)
    padding = 1 - sum(int(batch.sum()) for batch in batches) / cells
    return [
        f"          tokens            {kind}{', lower case' * text.lowercase}; {len(tokenizer):,} in the vocabulary"
        f" (of data.text.vocab_size={text.vocab_size}); {unknown:.2%} of {of} are unknown",
        f"          lengths           {int(sizes.min())} to {int(sizes.max())} tokens, median {int(sizes.median())};"
        f" {full:.1%} fill data.text.max_length={text.max_length} or are cut there  (of {of})",
        f"          padding           {padding:.1%} of the first batches' {cells:,} tokens",
        f"          the first text    {shortened(tokenizer.decode(ids))}{target}",
    ]


def _unscaled(parts: Splits, inputs: Tensor) -> Tensor:
    """What the normaliser was given."""
    return parts.normalizer.inverse(inputs) if inputs.is_floating_point() else inputs


def _targets(part: Any) -> Tensor | None:
    """All targets of a split, where they are known without reading the examples."""
    if isinstance(part, Examples):
        return part.targets
    if isinstance(part, torch.utils.data.Subset):
        targets = _targets(part.dataset)
        return None if targets is None else targets[torch.as_tensor(part.indices)]
    targets = getattr(part, "targets", None)  # by torchvision's convention
    return targets if isinstance(targets, Tensor) else None if targets is None else torch.as_tensor(targets)


def _statistics(values: Tensor) -> str:
    total = squares = 0.0
    for chunk in values.split(4096):  # the float64 copy of a large set would not fit
        exact = chunk.double()
        total, squares = total + float(exact.sum()), squares + float(exact.square().sum())
    mean = total / values.numel()
    deviation = math.sqrt(max(0.0, squares / values.numel() - mean**2))
    mean = 0.0 if abs(mean) < 1e-5 * deviation else mean  # what rounding leaves
    low, high = float(values.min()), float(values.max())
    return f"{low:.4g} to {high:.4g}, mean {mean:.4g}, standard deviation {deviation:.4g}"


def _class_names(config: Config, parts: Splits) -> list[str]:
    number = max(config.data.num_outputs, 2)
    return list(parts.class_names) if len(parts.class_names) == number else [str(i) for i in range(number)]


def _counts(counts: list[int], names: list[str]) -> list[str]:
    """How many examples each class has; of many classes, the smallest and the largest."""
    head = "          classes of train  "
    if len(counts) > 20:
        few, many = counts.index(min(counts)), counts.index(max(counts))
        return [f"{head}{counts[few]:,} ({names[few]}) to {counts[many]:,} ({names[many]}) examples each"]
    lines = [head]
    for name, count in zip(names, counts, strict=True):
        word = f"{name}: {count:,}  "
        if len(lines[-1]) + len(word) > 110:
            lines.append(" " * len(head))
        lines[-1] += word
    return [line.rstrip() for line in lines]


def _samples(config: Config, parts: Splits, first: Batch) -> Any:
    """A picture of some training examples as stored; None for data that has none."""
    inputs, targets = _unscaled(parts, first.inputs[:NUM_SHOWN]), first.targets[:NUM_SHOWN]
    if parts.target_normalizer is not None:
        targets = parts.target_normalizer.inverse(targets)
    names = _class_names(config, parts)
    classifies = config.data.task == "classification"
    if inputs.dim() == 2 and (inputs.shape[1] == 2 or (inputs.shape[1] == 1 and not classifies)):
        part, few = parts.train, Batch(inputs, targets)
        if isinstance(part, Examples):
            order = torch.randperm(len(part), generator=seeding.generator(0, "inspect"))[:NUM_POINTS]
            few = Batch(part.inputs[order], part.targets[order])
        if few.targets.dim() == 1 or few.targets.shape[1] == 1:
            title = f"{config.data.name}: {counted(len(few.targets), 'training example')}"
            return sketch.scatter_figure(
                few.inputs.numpy(), few.targets.flatten().numpy(), names if classifies else None, title
            )
        return None
    if not inputs.is_floating_point() and inputs.dtype != torch.uint8:
        return None
    if inputs.dim() == 4 and inputs.shape[1] in (1, 3):
        images = inputs.permute(0, 2, 3, 1).squeeze(3) if inputs.shape[1] == 1 else inputs.permute(0, 2, 3, 1)
    elif inputs.dim() == 3:
        images = inputs
    else:
        return None
    if classifies:
        captions = [names[int(label)] for label in targets]
    else:
        captions = [", ".join(f"{value:.3g}" for value in row) for row in targets.flatten(1).tolist()]
    low, high = float(images.min()), float(images.max())
    if isinstance(parts.train, Examples) and parts.train.inputs.dtype == torch.uint8 and high > 127:
        low, high = 0.0, 255.0
    title = f"{config.data.name}: the first training examples (seed={config.seed}), as stored: {low:.3g} to {high:.3g}"
    return sketch.images_figure(images.numpy(), captions, title, (low, high))


# -------------------------------------------------------------------------------------------------- schedule


def length_lines(config: Config, plan: Plan, batches: TrainBatches, reduction: str) -> list[str]:
    """How long the run is, and how noisy its gradient."""
    size = batches.batch_size
    lines = [f"length  {plan.num_steps:,} steps of {size} examples"]
    if plan.steps_per_epoch is not None and batches.num_examples is not None:
        lines[0] += f"; {counted(plan.steps_per_epoch, 'step')} an epoch"
        if left := batches.num_examples % size:
            lines[0] += f", the last of {counted(left, 'example')}"
    evaluations, writes = (math.ceil(plan.num_steps / every) for every in (plan.eval_every, plan.save_every))
    ends = "" if plan.patience is None else f"; early_stopping.patience={plan.patience} may end it before"
    lines.append(f"          {counted(evaluations, 'evaluation')}, {counted(writes, 'checkpoint')}{ends}")
    rate = config.optim.get("lr")
    if batches.num_examples is not None and rate is not None and reduction == "mean":
        # Smith & Le, A Bayesian Perspective on Generalization and Stochastic Gradient Descent (ICLR 2018), eq. 12
        noise = rate * (batches.num_examples / size - 1)
        lines.append(f"noise   lr (N/B - 1) = {rate:g} ({batches.num_examples:,}/{size:,} - 1) = {noise:.4g}: gradient "
                     "noise scale, derived for SGD (Smith and Le, 2018)")  # fmt: skip
        momentum = config.optim.get("momentum") or 0
        if config.optim["_target_"] == "torch.optim.SGD" and momentum:
            lines.append(f"          with momentum {momentum:g}, over 1 - momentum: {noise / (1 - momentum):.4g}")
    return lines


@dataclass(frozen=True)
class Drawn:
    """What a schedule sets at each step, without training.

    Attributes:
        steps: updates done before the one that these values are for; evenly spaced.
        curves: `learning rate` and, where it moves, `momentum`, one for each different parameter group.
        instead: what to say of a schedule that cannot be drawn.
    """

    steps: list[int]
    curves: dict[str, list[float]]
    instead: str = ""

    def lines(self, *, unicode: bool) -> list[str]:
        """For the terminal: a plot of what moves, in words what does not."""
        if self.instead:
            return [f"rates   {self.instead}"]
        lines: list[str] = []
        for name, values in self.curves.items():
            head, low, high = "" if lines else "rates", min(values), max(values)
            if low == high:
                lines.append(f"{head:<7} {name}: {low:g} at every step")
                continue
            lines.append(f"{head:<7} {name}: {low:.4g} to {high:.4g}, {values[0]:.4g} first, {values[-1]:.4g} last")
            lowest = 0.0 if name.startswith("learning rate") else low
            lines += [
                f"        {line}" for line in sketch.text_plot(self.steps, values, unicode=unicode, lowest=lowest)
            ]
        return lines


def draw_schedule(config: Config, model: nn.Module, plan: Plan) -> Drawn:
    """The values that the run's own schedule sets in an optimizer of its kind, at every step or at even distances.

    Args:
        config: checked.
        model: for the parameter groups; not changed.
        plan: the run's lengths.
    """
    scratch = build.optimizer(config, model)
    schedule = build.make_schedule(config, scratch, plan)
    inner = schedule.schedule if isinstance(schedule, Warmup) else schedule
    if type(inner).observe is not Schedule.observe:
        rate = config.optim.get("lr")
        warmup = schedule.warmup_steps if isinstance(schedule, Warmup) else 0
        return Drawn([], {}, f"{type(inner).__name__} follows from {config.monitor}, and cannot be drawn before: it "
                     f"begins at {rate:g}" + f", after a linear warmup of {counted(warmup, 'step')}" * (warmup > 0)
                     if rate is not None else f"{type(inner).__name__} follows from {config.monitor}")  # fmt: skip
    stride = math.ceil(plan.num_steps / NUM_DRAWN)
    steps = list(range(0, plan.num_steps, stride))
    rates: list[list[float]] = []
    momenta: list[list[float]] = []
    with warnings.catch_warnings():
        # torch's schedulers expect that the optimizer is stepped, too
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        for step in steps:
            schedule.apply(scratch, step)
            rates.append([float(group["lr"]) for group in scratch.param_groups])
            momenta.append([_momentum(group) for group in scratch.param_groups])
    curves = _named("learning rate", rates)
    if any(before != after for before, after in itertools.pairwise(momenta)):
        curves |= _named("momentum", momenta)
    return Drawn(steps, curves)


def _momentum(group: dict[str, Any]) -> float:
    """SGD's momentum, or Adam's first beta, which torch's OneCycleLR and CyclicLR move in its place."""
    return float(group["betas"][0] if "betas" in group else group.get("momentum", 0.0))


def _named(name: str, rows: list[list[float]]) -> dict[str, list[float]]:
    """A curve for each parameter group that differs from those before it."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    different = [(i, column) for i, column in enumerate(columns) if column not in columns[:i]]
    return {name if len(different) == 1 else f"{name} of group {i}": column for i, column in different}


# ----------------------------------------------------------------------------------------------------- speed


def device_lines(parts: Splits, first: Batch, batch_size: int) -> list[str]:
    """Each device, how fast it multiplies matrices, and how fast data gets there."""
    part = parts.train
    if isinstance(part, Examples):
        some = part[slice(0, batch_size)]
        batch = (some.inputs, some.targets)
    else:
        batch = (first.inputs[:batch_size], first.targets[:batch_size])
    lines = []
    for place, device in enumerate(speed.devices()):
        lines.append(f"{'' if place else 'devices':<7} {speed.describe(device)}")
        products = [f"{size}x{size} {speed.matmul_gflops(device, size):,.0f}" for size in speed.MATRIX_SIZES]
        lines.append(f"          float32 matrix products, GFLOP/s: {', '.join(products)}")
        if device.type == "cpu":
            lines.append("          data needs no move: it is there")
            continue
        moved = f"moves a batch of {len(batch[1])} in {_duration(speed.transfer_sec(batch, device))}"
        if isinstance(part, Examples):
            whole = (part.inputs, part.targets)
            moved += (
                f", the training data at once in {_duration(speed.transfer_sec(whole, device, most=3))}"
                if speed.fits(part, device)
                else "; the training data is too large to be held there"
            )
        lines.append(f"          {moved}")
    return lines


def step_lines(
    config: Config, plan: Plan, batches: TrainBatches, where: torch.device, targets: Normalizer | None
) -> list[str]:
    """How long a training step takes, measured on a model that is thrown away, and what follows for the run."""
    learner = build.learner(config, _first_model(config), plan, where, targets)
    with seeding.preserved():
        try:
            seconds, count = speed.step_sec(learner, batches, plan.num_steps)
        except DivergedError as error:
            return [f"speed   not measured: the run would stop at {error}"]
    name = f"{where}, {counted(torch.get_num_threads(), 'thread')}" if where.type == "cpu" else str(where)
    moved = "once, before the first step" if isinstance(batches.part, Examples) else "with every batch"
    return [
        f"speed   {_duration(seconds)} a training step on {name} (median of {count}), "
        f"{batches.batch_size / seconds:,.0f} examples a second",
        f"          {counted(plan.num_steps, 'step')} take {_duration(seconds * plan.num_steps)}; evaluations and start"
        " come on top",
        f"          a GPU pays where it saves more of a step than moving data costs; here data moves {moved}",
    ]


def _duration(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 100 else str(timedelta(seconds=round(seconds)))


# ------------------------------------------------------------------------------------------------- gradients


def _first_model(config: Config) -> nn.Module:
    """The model as a run begins with it: with the weights that it is given, and frozen where it is to be."""
    model = build.model(config)
    if (weights := build.weights(config, model, None)) is not None:
        transfer.load(weights[1], model)
    for name in transfer.frozen(config.trainer.freeze, model):
        model.get_parameter(name).requires_grad_(False)
    return model


def _check_gradients(config: Config, first: Batch) -> RunError | None:
    """Print a table of all parameters; what to say if a gradient is wrong."""
    some = Batch(first.inputs[:NUM_GRADIENT_EXAMPLES], first.targets[:NUM_GRADIENT_EXAMPLES])
    _print(f"gradients of the first weights, autograd against central differences in float64, of {len(some.targets)} "
           f"examples, at up to {gradients.ENTRIES} entries of each parameter",
           f"          {'parameter':<40} {'entries':>7} {'at kinks':>8} {'largest relative error':>22}")  # fmt: skip
    found = []
    for row in gradients.compare(_first_model(config), build.loss(config), some, config.seed):
        found.append(row)
        told = "WRONG" if row.num_wrong else "ok" if row.num_kinks < row.num_entries else "nothing to compare"
        told += ", not used by the loss" * (not row.is_used)
        _print(f"          {row.name:<40} {row.num_entries:>7} {row.num_kinks:>8} {row.largest_error:>22.1e}  {told}")
    wrong = [row for row in found if row.num_wrong]
    if not wrong:
        return None
    worst = wrong[-1]  # a fault spoils the gradients of all that runs before it: the last is the nearest to it
    others = f", and so are those of {counted(len(wrong) - 1, 'parameter')} before it" * (len(wrong) > 1)
    cause = (
        "it is detached from the loss: .detach(), .data, .item() or no_grad on the way"
        if not worst.is_used
        else "the likely cause is a torch.autograd.Function, in its layer or after it, whose backward is not the "
        "derivative of its forward, or something held constant on the way (a straight-through estimator and "
        "spectral_norm are so on purpose)"
    )
    return RunError(
        f"the gradient of '{worst.name}' is wrong at {worst.num_wrong} of {worst.num_entries} entries, with a relative "
        f"error of up to {worst.largest_error:.2g}{others}\n  {cause}"
    )
