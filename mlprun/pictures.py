"""Pictures of what a model has learnt, for `logging.pictures`.

A picture is a function of a learner and the splits that returns a matplotlib `Figure`, or pixels: uint8 (H, W, 3).
It is called at the start of a run and after each evaluation, and must leave both as they are; a function of the
user's own, `my_module.my_picture`, is called in the same way. Those here look at the validation split, never at the
test split. One that has nothing to show for this model or data raises ConfigError.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn

from mlprun.data.batches import EvalBatches, lengths
from mlprun.data.source import Examples
from mlprun.data.splits import Normalizer, Part, Splits, size
from mlprun.data.tokens import SPECIAL, Tokenizer, is_ngram
from mlprun.errors import ConfigError
from mlprun.metric_names import BY_TOKEN
from mlprun.training.learner import Learner
from mlprun.training.metrics import predicted_classes

Pixels = np.ndarray[Any, Any]

DOTS_PER_INCH = 100
MAX_POINTS = 2000  # more would hide each other
MAX_EXAMPLES = 4096  # of the validation split, for what is counted or sorted
MAX_FILTERS = 64
MAX_MAPS, MAX_LAYERS = 8, 5
MAX_OUTPUTS = 8
MAX_LENGTH, MAX_HEADS, MAX_BLOCKS = 20, 6, 4  # of attention: tokens, and tiles across and down
MAX_TOKENS, MAX_LABELS = 300, 60  # of embeddings: points, and those that are named
MAX_LINES, LINES_OF_A_TEXT, LINE = 38, 4, 96  # of misclassified texts: in all, of each, characters of one
LAZY_EXAMPLES = 256  # that are read anew for each picture, where data is not held in memory


def pixels(picture: Figure | Pixels, footer: str = "") -> Pixels:
    """What a picture function returned as uint8 (H, W, 3); a figure with `footer` in its lower right corner.

    Raises:
        ConfigError: it is no picture.
    """
    if isinstance(picture, Figure):
        picture.text(0.995, 0.003, footer, fontsize=7, color="0.5", ha="right", va="bottom")
        canvas: Any = FigureCanvasAgg(picture)
        picture.set_dpi(DOTS_PER_INCH)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3:
        return picture
    found = f"{picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
    raise ConfigError(
        "logging.pictures", ConfigError.MISSING, f"a picture function returned {found}",
        "return a matplotlib Figure, or uint8 pixels of shape (H, W, 3)",
    )  # fmt: skip


# -------------------------------------------------------------------------------------------------- in the plane


def fit(learner: Learner, splits: Splits) -> Figure:
    """What a regression on one feature has learnt: the points of train and val, and the fitted curve."""
    if learner.task != "regression" or learner.num_outputs != 1 or _shape(splits) != (1,) or _is_text(splits):
        _unfit("fit", "shows one value as a function of one feature", "data=line or data=parabola")
    figure, axes = _figure("fitted curve")
    train, val = _some(splits.train, MAX_POINTS), _some(splits.val, MAX_POINTS)
    axes.plot(train.inputs.flatten(), train.targets.flatten(), ".", color="0.7", label="train")
    axes.plot(val.inputs.flatten(), val.targets.flatten(), ".", color="tab:blue", label="val")
    low, high = float(train.inputs.min()), float(train.inputs.max())
    x = torch.linspace(low, high, 256)[:, None]
    # the curve may leave the points far behind, in the first steps or when it diverges
    targets = train.targets
    margin = max(0.25 * float(targets.max() - targets.min()), 1e-6)
    axes.set_ylim(float(targets.min()) - margin, float(targets.max()) + margin)
    axes.plot(x.flatten(), _outputs(learner, splits, x).flatten(), color="tab:red", linewidth=2, label="model")
    axes.set_xlabel("feature")
    axes.set_ylabel("target")
    axes.legend(loc="best", framealpha=0.9)
    return figure


def boundary(learner: Learner, splits: Splits) -> Figure:
    """The class that the model chooses in each place of the plane, for two features; wrong points are ringed."""
    if learner.task != "classification" or _shape(splits) != (2,) or _is_text(splits):
        _unfit("boundary", "shows classes as a function of two features", "data=moons, xor, spirals, blobs or circles")
    figure, axes = _figure("decision boundary", width=5.4)
    train, val = _some(splits.train, MAX_POINTS), _some(splits.val, MAX_POINTS)
    both = torch.cat([train.inputs, val.inputs])
    low, high = both.amin(0), both.amax(0)
    border = 0.1 * (high - low).clamp(min=1e-6)
    xs, ys = (torch.linspace(float(a), float(b), 200) for a, b in zip(low - border, high + border, strict=True))
    grid = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1)  # (ys, xs, 2)
    outputs = _outputs(learner, splits, grid.reshape(-1, 2))
    chosen = predicted_classes(outputs, learner.loss.threshold)
    num_classes = max(learner.num_outputs, 2)
    colours = _colours(num_classes)
    shaded = 1 - 0.35 * (1 - colours[chosen.numpy()])  # pale, so that the points stand out
    extent = (float(xs[0]), float(xs[-1]), float(ys[0]), float(ys[-1]))
    axes.imshow(
        shaded.reshape(len(ys), len(xs), 3), extent=extent, origin="lower", aspect="auto", interpolation="nearest"
    )
    for one in range(num_classes):  # by class: of their numbers, a contour between 0 and 2 would be two
        inside = (chosen == one).reshape(len(ys), len(xs)).float()
        if 0 < float(inside.mean()) < 1:
            axes.contour(xs, ys, inside, levels=[0.5], colors="black", linewidths=0.6)
    for part, area, edge in ((train, 7, "none"), (val, 30, "white")):
        where = part.inputs.numpy()
        axes.scatter(where[:, 0], where[:, 1], s=area, c=colours[part.targets.numpy()], edgecolors=edge, linewidths=0.6)
    guess = predicted_classes(_outputs(learner, splits, val.inputs), learner.loss.threshold)
    wrong = val.inputs[guess != val.targets].numpy()
    axes.scatter(wrong[:, 0], wrong[:, 1], s=70, facecolors="none", edgecolors="black", linewidths=1.2)
    axes.set_xlabel("feature 0")
    axes.set_ylabel("feature 1")
    if num_classes <= 10:
        for one in range(num_classes):
            axes.scatter([], [], s=22, c=[colours[one]], label=_class_name(splits, one))
        axes.legend(title="class", fontsize=8, loc="upper right", framealpha=0.9)
    axes.set_title(f"large points: val, {len(wrong)} of {len(val.targets)} wrong (ringed)", fontsize=10)
    return figure


def predictions(learner: Learner, splits: Splits) -> Figure:
    """Predicted against true values of a regression on the validation split; a perfect model is on the diagonal."""
    if learner.task != "regression":
        _unfit("predictions", "compares predicted with true values", "a regression, such as data=diabetes")
    val = _some(splits.val, MAX_POINTS)
    outputs = _outputs(learner, splits, val.inputs)
    targets = val.targets.reshape(len(outputs), -1)
    figure, axes = _figure(f"predictions on val, {len(targets)} examples", width=5.0)
    for column in range(min(targets.shape[1], MAX_OUTPUTS)):
        label = f"output {column}" if targets.shape[1] > 1 else None
        axes.plot(targets[:, column], outputs[:, column], ".", label=label)
    ends = [float(targets.min()), float(targets.max())]
    axes.plot(ends, ends, color="0.4", linewidth=1)
    if targets.shape[1] > 1:
        axes.legend(loc="best", fontsize=8)
    axes.set_xlabel("true value")
    axes.set_ylabel("predicted value")
    return figure


# --------------------------------------------------------------------------------------------------- of a model


def filters(learner: Learner, splits: Splits) -> Figure:
    """The weights of the first layer as pictures: what each unit or channel looks for.

    Red is positive, blue negative, on one scale; filters of a convolution over three channels are shown in their
    colours. At most `MAX_FILTERS`, the first.
    """
    shape = _shape(splits)
    layer = next((m for m in learner.model.modules() if isinstance(m, nn.Linear | nn.Conv2d)), None)
    if layer is None or len(shape) != 3:
        _unfit("filters", "shows the first linear or convolutional layer over images", "images, such as data=digits")
    weight = layer.weight.detach().float().cpu()
    if isinstance(layer, nn.Linear):
        if weight.shape[1] != np.prod(shape):
            _unfit("filters", "shows a first linear layer that sees the whole image", "model=mlp or model=cnn")
        weight = weight.reshape(-1, *shape)
    shown = weight[:MAX_FILTERS]
    limit = float(shown.abs().max()) or 1.0
    if shown.shape[1] == 3:
        tiles: Sequence[Any] = [(0.5 + 0.5 * one / limit).permute(1, 2, 0).numpy() for one in shown]
    else:
        tiles = [one.mean(0).numpy() for one in shown]
    name = next(name for name, module in learner.model.named_modules() if module is layer)
    title = f"weights of {name}" + (f", {len(shown)} of {len(weight)}" if len(shown) < len(weight) else "")
    is_output = learner.task == "classification" and len(weight) == learner.num_outputs and isinstance(layer, nn.Linear)
    return _tiles(
        title + f"; red {limit:.2g}, blue -{limit:.2g}" * (shown.shape[1] != 3),
        tiles,
        [_class_name(splits, i) for i in range(len(shown))] if is_output else (),
        cmap="RdBu_r", vmin=-limit, vmax=limit,
    )  # fmt: skip


def feature_maps(learner: Learner, splits: Splits) -> Figure:
    """What the convolutions make of the first image of the validation split: a row a layer, a tile a channel."""
    layers = {name: m for name, m in learner.model.named_modules() if isinstance(m, nn.Conv2d)}
    if not layers or len(_shape(splits)) != 3:
        _unfit("feature_maps", "shows what convolutions give", "model=cnn")
    image = _some(splits.val, 1)
    maps: dict[str, Tensor] = {}
    hooks = []
    for name, layer in layers.items():

        def keep(_: nn.Module, __: object, output: Tensor, name: str = name) -> None:
            maps.setdefault(name, output.detach().float().cpu())

        hooks.append(layer.register_forward_hook(keep))
    try:
        _outputs(learner, splits, image.inputs)
    finally:
        for hook in hooks:
            hook.remove()
    names = [list(maps)[i] for i in _evenly(len(maps), MAX_LAYERS)]
    figure, axes = _sheet("channels of the convolutions", MAX_MAPS + 1, len(names), 1.0, 1.2)
    _put(axes, _displayable(image.inputs[0]), 0.2, 0, _class_name(splits, int(image.targets.flatten()[0])), cmap="gray")
    for row, name in enumerate(names):
        count = maps[name].shape[1]
        shown = f"{name}, {MAX_MAPS} of {count}" if count > MAX_MAPS else name
        axes.text(1.04, 1.2 * row + 0.21, shown, fontsize=8, ha="left", va="bottom")
        for column, one in enumerate(maps[name][0, :MAX_MAPS], start=1):
            _put(axes, one.numpy(), 1.2 * row + 0.2, column, cmap="viridis")
    return figure


# --------------------------------------------------------------------------------------------------- of examples


def misclassified(learner: Learner, splits: Splits) -> Figure:
    """The images or texts of the validation split that the model gets wrong, the most certain mistakes first."""
    is_text = _is_text(splits)
    if learner.task in BY_TOKEN:
        problem = "shows examples with their classes, and here each token of an example has one"
        _unfit("misclassified", problem, "data.task=classification, such as data=imdb")
    if learner.task != "classification" or (len(_shape(splits)) != 3 and not is_text):
        _unfit("misclassified", "shows images or texts with their classes", "such data, as data=digits or data=imdb")
    val = _some(splits.val, MAX_EXAMPLES)
    outputs = _outputs(learner, splits, val.inputs)
    guess = predicted_classes(outputs, learner.loss.threshold)
    certainty = outputs.amax(1) if outputs.shape[1] > 1 else (outputs - learner.loss.threshold).abs().flatten()
    if outputs.shape[1] > 1:
        certainty = certainty - outputs.gather(1, val.targets[:, None]).flatten()  # margin over the true class
    wrong = (guess != val.targets).nonzero().flatten()
    wrong = wrong[certainty[wrong].argsort(descending=True)]
    chances = learner.loss.probabilities(outputs) if is_text else None
    if chances is not None:  # the captions say it so; what is rounded to 1 stays in the order of the margins
        wrong = wrong[chances[wrong, guess[wrong]].argsort(descending=True, stable=True)]
    worst = wrong[:25]
    captions = [f"{_class_name(splits, int(guess[i]))}, is {_class_name(splits, int(val.targets[i]))}" for i in worst]
    what = "texts" if is_text else "images"
    some = f"{len(val.targets)} val {what}" if size(splits.val) == len(val.targets) else f"{len(val.targets)} of val"
    title = f"{len(wrong)} of {some} wrong"
    if is_text:
        if chances is not None:
            captions = [f"{100 * chances[i, guess[i]]:.1f} % {c}" for i, c in zip(worst, captions, strict=True)]
        texts = [_text(splits.tokenizer, val.inputs[i]) for i in worst]
        return _listed(title, len(wrong), captions, texts)
    title += f", the {len(worst)} surest" * (len(worst) < len(wrong))
    return _tiles(title, [_displayable(val.inputs[i]) for i in worst], captions, cmap="gray")


# ------------------------------------------------------------------------------------------------------ of text


def attention(learner: Learner, splits: Splits) -> Figure:
    """What each token of a text looks at: a row of tiles for each block, one for each head.

    A tile's rows are the tokens that look, its columns those that are looked at; a row sums to 1. Shown are the roots.
    Of the first `LAZY_EXAMPLES` texts of the validation split that have at most `MAX_LENGTH` tokens, else of the
    beginnings of all of them, it is the one with the most different tokens. Words are hidden in it where the run hides
    words.

    A model shows it that has `attention_weights`: (batch, length) token ids -> of each block (batch, heads, length,
    length) floats.
    """
    model: Any = learner.model
    if not callable(getattr(model, "attention_weights", None)):
        _unfit("attention", "shows what the heads of a transformer look at", "model=transformer")
    if not _is_text(splits):
        _unfit("attention", "shows which tokens look at which", "text, such as data=reviews")
    ids, length = _short_text(splits)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            found = [weights[0].float().cpu() for weights in model.attention_weights(ids[None].to(learner.device))]
    finally:
        if was_training:
            learner.train_mode()
    shown = _evenly(len(found), MAX_BLOCKS)
    heads = min(MAX_HEADS, found[0].shape[0])
    darkest = max(float(found[block][:heads].max()) for block in shown)
    title = f"how much a token (row) looks at others (columns): white 0, dark {darkest:.2g}"
    title += f"; the first {len(ids)} of {length} tokens" * (len(ids) < length)
    labels = [_label(splits.tokenizer, int(i)) for i in ids]

    side, gap, top = 1.9, 0.12, 0.55  # inches: of a tile, between tiles, for title and heads
    edge = 0.4 + 0.062 * max(map(len, labels))  # for labels
    width, height = edge + heads * (side + gap), top + len(shown) * (side + gap) + edge - 0.15
    figure = Figure(figsize=(width, height))
    figure.text(0.5, 1 - 0.17 / height, title, fontsize=9, ha="center", va="center")
    for row, block in enumerate(shown):
        for head in range(heads):
            left, bottom = edge + head * (side + gap), height - top - (row + 1) * side - row * gap
            axes: Any = figure.add_axes((left / width, bottom / height, side / width, side / height))
            roots = (
                found[block][head].sqrt().numpy()
            )  # else a causal model's first rows, 1 and 1/2, outshine all others
            axes.imshow(roots, cmap="Blues", vmin=0, vmax=math.sqrt(darkest), interpolation="nearest")
            of_all = f" of {found[block].shape[0]}" if head + 1 == heads < found[block].shape[0] else ""
            if row == 0:
                axes.set_title(f"head {head}{of_all}", fontsize=8, pad=3)
            ticks = range(len(labels))
            axes.set_xticks(ticks, labels if row == len(shown) - 1 else [], rotation=90, fontsize=6.5, parse_math=False)
            axes.set_yticks(ticks, labels if head == 0 else [], fontsize=6.5, parse_math=False)
            axes.tick_params(length=0, pad=2)
            if head == 0:
                middle = bottom + 0.5 * side
                figure.text(0.12 / width, middle / height, f"block {block}", fontsize=8, rotation=90, va="center")
    return figure


def embeddings(learner: Learner, splits: Splits) -> Figure:
    """The vectors of the most frequent tokens in the plane in which they differ most: principal components 1 and 2.

    At most `MAX_TOKENS` words, characters or byte pairs of the training split, without special tokens, punctuation
    and n-grams. Of those the ones farthest from the middle are named, as far as there is room. In a classification of
    two classes the colour tells what the model makes of a text that is this one token. The sign of a component means
    nothing; it is chosen so that class 1 is on the right, else by where the far points are, so that it seldom turns.
    """
    if not _is_text(splits):
        _unfit("embeddings", "shows the vectors of tokens", "text, such as data=reviews")
    known = 0 if splits.tokenizer is None else len(splits.tokenizer)
    tables = [m for m in learner.model.modules() if isinstance(m, nn.Embedding) and m.num_embeddings >= known]
    if len(tables) != 1:
        problem = f"shows the vectors of tokens, and the model has {len(tables) or 'no'} nn.Embedding for them"
        _unfit("embeddings", problem, "models with one, such as model=embedding_average")
    ids = _frequent(splits)
    ids = ids[ids < tables[0].num_embeddings]
    if len(ids) < 3:
        _unfit("embeddings", "shows at least three tokens, and the training texts have fewer", "more text")
    vectors = tables[0].weight.detach().double().cpu()[ids]
    centred = vectors - vectors.mean(0)
    left, sizes, _ = torch.linalg.svd(centred, full_matrices=False)
    places = left[:, :2] * sizes[:2]  # (tokens, 2), or (tokens, 1) of vectors of one value
    share = sizes.square() / sizes.square().sum().clamp(min=1e-300)
    if places.shape[1] < 2:
        places, share = torch.cat([places, torch.zeros(len(ids), 1)], dim=1), torch.tensor([1.0, 0.0])
    scores = _scores(learner, splits, ids)
    rightness = places.pow(3)
    if scores is not None:
        rightness[:, 0] = places[:, 0] * (scores - scores.mean())
    places = torch.where(rightness.sum(0) < 0, -places, places)

    figure, axes = _figure(f"embeddings of the {len(ids)} most frequent tokens" if known else "embeddings")
    xs, ys = places.T.numpy()
    if scores is None:
        axes.scatter(xs, ys, s=9, color="tab:blue")
    else:
        limit = float(scores.abs().max()) or 1.0
        points = axes.scatter(
            xs, ys, s=14, c=scores.numpy(), cmap="coolwarm", vmin=-limit, vmax=limit, edgecolors="0.4", linewidths=0.3
        )
        bar = figure.colorbar(points, ax=axes, fraction=0.04, pad=0.01)
        names = [_class_name(splits, label) for label in (0, 1)]
        bar.set_label(f"of the token alone: blue {names[0]}, red {names[1]}", fontsize=8, parse_math=False)
        bar.ax.tick_params(labelsize=7)
    axes.margins(x=0.04)
    axes.set_xlim(right=float(axes.get_xlim()[1]) + 0.08 * float(np.ptp(xs)))  # room for the last name
    for token in _apart(places, labels := [_label(splits.tokenizer, int(i)) for i in ids]):
        axes.annotate(
            labels[token], (xs[token], ys[token]), (3, 0), textcoords="offset points", fontsize=7, va="center",
            parse_math=False,
        )  # fmt: skip
    for axis, name, of_it in ((axes.xaxis, "first", share[0]), (axes.yaxis, "second", share[1])):
        axis.set_label_text(f"{name} principal component, {100 * of_it:.0f} % of the variance", fontsize=9)
    axes.tick_params(labelsize=8)
    return figure


# --------------------------------------------------------------------------------------------------- their parts


class _Raw(NamedTuple):
    inputs: Tensor  # (N, *input_shape), as stored: not scaled
    targets: Tensor


def _some(part: Part, count: int) -> _Raw:
    """At most `count` examples of a split, on the CPU: the first of them."""
    if isinstance(part, Examples):
        some = part[slice(0, count)]
        return _Raw(some.inputs.cpu(), some.targets.cpu())
    # As an evaluation reads them: what an example draws at random is a function of its index.
    identity = Normalizer(torch.zeros(()), torch.ones(()))
    known = size(part)
    indices = None if known is None else range(min(count, known))
    inputs, targets, _ = next(iter(EvalBatches(part, count, identity, torch.device("cpu"), indices=indices)))
    return _Raw(inputs[:count], targets[:count])


def _shape(splits: Splits) -> tuple[int, ...]:
    return tuple(_some(splits.val, 1).inputs.shape[1:])


def _outputs(learner: Learner, splits: Splits, inputs: Tensor) -> Tensor:
    """The model's outputs for unscaled inputs, float32 on the CPU."""
    part = Examples(inputs, torch.zeros(len(inputs)))
    batches = EvalBatches(part, len(inputs), splits.normalizer, learner.device, padding=splits.padding)
    return torch.cat([learner.outputs(batch.inputs) for batch in batches]).float().cpu()


