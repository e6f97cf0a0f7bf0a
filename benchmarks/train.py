"""How fast medlab trains, beside plain PyTorch; how long it waits for data; what a good model costs.

    MEDLAB_DATA=<folder> python benchmarks/train.py --torch-python <python with torch> [--json out.json]
    KERAS_BACKEND=jax python benchmarks/train.py --gpu --torch-python <python with torch>

Three parts on a CPU. ``speed``: images a second of ResNet-18 at 28 pixels, batch 128, by ``train.fit`` as it decides
itself, and by a float32 PyTorch loop; each in processes of their own, in turns. ``waiting``: the share of the time of
an epoch in which a step had begun and its batch was not there. ``cost``: CPU seconds until PneumoniaMNIST's test AUC
is that of the published ResNet-18, 0.944, beside those of the published recipe, 100 epochs of 4,708 images at batch 128
(Yang et al. 2023, MedMNIST v2), taken from the CPU seconds of the steps measured here. With ``--gpu`` the speed alone,
for growing batches and images, against PyTorch in bfloat16, with the memory.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

PUBLISHED_AUC, PUBLISHED_STEPS = 0.944, 100 * -(-4708 // 128)
PEER = Path(__file__).with_name("train_torch.py")


def main() -> None:
    """The parts that are asked for; a summary in words, and all numbers as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch-python", type=Path, help="a Python with PyTorch; without it the peer is left out")
    parser.add_argument("--parts", nargs="+", default=["speed", "waiting", "cost"], help="speed, waiting, cost")
    parser.add_argument("--rounds", type=int, default=2, help="how often each side of speed is timed")
    parser.add_argument("--steps", type=int, default=8, help="timed steps a round")
    parser.add_argument("--gpu", action="store_true", help="speed and memory on a GPU, over batches and image sizes")
    parser.add_argument("--precision", default="auto", help="of medlab's side of speed")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)  # one timed run, in a process of its own
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(timed(**chosen.one)))
        return
    found: dict = {}
    if chosen.gpu:
        found["gpu"] = on_gpu(chosen)
    else:
        for part in chosen.parts:
            found[part] = {"speed": speed, "waiting": waiting, "cost": cost}[part](chosen, found)
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")


def speed(chosen: argparse.Namespace, found: dict) -> dict:
    """Images a second, both sides in turns; the fastest step of each, since other work on the machine only slows."""
    ours, peers = [], []
    for _ in range(chosen.rounds):
        ours.append(child({"size": 28, "batch": 128, "steps": chosen.steps, "precision": chosen.precision}))
        if chosen.torch_python:
            peers.append(peer(chosen, size=28, batch=128))
    best = max(row["best_images_per_second"] for row in ours)
    row = {"medlab": ours, "torch": peers, "medlab_images_per_second": best}
    print(f"ResNet-18 at 28, batch 128: medlab {best:.0f} images/s ({ours[0]['who']}, {ours[0]['precision']})")
    if peers:
        row["torch_images_per_second"] = max(one["best_images_per_second"] for one in peers)
        row["ratio"] = best / row["torch_images_per_second"]
        means = [median(one["images_per_second"] for one in side) for side in (ours, peers)]
        print(
            f"  {peers[0]['who']} float32 {row['torch_images_per_second']:.0f} images/s: ratio {row['ratio']:.2f} "
            f"of the fastest steps, {means[0] / means[1]:.2f} of the means (goal 1.2)", flush=True,
        )  # fmt: skip
        spent = [min(one["cpu_seconds_a_step"] for one in side) for side in (ours, peers)]
        row["cpu_ratio"] = spent[1] / spent[0]
        print(f"  CPU seconds a step {spent[0]:.2f} and {spent[1]:.2f}: ratio {row['cpu_ratio']:.2f}")
    return row


def waiting(chosen: argparse.Namespace, found: dict) -> dict:
    """Share of the time spent waiting, from arrays and from Batches, augmented, for a fast and a slow network."""
    from medlab import augment, batches, load, models, train

    cases = load.dataset("pneumoniamnist")
    x, y = batches.arrays(cases, "train")
    policy = augment.policy(cases.info.get("modality"), rank=2, seed=0)
    rows = {}
    for name, network in (("small_cnn", models.small_cnn), ("resnet18", models.resnet)):
        cut = slice(None) if name == "small_cnn" else slice(512)
        part = cases.subset("train")
        part = part.with_table(part.table.iloc[cut])
        sources = {
            "arrays": ((x[cut], y[cut]), policy),
            "Batches": (batches.Batches(part, augment=policy, batch_size=128), None),
        }
        for source, (data, given) in sources.items():
            clock = Clock()
            with clock:
                train.fit(
                    network(x.shape[1:], 2), data, epochs=3, batch_size=128, augment=given, progress=False
                )  # fmt: skip
            rows[f"{name}, {source}"] = clock.share()
            print(f"waiting for data: {name} from {source} {100 * clock.share():.1f} % (goal at most 5 %)", flush=True)
    return rows


