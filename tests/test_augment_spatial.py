"""The fused resampling: closed forms for flips, quarter turns, shifts and planes."""

import numpy as np
import pytest

from medlab.augment import spatial


def matrix(shape, **changes):
    """The matrix of one case that does nothing but ``changes``."""
    rank = len(shape)
    values = {
        "flip": np.zeros((1, rank), bool), "angles": np.zeros((1, 1 if rank == 2 else 3)), "scale": np.ones((1, rank)),
        "shear": np.zeros((1, rank * (rank - 1))), "shift": np.zeros((1, rank)),
    }  # fmt: skip
    for name, value in changes.items():
        values[name] = value if name == "spacing" else np.array([value])
    return spatial.matrices(shape, **values)


def image(*shape, seed=0):
    return np.random.default_rng(seed).random((1, *shape)).astype(np.float32)


def test_flips_are_exact():
    x = image(5, 6, 2)
    np.testing.assert_array_equal(spatial.warp(x, matrix((5, 6), flip=[True, False])), x[:, ::-1])
    np.testing.assert_array_equal(spatial.warp(x, matrix((5, 6), flip=[True, True])), x[:, ::-1, ::-1])
    v = image(4, 5, 6, 1)
    np.testing.assert_array_equal(spatial.warp(v, matrix((4, 5, 6), flip=[True, False, True])), v[:, ::-1, :, ::-1])


def test_quarter_turns_are_exact():
    x = image(7, 7, 1)
    # A positive angle turns what lies on axis i towards axis j.
    turned = spatial.warp(x, matrix((7, 7), angles=[np.pi / 2]))
    np.testing.assert_allclose(turned, np.rot90(x, 1, axes=(1, 2)), atol=1e-5)
    point = np.zeros((1, 7, 7, 1), np.float32)
    point[0, 5, 3] = 1  # two voxels along i from the middle
    assert np.argwhere(spatial.warp(point, matrix((7, 7), angles=[np.pi / 2]))[0, ..., 0] > 0.99).tolist() == [[3, 5]]
    v = image(5, 5, 5, 1)
    for axis, plane in enumerate(((2, 3), (3, 1), (1, 2))):
        angles = np.eye(3)[axis] * np.pi / 2
        np.testing.assert_allclose(spatial.warp(v, matrix((5, 5, 5), angles=angles)), np.rot90(v, 1, plane), atol=1e-5)


def test_whole_shifts_move_voxels_and_fill_as_stated():
    x = image(6, 7, 1) + 1
    moved = spatial.warp(x, matrix((6, 7), shift=[2, -1]))
    np.testing.assert_allclose(moved[0, 2:, :-1], x[0, :-2, 1:], atol=1e-6)
    np.testing.assert_allclose(moved[0, 0, :-1], x[0, 0, 1:], atol=1e-6)
    empty = spatial.warp(x, matrix((6, 7), shift=[2, -1]), fill="minimum")
    np.testing.assert_allclose(empty[0, :2], x.min())
    mask = (x[..., 0] > 1.5).astype(np.uint8) + 1
    np.testing.assert_array_equal(spatial.warp_mask(mask, matrix((6, 7), shift=[2, -1]))[0, 2:, :-1], mask[0, :-2, 1:])
    assert (spatial.warp_mask(mask, matrix((6, 7), shift=[2, -1]), fill="minimum")[0, :2] == 0).all()


@pytest.mark.parametrize("shape", [(31, 28), (15, 18, 13)])
def test_a_plane_stays_a_plane_under_all_changes_at_once(shape):
    rank = len(shape)
    slope = np.array([2.0, -1.0, 0.5])[:rank]
    x = (np.tensordot(slope, np.indices(shape), 1) + 7).astype(np.float32)[None, ..., None]
    step = matrix(
        shape, flip=[True] + [False] * (rank - 1), angles=[0.3] if rank == 2 else [0.1, -0.2, 0.3],
        scale=[1.1] * rank, shear=np.linspace(-0.1, 0.1, rank * (rank - 1)), shift=np.linspace(-1, 2, rank),
    )  # fmt: skip
    out = spatial.warp(x, step)[0, ..., 0]
    index = np.indices(shape).reshape(rank, -1)
    source = step[0, :rank, :rank] @ index + step[0, :rank, rank:]
    inside = ((source >= 0) & (source <= np.array(shape)[:, None] - 1)).all(0)
    assert inside.mean() > 0.4
    np.testing.assert_allclose(out.reshape(-1)[inside], (slope @ source + 7)[inside], atol=1e-3)


def test_twice_the_size_by_hand():
    x = np.arange(5, dtype=np.float32).reshape(1, 5, 1, 1)
    out = spatial.warp(x, matrix((5, 1), scale=[2, 1]))
    np.testing.assert_allclose(out[0, :, 0, 0], [1, 1.5, 2, 2.5, 3])


def test_a_rotation_of_long_voxels_keeps_lengths_in_millimeters():
    spacing = np.array([1.0, 1.0, 4.0])
    step = matrix((9, 9, 9), angles=[0.4, 0.2, -0.3], spacing=spacing)[0, :3, :3]
    world = spacing[:, None] * step / spacing
    np.testing.assert_allclose(world @ world.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(world) == pytest.approx(1)


def test_masks_keep_their_classes_and_follow_the_image():
    rng = np.random.default_rng(1)
    mask = np.zeros((1, 40, 41), np.int32)
    mask[0, 10:25, 12:30] = 3
    mask[0, 20:32, 20:25] = 7
    step = matrix((40, 41), angles=[0.5], scale=[1.05, 1.05], shift=[1.3, -2.2])
    out = spatial.warp_mask(mask, step)
    assert out.dtype == np.int32
    assert set(np.unique(out)) == {0, 3, 7}
    soft = spatial.warp((mask == 3).astype(np.float32)[..., None], step)[..., 0]
    assert ((soft > 0.5) == (out == 3)).mean() > 0.99
    flags = rng.random((1, 5, 6)) > 0.5
    assert spatial.warp_mask(flags, matrix((5, 6), flip=[True, False])).dtype == bool
