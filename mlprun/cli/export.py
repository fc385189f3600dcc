"""`mlprun export`: the model of a finished run as a file that needs no mlprun."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mlprun.cli.last import add_checkpoint, add_run_dir
from mlprun.predict.exported_file import FORMATS
from mlprun.terminal import importing_torch, print_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_dir(parser)
    add_checkpoint(parser)
    parser.add_argument("--to", choices=sorted(FORMATS), required=True, help="ONNX, or a program of torch.export")
    help_ = "the file to write (default: export/model.onnx or export/model.pt2 in RUN_DIR)"
    parser.add_argument("--output", type=Path, metavar="FILE", help=help_)


def run(options: argparse.Namespace, command: str) -> int:
    with importing_torch():
        from mlprun.predict.export import export

    done = export(options.run, options.to, options.output, trust=options.trust, checkpoint=options.checkpoint)
    for note in done.notes:
        print_line(note, sys.stderr)
    print_line(f"file        {done.file}")
    print_line(f"inputs      {done.inputs}")
    print_line(f"outputs     {done.outputs}")
    print_line(f"difference  {done.difference:.1e} at most from the model's own outputs, on {done.compared}")
    return 0
