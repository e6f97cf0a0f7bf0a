"""How fast the phantoms are made, and how far a mean or a line through the pixels gets.

Usage: OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/phantoms.py [speed | floors [NAME]... | real]

speed: the peer of a rendered slice is the plainest way to one, three calls of SciPy's map_coordinates (gray, white,
air) on the same grid, without skull, lesion, noise or mask; both are timed in one run, in processor time.
floors: the mean intensity and a logistic regression on the pixels of 600 cases, cross-validated in five parts; AUC.
real: a U-Net learns from the synthetic hippocampus alone and segments real ones (needs MEDLAB_DATA); Dice.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from medlab import phantoms
from medlab.phantoms import anatomy

CASES = 600
PIXELS = 32
# HU that a reader of the set looks at; the whole range says nothing of soft tissue.
WINDOWS = {
    "phantom:stroke": (0, 80), "phantom:lung-nodule": (-1350, 150), "phantom:stenosis": (-100, 500),
    "phantom:fracture": (-200, 1300),
}  # fmt: skip


def milliseconds(function: Callable, arguments: Sequence) -> float:
    """Mean processor time of ``function`` over many arguments."""
    start = time.process_time()
    for argument in arguments:
        function(argument)
    return 1000 * (time.process_time() - start) / len(arguments)


def speed() -> None:
    """Times the template and slices and volumes of every set."""
    start = time.process_time()
    template = anatomy.template()
    print(f"template of the head              {time.process_time() - start:8.2f} s")
    axis = (np.arange(128) - 63.5) * 1.875
    grid = np.stack(np.broadcast_arrays(*np.ix_(axis, axis - 14, [20.0]))).reshape(3, -1)
    voxel = template.to_voxel[:3, :3] @ grid + template.to_voxel[:3, 3:]
    maps = (*template.tissues, template.tissues[0])
    plain = milliseconds(
        lambda _: [ndimage.map_coordinates(one, voxel, np.float32, order=1) for one in maps], range(50)
    )
    print(f"three map_coordinates calls       {plain:8.2f} ms")
    for name in phantoms.NAMES:
        found = phantoms.find(name)
        for rank, size in ((2, 128), (3, 64)):
            if rank not in found.sizes:
                continue
            options = found.options(rank=rank, size=size)
            found.render(0, **options)
            spent = milliseconds(
                lambda index, f=found, o=options: f.render(index, **o), range(1, 41 if rank == 2 else 5)
            )
            ratio = (
                f";  {spent / plain:.2f} times the three calls" if name == "phantom:brain-tumor" and rank == 2 else ""
            )
            print(f"{name:22s} {'x'.join([str(size)] * rank):>10s} {spent:8.1f} ms{ratio}")


def small(image: np.ndarray, window: tuple[float, float] | None) -> np.ndarray:
    """The image clipped to a window (or its percentiles), standardized, as means of ``PIXELS`` a side."""
    low, high = window or np.percentile(image, (0.5, 99.5))
    image = np.clip(image.astype(np.float64), low, high)
    image = (image - image.mean()) / max(image.std(), 1e-9)
    return ndimage.zoom(
        ndimage.uniform_filter(image, np.array(image.shape) / PIXELS), PIXELS / np.array(image.shape), order=1
    )


def floors(names: Sequence[str]) -> None:
    """What simple means separate."""
    for name in names:
        found = phantoms.find(name)
        rank = min(found.sizes)
        options = found.options(rank=rank, size=128 if rank == 2 else 48)
        images, labels = [], []
        for index in range(CASES):
            images.append(found.render(index, **options)[0].array)
            label = found.parameters(index, **{key: options[key] for key in ("severity", "seed", "domain")})["label"]
            labels.append(found.classes.index(label) > 0)
        y = np.array(labels)
        window = WINDOWS.get(name) if found.modality == "CT" else None
        means = {
            "mean": [image.mean() for image in images],
            "mean of the window": [
                np.clip(image, *(window or np.percentile(image, (0.5, 99.5)))).mean() for image in images
            ],
            "deviation by mean": [image.std() / max(abs(image.mean()), 1e-9) for image in images],
        }
        for what, values in means.items():
            auc = roc_auc_score(y, values)
            print(f"{name:22s} {what:32s} {max(auc, 1 - auc):.3f}", flush=True)
        for one in dict.fromkeys((None, window)):
            x = np.stack([small(image, one).ravel() for image in images])
            for strength in (1e-3, 1e-1):
                model = LogisticRegression(C=strength, max_iter=300)
                scores = cross_val_predict(model, x, y, cv=5, method="decision_function")
                what = f"pixels{' of the window' if one else ''}, C = {strength}"
                print(f"{name:22s} {what:32s} {roc_auc_score(y, scores):.3f}", flush=True)


def real(made: int = 128, judged: int = 60, epochs: int = 14) -> None:
    """A network that saw only synthetic images, half of them of random contrast, on real volumes."""
    import os

    from medlab import augment, evaluate, load, models, standardize, train

    start = time.process_time()
    images, masks = [], []
    for sequence in ("t1", "random"):
        cases = load.dataset(
            "phantom:hippocampus", n=made // 2, rank=3, size=52, view="left", sequence=sequence, seed=7
        )
        images += [standardize.zscore(cases.volume(one)) for one in cases.ids]
        masks += [cases.mask(one) for one in cases.ids]
    plan = train.plan_segmentation([one.shape for one in images], [one.spacing for one in images], 3, width=8)
    x = np.stack([standardize.crop_or_pad(one, plan.patch_size).array[..., None] for one in images]).astype(np.float32)
    y = np.stack([standardize.crop_or_pad(one, plan.patch_size).array for one in masks]).astype(np.int32)
    order = np.random.default_rng(0).permutation(len(x))
    first, last = order[: -len(x) // 8], order[-len(x) // 8 :]
    network = models.unet(x.shape[1:], 3, **plan.network(), seed=0)
    fitted = train.fit(
        network, (x[first], y[first]), (x[last], y[last]), epochs=epochs, batch_size=plan.batch_size,
        learning_rate=plan.learning_rate, loss=plan.loss, augment=augment.policy(plan.augment, rank=3, seed=0), seed=0,
        progress=False,
    )  # fmt: skip
    print(f"{len(first)} synthetic cases, {epochs} epochs, {time.process_time() - start:.0f} s of processor time")
    print(f"synthetic validation Dice {fitted.history['val_dice'].max():.3f}")
    found = load.dataset(f"{os.environ['MEDLAB_DATA']}/hippocampus", limit=judged)
    volumes = [standardize.zscore(found.volume(one)) for one in found.ids]
    truth = [found.mask(one).array for one in found.ids]
    labels = [evaluate.sliding_window(fitted.model, one, output="labels") for one in volumes]
    result = evaluate.segmentation(
        truth, labels, spacing=[one.spacing for one in volumes], classes={1: "anterior", 2: "posterior"}, n=500
    )
    print(result.per_class.to_string())
    either = [
        2 * ((a > 0) & (b > 0)).sum() / ((a > 0).sum() + (b > 0).sum()) for a, b in zip(truth, labels, strict=True)
    ]
    print(f"{judged} real volumes, both parts as one: Dice {np.mean(either):.3f}, worst {np.min(either):.3f}")


if __name__ == "__main__":
    asked = sys.argv[1] if len(sys.argv) > 1 else "speed"
    if asked == "floors":
        floors(sys.argv[2:] or phantoms.NAMES)
    elif asked == "real":
        real()
    else:
        speed()
