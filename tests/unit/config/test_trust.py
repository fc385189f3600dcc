"""Opening someone else's run cannot run code: which `_target_`s may be called."""

from __future__ import annotations

import contextlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from hydra._internal.utils import _locate
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlprun.config import trust
from mlprun.config.instantiate import locate
from mlprun.config.resolvers import conf_dirs
from mlprun.config.trust import check_targets
from mlprun.errors import RunError
from tests.helpers.files import write

CONF = sorted(
    {
        node["_target_"]
        for folder in conf_dirs()
        for file in folder.glob("*/*.yaml")
        for node in [yaml.safe_load(file.read_text())]
        for node in [node, node.get("dataset") or {}]  # the data choices keep theirs one level below
        if not node.get("_target_", "???").startswith(("???", "${", "mlprun.writers.trackers"))
    }
)
USUAL = [
    *(f"torch.optim.{name}" for name in ("SGD", "Adam", "AdamW", "RMSprop", "Rprop", "LBFGS", "Muon", "Adafactor")),
    "torch.optim.adam.Adam", "torch.optim.swa_utils.SWALR", "torch.optim.swa_utils.AveragedModel",
    *(f"torch.optim.lr_scheduler.{name}" for name in ("StepLR", "OneCycleLR", "ReduceLROnPlateau", "LambdaLR")),
    *(f"torch.nn.{name}" for name in ("Linear", "Sequential", "ReLU", "Transformer", "CrossEntropyLoss", "HuberLoss")),
    "torch.nn.modules.linear.Linear", "torch.utils.data.ConcatDataset", "torch.utils.data.dataset.TensorDataset",
    *(f"torchvision.models.{name}" for name in ("resnet18", "alexnet", "vit_b_16", "ResNet", "resnet.resnet18")),
    "torchvision.ops.MLP", "torchvision.ops.misc.FrozenBatchNorm2d",
    *(f"torchvision.datasets.{name}" for name in ("MNIST", "FashionMNIST", "SVHN", "ImageFolder", "mnist.KMNIST")),
    *(f"torchvision.transforms.{name}" for name in ("ToTensor", "Compose", "RandomCrop", "InterpolationMode")),
    "torchvision.transforms.v2.RandomCrop", "torchvision.transforms.v2.Compose",
    "mlprun.data.image_folder.ImageFolder", "mlprun.tasks.losses.Hinge", "mlprun.tasks.custom.ModelStep",
    "mlprun.tasks.metrics.BalancedAccuracy", "torchmetrics.classification.MulticlassAUROC",
    "torchmetrics.regression.SpearmanCorrCoef", "mlprun.writers.console.Console",
]  # fmt: skip

