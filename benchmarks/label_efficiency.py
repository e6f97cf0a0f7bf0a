"""What images without labels are worth: test AUC against the share of the labels, for every method.

    MEDLAB_DATA=<folder> python benchmarks/label_efficiency.py pneumoniamnist phantom:brain-tumor --out <folder>
    python benchmarks/label_efficiency.py --figure label_efficiency.png --out <folder>

One network, ``small_cnn``, one set of changes of the images, one number of steps: what differs is what is done with
the images whose labels are hidden. Nothing is chosen on the test split, and no validation labels are used: the
settings below hold for all methods, shares and data sets, and the weights are the running mean at the end.

Each training is kept in the folder with its test probabilities; a second call goes on where the first one stopped.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd

SHARES = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
STEPS, BATCH, WIDTH, EPOCHS = 600, 32, 8, 20
OPTIONS = {
    "phantom:brain-tumor": {"size": 32, "n": 4000, "severity": 1.0},
    "phantom:cardiomegaly": {"size": 32, "n": 4000, "rank": 2},
}
METHODS = {
    "supervised": (None, "fit"),
    "masked, fine-tuned": ("masked", "fit"),
    "SimCLR, linear probe": ("simclr", "probe"),
    "SimCLR, fine-tuned": ("simclr", "fit"),
    "pseudo-labels": (None, "pseudo_label"),
    "mean teacher": (None, "mean_teacher"),
    "FixMatch": (None, "fixmatch"),
    "SimCLR, then mean teacher": ("simclr", "mean_teacher"),
    "BYOL, fine-tuned": ("byol", "fit"),
    "supervised, 3 times as long": (None, "longer"),
}
"""What the weights start from, and how labels are learned."""
BESIDE = ("BYOL, fine-tuned", "supervised, 3 times as long")
"""In the tables alone: a figure of more than eight lines cannot be read."""
NEEDS_MORE = ("pseudo_label", "mean_teacher", "fixmatch")
"""What needs images without labels beside the labeled ones: nothing is left for it at 100 %."""


def main() -> None:
    """Runs what is missing, then prints the tables; or draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="*", help="such as pneumoniamnist or phantom:brain-tumor")
    parser.add_argument("--out", type=Path, required=True, help="folder of what was trained")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--figure", type=Path, help="draw the curves of all data sets in the folder to this file")
    chosen = parser.parse_args()
    if chosen.datasets:
        print("command:", " ".join(["python", *sys.argv]))
    for dataset in chosen.datasets:
        benchmark(dataset, chosen)
    tables = {name: table for name, table in read(chosen.out).items() if not chosen.datasets or name in chosen.datasets}
    for name, rows in tables.items():
        print_table(name, rows)
    if chosen.figure:
        draw(tables, chosen.figure)


def benchmark(dataset: str, chosen: argparse.Namespace) -> None:
    """All trainings of one data set that are not in the folder yet."""
    from medlab import batches, clean, load

    cases = load.dataset(dataset, **OPTIONS.get(dataset, {}))
    if "split" not in cases.table:
        cases = cases.with_table(clean.split(cases.table, seed=0))
    (x, y), test = (batches.arrays(cases, split, recipe="auto") for split in ("train", "test"))
    folder = chosen.out / dataset.replace(":", "_")
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "truth.npy", test[1])
    for share in chosen.shares:
        for seed in chosen.seeds:
            for method in chosen.methods:
                kept = folder / f"{method.replace(', ', '_').replace(' ', '-')}_{share:g}_{seed}.json"
                if kept.exists() or (share == 1 and METHODS[method][1] in NEEDS_MORE):
                    continue
                began = time.perf_counter()
                p, count = train_one(folder, cases, x, y, test[0], method, share, seed)
                row = {"dataset": dataset, "method": method, "share": share, "labels": count, "seed": seed}
                row |= {"seconds": time.perf_counter() - began, "p": np.round(p, 6).tolist()}
                kept.write_text(json.dumps(row), encoding="utf-8")
                print(f"{dataset} {method}, {share:.0%}, seed {seed}: AUC {auc(test[1], p):.4f}", flush=True)


def train_one(folder: Path, cases, x, y, images, method: str, share: float, seed: int) -> tuple[np.ndarray, int]:
    """Test probabilities of one method with a share of the labels, and how many these were."""
    from medlab import augment, evaluate, models, train
    from medlab.backend import keras

    keras.backend.clear_session()
    start, how = METHODS[method]
    network = models.small_cnn(x.shape[1:], len(cases.classes), width=WIDTH, seed=seed)
    rows = labeled(y, share, seed)
    changes = augment.policy(cases.info.get("modality"), rank=x.ndim - 2, seed=seed)
    settings = {"batch_size": BATCH, "seed": seed, "progress": False}
    if start is not None:
        network.set_weights(pretrained(folder, network, x, start, seed))
    if how in ("fit", "probe") and start is not None:
        network = train.linear_probe(network, (x[rows], y[rows]), seed=seed).model
    if how in ("fit", "longer"):
        epochs = max(1, round(STEPS * (3 if how == "longer" else 1) * BATCH / max(BATCH, len(rows))))
        train.fit(network, (x[rows], y[rows]), epochs=epochs, augment=changes, **settings)
    elif how != "probe":
        settings |= {"method": how, "steps": STEPS, "weak": changes, "rounds": 1}
        train.fit_semisupervised(network, (x[rows], y[rows]), x, **settings)
    return evaluate.predict(network, images), len(rows)


