"""A run in several processes (`trainer.devices`): each computes a share of every step; torch.distributed sums them.

`World` is a run in one process, where there is nothing to share; `Ranks` are several. A step reduces the gradients
once, in one buffer per dtype whose layout is that of the model's parameters, so its bits do not depend on where the run
was resumed. (DistributedDataParallel rebuilds its buckets after the first backward pass, and a model's `training_step`
bypasses it.)
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import torch
from torch import Tensor, nn

from mlprun import signals
from mlprun.data.nested import map_tensors
from mlprun.errors import RunError
from mlprun.training.update import Totals

if TYPE_CHECKING:
    from mlprun.data.batches import EvalBatches

Store: TypeAlias = Any  # of torch.distributed, which has no types for it
T = TypeVar("T")
FAILURE = "mlprun/failure"  # key of the store: why a process failed
_NUM_EXAMPLES, _SUMS = 3, 4  # places among the numbers that are reduced
PATIENCE_SEC = 2.0  # for a process to tell why it failed
_REQUESTS = ("", signals.MAX_TIME, *(number.name for number in signals.REQUESTS))


class OtherProcessError(RunError):
    """Another process of the run has failed, or was killed."""


class World:
    """The processes of a run, and which of them this is: one alone."""

    rank, size, local_rank = 0, 1, 0

    @property
    def is_main(self) -> bool:
        """Whether this process owns the run's directory."""
        return self.rank == 0

    def reduce(self, parameters: Sequence[nn.Parameter], totals: Totals, *, is_mean: bool) -> Totals:
        """The totals over all processes; the gradients of the parameters become those of the whole step.

        Args:
            is_mean: whether the loss is a mean over `weight`.
        """
        return totals

    def broadcast_buffers(self, model: nn.Module) -> None:
        """Give every process the buffers of the first, such as the running statistics of batch norm."""

    def in_order(self, batches: Iterable[Any], function: Callable[[Any], T], device: torch.device) -> Iterator[T]:
        """The function of each batch, in the order of the batches; each is computed by one process, on its device."""
        return map(function, batches)

    def from_main(self, value: T) -> T:
        """The value of the first process, with tensors on the CPU if it comes from another process."""
        return value

    def uninterrupted(self) -> AbstractContextManager[object]:
        """A block in which only `check_stop` raises a request to stop."""
        return nullcontext()

    def check_stop(self) -> None:
        """Raise `signals.Stop` in every process if one of them was asked to stop."""

    def check_same(self, model: nn.Module, step: int) -> None:
        """RunError if the weights of the processes differ."""


SINGLE = World()


