"""Scanners: the same head under another field, protocol, resolution and noise, and the first images unchanged."""

import numpy as np
import pytest

from medlab.phantoms import brain, physics, plan, scanner


@pytest.mark.parametrize(
    ("sequence", "grays", "sum_of_mask"),
    [
        ("flair", [[47, 423, 117], [409, 440, 211], [57, 484, 141]], 79),
        ("t1c", [[100, 282, 740], [372, 350, 201], [113, 287, 762]], 79),
    ],
)
def test_images_of_version_1_are_what_they_always_were(sequence, grays, sum_of_mask):
    # Noted when version 1 was made, before there were scanners; one more or less is rounding.
    image, mask = brain.render(5, 2, 64, sequence, 1.0, 0)
    np.testing.assert_allclose(image[16:49:16, 16:49:16].astype(int), grays, atol=1)
    assert mask.sum() == sum_of_mask


def test_a_volume_of_version_1_is_what_it_always_was():
    image, mask = brain.render(4, 3, 24, "t2", 2.0, 3)
    expected = [[43, 481, 358], [258, 587, 523], [14, 558, 149]]
    np.testing.assert_allclose(image[6:20:6, 12, 6:20:6].astype(int), expected, atol=1)
    assert mask.sum() == 57


def test_relaxation_at_3_t_is_that_of_the_paper():
    # Stanisz et al., MRM 54:507 (2005), table 1, 3 T: T1 and T2 in ms.
    for name, times in {"white": (1084, 69), "gray": (1820, 99), "muscle": (1412, 50)}.items():
        assert scanner.TISSUES_3T[name][1:] == times
    for name, tissue in physics.TISSUES.items():
        assert scanner.TISSUES_3T[name].pd == tissue.pd
        assert scanner.TISSUES_3T[name].t1 >= tissue.t1  # T1 grows with the field


@pytest.mark.parametrize("domain", list(scanner.DOMAINS))
def test_flair_nulls_fluid_and_t1_shows_white_brightest_everywhere(domain):
    machine = scanner.DOMAINS[domain]
    still = {name: np.ones(2) for name in physics.TISSUES}
    flair, t1, mprage, t2 = (machine.signals(one, still) for one in ("flair", "t1", "mprage", "t2"))
    assert abs(flair["fluid"]) < 0.35 * flair["white"]
    assert flair["edema"] > flair["gray"] > flair["white"]
    assert t1["white"] > t1["gray"] > t1["fluid"]
    assert mprage["white"] > 1.3 * mprage["gray"] > 1.3 * abs(mprage["fluid"])
    assert t2["fluid"] > t2["gray"] > t2["white"]


def test_signals_follow_the_equation():
    machine = scanner.DOMAINS["3T"]
    vary = {"white": np.array([1.1, 0.9])}
    # PD (1 - exp(-TR/T1)) exp(-TE/T2) by hand, T1 = 1192.4 and T2 = 62.1 ms, TR 500, TE 14
    assert machine.signals("t1", vary)["white"] == pytest.approx(0.70 * (1 - 0.657476) * 0.798142, rel=1e-4)


def test_a_contrast_agent_acts_on_the_tissue_that_took_it_up():
    machine = scanner.DOMAINS["reference"]
    before, after = machine.signals("t1c", {}), machine.signals("t1c", {}, {"solid": 0.5})
    assert after["solid"] > 1.3 * before["solid"]
    assert {name for name in before if before[name] != after[name]} == {"solid"}


def test_low_resolution_keeps_the_low_frequencies_and_no_others():
    original = 2 + np.random.default_rng(0).random((32, 48, 1))  # far above 0, where the magnitude changes nothing
    image = scanner._zero_filled(original, 0.0, 0.5, np.random.default_rng(0))
    before, after = (np.fft.fft2(one[..., 0]) for one in (original, image))
    near = (np.abs(np.fft.fftfreq(32))[:, None] <= 0.25) & (np.abs(np.fft.fftfreq(48)) <= 0.25)
    np.testing.assert_allclose(after[near], before[near], atol=1e-2)
    assert np.abs(after[~near]).max() < 1e-2
    assert np.abs(before[~near]).min() > 1e-2


def test_noise_and_receive_field_are_those_that_the_table_says():
    plain, three = (brain.TUMOR.parameters(3, severity=1.0, seed=0, domain=one) for one in ("reference", "3T"))
    assert plain["noise"] == plan.parameters(3).noise
    assert three["noise"] == pytest.approx(0.6 * plain["noise"])
    assert three["bias"] == pytest.approx(1.8 * plain["bias"])
    same = set(plain) - {"noise", "bias"}
    np.testing.assert_equal({key: three[key] for key in same}, {key: plain[key] for key in same})
    quiet, loud = (
        brain.render(3, 2, 64, "flair", 1.0, 0, domain)[0][:6].astype(float) for domain in ("reference", "noisy")
    )
    assert loud.mean() / quiet.mean() == pytest.approx(2.5, rel=0.06)  # air: noise alone


def test_headers_say_what_the_scanner_did():
    image, _, _ = brain.brain_tumor(0, size=16, domain="3T")
    assert (image.info["field_strength_t"], image.info["ti_ms"], image.info["tr_ms"]) == (3.0, 2500, 9000)
    assert brain.brain_tumor(0, size=16)[0].info["field_strength_t"] == 1.5


def test_the_grade_is_tied_to_what_is_drawn():
    cases = [plan.parameters(index) for index in range(400)]
    sick = [case for case in cases if case.label == "tumor"]
    high = [case for case in sick if case.grade == "high"]
    assert 0.35 < len(high) / len(sick) < 0.65
    for case in sick:
        signs = [case.agent_mmol_l >= 0.45, case.core_share >= 0.525, case.edema_mm >= 5 + 0.3 * case.radius_mm]
        assert (case.grade == "high") == (sum(signs) >= 2)
