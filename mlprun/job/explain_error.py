"""The message for an exception: what went wrong, where, and the key to change."""

from __future__ import annotations

import os
import re
import traceback

from mlprun.config.schema import Config
from mlprun.errors import UserError, is_users_own
from mlprun.writers.base import WriterError


def explain(error: Exception, config: Config, anomaly: str = "") -> str:
    """The message for any exception, with traceback frames of the user's code only.

    Args:
        anomaly: an earlier warning of torch's anomaly detection, with the frames of the forward pass.
    """
    if isinstance(error, WriterError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if anomaly:
        frames = re.findall(r'  File "([^"]+)", line (\d+), in (\S+)\n    (.*)', anomaly)
        own = [frame for frame in frames if is_users_own(frame[0])] or frames[-1:]
        return f"{explain(error, config).splitlines()[0]}\n  made in the forward pass by\n" + "\n".join(
            f'  File "{file}", line {line}, in {name}\n    {code}' for file, line, name, code in own
        )
    return str(error) if isinstance(error, UserError) else _explain(error, config)


def _explain(error: Exception, config: Config) -> str:
    text, kind = str(error), type(error).__name__
    first = text.splitlines()[0] if text else "(no message)"
    data = config.data
    # the learner notes layer, step and shapes
    notes = [f"  {line}" for note in getattr(error, "__notes__", []) for line in note.splitlines()]
    frames = traceback.extract_tb(error.__traceback__)
    own = "".join(traceback.format_list([f for f in frames if is_users_own(f.filename)][-8:])).rstrip().splitlines()
    if data.num_workers and re.search("shared memory|Bus error", text):
        return (
            f"the memory in which DataLoader workers pass on examples is full: {_shared_memory()}"
            "\n  set data.num_workers=0; or give a container more: docker run --shm-size=2g"
        )
    if data.num_workers and (
        isinstance(error, EOFError | ConnectionError) or re.search("is killed by signal|exited unexpectedly", text)
    ):
        return (
            f"a DataLoader worker process died: {kind}: {first}"
            f"\n  it was killed or ran out of memory; try fewer than data.num_workers={data.num_workers}, or 0"
        )
    in_worker = "DataLoader worker" in text
    memory = "out of memory|not enough memory|[Cc]an(?:'t|not) allocate mem|Unable to allocate"
    if kind in ("OutOfMemoryError", "MemoryError") or re.search(memory, text):
        remedy = _memory_remedy(config, notes, in_worker=in_worker)
        return "\n".join([_memory_head(config, text), *notes, f"  {remedy}", *own])
    if "device-side assert" in text:
        return "\n".join([
            f"{kind}: {first}", *notes,
            "  the GPU does not report the wrong value; usually it is a label outside 0 to data.num_outputs - 1 "
            f"(data.num_outputs={data.num_outputs}), or an index outside an embedding",
            "  the same command with device=cpu names it",
        ])  # fmt: skip
    precision = config.trainer.precision
    if precision != "fp32" and re.search("primitive descriptor|not implemented for '(BFloat16|Half)'", text):
        problem = f"trainer.precision={precision}: the device cannot compute a layer in it: {first}"
        return "\n".join([problem, *notes, "  set trainer.precision=fp32", *own])
    if "deterministic" in text and "implementation" in text:
        remedy = "  set trainer.deterministic=false to allow it; the run may then not be reproducible bit for bit"
        return "\n".join([first, *notes, remedy, *own])
    if any("_utils/collate.py" in place for place in (text, *(frame.filename for frame in frames))):
        return (
            f"data: the examples of a batch cannot be combined: {text.splitlines()[-1] if text else kind}"
            f"\n  each must be (input, target), with an input of data.input_shape={data.input_shape}"
        )
    if in_worker and 'File "' in text:  # a worker sends its traceback as text
        lines = [line for line in text.splitlines() if line.strip()]
        return "\n".join([lines[0], *lines[-8:]])
    if "index out of range in self" in text:
        notes.append("  an index into an embedding must be 0 to num_embeddings - 1")
    if notes and isinstance(error, RuntimeError | IndexError):  # torch's errors, mostly of shapes
        notes.append(
            f"  data.input_shape={data.input_shape} data.num_outputs={data.num_outputs} batch_size={config.batch_size}"
            f" trainer.accumulate={config.trainer.accumulate}"
        )
    return "\n".join([f"{kind}: {first}", *notes, *(own or ["  MLPRUN_TRACEBACK=1 shows where; so does train.log"])])


def _shared_memory() -> str:
    try:
        disk = os.statvfs("/dev/shm")
    except OSError:
        return "shared memory"
    return f"/dev/shm has {disk.f_blocks * disk.f_frsize / 2**20:,.0f} MiB"


def _memory_head(config: Config, text: str) -> str:
    head = f"out of memory with batch_size={config.batch_size} trainer.accumulate={config.trainer.accumulate}"
    match = re.search(r"(?i)(tried|unable) to allocate ([\d.]+) ?(\w+)", text)
    if match is None:
        return head
    size = f"{int(match[2]) / 2**30:,.1f} GiB" if match[3] == "bytes" else f"{match[2]} {match[3]}"
    return f"{head}, asking for {size}"


def _memory_remedy(config: Config, notes: list[str], *, in_worker: bool) -> str:
    num_workers, accumulate = config.data.num_workers, config.trainer.accumulate
    if in_worker:
        return f"in a DataLoader worker; fewer workers than data.num_workers={num_workers} need less"
    if any(line.startswith("  at an evaluation") for line in notes):
        return "an evaluation reads many examples at once: data.limit_eval=… or a smaller model needs less"
    if not any(line.startswith("  at step") for line in notes):
        return "not in a training step: a smaller model, or less data (data.limit=…), needs less"
    if config.batch_size == accumulate:
        return "a step already takes one example at a time: a smaller model or smaller inputs need less"
    more = 2 * accumulate if config.batch_size == "all" else min(2 * accumulate, config.batch_size)
    return f"trainer.accumulate={more} keeps the same effective batch in about {accumulate / more:.0%} of the memory"
