"""The user's own modules, in the current folder: found for what a config names, hidden from libraries.

The current folder may be a stranger's. On `sys.path`, even at its end, its `pynvml.py` or `hydra_plugins` would be
imported by the libraries that look for an optional one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from mlprun.errors import RunError, is_users_own

# Who imports what a config names: mlprun, Hydra, and multiprocessing, which unpickles it in a worker.
_HYDRA = ("/hydra/_internal/utils.py", "/hydra/_internal/_locate.py")  # in 1.3, and since 1.4
_ASKING = ("/mlprun/config/instantiate.py", "/mlprun/config/trust.py", *_HYDRA)


class OwnModules(MetaPathFinder):
    """Finds the modules of `folder`, after all others, for a config's `_target_`s and for the user's own code."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if path is not None or not _may_ask(_asking_file()):
            return None
        return PathFinder.find_spec(name, [self.folder])


def find_own_modules() -> None:
    """Let configs name modules of the current folder, in this process."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, OwnModules)]
    try:
        folder = os.getcwd()
    except FileNotFoundError as error:
        raise RunError("the current folder was removed\n  go to one that exists: cd FOLDER") from error
    sys.meta_path.append(OwnModules(folder))


@contextmanager
def own_modules_found() -> Iterator[None]:
    """As `find_own_modules`, for a block in another's program."""
    before = [finder for finder in sys.meta_path if isinstance(finder, OwnModules)]
    find_own_modules()
    try:
        yield
    finally:
        sys.meta_path[:] = [*(finder for finder in sys.meta_path if not isinstance(finder, OwnModules)), *before]


def _asking_file() -> str:
    """The file with the import statement, or with the call of `import_module`."""
    frame = sys._getframe(2)
    while frame.f_back is not None and _is_importlib(frame.f_code.co_filename):
        frame = frame.f_back
    return frame.f_code.co_filename


def _is_importlib(file: str) -> bool:
    return file.startswith("<frozen importlib") or Path(file).parent.name == "importlib"


def _may_ask(file: str) -> bool:
    return file.endswith(_ASKING) or Path(file).parent.name == "multiprocessing" or is_users_own(file)
