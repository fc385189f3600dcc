"""Bad input: one short message that names the key, the value and the remedy; nothing is left that looks like a run."""

from __future__ import annotations

import pwd
import sys

import pytest

MODULE = """
import torch

class Net(torch.nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.first = torch.nn.Linear(64, width)
        self.second = torch.nn.Linear(8, 10)

    def forward(self, x):
        return self.second(self.first(x.flatten(1)))

class Wraps(Net):
    def __init__(self, width=None):
        super().__init__()

class Inner:
    def __init__(self):
        raise ValueError("my own bug")

class Raises(Net):
    def __init__(self):
        raise ValueError("my own bug")

class RaisesLater(Net):
    def forward(self, x):
        if self.training:
            raise ValueError("my own bug")
        return super().forward(x)

class Narrow(Net):
    def forward(self, x):
        return super().forward(x)[:, :3]

class Three(torch.utils.data.Dataset):
    value = 1.0
    def __len__(self):
        return 60
    def __getitem__(self, i):
        return torch.full((3,), self.value * i), i % 2

class Odd(Three):
    value = float("nan")

class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter([(torch.zeros(3), 0), (torch.ones(3), 1)] * 50)

def in_memory():
    from mlprun.data.source import Examples, Source

    inputs = torch.zeros(50, 2)
    inputs[3, 1] = float("nan")
    return Source(Examples(inputs, torch.arange(50) % 2))
"""
CUSTOM = ["data=custom", "data.input_shape=[3]", "data.num_outputs=2"]