# Nothing at all is imported for these, not even torch.
BY_NAME = [
    # Python, and what is installed
    "os.system", "posix.system", "subprocess.Popen", "builtins.exec", "builtins.eval", "importlib.import_module",
    "antigravity.fly", "this.s", "runpy.run_path", "pickle.load", "ctypes.CDLL", "site.main", "idlelib.idle.main",
    "pip.main", "numpy.load", "numpy.testing.rundocs", "scipy.io.loadmat", "hydra.utils.instantiate", "yaml.load",
    "sklearn.linear_model.LinearRegression", "sklearn.os.system", "omegaconf.OmegaConf", "PIL.Image.open",
    # of the three libraries, what is not for training
    "torch.os.system", "torch.sys.modules", "torch.load", "torch.save", "torch.compile", "torch.Tensor",
    "torch.hub.load", "torch.hub.load_state_dict_from_url", "torch.jit.load", "torch.jit.ScriptModule",
    "torch.package.PackageImporter", "torch.fx.GraphModule", "torch.fx.graph_module.GraphModule", "torch.export.load",
    "torch.distributed.nn.RemoteModule", "torch.distributed.rpc.rpc_sync", "torch.distributed.run.main",
    "torch.multiprocessing.spawn", "torch.testing.assert_close", "torch.ao.nn.quantized.Linear",
    "torch.utils.cpp_extension.load_inline", "torch.utils.model_zoo.load_url", "torch.utils.collect_env.main",
    "torch.utils.tensorboard.SummaryWriter", "torch.ops.load_library", "torch.classes.load_library", "torch",
    "torch.serialization.load", "torch.onnx.export", "torch.nn", "torch.optim", "torch.utils.data",
    "torchvision.io.read_file", "torchvision.os.system", "torchvision.extension.os.system", "torchvision.ops",
    "torchvision.datasets.CIFAR10", "torchvision.datasets.CIFAR100", "torchvision.datasets.cifar.CIFAR10",
    "torchvision.datasets.LSUN", "torchvision.datasets.LSUNClass", "torchvision.datasets.DatasetFolder",
    "torchvision.datasets.Kinetics", "torchvision.datasets.FGVCAircraft", "torchvision.datasets.VisionDataset",
    "torchvision.datasets.utils.extract_archive", "torchvision.datasets.cifar.pickle.load",
    "torchvision.models.feature_extraction.create_feature_extractor", "torchvision.models.quantization.resnet18",
    "torchvision.models.feature_extraction.DualGraphModule", "mlprun.config.instantiate.locate", "mlprun.cli.main.main",
    "mlprun.writers.trackers.MLflow", "mlprun.runs.provenance.subprocess.run",
    "mlprun", "mlprun.config.instantiate.importlib.import_module",
    "mlprun.__main__.main",
    # private names
    "torch._C._jit_clear_class_registry", "torch.testing._internal.common_utils.run_tests", "torch.nn._reduction.x",
    "torch.nn.Linear.__init__", "torch.nn.Linear.__class__", "torch.nn.Module.__init__.__globals__", "__main__.x",
    "torch.nn.__builtins__", "torch.nn.__loader__.exec_module", "torch.optim._multi_tensor.Adam",
    "_posixsubprocess.x", "mlprun.data.mnist._parse_idx", "mlprun.models.activations._ACTIVATIONS",
    "torch.nn.modules.__init__.Linear",
    # spelling
    "", ".", "..", ".os.system", "os.system.", "os..system", " os.system", "os.system ", "os. system", "os.system\n",
    "torch.nn..Linear", "torch.nn.Linear\n", " torch.nn.Linear", "torch.nn.Linear()", "torch.nn.Linear:x", "???",
    "torch/nn/Linear", "../evil.Net", "/tmp/evil.Net", "evil:Net", "a" * 300 + ".b", "a." * 5000 + "b", "evil\0.Net",
    "tоrch.nn.Linear", "ｔorch.nn.Linear", "οs.system", "torch.nn.Linear\u202e", "\ud800.x", "os\u2024system",
    "${oc.env:HOME}", "1.2", "torch.nn.0", "torch.nn.Linear; import os",
]  # fmt: skip
# These import torch or torchvision, which have public names for things of others.
BY_OBJECT = [
    "torch.nn.modules.sys.modules", "torch.nn.modules.module.functools.partial", "torch.nn.modules.module.torch.load",
    "torch.nn.functional.torch.hub.load", "torch.nn.functional.importlib.import_module", "torch.nn.functional.relu",
    "torch.nn.modules.module.itertools.chain", "torch.nn.modules.module.OrderedDict",
    "torch.nn.modules.module.partial", "torch.nn.modules.module.register_module_forward_hook",
    "torch.nn.Module.load_state_dict", "torch.nn.Linear.mro", "torch.nn.DataParallel",
    "torch.nn.parallel.DistributedDataParallel", "torch.nn.quantized.Linear",
    "torch.nn.modules.linear.Linear.forward", "torch.nn.Parameter", "torch.nn.Missing", "torch.nn.missing.Linear",
    "torch.nn.utils.parametrize.ParametrizationList", "torch.nn.init.kaiming_normal_", "torch.nn.modules.linear",
    "torch.optim.lr_scheduler.types.FunctionType", "torch.optim.optimizer.functools.partial", "torch.optim.optimizer",
    "torch.optim.lr_scheduler.partial", "torch.optim.swa_utils.update_bn", "torch.optim.swa_utils.get_ema_avg_fn",
    "torch.utils.data.DataLoader", "torch.utils.data.random_split", "torch.utils.data.datapipes.iter.FileOpener",
    "torch.utils.data.IterDataPipe", "torch.utils.data.datapipes.iter.Mapper", "torch.utils.data.get_worker_info",
    "torch.utils.data.dataloader.multiprocessing.Process", "torch.utils.data.datapipes.map.Mapper",
    "torchvision.models.resnet.partial", "torchvision.models.get_model", "torchvision.models.get_weight",
    "torchvision.models.resnet.ResNet18_Weights", "torchvision.models.resnet.handle_legacy_interface",
    "torchvision.models.detection.backbone_utils.resnet_fpn_backbone", "torchvision.models.alexnet.AlexNet",
    "torchvision.transforms.functional.pil_to_tensor", "torchvision.transforms.transforms.torch.load",
    "torchvision.transforms.transforms.Image.open", "torchvision.ops.nms",
    "torchvision.ops.roi_align.functools.wraps", "mlprun.data.mnist.np.load", "mlprun.data.archives.os.remove",
    "mlprun.data.archives.Path", "mlprun.data.mnist.idx.x", "mlprun.data.download.download",
    "mlprun.data.download.urllib.request.urlopen", "mlprun.data.archives.tarfile.open",
    "mlprun.data.splits.make_splits", "mlprun.data.archives.download", "mlprun.models.initialize.initialize",
    "mlprun.runs.checkpoint.load", "mlprun.runs.checkpoint.shutil.rmtree", "mlprun.training.loop.train",
    "mlprun.training.learner.Learner", "mlprun.training.muon.AdamW", "mlprun.models.mlp.math.prod", "mlprun.data.x.y",
]  # fmt: skip


