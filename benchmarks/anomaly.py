"""How well tumors are found by networks that saw healthy brains alone, beside baselines; prints a table.

    python benchmarks/anomaly.py [--cases 1200] [--size 64] [--epochs 30] [--sequence flair] [--json out.json]

``phantom:brain-tumor``, whose table says which cases are healthy and whose masks hold the exact tumor. Training uses
healthy cases alone; the threshold of the Dice is chosen on validation cases; all figures are
those of the test cases, with 95 % intervals over patients, and paired differences from the denoising autoencoder.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import medlab as ml
from medlab import batches, clean

METRICS = {"auc": "AUC of images", "average_precision": "AP of pixels", "dice": "Dice of pixels"}


def main() -> None:
    """Trains the networks, judges all maps, prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1200, help="half of them healthy; 70 % train, 10 % validate")
    parser.add_argument("--size", type=int, default=64, help="pixels a side")
    parser.add_argument("--sequence", default="flair", help="flair, t1, t1c or t2")
    parser.add_argument("--severity", type=float, default=1.0, help="0.25 (easy) to 4 (hard)")
    parser.add_argument("--epochs", type=int, default=30, help="of the denoising autoencoder")
    parser.add_argument("--side", default="both", choices=["both", "bright", "dark"], help="what counts as abnormal")
    parser.add_argument("--smooth", type=float, default=1.0, help="pixels, the same for all maps")
    parser.add_argument("--plain", type=int, default=0, help="epochs of a plain autoencoder; 0 leaves it out")
    parser.add_argument("--seed", type=int, default=0, help="of cases, splits, weights and noise")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    chosen = parser.parse_args()
    found, seconds = judge(chosen)
    first, *others = found
    rows = []
    for name, one in found.items():
        row = {"map": name, "seconds": round(seconds.get(name, 0.0), 1)}
        for metric, label in METRICS.items():
            entry = one.table.loc[metric]
            row[label] = f"{entry['value']:.3f} ({entry['low']:.3f} to {entry['high']:.3f})"
            if name in others:
                gain = ml.evaluate.compare_anomalies(found[first], one, metric, seed=chosen.seed)
                row[label] += f"; {gain.difference:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
        rows.append(row)
    names = list(rows[0])
    print("| " + " | ".join(names) + " |\n|" + "---|" * len(names))
    for row in rows:
        print("| " + " | ".join(str(row[name]) for name in names) + " |")
    one = found[first]
    print(
        f"\n{one.n} test images, {int(one.y.sum())} with a tumor; after the semicolon: {first} minus the other, "
        "paired. "
        f"Chance of the AP is {one.table.loc['average_precision', 'chance']:.4f}, the share of tumor pixels."
    )
    if chosen.json:
        kept = {name: one.to_dict() | {"seconds": seconds.get(name)} for name, one in found.items()}
        chosen.json.write_text(json.dumps({"settings": {**vars(chosen), "json": None}, "maps": kept}, indent=1) + "\n")


def judge(chosen: argparse.Namespace) -> tuple[dict[str, ml.evaluate.Anomalies], dict[str, float]]:
    """Every kind of map, judged on the same test cases, and the seconds that its training took."""
    options = {"n": chosen.cases, "size": chosen.size, "sequence": chosen.sequence, "severity": chosen.severity}
    cases = ml.dataset("phantom:brain-tumor", seed=chosen.seed, **options)
    cases = cases.with_table(clean.split(cases.table, fractions=(0.7, 0.1, 0.2), stratify="label", seed=chosen.seed))
    (x, y), (known, _), (asked, _) = (batches.arrays(cases, one) for one in ("train", "validation", "test"))
    truth = np.concatenate([batches.masks(cases, one) > 0 for one in ("validation", "test")])
    normal = ml.evaluate.healthy_only(x, y)
    both, cut = np.concatenate([known, asked]), len(known)
    look = {"side": chosen.side, "smooth": chosen.smooth, "inside": ml.evaluate.body_masks(both)}
    settings = {
        "batch_size": 16,
        "learning_rate": 0.003,
        "precision": "float32",
        "progress": False,
        "seed": chosen.seed,
    }
    low, span, shape = float(x.min()), float(x.max() - x.min()), x.shape[1:]
    noise = {"noise": float(normal.std()), "background": low + 0.01 * span}
    networks = {"denoising autoencoder": (ml.models.denoising_autoencoder(shape, width=8, **noise), chosen.epochs)}
    if chosen.plain:
        networks["autoencoder, 32 numbers"] = (ml.models.autoencoder(shape, latent=32, width=8), chosen.plain)
    maps, seconds = {}, {}
    for name, (model, epochs) in networks.items():
        began = time.perf_counter()
        # No validation: it has no noise, so that a denoiser that does nothing would look best.
        ml.train.fit(model, (normal, normal), loss="mean_absolute_error", epochs=epochs, **settings)
        seconds[name] = time.perf_counter() - began
        maps[name] = ml.evaluate.anomaly_maps(both, model.predict(both, verbose=0), **look)
    linear = ml.evaluate.pca_reconstruction(normal, both, components=64, seed=chosen.seed)
    maps["PCA, 64 components"] = ml.evaluate.anomaly_maps(both, linear, **look)
    mean = np.broadcast_to(normal.mean(axis=0), both.shape)
    maps["mean healthy image"] = ml.evaluate.anomaly_maps(both, mean, **look)
    maps["intensity"] = ml.evaluate.intensity_maps(
        both, **(look | {"side": "dark" if chosen.side == "dark" else "bright"})
    )
    judged = {
        name: ml.evaluate.anomalies(one[cut:], truth[cut:], (one[:cut], truth[:cut]), seed=chosen.seed)
        for name, one in maps.items()
    }
    return judged, seconds


if __name__ == "__main__":
    main()
