"""Radiograph artifacts against Beer and Lambert's and Poisson's laws."""

import numpy as np
import pytest
from scipy import stats

from medlab.augment import artifacts


def rng(seed=0):
    return np.random.default_rng(seed)


def halves(n=100):
    """Air (0) above, the densest tissue (1) below."""
    array = np.zeros((n, n, 1))
    array[n // 2 :] = 1.0
    return array


def test_noise_is_that_of_the_photons_that_get_through():
    out = artifacts.exposure(halves(200), photons=10_000, depth=2, rng=rng())
    # The deviation of -log(counts) is 1 / root(counts), and 2 units of attenuation are 1 unit of the image.
    assert out[:100].std() == pytest.approx(1 / 100 / 2, rel=0.02)
    assert out[100:].std() == pytest.approx(1 / 100 * np.exp(1) / 2, rel=0.02)
    assert out[:100].mean() == pytest.approx(0, abs=1e-3)
    assert out[100:].mean() == pytest.approx(1, abs=1e-3)


def test_scatter_by_hand_where_the_blur_is_flat():
    array = halves(400)
    out = artifacts.scatter(array, ratio=1.5, width=0.01, depth=2)
    # Far from the border scatter is proportional to the primary photons and cancels out.
    np.testing.assert_allclose(out[:150], 0, atol=1e-4)
    np.testing.assert_allclose(out[250:], 1, atol=1e-4)
    # Near it, a blurred step is the normal distribution: that share of the photons comes from the air.
    out = artifacts.scatter(halves(100), ratio=1.5, width=0.2, depth=2)
    air = stats.norm.cdf((49.5 - np.arange(100)) / 20)
    primary = np.where(np.arange(100) < 50, 1, np.exp(-2))
    truth = -np.log((primary + 1.5 * (air + (1 - air) * np.exp(-2))) / 2.5) / 2
    np.testing.assert_allclose(out[..., 0], np.repeat(truth[:, None], 100, 1), atol=1e-3)
    assert out[50, 0, 0] - out[49, 0, 0] < 0.5  # contrast is lost


def test_blades_cover_the_area_that_was_asked_for():
    array = np.ones((80, 120, 1))
    array[40, 60] = 0.0  # the smallest value
    for seed in range(5):
        out = artifacts.collimation(array, fraction=0.3, rng=rng(seed))
        assert out.mean() == pytest.approx(0.7, abs=0.002)
        open_ = out[..., 0] == 1
        rows, columns = open_.any(1), open_.any(0)
        assert (open_ | ~(rows[:, None] & columns)).sum() >= open_.size - 1  # what is seen is one rectangle
    assert artifacts.collimation(array, fraction=1, rng=rng()).max() == 0


@pytest.mark.parametrize("axis", [0, 1])
def test_a_grid_multiplies_the_photons(axis):
    array = halves(60)
    out = artifacts.grid_lines(array, strength=0.4, period=6, axis=axis, depth=2, rng=rng())
    photons = np.exp(-2 * out.astype(np.float64)) / np.exp(-2 * array)
    wave = np.moveaxis(photons[..., 0], axis, 0)
    np.testing.assert_allclose(wave, wave[:, :1] + np.zeros((60, 60)), atol=1e-5)
    spectrum = np.abs(np.fft.rfft(wave[:, 0])) / 60
    assert spectrum[0] == pytest.approx(1, abs=1e-5)
    assert spectrum[10] == pytest.approx(0.2, abs=1e-5)  # a period of 6 in 60 pixels, half of 0.4 on either side
    assert np.delete(spectrum, [0, 10]).max() < 1e-5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: artifacts.exposure(x, photons=-1, rng=rng()), "photons above 0"),
        (lambda x: artifacts.scatter(x, depth=-1), "depth above 0"),
        (lambda x: artifacts.scatter(x, ratio=-1), "ratio of 0 or above"),
        (lambda x: artifacts.collimation(x, fraction=2, rng=rng()), "between 0 and 1"),
        (lambda x: artifacts.grid_lines(x, strength=1, rng=rng()), "strength below 1"),
        (lambda x: artifacts.grid_lines(x, period=1.5, rng=rng()), "2 pixels or more"),
        (lambda x: artifacts.grid_lines(x, axis=2, rng=rng()), "axis between 0 and 1"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call(halves(8))
