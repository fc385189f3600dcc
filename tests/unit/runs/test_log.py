"""train.log: what is written to it, and the warnings read from it."""

from __future__ import annotations

import logging
import warnings

from mlprun.runs.log import RunLog, log, read_warnings


def test_warnings_are_read_as_the_terminal_shows_them(tmp_path, capsys):
    with RunLog(tmp_path / "train.log"):
        log.info("step 1")
        log.warning("two lines:\n  2026 and %s", "more")
        warnings.warn("from a library: really", stacklevel=1)
        log.error("no warning\nand no part of one")
        log.warning("two lines:\n  2026 and %s", "more")
        logging.getLogger("other").warning("not of the run")
    assert read_warnings(tmp_path / "train.log") == ["two lines:\n  2026 and more", "from a library: really"]
    assert capsys.readouterr().err.count("warning: from a library: really\n") == 1


def test_a_run_that_never_began_has_no_warnings(tmp_path):
    assert read_warnings(tmp_path / "train.log") == []
