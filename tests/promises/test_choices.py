"""Every choice of every group composes, builds and trains."""

from __future__ import annotations

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.types import RunMode
from omegaconf import OmegaConf

from mlprun.config.checks import check
from mlprun.config.compose import Composer
from tests.helpers.files import choice_files, penguins

FOLDERS = {"image_folder", "text_folder", "audio_folder", "arctic", "speech_commands"}  # their classes are counted
FILES_NEEDED = {"csv", "mnist", "fashion_mnist", "kmnist", "cifar10", "cifar100", "custom", "nested", *FOLDERS}
TEXTS = {"text_folder", *(n + m for n in ("reviews", "imdb", "corpus", "python_docs") for m in ("", "_masked"))}


def choices(group):
    return [file.stem for file in choice_files(group)]


EMBEDDED = [name for name in choices("data") if name not in FILES_NEEDED | TEXTS]
IMAGE_MODELS = ["cnn", "cifar_quick"]
TRAINED = {*EMBEDDED, *IMAGE_MODELS, "resnet18"}  # that one by test_experiments.py


def built_in(group):
    return [name for name in choices(group) if name != "custom"]


def test_the_defaults_are_the_documented_ones():
    config = check(Composer().compose([]))
    assert (config.seed, config.device, config.epochs) == (0, "auto", 10)
    assert config.data.name == "digits"
    assert config.model["_target_"].endswith("MLP")
    assert config.optim["_target_"] == "torch.optim.Adam"
    assert config.scheduler["_target_"].endswith("constant")
    assert config.loss["_target_"] == "torch.nn.CrossEntropyLoss"


@pytest.mark.parametrize("group", ["data", "task", "metrics", "model", "optim", "scheduler", "loss", "writer", "debug"])
def test_every_file_says_what_it_is_and_composes(group, tmp_path):
    """Those of `experiment`: test_experiments.py."""
    composer = Composer()
    assert choice_files(group)
    for file in choice_files(group):
        name, lines = file.stem, file.read_text().splitlines()
        comment = lines[1] if lines[0].startswith("# @package") else lines[0]
        assert comment.startswith("# "), f"{file} says at its top what it is"
        if name in TRAINED or (group in ("optim", "scheduler", "loss", "debug") and name != "custom"):
            continue  # below
        line = [f"writer=[jsonl,{name}]" if group == "writer" else f"{group}={name}"]
        if name in FOLDERS:
            line += ["data.root=folder", "data.num_outputs=2"]
        if name == "csv":
            line += [f"data.path={penguins(tmp_path)}", "data.target=species", "data.impute=mean"]
        if name in ("custom", "nested"):
            target = "data.dataset" if group == "data" else group
            line += [f"{target}._target_=my_module.Mine"]
        if name == "custom":
            line += ["data.input_shape=[1]", "data.num_outputs=2"]
        check(composer.compose(line))


@pytest.mark.parametrize("name", EMBEDDED)
def test_every_embedded_data_set_trains(mlprun, name):
    assert mlprun("debug=fast", f"data={name}").status == 0


@pytest.mark.parametrize("model", IMAGE_MODELS)
def test_every_image_model_trains(mlprun, model):
    line = ["data.limit_eval=16", "batch_size=8", "steps=2", "eval_every=2 steps", "checkpoint.every=2 steps"]
    assert mlprun("debug=fast", f"model={model}", *line).status == 0


@pytest.mark.parametrize("model", ["embedding_average", "lstm", "transformer"])
def test_a_text_model_refuses_pictures(mlprun, model):
    result = mlprun("debug=fast", f"model={model}")
    assert result.status == 2
    assert "it reads token ids" in result.err


@pytest.mark.parametrize("name", built_in("optim"))
def test_every_optimizer_trains(mlprun, name):
    extra = ["batch_size=all"] if name == "lbfgs" else ["trainer.decay_all=false"]
    result = mlprun("debug=fast", f"optim={name}", *extra)
    assert result.status == 0, result.err


@pytest.mark.parametrize("name", built_in("scheduler"))
def test_every_schedule_trains_with_a_warmup(mlprun, name):
    result = mlprun("debug=fast", f"scheduler={name}", "scheduler.warmup='2 steps'")
    assert result.status == 0, result.err


@pytest.mark.parametrize("name", built_in("loss"))
def test_every_loss_trains_classes(mlprun, name):
    extra = ["loss.one_hot=true"] if name in ("mse", "l1", "smooth_l1") else []
    assert mlprun("debug=fast", f"loss={name}", *extra).status == 0


