"""How two runs differ: what they were made with, the step where they part, the bits of their checkpoints."""

from __future__ import annotations

import copy
import json
import math
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlprun.analysis import show as shown
from mlprun.analysis.diff import MISSING, WIDTH, Difference, compare_records, compare_rows, compare_tensors
from mlprun.errors import RunError
from mlprun.runs.record import RunRecord

SHA = {letter: f"sha256:{letter * 64}" for letter in "abcd"}
IMAGES, LABELS = "/data/MNIST/raw/images.gz", "/data/MNIST/raw/labels.gz"
RECORD = {
    "status": "completed",
    "command": "mlprun optim.lr=0.001",
    "overrides": ["optim.lr=0.001"],
    "folder": "/home/ada/project",
    "config": {
        "seed": 0,
        "optim": {"_target_": "torch.optim.Adam", "lr": 0.001, "betas": [0.9, 0.999]},
        "trainer": {"num_threads": None, "deterministic": True},
        "model": {},
    },
    "seed": 0,
    "started_at": "2026-11-21T10:33:12+00:00",
    "mlprun": {"version": "0.1.0", "source": SHA["a"], "commit": "0" * 40, "dirty": False},
    "git": {"commit": "1" * 40, "dirty": True, "changes": SHA["b"]},
    "packages": {"python": "3.11.7", "torch": "2.15.0"},
    "host": {"name": "ada", "platform": "Linux-6.1", "cpu": "EPYC", "num_cpus": 16, "python": "/venv/bin/python"},
    "device": {"type": "cpu", "name": "cpu", "num_threads": 1},
    "sources": {"nets/wide.py": SHA["c"]},
    "data": {"sizes": {"train": 1437}, "fingerprints": {IMAGES: SHA["c"], LABELS: SHA["d"]}},
    "ended_at": "2026-11-21T10:33:24+00:00",
    "elapsed_sec": 12.345,
    "steps": 500,
    "best_step": 400,
    "metrics": {"val/loss": 0.125, "val/accuracy": 0.9312345678, "test/loss": None},
}
SECTIONS = ("config", "code", "environment", "data")


def show(*runs: tuple[Path, dict[str, Any]]) -> list[str]:
    return shown.show(*((path, RunRecord(record)) for path, record in runs))


