"""The resolvers `${mlprun.…:}` of the YAML, and the folders of the YAML."""

from __future__ import annotations

import os
import re
from pathlib import Path

from omegaconf import DictConfig

from mlprun.config.checks import check
from mlprun.config.hydra_private import register_resolver
from mlprun.config.identity import fingerprint
from mlprun.config.options import iter_options
from mlprun.config.point_directories import PointDirectories
from mlprun.config.project import find_project
from mlprun.config.schema import Audio
from mlprun.data.audio.mel import Frames
from mlprun.data.folders import num_class_folders
from mlprun.errors import ConfigError
from mlprun.tasks.names import LOSSES


def conf_dirs() -> tuple[Path, Path]:
    """The folders of mlprun's own YAML: `conf`, inside the package in a wheel, and the course's."""
    package = Path(__file__).parents[1]
    inside, beside = package / "conf", package.parent / "conf"
    return inside if inside.is_dir() else beside, package / "course" / "conf"


def data_root() -> str:
    from platformdirs import user_cache_path

    try:
        return os.path.expanduser(os.environ.get("MLPRUN_DATA") or user_cache_path("mlprun") / "data")
    except RuntimeError as error:  # a container's user without an entry in /etc/passwd
        problem = "there is no home folder to keep downloads in"
        remedy = "set data.root=FOLDER, or the variable MLPRUN_DATA"
        raise ConfigError("data.root", ConfigError.MISSING, problem, remedy) from error


def _run_name(_root_: DictConfig) -> str:
    """`digits_mlp_adam`: the chosen options, or the class if it is not the option's."""
    choices, overrides = _root_.hydra.runtime.choices, _root_.hydra.overrides.task
    names = [_root_.data.name]
    for group in ("model", "optim"):
        by_class = choices[group] == "custom" or any(o.startswith(f"{group}._target_=") for o in overrides)
        names.append(_root_[group]._target_.rpartition(".")[2] if by_class else choices[group])
    return file_name("_".join(names))


def _point_name(_root_: DictConfig) -> str:
    if not _root_.hydra.runtime.choices:
        return ""  # Hydra reads the value while it composes
    return point_name(_root_, PointDirectories(Path(_root_.hydra.sweep.dir)))


def point_name(cfg: DictConfig, directories: PointDirectories) -> str:
    """The directory of a point that was not planned, as with a search: its swept overrides and its hash."""
    config = check(cfg).to_dict()
    key = fingerprint(config)
    if (existing := directories.find_run(config, key)[0]) is not None:
        return existing.name
    label = file_name(cfg.hydra.job.override_dirname)[:80] or "run"
    return f"{label}_{directories.free_suffix(key)}"


def _frames(audio: DictConfig) -> Frames:
    """The frames of a `data.audio`, whose keys are not checked yet while the config is resolved."""
    for key, option, value in iter_options(Audio, audio, "data.audio."):
        if option.check is not None and (problem := option.check.problem(value)) is not None:
            raise ConfigError(key, value, problem)
    return Frames(**{str(name): value for name, value in audio.items()})


def _table(what: str, dataset: DictConfig) -> object:
    """What the file of data=csv says of the data, before they are loaded."""
    if what == "name":
        return Path(str(dataset.path or "csv")).stem
    lists = {key: dataset.get(key) or [] for key in ("categorical", "numeric", "drop")}
    task = None if what == "task" else dataset.get("task")
    from mlprun.data.table.table import read_table  # imports numpy

    table = read_table(dataset.path, dataset.target, task=task, **lists)
    if what == "num_inputs":
        table.refuse_missing(dataset.get("impute"))
    return getattr(table, what)


def _loss_of(task: str) -> str:
    if task not in LOSSES:
        remedy = f"write loss=…; known are those of {', '.join(LOSSES)}"
        raise ConfigError("loss", "by_task", f"there is none for data.task={task}", remedy)
    return LOSSES[task]


def file_name(text: str) -> str:
    """`text` without characters that are special in file names or in a shell, at most 120 characters."""
    return re.sub(r"[^\w.,=+-]+", "-", re.sub(r"[\[\]{}'\"]", "", text))[:120].strip("-.")


register_resolver("mlprun.data_root", data_root)
register_resolver("mlprun.outputs", lambda: str(find_project().outputs))
register_resolver("mlprun.run_name", _run_name)
register_resolver("mlprun.point_name", _point_name)
register_resolver("mlprun.num_class_folders", num_class_folders)
register_resolver("mlprun.table", _table)
register_resolver("mlprun.loss_of", _loss_of)
register_resolver("mlprun.num_frames", lambda audio: _frames(audio).num_frames)
