"""Wrong labels: how many planted ones are found, and what that is worth; which cases to label first.

    MEDLAB_DATA=<folder> python benchmarks/labels.py pneumoniamnist phantom:cardiomegaly --limit 2400

Of the training labels a share is made wrong. Probabilities out of fold point at suspects (label.suspects), and, for
comparison, so does every case whose label has a probability below one half. A network is trained on the wrong labels,
without the suspects, with the suspects read again (they get their true label), and on the true labels.

    MEDLAB_DATA=<folder> python benchmarks/labels.py pneumoniamnist --asking --limit 1200

Strategies of asking for labels (label.simulate) beside random ones.
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


def main() -> None:
    """One table a data set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="+", help="such as pneumoniamnist, breastmnist or phantom:cardiomegaly")
    parser.add_argument("--asking", action="store_true", help="strategies of asking instead of wrong labels")
    parser.add_argument("--share", type=float, default=0.1, help="of labels made wrong")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--width", type=int, default=8, help="channels of small_cnn's first stage")
    parser.add_argument("--size", type=int, default=32, help="pixels of a phantom")
    parser.add_argument("--limit", type=int, default=2400, help="at most so many training cases")
    parser.add_argument("--start", type=int, default=20, help="labels at the beginning of --asking")
    parser.add_argument("--step", type=int, default=20, help="labels a round of --asking")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--finding", action="store_true", help="find wrong labels only; train nothing on them")
    parser.add_argument("--json", type=Path, help="keep each seed's numbers here, one JSON a line, and go on from them")
    chosen = parser.parse_args()
    print("command:", " ".join(["python", *sys.argv]))
    for name in chosen.datasets:
        began = time.perf_counter()
        parts = arrays(name, chosen)
        print(f"{name}: " + ", ".join(f"{split} {part[0].shape}" for split, part in parts.items()), flush=True)
        (asking if chosen.asking else wrong_labels)(name, parts, chosen)
        print(f"{time.perf_counter() - began:.0f} s in all\n", flush=True)


def arrays(name: str, chosen: argparse.Namespace) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Training and test cases."""
    from medlab import batches, clean, load

    phantom = {"rank": 2, "n": round(chosen.limit / 0.6), "size": chosen.size} if name.startswith("phantom:") else {}
    cases = load.dataset(name, **phantom)
    if "split" not in cases.table:
        cases = cases.with_table(clean.split(cases.table, fractions=(0.6, 0.05, 0.35), seed=0))
    parts = {split: batches.arrays(cases, split) for split in ("train", "test")}
    x, y = parts["train"]
    keep = np.random.default_rng(0).permutation(len(x))[: chosen.limit]
    return {"train": (x[keep], y[keep]), "test": parts["test"]}


def wrong_labels(name: str, parts: dict, chosen: argparse.Namespace) -> None:
    """Precision and recall of finding them, and the test AUC with and without."""
    settings = {"dataset": name, "cases": len(parts["train"][0])}
    settings |= {key: getattr(chosen, key) for key in ("share", "folds", "epochs", "width", "finding")}
    rows = [once(parts, seed, chosen, settings) for seed in chosen.seeds]
    table = pd.DataFrame(rows).drop(columns=["seed", *settings])
    for name in () if chosen.finding else ("wrong", "dropped", "reread"):
        table[f"{name}_less_true"] = table[f"auc_{name}"] - table["auc_true"]
    if not chosen.finding:
        table["reread_less_wrong"] = table["auc_reread"] - table["auc_wrong"]
    for name, values in table.items():
        print("  {:18}{:9.4f}   95 % over seeds {:.4f} to {:.4f}".format(name, *interval(values)))


def once(parts: dict, seed: int, chosen: argparse.Namespace, settings: dict) -> dict:
    """One seed's numbers, kept or new."""
    import functools

    from medlab import evaluate, label, models, train

    kept = chosen.json.read_text().splitlines() if chosen.json and chosen.json.exists() else []
    for row in map(json.loads, kept):
        if row["seed"] == seed and {key: row.get(key) for key in settings} == settings:
            return row
    (x, y), (x_test, y_test) = parts["train"], parts["test"]
    planted = label.plant_errors(y, chosen.share, seed=seed)
    make = functools.partial(models.small_cnn, x.shape[1:], int(y.max()) + 1, width=chosen.width)
    crossed = train.cross_validate(
        lambda seed: make(seed=seed), x, planted.y, folds=chosen.folds, inner=0, seed=seed, epochs=chosen.epochs,
        progress=False,
    )  # fmt: skip
    found = label.suspects(planted.y, crossed.probabilities)
    half = label.detection(found.doubt > 0, planted.wrong).table["value"]
    row = settings | {"seed": seed, "suspects": len(found.indices), "wrong": int(planted.wrong.sum())}
    row |= {"said": found.share, **label.detection(found, planted.wrong).table["value"].to_dict()}
    row |= {"half_precision": half["precision"], "half_recall": half["recall"]}
    row["ranking_auc"] = evaluate.auc(planted.wrong.astype(int), (found.doubt + 1) / 2)
    trusted = np.setdiff1d(np.arange(len(y)), found.indices)
    reread = planted.y.copy()
    reread[found.indices] = y[found.indices]
    versions = {} if chosen.finding else {"wrong": planted.y, "dropped": planted.y, "reread": reread, "true": y}
    for name, labels in versions.items():
        part = trusted if name == "dropped" else slice(None)
        data = x[part], labels[part]
        model = train.fit(make(seed=seed), data, epochs=chosen.epochs, seed=seed, progress=False).model
        row[f"auc_{name}"] = evaluate.auc(y_test, evaluate.predict(model, x_test))
    print("  " + ", ".join(f"{key} {value:.4g}" for key, value in row.items() if key not in settings), flush=True)
    if chosen.json:
        with chosen.json.open("a") as file:
            file.write(json.dumps(row) + "\n")
    return row


def asking(name: str, parts: dict, chosen: argparse.Namespace) -> None:
    """The test AUC of strategies against the number of labels."""
    import functools

    from medlab import label, models

    x, y = parts["train"]
    make = functools.partial(models.small_cnn, x.shape[1:], int(y.max()) + 1, width=chosen.width, dropout=0.5)
    made = label.simulate(
        lambda seed: make(seed=seed), parts["train"], parts["test"], start=chosen.start, step=chosen.step,
        rounds=chosen.rounds, seeds=chosen.seeds, epochs=chosen.epochs, progress=False,
        methods=("random", "entropy", "bald", "core_set"),
    )  # fmt: skip
    print(made.summary.to_string(index=False, float_format="{:.4f}".format))
    print("less random, mean over all rounds:")
    print(made.gain.to_string(index=False, float_format="{:.4f}".format))


def interval(values: pd.Series) -> tuple[float, float, float]:
    """The mean and its 95 % t interval over seeds."""
    from scipy.stats import t

    n = len(values)
    half = t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
    return values.mean(), values.mean() - half, values.mean() + half


if __name__ == "__main__":
    main()
