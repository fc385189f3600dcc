"""The package as it is installed: the wheel, `python -m mlprun`, and what starts without torch."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.helpers.files import REPOSITORY


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The wheel, built and unpacked as pip would, in a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
    subprocess.run([*install, str(folder / "site"), str(wheel)], check=True, capture_output=True)
    return folder / "site"


def test_the_wheel_finds_its_conf_and_writes_outputs_where_it_is_started(site, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(site)}
    where = [sys.executable, "-c", "from mlprun.config.resolvers import conf_dirs; print(*conf_dirs())"]
    found = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.split() == [str(site / "mlprun" / "conf"), str(site / "mlprun" / "course" / "conf")]
    line = [sys.executable, "-m", "mlprun", "debug=fast", "experiment=sentiment", "data.dataset.num_examples=200"]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["outputs"]


def test_the_wheel_holds_every_yaml_and_no_tests(site):
    ours = {f"mlprun/{file.relative_to(REPOSITORY)}" for file in (REPOSITORY / "conf").rglob("*.yaml")}
    ours |= {str(file.relative_to(REPOSITORY)) for file in (REPOSITORY / "mlprun").rglob("*.yaml")}
    assert ours == {str(file.relative_to(site)) for file in (site / "mlprun").rglob("*.yaml")}
    template = [file for file in (REPOSITORY / "mlprun" / "new_project").rglob("*") if file.is_file()]
    assert len(template) == 8
    assert not [file for file in template if not (site / file.relative_to(REPOSITORY)).is_file()]
    assert not (site / "tests").exists()


def test_hydra_has_the_launcher_once_by_the_namespace_and_by_the_entry_point(site, tmp_path):
    program = """
from importlib.metadata import entry_points
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
ours = [each for each in Plugins.instance().discover(Launcher) if each.__name__ == "PoolLauncher"]
(entry,) = [each for each in entry_points(group="hydra.plugins") if each.name == "mlprun_pool"]
print(ours == [entry.load()], __import__("inspect").getfile(*ours))
"""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    line = [sys.executable, "-W", "error::UserWarning:hydra", "-c", program]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["True", str(site / "hydra_plugins/mlprun_pool.py")], done.stderr


@pytest.mark.long
def test_the_tests_of_a_new_project_pass_without_network(site, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(site)}
    line = [sys.executable, "-m", "mlprun", "new", "waves"]
    subprocess.run(line, cwd=tmp_path, env=environment, check=True, capture_output=True)
    alone = ["unshare", "--map-root-user", "--net", sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    done = subprocess.run(alone, cwd=tmp_path / "waves", env=environment, capture_output=True, text=True)
    if "unshare failed" in done.stderr:
        pytest.skip("this machine forbids namespaces")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_console_script_is_the_program(tmp_path):
    script = os.path.join(os.path.dirname(sys.executable), "mlprun")
    done = subprocess.run([script, "--version"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.startswith("mlprun 0.")


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("--help", 0),
        ("--cfg job", 0),
        ("experiments", 0),
        ("help optim", 0),
        ("-sc query=bash", 0),
        ("-m optim=sgd,admw", 2),
    ],
)
def test_what_needs_no_torch_imports_none(mlprun_shell, line, status):
    done = mlprun_shell(*line.split(), PYTHONPROFILEIMPORTTIME="1", COMP_LINE="mlprun optim=ada", COMP_POINT="16")
    assert done.status == status
    assert bool(done.out) == (status == 0)
    imported = {row.rpartition("|")[2].strip().split(".")[0] for row in done.err.splitlines()}
    assert "mlprun" in imported
    assert not imported & {"torch", "torchvision", "sklearn", "tensorboard", "numpy"}


def test_nothing_committed_names_a_registry():
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert "uv.lock" not in listed