def changed(record: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """A copy with another value at `place`, whose names are parted by colons; `MISSING` takes it away."""
    record = copy.deepcopy(record)
    *above, name = place.split(":")
    inner = record
    for part in above:
        inner = inner[part]
    if value is MISSING:
        del inner[name]
    else:
        inner[name] = value
    return record


# ------------------------------------------------------------------------------------------------- records


DIFFERENT = [
    ("config:seed", 1, "config", ["seed: 0 | 1"]),
    ("config:optim:lr", 0.003, "config", ["optim.lr: 0.001 | 0.003"]),
    ("config:optim:lr", MISSING, "config", ["optim.lr: 0.001 | (not there)"]),
    ("config:optim:eps", 1e-8, "config", ["optim.eps: (not there) | 1e-08"]),
    ("config:optim:betas", [0.9, 0.99], "config", ["optim.betas: [0.9, 0.999] | [0.9, 0.99]"]),  # whole
    ("config:optim:lr", "0.001", "config", ['optim.lr: 0.001 | "0.001"']),
    ("config:trainer:num_threads", 2, "config", ["trainer.num_threads: null | 2"]),
    ("config:trainer:deterministic", 1, "config", ["trainer.deterministic: true | 1"]),
    ("config:seed", 0.0, "config", ["seed: 0 | 0.0"]),
    ("config:model", {"depth": 2}, "config", ["model: {} | (not there)", "model.depth: (not there) | 2"]),
    ("git:commit", "2" * 40, "code", [f"git.commit: {'1' * 12} | {'2' * 12}"]),
    ("git:changes", SHA["a"], "code", [f"git.changes: sha256:{'b' * 12} | sha256:{'a' * 12}"]),
    ("git:changes", MISSING, "code", [f"git.changes: sha256:{'b' * 12} | not recorded"]),
    ("git", {"commit": "1" * 40, "dirty": False}, "code", [f"git.changes: sha256:{'b' * 12} | (not there)"]),
    ("mlprun:version", "0.2.0", "code", ["mlprun.version: 0.1.0 | 0.2.0"]),
    ("mlprun:source", SHA["b"], "code", [f"mlprun.source: sha256:{'a' * 12} | sha256:{'b' * 12}"]),
    ("mlprun:commit", MISSING, "code", [f"mlprun.commit: {'0' * 12} | (not there)"]),
    ("sources:nets/wide.py", SHA["d"], "code", [f"sources.nets/wide.py: sha256:{'c' * 12} | sha256:{'d' * 12}"]),
    ("sources", {}, "code", [f"sources.nets/wide.py: sha256:{'c' * 12} | (not there)"]),
    ("packages:torch", "2.16.0", "environment", ["packages.torch: 2.15.0 | 2.16.0"]),
    ("packages:python", "3.12.0", "environment", ["packages.python: 3.11.7 | 3.12.0"]),
    ("host:platform", "Linux-6.2", "environment", ["host.platform: Linux-6.1 | Linux-6.2"]),
    ("host:cpu", "Xeon", "environment", ["host.cpu: EPYC | Xeon"]),
    ("host:num_cpus", 8, "environment", ["host.num_cpus: 16 | 8"]),
    ("device:type", "cuda", "environment", ["device.type: cpu | cuda"]),
    ("device:name", "H200", "environment", ["device.name: cpu | H200"]),
    ("device:num_threads", 2, "environment", ["device.num_threads: 1 | 2"]),
    (f"data:fingerprints:{LABELS}", SHA["a"], "data", [f"labels.gz: sha256:{'d' * 12} | sha256:{'a' * 12}"]),
    (f"data:fingerprints:{LABELS}", MISSING, "data", [f"labels.gz: sha256:{'d' * 12} | (not there)"]),
]  # fmt: skip


@pytest.mark.parametrize(("place", "value", "section", "expected"), DIFFERENT)
def test_two_records_differ_in_one_section(place, value, section, expected):
    found = compare_records(RECORD, changed(RECORD, place, value))
    assert {name: [str(d) for d in differences] for name, differences in found.items()} == {
        name: expected if name == section else [] for name in SECTIONS
    }


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("host:name", "grace"),
        ("host:python", "/other/bin/python"),
        ("folder", "/home/grace/project"),
        ("mlprun:dirty", True),  # the hash of the source tells it better
        ("data:fingerprints", {f"/mnt{file}": digest for file, digest in RECORD["data"]["fingerprints"].items()}),
        ("data:sizes", {"train": 10}),
        ("status", "failed"),
        ("metrics", {}),
        ("started_at", "2026-11-22T10:33:12+00:00"),
    ],
)
def test_what_makes_no_difference(place, value):
    """Places, times and results: a run in another folder of another machine can still be the same run."""
    assert compare_records(RECORD, changed(RECORD, place, value)) == {name: [] for name in SECTIONS}


def test_files_of_one_name_are_told_apart_by_their_folders():
    first = {"data": {"fingerprints": {"/a/train/x.csv": SHA["a"], "/a/test/x.csv": SHA["b"]}}}
    second = {"data": {"fingerprints": {"/b/c/train/x.csv": SHA["a"], "/b/c/test/x.csv": SHA["c"]}}}
    assert [d.key for d in compare_records(first, second)["data"]] == ["test/x.csv"]


@pytest.mark.parametrize(
    ("older", "keys"),
    [
        ({}, ["mlprun.version", "mlprun.source", "mlprun.commit"]),
        ({"mlprun": "0.1.0"}, ["mlprun.source", "mlprun.commit"]),
        ({"mlprun": "0.0.9"}, ["mlprun.version", "mlprun.source", "mlprun.commit"]),
        ({"mlprun": None, "git": None, "data": None}, ["mlprun.version", "mlprun.source", "mlprun.commit"]),
    ],
)
def test_records_of_older_versions(older, keys):
    """`mlprun` was a text, and `git` is empty outside a repository."""
    newer = {"mlprun": RECORD["mlprun"], "git": {}, "data": {"fingerprints": {}}}
    assert [d.key for d in compare_records(older, newer)["code"]] == keys
    assert [d.key for d in compare_records(newer, older)["code"]] == keys


