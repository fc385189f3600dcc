"""`mlprun show`: how two runs differ."""

from __future__ import annotations

import re

from tests.helpers.lines import finish


def test_show_says_how_two_runs_differ(folder):
    finish(folder, "debug=fast", "model=linear", "hydra.run.dir=a")
    finish(folder, "debug=fast", "model=linear", "hydra.run.dir=b")
    finish(folder, "debug=fast", "model=linear", "hydra.run.dir=c", "optim.lr=0.1", "seed=3")
    same = finish(folder, "show", "a", "b")
    assert same.endswith("\nmetrics.jsonl\n  no difference\n")
    assert same.count("no difference") == 5
    other = finish(folder, "show", "a", "c").splitlines()
    assert other[other.index("config") : other.index("code")] == [
        "config", "  seed      0      3", "  optim.lr  0.001  0.1", "",
    ]  # fmt: skip
    assert "metrics.jsonl" not in other  # with another config, it differs anyway

    rows = (folder / "b" / "metrics.jsonl").read_text().splitlines(keepends=True)
    rows[2] = re.sub('"train/loss": [0-9.]+', '"train/loss": 0.5', rows[2])
    (folder / "b" / "metrics.jsonl").write_text("".join(rows))
    parted = finish(folder, "show", "a", "b").splitlines()
    assert parted[-3] == "  they differ from step 3 (2 equal rows before it)"
    assert parted[-1].split()[0] == "train/loss"
    assert parted[-1].endswith("  0.5")
    (folder / "b" / "metrics.jsonl").write_text("".join(rows[:2]))
    assert finish(folder, "show", "a", "b").splitlines()[-1] == (
        "  they differ from step 3, which only first has (2 equal rows before it)"
    )
