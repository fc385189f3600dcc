"""Runs that start from given tensors: refused ones, killed ones, and what is said of them."""

from __future__ import annotations

import json
import pickle
import shutil
import signal
from pathlib import Path

import pytest
import torch
from hypothesis import strategies as st
from torch import nn

from mlprun.analysis.diff import compare_tensors
from mlprun.runs import checkpoint
from tests.helpers.lines import Line, finish, wait_until
from tests.helpers.runs import RUN, SMALL, assert_identical, last_step, record_of

FAST = ["debug=fast", "steps=6", "data.limit=100"]


def network(width: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 2))


def best(run: Path) -> dict:
    return checkpoint.load(run / "checkpoints" / "best.pt")["model"]


class Malicious:
    def __reduce__(self):
        return open, ("ran.txt", "w")


def bad_files(folder: Path) -> None:
    torch.save({"model": Malicious()}, folder / "malicious.pt")
    (folder / "malicious.pkl").write_bytes(pickle.dumps(Malicious()))
    (folder / "text.pt").write_text("no tensors here")
    (folder / "empty.pt").write_bytes(b"")
    torch.save({"model": {}, "epoch": 3}, folder / "bare.pt")
    torch.save(network(), folder / "module.pt")
    torch.save({"output.weight": torch.zeros(10, 64)}, folder / "flipped.pt")
    content = bytearray((folder / "flipped.pt").read_bytes())
    content[content.index(bytes(400)) + 100] ^= 1
    (folder / "flipped.pt").write_bytes(content)
    (folder / "folder").mkdir()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere.pt", "there is no such file"),
        ("folder", "is a folder without checkpoints/best.pt"),
        ("malicious.pt", "not read"),
        ("malicious.pkl", "not read"),
        ("module.pt", "holds more than tensors and plain values"),
        ("text.pt", "torch.save(model.state_dict(), …)"),
        ("empty.pt", "cannot be read"),
        ("bare.pt", "holds no tensors by name"),
        ("flipped.pt", "has changed since it was written"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_message_and_runs_nothing(mlprun, tmp_path, name, said):
    bad_files(tmp_path)
    sweep = ["-m"] if name == "malicious.pt" else []
    result = mlprun(*sweep, *FAST, f"trainer.weights={name}", "seed=0")
    assert result.status == 2
    assert f"trainer.weights={name}" in result.err + result.out
    assert said in result.err + result.out
    assert len((result.err + result.out).strip().splitlines()) <= 8
    assert "Traceback" not in result.err
    assert not (tmp_path / "ran.txt").exists()
    assert result.runs == []


def test_a_run_starts_from_another_with_inputs_of_another_size(mlprun, tmp_path):
    assert mlprun(*FAST, "hydra.run.dir=first", "data=iris", "model.hidden=[8,6]").status == 0
    result = mlprun(*FAST, "hydra.run.dir=second", "data=wine", "model.hidden=[8,6]", "trainer.weights=first",
                    "trainer.freeze=[hidden.2]")  # fmt: skip
    assert "weights 5 of 6 tensors from first; new: hidden.0.weight (there 8x4)\n" in result.out
    record = record_of(tmp_path / "second")
    total, trained = record["num_parameters"], record["num_trained_parameters"]
    assert total - trained == 8 * 6 + 6
    assert f"MLP: {total:,} parameters, {trained:,} trained\n" in result.out
    first, second = best(tmp_path / "first"), best(tmp_path / "second")
    assert torch.equal(first["hidden.2.weight"], second["hidden.2.weight"])  # taken, and frozen
    assert not torch.equal(first["hidden.0.bias"], second["hidden.0.bias"])  # taken, and trained
    assert record["weights"]["path"] == str(tmp_path / "first" / "checkpoints" / "best.pt")
    assert record["weights"]["sha256"].startswith("sha256:")


def test_a_plain_state_dict_is_a_start_too(mlprun, tmp_path):
    assert mlprun(*FAST, "hydra.run.dir=first").status == 0
    torch.save({f"module.{k}": v for k, v in best(tmp_path / "first").items()}, tmp_path / "plain.pth")
    for name in ("plain.pth", "first", "first/checkpoints/best.pt"):
        assert "weights 6 of 6 tensors from" in mlprun(*FAST, f"trainer.weights={name}", "optim.lr=0").out
    runs = [run for run in (tmp_path / "outputs").glob("*/*") if (run / "run.json").exists()]
    assert len(runs) == 3
    assert all(compare_tensors(best(run), best(tmp_path / "first")) == [] for run in runs)


def test_without_frozen_parameters_the_introduction_says_nothing_of_it(mlprun):
    result = mlprun(*FAST)
    assert " trained" not in result.out
    assert "weights " not in result.out
    assert result.record()["num_trained_parameters"] == result.record()["num_parameters"]
    assert "weights" not in result.record()


def test_reproduce_says_that_the_file_has_changed(mlprun, tmp_path):
    torch.save({"output.bias": torch.zeros(10)}, tmp_path / "w.pt")
    assert mlprun(*FAST, "hydra.run.dir=run", "trainer.weights=w.pt").status == 0
    assert mlprun("reproduce", "run").status == 0
    torch.save({"output.bias": torch.ones(10)}, tmp_path / "w.pt")
    result = mlprun("reproduce", "run")
    assert result.status == 1
    assert "data: weights: sha256:" in result.out
    (tmp_path / "w.pt").unlink()
    result = mlprun("reproduce", "run")
    assert result.status == 2
    assert "trainer.weights=w.pt: there is no such file" in result.out + result.err
    assert mlprun("eval", "run").status == 0  # which has no need of it


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["optim=muon", "trainer.accumulate=2", "trainer.grad_clip=0.5"], id="muon, accumulated, clipped"),
        pytest.param(["optim=adamw", "trainer.decay_all=false", "scheduler=cosine"], id="groups"),
        pytest.param(["optim=adamw", "scheduler=cosine", '+optim.groups.slow={params:head.output.weight,lr:1e-4}',
                      "+optim@optim.groups.own=momentum", "+optim.groups.own.params=head.hidden"], id="groups' own"),
        pytest.param(["trainer.unfreeze_at=25 steps", "logging.histograms=true", "scheduler=one_cycle",
                      "trainer.ema=0.9"], id="unfrozen"),
    ],
)  # fmt: skip
def test_a_killed_run_goes_on_without_the_file_and_ends_with_the_same_bits(tmp_path, words):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    model = ["model=cnn", "model.dropout=0.2", "data.limit=256", "trainer.freeze=[features,head.hidden.1]"]
    line = [*SMALL, "epochs=12", *model, *words, "trainer.weights=first"]
    whole.mkdir()
    finish(whole, "hydra.run.dir=first", "model=cnn", "data.limit=256", "epochs=1")
    shutil.copytree(whole, broken)
    finish(whole, *line)
    with Line(broken, *line) as running:
        wait_until(lambda: last_step(broken) >= 30)
        running.signal(signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL, running.output
    (broken / "first" / "checkpoints" / "best.pt").unlink()
    output = finish(broken, "resume", RUN)
    assert_identical(broken / RUN, whole / RUN)
    assert "have changed" not in output
    first, last = best(whole / "first"), best(whole / RUN)
    for name, tensor in first.items():  # frozen, running statistics and all
        if "trainer.unfreeze_at=25 steps" in words:
            assert not torch.equal(tensor, last[name]), name
        elif name.startswith(("features.", "head.hidden.1.")):
            assert torch.equal(tensor, last[name]), name
    assert not torch.equal(first["head.output.weight"], last["head.output.weight"])


def test_a_run_that_was_killed_before_its_first_checkpoint_reads_the_file_again(mlprun, tmp_path):
    torch.save({"output.bias": torch.zeros(10)}, tmp_path / "w.pt")
    assert mlprun(*FAST, "hydra.run.dir=run", "trainer.weights=w.pt").status == 0
    record = record_of(tmp_path / "run")
    for file in (tmp_path / "run" / "checkpoints").iterdir():
        file.unlink()
    record["status"] = "running"
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    torch.save({"output.bias": torch.ones(10)}, tmp_path / "w.pt")
    result = mlprun("resume", "run")
    assert result.status == 0, result.err
    assert "have changed" in result.out
    assert "  weights: sha256:" in result.out
    again = record_of(tmp_path / "run")["weights"]["sha256"]
    assert again != record["weights"]["sha256"]


words = st.lists(st.sampled_from(["layer1", "layer2", "conv", "0", "weight"]), min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["trainer.freeze=[hiden]"], ["trainer.freeze=hiden", "did you mean 'hidden'"]),
        (["trainer.freeze=[hidden,zzz]"], ["trainer.freeze=zzz", "the model has hidden, hidden.0"]),
        (["trainer.freeze=[*]"], ["trainer.freeze=[*]", "leaves nothing to train"]),
        (["trainer.freeze=[hidden,output]"], ["leaves nothing to train"]),
        (["trainer.freeze=hidden"], ["trainer.freeze=hidden", "must be a list, such as [a,b]"]),
        (["trainer.unfreeze_at=50%"], ["trainer.unfreeze_at=50%", "nothing is frozen", "add trainer.freeze=[…]"]),
        (["trainer.freeze=[hidden]", "trainer.unfreeze_at=6 steps"], ["is step 6, and the run ends after 6 steps"]),
        (["trainer.freeze=[hidden]", "trainer.unfreeze_at=0"], ["trainer.unfreeze_at=0", "must be longer than 0"]),
        (["-m", "trainer.freeze=[hidden],[hiden]"], ["trainer.freeze=hiden", "at the point"]),
    ],
)
def test_what_cannot_be_frozen_is_refused(mlprun, line, said):
    result = mlprun(*FAST, *line)
    assert result.status == 2
    assert all(text in result.err + result.out for text in said), result.err + result.out
    assert result.runs == []


def test_batch_norm_that_is_frozen_takes_a_batch_of_one(mlprun):
    line = [*FAST, "model=mlp", "model.batch_norm=true", "data.limit=33"]
    assert "only one to normalise" in mlprun(*line).err
    frozen = [*line, "trainer.freeze=[hidden.1,hidden.4]"]
    assert mlprun(*frozen).status == 0
    assert "only one to normalise" in mlprun(*frozen, "trainer.unfreeze_at=50%").err
