"""The stroke phantom: attenuation, territory and age of an infarct are as was said; the noise is that of CT."""

import numpy as np
import pytest
from scipy import ndimage

from medlab.phantoms import anatomy, stroke, tomograph

SET = stroke.STROKE


@pytest.fixture(scope="module")
def slices():
    """60 cases: image, mask, parameters."""
    made = [SET.render(index, **SET.options()) for index in range(60)]
    return [(image.array, mask.array, stroke.draw(index, 1.0, 0).case) for index, (image, mask) in enumerate(made)]


# -- attenuation -----------------------------------------------------------------------------------------------------


def test_air_bone_and_brain_have_their_hounsfield_units(slices):
    image, mask, _ = slices[next(k for k, one in enumerate(slices) if one[2].label == "healthy")]
    assert image.dtype == np.int16
    assert np.median(image[:6]) == pytest.approx(-1000, abs=3)
    assert image.max() > 700
    brain = ndimage.binary_erosion((image > 0) & (image < 60), iterations=3)
    assert 26 < np.median(image[brain]) < 38
    assert not mask.any()


def test_an_infarct_falls_toward_fluid_by_its_age(slices):
    drops = {age: [] for age in stroke.AGES}
    for image, mask, case in slices:
        ring = ndimage.binary_dilation(mask > 0, iterations=5) & ~ndimage.binary_dilation(mask > 0, iterations=2)
        ring &= (image > 15) & (image < 60)
        inside = ndimage.binary_erosion(mask > 0, iterations=2)
        if inside.sum() > 20 and ring.sum() > 20:
            drops[case.age].append((np.median(image[ring]) - np.median(image[inside]), case.fall))
    mean = {age: np.mean([drop for drop, _ in found]) for age, found in drops.items() if found}
    assert list(mean) == list(stroke.AGES)
    assert 1 < mean["hyperacute"] < mean["acute"] < mean["subacute"] < mean["chronic"] < 35
    # In brain of 32 HU on the mean, a fall f toward 6 HU is 26 f.
    for drop, fall in (one for found in drops.values() for one in found):
        assert drop == pytest.approx(26 * fall, abs=8)


def test_a_clotted_artery_is_dense_on_its_side_alone():
    case = next(index for index in range(400) if stroke.draw(index, 0.25, 0).case.dense_artery > 65)
    plan = stroke.draw(case, 0.25, 0)
    assert (plan.case.age, plan.case.region[:3]) == ("hyperacute", "mca")
    image = SET.render(case, **SET.options(rank=3, size=120, severity=0.25))[0]
    level = {}
    for side in (-1, 1):
        place = plan.head.from_template(np.array([23.0 * side, 2, -17.5]))
        i, j, k = np.rint(np.linalg.inv(image.affine) @ [*place, 1])[:3].astype(int)
        level[side] = image.array[i - 2 : i + 3, j - 1 : j + 2, k - 1 : k + 2].max()
    assert level[plan.side] > level[-plan.side] + 5


# -- territory -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("mca-right", (40, 0, 10), (-40, 0, 10)),
        ("mca-left", (-45, -20, 15), (45, -20, 15)),
        ("aca", (5, 45, 20), (45, 20, 20)),
        ("pca", (10, -85, 5), (5, 45, 20)),
        ("cerebellum", (25, -65, -40), (25, -65, 20)),
    ],
)
def test_territories_hold_what_atlases_put_there(name, inside, outside):
    found = stroke.territory(name, np.array([inside, outside], float).T)
    assert found[0] > 0 > found[1]


def test_no_place_belongs_to_two_arteries():
    grid = np.stack(np.meshgrid(np.arange(-70, 71, 7), np.arange(-100, 71, 7), np.arange(-50, 71, 7))).reshape(3, -1)
    held = sum((stroke.territory(name, grid.astype(float)) > 0).astype(int) for name in stroke.TERRITORIES)
    assert held.max() == 1
    template = anatomy.template()
    inside = anatomy.sample(template.tissues[1:], template.to_voxel, grid.astype(np.float32))[0] > 200
    assert held[inside].mean() > 0.6  # the rest: brain stem, and between the borders


def test_the_mask_stays_in_its_hemisphere_and_near_the_middle(slices):
    checked = 0
    for index, (_, mask, case) in enumerate(slices):
        assert mask.any() == (case.label == "stroke")
        if case.label == "healthy" or abs(case.x_mm) < 25:
            continue
        labels = SET.render(index, **SET.options())[1]
        row, column = np.argwhere(mask).mean(0)
        world = labels.affine @ [row, column, 0, 1]
        assert np.sign(world[0]) == np.sign(case.x_mm)
        assert (column < 63.5) == (case.x_mm > 0)  # the patient's right is on the left
        assert np.linalg.norm(world[:2] - [case.x_mm, case.y_mm]) < 1.2 * case.radius_mm + 3
        checked += 1
    assert checked > 10


