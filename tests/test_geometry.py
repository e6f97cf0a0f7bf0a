"""Affine algebra against nibabel and hand-worked points."""

import nibabel
import numpy as np
import pytest

from medlab import geometry


def oblique(seed: int) -> np.ndarray:
    """A random rotation with unequal spacings, some axes mirrored."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * rng.uniform(0.3, 5, 3)
    matrix[:3, 3] = rng.uniform(-200, 200, 3)
    return matrix


@pytest.mark.parametrize("seed", range(20))
def test_agrees_with_nibabel_on_oblique_affines(seed):
    affine = oblique(seed)
    points = np.random.default_rng(seed).normal(size=(5, 2, 3)) * 50
    np.testing.assert_allclose(geometry.apply(affine, points), nibabel.affines.apply_affine(affine, points))
    np.testing.assert_allclose(geometry.spacing(affine), nibabel.affines.voxel_sizes(affine))
    assert geometry.axis_codes(affine) == "".join(nibabel.aff2axcodes(affine))
    back = geometry.apply(geometry.invert(affine), geometry.apply(affine, points))
    np.testing.assert_allclose(back, points, atol=1e-9)


def test_parts_by_hand():
    affine = geometry.from_parts((2, 3, 4), (10, 20, 30), np.diag([-1, -1, 1]))
    np.testing.assert_allclose(geometry.apply(affine, [1, 1, 1]), [8, 17, 34])
    np.testing.assert_allclose(geometry.spacing(affine), [2, 3, 4])
    np.testing.assert_allclose(geometry.origin(affine), [10, 20, 30])
    np.testing.assert_allclose(geometry.direction(affine), np.diag([-1, -1, 1]))
    assert geometry.axis_codes(affine) == "LPS"


def test_compose_applies_the_last_first():
    both = geometry.compose(geometry.translation((1, 0, 0)), geometry.scaling((2, 3, 4)))
    np.testing.assert_allclose(geometry.apply(both, [1, 1, 1]), [3, 3, 4])


def test_lps_and_back():
    affine = oblique(3)
    np.testing.assert_allclose(geometry.lps_to_ras(geometry.lps_to_ras(affine)), affine)
    np.testing.assert_allclose(geometry.apply(geometry.lps_to_ras(np.eye(4)), [1, 2, 3]), [-1, -2, 3])


def test_micrometers_are_not_taken_for_a_flat_image():
    geometry.check(np.diag([1e-4, 1e-4, 1e-4, 1]))


def test_origin_is_a_copy():
    affine = np.eye(4)
    geometry.origin(affine)[0] = 5
    assert affine[0, 3] == 0


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (np.eye(3), r"4 x 4 affine. Received shape \(3, 3\)"),
        (np.diag([1, np.nan, 1, 1]), "finite affine"),
        (np.ones((4, 4)), "last row"),
        (np.diag([1, 0, 1, 1]), "can be inverted"),
        (np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "can be inverted"),
    ],
)
def test_wrong_affine(affine, message):
    with pytest.raises(ValueError, match=message):
        geometry.check(affine)


def test_wrong_points():
    with pytest.raises(ValueError, match=r"\(\.\.\., 3\)"):
        geometry.apply(np.eye(4), [1, 2])
