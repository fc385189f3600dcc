"""The state of the user's git repository: its commit, and uncommitted changes as a patch of bounded size.

Reading must not cost more than a short run: files are chosen by name and size before git reads one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mlprun.files import atomic_write
from mlprun.runs.secret_files import has_secret_name, is_private

LARGEST_NEW = 2**20  # bytes; larger new files are data rather than code
LARGEST_READ = 10 * 2**20  # bytes that git reads for a patch
LARGEST_PATCH = 10 * 2**20  # bytes
MOST_FILES = 1000  # in a patch
MANY = 100  # a folder of more new files comes last
DATA = frozenset(
    "jpg jpeg png gif bmp tif tiff webp heic ico psd dcm nii wav mp3 flac ogg opus m4a mp4 avi mov mkv webm "
    "npy npz pt pth ckpt safetensors gguf onnx h5 hdf5 pkl pickle joblib parquet arrow feather avro tfrecord mat bin "
    "dat db sqlite sqlite3 lmdb mdb rec idx ubyte zip tar gz tgz bz2 xz zst 7z rar whl pdf ttf otf so o a pyc".split()
)
_OWN = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")  # name a repository, as in a hook


class _Change(NamedTuple):
    name: str  # relative to the top; of a repository inside this one, which is not a submodule, with a slash at its end
    is_new: bool
    size: int  # bytes that git would read, at most
    is_repository: bool = False


class _Choice(NamedTuple):
    kept: list[_Change]
    left_out: list[str]
    secret: list[str]


def git(folder: Path, *words: str, environment: Mapping[str, str] = os.environ, stdin: bytes = b"") -> bytes:
    settings = ["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"]
    return subprocess.run(
        ["git", *settings, "-C", str(folder), *words],
        input=stdin,
        capture_output=True,
        check=True,
        timeout=60,
        env={**environment, "GIT_OPTIONAL_LOCKS": "0"},
    ).stdout


def own_environment() -> dict[str, str]:
    """The environment without the variables that name a repository: the folder decides."""
    return {name: value for name, value in os.environ.items() if name not in _OWN}


def git_state(folder: Path, patch: Path, theirs: Path | None = None) -> dict[str, Any]:
    """Commit and uncommitted changes of the repository of `folder`; the changes, with new files, go to `patch`.

    Left out are files that hold secrets (new ones by name or because only their owner may read them, others by name),
    data (by ending), run directories, large new files, and what exceeds `MOST_FILES` or `LARGEST_READ`.

    Returns:
        `commit` and `dirty`; if dirty, also `changes` (a hash of the patch), `left_out` and `secret` (at most twenty
        files each), `num_left_out`, `submodules` (the same for each that has changes, which are in the patch) and
        `patch` (why it was not kept). `{}` outside a repository, without git, or in a repository in the folder
        `theirs`.
    """
    state, diff = _state(folder, os.environ, theirs, "")
    if "changes" in state:
        try:
            if len(diff) > LARGEST_PATCH:
                raise OSError(f"{len(diff)} bytes")
            with atomic_write(patch) as file:
                file.write(diff)
        except OSError as error:
            state["patch"] = f"not kept: {error}"
    return state


def _state(
    folder: Path, environment: Mapping[str, str], theirs: Path | None, prefix: str
) -> tuple[dict[str, Any], bytes]:
    """The state without `patch`, and the diff; `prefix` comes before its names."""
    try:
        places = ("rev-parse", "HEAD", "--show-toplevel", "--absolute-git-dir")
        commit, *found = os.fsdecode(git(folder, *places, environment=environment)).splitlines()
        if theirs and any(theirs.resolve() in (Path(p).resolve(), *Path(p).resolve().parents) for p in found):
            return {}, b""
        status = ("status", "--porcelain", "--untracked-files=normal", "--ignore-submodules=none")
        state: dict[str, Any] = {"commit": commit, "dirty": bool(git(folder, *status, environment=environment).strip())}
    except (OSError, subprocess.SubprocessError):
        return {}, b""  # no repository, no commit yet, or no git
    if not state["dirty"]:
        return state, b""
    diff = b""
    try:
        with tempfile.TemporaryDirectory() as scratch:
            top = Path(os.fsdecode(git(folder, "rev-parse", "--show-toplevel", environment=environment)).rstrip("\n"))
            index = _scratch_index(top, Path(scratch), environment)
            choice = choose(top, _changes(top, index, environment))
            names = b"".join(os.fsencode(change.name.rstrip("/")) + b"\0" for change in choice.kept)
            git(top, "update-index", "--add", "--remove", "--replace", "-z", "--stdin", environment=index, stdin=names)
            # Not `git diff`, which follows the user's settings for colours, prefixes, context and tools.
            diff = git(top, "diff-index", "--no-ext-diff", "--cached", "--binary", "--patch", "HEAD", "--no-textconv",
                       "--ignore-submodules=none", f"--src-prefix=a/{prefix}", f"--dst-prefix=b/{prefix}",
                       environment=index)  # fmt: skip
        submodules: dict[str, Any] = {}
        for change in choice.kept:
            if change.is_repository and not change.is_new and os.path.lexists(top / change.name / ".git"):
                inner, more = _state(top / change.name, own_environment(), theirs, f"{prefix}{change.name}/")
                submodules |= {change.name: inner} if inner.get("dirty") else {}
                diff += more
        if choice.left_out:
            state |= {"left_out": choice.left_out[:20], "num_left_out": len(choice.left_out)}
        state |= {"secret": choice.secret[:20]} if choice.secret else {}
        state |= {"submodules": submodules} if submodules else {}
        state["changes"] = f"sha256:{hashlib.sha256(diff).hexdigest()}"  # compares two records without their patches
    except (OSError, subprocess.SubprocessError) as error:
        state["patch"] = f"not kept: {error}"  # such as a file that git cannot read; the commit is still useful
    return state, diff


def _scratch_index(top: Path, scratch: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with an index of our own that holds HEAD; the user's stays as it is.

    It begins as a copy of the user's, whose times and sizes tell git which files need not be read.
    """
    paths = git(top, "rev-parse", "--path-format=absolute", "--git-path", "index", "--git-path", "objects",
                environment=environment)  # fmt: skip
    theirs, objects = os.fsdecode(paths).splitlines()
    (scratch / "objects").mkdir()
    if os.path.exists(theirs):
        shutil.copyfile(theirs, scratch / "index")
    index = {
        **environment,
        "GIT_INDEX_FILE": str(scratch / "index"),
        "GIT_OBJECT_DIRECTORY": str(scratch / "objects"),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": objects,
    }
    git(top, "read-tree", "--reset", "HEAD", environment=index)
    git(top, "update-index", "-q", "--refresh", environment=index)
    return index


