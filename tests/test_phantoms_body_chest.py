"""Chest phantoms: cardiothoracic ratio and nodule are measured in images and masks, and must be what is told."""

import numpy as np
import pytest
from scipy import ndimage, stats

from medlab.phantoms import chest, heart, shapes, torso
from medlab.phantoms.heart import CARDIOMEGALY
from medlab.phantoms.lung import NODULE


def _nodule(index, **changes):
    options = {"rank": 2, "size": 128, "severity": 1.0, "seed": 0, "domain": "reference", "technique": "ct"} | changes
    return NODULE.render(index, **options)


def _radiograph(index, **changes):
    options = {"rank": 2, "size": 128, "severity": 1.0, "seed": 0, "domain": "reference"} | changes
    return CARDIOMEGALY.render(index, **options)


def _sick(scenario, count, start=0, **changes):
    """The first cases of the second class."""
    options = {"severity": 1.0, "seed": 0, "domain": "reference"} | changes
    found = (i for i in range(start, 400) if scenario.parameters(i, **options)["label"] == scenario.classes[1])
    return [next(found) for _ in range(count)]


# -- thorax ----------------------------------------------------------------------------------------------------------


def test_the_chest_along_rays_is_the_sum_of_the_chest_on_a_grid():
    person = torso.draw(np.random.default_rng(3))
    axis = (np.arange(96) - 47.5).astype(np.float32) * 4
    water, bone, _ = person.densities((axis, axis, axis), 4.0)
    paths = person.paths(shapes.Rays(axis, axis))
    for name, grid, close in (("water", water, 0.6), ("bone", bone, 0.35)):
        summed = grid.sum(1) * 0.4  # g/cm2
        smooth = [ndimage.gaussian_filter(one, 2)[8:-8, 8:-8] for one in (summed, paths[name])]
        assert np.corrcoef(smooth[0].ravel(), smooth[1].ravel())[0, 1] > 0.9, name
        assert np.abs(smooth[0] - smooth[1]).mean() < close, name


def test_the_heart_lies_to_the_left_and_the_right_dome_is_higher():
    for seed in range(8):
        person = torso.draw(np.random.default_rng(seed))
        left, right = chest.heart_edges(person.heart, 0.0)
        assert -left > right > 0  # x grows to the patient's right
        beside = 0.42 * person.width * np.array([-1, 1], np.float32)
        axis = np.linspace(-150, 150, 301).astype(np.float32)
        clear = person.paths(shapes.Rays(beside.astype(np.float32), axis))["clear"] > 0
        bottom = [axis[column].min() for column in clear[::-1]]
        assert bottom[0] > bottom[1]


# -- cardiomegaly ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", range(6))
def test_the_ratio_measured_in_the_mask_is_the_one_told(index):
    image, mask = _radiograph(index, size=384)
    facts = CARDIOMEGALY.parameters(index, severity=1.0, seed=0, domain="reference")
    heart_columns = np.flatnonzero((mask.array == 3).any(0))
    lung_columns = np.flatnonzero(np.isin(mask.array, (1, 2)).any(0))
    widths = [np.ptp(columns) + 1 for columns in (heart_columns, lung_columns)]
    assert widths[0] / widths[1] == pytest.approx(facts["ratio"], abs=0.015)
    assert widths[0] * image.spacing[1] == pytest.approx(facts["heart_width_mm"], abs=2.5 * image.spacing[1])
    assert widths[1] * image.spacing[1] == pytest.approx(facts["thorax_width_mm"], abs=3.5 * image.spacing[1])
    assert (facts["ratio"] > 0.5) == (facts["label"] == "cardiomegaly")


def test_a_radiograph_is_seen_from_the_front():
    image, mask = _radiograph(0)
    assert image.orientation == "IL"
    assert image.modality == "DX"
    columns = np.indices(mask.array.shape)[1]
    assert columns[mask.array == 1].mean() < columns[mask.array == 3].mean() < columns[mask.array == 2].mean()
    # The right lung lies where the world's x is larger.
    right = image.affine @ [0, columns[mask.array == 1].mean(), 0, 1]
    left = image.affine @ [0, columns[mask.array == 2].mean(), 0, 1]
    assert right[0] > left[0]
    # Lungs are darker than the heart, and the abdomen is below.
    assert image.array[mask.array == 3].mean() > image.array[np.isin(mask.array, (1, 2))].mean() + 200


def test_harder_ratios_are_nearer_to_one_half_and_labels_stay():
    easy, hard = (
        [CARDIOMEGALY.parameters(i, severity=s, seed=1, domain="reference") for i in range(20)] for s in (1.0, 4.0)
    )
    assert [one["label"] for one in easy] == [one["label"] for one in hard]
    for a, b in zip(easy, hard, strict=True):
        # Halved; the ratio is fitted by bisection.
        assert b["ratio"] - 0.5 == pytest.approx((a["ratio"] - 0.5) / 2, abs=1e-3)


def test_size_and_place_of_the_chest_tell_nothing_about_the_heart():
    cases = [CARDIOMEGALY.parameters(i, severity=1.0, seed=0, domain="reference") for i in range(400)]
    sick = np.array([one["label"] == "cardiomegaly" for one in cases])
    for key in ("thorax_width_mm", "field_mm", "x_mm", "z_mm", "inspiration", "rotation_degrees", "fat_mm", "noise"):
        values = np.array([one[key] for one in cases])
        assert stats.ks_2samp(values[sick], values[~sick]).pvalue > 1e-4, key


# -- nodules ---------------------------------------------------------------------------------------------------------


