"""The multiple sclerosis phantom: lesions where they belong, as bright and as large as was said."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from medlab.phantoms import anatomy, sclerosis

SET = sclerosis.LESIONS


@pytest.fixture(scope="module")
def cases():
    return [sclerosis.draw(index, 1.0, 0) for index in range(120)]


def _sick(severity=1.0, seed=0):
    return next(index for index in range(2) if sclerosis.draw(index, severity, seed)[0].label == "ms")


def test_healthy_ones_have_no_lesion_and_sick_ones_meet_the_criteria(cases):
    for case, _, lesions in cases:
        areas = [case.periventricular, case.juxtacortical, case.infratentorial, case.deep]
        assert sum(areas) == case.lesions
        if case.label == "healthy":
            assert (case.lesions, case.black_holes, case.load_ml) == (0, 0, 0)
            assert np.isnan(case.conspicuity)
        else:
            assert sum(area > 0 for area in areas[:3]) >= 2  # dissemination in space
            assert len(lesions.middle) == case.lesions
            assert case.black_holes == lesions.hole.sum() <= case.lesions
            assert (2 * lesions.axes.max(1) > 3).all()  # mm: what is counted as a lesion


def _still(linear):
    """A head that differs from the template by a matrix alone."""
    head = anatomy.Head.draw(np.random.default_rng(0))
    flat = [replace(waves, weights=0 * waves.weights) for waves in (head.shape, head.folds)]
    return anatomy.Head(linear, np.zeros(3), *flat)


def _balls(*places, radius=4.0):
    n = len(places)
    turn = np.broadcast_to(np.eye(3), (n, 3, 3))
    return sclerosis.Lesions(np.array(places, float), np.full((n, 3), radius), turn, np.zeros(n, bool))


def test_load_of_balls_is_that_of_geometry():
    ball = 4 / 3 * np.pi * 4**3 / 1000
    plain = _still(np.eye(3))
    first = (28.0, -20.0, 28.0)  # deep white matter
    load = {
        distance: sclerosis.load_ml(plain, _balls(first, np.add(first, (0, distance, 0))), -1.0, 0.0)
        for distance in (0, 4, 9)
    }
    assert load[0] == pytest.approx(ball, rel=0.05)
    assert load[9] == pytest.approx(2 * ball, rel=0.05)
    # Two balls of radius r at distance d share pi (4 r + d) (2 r - d)^2 / 12.
    assert load[4] == pytest.approx(2 * ball - np.pi * (16 + 4) * (8 - 4) ** 2 / 12 / 1000, rel=0.05)
    larger = sclerosis.load_ml(_still(np.eye(3) / 1.1), _balls(first), -1.0, 0.0)
    assert larger == pytest.approx(1.1**3 * sclerosis.load_ml(plain, _balls(first), -1.0, 0.0))
    turned = replace(_balls(first), axes=np.array([[6.0, 3.0, 3.0]]), turn=np.eye(3)[None, [1, 2, 0]])
    assert sclerosis.load_ml(plain, turned, -1.0, 0.0) == pytest.approx(4 / 3 * np.pi * 54 / 1000, rel=0.05)


def test_fluid_is_no_load():
    template = anatomy.template()
    deep = ndimage.distance_transform_edt(template.near > 0.999)  # 1 in the lateral ventricles
    to_world = np.linalg.inv(template.to_coarse)
    middle = to_world[:3, :3] @ np.unravel_index(np.argmax(deep), deep.shape) + to_world[:3, 3]
    ball = 4 / 3 * np.pi * 2**3 / 1000
    assert sclerosis.load_ml(_still(np.eye(3)), _balls(middle, radius=2.0), 0.0, 0.0) < 0.05 * ball
    assert sclerosis.load_ml(_still(np.eye(3)), _balls((28, -20, 28), radius=2.0), 0.0, 0.0) > 0.9 * ball


def test_directions_of_lesions_are_unit_vectors(cases):
    lesions = next(one for one in cases if one[0].label == "ms")[2]
    for turn in lesions.turn:  # directions of length 1
        np.testing.assert_allclose(np.linalg.norm(turn, axis=1), 1)
        assert turn[1] @ turn[2] == pytest.approx(0, abs=1e-9)


def test_the_mask_holds_the_load(cases):
    ratios = []
    for index in range(12):
        case = cases[index][0]
        if case.label == "ms":
            mask = SET.render(index, **SET.options(rank=3, size=80))[1].array  # 3 mm
            ratios.append(mask.sum() * 27 / 1000 / case.load_ml)
    assert len(ratios) == 6
    assert np.mean(ratios) == pytest.approx(1, abs=0.05)
    assert min(ratios) > 0.88
    assert max(ratios) < 1.12


def test_lesions_lie_where_their_area_is():
    template = anatomy.template()
    beside, touching, below, deep = sclerosis.sites()
    for places in (beside, touching, below, deep):
        assert len(places) > 1000
        white = anatomy.sample(template.tissues[1:], template.to_voxel, places.T.astype(np.float32))[0] / 255
        assert white.min() > 0.55
        assert abs(places[:, 0].mean()) < 3  # both halves alike
    # Beside: fluid within 8 mm; touching: gray matter within 5 mm; deep: neither.
    # Every other voxel, 2 mm apart.
    gray, white = (one[::2, ::2, ::2].astype(float) / 255 for one in template.tissues)
    fluid = ndimage.binary_closing(gray + white > 0.4, iterations=3) & (gray + white < 0.3)
    for places, target, most in ((beside, fluid, 8), (touching, gray > 0.6, 5)):
        distance = 2 * ndimage.distance_transform_edt(~target)
        voxel = np.rint((places @ template.to_voxel[:3, :3].T + template.to_voxel[:3, 3]) / 2).astype(int)
        assert np.percentile(distance[tuple(voxel.T)], 95) < most
    assert below[:, 2].max() < -15


def test_fingers_point_away_from_the_ventricle():
    rng = np.random.default_rng(0)
    for side in (-1, 1):
        long = sclerosis._toward(np.full((200, 3), 20.0 * side), np.ones(200, bool), rng)[:, 0].mean(0)
        assert side * long[0] > 0.7
        assert abs(long[1]) < 0.1


def test_lesions_are_bright_in_flair_and_holes_dark_in_t1():
    flair, t1 = [], []
    for index in range(24):
        case = sclerosis.draw(index, 0.5, 0)[0]
        if case.label == "healthy":
            continue
        image, mask = SET.render(index, **SET.options(severity=0.5))
        shown = SET.render(index, **SET.options(severity=0.5, sequence="t1"))
        np.testing.assert_array_equal(mask.array, shown[1].array)
        ring = ndimage.binary_dilation(mask.array > 0, iterations=3) & (mask.array == 0)
        flair.append(image.array[mask.array > 0].mean() / np.median(image.array[ring]))
        t1.append(shown[0].array[mask.array > 0].mean() / np.median(shown[0].array[ring]))
    assert np.mean(flair) > 1.2
    assert np.mean(t1) < 0.97


def test_every_sick_slice_shows_a_lesion_and_no_healthy_one():
    for index in range(40):
        mask = SET.render(index, **SET.options(severity=2.0, size=96))[1].array
        assert mask.any() == (sclerosis.draw(index, 2.0, 0)[0].label == "ms")


def test_the_slice_and_aging_tell_nothing(cases):
    cases = [case for case, _, _ in cases] + [sclerosis.draw(index, 1.0, 0)[0] for index in range(120, 400)]
    for name in ("slice_z_mm", "spots", "caps", "atrophy", "noise"):
        a, b = (np.array([getattr(case, name) for case in cases if case.label == one]) for one in SET.classes)
        assert a.std() > 0
        assert abs(a.mean() - b.mean()) < 4 * np.sqrt(a.var() / len(a) + b.var() / len(b))


def test_harder_is_fewer_smaller_fainter_in_the_same_places():
    index = _sick()
    easy, hard = (sclerosis.draw(index, severity, 0) for severity in (0.5, 2.0))
    few = min(len(easy[2].middle), len(hard[2].middle))
    assert few >= 6
    np.testing.assert_array_equal(easy[2].middle[:few], hard[2].middle[:few])
    np.testing.assert_allclose(hard[2].axes[:few], easy[2].axes[:few] / 4**0.35)
    assert easy[0].conspicuity > hard[0].conspicuity
    assert hard[0].noise == pytest.approx(2 * easy[0].noise)
    assert easy[0].load_ml > hard[0].load_ml
    counts = [[sclerosis.draw(k, severity, 0)[0].lesions for k in range(60)] for severity in (0.5, 2.0)]
    assert sum(counts[0]) > 1.2 * sum(counts[1])


def test_front_is_up_and_right_is_left():
    checked = 0
    for index in range(40):
        case, head, lesions = sclerosis.draw(index, 1.0, 0)
        if case.label == "healthy":
            continue
        place = head.from_template(lesions.middle[0])
        labels = SET.render(index, **SET.options())[1]
        found = np.argwhere(labels.array)
        world = (labels.affine @ np.c_[found, np.zeros(len(found)), np.ones(len(found))].T)[:2].T
        assert np.linalg.norm(world - place[:2], axis=1).min() < 6
        if abs(place[0]) > 25:
            assert ((found[:, 1] < 64) == (world[:, 0] > labels.affine[0, 3] + 64 * labels.affine[0, 1])).all()
            checked += 1
    assert checked > 3
