"""The signal equations against numbers worked by hand, and the noise against its closed form."""

import numpy as np
import pytest

from medlab.phantoms import physics
from medlab.phantoms.physics import TISSUES, Tissue


def test_spin_echo_of_a_tissue_at_its_own_time_constants():
    # TR = T1 and TE = T2: PD (1 - 1/e) / e.
    assert physics.spin_echo(0.8, 900, 90, tr=900, te=90) == pytest.approx(0.8 * 0.632120559 * 0.367879441)


def test_spin_echo_is_fully_recovered_after_a_long_repetition_time():
    assert physics.spin_echo(1.0, 1000, 100, tr=1e6, te=100 * np.log(2)) == pytest.approx(0.5)


def test_inversion_recovery_right_after_inversion_and_long_after():
    # TI = 0, TR long: the magnetization stands upside down. TI long: it is fully back.
    assert physics.inversion_recovery(1.0, 1000, 1e9, tr=1e6, te=1, ti=0) == pytest.approx(-1)
    assert physics.inversion_recovery(1.0, 1000, 1e9, tr=1e6, te=1, ti=5e5) == pytest.approx(1)


def test_inversion_recovery_of_edema_by_hand():
    # exp(-2400/1300) = 0.157841, exp(-9000/1300) = 0.000985, exp(-110/180) = 0.542747
    expected = 0.9 * (1 - 2 * 0.157841 + 0.000985) * 0.542747
    assert physics.inversion_recovery(0.9, 1300, 180, tr=9000, te=110, ti=2400) == pytest.approx(expected, abs=2e-6)


def test_null_time_nulls_and_is_t1_ln_2_for_a_long_repetition_time():
    assert physics.null_time(1000, tr=1e6) == pytest.approx(1000 * np.log(2))
    ti = physics.null_time(4000, tr=9000)
    assert ti == pytest.approx(2372, abs=1)
    assert physics.inversion_recovery(1, 4000, 2000, tr=9000, te=110, ti=ti) == pytest.approx(0, abs=1e-12)


def test_equations_take_arrays_and_leave_them_alone():
    t1 = np.array([500, 1000])
    found = physics.spin_echo([1, 1], t1, [50, 50], tr=500, te=0)
    np.testing.assert_allclose(found, [1 - np.exp(-1), 1 - np.exp(-0.5)])
    assert t1.tolist() == [500, 1000]


def test_contrast_agent_adds_relaxation_rates():
    # 1/T1' = 1/1000 + 5 * 1 / 1000 = 6 per second; 1/T2' = 1/100 + 10 / 1000 = 20 per second.
    found = physics.with_contrast_agent(Tissue(0.9, 1000, 100), 1.0, r1=5.0, r2=10.0)
    assert found.pd == 0.9
    assert found.t1 == pytest.approx(1000 / 6)
    assert found.t2 == pytest.approx(50)
    assert physics.with_contrast_agent(TISSUES["solid"], 0.0) == pytest.approx(TISSUES["solid"])


def test_contrasts_are_those_a_radiologist_knows():
    def ranked(sequence, *names):
        values = [abs(physics.signal(TISSUES[name], sequence)) for name in names]
        return values == sorted(values) and len(set(values)) == len(values)

    assert ranked("flair", "bone", "fluid", "white", "gray", "edema")
    assert ranked("t2", "bone", "white", "gray", "edema", "fluid")
    assert ranked("t1", "fluid", "edema", "gray", "white", "fat")
    enhanced = physics.signal(physics.with_contrast_agent(TISSUES["solid"], 0.45), "t1c")
    assert enhanced > 1.15 * physics.signal(TISSUES["white"], "t1c")
    assert physics.signal(TISSUES["solid"], "t1c") < physics.signal(TISSUES["white"], "t1c")


def test_unknown_sequence_is_named():
    with pytest.raises(ValueError, match=r"flair, t1, t1c, t2, mprage\. Received 'dwi'"):
        physics.signal(TISSUES["white"], "dwi")


def test_rician_noise_in_the_background_and_on_a_strong_signal():
    rng = np.random.default_rng(0)
    background = physics.add_rician_noise(np.zeros((400, 500)), 3.0, rng)
    # 200,000 draws of standard deviation 3 sqrt(2 - pi/2) = 1.97: the mean is known to 0.0044.
    assert background.mean() == pytest.approx(3.0 * np.sqrt(np.pi / 2), abs=0.02)
    assert (background**2).mean() == pytest.approx(2 * 3.0**2, rel=0.01)
    strong = physics.add_rician_noise(np.full((400, 500), 100.0), 3.0, rng)
    assert strong.std() == pytest.approx(3.0, rel=0.01)
    assert strong.mean() == pytest.approx(100 + 3.0**2 / (2 * 100), abs=0.03)


def test_no_noise_leaves_the_magnitude():
    image = np.array([[1.0, -2.0]])
    np.testing.assert_array_equal(physics.add_rician_noise(image, 0.0, np.random.default_rng(0)), [[1, 2]])
    np.testing.assert_array_equal(image, [[1, -2]])
