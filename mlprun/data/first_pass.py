"""What is known of data in memory at once, and of lazy data only when all of it has been read once."""

from __future__ import annotations

import logging

from torch import Tensor

from mlprun.data.checks import ExpectedData
from mlprun.data.source import IGNORED, Inputs
from mlprun.errors import DataError

log = logging.getLogger("mlprun")


class FirstPass:
    """Counts the batches of the first pass as they are loaded, on the CPU, and reports once.

    Args:
        num_examples: of the training part; None if unknown.
        count_classes: whether their numbers are unknown before.
    """

    def __init__(
        self, expected: ExpectedData, inputs: Inputs, num_examples: int | None, *, count_classes: bool
    ) -> None:
        self.expected, self.inputs, self.num_examples, self.count_classes = (
            expected,
            inputs,
            num_examples,
            count_classes,
        )
        self._is_done = False
        self.start(0)

    def start(self, step: int) -> None:
        """Count from the batch of `step` on; only from 0 on all of the pass is seen."""
        self._from_start = step == 0
        self.num_read, self._has_target = 0, False
        self._tally: Tensor | None = None
        self._classes: Tensor | None = None

    def __call__(self, inputs: Tensor, targets: Tensor, epoch: int) -> None:
        """Look at a batch before it moves to the device; raises DataError for targets that a loss would ignore."""
        self.expected.check_batch(targets, "training")
        if self._is_done:
            return
        if epoch > 0:  # of a stream, whose end is unknown, or of a run that was resumed
            self._report(is_whole=self._from_start)
            return
        self.num_read += len(targets)
        tally, counts = self.inputs.tally(inputs), self.expected.class_counts(targets) if self.count_classes else None
        if tally is not None:
            self._tally = tally if self._tally is None else self._tally + tally
        if counts is not None:
            self._classes = counts if self._classes is None else self._classes + counts
        self._has_target = self._has_target or self.expected.has_target(targets)
        if self.num_read == self.num_examples:
            self._report(is_whole=True)

    def report(self) -> None:
        """Report what was seen of a pass that does not end."""
        if not self._is_done:
            self._report(is_whole=False)

    def _report(self, *, is_whole: bool) -> None:
        self._is_done = True
        if self._tally is not None:
            self.inputs.warn(self._tally, "of the first pass" if is_whole else "read so far")
        if is_whole and self._classes is not None:
            self.expected.warn_of_missing_classes(self._classes, "no model can learn them")
        if is_whole and not self._has_target:
            raise DataError(f"data: all targets of the training part are {IGNORED}: no target counts")
