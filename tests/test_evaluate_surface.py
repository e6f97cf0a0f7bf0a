"""Distances between outlines: hand-worked masks, MONAI's published and once computed values, a slow second way."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from medlab import evaluate
from medlab.evaluate import surface


def sphere(radius, center, shape=(99, 99, 99)):
    return sum((axis - middle) ** 2 for axis, middle in zip(np.indices(shape), center, strict=True)) <= radius**2


def blobs(shape, sigma, seed=5, before=0):
    """Two smooth masks that differ in part, from a fixed sequence of random numbers."""
    rng = np.random.default_rng(seed)
    for drawn in [(24, 20, 14)] * before:
        rng.normal(size=drawn)
    one, other = (gaussian_filter(rng.normal(size=shape), sigma) for _ in range(2))
    return one + 0.8 * other > 0.02, one + 0.5 * other > 0.02


# MONAI 1.5 on the same masks: hausdorff, its 95th percentile, average symmetric distance, surface Dice at 1 and 2.5.
# The first three pairs of spheres are those of its own tests.
MONAI = {
    "spheres of radius 20 and 40": (
        lambda: (sphere(20, (20, 33, 22)), sphere(40, (20, 33, 22))), 1.0,
        (20.223748, 20.099751, 15.117741, 0.012321792, 0.028716905),
    ),
    "spheres one voxel apart": (
        lambda: (sphere(20, (20, 20, 20)), sphere(20, (19, 19, 19))), 1.0,
        (1.7320508, 1.7320508, 0.89574295, 0.75484353, 1.0),
    ),
    "spheres that touch the border": (
        lambda: (sphere(33, (19, 33, 22)), sphere(33, (20, 33, 22))), 1.0,
        (1.0, 1.0, 0.35021746, 1.0, 1.0),
    ),
    "unequal spacing": (
        lambda: (sphere(20, (20, 33, 22)), sphere(40, (20, 33, 22))), (1.0, 0.5, 3.0),
        (60.0, 50.336731, 17.141130, 0.012321792, 0.029735234),
    ),
    "blobs in 3-D": (
        lambda: blobs((24, 20, 14), 2.5), (0.7, 1.1, 2.5),
        (2.607681, 1.1, 0.18387641, 0.93638915, 0.99906456),
    ),
    "blobs in 2-D": (
        lambda: blobs((40, 30), 3, before=2), (0.7, 1.9),
        (4.2, 2.3600848, 0.49200687, 0.84112149, 0.96261680),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MONAI)
def test_like_monai(name):
    masks, spacing, expected = MONAI[name]
    a, b = masks()
    found = (
        evaluate.hausdorff(a, b, spacing), evaluate.hausdorff(a, b, spacing, percentile=95),
        evaluate.assd(a, b, spacing), evaluate.nsd(a, b, spacing, 1.0), evaluate.nsd(a, b, spacing, 2.5),
    )  # fmt: skip
    assert found == pytest.approx(expected, rel=2e-6)


def test_two_voxels_by_hand():
    """One voxel each, 2 rows of 3 mm and 1 column of 8 mm apart: 10 mm whatever is asked."""
    a, b = np.zeros((5, 4)), np.zeros((5, 4))
    a[1, 1] = b[3, 2] = 1
    spacing = (3, 8)
    assert evaluate.hausdorff(a, b, spacing) == evaluate.assd(a, b, spacing) == 10
    assert evaluate.hausdorff(a, b, spacing, percentile=50) == 10
    assert evaluate.nsd(a, b, spacing, 9.99) == 0
    assert evaluate.nsd(a, b, spacing, 10) == 1


def test_a_square_grown_by_one_voxel_by_hand():
    """Outlines of 8 and 16 voxels: all 8 are 1 mm away from the other, 12 of the 16 are 1 mm, 4 corners sqrt(2)."""
    a, b = np.zeros((9, 9)), np.zeros((9, 9))
    a[3:6, 3:6] = 1
    b[2:7, 2:7] = 1
    assert evaluate.hausdorff(a, b, 1) == pytest.approx(np.sqrt(2))
    assert evaluate.assd(a, b, 1) == pytest.approx((8 + 12 + 4 * np.sqrt(2)) / 24)
    assert evaluate.nsd(a, b, 1, 1) == pytest.approx(20 / 24)
    assert evaluate.hausdorff(a, b, 1, percentile=50) == 1


def test_the_worst_of_both_ways():
    """A line within a longer one: nothing is far from the longer, the far end of which is 6 mm from the shorter."""
    a, b = np.zeros((1, 12)), np.zeros((1, 12))
    a[0, :3], b[0, :6] = 1, 1
    assert evaluate.hausdorff(a, b, (1, 2)) == evaluate.hausdorff(b, a, (1, 2)) == 6
    assert evaluate.assd(a, b, (1, 2)) == pytest.approx((2 + 4 + 6) / 9)


def test_touching_the_border():
    """A mask that fills the image has an outline: beyond the image there is none of it. The middle is inside."""
    full, inner = np.ones((5, 5, 5)), np.zeros((5, 5, 5))
    inner[1:4, 1:4, 1:4] = 1
    assert surface.outline(full.astype(bool)).sum() == 125 - 27
    assert evaluate.hausdorff(full, full, 1) == 0
    assert evaluate.hausdorff(full, inner, 1) == pytest.approx(np.sqrt(3))


def test_empty_masks_have_stated_answers():
    empty, one = np.zeros((4, 5)), np.zeros((4, 5))
    one[0, 0] = 1
    for percentile in (None, 0, 50, 95, 100):
        assert evaluate.hausdorff(empty, empty, 1, percentile) == 0
        assert evaluate.hausdorff(one, one, 1, percentile) == 0
        assert evaluate.hausdorff(one, empty, 1, percentile) == evaluate.hausdorff(empty, one, 1, percentile) == np.inf
    assert (evaluate.assd(empty, empty, 1), evaluate.assd(one, one, 1), evaluate.assd(one, empty, 1)) == (0, 0, np.inf)
    assert (evaluate.nsd(empty, empty, 1, 2), evaluate.nsd(one, one, 1, 0), evaluate.nsd(empty, one, 1, 99)) == (
        1,
        1,
        0,
    )


@pytest.mark.parametrize("shape", [(9, 12), (7, 8, 6)])
def test_like_the_distance_of_every_pair(shape):
    """A second way: outlines from their definition, voxel by voxel, and all distances between them."""
    rng = np.random.default_rng(len(shape))
    spacing = np.array([0.5, 2.0, 3.5])[: len(shape)]

    def outline(mask):
        grown = np.pad(mask, 1)
        points = []
        for point in np.argwhere(mask):
            steps = np.concatenate([np.eye(len(shape), dtype=int), -np.eye(len(shape), dtype=int)])
            if not all(grown[tuple(point + 1 + step)] for step in steps):
                points.append(point * spacing)
        return np.array(points)

    for _ in range(5):
        a, b = rng.random((2, *shape)) < 0.6
        between = np.linalg.norm(outline(a)[:, None] - outline(b)[None], axis=-1)
        to_b, to_a = between.min(axis=1), between.min(axis=0)
        both = np.r_[to_b, to_a]
        assert evaluate.hausdorff(a, b, spacing) == pytest.approx(both.max())
        hd95 = max(np.percentile(to_b, 95), np.percentile(to_a, 95))
        assert evaluate.hausdorff(a, b, spacing, 95) == pytest.approx(hd95)
        assert evaluate.assd(a, b, spacing) == pytest.approx(both.mean())
        assert evaluate.nsd(a, b, spacing, 0.5) == pytest.approx((both <= 0.5 + 1e-9).mean())


def test_millimeters_scale_with_the_spacing():
    a, b = blobs((24, 20, 14), 2.5)
    spacing = np.array([0.7, 1.1, 2.5])
    assert evaluate.assd(a, b, 3 * spacing) == pytest.approx(3 * evaluate.assd(a, b, spacing))
    assert evaluate.nsd(a, b, 3 * spacing, 3) == pytest.approx(evaluate.nsd(a, b, spacing, 1))


def test_an_outline_ends_where_the_truth_is_unknown():
    """A bar that runs into an unknown half: only its three known sides are outline."""
    bar, unknown = np.zeros((7, 8), bool), np.zeros((7, 8), bool)
    bar[2:5, 1:5] = True
    unknown[:, 5:] = True
    expected = np.zeros((7, 8), bool)
    expected[[2, 4], 1:5] = expected[2:5, 1] = True
    np.testing.assert_array_equal(surface.outline(bar, unknown), expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: evaluate.hausdorff(a, a, (1, 1, 1)), r"a spacing of 2 numbers.*Received \(3,\)"),
        (lambda a: evaluate.assd(a, a, (1, 0)), r"above 0 mm. Received \(1, 0\)"),
        (lambda a: evaluate.assd(a, a, (1, np.nan)), r"above 0 mm"),
        (lambda a: evaluate.hausdorff(a, a, 1, 101), r"percentile from 0 to 100.*Received 101"),
        (lambda a: evaluate.nsd(a, a, 1, -1), r"tolerance of 0 mm or more. Received -1"),
        (lambda a: evaluate.nsd(a, a, 1, np.nan), r"tolerance of 0 mm or more"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.ones((3, 4)))
