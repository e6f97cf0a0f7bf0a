"""How fast the phantoms are made, and how far a line through the pixels gets.

Usage: OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/phantoms.py

The peer of a rendered slice is the plainest way to one: three calls of SciPy's map_coordinates (gray, white, air) on
the same grid, without skull, lesion, noise or mask. Both are timed in one run, in processor time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from medlab.phantoms import anatomy, brain, plan

CASES = 400


def milliseconds(function: Callable, arguments: Sequence) -> float:
    """Mean processor time of ``function`` over many arguments."""
    start = time.process_time()
    for argument in arguments:
        function(argument)
    return 1000 * (time.process_time() - start) / len(arguments)


def render(index: int, *, rank: int, size: int, keep: list) -> None:
    """Makes one case and keeps its image."""
    keep.append(brain.render(index, rank, size, "flair", 1.0, 0)[0])


def main() -> None:
    """Times template, slices and volumes, and fits the logistic regression."""
    start = time.process_time()
    template = anatomy.template()
    loading = time.process_time() - start
    print(f"template                          {loading:8.2f} s")

    made: list[np.ndarray] = []
    slices = milliseconds(partial(render, rank=2, size=128, keep=made), range(CASES))
    print(f"one slice of 128 x 128            {slices:8.2f} ms;  200 with the template: {loading + 0.2 * slices:.1f} s")
    volumes = milliseconds(partial(render, rank=3, size=64, keep=[]), range(8))
    print(f"one volume of 64 x 64 x 64        {volumes:8.0f} ms")

    axis = (np.arange(128) - 63.5) * 1.875
    grid = np.stack(np.broadcast_arrays(*np.ix_(axis, axis - 14, [20.0]))).reshape(3, -1)
    voxel = template.to_voxel[:3, :3] @ grid + template.to_voxel[:3, 3:]
    maps = (*template.tissues, template.tissues[0])
    plain = milliseconds(
        lambda _: [ndimage.map_coordinates(one, voxel, np.float32, order=1) for one in maps], range(50)
    )
    print(f"three map_coordinates calls       {plain:8.2f} ms;  ratio of a whole slice to them: {slices / plain:.2f}")

    x = np.stack(made).astype(np.float32)
    x = (x - x.mean((1, 2), keepdims=True)) / x.std((1, 2), keepdims=True)
    x = x.reshape(CASES, 32, 4, 32, 4).mean((2, 4)).reshape(CASES, -1)
    y = np.array([plan.parameters(index).label == "tumor" for index in range(CASES)])
    half = int(0.7 * CASES)
    model = LogisticRegression(C=1e-2, max_iter=500).fit(x[:half], y[:half])
    print(f"logistic regression, test AUC     {roc_auc_score(y[half:], model.decision_function(x[half:])):8.3f}")


if __name__ == "__main__":
    main()
