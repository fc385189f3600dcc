"""The command line: a run or sweep by default, and the verbs. Imports no torch."""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import shlex
import sys
from typing import NoReturn

from mlprun import signals
from mlprun.cli.line import VERBS
from mlprun.cli.task import report
from mlprun.cli.train import train
from mlprun.cli.usage import parse
from mlprun.config.own_modules import find_own_modules
from mlprun.errors import UserError
from mlprun.process import fast_exit
from mlprun.streams import accept_any_text
from mlprun.terminal import print_line

ELSEWHERE = {"experiments": "mlprun.course.experiments"}  # verbs outside of mlprun/cli
CALLS_STORED_TARGETS = ("eval", "predict", "resume", "reproduce")


def program() -> NoReturn:
    """The command `mlprun`: `main`, and a fast exit."""
    try:
        main()
    except SystemExit as stop:
        # a profiler or debugger has work to do at exit
        watched = sys.getprofile() is not None or sys.gettrace() is not None
        if "torch" not in sys.modules or watched or not isinstance(stop.code, int):
            raise
        fast_exit(stop.code)


def main() -> NoReturn:
    """Run the command line and exit: 0 success, 1 a run failed, 2 wrong usage, 128 + number a signal."""
    accept_any_text()
    signals.install()
    arguments = sys.argv[1:]
    try:
        find_own_modules()
        status = _verb(*arguments) if arguments[:1] and arguments[0] in VERBS else train(arguments)
    except UserError as error:
        report(error)
        status = error.exit_status
    except KeyboardInterrupt as stop:
        status = signals.exit_status(str(stop) or "SIGINT")
    except BrokenPipeError:  # `mlprun --cfg job | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except Exception as error:  # a bug in mlprun or in Hydra
        if os.environ.get("MLPRUN_TRACEBACK") == "1":
            raise
        print_line(f"error: {type(error).__name__}: {error}\n  MLPRUN_TRACEBACK=1 shows where", sys.stderr)
        status = 1
    signals.disarm()
    sys.exit(status)


def _verb(verb: str, *arguments: str) -> int:
    """Run a verb, a module with `add_arguments` and `run`; the exit status."""
    module = importlib.import_module(ELSEWHERE.get(verb, f"mlprun.cli.{verb}"))
    text = getattr(module, "HELP", VERBS[verb])
    parser = argparse.ArgumentParser(f"mlprun {verb}", description=text, allow_abbrev=False)
    module.add_arguments(parser)
    if verb in CALLS_STORED_TARGETS:
        help_ = "let this run's config import and call code from anywhere (only for runs you trust)"
        parser.add_argument("--trust", action="store_true", help=help_)
    words = module.escaped(arguments) if hasattr(module, "escaped") else arguments
    return int(module.run(parse(parser, words), shlex.join(["mlprun", verb, *arguments])))


if multiprocessing.parent_process() is not None:  # a spawned worker, which is about to unpickle the user's classes
    find_own_modules()
