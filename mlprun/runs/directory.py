"""A run's directory: its layout, its claim, and `run.json`, the record of what ran, on what, and how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from mlprun import __version__
from mlprun.errors import ConfigError, RunError

# What decides a result; recorded with every run.
PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "hydra-core", "omegaconf", "tensorboard")
LARGEST_UNTRACKED = 2**20  # bytes; a larger untracked file is data rather than code: named, but not in the patch
LARGEST_PATCH = 10 * 2**20  # bytes; a larger one is named in run.json but not kept


def claim(pattern: str) -> Path:
    """A new directory `pattern_XXXX` that is this process's alone.

    mkdir either makes a directory or fails, also on a network file system, so two runs that start in the same
    second cannot both get it.

    Raises:
        RunError: the folder cannot be written.
    """
    try:
        Path(pattern).parent.mkdir(parents=True, exist_ok=True)
        while True:
            path = Path(f"{pattern}_{secrets.token_hex(2)}")
            try:
                path.mkdir()
            except FileExistsError:
                continue
            return path
    except OSError as error:
        raise _cannot_write(Path(pattern).parent, error) from error


def make(path: Path) -> None:
    """The directory `path`, which may be there already.

    Raises:
        RunError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(path, error) from error


def keep_out_of_git(folder: Path) -> None:
    """Let git ignore what is in an output folder: else every run would make the next one's repository dirty."""
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")


def _cannot_write(path: Path, error: OSError) -> RunError:
    return RunError(
        f"{path}: the output folder cannot be written: {error.strerror}"
        "\n  make it writable, or choose another with hydra.run.dir=… (a sweep: hydra.sweep.dir=…)"
    )


class RunDirectory:
    """The files of one run.

    Args:
        path: the directory; made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record_file = path / "run.json"
        self.log_file = path / "train.log"
        self.metrics_file = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self._record: dict[str, Any] = {}
        self._started = time.monotonic()

    @property
    def best(self) -> Path:
        """The checkpoint with the best `monitor`."""
        return self.checkpoints / "best.pt"

    def read(self) -> dict[str, Any]:
        """What `run.json` holds.

        Raises:
            RunError: this is no run, or its record is damaged.
        """
        try:
            record = json.loads(self.record_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(
                f"{self.path} is not a run: it has no run.json"
                "\n  name a run directory, such as outputs/2026-11-21/10-33-12_digits_mlp_adam_3f2a"
            ) from None
        except (OSError, ValueError) as error:
            raise RunError(f"{self.record_file} cannot be read: {error}") from error
        if not isinstance(record, dict):
            raise RunError(f"{self.record_file} is damaged: it holds no object")
        return record

    def start(self, config: dict[str, Any], command: str, overrides: list[str]) -> None:
        """Open the record of a run that now begins: status `running`.

        Raises:
            ConfigError: the directory holds a run already.
            RunError: it cannot be written.
        """
        make(self.path)
        if self.record_file.exists():
            raise ConfigError(
                "hydra.run.dir",
                self.path,
                "this directory holds a run already",
                "choose another, or remove it",
            )
        self.update(
            status="running",
            command=command,
            overrides=overrides,
            folder=str(Path.cwd()),
            config=config,
            seed=config["seed"],
            started_at=_now(),
            mlprun=__version__,
            git=git_state(Path.cwd(), self.path / "code.patch"),
            packages=_versions(),
            host=_host(),
        )

    def update(self, **values: Any) -> None:
        """Add to the record, and write it whole or not at all."""
        self._record.update(values)
        temporary = self.path / f".run.json.{os.getpid()}.tmp"
        try:
            temporary.write_text(json.dumps(self._record, indent=2) + "\n", encoding="utf-8")
            os.replace(temporary, self.record_file)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise _cannot_write(self.path, error) from error

    def finish(self, status: str, **values: Any) -> None:
        """Close the record: `completed`, `failed` or `interrupted`."""
        elapsed = time.monotonic() - self._started
        self.update(status=status, ended_at=_now(), elapsed_sec=round(elapsed, 3), **values)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


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


def git_state(folder: Path, patch: Path) -> dict[str, Any]:
    """Commit and uncommitted changes of the repository that `folder` is in; the changes go to `patch`.

    Untracked files belong to the changes, ignored ones do not. `{}` outside a repository or without git.
    """

    def git(*arguments: str, **environment: str) -> bytes:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            check=True,
            timeout=60,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", **environment},
        ).stdout

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
                index = {"GIT_INDEX_FILE": f"{scratch}/index", "GIT_OBJECT_DIRECTORY": f"{scratch}/objects"}
                objects = git("rev-parse", "--path-format=absolute", "--git-path", "objects").decode().strip()
                index["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = objects
                os.mkdir(f"{scratch}/objects")
                top = git("rev-parse", "--show-toplevel").decode().strip()
                git("read-tree", "HEAD", **index)
                git("-C", top, "add", "--update", **index)
                untracked = git("-C", top, "ls-files", "--others", "--exclude-standard", "-z").decode().split("\0")[:-1]
                large = [name for name in untracked if os.lstat(f"{top}/{name}").st_size > LARGEST_UNTRACKED]
                small = "\0".join(name for name in untracked if name not in large)
                if small:  # by file, not as arguments: there may be more than a command line holds
                    Path(f"{scratch}/untracked").write_text(small, encoding="utf-8")
                    git("-C", top, "--literal-pathspecs", "add", f"--pathspec-from-file={scratch}/untracked",
                        "--pathspec-file-nul", **index)  # fmt: skip
                if large:
                    state["left_out"] = large[:20]
                # Not `git diff`, which follows the user's taste in colours, prefixes, context and tools.
                diff = git("-C", top, "diff-index", "--no-ext-diff", "--cached", "--binary", "--patch", "HEAD", **index)
            if len(diff) <= LARGEST_PATCH:
                patch.write_bytes(diff)
            else:
                state["patch"] = f"not kept: {len(diff)} bytes"
    except (OSError, subprocess.SubprocessError) as error:
        state["patch"] = f"not kept: {error}"  # a file that git cannot read, say; the commit is still worth having
    return state
