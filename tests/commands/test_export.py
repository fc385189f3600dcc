"""`mlprun export`: files that give what the run gives, without mlprun; and what cannot be one."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import mlprun as api
from tests.helpers.files import save_image
from tests.helpers.pages import blocks

DIGITS = ("debug=fast", "model=mlp", "model.dropout=0.5", "model.batch_norm=true")
REVIEWS = ["data=reviews", "data.dataset.num_examples=100", "data.text.max_length=8"]
TORCH_ALONE = """
import sys
sys.modules["mlprun"] = None  # cannot be imported
import json, torch
extra = {"mlprun.json": ""}
program = torch.export.load("run/export/model.pt2", extra_files=extra).module()
inputs = torch.load("inputs.pt")
torch.save([program(inputs), program(inputs[:1])], "outputs.pt")
print(extra["mlprun.json"])
"""
MODELS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)

class Branch(Net):
    def forward(self, x):
        y = self.linear(x.flatten(1))
        return y if y.sum() > 0 else -y

class OneSize(Net):
    def forward(self, x):
        return torch.stack([self.linear(each.flatten()) for each in x])

class Noisy(Net):
    def forward(self, x):
        return self.linear(x.flatten(1)) + torch.rand(10)

class Bessel(Net):
    def forward(self, x):
        return self.linear(torch.special.bessel_j0(x.flatten(1)))
"""
needs_onnx = pytest.mark.skipif(importlib.util.find_spec("onnxscript") is None, reason="needs mlprun[onnx]")


@pytest.fixture
def digits(trained):
    """A run on images, some of its raw inputs, and what `mlprun.load` predicts for them."""
    run, inputs = trained(*DIGITS), torch.arange(5 * 64).reshape(5, 1, 8, 8).remainder(17).to(torch.uint8)
    return run, inputs, api.load(run).predict(inputs).probabilities


def test_torch_alone_gives_the_probabilities_from_a_pt2(mlprun, tmp_path, digits):
    _, inputs, expected = digits
    assert mlprun("export", "run", "--to", "pt2").status == 0
    torch.save(inputs, tmp_path / "inputs.pt")
    code = [sys.executable, "-c", TORCH_ALONE]
    done = subprocess.run(code, cwd=tmp_path, capture_output=True, text=True, check=True)
    many, one = torch.load(tmp_path / "outputs.pt")
    torch.testing.assert_close(many, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(one, expected[:1], rtol=0, atol=1e-5)
    metadata = json.loads(done.stdout)
    assert metadata["class_names"] == list("0123456789")
    assert metadata["inputs"] == {"dtype": "uint8", "shape": ["batch", 1, 8, 8]}
    assert metadata["outputs"] == {"meaning": "probabilities", "shape": ["batch", 10]}
    assert metadata["command"].startswith("mlprun debug=fast")


@needs_onnx
def test_onnxruntime_gives_the_probabilities(mlprun, digits):
    import onnxruntime

    run, inputs, expected = digits
    result = mlprun("export", "run", "--to", "onnx")
    assert result.out.splitlines()[:3] == [
        "file        run/export/model.onnx",
        "inputs      uint8 [batch, 1, 8, 8]",
        "outputs     probabilities [batch, 10] of 0, 1, 2, 3, 4 and 5 more",
    ]
    assert float(result.out.split("difference")[1].split()[0]) <= 1e-5
    session = onnxruntime.InferenceSession(run / "export" / "model.onnx")
    for count in (5, 1):
        (found,) = session.run(None, {"inputs": inputs[:count].numpy()})
        np.testing.assert_allclose(found, expected[:count], rtol=0, atol=1e-5)
    properties = session.get_modelmeta().custom_metadata_map
    assert json.loads(properties["mlprun.class_names"]) == list("0123456789")
    assert len(properties["mlprun.run"]) == 16


@needs_onnx
def test_the_programs_of_the_page(mlprun, digits, capsys):
    for to in ("pt2", "onnx"):
        assert mlprun("export", "run", "--to", to, "--output", f"model.{to}").status == 0
    for block in blocks("docs/export.md", "python"):
        exec(compile(block, "docs/export.md", "exec"), {})
    first, second = capsys.readouterr().out.splitlines()
    assert first == second


@pytest.mark.parametrize(
    ("words", "inputs", "outputs"),
    [
        (["data=diabetes", "model=linear"], "float32 [batch, 10]", "values [batch, 1]"),
        (["loss=hinge"], "uint8 [batch, 1, 8, 8]", "scores [batch, 10] of 0, 1, 2, 3, 4 and 5 more"),
        (
            ["data=breast_cancer", "model=linear", "loss=bce", "data.num_outputs=1", "trainer.precision=bf16"],
            "float32 [batch, 30]",
            "probabilities [batch, 2] of malignant, benign",
        ),
        ([*REVIEWS, "model=gru"], "int64 [batch, 8]", "probabilities [batch, 2] of neg, pos"),
        ([*REVIEWS, "model=transformer"], "int64 [batch, length]", "probabilities [batch, 2] of neg, pos"),
        (
            ["data=reviews_masked", *REVIEWS[1:], "model=transformer"],
            "int64 [batch, length]",
            "probabilities [batch, length, 1000]",
        ),
        (
            ["data=tones", "data.dataset.num_samples=100", "model=cnn"],
            "float32 [batch, 1, 40, 48]",
            "probabilities [batch, 4] of rising, falling, hill, valley",
        ),
    ],
)
def test_inputs_are_as_stored_and_outputs_as_predict_gives_them(mlprun, trained, words, inputs, outputs):
    trained("debug=fast", *words)
    for to in ["pt2", "onnx"] if needs_onnx.args == (False,) and "model=gru" in words else ["pt2"]:
        result = mlprun("export", "run", "--to", to)
        assert result.status == 0, result.err
        assert result.out.splitlines()[1:3] == [f"inputs      {inputs}", f"outputs     {outputs}"]
        assert result.out.endswith("on the test split\n")
    assert ("the length is fixed: fill the ids of a text up to 8 with 0" in result.err) == ("model=gru" in words)
    assert ("the file computes in fp32, the run did in bf16" in result.err) == ("trainer.precision=bf16" in words)


def test_several_labels_and_values(mlprun, tmp_path):
    """A sigmoid for each label; scaled targets in their own units."""
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom torch.utils.data import TensorDataset\n\n"
        "def labels():\n    x = torch.randn(60, 4)\n    return TensorDataset(x, (x[:, :3] > 0).float())\n\n"
        "def values():\n    x = torch.randn(60, 4)\n    return TensorDataset(x, 100 * x[:, :3] + 1000)\n"
    )
    own = ["debug=fast", "data=custom", "data.input_shape=[4]", "data.num_outputs=3", "model=linear"]
    for name, more in {
        "labels": ["task=multi_label", "loss=bce"],
        "values": ["task=regression", "loss=mse", "data.normalize_targets=true"],
    }.items():
        trained = mlprun(*own, f"data.dataset._target_=mine.{name}", *more, f"hydra.run.dir={name}")
        assert trained.status == 0, trained.err
        assert mlprun("export", name, "--to", "pt2").status == 0
        inputs = torch.randn(5, 4)
        program = torch.export.load(tmp_path / name / "export" / "model.pt2").module()
        predictions = api.load(tmp_path / name).predict(inputs)
        expected = predictions.outputs if predictions.probabilities is None else predictions.probabilities
        torch.testing.assert_close(program(inputs).detach(), expected, rtol=1e-5, atol=1e-5)
        assert (expected.mean() > 100) == (name == "values")


