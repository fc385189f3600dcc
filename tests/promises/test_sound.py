"""Sound from end to end: learnt, predicted, resumed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mlprun.data.audio.folder import audio_folder
from mlprun.data.source import Source
from tests.helpers.runs import record_of
from tests.helpers.sounds import AUDIO, save, sine


@pytest.fixture
def recordings(tmp_path) -> Path:
    """Two voices, low and high, 40 recordings each, of changing length and rate, in noise."""
    rng = np.random.default_rng(0)
    for name, (low, high) in {"low": (150, 500), "high": (900, 2000)}.items():
        for number in range(40):
            rate = (8000, 11025)[number % 2]
            sound = sine(rng.uniform(low, high), rate, rng.uniform(0.3, 0.8), rng.uniform(0.05, 0.5))
            save(tmp_path / "sounds" / name / f"{number}.wav", sound + 0.01 * rng.standard_normal(len(sound)), rate)
    return tmp_path / "sounds"


LINE = [
    "data=audio_folder", "data.root=sounds", "data.audio.sample_rate=8000", "data.audio.seconds=0.5",
    "data.audio.num_mels=32", "data.dataset.split_by=name", "model=cnn", "model.channels=[4,8]", "model.hidden=[16]",
    "model.dropout=0.2", "batch_size=16", "hydra.run.dir=run",
]  # fmt: skip


def test_a_folder_of_recordings_is_learnt_and_a_file_predicted(mlprun_process, recordings, tmp_path):
    done = mlprun_process(*LINE, "epochs=8", "logging.pictures=[filters,feature_maps,misclassified]")
    assert done.status == 0, done.err
    assert record_of(tmp_path / "run")["metrics"]["test/accuracy"] >= 0.9
    for picture in ("filters", "feature_maps", "misclassified"):
        assert list((tmp_path / "run" / "pictures").glob(f"{picture}*.png"))
    save(tmp_path / "new.wav", sine(1500, 22050, 1.0), 22050)
    asked = mlprun_process("predict", "run", "new.wav", "--json")
    found = json.loads(asked.out)
    assert found["predicted"] == "high"
    assert "note: new.wav is 1.00 s long, an example 0.5 s: cropped to its middle" in asked.err
    (tmp_path / "empty").mkdir()
    of_a_folder = mlprun_process("predict", "run", "sounds", "--json").out.splitlines()
    assert len(of_a_folder) == len(list((tmp_path / "sounds").rglob("*.wav")))
    for word, said in (("none.wav", "there is no such file"), ("empty", "has no sounds in it\n  looked for .wav")):
        refused = mlprun_process("predict", "run", word)
        assert (refused.status, refused.out) == (2, "") or refused.status == 1
        assert refused.err == f"error: {word}: {said}\n"


def test_a_file_of_the_data_set_is_predicted_as_the_run_saw_it(mlprun, recordings, tmp_path):
    for file in recordings.glob("*/??.wav"):  # ten of each voice: a picture is drawn of each prediction
        file.unlink()
    assert mlprun(*LINE, "epochs=1").status == 0
    source = audio_folder(recordings, {**AUDIO, "num_mels": 32}, split_by="name")
    assert isinstance(source, Source)
    by_index = [json.loads(line) for line in mlprun("predict", "run", "--index", "0", "--json").out.splitlines()]
    files = sorted(map(str, recordings.glob("high/*.wav")))
    by_file = [json.loads(line) for line in mlprun("predict", "run", *files, "--json").out.splitlines()]
    chances = [each["probabilities"]["high"] for each in by_file]
    assert min(abs(by_index[0]["probabilities"]["high"] - chance) for chance in chances) < 1e-6
