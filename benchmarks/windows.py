"""Sliding-window inference of a 3-D U-Net beside MONAI's, with networks of equal size, as ratios of one run.

    python benchmarks/windows.py --peer-python <python with torch and monai> [--size 128] [--window 64] [--width 8]

Both walk half a window at a time with Gaussian weights and give probabilities. The processes take turns, twice each;
the better time of each counts. The peer is SlidingWindowInferer over DynUNet (same strides, kernels and widths,
residual blocks, instance norm), in float32 and in bfloat16.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

CLASSES, LEVELS = 3, 4


def main() -> None:
    """Prints seconds, megabytes and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", help="interpreter with torch and monai")
    parser.add_argument("--size", type=int, default=128, help="voxels along one side of the volume")
    parser.add_argument("--window", type=int, default=64, help="voxels along one side of the window")
    parser.add_argument("--width", type=int, default=8, help="channels of the first level")
    parser.add_argument("--batch", type=int, default=4, help="windows at a time")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--part", choices=("medlab", "monai"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.part:
        print(json.dumps({"medlab": here, "monai": peer}[chosen.part](chosen)))
        return
    pythons = {"medlab": sys.executable} | ({"monai": chosen.peer_python} if chosen.peer_python else {})
    best: dict[str, float] = {}
    for _ in range(chosen.rounds):
        for part, python in pythons.items():
            settings = [f"--{name}={getattr(chosen, name)}" for name in ("size", "window", "width", "batch")]
            done = subprocess.run(
                [python, __file__, "--part", part, *settings], check=True, capture_output=True, text=True
            )
            for name, row in json.loads(done.stdout.splitlines()[-1]).items():
                best[name] = min(best.get(name, row), row, key=lambda one: one["seconds"])
    print(f"{chosen.size}-cube, window {chosen.window}, U-Net of width {chosen.width}, {os.cpu_count()} CPU cores")
    for name, row in best.items():
        ratio = f"   {row['seconds'] / best['medlab']['seconds']:.2f} times medlab's" if name != "medlab" else ""
        print(f"{name:28}{row['seconds']:8.2f} s  peak {row['megabytes']:6.0f} MB  {row['weights']:,} weights{ratio}")


def here(chosen: argparse.Namespace) -> dict:
    """medlab, in float32 and in bfloat16."""
    import keras

    from medlab import evaluate, models

    found = {}
    for name, precision in (("medlab", "float32"), ("medlab bfloat16", "mixed_bfloat16")):
        keras.config.set_dtype_policy(precision)
        model = models.unet((*[chosen.window] * 3, 1), CLASSES, width=chosen.width, levels=LEVELS)
        found[name] = timed(
            lambda volume, model=model: evaluate.sliding_window(model, volume, overlap=0.5, batch_size=chosen.batch),
            chosen, model.count_params(),
        )  # fmt: skip
    return found


def peer(chosen: argparse.Namespace) -> dict:
    """MONAI, in float32 and under bfloat16 autocast."""
    import torch
    from monai.inferers import SlidingWindowInferer
    from monai.networks.nets import DynUNet

    strides = [1] + [2] * (LEVELS - 1)
    model = DynUNet(
        spatial_dims=3, in_channels=1, out_channels=CLASSES, kernel_size=[3] * LEVELS, strides=strides,
        upsample_kernel_size=strides[1:], filters=[chosen.width * 2**level for level in range(LEVELS)],
        norm_name=("INSTANCE", {"affine": True}), res_block=True,
    ).eval()  # fmt: skip
    infer = SlidingWindowInferer([chosen.window] * 3, sw_batch_size=chosen.batch, overlap=0.5, mode="gaussian")

    def run(volume: np.ndarray, half: bool) -> np.ndarray:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            return torch.softmax(infer(torch.from_numpy(volume)[None, None], model).float(), 1)[0].numpy()

    weights = sum(one.numel() for one in model.parameters())
    return {
        "MONAI float32": timed(lambda volume: run(volume, False), chosen, weights),
        "MONAI bfloat16": timed(lambda volume: run(volume, True), chosen, weights),
    }


def timed(work, chosen: argparse.Namespace, weights: int) -> dict:
    """Seconds of the second of two calls, peak memory of the process, and the number of weights."""
    volume = np.random.default_rng(0).normal(size=[chosen.size] * 3).astype(np.float32)
    work(volume[: chosen.window])  # compiles
    start = time.perf_counter()
    p = work(volume)
    seconds = time.perf_counter() - start
    if not np.isfinite(p).all():
        raise SystemExit("the result is not finite")
    return {
        "seconds": seconds,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "weights": weights,
    }


if __name__ == "__main__":
    main()