def refused(target: object, folder: Path, run: Path | None = None) -> str:
    text = ""
    try:
        check_targets({"model": {"_target_": target}}, folder, run)
    except RunError as error:
        text = str(error)
    assert text, f"{target!r} passes"
    assert text.startswith("model._target_=")
    assert "add --trust" in text
    assert len(text.splitlines()) == 2
    assert text.isascii() or str(folder) in text
    return text


def python(code: str, folder: Path, *arguments: str) -> str:
    """What a fresh interpreter in `folder` prints; it puts the folder last on its path, as the program does."""
    start = "import json, os, sys; from pathlib import Path; sys.path.append(os.getcwd())\n"
    line = [sys.executable, "-P", "-c", start + code, *arguments]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ------------------------------------------------------------------------------------------------- libraries


def test_conf_has_targets_of_every_group():
    assert {"data", "models", "tasks", "training"} <= {t.split(".")[1] for t in CONF if t.startswith("mlprun.")}
    assert len(CONF) > 30


def test_what_one_trains_with_passes(tmp_path):
    for target in CONF + USUAL:
        check_targets({"model": {"_target_": target}}, tmp_path)
        assert trust._resolve(target) is _locate(target), target


def test_names_lead_where_hydra_leads_them():
    """Else something other than what was checked might be called."""
    import torchvision  # two seconds, which collecting the tests need not take

    for module in (torch.nn, torch.optim, torch.optim.lr_scheduler, torchvision.models, torchvision.transforms):
        for name in (n for n in dir(module) if not n.startswith("_")):
            target = f"{module.__name__}.{name}"
            assert trust._resolve(target) is _locate(target)
    for target in BY_OBJECT:
        try:
            found = trust._resolve(target)
        except ImportError:
            continue  # it goes fewer ways
        assert found is _locate(target)


