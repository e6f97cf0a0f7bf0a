"""Noise taken away by a network and by classic filters, on real images: PSNR and SSIM with intervals.

    MEDLAB_DATA=<folder> python benchmarks/denoising.py chest_xray_224 --size 64
    MEDLAB_DATA=<folder> python benchmarks/denoising.py breastmnist --artifact speckle
    python benchmarks/denoising.py --repeats run.nii.gz

With a data set, noise of the kind that such images have is put on real ones, whose own state is the truth. With
``--repeats``, a 4-D image of one patient who lies still, the noise is the scanner's own: one repeat is the noisy image,
the mean of all others the truth (with noise of its own, the same for all methods). There the network never sees a mean:
it learns to draw one repeat from another (Noise2Noise, Lehtinen et al., ICML 2018), and each slice is restored by a
network that was trained on the others, its filters tuned on them too.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd

import medlab as ml


def main() -> None:
    """One table, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", nargs="?", help="such as chest_xray_224 or breastmnist")
    parser.add_argument("--repeats", type=Path, help="a 4-D NIfTI file instead: the last axis repeats the image")
    parser.add_argument("--artifact", help="a noise of augment.artifacts; by default the modality's own")
    parser.add_argument("--severity", type=float, default=4.0, help="0 to 5")
    parser.add_argument("--size", type=int, help="pixels a side; by default the data set's own")
    parser.add_argument("--limit", type=int, default=1000, help="at most so many training images")
    parser.add_argument("--test", type=int, default=100, help="test images; filters take long")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--width", type=int, default=16, help="channels of the network's first level")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    if (chosen.dataset is None) == (chosen.repeats is None):
        parser.error("name a data set or give --repeats, one of the two")
    began = time.perf_counter()
    table, said = repeats(chosen) if chosen.repeats else dataset(chosen)
    print(f"{said}; {time.perf_counter() - began:.0f} s in all\n")
    print("| method | PSNR in dB | SSIM | U-Net more, dB | U-Net more, SSIM |\n|" + "---|" * 5)
    for name, row in table.iterrows():
        cells = [f"{row[one]:.{n}f} ({row[f'{one}_low']:.{n}f} to {row[f'{one}_high']:.{n}f})"
                 for one, n in (("psnr", 1), ("ssim", 3))]  # fmt: skip
        cells += ["" if name == "U-Net" else
                  f"{row[f'{one}_gain']:+.{n}f} ({row[f'{one}_gain_low']:+.{n}f} to {row[f'{one}_gain_high']:+.{n}f})"
                  for one, n in (("psnr", 1), ("ssim", 3))]  # fmt: skip
        print("| " + " | ".join([name, *cells]) + " |")


def dataset(chosen: argparse.Namespace) -> tuple[pd.DataFrame, str]:
    """Noise put on real images."""
    splits = ("train", "validation", "test")
    with tempfile.TemporaryDirectory() as folder:
        study = ml.study.open(folder, chosen.dataset, size=chosen.size, seed=chosen.seed)
        x = {split: study.arrays(split)[0] for split in splits}
        patients, modality = study.patients("test"), study.modality
    most = {"train": chosen.limit, "validation": 100, "test": chosen.test}
    order = {split: np.random.default_rng(chosen.seed).permutation(len(x[split]))[: most[split]] for split in splits}
    x = {split: x[split][order[split]] for split in splits}
    low, high = np.quantile(x["train"], [0.001, 0.999])
    x = {split: np.clip((part - low) / (high - low), 0, 1) for split, part in x.items()}
    spoil = ml.augment.artifacts.standard(modality, x["train"].ndim - 2)["noise"]
    if chosen.artifact:
        spoil = getattr(ml.augment.artifacts, chosen.artifact)
    draw = np.random.default_rng(chosen.seed)
    noisy = {split: np.stack([spoil(one, severity=chosen.severity, rng=draw) for one in x[split]]) for split in splits}
    model = network(x["train"].shape[1:], chosen)
    ml.train.fit(model, (noisy["train"], x["train"]), (noisy["validation"], x["validation"]), **settings(chosen))
    made = {"noisy": noisy["test"], "U-Net": model.predict(noisy["test"], verbose=0)}
    made |= ml.evaluate.denoise_classically(noisy["test"], (noisy["validation"], x["validation"]), span=1.0)
    table = ml.evaluate.restoration(
        x["test"], made, span=1.0, against="U-Net", groups=np.asarray(patients)[order["test"]],
        seed=chosen.seed,
    )  # fmt: skip
    said = (
        f"{chosen.dataset}, {x['train'].shape[1:3]} pixels, {len(x['train'])} training and {len(x['test'])} test images"
    )
    return table, f"{said}, {chosen.artifact or 'noise'} of severity {chosen.severity:g}"


def repeats(chosen: argparse.Namespace) -> tuple[pd.DataFrame, str]:
    """The scanner's own noise."""
    volume = ml.read(chosen.repeats)
    run = volume.array.astype(np.float32)
    if run.ndim != 4 or run.shape[3] < 10 or run.shape[2] < 3:
        raise SystemExit(f"Expected a 4-D image of 3 slices and 10 repeats or more. Received shape {run.shape}.")
    low, high = np.quantile(run, [0.001, 0.999])
    run = np.clip((run - low) / (high - low), 0, 1).transpose(2, 3, 0, 1)[..., None]  # slice, repeat, i, j, 1
    slices, count = run.shape[:2]
    others = (run.sum(axis=1, keepdims=True) - run) / (count - 1)
    made: dict[str, list] = {"noisy": [], "U-Net": [], "non-local means": [], "total variation": []}
    draw = np.random.default_rng(chosen.seed)
    for left in range(slices):
        rest = np.delete(np.arange(slices), left)
        given = run[rest]
        target = np.stack([one[draw.permutation(count)] for one in given])  # another repeat, or rarely the same one
        flat = given.reshape(-1, *run.shape[2:])
        model = network(run.shape[2:], chosen)
        ml.train.fit(model, (flat, target.reshape(flat.shape)), **settings(chosen))
        made["noisy"].append(run[left])
        made["U-Net"].append(model.predict(run[left], verbose=0))
        tuning = given[:, :4].reshape(-1, *run.shape[2:]), others[rest, :4].reshape(-1, *run.shape[2:])
        for name, one in ml.evaluate.denoise_classically(run[left], tuning, span=1.0, most=len(tuning[0])).items():
            made[name].append(one)
    joined = {name: np.concatenate(parts) for name, parts in made.items()}
    truth = others.reshape(joined["noisy"].shape)
    table = ml.evaluate.restoration(
        truth, joined, span=1.0, against="U-Net", groups=np.repeat(np.arange(slices), count), seed=chosen.seed
    )  # fmt: skip
    return table, f"{slices} slices of one patient, {count} repeats; intervals over slices, not over patients"


def network(shape: tuple[int, ...], chosen: argparse.Namespace):
    """A U-Net that is trained on pairs."""
    return ml.models.denoising_autoencoder(shape, noise=0, width=chosen.width, levels=2, seed=chosen.seed)


def settings(chosen: argparse.Namespace) -> dict:
    """The same for all."""
    made = {"loss": "mean_squared_error", "epochs": chosen.epochs, "batch_size": 16, "learning_rate": 0.003}
    return made | {"precision": "float32", "seed": chosen.seed, "progress": False}


if __name__ == "__main__":
    main()
