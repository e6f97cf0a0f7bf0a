"""What 3-D costs: memory and time of a training step for slices, 2.5-D, patches and whole volumes, measured.

Run ``python benchmarks/dimensions.py``; it prints the table of the README and draws it with ``--figure FILE.png``.

The network is the 10-layer ResNet of ``medlab.models`` of one width in 2-D and 3-D. A step sees one case, which is the
slice in the middle (2-D), its three neighbors as channels (2.5-D), a cube of 32 voxels (a patch), or the whole cube.
Memory is counted, not measured: the outputs of all layers for one case, which training keeps until the gradients are
known. The process also needs its programs, 100 to 200 MB here. A whole cube of 128 takes 64 patches of 32.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

WAYS = {"2-D slice": (2, 1), "2.5-D, 3 slices": (2, 3), "patch of 32": (3, 1), "full 3-D": (3, 1)}
SIZES = (32, 64, 128)


def measure(way: str, sizes: list[int], width: int, steps: int) -> list[dict[str, Any]]:
    """One way at all sizes, in this process."""
    import math

    import numpy as np

    from medlab import models
    from medlab.backend import keras

    rank, channels = WAYS[way]
    rows = []
    for size in sizes:
        side = 32 if way.startswith("patch") else size
        if way.startswith("patch") and rows:  # the same patch out of a larger image
            rows.append(rows[0] | {"size": size})
            continue
        shape = (*[side] * rank, channels)
        model = models.resnet(shape, 2, depth=10, width=width, stem_stride=2)
        model.compile(keras.optimizers.Adam(1e-4), keras.losses.BinaryCrossentropy(from_logits=True))
        x = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
        y = np.ones((1, 1), np.float32)
        taken = []
        for _ in range(steps + 1 if steps else 0):  # the first one compiles
            start = time.perf_counter()
            model.train_on_batch(x, y)
            taken.append(time.perf_counter() - start)
        outputs = sum(math.prod(layer.output.shape[1:]) for layer in model.layers[1:])
        rows.append({
            "way": way, "size": size, "parameters": model.count_params(), "memory_mb": 4 * outputs / 1e6,
            "seconds": float(np.min(taken[1:])) if steps else math.nan,
        })  # fmt: skip
    return rows


def main() -> None:
    """Measures, prints the table, draws it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="voxels a side, ascending")
    parser.add_argument("--width", type=int, default=16, help="of the network's first stage")
    parser.add_argument("--steps", type=int, default=3, help="of which the fastest counts; 0 counts memory alone")
    parser.add_argument("--figure", type=Path, help="a PNG file to draw the table into")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    wish = parser.parse_args()
    if wish.way:
        print(json.dumps(measure(wish.way, sorted(wish.sizes), wish.width, wish.steps)))
        return
    rows: list[dict[str, Any]] = []
    for way in WAYS:
        command = [sys.executable, __file__, "--way", way, "--width", str(wish.width), "--steps", str(wish.steps)]
        command += ["--sizes", *map(str, wish.sizes)]
        quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(command, capture_output=True, text=True, env=quiet, check=False)
        if done.returncode:
            print(f"{way}: not measured. {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
            continue
        rows += json.loads(done.stdout.splitlines()[-1])
    report(rows, wish.figure)


def report(rows: list[dict[str, Any]], figure: Path | None) -> None:
    """The table as Markdown, and as a picture."""
    import pandas as pd

    table = pd.DataFrame(rows)
    print("| one case is | voxels a side | parameters | maps kept (MB) | time of a step (ms) |")
    print("|---|---:|---:|---:|---:|")
    for row in table.itertuples():
        print(f"| {row.way} | {row.size} | {row.parameters:,} | {row.memory_mb:,.1f} | {1000 * row.seconds:,.0f} |")
    if figure is not None:
        from medlab import view

        costs = {"memory_mb": "maps that training keeps (MB)", "seconds": "time of a training step (s)"}
        view.cost_of_dimensions(table, columns=costs, title="What another dimension costs").savefig(figure, dpi=150)


if __name__ == "__main__":
    main()
