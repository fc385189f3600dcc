"""Synthetic film reviews from a small grammar."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from mlprun import randomness
from mlprun.data.source import Examples, Source
from mlprun.data.text.files import refuse_ngrams, tokenizer_of
from mlprun.data.text.inputs import TokenIds
from mlprun.data.text.masking import mask_tokens
from mlprun.data.text.tokenizer import encode_all
from mlprun.errors import ConfigError

POSITIVE, NEGATIVE = True, False


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


CONCESSIONS = 0.08  # share of sentences with two opposite clauses, of which the main clause decides
NEAR, FAR = 0.2, 0.05  # shares of clauses with a negation next to the adjective, or words away from it

ASPECTS = _words(
    "plot story acting music ending dialogue script camerawork editing lighting pacing direction humour soundtrack "
    "casting scenery opening sequel performance screenplay cinematography choreography narration animation finale "
    "production make-up costumes stunts songs effects jokes characters twists fights"
)
PLURAL = frozenset(_words("costumes stunts songs effects jokes characters twists fights"))
WHOLES = _words("film movie picture comedy drama thriller western musical romance documentary remake debut")
WHOSE = (
    *("the director's", "the writer's", "the star's", "the studio's", "the lead's", "her", "his", "their"),
    *("this film's", "that movie's"),
)
ADJECTIVES = {
    POSITIVE: _words(
        "good great wonderful brilliant superb excellent charming moving clever funny gripping beautiful delightful "
        "original thrilling touching masterful subtle stunning convincing fresh elegant witty memorable powerful "
        "inspired lovely remarkable dazzling tender splendid warm rich vivid smart"
    ),
    NEGATIVE: _words(
        "bad awful terrible dull boring clumsy weak predictable tedious silly shallow lazy ugly painful forgettable "
        "dreadful messy flat pointless wooden stale bland annoying pretentious confusing sloppy hollow grim cheap "
        "ridiculous tiresome lifeless muddled noisy poor"
    ),
}
VERBS = {
    POSITIVE: _words("loved enjoyed admired adored liked praised treasured"),
    NEGATIVE: _words("hated disliked despised regretted loathed resented"),
}
WATCHERS = (
    *("my sister", "my father", "the critics", "the audience", "everyone", "most of us", "the children", "we", "i"),
    *("my friends", "the people behind me", "the whole row"),
)
DEGREES = ("", "", "", "really ", "truly ", "very ", "quite ", "rather ", "simply ", "utterly ", "just ")
BEGINNINGS = (
    *("", "", "", "", "", "", "", "in the end , ", "frankly , ", "to my surprise , ", "on the second viewing , "),
    *("all in all , ", "for two long hours , ", "from the first minute , ", "as far as i remember , "),
)
ENDINGS = (
    *("", "", "", "", "", "", ""),
    *("last night", "at the festival", "in the cinema", "from beginning to end", "this time"),
    *("on the small screen", "as one hears", "in the second half", "for once"),
)


def reviews(
    num_examples: int, text: Mapping[str, Any], test_fraction: float = 0.2, seed: int = 0, masked: bool = False
) -> Source:
    """Reviews of one sentence, alternately negative (0) and positive (1): `nobody could call the acting dull .`.

    Word order matters: a negation may reverse an adjective, next to it (`not good`) or words away, and of two opposite
    clauses the main one decides (`although the music was awful , i loved the film .`). scikit-learn's logistic
    regression on 8,000 reviews classifies 76 % of 2,000 others from words, 87 % from words and pairs, 88 % with
    triples; 100 % is possible.

    Args:
        num_examples: with one seed, a larger number only adds reviews.
        text: `data.text`.
        test_fraction: share in (0, 1) of the test split, which the vocabulary does not use.
        masked: predict masked words, masked anew in every batch (`mask_tokens`), instead of classes.

    Returns:
        inputs int32 (N, max_length), targets int64 (N,); with `masked` targets are the inputs.
    """
    if num_examples < 10:
        raise ConfigError("num_examples", num_examples, "must be a whole number, 10 or more")
    sentences, targets = sentences_and_targets(num_examples, seed)
    if masked:
        refuse_ngrams(text)
    num_train = num_examples - max(2, round(test_fraction * num_examples))
    tokenizer = tokenizer_of(sentences[:num_train], text)
    ids = encode_all(sentences, tokenizer, text["max_length"])
    labels = ids if masked else torch.tensor(targets)
    return Source(
        train=Examples(ids[:num_train], labels[:num_train]),
        test=Examples(ids[num_train:], labels[num_train:]),
        class_names=() if masked else ("neg", "pos"),
        perturb=partial(mask_tokens, vocab_size=len(tokenizer)) if masked else None,
        inputs=TokenIds(tokenizer),
    )


def sentences_and_targets(count: int, seed: int) -> tuple[list[str], list[int]]:
    """The reviews as text, and their classes 0, 1, 0, 1, …."""
    draw = random.Random(randomness.mix(seed, "reviews"))
    targets = [i % 2 for i in range(count)]
    return [_review(draw, bool(target)) for target in targets], targets


def _review(draw: random.Random, positive: bool) -> str:
    if draw.random() < CONCESSIONS:
        main, other = _clause(draw, positive), _clause(draw, not positive)
        sentence = draw.choice(
            (
                *(f"although {other} , {main}", f"even though {other} , {main}"),
                *(f"while it is true that {other} , {main}", f"{main} , although {other}"),
                *(f"{main} , even though {other}", f"{other} , but {main}", f"{other} , and yet {main}"),
            )
        )
    else:
        num_more = draw.choice((0, 0, 1, 1, 2))
        sentence = draw.choice((" and ", " , and ", " ; ")).join(_clause(draw, positive) for _ in range(1 + num_more))
    review = draw.choice(BEGINNINGS) + sentence + " " + draw.choice(ENDINGS)
    return f"{review.strip()} {draw.choice('..!')}"


def _clause(draw: random.Random, positive: bool) -> str:
    """`the plot was really good`, or a negation of the opposite, next to the adjective or words away from it."""
    kind = draw.random()
    adjective = draw.choice(ADJECTIVES[positive if kind >= FAR + NEAR else not positive])
    degree = "" if FAR <= kind < FAR + NEAR else draw.choice(DEGREES)
    subject, was = _subject(draw)
    whole = draw.choice(WHOLES)
    clauses: tuple[str, ...]
    if kind < FAR:
        clauses = (
            f"nobody could call {subject} {degree}{adjective}",
            f"it was not at all {_a(degree + adjective)} {whole}",
            f"it was anything but {_a(degree + adjective)} {whole}",
            f"i would not say that {subject} {was} {degree}{adjective}",
            f"{subject} {was} not for one moment {adjective}",
            f"{draw.choice(WATCHERS)} did not find {subject} {degree}{adjective}",
            f"{subject} {was} neither {adjective} nor {draw.choice(ADJECTIVES[not positive])}",
            # a double negation
            f"nobody could say that {subject} {was} not {draw.choice(ADJECTIVES[positive])}",
        )
    elif kind < FAR + NEAR:
        clauses = (
            f"{subject} {was} not {adjective}",
            f"{subject} {was} never {adjective}",
            f"there was nothing {adjective} about {subject}",
            f"{draw.choice(WATCHERS)} never {draw.choice(VERBS[not positive])} {subject}",
            f"it was hardly {_a(adjective)} {whole}",
            f"no {adjective} {whole} , this",
        )
    else:
        clauses = (
            *[f"{subject} {was} {degree}{adjective}"] * 2,
            f"it was {_a(degree + adjective)} {whole}",
            f"{draw.choice(WATCHERS)} {draw.choice(VERBS[positive])} {subject}",
            f"{draw.choice(WATCHERS)} found {subject} {degree}{adjective}",
            f"what {_a(adjective)} {whole} this was",
        )
    return draw.choice(clauses)


def _subject(draw: random.Random) -> tuple[str, str]:
    """`the plot`, `was`."""
    if draw.random() < 0.25:
        return f"the {draw.choice(WHOLES)}", "was"
    aspect = draw.choice(ASPECTS)
    whose = draw.choice(WHOSE) if draw.random() < 0.3 else "the"
    return f"{whose} {aspect}", "were" if aspect in PLURAL else "was"


def _a(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