def test_the_mask_of_a_nodule_is_where_and_as_large_as_told():
    ratios = []
    for index in _sick(NODULE, 4):
        facts = NODULE.parameters(index, severity=1.0, seed=0, domain="reference")
        image, mask = _nodule(index, rank=3, size=80)
        where = np.argwhere(mask.array == 2)
        center = image.affine @ [*where.mean(0), 1]
        told = np.array([facts["x_mm"], facts["y_mm"], facts["z_mm"]])
        assert np.abs(center[:3] - told).max() < 0.2 * facts["diameter_mm"] + image.spacing[0]
        volume = len(where) * np.prod(image.spacing)
        ratios.append((6 * volume / np.pi) ** (1 / 3) / facts["diameter_mm"])
    assert np.mean(ratios) == pytest.approx(1, abs=0.15)


def test_solid_nodules_look_like_tissue_and_ground_glass_like_half_of_it():
    found = {"solid": [], "ground-glass": []}
    for index in _sick(NODULE, 12, severity=0.25):
        facts = NODULE.parameters(index, severity=0.25, seed=0, domain="reference")
        image, mask = _nodule(index, severity=0.25)
        core = ndimage.binary_erosion(mask.array == 2, iterations=2)
        if core.any():
            found[facts["kind"]].append(image.array[core].mean())
    assert -130 < np.mean(found["solid"]) < 80
    assert -650 < np.mean(found["ground-glass"]) < -250


def test_tissues_of_a_chest_have_their_hounsfield_units():
    image, mask = _nodule(0, rank=3, size=48)
    inner = ndimage.binary_erosion(mask.array == 1, iterations=2)
    assert -880 < np.median(image.array[inner]) < -650  # lung
    assert np.median(image.array[:4, :4]) == pytest.approx(-1000, abs=15)  # air beside the patient
    assert image.array.max() > 300  # bone
    soft = (image.array > -20) & (image.array < 100)
    assert soft.mean() > 0.15
    assert image.orientation == "RAS"
    assert image.modality == mask.modality == "CT"


def test_a_slice_is_that_plane_of_the_patient():
    index = _sick(NODULE, 1)[0]
    flat, flat_mask = _nodule(index, size=96)
    volume, volume_mask = _nodule(index, rank=3, size=96)
    assert flat.orientation == "PL"
    height = flat.affine[2, 3]
    level = (height - volume.affine[2, 3]) / volume.spacing[2]
    low = int(np.floor(level))
    planes = [ndimage.gaussian_filter(volume.array[:, :, k][::-1, ::-1].T.astype(float), 1) for k in (low, low + 1)]
    between = planes[0] + (level - low) * (planes[1] - planes[0])
    assert np.corrcoef(between.ravel(), ndimage.gaussian_filter(flat.array.astype(float), 1).ravel())[0, 1] > 0.98
    for point in ((0, 0), (40, 71)):
        world = flat.affine @ [*point, 0, 1]
        voxel = np.linalg.inv(volume.affine) @ world
        np.testing.assert_allclose(voxel[:2], [95 - point[1], 95 - point[0]], atol=1e-6)
    assert (flat_mask.array == 2).any()
    assert (volume_mask.array == 2).any()


def test_healthy_lungs_hold_vessels_that_look_like_nodules():
    # A blob detector that knows no more than brightness finds candidates in healthy lungs too.
    counts = []
    for index in range(20):
        if NODULE.parameters(index, severity=1.0, seed=0, domain="reference")["label"] == "healthy":
            image, mask = _nodule(index)
            inner = ndimage.binary_erosion(mask.array == 1, iterations=2)
            counts.append(ndimage.label((image.array > -650) & inner)[1])
    assert np.mean(counts) > 2


def test_a_nodule_casts_a_shadow_on_the_radiograph():
    # The same patient, with and without it: the difference lies in the mask.
    found = []
    for index in _sick(NODULE, 8, severity=0.25):
        image, mask = _nodule(index, technique="radiograph", severity=0.25)
        facts = NODULE.parameters(index, severity=0.25, seed=0, domain="reference")
        assert image.modality == "DX"
        spot = mask.array == 2
        ring = ndimage.binary_dilation(spot, iterations=4) & ~ndimage.binary_dilation(spot) & (mask.array == 1)
        if ring.sum() > 20 and facts["kind"] == "solid":
            found.append(image.array[spot].mean() - image.array[ring].mean())
    assert len(found) >= 3
    assert np.mean(found) > 60


def test_a_radiograph_has_no_third_axis():
    with pytest.raises(ValueError, match="expected rank 2 with technique 'radiograph'"):
        _nodule(0, rank=3, technique="radiograph", size=64)


def test_domains_change_noise_and_sharpness_only():
    index = _sick(NODULE, 1)[0]
    images = {}
    for domain in NODULE.domains:
        image, mask = _nodule(index, domain=domain)
        images[domain] = image.array.astype(float), mask.array
    masks = [mask for _, mask in images.values()]
    assert all(np.array_equal(masks[0], mask) for mask in masks)
    soft = (images["reference"][0] > 0) & (images["reference"][0] < 80)
    soft = ndimage.binary_erosion(soft, iterations=3)
    deviation = {name: ndimage.generic_filter(array, np.std, 3)[soft].mean() for name, (array, _) in images.items()}
    assert deviation["low-dose"] > 1.5 * deviation["reference"]
    assert deviation["sharp-kernel"] > 1.5 * deviation["reference"]
    assert set(heart.DOMAINS) == {"reference", "portable", "high-kvp"}
