"""Export the model of a finished run as a file that needs no mlprun, and compare it with the run's own outputs."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.utils.data import IterableDataset

from mlprun.data.download import no_downloads
from mlprun.data.normalize import Normalizer
from mlprun.data.parts import size
from mlprun.data.source import Examples, Part
from mlprun.errors import ConfigError, DataError, RunError, UserError
from mlprun.files import atomic_write, make_folder, naming_path
from mlprun.formatting import first_few
from mlprun.job.build_data import build_splits
from mlprun.job.place import where_run_began
from mlprun.predict.exported_file import FORMATS
from mlprun.predict.finished import Finished, load
from mlprun.predict.predict import batches_of, image_format, normalizer_of

TOLERANCE = 1e-5  # of a value below 1, and relative above
NUM_EXAMPLES = 5  # traced and compared; then one of them alone


@dataclass(frozen=True)
class Exported:
    """A file that gives the run's outputs.

    Attributes:
        inputs, outputs: what they are, with their shape.
        compared: the inputs of the comparison.
        difference: the largest between the file's outputs and the model's.
        notes: what its user should know.
    """

    file: Path
    inputs: str
    outputs: str
    compared: str
    difference: float
    notes: list[str]


def export(
    path: Path, to: str, output: Path | None = None, *, trust: bool = False, checkpoint: str = "best"
) -> Exported:
    """Write the model of a run's best checkpoint, with its scaling, to a file, once it is known to give the same.

    Args:
        to: a key of `FORMATS`.
        output: the file; None: `export/model.onnx` or `.pt2` in the run's directory.
        trust, checkpoint: as for `load`, and its errors.

    Raises:
        ConfigError: a library is missing, or `output` ends as another format.
        RunError: the model cannot be exported, the file gives something else, or there is another file of that name.
    """
    format_ = FORMATS[to]
    format_.check()
    if output is not None and output.suffix[1:] in {*FORMATS} - {to}:
        raise ConfigError("--output", output, f"is no name for --to {to}", f"write {output.with_suffix(f'.{to}')}")
    named = path / "export" / f"model.{to}" if output is None else output
    file = named.absolute()
    with where_run_began(path, trust=trust) as there:
        run = load(there, trust=trust, checkpoint=checkpoint, device="cpu", precision="fp32")
        run_id = run.record.run_id(there)
        _check_free(file, lambda: format_.run_of(file) == run_id)
        inputs, compared, notes = _example_inputs(run)
        _, meaning = _own_outputs(run, inputs)  # an error of the model itself is raised here
        program = _trace(run, inputs)
    in_shape, out_shape = _shapes(program)
    if run.state.tokenizer is not None and "length" not in in_shape:
        notes.append(f"note: the length is fixed: fill the ids of a text up to {inputs.shape[1]} with 0")
    if (precision := run.state.config["trainer"]["precision"]) != "fp32":
        notes.append(f"note: the file computes in fp32, the run did in {precision}")
    if run.config.data.transforms.eval:
        notes.append("note: the file takes inputs after data.transforms.eval, which is not in it")
    names = run.task.class_names(run.state.class_names)
    dtype = str(inputs.dtype).removeprefix("torch.")
    metadata = {
        "run": run_id,
        "command": run.record.command,
        "inputs": {"dtype": dtype, "shape": in_shape},
        "outputs": {"meaning": meaning, "shape": out_shape},
        "class_names": names,
    }
    with _quiet():
        content = format_.encode(program, in_shape, metadata)
        difference = _compare(format_.open(content), run, inputs, cuts="length" in in_shape)
    with naming_path(file):
        if output is None:
            make_folder(file.parent)
        with atomic_write(file) as stream:
            stream.write(content)
    of_classes = f" of {first_few(names, 5)}" if names else ""
    outputs = f"{meaning} {_brackets(out_shape)}{of_classes}"
    return Exported(named, f"{dtype} {_brackets(in_shape)}", outputs, compared, difference, notes)


def _check_free(file: Path, is_own: Callable[[], bool]) -> None:
    """RunError unless a file can be written without losing another."""
    with naming_path(file, "read"):
        is_free = not file.is_symlink() and (not file.exists() or (file.is_file() and is_own()))
    if not is_free:
        problem = "is a link" if file.is_symlink() else "is no export of this run"
        raise RunError(f"{file} {problem}, and is not replaced\n  name another file: --output FILE")


def _example_inputs(run: Finished) -> tuple[Tensor, str, list[str]]:
    """Inputs (NUM_EXAMPLES, *input_shape) as the data set stores them, what they are, and why they are not real."""
    try:
        with no_downloads():
            inputs = _first_inputs(build_splits(run.config).test)
    except (UserError, OSError) as error:
        problem = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error).splitlines()[0]
        return _random_inputs(run), "random inputs", [f"note: the data cannot be read: {problem}"]
    inputs = inputs[torch.arange(NUM_EXAMPLES) % len(inputs)]  # of a tiny split some twice
    return inputs.long() if inputs.dtype == torch.int32 else inputs, "the test split", []


def _first_inputs(part: Part) -> Tensor:
    if isinstance(part, Examples):
        return part.inputs[:NUM_EXAMPLES]
    if isinstance(part, IterableDataset):
        examples = list(islice(part, NUM_EXAMPLES))
    else:
        examples = [part[i] for i in range(min(NUM_EXAMPLES, size(part) or 0))]
    if not examples:
        raise DataError("data: the test split is empty")
    return torch.stack([torch.as_tensor(inputs) for inputs, _ in examples])


def _random_inputs(run: Finished) -> Tensor:
    """Inputs of the kind that the checkpoint tells of."""
    generator = torch.Generator().manual_seed(0)
    shape = (NUM_EXAMPLES, *(run.config.data.input_shape or ()))
    if run.state.tokenizer is not None:
        return torch.randint(1, len(run.state.tokenizer), shape, generator=generator)
    if (images := image_format(run, transformed=True)) is None:
        values = normalizer_of(run).inverse(torch.randn(shape, generator=generator))
        return values.where(values.isfinite(), 0)  # of a category without a training example
    if (images.low, images.high) == (0, 255):
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return images.low + (images.high - images.low) * torch.rand(shape, generator=generator)


def _own_outputs(run: Finished, inputs: Tensor) -> tuple[Tensor, str]:
    """What `mlprun predict` gives, and what that means."""
    outputs, _ = run.learner.predict(batches_of(run, inputs))
    if (probabilities := run.task.probabilities(outputs)) is not None:
        return probabilities, "probabilities"
    return outputs, "values" if run.config.data.task == "regression" else "scores"


class _FromStored(nn.Module):
    """From inputs as the data set stores them to probabilities, or else scores, or values in the data's units."""

    def __init__(self, run: Finished) -> None:
        super().__init__()
        self.model, self._probabilities = run.learner.model, run.task.probabilities
        ends = {"in": normalizer_of(run), "out": run.task.target_normalizer}
        self._stored = {end: {} if scaling is None else scaling.stored() for end, scaling in ends.items()}
        for end, tensors in self._stored.items():
            for name, tensor in tensors.items():
                self.register_buffer(f"{end}_{name}", tensor)  # an attribute would be a constant

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.model(self._scaling("in")(inputs))
        if self._stored["out"]:
            outputs = self._scaling("out").inverse(outputs)
        probabilities = self._probabilities(outputs)
        return outputs if probabilities is None else probabilities

    def _scaling(self, end: str) -> Normalizer:
        return Normalizer(**{name: self.get_buffer(f"{end}_{name}") for name in self._stored[end]})


