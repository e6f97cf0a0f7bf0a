"""Scales beyond one image's mean: landmarks, white stripe, fixed numbers, CLAHE and matched histograms."""

import json

import numpy as np
import pytest
from skimage import exposure

from medlab import standardize
from medlab.volume import Volume

BODY = np.zeros((24, 25, 26), np.uint8)
BODY[4:-4, 4:-4, 4:-4] = 1


def scan(gain=1.0, power=1.0, seed=0, shape=(24, 25, 26)):
    """A bright body, gamma-distributed, in air; what another scanner makes of it by gain and power."""
    rng = np.random.default_rng(seed)
    array = np.full(shape, 0.01)
    array[4:-4, 4:-4, 4:-4] = 2 + rng.gamma(4.0, 0.5, [side - 8 for side in shape])
    return Volume((gain * array**power).astype(np.float32), modality="MR")


def test_landmarks_of_a_ramp_by_hand():
    ramp = Volume(np.arange(101.0).reshape(1, 101) * 7 + 3)
    found = standardize.fit_landmarks([ramp], percentiles=(0, 25, 50, 100), mask=None)
    np.testing.assert_allclose(found, [(0, 0), (25, 25), (50, 50), (100, 100)], atol=1e-6)
    # The square of the ramp has its 25th percentile at 1/16 of the range; the mean with the ramp's is 15.625.
    square = ramp.replace(array=(ramp.array - 3) ** 2)
    found = standardize.fit_landmarks([ramp, square], percentiles=(0, 25, 50, 100), mask=None)
    np.testing.assert_allclose([value for _, value in found], [0, (25 + 6.25) / 2, (50 + 25) / 2, 100], atol=1e-6)


def test_the_standard_scale_moves_percentiles_onto_the_landmarks():
    training = [scan(seed=1), scan(300, 1.3, 2), scan(0.01, 0.8, 3)]
    marks = standardize.fit_landmarks((volume, BODY) for volume in training)
    for volume in (scan(seed=7), scan(5000, 1.5, 8)):
        moved = standardize.histogram(volume, marks, BODY)
        body = moved.array[4:-4, 4:-4, 4:-4]
        own = np.percentile(body, [percent for percent, _ in marks])
        np.testing.assert_allclose(own, [value for _, value in marks], atol=0.02)
        order = np.argsort(volume.array.ravel())
        assert (np.diff(moved.array.ravel()[order]) >= -1e-4).all(), "the order of voxels stays"
        assert moved.array.min() < 0, "the line goes on below the first landmark"


def test_two_scanners_come_closer_than_by_z_scores():
    marks = standardize.fit_landmarks([(scan(seed=1), BODY), (scan(10, 1.6, 2), BODY)])
    one, other = scan(seed=5), scan(800, 1.6, 5)

    def apart(function):
        a, b = (function(volume).array[BODY > 0] for volume in (one, other))
        return np.abs(a - b).mean() / a.std()

    assert apart(lambda volume: standardize.histogram(volume, marks, BODY)) < 0.2 * apart(
        lambda volume: standardize.zscore(volume, BODY)
    )


def test_landmarks_are_json_and_a_step_of_a_recipe():
    marks = standardize.fit_landmarks([scan(seed=1)])
    recipe = standardize.recipe("MR", histogram=marks, zscore=None, clip=None)
    again = standardize.Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert again == recipe
    np.testing.assert_array_equal(again(scan(9)).array, standardize.histogram(scan(9), marks).array)
    volume = scan(9)
    np.testing.assert_array_equal(
        standardize.histogram(volume, json.loads(json.dumps(marks))).array, again(scan(9)).array
    )


