"""Names of the user's are data: no terminal, log or picture obeys them, and none ends a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlprun.predict.finished import load

NAMES = ("US$_5_front", "US$_5_back", "_a\nerror: none", "\x1b[31mred", "\u202ertl", "猫")


@pytest.fixture
def pictures_of_hostile_names(tmp_path):
    rng = np.random.default_rng(0)
    for number, name in enumerate(NAMES):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(0, 40, (4, 4, 3), dtype="uint8") + 40 * number
            Image.fromarray(pixels.astype("uint8")).save(tmp_path / "data" / name / f"{i}.png")
    return ["data=image_folder", "data.root=data", "data.input_shape=[3,4,4]", "data.num_workers=0", "model=linear"]


def test_names_of_classes(mlprun, tmp_path, pictures_of_hostile_names):
    words = pictures_of_hostile_names
    drawn = "logging.pictures=[misclassified,filters]"
    results = [
        mlprun(*words, "epochs=1", drawn, "hydra.run.dir=a$b_c$d"),
        mlprun("predict", "a$b_c$d", "--index", *map(str, range(12))),
        mlprun("inspect", *words),
        mlprun("plot", "a$b_c$d"),
    ]
    assert [result.status for result in results] == [0] * 4, [result.err for result in results]
    log = (tmp_path / "a$b_c$d" / "train.log").read_text()
    for text in [log, *(result.out + result.err for result in results)]:
        assert all(character.isprintable() or character in "\n\t" for character in text)
        assert "\nerror: none" not in text
        assert "Glyph" not in text


CLASSES = """
import torch
class Pets(torch.utils.data.Dataset):
    classes = ["cat", "dog"]
    def __init__(self): self.targets = [self.classes[i % 2] for i in range(60)]
    def __len__(self): return 60
    def __getitem__(self, i): return torch.tensor([float(i % 2), 1.0]), i % 2
"""


def test_the_classes_of_a_data_set_of_ones_own_are_shown(mlprun, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(CLASSES)
    line = ["data=custom", "data.dataset._target_=mine.Pets", "data.input_shape=[2]", "data.num_outputs=2"]
    assert mlprun(*line, "model=linear", "epochs=2", "hydra.run.dir=run").status == 0
    assert "cat" in (tmp_path / "run" / "confusion_matrix.csv").read_text()
    assert "cat" in mlprun("predict", "run", "1,1").out
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not load(Path("run")).learner.model.training
