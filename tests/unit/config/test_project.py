"""`[tool.mlprun]` in pyproject.toml: what the lines typed in a project start from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlprun.config.project import Project, find_project
from mlprun.errors import ConfigError
from tests.helpers.files import write


@pytest.fixture
def there(tmp_path, monkeypatch):
    """An empty folder, where the test stands."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(text: str) -> str:
    return f"[tool.mlprun]\n{text}\n"


@pytest.mark.parametrize("text", [None, "", "[project]\nname = 'mlprun'\n", "[tool.mlprun-plugin]\nconf = 1\n"])
def test_without_a_table_there_is_no_project(there, text):
    if text is not None:
        (there / "pyproject.toml").write_text(text)
    assert find_project() == Project(Path(), None, Path("outputs"), None)


def test_paths_are_seen_from_the_current_folder(there, monkeypatch):
    write(there, {"pyproject.toml": table('conf = "yaml"\ndefaults = "base"'), "yaml/a.yaml": "", "a/b/c": ""})
    assert find_project() == Project(Path(), "yaml", Path("outputs"), "base")
    monkeypatch.chdir(there / "a" / "b")
    assert find_project() == Project(Path("../.."), "../../yaml", Path("../../outputs"), "base")


def test_a_file_between_without_the_table_does_not_hide_it(there, monkeypatch):
    write(there, {"pyproject.toml": table('outputs = "/runs"'), "a/pyproject.toml": "[project]\n", "a/b": ""})
    monkeypatch.chdir(there / "a")
    assert find_project().outputs == Path("/runs")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (table('config = "conf"'), "config in [tool.mlprun] of {file}: there is no such key\n  did you mean 'conf'?"),
        (table("outputs = 5"), "outputs in [tool.mlprun] of {file}=5: must be a text"),
        (table('conf = ""'), "conf in [tool.mlprun] of {file}=: must be a text"),
        (table('conf = "cnf"'), "conf in [tool.mlprun] of {file}=cnf: there is no such folder"),
        (table('defaults = "base"'), "is a file in the folder `conf`\n  add conf"),
        ("[tool]\nmlprun = 1\n", "[tool.mlprun] of {file}=1: must be a table"),
        ("[tool.mlprun\n", "{file}: is not TOML: "),
        ("[tool.mlprun]\nconf = '\xff'\n".encode("latin-1"), "{file}: is not TOML: 'utf-8' codec"),
    ],
)
def test_mistakes_name_the_file_and_the_key(there, text, message):
    write(there, {"pyproject.toml": text})
    with pytest.raises(ConfigError) as error:
        find_project()
    assert message.format(file=there / "pyproject.toml") in str(error.value)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_another_users_file_is_named_and_not_read(there, capsys):
    write(there, {"pyproject.toml": table('outputs = "elsewhere"')})
    os.chown(there / "pyproject.toml", 12345, -1)
    assert find_project() == find_project() == Project()
    assert capsys.readouterr().err.count("belongs to another user and is not read") == 1
