"""Runs are found below a folder, and a damaged record hides no other."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlprun.analysis.leaderboard import leaderboard, write_csv
from mlprun.errors import RunError
from mlprun.runs.collect import read_runs
from tests.helpers.records import CONFIG, run, seeds, write_runs


def read_csv(folder: Path) -> list[dict[str, str]]:
    with (folder / "leaderboard.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["run.json"], ["."]),
        (["10_b/run.json", "2_a/run.json", "1/run.json"], ["1", "2_a", "10_b"]),
        (["a/b/c/d/run.json", "a/run.json"], ["a", "a/b/c/d"]),
        ([".hidden/run.json", "a/.hydra/run.json", "a/checkpoints/run.json"], []),
        (["a/metrics.jsonl", "a/.run.json.7.tmp"], []),
    ],
)
def test_runs_are_found_at_any_depth_by_name(tmp_path, files, found):
    folder = tmp_path / ".a_root_may_be_hidden"
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(json.dumps(run()[1]))
    folder.mkdir(exist_ok=True)
    assert [str(path.relative_to(folder)) for path, _ in read_runs(folder)] == found


def test_a_link_does_not_lead_in_circles(tmp_path):
    write_runs(tmp_path, [run(name="a")])
    (tmp_path / "again").symlink_to(tmp_path)
    assert len(read_runs(tmp_path)) == 1


@pytest.mark.parametrize("name", ["nowhere", "file"])
def test_a_folder_that_is_none_is_an_error(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=f"{name}: there is no such folder"):
        read_runs(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "cannot be read"),
        (b'{"status": "comp', "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"[1]", "does not hold an object"),
        (b'{"status": "completed"}', "no config"),
        (b'{"status": "completed", "config": {"seed": 0}}', "no config"),
        (b'{"status": "completed", "config": {"monitor": "val/loss", "trainer": null}}', "groups"),
        (b'{"config": {"monitor": "val/loss"}}', "how the run ended"),
    ],
)
def test_a_damaged_record_is_a_failure_and_hides_no_other(tmp_path, content, problem):
    write_runs(tmp_path, [run("optim.lr=0.1", name="whole", value=0.25)])
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "run.json").write_bytes(content)
    runs = read_runs(tmp_path)
    damaged = dict(runs)[tmp_path / "damaged"]
    assert damaged["status"] == "failed"
    assert re.match(rf"run\.json .*{problem}", damaged["error"])
    assert "config" not in damaged
    lines = leaderboard(runs)
    assert any(re.match(r"1 +0\.2500", line) for line in lines)
    assert lines[-2:] == [f"failed  {tmp_path / 'damaged'}", f"  {damaged['error']}"]
    write_csv(runs, tmp_path / "leaderboard.csv")
    assert [row["mean"] for row in read_csv(tmp_path)] == ["0.25"]


SOMETHING = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=60)
@given(
    data=st.data(),
    keys=st.sets(
        st.sampled_from([*run()[1], "resumed", "seed", "steps", "num_steps", "error", "reproduces"]), max_size=3
    ),
    config_keys=st.sets(st.sampled_from(sorted(CONFIG)), max_size=2),
)
def test_no_record_of_another_version_stops_the_others(tmp_path_factory, data, keys, config_keys):
    folder = tmp_path_factory.mktemp("runs")
    path, odd = run("optim.lr=0.1", "seed=1", name="odd")
    for where, names in ((odd["config"], config_keys), (odd, keys)):
        for name in names:
            if data.draw(st.booleans()):
                where[name] = data.draw(SOMETHING)
            else:
                where.pop(name, None)
    (whole, _), *_ = others = seeds("optim.lr=0.1", values=[0.25, 0.5])
    write_runs(folder, [(path, odd), *others])
    runs = read_runs(folder)
    lines = leaderboard(runs)
    assert any("digits  val/loss" in line for line in lines)
    write_csv(runs, folder / "leaderboard.csv")
    assert any(whole.name in row["runs"] for row in read_csv(folder))
