"""What a run is known by: its difference from the defaults, and version one's hash for what version one made."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore

from mlprun.config.compose import Composer
from mlprun.config.identity import difference, digest, fingerprint, identity
from mlprun.config.point_directories import PointDirectories
from mlprun.config.schema import Audio, Config, DataConfig, Text
from mlprun.config.version_one_identity import version_one_fingerprint
from mlprun.sweep.points import directory_names, points

COMPOSER = Composer()
SWEEP = Path(__file__).parents[2] / "data" / "version_one" / "folder" / "outputs" / "sweeps" / "lr_search"
OLD_POINTS = sorted(path for path in SWEEP.iterdir() if path.is_dir())


def values(*line: str) -> dict:
    return COMPOSER.point(list(line)).to_dict()


def changed_default(monkeypatch: pytest.MonkeyPatch, section: type, name: str, value: object) -> None:
    """Give a key of the schema another default."""
    monkeypatch.setattr(section.__dataclass_fields__[name], "default", value)
    monkeypatch.setattr(section, name, value)


def test_the_difference_from_the_defaults_is_what_was_chosen():
    plain = difference(values())
    assert set(plain) == {"data", "model", "optim", "scheduler", "loss"}
    assert set(plain["data"]) == {"name", "dataset", "task", "input_shape", "num_outputs"}
    chosen = difference(values("seed=3", "trainer.grad_clip=1", "data.augment.flip=true"))
    assert chosen == {
        **plain, "seed": 3, "trainer": {"grad_clip": 1.0}, "data": {**plain["data"], "augment": {"flip": True}}
    }  # fmt: skip


def test_sound_with_all_defaults_is_not_no_sound():
    sound = values("data=tones")
    sound["data"]["audio"] = dataclasses.asdict(Audio())
    assert difference(sound)["data"]["audio"] == {}
    silent = copy.deepcopy(sound)
    silent["data"]["audio"] = None
    assert "audio" not in difference(silent)["data"]
    assert fingerprint(sound) != fingerprint(silent)


@pytest.mark.parametrize("data", ["digits", "reviews", "tones"])
@pytest.mark.parametrize(("group", "key"), [("trainer", "grad_clip"), ("data", "limit"), ("data", "text.lowercase")])
def test_a_key_that_is_newer_than_a_record_changes_nothing(data, group, key):
    now = values(f"data={data}")
    older = copy.deepcopy(now)
    *parents, last = key.split(".")
    for node in (older[group], older["data"]["dataset"]):  # `text: ${data.text}` repeats it
        for parent in parents:
            node = node.get(parent, {})
        node.pop(last, None)
    assert fingerprint(older) == fingerprint(now)
    assert identity(older) == identity(now)


def test_runs_on_image_folders_without_a_resize_are_those_that_cover():
    now = values("data=image_folder", "data.root=a", "data.num_outputs=2")
    older = copy.deepcopy(now)
    del older["data"]["resize"], older["data"]["dataset"]["resize"]
    padded = values("data=image_folder", "data.root=a", "data.num_outputs=2", "data.resize=pad")
    assert fingerprint(older) == fingerprint(now) != fingerprint(padded)
    assert identity(older) == identity(now)


def test_an_argument_of_a_class_is_what_a_run_is_even_if_it_is_the_default():
    assert "hidden" in difference(values())["model"]


@pytest.mark.parametrize("path", OLD_POINTS, ids=lambda path: path.name)
def test_a_directory_of_version_one_is_found(path):
    config = json.loads((path / "run.json").read_text())["config"]
    assert path.name.endswith(f"_{version_one_fingerprint(config)}")
    assert fingerprint(config) != version_one_fingerprint(config)
    assert PointDirectories(SWEEP).find(config) == path


def test_version_one_has_no_hash_of_a_config_with_a_key_that_it_did_not_know():
    config = values()
    assert version_one_fingerprint(config) is not None
    config["trainer"]["of_version_two"] = 1
    assert version_one_fingerprint(config) is None


@pytest.mark.parametrize(("section", "name", "value"), [(DataConfig, "val_fraction", 0.3), (Text, "ngrams", 2)])
def test_a_hash_of_version_one_does_not_depend_on_todays_defaults(monkeypatch, section, name, value):
    config = values("data=reviews")
    before = version_one_fingerprint(config)
    changed_default(monkeypatch, section, name, value)
    assert version_one_fingerprint(config) == before


def record_of(path: Path, config: dict, **more: object) -> Path:
    path.mkdir()
    (path / "run.json").write_text(json.dumps({"status": "completed", "config": config, **more}))
    return path


def test_a_default_that_has_changed_since_starts_a_new_directory(monkeypatch, tmp_path):
    """Though the line, and with it the difference from the defaults and its hash, is what it was."""
    before = values("seed=1")
    mark = fingerprint(before)
    old = record_of(tmp_path / f"run_{mark}", before)
    assert PointDirectories(tmp_path).find(before) == old
    changed_default(monkeypatch, Config, "batch_size", 64)
    monkeypatch.setattr(ConfigStore.instance(), "repo", {**ConfigStore.instance().repo})
    ConfigStore.instance().store(name="schema", node=Config)
    (point,), _ = points(Composer(), [["seed=1"]], tmp_path)
    now = point.config.to_dict()
    assert (before["batch_size"], now["batch_size"]) == (32, 64)
    assert fingerprint(now) == point.fingerprint == mark
    assert (point.path, point.status) == (None, "new")
    (name,) = set(directory_names([point], {}).values())
    assert name != old.name
    new = record_of(tmp_path / name, now)
    (point,), _ = points(Composer(), [["seed=1"]], tmp_path)
    assert (point.path, point.status) == (new, "completed")


def test_a_directory_that_was_not_begun_is_its_points(tmp_path):
    config = values("seed=1")
    (tmp_path / f"seed=1_{fingerprint(config)}").mkdir()
    assert PointDirectories(tmp_path).find(config) is not None


def test_equal_numbers_are_one_identity_and_large_ones_are_not_rounded():
    assert digest({"lr": 1}) == digest({"lr": 1.0})
    assert len({digest({"seed": seed}) for seed in (2**53, 2**53 + 1, 2**63 - 1, 2**63 - 2)}) == 4


@pytest.mark.parametrize("damaged", [{}, {"data": "x"}, {"data": {"dataset": "x"}}, {"trainer": 1, "sweep": []}])
def test_a_damaged_config_has_an_identity_so_that_it_hides_no_other_run(damaged):
    assert identity(damaged)["seed"] == 0
