"""What a run writes holds no password or key of the user's."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from mlprun.runs import repository
from mlprun.runs.secret_files import has_secret_name
from tests.helpers.files import write

NET = """
from torch import nn
from mlprun.writers.base import Writer
class Net(nn.Linear):
    def __init__(self, token, copy):
        super().__init__(4, 3)
        assert token == copy == "hush-1", (token, copy)
class Service(Writer):
    def __init__(self, url):
        assert url == "http://hush-2@iris", url
"""
WRITER = "# @package writers\nservice:\n  _target_: mine.Service\n  url: http://${oc.env:SERVICE_KEY}@${data.name}\n"
LINE = ["--config-dir", "mine", "data=iris", "epochs=1", "model=custom", "model._target_=mine.Net", "+writer=service"]
LINE += ["+model.token=${oc.env:MODEL_TOKEN}", "+model.copy=${model.token}"]


def test_a_run_keeps_the_names_of_environment_variables_and_not_their_values(mlprun, tmp_path, monkeypatch):
    write(tmp_path, {"mine.py": NET, "mine/writer/service.yaml": WRITER})
    monkeypatch.setenv("MODEL_TOKEN", "hush-1")
    monkeypatch.setenv("SERVICE_KEY", "hush-2")
    done = mlprun(*LINE, "hydra.run.dir=run")
    assert done.status == 0, done.err
    assert not [file for file in tmp_path.rglob("run/**/*") if file.is_file() and b"hush" in file.read_bytes()]
    config = json.loads(Path("run/run.json").read_text())["config"]
    assert config["model"]["copy"] == "${oc.env:MODEL_TOKEN}"
    assert config["writers"]["service"]["url"] == "http://${oc.env:SERVICE_KEY}@iris"
    assert mlprun("resume", "run", "epochs=2").status == 0
    monkeypatch.delenv("SERVICE_KEY")
    assert mlprun("eval", "run").status == 0  # without the run's writers
    done = mlprun("resume", "run", "epochs=3")
    assert done.status != 0
    assert "writers.service.url" in done.err
    assert "environment variable SERVICE_KEY, which is not set" in done.err


SECRET = [
    ".env", ".env.local", "prod.env", ".envrc", ".netrc", "_netrc", ".pypirc", ".npmrc", ".git-credentials",
    "server.pem", "tls.key", "cert.p12", "id_rsa", "id_ed25519", "id_rsa.pub", "a/b/id_ecdsa", ".ssh/config",
    "credentials", "credentials.json", "Secrets.YAML", "secrets.py", "kaggle.json", "client_secret_1.apps.json",
    "service-account.json", ".aws/config", "passwords.txt", "token", "api_keys.json", ".htpasswd", "x.ppk",
]  # fmt: skip
CODE = [
    "net.py", ".env.example", "environment.py", "keys.py", "tokenizer.py", "tokens.py", "conf/secretary.yaml",
    "keyboard.json", "model.keys.txt", "env.py", "credential_model.py", "monkey.py", ".gitignore",
]  # fmt: skip


def test_files_that_are_known_to_hold_secrets_and_files_of_code():
    assert [name for name in SECRET + CODE if has_secret_name(name)] == SECRET


def test_the_patch_leaves_out_secrets_and_the_record_names_them(tmp_path):
    git = ["git", "-c", "user.name=x", "-c", "user.email=x", "-C", str(tmp_path)]
    write(tmp_path, {"net.py": "a = 1\n", "secrets.py": "KEY = 'old'\n"})
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], check=True)
    write(tmp_path, {"net.py": "a = 2\n", "secrets.py": "KEY = 'hush'\n", ".env": "hush", "new.py": "b = 1\n"})
    write(tmp_path, {"private.py": "hush", "keys/id_rsa": "hush", "staged.pem": "hush"})
    os.chmod(tmp_path / "private.py", 0o600)
    subprocess.run([*git, "add", "staged.pem"], check=True)
    patch = tmp_path.parent / "code.patch"
    state = repository.git_state(tmp_path, patch)
    assert state["secret"] == [".env", "keys/id_rsa", "private.py", "secrets.py", "staged.pem"]
    text = patch.read_text()
    assert "hush" not in text
    assert "+a = 2" in text
    assert "+b = 1" in text


def test_where_all_files_are_private_their_permissions_tell_nothing(tmp_path):
    git = ["git", "-c", "user.name=x", "-c", "user.email=x", "-C", str(tmp_path)]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run([*git, *words], check=True)
    before = os.umask(0o077)
    try:
        write(tmp_path, {"net.py": "a = 1\n"})
        assert "secret" not in repository.git_state(tmp_path, tmp_path.parent / "code.patch")
    finally:
        os.umask(before)
    assert "+a = 1" in (tmp_path.parent / "code.patch").read_text()
