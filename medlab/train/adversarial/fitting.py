"""Fitting: a GAN's training as it is asked for, checked and decided.

In: a GAN of :func:`medlab.models.gan` and images. Out: a :class:`medlab.train.GanFit`.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from medlab import runs
from medlab.train import devices as machine
from medlab.train import identity, wishes
from medlab.train.adversarial import received
from medlab.train.adversarial.outcome import GanFit
from medlab.train.adversarial.training import Job, Training


def fit_gan(
    gan: Any,
    x: ArrayLike,
    y: ArrayLike | None = None,
    *,
    epochs: int,
    batch_size: int = 32,
    learning_rate: float | tuple[float, float] = (2e-4, 8e-4),
    loss: str = "hinge",
    augment: str | tuple[str, ...] | None = "auto",
    ema: str | float | None = "auto",
    samples: int = 64,
    devices: str = "auto",
    seed: int = 0,
    run: str | Path | runs.Run | None = None,
    resume: bool = False,
    progress: bool = True,
    max_seconds: float | None = None,
) -> GanFit:
    """Trains a GAN; each step of the discriminator is followed by one of the generator.

    Both networks compile before their first step, a few seconds each. Adam has beta 0.5 and 0.999 (Radford et al. 2016,
    ICLR). Everything random is drawn from ``seed``, so that the same seed on the same machine gives the same numbers.

    Args:
        gan: of :func:`medlab.models.gan`; both networks are trained in place.
        x: (n, i, j[, k], c) images within ``gan.value_range``.
        y: (n,) class indices where the GAN has classes.
        epochs: how often all images are seen; what does not fill a batch waits for the next order.
        batch_size: images a step, at least 2; all, where there are fewer.
        learning_rate: of generator and discriminator, or one for both.
        loss: ``"hinge"`` or ``"non-saturating"``.
        augment: ``"auto"`` (all changes for fewer than 10,000 images), None, or some of shift, brightness, contrast,
            cutout, which real and generated images undergo before they are judged
            (:func:`medlab.train.adversarial.distorting.distort`).
        ema: momentum of the running mean of the generator's weights, which makes the samples and is kept; ``"auto"``
            averages over about a twentieth of all steps; None keeps the last weights.
        samples: images that are made after each epoch, of the same latents and with classes in turn, at least 2.
        devices: ``"auto"`` (the first GPU, else the CPU), ``"cpu"``, ``"gpu"``, ``"gpu:1"``.
        seed: order, latents and distortions.
        run: run folder for ``model.keras`` (the generator), ``discriminator.keras``, ``history.csv``, ``run.json`` and
            the state to resume from.
        resume: go on from the state in ``run``, if there is one: after the last whole epoch, so that the numbers are as
            if it had not been interrupted.
        progress: one line an epoch; in Jupyter samples, losses and diversity live, and a stop button.
        max_seconds: wall time after which training ends, within an epoch if need be; of all resumed parts together.

    Returns:
        The fit. It warns (in ``warnings``, and on the way) where samples become alike, a mode collapse.

    Raises:
        ValueError: images, labels or arguments that cannot be trained on; a state of other settings.
        GanDivergedError: losses or weights became NaN or ran away. Both networks have the weights of the last good
            epoch, or those given; its ``fit`` has the samples of that epoch.
        KeyboardInterrupt: passed on.
    """
    received.wholes(epochs=epochs, batch_size=batch_size, samples=samples, seed=seed)
    received.check_loss(loss)
    wishes.check_reals(max_seconds=max_seconds)
    if max_seconds is not None and not max_seconds > 0:
        raise ValueError(f"Expected max_seconds above 0, or None. Received {max_seconds!r}.")
    if run is None and resume:
        raise ValueError("resume needs a run folder: run=...")
    x = received.images(gan, x)
    y = received.labels(gan, y, len(x))
    pair = received.rates(learning_rate)
    changes, changes_reason = received.changes(augment, len(x))
    size = min(batch_size, len(x))
    steps = len(x) // size
    momentum = wishes.momentum(ema, epochs * steps, gan.generator)
    setup = machine.choose(gan.generator, devices=devices, precision="float32").alone()
    choices = {
        "device": setup.device,
        "loss": loss,
        "augmentation": changes_reason,
        "learning rates": f"generator {pair[0]:.2g}, discriminator {pair[1]:.2g}",
        "samples from": "the last weights" if momentum is None else f"a running mean of momentum {momentum:.4g}",
    }
    settings = {
        "generator": identity.structure(gan.generator), "discriminator": identity.structure(gan.discriminator),
        "images": f"{len(x)} {zlib.crc32(np.ascontiguousarray(x)):08x}",
        "labels": "none" if y is None else f"{zlib.crc32(y):08x}", "value_range": list(gan.value_range),
        "epochs": epochs, "batch_size": size, "learning_rate": list(pair), "loss": loss, "augment": list(changes),
        "ema": momentum, "samples": samples, "seed": seed,
    }  # fmt: skip
    job = Job(
        gan, x, y, epochs=epochs, size=size, steps=steps, seed=seed, setup=setup, choices=choices, settings=settings,
        run=None if run is None else runs.open(run), resume=resume, max_seconds=max_seconds, shown=progress,
        wanted=samples,
    )  # fmt: skip
    with setup.running():
        return Training(job, pair=pair, loss=loss, changes=changes, momentum=momentum).train()