class Clock:
    """Notes, while it is entered, when each batch was ready and when its step began."""

    def __init__(self) -> None:
        self.ready: dict = {}
        self.began: dict = {}
        self.ended: dict = {}

    def __enter__(self) -> None:
        from medlab.train import feed
        from medlab.train.keeper import Keeper

        self.before = [(kind, "__getitem__", kind.__getitem__) for kind in (feed.Feed, feed.Wrapped)]
        self.before += [
            (Keeper, name, getattr(Keeper, name)) for name in ("on_train_batch_begin", "on_train_batch_end")
        ]
        epochs: dict = defaultdict(int)

        def watched(get):
            def get_and_note(data, index):
                batch = get(data, index)
                self.ready[self.epoch, index] = time.perf_counter()
                return batch

            return get_and_note

        def began(keeper, batch, logs=None):
            if batch == 0:
                self.epoch_of_step = epochs["done"]
                epochs["done"] += 1
            self.began[self.epoch_of_step, batch] = time.perf_counter()

        def ended(keeper, batch, logs=None):
            self.ended[self.epoch_of_step, batch] = time.perf_counter()
            return self.before[3][2](keeper, batch, logs)

        starts = [(kind, "start_epoch", kind.start_epoch) for kind in (feed.Feed, feed.Wrapped)]
        self.before += starts
        self.epoch = 0

        def told(start):
            def start_and_note(data, epoch):
                self.epoch = epoch
                return start(data, epoch)

            return start_and_note

        for kind, name, old in self.before[:2]:
            setattr(kind, name, watched(old))
        for kind, name, old in starts:
            setattr(kind, name, told(old))
        Keeper.on_train_batch_begin, Keeper.on_train_batch_end = began, ended

    def __exit__(self, *exception) -> None:
        for kind, name, old in self.before:
            setattr(kind, name, old)

    def share(self) -> float:
        """Time from the beginning of each step to its batch's arrival, as a part of the time of all steps.

        The first epoch, in which the network is compiled, is left out.
        """
        steps = [step for step in self.began if step[0] > 0]
        waited = sum(max(0.0, min(self.ready[step], self.ended[step]) - self.began[step]) for step in steps)
        total = 0.0
        for epoch in {step[0] for step in steps}:
            own = [step for step in steps if step[0] == epoch]
            total += max(self.ended[step] for step in own) - min(self.began[step] for step in own)
        return waited / total


def cost(chosen: argparse.Namespace, found: dict) -> dict:
    """CPU seconds of this process, from the start of training, until the kept model has the published test AUC."""
    from medlab import augment, batches, evaluate, load, models, train
    from medlab.train.keeper import Keeper

    cases = load.dataset("pneumoniamnist")
    parts = {split: batches.arrays(cases, split) for split in ("train", "validation", "test")}
    x, _ = parts["train"]
    plan = train.plan(len(x), x.shape[1:], len(cases.classes))
    network, judged = (getattr(models, plan.model)(x.shape[1:], 2, **plan.settings) for _ in range(2))
    policy = augment.policy(cases.info.get("modality"), rank=2, seed=0, **plan.policy) if plan.augment else None
    curve: list[dict] = []
    looked, began, original = [0.0], time.process_time(), Keeper.on_epoch_end

    def judge(keeper, epoch, logs=None):
        original(keeper, epoch, logs)
        spent, now = time.process_time() - began - looked[0], time.process_time()
        if keeper.state.best_epoch == keeper.state.epoch:
            judged.set_weights(keeper.state.best_weights)
            area = float(evaluate.auc(parts["test"][1], evaluate.predict(judged, parts["test"][0])))
            curve.append({"epoch": epoch + 1, "cpu_seconds": spent, "test_auc": area})
            print(f"  epoch {epoch + 1}: {spent:.0f} CPU seconds, test AUC {area:.4f}", flush=True)
            keeper.trainee.stop_training = keeper.trainee.stop_training or area >= PUBLISHED_AUC
        looked[0] += time.process_time() - now

    Keeper.on_epoch_end = judge
    try:
        train.fit(
            network, parts["train"], parts["validation"], epochs=plan.epochs, batch_size=plan.batch_size,
            augment=policy, progress=False, **plan.fit,
        )  # fmt: skip
    finally:
        Keeper.on_epoch_end = original
    reached = next((row for row in curve if row["test_auc"] >= PUBLISHED_AUC), None)
    row = {"plan": plan.model, "curve": curve, "reached": reached}
    if not reached:
        print(f"cost: the test AUC {PUBLISHED_AUC} was not reached in {plan.epochs} epochs")
        return row
    print(f"cost: {plan.model} had test AUC {reached['test_auc']:.3f} after {reached['cpu_seconds']:.0f} CPU seconds")
    if chosen.torch_python:
        timings = found.get("speed", {}).get("torch") or [peer(chosen, size=28, batch=128)]
        step = min(one["cpu_seconds_a_step"] for one in timings)
        row |= {"published_cpu_seconds": step * PUBLISHED_STEPS, "cpu_seconds_a_step": step}
        row["ratio"] = row["published_cpu_seconds"] / reached["cpu_seconds"]
        print(
            f"  the published recipe: {PUBLISHED_STEPS} steps of {step:.2f} CPU seconds (measured over {chosen.steps} "
            f"steps, extrapolated) are {row['published_cpu_seconds']:.0f}: ratio {row['ratio']:.0f} (goal 10)",
            flush=True,
        )  # fmt: skip
    return row


