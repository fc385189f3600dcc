"""A user's own writer: one class, one line. What it wrote is the same after a kill, and its failure loses nothing."""

from __future__ import annotations

import json
import re
import signal
import sys

import pytest

from tests.helpers.files import write
from tests.helpers.lines import Line, finish, wait_until
from tests.helpers.runs import RUN, SMALL, assert_identical, last_step, record_of, rows_of

USERS = '''
import json, os
from mlprun.writers.base import Writer

class Diary(Writer):
    """All that it is told, a line each; of an attempt before it what its checkpoint knows."""

    def __init__(self, file="diary.jsonl"):
        self.file = file

    def start(self, run):
        path = run.directory / self.file
        kept = []
        if run.keep_until is not None and path.exists():
            lines = path.read_text().splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\\n") and json.loads(line)[1] <= run.keep_until]
        path.write_text("".join(line for line in kept if "test/" not in line))
        self.lines = path.open("a")
        self.told = sorted(vars(run))

    def add(self, *entry):
        print(json.dumps(entry), file=self.lines)

    def write(self, step, epoch, values):
        shown = {t: v if v == v else None for t, v in values.items() if not t.startswith("perf/")}
        self.add("values", step, epoch, shown)

    def images(self, step, images):
        self.add("images", step, {tag: (pixels.shape, str(pixels.dtype)) for tag, pixels in images.items()})

    def histograms(self, step, histograms):
        self.add("histograms", step, sorted(histograms)[:1])

    def flush(self):
        self.lines.flush()

    def finish(self, status):
        self.lines.close()

class Hook(Writer):
    """Fails while a file is there."""

    def write(self, step, epoch, values):
        if step >= 20 and os.path.exists("broken"):
            raise ConnectionError("no route to host")

class NoWriter:
    pass
'''
DIARY = "+writers.diary._target_=users.Diary"
HOOK = "+writers.hook._target_=users.Hook"
LINE = [*SMALL, "data.limit=300", DIARY]


def entries(run) -> list[list]:
    return [json.loads(line) for line in (run / "diary.jsonl").read_text().splitlines()]


def test_a_writer_of_ones_own_gets_everything(mlprun, tmp_path):
    write(tmp_path, {"users.py": USERS})
    result = mlprun("debug=fast", DIARY, "logging.pictures=[filters]", "logging.histograms=true", "model=cnn")
    assert result.status == 0, result.err
    (run,) = result.runs
    found = entries(run)
    assert [{"step": step, "epoch": epoch, **values} for kind, step, epoch, *rest in found if kind == "values"
            for values in rest if epoch is not None] == rows_of(run)  # fmt: skip
    tested = [values for kind, _, epoch, *rest in found if kind == "values" for values in rest if epoch is None]
    assert tested == [{k: v for k, v in record_of(run)["metrics"].items() if k.startswith("test/")}]
    shown = [tag for kind, _, *rest in found if kind == "images" for tag in rest[0]]
    assert shown == 4 * ["pictures/filters"] + ["test/confusion_matrix"]
    assert [step for kind, step, *_ in found if kind == "histograms"] == [0, 3, 6, 8]


def test_what_a_writer_of_ones_own_wrote_is_the_same_after_a_kill(tmp_path):
    for name in ("whole", "broken"):
        write(tmp_path / name, {"users.py": USERS})
    finish(tmp_path / "whole", *LINE)
    for step in (40, 90):
        words = ["resume", RUN] if (tmp_path / "broken" / RUN).exists() else LINE
        with Line(tmp_path / "broken", *words) as line:
            wait_until(lambda: last_step(tmp_path / "broken") >= step)  # noqa: B023  called before the next one
            line.signal(signal.SIGKILL)
            assert line.wait() == -signal.SIGKILL, line.output
    finish(tmp_path / "broken", "resume", RUN)
    runs = [tmp_path / name / RUN for name in ("whole", "broken")]
    assert_identical(*runs)
    assert entries(runs[0]) == entries(runs[1])