def test_landmarks_of_images_that_have_none():
    marks = ((1, 0.0), (50, 40.0), (99, 100.0))
    for volume in (Volume(np.full((3, 4), 5.0)), Volume(np.arange(12.0).reshape(3, 4))):
        mask = np.zeros((3, 4), int)
        mask[1, 1] = 1
        assert (standardize.histogram(volume, marks, mask).array == 0).all(), "one voxel is a constant"
    with pytest.raises(ValueError, match="at least one voxel above 0"):
        standardize.histogram(volume, marks, np.zeros((3, 4)))
    # Half of the image is one value: it gets the mean of the landmarks that meet there.
    half = Volume(np.array([[0.0] * 60 + list(range(1, 41))]))
    moved = standardize.histogram(half, ((0, 0), (25, 10), (50, 20), (100, 100)), None).array
    assert moved[0, 0] == pytest.approx(10)
    assert moved[0, -1] == pytest.approx(100)
    constant = Volume(np.ones((3, 4)))
    assert standardize.fit_landmarks([constant, half], mask=None) == standardize.fit_landmarks([half], mask=None)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: standardize.fit_landmarks([]), "Received 0"),
        (lambda: standardize.fit_landmarks([Volume(np.ones((3, 3)))]), "not constant"),
        (
            lambda: standardize.fit_landmarks([Volume(np.full((3, 3), np.nan))]),
            "Image 0 of fit_landmarks.*clean.repair",
        ),
        (lambda: standardize.fit_landmarks([Volume(np.ones((3, 3, 2)), rank=2)]), "one channel"),
        (lambda: standardize.fit_landmarks([], percentiles=(50, 10)), "rising percentiles"),
        (lambda: standardize.histogram(Volume(np.ones((3, 3))), [1, 2, 3]), "pairs of fit_landmarks"),
        (lambda: standardize.histogram(Volume(np.ones((3, 3))), [(0, 5), (100, 1)]), "values that rise"),
        (lambda: standardize.white_stripe(scan(), "T3"), "contrast of T1, T2, FLAIR"),
        (lambda: standardize.white_stripe(scan(), width=0.5), "below 0.5"),
        (lambda: standardize.clahe(scan(), 0), "clip limit above 0"),
        (lambda: standardize.clahe(scan(), tiles=0), "tiles as a whole number"),
        (lambda: standardize.match_histogram(scan(), Volume(np.ones((3, 3, 2)), rank=2)), "as many channels"),
        (lambda: standardize.fixed_zscore(scan(), 0, 0), "deviation above 0"),
        (lambda: standardize.fixed_zscore(scan(), 0, 1, low=3, high=3), "low below high"),
    ],
)
def test_errors_say_what_is_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def brain(white=100.0, gray=70.0, seed=0, n=400_000):
    """Gray and white matter as two normal distributions of deviation 4, 45 % of them white, as one slice."""
    rng = np.random.default_rng(seed)
    count = int(0.45 * n)
    values = np.concatenate([rng.normal(white, 4, count), rng.normal(gray, 4, n - count)])
    return Volume(values.reshape(400, -1).astype(np.float32), modality="MR")


def test_a_white_stripe_lies_at_the_peak_of_white_matter():
    volume = brain()
    moved = standardize.white_stripe(volume, "T1", None)
    # Within the stripe the density is nearly flat: 10 % of all values over a width w = 0.1 / f, deviation w / sqrt(12).
    density = 0.45 / (4 * np.sqrt(2 * np.pi))
    deviation = 0.1 / density / np.sqrt(12)
    scale = (moved.array[0, 1] - moved.array[0, 0]) / (volume.array[0, 1] - volume.array[0, 0])
    assert 1 / scale == pytest.approx(deviation, rel=0.06)
    zero = volume.array[0, 0] - moved.array[0, 0] / scale
    assert zero == pytest.approx(100, abs=0.4)
    assert standardize.tissue_peak(volume, "T1", None) == pytest.approx((100,), abs=0.5)
    for contrast in ("t1", "flair", "Flair"):
        found = standardize.tissue_peak(volume, contrast, None)
        assert found == standardize.tissue_peak(volume, contrast.upper(), None), "capitals do not matter"
    assert standardize.tissue_peak(volume, "T2", None) == pytest.approx((70,), abs=0.5), "the highest peak"


def test_a_white_stripe_forgets_gain_and_offset_and_hardly_sees_a_lesion():
    volume = brain()
    moved = standardize.white_stripe(volume, "T1", None).array
    other = standardize.white_stripe(volume.replace(array=37 * volume.array + 900), "T1", None).array
    np.testing.assert_allclose(other, moved, atol=0.02)
    ill = volume.array.copy()
    healthy = ill.ravel()[-20000:].copy()
    ill.ravel()[-20000:] = 30
    after = standardize.white_stripe(volume.replace(array=ill), "T1", None).array
    shift = np.abs(after - moved).ravel()[:-20000].mean() / moved.std()
    z = standardize.zscore(volume).array, standardize.zscore(volume.replace(array=ill)).array
    assert shift < 0.5 * np.abs(z[1] - z[0]).ravel()[:-20000].mean()
    assert healthy.mean() == pytest.approx(70, abs=0.2)


