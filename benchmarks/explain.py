"""Seconds and memory of explanations, beside a plain forward pass and beside other packages.

    python benchmarks/explain.py [--repeats 5] [--peers FOLDER] [--peer-python PYTHON]

Grad-CAM of 16 images of 224 x 224 through ResNet50 (and by tf-keras-vis, where FOLDER holds it, such as
.venv-peers/lib/python3.11/site-packages); integrated gradients with 32 steps (and by Captum on the same weights, where
PYTHON has torch and captum); memory of a 3-D Grad-CAM of a 96 x 96 x 96 volume. Sides take turns, so that whatever else
the machine does hits them alike; medians are shown.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

STEPS = 32


def main() -> None:
    """Three tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=("grad_cam", "integrated", "memory"))
    parser.add_argument("--peers", help="folder with tf_keras_vis")
    parser.add_argument("--peer-python", help="interpreter with torch and captum")
    parser.add_argument("--measure", choices=("forward", "grad_cam"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        print(peak(chosen.measure))
        return
    for name, part in (("grad_cam", grad_cam), ("integrated", integrated), ("memory", memory)):
        if chosen.only in (None, name):
            part(chosen)


def turns(sides: dict[str, Callable[[], float | None]], repeats: int) -> dict[str, float]:
    """The median seconds of each side; the first turn of each is not counted. A side may time itself."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, side in sides.items():
            start = time.perf_counter()
            own = side()
            if turn:
                seconds[name].append(time.perf_counter() - start if own is None else own)
            else:
                print(f"  {name}, first call: {time.perf_counter() - start:.2f} s", flush=True)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def table(title: str, seconds: dict[str, float], reference: str) -> None:
    """A line a side."""
    print(title)
    for name, value in seconds.items():
        print(f"  {name:34}{value:8.3f} s{value / seconds[reference]:8.2f} x {reference}", flush=True)


def grad_cam(chosen: argparse.Namespace) -> None:
    """Grad-CAM through ResNet50."""
    import keras

    from medlab import explain
    from medlab.explain.maps import cam

    model = keras.applications.ResNet50(weights=None, classifier_activation=None)
    x = np.random.default_rng(0).normal(size=(16, 224, 224, 3)).astype(np.float32)
    target = np.arange(16)
    maps = {}

    def ours() -> None:
        maps["medlab"] = explain.grad_cam(model, x, target=target)

    sides: dict[str, Callable[[], float | None]] = {
        "forward": lambda: model.predict_on_batch(x) is None or None,
        "medlab": ours,
    }
    if chosen.peers:
        sys.path.append(chosen.peers)
        from tf_keras_vis.gradcam import Gradcam
        from tf_keras_vis.utils.scores import CategoricalScore

        theirs = Gradcam(model)

        asked = CategoricalScore(target.tolist())
        settings = {"penultimate_layer": "conv5_block3_out", "seek_penultimate_conv_layer": False}

        def peer() -> None:
            theirs(asked, x, normalize_cam=False, **settings)

        sides["tf-keras-vis"] = peer
    table("Grad-CAM, 16 x 224 x 224, ResNet50", turns(sides, chosen.repeats), "forward")
    if chosen.peers:  # compared before their map is made larger, which lays the corners of the grids together
        small = theirs(asked, x, normalize_cam=False, expand_cam=False, **settings)
        maps["tf-keras-vis"] = cam.upsample(np.asarray(small), x.shape[1:3])
        print(f"  correlation of the maps: {np.corrcoef(*(one.ravel() for one in maps.values()))[0, 1]:.6f}")


def integrated(chosen: argparse.Namespace) -> None:
    """Integrated gradients through three convolutions."""
    import keras

    from medlab import explain

    layers = keras.layers
    stack = [keras.Input((64, 64, 1))]
    for width in (16, 32, 64):
        stack += [layers.Conv2D(width, 3, padding="same", activation="relu"), layers.MaxPooling2D()]
    model = keras.Sequential([*stack, layers.GlobalAveragePooling2D(), layers.Dense(3)])
    x = np.random.default_rng(0).normal(size=(16, 64, 64, 1)).astype(np.float32)
    target = np.arange(16) % 3
    maps = {}

    def ours() -> None:
        maps["medlab"] = explain.integrated_gradients(model, x, target=target, steps=STEPS, sign="both")

    sides: dict[str, Callable[[], float | None]] = {"medlab": ours}
    with tempfile.TemporaryDirectory() as folder:
        if chosen.peer_python:
            weights = {f"w{number}": np.asarray(one) for number, one in enumerate(model.get_weights())}
            given = Path(folder) / "given.npz"
            np.savez(given, x=x, target=target, steps=STEPS, threads=os.cpu_count() or 1, **weights)
            script = Path(__file__).with_name("explain_peer.py")
            peer = subprocess.Popen(
                [chosen.peer_python, script, given], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            assert peer.stdout.readline().strip() == "ready"

            def ask(size: int) -> Callable[[], float]:
                def asked() -> float:
                    print(size, file=peer.stdin, flush=True)
                    return float(peer.stdout.readline())

                return asked

            sides |= {f"captum, {size} images at a time": ask(size) for size in (64, 512)}
        seconds = turns(sides, chosen.repeats)
        table(f"Integrated gradients, 16 x 64 x 64, {STEPS} steps", seconds, "medlab")
        if chosen.peer_python:
            peer.stdin.close()
            peer.wait()
            maps["captum"] = np.load(Path(folder) / "heat.npy")
            print(f"  correlation of the maps: {np.corrcoef(maps['medlab'].ravel(), maps['captum'].ravel())[0, 1]:.6f}")


def memory(chosen: argparse.Namespace) -> None:
    """Peak memory of one volume, each side in a process of its own."""
    print("Memory above that before the call, 3-D ResNet-18 of width 32, 96 x 96 x 96 (medians of fresh processes)")
    found = {}
    for side in ("forward", "grad_cam"):
        runs = [
            float(subprocess.check_output([sys.executable, __file__, "--measure", side], text=True).split()[-1])
            for _ in range(max(1, chosen.repeats // 2))
        ]
        found[side] = float(np.median(runs))
        print(f"  {side:34}{found[side]:8.0f} MB{found[side] / found['forward']:8.2f} x forward", flush=True)


def peak(side: str) -> float:
    """The largest resident memory while ``side`` runs, above that before, in MB."""
    import psutil

    from medlab import explain, models

    model = models.resnet((96, 96, 96, 1), 2, width=32)
    x = np.random.default_rng(0).normal(size=(1, 96, 96, 96, 1)).astype(np.float32)
    process, seen, done = psutil.Process(), [], threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        while not done.wait(0.002):
            seen.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    if side == "forward":
        model.predict_on_batch(x)
    else:
        explain.grad_cam(model, x, target=1)
    done.set()
    watcher.join()
    return (max(seen) - before) / 2**20


if __name__ == "__main__":
    main()
