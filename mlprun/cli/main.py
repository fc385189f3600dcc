"""The command line: a run or sweep by default, and the verbs. Imports no torch."""

from __future__ import annotations

import multiprocessing
import os
import shlex
import sys
from typing import NoReturn

from mlprun import signals
from mlprun.cli.complete import answer
from mlprun.cli.last import LAST
from mlprun.cli.usage import parse, report
from mlprun.cli.verbs import VERBS, parser_of
from mlprun.config.own_modules import find_own_modules
from mlprun.errors import UserError
from mlprun.process import fast_exit, num_ranks
from mlprun.streams import accept_any_text
from mlprun.terminal import print_line


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
    if num_ranks() is not None and os.environ["RANK"] != "0":
        from mlprun.job.ranks import follow  # late: Hydra

        sys.exit(follow())
    arguments = sys.argv[1:]
    if answer(arguments):
        sys.exit(0)
    try:
        find_own_modules()
        status = _verb(*arguments) if arguments[:1] and arguments[0] in VERBS else _train(arguments)
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
    if num_ranks() is not None:
        from mlprun.job.ranks import dismiss  # late: Hydra

        dismiss(status)
    sys.exit(status)


def _train(arguments: list[str]) -> int:
    from mlprun.cli.train import train  # late: Hydra

    return train(arguments)


def _verb(verb: str, *arguments: str) -> int:
    """Run a verb; the exit status."""
    module, parser = parser_of(verb)
    words = module.escaped(arguments) if hasattr(module, "escaped") else arguments
    options = parse(parser, words)
    named = str(getattr(options, "run", LAST))  # `last` is another run tomorrow
    typed = (named if word == LAST else word for word in arguments)
    return int(module.run(options, shlex.join(["mlprun", verb, *typed])))


if multiprocessing.parent_process() is not None:  # a spawned worker, which is about to unpickle the user's classes
    find_own_modules()
