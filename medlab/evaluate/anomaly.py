"""Anomaly maps: where an image differs from what a model of healthy images makes of it, and simple maps beside it.

In: images (n, i, j[, k], c) and their reconstructions. Out: maps (n, i, j[, k]) float32, 0 or above, and a score an
image. They are judged by :func:`medlab.evaluate.anomalies`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

SIDES = ("both", "bright", "dark")


def healthy_only(x: ArrayLike, y: ArrayLike, *, healthy: int = 0) -> NDArray[np.float32]:
    """The images of the healthy class alone, for a model that must see no other.

    Args:
        x: (n, i, j[, k], c) images.
        y: (n,) class indices.
        healthy: index of the healthy class.

    Raises:
        ValueError: lengths that differ, labels of another form, no healthy image, or one with NaN or infinity.
    """
    x, y = np.asarray(x, np.float32), np.asarray(y)
    if y.shape != (len(x),):
        raise ValueError(f"Expected one class index for each of {len(x)} images. Received labels of shape {y.shape}.")
    chosen = x[y == healthy]
    if not len(chosen):
        found = ", ".join(f"{one}" for one in np.unique(y)) or "none"
        raise ValueError(
            f"There is no healthy image: none of {len(y)} has class {healthy} (there is {found}). What an anomaly is "
            "can only be learned from images without one; give healthy=<index of their class>, or other cases."
        )
    faulty = ~np.isfinite(chosen.reshape(len(chosen), -1)).all(axis=1)
    if faulty.any():
        raise ValueError(
            f"Expected finite healthy images. Received {faulty.sum()} of {len(chosen)} with NaN or infinity, the first "
            f"is image {np.flatnonzero(y == healthy)[faulty.argmax()]}; medlab.clean.faults finds them."
        )
    return chosen


def body_masks(x: ArrayLike) -> NDArray[np.bool_]:
    """(n, i, j[, k]) where each image shows the body: the largest region above Otsu's threshold, holes filled.

    Args:
        x: (n, i, j[, k], c) images with a dark background; of several channels the mean is looked at. A constant
            image is all body.

    Source: N. Otsu, IEEE Trans. Syst. Man Cybern. 9(1), 1979, 62-66.
    """
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    gray = _images(x, "images").mean(axis=-1)
    masks = np.ones(gray.shape, bool)
    for case, image in enumerate(gray):
        if image.min() == image.max():
            continue
        parts, count = ndimage.label(image > threshold_otsu(image))
        if count:
            sizes = np.bincount(parts.ravel())
            masks[case] = ndimage.binary_fill_holes(parts == 1 + sizes[1:].argmax())
    return masks


def anomaly_maps(
    x: ArrayLike,
    reconstruction: ArrayLike,
    *,
    side: str = "both",
    smooth: float = 1.0,
    inside: ArrayLike | None = None,
) -> NDArray[np.float32]:
    """(n, i, j[, k]) how far each pixel is from its reconstruction: the mean over the channels, smoothed, in the body.

    Args:
        x: (n, i, j[, k], c) images.
        reconstruction: what a model of healthy images makes of them, of the same shape.
        side: ``"both"``: the absolute residual; ``"bright"``: only what is brighter than its reconstruction, for
            lesions that are known to be bright; ``"dark"``: only what is darker.
        smooth: deviation of the Gaussian that smooths the residual, in pixels; 0 for none. A residual of single pixels
            is mostly noise and edges, a lesion has an extent.
        inside: (n, i, j[, k]) where there is body, such as :func:`body_masks` gives; elsewhere the map is 0. None:
            everywhere.

    Raises:
        ValueError: shapes that differ, NaN, an unknown side, ``smooth`` below 0.
    """
    x, made = _images(x, "images"), _images(reconstruction, "reconstructions")
    if x.shape != made.shape:
        raise ValueError(f"Expected a reconstruction of the shape of the images, {x.shape}. Received {made.shape}.")
    if side not in SIDES:
        raise ValueError(f"Expected side to be one of {SIDES}. Received {side!r}.")
    residual = x - made
    if side == "both":
        residual = np.abs(residual)
    else:
        residual = np.maximum(residual if side == "bright" else -residual, 0)
    return _finished(residual.mean(axis=-1), smooth, inside)


def intensity_maps(
    x: ArrayLike,
    *,
    side: str = "bright",
    smooth: float = 1.0,
    inside: ArrayLike | None = None,
    reference: float | None = None,
) -> NDArray[np.float32]:
    """(n, i, j[, k]) how bright each pixel is: what a plain threshold would go by, the first baseline to beat.

    Args:
        x: (n, i, j[, k], c) images, standardized alike.
        side: ``"bright"``: above the reference; ``"dark"``: below it; ``"both"``: away from it.
        smooth: as :func:`anomaly_maps`.
        inside: as :func:`anomaly_maps`.
        reference: value that has 0, one for all, so that maps of several calls share a scale: the least value of the
            training images for bright lesions, the greatest for dark ones; what lies on its other side has 0 too.
            None: of each image its own darkest pixel, its brightest, or its median within ``inside``.

    Raises:
        ValueError: as :func:`anomaly_maps`; a reference that is no finite number.
    """
    gray = _images(x, "images").mean(axis=-1)
    if side not in SIDES:
        raise ValueError(f"Expected side to be one of {SIDES}. Received {side!r}.")
    if reference is not None:
        number = isinstance(reference, int | float | np.number) and not isinstance(reference, bool)
        if not number or not np.isfinite(reference):
            raise ValueError(f"Expected reference as a finite value of the images, or None. Received {reference!r}.")
        zero = np.full(len(gray), reference, np.float32)
    elif side == "both":
        within = np.ones(gray.shape, bool) if inside is None else _inside(inside, gray.shape)
        zero = [np.median(image[part]) if part.any() else 0.0 for image, part in zip(gray, within, strict=True)]
    else:
        flat = gray.reshape(len(gray), -1)
        zero = flat.min(axis=1) if side == "bright" else flat.max(axis=1)
    values = gray - np.reshape(zero, (-1, *[1] * (gray.ndim - 1)))
    values = np.abs(values) if side == "both" else np.maximum(values if side == "bright" else -values, 0)
    return _finished(values, smooth, inside)


def pca_reconstruction(train: ArrayLike, x: ArrayLike, *, components: int = 64, seed: int = 0) -> NDArray[np.float32]:
    """``x`` (n, i, j[, k], c) as the nearest sum of the principal components of ``train``: the linear autoencoder.

    Args:
        train: (m, i, j[, k], c) healthy images.
        x: images of the same shape.
        components: how many, at most as many as there are training images or values an image.
        seed: of scikit-learn's randomized solver.

    Raises:
        ValueError: no training image, shapes that differ, less than one component.
    """
    from sklearn.decomposition import PCA

    train, x = _images(train, "training images"), _images(x, "images")
    if train.shape[1:] != x.shape[1:]:
        raise ValueError(f"Expected images of the training images' shape {train.shape[1:]}. Received {x.shape[1:]}.")
    if isinstance(components, bool) or not hasattr(components, "__index__") or components < 1:
        raise ValueError(f"Expected components to be a whole number of at least 1. Received {components!r}.")
    flat = train.reshape(len(train), -1)
    if (flat == flat[:1]).all():  # scikit-learn divides by the variance, which is 0
        return np.repeat(train[:1], len(x), axis=0)
    model = PCA(min(int(components), *flat.shape), random_state=seed).fit(flat)
    return model.inverse_transform(model.transform(x.reshape(len(x), -1))).reshape(x.shape).astype(np.float32)


def image_scores(maps: ArrayLike, *, share: float = 0.005) -> NDArray[np.float64]:
    """(n,) how abnormal each image is: the mean of the highest ``share`` of its map.

    The maximum alone hangs on a single pixel, the mean over all of them thins a small lesion out.

    Args:
        maps: (n, i, j[, k]) anomaly maps.
        share: of the pixels, above 0 to 1; at least one pixel. 0.005 (20 pixels of 64 x 64) was chosen.

    Raises:
        ValueError: no map, NaN, a share out of range.
    """
    maps = checked_maps(maps)
    number = isinstance(share, int | float | np.number) and not isinstance(share, bool)
    if not number or not 0 < share <= 1:
        raise ValueError(f"Expected share above 0 to 1. Received {share!r}.")
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    count = max(1, round(share * flat.shape[1]))
    return np.partition(flat, flat.shape[1] - count, axis=1)[:, -count:].mean(axis=1)


def _finished(values: NDArray, smooth: float, inside: ArrayLike | None) -> NDArray[np.float32]:
    """Smoothed along the spatial axes, and 0 outside the body."""
    from scipy import ndimage

    number = isinstance(smooth, int | float | np.number) and not isinstance(smooth, bool)
    if not number or not (np.isfinite(smooth) and smooth >= 0):
        raise ValueError(f"Expected smooth in pixels, 0 or above. Received {smooth!r}.")
    if smooth:
        values = ndimage.gaussian_filter(values, (0, *[float(smooth)] * (values.ndim - 1)))
    if inside is not None:
        values = values * _inside(inside, values.shape)
    return values.astype(np.float32)


def _inside(inside: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    inside = np.asarray(inside)
    if inside.shape != shape:
        raise ValueError(f"Expected inside as masks of shape {shape}. Received {inside.shape}.")
    return inside.astype(bool)


def _images(x: ArrayLike, name: str) -> NDArray[np.float32]:
    x = np.asarray(x)
    if x.ndim not in (4, 5) or x.dtype.kind not in "biuf":
        raise ValueError(f"Expected {name} (n, i, j[, k], c) of numbers. Received shape {x.shape} of {x.dtype}.")
    if not len(x):
        raise ValueError(f"Expected at least one of the {name}. Received none: is there no healthy image?")
    if not np.isfinite(x).all():
        raise ValueError(f"Expected finite {name}. {int((~np.isfinite(x)).sum())} values are NaN or infinite.")
    return x.astype(np.float32, copy=False)


def checked_maps(maps: ArrayLike) -> NDArray:
    """``maps`` as an array (n, i, j[, k]), after checks."""
    maps = np.asarray(maps)
    if maps.ndim not in (3, 4) or maps.dtype.kind not in "biuf" or not len(maps):
        raise ValueError(f"Expected at least one map, (n, i, j[, k]). Received shape {maps.shape} of {maps.dtype}.")
    if not np.isfinite(maps).all():
        raise ValueError("Expected finite maps. Received NaN or infinity.")
    return maps