def _is_text(splits: Splits) -> bool:
    """Whether an example is a row of token ids."""
    inputs = _some(splits.val, 1).inputs
    return inputs.dtype in (torch.int32, torch.int64) and inputs.dim() == 2


def _short_text(splits: Splits) -> tuple[Tensor, int]:
    """Ids of a text of the validation split or of its beginning, int64 (length,), and how many it has in all."""
    identity = Normalizer(torch.zeros(()), torch.ones(()))
    # As an evaluation has them: the same words are hidden.
    batches = EvalBatches(splits.val, LAZY_EXAMPLES, identity, torch.device("cpu"), perturb=splits.perturb)
    ids = next(iter(batches)).inputs[:LAZY_EXAMPLES].long()
    known = torch.full((len(ids),), ids.shape[1]) if splits.padding is None else lengths(ids, splits.padding)
    ordered = ids[:, :MAX_LENGTH].sort(dim=1).values
    num_different = (ordered.diff(dim=1) != 0).sum(1) + 1
    fits = known <= MAX_LENGTH
    chosen = int(torch.where(fits | ~fits.any(), num_different, 0).argmax())
    length = int(known[chosen])
    return ids[chosen, : min(length, MAX_LENGTH)], length


def _frequent(splits: Splits) -> Tensor:
    """The ids of the most frequent tokens that are shown, int64, the most frequent first."""
    part, tokenizer = splits.train, splits.tokenizer
    ids = _some(part, MAX_EXAMPLES if isinstance(part, Examples) else LAZY_EXAMPLES).inputs.flatten().long()
    counts = ids.bincount()
    counts[: len(SPECIAL) if tokenizer is not None else 1] = 0
    order = counts.argsort(descending=True, stable=True)[: int((counts > 0).sum())]
    if tokenizer is not None and tokenizer.kind != "characters":
        order = torch.tensor([i for i in order.tolist() if _is_word(tokenizer, i)], dtype=torch.int64)
    return order[:MAX_TOKENS]


