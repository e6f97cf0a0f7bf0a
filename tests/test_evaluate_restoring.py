"""PSNR, SSIM and the classic filters, against closed forms and the truth that was planted."""

import numpy as np
import pytest
from skimage.restoration import denoise_tv_chambolle

from medlab import evaluate


def test_decibels_by_hand():
    clean = np.zeros((3, 8, 8, 1))
    other = clean.copy()
    other[0] += 0.1  # 10 log10(1 / 0.01) = 20
    other[1, :4] += 0.2  # half of 0.04: 10 log10(1 / 0.02)
    np.testing.assert_allclose(evaluate.psnr(clean, other, span=1), [20, 10 * np.log10(50), np.inf])
    np.testing.assert_allclose(evaluate.psnr(clean, other, span=10)[:2], [40, 10 * np.log10(5000)])


def test_similarity_of_two_levels_is_the_luminance_term():
    # Constant images have no contrast: (2ab + c) / (a^2 + b^2 + c) with c = (0.01 span)^2.
    clean, other = np.full((1, 9, 9, 1), 0.5), np.full((1, 9, 9, 1), 0.8)
    c = 0.01**2
    expected = (2 * 0.5 * 0.8 + c) / (0.25 + 0.64 + c)
    assert evaluate.ssim(clean, other, span=1)[0] == pytest.approx(expected)
    assert evaluate.ssim(clean, clean, span=1)[0] == 1
    assert evaluate.ssim(np.zeros((1, 3, 5, 4, 1)), np.zeros((1, 3, 5, 4, 1)), span=1)[0] == 1


def test_similarity_of_one_window_by_hand():
    """7 x 7 pixels are one window: Wang's formula with the means, variances and covariance of all of them."""
    clean, other = np.random.default_rng(0).random((2, 7, 7))
    a, b = clean.mean(), other.mean()
    spread = np.cov(clean.ravel(), other.ravel())
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    alike = (2 * a * b + c1) / (a**2 + b**2 + c1) * (2 * spread[0, 1] + c2) / (spread[0, 0] + spread[1, 1] + c2)
    found = evaluate.ssim(clean[None, ..., None], other[None, ..., None], span=2)
    np.testing.assert_allclose(found, [alike], rtol=1e-6)


def steps(count, side=24, seed=0):
    """Disks of one brightness on a dark ground."""
    rng = np.random.default_rng(seed)
    axis = np.arange(side) - side / 2
    away = np.hypot(*np.meshgrid(axis, axis))
    return np.stack([(away < r).astype(np.float32) for r in rng.uniform(5, 10, count)])[..., None]


def noisy_of(clean, deviation=0.15, seed=1):
    return (clean + np.random.default_rng(seed).normal(0, deviation, clean.shape)).astype(np.float32)


def test_the_table_has_means_and_paired_gains():
    clean = steps(12)
    half = noisy_of(clean, 0.1)
    full = clean + 2 * (half - clean)  # the same noise twice as strong: 20 log10(2) dB worse in each case
    table = evaluate.restoration(clean, {"half": half, "full": full}, span=1, against="half", n=200)
    assert table.loc["half", "psnr"] == pytest.approx(20, abs=0.3)
    gain = table.loc["full", ["psnr_gain", "psnr_gain_low", "psnr_gain_high"]].astype(float)
    np.testing.assert_allclose(gain, 20 * np.log10(2), rtol=1e-5)  # paired: no spread at all
    assert table.loc["half", "psnr_low"] < table.loc["half", "psnr"] < table.loc["half", "psnr_high"]
    assert np.isnan(table.loc["half", "psnr_gain"])
    assert table.loc["full", "ssim_gain"] > 0


def test_images_of_one_patient_and_the_level_widen_the_interval():
    clean = np.repeat(steps(1), 20, axis=0)
    other = clean + np.repeat(np.linspace(0.01, 0.2, 10), 2)[:, None, None, None]  # two images alike of each patient
    alone, grouped, sure = (
        evaluate.restoration(clean, {"one": other}, span=1, n=500, **options).loc["one"]
        for options in ({}, {"groups": np.repeat(np.arange(10), 2)}, {"confidence": 0.999})
    )
    for measure in ("psnr", "ssim"):
        width, by_patient, wide = (row[f"{measure}_high"] - row[f"{measure}_low"] for row in (alone, grouped, sure))
        assert by_patient / width == pytest.approx(2**0.5, rel=0.15)
        assert wide > 1.3 * width > 0


