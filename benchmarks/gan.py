"""How a GAN fares: its kernel distance over the epochs, collapse over seeds, memorization, a planted copy.

    python benchmarks/gan.py --size 28
    python benchmarks/gan.py --size 64 --n 1500 --epochs 60 --judge-epochs 8
    MEDLAB_DATA=<folder> python benchmarks/gan.py --dataset pneumoniamnist --limit 1000 --epochs 60

Every step is the public one: study.open, models.gan, train.fit_gan, explain.features, evaluate.kid. The encoder is a
small CNN that compared views of the same images (SimCLR), without labels: the numbers hold for it alone. One trained
for the labels is no judge: to some, noise was as near as real images that they had not seen. For scale, the distances
of real images that it has not seen, and of those blurred by a pixel, stand above the table.
"""

import argparse
import os
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from scipy.ndimage import gaussian_filter

import medlab as ml


def main() -> None:
    """A line a seed, as a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="phantom:brain-tumor")
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--n", type=int, default=500, help="images of a phantom")
    parser.add_argument("--limit", type=int, help="at most so many a split")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--seconds", type=float, help="wall time of each training; by default all epochs")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--judge-epochs", type=int, default=20, help="of the encoder")
    arguments = parser.parse_args()
    options = {"n": arguments.n} if arguments.dataset.startswith("phantom:") else {}
    with tempfile.TemporaryDirectory() as folder:
        study = ml.study.open(folder, arguments.dataset, limit=arguments.limit, size=arguments.size, options=options)
        (x, y), (x_test, _) = study.arrays("train"), study.arrays("test")
    low, high = np.quantile(x, [0.001, 0.999])
    x, x_test = (np.clip((part - low) / (high - low), 0, 1) for part in (x, x_test))
    classes = int(y.max()) + 1
    judge = ml.models.small_cnn(x.shape[1:], classes)
    ml.train.pretrain(judge, x, epochs=arguments.judge_epochs, precision="float32", progress=False)
    count = min(200, len(x))
    reference = ml.explain.features(judge, x[np.random.default_rng(0).permutation(len(x))[:count]])
    blurred = gaussian_filter(x_test, (0, *(1,) * (x.ndim - 2), 0))
    unseen, blurred = (ml.evaluate.kid(reference, ml.explain.features(judge, one)) for one in (x_test, blurred))
    print(f"{arguments.dataset}, {arguments.size} pixels, {len(x)} images; KID of unseen real images {unseen}, "
          f"blurred by a pixel {blurred}\n")  # fmt: skip
    print("| seed | epochs | seconds | KID, epoch 1 | KID, last | falls by | precision | recall | least diversity "
          "after a quarter | warnings | memorization | planted copy |")  # fmt: skip
    print("|---" * 12 + "|")
    for seed in arguments.seeds:
        print(row(x, y, x_test, judge, reference, classes, seed, arguments), flush=True)


def row(x, y, x_test, judge, reference, classes, seed, arguments) -> str:
    """One training, judged."""
    gan = ml.models.gan(x.shape[1:], classes=classes, width=arguments.width, seed=seed)
    fit = ml.train.fit_gan(
        gan, x, y, epochs=arguments.epochs, samples=len(reference), max_seconds=arguments.seconds, seed=seed,
        progress=False,
    )  # fmt: skip
    last = max(fit.samples)
    early, late = (ml.explain.features(judge, fit.samples[epoch]) for epoch in (1, last))
    before, after = (ml.evaluate.kid(reference, one) for one in (early, late))
    falls = f"{before.value / after.value:.0f}" if after.value > 0 else "to 0"
    precision, recall = ml.evaluate.precision_recall(reference, late)
    checked = ml.evaluate.memorization(x, x_test, fit.samples[last])
    copy = np.random.default_rng(seed).normal(x[:1], 0.01)
    planted = not ml.evaluate.memorization(x, x_test, np.concatenate([fit.samples[last], copy])).passed
    least = fit.history["diversity"].iloc[len(fit.history) // 4 :].min()
    return (
        f"| {seed} | {last} | {fit.seconds:.0f} | {before} | {after} | {falls} | "
        f"{precision:.2f} | {recall:.2f} | {least:.2f} | {len(fit.warnings)} | "
        f"{'passed' if checked.passed else 'failed'} | {'found' if planted else 'missed'} |"
    )


if __name__ == "__main__":
    main()
