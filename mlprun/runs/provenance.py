"""The code, packages and machine of a run."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from mlprun import __version__
from mlprun.errors import is_users_own
from mlprun.runs.repository import git, git_state, own_environment

PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "hydra-core", "omegaconf", "tensorboard")


def collect(folder: Path, patch: Path, theirs: Path | None = None) -> dict[str, Any]:
    """`mlprun`, `git`, `packages` and `host` for run.json; uncommitted changes in `folder` go to `patch`.

    `theirs` is a stranger's folder: git would run the commands that the settings of a repository in it name.
    """
    return {
        "mlprun": own_state(),
        "git": git_state(folder, patch, theirs),
        "packages": packages(),
        "host": {
            "name": platform.node(),
            "platform": platform.platform(),
            "cpu": cpu_name(),
            "num_cpus": os.cpu_count(),
            "python": sys.executable,
        },
    }


def came_together(run: Path) -> Path:
    """The run, or the sweep that it is a point of."""
    return next((folder for folder in (run.parent, run.parent.parent) if (folder / "sweep.json").exists()), run)


def packages() -> dict[str, str]:
    """The versions of Python and of the packages that results depend on."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def sources(folder: Path) -> dict[str, str]:
    """`{"models/net.py": "sha256:…"}`: the user's own imported modules, relative to `folder`."""
    hashes = {Path(os.path.relpath(file, folder)).as_posix(): sha256 for file, sha256, _ in imported(folder)}
    return dict(sorted(hashes.items()))


def imported(folder: Path) -> Iterator[tuple[str, str, object]]:
    """The file, its hash as it is now, and the spec of each of the user's own imported modules."""
    # An environment inside the folder has its own standard library and scripts, which are not the user's.
    prefixes = {os.path.abspath(prefix) + os.sep for prefix in (sys.prefix, sys.base_prefix)}
    environments = tuple(prefix for prefix in prefixes if prefix.startswith(os.path.abspath(folder) + os.sep))
    for module in list(sys.modules.values()):
        try:
            file = getattr(module, "__file__", None)
            # A module without a file may pretend to have a relative one (torch.ops).
            if not isinstance(file, str) or not os.path.isabs(file) or file.startswith(environments):
                continue
            if is_users_own(file):
                yield file, _sha256(Path(file).read_bytes()), module.__spec__
        except Exception:
            continue  # a vanished file or a lazy module must not end a run


def files_now(recorded: Iterable[str], folder: Path) -> dict[str, str]:
    """The hashes of files in `folder` as they are now; without those that are gone."""
    hashes = {}
    for name in recorded:
        with contextlib.suppress(OSError, ValueError):  # it cannot be read, or is no name of a file
            if (file := folder / name).is_file():
                hashes[name] = _sha256(file.read_bytes())
    return hashes


def _sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@functools.cache
def own_state() -> dict[str, Any]:
    """`mlprun_state` of the code that this process runs, computed once: a sweep's jobs inherit it."""
    return mlprun_state(Path(__file__).parents[1])


def mlprun_state(package: Path) -> dict[str, Any]:
    """Version of the package mlprun, a hash of its code and YAML, and its commit if it runs from a checkout.

    A wheel has the same hash as the checkout it was built from. `dirty` refers to the hashed files only.
    """
    inside = package / "conf"  # in a wheel; beside the package in a checkout
    conf = inside if inside.is_dir() else package.parent / "conf"
    ours = [file for file in package.rglob("*") if file.suffix in (".py", ".yaml") and conf not in file.parents]
    files = {f"mlprun/{file.relative_to(package).as_posix()}": file for file in ours}
    files |= {f"conf/{file.relative_to(conf).as_posix()}": file for file in conf.rglob("*.yaml")}
    # is_file: an editor's lock (.#job.py) is a link to nowhere
    lines = [f"{name} {_sha256(file.read_bytes())}\n" for name, file in sorted(files.items()) if file.is_file()]
    state: dict[str, Any] = {"version": __version__, "source": _sha256("".join(lines).encode())}
    if (package.parent / ".git").exists():
        # suppress: git is missing, or refuses the repository (another owner's), or there is no commit yet
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            here = partial(git, package.parent, environment=own_environment())  # even in the hook of another
            commit = here("rev-parse", "HEAD").decode().strip()
            changed = here("status", "--porcelain", "--untracked-files=normal", "--", str(package), str(conf))
            state |= {"commit": commit, "dirty": bool(changed.strip())}
    return state


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()
