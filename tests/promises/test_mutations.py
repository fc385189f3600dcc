"""Whatever happens to a byte of a run or a sweep: nobody reads another result, or the name of an exception.

`pytest -m long tests/promises/test_mutations.py` tries 1,600 mutations (MUTATIONS=… another number).
"""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mlprun.runs.record import _warn_of_change
from tests.helpers.lines import Result

MUTATIONS = int(os.environ.get("MUTATIONS", "1600"))
LINE = ("data=iris", "model=linear", "epochs=1", "checkpoint.keep=1", "trainer.num_threads=1")
EXCEPTION = re.compile(r"(?<![\w/.])(?!UserError)[A-Z]\w*(Error|Exception)\b|Traceback")
VERBS = {
    "run": [("show", "run"), ("eval", "run"), ("runs", "run"), ("plot", "run"), ("predict", "run", "--index", "0"),
            ("resume", "run", "epochs=2")],
    "sweep": [("runs", "sweep"), ("resume", "sweep")],
}  # fmt: skip


def mutate(content: bytes, chance: random.Random) -> bytes:
    """One fault of a disk, an editor or a transfer."""
    start = chance.randrange(len(content)) if content else 0
    end = min(len(content), start + chance.choice((1, 1, 8, 512)))
    lines = content.splitlines(keepends=True) or [b""]
    line = chance.randrange(len(lines))
    return chance.choice(
        [
            content[:start] + bytes([content[start] ^ (1 << chance.randrange(4))]) + content[start + 1 :]
            if content
            else b"?",
            content[:start],
            content[:start] + content[end:],
            content[:start] + bytes(end - start) + content[end:],
            content[:start] + content[start:end] * 2 + content[end:],
            b"".join(lines[:line] + lines[line + 1 :]),
            b"".join([*lines[:line], chance.choice(lines), *lines[line:]]),
            b"",
        ]
    )


class Made:
    """A run and a sweep, whole, and what each verb answers."""

    def __init__(self, folder: Path, mlprun: Callable[..., Result], caplog: pytest.LogCaptureFixture) -> None:
        self.folder, self.mlprun, self.caplog = folder, mlprun, caplog
        for line in (
            ("hydra.run.dir=run.whole",),
            ("-m", "seed=0,1", "hydra.sweep.dir=sweep.whole", "hydra/launcher=basic"),
        ):
            assert mlprun(*line, *LINE).status == 0
        self.whole = {name: self.answers(name, folder / f"{name}.whole") for name in VERBS}

    def answers(self, name: str, source: Path) -> list[tuple[int, str, str]]:
        """Status, output and errors of each verb, on a copy."""
        results = []
        for words in VERBS[name]:
            shutil.rmtree(self.folder / name, ignore_errors=True)
            shutil.copytree(source, self.folder / name)
            self.caplog.clear()
            _warn_of_change.cache_clear()  # each line has a process of its own
            result = self.mlprun(*words)
            # warnings of verbs without a log go to pytest's handler here, not to stderr
            results.append((result.status, without_times(result.out), result.err + "\n".join(self.caplog.messages)))
        return results

    def check(self, seed: int) -> None:
        chance, name = random.Random(seed), ("run", "sweep")[seed % 2]
        whole, mutated = self.folder / f"{name}.whole", self.folder / f"{name}.mutated"
        file = chance.choice(sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file()))
        shutil.rmtree(mutated, ignore_errors=True)
        shutil.copytree(whole, mutated)
        (mutated / file).write_bytes(mutate((mutated / file).read_bytes(), chance))
        for words, was, now in zip(VERBS[name], self.whole[name], self.answers(name, mutated), strict=True):
            what = f"{seed}: {' '.join(words)} after a mutation of {name}/{file}:\n"
            assert not EXCEPTION.search(now[1] + now[2]), what + now[1] + now[2]
            assert now[0] in (0, 1, 2), what + now[1] + now[2]
            is_said = now[0] or now[2] != was[2] or now[1].count(file.name) > was[1].count(file.name)
            assert is_said or now[1] == was[1], f"{what}silently\n{was[1]}\nnow\n{now[1]}"


def without_times(text: str) -> str:
    return re.sub(r"\d+(\.\d+)? (s|ms|min|MiB|examples/s)\b|\d+:\d\d:\d\d|\d+/s", "…", text)


CHUNK = 50
LONG = [pytest.param(range(n, n + CHUNK), marks=pytest.mark.long, id=str(n)) for n in range(4, MUTATIONS, CHUNK)]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seeds", [range(4), *LONG])
def test_a_mutation_is_harmless_or_said(mlprun, tmp_path, caplog, seeds):
    made = Made(tmp_path, mlprun, caplog)
    for seed in seeds:
        made.check(seed)
