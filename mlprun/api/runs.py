"""`mlprun.run` and `mlprun.run_sweep`, and what they return."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlprun.api.guest import edits_told, guest
from mlprun.api.rows import Rows
from mlprun.cli.line import Line, typed_line
from mlprun.cli.sweep import sweep
from mlprun.cli.train import run_line
from mlprun.config.project import find_project
from mlprun.errors import ConfigError, RunError
from mlprun.formatting import format_metric
from mlprun.runs.directory import RunDirectory
from mlprun.runs.record import RunRecord

if TYPE_CHECKING:
    from mlprun.api.model import TrainedModel


class Run:
    """A run on disk: the one that `mlprun.run` has trained, or `mlprun.Run(RUN_DIR)`.

    Attributes:
        directory: absolute path of its directory.

    Raises:
        RunError: the directory holds no run.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory).expanduser().absolute()
        self._record: RunRecord = RunDirectory(self.directory).read()

    @property
    def status(self) -> str:
        """`completed`, `failed`, `interrupted` or `running`, when the object was made."""
        return self._record.status

    @property
    def metrics(self) -> dict[str, float]:
        """`val/…` of the best checkpoint and `test/…`, as in run.json; NaN if not finite; empty unless completed."""
        return {name: math.nan if value is None else value for name, value in self._record.metrics.items()}

    @property
    def config(self) -> dict[str, Any]:
        """The whole config: nested dicts with the keys of docs/config.md, such as `run.config["optim"]["lr"]`."""
        return self._record.config if self._record.has_config else {}

    @property
    def error(self) -> str:
        """Why it failed; empty if it did not."""
        return self._record.error

    @property
    def history(self) -> Rows:
        """The rows of metrics.jsonl, in the order of `step`, an int; `epoch` is a float.

        A row has the values that were logged at its step, floats, NaN if not finite.

        Raises:
            RunError: the file is damaged.
        """
        from mlprun.analysis.curves import rows_of

        rows = rows_of((self.directory, self._record))
        return Rows({name: math.nan if value is None else value for name, value in row.items()} for row in rows)

    def load(self, **how: Any) -> TrainedModel:
        """`mlprun.load` of this run, with the same arguments."""
        from mlprun.api.model import load

        return load(self.directory, **how)

    def __fspath__(self) -> str:
        return str(self.directory)

    def __repr__(self) -> str:
        scores = "".join(f", {name} {format_metric(v)}" for name, v in self.metrics.items() if name.startswith("test/"))
        return f"Run('{self.directory}', {self.status}{scores})"