def test_random_inputs_where_the_data_are_gone(mlprun, tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(8):
            save_image(tmp_path / "images" / name / f"{i}.png", np.full((8, 8, 3), 20 * i))
    trained = mlprun(
        "debug=fast", "data=image_folder", "data.root=images", "data.input_shape=[3,8,8]", "data.num_workers=0",
        "hydra.run.dir=run",
    )  # fmt: skip
    assert trained.status == 0, trained.err
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    result = mlprun("export", "run", "--to", "pt2")
    assert "note: the data cannot be read: " in result.err
    assert "inputs      uint8 [batch, 3, 8, 8]" in result.out
    assert result.out.endswith("on random inputs\n")


@pytest.mark.parametrize(
    ("model", "to", "problem"),
    [
        ("Branch", "pt2", "an `if`, a loop or a shape depends on the values of its inputs\n  File"),
        ("OneSize", "pt2", "it works with batches of one size only"),
        ("Noisy", "pt2", "is not kept: its outputs differ from the model's by up to"),
        pytest.param(
            "Bessel", "onnx", "ONNX cannot express the model: it has no torch.ops.prims.bessel", marks=needs_onnx
        ),
    ],
)
def test_what_cannot_be_exported_leaves_no_file(mlprun, tmp_path, model, to, problem):
    (tmp_path / "models.py").write_text(MODELS)
    words = ["debug=fast", "model=custom", f"model._target_=models.{model}", "hydra.run.dir=run"]
    assert mlprun(*words).status == 0
    result = mlprun("export", "run", "--to", to)
    assert result.status == 1
    assert problem in result.err
    assert result.err.startswith("error: ")  # neither a traceback nor torch's own words
    assert len(result.err.splitlines()) <= 3
    assert not (tmp_path / "run" / "export").exists()


def test_a_file_is_replaced_by_its_own_run_only(mlprun, tmp_path, finished):
    run, other = str(finished(*DIGITS)), str(finished("debug=fast", "model=linear"))
    (tmp_path / "notes.pt2").write_text("mine")
    (tmp_path / "link.pt2").symlink_to("notes.pt2")
    export = ["--to", "pt2", "--output"]
    assert mlprun("export", run, *export, "a.pt2").status == 0
    assert mlprun("export", run, *export, "a.pt2").status == 0
    before = (tmp_path / "a.pt2").read_bytes()
    for directory, name, problem in [
        (other, "a.pt2", "is no export of this run, and is not replaced"),
        (run, "notes.pt2", "is no export of this run, and is not replaced"),
        (run, "link.pt2", "is a link, and is not replaced"),
        (run, ".", "is no export of this run, and is not replaced"),
        (run, "a.onnx", "is no name for --to pt2\n  write a.pt2"),
        (run, "nowhere/a.pt2", "cannot be written: No such file or directory"),
    ]:
        result = mlprun("export", directory, *export, name)
        assert result.status in (1, 2), name
        assert problem in result.err
    assert (tmp_path / "a.pt2").read_bytes() == before
    assert (tmp_path / "notes.pt2").read_text() == "mine"


def test_the_library_that_is_missing_is_named(mlprun, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = mlprun("export", "run", "--to", "onnx")
    assert result.status == 2
    assert result.err == "error: --to=onnx: needs onnx, onnxscript, onnxruntime\n  pip install 'mlprun[onnx]'\n"
