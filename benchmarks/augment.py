"""One random augmentation of a volume beside TorchIO and MONAI, as ratios of one run.

    python benchmarks/augment.py --peer-python <python with torch, monai and torchio> [--size 128] [--rounds 5]

All do the same list with about the same amounts: affine (10 degrees, scale 0.1, shift 8 %), elastic deformation by
control points (7 along each axis, 3 voxels), a flip in half of the cases, bias field, Gaussian noise and gamma. Each
process augments the volume --repeats times after one call that is not counted; the processes take turns, --rounds
times, and each one's fastest call counts. medlab interpolates once; MONAI too, but its displacement is dense smoothed
noise; TorchIO interpolates for the affine part and again for the elastic part. The second table is one affine
resampling alone, beside SimpleITK's filter called directly.
"""

import argparse
import json
import os
import subprocess
import sys
import time

import numpy as np

PARTS = ("medlab", "torchio", "monai")


def main() -> None:
    """Prints seconds a volume and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", help="interpreter with torch, monai and torchio")
    parser.add_argument("--size", type=int, default=128, help="voxels along one side of the volume")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls a process")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each process")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.part:
        print(json.dumps({"medlab": here, "torchio": torchio, "monai": monai}[chosen.part](chosen)))
        return
    pythons = {"medlab": sys.executable}
    if chosen.peer_python:
        pythons |= dict.fromkeys(PARTS[1:], chosen.peer_python)
    best: dict[str, dict[str, float]] = {}
    for _ in range(chosen.rounds):
        for part, python in pythons.items():
            settings = [f"--{name}={getattr(chosen, name)}" for name in ("size", "repeats")]
            done = subprocess.run(
                [python, __file__, "--part", part, *settings], check=True, capture_output=True, text=True,
                env=os.environ | {"PYTHONWARNINGS": "ignore"},
            )  # fmt: skip
            for work, rows in json.loads(done.stdout.splitlines()[-1]).items():
                for name, seconds in rows.items():
                    row = best.setdefault(work, {})
                    row[name] = min(row.get(name, seconds), seconds)
    print(f"{chosen.size}-cube, {os.cpu_count()} CPU cores, seconds a volume")
    for work, row in best.items():
        print(work)
        for name, seconds in row.items():
            ratio = f"   {seconds / row['medlab']:5.2f} times medlab's" if name != "medlab" else ""
            print(f"  {name:22}{seconds:8.3f} s{ratio}")


def here(chosen: argparse.Namespace) -> dict[str, dict[str, float]]:
    """medlab, and SimpleITK's filter for the affine part."""
    from medlab import augment

    space = {"flip": (0,), "rotation": 10, "scale": 0.1, "translation": 0.08}
    values = {"elastic": 3 / 128, "bias_field": 0.3, "noise": 0.1, "gamma": 0.3}
    whole = augment.policy("none", rank=3, seed=0, **space, **values)
    affine = augment.policy("none", rank=3, seed=0, **space)
    x = volume(chosen.size)
    return {
        "the whole list": {"medlab": timed(lambda: whole(x[None, ..., None]), chosen.repeats)},
        "affine alone": {
            "medlab": timed(lambda: affine(x[None, ..., None]), chosen.repeats),
            "SimpleITK": timed(filtered(x), chosen.repeats),
        },
    }


def filtered(x: np.ndarray):
    """SimpleITK's resampling filter, with the array taken in and out again."""
    import SimpleITK as sitk  # noqa: N813

    angle = np.deg2rad(7)
    turn = sitk.AffineTransform(3)
    turn.SetMatrix([np.cos(angle), -np.sin(angle), 0, np.sin(angle), np.cos(angle), 0, 0, 0, 1.05])
    turn.SetCenter([x.shape[0] / 2] * 3)

    def run() -> np.ndarray:
        image = sitk.GetImageFromArray(x)
        return sitk.GetArrayFromImage(sitk.Resample(image, image, turn, sitk.sitkLinear, 0.0, sitk.sitkFloat32))

    return run


def torchio(chosen: argparse.Namespace) -> dict[str, dict[str, float]]:
    """TorchIO's transforms of the same names."""
    import torch
    import torchio as tio

    torch.set_num_threads(os.cpu_count())
    affine = tio.RandomAffine(scales=0.1, degrees=10, translation=0.08 * chosen.size)
    whole = tio.Compose([
        tio.RandomFlip(axes=0, flip_probability=0.5), affine,
        tio.RandomElasticDeformation(num_control_points=7, max_displacement=3),
        tio.RandomBiasField(coefficients=0.3), tio.RandomGamma(log_gamma=0.3), tio.RandomNoise(std=0.1),
    ])  # fmt: skip
    image = tio.ScalarImage(tensor=torch.from_numpy(volume(chosen.size))[None])
    return {
        "the whole list": {"TorchIO": timed(lambda: whole(image).numpy(), chosen.repeats)},
        "affine alone": {"TorchIO": timed(lambda: affine(image).numpy(), chosen.repeats)},
    }


def monai(chosen: argparse.Namespace) -> dict[str, dict[str, float]]:
    """MONAI's transforms of the same names; affine and elastic are one interpolation there too."""
    import torch
    from monai import transforms as mt

    torch.set_num_threads(os.cpu_count())
    space = {
        "rotate_range": [np.deg2rad(10)] * 3,
        "scale_range": [0.1] * 3,
        "translate_range": [0.08 * chosen.size] * 3,
    }
    affine = mt.RandAffine(prob=1, mode="bilinear", padding_mode="border", **space)
    whole = mt.Compose([
        mt.RandFlip(prob=0.5, spatial_axis=0),
        mt.Rand3DElastic(
            prob=1, sigma_range=(9, 9), magnitude_range=(100, 100), mode="bilinear", padding_mode="border", **space
        ),
        mt.RandBiasField(prob=1, degree=3, coeff_range=(0.0, 0.3)), mt.RandAdjustContrast(prob=1, gamma=(0.77, 1.3)),
        mt.RandGaussianNoise(prob=1, std=0.1),
    ])  # fmt: skip
    image = torch.from_numpy(volume(chosen.size))[None]
    return {
        "the whole list": {"MONAI": timed(lambda: np.asarray(whole(image)), chosen.repeats)},
        "affine alone": {"MONAI": timed(lambda: np.asarray(affine(image)), chosen.repeats)},
    }


def volume(size: int) -> np.ndarray:
    """A smooth ball with noise, values from about 0 to 1."""
    place = np.linspace(-1, 1, size, dtype=np.float32)
    ball = np.exp(-3 * (place[:, None, None] ** 2 + place[:, None] ** 2 + place**2))
    return ball + np.float32(0.05) * np.random.default_rng(0).random((size,) * 3, np.float32)


def timed(work, repeats: int) -> float:
    """The fastest of some calls after one that is not counted."""
    first = work()
    if not np.isfinite(first[0] if isinstance(first, tuple) else first).all():
        raise SystemExit("the result is not finite")
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


if __name__ == "__main__":
    main()