def _is_word(tokenizer: Tokenizer, i: int) -> bool:
    if tokenizer.ngrams > 1 and is_ngram(tokenizer.tokens[i]):
        return False
    return any(map(str.isalnum, _label(tokenizer, i)))


def _scores(learner: Learner, splits: Splits, ids: Tensor) -> Tensor | None:
    """By how much class 1 is ahead of class 0 in a text of one token, float64 of the shape of `ids`, if there are two.

    Exact where the model is linear in its words; of others it is what they make of so short a text.
    """
    if learner.task != "classification" or learner.num_outputs > 2:
        return None
    outputs = _outputs(learner, splits, ids[:, None]).double()
    return outputs[:, 1] - outputs[:, 0] if outputs.shape[1] == 2 else outputs[:, 0] - learner.loss.threshold


def _apart(places: Tensor, labels: Sequence[str]) -> list[int]:
    """Points that can be named without covering each other's names, those farthest from the middle first."""
    extent = (places.amax(0) - places.amin(0)).clamp(min=1e-12)
    at = (places / extent * torch.tensor([430.0, 370.0])).tolist()  # about their pixels
    order = (places / extent).norm(dim=1).argsort(descending=True, stable=True).tolist()
    chosen: list[int] = []
    for i in order:
        (x, y), width = at[i], 6 * len(labels[i]) + 8
        if len(chosen) < MAX_LABELS and all(
            abs(y - at[j][1]) > 11 or x > at[j][0] + 6 * len(labels[j]) + 8 or at[j][0] > x + width for j in chosen
        ):
            chosen.append(i)
    return chosen