def _trace(run: Finished, inputs: Tensor) -> ExportedProgram:
    """The model, and what comes before and after it, as one program; RunError if it has no such form."""
    axes: dict[int, Any] = {0: Dim("batch")}
    if run.state.tokenizer is not None:
        axes[1] = Dim.AUTO  # recurrent layers of torch fix it
    try:
        with _quiet(), torch.no_grad():
            return torch.export.export(_FromStored(run).eval(), (inputs,), dynamic_shapes=(axes,))
    except Exception as error:  # of torch, which has many; the model itself has just run
        name = type(run.learner.model).__name__
        raise RunError(f"{name} cannot be exported: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    if "data-dependent" in text:
        place = next((line.strip() for line in text.splitlines() if line.strip().startswith('File "')), "")
        problem = "an `if`, a loop or a shape depends on the values of its inputs"
        remedy = "compute all cases and choose with torch.where"
        return "\n  ".join(line for line in (problem, place, remedy) if line)
    if "(batch)" in text:
        remedy = "use x.shape[0], or -1, for the number of examples"
        return f"it works with batches of one size only\n  {remedy}"
    return text.splitlines()[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's warnings of its own recurrent layers and its print of a graph that fails."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _shapes(program: ExportedProgram) -> tuple[list[int | str], list[int | str]]:
    """The shapes of inputs and outputs; axes of any size have a name."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    signature = program.graph_signature
    inputs, outputs = (values[str(ends[0])].shape for ends in (signature.user_inputs, signature.user_outputs))
    names = {str(dim): name for dim, name in zip(inputs, ("batch", "length"), strict=False)}

    def named(shape: Any) -> list[int | str]:
        return [int(dim) if str(dim).isdigit() else names.get(str(dim), str(dim)) for dim in shape]

    return named(inputs), named(outputs)


def _compare(run_file: Callable[[Tensor], Tensor], run: Finished, inputs: Tensor, *, cuts: bool) -> float:
    """The largest difference between the file's outputs and the run's, in batches of two sizes.

    Args:
        cuts: also compare a shorter length.

    Raises:
        RunError: it is above the tolerance.
    """
    differences = []
    for batch in (inputs, inputs[:1, : max(1, inputs.shape[1] // 2)] if cuts else inputs[:1]):
        expected, _ = _own_outputs(run, batch)
        found = run_file(batch)
        if expected.dim() == 3:  # per token; the run's own batches end with their longest text
            found = found[:, : expected.shape[1]]
        differences.append(float(((found - expected).abs() / expected.abs().clamp(min=1)).max()))
    if not max(differences) <= TOLERANCE:  # NaN, too
        problem = f"its outputs differ from the model's by up to {max(differences):.1e}, more than {TOLERANCE:.0e}"
        remedy = "does the model draw random numbers, or change its own attributes, in evaluation mode?"
        raise RunError(f"the exported model is not kept: {problem}\n  {remedy}")
    return max(differences)


def _brackets(shape: list[int | str]) -> str:
    return f"[{', '.join(map(str, shape))}]"