# line -> what the message says. These are found before torch is imported and before a directory is made.
BEFORE_TORCH = {
    "an unknown choice": (["optim=admw"], ["optim=admw", "did you mean 'adamw'"]),
    "a choice that is like no other": (["model=zzz"], ["model=zzz", "choose from: cifar_quick, cnn, custom, embedd"]),
    "an unknown group": (["modle=mlp"], ["modle=mlp", "did you mean 'model'?"]),
    "another word for a group": (["optimizer=sgd"], ["did you mean 'optim'?"]),
    "a key without its group": (["lr=0.1"], ["lr=0.1", "did you mean 'optim.lr'?"]),
    "another word for a key": (["optim.learning_rate=1"], ["did you mean 'optim.lr'?", "+optim.learning_rate"]),
    "a misspelt key": (["model.hiden=[3]"], ["model.hiden=[3]", "did you mean 'model.hidden'?"]),
    "a misspelt key of ours": (["trainer.grad_clp=1"], ["did you mean 'trainer.grad_clip'?"]),
    "a new key with +": (["+epoch=3"], ["epoch=3", "did you mean 'epochs'?"]),
    "a new key with ++": (["++checkpoint.kep=3"], ["did you mean 'checkpoint.keep'?"]),
    "+ for a key that is there": (["+epochs=3"], ["without the +"]),
    "a removed key that is not there": (["~optim.beta"], ["optim.beta", "did you mean 'optim.betas'?"]),
    "a text for a number": (["epochs=many"], ["epochs=many", "whole number"]),
    "a fraction for a whole number": (["epochs=1.5"], ["epochs=1.5", "whole number"]),
    "a number for true or false": (["trainer.compile=3"], ["trainer.compile=3", "true or false"]),
    "a list for a number": (["data.limit=[1]"], ["data.limit"]),
    "one fold": (["data.num_folds=1", "data.fold=0"], ["data.num_folds=1", "must be 2 or more"]),
    "folds, and none is val": (["data.num_folds=5"], ["data.num_folds=5", "data.fold=0", "'data.fold=range(0,5)'"]),
    "a fold of no folds": (["data.fold=0"], ["data.fold=0", "add data.num_folds=5"]),
    "a fold that is not there": (["data.num_folds=5", "data.fold=5"], ["data.fold=5", "0 to 4"]),
    "no examples a step": (["batch_size=0"], ["batch_size=0", "1 or more, or `all`"]),
    "half an example a step": (["batch_size=1.5"], ["batch_size=1.5", "whole number"]),
    "a word for a batch size": (["batch_size=al"], ["batch_size=al", "`all`"]),
    "a negative rate": (["optim.lr=-1"], ["optim.lr=-1", "0 or more"]),
    "a text for a rate": (["optim.lr=fast"], ["optim.lr=fast", "must be a finite number"]),
    "negative epochs": (["epochs=-5"], ["epochs=-5", "must be 1 or more"]),
    "a share above 1": (["data.val_fraction=1.5"], ["data.val_fraction=1.5", "below 1"]),
    "a negative seed": (["seed=-1"], ["seed=-1"]),
    "an unknown device": (["device=gpu"], ["device=gpu", "did you mean 'cuda'"]),
    "an unknown scaling": (["data.normalize=standard"], ["did you mean 'standardize'?"]),
    "an unknown precision": (["trainer.precision=fp23"], ["did you mean 'fp32'"]),
    "an unknown metric": (["monitor=val/acc"], ["monitor=val/acc", "did you mean 'val/accuracy'"]),
    "a metric of the other task": (["data=diabetes", "monitor=val/accuracy"], ["for regression"]),
    "a duration without a unit": (["eval_every=100"], ["eval_every=100", "'100 steps' or '100 epochs'"]),
    "a duration of another unit": (["eval_every='3 hours'"], ["eval_every=3 hours", "unknown unit 'hours'"]),
    "no duration": (["checkpoint.every=0"], ["checkpoint.every=0", "longer than 0"]),
    "more parts than examples": (["batch_size=2", "trainer.accumulate=3"],
        ["trainer.accumulate=3", "at most batch_size=2"]),
    "several values without -m": (["seed=1,2"], ["seed=1,2", "add -m"]),
    "several choices without -m": (["model=mlp,cnn"], ["model=mlp,cnn", "add -m"]),
    "a bad point of a sweep": (["-m", "seed=0,1", "optim=sgd,admw"], ["optim=admw", "did you mean 'adamw'"]),
    "a bad value in a sweep": (["-m", "batch_size=8,0"], ["batch_size=0"]),
    "a key with dashes": (["--epochs", "5"], ["--epochs: there is no such option", "write epochs=5;"]),
    "a key with dashes and =": (["seed=1", "--epochs=5"], ["--epochs=5", "write epochs=5;"]),
    "a key with one dash": (["-epochs", "5"], ["write epochs=5;"]),
    "a misspelt option": (["--multirn", "seed=0,1"], ["did you mean '--multirun'?"]),
    "an option of another value": (["--cfg", "yob"], ["--cfg: invalid choice: 'yob'"]),
    "an option of a verb": (["predict", "run", "--jsn"], ["--jsn", "did you mean '--json'?"]),
    "a key with dashes after a verb": (["inspect", "--seed", "3"], ["write seed=3; see mlprun inspect --help"]),
    "a verb without its run": (["eval"], ["mlprun eval: the following arguments are required: RUN_DIR"]),
    "help for no verb": (["trian", "--help"], ["trian: is neither a verb nor key=value"]),
    "help for a misspelt key": (["help", "epohcs"], ["epohcs: there is no such", "did you mean 'epochs'?"]),
    "help for a misspelt choice": (["help", "model=mpl"], ["did you mean 'mlp'"]),
    "help for a misspelt verb": (["help", "evl"], ["did you mean 'eval'"]),
    "help for a key of another choice": (["help", "model.channels"], ["model=cnn has it: mlprun help model=cnn"]),
    "training as a verb": (["train", "--help"], ["training needs no verb"]),
    "no `=`": (["epochs"], ["epochs", "neither a verb nor key=value"]),
    "a misspelt verb": (["evl", "outputs"], ["did you mean 'mlprun eval'?"]),
    "something unreadable": (["model.hidden=[1,"], ["cannot be read"]),
    "a missing value": (["data=custom"], ["data.dataset._target_", "has no value"]),
    "no folder of YAML": (["--config-dir", "nowhere"], ["nowhere", "no such folder"]),
    "a bad key of Hydra's": (["hydra.rn.dir=x"], ["hydra.rn"]),
    "several names for one choice": (["model=[mlp,cnn]"], ["model=[mlp,cnn]", "takes one name"]),
    "a choice with +": (["+optim=sgd"], ["write optim=sgd, without the +"]),
    "writers chosen twice": (["+writer=console", "writer=[jsonl]"], ["writer=[jsonl]", "writer=[…] once"]),
    "a writer that is none": (["+writer=tensorbord"], ["writer=tensorbord", "did you mean 'tensorboard'?"]),
    "no writer of metrics.jsonl": (["writer=[console]"], ["writers.jsonl", "keep it: writer=[jsonl,console]"]),
    "a writer without its class": (["+writers.mine.url=x"], ["writers.mine", "needs a `_target_`"]),
    "writers in a grid": (["-m", "writer=[jsonl],[jsonl,console]"], ["writer=[jsonl],", "takes one value in a sweep"]),
    "an argument of a writer in a grid": (["-m", "+writers.x.y=1,2"], ["=1,2", "takes one value in a sweep"]),
    "a choice taken away": (["~model"], ["~model", "write model=…"]),
    "a key of ours taken away": (["~trainer.grad_clip"], ["~trainer.grad_clip", "cannot be removed"]),
    "true for a rate": (["optim.lr=true"], ["optim.lr=true", "must be a finite number"]),
    "an infinite rate": (["optim.lr=inf"], ["optim.lr=inf", "must be a finite number"]),
    "no number for a share": (["loss.label_smoothing=nan"], ["loss.label_smoothing=nan", "must be a finite number"]),
    "no number in a list": (["optim.betas=[0.9,nan]"], ["optim.betas=[0.9,nan]", "must be a finite number"]),
    "an infinite argument": (["optim.eps=inf"], ["optim.eps=inf", "must be a finite number"]),
    "an infinite key": (["trainer.grad_clip=inf"], ["trainer.grad_clip=inf", "must be a finite number"]),
    "no number in a sweep": (["-m", "optim.weight_decay=0,nan"], ["optim.weight_decay=nan", "must be a finite number"]),
    "no number for a class of one's own": (["model=custom", "model._target_=my_module.Net", "+model.width=nan"],
        ["model.width=nan", "quote it: \"model.width='nan'\""]),
    "a word for yes": (["loss=mse", "loss.one_hot=abc"], ["loss.one_hot=abc", "true or false"]),
    "a Ray cluster that does not answer": (
        ["-m", "seed=0,1", "hydra/launcher=ray", "hydra.launcher.address='127.0.0.1:1'"],
        ["hydra.launcher.address=", "127.0.0.1:1", "no Ray cluster answers there (Connection refused)", "`ray start"],
    ),
    "a Ray cluster without a port": (
        ["-m", "seed=0,1", "hydra/launcher=ray", "hydra.launcher.address='here:there'"],
        ["hydra.launcher.address=", "here:there", "must be host:port"],
    ),
    "an interval in a grid": (["-m", "optim.lr=interval(0,1)"], ["interval(0,1)", "add sweep.num_trials=50"]),
    "a search path": (["hydra.searchpath=[file:///tmp]"], ["--config-dir FOLDER"]),
    "a config path": (["--config-path", "/tmp"], ["--config-dir FOLDER"]),
    "--resolve alone": (["--resolve", "steps=1"], ["add --cfg job"]),
    "a variable of the shell": (["MLPRUN_DATA=/x"], ["set it first: MLPRUN_DATA=… mlprun"]),
    "a space in a list": (["model.hidden=[128,", "64]"], ["64]", "or quote it"]),
    "letters of another alphabet": (["séed=1"], ["séed=1"]),
    "nothing before the =": (["=3"], ["=3"]),
    "nothing to do with a choice": (["optim=null"], ["optim=null", "choose from: adadelta"]),
}  # fmt: skip

