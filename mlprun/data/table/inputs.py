"""Rows of a table as inputs of a model, and the data set that they make."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mlprun.data.nested import Batch
from mlprun.data.source import Examples, Inputs, Part, Source
from mlprun.data.table.columns import CATEGORY, NUMERIC, Column, Values, as_texts, to_numbers
from mlprun.data.table.table import Table, class_indices, encode, read_table
from mlprun.errors import ConfigError
from mlprun.formatting import first_few, pluralize, printable
from mlprun.text_table import render

log = logging.getLogger("mlprun")

IMPUTE = ("median", "mean", "most_frequent")


def table(
    path: str,
    target: str,
    task: str | None = None,
    categorical: Sequence[str] = (),
    numeric: Sequence[str] = (),
    drop: Sequence[str] = (),
    impute: str | None = None,
    input_shape: Sequence[int] | None = None,
) -> Source:
    """The rows of a CSV or Parquet file with the names of its columns in the first line; see docs/tables.md.

    Args:
        target: the column to predict.
        task: `classification` or `regression`; None: found by the target's values.
        categorical, numeric, drop: columns that are categories, numbers, or not used, whatever they look like.
        impute: what a missing value becomes, by statistics of the training split: `median` or `mean` of numbers, the
            most frequent category or truth value, or `most_frequent` for all; None: missing values are refused.
        input_shape: that of the config; None: not compared.

    Raises:
        ConfigError: the file does not give `input_shape`, or a key names no column.
        DataError: as `read_table`, or values are missing, and `impute` is None.
    """
    if impute not in (None, *IMPUTE):
        remedy = f"choose from: {', '.join(IMPUTE)}"
        raise ConfigError("data.impute", impute, "is no way to fill missing values", remedy)
    read = read_table(path, target, task=task, categorical=categorical, numeric=numeric, drop=drop)
    if input_shape is not None and [*input_shape] != [read.num_inputs]:
        problem = f"the columns of {path} give {read.num_inputs} inputs"
        remedy = "leave it out; if this run began with it, the file has got other columns or categories since"
        raise ConfigError("data.input_shape", [*input_shape], problem, remedy)
    read.refuse_missing(impute)
    for warning in read.warnings:
        log.warning("%s: %s", Path(path).name, warning)
    rows = np.concatenate([encode(column, read.cells[column.name]) for column in read.columns], 1)
    goal, cells = read.target.column, read.cells[target]
    targets = torch.from_numpy(
        class_indices(goal, cells) if goal.categories else to_numbers(goal, cells).astype(np.float32)[:, None]
    )
    return Source(
        Examples(torch.from_numpy(rows), targets),
        class_names=goal.categories,
        groups={str(name): as_texts(read.cells[name]).to_numpy(object) for name in read.cells.columns},
        fingerprints={path: read.fingerprint},
        inputs=Rows(read.columns, goal, impute, summary=tuple(_summary(read, impute))),
    )


def _summary(read: Table, impute: str | None) -> list[str]:
    """What the columns are, for the lines that a run begins with."""
    kinds = {kind: [each for each in read.columns if each.kind == kind] for kind in (NUMERIC, "boolean", CATEGORY)}
    lines = []
    for kind, columns in kinds.items():
        if columns:
            names = [f"{each.name} ({each.width})" if kind == CATEGORY else each.name for each in columns]
            lines.append((f"{'categories' if kind == CATEGORY else kind + 's'}", first_few(names, 12)))
    if read.few:
        lines.append(("", f"with few values: {first_few(read.few, 8)}; data.categorical=[…] if they are codes"))
    target = read.target
    as_classes = f"{pluralize(len(target.column.categories), 'class').replace('classs', 'classes')}"
    what = as_classes if target.column.categories else "a quantity"
    lines.append(("target", f"{printable(target.column.name, keep='')}: {target.why}, so {what}"))
    if read.missing and impute is not None:
        lines.append(("missing", f"{read.missing_values()}; data.impute={impute}"))
    return render(lines, "<<")


@dataclass(frozen=True)
class Rows(Inputs):
    """Rows of a table: numbers, truth values as 0 or 1, and a one-hot vector for each category.

    Attributes:
        columns: that are read, in the order of the inputs.
        target: the column to predict.
        impute: as of `table`.
    """

    columns: tuple[Column, ...]
    target: Column
    impute: str | None = None
    may_miss: ClassVar[bool] = True
    why_not_transform = "is for images and other quantities, and these are columns of a table"

    def spans(self) -> list[tuple[Column, slice]]:
        """The columns, and where their inputs are."""
        ends = np.cumsum([column.width for column in self.columns]).tolist()
        return [(column, slice(end - column.width, end)) for column, end in zip(self.columns, ends, strict=True)]

    def fill(self, train: Part) -> Tensor | None:
        if self.impute is None:
            return None
        assert isinstance(train, Examples)
        fill = torch.zeros(train.inputs.shape[1])
        for column, span in self.spans():
            values = train.inputs[:, span].numpy()
            known = values[~np.isnan(values[:, 0])]
            if len(known) == 0:
                log.warning("column %s: all training values are missing; 0 is used", column.name)
            elif column.kind == CATEGORY:
                fill[span.start + int(known.sum(0, dtype=np.float64).argmax())] = 1
            else:
                fill[span] = float(_filling(known[:, 0].astype(np.float64), self._how(column)))
        return fill

    def _how(self, column: Column) -> str:
        return str(self.impute) if column.kind == NUMERIC else "most_frequent"

    def scaled(self, shift: Tensor, scale: Tensor, train: Part) -> tuple[Tensor, Tensor]:
        """The numbers alone are scaled; a category that training lacks is divided by infinity, which gives 0."""
        assert isinstance(train, Examples)
        keep, unseen = torch.zeros(train.inputs.shape[1], dtype=torch.bool), self._unseen(train)
        for column, span in self.spans():
            keep[span] = column.kind != NUMERIC
        scale = torch.where(unseen, torch.inf, torch.where(keep, 1.0, scale))
        return torch.where(keep, 0.0, shift), scale

    def _unseen(self, train: Examples) -> Tensor:
        unseen = torch.zeros(train.inputs.shape[1], dtype=torch.bool)
        for column, span in self.spans():
            if column.kind == CATEGORY:
                unseen[span] = train.inputs[:, span].nansum(0) == 0
        return unseen

    def check_split(self, train: Part, others: Mapping[str, Part]) -> None:
        """Warn of categories in val and test that no training row has."""
        assert isinstance(train, Examples)
        unseen = self._unseen(train)
        for name, part in others.items():
            assert isinstance(part, Examples)
            counts = (part.inputs.nansum(0) * unseen).long()
            if counts.any():
                found = [
                    f"{column.name}={column.categories[i]} ({int(count):,})"
                    for column, span in self.spans()
                    for i, count in enumerate(counts[span].tolist())
                    if count
                ]
                problem = "categories that no training row has, encoded as zeros"
                log.warning("%s of %s: %s", problem, name, first_few(found, 8))

    def to_plain(self) -> dict[str, Any]:
        return {
            "columns": [column.to_plain() for column in self.columns],
            "target": self.target.to_plain(),
            "impute": self.impute,
        }

    @staticmethod
    def from_plain(plain: Mapping[str, Any]) -> Rows:
        columns = tuple(Column.from_plain(column) for column in plain["columns"])
        return Rows(columns, Column.from_plain(plain["target"]), plain["impute"])

    def stored(self) -> dict[str, Any]:
        return {"table": self.to_plain()}

    def digests(self) -> dict[str, str]:
        text = json.dumps(self.to_plain(), sort_keys=True)
        return {"columns": f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"}

    def check_checkpoint(self, stored: Mapping[str, Any], path: Path) -> None:
        if stored.get("table") != self.to_plain():
            problem = f"its columns, categories or classes have changed since {path} was written"
            raise ConfigError("data.path", ConfigError.MISSING, problem, "restore the original; or start a new run")

    def check_weights(
        self, stored: Mapping[str, Any], typed: str, module: nn.Module, other_shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        other = stored.get("table")
        if isinstance(other, dict) and other.get("columns") != self.to_plain()["columns"]:
            problem = "was trained on a table with other columns or categories: its inputs mean something else"
            raise ConfigError("trainer.weights", typed, problem, "use a run with the same columns")

    def lines(self, train: Part, first: Batch, batch_size: int | str, label: str) -> list[str]:
        """Statistics of each column of the training split."""
        assert isinstance(train, Examples)
        rows: list[tuple[str, ...]] = [
            ("column", "type", "missing", "mean", "sd", "smallest", "largest", "most frequent")
        ]
        for column, span in self.spans():
            values = train.inputs[:, span].numpy()
            known = values[~np.isnan(values[:, 0])].astype(np.float64)
            head = (printable(column.name, keep=""), column.kind, f"{len(values) - len(known):,}")
            if len(known) == 0:
                rows.append((*head, "", "", "", "", ""))
            elif column.kind == CATEGORY:
                counts = known.sum(0).astype(int)
                text = printable(column.categories[int(counts.argmax())], keep="")
                share = f"{text} ({counts.max():,})"
                rows.append((head[0], f"{column.width} categories", head[2], "", "", "", "", share))
            else:
                numbers = known[:, 0]
                texts = [f"{value:.4g}" for value in (numbers.mean(), numbers.std(), numbers.min(), numbers.max())]
                mode = _filling(numbers, "most_frequent")
                rows.append((*head, *texts, f"{mode:.4g} ({int((numbers == mode).sum()):,})"))
        return render(rows, "<<>>>>><")


def _filling(known: Values, how: str) -> float:
    if how == "most_frequent":
        values, counts = np.unique(known, return_counts=True)
        return float(values[counts.argmax()])
    return float(np.median(known)) if how == "median" else float(known.mean())