class Sweep:
    """The runs of a sweep: of the one that `mlprun.run_sweep` has run, or `mlprun.Sweep(SWEEP_DIR)`.

    Attributes:
        directory: absolute path of its directory.

    Raises:
        RunError: there is no such folder.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory).expanduser().absolute()
        if not self.directory.is_dir():
            raise RunError(f"{self.directory}: there is no such folder")

    @property
    def leaderboard(self) -> Rows:
        """See `mlprun.list_runs`."""
        return list_runs(self.directory)

    @property
    def runs(self) -> list[Run]:
        """All runs, by name; those with a damaged record are left out."""
        from mlprun.runs.collect import read_runs

        return [Run(path) for path, record in read_runs(self.directory) if record.has_config]

    def __fspath__(self) -> str:
        return str(self.directory)

    def __repr__(self) -> str:
        return f"Sweep('{self.directory}')"


def run(*overrides: str, config_dir: str | os.PathLike[str] | None = None) -> Run:
    """Train, validate and test as `mlprun OVERRIDES` does: same directory, record and bits.

    A run in `hydra.run.dir=DIR` that is already there is finished, or returned if it was completed. Ended by
    `trainer.max_time`, it is returned with the status `interrupted`.

    Args:
        overrides: such as `"model=mlp", "epochs=3", "optim.lr=1e-3"`.
        config_dir: a folder of YAML of your own, as with `--config-dir`.

    Returns:
        The run, with `metrics`, `history`, `config` and `directory`.

    Raises:
        ConfigError: an override is wrong; nothing is left behind.
        DataError: the data is missing or does not fit.
        RunError: the run failed (DivergedError: it diverged), or another is going on in this process.
        KeyboardInterrupt: Ctrl-C; the run is saved, and `mlprun resume` or the same `hydra.run.dir=DIR` continues it.
    """
    with guest():
        line = _line(overrides, config_dir)
        if line.composer.is_multirun(line.words):
            raise ConfigError("hydra.mode", "MULTIRUN", "is a sweep", "use mlprun.run_sweep(…)")
        with edits_told():
            outcome = run_line(line)
    if outcome.status == "failed":
        raise outcome.error or RunError(f"{outcome.directory} failed")
    return Run(outcome.directory)


def run_sweep(*overrides: str, config_dir: str | os.PathLike[str] | None = None) -> Sweep:
    """Run a sweep as `mlprun -m OVERRIDES` does: in parallel, each run in a process of its own.

    Called again with the same `sweep.name=NAME`, it does the runs that are not completed. A run that fails raises
    nothing: see `failed_runs` in the leaderboard, and `Run.error`.

    Args:
        overrides: such as `"optim.lr=1e-3,3e-3", "seed=range(0,5)"`.
        config_dir: as for `run`.

    Returns:
        The sweep, with `leaderboard`, `runs` and `directory`.

    Raises:
        ConfigError, DataError: a point cannot work; no run was begun.
        RunError: the launcher failed, or a run is going on in this process.
        KeyboardInterrupt: Ctrl-C; the runs are saved, and `mlprun resume SWEEP_DIR` or the same call continues them.
    """
    from mlprun.sweep import pool

    with guest():
        line = _line(overrides, config_dir, "-m")
        if any(o.key_or_group == "sweep.dry_run" for o in line.overrides):
            raise ConfigError("sweep.dry_run", ConfigError.MISSING, "shows a table only", "type it: mlprun -m …")
        try:
            swept = sweep(line)
        finally:
            pool.close_server()
    if swept.error or swept.directory is None:
        raise RunError(swept.error)
    return Sweep(swept.directory)


def list_runs(
    directory: str | os.PathLike[str] | None = None,
    *,
    where: str = "",
    sort: str = "",
    columns: Sequence[str] = (),
) -> Rows:
    """The leaderboard of the runs below a folder: a row for each configuration, best first.

    Columns: `rank` (None without a result), the keys that differ, `n` (seeds), `data`, `monitor`, `mean`, `sd`,
    `ci95_low`, `ci95_high`, the mean of the test metric (`test/accuracy_mean`), `elapsed_sec_mean`,
    `separable_from_best` (None without a test), and the directories `runs`, `failed_runs`, `unfinished_runs`.

    Args:
        directory: None: `outputs`, or the outputs of the project, see docs/own_code.md.
        where: only runs for which it holds, `"val/accuracy>0.97 and model=cnn"`.
        sort: a column, a metric or a key of the config to sort by, metrics best first.
        columns: those to return instead, which may also be metrics and keys of the config.

    Raises:
        RunError: there is no such folder.
        ConfigError: `where`, `sort` or `columns` name what no run has.
    """
    from mlprun.analysis.columns import View
    from mlprun.analysis.leaderboard import typed_rows
    from mlprun.analysis.where import select
    from mlprun.runs.collect import read_runs

    folder = find_project().outputs if directory is None else Path(directory).expanduser()
    return Rows(typed_rows(select(read_runs(folder.absolute()), where), View(sort, columns=columns)))


def _line(overrides: tuple[str, ...], config_dir: str | os.PathLike[str] | None, *flags: str) -> Line:
    for word in overrides:
        if not isinstance(word, str):
            raise ConfigError(str(word), ConfigError.MISSING, "is no text", "write each override as 'key=value'")
        if word in ("-m", "--multirun"):
            raise ConfigError(word, ConfigError.MISSING, "is for the command line", "use mlprun.run_sweep(…)")
        if word.startswith("-"):
            remedy = "give overrides, key=value; a folder of YAML by config_dir=…"
            raise ConfigError(word, ConfigError.MISSING, "is an option of the command line", remedy)
    options = [] if config_dir is None else ["--config-dir", str(config_dir)]
    line = typed_line([*flags, *options, *overrides])
    line.refuse_inspect()
    return line
