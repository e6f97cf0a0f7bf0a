"""Computed tomography artifacts: line integrals of a disk, Poisson's law, dose, hardening and rings."""

import numpy as np
import pytest
from scipy import stats

from medlab.augment import artifacts, computed, projection, quanta


def rng(seed=0):
    return np.random.default_rng(seed)


def disk(n=64, radius=24.0, depth=None):
    """A disk in air, its border voxels in part, as one slice or a stack."""
    fine = (np.arange(4 * n) + 0.5) / 4 - n / 2
    inside = np.hypot(fine[:, None], fine) < radius
    array = inside.reshape(n, 4, n, 4).mean((1, 3))[..., None].astype(np.float32)
    return array if depth is None else np.repeat(array[:, :, None], depth, 2)


def test_rays_through_a_disk_are_as_long_as_its_chords():
    sinogram = projection.project(disk(101, 35).reshape(-1, 1), (101, 101))[..., 0]
    distance = np.arange(sinogram.shape[1]) - (sinogram.shape[1] - 1) / 2
    inner = np.abs(distance) < 33
    chord = 2 * np.sqrt(35**2 - distance[inner] ** 2)
    np.testing.assert_allclose(sinogram[:, inner], np.broadcast_to(chord, sinogram[:, inner].shape), atol=1.3)
    np.testing.assert_allclose(sinogram[:, inner].mean(0), chord, atol=0.1)
    np.testing.assert_allclose(sinogram.sum(1), disk(101, 35).sum(), rtol=5e-3)


@pytest.mark.parametrize("shape", [(64, 64), (61, 80)])
def test_a_slice_comes_back_from_its_projections(shape):
    row, column = np.indices(shape)
    middle = (shape[0] - 1) / 2, (shape[1] - 1) / 2
    slices = np.exp(-((row - middle[0] + 5) ** 2 + (column - middle[1] - 8) ** 2) / 60).reshape(-1, 1)
    back = projection.reconstruct(projection.project(slices, shape), shape)
    np.testing.assert_allclose(back, slices, atol=0.02)


def test_large_slices_go_through_in_parts(monkeypatch):
    slices = rng().random((20 * 22, 3)).astype(np.float32)
    whole = projection.project(slices, (20, 22))
    back = projection.reconstruct(whole, (20, 22))
    monkeypatch.setattr(projection, "_ENTRIES", 5000)
    np.testing.assert_allclose(projection.project(slices, (20, 22)), whole, rtol=1e-5)
    np.testing.assert_allclose(projection.reconstruct(whole, (20, 22)), back, atol=1e-5)


@pytest.mark.parametrize("mean", [0.0, 0.4, 3, 9.9, 10.1, 200])
def test_counts_follow_poissons_law(mean):
    counts = quanta.photon_counts(np.full(40_000, mean), rng())
    exact = stats.poisson(mean).ppf(stats.norm.cdf(rng().standard_normal(40_000))) if mean else np.zeros(40_000)
    assert np.abs(counts - exact).max() <= (1 if mean > 10 else 0)
    assert counts.mean() == pytest.approx(mean, abs=4 * np.sqrt(mean / 40_000))
    assert counts.var() == pytest.approx(mean, rel=0.03)


def test_noise_falls_with_the_root_of_the_dose():
    array = disk()
    spread = [
        (artifacts.poisson_noise(array, photons=photons, depth=3, rng=rng()) - array).std() for photons in (2e4, 8e4)
    ]
    assert spread[0] / spread[1] == pytest.approx(2, rel=0.02)


def test_noise_has_the_variance_of_filtered_back_projection():
    array = disk(96, 8)
    photons, depth = 1e6, 0.01  # so thin that all rays carry the same noise, 1 / photons
    views = len(projection.angles((96, 96)))
    error = (artifacts.poisson_noise(array, photons=photons, depth=depth, rng=rng()) - array)[24:-24, 24:-24]
    unit = depth / projection.project(array.reshape(-1, 1), (96, 96)).max()
    # The ramp filter's squares sum to 1/12; linear interpolation keeps 2/3 of a white variance on average and takes
    # neighbors together, which here are anti-correlated: 2/3 r(0) + 1/3 r(1) with r the filter's autocorrelation.
    kernel = np.array([0.25 if k == 0 else (-1 / (np.pi * k) ** 2 if k % 2 else 0) for k in range(-999, 1000)])
    autocorrelation = np.convolve(kernel, kernel[::-1])[1998:2000]
    variance = (np.pi / views) ** 2 * views * (2 / 3 * autocorrelation[0] + 1 / 3 * autocorrelation[1]) / photons
    assert autocorrelation[0] == pytest.approx(1 / 12, rel=1e-3)
    assert (error * unit).var() == pytest.approx(variance, rel=0.05)


