"""Denoisers: a U-Net that draws an image without the noise that was added to it, in 2-D and 3-D.

In: the shape of one image (i, j[, k], c). Out: a functional ``keras.Model`` from images to images of the same shape.
The noise is part of the model and there in training alone: train it with the images as their own target.
"""

from __future__ import annotations

import numpy as np

from medlab.backend import keras
from medlab.models.blocks import Builder, check_input
from medlab.models.scaling import check_count, check_real, enlarge, halve, halving_steps, output

layers, ops = keras.layers, keras.ops

NOISES = ("coarse", "fine")
_BOX = 4
"""Side of the mean that makes coarse noise of white one, in cells of a quarter of its size."""


def denoising_autoencoder(
    input_shape: tuple[int, ...],
    *,
    noise: float = 0.2,
    kind: str = "coarse",
    cell: int | None = None,
    background: float | None = None,
    width: int = 16,
    levels: int | None = None,
    norm: str | None = "group",
    seed: int = 0,
) -> keras.Model:
    """A U-Net trained to undo noise that it adds to its own input in training (Vincent et al. 2008).

    With ``kind="coarse"`` it finds anomalies (Kascenas et al., MIDL 2022): trained on healthy images alone, it learns
    to undo blotches as large as lesions, and takes a lesion for one. The residual image - output shows what it would
    undo. With ``kind="fine"`` it removes white noise of deviation ``noise`` from images that have it. To remove noise
    of another kind, give ``noise=0`` and noisy images with clean ones as target:
    ``medlab.train.fit(model, (noisy, clean), loss="mean_squared_error", ...)``.

    Where the noise is the model's own, train without a validation set, so that the last weights are kept: validation
    has no noise, and the network that does nothing would be taken for the best.

    Coarse noise is white noise smoothed by two means in a row, so that it has no grid, and added independently to each
    channel. The paper's is drawn on a grid of 16 x 16 for images of 128 x 128 and enlarged, with deviation 0.2 for
    images from 0 to 1, where the image is not background.

    Args:
        input_shape: (i, j, c) or (i, j, k, c), each side at least 4.
        noise: deviation of the noise in the units of the images, 0 or above.
        kind: ``"coarse"`` or ``"fine"``.
        cell: how many pixels coarse noise is smoothed over; None: an eighth of the longest side, at least 2, which is
            the paper's.
        background: noise is added only where a channel is above it. None: everywhere.
        width: channels of the first level; each further level has twice as many.
        levels: number of halvings. None: as many as leave at least 4 pixels along the longest side, at most 3.
        norm: ``"group"``, ``"batch"`` or None. Batch statistics of images with noise do not fit those without.
        seed: start of the random weights and of the noise.

    Returns:
        Layers ``noisy`` (the input with its noise; none at 0), ``encode1`` (full size), ..., ``bottom``, ...,
        ``decode1`` (full size), ``correction``, and ``reconstruction``, their sum with the noisy input, in the units of
        the images: the network learns the noise alone, and starts with none (Zhang et al., IEEE TIP 2017;26:3142).

    Raises:
        ValueError: a shape of another rank, a side below 4, an unknown kind, numbers out of range.
    """
    rank = check_input(input_shape, smallest=4, network="denoising_autoencoder")
    if kind not in NOISES:
        raise ValueError(f"Expected kind to be one of {NOISES}. Received {kind!r}.")
    check_real("noise", noise, least=0.0)
    if background is not None:
        check_real("background", background)
    check_count("width", width)
    if cell is not None:
        check_count("cell", cell)
    sides = tuple(input_shape[:-1])
    steps = halving_steps(sides, levels)[: None if levels else 3]
    build = Builder(rank=rank, norm=norm, seed=seed)
    image = keras.Input(input_shape, name="image")
    x = image
    if noise:
        size = 1 if kind == "fine" else max(2, max(sides) // 8) if cell is None else int(cell)
        x = layers.Add(name="noisy")([x, _noise(build, x, float(noise), size, background)])
    given = x
    skips = [build.conv_norm_relu(x, width, 3, name="encode1_first")]
    skips[0] = build.conv_norm_relu(skips[0], width, 3, name="encode1" if steps else "bottom")
    for level, step in enumerate(steps, start=2):
        name = "bottom" if level == len(steps) + 1 else f"encode{level}"
        x = halve(build, skips[-1], width * 2 ** (level - 1), step, name=f"{name}_first")
        skips.append(build.conv_norm_relu(x, width * 2 ** (level - 1), 3, name=name))
    x = skips.pop()
    for level in range(len(steps), 0, -1):
        skip = skips.pop()
        x = enlarge(x, steps[level - 1], tuple(skip.shape[1:-1]), name=f"decode{level}")
        x = layers.Concatenate(name=f"decode{level}_pair")([skip, x])
        x = build.conv_norm_relu(x, width * 2 ** (level - 1), 3, name=f"decode{level}_first")
        x = build.conv_norm_relu(x, width * 2 ** (level - 1), 3, name=f"decode{level}")
    correction = output(build, x, input_shape[-1], name="correction", start="zeros")
    return keras.Model(image, layers.Add(name="reconstruction")([given, correction]), name="denoising_autoencoder")


def _noise(build: Builder, image, deviation: float, cell: int, background: float | None):
    """Noise of ``deviation``, smoothed over ``cell`` pixels, in training; 0 otherwise."""
    flat = build.rank == 2
    sides = tuple(image.shape[1:-1])
    mean = layers.AveragePooling2D if flat else layers.AveragePooling3D
    grain = max(1, cell // _BOX)  # pixels of one cell of the white noise
    box = max(1, round(cell / grain))
    # Room around the image, so that no mean reaches over the edge, where it would be of fewer cells.
    margin = 2 * box
    pad = layers.ZeroPadding2D if flat else layers.ZeroPadding3D
    crop = layers.Cropping2D if flat else layers.Cropping3D
    x = layers.Rescaling(0.0, name="noise_zero")(image)
    if grain > 1:
        x = mean(grain, padding="same", name="noise_grid")(x)
    if box > 1:
        x = pad(margin, name="noise_margin")(x)
    x = layers.GaussianNoise(1.0, seed=build.layer_seed("noise"), name="noise_white")(x)
    factor = 1.0
    if box > 1:
        x = mean(box, strides=1, padding="same", name="noise_smooth_first")(x)
        x = mean(box, strides=1, padding="same", name="noise_smooth_last")(x)
        x = crop(margin, name="noise_fit_margin")(x)
        # Two boxes in a row weigh as their convolution; the variance is the sum of the squared weights along each axis.
        weights = np.convolve(np.ones(box), np.ones(box)) / box**2
        factor = float(np.sqrt((weights**2).sum()) ** build.rank)
    x = layers.Rescaling(deviation / factor, name="noise_scale")(x)
    if grain > 1:
        x = enlarge(x, (grain,) * build.rank, sides, name="noise")
        x = mean(grain, strides=1, padding="same", name="noise_even")(x)
    if background is not None:
        x = layers.Multiply(name="noise_inside")([x, ops.cast(image > float(background), "float32")])
    return x