# These need the classes or the data; the exit status is 2 where the line is at fault, 1 where the data is.
WITH_TORCH = {
    "a module that is not there": (["model=custom", "model._target_=no_such.Net"], 2, ["No module named 'no_such'"]),
    "a class that is not there": (["model=custom", "model._target_=my_module.Nat"], 2,
        ["did you mean 'my_module.Net'?"]),
    "a nested class that is not there": (["model=custom", "model._target_=my_module.Wraps",
        "+model.width=[{_target_:torch.nn.Relu}]"], 2, ["model.width[0]._target_=torch.nn.Relu", "torch.nn.ReLU"]),
    "an argument too few of a nested class": (["model=custom", "model._target_=my_module.Wraps",
        "+model.width={_target_:torch.nn.Linear,in_features:3}"], 2, ["model.width: torch.nn.Linear needs"]),
    "a value that a nested class refuses": (["model=custom", "model._target_=my_module.Wraps",
        "+model.width={_target_:torch.nn.Dropout,p:3}"], 2, ["model.width: dropout probability has to be between"]),
    "a value that a class refuses": (["model=custom", "model._target_=torch.nn.Linear", "+model.in_features=-1",
        "+model.out_features=3"], 2, ["model: torch.nn.Linear: Trying to create tensor with negative dimension"]),
    "a class without a name": (["model=custom", "model._target_=''"], 2, ["model._target_=: cannot be imported"]),
    "a module that cannot be imported": (
        ["model=custom", "model._target_=broken.Net"], 2, ["broken.Net", "No module named 'not_installed'"]),
    "an argument too many": (
        ["model=custom", "model._target_=my_module.Net", "+model.depth=3"], 2, ["model.depth=3", "it takes: width"]),
    "arguments left over": (
        ["optim._target_=torch.optim.SGD"], 2, ["optim.betas", "~optim.betas ~optim.eps ~optim.amsgrad"]),
    "an argument too few": (["optim._target_=torch.optim.lr_scheduler.StepLR", "~optim.betas", "~optim.eps",
        "~optim.amsgrad", "~optim.fused", "~optim.lr", "~optim.weight_decay"], 2, ["step_size", "+optim.step_size=…"]),
    "a target that is no model": (["model=custom", "model._target_=torch.zeros", "+model.size=[1]"], 2, ["Module"]),
    "a function of the system": (["model=custom", "model._target_=os.getcwd"], 2, ["torch.nn.Module"]),
    "an initialisation of no width": (["model.init=0"], 2, ["model.init=0", "for 0 write init=zeros"]),
    "an unknown initialisation": (["model.init=normal"], 2, ["model.init=normal", "choose from: default, he"]),
    "an unknown activation": (["model.activation=rleu"], 2, ["model.activation=rleu", "did you mean 'relu'?"]),
    "a negative size": (["model.hidden=[-3]"], 2, ["model.hidden=[-3]", "positive whole numbers"]),
    "a value that the optimizer refuses": (["optim.betas=[2,3]"], 2, ["optim", "Invalid beta"]),
    "a device that is not there": (["device=cuda:77"], 2, ["device=cuda:77", "this machine has: cpu"]),
    "fp16 without a GPU": (["device=cpu", "trainer.precision=fp16"], 2, ["trainer.precision=fp16", "bf16"]),
    "a CNN for a table": (["data=iris", "model=cnn"], 2, ["model.input_shape=[4]", "needs images", "model=mlp"]),
    "a loss for the other task": (["data=diabetes", "loss=cross_entropy"], 2, ["loss=CrossEntropyLoss", "loss=mse"]),
    "values for classes": (["loss=mse"], 2, ["loss.one_hot=true"]),
    "labels out of range": (["data.num_outputs=5"], 2, ["data.num_outputs=5", "from 0 to 9", "data.num_outputs=10"]),
    "an empty class": (["data.num_outputs=11"], 1, ["class 10", "no training example"]),
    "a wrong input shape": (["data.input_shape=[1,4,16]"], 2,
        ["data.input_shape=[1,4,16]", "data.input_shape=[1,8,8]"]),
    "an own model too wide inside": (
        ["model=custom", "model._target_=my_module.Net", "+model.width=9"], 2,
        ["layer 'second'", "in_features=8", "[2, 9]"]),
    "an own model too narrow outside": (
        ["model=custom", "model._target_=my_module.Narrow"], 2, ["[2, 3]", "data.num_outputs=10"]),
    "NaN in the inputs": (["data=custom", "data.dataset._target_=my_module.in_memory", "data.input_shape=[2]",
        "data.num_outputs=2"], 1, ["example 3 of the training part has NaN"]),
    "NaN in an example": ([*CUSTOM, "data.dataset._target_=my_module.Odd"], 1, ["first example", "NaN"]),
    "no files and no network": (["data=mnist", "data.root=nowhere"], 1,
        ["nowhere/MNIST/raw", "data=digits", "MLPRUN_DATA"]),
    "a folder without images": (["data=image_folder", "data.root=nowhere"], 1, ["nowhere", "no such folder"]),
    "a batch of one for batch norm": (["model=cnn", "data.limit=65"], 2, ["batch_size=32", "only one to normalise"]),
    "mini-batches for lbfgs": (["optim=lbfgs"], 2, ["batch_size=32", "add batch_size=all"]),
    "a schedule in no unit": (["scheduler=step", "scheduler.period=10"], 2, ["scheduler.period=10", "'10 epochs'"]),
    "torch's schedule in no unit": (["scheduler._target_=torch.optim.lr_scheduler.StepLR", "+scheduler.step_size=10"],
        2, ["scheduler.step_size=10", "has no unit"]),
    "a warmup longer than the run": (["scheduler.warmup='20 epochs'"], 2, ["scheduler.warmup=20 epochs", "shorten it"]),
    "epochs of a stream": (
        [*CUSTOM, "data.dataset._target_=my_module.Stream"],
        2,
        ["is a stream", "steps=1000 eval_every=10% checkpoint.every=10%"],
    ),
    "augmentation of one's own data": (
        [*CUSTOM[:1], "data.input_shape=[1,3,1]", "data.num_outputs=2", "data.augment.flip=true",
         "data.dataset._target_=my_module.Three"], 2, ["data.augment", "__getitem__"]),
    "a crop as large as the image": (["data.augment.crop=8"], 2,
        ["data.augment.crop=8", "may move images of 8x8 pixels out of sight", "choose at most 7"]),
    "resizing what is not resized": (["data.resize=pad"], 2, ["data.resize=pad", "does not reach data.dataset"]),
    "an image folder without a folder": (["data=image_folder"], 1, ["data.root", "add data.root=FOLDER"]),
    "a module that raises": (
        ["model=custom", "model._target_=raises.Net"], 2, ["raises.Net", "ZeroDivisionError", "1 / 0"]),
    "a module that Python has too": (
        ["model=custom", "model._target_=random.Net"], 2, ["random.py) has no 'Net'"]),
    "an ignored class": (["+loss.ignore_index=3"], 2, ["loss.ignore_index=3"]),
    "a batch of one inside a network": (
        ["model=resnet18", "batch_size=1"], 2, ["batch_size=1", "only one to normalise"]),
    "no data set": ([*CUSTOM, "data.dataset._target_=my_module.Net"], 2, ["Dataset"]),
}  # fmt: skip


