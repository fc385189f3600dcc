"""Running text for language models and for masked words."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from mlprun.data.source import IGNORED, Examples, Source
from mlprun.data.splits import carve
from mlprun.data.text.files import (
    Text,
    cut_pieces,
    list_files,
    read_text,
    refuse_ngrams,
    refuse_unknown,
    rows_with_words,
    sha256_of,
    tokenizer_of,
    warn_of_unknown,
)
from mlprun.data.text.masking import mask_tokens
from mlprun.data.text.tokenizer import PADDING, encode_all
from mlprun.errors import DataError

BETWEEN = "\n\n"  # documents of running text


def language_model(
    root: str | os.PathLike[str] | None, text: Text, val_fraction: float = 0.1, test_fraction: float = 0.1
) -> Source:
    """Running text in blocks, each token to be told from those before it in its block.

    `root` is a `.txt` file, or a folder of them (at any depth, one after another by path); `root/train` and
    `root/test` are the parts where they are there. Else the text's last `test_fraction` is the test part; and the
    last `val_fraction` of the training part is val: pieces in a row, so that no block of theirs lies among those that
    are learnt. The vocabulary is made of what is left.

    Args:
        root: the file or folder.
        text: `data.text`; `max_length` is the length of a block.
        val_fraction, test_fraction: shares, by characters, in (0, 1).

    Returns:
        inputs int32 (N, max_length), and targets of the same shape and dtype, which are one token ahead: every token
        but a part's first is a target once. The last block is filled up with `PADDING` and `IGNORED`.

    Raises:
        ConfigError: a value of `data.text` that cannot work.
        DataError: there is no text, too little of it, or none of it is known to the vocabulary.
    """
    return blocks(*_corpus(root, val_fraction, test_fraction), text, masked=False)


def masked(
    root: str | os.PathLike[str] | None,
    text: Text,
    documents: bool = False,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    split_seed: int = 0,
) -> Source:
    """Texts in which masked words are to be told from both sides; masked anew in every batch (`mask_tokens`).

    Args:
        root: a `.txt` file or a folder of them, as for `language_model`.
        text: `data.text`.
        documents: each file is an example of its own, cut at `max_length`; else running text, in blocks.
        val_fraction: share of running text that is val; of documents mlprun carves it.
        test_fraction: share that becomes the test part where there is no `root/test`.
        split_seed: which documents those are.

    Returns:
        inputs and targets the same ids, int32 (N, max_length), and a `perturb`.

    Raises:
        ConfigError: a value of `data.text` that cannot work.
        DataError: there is no text, too little of it, or none of it is known to the vocabulary.
    """
    if not documents:
        return blocks(*_corpus(root, val_fraction, test_fraction), text, masked=True)
    train, test = list_files(root)
    if not test:
        left, carved = carve_texts(len(train), None, test_fraction, split_seed)
        train, test = [train[i] for i in left], [train[i] for i in carved]
    return masked_documents(train, test, text, str(root))


def _corpus(
    root: str | os.PathLike[str] | None, val_fraction: float, test_fraction: float
) -> tuple[tuple[str, str, str], dict[str, str]]:
    """The text of train, val and test, and its fingerprint."""
    train_files, test_files = list_files(root)
    train, test = (BETWEEN.join(map(read_text, paths)) for paths in (train_files, test_files))
    fingerprints = {str(root): sha256_of(train, test)}
    if not test_files:
        return cut_pieces(train, val_fraction, test_fraction), fingerprints
    train, val, _ = cut_pieces(train, val_fraction, 0.0)
    return (train, val, test), fingerprints


def blocks(parts: tuple[str, str, str], fingerprints: dict[str, str], text: Text, *, masked: bool) -> Source:
    """The text of train, val and test as examples, as `language_model` has them, or with masked words."""
    refuse_ngrams(text)
    length = text["max_length"]
    tokenizer = tokenizer_of(parts[:1], text)
    examples = []
    for name, part in zip(("training", "val", "test"), parts, strict=True):
        ids = torch.tensor(tokenizer.encode(part), dtype=torch.int32)
        if len(ids) <= length:
            raise DataError(
                f"the {name} part has {len(ids)} tokens, which do not fill a block of data.text.max_length={length}\n"
                "  use more text, a smaller data.text.max_length, or a larger data.val_fraction and data.test_fraction"
            )
        refuse_unknown(ids, name)
        if name == "training":
            warn_of_unknown(ids, tokenizer, text)
        if masked:
            # the last block may hold nothing to tell, and then its batch has no loss
            filled = rows_with_words(_filled(ids, length, PADDING))
            examples.append(Examples(filled, filled))
        else:
            examples.append(Examples(_filled(ids[:-1], length, PADDING), _filled(ids[1:], length, IGNORED)))
    return Source(
        train=examples[0],
        val=examples[1],
        test=examples[2],
        fingerprints=fingerprints,
        padding=PADDING,
        perturb=partial(mask_tokens, vocab_size=len(tokenizer)) if masked else None,
        tokenizer=tokenizer,
    )


def masked_documents(train: Sequence[str], test: Sequence[str], text: Text, name: str) -> Source:
    """Files as examples with masked words."""
    refuse_ngrams(text)
    texts, test_texts = [read_text(path) for path in train], [read_text(path) for path in test]
    tokenizer = tokenizer_of(texts, text)
    parts = []
    for part, what in ((texts, "training"), (test_texts, "test")):
        ids = encode_all(part, tokenizer, text["max_length"])
        refuse_unknown(ids, what)
        ids = rows_with_words(ids)
        parts.append(Examples(ids, ids))
    return Source(
        train=parts[0],
        test=parts[1],
        fingerprints={name: sha256_of(BETWEEN.join(texts), BETWEEN.join(test_texts))},
        padding=PADDING,
        perturb=partial(mask_tokens, vocab_size=len(tokenizer)),
        tokenizer=tokenizer,
    )


def _filled(ids: Tensor, length: int, value: int) -> Tensor:
    """Ids of shape (T,) as rows (N, length), the last one filled up with `value`."""
    return functional.pad(ids, (0, -len(ids) % length), value=value).reshape(-1, length)


def carve_texts(count: int, classes: Tensor | None, fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """The places of the texts that stay, and of those that become the test part; DataError if none stays."""
    left, chosen = carve(count, classes, fraction, seed)
    if len(left) == 0:
        raise DataError(f"data: {count} texts leave none to train on after a test part is carved\n  use more text")
    return left.tolist(), chosen.tolist()
