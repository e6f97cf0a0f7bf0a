"""Magnetic resonance artifacts against closed forms of the Fourier transform."""

import numpy as np
import pytest
from scipy import integrate

import medlab
from medlab.augment import artifacts


def rng(seed=0):
    return np.random.default_rng(seed)


def blob(*shape):
    """A bright box off the middle, on no signal."""
    array = np.zeros((*shape, 1), np.float32)
    array[tuple(slice(n // 4, n // 2) for n in shape)] = 2.0
    return array


@pytest.mark.parametrize(("shape", "axis"), [((24, 32), 1), ((24, 30), 0), ((8, 10, 12), 2)])
def test_ghosts_lie_a_period_away_and_have_half_the_strength(shape, axis):
    array = blob(*shape)
    step = shape[axis] // 4
    out = artifacts.ghosting(array, strength=0.6, period=shape[axis] / step, axis=axis, phase=0.0, rng=rng())
    truth = array + 0.3 * (np.roll(array, step, axis) + np.roll(array, -step, axis))
    np.testing.assert_allclose(out, truth, atol=1e-5)


def test_a_quarter_period_later_the_ghosts_are_out_of_phase_with_the_image():
    array = blob(32, 32)
    out = artifacts.ghosting(array, strength=0.6, period=4, axis=1, phase=np.pi / 2, rng=rng())
    ghosts = 0.3 * (np.roll(array, 8, 1) - np.roll(array, -8, 1))
    np.testing.assert_allclose(out, np.hypot(array, ghosts), atol=1e-5)


def test_a_spike_is_one_point_of_k_space():
    array = np.full((20, 30, 1), 100.0)
    array[0, 0] = 0  # no signal: the wave's own height is seen there
    out = artifacts.spike(array, strength=2.0, frequency=(0.1, 0.2), rng=rng())
    assert out[0, 0, 0] == pytest.approx(2.0, rel=1e-4)
    stripes = out[..., 0] - 100
    stripes[0, 0] = stripes[10, 0]
    power = np.abs(np.fft.fft2(stripes))
    power[0, 0] = 0
    peaks = np.argwhere(power > 0.9 * power.max()).tolist()
    assert peaks == [[2, 6], [18, 24]]  # 20 * 0.1 and 30 * 0.2, and its mirror image
    assert stripes.std() == pytest.approx(2 / np.sqrt(2), rel=0.02)


def test_an_edge_rings_as_gibbs_has_it():
    n = 1024
    array = np.zeros((n, 1, 1))
    array[n // 4 : 3 * n // 4] = 1.0
    out = artifacts.gibbs_ringing(array, fraction=0.125)[:, 0, 0]
    # The first overshoot of a truncated Fourier series: Si(pi) / pi - 1/2 of the step.
    overshoot = integrate.quad(lambda t: np.sinc(t / np.pi), 0, np.pi)[0] / np.pi - 0.5
    assert overshoot == pytest.approx(0.0895, abs=1e-4)
    assert out.max() - 1 == pytest.approx(overshoot, abs=0.003)
    assert out.mean() == pytest.approx(0.5, abs=0.03)


def test_what_lies_inside_the_cut_is_not_touched():
    place = np.arange(32)
    wave = np.cos(2 * np.pi * 3 * place / 32)[:, None, None] + 5 + np.zeros((32, 16, 1))
    np.testing.assert_allclose(artifacts.gibbs_ringing(wave, fraction=0.5), wave, atol=1e-5)
    fine = np.cos(2 * np.pi * 12 * place / 32)[:, None, None] + np.zeros((32, 16, 1))
    np.testing.assert_allclose(artifacts.gibbs_ringing(fine, fraction=0.5), fine.mean(), atol=1e-5)


@pytest.mark.parametrize("n", [12, 13])
def test_the_outermost_line_fades_steadily_until_it_is_cut(n):
    wave = np.cos(2 * np.pi * (n // 2) * np.arange(n) / n)[:, None, None] * np.ones((1, n, 1)) + 5
    low = wave.min()
    # All is kept at 1; at 1 - 1 / n an outermost line of an even number is gone, halfway there it has half its height.
    outermost = {12: {1 - 1e-9: 1, 1 - 0.5 / n: 0.5, 1 - 1 / n: 0}, 13: {1 - 1e-9: 1, 1 - 1 / n: 0.5, 1 - 2 / n: 0}}[n]
    for fraction, height in outermost.items():
        # The wave's mean above the image's smallest value is as large as the wave is high: no value falls below 0.
        truth = low + np.abs((wave - wave.mean()) * height + wave.mean() - low)
        np.testing.assert_allclose(artifacts.gibbs_ringing(wave, fraction=fraction), truth, atol=1e-5)


def test_motion_keeps_the_middle_of_k_space():
    array = blob(40, 44)
    for seed in range(8):
        out = artifacts.motion(array, severity=5, axis=0, rng=rng(seed))
        # All of the signal's columns sum to the line in the middle of k-space, which nothing has moved; the magnitude
        # of a complex image can only be larger.
        assert (out.sum(0) >= array.sum(0) - 1e-3).all()
        assert np.abs(out - array).mean() > 0.02 * array.std()


def test_a_patient_who_only_moves_along_one_side_of_k_space_has_a_known_image():
    array = blob(16, 24)
    state = rng(3)
    state.integers(2)
    draws, luck = state.uniform(-1, 1, (2, 5)), state.random(1)
    out = artifacts.motion(array, translation=0.125, moves=1, axis=1, rng=rng(3))
    # The definition, by shifts of the phase: whole and part voxels alike would differ at the edges, so take the same
    # shift by linear interpolation of a roll.
    when = (np.fft.fftfreq(24) * 24 + 12) / 24
    moved = when >= luck[0]
    if moved[0]:  # the middle of k-space belongs to the second pose: the first one is the moved one
        moved, draw = ~moved, draws[0]
    else:
        draw = draws[1]
    shifted = array[..., 0]
    for axis, n in enumerate((16, 24)):
        shift = 0.125 * n * draw[3 + axis]
        whole = int(np.floor(shift))
        near, far = np.roll(shifted, whole, axis), np.roll(shifted, whole + 1, axis)
        shifted = near + (shift - whole) * (far - near)
    space = np.where(moved, np.fft.fft(shifted, axis=1), np.fft.fft(array[..., 0], axis=1))
    np.testing.assert_allclose(out[..., 0], np.abs(np.fft.ifft(space, axis=1)), atol=1e-4)


def test_a_moved_image_repeats_its_outermost_voxels():
    """A picture of stripes along one axis looks the same wherever it is moved along that axis."""
    stripes = np.repeat(np.random.default_rng(0).random((40, 1, 1)), 44, 1)
    state = rng(3)
    state.integers(2)
    draws, luck = state.uniform(-1, 1, (2, 5)), state.random(1)
    out = artifacts.motion(stripes, translation=0.1, moves=1, axis=0, rng=rng(3))
    when = (np.fft.fftfreq(40) * 40 + 20) / 40
    late = when >= luck[0]
    moved, draw = (~late, draws[0]) if late[0] else (late, draws[1])
    # By hand: each row shows what lay a shift before it, between two rows linearly, the outermost ones repeated.
    seen = np.interp(np.arange(40) - 0.1 * 40 * draw[3], np.arange(40), stripes[:, 0, 0]) - stripes.min()
    space = np.where(moved, np.fft.fft(seen), np.fft.fft(stripes[:, 0, 0] - stripes.min()))
    truth = np.abs(np.fft.ifft(space)) + stripes.min()
    np.testing.assert_allclose(out[..., 0], np.repeat(truth[:, None], 44, 1), atol=1e-5)


@pytest.mark.data
def test_a_cropped_volume_without_motion_stays_as_it_is(data_folder):
    volume = medlab.read(data_folder / "hippocampus" / "images" / "hippocampus_001.nii.gz")
    array = volume.array.astype(np.float32)[..., None]
    for size in ({"translation": 1e-6}, {"rotation": 1e-5}):
        out = artifacts.motion(array, **size, rng=rng())
        assert np.sqrt(((out - array) ** 2).mean()) < 1e-4 * array.std()


def test_thick_slices_by_hand():
    array = np.array([0.0, 2, 4, 6, 8, 10])[:, None, None]
    out = artifacts.thick_slices(array, thickness=2)[:, 0, 0]
    np.testing.assert_allclose(out, [1, 2, 4, 6, 8, 9], atol=1e-5)  # middles 0.5, 2.5, 4.5 hold 1, 5, 9
    cube = np.random.default_rng(0).random((4, 5, 9, 1))
    means = cube.reshape(4, 5, 3, 3, 1).mean(3)
    np.testing.assert_allclose(artifacts.thick_slices(cube, thickness=3)[:, :, 1::3], means, atol=1e-6)
    np.testing.assert_array_equal(artifacts.thick_slices(cube, thickness=1), cube.astype(np.float32))


def test_no_signal_stays_no_signal():
    zero = np.zeros((12, 13, 1))
    for name in ("ghosting", "motion", "spike", "gibbs_ringing", "thick_slices", "bias_field", "rician_noise"):
        np.testing.assert_array_equal(getattr(artifacts, name)(zero, severity=5, rng=rng()), zero)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: artifacts.ghosting(x, period=1, rng=rng()), "period above 1"),
        (lambda x: artifacts.ghosting(x, axis=2, rng=rng()), "axis between 0 and 1"),
        (lambda x: artifacts.motion(x, moves=0, rng=rng()), "at least 1 move"),
        (lambda x: artifacts.motion(x, rotation=-1, rng=rng()), "rotation of 0 or above"),
        (lambda x: artifacts.spike(x, frequency=(0.1,), rng=rng()), "2 frequencies"),
        (lambda x: artifacts.gibbs_ringing(x, fraction=1.2), "between 0 and 1"),
        (lambda x: artifacts.thick_slices(x, thickness=0.5), "1 voxel or more"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call(blob(8, 8))