class Ranks(World):
    """Several processes, in torch.distributed's default group, with gloo for tensors on the CPU.

    Raises:
        OtherProcessError: from any method, with the reason if this is the first process.
    """

    def __init__(self, store: Store, rank: int, size: int, local_rank: int) -> None:
        self.store, self.rank, self.size, self.local_rank = store, rank, size, local_rank
        self._names: list[str] | None = None  # of the values that the task logs

    def reduce(self, parameters: Sequence[nn.Parameter], totals: Totals, *, is_mean: bool) -> Totals:
        if self._names is None:  # a process without examples in its share does not know them
            self._names = self.from_main(sorted(totals.sums))
        if totals.num_examples and sorted(totals.sums) != self._names:
            names = ", ".join(totals.sums) or "nothing"
            raise RunError(
                f"task: logs {names} for this step, and {', '.join(self._names) or 'nothing'} before"
                "\n  with trainer.devices each step logs the same values"
            )
        device, dtype = totals.loss.device, torch.float64
        weight = torch.as_tensor(totals.weight if is_mean else 1, device=device, dtype=dtype)
        loss = torch.where(weight > 0, totals.loss.to(dtype), 0.0)  # a mean over no targets is NaN
        sums = [totals.sums.get(name, loss.new_zeros(())) for name in self._names]
        counts = [torch.as_tensor(n, device=device) for n in (totals.num_targets, totals.num_examples)]
        has_gradient = [p.grad is not None for p in parameters]
        scalars = torch.stack([loss * weight, weight, *(value.to(dtype) for value in (*counts, *sums))])
        scalars = torch.cat([scalars, torch.tensor(has_gradient, dtype=dtype).to(device)])
        self._sum(scalars)
        num_examples = scalars[_NUM_EXAMPLES]
        if device.type != "cpu":  # reading it there would wait for the device
            self._sum(num_examples := torch.tensor(totals.num_examples))
        whole = scalars[1] if is_mean else torch.ones((), device=device)
        for kind in dict.fromkeys(p.dtype for p in parameters):
            self._reduce_gradients([p for p in parameters if p.dtype == kind], weight, whole)
        if not all(has_gradient):  # another process may have some
            for parameter, count in zip(parameters, scalars[-len(has_gradient) :].tolist(), strict=True):
                if not count:
                    parameter.grad = None
        return Totals(
            (scalars[0] / whole).to(totals.loss.dtype),
            int(num_examples),
            scalars[1],
            scalars[2],
            {name: value.to(torch.float32) for name, value in zip(self._names, scalars[_SUMS:], strict=False)},
        )

    def _reduce_gradients(self, parameters: Sequence[nn.Parameter], weight: Tensor, whole: Tensor) -> None:
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        if any(gradient.is_sparse for gradient in gradients):
            raise RunError("model: sparse gradients cannot be summed over processes\n  leave sparse=True out")
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        flat = torch.where(weight > 0, flat * weight.to(flat.dtype), 0.0)
        self._sum(flat)
        flat /= whole.to(flat.dtype)
        for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view_as(parameter)

    def broadcast_buffers(self, model: nn.Module) -> None:
        buffers = list(model.buffers())
        for kind in dict.fromkeys(b.dtype for b in buffers):
            same = [b for b in buffers if b.dtype == kind]
            flat = torch.cat([b.reshape(-1) for b in same])
            with self._collective():
                torch.distributed.broadcast(flat, 0)
            for buffer, part in zip(same, flat.split([b.numel() for b in same]), strict=True):
                buffer.copy_(part.view_as(buffer))

    def in_order(self, batches: Iterable[Any], function: Callable[[Any], T], device: torch.device) -> Iterator[T]:
        mine = map(function, cast("EvalBatches", batches).every(self.rank, self.size))
        while True:
            results = self._gather(map_tensors(Tensor.cpu, [*itertools.islice(mine, 1)]))
            yield from map_tensors(lambda tensor: tensor.to(device), list(itertools.chain.from_iterable(results)))
            if not all(results):  # of the last batches
                return

    def _gather(self, value: Any) -> list[Any]:
        gathered: list[Any] = [None] * self.size
        with self._collective():
            torch.distributed.all_gather_object(gathered, value)
        self.check_stop()
        return gathered

    def from_main(self, value: T) -> T:
        values = [map_tensors(Tensor.cpu, value) if self.is_main else None]
        with self._collective():
            torch.distributed.broadcast_object_list(values, 0)
        return value if self.is_main else cast(T, values[0])

    def uninterrupted(self) -> AbstractContextManager[object]:
        return signals.deferred

    def check_stop(self) -> None:
        number = torch.tensor(_REQUESTS.index(signals.stop_requested_by()))
        with self._collective():
            torch.distributed.all_reduce(number, torch.distributed.ReduceOp.MAX)
        if by := _REQUESTS[int(number)]:
            signals.disarm()
            raise signals.Stop(by)

    def check_same(self, model: nn.Module, step: int) -> None:
        parameters = [p.detach().reshape(-1).view(torch.uint8) for p in model.parameters()]
        sums = [p.sum(dtype=torch.int64) for p in parameters]
        mine = torch.stack(sums).cpu().tolist()
        if self.from_main(mine) != mine:
            raise RunError(
                f"the weights of process {self.rank} differ from those of process 0 at step {step}"
                "\n  does your code draw random numbers outside of torch, NumPy and `random`?"
                " trainer.deterministic=true names kernels whose result varies"
            )

    def _sum(self, tensor: Tensor) -> None:
        with self._collective():
            torch.distributed.all_reduce(tensor)

    @contextmanager
    def _collective(self) -> Iterator[None]:
        """A block that waits for the other processes."""
        try:
            yield
        except RuntimeError as error:
            raise OtherProcessError(self._reason() if self.is_main else "") from error

    def _reason(self) -> str:
        """What the process that failed has left in the store."""
        limit = time.monotonic() + PATIENCE_SEC
        while time.monotonic() < limit:  # `wait` would write a stack of C++ frames to the terminal
            if self.store.check([FAILURE]):
                return str(self.store.get(FAILURE).decode())
            time.sleep(0.05)
        return "another process of this run died: killed, or out of memory"