def on_gpu(chosen: argparse.Namespace) -> list[dict]:
    """Speed and memory over batches and image sizes, one process a run."""
    rows = []
    for size, batch in ((28, 128), (28, 512), (28, 2048), (64, 512), (128, 128), (224, 64), (224, 256)):
        row = {"size": size, "batch": batch}
        row["medlab"] = child({"size": size, "batch": batch, "steps": 20, "precision": "auto", "gpu": True})
        ours = row["medlab"]["images_per_second"]
        text = f"{size:4d} pixels, batch {batch:5d}: medlab {ours:8.0f} images/s, {row['medlab']['memory_mb']:.0f} MB"
        if chosen.torch_python:
            row["torch"] = peer(chosen, size=size, batch=batch, steps=20, gpu=True)
            theirs = row["torch"]["images_per_second"]
            row["ratio"] = ours / theirs
            text += f"; PyTorch {theirs:8.0f}, {row['torch']['memory_mb']:.0f} MB; ratio {row['ratio']:.2f}"
        print(text, flush=True)
        rows.append(row)
    return rows


def child(one: dict) -> dict:
    """One timed run of medlab in a process of its own."""
    return last_line([sys.executable, __file__, "--one", json.dumps(one)])


def peer(chosen: argparse.Namespace, *, size: int, batch: int, steps: int | None = None, gpu: bool = False) -> dict:
    """One timed run of PyTorch in a process of its own."""
    command = [str(chosen.torch_python), str(PEER), "--size", str(size), "--batch", str(batch)]
    return last_line([*command, "--steps", str(steps or chosen.steps), *(["--gpu"] if gpu else [])])


def last_line(command: list[str]) -> dict:
    """The JSON that a process prints last."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def timed(*, size: int, batch: int, steps: int, precision: str, gpu: bool = False) -> dict:
    """Images a second of ``train.fit`` on ResNet-18, from epochs after the first."""
    import numpy as np

    from medlab import models, train
    from medlab.backend import keras
    from medlab.train.keeper import Keeper

    if gpu and not train.devices.choose(keras.Sequential([keras.Input((1,))]), precision="float32").kind == "gpu":
        raise SystemExit(f"--gpu, but {keras.backend.backend()} finds no GPU here.")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4 * batch, size, size, 1)).astype(np.float32)
    y = rng.integers(0, 2, len(x))
    y[:2] = 0, 1
    epochs = 1 + -(-steps // 4)
    network = models.resnet((size, size, 1), 2)
    spent, original = [], Keeper.on_epoch_end

    def note(keeper, epoch, logs=None):
        original(keeper, epoch, logs)
        spent.append(time.process_time())

    Keeper.on_epoch_end = note
    fitted = train.fit(
        network, (x, y), epochs=epochs, batch_size=batch, optimizer="adam", ema=None, precision=precision,
        progress=False,
    )  # fmt: skip
    seconds = fitted.history["seconds"].to_numpy()[1:]
    memory = None
    if gpu and keras.backend.backend() == "jax":
        import jax

        memory = jax.local_devices()[0].memory_stats()["peak_bytes_in_use"] / 2**20
    return {
        "who": f"{keras.backend.backend()}, Keras {keras.__version__}",
        "device": fitted.device,
        "precision": fitted.choices["precision"],
        "weights": network.count_params(),
        "images_per_second": float(len(x) * len(seconds) / seconds.sum()),
        "best_images_per_second": float(len(x) / seconds.min()),
        "cpu_seconds_a_step": (spent[-1] - spent[0]) / (4 * (epochs - 1)),
        "memory_mb": memory,
    }


if __name__ == "__main__":
    main()