def pretrained(folder: Path, network, x: np.ndarray, task: str, seed: int) -> list[np.ndarray]:
    """Weights that a task has trained on all images without any label; made once a seed."""
    from medlab import models, train

    kept = folder / f"{task}_{seed}.keras"
    if not kept.exists():
        made = train.pretrain(network, x, task=task, epochs=EPOCHS, seed=seed, progress=False)
        print(f"{task}, seed {seed}: {made.seconds:.0f} s, spread {made.spread:.2f}", flush=True)
        network.save(kept)
    return models.load(kept).get_weights()


def labeled(y: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Rows whose labels are known: a share of each class; those of a smaller share are among those of a larger one."""
    rng = np.random.default_rng(seed)
    parts = [rng.permutation(np.flatnonzero(y == label)) for label in np.unique(y)]
    return np.concatenate([part[: max(2, round(share * len(part)))] for part in parts])


def auc(y: np.ndarray, p: np.ndarray) -> float:
    """Area under the curve of the positive class."""
    from medlab import evaluate

    return float(evaluate.auc(y, p))


def read(out: Path) -> dict[str, list[dict]]:
    """What is in the folder, by data set."""
    found: dict[str, list[dict]] = {}
    for file in sorted(out.glob("*/*.json")):
        row = json.loads(file.read_text(encoding="utf-8"))
        row["p"], row["truth"] = np.asarray(row["p"]), np.load(file.parent / "truth.npy")
        row["auc"] = auc(row["truth"], row["p"])
        found.setdefault(row["dataset"], []).append(row)
    return found


def difference(rows: list[dict], others: list[dict]) -> tuple[float, float, float]:
    """Mean difference of AUC over the seeds that both have, with an interval over test cases and seeds drawn anew."""
    pairs = [(a, b) for a in rows for b in others if a["seed"] == b["seed"]]
    truth, rng = pairs[0][0]["truth"], np.random.default_rng(0)
    value = float(np.mean([a["auc"] - b["auc"] for a, b in pairs]))
    draws = []
    for _ in range(1000):
        cases = rng.integers(0, len(truth), len(truth))
        seeds = rng.integers(0, len(pairs), len(pairs))
        y = truth[cases]
        draws.append(np.mean([auc(y, pairs[n][0]["p"][cases]) - auc(y, pairs[n][1]["p"][cases]) for n in seeds]))
    return value, *np.quantile(draws, (0.025, 0.975))


def print_table(dataset: str, rows: list[dict]) -> None:
    """AUC of every method and share, and the differences that matter."""
    print(f"\n{dataset}: mean test AUC over seeds")
    table = pd.DataFrame(rows)
    print(table.pivot_table(index="method", columns="share", values="auc").reindex(list(METHODS)).round(4).to_string())
    by = {key: group.to_dict("records") for key, group in table.groupby(["method", "share"])}
    for share in SHARES[:-1]:
        own = {name: by[name, share] for name in METHODS if (name, share) in by}
        if "supervised" not in own or len(own) < 2:
            continue
        for name in own:
            if name != "supervised":
                value, low, high = difference(own[name], own["supervised"])
                line = f"{share:6.0%} {name} - supervised: {value:+.4f} ({low:+.4f} to {high:+.4f})"
                if ("supervised", 1.0) in by and share in (0.05, 0.1):
                    value, low, high = difference(own[name], by["supervised", 1.0])
                    line += f"; - supervised at 100 %: {value:+.4f} ({low:+.4f} to {high:+.4f})"
                print(line)


def draw(tables: dict[str, list[dict]], path: Path) -> None:
    """The curves as a figure: means over the sets of labels, with whiskers from the least to the largest of them."""
    from medlab import view

    frames, shown = {}, [name for name in METHODS if name not in BESIDE]
    for dataset, rows in sorted(tables.items(), key=lambda item: item[0].startswith("phantom:")):
        table, made = pd.DataFrame([row for row in rows if row["method"] in shown]), []
        for (method, share), group in table.groupby(["method", "share"]):
            values = group["auc"]
            made.append({"method": method, "share": share, "labels": int(group["labels"].iloc[0])})
            made[-1] |= {"auc": values.mean(), "low": values.min(), "high": values.max()}
        frames[dataset] = pd.DataFrame(made)
    view.label_efficiency(frames).savefig(path, dpi=110)


if __name__ == "__main__":
    main()
