"""Dimensions of manifolds whose dimension is known, and components of variances worked out by hand."""

import numpy as np
import pytest

from medlab import evaluate


def embedded(inner: np.ndarray, outer: int, seed: int) -> np.ndarray:
    """Points of a low space turned into a space of ``outer`` dimensions, distances unchanged."""
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(outer, inner.shape[1])))
    return inner @ turn.T


def sphere(n: int, seed: int) -> np.ndarray:
    """Points on the 3-sphere in four dimensions: an even manifold without an edge."""
    points = np.random.default_rng(seed).normal(size=(n, 4))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def roll(n: int, seed: int) -> np.ndarray:
    """Points on a rolled-up rectangle."""
    rng = np.random.default_rng(seed)
    angle = 1.5 * np.pi * (1 + 2 * np.sqrt(rng.random(n)))
    return np.stack([angle * np.cos(angle), angle * np.sin(angle), 20 * rng.random(n)], axis=1)


@pytest.mark.parametrize("method", ["twonn", "mle"])
@pytest.mark.parametrize(("points", "truth"), [
    (embedded(np.random.default_rng(0).random((1500, 2)), 12, 0), 2), (roll(1500, 1), 2),
    (embedded(sphere(1500, 2), 30, 2), 3),
])  # fmt: skip
def test_the_dimension_of_manifolds(points, truth, method):
    found = evaluate.intrinsic_dimension(points, method=method)
    assert found.value == pytest.approx(truth, rel=0.07)
    assert found.low < found.value < found.high
    if method == "twonn":  # an exponent estimated from n ratios has a relative error of 1 / sqrt(n)
        assert (found.low / truth, found.high / truth) == pytest.approx(
            tuple(found.value / truth * (1 + sign * 1.96 / 1500**0.5) for sign in (-1, 1)), abs=0.005
        )
    assert (found.n, found.left_out, found.method) == (1500, 0, method)


@pytest.mark.parametrize("method", ["twonn", "mle"])
def test_the_dimension_ignores_scale_turns_shifts_and_repeats(method):
    points = roll(400, 3)
    moved = embedded(1000 * points + 7, 5, 4).reshape(400, 5, 1, 1)
    again = np.concatenate([moved, moved[:30]])
    one, other = (evaluate.intrinsic_dimension(x, method=method) for x in (points, again))
    assert other.value == pytest.approx(one.value, rel=1e-6)
    assert (other.n, other.left_out) == (400, 30)


@pytest.mark.parametrize("method", ["twonn", "mle"])
@pytest.mark.parametrize(("offset", "power"), [(2.0**23, 0), (2.0**30, 0), (0, 900), (0, -900), (2.0**30, 900)])
def test_the_dimension_ignores_offsets_and_units_of_any_size(method, offset, power):
    """In 20 values, where the search for neighbors squares them; multiples of 1 / 1024 are exact beside the offset."""
    points = np.round(embedded(sphere(400, 5), 20, 5) * 1024) / 1024
    one = evaluate.intrinsic_dimension(points, method=method)
    other = evaluate.intrinsic_dimension(np.ldexp(points + offset, power), method=method)
    assert other.value == pytest.approx(one.value, rel=1e-6)
    assert evaluate.explained_variance(np.ldexp(points + offset, power))[0] == pytest.approx(
        evaluate.explained_variance(points)[0], rel=1e-6
    )


def test_two_neighbors_by_hand():
    """On a line at 0, 1, 3, 7 the ratios are 3, 2, 3/2, 6/4: a slope through the origin, without the largest."""
    x = np.log([1.5, 1.5, 2.0])
    y = -np.log([3 / 4, 2 / 4, 1 / 4])
    found = evaluate.intrinsic_dimension(np.array([[0.0], [1], [3], [7]]), trimmed=0)
    assert found.value == pytest.approx((x * y).sum() / (x * x).sum())


def test_likelihood_by_hand():
    """Points 0, 1, 3, 7 with 3 neighbors: MacKay and Ghahramani's mean of Levina and Bickel's inverse estimates."""
    distances = [(1, 3, 7), (1, 2, 6), (2, 3, 4), (4, 6, 7)]
    inverse = np.array([np.log(c / a) / 2 + np.log(c / b) / 2 for a, b, c in distances])
    found = evaluate.intrinsic_dimension(np.array([[0.0], [1], [3], [7]]), method="mle", neighbors=3)
    assert found.value == pytest.approx(1 / inverse.mean())
    error = inverse.std(ddof=1) / 2  # of a mean of four
    ends = (1 / (inverse.mean() + 1.96 * error), 1 / (inverse.mean() - 1.96 * error))
    assert (found.low, found.high) == pytest.approx(ends)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    """Where there is no edge and points are many for their dimension."""
    found = [evaluate.intrinsic_dimension(sphere(600, seed)) for seed in range(40)]
    assert sum(one.low <= 3 <= one.high for one in found) >= 34