def test_build_finds_the_same_class():
    for target in [t for t in CONF + USUAL if t != "torchvision.models.alexnet"]:  # module and function of one name
        assert locate(target, "model") is trust._resolve(target)


@pytest.mark.parametrize("name", ["os.system", "antigravity.fly", "their_pictures.draw", "torch.hub.load"])
def test_a_picture_is_called_and_so_held_to_the_same_rules(tmp_path, name):
    with pytest.raises(RunError, match=rf"logging\.pictures\.1={name}"):
        check_targets({"logging": {"every": "1 epoch", "pictures": ["boundary", name]}}, tmp_path)


def test_a_refused_name_is_not_imported(tmp_path):
    code = """
from mlprun.config.trust import check_targets, RunError
before = set(sys.modules)
for target in json.load(open(sys.argv[1])):
    try:
        check_targets({"model": {"_target_": target}}, Path.cwd())
    except RunError:
        assert set(sys.modules) == before, target
    else:
        print(target)
"""
    names = tmp_path / "names.json"
    names.write_text(json.dumps(BY_NAME))
    assert python(code, tmp_path, str(names)) == ""


def test_attacks_by_name_and_by_what_a_library_imports(tmp_path):
    for target in BY_NAME + BY_OBJECT:
        refused(target, tmp_path)


@pytest.mark.parametrize("value", [None, 1, True, 1.5, ["os.system"], {"_target_": "os.system"}, {}])
def test_a_target_that_is_no_name(value, tmp_path):
    assert "is not a name" in refused(value, tmp_path)


def test_one_bad_target_keeps_all_from_being_imported(tmp_path):
    (tmp_path / "mine.py").write_text("open('ran', 'w')\nclass Net: ...\n")
    code = """
from mlprun.config.trust import check_targets, RunError
try:
    check_targets({"model": {"_target_": "mine.Net"}, "loss": {"_target_": "os.system"}}, Path.cwd())
except RunError:
    print("mine" in sys.modules, "torch" in sys.modules)
"""
    assert python(code, tmp_path).split() == ["False", "False"]
    assert not (tmp_path / "ran").exists()


def test_torchvision_data_sets_that_pass_do_not_unpickle():
    """Guards the list against another torchvision."""
    import torchvision  # two seconds, which collecting the tests need not take

    for name in trust._DATASETS:
        source = inspect.getsource(inspect.getmodule(getattr(torchvision.datasets, name)))
        loads = [line for line in source.splitlines() if "torch.load(" in line and "weights_only=True" not in line]
        assert not loads, name
        assert not [word for word in ("pickle", "np.load(", "eval(", "exec(", "subprocess") if word in source], name


def test_every_known_builder_of_torchvision_is_known_here(tmp_path):
    import torchvision  # two seconds, which collecting the tests need not take

    for name in torchvision.models.list_models(module=torchvision.models):
        check_targets({"_target_": f"torchvision.models.{name}"}, tmp_path)


# ---------------------------------------------------------------------------------------------- where it stands


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"_target_": "os.system"}, "_target_"),
        ({"model": {"_target_": "torch.nn.Sequential", "_args_": [1, {"_target_": "os.system"}]}}, "model._args_.1"),
        ({"model": {"_target_": "torch.nn.Linear", "bias": {"a": [[{"_target_": "os.system"}]]}}}, "model.bias.a.0.0"),
        ({"data": {"dataset": {"_target_": "mlprun.data.tabular.iris", "x": {"_target_": "os.system"}}}}, "dataset.x"),
        ({"data": ({"_target_": "os.system"},)}, "data.0"),  # OmegaConf takes a tuple for a list
        ({"anything": {"at": {"all": {"_target_": "os.system", "_partial_": True}}}}, "anything.at.all"),
        ({"optim": {"_target_": "torch.optim.SGD", 3: {"_target_": "os.system"}}}, "optim.3"),
        ({"a": {"_target_": "torch.nn.ReLU"}, "b": {"_target_": "os.system"}, "c": {"_target_": "x"}}, "b"),
    ],
)
def test_targets_are_found_at_any_depth(config, key, tmp_path):
    with pytest.raises(RunError, match=rf"{key}(\._target_)?='?os\.system: os is a part of Python"):
        check_targets(config, tmp_path)


