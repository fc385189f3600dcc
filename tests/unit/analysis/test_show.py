"""What is shown of a run, and of how two differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.records import RECORD, SECTIONS, changed, show


def test_what_a_run_is(tmp_path):
    (tmp_path / "code.patch").write_text("patch\n")
    assert show((tmp_path, RECORD)) == [
        f"run           {tmp_path}",
        "status        completed",
        "command       mlprun optim.lr=0.001",
        "set           optim.lr=0.001",
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
        ("overrides", ["model=mlp", "epochs=3"], "set           epochs=3"),
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
