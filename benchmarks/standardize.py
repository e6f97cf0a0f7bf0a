"""Resampling of one volume beside SimpleITK's filter, TorchIO and MONAI, as ratios of one run.

    python benchmarks/standardize.py [--peer-python <python with torch, monai, torchio>] [--size 128] [--rounds 15]

Three tasks on a float32 cube of 1 mm voxels, all with linear interpolation on two threads: to finer voxels (0.8 mm), to
coarser ones (1.6 mm), and to coarser ones after smoothing. medlab smooths images before voxels grow; SimpleITK's
resampling filter, TorchIO's and MONAI's Spacing do not, so that medlab's coarse step is compared with SimpleITK's
filter after a Gaussian of the same width, and its step without smoothing is timed apart. All read an array or image in
memory and give one. The sides take turns, round by round; the median counts.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from functools import partial

os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "2")

import numpy as np

FINE, COARSE = 0.8, 1.6


def main() -> None:
    """Prints milliseconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", help="interpreter with torch, monai and torchio")
    parser.add_argument("--size", type=int, default=128, help="voxels along one side of the volume")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--part", choices=("peer",), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.part:
        serve(chosen)
        return
    works = ours(cube(chosen.size))
    other = Peer(chosen) if chosen.peer_python else None
    seconds: dict[str, list[float]] = {}
    for turn in range(chosen.rounds + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if turn:  # the first round warms up
                seconds.setdefault(name, []).append(time.perf_counter() - start)
        for name, value in (other.turn() if other else {}).items():
            if turn:
                seconds.setdefault(name, []).append(value)
    print(f"{chosen.size}-cube of 1 mm, float32, {os.cpu_count()} CPU cores, median of {chosen.rounds} turns")
    for task in dict.fromkeys(name.split(": ")[0] for name in seconds):
        rows = {name: float(np.median(times)) for name, times in seconds.items() if name.startswith(f"{task}: ")}
        base = rows[f"{task}: SimpleITK's filter"]
        print(task)
        for name, value in rows.items():
            print(f"  {name.split(': ')[1]:38}{1000 * value:8.1f} ms   {value / base:6.2f} times the filter's")


def cube(size: int) -> np.ndarray:
    """The same numbers in every process."""
    return np.random.default_rng(0).normal(size=[size] * 3).astype(np.float32)


def ours(array: np.ndarray) -> dict:
    """SimpleITK and medlab, name -> what is timed."""
    import SimpleITK

    from medlab import standardize
    from medlab.standardize.space import interpolate
    from medlab.volume import Volume

    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(2)
    volume = Volume(array)
    image = SimpleITK.GetImageFromArray(array)

    def filtered(spacing: float, smooth: bool = False, convert: bool = False):
        source = SimpleITK.GetImageFromArray(array) if convert else image
        if smooth:
            sigma = float(np.sqrt((spacing**2 - 1) / (8 * np.log(2))))
            source = SimpleITK.SmoothingRecursiveGaussian(source, sigma)
        side = round(len(array) / spacing)
        corner = [((len(array) - 1) - spacing * (side - 1)) / 2] * 3
        out = SimpleITK.Resample(
            source, [side] * 3, SimpleITK.Transform(), SimpleITK.sitkLinear, corner, [spacing] * 3
        )  # fmt: skip
        return SimpleITK.GetArrayFromImage(out) if convert else out

    grid = standardize.resample(volume, COARSE)  # the volume's affine is the identity: the grid's is the step
    return {
        f"to {FINE} mm: SimpleITK's filter": lambda: filtered(FINE),
        f"to {FINE} mm: SimpleITK from array to array": lambda: filtered(FINE, convert=True),
        f"to {FINE} mm: medlab": lambda: standardize.resample(volume, FINE),
        f"to {COARSE} mm, not smoothed: SimpleITK's filter": lambda: filtered(COARSE),
        f"to {COARSE} mm, not smoothed: medlab": lambda: interpolate(volume, grid.affine, grid.shape, 0, smooth=False),
        f"to {COARSE} mm, smoothed: SimpleITK's filter": lambda: filtered(COARSE, smooth=True),
        f"to {COARSE} mm, smoothed: medlab": lambda: standardize.resample(volume, COARSE),
    }


class Peer:
    """The other interpreter, one turn at a time, so that both sides see the same noise."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        command = [chosen.peer_python, __file__, "--part", "peer", f"--size={chosen.size}"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def turn(self) -> dict:
        """Seconds of each of the peers' tasks."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the peer's process ended; its message stands above")
        return json.loads(line)


def serve(chosen: argparse.Namespace) -> None:
    """The peers: one line of seconds for each line that comes in."""
    works = peers(cube(chosen.size))
    for _ in sys.stdin:
        seconds = {}
        for name, work in works.items():
            start = time.perf_counter()
            work()
            seconds[name] = time.perf_counter() - start
        print(json.dumps(seconds), flush=True)


def peers(array: np.ndarray) -> dict:
    """TorchIO and MONAI, where they are installed, name -> what is timed."""
    import importlib.util

    import torch

    torch.set_num_threads(2)
    tasks = ((f"to {FINE} mm", FINE), (f"to {COARSE} mm, not smoothed", COARSE))
    works = {}
    if importlib.util.find_spec("torchio"):
        import torchio

        image = torchio.ScalarImage(tensor=torch.from_numpy(array)[None], affine=np.eye(4))
        for task, spacing in tasks:
            works[f"{task}: TorchIO Resample"] = partial(torchio.Resample(spacing), image)
    if importlib.util.find_spec("monai"):
        from monai.data import MetaTensor
        from monai.transforms import Spacing

        tensor = MetaTensor(torch.from_numpy(array)[None], affine=torch.eye(4))
        for task, spacing in tasks:
            works[f"{task}: MONAI Spacing"] = partial(Spacing([spacing] * 3), tensor)
    return works


if __name__ == "__main__":
    main()
