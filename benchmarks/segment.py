"""Dice of a 3-D U-Net on a folder of images and masks, by the plan for its fingerprint, and a peer beside it.

    python benchmarks/segment.py <folder with images and labels> --seeds 0 1 2 --peer-python <python with torch, monai>
    python benchmarks/segment.py --speed --peer-python <python with torch and monai>

Every step is the public one: load.dataset, clean.split, train.plan_segmentation, batches.pairs, models.unet, train.fit,
evaluate.sliding_window, evaluate.segmentation. The test split is looked at once, after training. The peer trains on the
same arrays for the same processor seconds and is judged by the same code; see benchmarks/segment_monai.py.
"""

import argparse
import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

PEER = Path(__file__).with_name("segment_monai.py")


def main() -> None:
    """A line a seed and the mean; or milliseconds of a step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", help="a folder that load.dataset reads, with images and masks")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--counts", type=int, nargs=3, default=[130, 20, 30], help="train, validation, test; split 0")
    parser.add_argument("--classes", type=int, default=3, help="background included")
    parser.add_argument("--width", type=int, default=8, help="channels of the first level")
    parser.add_argument("--epochs", type=int, help="default: the plan's")
    parser.add_argument("--learning-rate", type=float, help="default: the plan's")
    parser.add_argument("--validation-only", action="store_true", help="leave the test split alone, to try settings")
    parser.add_argument("--peer-python", help="interpreter with torch and monai")
    parser.add_argument("--peer-seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--peer-seconds", type=float, help="processor seconds; default: the mean of the seeds above")
    parser.add_argument("--speed", action="store_true", help="time a step and a forward pass instead")
    parser.add_argument("--run", type=Path, help="folder of the trainings: stopped by Ctrl-C, they go on from there")
    parser.add_argument("--json", type=Path, help="also append each seed's numbers to this file, one JSON a line")
    chosen = parser.parse_args()
    if chosen.speed:
        speed(chosen)
    elif chosen.folder:
        compare(chosen)
    else:
        parser.error("name a folder, or --speed")


def compare(chosen: argparse.Namespace) -> None:
    """Trains once a seed, then the peer as long."""
    from medlab import clean, load, train

    cases = load.dataset(chosen.folder)
    whole = sum(chosen.counts)
    cases = cases.with_table(
        clean.split(cases.table, fractions=[one / whole for one in chosen.counts], stratify=None, seed=0)
    )
    trained = cases.subset("train")
    volumes = [cases.volume(case) for case in trained.ids]
    plan = train.plan_segmentation(
        [one.shape[: one.rank] for one in volumes], [one.spacing for one in volumes], chosen.classes, width=chosen.width
    )
    for name, reason in plan.reasons.items():
        print(f"{name:14}{reason}")
    data = {split: pairs(cases, split) for split in ("train", "validation", "test")}
    fixed = {split: crops(data[split], plan.patch_size) for split in ("train", "validation")}
    judged = "validation" if chosen.validation_only else "test"
    print(
        f"{len(fixed['train'][0])} training cases, patches {plan.patch_size}, judged on {len(data[judged])} of {judged}"
    )
    print(f"{'seed':>6} {'Dice':>7} {'classes':>15} {'seconds':>8} {'CPU s':>7} {'epochs':>7}  network", flush=True)
    rows = [medlab_seed(chosen, plan, fixed, data[judged], seed) for seed in chosen.seeds]
    summary(rows)
    if chosen.peer_python:
        seconds = chosen.peer_seconds or np.mean([row["cpu"] for row in rows])
        summary([monai_seed(chosen, plan, fixed, data[judged], seed, seconds) for seed in chosen.peer_seeds])


def pairs(cases, split: str) -> list:
    """Image and mask of each case as standardized Volumes in their own shapes, each by its own mean and deviation."""
    from medlab import batches

    return [(image, mask) for _, image, mask in batches.pairs(cases, split, recipe="zscore")]


def crops(data: list, size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, i, j, k, 1) and masks (n, i, j, k) of one size."""
    from medlab import standardize

    x = np.stack([standardize.crop_or_pad(image, size).array[..., None] for image, _ in data]).astype(np.float32)
    y = np.stack([standardize.crop_or_pad(mask, size).array for _, mask in data]).astype(np.int32)
    return x, y


def medlab_seed(chosen: argparse.Namespace, plan, fixed: dict, judged: list, seed: int) -> dict:
    """Trains one network and judges it."""
    from medlab import augment, evaluate, models, train

    x, _ = fixed["train"]
    network = models.unet(x.shape[1:], chosen.classes, **plan.network(), seed=seed)
    folder = {} if chosen.run is None else {"run": chosen.run / f"seed{seed}", "resume": True}
    with spent(folder.get("run")) as times:
        fitted = train.fit(
            network, fixed["train"], fixed["validation"], epochs=chosen.epochs or plan.epochs,
            batch_size=plan.batch_size, learning_rate=chosen.learning_rate or plan.learning_rate, loss=plan.loss,
            augment=augment.policy(plan.augment, rank=x.ndim - 2, seed=seed), seed=seed, progress=False, **folder,
        )  # fmt: skip
    cpu, seconds = times
    labels = [evaluate.sliding_window(fitted.model, image, output="labels") for image, _ in judged]
    row = {"who": "medlab", "seed": seed, "seconds": seconds, "cpu": cpu, "epochs": len(fitted.history)}
    row["network"] = f"{network.name}, {network.count_params():,} weights"
    row["validation"] = float(fitted.history["val_dice"].max())
    return report(chosen, row | judge(judged, labels, chosen.classes))


