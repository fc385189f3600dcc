"""How long does `import mlprun` take, against `import torch`? Fresh interpreters, in turn.

    python benchmarks/imports.py

Prints the medians of the seconds over those of an interpreter that imports nothing, and their ratio. On two cores of a
Xeon virtual machine, shared with others: 0.010 s and 2.4 s, 0.004.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

TURNS = 11
LINES = ("pass", "import mlprun", "import torch")


def seconds(line: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", line], check=True)
    return time.perf_counter() - start


def main() -> None:
    for line in LINES:  # reads the files from disk, and writes the bytecode
        seconds(line)
    taken = [[seconds(line) for line in LINES] for _ in range(TURNS)]
    empty, *both = (statistics.median(each) for each in zip(*taken, strict=True))
    ours, torch = (each - empty for each in both)
    print(f"import mlprun {ours:.3f} s, import torch {torch:.3f} s, ratio {ours / torch:.3f}")


if __name__ == "__main__":
    main()