def test_a_constant_image_or_one_voxel_has_no_stripe():
    assert (standardize.white_stripe(Volume(np.full((3, 4), 5.0))).array == 0).all()
    mask = np.zeros((3, 4))
    mask[1, 2] = 1
    assert (standardize.white_stripe(Volume(np.arange(12.0).reshape(3, 4)), "T2", mask).array == 0).all()
    assert standardize.tissue_peak(Volume(np.full((3, 4), 5.0))) == (5.0,)
    with pytest.raises(ValueError, match="at least one voxel above 0"):
        standardize.white_stripe(scan(), mask=np.zeros((24, 25, 26)))


def test_fixed_numbers_are_the_same_for_every_image():
    hu = Volume(np.array([[-2000.0, 0.0, 50.0, 3000.0]]), modality="CT")
    moved = standardize.fixed_zscore(hu, 50, 25, low=-100, high=200).array
    np.testing.assert_allclose(moved, [[-6, -2, 0, 6]])
    np.testing.assert_allclose(standardize.fixed_zscore(hu, 50, 25).array, [[-82, -2, 0, 118]])
    assert (standardize.fixed_zscore(Volume(np.full((2, 2), 75)), 50, 25).array == 1).all()


def test_percentiles_within_a_mask():
    volume = Volume(np.arange(101.0).reshape(1, 101))
    mask = np.arange(101).reshape(1, 101) <= 10
    np.testing.assert_allclose(standardize.percentile(volume, 0, 100, mask).array[0, [0, 5, 10, 50]], [0, 0.5, 1, 1])
    mask[:] = False
    mask[0, 4] = True
    assert (standardize.percentile(volume, 0, 100, mask).array == 0).all()
    with pytest.raises(ValueError, match="at least one voxel above 0"):
        standardize.percentile(volume, mask=np.zeros((1, 101)))


def test_clahe_is_scikit_images_and_shows_faint_stripes():
    stripes = np.tile([0.0, 0.02], (64, 32)) + np.linspace(0, 1, 64)[:, None]
    volume = Volume(stripes.astype(np.float32), modality="DX")
    moved = standardize.clahe(volume, 0.02, 4)
    unit = (volume.array - volume.array.min()) / np.ptp(volume.array)
    np.testing.assert_allclose(moved.array, exposure.equalize_adapthist(unit, 16, 0.02), atol=1e-6)
    assert np.abs(np.diff(moved.array, axis=1)).mean() > 1.5 * np.abs(np.diff(unit, axis=1)).mean()
    assert (standardize.clahe(Volume(np.full((9, 9, 9), 4.0))).array == 0).all()
    out = standardize.clahe(scan()).array
    assert out.shape == (24, 25, 26)
    assert 0 <= out.min() < out.max() <= 1
    steps = [step for step, _ in standardize.recipe("DX", clahe=True).steps]
    assert steps == ["percentile", "clahe", "symmetric"]


def test_a_matched_histogram_is_the_references():
    rng = np.random.default_rng(3)
    one, other = Volume(rng.normal(0, 1, (20, 20, 20))), Volume(rng.gamma(2, 50, (30, 21, 22)))
    moved = standardize.match_histogram(one, other).array
    levels = np.linspace(1, 99, 41)
    np.testing.assert_allclose(np.percentile(moved, levels), np.percentile(other.array, levels), rtol=0.01)
    assert (np.diff(moved.ravel()[np.argsort(one.array.ravel())]) >= 0).all()
    same = Volume(np.random.default_rng(0).permutation(400.0 * np.arange(100)).reshape(10, 10))
    ramp = Volume(np.arange(100.0).reshape(10, 10))
    np.testing.assert_allclose(standardize.match_histogram(same, ramp).array, same.array / 400)
    assert (standardize.match_histogram(Volume(np.ones((2, 2))), ramp).array == 49.5).all()


def test_a_preset_with_another_spelling_names_the_right_one():
    for wrong, right in (("angio", "angiography"), ("soft tissue", "soft-tissue"), ("Liver", "liver")):
        with pytest.raises(ValueError, match=f"Did you mean '{right}'"):
            standardize.window(Volume(np.zeros((2, 2))), preset=wrong)


def test_a_white_stripe_without_any_value_is_zero():
    few = Volume(np.arange(8, dtype=np.float32).reshape(2, 2, 2))
    out = standardize.white_stripe(few, "FLAIR", None, width=0.01).array
    assert np.isfinite(out).all()