@pytest.mark.parametrize(("line", "said"), BEFORE_TORCH.values(), ids=BEFORE_TORCH)
def test_found_before_anything_is_made(mlprun, line, said):
    result = mlprun(*line)
    assert result.status == 2
    assert_short(result, said)
    assert list(result.folder.iterdir()) == []


@pytest.mark.parametrize(("line", "status", "said"), WITH_TORCH.values(), ids=WITH_TORCH)
def test_found_before_the_first_step(mlprun, line, status, said, monkeypatch):
    monkeypatch.setattr("mlprun.data.mnist.IDX_SETS", _unreachable_mirrors())
    folder = mlprun("--version").folder
    (folder / "my_module.py").write_text(MODULE)
    (folder / "broken.py").write_text("import not_installed\n")
    (folder / "raises.py").write_text("1 / 0\n")
    result = mlprun(*line)
    assert result.status == status, result.err
    assert_short(result, said)
    assert result.runs == []
    assert not (folder / "outputs").exists()


def _unreachable_mirrors():
    import dataclasses

    from mlprun.data.mnist import IDX_SETS

    mirrors = ("http://127.0.0.1:9/",)
    return {name: dataclasses.replace(entry, mirrors=mirrors) for name, entry in IDX_SETS.items()}


def assert_short(result, said):
    """One message of at most 25 lines that says all of `said`, and no traceback."""
    assert result.err.startswith("error: ")
    assert "Traceback" not in result.err + result.out
    assert len(result.err.splitlines()) <= 25
    for part in said:
        assert part in result.err