def test_a_beam_of_two_energies_is_measured_as_stated():
    p = np.array([0.0, 0.5, 2, 30, 500])
    truth = p[:4] + np.log((np.exp(-1.3 * p[:4]) + np.exp(-0.7 * p[:4])) / 2)
    np.testing.assert_allclose(computed.hardening(p, 0.3)[:4], truth, atol=1e-12)
    assert computed.hardening(p, 0.3)[4] == pytest.approx(150 - np.log(2))


def test_hardening_makes_a_cup_and_keeps_the_mean():
    array = disk(96, 40)
    out = artifacts.beam_hardening(array, severity=4)
    distance = np.hypot(*(np.indices((96, 96)) - 47.5))
    middle, border = out[distance < 10].mean(), out[(distance > 36) & (distance < 39)].mean()
    assert middle < 0.95 < 1.03 < border
    assert out[distance < 44].mean() == pytest.approx(array[distance < 44].mean(), rel=0.02)


def test_rings_are_round_and_about_the_middle():
    array = disk(96, 40)
    error = (artifacts.ring(array, strength=0.1, rng=rng()) - array)[..., 0]
    middle = np.hypot(*(np.indices((96, 96)) - 47.5)) < 44
    assert np.corrcoef(error[middle], np.rot90(error)[middle])[0, 1] > 0.95
    assert error[middle].std() > 0.03
    np.testing.assert_allclose(error, error[::-1, ::-1], atol=0.02 * np.abs(error).max())


def test_metal_is_bright_and_streaks_leave_other_slices_alone():
    array = disk(64, 24, depth=8)
    out = artifacts.metal_streak(array, severity=5, rng=rng())
    touched = [k for k in range(8) if not np.array_equal(out[:, :, k], array[:, :, k])]
    assert len(touched) == 4
    assert touched == list(range(touched[0], touched[0] + 4))
    assert (out[:, :, touched[0]] == array.max()).sum() >= 9
    far = artifacts.metal_streak(disk(), severity=5, rng=rng()) - disk()
    assert far[:8].std() > 0.005  # in the air beside the patient
    np.testing.assert_array_equal(artifacts.metal_streak(array, density=0, rng=rng()), array)


@pytest.mark.parametrize("depth", [None, 6])
def test_metal_stands_in_a_body_that_is_white_in_more_than_half_of_the_image(depth):
    array = (disk(64, 30, depth) > 0.5).astype(np.float32)
    assert array.mean() > 0.6
    inside, air = array.reshape(64, 64, -1)[..., 0] == 1, np.hypot(*(np.indices((64, 64)) - 31.5)) > 33
    change = []
    for severity in (1, 3, 5):
        out = artifacts.metal_streak(array, severity=severity, rng=rng()).reshape(64, 64, -1)
        touched = next(one for one in np.moveaxis(out, 2, 0) if not np.array_equal(one, inside))
        rod = touched == 1  # the metal has the image's largest value; around it streaks and noise change everything
        assert 9 <= rod.sum() < 60
        assert (rod & inside).sum() >= 9
        change.append(float(np.abs(touched[air]).mean()))
    assert 0 < change[0] < change[1] < change[2]
    np.testing.assert_array_equal(artifacts.metal_streak(array, severity=0, rng=rng()), array)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: artifacts.poisson_noise(x, photons=0, rng=rng()), "photons above 0"),
        (lambda x: artifacts.poisson_noise(x, depth=0, rng=rng()), "depth above 0"),
        (lambda x: artifacts.beam_hardening(x, spread=1), "spread below 1"),
        (lambda x: artifacts.metal_streak(x, density=-1, rng=rng()), "density of 0 or above"),
        (lambda x: artifacts.ring(x, strength=np.nan, rng=rng()), "strength of 0 or above"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call(disk())
