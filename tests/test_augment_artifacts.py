"""Artifacts: nothing at severity 0, more at each severity, and the physics where there is a formula."""

import itertools

import numpy as np
import pytest

from medlab.augment import artifacts
from medlab.volume import Volume

NAMES = [name for name in artifacts.__all__ if name not in ("standard", "every")]


def picture(shape=(32, 30), seed=0):
    """A smooth image with some texture."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    smooth = np.exp(-3 * sum(axis**2 for axis in axes))
    return (smooth + 0.1 * np.random.default_rng(seed).random(shape))[..., None].astype(np.float32)


def damage(name, array, severity, seed=5):
    return getattr(artifacts, name)(array, severity=severity, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("shape", [(32, 30), (14, 15, 16)])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_at_0_and_more_at_each_severity(name, shape):
    array = picture(shape)
    before = array.copy()
    np.testing.assert_array_equal(damage(name, array, 0), array)
    change = [float(np.abs(damage(name, array, s) - array).mean()) for s in (0, 0.5, 1, 2, 3, 4, 5)]
    assert (np.diff(change)[1:] > 0).all(), change
    assert change[2] > 0.003 * array.std()
    assert change[-1] > 0.05 * array.std()
    np.testing.assert_array_equal(array, before)
    out = damage(name, array, 5)
    assert out.shape == array.shape
    assert out.dtype == np.float32


@pytest.mark.parametrize("name", NAMES)
def test_the_unit_of_the_image_does_not_matter(name):
    array = picture()
    small, large = damage(name, array, 3), damage(name, 1000 * array - 300, 3)
    np.testing.assert_allclose(large, 1000 * small - 300, rtol=1e-3, atol=0.2)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_generator_gives_the_same_image(name):
    array = picture()
    np.testing.assert_array_equal(damage(name, array, 3), damage(name, array, 3))


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_stands_for_its_generator(name):
    array, function = picture(), getattr(artifacts, name)
    for seed in (7, np.int64(7)):
        np.testing.assert_array_equal(function(array, rng=seed), damage(name, array, 3, seed=7))


BARELY = {
    "beam_hardening": {"spread": 1e-4}, "bias_field": {"strength": 1e-6}, "blur": {"sigma": 1e-3},
    "brightness": {"offset": 1e-6}, "collimation": {"fraction": 1e-6}, "contrast": {"factor": 1 - 1e-6},
    "dropped_pixels": {"fraction": 1e-6}, "dropped_slices": {"fraction": 1e-6}, "exposure": {"photons": 1e14},
    "gamma": {"exponent": 1 + 1e-6}, "gaussian_noise": {"std": 1e-6}, "ghosting": {"strength": 1e-6},
    "gibbs_ringing": {"fraction": 1 - 1e-6}, "grid_lines": {"strength": 1e-6}, "motion": {"translation": 1e-6},
    "poisson_noise": {"photons": 1e14}, "rician_noise": {"std": 1e-6}, "ring": {"strength": 1e-6},
    "scatter": {"ratio": 1e-6}, "shadow": {"loss": 1e-6}, "speckle": {"strength": 1e-6}, "spike": {"strength": 1e-6},
    "thick_slices": {"thickness": 1 + 1e-6},
}  # fmt: skip


@pytest.mark.parametrize("shape", [(32, 30), (14, 15, 16)])
@pytest.mark.parametrize("name", sorted(BARELY))
def test_next_to_nothing_changes_next_to_nothing_up_to_the_border(name, shape):
    array = picture(shape) + np.indices(shape)[0][..., None] / np.float32(shape[0])  # no dark margin
    out = getattr(artifacts, name)(array, **BARELY[name], rng=0)
    assert np.abs(out - array).max() < 1e-3 * array.std()


def test_all_artifacts_but_a_piece_of_metal_can_be_next_to_nothing():
    assert {*NAMES} - {*BARELY} == {"metal_streak"}


@pytest.mark.parametrize("name", NAMES)
def test_a_constant_image_stays_finite(name):
    out = damage(name, np.full((6, 7, 2), 3.0), 5)
    np.testing.assert_allclose(out, 3.0)


def test_gaussian_noise_has_its_deviation():
    array = np.zeros((200, 200, 1))
    out = artifacts.gaussian_noise(array, std=2.5, rng=np.random.default_rng(0))
    assert out.std() == pytest.approx(2.5, rel=0.02)
    assert out.mean() == pytest.approx(0, abs=0.05)


def test_rician_noise_has_the_means_of_its_distribution():
    rng = np.random.default_rng(0)
    array = np.zeros((300, 200, 1))
    array[150:] = 50.0
    out = artifacts.rician_noise(array, std=2.0, rng=rng)
    # Without signal a Rayleigh distribution; far above the noise, signal + variance / (2 signal).
    assert out[:150].mean() == pytest.approx(2.0 * np.sqrt(np.pi / 2), rel=0.01)
    assert out[:150].std() == pytest.approx(2.0 * np.sqrt(2 - np.pi / 2), rel=0.02)
    assert out[150:].mean() == pytest.approx(50 + 4 / 100, abs=0.03)
    assert out[150:].std() == pytest.approx(2.0, rel=0.02)


def test_blur_spreads_a_point_to_its_width():
    array = np.zeros((61, 61, 1))
    array[30, 30] = 1
    out = artifacts.blur(array, sigma=3.0)[..., 0]
    position = np.arange(61) - 30
    assert out.sum() == pytest.approx(1, abs=1e-5)
    assert (out.sum(1) * position**2).sum() == pytest.approx(9, rel=0.02)


def test_contrast_brightness_and_gamma_by_hand():
    array = np.array([[0.0, 2.0], [4.0, 10.0]])[..., None]
    np.testing.assert_allclose(artifacts.contrast(array, factor=0.5)[..., 0], [[2, 3], [4, 7]])
    np.testing.assert_allclose(artifacts.brightness(array, offset=-3.0)[..., 0], [[-3, -1], [1, 7]])
    np.testing.assert_allclose(artifacts.gamma(array, exponent=2.0)[..., 0], [[0, 0.4], [1.6, 10]], rtol=1e-6)


def test_dropped_pixels_are_as_many_as_stated_and_nested():
    array = picture((100, 100)) + 1
    lost = [damage("dropped_pixels", array, s) == array.min() for s in range(6)]
    np.testing.assert_allclose([one.mean() for one in lost], [0.0001, 0.02, 0.05, 0.1, 0.2, 0.35], atol=0.012)
    for low, high in itertools.pairwise(lost):
        assert (high | ~low).all()


def test_dropped_slices_are_whole():
    array = picture((10, 11, 20)) + 1
    out = artifacts.dropped_slices(array, fraction=0.25, rng=np.random.default_rng(0))
    empty = (out == array.min()).all((0, 1, 3))
    assert empty.sum() == 5
    np.testing.assert_array_equal(out[:, :, ~empty], array[:, :, ~empty])
    rows = artifacts.dropped_slices(picture(), severity=1, rng=np.random.default_rng(0))
    assert (rows == picture().min()).all((1, 2)).sum() == 2
    columns = artifacts.dropped_slices(picture(), fraction=1, axis=1, rng=np.random.default_rng(0))
    assert (columns == picture().min()).all()


def test_the_bias_field_has_its_strength():
    array = np.ones((40, 42, 1))
    array[0, 0] = 0.0
    out = artifacts.bias_field(array, strength=0.3, rng=np.random.default_rng(0))
    log = np.log(out.ravel()[1:])
    assert log.std() == pytest.approx(0.3, rel=0.05)
    assert out[0, 0, 0] == 0


def test_the_standard_set_suits_modality_and_rank():
    for modality in ("MR", "CT", "DX", None):
        for rank, shape in ((2, (16, 17, 1)), (3, (9, 10, 11, 1))):
            chosen = artifacts.standard(modality, rank)
            assert ("dropped slices" in chosen) == (rank == 3)
            assert ("bias field" in chosen) == (modality == "MR")
            for function in chosen.values():
                assert function(np.ones(shape), severity=2, rng=np.random.default_rng(0)).shape == shape
    assert {"ghosting", "motion"} <= set(artifacts.standard("MR", 2))
    assert {"photon noise", "beam hardening"} <= set(artifacts.standard("CT", 2))
    assert {"exposure", "scatter"} <= set(artifacts.standard("CR", 2))
    assert {"speckle", "shadow"} <= set(artifacts.standard("US", 2))
    assert len(artifacts.standard("OT", 2)) == 6
    with pytest.raises(ValueError, match="rank 2 or 3"):
        artifacts.standard("MR", 4)


def test_every_artifact_belongs_to_a_modality():
    listed = set()
    for modality in ("MR", "CT", "DX", "US", None):
        for rank in (2, 3):
            found = artifacts.every(modality, rank)
            assert list(found)[: len(artifacts.standard(modality, rank))] == list(artifacts.standard(modality, rank))
            assert ("thick slices" in found) == (rank == 3 and modality in ("MR", "CT"))
            listed |= {function.__name__ for function in found.values()}
    assert listed == set(NAMES)
    assert {"spike", "Gibbs ringing"} <= set(artifacts.every("MR", 2))
    assert {"metal streak", "ring"} <= set(artifacts.every("CT", 2))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 1), (3, 1, 5, 1), (2, 2, 2, 2)])
def test_tiny_images_stay_finite(name, shape):
    array = np.random.default_rng(0).random(shape)
    out = damage(name, array, 5)
    assert out.shape == shape
    assert np.isfinite(out).all()


@pytest.mark.parametrize("name", NAMES)
def test_severities_are_checked(name):
    with pytest.raises(ValueError, match="severity between 0"):
        damage(name, picture(), 5.5)


@pytest.mark.parametrize("name", NAMES)
def test_slices_are_not_taken_for_channels(name):
    volume = picture((6, 7, 17))
    with pytest.raises(
        ValueError, match=r"\(6, 7, 17\), which would be a picture of 17 channels. .* add \[..., None\]"
    ):
        damage(name, volume[..., 0], 3)
    with pytest.raises(ValueError, match=r"Received a Volume: give volume.array, with \[..., None\]"):
        damage(name, Volume(volume[..., 0]), 3)
    assert damage(name, volume, 3).shape == (6, 7, 17, 1)
    assert damage(name, np.repeat(volume, 17, 3), 3).shape == (6, 7, 17, 17)  # a volume may have as many as it has
    assert damage(name, volume[..., :16, 0], 3).shape == (6, 7, 16)


@pytest.mark.parametrize("rng", [-1, 1.5, None, "seed", np.random])
@pytest.mark.parametrize("name", ["gaussian_noise", "motion", "poisson_noise", "exposure", "speckle", "bias_field"])
def test_what_is_no_source_of_randomness_is_refused(name, rng):
    with pytest.raises(ValueError, match=r"Expected rng as a numpy Generator, .* or a seed of 0 or above"):
        getattr(artifacts, name)(picture(), rng=rng)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rng: artifacts.blur(picture(), severity=6, rng=rng), "between 0"),
        (lambda rng: artifacts.gaussian_noise(picture(), severity=float("nan"), rng=rng), "between 0"),
        (lambda rng: artifacts.gaussian_noise(picture(), std=-1, rng=rng), "std of 0 or above"),
        (lambda rng: artifacts.dropped_pixels(picture(), fraction=1.5, rng=rng), "between 0 and 1"),
        (lambda rng: artifacts.dropped_slices(picture(), axis=2, rng=rng), "axis between 0 and 1"),
        (lambda rng: artifacts.blur(picture()[..., 0], rng=rng), "channel axis"),
        (lambda rng: artifacts.blur(picture() * np.nan, rng=rng), "finite values"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.random.default_rng(0))
