"""Running text for language models and for masked words."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from mlprun.data.source import IGNORED, Examples, Source
from mlprun.data.splits import hold_out
from mlprun.data.text import files
from mlprun.data.text.files import Text
from mlprun.data.text.inputs import TokenIds
from mlprun.data.text.losses import share_unknown, warn_of_cut, warn_of_unknown
from mlprun.data.text.masking import mask_tokens
from mlprun.data.text.tokenizer import PADDING, Tokenizer, encode_with_lengths
from mlprun.errors import DataError

BETWEEN = "\n\n"  # documents of running text


def language_model(
    root: str | os.PathLike[str] | None, text: Text, val_fraction: float = 0.1, test_fraction: float = 0.1
) -> Source:
    """Running text in blocks; each token is predicted from those before it in its block.

    `root` is a `.txt` file, or a folder of them (at any depth, concatenated in the order of their paths), in which
    `root/train` and `root/test` may be the parts. Otherwise the text's last `test_fraction` is the test part. The last
    `val_fraction` of the training part is val: contiguous pieces, so that no block of val or test is between blocks of
    training. The vocabulary is made of the rest.

    Args:
        text: `data.text`; `max_length` is the length of a block.
        val_fraction, test_fraction: shares of the characters, in (0, 1).

    Returns:
        inputs int32 (N, max_length), and targets of the same shape and dtype, one token ahead: every token but a
        part's first is a target once. `PADDING` and `IGNORED` fill up the last block.

    Raises:
        ConfigError: a value of `data.text` that cannot work.
        DataError: there is no text, too little of it, or none of it is in the vocabulary.
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
    """Texts with masked words to predict from both sides; masked anew in every batch (`mask_tokens`).

    Args:
        root: a `.txt` file or a folder of them, as for `language_model`.
        text: `data.text`.
        documents: each file is an example, cut at `max_length`; else running text, in blocks.
        val_fraction: share of val in running text; of documents mlprun holds val out.
        test_fraction: share of the test part if there is no `root/test`.
        split_seed: chooses its documents.

    Returns:
        inputs and targets the same ids, int32 (N, max_length), and a `perturb`.

    Raises:
        ConfigError, DataError: as `language_model`.
    """
    if not documents:
        return blocks(*_corpus(root, val_fraction, test_fraction), text, masked=True)
    train, test = files.list_files(root)
    if not test:
        rest, chosen = hold_out_texts(len(train), None, test_fraction, split_seed)
        train, test = [train[i] for i in rest], [train[i] for i in chosen]
    return masked_documents(train, test, text, str(root))


def _corpus(
    root: str | os.PathLike[str] | None, val_fraction: float, test_fraction: float
) -> tuple[tuple[str, str, str], dict[str, str]]:
    """The text of train, val and test, and its fingerprint."""
    train_files, test_files = files.list_files(root)
    train, test = (BETWEEN.join(map(files.read_text, paths)) for paths in (train_files, test_files))
    fingerprints = {str(root): files.sha256_of(train, test)}
    if not test_files:
        return files.cut_pieces(train, val_fraction, test_fraction), fingerprints
    train, val, _ = files.cut_pieces(train, val_fraction, 0.0)
    return (train, val, test), fingerprints


def blocks(parts: tuple[str, str, str], fingerprints: dict[str, str], text: Text, *, masked: bool) -> Source:
    """The text of train, val and test as examples, as `language_model` returns them, or with masked words."""
    files.refuse_ngrams(text)
    length = text["max_length"]
    tokenizer = files.tokenizer_of(parts[:1], text)
    examples = []
    for name, part in zip(("training", "val", "test"), parts, strict=True):
        ids = torch.tensor(tokenizer.encode(part), dtype=torch.int32)
        if len(ids) <= length:
            raise DataError(
                f"the {name} part has {len(ids)} tokens, which do not fill a block of data.text.max_length={length}\n"
                "  use more text, a smaller data.text.max_length, or a larger data.val_fraction and data.test_fraction"
            )
        files.refuse_unknown(ids, name)
        if name == "training":
            warn_of_unknown(share_unknown(ids), tokenizer, text)
        if masked:
            # the last block may have no token to mask, and then its batch no loss
            rows = files.rows_with_words(_filled(ids, length, PADDING))
            examples.append(Examples(rows, rows))
        else:
            examples.append(Examples(_filled(ids[:-1], length, PADDING), _filled(ids[1:], length, IGNORED)))
    train, val, test = examples
    return _source(train, val, test, fingerprints, tokenizer, masked=masked)


def masked_documents(train: Sequence[str], test: Sequence[str], text: Text, name: str) -> Source:
    """Files as examples with masked words; `name` is that of their fingerprint."""
    files.refuse_ngrams(text)
    texts, test_texts = [files.read_text(path) for path in train], [files.read_text(path) for path in test]
    tokenizer = files.tokenizer_of(texts, text)
    examples, all_lengths = [], []
    for part, documents in (("training", texts), ("test", test_texts)):
        ids, lengths = encode_with_lengths(documents, tokenizer, text["max_length"])
        files.refuse_unknown(ids, part)
        if part == "training":
            warn_of_unknown(share_unknown(ids), tokenizer, text)
        all_lengths.append(lengths)
        ids = files.rows_with_words(ids)
        examples.append(Examples(ids, ids))
    warn_of_cut(torch.cat(all_lengths), text["max_length"], [*train, *test])
    fingerprints = {name: files.sha256_of(BETWEEN.join(texts), BETWEEN.join(test_texts))}
    return _source(examples[0], None, examples[1], fingerprints, tokenizer, masked=True)


def _source(
    train: Examples,
    val: Examples | None,
    test: Examples,
    fingerprints: dict[str, str],
    tokenizer: Tokenizer,
    *,
    masked: bool,
) -> Source:
    perturb = partial(mask_tokens, vocab_size=len(tokenizer)) if masked else None
    return Source(train, test, val=val, fingerprints=fingerprints, perturb=perturb, inputs=TokenIds(tokenizer))


def _filled(ids: Tensor, length: int, value: int) -> Tensor:
    """Ids of shape (T,) as rows (N, length), the last one filled up with `value`."""
    return functional.pad(ids, (0, -len(ids) % length), value=value).reshape(-1, length)


def hold_out_texts(count: int, classes: Tensor | None, fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """`hold_out` as lists; DataError if nothing is left for training."""
    rest, chosen = hold_out(count, classes, fraction, seed)
    if len(rest) == 0:
        raise DataError(f"data: {count} texts leave none to train on after test is held out\n  use more text")
    return rest.tolist(), chosen.tolist()
