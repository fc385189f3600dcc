"""Several writers as one."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from mlprun.errors import UserError
from mlprun.writers.base import Bins, Pixels, RunInfo, Values, Writer, WriterError


class Writers(Writer):
    """Several writers as one.

    Args:
        writers: by the name in the config, called in this order.

    Raises:
        UserError: a writer's own, from every method.
        WriterError: a writer raised anything else; it is left out from then on.
    """

    def __init__(self, writers: dict[str, Writer]) -> None:
        self._writers = dict(writers)

    def start(self, run: RunInfo) -> None:
        self._each("start", run)

    def write(self, step: int, epoch: float | None, values: Values) -> None:
        self._each("write", step, epoch, values)

    def running_means(self, step: int, values: Values) -> None:
        self._each("running_means", step, values)

    def images(self, step: int, images: dict[str, Pixels]) -> None:
        if images:
            self._each("images", step, images)

    def histograms(self, step: int, histograms: dict[str, Bins]) -> None:
        if histograms:
            self._each("histograms", step, histograms)

    def tick(self, step: int) -> None:
        self._each("tick", step)

    def flush(self) -> None:
        self._all("flush")

    def finish(self, status: str) -> None:
        self._all("finish", status)

    def _each(self, method: str, *arguments: Any) -> None:
        for name in list(self._writers):
            self._call(name, method, *arguments)

    def _all(self, method: str, *arguments: Any) -> None:
        """As `_each`, but also those that follow one that fails."""
        with ExitStack() as stack:
            for name in reversed(self._writers):
                stack.callback(self._call, name, method, *arguments)

    def _call(self, name: str, method: str, *arguments: Any) -> None:
        try:
            getattr(self._writers[name], method)(*arguments)
        except UserError:
            raise
        except Exception as error:
            del self._writers[name]
            error.add_note(f"in {method} of the writer {name}; '~writers.{name}' goes on without it, also on a resume")
            raise WriterError(name) from error