def _label(tokenizer: Tokenizer | None, i: int) -> str:
    """A token to be read by itself: white space is shown as signs."""
    if tokenizer is None:
        return str(i)
    if i < len(SPECIAL):
        return SPECIAL[i]
    text = tokenizer.decode([i]) if tokenizer.kind == "bpe" else tokenizer.tokens[i]
    for white, sign in ((" ", "␣"), ("\n", "↵"), ("\t", "→")):
        text = text.replace(white, sign)
    return text if len(text) <= 14 else text[:13] + "…"


def _text(tokenizer: Tokenizer | None, ids: Tensor) -> str:
    return " ".join(str(i) for i in ids.tolist() if i) if tokenizer is None else tokenizer.decode(ids.tolist())


def _listed(title: str, count: int, captions: Sequence[str], texts: Sequence[str]) -> Figure:
    """Texts below each other, each below its caption; as many of `count` as there is room for."""
    rows: list[tuple[str, bool]] = []
    num_shown = 0
    for caption, text in zip(captions, texts, strict=True):
        lines = textwrap.wrap(text, LINE, max_lines=LINES_OF_A_TEXT, placeholder=" …") or [""]
        if len(rows) + 2 + len(lines) > MAX_LINES:
            break
        rows += [(caption, True), *((line, False) for line in lines), ("", False)]
        num_shown += 1
    figure = Figure(figsize=(6.8, 0.45 + 0.135 * MAX_LINES))
    axes: Any = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.axis("off")
    axes.set_xlim(0, 1)
    axes.set_ylim(MAX_LINES, -3)
    axes.text(0.5, -1.6, title + f", the {num_shown} surest" * (num_shown < count), fontsize=10, ha="center")
    for row, (line, is_caption) in enumerate(rows):
        colour, weight = ("tab:red", "bold") if is_caption else ("black", "normal")
        axes.text(0.02, row, line, fontsize=8, color=colour, weight=weight, va="center", parse_math=False)
    return figure


