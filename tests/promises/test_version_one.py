"""Whatever version one wrote or took is still read and taken: run directories, sweeps, `_target_`s and keys.

`tests/data/version_one/README.md` says how the fixtures were made.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from itertools import zip_longest
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mlprun.config.compose import Composer
from mlprun.config.identity import fingerprint
from mlprun.config.instantiate import locate
from mlprun.config.trust import check_targets
from mlprun.config.version_one_identity import version_one_fingerprint
from mlprun.version_one import upgrade_config

DATA = Path(__file__).parents[1] / "data" / "version_one"
EXPECTED = json.loads((DATA / "expected.json").read_text())
COMPLETED = ["classification", "fine_tuned", "language", "masked_words", "own_classes", "regression", "sound"]
RUNS = [*COMPLETED, "diverged", "interrupted"]
SWEEP = Path("outputs", "sweeps", "lr_search")


@pytest.fixture
def in_folder(mlprun, tmp_path):
    """`mlprun`, in a copy of the folder that version one was used in."""
    shutil.copytree(DATA / "folder", tmp_path, dirs_exist_ok=True)
    for file in tmp_path.rglob("*"):
        if file.suffix in (".json", ".yaml", ".log"):
            file.write_text(file.read_text().replace("@ROOT@", str(tmp_path)))
    return mlprun


def record(run: Path) -> dict:
    return json.loads((run / "run.json").read_text())


def line_of(run: str) -> list[str]:
    """The words of the line that made a run."""
    return shlex.split(record(DATA / "folder" / "outputs" / run)["command"])[1:]


def close(value: object) -> object:
    """What equals `value` to 1e-5, wherever a number stands in it."""
    if isinstance(value, dict):
        return {key: close(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [close(inner) for inner in value]
    return pytest.approx(value, rel=1e-5, abs=1e-5) if isinstance(value, float) else value


def sections(shown: str) -> dict[str, list[str]]:
    """What `show A B` prints, by its headings."""
    blocks = (block.splitlines() for block in shown.split("\n\n")[1:])
    return {heading: lines for heading, *lines in blocks}


# ------------------------------------------------------------------------------------------------- one run


@pytest.mark.parametrize("run", RUNS)
def test_it_is_shown_scores_what_it_scored_and_is_found_completed(in_folder, run):
    stored = record(Path("outputs", run))
    result = in_folder("show", f"outputs/{run}")
    assert result.status == 0, result.err
    shown = dict(re.split(r"  +", line, maxsplit=1) for line in result.out.splitlines())
    assert (shown["status"], shown["command"]) == (stored["status"], stored["command"])
    metrics = {name: float(text) for name, text in shown.items() if name.startswith(("val/", "test/"))}
    assert metrics == close(stored.get("metrics", {}))
    if run not in COMPLETED:
        return
    result = in_folder("eval", f"outputs/{run}")
    assert result.status == 0, result.err
    scores = {name: float(value) for name, value in map(str.split, result.out.splitlines())}
    assert scores == close({name: value for name, value in stored["metrics"].items() if name.startswith("test/")})
    result = in_folder(*line_of(run))  # the same line again
    assert result.status == 0, result.err
    assert result.out.startswith("already completed")
    assert record(Path("outputs", run)) == stored


@pytest.mark.parametrize(
    ("words", "run"),
    [
        pytest.param(["resume", "outputs/interrupted"], "interrupted", id="interrupted"),
        pytest.param(line_of("interrupted"), "interrupted", id="interrupted, the same line again"),
        pytest.param(["resume", "outputs/classification", "epochs=16"], "classification", id="made longer"),
    ],
)
def test_it_goes_on_to_the_figures_of_version_one(in_folder, words, run):
    path = Path("outputs", run)
    step = record(path)["steps"]
    result = in_folder(*words)
    assert result.status == 0, result.err
    now = record(path)
    assert now["status"] == "completed"
    assert now["metrics"] == close(EXPECTED["resumed"][run])
    assert [entry["step"] for entry in now["resumed"]] == [step]
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    evaluated = [row["step"] for row in rows if "val/loss" in row]
    curves = EventAccumulator(str(path), size_guidance={"scalars": 0}).Reload()
    assert [event.step for event in curves.Scalars("loss/val")] == evaluated
    assert evaluated[0] < step < evaluated[-1]


def test_what_diverged_diverges_again_and_says_where(in_folder):
    step = record(Path("outputs", "diverged"))["error"].partition(": not finite")[0]
    result = in_folder("resume", "outputs/diverged")
    assert result.status == 1
    assert f"error: {step}: loss or gradient is not finite" in result.err
    assert record(Path("outputs", "diverged"))["status"] == "failed"


@pytest.mark.parametrize("run", COMPLETED)
def test_it_is_reproduced(in_folder, run):
    result = in_folder("reproduce", f"outputs/{run}")
    # bits depend on the processor and on torch, so `identical` is not asked for; the figures do not
    assert (result.status, "\nidentical: " in result.out) in [(0, True), (1, False)], result.out + result.err
    (again,) = Path().glob("outputs/*/*_again_*")
    assert record(again)["metrics"] == close(record(Path("outputs", run))["metrics"])
    compared = in_folder("show", f"outputs/{run}", str(again))
    assert compared.status == 0, compared.err
    assert sections(compared.out)["config"] == ["  no difference"]
    assert sections(compared.out)["data"] == ["  no difference"]


def test_two_are_compared(in_folder):
    result = in_folder("show", "outputs/classification", "outputs/fine_tuned")
    assert result.status == 0, result.err
    rows = {tuple(line.split()) for line in sections(result.out)["config"]}
    assert ("optim._target_", "torch.optim.Adam", "torch.optim.Adagrad") in rows
    assert ("epochs", "12", "4") in rows


@pytest.mark.parametrize(("run", "asked"), EXPECTED["predictions"].items(), ids=EXPECTED["predictions"])
def test_it_predicts_what_it_predicted(in_folder, run, asked):
    result = in_folder("predict", f"outputs/{run}", *asked["words"], "--json")
    assert result.status == 0, result.err
    found = json.loads(result.out)
    found.pop("picture", None)
    assert found == close(asked["printed"])


@pytest.mark.parametrize("path", ["outputs/regression", SWEEP], ids=["run", "sweep"])
def test_its_curves_are_drawn(in_folder, path):
    result = in_folder("plot", str(path))
    assert result.status == 0, result.err
    assert (Path(path) / "curves.png").stat().st_size > 10_000


def test_a_new_run_takes_its_tokens(in_folder):
    words = [word for word in line_of("language") if not word.startswith(("epochs=", "hydra.run.dir="))]
    result = in_folder(*words, "data.text.vocabulary=outputs/language", "steps=1", "hydra.run.dir=new")
    assert result.status == 0, result.err
    assert record(Path("new"))["data"]["tokens"] == record(Path("outputs", "language"))["data"]["tokens"]


# ---------------------------------------------------------------------------------------------- many runs


def test_the_leaderboard_has_all_of_them(in_folder):
    result = in_folder("runs", "outputs")
    assert result.status == 0, result.err
    for run in COMPLETED:
        assert record(Path("outputs", run))["config"]["data"]["name"] in result.out
    assert "failed  outputs/diverged" in result.out
    assert re.search(r"^interrupted  outputs/interrupted  step \d+ of 300$", result.out, re.MULTILINE)


@pytest.mark.parametrize(
    "again",
    [
        pytest.param(lambda line: line, id="the same line again"),
        pytest.param(lambda line: ["resume", str(SWEEP)], id="resume"),
    ],
)
def test_the_sweep_is_completed(in_folder, again):
    before = {run.name: (run / "run.json").read_bytes() for run in SWEEP.iterdir() if run.is_dir()}
    done = [name for name in before if record(SWEEP / name)["status"] == "completed"]
    (interrupted,) = before.keys() - done
    step = record(SWEEP / interrupted)["steps"]
    line = shlex.split(record(SWEEP / interrupted)["command"])[1:]
    result = in_folder(*again(line))
    assert result.status == 0, result.err
    assert f"sweep   {len(EXPECTED['sweep']) - len(done)} of {len(EXPECTED['sweep'])} runs to do" in result.out
    now = {run.name: record(run) for run in SWEEP.iterdir() if run.is_dir()}
    assert now.keys() >= before.keys()
    # what version one had not begun has today's hash at the end of its name
    swept = {name.rpartition("_")[0]: found["metrics"] for name, found in now.items()}
    assert swept == close({name.rpartition("_")[0]: metrics for name, metrics in EXPECTED["sweep"].items()})
    for name in done:
        assert (SWEEP / name / "run.json").read_bytes() == before[name]
    assert [entry["step"] for entry in now[interrupted]["resumed"]] == [step]


# ------------------------------------------------------------------------------------------- names and keys


def lines(name: str) -> list[str]:
    """Of a list, without its headings."""
    return [line for line in (DATA / name).read_text().splitlines() if line and not line.startswith("#")]


STORED = (DATA / "targets.txt").read_text().partition("\n\n")[0].splitlines()[1:]  # by conf/, in records


def test_every_target_is_found():
    assert all(callable(locate(target, "model._target_")) for target in lines("targets.txt"))


@pytest.mark.parametrize(
    "line", ["data=reviews model=lstm model.cell=lstm_by_hand", "model.activation=silu_by_hand model.hidden=[8]"]
)
def test_a_layer_that_was_known_by_a_word_is_the_same(mlprun, line):
    run = mlprun(*line.split(), "debug=fast", "hydra.run.dir=run", "data.limit=64").folder / "run"
    stored = record(run)["config"]
    today = upgrade_config(stored)
    assert today["model"] != stored["model"]
    for hashed in (fingerprint, version_one_fingerprint):
        assert hashed(today) == hashed(stored)
    assert mlprun("eval", "run").status == 0


def test_the_targets_of_records_are_called_unasked(tmp_path):
    check_targets({"all": [{"_target_": target} for target in STORED]}, tmp_path)


def test_every_key_is_taken(mlprun):
    gone = "data.normalize_test_by=train"  # a data set of the course's now; records with it: test_own_statistics.py
    result = mlprun(*(line for line in lines("keys.txt") if line != gone), "--cfg", "job")
    assert result.status == 0, result.err


def choices() -> list[list[list[str]]]:
    """The words of choices.txt, a line of each group together: fewer configs are composed."""
    groups: dict[str, list[list[str]]] = {}
    for line in lines("choices.txt"):
        groups.setdefault(line.partition("=")[0], []).append(line.split())
    return [[words for words in row if words] for row in zip_longest(*groups.values())]


@pytest.mark.parametrize("row", choices(), ids=lambda row: " ".join(choice for choice, *_ in row))
def test_every_choice_has_its_keys(row):
    config = OmegaConf.to_container(Composer().compose([choice for choice, *_ in row]), resolve=False)
    for _, *keys in row:
        for key in keys:
            node = config
            for name in key.split("."):
                assert name in node, key
                node = node[name]