@pytest.mark.parametrize("key", RECORD)
def test_any_key_may_be_missing(key):
    """A run that failed before its first step has no data, device or metrics."""
    less = changed(RECORD, key, MISSING)
    missing = {section: {d.key for d in found} for section, found in compare_records(RECORD, less).items()}
    everything = {section: {d.key for d in found} for section, found in compare_records(RECORD, {}).items()}
    assert all(missing[section] <= everything[section] for section in SECTIONS)
    assert any(missing.values()) == (
        key in ("config", "git", "mlprun", "sources", "packages", "host", "device", "data")
    )
    show((Path("run"), less))
    show((Path("run"), RECORD), (Path("other"), less))


NAMES = st.text("abcdefgh_", min_size=1, max_size=3)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
LEAVES = PLAIN | st.lists(PLAIN, max_size=3) | st.just({})
CONFIGS = st.dictionaries(
    NAMES, st.recursive(LEAVES, lambda inner: st.dictionaries(NAMES, inner, min_size=1)), min_size=1, max_size=4
)  # fmt: skip


def leaves(config: dict[str, Any], prefix: str = "") -> list[str]:
    return [
        place
        for name, value in config.items()
        for place in (
            leaves(value, f"{prefix}{name}:") if isinstance(value, dict) and value != {} else [f"{prefix}{name}"]
        )
    ]


@given(CONFIGS)
def test_a_config_does_not_differ_from_itself_nor_from_what_a_file_keeps_of_it(config):
    kept = json.loads(json.dumps(config))
    assert compare_records({"config": config}, {"config": copy.deepcopy(config)})["config"] == []
    assert compare_records({"config": config}, {"config": kept})["config"] == []


@given(CONFIGS, st.data(), PLAIN | st.lists(PLAIN))
def test_a_changed_key_is_named_and_no_other(config, data, value):
    place = data.draw(st.sampled_from(leaves(config)))
    other = changed(config, place, value)
    found = compare_records({"config": config}, {"config": other})["config"]
    if json.dumps(config) == json.dumps(other):
        assert found == []
    else:
        assert [d.key for d in found] == [place.replace(":", ".")]
        assert repr(found[0].second) == repr(value)


# ------------------------------------------------------------------------------------------ a difference


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [
        (None, True, "null | true"),
        (1e-05, 0.1 + 0.2, "1e-05 | 0.30000000000000004"),  # every digit: the last bit may be all there is
        (MISSING, "relu", "(not there) | relu"),
        (MISSING, "(not there)", '(not there) | "(not there)"'),
        (None, "null", 'null | "null"'),
        ("two\nlines", "two lines", r'"two\nlines" | "two lines"'),
        ("two\nlines", "one", "two lines | one"),
        ("two\x85lines", "two\u2028lines", r'"two\u0085lines" | "two\u2028lines"'),  # these break lines, too
        ([1, {"a": None}], [], '[1, {"a": null}] | []'),
        ("a" * 50, "b", f"{'a' * 39}… | b"),
        ("a" * 50 + "b", "a" * 50 + "c", f"…{'a' * 9}b | …{'a' * 9}c"),  # where they part, not how they begin
        ("a" * 50, "a" * 200, f"…{'a' * 9} | …{'a' * 38}…"),
    ],
)
def test_a_difference_on_a_line(first, second, shown):
    assert str(Difference("model.width", first, second)) == f"model.width: {shown}"


@given(PLAIN | st.text(), PLAIN | st.text())
def test_values_that_differ_never_look_alike(first, second):
    found = compare_records({"config": {"key": first}}, {"config": {"key": second}})["config"]
    for difference in found:
        shown = difference.texts()
        assert shown[0] != shown[1]
        assert all(len(text) <= WIDTH and len(text.splitlines()) <= 1 for text in shown)


@given(st.text("ab", max_size=100), st.text("ab", max_size=100), st.text("ab", max_size=100))
def test_long_values_that_differ_never_look_alike(beginning, first, second):
    shown = Difference("key", beginning + first, beginning + second).texts()
    assert (shown[0] == shown[1]) == (first == second)


# ---------------------------------------------------------------------------------------------------- rows


def metrics(path: Path, *lines: dict[str, Any] | str) -> Path:
    """A metrics.jsonl; a text is a line as it stands."""
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path