def _changes(top: Path, index: Mapping[str, str], environment: Mapping[str, str]) -> list[_Change]:
    """The files that differ from HEAD, and those it does not have: staged ones, also if ignored, and untracked ones."""
    raw = os.fsdecode(git(top, "diff-files", "--raw", "-z", "--ignore-submodules=none", environment=index)).split("\0")
    modified = [(*line.split(" "), name) for line, name in zip(raw[0::2], raw[1::2], strict=False)]
    blobs = [blob for _, _, blob, _, _, _ in modified]
    check = git(top, "cat-file", "--batch-check=%(objectsize)", environment=index, stdin="\n".join(blobs).encode())
    changes = []
    for (before, after, *_, name), old in zip(modified, check.decode().splitlines(), strict=True):
        new = os.lstat(top / name).st_size if os.path.lexists(top / name) else 0
        is_repository = "160000" in (before.lstrip(":"), after)
        size = 0 if is_repository else max(new, int(old) if old.isdecimal() else 0)
        changes.append(_Change(name, False, size, is_repository))
    staged = git(top, "diff-index", "--cached", "--ita-visible-in-index", "--name-only", "--diff-filter=A", "-z",
                 "HEAD", environment=environment)  # fmt: skip
    untracked = git(top, "ls-files", "--others", "--exclude-standard", "-z", environment=index)
    for name in sorted({*os.fsdecode(staged).split("\0"), *os.fsdecode(untracked).split("\0")}):
        if name and os.path.lexists(top / name):
            changes.append(_Change(name, True, os.lstat(top / name).st_size, os.path.isdir(f"{top}/{name}/.git")))
    return changes


def choose(top: Path, changes: list[_Change]) -> _Choice:
    """Which files go into the patch: modified before new ones, and of these large folders last, outer ones first."""
    choice = _Choice([], [], [])
    new = {change.name for change in changes if change.is_new}
    runs = {_folder(name) for name in new if os.path.basename(name) in ("run.json", "sweep.json")}
    runs = {folder for folder in runs if folder and f"{folder}/.lock" in new}
    sizes = Counter(_folder(name) for name in new)
    num_bytes, most = 0, {True: LARGEST_NEW, False: LARGEST_READ}

    def order(change: _Change) -> tuple[bool, bool, int, str]:
        return change.is_new, sizes[_folder(change.name)] > MANY, change.name.count("/"), change.name

    for change in sorted(changes, key=order):
        name = change.name
        if name.rpartition(".")[2].lower() in DATA or (change.is_new and _is_within(name, runs)):
            choice.left_out.append(name)
        elif has_secret_name(name) or (change.is_new and is_private(str(top / name))):
            choice.secret.append(name)
        elif change.is_new and name.endswith("/"):
            choice.left_out.append(name)  # its changes; its commit is in the patch, if it has one
            if _has_commit(top / name):
                choice.kept.append(change)
        elif change.size <= min(LARGEST_READ - num_bytes, most[change.is_new]) and len(choice.kept) < MOST_FILES:
            choice.kept.append(change)
            num_bytes += change.size
        else:
            choice.left_out.append(name)
    for names in (choice.left_out, choice.secret):
        names.sort()
    return choice


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _is_within(name: str, folders: set[str]) -> bool:
    while folders and (name := _folder(name)):
        if name in folders:
            return True
    return False


def _has_commit(folder: Path) -> bool:
    try:
        return bool(git(folder, "rev-parse", "--verify", "HEAD", environment=own_environment()))
    except (OSError, subprocess.SubprocessError):
        return False