@pytest.mark.parametrize("target", ["Raises", "RaisesLater", "Wraps +model.width._target_=my_module.Inner"])
def test_the_users_own_frames_are_shown_when_the_users_own_code_raises(mlprun, target):
    folder = mlprun("--version").folder
    (folder / "my_module.py").write_text(MODULE)
    result = mlprun("model=custom", *f"model._target_=my_module.{target}".split())
    assert result.status == 1
    assert "ValueError: my own bug" in result.err
    assert f'File "{folder}/my_module.py"' in result.err
    assert 'raise ValueError("my own bug")' in result.err
    assert "site-packages" not in result.err
    assert "mlprun/config/instantiate.py" not in result.err
    (run,) = result.runs
    assert "Traceback (most recent call last)" in (run / "train.log").read_text()


def test_a_traceback_is_printed_when_asked_for(mlprun, monkeypatch):
    monkeypatch.setenv("MLPRUN_TRACEBACK", "1")
    assert "Traceback (most recent call last)" in mlprun("lr=0.1").err
    assert "Traceback (most recent call last)" in mlprun("loss=mse").err


@pytest.mark.parametrize("line", [["hydra.run.dir=file/run"], ["-m", "hydra.sweep.dir=file/sweep", "seed=0,1"]])
def test_an_output_folder_that_cannot_be_written(mlprun, line):
    folder = mlprun("--version").folder
    (folder / "file").write_text("in the way")
    (folder / "outputs").write_text("in the way")
    for words in (line, ["seed=1"]):
        result = mlprun(*words)
        assert result.status == 1
        assert_short(result, ["cannot be written", "hydra.run.dir=…"])


