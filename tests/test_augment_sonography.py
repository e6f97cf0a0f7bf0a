"""Ultrasound artifacts against the statistics of speckle and the decibels of a shadow."""

import numpy as np
import pytest
from scipy import stats

from medlab.augment import artifacts


def rng(seed=0):
    return np.random.default_rng(seed)


def tissue(n=300):
    """Echoes of half the range, with one pixel without echo and one of the strongest."""
    array = np.full((n, n, 1), 30.0)
    array[0, 0], array[0, 1] = 0.0, 60.0
    return array


def test_speckle_is_rician_in_amplitude_and_keeps_the_energy():
    out = artifacts.speckle(tissue(), strength=0.5, decibels=60, rng=rng())[1:]
    amplitude = 10 ** ((out.astype(np.float64) - 30) / 20)  # 60 units of the image are 60 decibels
    assert (amplitude**2).mean() == pytest.approx(1, abs=0.02)
    # abs(1 + 0.5 z) / root(1.25), where each part of z has the deviation root(1/2)
    sigma = 0.5 * np.sqrt(0.5) / np.sqrt(1.25)
    rice = stats.rice(b=1 / np.sqrt(1.25) / sigma, scale=sigma)
    assert amplitude.mean() == pytest.approx(rice.mean(), abs=0.01)
    assert amplitude.std() == pytest.approx(rice.std(), rel=0.04)


def test_strong_speckle_has_the_ratio_of_rayleigh():
    out = artifacts.speckle(tissue(), strength=50, decibels=60, rng=rng())[1:]
    amplitude = 10 ** ((out.astype(np.float64) - 30) / 20)
    assert amplitude.mean() / amplitude.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.04)  # 1.91


def test_speckle_is_wider_across_the_beam_and_leaves_no_echo_alone():
    for axis in (0, 1):
        out = artifacts.speckle(tissue(), strength=0.3, axis=axis, rng=rng())
        assert out[0, 0, 0] == 0
        pattern = out[1:, :, 0] - out[1:].mean()
        along = (pattern[:-1] * pattern[1:]).mean() / pattern.var()
        across = (pattern[:, :-1] * pattern[:, 1:]).mean() / pattern.var()
        assert (across > along + 0.2) == (axis == 0)


def test_a_shadow_takes_its_decibels_below_the_object_alone():
    out = artifacts.shadow(tissue(200), loss=12, width=0.25, decibels=60, rng=rng())[..., 0]
    below = out[-1]
    assert below.min() == pytest.approx(30 - 12, abs=0.05)
    assert (below < 30 - 6).mean() == pytest.approx(0.25, abs=0.02)
    np.testing.assert_allclose(out[2:10], 30, atol=0.05)  # above the object
    middle = int(np.median(np.flatnonzero(below < 24)))
    start = np.flatnonzero(out[:, middle] < 24)[0]
    assert 0.1 * 200 - 1 <= start <= 0.5 * 200 + 1
    assert (np.diff(out[1:, middle]) <= 1e-5).all()


def test_a_shadow_never_goes_below_no_echo():
    out = artifacts.shadow(tissue(50), loss=1000, rng=rng())
    assert out.min() == 0


def test_another_beam_direction_and_volumes():
    array = np.full((40, 42, 44, 1), 30.0)
    array[0, 0, 0], array[0, 0, 1] = 0.0, 60.0
    out = artifacts.shadow(array, loss=20, axis=1, rng=rng())[..., 0]
    changed = (out[1:] < 25).any((0, 2))
    assert changed[-1]
    assert not changed[:3].any()
    assert (out[:, -1] < 25).mean() == pytest.approx(0.25**2, abs=0.02)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: artifacts.speckle(x, axis=2, rng=rng()), "axis between 0 and 1"),
        (lambda x: artifacts.speckle(x, decibels=0, rng=rng()), "decibels above 0"),
        (lambda x: artifacts.shadow(x, width=1.5, rng=rng()), "width between 0 and 1"),
        (lambda x: artifacts.shadow(x, loss=-3, rng=rng()), "loss of 0 or above"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call(tissue(8))
