"""What code, packages and machine a run was made with."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from mlprun import __version__
from mlprun.errors import is_users_own

# What decides a result; recorded with every run.
PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "hydra-core", "omegaconf", "tensorboard")
LARGEST_UNTRACKED = 2**20  # bytes; a larger untracked file is data rather than code: named, but not in the patch
LARGEST_PATCH = 10 * 2**20  # bytes; a larger one is named in run.json but not kept


def collect(folder: Path, patch: Path) -> dict[str, Any]:
    """The keys `mlprun`, `git`, `packages` and `host` of a run's record.

    Args:
        folder: where the command was typed; the user's code lies in it.
        patch: file for the uncommitted changes of the repository that `folder` is in.
    """
    return {
        "mlprun": mlprun_state(Path(__file__).parents[1]),
        "git": git_state(folder, patch),
        "packages": _versions(),
        "host": _host(),
    }


def sources(folder: Path) -> dict[str, str]:
    """`{"models/net.py": "sha256:…"}`: the user's own modules that are imported by now, relative to `folder`."""
    # An environment that lies in the folder brings its standard library and its scripts, which are not the user's.
    prefixes = {os.path.abspath(prefix) + os.sep for prefix in (sys.prefix, sys.base_prefix)}
    environments = tuple(prefix for prefix in prefixes if prefix.startswith(os.path.abspath(folder) + os.sep))
    hashes = {}
    for module in list(sys.modules.values()):
        try:
            file = getattr(module, "__file__", None)
            # A module that stands for no file may pretend a relative one (torch.ops).
            if not isinstance(file, str) or not os.path.isabs(file) or file.startswith(environments):
                continue
            if is_users_own(file):
                hashes[Path(os.path.relpath(file, folder)).as_posix()] = _sha256(Path(file).read_bytes())
        except Exception:
            continue  # the file has vanished, or a lazy module cannot be looked at: neither may end a run
    return dict(sorted(hashes.items()))


def _sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def mlprun_state(package: Path) -> dict[str, Any]:
    """Which mlprun: its version, a hash of its code and YAML, and its commit where it runs from a checkout.

    The hash is the same for a wheel and for the checkout it was made from. `dirty` speaks of the hashed files alone.

    Args:
        package: the folder of the package `mlprun`.
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
            # Its own repository, also where the environment names another (in a git hook).
            others = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
            environment = {name: value for name, value in os.environ.items() if name not in others}
            git = partial(_git, package.parent, environment=environment)
            commit = git("rev-parse", "HEAD").decode().strip()
            changed = git("status", "--porcelain", "--untracked-files=normal", "--", str(package), str(conf))
            state |= {"commit": commit, "dirty": bool(changed.strip())}
    return state


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def _host() -> dict[str, Any]:
    return {
        "name": platform.node(),
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "num_cpus": os.cpu_count(),
        "python": sys.executable,
    }


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux: the platform's own word has to do
    return platform.processor() or platform.machine()


def _git(folder: Path, *arguments: str, environment: Mapping[str, str] = os.environ) -> bytes:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments],
        capture_output=True,
        check=True,
        timeout=60,
        env={**environment, "GIT_OPTIONAL_LOCKS": "0"},
    ).stdout


def git_state(folder: Path, patch: Path) -> dict[str, Any]:
    """Commit and uncommitted changes of the repository that `folder` is in; the changes go to `patch`.

    Untracked files belong to the changes, ignored ones do not.

    Returns:
        `commit` and `dirty`; where dirty also `changes`, a hash of the patch, `left_out`, the files too large for it,
        and `patch`, which says why it was not kept if it was not. `{}` outside a repository or without git.
    """
    git = partial(_git, folder)
    try:
        commit = git("rev-parse", "HEAD").decode().strip()
        changed = git("status", "--porcelain", "--untracked-files=normal")
    except (OSError, subprocess.SubprocessError):
        return {}  # no repository, no commit yet, or no git: there is nothing to record
    state: dict[str, Any] = {"commit": commit, "dirty": bool(changed.strip())}
    try:
        if state["dirty"]:
            with tempfile.TemporaryDirectory() as scratch:
                # An index of our own, so that untracked files are in the diff and the user's index stays as it is.
                objects = git("rev-parse", "--path-format=absolute", "--git-path", "objects")
                index = {
                    **os.environ,
                    "GIT_INDEX_FILE": f"{scratch}/index",
                    "GIT_OBJECT_DIRECTORY": f"{scratch}/objects",
                    "GIT_ALTERNATE_OBJECT_DIRECTORIES": os.fsdecode(objects).rstrip("\n"),
                }
                os.mkdir(f"{scratch}/objects")
                top = os.fsdecode(git("rev-parse", "--show-toplevel")).rstrip("\n")
                git("read-tree", "HEAD", environment=index)
                # Files that the commit does not know: those that the user has staged, also ignored ones, and the rest.
                listed = git("-C", top, "ls-files", "--cached", "--others", "--exclude-standard", "-z")
                committed = git("-C", top, "ls-files", "-z", environment=index)
                names = set(os.fsdecode(listed).split("\0")) - set(os.fsdecode(committed).split("\0"))
                new = sorted(name for name in names if os.path.lexists(f"{top}/{name}"))
                large = [name for name in new if os.lstat(f"{top}/{name}").st_size > LARGEST_UNTRACKED]
                small = "\0".join(name for name in new if name not in large)
                git("-C", top, "add", "--update", environment=index)
                if small:  # by file, not as arguments: there may be more than a command line holds
                    Path(f"{scratch}/new").write_bytes(os.fsencode(small))
                    git("-C", top, "--literal-pathspecs", "add", "--force", f"--pathspec-from-file={scratch}/new",
                        "--pathspec-file-nul", environment=index)  # fmt: skip
                if large:
                    state["left_out"] = large[:20]
                # Not `git diff`, which follows the user's taste in colours, prefixes, context and tools.
                diff = git("-C", top, "diff-index", "--no-ext-diff", "--cached", "--binary", "--patch", "HEAD",
                           environment=index)  # fmt: skip
            state["changes"] = _sha256(diff)  # so that two records can be compared without their patches
            if len(diff) <= LARGEST_PATCH:
                patch.write_bytes(diff)
            else:
                state["patch"] = f"not kept: {len(diff)} bytes"
    except (OSError, subprocess.SubprocessError) as error:
        state["patch"] = f"not kept: {error}"  # a file that git cannot read, say; the commit is still worth having
    return state
