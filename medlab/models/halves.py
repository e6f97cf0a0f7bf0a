"""Halves: the encoder and the decoder of a trained autoencoder, and what each number of a code tells.

In: a model of :func:`medlab.models.autoencoder` or :func:`medlab.models.vae`. Out: Keras models that share its weights,
or numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.backend import keras
from medlab.models.autoencoders import LARGEST_LOG_VARIANCE


def encoder(model: keras.Model) -> keras.Model:
    """The first half of an autoencoder: images to their codes (n, latent). It shares its weights with ``model``.

    Args:
        model: what :func:`autoencoder` or :func:`vae` gave, trained or not. Of a :func:`vae` it gives the mean.

    Raises:
        ValueError: the model has no layer ``latent``.
    """
    code = _layer(model, "latent").output
    return keras.Model(model.input, code, name=f"{model.name}_encoder")


def decoder(model: keras.Model) -> keras.Model:
    """The second half of an autoencoder: codes (n, latent) to images. It shares its weights with ``model``.

    Args:
        model: what :func:`autoencoder` or :func:`vae` gave, trained or not.

    Raises:
        ValueError: the model has no layer ``latent``.
    """
    code = _layer(model, "latent").output
    if any(layer.name == "sample" for layer in model.layers):
        code = model.get_layer("sample").output
    return keras.Model(code, model.output, name=f"{model.name}_decoder")


def latent_divergence(model: keras.Model, x: ArrayLike, *, batch_size: int = 64) -> NDArray[np.float64]:
    """(latent,) how many nats each number of a VAE's code tells about an image, on average; about 0: it has collapsed.

    The mean over the images of (mean^2 + var - 1 - ln var) / 2, the divergence of each number's distribution from the
    standard normal one, which is what an image that is told nothing about has.

    Args:
        model: what :func:`vae` gave, trained.
        x: (n, i, j[, k], c) images.
        batch_size: images at a time.

    Raises:
        ValueError: the model is no :func:`vae`; no image, images of another shape or with NaN; a batch size below 1.
    """
    parts = [_layer(model, name).output for name in ("latent", "log_variance")]
    x = np.asarray(x, np.float32)
    if not len(x):
        raise ValueError(f"Expected at least one image. Received x {x.shape}.")
    if x.shape[1:] != tuple(model.input_shape[1:]):
        raise ValueError(f"Expected images (n, *{tuple(model.input_shape[1:])}). Received {x.shape}.")
    if not np.isfinite(x).all():
        raise ValueError("Expected finite images. Received NaN or infinity.")
    if isinstance(batch_size, bool) or not hasattr(batch_size, "__index__") or batch_size < 1:
        raise ValueError(f"Expected batch_size to be a whole number of at least 1. Received {batch_size!r}.")
    both = keras.Model(model.input, parts)
    total = np.zeros(parts[0].shape[-1])
    for start in range(0, len(x), batch_size):
        mean, log_variance = (
            np.asarray(keras.ops.convert_to_numpy(one), np.float64)
            for one in both(x[start : start + batch_size], training=False)
        )
        log_variance = np.clip(log_variance, -LARGEST_LOG_VARIANCE, LARGEST_LOG_VARIANCE)
        total += (0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance)).sum(axis=0)
    return total / len(x)


def _layer(model: keras.Model, name: str) -> keras.layers.Layer:
    known = [layer.name for layer in getattr(model, "layers", [])]
    if name not in known:
        kinds = "medlab.models.vae" if name == "log_variance" else "medlab.models.autoencoder or vae"
        raise ValueError(
            f"Expected a model of {kinds}, with a layer {name!r}. Received {getattr(model, 'name', model)!r}."
        )
    return model.get_layer(name)
