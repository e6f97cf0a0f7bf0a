"""Coordinates: PCA against the singular value decomposition, neighbors kept by t-SNE and UMAP, and clear refusals."""

import importlib.util

import numpy as np
import pytest

from medlab import evaluate


def clusters(n: int = 60, d: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Three clusters far apart."""
    y = np.arange(n) % 3
    return np.random.default_rng(0).normal(size=(n, d)) + 12 * np.eye(d)[y], y


def nearest_of_same_class(points, y):
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    return np.mean(y[distances.argmin(axis=1)] == y)


def test_pca_is_the_singular_value_decomposition():
    x = np.random.default_rng(1).normal(size=(20, 3, 4)) * np.arange(1, 5)
    u, s, axes = np.linalg.svd(x.reshape(20, 12) - x.reshape(20, 12).mean(axis=0), full_matrices=False)
    signs = [np.sign(one[np.abs(one).argmax()]) for one in axes[:2]]
    np.testing.assert_allclose(evaluate.project(x), u[:, :2] * s[:2] * signs, atol=1e-10)


def test_pca_turns_no_axis_round_when_cases_come_twice():
    x, _ = clusters()
    np.testing.assert_allclose(evaluate.project(np.concatenate([x, x]))[:60], evaluate.project(x), atol=1e-8)


@pytest.mark.parametrize("method", ["tsne", "umap"])
def test_neighbors_stay_neighbors_and_seeds_give_the_same(method):
    x, y = clusters()
    points = evaluate.project(x, method=method, seed=3)
    assert points.shape == (60, 2)
    assert nearest_of_same_class(points, y) == 1
    np.testing.assert_array_equal(points, evaluate.project(x, method=method, seed=3))


def test_few_cases_lower_the_neighbors():
    x, _ = clusters(6)
    points = evaluate.project(x, method="tsne", neighbors=15)
    assert np.isfinite(points).all()
    # A perplexity of (6 - 1) / 3 is all that six cases have room for; fewer neighbors give another map.
    np.testing.assert_array_equal(points, evaluate.project(x, method="tsne", neighbors=2))
    more = clusters(30, 8)[0]
    few, many = (evaluate.project(more, method="tsne", neighbors=neighbors) for neighbors in (3, 9))
    assert np.abs(few - many).max() > 0.1 * np.ptp(many)


@pytest.mark.parametrize("method", ["pca", "tsne"])
@pytest.mark.parametrize("power", [-100, 100, 1000])
def test_the_unit_does_not_matter(method, power):
    """Powers of 2 leave every digit: 1e-30 ended the process, 1e300 gave no map."""
    x, y = clusters(30, 8)
    points = evaluate.project(np.ldexp(x, power), method=method)
    unit = power if method == "pca" else 0
    np.testing.assert_array_equal(points, np.ldexp(evaluate.project(x, method=method), unit))
    assert nearest_of_same_class(np.ldexp(points, -unit), y) == 1


def test_a_common_offset_does_not_matter():
    x = np.round(clusters(30, 8)[0] * 1024) / 1024  # exact beside the offset
    np.testing.assert_allclose(evaluate.project(x + 2.0**26), evaluate.project(x), atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e300])
def test_features_that_are_all_alike_lie_at_zero(value):
    for method in ("pca", "tsne"):
        np.testing.assert_array_equal(evaluate.project(np.full((9, 4), value), method=method), np.zeros((9, 2)))


def test_a_constant_column_and_one_far_case_leave_a_finite_map():
    x, _ = clusters(30, 8)
    x[:, 3], x[0, 0] = 7, 1e30
    for method in ("pca", "tsne"):
        assert np.isfinite(evaluate.project(x, method=method)).all()


def test_umap_without_its_package_says_what_to_do(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "umap" else find(name, *rest))
    with pytest.raises(ValueError, match=r'pip install "medlab\[umap\]", or take method "tsne"'):
        evaluate.project(clusters()[0], method="umap")


@pytest.mark.parametrize(("call", "message"), [
    (lambda x: evaluate.project(x, method="lda"), "a method among pca, tsne, umap. Received 'lda'"),
    (lambda x: evaluate.project(x[:2]), r"at least 3 cases. Received shape \(2, 60\)"),
    (lambda x: evaluate.project(x[:, 0]), "at least 3 cases"),
    (lambda x: evaluate.project(np.full_like(x, np.nan)), "finite features"),
    (lambda x: evaluate.project(x, dimensions=4), "Expected 1, 2 or 3 dimensions of features with 60. Received 4"),
    (lambda x: evaluate.project(x[:, :1]), "of features with 1. Received 2"),
    (lambda x: evaluate.project(x, method="tsne", neighbors=1), "at least 2 neighbors, a whole number. Received 1"),
    (lambda x: evaluate.project(x, neighbors="5"), "at least 2 neighbors, a whole number. Received '5'"),
    (lambda x: evaluate.project(x, neighbors=np.nan), "at least 2 neighbors, a whole number. Received nan"),
    (lambda x: evaluate.project(x, dimensions=True), "Expected 1, 2 or 3 dimensions .* Received True"),
    (lambda x: evaluate.project([["a", "b"]] * 4), "Expected features .* as numbers"),
    (lambda x: evaluate.project(x, seed=-1), "seed .* Received -1"),
])  # fmt: skip
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(clusters()[0])


def test_complex_features_are_refused():
    with pytest.raises(ValueError, match=r"features \(n, ...\) as numbers. Received complex numbers"):
        evaluate.project(np.ones((4, 3)) * 1j)
