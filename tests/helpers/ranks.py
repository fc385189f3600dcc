"""Lines as torchrun starts them: a process each, which meet at a store of the process that starts them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from torch.distributed import TCPStore

from tests.helpers.lines import Line, wait_until


@contextmanager
def started(folder: Path, count: int, *words: str, kind: type[Line] = Line) -> Iterator[list[Line]]:
    """The processes of one run, by rank."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    shared["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    with ExitStack() as stack:
        yield [
            stack.enter_context(kind(folder, *words, RANK=str(rank), LOCAL_RANK=str(rank), **shared))
            for rank in range(count)
        ]


def ended(folder: Path, count: int, *words: str, kind: type[Line] = Line) -> str:
    """Run to the end; what the first process printed. The others print nothing."""
    with started(folder, count, *words, kind=kind) as lines:
        wait_until(lambda: not any(line.is_alive for line in lines), 120)
        statuses = [line.wait() for line in lines]
        outputs = [line.output for line in lines]
    assert statuses == [0] * count, "\n".join(outputs)
    assert not any(outputs[1:]), "\n".join(outputs[1:])
    return outputs[0]
