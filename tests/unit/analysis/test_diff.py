"""How two runs differ: what they were made with, and the step where they part."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlprun.analysis.diff import MISSING, WIDTH, Difference, compare_records, compare_rows, num_other_windows
from mlprun.errors import RunError
from tests.helpers.records import LABELS, NAMES, PLAIN, RECORD, SECTIONS, SHA, changed, show

DIFFERENT = [
    ("config:seed", 1, "config", ["seed: 0 | 1"]),
    ("config:optim:lr", 0.003, "config", ["optim.lr: 0.001 | 0.003"]),
    ("config:optim:lr", MISSING, "config", ["optim.lr: 0.001 | (not there)"]),
    ("config:optim:eps", 1e-8, "config", ["optim.eps: (not there) | 1e-08"]),
    ("config:optim:betas", [0.9, 0.99], "config", ["optim.betas: [0.9,0.999] | [0.9,0.99]"]),  # whole
    ("config:optim:lr", "0.001", "config", ['optim.lr: 0.001 | "0.001"']),
    ("config:trainer:num_threads", 2, "config", ["trainer.num_threads: null | 2"]),
    ("config:trainer:deterministic", 1, "config", ["trainer.deterministic: true | 1"]),
    ("config:seed", 0.0, "config", ["seed: 0 | 0.0"]),
    ("config:model", {"depth": 2}, "config", ["model.depth: (not there) | 2"]),
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
    ("data:sizes:train", 10, "data", ["sizes.train: 1437 | 10"]),
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
        ("data:sizes", {"train": 1437, "val": 10}),  # an older record may lack some
        ("data:digests", {"test": SHA["a"]}),
        ("data:fingerprints", {"/mnt/moved.gz": SHA["c"], LABELS: SHA["d"]}),
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


@settings(max_examples=40)
@given(CONFIGS)
def test_a_config_does_not_differ_from_itself_nor_from_what_a_file_keeps_of_it(config):
    kept = json.loads(json.dumps(config))
    assert compare_records({"config": config}, {"config": copy.deepcopy(config)})["config"] == []
    assert compare_records({"config": config}, {"config": kept})["config"] == []


@settings(max_examples=40)
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
        ([1, {"a": None}], [], "[1,{a:null}] | []"),
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


def metrics(path: Path, *lines: dict[str, Any] | str) -> Path:
    """A metrics.jsonl; a text is a line as it stands."""
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path


A = {"step": 10, "epoch": 0.5, "train/loss": 0.7, "optim/lr": 0.1, "perf/examples_per_sec": 900.0}
B = {"step": 20, "epoch": 1.0, "train/loss": 0.6, "val/loss": 0.65, "val/accuracy": 0.8, "eval_sec": 0.2}
# Evaluations at steps 20 and 40, the end: older versions logged the training means at each of them.
OLD_GRID = [A, B, A | {"step": 30, "train/loss": 0.5}, B | {"step": 40}]
NEW_GRID = [A, {k: v for k, v in B.items() if k != "train/loss"}, A | {"step": 30}, B | {"step": 40}]


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ([], [], None),
        ([A, B], [A, B], None),
        ([A, B], [A, B | {"eval_sec": 9.0}], None),
        ([A, B], [A | {"perf/examples_per_sec": 1.0}, B], None),
        ([A, B], [{k: v for k, v in A.items() if k != "perf/examples_per_sec"}, B], None),
        ([A | {"train/loss": None}], [A | {"train/loss": None}], None),  # NaN, as JSON keeps it
        ([A | {"train/loss": None}], [A], "they differ from step 10: train/loss: null | 0.7"),
        ([A, B], [A | {"optim/lr": 0.2}, B | {"train/loss": 9}], "they differ from step 10: optim/lr: 0.1 | 0.2"),
        (
            [A],
            [A | {"train/loss": math.nextafter(0.7, 1)}],
            "they differ from step 10: train/loss: 0.7 | 0.7000000000000001",
        ),
        ([A], [A | {"train/grad_norm": 2.0}], "they differ from step 10: train/grad_norm: (not there) | 2.0"),
        ([A, B], [A], "they differ from step 20, which only a has: step: 20 | (not there)"),
        ([B], [A, B], "they differ from step 10, which only b has: step: (not there) | 10"),
        ([A, A, B], [A, B], None),  # a run that was resumed may have done a step twice
        ([A, A | {"train/loss": 0.8}], [A], "they differ from step 10: train/loss: 0.8 | 0.7"),
        (OLD_GRID, NEW_GRID, None),  # what both have is the same
        ([A | {"train/loss": 0.8}, *OLD_GRID[1:]], NEW_GRID, "they differ from step 10: train/loss: 0.8 | 0.7"),
        ([*OLD_GRID[:3], OLD_GRID[3] | {"train/loss": 9}], NEW_GRID, "they differ from step 40: train/loss: 9 | 0.6"),
        ([A, B | {"val/loss": 9}, *OLD_GRID[2:]], NEW_GRID, "they differ from step 20: val/loss: 9 | 0.65"),
        ([A, B], [A, {"step": 20}], "they differ from step 20: train/loss: 0.6 | (not there)"),  # no evaluation
    ],
)
def test_the_first_step_at_which_two_runs_part(tmp_path, first, second, said):
    found = compare_rows(metrics(tmp_path / "first.jsonl", *first), metrics(tmp_path / "second.jsonl", *second))
    text = (
        None
        if found is None
        else ": ".join([found.headline(("a", "b")).partition(" (")[0], *map(str, found.differences[:1])])
    )
    assert text == said


def test_training_means_over_other_steps_are_counted(tmp_path):
    old, new = metrics(tmp_path / "old", *OLD_GRID), metrics(tmp_path / "new", *NEW_GRID)
    assert [num_other_windows(*pair) for pair in ((old, new), (new, old), (old, old))] == [2, 2, 0]


def test_the_most_telling_value_comes_first(tmp_path):
    other = {key: value + 1 for key, value in B.items()} | {"step": 20, "perf/x": 1, "train/grad_norm": 3, "model/a": 3}
    found = compare_rows(metrics(tmp_path / "a", A, B), metrics(tmp_path / "b", A, other))
    assert found.step == 20
    assert [d.key for d in found.differences] == [
        "train/loss", "val/loss", "val/accuracy", "epoch", "train/grad_norm", "model/a",
    ]  # fmt: skip
    assert found.headline(("a", "b")) == "they differ from step 20 (1 equal row before it)"
    assert found.table(("a", "b")) == [
        ("step 20", "a", "b"),
        ("train/loss", "0.6", "1.6"),
        ("val/loss", "0.65", "1.65"),
        ("val/accuracy", "0.8", "1.8"),
        ("epoch", "1.0", "2.0"),
        ("train/grad_norm", "(not there)", "3"),
        ("… 1 more", "", ""),
    ]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([A, '{"step": 20, "train/lo'], "is damaged: line 2 is not JSON"),
        ([A, "\n", B], "is damaged: line 2 is not JSON"),
        (["[]\n", A], "is damaged: line 1 is not an object with a step"),
        ([A, B, '{"epoch": 2}\n'], "is damaged: line 3 is not an object with a step"),
    ],
)
def test_a_damaged_line_is_named(tmp_path, lines, said):
    """Either file's: a run that was killed while it wrote leaves half a line at the end."""
    whole, damaged = metrics(tmp_path / "whole.jsonl", A, B), metrics(tmp_path / "damaged.jsonl", *lines)
    for pair in ((whole, damaged), (damaged, whole)):
        with pytest.raises(RunError) as refusal:
            compare_rows(*pair)
        assert f"{damaged} {said}" in str(refusal.value)
