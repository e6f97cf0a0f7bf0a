"""How fast patients are resampled: medlab against the usual loop over scikit-learn, in one run.

Usage: python benchmarks/evaluate.py [cases] [resamples]    (default 624 and 2000, a test set like PneumoniaMNIST's)
"""

from __future__ import annotations

import sys
import time

import numpy as np
from sklearn.metrics import roc_auc_score

from medlab import evaluate


def main(cases: int = 624, resamples: int = 2000) -> None:
    """Prints seconds, their ratio and both intervals."""
    rng = np.random.default_rng(0)
    y = rng.random(cases) < 0.625
    p = 1 / (1 + np.exp(-(rng.normal(size=cases) + 2.5 * (y - 0.5))))
    evaluate.classification(y, p, n=100)  # imports
    evaluate.bootstrap("auc", y, p, n=100)

    start = time.perf_counter()
    loop = []
    for _ in range(resamples):
        chosen = rng.integers(0, cases, cases)
        loop.append(roc_auc_score(y[chosen], p[chosen]))
    naive = time.perf_counter() - start
    low, high = np.quantile(loop, [0.025, 0.975])

    start = time.perf_counter()
    value, ours_low, ours_high = evaluate.bootstrap("auc", y, p, n=resamples)
    one = time.perf_counter() - start
    start = time.perf_counter()
    evaluate.classification(y, p, n=resamples)
    table = time.perf_counter() - start

    print(f"{cases} cases, {resamples} resamples")
    print(
        f"loop over sklearn.roc_auc_score, AUC alone  {naive:8.3f} s  {value:.4f} ({low:.4f} to {high:.4f}) percentiles"
    )
    print(f"evaluate.bootstrap('auc')                   {one:8.3f} s  {value:.4f} ({ours_low:.4f} to {ours_high:.4f})")
    print(f"evaluate.classification, twelve metrics     {table:8.3f} s")
    print(f"ratio: AUC alone {naive / one:.0f} times faster, the whole table {naive / table:.0f} times")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