@contextlib.contextmanager
def spent(folder: Path | None) -> Iterator[list[float]]:
    """Processor and wall seconds of what is done inside, in the list when it ends; added up over calls in a folder."""
    note = None if folder is None else folder / "spent.json"
    times = [0.0, 0.0] if note is None or not note.is_file() else json.loads(note.read_text())
    start, began = time.process_time(), time.perf_counter()
    try:
        yield times
    finally:
        times[0] += time.process_time() - start
        times[1] += time.perf_counter() - began
        if note is not None and folder.is_dir():
            note.write_text(json.dumps(times))


def monai_seed(chosen: argparse.Namespace, plan, fixed: dict, judged: list, seed: int, seconds: float) -> dict:
    """Trains the peer in its own interpreter and judges its label maps."""
    with contextlib.ExitStack() as stack:
        folder = chosen.run / f"monai{seed}" if chosen.run else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {"x": fixed["train"][0], "y": fixed["train"][1]}
        arrays |= {"xv": fixed["validation"][0], "yv": fixed["validation"][1]}
        arrays |= {f"image{number}": image.array for number, (image, _) in enumerate(judged)}
        np.savez(Path(folder, "data.npz"), **arrays)
        asked = {
            "classes": chosen.classes, "width": plan.width, "strides": plan.strides, "kernels": plan.kernels,
            "batch_size": plan.batch_size, "learning_rate": chosen.learning_rate or plan.learning_rate, "seed": seed,
            "seconds": seconds,
        }  # fmt: skip
        Path(folder, "asked.json").write_text(json.dumps(asked))
        subprocess.run([chosen.peer_python, PEER, "train", folder], check=True)
        row = json.loads(Path(folder, "done.json").read_text())
        with np.load(Path(folder, "labels.npz")) as file:
            labels = [file[f"image{number}"] for number in range(len(judged))]
    return report(chosen, {"who": "MONAI", "seed": seed} | row | judge(judged, labels, chosen.classes))


def judge(judged: list, labels: list, classes: int) -> dict:
    """Dice of each structure and their mean, on the images' own grids."""
    from medlab import evaluate

    result = evaluate.segmentation(
        [mask.array for _, mask in judged], labels, spacing=[image.spacing for image, _ in judged],
        classes={label: str(label) for label in range(1, classes)}, n=200,
    )  # fmt: skip
    each = [float(result.per_class.loc[(str(label), "dice"), "value"]) for label in range(1, classes)]
    return {"dice": result["dice"], "each": each, "hd95": result["hd95"]}


def report(chosen: argparse.Namespace, row: dict) -> dict:
    """Prints a row and gives it back."""
    each = " ".join(f"{one:.4f}" for one in row["each"])
    print(
        f"{row['seed']:6d} {row['dice']:7.4f} {each:>15} {row['seconds']:8.1f} {row['cpu']:7.0f} {row['epochs']:7.0f}"
        f"  {row['who']}: {row['network']}; validation Dice {row['validation']:.4f}, HD95 {row['hd95']:.2f} mm",
        flush=True,
    )  # fmt: skip
    if chosen.json:
        with chosen.json.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
    return row


def summary(rows: list[dict]) -> None:
    """Prints the mean over the seeds."""
    if rows:
        means = [np.mean([row[name] for row in rows]) for name in ("dice", "seconds", "cpu")]
        print(f"{'mean':>6} {means[0]:7.4f} {'':>15} {means[1]:8.1f} {means[2]:7.0f}  {rows[0]['who']}", flush=True)


def speed(chosen: argparse.Namespace) -> None:
    """Milliseconds of a training step and a forward pass, in turns with the peer, the best of each."""
    asked = {"classes": 3, "width": chosen.width, "shape": [40, 56, 40], "levels": 4, "batch_size": 2, "rounds": 5}
    found: dict[str, list[tuple[float, float]]] = {"medlab": [], "MONAI": []}
    for _ in range(3):
        found["medlab"].append(time_medlab(asked))
        if chosen.peer_python:
            done = subprocess.run(
                [chosen.peer_python, PEER, "speed", json.dumps(asked)], check=True, capture_output=True, text=True
            )
            found["MONAI"].append(tuple(json.loads(done.stdout.splitlines()[-1])))
    best = {who: np.min(times, axis=0) * 1000 for who, times in found.items() if times}
    for who, (step, forward) in best.items():
        print(f"{who:8} training step of {asked['batch_size']} {step:7.0f} ms, forward {forward:7.0f} ms")
    if len(best) == 2:
        ratio = best["MONAI"] / best["medlab"]
        print(f"medlab is {ratio[0]:.2f} times as fast in training and {ratio[1]:.2f} times in inference")


def time_medlab(asked: dict) -> tuple[float, float]:
    """Seconds of the fastest training step and forward pass of ``models.unet`` with Dice + cross-entropy and Adam."""
    from medlab import models
    from medlab.backend import keras
    from medlab.train import regions

    keras.utils.clear_session()
    shape = (*asked["shape"], 1)
    model = models.unet(shape, asked["classes"], width=asked["width"], levels=asked["levels"])
    model.compile(keras.optimizers.AdamW(1e-3), regions.dice_ce(), jit_compile=False)
    random = np.random.default_rng(0)
    x = random.normal(size=(asked["batch_size"], *shape)).astype(np.float32)
    y = random.integers(0, asked["classes"], x.shape[:-1])
    step = fastest(lambda: model.train_on_batch(x, y), asked["rounds"])
    return step, fastest(lambda: model.predict_on_batch(x), asked["rounds"])


def fastest(work, rounds: int) -> float:
    """Seconds of the fastest of some calls, after two that do not count."""
    times = []
    for _ in range(rounds + 2):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times[2:])


if __name__ == "__main__":
    main()