def test_targets_inside_others_pass_too(tmp_path):
    nested = {"_target_": "torch.nn.Sequential", "_args_": [{"_target_": "torch.nn.Linear", "_args_": [1, 2]}]}
    check_targets({"model": nested, "seed": 1, "a": None, "b": [1.5, "x", {}, True]}, tmp_path)


def test_a_value_that_would_be_filled_in_later(tmp_path):
    """OmegaConf makes a node of this when the config is built, after the check."""
    text = "${oc.create:{_target_:os.system,_args_:[id]}}"
    with pytest.raises(RunError, match=r"model._args_.0=.*would be resolved again"):
        check_targets({"model": {"_target_": "torch.nn.Sequential", "_args_": [text]}}, tmp_path)


def test_only_plain_values(tmp_path):
    for value in (torch.zeros(1), {1, 2}, b"x", Path("x"), object(), torch.nn.Linear):
        with pytest.raises(RunError, match=r"model\.x=\w+: is not a plain value"):
            check_targets({"model": {"x": value}}, tmp_path)


def test_a_config_without_end(tmp_path):
    endless: list[object] = []
    endless.append(endless)
    deep: object = {"_target_": "os.system"}
    for _ in range(5000):
        deep = [deep]
    for config in (endless, deep):
        with pytest.raises(RunError, match="more than 50 levels deep"):
            check_targets({"a": config}, tmp_path)


def test_a_message_stays_a_line(tmp_path):
    assert "\\x1b[2J\\n" in refused("os.\x1b[2J\nsystem", tmp_path)
    with pytest.raises(RunError) as caught:
        check_targets({"a\nb\x1b": {"_target_": "os.system"}}, tmp_path)
    assert str(caught.value).startswith("a\\nb\\x1b._target_=os.system: ")


# ------------------------------------------------------------------------------------------- the user's folder

