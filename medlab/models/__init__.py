"""Models: functions that return a functional ``keras.Model`` with logits.

In: the shape of one image and the number of classes. Out: an untrained network; ``load`` reads a trained one. No data,
no training.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "autoencoder": "autoencoders",
    "backbone": "applications",
    "baseline_cnn": "classify",
    "conv_lstm": "recurrent",
    "cost": "costs",
    "decoder": "halves",
    "denoising_autoencoder": "denoisers",
    "densenet121": "dense",
    "encoder": "halves",
    "ensemble": "committee",
    "latent_divergence": "halves",
    "GAN": "adversarial",
    "gan": "adversarial",
    "load": "files",
    "make": "named",
    "masked_autoencoder": "masked",
    "match_parameters": "costs",
    "NETWORKS": "named",
    "projection": "projections",
    "resnet": "classify",
    "slice_mean": "recurrent",
    "slice_rnn": "recurrent",
    "slice_weights": "recurrent",
    "small_cnn": "classify",
    "two_and_half_d": "projections",
    "unet": "segment",
    "vae": "autoencoders",
    "vit": "transformer",
    "with_head": "heads",
}

__all__ = [
    "GAN",
    "NETWORKS",
    "autoencoder",
    "backbone",
    "baseline_cnn",
    "conv_lstm",
    "cost",
    "decoder",
    "denoising_autoencoder",
    "densenet121",
    "encoder",
    "ensemble",
    "gan",
    "latent_divergence",
    "load",
    "make",
    "masked_autoencoder",
    "match_parameters",
    "projection",
    "resnet",
    "slice_mean",
    "slice_rnn",
    "slice_weights",
    "small_cnn",
    "two_and_half_d",
    "unet",
    "vae",
    "vit",
    "with_head",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"medlab.models has no {name!r}. It has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return sorted(__all__)
