"""TensorBoard's pages in a headless browser; MLPRUN_SCREENSHOTS=FOLDER keeps a picture of each to look at."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from mlprun.pictures.confusion import WIDTH
from tests.helpers.browser import CHROMIUM, browser
from tests.helpers.lines import finish

pytestmark = [
    pytest.mark.long,  # a minute or two: a server for each case, and a browser that draws
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the path"),
]
SHORT = ["model=linear", "epochs=3", "logging.every=20 steps"]
TRAINED = {  # name -> what is typed, and the number of runs
    "run": (SHORT, 1),
    "sweep": (["-m", *SHORT, "optim.lr=0.001,0.003,0.01,0.03", "seed=0,1,2"], 12),
    "histograms": (["epochs=3", "logging.every=20 steps", "logging.histograms=true"], 1),
}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture(scope="module", params=TRAINED)
def board(request, tmp_path_factory):
    """The case's name, its number of runs, and the address of its TensorBoard."""
    words, num_runs = TRAINED[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    finish(folder, *words)
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder / "outputs"), "--port=0"]
    with subprocess.Popen(
        [*command, "--host=localhost"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            address = next(found[0] for line in server.stderr if (found := re.search(r"http://localhost:\d+", line)))
            yield request.param, num_runs, address
        finally:
            server.terminate()


def fetch(address: str, **body: str):
    request = urllib.request.Request(
        address, json.dumps(body).encode() if body else None, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


@pytest.fixture
def shown(board, page, tmp_path):
    """Open a page of TensorBoard, wait for words on it, take a picture of it, and return its text."""
    case, _, address = board
    folder = Path(os.environ.get("MLPRUN_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)

    def show(name: str, *wanted: str) -> str:
        text = page.open(f"{address}/#{name}", *wanted)
        page.picture(folder / f"{case}_{name}.png")
        assert [words for words in wanted if words not in text] == [], text[:2000]
        return text

    return show


def test_the_first_screen_has_train_and_val_side_by_side(board, shown):
    text = shown("timeseries", "loss /val")
    cards = re.findall(r"(\w+) (/\w+) Alt \+ Scroll", text)
    assert ["".join(card) for card in cards][:4] == ["accuracy/train", "accuracy/val", "loss/train", "loss/val"]
    groups = re.findall(r"(\w+) \d+ cards", text)
    assert groups[:4] == ["accuracy", "loss", "test", "training"]
    assert all(group.startswith("training_") for group in groups[4:])


def test_hparams_have_what_was_set(board, shown):
    case, num_runs, address = board
    always = {"data.name", "model", "optim", "optim.lr", "scheduler", "batch_size", "epochs", "seed"}
    shown("hparams", "loss/val", "test/loss", "test/accuracy", *always)
    experiment = fetch(f"{address}/data/plugin/hparams/experiment", experimentName="")
    assert {info["name"] for info in experiment["hparamInfos"]} == always
    differing = {info["name"] for info in experiment["hparamInfos"] if info.get("differs")}
    assert differing == ({"optim.lr", "seed"} if case == "sweep" else set())
    assert len(fetch(f"{address}/data/runs")) == num_runs  # no sub-runs


def test_texts_hold_command_and_config(board, shown):
    case, num_runs, address = board
    first_cards = ["run/command", "mlprun"] + ["run/config", '"monitor": "val/loss"'] * (num_runs == 1)
    text = shown("text", *first_cards)  # a page has twelve
    assert TRAINED[case][0][-1].partition("=")[0] in text
    tags = fetch(f"{address}/data/plugin/text/tags")
    assert len(tags) == num_runs
    assert all(sorted(of_run) == ["run/command", "run/config"] for of_run in tags.values())


def test_images_are_shown_pixel_by_pixel(board, page, shown):
    _, num_runs, address = board
    shown("images", "test/confusion_matrix")
    assert page.image_widths() == num_runs * [[WIDTH, WIDTH]]
    tags = fetch(f"{address}/data/plugin/images/tags")
    assert len(tags) == num_runs
    assert all("test/confusion_matrix" in of_run for of_run in tags.values())