@pytest.mark.parametrize("name", choices("debug"))
def test_every_debugging_mode_runs(mlprun, name):
    steps = ["steps=12"] if name in ("overfit", "anomaly") else []
    assert mlprun(f"debug={name}", *steps).status == 0


def test_a_regression_brings_its_loss_and_the_users_still_wins():
    composer = Composer()
    for name in ("diabetes", "line"):
        assert check(composer.compose([f"data={name}"])).loss["_target_"] == "torch.nn.MSELoss"
        assert check(composer.compose([f"data={name}", "loss=l1"])).loss["_target_"] == "torch.nn.L1Loss"


def test_a_model_takes_its_sizes_from_the_data():
    config = check(Composer().compose(["data=cifar10", "model=cnn"]))
    assert config.model["input_shape"] == [3, 32, 32]
    assert config.model["num_outputs"] == 10


def test_an_experiment_is_a_delta_and_the_line_still_wins():
    config = check(Composer().compose(["experiment=mnist_mlp", "optim=sgd", "epochs=1", "model.hidden=[7]"]))
    assert config.data.name == "mnist"
    assert config.optim["_target_"] == "torch.optim.SGD"
    assert (config.epochs, config.model["hidden"]) == (1, [7])


@pytest.mark.parametrize(
    ("name", "key", "values", "alone"),
    [
        ("deep_initialisation", "model.init", [0.01, 1.0, "xavier", "he"], "xavier"),
        ("xor_mlp", "model.hidden", [[], [2], [8]], [8]),
        ("gradient_descent_kinds", "batch_size", [1, 32, "all"], 32),
        ("l1_against_l2", "loss._target_", ["torch.nn.L1Loss", "torch.nn.MSELoss"], "torch.nn.L1Loss"),
    ],
)
def test_a_ready_sweep_brings_its_values_and_without_m_the_files_own_hold(name, key, values, alone):
    def value(config):
        for part in key.split("."):
            config = config[part]
        return config

    composer = Composer()
    line = [f"experiment={name}"]
    assert [value(composer.point(point).to_dict()) for point in composer.points(line)] == values
    assert value(check(composer.compose(line)).to_dict()) == alone


def test_the_perceptron_and_logistic_regression_have_one_output(mlprun):
    for loss in (["loss=hinge", "loss.margin=0", "batch_size=1"], ["loss=hinge"], ["loss=bce"], ["loss=mse"]):
        line = ["data=blobs", "data.dataset.num_classes=2", "data.num_outputs=1", "model=linear", *loss]
        assert mlprun("debug=fast", *line).status == 0, loss


OF_OWN = ["data=custom", "data.dataset._target_=a.B", "data.num_outputs=2"]
RPROP = ["optim=custom", "optim._target_=torch.optim.Rprop"]


@pytest.mark.parametrize(
    ("hydra", "points"),
    [
        ([], [["seed=0"], ["seed=1"], ["seed=0", "optim=adamw"]]),
        (
            ["hydra.sweep.dir=there", "hydra.job.config.override_dirname.exclude_keys=[seed]"],
            [["experiment=mnist_mlp", f"optim.lr={lr}", "seed=1", "epochs=1"] for lr in ("1e-3", "0.1")],
        ),
        ([], [[f"model={model}", "data=reviews", "model.width=8"] for model in ("lstm", "gru")]),
        ([], [[*RPROP, f"+optim.etas=[{low},1.2]"] for low in (0.3, 0.5)]),
        ([], [[*OF_OWN, f"+data.dataset.sizes={sizes}", "data.input_shape=[3]"] for sizes in ("{a:1}", "{b:2}", "x")]),
        ([], [["data=corpus", "data.text.max_length=40", "data.root='a b'"], ["data=tones", "~data.dataset.snr_db"]]),
    ],
)
def test_a_point_of_a_sweep_is_composed_as_hydra_composes_it(hydra, points):
    """Our loader composes what points share once; Hydra's all of it for each."""
    loader = Composer().loader
    hydras = ConfigLoaderImpl(loader.get_search_path())
    master = hydras.load_configuration("config", [*hydra, "seed=0,1"], RunMode.MULTIRUN)
    for point in points:
        expected = hydras.load_sweep_config(master, point)
        for found in (loader.load_sweep_config(master, point) for _ in range(2)):
            for resolve in (False, True):
                assert OmegaConf.to_container(found, resolve=resolve) == OmegaConf.to_container(
                    expected, resolve=resolve
                )
            assert OmegaConf.get_cache(found) == OmegaConf.get_cache(expected)