MINE = """
import functools, os, torch
from os import system
from torch import nn
from torch.hub import load
open('ran', 'a').write(__name__)
class Net(nn.Module):
    class Inner(nn.Module): ...
def make(): return Net()
call = functools.partial(os.system, 'touch ran_more')
alias = os
number = 3
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The folder where the user stands, on the path as the program puts it; its modules are forgotten afterwards."""
    known = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path[1:], sys.path[0]])
    yield tmp_path
    for name in set(sys.modules) - known:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def package(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("__init__", *names):
        (folder / f"{name}.py").write_text("" if name == "__init__" else MINE)
    return folder


def test_a_module_of_the_users_own(home):
    write(home, {"trust_mine.py": MINE})
    for name in ("Net", "make"):
        check_targets({"model": {"_target_": f"trust_mine.{name}"}}, home)
        assert trust._resolve(f"trust_mine.{name}") is _locate(f"trust_mine.{name}")
    for name, why in {
        "system": "really defined in posix: posix is a part of Python",
        "load": "really defined in torch.hub",
        "nn": "not a class or function",
        "number": "not a class or function",
        "call": "really defined in functools",
        "os.system": "trust_mine.py is no package",
        "torch.hub.load": "trust_mine.py is no package",
        "alias.system": "trust_mine.py is no package",
        "Net.Inner": "trust_mine.py is no package",
        "Net.load_state_dict": "trust_mine.py is no package",
        "missing": "trust_mine has no 'missing'",
        "nn.Linear": "trust_mine.py is no package",
    }.items():
        assert why in refused(f"trust_mine.{name}", home)
    assert "has a private part" in refused("trust_mine.Net.__init__.__globals__", home)
    assert not (home / "ran_more").exists()


def test_a_package_of_the_users_own(home):
    package(home / "trust_pack", "nets")
    package(home / "trust_pack" / "deep", "nets")
    (home / "trust_pack" / "__init__.py").write_text("from .nets import Net\nimport os as hidden\n")
    for name in ("Net", "nets.Net", "deep.nets.make"):
        check_targets({"model": {"_target_": f"trust_pack.{name}"}}, home)
        assert trust._resolve(f"trust_pack.{name}") is _locate(f"trust_pack.{name}")
    assert "neither in torch" in refused("trust_pack.hidden.system", home)
    assert "nets.py is no package" in refused("trust_pack.nets.os.system", home)
    package(home / "trust_pack" / "nets" / "under", "nets")  # a folder beside the file of the same name
    assert "nets.py is no package" in refused("trust_pack.nets.under.Net", home)
    (home / "trust_pack" / "plain").mkdir()
    write(home / "trust_pack" / "plain", {"evil.py": MINE})
    assert "has no __init__.py" in refused("trust_pack.plain.evil.Net", home)


def test_a_submodule_behind_another_name(home):
    """The name of a file of one's own, but the attribute leads elsewhere, and Hydra takes the attribute."""
    package(home / "trust_mask", "sub")
    (home / "trust_mask" / "__init__.py").write_text("from . import sub as _own\nimport os as sub\n")
    assert "not a module of that name" in refused("trust_mask.sub.system", home)


def test_the_users_class_is_not_found_from_another_folder(home, tmp_path_factory, monkeypatch):
    write(home, {"trust_away.py": MINE})
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder != str(home)])
    text = refused("trust_away.Net", tmp_path_factory.mktemp("elsewhere"))
    assert "run this from the folder that contains the run's own classes, or add --trust" in text
    assert not (home / "ran").exists()
    assert "trust_away" not in sys.modules


def test_a_module_that_python_would_take_from_elsewhere(home, tmp_path_factory, monkeypatch):
    other = tmp_path_factory.mktemp("other")
    write(other, {"trust_twice.py": MINE})
    names = ["trust_twice.py", "json.py", "code.py", "yaml.py", "this.py", "sitecustomize.py"]
    write(home, dict.fromkeys(names, MINE))
    monkeypatch.syspath_prepend(other)
    assert f"Python would take trust_twice from {other}" in refused("trust_twice.Net", home)
    for name in ("json", "code", "this"):
        assert "is a part of Python" in refused(f"{name}.Net", home)
    assert "Python would take yaml from" in refused("yaml.Net", home)
    assert not (home / "ran").exists()
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in (str(home), str(other))])
    write(home, {"trust_nowhere.py": MINE})
    assert "Python would take trust_nowhere from nowhere" in refused("trust_nowhere.Net", home)


def test_a_home_folder_with_an_installation_and_checkouts_in_it(home):
    packages = home / ".venv" / "lib" / "python3.11" / "site-packages"
    package(packages / "trust_lib", "nets")
    package(home / "lib" / "trust_lib", "nets")
    package(home / "Downloads" / "their_run", "evil")
    package(home / "checkout" / "trust_src", "nets")
    for name in ("trust_lib.nets.Net", "lib.trust_lib.nets.Net", "Downloads.their_run.evil.Net"):
        refused(name, home)
    assert "has no __init__.py" in refused("checkout.trust_src.nets.Net", home)
    assert not (home / "ran").exists()


def test_standing_among_installed_packages(home, monkeypatch):
    packages = home / "site-packages"
    package(packages / "trust_installed", "nets")
    monkeypatch.syspath_prepend(packages)
    assert "is an installed package" in refused("trust_installed.nets.Net", packages)
    assert "is an installed package" in refused("yaml.load", Path(yaml.__file__).parent.parent)
    assert not (home / "ran").exists()


