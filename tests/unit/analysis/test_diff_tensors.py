"""The bits of two checkpoints: what differs is named, and nothing else."""

from __future__ import annotations

import copy
import math
import struct
from collections import OrderedDict
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlprun.analysis.diff import compare_tensors
from tests.helpers.records import NAMES, PLAIN


def bits(*patterns: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.tensor(patterns, dtype=torch.int32).view(dtype)


T = torch.arange(6.0).reshape(2, 3)
COMPLEX = torch.tensor([1 + 2j])
IDENTICAL = {
    "a tensor and its copy": (T, T.clone()),
    "another layout in memory": (T, T.t().contiguous().t()),
    "a part of a larger one": (T[:, 1:], T[:, 1:].clone()),
    "a parameter and its tensor": (torch.nn.Parameter(T), T),
    "no dimensions": (torch.tensor(True), torch.tensor(True)),
    "no elements": (torch.zeros(0, 3), torch.zeros(0, 3)),
    "a NaN of the same bits": (bits(0x7FC00001), bits(0x7FC00001)),
    "bfloat16": (T.bfloat16(), T.bfloat16()),
    "a conjugate that is only marked as one": (COMPLEX.conj(), COMPLEX.conj().resolve_conj()),
    "a single element of a column": (T[:1, 0], T[:1, 0].clone()),
    "a negation that is only marked as one": (COMPLEX.conj().imag, torch.tensor([-2.0])),
    "sparse": (T.to_sparse(), T.to_sparse()),
    "the order of a dict": ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "a dict of another sort": (OrderedDict(a=T), {"a": T}),
    "a list and a tuple": ([T, 0.9], (T, 0.9)),
    "plain values": ([1, 0.5, "text", None, True, b"x"], [1, 0.5, "text", None, True, b"x"]),
    "a plain NaN": (math.nan, math.nan),
}  # fmt: skip


@pytest.mark.parametrize("case", IDENTICAL)
def test_bit_identical(case):
    first, second = IDENTICAL[case]
    assert compare_tensors({"x": first}, {"x": second}) == []


DISTINCT = {
    "one bit": (bits(0x3F800000), bits(0x3F800001)),
    "the sign of zero": (torch.zeros(1), -torch.zeros(1)),
    "a NaN of other bits": (bits(0x7FC00000), bits(0x7FC00001)),
    "the same bits of another dtype": (bits(1), bits(1, dtype=torch.int32)),
    "the same numbers of another dtype": (T, T.double()),
    "the shape": (torch.zeros(1, 4), torch.zeros(4)),
    "the shape of nothing": (torch.zeros(0, 3), torch.zeros(3, 0)),
    "a conjugate": (COMPLEX, COMPLEX.conj()),
    "sparse": (T.to_sparse(), (T + T).to_sparse()),
    "a tensor and a number": (torch.tensor(1.0), 1.0),
    "the type of a number": (1, 1.0),
    "a truth and a number": (True, 1),
    "the sign of a plain zero": (0.0, -0.0),
    "a list and a dict": ([T], {0: T}),
    "a value and nothing": (None, 0),
}


@pytest.mark.parametrize("case", DISTINCT)
def test_not_bit_identical(case):
    first, second = DISTINCT[case]
    assert compare_tensors({"x": first}, {"x": second}) == compare_tensors({"x": second}, {"x": first}) == ["x"]


@pytest.mark.parametrize(
    ("first", "second", "paths"),
    [
        ({"model": {"0.weight": T, "0.bias": T}}, {"model": {"0.weight": T, "0.bias": T + 1}}, ["model.0.bias"]),
        ({"state": {0: {"exp_avg": T}, 1: {}}}, {"state": {0: {"exp_avg": -T}, 1: {}}}, ["state.0.exp_avg"]),
        ({"a": 1, "b": 2}, {"a": 1, "c": 2}, ["b", "c"]),
        ({"groups": [{"lr": 0.1}, {"lr": 0.2}]}, {"groups": [{"lr": 0.1}, {"lr": 0.3}]}, ["groups.1.lr"]),
        ({"history": [1, 2]}, {"history": [1, 2, 3]}, ["history.2"]),
        ({"a": {}}, {}, ["a"]),
        ({"a": {"b": T}}, {"a": T}, ["a"]),
    ],
)
def test_what_differs_is_named(first, second, paths):
    assert compare_tensors(first, second) == paths
    assert compare_tensors(first, second, "last") == [f"last.{path}" for path in paths]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a second device")
def test_the_device_makes_no_difference():
    assert compare_tensors({"x": T}, {"x": T.cuda()}) == []
    assert compare_tensors({"x": T}, {"x": (T + 1).cuda()}) == ["x"]


DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.complex64]
TENSORS = st.builds(
    lambda content, dtype: torch.frombuffer(bytearray(content), dtype=dtype).clone(),
    st.binary(min_size=16, max_size=64).map(lambda content: content[: len(content) // 16 * 16]),
    st.sampled_from(DTYPES),
)


CHECKPOINTS = st.dictionaries(
    NAMES | st.integers(0, 9),
    st.recursive(
        TENSORS | PLAIN,
        lambda inner: (
            st.lists(inner, min_size=1, max_size=3)
            | st.lists(inner, min_size=1, max_size=3).map(tuple)
            | st.dictionaries(NAMES, inner, min_size=1, max_size=3)
        ),
        max_leaves=8,
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=50)
@given(CHECKPOINTS)
def test_a_checkpoint_does_not_differ_from_its_copy(checkpoint):
    assert compare_tensors(checkpoint, copy.deepcopy(checkpoint)) == []


@settings(max_examples=50)
@given(CHECKPOINTS, st.data())
def test_a_flipped_bit_is_found_wherever_it_is(checkpoint, data):
    path: list[str] = []

    def flip(value: Any) -> Any:
        """A copy of which one bit, or one plain value, is another."""
        if isinstance(value, dict):
            key = data.draw(st.sampled_from(list(value)))
            path.append(str(key))
            return value | {key: flip(value[key])}
        if isinstance(value, list | tuple):
            place = data.draw(st.integers(0, len(value) - 1))
            path.append(str(place))
            return type(value)([*value[:place], flip(value[place]), *value[place + 1 :]])
        if isinstance(value, torch.Tensor):
            flipped = value.clone()
            content = flipped.view(torch.uint8)
            content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
            return flipped
        if isinstance(value, float):
            content = bytearray(struct.pack("d", value))
            content[data.draw(st.integers(0, 7))] ^= 1 << data.draw(st.integers(0, 7))
            return struct.unpack("d", content)[0]
        return {"another": value}

    other = flip(checkpoint)
    assert compare_tensors(checkpoint, other) == [".".join(path)]