def test_a_perfect_restoration_has_no_end():
    clean = steps(4)
    table = evaluate.restoration(clean, {"clean": clean, "noisy": noisy_of(clean)}, span=1, n=50)
    assert table.loc["clean", "psnr"] == np.inf
    assert table.loc["clean", "ssim"] == 1
    assert np.isnan(table.loc["clean", "psnr_low"])


def test_classic_filters_take_most_of_the_noise_away():
    clean, known = steps(4), steps(4, seed=5)
    noisy = noisy_of(clean)
    made = evaluate.denoise_classically(noisy, (noisy_of(known, seed=6), known), span=1.0)
    before = evaluate.psnr(clean, noisy, span=1).mean()
    assert set(made) == {"non-local means", "total variation"}
    for images in made.values():
        assert evaluate.psnr(clean, images, span=1).mean() > before + 5
    # Total variation at each strength by scikit-image itself: the best on the known images is what was taken.
    weights = (0.01, 0.03, 0.06, 0.1, 0.15, 0.25, 0.4)
    other = noisy_of(known, seed=6)
    plain = [np.stack([denoise_tv_chambolle(one, weight=weight) for one in other[..., 0]]) for weight in weights]
    best = weights[int(np.argmin([((one - known[..., 0]) ** 2).mean() for one in plain]))]
    assert weights[0] < best < weights[-1]
    expected = np.stack([denoise_tv_chambolle(one, weight=best) for one in noisy[..., 0]])
    np.testing.assert_allclose(made["total variation"][..., 0], expected, atol=1e-5)


def test_filters_follow_unit_and_offset():
    clean, known = steps(2), steps(2, seed=5)
    noisy, other = noisy_of(clean), noisy_of(known, seed=6)
    plain = evaluate.denoise_classically(noisy, (other, known), span=1.0)
    moved = evaluate.denoise_classically(8 * noisy - 3, (8 * other - 3, 8 * known - 3), span=8.0, low=-3.0)
    for name, images in plain.items():
        np.testing.assert_allclose(moved[name], 8 * images - 3, atol=0.02)


def test_images_without_noise_and_constant_ones_stay_as_they_are():
    flat = np.full((2, 12, 12, 1), 0.4, np.float32)
    for images in evaluate.denoise_classically(flat, (flat, flat), span=1.0).values():
        np.testing.assert_allclose(images, flat, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: evaluate.psnr(np.zeros((1, 4, 4, 1)), np.zeros((1, 4, 5, 1)), span=1), "images of one shape"),
        (lambda: evaluate.psnr(np.zeros((0, 4, 4, 1)), np.zeros((0, 4, 4, 1)), span=1), "at least one"),
        (lambda: evaluate.psnr(np.zeros((1, 4, 4, 1)), np.full((1, 4, 4, 1), np.nan), span=1), "NaN"),
        (lambda: evaluate.psnr(np.zeros((1, 4, 4, 1)), np.zeros((1, 4, 4, 1)), span=0), "Expected span above 0"),
        (lambda: evaluate.ssim(np.zeros((1, 2, 4, 1)), np.zeros((1, 2, 4, 1)), span=1), "at least 3 pixels"),
        (lambda: evaluate.restoration(np.zeros((1, 4, 4, 1)), {}, span=1), "at least one image"),
        (
            lambda: evaluate.restoration(np.zeros((1, 4, 4, 1)), {"a": np.zeros((1, 4, 4, 1))}, span=1, against="b"),
            "Expected against to be one of a",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()


@pytest.mark.parametrize(("wrong", "says"), [([["a", "b"]], "text"), ([[1, 2], [3]], "unlike lengths")])
@pytest.mark.parametrize("judge", [evaluate.psnr, evaluate.ssim])
def test_images_that_are_no_numbers_are_named(judge, wrong, says):
    x = np.zeros((1, 8, 8, 1))
    with pytest.raises(ValueError, match=f"Expected clean images as numbers. Received .*{says}"):
        judge(wrong, x, span=1)
    with pytest.raises(ValueError, match=f"Expected the other images as numbers. Received .*{says}"):
        judge(x, wrong, span=1)
