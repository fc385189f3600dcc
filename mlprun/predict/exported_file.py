"""The files of `mlprun export`, ONNX and torch's `.pt2`: written, run and recognised."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlprun.errors import ConfigError, RunError
from mlprun.files import open_to_read

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram

INPUTS, OUTPUTS = "inputs", "outputs"  # names in an ONNX graph
METADATA = "mlprun.json"  # of the extra file in a .pt2
_LARGEST_ONNX = 2**31  # bytes of a protobuf message
_NEEDED = ("onnx", "onnxscript", "onnxruntime")

Metadata = Mapping[str, Any]


class Onnx:
    """An ONNX file, with its metadata as JSON in `metadata_props`."""

    def check(self) -> None:
        """Raise ConfigError if a library is missing."""
        if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
            raise ConfigError("--to", "onnx", f"needs {', '.join(missing)}", "pip install 'mlprun[onnx]'")

    def encode(self, program: ExportedProgram, shape: list[int | str], metadata: Metadata) -> bytes:
        """The content of a file; RunError if ONNX cannot say what the program does."""
        import torch
        from torch.onnx.errors import OnnxExporterError

        axes = {i: name for i, name in enumerate(shape) if isinstance(name, str)}
        try:
            converted = torch.onnx.export(
                program, dynamo=True, verbose=False, input_names=[INPUTS], output_names=[OUTPUTS],
                dynamic_shapes=(axes,),
            )  # fmt: skip
        except OnnxExporterError as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            if operator := re.search(r"target=([\w.]+)", reason):
                reason = f"it has no {operator[1]}"
            raise RunError(f"ONNX cannot express the model: {reason}\n  --to pt2 can") from error
        assert converted is not None
        model = converted.model_proto
        if model.ByteSize() >= _LARGEST_ONNX:
            raise RunError("an ONNX file holds at most 2 GiB, and the model is larger\n  --to pt2 has no such limit")
        for key, value in metadata.items():
            model.metadata_props.add(key=f"mlprun.{key}", value=value if isinstance(value, str) else json.dumps(value))
        content: bytes = model.SerializeToString()
        return content

    def open(self, content: bytes) -> Callable[[Tensor], Tensor]:
        """The file as a function, in onnxruntime."""
        import onnxruntime
        import torch

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors are raised, too
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return lambda inputs: torch.from_numpy(session.run([OUTPUTS], {INPUTS: inputs.numpy()})[0])

    def run_of(self, path: Path) -> str | None:
        """The id of the run that a file was exported from; None if it is no such file."""
        import onnx
        from google.protobuf.message import DecodeError

        try:
            with open_to_read(path) as file:
                model = onnx.load(file, load_external_data=False)
        except DecodeError:
            return None
        return next((each.value for each in model.metadata_props if each.key == "mlprun.run"), None)


class Pt2:
    """A program of `torch.export`, with its metadata as JSON in an extra file."""

    def check(self) -> None:
        """Nothing is missing: torch writes it."""

    def encode(self, program: ExportedProgram, shape: list[int | str], metadata: Metadata) -> bytes:
        import torch

        file = io.BytesIO()
        torch.export.save(program, file, extra_files={METADATA: json.dumps(metadata)})
        return file.getvalue()

    def open(self, content: bytes) -> Callable[[Tensor], Tensor]:
        import torch

        return torch.no_grad()(torch.export.load(io.BytesIO(content)).module())

    def run_of(self, path: Path) -> str | None:
        try:
            with open_to_read(path) as file, zipfile.ZipFile(file) as archive:
                name = next((name for name in archive.namelist() if name.endswith(f"/{METADATA}")), None)
                found = None if name is None else json.loads(archive.read(name))
        except (zipfile.BadZipFile, zlib.error, ValueError):
            return None
        return found.get("run") if isinstance(found, dict) else None


FORMATS: dict[str, Onnx | Pt2] = {"onnx": Onnx(), "pt2": Pt2()}