def test_a_users_yaml_may_not_bear_the_name_of_one_of_ours(mlprun):
    name, folder = "cifar_quick", mlprun("--version").folder
    (folder / "conf" / "model").mkdir(parents=True)
    (folder / "conf" / "model" / f"{name}.yaml").write_text("_target_: my_module.Net\n")
    result = mlprun("--config-dir", "conf")
    assert result.status == 2
    assert_short(result, [f"conf/model/{name}.yaml", "rename yours", f"model/my_{name}.yaml"])


def test_a_typo_in_a_users_yaml_is_found(mlprun):
    folder = mlprun("--version").folder
    (folder / "conf" / "experiment").mkdir(parents=True)
    (folder / "conf" / "experiment" / "mine.yaml").write_text("# @package _global_\ntrainer:\n  grad_clp: 1.0\n")
    result = mlprun("--config-dir", "conf", "experiment=mine")
    assert result.status == 2
    assert_short(result, ["trainer.grad_clp", "did you mean 'trainer.grad_clip'?"])


@pytest.mark.parametrize("is_there", [False, True])
def test_a_line_that_could_not_begin_may_be_tried_again_in_the_same_directory(mlprun, tmp_path, is_there):
    if is_there:
        (tmp_path / "mine").mkdir()
    assert mlprun("debug=fast", "hydra.run.dir=mine", "loss=mse").status == 2
    assert (tmp_path / "mine").exists() == is_there
    assert mlprun("debug=fast", "hydra.run.dir=mine").status == 0


def test_a_user_without_a_home_is_asked_for_the_folder_of_the_data(mlprun, monkeypatch):
    def no_entry(uid: int) -> None:
        raise KeyError(uid)

    for name in ("HOME", "XDG_CACHE_HOME", "MLPRUN_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    result = mlprun("data=mnist", "epochs=1")
    assert result.status == 2
    assert result.err.startswith("error: data.root: there is no home folder")
    assert "MLPRUN_DATA" in result.err


@pytest.mark.parametrize("words", [["data=iris"], ["runs"], ["-m", "seed=0,1"]])
def test_the_current_folder_was_removed(mlprun, tmp_path, monkeypatch, words):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    result = mlprun(*words)
    assert (result.status, result.out) == (1, "")
    assert result.err == "error: the current folder was removed\n  go to one that exists: cd FOLDER\n"


def test_ray_is_not_installed(mlprun, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    result = mlprun("-m", "seed=0,1", "hydra/launcher=ray")
    assert result.status == 2
    assert_short(result, ["hydra/launcher=ray", "needs Ray", "pip install 'mlprun[ray]'"])
    assert list(result.folder.iterdir()) == []
