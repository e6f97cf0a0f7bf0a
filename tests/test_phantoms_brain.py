"""The brain phantom: its truth is known, so it is tested against the truth."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from medlab import phantoms
from medlab.phantoms import anatomy, brain, mixture, physics, plan
from medlab.volume import Volume


@pytest.fixture(scope="module")
def sick():
    """The first case with a tumor."""
    return next(index for index in range(2) if plan.parameters(index).label == "tumor")


@pytest.fixture(scope="module")
def slices():
    """60 cases at 64 x 64: images, masks and parameters."""
    made = [brain.brain_tumor(index, size=64) for index in range(60)]
    return [image for image, _, _ in made], [mask for _, mask, _ in made], [facts for _, _, facts in made]


def _axes(spacing, reach=95.0):
    steps = np.arange(-reach, reach + 1e-6, spacing)
    return tuple((middle + steps).astype(np.float32) for middle in brain.MIDDLE)


# -- plan ------------------------------------------------------------------------------------------------------------


def test_of_every_pair_one_is_healthy_and_the_order_is_by_chance():
    labels = [plan.parameters(index, seed=3).label for index in range(200)]
    pairs = list(zip(labels[::2], labels[1::2], strict=True))
    assert all(set(pair) == {"healthy", "tumor"} for pair in pairs)
    first = sum(pair[0] == "tumor" for pair in pairs)
    assert 30 <= first <= 70  # 100 fair coins: outside once in 20,000


def test_healthy_cases_have_no_lesion_and_sick_ones_have_all_of_it():
    for index in range(40):
        case = plan.parameters(index)
        if case.label == "healthy":
            assert case.radius_mm == 0
            assert np.isnan(case.x_mm)
            assert case.grade == "none"
        else:
            assert case.radius_mm > 5
            assert np.isfinite([value for value in vars(case).values() if not isinstance(value, str)]).all()
            assert case.grade in ("low", "high")


def test_harder_is_smaller_fainter_noisier():
    easy, hard = ([plan.parameters(index, severity=severity) for index in range(60)] for severity in (1.0, 2.0))
    assert [case.label for case in easy] == [case.label for case in hard]
    for a, b in zip(easy, hard, strict=True):
        assert b.noise == pytest.approx(a.noise * 2**0.5)
        if a.label == "tumor":
            assert b.radius_mm == pytest.approx(a.radius_mm / 2**0.5)
            assert b.conspicuity == pytest.approx(a.conspicuity / 2**0.7)
            assert (a.x_mm, a.y_mm, a.z_mm) == (b.x_mm, b.y_mm, b.z_mm)
    assert sum(case.spots for case in hard) > 1.5 * sum(case.spots for case in easy)


def test_the_slice_tells_nothing_about_the_label():
    cases = [plan.parameters(index) for index in range(1000)]
    heights = {label: [case.slice_z_mm for case in cases if case.label == label] for label in plan.CLASSES}
    a, b = (np.array(values) for values in heights.values())
    assert abs(a.mean() - b.mean()) < 4 * np.sqrt(a.var() / len(a) + b.var() / len(b))


def test_same_seed_gives_the_same_case_in_a_fresh_process():
    code = (
        "import zlib; from medlab.phantoms import brain; "
        "i, m = brain.render(5, 2, 48, 'flair', 1.0, 7); print(zlib.crc32(i.tobytes()), zlib.crc32(m.tobytes()))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": salt},
        ).stdout
        for salt in ("1", "2")
    }
    assert len(printed) == 1
    other = brain.render(5, 2, 48, "flair", 1.0, 8)[0]
    assert not np.array_equal(other, brain.render(5, 2, 48, "flair", 1.0, 7)[0])


# -- anatomy ---------------------------------------------------------------------------------------------------------


def test_waves_on_a_grid_are_the_waves_at_each_place():
    waves = anatomy.Waves.draw(np.random.default_rng(1), 3, 20, 60)
    axes = (np.array([0.0, 7.0]), np.array([-30.0, 0.0, 5.0]), np.array([1.0, 40.0, 41.0, 90.0]))
    grid = waves.on(axes)
    assert grid.shape == (3, 2, 3, 4)
    for i, j, k in np.ndindex(2, 3, 4):
        point = np.array([axes[0][i], axes[1][j], axes[2][k]])
        direct = [
            (abs(w) * np.cos(waves.vectors @ point + np.angle(w))).sum() for w in waves.weights
        ]  # the sum of plane waves, written out
        np.testing.assert_allclose(grid[:, i, j, k], direct, atol=2e-5)
        np.testing.assert_allclose(waves.at(point), direct)


def test_waves_have_mean_0_and_deviation_1():
    waves = anatomy.Waves.draw(np.random.default_rng(0), 40, 5, 20, n=50)
    field = waves.on((np.arange(0, 200, 5.0),) * 3)
    assert abs(field.mean()) < 0.02
    assert field.std() == pytest.approx(1, abs=0.05)


def test_sample_is_linear_interpolation():
    maps = np.random.default_rng(0).random((2, 5, 6, 7))
    to_voxel = np.diag([0.5, 2.0, 1.0, 1.0])
    to_voxel[:3, 3] = 1.0, -1.0, 0.5
    places = np.random.default_rng(1).uniform([[0], [0.6], [0]], [[5.5], [2.9], [5.2]], (3, 50))
    voxel = to_voxel[:3, :3] @ places + to_voxel[:3, 3:]
    expected = [ndimage.map_coordinates(one, voxel, order=1) for one in maps]
    np.testing.assert_allclose(anatomy.sample(list(maps), to_voxel, places), expected, atol=1e-5)


def test_a_site_of_the_template_is_found_in_the_person():
    head = anatomy.Head.draw(np.random.default_rng(4))
    site = np.array([25.0, -40.0, 20.0])
    place = head.from_template(site)
    axes = tuple(place[axis : axis + 1] for axis in range(3))
    bend = head.SHAPE_MM * head.shape.on(axes) + head.FOLDS_MM * head.folds.on(axes)
    np.testing.assert_allclose(head.to_template(place[:, None], bend.reshape(3, 1))[:, 0], site, atol=0.05)


def test_sites_are_white_or_gray_matter_above_the_brain_stem():
    template = anatomy.template()
    matter = anatomy.sample(template.tissues, template.to_voxel, template.sites.T).sum(0) / 255
    assert matter.min() > 0.85
    assert template.sites[:, 2].min() > -20
    assert abs(template.sites[:, 0].mean()) < 3  # both halves alike


# -- mixture ---------------------------------------------------------------------------------------------------------


def test_shares_together_are_1_inside_the_head_and_0_in_the_air(sick):
    case, head = plan.draw(sick, 1.0, 0)
    shares, mask = mixture.compose(case, head, _axes(4.0, 130.0), 4.0, np.random.default_rng(0))
    total = sum(shares.values())
    assert min(share.min() for share in shares.values()) >= -1e-5
    assert total.max() <= 1 + 1e-4
    assert set(shares) <= set(physics.TISSUES)
    assert total[0].max() < 1e-6  # the first plane lies beyond the right ear
    np.testing.assert_allclose(total[mask > 0], 1, atol=1e-4)


def test_volume_of_the_mask_is_that_of_the_drawn_ball():
    ratios = []
    for index in range(24):
        case, head = plan.draw(index, 1.0, 1)
        if case.label == "tumor":
            reach = np.arange(-36, 36.1, 2.0)
            axes = tuple((at + reach).astype(np.float32) for at in (case.x_mm, case.y_mm, case.z_mm))
            mask = mixture.compose(case, head, axes, 2.0, np.random.default_rng(index))[1]
            ball = 4 / 3 * np.pi * case.radius_mm**3
            ratios.append((mask >= 2).sum() * 8 / ball)
    assert len(ratios) == 12
    assert min(ratios) > 0.5
    assert max(ratios) < 1.7
    assert np.mean(ratios) == pytest.approx(1, abs=0.2)


def test_the_volumes_in_the_table_are_those_of_a_fine_mask():
    table = phantoms.cases("phantom:brain-tumor", n=24, severity=0.7, seed=1)
    whole, core, balls = [], [], []
    for index, row in table.iterrows():
        if row["label"] == "healthy":
            assert (row["tumor_ml"], row["core_ml"]) == (0, 0)
            continue
        case, head = plan.draw(index, 0.7, 1)
        reach = np.arange(-1.75 * case.radius_mm, 1.75 * case.radius_mm, 1.0)
        axes = tuple((at + reach).astype(np.float32) for at in (case.x_mm, case.y_mm, case.z_mm))
        mask = mixture.compose(case, head, axes, 1.0, np.random.default_rng([plan.VERSION, 1, index, 2]))[1]
        whole.append(1000 * row["tumor_ml"] / (mask >= 2).sum())
        core.append(1000 * row["core_ml"] / (mask == 2).sum())
        balls.append(4 / 3 * np.pi * case.radius_mm**3 / (mask >= 2).sum())
    assert len(whole) == 12
    np.testing.assert_allclose(whole, 1, atol=0.03)
    np.testing.assert_allclose(core, 1, atol=0.1)  # the smallest cores are a few hundred voxels of 1 mm
    assert np.mean(core) == pytest.approx(1, abs=0.05)
    assert np.ptp(balls) > 0.2  # what was drawn is not what was made


def test_volumes_are_those_of_a_volume_and_of_every_image():
    index = 2 * 4 + (plan.parameters(8).label == "healthy")
    _, labels, facts = brain.brain_tumor(index, rank=3, size=120)
    assert 1000 * facts["tumor_ml"] == pytest.approx((labels.array >= 2).sum() * 2.0**3, rel=0.04)
    other = brain.brain_tumor(index, size=16, sequence="t2", domain="noisy")[2]
    assert (other["tumor_ml"], other["core_ml"]) == (facts["tumor_ml"], facts["core_ml"])


def test_a_tumor_smaller_than_a_voxel_is_marked_where_it_is():
    checked = 0
    for index in range(60):
        case = plan.parameters(index, severity=4, seed=1)
        labels = brain.render(index, 2, 16, "flair", 4, 1)[1]
        assert labels.any() == (case.label == "tumor")
        if (labels > 0).sum() == 1:
            place = brain.head_affine(2, 16, case.slice_z_mm) @ [*np.argwhere(labels)[0], 0, 1]
            # Within the voxel of 15 mm, or one beside it where the outline leans over.
            assert np.abs(place[:2] - [case.x_mm, case.y_mm]).max() < 15
            checked += 1
    assert checked > 8


def test_outline_is_no_ball(sick):
    case, head = plan.draw(sick, 1.0, 0)
    reach = np.arange(-36, 36.1, 1.5)
    axes = tuple((at + reach).astype(np.float32) for at in (case.x_mm, case.y_mm, case.z_mm))
    tumor = mixture.compose(case, head, axes, 1.5, np.random.default_rng(0))[1] >= 2
    border = tumor & ~ndimage.binary_erosion(tumor)
    distance = np.linalg.norm((np.argwhere(border) - 24) * 1.5, axis=1)
    assert distance.std() > 0.06 * distance.mean()


def _ball_case(**changes):
    case = next(case for case in map(plan.parameters, range(9)) if case.label == "tumor")
    return replace(case, x_mm=20.0, y_mm=-10.0, z_mm=15.0, radius_mm=15.0, mass_effect=0.5, **changes)


def test_tissue_is_displaced_outward_by_the_volume_of_the_tumor():
    # Deep inside the head only the fading with distance bends the closed form r'^3 = r^3 - m R^3.
    case = _ball_case()
    middle = np.array([[20.0], [-10.0], [15.0]])
    direction = np.array([[2.0], [-1.0], [2.0]]) / 3
    radii = np.array([15.0, 20.0, 30.0, 60.0])
    shift = mixture.push(middle + direction * radii, case, np.full(4, -50.0))
    inward = -(direction * shift).sum(0)  # where tissue came from lies nearer to the center
    expected = radii - np.cbrt(radii**3 - 0.5 * 15**3)
    np.testing.assert_allclose(inward, expected * np.exp(-((radii / 75) ** 2)), rtol=1e-5)
    np.testing.assert_allclose(shift, -direction * inward, atol=1e-5)
    # A ball's shell: what was inside 20 mm now lies inside 20 mm plus the push: the volume m V left.
    assert inward[0] == pytest.approx(15 * (1 - 0.5 ** (1 / 3)) * np.exp(-(0.2**2)), rel=1e-5)


def test_displacement_keeps_the_order_of_tissue_and_spares_the_skull():
    case = _ball_case()
    radii = np.linspace(0.5, 80, 400)
    places = np.array([[20.0], [-10.0], [15.0]]) + np.array([[0.0], [0.0], [1.0]]) * radii
    source = radii + mixture.push(places, case, np.full(400, -50.0))[2]
    assert (np.diff(source[radii > 0.5 ** (1 / 3) * 15]) > 0).all()
    assert np.abs(mixture.push(places, case, np.zeros(400))).max() == 0


def test_white_matter_outside_a_pushing_tumor_is_kept_not_overwritten(sick):
    case, head = plan.draw(sick, 1.0, 0)
    case = replace(case, edema_mm=0.01, mass_effect=0.8)
    axes = _axes(2.5, 80)
    shares = {}
    for name, chosen in (
        ("pushed", case),
        ("replaced", replace(case, mass_effect=0.0)),
        ("healthy", replace(case, label="healthy")),
    ):
        found, mask = mixture.compose(chosen, head, axes, 2.5, np.random.default_rng(0))
        shares[name] = sum(found[tissue].sum() for tissue in ("white", "gray", "gliosis", "fluid")) * 2.5**3, mask
    lost = shares["healthy"][0] - shares["replaced"][0]
    assert lost > 0
    # The skull holds: brain that is pushed aside takes room from brain farther away, so totals stay within the head.
    assert shares["pushed"][0] == pytest.approx(shares["replaced"][0], rel=0.01)
    np.testing.assert_array_equal(shares["pushed"][1] >= 2, shares["replaced"][1] >= 2)


# -- images ----------------------------------------------------------------------------------------------------------


def test_images_masks_and_their_place(slices):
    images, masks, facts = slices
    for image, mask, case in zip(images, masks, facts, strict=True):
        assert isinstance(image, Volume)
        assert (image.kind, mask.kind, image.modality, image.orientation) == ("image", "labels", "MR", "PL")
        assert image.spacing == pytest.approx((3.75, 3.75))
        assert image.has_geometry
        np.testing.assert_array_equal(image.affine, mask.affine)
        assert image.origin[2] == pytest.approx(case["slice_z_mm"])
        assert mask.array.any() == (case["label"] == "tumor")
    info = images[0].info
    assert (info["sequence"], info["tr_ms"], info["te_ms"], info["ti_ms"]) == ("flair", 9000, 110, 2400)
    assert info["parameters"] == facts[0]


def test_every_label_occurs_and_the_rim_encloses_the_core():
    seen, touching, border = set(), 0, 0
    for index in range(30):
        mask = brain.render(index, 2, 192, "flair", 1.0, 0)[1]
        seen |= set(np.unique(mask).tolist())
        ring = ndimage.binary_dilation(mask == 2) & (mask != 2)
        touching, border = touching + (ring & (mask < 3)).sum(), border + ring.sum()
    assert seen == set(mixture.LABELS.values())
    assert touching < 0.03 * border


def test_tumor_on_the_right_lies_in_the_left_columns_and_at_high_i(slices):
    _, masks, facts = slices
    checked = 0
    for index, (mask, case) in enumerate(zip(masks, facts, strict=True)):
        if case["label"] != "tumor" or case["radius_mm"] + 4 > abs(case["x_mm"]):
            continue
        row, column = np.argwhere(mask.array >= 2).mean(0)
        assert (column < 31.5) == (case["x_mm"] > 0)  # radiological: the patient's right is on the left
        world = mask.affine @ [row, column, 0, 1]
        assert np.linalg.norm(world[:2] - [case["x_mm"], case["y_mm"]]) < 0.5 * case["radius_mm"] + 3
        if checked < 3:
            volume = brain.brain_tumor(index, rank=3, size=48)[1]
            assert volume.orientation == "RAS"
            middle = volume.affine @ [*np.argwhere(volume.array >= 2).mean(0), 1]
            assert (np.argwhere(volume.array >= 2).mean(0)[0] > 23.5) == (case["x_mm"] > 0)
            np.testing.assert_allclose(middle[:3], [case["x_mm"], case["y_mm"], case["z_mm"]], atol=6)
        checked += 1
    assert checked > 8


def test_front_is_up_and_the_slice_is_that_of_the_volume(sick):
    # The same person as slice and as volume: the head's outline and the mask agree where they meet.
    image, mask, case = brain.brain_tumor(sick, size=64)
    volume, labels, _ = brain.brain_tumor(sick, rank=3, size=64)
    k = round((case["slice_z_mm"] - volume.origin[2]) / volume.spacing[2])
    flipped = volume.array[::-1, ::-1, k].T
    inside = image.array > 0.3 * np.percentile(image.array, 95)
    same = flipped > 0.3 * np.percentile(flipped, 95)
    overlap = 2 * (inside & same).sum() / (inside.sum() + same.sum())
    assert overlap > 0.9
    turned = 2 * (inside[::-1] & same).sum() / (inside.sum() + same.sum())
    assert turned < overlap
    assert ((labels.array[::-1, ::-1, k].T > 0) & (mask.array > 0)).sum() > 0.5 * (mask.array > 0).sum()


def test_flair_shows_fluid_dark_and_edema_bright():
    ratios, dark = [], []
    for index in range(20):
        case, head = plan.draw(index, 1.0, 0)
        if case.label == "healthy":
            continue
        image, mask = brain.render(index, 2, 96, "flair", 1.0, 0)
        step = brain.FIELD_OF_VIEW / 96
        axes = [(brain.MIDDLE[a] + (np.arange(96) - 47.5) * step).astype(np.float32) for a in range(2)]
        axes.append(np.array([case.slice_z_mm], np.float32))
        shares, _ = mixture.compose(case, head, tuple(axes), step, np.random.default_rng([plan.VERSION, 0, index, 2]))
        shares = {name: share[::-1, ::-1, 0].T for name, share in shares.items()}
        white = np.median(image[shares["white"] > 0.9])
        ratios.append(image[mask == 1].mean() / white)
        dark.append(image[shares["fluid"] > 0.95].mean() / white)
    assert np.mean(ratios) > 1.3
    assert min(ratios) > 1.1
    assert max(dark) < 0.35


def test_contrast_agent_brightens_the_rim_alone(sick):
    before, mask = brain.render(sick, 2, 96, "t1", 1.0, 0)
    after, same = brain.render(sick, 2, 96, "t1c", 1.0, 0)
    np.testing.assert_array_equal(mask, same)
    ratio = after.astype(float) / np.maximum(before, 1)
    head = before > 100
    assert np.median(ratio[ndimage.binary_erosion(mask >= 2) & (mask == 3)]) > 1.3
    assert np.median(ratio[head & (mask == 0)]) == pytest.approx(1, abs=0.03)


def test_background_is_rician_noise_of_the_stated_strength():
    image, _, case = brain.brain_tumor(1)
    corner = np.concatenate([image.array[:20, :20].ravel(), image.array[-20:, -20:].ravel()]).astype(float)
    sigma = corner.mean() / np.sqrt(np.pi / 2)
    axes = [(brain.MIDDLE[a] + (np.arange(128) - 63.5) * 1.875).astype(np.float32) for a in range(2)]
    axes.append(np.array([case["slice_z_mm"]], np.float32))
    rng = np.random.default_rng([plan.VERSION, 0, 1, 2])
    shares, _ = mixture.compose(*plan.draw(1, 1.0, 0), tuple(axes), 1.875, rng)
    white = np.median(image.array[shares["white"][::-1, ::-1, 0].T > 0.95])
    assert sigma / white == pytest.approx(case["noise"], rel=0.2)  # the receive gain differs by up to 14 %
    assert corner.std() / corner.mean() == pytest.approx(np.sqrt(4 / np.pi - 1), rel=0.08)


def test_other_sequences_show_the_same_patient_with_other_noise():
    flair, mask = brain.render(2, 2, 64, "flair", 1.0, 0)
    t2, same = brain.render(2, 2, 64, "t2", 1.0, 0)
    np.testing.assert_array_equal(mask, same)
    assert abs(np.corrcoef(flair[:, :5].ravel(), t2[:, :5].ravel())[0, 1]) < 0.2  # beyond the right ear: noise alone


def test_volume_is_ras_and_in_the_middle():
    image, mask, _ = phantoms.brain_tumor(0, rank=3, size=32)
    assert image.shape == mask.shape == (32, 32, 32)
    assert image.orientation == "RAS"
    np.testing.assert_allclose(image.spacing, 7.5)
    np.testing.assert_allclose(image.affine @ [15.5, 15.5, 15.5, 1], [*brain.MIDDLE, 1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 4}, "rank 2 .* Received 4"),
        ({"rank": 2.0}, "Received 2.0"),
        ({"size": 8}, "size from 16 to 512 for rank 2. Received 8"),
        ({"size": 200, "rank": 3}, "size from 16 to 160 for rank 3. Received 200"),
        ({"size": 64.5}, "Received 64.5"),
        ({"sequence": "dwi"}, "sequence of flair, t1, t1c, t2. Received 'dwi'"),
        ({"severity": 9}, "severity from 0.25 to 4. Received 9"),
        ({"severity": float("nan")}, "Received nan"),
        ({"seed": -1}, "seed of 0 or above"),
        ({"domain": "7T"}, "domain of reference, .*Received '7T'"),
    ],
)
def test_arguments_out_of_range_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        phantoms.brain_tumor(0, **changes)


def test_a_line_through_the_pixels_does_not_solve_it():
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    made = [brain.render(index, 2, 48, "flair", 1.0, 0)[0].astype(float) for index in range(400)]
    x = np.stack([(image - image.mean()) / image.std() for image in made])
    x = x.reshape(400, 24, 2, 24, 2).mean((2, 4)).reshape(400, -1)
    y = np.array([plan.parameters(index).label == "tumor" for index in range(400)])
    aucs = []
    for strength in (1e-3, 1e-1):
        model = LogisticRegression(C=strength, max_iter=500).fit(x[:280], y[:280])
        aucs.append(roc_auc_score(y[280:], model.decision_function(x[280:])))
    assert max(aucs) < 0.80