@pytest.mark.parametrize("without", [True, False])
def test_a_writer_that_fails_loses_nothing(tmp_path, without):
    write(tmp_path, {"users.py": USERS, "broken": ""})
    finish(tmp_path, *SMALL, "data.limit=300", "hydra.run.dir=whole")
    with Line(tmp_path, *LINE, HOOK) as line:
        assert line.wait() == 1
        output = line.output
    assert "error: ConnectionError: no route to host\n" in output
    assert "in write of the writer hook; '~writers.hook' goes on without it, also on a resume\n" in output
    assert 'raise ConnectionError("no route to host")' in output
    assert f"resume  mlprun resume {RUN}\n" in output
    assert "Traceback" not in output
    assert record_of(tmp_path / RUN)["status"] == "failed"
    if not without:
        (tmp_path / "broken").unlink()
    resumed = finish(tmp_path, "resume", RUN, *(["~writers.hook"] if without else []))
    assert "resumed at step 21 of" in resumed  # the first logged step at which it fails, after a checkpoint at 14
    assert_identical(tmp_path / RUN, tmp_path / "whole")
    steps = [step for kind, step, *_ in entries(tmp_path / RUN) if kind == "values"]
    assert steps == sorted(steps)
    assert ("hook" in record_of(tmp_path / RUN)["config"]["writers"]) is not without


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["+writers.x._target_=users.NoWriter"], "writers.x._target_=users.NoWriter: is no writer"),
        (["+writers.x._target_=users.Dairy"], "did you mean 'users.Diary'?"),
        (["-m", "seed=0,1", DIARY, "+writers.diary.fil=x"], "did you mean 'writers.diary.file'?"),
    ],
)
def test_a_writer_that_cannot_be_made_is_found_before_the_first_run(mlprun, tmp_path, words, said):
    write(tmp_path, {"users.py": USERS})
    result = mlprun("debug=fast", *words)
    assert (result.status, result.runs) == (2, [])
    assert said in result.err


def test_a_strangers_writer_is_not_called(mlprun, tmp_path, monkeypatch):
    """By nothing: looking at a run does not need it, and continuing it goes without it or asks for trust."""
    write(tmp_path, {"users.py": USERS})
    assert mlprun("debug=fast", DIARY, f"hydra.run.dir={RUN}").status == 0
    (tmp_path / RUN / "diary.jsonl").unlink()
    (tmp_path / "users.py").unlink()
    sys.modules.pop("users", None)
    record = record_of(tmp_path / RUN)
    (tmp_path / RUN / "run.json").write_text(json.dumps({k: v for k, v in record.items() if k != "signature"}))
    for verb in ("eval", "reproduce"):
        result = mlprun(verb, RUN)
        assert result.status == 0, result.err
    assert not list(tmp_path.rglob("diary.jsonl"))
    refused = mlprun("resume", RUN, "epochs=3", "steps=12")
    assert refused.status == 1
    assert re.search(r"writers\.diary\._target_=users\.Diary: .*\n.*--trust", refused.err)
    result = mlprun("resume", RUN, "steps=12", "~writers.diary")
    assert result.status == 0, result.err


def test_without_tensorboard_there_is_no_event_file(mlprun):
    result = mlprun("debug=fast", "writer=[jsonl]")
    assert result.status == 0
    assert not list(result.runs[0].glob("events*"))
    assert "step" not in result.err
    assert "curves" not in result.out
    swept = mlprun("-m", "debug=fast", "writer=[jsonl]", "sweep.name=s", "seed=0")
    assert re.search(r"^sweep   .*s$", swept.out, re.MULTILINE)
    assert "curves" not in swept.out


def test_a_file_without_its_header_is_told(mlprun, tmp_path):
    write(tmp_path, {"mine/writer/diary.yaml": "_target_: users.Diary\n"})
    result = mlprun("--config-dir", "mine", "+writer=diary")
    assert "the first line of your writer/NAME.yaml must be: # @package writers.NAME" in result.err
