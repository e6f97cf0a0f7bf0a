"""Restoring: how near restored images come to clean ones, and what the classic filters reach.

In: clean, noisy and restored images (n, i, j[, k], c). Out: PSNR and SSIM of each case, and a table with intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from medlab.evaluate import inputs, interval

FILTERS = {
    "non-local means": (0.2, 0.4, 0.6, 0.8, 1.0, 1.3),
    "total variation": (0.01, 0.03, 0.06, 0.1, 0.15, 0.25, 0.4),
}
"""Strengths that :func:`denoise_classically` tries: of non-local means in deviations of the noise, of total variation
the weight for images from 0 to 1."""


def psnr(clean: ArrayLike, image: ArrayLike, *, span: float) -> NDArray[np.float64]:
    """(n,) peak signal-to-noise ratio in decibels: 10 log10(span^2 / mean squared error); infinite for equal images.

    Args:
        clean: (n, i, j[, k], c) what is right.
        image: what is judged, of the same shape.
        span: difference of the largest and smallest value that an image can have, above 0: 8 for images from -3 to 5.

    Raises:
        ValueError: shapes that differ, no image, NaN, a span that is not above 0.
    """
    clean, image, span = _checked(clean, image, span)
    error = ((clean - image) ** 2).reshape(len(clean), -1).mean(axis=1)
    return np.array([10 * np.log10(span**2 / one) if one else np.inf for one in error])


def ssim(clean: ArrayLike, image: ArrayLike, *, span: float) -> NDArray[np.float64]:
    """(n,) structural similarity of each image and its restoration, at most 1 (Wang et al., IEEE TIP 2004;13:600).

    In windows of 7 pixels, fewer where a side is shorter; the mean over channels and windows.

    Args:
        clean: (n, i, j[, k], c) what is right.
        image: what is judged, of the same shape.
        span: as :func:`psnr`.

    Raises:
        ValueError: as :func:`psnr`; a side below 3.
    """
    from skimage.metrics import structural_similarity

    clean, image, span = _checked(clean, image, span)
    side = min(7, *clean.shape[1:-1])
    side -= side % 2 == 0
    if side < 3:
        raise ValueError(f"Expected images of at least 3 pixels a side. Received shape {clean.shape}.")
    return np.array([
        structural_similarity(one, other, win_size=side, data_range=span, channel_axis=-1)
        for one, other in zip(clean, image, strict=True)
    ])  # fmt: skip


def restoration(
    clean: ArrayLike,
    images: Mapping[str, ArrayLike],
    *,
    span: float,
    against: str | None = None,
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
    n: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """PSNR and SSIM of several restorations of the same images, with intervals over patients.

    Args:
        clean: (n, i, j[, k], c) what is right.
        images: name -> restored images of the same shape; the noisy ones may be among them.
        span: as :func:`psnr`.
        against: a name of ``images``: each other one gets the difference ``against`` - it, paired.
        groups: (n,) the patient of each case.
        confidence: level of the intervals.
        n: number of resamples of the patients.
        seed: of the resamples.

    Returns:
        A row a restoration: ``psnr``, ``psnr_low``, ``psnr_high``, ``ssim``, ``ssim_low``, ``ssim_high``, means over
        the cases; with ``against`` also ``psnr_gain``, ``ssim_gain`` and their limits, NaN in its own row. A
        restoration that equals a clean image has an infinite PSNR, and so has the mean.

    Raises:
        ValueError: as :func:`psnr`; an unknown name in ``against``.
    """
    interval.check_level(confidence, n)
    if not isinstance(images, Mapping):
        raise ValueError(f"Expected images as a dict of name -> images. Received {type(images).__name__}.")
    if not images or (against is not None and against not in images):
        raise ValueError(
            f"Expected against to be one of {', '.join(images) or 'at least one image'}. Received {against!r}."
        )
    values = {
        name: {"psnr": psnr(clean, one, span=span), "ssim": ssim(clean, one, span=span)} for name, one in images.items()
    }
    group, patients = inputs.patients(groups, len(np.asarray(clean)))
    blocks = list(interval.resamples(group, patients, n, seed))

    def entry(of_case: NDArray) -> tuple[float, float, float]:
        if not np.isfinite(of_case).all() or patients < 2:
            return float(of_case.mean()), np.nan, np.nan
        draws = np.concatenate([weights @ of_case / weights.sum(axis=1) for weights in blocks])
        return float(of_case.mean()), *interval.percentiles(draws, confidence)

    rows = {}
    for name, both in values.items():
        row = {}
        for measure, of_case in both.items():
            row |= dict(zip((measure, f"{measure}_low", f"{measure}_high"), entry(of_case), strict=True))
        for measure, of_case in both.items():
            if against is not None:
                with np.errstate(invalid="ignore"):
                    gain = values[against][measure] - of_case
                found = (np.nan,) * 3 if name == against else entry(gain)
                labels = (f"{measure}_gain", f"{measure}_gain_low", f"{measure}_gain_high")
                row |= dict(zip(labels, found, strict=True))
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")


def denoise_classically(
    x: ArrayLike, validation: tuple[ArrayLike, ArrayLike], *, span: float, low: float = 0.0, most: int = 16
) -> dict[str, NDArray[np.float32]]:
    """``x`` denoised by non-local means and by total variation, each at its best strength on validation images.

    Non-local means (Buades et al., CVPR 2005) with patches of 5 pixels within 6 (3 within 2 in 3-D) and the deviation
    of the noise estimated from wavelets; total variation by Chambolle's method (J Math Imaging Vis 2004;20:89). Both
    are scikit-image's. The strengths tried are ``FILTERS``; the best mean PSNR on the validation images wins.

    Args:
        x: (n, i, j[, k], c) noisy images.
        validation: noisy and clean images of other cases.
        span: as :func:`psnr`.
        low: the smallest value that an image can have.
        most: validation images that are tried at most, the first ones.

    Returns:
        name of ``FILTERS`` -> images of the shape of ``x``.

    Raises:
        ValueError: as :func:`psnr`; no pair of validation images, ``most`` below 1, ``low`` not finite.
    """
    if not isinstance(validation, tuple | list) or len(validation) != 2:
        raise ValueError(f"Expected validation as a pair (noisy, clean). Received {type(validation).__name__}.")
    if isinstance(most, bool) or not hasattr(most, "__index__") or most < 1:
        raise ValueError(f"Expected most to be a whole number of at least 1. Received {most!r}.")
    if not isinstance(low, int | float | np.number) or not np.isfinite(low):
        raise ValueError(f"Expected low as a finite number. Received {low!r}.")
    noisy, clean = (np.asarray(part, np.float32)[:most] for part in validation)
    _checked(clean, noisy, span)
    x = np.asarray(x, np.float32)
    _checked(x, x, span)
    made = {}
    for name, one in {"non-local means": _non_local_means, "total variation": _total_variation}.items():
        tried = {
            strength: float(np.mean(psnr(clean, _each(one, noisy, strength, low, span), span=span)))
            for strength in FILTERS[name]
        }
        made[name] = _each(one, x, max(tried, key=tried.get), low, span)
    return made


def _each(one: Callable, x: NDArray, strength: float, low: float, span: float) -> NDArray[np.float32]:
    """A filter on each image, brought to 0 to 1 and back."""
    # scikit-image leaves a single channel away.
    made = [np.reshape(one((image - low) / span, strength), image.shape) for image in x]
    return (np.stack(made) * span + low).astype(np.float32)


def _non_local_means(image: NDArray, strength: float) -> NDArray:
    from skimage.restoration import denoise_nl_means

    size, reach = (5, 6) if image.ndim == 3 else (3, 2)
    noise = _noise(image)
    if not noise:
        return image
    return denoise_nl_means(
        image, patch_size=size, patch_distance=reach, h=strength * noise, sigma=noise, fast_mode=True, channel_axis=-1
    )


def _noise(image: NDArray) -> float:
    """Deviation of white noise: median of the finest diagonal wavelet details / 0.6745 (Donoho and Johnstone 1994).

    The Haar details of 2 x 2 (x 2) pixels, those of exactly 0 left out (a background without noise).
    """
    detail = image
    for axis in range(image.ndim - 1):
        even = detail.shape[axis] // 2 * 2
        first = np.take(detail, range(0, even, 2), axis=axis)
        detail = (first - np.take(detail, range(1, even, 2), axis=axis)) / np.sqrt(2)
    detail = np.abs(detail[detail != 0])
    return float(np.median(detail) / 0.6745) if detail.size else 0.0


def _total_variation(image: NDArray, strength: float) -> NDArray:
    from skimage.restoration import denoise_tv_chambolle

    return denoise_tv_chambolle(image, weight=strength, channel_axis=-1)


def _checked(clean: ArrayLike, image: ArrayLike, span: float) -> tuple[NDArray, NDArray, float]:
    clean, image = inputs.floats(clean, "clean images"), inputs.floats(image, "the other images")
    if clean.shape != image.shape or clean.ndim not in (4, 5) or not len(clean):
        raise ValueError(
            "Expected clean and other images of one shape (n, i, j[, k], c), at least one. "
            f"Received {clean.shape} and {image.shape}."
        )
    if not (np.isfinite(clean).all() and np.isfinite(image).all()):
        raise ValueError("Expected finite images. Received NaN or infinity.")
    number = isinstance(span, int | float | np.number) and not isinstance(span, bool)
    if not number or not (np.isfinite(span) and span > 0):
        raise ValueError(
            "Expected span above 0: the difference of the largest and smallest value an image can have. "
            f"Received {span!r}."
        )
    return clean, image, float(span)