def _evenly(count: int, most: int) -> list[int]:
    """The indices of `count` things, or of `most` of them evenly over their number."""
    return list(range(count)) if count <= most else [round(i * (count - 1) / (most - 1)) for i in range(most)]


def _figure(title: str, width: float = 6.4) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, 4.8), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10)
    return figure, axes


def _tiles(title: str, images: Sequence[Any], captions: Sequence[str] = (), **how: Any) -> Figure:
    """Pictures in a square, each below its caption; in one pair of axes, for a pair for each takes seconds."""
    columns = max(1, math.ceil(math.sqrt(len(images))))
    side, caption = (1.25, 0.18) if captions else (6.0 / columns, 0.0)
    figure, axes = _sheet(title, columns, math.ceil(len(images) / columns), side, 1 + caption)
    for i, image in enumerate(images):
        row, column = divmod(i, columns)
        _put(axes, image, row * (1 + caption) + caption, column, captions[i] if captions else "", **how)
    return figure


def _sheet(title: str, columns: int, rows: int, side: float, height: float) -> tuple[Figure, Any]:
    """A figure whose axes have a unit a tile, `side` inches: `columns` of them, and rows that are `height` high."""
    top = 0.3  # inches for the title
    width, down = max(3.2, columns * side), max(1.0, rows * height * side) + top
    figure = Figure(figsize=(width, down))
    figure.text(0.5, 1 - 0.5 * top / down, title, fontsize=10, ha="center", va="center")
    axes: Any = figure.add_axes((0.0, 0.0, columns * side / width, 1 - top / down))
    axes.axis("off")
    axes.set_xlim(0, columns)
    axes.set_ylim(max(rows * height, 1.0 / side), 0)
    axes.set_autoscale_on(False)
    return figure, axes


