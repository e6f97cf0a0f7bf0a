"""A table of networks on 1,200 chest radiographs: the classic baseline, a residual network, a backbone.

    MEDLAB_DATA=<folder> python benchmarks/chest.py

``<folder>/chest_xray_224`` holds train/NORMAL, train/PNEUMONIA, test/NORMAL and test/PNEUMONIA. An eighth of the
training part is held out by patient: on it the best epoch is chosen. The test part is looked at once a network.
All get 112 of the 224 pixels: at 224 baseline_cnn has 807 million weights and takes 16 to 20 GB while it trains.
"""

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

ROWS = ("baseline_cnn:112:5", "small_cnn:112:16", "resnet:112:12", "DenseNet121:112:6")


def main() -> None:
    """One line a network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rows", nargs="+", default=ROWS,
        help="NETWORK:PIXELS:EPOCHS, a function of medlab.models or a network of keras.applications",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--width", type=int, default=32, help="channels of resnet's first stage")
    parser.add_argument("--json", type=Path, help="also append each line's numbers to this file, one JSON a line")
    chosen = parser.parse_args()
    print("command:", " ".join(["python", *sys.argv]))
    cases = radiographs()
    print(f"{'network':>14} {'pixels':>6} {'seed':>4} {'weights':>12} {'epochs':>6} {'seconds':>7}  AUC (95 %)"
          f"{'':16}accuracy")  # fmt: skip
    for line in chosen.rows:
        name, pixels, epochs = line.split(":")
        for seed in chosen.seeds:
            row = run(cases, name, int(pixels), int(epochs), seed, chosen.width)
            print(
                f"{name:>14} {pixels:>6} {seed:4d} {row['weights']:12,} {epochs:>6} {row['seconds']:7.0f}  "
                f"{row['auc']:.3f} ({row['low']:.3f} to {row['high']:.3f})   {row['accuracy']:.3f}", flush=True,
            )  # fmt: skip
            if chosen.json:
                with chosen.json.open("a") as stream:
                    stream.write(json.dumps(row) + "\n")


def radiographs():
    """The cases with a validation part: an eighth of the training part, by patient."""
    from medlab import clean, load

    cases = load.dataset(Path(os.environ["MEDLAB_DATA"]) / "chest_xray_224")
    # person1000_virus_1681.jpeg, IM-0115-0001.jpeg: the person or the examination that the file is named after.
    person = cases.table["image"].map(lambda path: "-".join(Path(path).stem.split("_")[0].split("-")[:2]))
    table = cases.table.assign(patient=cases.table["split"] + "-" + person)
    inner = table[table["split"] == "train"].drop(columns="split")
    cut = clean.split(inner, fractions=(0.875, 0.125, 0.0), seed=0).set_index("id")["split"]
    return replace(cases, table=table.assign(split=table["id"].map(cut).fillna("test")))


def run(cases, name: str, pixels: int, epochs: int, seed: int, width: int) -> dict:
    """Trains one network and judges it on the test part."""
    from medlab import augment, batches, evaluate, models, train
    from medlab.backend import keras

    keras.backend.clear_session()
    # The JPEGs hold the same gray value three times.
    parts = {}
    for split in ("train", "validation", "test"):
        x, y = batches.arrays(cases, split, recipe="DX", size=pixels)
        parts[split] = x[..., :1], y
    shape, classes = parts["train"][0].shape[1:], len(cases.classes)
    if name in models.__all__:
        settings = {"width": width} if name == "resnet" else {}
        network = getattr(models, name)(shape, classes, seed=seed, **settings)
    else:
        network = models.backbone(name, shape, classes, weights=None, seed=seed)
    fitted = train.fit(
        network, parts["train"], parts["validation"], epochs=epochs, batch_size=32, seed=seed, patience=None,
        augment=augment.policy("DX", rank=2, seed=seed), learning_rate=1e-4 if name == "baseline_cnn" else "auto",
        progress=False,
    )  # fmt: skip
    x, y = parts["test"]
    p = evaluate.predict(network, x)
    auc, low, high = evaluate.bootstrap(evaluate.auc, y, p)
    return {
        "network": network.name, "pixels": pixels, "seed": seed, "epochs": epochs, "best_epoch": fitted.best_epoch,
        "seconds": fitted.seconds, "weights": network.count_params(), "validation": fitted.history["val_auc"].max(),
        "auc": auc, "low": low, "high": high, "accuracy": float(np.mean((p > 0.5) == y)),
    }  # fmt: skip


if __name__ == "__main__":
    main()
