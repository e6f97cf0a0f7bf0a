"""Test AUC and accuracy of a data set over several seeds, by the plan that medlab proposes for its size.

    MEDLAB_DATA=<folder> python benchmarks/train_medmnist.py pneumoniamnist --seeds 0 1 2

Every step is the public one: load.dataset, batches.arrays, augment.policy, train.plan, train.fit, evaluate. The test
split is looked at once, after training.
"""

import argparse
import contextlib
import json
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

PUBLISHED = {"pneumoniamnist": (0.944, 0.854), "breastmnist": (0.901, 0.863), "adrenalmnist3d": (0.827, 0.721)}
"""ResNet-18 at 28 pixels, AUC and accuracy: Yang et al. 2023, MedMNIST v2, Sci Data 10:41, tables 3 and 4."""


def main() -> None:
    """For each data set a line a seed and the mean."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="+", help="such as pneumoniamnist, breastmnist or phantom:brain-tumor")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--model", help="small_cnn, resnet or baseline_cnn; default: the plan's")
    parser.add_argument("--width", type=int, help="channels of the network's first stage")
    parser.add_argument("--epochs", type=int, help="default: the plan's")
    parser.add_argument("--batch-size", type=int, help="default: the plan's")
    parser.add_argument("--learning-rate", type=float, help="default: the rule of train.fit")
    parser.add_argument("--no-augment", action="store_true")
    parser.add_argument("--limit", type=int, help="at most so many cases a split")
    parser.add_argument("--json", type=Path, help="also append each seed's numbers to this file, one JSON a line")
    chosen = parser.parse_args()
    for dataset in chosen.datasets:
        run(dataset, chosen)


def run(dataset: str, chosen: argparse.Namespace) -> None:
    """Trains once a seed on one data set."""
    from medlab import augment, batches, clean, load, models, train

    cases = load.dataset(dataset, **({"limit": chosen.limit} if chosen.limit else {}))
    if "split" not in cases.table:
        cases = cases.with_table(clean.split(cases.table, seed=0))
    parts = {split: batches.arrays(cases, split, recipe="auto") for split in ("train", "validation", "test")}
    x, _ = parts["train"]
    plan = train.plan(len(x), x.shape[1:], len(cases.classes))
    print(dataset)
    for name, reason in plan.reasons.items():
        print(f"{name:12}{reason}")
    make = getattr(models, chosen.model or plan.model)
    print(f"{'seed':>6} {'AUC':>8} {'accuracy':>9} {'seconds':>8} {'epochs':>7}  network")
    rows = []
    for seed in chosen.seeds:
        network = make(x.shape[1:], len(cases.classes), seed=seed, **({"width": chosen.width} if chosen.width else {}))
        policy = None
        if plan.augment and not chosen.no_augment:
            policy = augment.policy(cases.info.get("modality"), rank=x.ndim - 2, seed=seed)
        fitted = train.fit(
            network, parts["train"], parts["validation"], epochs=chosen.epochs or plan.epochs,
            batch_size=chosen.batch_size or plan.batch_size, learning_rate=chosen.learning_rate or "auto",
            augment=policy, seed=seed, progress=False,
        )  # fmt: skip
        row = {"dataset": dataset, "seed": seed, "seconds": fitted.seconds, "epochs": len(fitted.history)}
        row |= judge(fitted.model, *parts["test"]) | {"network": network.name, "weights": network.count_params()}
        rows.append(row)
        print(
            f"{seed:6d} {row['auc']:8.4f} {row['accuracy']:9.4f} {row['seconds']:8.1f} {row['epochs']:7d}"
            f"  {row['network']}, {row['weights']:,} weights", flush=True,
        )  # fmt: skip
        if chosen.json:
            with chosen.json.open("a") as stream:
                stream.write(json.dumps(row) + "\n")
    means = [sum(row[name] for row in rows) / len(rows) for name in ("auc", "accuracy", "seconds")]
    print(f"{'mean':>6} {means[0]:8.4f} {means[1]:9.4f} {means[2]:8.1f}")
    with contextlib.suppress(KeyError):
        print("published ResNet-18: AUC {:.3f}, accuracy {:.3f}".format(*PUBLISHED[dataset]))


def judge(model, x, y) -> dict[str, float]:
    """AUC and accuracy at a threshold of one half."""
    from medlab import evaluate

    p = evaluate.predict(model, x)
    right = ((p > 0.5) == y) if p.ndim == 1 else (p.argmax(1) == y)
    return {"auc": float(evaluate.auc(y, p)), "accuracy": float(right.mean())}


if __name__ == "__main__":
    main()
