"""What users bring of their own: each page of docs/extending is a file of at most 60 lines, and commands that run."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.helpers.lines import Line, finish, wait_until
from tests.helpers.pages import PAGES, blocks, commands, write_files
from tests.helpers.runs import assert_identical, last_step, record_of, rows_of

EXTENDING = {page.split("/")[-1].removesuffix(".md"): page for page in PAGES if page.startswith("docs/extending/")}
SHORT = ("epochs=2", "data.limit=200", "data.limit_eval=100")


# The numbers that a user's own task, metric or model logs, by page, and the way of the monitor.
LOGGED = {
    "metrics": ("auroc", True),
    "vae": ("kl", None),
    "dict_batches": ("mae", None),
    "siamese": ("accuracy", True),
    "two_heads": ("digit_loss", None),
}


@pytest.mark.parametrize("name", EXTENDING)
def test_a_page_has_little_code_and_every_command_of_it_runs(mlprun, tmp_path, name):
    page = EXTENDING[name]
    assert all(len(block.splitlines()) <= 60 for block in blocks(page, "python"))
    write_files(page, tmp_path)
    first, *others = commands(page)
    for words in ([*first, *(["hydra.run.dir=run"] if name in LOGGED else [])], *others):
        is_training = any("=" in word for word in words)
        result = mlprun(*words, *(SHORT if is_training else ()))
        assert result.status == 0, result.err
    if name in LOGGED:
        assert_logged(tmp_path / "run", *LOGGED[name])


def assert_logged(run: Path, name: str, higher_is_better: bool | None) -> None:
    record = record_of(run)
    values = [row[f"val/{name}"] for row in rows_of(run) if f"val/{name}" in row]
    assert len(values) == 2
    assert f"test/{name}" in record["metrics"]
    if higher_is_better is not None:
        best = (max if higher_is_better else min)(values)
        assert record["metrics"][f"val/{name}"] == best  # the best checkpoint is the metric's own best
        assert record["higher_is_better"][name] is higher_is_better


@pytest.mark.parametrize("page", ["vae", "siamese"])
def test_a_task_of_ones_own_is_killed_and_resumed_to_the_same_bits(tmp_path, page):
    write_files(EXTENDING[page], tmp_path)
    words = [*commands(EXTENDING[page])[0], "epochs=4", "data.limit=640", "data.limit_eval=64", "logging.every=3 steps"]
    finish(tmp_path, *words, "hydra.run.dir=whole")
    with Line(tmp_path, *words, "hydra.run.dir=run") as line:
        wait_until(lambda: last_step(tmp_path) >= 30)
        line.signal(signal.SIGKILL)
    finish(tmp_path, "resume", "run")
    assert_identical(tmp_path / "run", tmp_path / "whole")
