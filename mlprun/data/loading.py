"""DataLoader workers: what they draw, and how they end."""

from __future__ import annotations

import ctypes
import itertools
import multiprocessing
import os
import re
import signal
import sys
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset, IterableDataset

from mlprun import errors, randomness, signals

POLL_SECONDS = 0.2  # between two looks at requests to stop while workers are busy


class Positioned(Dataset[Any]):
    """A map-style data set whose position, `(epoch, index, …)`, decides what its random transformations draw."""

    def __init__(self, dataset: Dataset[Any], seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __getitem__(self, position: tuple[int, ...]) -> Any:
        randomness.seed_all(self.seed, "example", *position)
        return self.dataset[position[1]]


class PositionedStream(IterableDataset[Any]):
    """A stream whose (epoch, position) decides what it draws, whatever else draws between two examples."""

    def __init__(self, stream: Dataset[Any], seed: int, epoch: int) -> None:
        self.stream, self.seed, self.epoch = stream, seed, epoch

    def __iter__(self) -> Iterator[Any]:
        randomness.seed_all(self.seed, "stream", self.epoch)
        examples = iter(self.stream)
        for position in itertools.count():
            randomness.seed_all(self.seed, "example", self.epoch, position)
            try:
                example = next(examples)
            except StopIteration:
                return
            yield example


def read_batches(loader: DataLoader[Any]) -> Iterator[Any]:
    """The batches of `loader`. Requests to stop do not wait for busy workers, unlike a DataLoader that is deleted."""
    if loader.num_workers == 0:
        yield from loader
        return
    loader.timeout = POLL_SECONDS
    batches: Iterator[Any] | None = None
    try:
        with signals.deferred:  # between two forks, for example, torch could not end the workers
            batches = iter(loader)
            signals.ignore_dead_workers()
        while True:
            with signals.deferred:  # a tensor's memory is taken over, and queues locked and unlocked
                try:
                    batch = next(batches)
                except StopIteration:
                    return
                except Exception as error:
                    if isinstance(error, RuntimeError) and _may_go_on(batches, error):
                        continue
                    if (sent := _users_error(str(error))) is not None:
                        raise sent from error
                    raise
            yield batch
    finally:
        with signals.finalizing:
            if signals.stop_requested_by():
                signals.end_workers()
            del batches  # which ends the workers


def _users_error(text: str) -> errors.UserError | None:
    """The `UserError` of a worker, which torch sends as the text of its traceback; None if it was another error."""
    named = re.match(r"Caught (\w+) in DataLoader worker", text)
    kind = None if named is None else getattr(errors, named[1], None)
    if not (isinstance(kind, type) and issubclass(kind, errors.UserError)):
        return None
    error = errors.UserError(text.rpartition(f"\n{kind.__module__}.{kind.__name__}: ")[2].rstrip("\n"))
    error.exit_status = kind.exit_status
    return error


def _may_go_on(batches: Iterator[Any], error: RuntimeError) -> bool:
    """Whether to ask for the same batch again, without loss, also in order to notice a request to stop."""
    if signals.stop_requested_by():  # the same signal may have killed the workers
        return True
    pinning = getattr(batches, "_pin_memory_thread", None)  # torch checks it only without a timeout
    return str(error).startswith("DataLoader timed out") and (pinning is None or pinning.is_alive())


def live_with_run(parent: int, worker: int) -> None:
    """In a worker: leave Ctrl-C to the run, which may still need a batch, and end when the run is killed.

    torch's own watchdog checks every five seconds, and never while a worker waits for its data.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        # A fork server's workers are its own children; it ends with the run, and they with it.
        if os.getppid() != parent and multiprocessing.get_start_method() != "forkserver":
            os._exit(1)  # the run ended before the line above
