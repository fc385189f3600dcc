"""`mlprun new`: a small project to start from."""

from __future__ import annotations

import argparse
import importlib.util
import keyword
import shlex
from pathlib import Path

from mlprun.errors import ConfigError, RunError
from mlprun.formatting import printable

# The project's files. `NAME` in names and texts is the package's; -tpl, as in Django, keeps linters and pytest away.
TEMPLATE = Path(__file__).parents[1] / "new_project"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="a folder that does not exist or is empty")


def run(options: argparse.Namespace, command: str) -> int:
    folder = options.folder
    name = _package_name(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"new {folder}", ConfigError.MISSING, "exists and is not empty", "name a new folder")
    files = sorted(path for path in TEMPLATE.rglob("*") if path.is_file())
    try:
        for file in files:
            target = folder / str(file.relative_to(TEMPLATE)).replace("NAME", name).removesuffix("-tpl")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(file.read_text(encoding="utf-8").replace("NAME", name), encoding="utf-8")
            print(f"  {printable(str(target), keep='')}")
    except OSError as error:
        raise RunError(f"new {folder}: cannot write {error.filename}: {error.strerror}") from error
    steps = (f"cd {shlex.quote(str(folder))}", "mlprun experiment=waves", "mlprun -m experiment=waves model.width=4,8")
    print("", "try", *(f"  {step}" for step in (*steps, "pytest")), sep="\n")
    return 0


def _package_name(folder: Path) -> str:
    """The name of the project's package: the folder's, in lower case, with `_` for what a module's cannot have."""
    typed = folder.absolute().name
    name = "".join(letter if letter.isalnum() else "_" for letter in typed.lower())
    if not name.isidentifier() or keyword.iskeyword(name):
        problem = "the package would have no name that Python can import"
        raise ConfigError(f"new {folder}", ConfigError.MISSING, problem, "choose a name of letters, digits and _")
    if name in ("conf", "tests", "outputs") or importlib.util.find_spec(name) is not None:
        raise ConfigError(f"new {folder}", ConfigError.MISSING, "there is a module of that name", "choose another")
    return name
