"""Files: written whole or not at all, and on the disk when that is said."""

from __future__ import annotations

import errno
import os
import pwd
from pathlib import Path

import pytest

from mlprun.files import atomic_write, expand_home


def test_the_new_content_takes_the_place_of_the_old(tmp_path):
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(b"old")
    with path.open("rb") as reader, atomic_write(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
        (unfinished,) = set(tmp_path.iterdir()) - {path}
        assert unfinished.name.startswith(".")
        assert "tfevents" not in unfinished.name  # TensorBoard would read it
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_content_is_on_the_disk_before_its_name_and_then_the_name(tmp_path, monkeypatch):
    path, done = tmp_path / "run.json", []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        done.append("folder" if os.fstat(descriptor).st_ino == tmp_path.stat().st_ino else "file")
        fsync(descriptor)

    def replaced(source: Path, target: Path) -> None:
        assert source.read_bytes() == b"new"
        done.append("name")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    with atomic_write(path) as file:
        file.write(b"new")
    assert done == ["file", "name", "folder"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_breaks_off_changes_nothing(tmp_path, error):
    path = tmp_path / "run.json"
    path.write_bytes(b"old")

    def break_off() -> None:
        with atomic_write(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        break_off()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("which", ["fsync", "replace"])
def test_a_system_that_refuses_changes_nothing(tmp_path, monkeypatch, which):
    path = tmp_path / "run.json"
    path.write_bytes(b"old")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, which, refuse)
    with pytest.raises(OSError, match="No space left on device"), atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_the_systems_own_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "missing" / "run.json"):
        pass


@pytest.mark.parametrize("typed", ["~/pictures", "~nobody-of-that-name/pictures"])
def test_a_folder_of_nobodys_home_is_one_that_does_not_exist(monkeypatch, typed):
    def no_entry(who: object) -> None:
        raise KeyError(who)

    monkeypatch.setenv("HOME", "/home/me")
    assert expand_home("~/pictures") == Path("/home/me/pictures")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    assert expand_home(typed) == Path(typed)
