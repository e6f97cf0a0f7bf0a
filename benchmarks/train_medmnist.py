"""Test AUC and accuracy of a data set over several runs, by the plan that medlab proposes for its size.

    MEDLAB_DATA=<folder> python benchmarks/train_medmnist.py pneumoniamnist --seeds 0 1 2

Every step is the public one: load.dataset, batches.arrays, augment.policy, train.plan, train.fit, evaluate. A run is
one network trained on the training split or, with --folds 5, five of them: each leaves out a fifth of training and
validation cases together, and their probabilities are averaged. The weights are those of the end of training (a
running mean), so that nothing is chosen during a run; the test split is looked at once, after it. The last line is
the average of all runs' probabilities.
"""

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

PUBLISHED = {"pneumoniamnist": (0.944, 0.854), "breastmnist": (0.901, 0.863), "adrenalmnist3d": (0.827, 0.721)}
"""ResNet-18 at 28 pixels, AUC and accuracy: Yang et al. 2023, MedMNIST v2, Sci Data 10:41, tables 3 and 4."""


def main() -> None:
    """For each data set a line a run, their mean and deviation, and the average of all runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="+", help="such as pneumoniamnist, breastmnist or phantom:brain-tumor")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one run each")
    parser.add_argument("--folds", type=int, default=1, help="networks a run; 1: one, on the training split alone")
    parser.add_argument("--tta", action="store_true", help="average over mirrored and shifted test images")
    parser.add_argument("--model", help="small_cnn, resnet or baseline_cnn; default: the plan's")
    parser.add_argument("--width", type=int, help="channels of the network's first stage")
    parser.add_argument("--epochs", type=int, help="default: the plan's")
    parser.add_argument("--batch-size", type=int, help="default: the plan's")
    parser.add_argument("--learning-rate", type=float, help="default: the rule of train.fit")
    parser.add_argument("--class-weight", choices=["balanced"], help="default: none")
    parser.add_argument("--no-augment", action="store_true")
    parser.add_argument("--limit", type=int, help="at most so many cases a split")
    parser.add_argument("--json", type=Path, help="also append each run's numbers to this file, one JSON a line")
    parser.add_argument("--resume", type=Path, help="keep each training in this folder, and go on where one stopped")
    chosen = parser.parse_args()
    print("command:", " ".join(["python", *sys.argv]))
    for dataset in chosen.datasets:
        benchmark(dataset, chosen)


def benchmark(dataset: str, chosen: argparse.Namespace) -> None:
    """All runs of one data set."""
    from medlab import batches, clean, evaluate, load, train

    cases = load.dataset(dataset, **({"limit": chosen.limit} if chosen.limit else {}))
    if "split" not in cases.table:
        cases = cases.with_table(clean.split(cases.table, seed=0))
    parts = {split: batches.arrays(cases, split, recipe="auto") for split in ("train", "validation", "test")}
    x, _ = parts["train"]
    plan = train.plan(len(x), x.shape[1:], len(cases.classes))
    print(dataset)
    for name, reason in plan.reasons.items():
        print(f"  {name:12}{reason}")
    print(f"{'run':>6} {'AUC':>8} {'accuracy':>9} {'seconds':>8}  network")
    rows, outputs, (x, y) = [], [], parts["test"]
    for seed in chosen.seeds:
        p, seconds, said = run(parts, plan, cases, seed, chosen)
        outputs.append(p)
        row = {"dataset": dataset, "run": seed, "seconds": seconds, **judge(y, p), "network": said}
        rows.append(row)
        print(
            f"{seed:6d} {row['auc']:8.4f} {row['accuracy']:9.4f} {row['seconds']:8.1f}  {said}", flush=True
        )  # fmt: skip
        keep(row, chosen)
    auc, accuracy, seconds = (np.array([row[name] for row in rows]) for name in ("auc", "accuracy", "seconds"))
    print(f"{'mean':>6} {auc.mean():8.4f} {accuracy.mean():9.4f} {seconds.mean():8.1f}")
    if len(rows) > 1:
        print(f"{'sd':>6} {auc.std(ddof=1):8.4f} {accuracy.std(ddof=1):9.4f}  of {len(rows)} runs")
        together = np.mean(outputs, axis=0)
        row = {"dataset": dataset, "run": "all", "seconds": float(seconds.sum()), **judge(y, together)}
        _, low, high = evaluate.bootstrap(evaluate.auc, y, together)
        print(
            f"{'all':>6} {row['auc']:8.4f} {row['accuracy']:9.4f} {row['seconds']:8.1f}  average of the {len(rows)} "
            f"runs; 95 % of its AUC over test cases: {low:.3f} to {high:.3f}"
        )
        keep(row, chosen)
    if dataset in PUBLISHED:
        print("published ResNet-18: AUC {:.3f}, accuracy {:.3f}".format(*PUBLISHED[dataset]))


def run(parts: dict, plan, cases, seed: int, chosen: argparse.Namespace) -> tuple[np.ndarray, float, str]:
    """Test probabilities of one run, the seconds of its epochs, and what was trained."""
    from medlab import augment, evaluate, models, train
    from medlab.backend import keras

    folds = chosen.folds
    (x, y), rank = parts["train"], parts["train"][0].ndim - 2
    if folds > 1:
        x, y = (np.concatenate([parts["train"][part], parts["validation"][part]]) for part in (0, 1))
        left_out = stratified(y, folds, seed)
    outputs, seconds = [], 0.0
    for member in range(folds):
        keras.backend.clear_session()
        number = folds * seed + member
        settings = dict(plan.settings) if chosen.model in (None, plan.model) else {}
        settings |= {"width": chosen.width} if chosen.width else {}
        network = getattr(models, chosen.model or plan.model)(x.shape[1:], len(cases.classes), seed=number, **settings)
        policy = augment.policy(cases.info.get("modality"), rank=rank, seed=number, **plan.policy)
        taken = slice(None) if folds == 1 else left_out != member
        further = plan.fit | ({"learning_rate": chosen.learning_rate} if chosen.learning_rate else {})
        folder = chosen.resume and chosen.resume / f"{cases.name}-{seed}-{member}"
        fitted = train.fit(
            network, (x[taken], y[taken]), epochs=chosen.epochs or plan.epochs,
            batch_size=chosen.batch_size or plan.batch_size, class_weight=chosen.class_weight, seed=number,
            augment=policy if plan.augment and not chosen.no_augment else None, progress=False,
            run=folder, resume=folder is not None, **further,
        )  # fmt: skip
        seconds += fitted.history["seconds"].sum()
        outputs.append(evaluate.predict(network, parts["test"][0], tta=views(policy) if chosen.tta else None))
    said = f"{network.name}, {network.count_params():,} weights" + (f", {folds} folds" if folds > 1 else "")
    said += f", {1 + len(views(policy))} views" if chosen.tta else ""
    return np.mean(outputs, axis=0), float(seconds), said


def stratified(y: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """(n,) the fold of each case: every class is dealt out evenly, in an order that the seed draws."""
    part, random = np.empty(len(y), int), np.random.default_rng(seed)
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        part[random.permutation(rows)] = np.arange(len(rows)) % folds
    return part


def views(policy) -> list:
    """Test-time views: what the policy may mirror, mirrored; and the image moved by one voxel along each axis."""
    mirrored = [lambda x, axis=axis + 1: np.flip(x, axis) for axis in policy.flip]
    moves = [(axis + 1, step) for axis in range(policy.rank) for step in (-1, 1)]
    return mirrored + [lambda x, axis=axis, step=step: moved(x, axis, step) for axis, step in moves]


def moved(x: np.ndarray, axis: int, step: int) -> np.ndarray:
    """The batch moved by one voxel; the edge is repeated."""
    side = np.arange(x.shape[axis])
    return np.take(x, np.clip(side - step, 0, len(side) - 1), axis)


def judge(y: np.ndarray, p: np.ndarray) -> dict[str, float]:
    """AUC and accuracy at a threshold of one half."""
    from medlab import evaluate

    right = ((p > 0.5) == y) if p.ndim == 1 else (p.argmax(1) == y)
    return {"auc": float(evaluate.auc(y, p)), "accuracy": float(right.mean())}


def keep(row: dict, chosen: argparse.Namespace) -> None:
    """Appends a line to the file that was asked for."""
    if chosen.json:
        with chosen.json.open("a") as stream:
            stream.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
