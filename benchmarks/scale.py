"""Ten thousand points: planned, ranked, and a resume that finds everything done.

    python benchmarks/scale.py                # 10,000 points
    python benchmarks/scale.py --points 1000

Two runs are trained. Each other run of the sweep is a copy of the first with its own config, overrides, seed and
result, written and signed by the functions that write a run's; files that differ in nothing that is read are links.
Prints the seconds and the peak memory of whole commands, beside the limits for 10,000 points.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from shutil import copyfile, copytree, ignore_patterns

from mlprun.cli.line import typed_line
from mlprun.runs import sweep_record
from mlprun.runs.directory import RunDirectory
from mlprun.runs.record import RunRecord, write_record
from mlprun.sweep.points import directory_names, points

RATES = [f"{0.001 + 0.0001 * i:.4f}" for i in range(10)]
ALWAYS = ["model=linear", "epochs=1", "sweep.name=many"]
SWEEP = Path("outputs/sweeps/many")


def seconds(*arguments: str, last: int = 0) -> tuple[float, float, float]:
    """Run `mlprun …`, show the last lines of what it prints; its seconds, CPU seconds and MiB at the peak."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen([sys.executable, "-m", "mlprun", *arguments], stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        sec = time.perf_counter() - start
        output.seek(0)
        lines = output.read().decode().splitlines()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"mlprun {' '.join(arguments)}: exit status {process.returncode}\n" + "\n".join(lines[-20:]))
    for line in lines[len(lines) - last :]:
        print(f"    {line}", flush=True)
    return sec, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def copy_or_link(source: str, target: str) -> None:
    """Link what a finished run never writes again."""
    (os.link if source.endswith(".pt") or "tfevents" in source else copyfile)(source, target)


def fill(words: list[str]) -> None:
    """Give the sweep a finished run for each of its points."""
    line = typed_line(["-m", *words])
    planned, _ = points(line.composer, line.composer.points(line.words), SWEEP)
    names = directory_names(planned, {})
    model = next(point for point in planned if point.path is not None)
    assert model.path is not None
    kept = sweep_record.read(SWEEP)
    assert kept is not None
    needs = kept.needs[model.fingerprint]
    chance = random.Random(0)
    for point in planned:
        if point.path is None:
            path = SWEEP / names[tuple(point.overrides)]
            copytree(model.path, path, copy_function=copy_or_link, ignore=ignore_patterns("run.json", ".lock"))
            record = RunRecord(model.record)
            record.is_own = True
            record["metrics"] = {
                key: value * chance.uniform(0.5, 1.5) for key, value in record.metrics.items() if value
            }
            record.update(config=point.config.to_dict(), overrides=point.overrides, seed=point.config.seed)
            write_record(RunDirectory(path).record_file, record)
    everything = {point.fingerprint: point.overrides for point in planned}
    replace(
        kept,
        lines=[[*words, "-m"]],
        points=everything,
        needs=dict.fromkeys(everything, needs),
    ).write(SWEEP)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="keep the sweep in this folder, and find it there")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    swept = [f"seed=range(0,{options.points // len(RATES)})", f"optim.lr={','.join(RATES)}"]
    if not SWEEP.exists():
        seconds("-m", "seed=0,1", "optim.lr=0.001", *ALWAYS)
        fill([*swept, *ALWAYS])

    def show(what: str, limit: int | None, *arguments: str, last: int = 0) -> None:
        sec, cpu, peak = seconds(*arguments, last=last)
        beside = f" (limit {limit} s)" if limit else ""
        print(f"{what:32} {sec:6.1f} s{beside:16} {cpu:6.1f} CPU-s {peak:6.0f} MiB", flush=True)

    show("planned", 15, "-m", *swept, "model=linear", "epochs=1", "sweep.dry_run=true", last=1)
    show("leaderboard", 5, "runs", str(SWEEP), last=3)
    show("leaderboard as CSV", None, "runs", str(SWEEP), "--csv")
    show("the same line, all done", 20, "-m", *swept, *ALWAYS, last=6)
    show("mlprun resume, all done", 20, "resume", str(SWEEP), last=6)
    show("mlprun plot", None, "plot", str(SWEEP), last=4)


if __name__ == "__main__":
    main()
