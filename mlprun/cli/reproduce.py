"""`mlprun reproduce`: repeat a run in a new directory; exits with 0 if it is identical."""

from __future__ import annotations

import argparse

from mlprun.cli.last import add_run_dir


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_dir(parser)


def run(options: argparse.Namespace, command: str) -> int:
    from mlprun.job.reproduce import reproduce

    return reproduce(options.run, command, trust=options.trust)
