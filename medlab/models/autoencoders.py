"""Autoencoders: networks that squeeze an image into a few numbers and draw it again from them, in 2-D and 3-D.

In: the shape of one image (i, j[, k], c). Out: a functional ``keras.Model`` from images to images of the same shape,
to be trained with the images as their own target: ``medlab.train.fit(model, (x, x), loss="mean_squared_error", ...)``.
All layers are Keras's own, so that a saved model loads without medlab.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from medlab.backend import keras
from medlab.models.blocks import Builder, check_input
from medlab.models.scaling import check_count, check_real, enlarge, halve, halving_steps, output

layers, ops = keras.layers, keras.ops

LARGEST_LOG_VARIANCE = 10.0
"""Bound of the logarithm of a code's variance, so that no exponential runs away."""


def autoencoder(
    input_shape: tuple[int, ...],
    *,
    latent: int = 32,
    width: int = 16,
    levels: int | None = None,
    norm: str | None = "batch",
    seed: int = 0,
) -> keras.Model:
    """A convolutional autoencoder: an image to ``latent`` numbers and back (Hinton and Salakhutdinov 2006).

    Each level of the encoder halves the image and doubles the channels, one linear layer makes the ``latent`` numbers
    of it, and the decoder goes the same way back, enlarging by repeated pixels before each convolution. There are no
    shortcuts: all that the decoder knows has gone through the ``latent`` numbers. Sides that are no multiple of the
    halvings are padded by the encoder, and the decoder cuts off what was added.

    Args:
        input_shape: (i, j, c) or (i, j, k, c), each side at least 4.
        latent: how many numbers an image is squeezed into, at least 1.
        width: channels of the first level; each further level has twice as many.
        levels: number of halvings. None: as many as leave at least 4 pixels along the longest side, at most 4. An axis
            is halved only where that leaves at least 4.
        norm: ``"batch"``, ``"group"`` or None.
        seed: start of the random weights.

    Returns:
        Layers ``stem``, ``encode1``, ..., ``latent``, ..., ``decode1`` (full size), ``reconstruction`` (linear, in the
        units of the images). See :func:`medlab.models.encoder` and :func:`medlab.models.decoder` for its halves.

    Raises:
        ValueError: a shape of another rank, a side below 4, ``latent``, ``width`` or ``levels`` that make no network.
    """
    net = _Net.of(input_shape, width, levels, norm, seed, network="autoencoder")
    check_count("latent", latent)
    image = keras.Input(input_shape, name="image")
    flat = layers.Flatten(name="flatten")(net.encode(image))
    code = net.dense(flat, latent, name="latent")
    return keras.Model(image, net.decode(code), name="autoencoder")


