"""Transfer: does a network that was trained on phantoms learn real images from fewer labels?

    MEDLAB_DATA=<folder> python benchmarks/transfer.py pneumoniamnist breastmnist --shares 0.02 0.05 0.1

A network is trained on phantom radiographs, whose labels cost nothing. With a new last layer (models.with_head) it is
trained further on a share of the real labels, beside the same network from a random start, and beside one that was
trained on the same phantoms with their labels shuffled: what that gains does not come from the labels. All three have
the same real cases, epochs and seed.
"""

import argparse
import functools
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd


def main() -> None:
    """A table for each data set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="+", help="such as pneumoniamnist or breastmnist, at 28 pixels")
    parser.add_argument("--phantom", default="phantom:cardiomegaly", help="where the network is trained first")
    parser.add_argument("--phantoms", type=int, default=1200, help="how many of them")
    parser.add_argument("--cache", type=Path, help="keep the phantoms here, as .npz")
    parser.add_argument("--phantom-epochs", type=int, default=15)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.02, 0.05, 0.1], help="of the real labels")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=30, help="on the real images")
    parser.add_argument("--width", type=int, default=8, help="channels of small_cnn's first stage")
    parser.add_argument("--shuffled", action="store_true", help="also from phantoms with shuffled labels")
    parser.add_argument("--json", type=Path, help="keep each number here, one JSON a line, and go on from them")
    chosen = parser.parse_args()
    print("command:", " ".join(["python", *sys.argv]))
    rows = [row for seed in chosen.seeds for row in one_seed(seed, chosen)]
    table = pd.DataFrame(rows)
    for name, part in table.groupby("dataset", sort=False):
        print(name)
        for count, same in part.groupby("labels"):
            wide = same.pivot_table(index="seed", columns="start", values="auc")
            line = f"  {count:5d} labels" + "".join(f", {one} {wide[one].mean():.3f}" for one in wide)
            for one in wide.columns.drop("random"):
                mean, low, high = interval(wide[one] - wide["random"])
                line += f"; {one} less random {mean:+.3f} ({low:+.3f} to {high:+.3f})"
            print(line)


def one_seed(seed: int, chosen: argparse.Namespace) -> list[dict]:
    """The test AUC of each start, data set and share."""
    from medlab import batches, evaluate, load, models, train

    kept = chosen.json.read_text().splitlines() if chosen.json and chosen.json.exists() else []
    known = [json.loads(line) for line in kept]
    starts: dict[str, object] = {}
    rows = []
    for name in chosen.datasets:
        cases = load.dataset(name)
        (x, y), (x_test, y_test) = (batches.arrays(cases, split) for split in ("train", "test"))
        for share in chosen.shares:
            few = stratified(y, share, seed)
            for start in ("random", "phantoms", "shuffled")[: 3 if chosen.shuffled else 2]:
                row = {"dataset": name, "labels": len(few), "start": start, "seed": seed}
                row |= {key: getattr(chosen, key) for key in ("epochs", "phantom", "phantoms", "phantom_epochs")}
                old = [one for one in known if {key: one.get(key) for key in row} == row]
                if not old:
                    make = functools.partial(models.small_cnn, x.shape[1:], width=chosen.width, seed=seed)
                    if start == "random":
                        model = make(classes=len(cases.classes))
                    else:
                        if start not in starts:
                            starts[start] = pretrained(make, start, seed, chosen)
                        model = models.with_head(
                            starts[start], len(cases.classes), dropout=0.2, copy=True, seed=seed
                        )  # fmt: skip
                    train.fit(model, (x[few], y[few]), epochs=chosen.epochs, seed=seed, progress=False)
                    old = [row | {"auc": evaluate.auc(y_test, evaluate.predict(model, x_test))}]
                    if chosen.json:
                        with chosen.json.open("a") as file:
                            file.write(json.dumps(old[0]) + "\n")
                print(f"  seed {seed}, {name}, {len(few)} labels, {start}: AUC {old[0]['auc']:.4f}", flush=True)
                rows += old[:1]
    return rows


def pretrained(make, start: str, seed: int, chosen: argparse.Namespace):
    """A network trained on phantoms; a fifth of them says how well."""
    from medlab import evaluate, train

    model = make(classes=2)
    x, y = phantoms(model.input_shape[1], chosen)
    if start == "shuffled":
        y = np.random.default_rng(seed).permutation(y)
    own = len(y) * 4 // 5
    train.fit(model, (x[:own], y[:own]), epochs=chosen.phantom_epochs, seed=seed, progress=False)
    auc = evaluate.auc(y[own:], evaluate.predict(model, x[own:]))
    print(f"  seed {seed}, {start}: AUC {auc:.3f} on {len(y) - own} phantoms left out", flush=True)
    return model


def phantoms(size: int, chosen: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Phantoms in a random order, made once."""
    from medlab import batches, load

    if chosen.cache and chosen.cache.exists():
        held = np.load(chosen.cache)
        x, y = held["x"], held["y"]
    else:
        cases = load.dataset(chosen.phantom, rank=2, n=chosen.phantoms, size=max(32, size), seed=5)
        x, y = batches.arrays(cases, None, size=size)
        if chosen.cache:
            np.savez(chosen.cache, x=x, y=y)
    order = np.random.default_rng(0).permutation(len(y))
    return x[order], y[order]


def stratified(y: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Numbers of a share of the cases, the same share of each class, at least two of each."""
    random = np.random.default_rng(seed)
    parts = [random.permutation(np.flatnonzero(y == one)) for one in np.unique(y)]
    return np.concatenate([part[: max(2, round(share * len(part)))] for part in parts])


def interval(values: pd.Series) -> tuple[float, float, float]:
    """The mean and its 95 % t interval over seeds."""
    from scipy.stats import t

    n = len(values)
    half = t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
    return values.mean(), values.mean() - half, values.mean() + half


if __name__ == "__main__":
    main()