def _put(axes: Any, image: Pixels, row: float, column: float, caption: str = "", **how: Any) -> None:
    """An image into the unit square below and to the right of (row, column), its caption above it."""
    gap = 0.04
    extent = (column + gap, column + 1 - gap, row + 1 - gap, row + gap)
    axes.imshow(image, extent=extent, aspect="auto", interpolation="nearest", **how)
    axes.text(column + 0.5, row + 0.01, caption, fontsize=8, ha="center", va="bottom")


def _displayable(image: Tensor) -> Pixels:
    """(C, H, W) of any range as (H, W) or (H, W, 3) in [0, 1]; bytes keep their brightness."""
    values = image.float()
    if image.dtype == torch.uint8:
        values = values / 255
    else:
        values = (values - values.min()) / (values.max() - values.min()).clamp(min=1e-12)
    return (values.permute(1, 2, 0) if len(values) == 3 else values.mean(0)).numpy()


def _class_name(splits: Splits, label: int) -> str:
    return splits.class_names[label][:14] if label < len(splits.class_names) else str(label)


def _colours(count: int) -> Pixels:
    """(count, 3) RGB in [0, 1], easily told apart up to ten."""
    from matplotlib import colormaps

    return np.asarray(colormaps["tab10"](np.arange(count) % 10))[:, :3]


def _unfit(name: str, problem: str, remedy: str) -> NoReturn:
    raise ConfigError("logging.pictures", name, problem, f"it works with {remedy}")