def vae(
    input_shape: tuple[int, ...],
    *,
    latent: int = 16,
    width: int = 16,
    levels: int | None = None,
    beta: float = 1.0,
    pixel_sd: float = 0.1,
    norm: str | None = "batch",
    seed: int = 0,
) -> keras.Model:
    """A variational autoencoder (Kingma and Welling, ICLR 2014), with the weight beta of Higgins et al. (ICLR 2017).

    In training the code is drawn anew each time from a normal distribution whose mean and variance the encoder gives;
    otherwise it is the mean. To be trained with ``loss="mean_squared_error"``: the model adds the divergence from the
    standard normal distribution itself, in the same scale. With D values an image and independent normal pixels of
    deviation ``pixel_sd``, the negative evidence bound times 2 pixel_sd^2 / D is, but for a constant,

        mean squared error + beta (2 pixel_sd^2 / D) KL,   KL = sum over the code of (mean^2 + var - 1 - ln var) / 2.

    A ``pixel_sd`` far above the true spread of the pixels around their reconstruction makes the KL term so strong that
    parts of the code, or all of it, carry nothing (posterior collapse): :func:`medlab.models.latent_divergence` shows
    which. One far below makes a plain autoencoder whose codes are not standard normal, so that drawn codes give poor
    images.

    Validation and the choice of the best weights in :func:`medlab.train.fit` go by the squared error alone, of the
    image drawn from the mean.

    Args:
        input_shape: (i, j, c) or (i, j, k, c), each side at least 4.
        latent: how many numbers an image is squeezed into, at least 1.
        width: channels of the first level; each further level has twice as many.
        levels: number of halvings; see :func:`autoencoder`.
        beta: weight of the divergence, 0 or above; above 1 the code is squeezed further.
        pixel_sd: deviation of a pixel around its reconstruction that is taken for granted, in the units of the images,
            above 0. 0.1 was chosen for images from 0 to 1.
        norm: ``"batch"``, ``"group"`` or None.
        seed: start of the random weights and of the codes drawn.

    Returns:
        Layers as :func:`autoencoder`; ``latent`` is the mean, beside it ``log_variance``; ``kl`` adds the divergence to
        the loss, ``sample`` is the code that the decoder gets.

    Raises:
        ValueError: as :func:`autoencoder`; ``beta`` below 0, ``pixel_sd`` not above 0.
    """
    net = _Net.of(input_shape, width, levels, norm, seed, network="vae")
    check_count("latent", latent)
    check_real("beta", beta, least=0.0)
    check_real("pixel_sd", pixel_sd, least=0.0, open_end=True)
    weight = float(beta) * 2 * float(pixel_sd) ** 2 / prod(input_shape)
    image = keras.Input(input_shape, name="image")
    flat = layers.Flatten(name="flatten")(net.encode(image))
    mean = net.dense(flat, latent, name="latent")
    # Float32 from here on in 16-bit training too: exp(v) - 1 - v loses all its digits near 0.
    log_variance = ops.cast(net.dense(flat, latent, name="log_variance"), "float32")
    log_variance = ops.clip(log_variance, -LARGEST_LOG_VARIANCE, LARGEST_LOG_VARIANCE)
    center = ops.cast(mean, "float32")
    divergence = 0.5 * (ops.square(center) + ops.exp(log_variance) - 1.0 - log_variance)
    # Every entry is 0 or above, so that the l1 norm is the sum. Keras divides by the number of cases.
    divergence = layers.ActivityRegularization(l1=weight, name="kl")(divergence)
    # The divergence times 0 is what the noise is added to: so the layer above belongs to the way to the output.
    noise = layers.GaussianNoise(1.0, seed=net.build.layer_seed("noise"), name="noise")(
        layers.Rescaling(0.0, name="zero")(divergence)
    )
    deviation = ops.exp(0.5 * log_variance)
    code = layers.Add(name="sample")([mean, layers.Multiply(name="noise_scaled")([noise, deviation])])
    return keras.Model(image, net.decode(code), name="vae")


@dataclass(frozen=True)
class _Net:
    """The two ways of an autoencoder: their sizes and channels."""

    build: Builder
    shapes: tuple[tuple[int, ...], ...]
    """Spatial sizes, from the image's own to the smallest."""
    steps: tuple[tuple[int, ...], ...]
    """Strides of each halving."""
    width: int
    channels: int

    @classmethod
    def of(
        cls, input_shape: tuple[int, ...], width: int, levels: int | None, norm: str | None, seed: int, *, network: str
    ) -> _Net:
        rank = check_input(input_shape, smallest=4, network=network)
        check_count("width", width)
        steps = halving_steps(tuple(input_shape[:-1]), levels)
        shapes = [tuple(int(side) for side in input_shape[:-1])]
        for step in steps:
            shapes.append(tuple(-(-side // one) for side, one in zip(shapes[-1], step, strict=True)))
        return cls(Builder(rank=rank, norm=norm, seed=seed), tuple(shapes), steps, int(width), int(input_shape[-1]))

    def channels_at(self, level: int) -> int:
        return self.width * 2**level

    def encode(self, x):
        x = self.build.conv_norm_relu(x, self.channels_at(0), 3, name="stem")
        for level, step in enumerate(self.steps, start=1):
            x = halve(self.build, x, self.channels_at(level), step, name=f"encode{level}")
        return x

    def decode(self, code):
        deepest = len(self.steps)
        x = self.dense(code, prod(self.shapes[-1]) * self.channels_at(deepest), name="widen")
        x = layers.Reshape((*self.shapes[-1], self.channels_at(deepest)), name="reshape")(x)
        x = layers.Activation("relu", name="bottom")(self.build.normalize(x, name="bottom_norm"))
        for level in range(deepest, 0, -1):
            x = enlarge(x, self.steps[level - 1], self.shapes[level - 1], name=f"decode{level}")
            x = self.build.conv_norm_relu(x, self.channels_at(level - 1), 3, name=f"decode{level}")
        return output(self.build, x, self.channels)

    def dense(self, x, units: int, *, name: str):
        start = keras.initializers.GlorotUniform(seed=self.build.layer_seed(name))
        return layers.Dense(int(units), kernel_initializer=start, name=name)(x)
