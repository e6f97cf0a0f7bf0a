"""The hippocampus phantom: its volumes, its sides, and how near it comes to real images."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from medlab import load
from medlab.phantoms import anatomy, hippocampus, mixture, scanner, temporal

SET = hippocampus.ATROPHY


def _crop(index, view="left", **changes):
    return SET.render(index, **SET.options(rank=3, size=52, view=view, **changes))


# -- shape -----------------------------------------------------------------------------------------------------------


def test_the_template_has_a_hippocampus_of_an_adult():
    found = temporal.hippocampus()
    total = found.volumes.sum(0)
    assert (np.diff(total) < 0).all()
    whole = total[np.argmin(np.abs(found.losses))]
    assert 3.3 < whole < 5  # the template's brain is larger than most
    i, j, k = (np.flatnonzero((found.distance < 0).any(axis)) for axis in ((1, 2), (0, 2), (0, 1)))
    assert 34 <= np.ptp(j) + 1 <= 46  # mm long
    assert 15 <= np.ptp(i) + 1 <= 28
    assert 20 <= np.ptp(k) + 1 <= 34
    np.testing.assert_allclose(found.volume_at(0.0), whole, rtol=0.02)


def test_the_tail_lies_higher_and_more_medial_than_the_head():
    found = temporal.hippocampus()
    inside = np.argwhere(found.distance < 0) @ np.linalg.inv(found.to_voxel)[:3, :3].T
    inside += np.linalg.inv(found.to_voxel)[:3, 3]
    head, tail = inside[inside[:, 1] > -14].mean(0), inside[inside[:, 1] < -37].mean(0)
    assert tail[2] - head[2] > 10
    assert tail[0] < head[0] + 1


def test_growth_is_the_ratio_of_small_volumes():
    head = anatomy.Head.draw(np.random.default_rng(3))
    site, step = np.array([25.0, -20.0, -10.0]), 0.05
    corners = [head.from_template(site + step * axis) - head.from_template(site - step * axis) for axis in np.eye(3)]
    direct = abs(np.linalg.det(np.array(corners))) / (2 * step) ** 3
    np.testing.assert_allclose(head.growth(site[:, None])[0], direct, rtol=2e-3)


def test_growth_of_a_stretched_head_is_its_volume():
    head = anatomy.Head.draw(np.random.default_rng(0))
    still = replace(head.shape, weights=0 * head.shape.weights), replace(head.folds, weights=0 * head.folds.weights)
    plain = anatomy.Head(np.eye(3) / 1.1, np.zeros(3), *still)
    np.testing.assert_allclose(plain.growth(np.zeros((3, 2))), 1.1**3)


@pytest.mark.parametrize("view", ["left", "right"])
def test_the_mask_has_the_volume_that_the_parameters_say(view):
    ratios = []
    for index in range(8):
        case = hippocampus.draw(index, 1.0, 1)[0]
        labels = _crop(index, view, seed=1)[1]
        said = case.left_ml if view == "left" else case.right_ml
        ratios.append((labels.array > 0).sum() * np.prod(labels.spacing) / 1000 / said)
    assert min(ratios) > 0.9
    assert max(ratios) < 1.1
    assert np.mean(ratios) == pytest.approx(1, abs=0.05)


def test_normal_ones_are_as_large_as_in_adults_and_shrunken_ones_smaller():
    cases = [hippocampus.draw(index, 1.0, 0)[0] for index in range(120)]
    smaller = {name: np.array([min(c.left_ml, c.right_ml) for c in cases if c.label == name]) for name in SET.classes}
    assert smaller["normal"].mean() == pytest.approx(3.3, abs=0.15)
    assert 0.6 < smaller["atrophy"].mean() / smaller["normal"].mean() < 0.75
    assert smaller["atrophy"].max() > smaller["normal"].min()  # they overlap
    hard = [hippocampus.draw(index, 3.0, 0)[0] for index in range(120)]
    assert np.mean([min(c.left_ml, c.right_ml) for c in hard if c.label == "atrophy"]) > smaller["atrophy"].mean() + 0.3


def test_normal_and_shrunken_age_alike():
    cases = [hippocampus.draw(index, 1.0, 2)[0] for index in range(300)]
    for name in ("horn_mm", "atrophy", "slice_y_mm", "spots"):
        a, b = (np.array([getattr(case, name) for case in cases if case.label == one]) for one in SET.classes)
        assert abs(a.mean() - b.mean()) < 4 * np.sqrt(a.var() / len(a) + b.var() / len(b))


# -- images ----------------------------------------------------------------------------------------------------------


def test_a_crop_is_as_in_the_decathlon():
    image, labels = _crop(0)
    assert image.shape == labels.shape == (36, 52, 36)
    assert image.orientation == "RAS"
    np.testing.assert_allclose(image.spacing, 1)
    anterior, posterior = (np.argwhere(labels.array == one).mean(0) for one in (1, 2))
    assert anterior[1] > posterior[1] + 10  # to the front
    assert anterior[2] < posterior[2]  # and lower
    assert labels.array[[0, -1]].max() == 0
    assert ndimage.label(labels.array > 0)[1] == 1


@pytest.mark.parametrize(("rank", "size", "shape"), [(2, 128, (89, 89)), (3, 64, (44, 64, 44)), (3, 52, (36, 52, 36))])
def test_size_counts_the_longest_side_of_the_box(rank, size, shape):
    for view in ("left", "right"):
        image = SET.render(0, **SET.options(rank=rank, size=size, view=view))[0]
        assert image.shape == shape
        np.testing.assert_allclose(image.spacing[:3], 52 / size)  # cubes: 52 mm hold them
        # The other sides of 36 mm to half a voxel.
        short = [length for length in image.shape if length != size]
        np.testing.assert_allclose(np.array(short) * 52 / size, 36, atol=26 / size)
        if rank == 3:
            assert image.orientation[image.shape.index(size)] == "A"  # front to back
        assert " x ".join(map(str, shape)) in SET.note or shape == (36, 52, 36)
    assert SET.render(0, **SET.options(rank=rank, size=size))[0].shape == (size,) * rank


def test_left_is_left():
    for view, sign in (("left", -1), ("right", 1)):
        labels = _crop(3, view)[1]
        middle = labels.affine @ [*np.argwhere(labels.array).mean(0), 1]
        assert sign * middle[0] > 15


def test_a_coronal_slice_lies_as_radiologists_look_at_it():
    image, labels = SET.render(5, **SET.options())
    assert image.orientation == "IL"
    case = hippocampus.draw(5, 1.0, 0)[0]
    assert image.origin[1] == pytest.approx(case.slice_y_mm)
    where = np.argwhere(labels.array)
    places = np.array([labels.affine @ [row, column, 0, 1] for row, column in where])
    assert (places[:, 0] > 10).any()
    assert (places[:, 0] < -10).any()
    assert (where[places[:, 0] > 0][:, 1] < 64).all()  # the patient's right in the left columns


def test_the_slice_meets_the_volume():
    image, labels = SET.render(4, **SET.options(size=64))
    volume, whole = SET.render(4, **SET.options(rank=3, size=64))
    case = hippocampus.draw(4, 1.0, 0)[0]
    j = round((case.slice_y_mm - volume.origin[1]) / volume.spacing[1])
    plane, drawn = volume.array[::-1, j, ::-1].T, whole.array[::-1, j, ::-1].T
    both = 2 * ((drawn > 0) & (labels.array > 0)).sum() / ((drawn > 0).sum() + (labels.array > 0).sum())
    assert both > 0.7  # the plane of the volume may be a millimeter away
    assert np.corrcoef(plane.ravel(), image.array.ravel())[0, 1] > 0.95


def test_gray_matter_inside_is_darker_than_white_and_brighter_than_fluid():
    case, head = hippocampus.draw(2, 1.0, 0)
    image, labels = _crop(2)
    middle = ndimage.binary_erosion(labels.array > 0, iterations=2)
    bright, dark = np.percentile(image.array, (90, 1))
    inside = np.median(image.array[middle])
    assert dark + 0.15 * (bright - dark) < inside < dark + 0.75 * (bright - dark)
    assert case.label in SET.classes
    assert isinstance(head, anatomy.Head)


def test_random_contrasts_keep_the_mask_and_change_the_order_of_grays():
    order = set()
    for index in range(6):
        image, labels = _crop(index, sequence="random")
        np.testing.assert_array_equal(labels.array, _crop(index)[1].array)
        inside = np.median(image.array[ndimage.binary_erosion(labels.array > 0, iterations=2)])
        ring = ndimage.binary_dilation(labels.array > 0, iterations=4) & (labels.array == 0)
        order.add(bool(inside > np.median(image.array[ring])))
    assert order == {True, False}


def test_tissue_is_neither_made_nor_lost():
    case, head = hippocampus.draw(1, 1.0, 0)
    axes = tuple(
        (head.from_template(temporal.MIDDLE)[axis] + np.arange(-20, 21, 2.0)).astype(np.float32) for axis in range(3)
    )
    texture, layers = mixture.textures(np.random.default_rng(0))
    scene = mixture.Scene.build(head, axes, 2.0, texture, layers, 0.0, 0.0)
    before = sum(scene.brain.values())
    hippocampus._add(scene, case, np.zeros((2, len(scene.within))))
    np.testing.assert_allclose(sum(scene.brain.values()), before, atol=1e-4)
    assert min(share.min() for share in scene.brain.values()) > -1e-5


# -- real images -----------------------------------------------------------------------------------------------------


def _traits(array):
    """Histogram, noise and power spectrum of a volume, each free of scale: numbers that may be compared."""
    low, high = np.percentile(array, (0.5, 99.5))
    array = np.clip(array.astype(float), low, high)
    array = (array - array.mean()) / array.std()
    center = array[tuple(slice((n - min(n, 32)) // 2, (n - min(n, 32)) // 2 + min(n, 32)) for n in array.shape)]
    residual = center  # three second differences: what is smooth vanishes
    for axis in range(3):
        residual = ndimage.convolve1d(residual, np.array([1, -2, 1]) / np.sqrt(6), axis=axis)
    noise = 1.4826 * np.median(np.abs(residual[1:-1, 1:-1, 1:-1]))
    window = center - center.mean()
    square = 0
    for axis, length in enumerate(center.shape):
        shape = [-1 if one == axis else 1 for one in range(3)]
        window = window * np.hanning(length).reshape(shape)
        square = square + np.fft.fftfreq(length).reshape(shape) ** 2
    power, radius = np.abs(np.fft.fftn(window)) ** 2, np.sqrt(square)
    edges = (0.03, 0.08, 0.13, 0.18, 0.25, 0.32, 0.40, 0.50)  # cycles a voxel of 1 mm
    bands = [power[(radius >= a) & (radius < b)].mean() for a, b in pairwise(edges)]
    quantiles = {percent: np.percentile(array, percent) for percent in (1, 5, 10, 25, 50, 75, 90, 95, 99)}
    spectrum = {f"band {n}": value for n, value in enumerate(np.log10(np.array(bands) / sum(bands)))}
    return {f"{name} %": value for name, value in quantiles.items()} | {"noise": noise} | spectrum


@pytest.mark.data
def test_histogram_noise_and_spectrum_lie_within_the_spread_of_real_images(data_folder):
    cases = load.dataset(data_folder / "hippocampus")
    real = [_traits(cases.volume(one).array) for one in cases.ids]
    # Those people's hippocampi are about normal.
    normal = [index for index in range(32) if hippocampus.draw(index, 1.0, 0)[0].label == "normal"]
    made = [_traits(_crop(index, "left" if index % 2 else "right")[0].array) for index in normal]
    for name in real[0]:
        low, high = np.percentile([one[name] for one in real], (1, 99))
        assert low < np.median([one[name] for one in made]) < high, name
    # The comparison can fail: twice and a half the noise is outside.
    noisy = [_traits(_crop(index, domain="noisy")[0].array)["noise"] for index in range(4)]
    assert np.median(noisy) > np.percentile([one["noise"] for one in real], 99)


@pytest.mark.data
def test_volumes_are_those_of_real_ones(data_folder):
    cases = load.dataset(data_folder / "hippocampus")
    real = np.array([(cases.mask(one).array > 0).sum() / 1000 for one in cases.ids])  # voxels of 1 mm
    drawn = [hippocampus.draw(index, 1.0, 0)[0] for index in range(200)]
    made = np.array([case.left_ml for case in drawn if case.label == "normal"])
    assert made.mean() == pytest.approx(real.mean(), rel=0.05)
    assert 0.5 < made.std() / real.std() < 1.5


def test_scanners_cover_every_tissue():
    assert set(scanner.TISSUES_3T) == set(scanner.DOMAINS["reference"].tissues)
