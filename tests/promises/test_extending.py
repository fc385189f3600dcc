"""What users bring of their own: each page of docs/extending is a file of at most 60 lines, and commands that run."""

from __future__ import annotations

import signal

import pytest

from tests.helpers.lines import Line, finish, wait_until
from tests.helpers.pages import PAGES, blocks, commands, write_files
from tests.helpers.runs import assert_identical, last_step, record_of, rows_of

EXTENDING = {page.split("/")[-1].removesuffix(".md"): page for page in PAGES if page.startswith("docs/extending/")}
SHORT = ("epochs=2", "data.limit=200", "data.limit_eval=100")


@pytest.mark.parametrize("page", EXTENDING.values(), ids=EXTENDING)
def test_a_page_has_its_commands_and_little_code(page):
    assert commands(page)
    for block in blocks(page, "python"):
        assert len(block.splitlines()) <= 60


@pytest.mark.parametrize("page", EXTENDING.values(), ids=EXTENDING)
def test_every_command_of_a_page_runs(mlprun, tmp_path, page):
    write_files(page, tmp_path)
    for words in commands(page):
        is_training = any("=" in word for word in words)
        result = mlprun(*words, *(SHORT if is_training else ()))
        assert result.status == 0, result.err


# The numbers that a user's own task, metric or model logs, by page, and the way of the monitor.
LOGGED = {
    "metrics": ("ece", False),
    "vae": ("kl", None),
    "dict_batches": ("mae", None),
    "siamese": ("accuracy", True),
    "two_heads": ("digit_loss", None),
}


@pytest.mark.parametrize("page", LOGGED)
def test_what_a_users_code_logs_is_in_the_record(mlprun, tmp_path, page):
    write_files(EXTENDING[page], tmp_path)
    words = commands(EXTENDING[page])[0]
    assert mlprun(*words, *SHORT, "hydra.run.dir=run").status == 0
    name, higher_is_better = LOGGED[page]
    rows, record = rows_of(tmp_path / "run"), record_of(tmp_path / "run")
    values = [row[f"val/{name}"] for row in rows if f"val/{name}" in row]
    assert len(values) == 2
    assert f"test/{name}" in record["metrics"]
    if higher_is_better is not None:
        best = (max if higher_is_better else min)(values)
        assert record["metrics"][f"val/{name}"] == best  # the best checkpoint is the metric's own best
        assert record["higher_is_better"][name] is higher_is_better


@pytest.mark.parametrize("page", ["vae", "dict_batches", "siamese"])
def test_a_task_of_ones_own_is_killed_and_resumed_to_the_same_bits(tmp_path, page):
    write_files(EXTENDING[page], tmp_path)
    words = [*commands(EXTENDING[page])[0], "epochs=8", "data.limit=640", "logging.every=3 steps"]
    finish(tmp_path, *words, "hydra.run.dir=whole")
    with Line(tmp_path, *words, "hydra.run.dir=run") as line:
        wait_until(lambda: last_step(tmp_path) >= 50)
        line.signal(signal.SIGKILL)
    finish(tmp_path, "resume", "run")
    assert_identical(tmp_path / "run", tmp_path / "whole")
