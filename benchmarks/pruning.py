"""The pruners on learning curves of 1,508 random configurations, beside runs that all train to their end.

    python benchmarks/pruning.py                         # on the stored curves
    python benchmarks/pruning.py --tabulate SWEEP_DIR    # store those of a sweep: LINE, which was stopped early

A search is 200 of the curves in random order, one run at a time; each run asks `mlprun.training.pruning.Pruner`,
through its file, after each of its 27 evaluations. Prints, over the seeds, the median of the best `val/loss` of the
runs that were not pruned, the median share of the epochs that were trained, and the p value of a Mann-Whitney test
against `top`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
from scipy.stats import mannwhitneyu

from mlprun.runs.collect import read_runs
from mlprun.runs.directory import RunDirectory
from mlprun.runs.metrics import read_rows
from mlprun.training.pruning import RULES, Pruner

LINE = """mlprun -m data=digits model=mlp optim=adam,sgd scheduler=constant,cosine 'optim.lr=tag(log,interval(1e-4,1))'
 'model.hidden=choice([16],[64],[256],[64,64])' 'batch_size=choice(32,64,128,256)'
 'optim.weight_decay=tag(log,interval(1e-6,1e-1))' epochs=27 writer=jsonl trainer.num_threads=1
 sweep.num_trials=2000 sweep.sampler=random sweep.name=curves"""
FILE = Path(__file__).parent / "curves" / "digits_mlp.npz"
NUM_TRIALS, NUM_SEEDS = 200, 30


def tabulate(sweep_dir: Path) -> None:
    """Store `val/loss` of each run and epoch, NaN from where a run diverged; 16 bits each."""
    curves = []
    for path, record in read_runs(sweep_dir):
        if record.status not in ("completed", "failed"):
            continue
        rows = read_rows(RunDirectory(path).metrics_file)
        values = [row["val/loss"] for row in rows if "val/loss" in row]
        assert record.status == "failed" or len(values) == 27, path
        curves.append(values + [float("nan")] * (27 - len(values)))
    np.savez_compressed(FILE, line=LINE, val_loss=np.array(curves, np.float16))


def search(curves: np.ndarray, rule: str, seed: int) -> tuple[float, float]:
    """The best loss of a completed run, and the share of the epochs that were trained."""
    chosen = np.random.default_rng(seed).permutation(len(curves))[:NUM_TRIALS]
    best, epochs = float("inf"), 0
    with tempfile.TemporaryDirectory() as folder:
        for number, curve in enumerate(curves[chosen]):
            pruner = Pruner(rule, Path(folder) / str(number), 1, higher_is_better=False) if rule in RULES else None
            for epoch, value in enumerate(curve, start=1):
                epochs += 1
                if not np.isfinite(value):
                    break
                if pruner and epoch < len(curve) and pruner.is_over(epoch, float(value)):
                    break
            else:
                best = min(best, float(curve.min()))
    return best, epochs / curves[chosen].size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tabulate", type=Path)
    options = parser.parse_args()
    if options.tabulate:
        tabulate(options.tabulate)
        return
    curves = np.load(FILE)["val_loss"].astype(np.float64)
    results = {rule: [search(curves, rule, seed) for seed in range(NUM_SEEDS)] for rule in ("none", *RULES)}
    print(f"{len(curves)} curves; {NUM_SEEDS} searches of {NUM_TRIALS} runs\npruner  val/loss  epochs  p (top)")
    for rule, pairs in results.items():
        losses, shares = zip(*pairs, strict=True)
        p = mannwhitneyu(losses, [loss for loss, _ in results["top"]]).pvalue
        print(f"{rule:7} {median(losses):.4f}    {median(shares):5.1%}  {p:.2f}")


if __name__ == "__main__":
    main()