def test_a_volume_shows_the_whole_infarct():
    sizes = []
    for index in range(12):
        case = stroke.draw(index, 1.0, 0).case
        if case.label == "stroke":
            mask = SET.render(index, **SET.options(rank=3, size=60))[1]
            assert mask.orientation == "RAS"
            sizes.append(mask.array.sum() * np.prod(mask.spacing) / (4 / 3 * np.pi * case.radius_mm**3))
    assert len(sizes) == 6
    assert 0.2 < np.mean(sizes) < 1.2  # borders of the territory and fluid cut it


# -- scanner ---------------------------------------------------------------------------------------------------------


def test_noise_has_the_deviation_and_the_spectrum_of_filtered_back_projection():
    axes = (np.arange(128.0),) * 2 + (np.zeros(1),)
    flat = np.full((128, 128, 1), 30.0, np.float32)
    images = [
        tomograph.acquire(flat, tomograph.DOMAINS["reference"], 5.0, axes, np.random.default_rng(seed))[..., 0] - 30.0
        for seed in range(20)
    ]
    assert np.mean([image.std() for image in images]) == pytest.approx(5, rel=0.02)
    power = np.mean([np.abs(np.fft.fft2(image)) ** 2 for image in images], axis=0)
    radius = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128)[None])
    rings = [power[(radius > low) & (radius < low + 0.02)].mean() for low in (0.02, 0.06)]
    # |f| exp(-2 (f / 0.275)^2) at 0.03 and 0.07 cycles a pixel
    expected = 0.07 * np.exp(-2 * (0.07 / 0.275) ** 2) / (0.03 * np.exp(-2 * (0.03 / 0.275) ** 2))
    assert rings[1] / rings[0] == pytest.approx(expected, rel=0.08)
    assert power[0, 0] < 0.02 * power.mean()


def test_protocols_do_what_they_are_called():
    axes = (np.arange(96.0),) * 2 + (np.zeros(1),)
    flat = np.full((96, 96, 1), 30.0, np.float32)

    def taken(name, image=flat):
        return tomograph.acquire(image, tomograph.DOMAINS[name], 4.0, axes, np.random.default_rng(1))[..., 0].astype(
            float
        )

    assert taken("low-dose").std() == pytest.approx(2 * taken("reference").std(), rel=0.03)
    assert taken("other-scanner")[:20, :20].mean() == pytest.approx(33 - 4 * np.exp(-0.75), abs=1.2)
    edge = flat.copy()
    edge[48:] = 1000
    over = [taken(name, edge).max() for name in ("reference", "sharp-kernel")]
    assert over[1] > over[0] + 30  # a sharp kernel overshoots beside bone


def test_lacunes_and_pale_white_matter_lie_in_both_classes():
    cases = [stroke.draw(index, 1.0, 0).case for index in range(400)]
    for name in ("lacunes", "leukoaraiosis", "atrophy", "slice_z_mm", "noise"):
        a, b = (np.array([getattr(case, name) for case in cases if case.label == one]) for one in SET.classes)
        assert a.std() > 0
        assert abs(a.mean() - b.mean()) < 4 * np.sqrt(a.var() / len(a) + b.var() / len(b))
    sick = [case for case in cases if case.label == "stroke"]
    assert {case.region for case in sick} == set(stroke.TERRITORIES)
    assert {case.age for case in sick} == set(stroke.AGES)


def test_harder_is_smaller_and_fainter():
    for index in range(20):
        easy, hard = (stroke.draw(index, severity, 0).case for severity in (1.0, 2.0))
        assert hard.label == easy.label
        assert hard.noise == pytest.approx(easy.noise * 2**0.5)
        if easy.label == "stroke":
            assert (hard.x_mm, hard.y_mm, hard.z_mm) == (easy.x_mm, easy.y_mm, easy.z_mm)
            assert hard.radius_mm == pytest.approx(easy.radius_mm / 2**0.4)
            assert hard.fall == pytest.approx(easy.fall / 2**0.5)
    falls = [stroke.draw(index, 0.25, 0).case.fall for index in range(60)]
    assert np.nanmax(falls) <= 1  # nothing falls below fluid
