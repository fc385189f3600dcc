"""What is not imported before it is needed: the seconds of torch, torchvision, scikit-learn and their like."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np

from mlprun.data.cifar import CIFAR_SETS, NUM_PIXELS
from mlprun.data.mnist import IDX_FILES
from tests.helpers.files import idx_bytes, write

# What a statement may not import; those that may import more come later.
BEFORE_TORCH = {
    "import mlprun": ["torch", "numpy", "hydra", "omegaconf", "pandas", "polars"],
    "import mlprun.sweep.pool": ["torch", "hydra", "omegaconf", "numpy"],
    "import mlprun.analysis.leaderboard": ["torch", "numpy", "scipy", "hydra", "sklearn"],
    "from mlprun.data.folders import num_class_folders; assert num_class_folders('.') == 2": ["torch", "PIL"],
    "import mlprun.runs.provenance, mlprun.analysis.diff": ["torch"],
    "from mlprun.config.checks import check; from mlprun.config.compose import Composer; "
    "check(Composer().compose(['model=cnn']))": ["torch", "torchvision", "sklearn", "tensorboard"],
}
WITH_TORCH = {
    "from mlprun.models import rnn, transformer, embedding_average": ["hydra", "omegaconf", "mlprun.config"],
    "import mlprun.models.resnet": ["torchvision"],
    "from mlprun.data import tabular; "
    "[getattr(tabular, name)() for name in ('digits', 'iris', 'wine', 'breast_cancer', 'diabetes')]": ["sklearn"],
    "from mlprun.data import cifar, mnist; "
    "mnist.idx('mnist', '.'), cifar.cifar('cifar10', '.')": ["torchvision", "PIL"],
}  # fmt: skip


def imported(folder, statements: dict[str, list[str]]) -> dict[str, list[str]]:
    """What each statement had imported of what it may not, one after another in one interpreter."""
    code = (
        "import json, sys\n"
        "found = {}\n"
        "for statement, forbidden in json.loads(sys.argv[1]).items():\n"
        "    exec(statement)\n"
        "    found[statement] = [name for name in forbidden if name in sys.modules]\n"
        "print(json.dumps(found))\n"
    )
    line = [sys.executable, "-W", "error", "-c", code, json.dumps(statements)]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_works_without_torch(tmp_path):
    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").touch()
    assert imported(tmp_path, BEFORE_TORCH) == {statement: [] for statement in BEFORE_TORCH}


def test_what_works_without_torchvision_scikit_learn_and_hydra(tmp_path):
    images = idx_bytes(np.zeros((10, 28, 28)))
    contents = {name: images if "images" in name else idx_bytes(np.arange(10)) for name in IDX_FILES}
    write(tmp_path / "MNIST" / "raw", contents)
    chosen = CIFAR_SETS["cifar10"]
    records = {name: bytes((chosen.num_labels + NUM_PIXELS) * 5) for name in (*chosen.train, *chosen.test)}
    names = "\n".join(f"class{i}" for i in range(chosen.num_classes))
    write(tmp_path / chosen.folder, records | {chosen.names: names})
    assert imported(tmp_path, WITH_TORCH) == {statement: [] for statement in WITH_TORCH}