def test_code_that_came_with_the_run(home):
    """A run directory that is a package, or that the user stands in."""
    run = package(home / "their_run", "evil")
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "best.pt").touch()
    package(run / "inner", "evil")
    for opened in (run, Path("their_run"), run / "checkpoints" / "best.pt", Path("their_run/checkpoints/best.pt")):
        assert "came with the run" in refused("their_run.evil.Net", home, opened)
        assert "came with the run" in refused("their_run.inner.evil.Net", home, opened)
    (home / "link").symlink_to(run)
    assert "came with the run" in refused("link.evil.Net", home, run)
    assert "came with the run" in refused("their_run.evil.Net", home, Path("link"))
    assert not (home / "ran").exists()


def test_standing_in_the_run(home):
    write(home, {"trust_evil.py": MINE})
    package(home / "trust_evil_pack", "nets")
    for target in ("trust_evil.Net", "trust_evil_pack.nets.Net"):
        assert "came with the run" in refused(target, home, home)
        assert "came with the run" in refused(target, home, Path("."))
    assert not (home / "ran").exists()
    check_targets({"model": {"_target_": "trust_evil.Net"}}, home, home / "outputs" / "run")


def test_a_module_of_ones_own_that_cannot_be_imported(home):
    write(home, {"trust_raises.py": "raise ValueError('two\\nlines')", "trust_leaves.py": "import sys; sys.exit(3)"})
    write(home, {"trust_needs.py": "import trust_not_there", "trust_broken.py": "def"})
    assert "cannot be imported: ValueError: two\n" in refused("trust_raises.Net", home)
    assert "cannot be imported: SystemExit: 3" in refused("trust_leaves.Net", home)
    assert "cannot be imported: No module named 'trust_not_there'" in refused("trust_needs.Net", home)
    assert "cannot be imported: SyntaxError" in refused("trust_broken.Net", home)


def test_in_a_fresh_interpreter_a_refused_module_leaves_no_trace(tmp_path):
    write(tmp_path, {"mine.py": MINE})
    run = package(tmp_path / "their_run", "evil")
    package(tmp_path / "spaces" / "their_run", "evil")
    (tmp_path / "spaces" / "their_run" / "__init__.py").write_text(MINE)
    (run / "__init__.py").write_text(MINE)
    code = """
from mlprun.config.trust import check_targets, RunError
for target in sys.argv[1:]:
    try:
        check_targets({"model": {"_target_": target}}, Path.cwd(), Path("their_run"))
    except RunError:
        print("refused", os.path.exists("ran"))
    else:
        print("passed", os.path.exists("ran"))
"""
    attacks = ["their_run.evil.Net", "their_run.Net", "spaces.their_run.Net", "mine.os.system", "mine.torch.hub.load"]
    lines = python(code, tmp_path, *attacks, "mine.Net", "mine.system").splitlines()
    assert lines == ["refused False"] * len(attacks) + ["passed True", "refused True"]


# ---------------------------------------------------------------------------------------------------- any string

PARTS = [
    "torch", "nn", "optim", "utils", "data", "modules", "functional", "os", "system", "sys", "torchvision",
    "models", "datasets", "transforms", "v2", "mlprun", "training", "vision", "Linear", "MNIST", "__init__",
    "__class__", "_C", "trust_mine", "Net", "path", "", " ", "\n", "\0",
]  # fmt: skip


@given(st.lists(st.sampled_from(PARTS) | st.text(max_size=5), max_size=6).map(".".join) | st.text())
@settings(max_examples=100)
@example("torch.nn.Linear.forward.a")
@example("\ud800.\ud800")
@example("torch.nn." + "x" * 5000)
def test_any_string_passes_or_is_refused_in_a_line(target):
    with contextlib.suppress(RunError):
        check_targets({"model": {"_target_": target}}, Path(__file__).parent)
        return
    refused(target, Path(__file__).parent)