A = {"step": 10, "epoch": 0.5, "train/loss": 0.7, "optim/lr": 0.1, "perf/examples_per_sec": 900.0}
B = {"step": 20, "epoch": 1.0, "train/loss": 0.6, "val/loss": 0.65, "val/accuracy": 0.8, "eval_sec": 0.2}


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ([], [], None),
        ([A, B], [A, B], None),
        ([A, B], [A, B | {"eval_sec": 9.0}], None),
        ([A, B], [A | {"perf/examples_per_sec": 1.0}, B], None),
        ([A, B], [{k: v for k, v in A.items() if k != "perf/examples_per_sec"}, B], None),
        ([A | {"train/loss": None}], [A | {"train/loss": None}], None),  # NaN, as JSON keeps it
        ([A | {"train/loss": None}], [A], "step 10:\n  train/loss: null | 0.7"),
        ([A, B], [A | {"optim/lr": 0.2}, B | {"train/loss": 9}], "step 10:\n  optim/lr: 0.1 | 0.2"),
        ([A], [A | {"train/loss": math.nextafter(0.7, 1)}], "step 10:\n  train/loss: 0.7 | 0.7000000000000001"),
        ([A], [A | {"train/grad_norm": 2.0}], "step 10:\n  train/grad_norm: (not there) | 2.0"),
        ([A, B], [A], "step 20: only the first run has it"),
        ([B], [A, B], "step 10: only the second run has it"),
        ([A, A, B], [A, B], None),  # a run that was resumed may have done a step twice
        ([A, A | {"train/loss": 0.8}], [A], "step 10:\n  train/loss: 0.8 | 0.7"),
    ],
)
def test_the_first_step_at_which_two_runs_part(tmp_path, first, second, said):
    found = compare_rows(metrics(tmp_path / "first.jsonl", *first), metrics(tmp_path / "second.jsonl", *second))
    assert (found if found is None else str(found)) == said


def test_the_most_telling_value_comes_first(tmp_path):
    other = {key: value + 1 for key, value in B.items()} | {"step": 20, "perf/x": 1, "train/grad_norm": 3, "model/a": 3}
    found = compare_rows(metrics(tmp_path / "a", A, B), metrics(tmp_path / "b", A, other))
    assert found.step == 20
    assert [d.key for d in found.differences] == [
        "train/loss", "val/loss", "val/accuracy", "epoch", "train/grad_norm", "model/a",
    ]  # fmt: skip
    assert str(found).splitlines() == [
        "step 20:",
        "  train/loss: 0.6 | 1.6",
        "  val/loss: 0.65 | 1.65",
        "  val/accuracy: 0.8 | 1.8",
        "  epoch: 1.0 | 2.0",
        "  train/grad_norm: (not there) | 3",
        "  … 1 more",
    ]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([A, '{"step": 20, "train/lo'], "is damaged: line 2 is no JSON"),
        ([A, "\n", B], "is damaged: line 2 is no JSON"),
        (["[]\n", A], "is damaged: line 1 is no object with a step"),
        ([A, B, '{"epoch": 2}\n'], "is damaged: line 3 is no object with a step"),
    ],
)
def test_a_damaged_line_is_named(tmp_path, lines, said):
    """Either file's: a run that was killed while it wrote leaves half a line at the end."""
    whole, damaged = metrics(tmp_path / "whole.jsonl", A, B), metrics(tmp_path / "damaged.jsonl", *lines)
    for pair in ((whole, damaged), (damaged, whole)):
        with pytest.raises(RunError) as refusal:
            compare_rows(*pair)
        assert f"{damaged} {said}" in str(refusal.value)


def test_a_last_line_without_its_end_is_whole(tmp_path):
    assert compare_rows(metrics(tmp_path / "a", A, B), metrics(tmp_path / "b", A, json.dumps(B))) is None


@pytest.mark.parametrize("make", [Path.touch, None, Path.mkdir])
def test_a_file_that_cannot_be_read_is_named(tmp_path, make):
    whole, other = metrics(tmp_path / "whole.jsonl"), tmp_path / "other.jsonl"
    if make:
        make(other)
    if make is Path.touch:
        assert compare_rows(whole, other) is None
        return
    with pytest.raises(RunError, match="cannot be read") as refusal:
        compare_rows(whole, other)
    assert str(other) in str(refusal.value)


# ------------------------------------------------------------------------------------------------- tensors


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


@given(CHECKPOINTS)
def test_a_checkpoint_does_not_differ_from_its_copy(checkpoint):
    assert compare_tensors(checkpoint, copy.deepcopy(checkpoint)) == []


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


