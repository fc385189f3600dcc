"""The code, packages and machine of a run."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from mlprun import __version__
from mlprun.errors import is_users_own
from mlprun.files import atomic_write
from mlprun.runs.secret_files import has_secret_name, is_private

PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "hydra-core", "omegaconf", "tensorboard")
LARGEST_UNTRACKED = 2**20  # bytes; larger untracked files are data rather than code: listed, but not in the patch
LARGEST_PATCH = 10 * 2**20  # bytes


def collect(folder: Path, patch: Path, theirs: Path | None = None) -> dict[str, Any]:
    """`mlprun`, `git`, `packages` and `host` for run.json; uncommitted changes in `folder` go to `patch`.

    `theirs` is a stranger's folder: git would run the commands that the settings of a repository in it name.
    """
    return {
        "mlprun": mlprun_state(Path(__file__).parents[1]),
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
    # An environment inside the folder has its own standard library and scripts, which are not the user's.
    prefixes = {os.path.abspath(prefix) + os.sep for prefix in (sys.prefix, sys.base_prefix)}
    environments = tuple(prefix for prefix in prefixes if prefix.startswith(os.path.abspath(folder) + os.sep))
    hashes = {}
    for module in list(sys.modules.values()):
        try:
            file = getattr(module, "__file__", None)
            # A module without a file may pretend to have a relative one (torch.ops).
            if not isinstance(file, str) or not os.path.isabs(file) or file.startswith(environments):
                continue
            if is_users_own(file):
                hashes[Path(os.path.relpath(file, folder)).as_posix()] = _sha256(Path(file).read_bytes())
        except Exception:
            continue  # a vanished file or a lazy module must not end a run
    return dict(sorted(hashes.items()))


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
            # Its own repository, even if the environment names another (in a git hook).
            others = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
            environment = {name: value for name, value in os.environ.items() if name not in others}
            git = partial(_git, package.parent, environment=environment)
            commit = git("rev-parse", "HEAD").decode().strip()
            changed = git("status", "--porcelain", "--untracked-files=normal", "--", str(package), str(conf))
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


def _git(folder: Path, *arguments: str, environment: Mapping[str, str] = os.environ) -> bytes:
    return subprocess.run(
        ["git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-C", str(folder), *arguments],
        capture_output=True,
        check=True,
        timeout=60,
        env={**environment, "GIT_OPTIONAL_LOCKS": "0"},
    ).stdout


def git_state(folder: Path, patch: Path, theirs: Path | None = None) -> dict[str, Any]:
    """Commit and uncommitted changes of the repository of `folder`; the changes, with untracked files, go to `patch`.

    Files that hold secrets are left out: new ones by name or because only their owner may read them, committed ones,
    whose changes may hold another secret, by name.

    Returns:
        `commit` and `dirty`; if dirty, also `changes` (a hash of the patch), `left_out` (files too large for it),
        `secret` (files that seem to hold secrets) and `patch` (why it was not kept). `{}` outside a repository,
        without git, or in a repository in the folder `theirs`.
    """
    git = partial(_git, folder)
    try:
        commit, *places = os.fsdecode(git("rev-parse", "HEAD", "--show-toplevel", "--absolute-git-dir")).splitlines()
        if theirs and any(theirs.resolve() in (Path(p).resolve(), *Path(p).resolve().parents) for p in places):
            return {}
        changed = git("status", "--porcelain", "--untracked-files=normal")
    except (OSError, subprocess.SubprocessError):
        return {}  # no repository, no commit yet, or no git
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
                # New files: staged ones, also if ignored, and untracked ones.
                listed = git("-C", top, "ls-files", "--cached", "--others", "--exclude-standard", "-z")
                committed = git("-C", top, "ls-files", "-z", environment=index)
                names = set(os.fsdecode(listed).split("\0")) - set(os.fsdecode(committed).split("\0"))
                new = sorted(name for name in names if os.path.lexists(f"{top}/{name}"))
                secret = [name for name in new if has_secret_name(name) or is_private(f"{top}/{name}")]
                new = [name for name in new if name not in secret]
                large = [name for name in new if os.lstat(f"{top}/{name}").st_size > LARGEST_UNTRACKED]
                small = "\0".join(name for name in new if name not in large)
                git("-C", top, "add", "--update", environment=index)
                if small:  # in a file, not as arguments: there may be more than fit on a command line
                    Path(f"{scratch}/new").write_bytes(os.fsencode(small))
                    git("-C", top, "--literal-pathspecs", "add", "--force", f"--pathspec-from-file={scratch}/new",
                        "--pathspec-file-nul", environment=index)  # fmt: skip
                if large:
                    state["left_out"] = large[:20]
                changed = git("-C", top, "diff-index", "--cached", "--name-only", "-z", "HEAD", environment=index)
                held = [name for name in os.fsdecode(changed).split("\0") if name and has_secret_name(name)]
                if secret or held:
                    state["secret"] = sorted({*secret, *held})[:20]
                # Not `git diff`, which follows the user's settings for colours, prefixes, context and tools.
                diff = git("-C", top, "diff-index", "--no-ext-diff", "--cached", "--binary", "--patch", "HEAD",
                           "--no-textconv", "--", *(f":(exclude,top,literal){name}" for name in held),
                           environment=index)  # fmt: skip
            state["changes"] = _sha256(diff)  # so that two records can be compared without their patches
            if len(diff) <= LARGEST_PATCH:
                with atomic_write(patch) as file:
                    file.write(diff)
            else:
                state["patch"] = f"not kept: {len(diff)} bytes"
    except (OSError, subprocess.SubprocessError) as error:
        state["patch"] = f"not kept: {error}"  # such as a file that git cannot read; the commit is still useful
    return state
