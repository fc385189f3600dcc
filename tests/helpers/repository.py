"""A git repository with a file of each sort."""

from __future__ import annotations

import subprocess
from pathlib import Path


class Repository:
    """A repository of one commit, with a file of each sort."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.git("init", "-q")
        for key, value in {"user.name": "a", "user.email": "a@b", "commit.gpgsign": "false"}.items():
            self.git("config", key, value)
        self.write("model.py", "one\ntwo\nthree\n")
        self.write("old.py", "old\n")
        self.write(".gitignore", "*.log\ndata/\n")
        self.write("sub/deep.py", "deep\n")
        self.git("add", "--all")
        self.git("commit", "-qm", "first")

    def git(self, *arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(self.path), *arguments], check=True, capture_output=True, text=True
        ).stdout

    def write(self, name: str, content: str | bytes) -> None:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)

    def change(self) -> None:
        """A change of every sort: modified, removed, new, binary, ignored, each also staged, or staged but gone."""
        self.write("model.py", "one\nTWO\nthree\n")
        self.write("sub/deep.py", "staged\n")
        self.write("new/staged.py", "staged\n")
        self.write("new/gone.py", "gone\n")
        self.write("kept.log", "ignored, but staged\n")
        self.git("add", "--force", "sub/deep.py", "new", "kept.log")
        (self.path / "new/gone.py").unlink()
        (self.path / "old.py").unlink()
        self.write("new/fresh file.py", "fresh\n")
        self.write("grammar", bytes(range(256)))
        self.write("train.log", "ignored\n")
        self.write("data/big.csv", "ignored\n")

    def content(self) -> dict[str, bytes]:
        files = (p for p in self.path.rglob("*") if p.is_file() and ".git" not in p.parts)
        return {str(p.relative_to(self.path)): p.read_bytes() for p in files}
