"""One run: what it leaves behind, and that the same line gives the same bits."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.helpers.runs import record_of, rows_of, same


def last(run):
    return torch.load(run / "checkpoints" / "last.pt", weights_only=True)


def test_the_default_line_learns_the_digits_also_beside_files_named_like_libraries(mlprun_shell, tmp_path):
    for name in ("yaml.py", "torch.py", "random.py"):
        (tmp_path / name).write_text("raise SystemExit('hidden')\n")
    result = mlprun_shell()
    assert result.status == 0, result.err
    assert result.record()["metrics"]["test/accuracy"] >= 0.95
    assert "Traceback" not in result.err
    for said in (
        r"data +digits: 1,294 train, 144 val, 359 test",
        r"model +MLP: 17,226 parameters",
        r"device +\w+",
        r"step +41/410 +epoch +1\.00 .*val/accuracy 0\.\d{4}",
        r"test +loss .*accuracy 0\.9\d+",
        r"run +outputs/\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d_digits_mlp_adam_[0-9a-f]{4}\n",
        r"curves +tensorboard --logdir outputs\n",
    ):
        assert re.search(said, result.out), said


def test_a_run_directory_holds_the_whole_record(mlprun):
    result = mlprun("debug=fast", "seed=3")
    (run,) = result.runs
    files = {str(p.relative_to(run)) for p in run.rglob("*") if p.is_file()}
    events = {name for name in files if name.startswith("events.out.tfevents")}
    assert len(events) == 1
    assert files - events - {"code.patch"} == {
        ".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml", ".lock", "run.json", "metrics.jsonl",
        "train.log", "confusion_matrix.csv", "checkpoints/last.pt", "checkpoints/best.pt", "checkpoints/step_8.pt",
    }  # fmt: skip
    text = (run / "run.json").read_text()
    record = json.loads(text)
    assert text.startswith('{\n  "status": "completed",')
    assert {"status", "command", "config", "seed", "git", "packages", "host", "device", "started_at", "ended_at",
            "elapsed_sec", "num_parameters", "steps", "metrics"} <= set(record)  # fmt: skip
    assert record["command"] == "mlprun debug=fast seed=3"
    assert record["overrides"] == ["debug=fast", "seed=3"]
    assert record["seed"] == record["config"]["seed"] == 3
    assert record["config"]["model"]["num_outputs"] == 10, "interpolations are resolved"
    assert record["steps"] == 8
    assert record["num_parameters"] == 17226
    assert record["device"]["num_threads"] == 1
    assert record["packages"]["torch"] == torch.__version__.split("+")[0]
    assert set(record["metrics"]) == {f"{s}/{m}" for s in ("val", "test") for m in ("loss", "accuracy", "macro_f1")}
    assert "val/accuracy" in (run / "train.log").read_text()


def test_a_checkpoint_is_plain_and_complete(mlprun):
    result = mlprun("debug=fast")
    for name in ("last.pt", "best.pt"):
        state = torch.load(result.runs[0] / "checkpoints" / name, weights_only=True)
        assert {"model", "optimizer", "schedule", "progress", "step", "config", "normalizer"} <= set(state)
        assert set(state["model"]) == {f"{layer}.{kind}" for layer in ("hidden.0", "hidden.2", "output")
                                       for kind in ("weight", "bias")}  # fmt: skip
        assert state["config"] == result.record()["config"]
    assert last(result.runs[0])["step"] == 8


def test_tensorboard_shows_what_metrics_jsonl_holds(mlprun):
    result = mlprun("debug=fast", "trainer.grad_clip=1.0")
    (run,) = result.runs
    board = EventAccumulator(str(run))
    board.Reload()
    tags = set(board.Tags()["scalars"])
    assert {"loss/train", "accuracy/train", "loss/val", "accuracy/val", "training/lr", "training/grad_norm",
            "training/examples_per_sec", "test/accuracy"} <= tags  # fmt: skip
    assert board.Tags()["images"] == ["test/confusion_matrix"]
    for tag, name in (("train/loss", "loss/train"), ("val/loss", "loss/val"), ("optim/lr", "training/lr")):
        shown = [(e.step, e.value) for e in board.Scalars(name)]
        written = [(row["step"], row[tag]) for row in rows_of(run) if tag in row]
        assert [s for s, _ in shown] == [s for s, _ in written]
        assert [v for _, v in shown] == pytest.approx([v for _, v in written])
    assert [e.step for e in board.Scalars("loss/val")] == [3, 6, 8], "every 3 steps, and at the end"
    assert [e.step for e in board.Scalars("loss/train")] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [row["epoch"] for row in rows_of(run)] == [s / 4 for s in range(1, 9)]


def test_best_pt_is_the_best_and_last_pt_is_the_last(mlprun):
    result = mlprun("optim.lr=0.05", "epochs=12", "monitor=val/accuracy")
    (run,) = result.runs
    scores = {row["step"]: row["val/accuracy"] for row in rows_of(run) if "val/accuracy" in row}
    best = torch.load(run / "checkpoints" / "best.pt", weights_only=True)
    assert last(run)["step"] == max(scores)
    assert scores[best["step"]] == max(scores.values()) == result.record()["metrics"]["val/accuracy"]
    assert best["step"] != max(scores), "at this learning rate an earlier step is better: the test would prove nothing"


def test_outputs_are_kept_out_of_the_users_repository(mlprun):
    folder = mlprun("--version").folder
    subprocess.run(["git", "init", "-q", "."], cwd=folder, check=True)
    (folder / "notes.txt").write_text("mine")
    subprocess.run(["git", "add", "."], cwd=folder, check=True)
    commit = ["git", "-c", "user.name=me", "-c", "user.email=me@example.org", "commit", "-qm", "mine"]
    subprocess.run(commit, cwd=folder, check=True)
    for line in (["debug=fast"], ["-m", "debug=fast", "seed=1"], ["debug=fast", "seed=2"]):
        assert mlprun(*line).status == 0
    assert [record_of(run)["git"]["dirty"] for run in mlprun("--version").runs] == [False] * 3


def test_a_users_own_class_yaml_and_data_work_from_the_current_folder(mlprun_process, tmp_path):
    (tmp_path / "my_module.py").write_text(
        "import torch, random\n"
        "class MyNet(torch.nn.Module):\n"
        "    def __init__(self, width, num_outputs):\n"
        "        super().__init__()\n"
        "        self.net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(width),\n"
        "                                       torch.nn.Tanh(), torch.nn.Linear(width, num_outputs))\n"
        "        self.net(torch.zeros(1, 3))\n"
        "    def forward(self, x):\n"
        "        return self.net(x)\n"
        "class MyData(torch.utils.data.Dataset):\n"
        "    def __init__(self, size):\n"
        "        self.size = size\n"
        "    def __len__(self):\n"
        "        return self.size\n"
        "    def __getitem__(self, i):\n"
        "        return torch.tensor([i % 2, random.random(), 1.0]), i % 2\n"
    )
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "mine.yaml").write_text(
        "_target_: my_module.MyNet\nwidth: 4\nnum_outputs: ${data.num_outputs}\n"
    )
    line = ["--config-dir", "./conf", "model=mine", "model.width=6", "data=custom", "data.input_shape=[3]",
            "data.num_outputs=2", "data.dataset._target_=my_module.MyData", "+data.dataset.size=300"]  # fmt: skip
    tensors = []
    for workers in (0, 2):  # in workers the folder is on the import path too, and the noise is the same
        result = mlprun_process(
            *line, f"data.num_workers={workers}", "optim.lr=0.1", f"hydra.run.dir=outputs/w{workers}"
        )
        assert result.status == 0, result.err
        tensors.append(last(tmp_path / f"outputs/w{workers}")["model"])
    assert tensors[0]["net.1.weight"].shape == (6, 3)
    assert same(*tensors)
    record = json.loads((tmp_path / "outputs/w0/run.json").read_text())
    assert record["metrics"]["test/accuracy"] == 1.0


def test_the_data_root_on_the_line_beats_the_environment_which_beats_the_cache(mlprun, monkeypatch):
    monkeypatch.setenv("MLPRUN_DATA", "/from/environment")
    monkeypatch.setenv("XDG_CACHE_HOME", "/from/cache")
    shown = ("data=mnist", "--cfg", "job", "--resolve", "-p", "data")
    assert "root: /from/line\n" in mlprun(*shown, "data.root=/from/line").out
    assert "root: /from/environment\n" in mlprun(*shown).out
    monkeypatch.delenv("MLPRUN_DATA")
    assert "root: /from/cache/mlprun/data\n" in mlprun(*shown).out


def test_debug_profile_writes_a_trace(mlprun):
    result = mlprun("debug=profile")
    trace = json.loads((result.runs[0] / "trace.json").read_text())
    assert any("addmm" in event.get("name", "") for event in trace["traceEvents"])


def test_debug_anomaly_names_the_users_operation(mlprun):
    folder = mlprun("--version").folder
    (folder / "my_module.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Linear):\n"
        "    def __init__(self):\n"
        "        super().__init__(64, 10)\n"
        "    def forward(self, x):\n"
        "        return super().forward(x.flatten(1)) + torch.sqrt(0 * self.weight.sum())\n"
    )
    result = mlprun("debug=anomaly", "model=custom", "model._target_=my_module.Net")
    assert result.status == 1
    assert "MulBackward0" in result.err
    assert "torch.sqrt(0 * self.weight.sum())" in result.err


def test_torch_compile_gives_the_plain_state_dict(mlprun):
    result = mlprun("debug=fast", "trainer.compile=true", "model=linear", "steps=2", "eval_every='1 step'")
    assert result.status == 0, result.err
    assert set(last(result.runs[0])["model"]) == {"output.weight", "output.bias"}


def test_val_and_test_data_of_ones_own(mlprun):
    folder = mlprun("--version").folder
    (folder / "my_module.py").write_text(
        "import torch\n"
        "class Numbers(torch.utils.data.Dataset):\n"
        "    def __init__(self, size):\n"
        "        self.size = size\n"
        "    def __len__(self):\n"
        "        return self.size\n"
        "    def __getitem__(self, i):\n"
        "        return torch.tensor([float(i % 2)]), i % 2\n"
    )
    line = ["data=custom", "data.input_shape=[1]", "data.num_outputs=2", "steps=2"]
    for part, size in (("dataset", 50), ("val_dataset", 7), ("test_dataset", 9)):
        plus = "" if part == "dataset" else "+"
        line += [f"{plus}data.{part}._target_=my_module.Numbers", f"+data.{part}.size={size}"]
    result = mlprun(*line)
    assert result.status == 0, result.err
    assert "50 train, 7 val, 9 test" in result.out


def test_one_output_under_squared_error_decides_in_the_middle_of_its_targets(mlprun):
    result = mlprun("data=moons", "data.num_outputs=1", "loss=mse", "epochs=30")
    assert result.record()["metrics"]["test/accuracy"] > 0.95


def test_class_weights_weigh_the_examples(mlprun):
    weights = "+loss.weight=[1,2,3]"
    runs = [
        mlprun(
            "data=iris", weights, "epochs=2", "batch_size=30", f"trainer.accumulate={n}", f"hydra.run.dir=a{n}"
        ).folder
        / f"a{n}"
        for n in (1, 3)
    ]
    whole, parts = (last(run)["model"] for run in runs)
    assert all(torch.allclose(whole[name], parts[name], atol=1e-6) for name in whole)
