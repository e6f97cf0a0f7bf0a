"""Projection: features as two coordinates, for a map of a data set.

In: (n, d) features. Out: (n, 2) coordinates. It draws nothing: ``medlab.view.latent_map`` does.
"""

from __future__ import annotations

import importlib.util

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.evaluate import inputs
from medlab.evaluate.dimension import centered

METHODS = ("pca", "tsne", "umap")


def project(
    features: ArrayLike, *, method: str = "pca", dimensions: int = 2, neighbors: int = 15, seed: int = 0
) -> NDArray[np.float64]:
    """Coordinates of each case in a plane (or a space) that keeps what is near near.

    PCA is linear: directions of the largest variance, in which distances mean something. t-SNE and UMAP keep neighbors
    together and nothing else: sizes of clusters and distances between them mean nothing there. For both, features of
    more than 50 values are first brought to 50 by PCA.

    Args:
        features: (n, ...) features or images, n at least 3; flattened.
        method: ``"pca"``, ``"tsne"`` (scikit-learn) or ``"umap"`` (the package umap-learn, ``pip install
            "medlab[umap]"``).
        dimensions: 1, 2 or 3.
        neighbors: of each case that t-SNE (as its perplexity) and UMAP look at; lowered where there are few cases.
        seed: of t-SNE and UMAP; PCA needs none.

    Returns:
        (n, dimensions). PCA's axes come in the order of their variance; each points where its largest weight is
        positive, so that the same features give the same picture. Features that are all alike give zeros, by any
        method. t-SNE and UMAP see the features without their common offset and unit.

    Raises:
        ValueError: too few cases, values that are not finite, an unknown method, more dimensions than the features
            have, fewer than 2 neighbors, or UMAP without its package.

    Source: van der Maaten and Hinton, Journal of Machine Learning Research 9 (2008); McInnes, Healy and Melville,
        arXiv:1802.03426 (2018).
    """
    if method not in METHODS:
        raise ValueError(f"Expected a method among {', '.join(METHODS)}. Received {method!r}.")
    points = inputs.floats(features, "features (n, ...)")
    if points.ndim < 2 or len(points) < 3 or points.size == 0:
        raise ValueError(f"Expected features (n, ...) of at least 3 cases. Received shape {points.shape}.")
    if not np.isfinite(points).all():
        raise ValueError("Expected finite features. Some are NaN or infinite.")
    points = points.reshape(len(points), -1)
    if not _whole(dimensions) or dimensions not in (1, 2, 3) or dimensions > points.shape[1]:
        raise ValueError(f"Expected 1, 2 or 3 dimensions of features with {points.shape[1]}. Received {dimensions!r}.")
    if not _whole(neighbors) or neighbors < 2:
        raise ValueError(f"Expected at least 2 neighbors, a whole number. Received {neighbors!r}.")
    if not _whole(seed) or not 0 <= seed < 2**32:
        raise ValueError(f"Expected a seed from 0 to {2**32 - 1}, a whole number. Received {seed!r}.")
    if method == "umap":
        _find_umap()
    if not np.ptp(points, axis=0).any():
        return np.zeros((len(points), dimensions))
    points, power = centered(points)
    if method == "pca":
        return np.ldexp(_principal(points, dimensions), power)
    if points.shape[1] > 50 and len(points) > 50:
        points = _principal(points, 50)
    if method == "tsne":
        return _tsne(points, dimensions, neighbors, seed)
    return _umap(points, dimensions, neighbors, seed)


def _whole(value: object) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


def _principal(points: NDArray[np.float64], dimensions: int) -> NDArray[np.float64]:
    from sklearn.decomposition import PCA

    # PCA's own rule for signs looks at the cases; the weights do not change when a case is added twice.
    found = PCA(dimensions, svd_solver="auto", random_state=0).fit(points)
    largest = np.take_along_axis(found.components_, np.abs(found.components_).argmax(axis=1)[:, None], axis=1)[:, 0]
    return found.transform(points) * np.where(largest < 0, -1.0, 1.0)


def _tsne(points: NDArray[np.float64], dimensions: int, neighbors: int, seed: int) -> NDArray[np.float64]:
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    made = TSNE(
        dimensions, perplexity=min(float(neighbors), (len(points) - 1) / 3), random_state=seed,
        init="pca",
    )  # fmt: skip
    # Threads that wait for each other at every one of 1,000 steps take a hundred times as long on a busy machine.
    with threadpool_limits(1 if len(points) < 1000 else None):
        return np.asarray(made.fit_transform(points), np.float64)


def _find_umap() -> None:
    if importlib.util.find_spec("umap") is None:
        raise ValueError(
            'Expected the package umap-learn for method "umap". It is not installed: pip install "medlab[umap]", '
            'or take method "tsne".'
        )


def _umap(points: NDArray[np.float64], dimensions: int, neighbors: int, seed: int) -> NDArray[np.float64]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its parts that are not used, and of other packages' changes
        import umap

        made = umap.UMAP(
            n_components=dimensions, n_neighbors=min(neighbors, len(points) - 1), random_state=seed, n_jobs=1
        )
        return np.asarray(made.fit_transform(points), np.float64)
