"""Pictures of text models: attention and embeddings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from mlprun.data.batches import EvalBatches
from mlprun.data.normalize import Normalizer
from mlprun.data.sequences import lengths
from mlprun.data.source import Examples
from mlprun.data.splits import Splits
from mlprun.data.text.inputs import TokenIds
from mlprun.data.text.tokenizer import SPECIAL, Tokenizer, is_ngram
from mlprun.formatting import truncate
from mlprun.pictures.base import (
    LAZY_EXAMPLES,
    MAX_EXAMPLES,
    class_name,
    first_examples,
    model_outputs,
    raise_unfit,
    token_ids,
)
from mlprun.pictures.figures import evenly_spaced, new_figure, plain_figure
from mlprun.pictures.labels import figure_text
from mlprun.tasks.classification import Classification
from mlprun.training.learner import Learner

MAX_LENGTH, MAX_HEADS, MAX_BLOCKS = 20, 6, 4  # of attention
MAX_TOKENS, MAX_LABELS = 300, 60  # of embeddings: points, and labels


def attention(learner: Learner, splits: Splits) -> Figure:
    """The attention weights of a text: a row of tiles per block, a tile per head.

    A tile's rows are queries, its columns keys; each row sums to 1, and its roots are shown. The text is the one with
    the most different tokens among the first `LAZY_EXAMPLES` of the validation split with at most `MAX_LENGTH` tokens,
    else among their beginnings. It is masked as in training.

    The model needs `attention_weights`: (batch, length) token ids -> for each block (batch, heads, length, length).
    """
    model: Any = learner.model
    if not callable(getattr(model, "attention_weights", None)):
        raise_unfit("attention", "shows what the heads of a transformer look at", "model=transformer")
    if (tokens := token_ids(splits)) is None:
        raise_unfit("attention", "shows which tokens look at which", "text, such as data=reviews")
    ids, length = _short_text(splits)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            weights = [block[0].float().cpu() for block in model.attention_weights(ids[None].to(learner.device))]
    finally:
        if was_training:
            learner.train_mode()
    shown = evenly_spaced(len(weights), MAX_BLOCKS)
    heads = min(MAX_HEADS, weights[0].shape[0])
    darkest = max(float(weights[block][:heads].max()) for block in shown)
    title = f"how much a token (row) looks at others (columns): white 0, dark {darkest:.2g}"
    title += f"; the first {len(ids)} of {length} tokens" * (len(ids) < length)
    labels = [figure_text(_token_label(tokens.tokenizer, int(i))) for i in ids]

    side, gap, top = 1.9, 0.12, 0.55  # inches: of a tile, between tiles, for title and heads
    edge = 0.4 + 0.062 * max(map(len, labels))  # for labels
    width, height = edge + heads * (side + gap), top + len(shown) * (side + gap) + edge - 0.15
    figure = plain_figure(width, height)
    figure.text(0.5, 1 - 0.17 / height, title, fontsize=9, ha="center", va="center")
    tiles = figure.subplots(
        len(shown), heads, sharex=True, sharey=True, squeeze=False,
        gridspec_kw={"left": edge / width, "right": 1 - gap / width, "wspace": gap / side, "hspace": gap / side,
                     "top": 1 - top / height, "bottom": (edge - 0.15 + gap) / height},
    )  # fmt: skip
    for (row, head), axes in np.ndenumerate(tiles):
        # Roots: otherwise a causal model's first rows, 1 and 1/2, dominate.
        roots = weights[shown[row]][head].sqrt().numpy()
        axes.imshow(roots, cmap="Blues", vmin=0, vmax=math.sqrt(darkest), interpolation="nearest")
        axes.tick_params(length=0, pad=2)
        if row == 0:
            of_all = f" of {len(weights[0])}" if head + 1 == heads < len(weights[0]) else ""
            axes.set_title(f"head {head}{of_all}", fontsize=8, pad=3)
        if head == 0:
            axes.set_yticks(range(len(labels)), labels, fontsize=6.5)
            axes.set_ylabel(f"block {shown[row]}", fontsize=8)
        if row == len(shown) - 1:
            axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=6.5)
    return figure


def embeddings(learner: Learner, splits: Splits) -> Figure:
    """The first two principal components of the vectors of the most frequent tokens.

    At most `MAX_TOKENS` tokens of the training split, without special tokens, punctuation and n-grams; those farthest
    from the mean are named where there is room. For two classes, the colour is the model's score of the token alone.
    The signs are chosen so that class 1 is on the right, else by the far points, so that they seldom flip.
    """
    if (tokens := token_ids(splits)) is None:
        raise_unfit("embeddings", "shows the vectors of tokens", "text, such as data=reviews")
    tokenizer = tokens.tokenizer
    known = 0 if tokenizer is None else len(tokenizer)
    tables = [m for m in learner.model.modules() if isinstance(m, nn.Embedding) and m.num_embeddings >= known]
    if len(tables) != 1:
        problem = f"shows the vectors of tokens, and the model has {len(tables) or 'no'} nn.Embedding for them"
        raise_unfit("embeddings", problem, "models with one, such as model=embedding_average")
    ids = _frequent(splits)
    ids = ids[ids < tables[0].num_embeddings]
    if len(ids) < 3:
        raise_unfit("embeddings", "shows at least three tokens, and the training texts have fewer", "more text")
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

    figure, axes = new_figure(f"embeddings of the {len(ids)} most frequent tokens" if known else "embeddings")
    xs, ys = places.T.numpy()
    if scores is None:
        axes.scatter(xs, ys, s=9, color="tab:blue")
    else:
        limit = float(scores.abs().max()) or 1.0
        colours: dict[str, Any] = {"c": scores.numpy(), "cmap": "coolwarm", "vmin": -limit, "vmax": limit}
        points = axes.scatter(xs, ys, s=14, edgecolors="0.4", linewidths=0.3, **colours)
        bar = figure.colorbar(points, ax=axes, fraction=0.04, pad=0.01)
        names = [figure_text(class_name(splits, label)) for label in (0, 1)]
        bar.set_label(f"of the token alone: blue {names[0]}, red {names[1]}", fontsize=8)
        bar.ax.tick_params(labelsize=7)
    axes.margins(x=0.04)
    axes.set_xlim(right=float(axes.get_xlim()[1]) + 0.08 * float(np.ptp(xs)))  # room for the last name
    for token in _apart(places, labels := [_token_label(tokenizer, int(i)) for i in ids]):
        axes.annotate(
            figure_text(labels[token]), (xs[token], ys[token]), (3, 0), textcoords="offset points", fontsize=7,
            va="center",
        )  # fmt: skip
    for axis, name, of_it in ((axes.xaxis, "first", share[0]), (axes.yaxis, "second", share[1])):
        axis.set_label_text(f"{name} principal component, {100 * of_it:.0f} % of the variance", fontsize=9)
    axes.tick_params(labelsize=8)
    return figure


def _short_text(splits: Splits) -> tuple[Tensor, int]:
    """Ids of a validation text or its beginning, int64 (length,), and its full length."""
    identity = Normalizer(torch.zeros(()), torch.ones(()))
    # As in an evaluation: the same words are masked.
    batches = EvalBatches(splits.val, LAZY_EXAMPLES, identity, torch.device("cpu"), perturb=splits.perturb)
    ids = next(iter(batches)).inputs[:LAZY_EXAMPLES].long()
    padding = splits.inputs.padding
    known = torch.full((len(ids),), ids.shape[1]) if padding is None else lengths(ids, padding)
    ordered = ids[:, :MAX_LENGTH].sort(dim=1).values
    num_different = (ordered.diff(dim=1) != 0).sum(1) + 1
    fits = known <= MAX_LENGTH
    chosen = int(torch.where(fits | ~fits.any(), num_different, 0).argmax())
    length = int(known[chosen])
    return ids[chosen, : min(length, MAX_LENGTH)], length


def _token_label(tokenizer: Tokenizer | None, i: int) -> str:
    if tokenizer is None:
        return str(i)
    if i < len(SPECIAL):
        return SPECIAL[i]
    text = tokenizer.decode([i]) if tokenizer.kind == "bpe" else tokenizer.tokens[i]
    for white, sign in ((" ", "␣"), ("\n", "↵"), ("\t", "→")):
        text = text.replace(white, sign)
    return truncate(text, 14)


def _frequent(splits: Splits) -> Tensor:
    """Ids of the most frequent tokens, int64, the most frequent first."""
    part = splits.train
    tokenizer = splits.inputs.tokenizer if isinstance(splits.inputs, TokenIds) else None
    ids = first_examples(part, MAX_EXAMPLES if isinstance(part, Examples) else LAZY_EXAMPLES).inputs.flatten().long()
    counts = ids.bincount()
    counts[: len(SPECIAL) if tokenizer is not None else 1] = 0
    order = counts.argsort(descending=True, stable=True)[: int((counts > 0).sum())]
    if tokenizer is not None and tokenizer.kind != "characters":
        order = torch.tensor([i for i in order.tolist() if _is_word(tokenizer, i)], dtype=torch.int64)
    return order[:MAX_TOKENS]


def _is_word(tokenizer: Tokenizer, i: int) -> bool:
    if tokenizer.ngrams > 1 and is_ngram(tokenizer.tokens[i]):
        return False
    return any(map(str.isalnum, _token_label(tokenizer, i)))


def _scores(learner: Learner, splits: Splits, ids: Tensor) -> Tensor | None:
    """Score of class 1 over class 0 for a text of one token, float64 of the shape of `ids`; None for other tasks."""
    task = learner.task
    if not isinstance(task, Classification) or task.num_outputs > 2:
        return None
    outputs = model_outputs(learner, splits, ids[:, None]).double()
    return outputs[:, 1] - outputs[:, 0] if outputs.shape[1] == 2 else outputs[:, 0] - task.threshold


def _apart(places: Tensor, labels: Sequence[str]) -> list[int]:
    """Points whose labels do not overlap, those farthest from the middle first."""
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
