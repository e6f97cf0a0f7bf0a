"""Adversarial: a network that makes images and one that judges them, in 2-D and 3-D, with Keras's own layers.

In: the shape of one image. Out: both, untrained; :func:`medlab.train.fit_gan` trains them against each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.backend import keras
from medlab.models.blocks import Builder, check_input

layers = keras.layers

_SMALLEST = 4
"""Pixels a side of the smallest map, or up to below twice as many."""
_MOST = 5
"""Halvings at most."""


@dataclass(frozen=True, eq=False)
class GAN:
    """A generator and the discriminator that it is trained against.

    Attributes:
        generator: latents (n, latent), for several classes ``[latents, labels]`` with labels (n,), to images
            (n, i, j[, k], c) within ``value_range``.
        discriminator: images, or ``[images, labels]``, to logits (n, 1): above 0 for an image that looks real.
        latent: numbers that an image is made from.
        classes: 0 where it makes images of one kind only.
        value_range: lowest and highest value that an image can have.
    """

    generator: keras.Model
    discriminator: keras.Model
    latent: int
    classes: int
    value_range: tuple[float, float]

    def latents(self, count: int, *, seed: int = 0) -> NDArray[np.float32]:
        """``count`` draws from the standard normal distribution, (count, latent); the same seed gives the same."""
        if isinstance(count, bool) or not hasattr(count, "__index__") or count < 1:
            raise ValueError(f"Expected count to be a whole number of at least 1. Received {count!r}.")
        if isinstance(seed, bool) or not hasattr(seed, "__index__") or seed < 0:
            raise ValueError(f"Expected seed to be a whole number of at least 0. Received {seed!r}.")
        return np.random.default_rng(seed).standard_normal((count, self.latent)).astype(np.float32)

    def images(
        self, latents: ArrayLike, labels: ArrayLike | None = None, *, batch_size: int = 256
    ) -> NDArray[np.float32]:
        """The images that the generator makes of latents, (n, i, j[, k], c).

        Args:
            latents: (n, latent).
            labels: (n,) class indices, or one for all; only where there are classes. None: the classes in turn.
            batch_size: images at a time.

        Raises:
            ValueError: latents of another size, or labels that do not fit.
        """
        if isinstance(batch_size, bool) or not hasattr(batch_size, "__index__") or batch_size < 1:
            raise ValueError(f"Expected batch_size to be a whole number of at least 1. Received {batch_size!r}.")
        latents = np.asarray(latents, np.float32)
        if latents.ndim != 2 or latents.shape[1] != self.latent:
            raise ValueError(f"Expected latents of shape (n, {self.latent}). Received {latents.shape}.")
        given = {"latent": latents}
        if self.classes:
            given["label"] = self._labels(labels, len(latents))
        elif labels is not None:
            raise ValueError("This GAN has no classes, so it takes no labels. Make one with models.gan(classes=...).")
        parts = []
        for start in range(0, len(latents), batch_size):
            # Always the same number of rows, so that nothing is compiled anew for the last ones.
            rows = {name: values[start : start + batch_size] for name, values in given.items()}
            count = len(rows["latent"])
            if start:
                rows = {name: np.resize(values, (batch_size, *values.shape[1:])) for name, values in rows.items()}
            asked = [rows["latent"], rows["label"]] if self.classes else rows["latent"]
            parts.append(np.asarray(self.generator.predict_on_batch(asked), np.float32)[:count])
        if not parts:
            raise ValueError("Expected at least one latent. Received none.")
        return np.concatenate(parts)

    def sample(self, count: int, labels: ArrayLike | None = None, *, seed: int = 0) -> NDArray[np.float32]:
        """``count`` images of latents drawn with ``seed``; labels as for :meth:`images`."""
        return self.images(self.latents(count, seed=seed), labels)

    def _labels(self, labels: ArrayLike | None, count: int) -> NDArray[np.int32]:
        labels = np.arange(count) % self.classes if labels is None else np.asarray(labels)
        if labels.ndim == 0:
            labels = np.full(count, labels)
        whole = labels.shape == (count,) and labels.dtype.kind in "iu"
        if not whole or labels.min() < 0 or labels.max() >= self.classes:
            raise ValueError(
                f"Expected {count} labels, whole numbers from 0 to {self.classes - 1}. Received {labels.dtype} of "
                f"shape {labels.shape} with values such as {np.unique(labels)[:5].tolist()}."
            )
        return labels.astype(np.int32)


def gan(
    image_shape: tuple[int, ...],
    latent: int = 64,
    classes: int = 0,
    *,
    width: int = 16,
    value_range: tuple[float, float] = (0.0, 1.0),
    spectral_norm: bool = True,
    seed: int = 0,
) -> GAN:
    """A deep convolutional GAN (Radford et al. 2016, ICLR), with classes a conditional one.

    The generator doubles a small map by repeating its pixels before a convolution of kernel 3 (Odena et al. 2016,
    Distill: no checkerboard), followed by batch normalization and ReLU; the discriminator halves the image by
    convolutions of kernel 4 and stride 2 with leaky ReLU, without normalization but for the spectral norm of its
    weights (Miyato et al. 2018, ICLR). An axis is halved until 4 to 7 pixels are left, at most 5 times; what is too
    much for a side of another size is cropped. Classes reach the generator as an embedding beside the latents, the
    discriminator by projection (Miyato and Koyama 2018, ICLR).

    The weights of both start as He et al. 2015 (ICCV) have it, scaled to the inputs of each layer; what the classes
    project on starts so small that no class outweighs the image. With the transposed convolutions of Radford et al. and
    their start of deviation 0.02, made for layers eight times as wide, the samples of 64 pixels became all alike.

    Args:
        image_shape: (i, j, c) or (i, j, k, c), each side 4 or more.
        latent: numbers that an image is made from, 1 or more.
        classes: 0, or 2 and more.
        width: channels at the image's own size; doubled with each halving, at most eight times as many.
        value_range: lowest and highest value that the images have: for standardized ones ``(x.min(), x.max())``.
        spectral_norm: whether each layer of the discriminator divides its weights by their largest singular value.
        seed: start of the random weights.

    Returns:
        Generator and discriminator, untrained.

    Raises:
        ValueError: a shape that is no image, no latent, a single class, or an empty range.
    """
    rank = check_input(image_shape, smallest=_SMALLEST, network="A GAN")
    for name, value, least in (("latent", latent, 1), ("classes", classes, 0), ("width", width, 1)):
        if isinstance(value, bool) or not hasattr(value, "__index__") or value < least:
            raise ValueError(f"Expected {name} to be a whole number of at least {least}. Received {value!r}.")
    if classes == 1:
        raise ValueError("Expected classes=0 for images of one kind, or 2 and more. Received 1.")
    if not isinstance(spectral_norm, bool | np.bool_):
        raise ValueError(f"Expected spectral_norm as True or False. Received {spectral_norm!r}.")
    try:
        low, high = (float(value) for value in value_range)
    except (TypeError, ValueError):
        raise ValueError(f"Expected value_range as (lowest, highest), finite. Received {value_range!r}.") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"Expected value_range as (lowest, highest), finite. Received {value_range!r}.")
    image_shape, latent, classes, width = tuple(map(int, image_shape)), int(latent), int(classes), int(width)
    strides = _strides(image_shape[:-1])
    build = Builder(rank, norm="batch", seed=seed)
    return GAN(
        _generator(build, image_shape, latent, classes, width, strides, (low, high)),
        _discriminator(build, image_shape, classes, width, strides, (low, high), spectral_norm),
        latent, classes, (low, high),
    )  # fmt: skip


def _strides(sides: tuple[int, ...]) -> list[tuple[int, ...]]:
    """By how much each halving shrinks each axis, from the image on; a short axis is halved in the last ones only."""
    counts = [min(_MOST, max(0, int(math.log2(side / _SMALLEST)))) for side in sides]
    most = max(*counts, 1)
    return [tuple(2 if number >= most - count else 1 for count in counts) for number in range(most)]


def _widths(width: int, count: int) -> list[int]:
    return [width * min(2**number, 8) for number in range(count)]


def _generator(
    build: Builder, shape: tuple[int, ...], latent: int, classes: int, width: int, strides: list[tuple[int, ...]],
    limits: tuple[float, float],
) -> keras.Model:  # fmt: skip
    sides = shape[:-1]
    factors = np.prod(strides, axis=0).tolist()
    start = [-(-side // factor) for side, factor in zip(sides, factors, strict=True)]
    widths = _widths(width, len(strides))
    noise = keras.Input((latent,), name="latent")
    x, inputs = noise, noise
    if classes:
        label = keras.Input((), dtype="int32", name="label")
        # Few numbers beside the latents: as many would outweigh them, and each class become one image.
        own = _embedding(build, classes, max(latent // 8, 1), "class_embedding", spread=1.0)(label)
        x = layers.Concatenate(name="condition")([x, own])
        inputs = [noise, label]
    size, first = math.prod(start) * widths[-1], _scaled(build, "generator_start")
    x = layers.Dense(size, use_bias=False, kernel_initializer=first, name="start")(x)
    x = layers.Reshape((*start, widths[-1]), name="start_map")(x)
    x = layers.Activation("relu", name="stage0")(build.normalize(x, name="start_norm"))
    larger = layers.UpSampling2D if build.rank == 2 else layers.UpSampling3D
    for number, stride in enumerate(reversed(strides), start=1):
        x = larger(stride, name=f"stage{number}_larger")(x)
        x = build.conv_norm_relu(x, widths[max(len(strides) - number - 1, 0)], 3, name=f"stage{number}")
    extra = [begin * factor - side for begin, factor, side in zip(start, factors, sides, strict=True)]
    if any(extra):
        crop = layers.Cropping2D if build.rank == 2 else layers.Cropping3D
        x = crop(tuple((one // 2, one - one // 2) for one in extra), name="crop")(x)
    conv = layers.Conv2D if build.rank == 2 else layers.Conv3D
    x = conv(
        shape[-1], 3, padding="same", activation="tanh", kernel_initializer=_scaled(build, "generator_image"),
        name="image",
    )(x)  # fmt: skip
    half, middle = (limits[1] - limits[0]) / 2, (limits[1] + limits[0]) / 2
    return keras.Model(inputs, layers.Rescaling(half, middle, name="range")(x), name="generator")


def _discriminator(
    build: Builder, shape: tuple[int, ...], classes: int, width: int, strides: list[tuple[int, ...]],
    limits: tuple[float, float], spectral_norm: bool,
) -> keras.Model:  # fmt: skip
    def bounded(layer: keras.layers.Layer) -> keras.layers.Layer:
        if not spectral_norm:
            return layer
        return layers.SpectralNormalization(layer, name=f"{layer.name}_bounded")

    image = keras.Input(shape, name="image")
    half, middle = (limits[1] - limits[0]) / 2, (limits[1] + limits[0]) / 2
    x = layers.Rescaling(1 / half, -middle / half, name="range")(image)
    conv = layers.Conv2D if build.rank == 2 else layers.Conv3D
    for number, (stride, channels) in enumerate(zip(strides, _widths(width, len(strides)), strict=True), start=1):
        name = f"stage{number}"
        layer = conv(
            channels, _kernel(stride), strides=stride, padding="same",
            kernel_initializer=_scaled(build, f"discriminator_{name}"), name=f"{name}_conv",
        )  # fmt: skip
        x = layers.LeakyReLU(0.2, name=name)(bounded(layer)(x))
    features = layers.Flatten(name="features")(x)
    linear = layers.Dense(1, kernel_initializer=_scaled(build, "discriminator_real"), name="real")
    logit = bounded(linear)(features)
    if not classes:
        return _started(build, keras.Model(image, logit, name="discriminator"))
    label = keras.Input((), dtype="int32", name="label")
    # SpectralNormalization gives its output the type of its input: whole numbers would round the embedding.
    number = keras.ops.cast(label, "float32")
    size = features.shape[-1]
    own = bounded(_embedding(build, classes, size, "class_projection", spread=size**-0.5))(number)
    match = layers.Dot(axes=1, name="class_match")([features, own])
    judged = layers.Add(name="logits")([logit, match])
    return _started(build, keras.Model([image, label], judged, name="discriminator"))


def _started(build: Builder, model: keras.Model) -> keras.Model:
    """The model with vectors of the spectral norm that come from the seed, as Keras's own start does not."""
    for layer in model.layers:
        if isinstance(layer, layers.SpectralNormalization):
            random = np.random.default_rng(build.layer_seed(layer.name))
            layer.vector_u.assign(random.normal(0, 0.02, layer.vector_u.shape).astype(np.float32))
    return model


def _kernel(stride: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(4 if step == 2 else 3 for step in stride)


def _scaled(build: Builder, name: str) -> keras.initializers.Initializer:
    return keras.initializers.HeNormal(seed=build.layer_seed(name))


def _embedding(build: Builder, classes: int, size: int, name: str, *, spread: float) -> keras.layers.Layer:
    start = keras.initializers.RandomNormal(seed=build.layer_seed(name), stddev=spread)
    return layers.Embedding(classes, size, embeddings_initializer=start, name=name)