def test_explained_variance_by_hand():
    # Variances 9, 1 and 0 along the axes: 90 % and 10 %.
    x = np.array([[3.0, 0, 5], [-3, 0, 5], [0, 1, 5], [0, -1, 5]])
    np.testing.assert_allclose(evaluate.explained_variance(x), [0.9, 1, 1])
    np.testing.assert_allclose(evaluate.explained_variance(x, 2), [0.9, 1])
    assert [evaluate.components_needed(x, share) for share in (0.5, 0.9, 0.91, 1.0)] == [1, 1, 2, 2]


@pytest.mark.parametrize("shape", [(30, 8), (8, 30)])
def test_explained_variance_is_scikit_learns(shape):
    from sklearn.decomposition import PCA

    x = np.random.default_rng(0).normal(size=shape) @ np.diag(np.arange(1, shape[1] + 1))
    most = min(shape[0] - 1, shape[1])
    ours = evaluate.explained_variance(x.reshape(shape[0], -1, 2))
    np.testing.assert_allclose(ours, PCA(most).fit(x).explained_variance_ratio_.cumsum(), rtol=1e-9)


@pytest.mark.parametrize(("call", "message"), [
    (lambda x: evaluate.intrinsic_dimension(x, method="pca"), "a method among twonn, mle. Received 'pca'"),
    (lambda x: evaluate.intrinsic_dimension(x[:3]), r"at least 4 different points. Received 3, and 0 that repeat"),
    (lambda x: evaluate.intrinsic_dimension(np.ones((9, 4))), r"Received 1, and 8 that repeat"),
    (lambda x: evaluate.intrinsic_dimension(np.where(x > 0, np.nan, x)), "finite values"),
    (lambda x: evaluate.intrinsic_dimension(x[:, 0]), r"points \(n, ...\), at least two. Received shape \(30,\)"),
    (lambda x: evaluate.intrinsic_dimension(x, trimmed=1), "Received 1"),
    (lambda x: evaluate.intrinsic_dimension(x, method="mle", neighbors=30), "fewer than the 30 different points"),
    (lambda x: evaluate.intrinsic_dimension([[0, 0], [0, 1], [1, 0], [1, 1]]), "All lie on a grid"),
    (lambda x: evaluate.intrinsic_dimension(np.eye(5), method="mle", neighbors=4), "All lie at the same"),
    (lambda x: evaluate.explained_variance(np.ones((4, 3))), "All are alike"),
    (lambda x: evaluate.explained_variance(x, 5), r"Expected 1 to 4 components of 30 points with 4 values. Received 5"),
    (lambda x: evaluate.components_needed(x, 0), "Expected a share above 0"),
])  # fmt: skip
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.random.default_rng(0).normal(size=(30, 4)))


GRID = np.random.default_rng(0).normal(size=(12, 3))


@pytest.mark.parametrize(("call", "message"), [
    (lambda: evaluate.intrinsic_dimension(GRID, method="mle", neighbors="5"), "3 or more neighbors.* Received '5'"),
    (lambda: evaluate.intrinsic_dimension(GRID, method="mle", neighbors=4.5), "a whole number.* Received 4.5"),
    (lambda: evaluate.intrinsic_dimension(GRID, trimmed=None), "share to leave out .* Received None"),
    (lambda: evaluate.explained_variance(GRID, 2.0), "components as a whole number. Received 2.0"),
    (lambda: evaluate.components_needed(GRID, "95%"), "such as 0.95. Received '95%'"),
    (lambda: evaluate.intrinsic_dimension([["a", "b"]] * 5), r"points \(n, ...\) as numbers. Received text"),
    (lambda: evaluate.intrinsic_dimension([[1, 2], [3]]), "Received list with entries of unlike lengths"),
])  # fmt: skip
def test_arguments_of_other_types_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_numbers_of_numpy_are_numbers():
    found = evaluate.intrinsic_dimension(GRID, method="mle", neighbors=np.int64(4))
    assert found == evaluate.intrinsic_dimension(GRID, method="mle", neighbors=4)
    assert evaluate.explained_variance(GRID, np.int32(2)).shape == (2,)
    assert evaluate.components_needed(GRID, np.float32(1)) == 3