# ---------------------------------------------------------------------------------------------------- show


def test_what_a_run_is(tmp_path):
    (tmp_path / "code.patch").write_text("patch\n")
    assert show((tmp_path, RECORD)) == [
        f"run           {tmp_path}",
        "status        completed",
        "command       mlprun optim.lr=0.001",
        "folder        /home/ada/project",
        f"git           {'1' * 40}, with uncommitted changes: {tmp_path}/code.patch",
        f"mlprun        0.1.0, commit {'0' * 40}",
        "device        cpu, 1 thread",
        "started       2026-11-21T10:33:12+00:00",
        "elapsed       12.3 sec",
        "steps         500",
        "best step     400",
        "val/loss      0.125",
        "val/accuracy  0.931235",
        "test/loss     not finite",
    ]


@pytest.mark.parametrize(
    ("place", "value", "line"),
    [
        ("git", {"commit": "abc", "dirty": False}, "git           abc"),
        ("git:patch", "not kept: 99 bytes", f"git           {'1' * 40}, with uncommitted changes: not kept: 99 bytes"),
        ("mlprun", "0.0.9", "mlprun        0.0.9"),
        ("mlprun:dirty", True, f"mlprun        0.1.0, commit {'0' * 40}, changed"),
        ("device", {"type": "cuda", "name": "H200", "num_threads": 2}, "device        cuda, H200, 2 threads"),
        ("error", "out of memory\n  trainer.accumulate=2", "error         out of memory"),
        (
            "resumed",
            [{"at": "2026-11-22", "step": 200, "command": "mlprun resume run", "changed": []}],
            "resumed       2026-11-22, step 200, mlprun resume run",
        ),
        (
            "resumed",
            [{"at": "a", "step": 1}, {"at": "c", "step": 0, "command": "d", "changed": ["steps", "seed"]}],
            "resumed       c, step 0, d, changed: steps, seed",
        ),
        ("resumed", [{}, {"at": "c"}], "resumed       c"),
        ("reproduces", "outputs/run", "reproduces    outputs/run"),
    ],
)  # fmt: skip
def test_a_line_of_a_run(place, value, line):
    assert line in show((Path("run"), changed(RECORD, place, value)))


def test_how_two_runs_differ(tmp_path):
    second = changed(RECORD, "config:optim:lr", 0.003)
    second = changed(second, "config:trainer:num_threads", 2)
    second = changed(second, "packages:torch", "2.16.0")
    second["metrics"] = {"val/loss": 0.125, "val/accuracy": 0.9312345679, "test/accuracy": 0.9}
    del second["best_step"]
    assert show((tmp_path / "a", RECORD), (tmp_path / "b", second | {"status": "failed"})) == [
        f"first   {tmp_path}/a",
        f"second  {tmp_path}/b",
        "",
        "config",
        "  optim.lr             0.001  0.003",
        "  trainer.num_threads  null   2",
        "",
        "code",
        "  no difference",
        "",
        "environment",
        "  packages.torch  2.15.0  2.16.0",
        "",
        "data",
        "  no difference",
        "",
        "results",
        "                 first         second",
        "  status         completed     failed",
        "  steps          500           500",
        "  best step      400           (not there)",
        "  val/loss       0.125         0.125",
        "  val/accuracy   0.9312345678  0.9312345679",  # all digits, where fewer would look alike
        "  test/loss      not finite    (not there)",
        "  test/accuracy  (not there)   0.9",
    ]


@pytest.mark.parametrize(
    ("patches", "told"), [((b"a", b"b"), True), ((b"a", b"a"), False), ((b"a", None), False), ((None, None), False)]
)
def test_two_different_patches_can_be_looked_at(tmp_path, patches, told):
    runs = []
    for name, patch in zip("xy", patches, strict=True):
        (tmp_path / name).mkdir()
        if patch is not None:
            (tmp_path / name / "code.patch").write_bytes(patch)
        runs.append((tmp_path / name, RECORD))
    line = f"  diff {tmp_path}/x/code.patch {tmp_path}/y/code.patch"
    assert (line in show(*runs)) is told


def test_an_empty_record_can_be_shown():
    assert show((Path("run"), {})) == ["run  run"]
    assert show((Path("a"), {}), (Path("b"), {})).count("  no difference") == len(SECTIONS)
