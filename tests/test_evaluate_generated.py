"""Distances between real and generated images: closed forms, sums worked by hand, planted copies."""

import numpy as np
import pytest
from scipy import linalg

from medlab import evaluate


def normal(count, mean, covariance, seed=0):
    return np.random.default_rng(seed).multivariate_normal(mean, covariance, count)


def exactly(features, mean, covariance):
    """The same points, moved and stretched so that their mean and covariance are exactly these."""
    centered = features - features.mean(0)
    white = centered @ np.linalg.inv(np.linalg.cholesky(np.cov(centered.T))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def test_frechet_distance_of_known_normal_distributions():
    """With covariances that commute it is the sum of squared differences of means and of standard deviations."""
    noise = np.random.default_rng(0).normal(size=(2, 50, 2))
    real = exactly(noise[0], [0, 0], np.diag([4.0, 9.0]))
    made = exactly(noise[1], [1, -2], np.diag([1.0, 25.0]))
    assert evaluate.fid(real, made) == pytest.approx(1 + 4 + (2 - 1) ** 2 + (3 - 5) ** 2, rel=1e-9)


def test_frechet_distance_is_the_matrix_root_of_the_paper():
    one = normal(40, [0, 0, 0], [[2, 0.5, 0], [0.5, 1, 0.3], [0, 0.3, 1]])
    two = normal(30, [1, 0, 2], [[1, -0.4, 0.2], [-0.4, 3, 0], [0.2, 0, 0.5]], seed=1)
    first, second = np.cov(one.T), np.cov(two.T)
    root = linalg.sqrtm(first @ second).real
    expected = ((one.mean(0) - two.mean(0)) ** 2).sum() + np.trace(first + second - 2 * root)
    assert evaluate.fid(one, two) == pytest.approx(expected, rel=1e-8)
    assert evaluate.fid(two, one) == pytest.approx(expected, rel=1e-8)


def test_frechet_distance_of_fewer_images_than_features():
    one = np.random.default_rng(0).normal(size=(5, 20))
    assert evaluate.fid(one, one) == pytest.approx(0, abs=1e-9)
    assert evaluate.fid(one, one + 2) == pytest.approx(20 * 4, rel=1e-9)


def test_kernel_distance_by_hand():
    """d = 1, k(x, y) = (x y + 1)^3: real 0, 1, 0, 1, generated 2, 2, 2, 2."""
    real, made = np.array([[0.0], [1.0], [0.0], [1.0]]), np.full((4, 1), 2.0)
    within_real = (8 + 8 + 10 * 1) / 12  # of 12 ordered pairs 2 are (1, 1), with kernel 2^3; all others have 1
    assert within_real == pytest.approx(26 / 12)
    expected = (2 * 8 + 10 * 1) / 12 + 5**3 - 2 * (1**3 + 3**3) / 2
    assert evaluate.kid(real, made).value == pytest.approx(expected, rel=1e-12)


def test_kernel_distance_is_unbiased_and_its_interval_covers():
    """Two draws of one distribution: values about 0, of both signs, and 0 within most intervals."""
    found = [evaluate.kid(*np.random.default_rng(seed).normal(size=(2, 40, 4)), n=60, seed=seed) for seed in range(120)]
    values = np.array([one.value for one in found])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))
    assert (values < 0).mean() == pytest.approx(0.5, abs=0.2)
    covered = np.mean([one.low <= 0 <= one.high for one in found])
    assert covered >= 0.85


def test_kernel_distance_of_other_distributions_lies_above_zero():
    random = np.random.default_rng(0)
    one = evaluate.kid(random.normal(size=(60, 4)), random.normal(1.0, 1.0, size=(60, 4)))
    assert one.low > 0
    assert one.low < one.value < one.high
    assert (one.real, one.generated) == (60, 60)
    random = np.random.default_rng(0)
    half = evaluate.kid(random.normal(size=(60, 4)), random.normal(1.0, 1.0, size=(60, 4)), confidence=0.5)
    assert half.value == one.value
    # Half of a normal distribution lies within 0.674 deviations, 95 % within 1.96.
    assert (half.high - half.low) / (one.high - one.low) == pytest.approx(0.674 / 1.96, rel=0.3)


def test_precision_and_recall_on_a_line():
    """Real 0, 1, 2, 3 with the first neighbor 1 away: the region is -1 to 4. Generated 0.5, 0.5001, 10, 11."""
    real = np.array([[0.0], [1.0], [2.0], [3.0]])
    made = np.array([[0.5], [0.5001], [10.0], [11.0]])
    # The generated regions: 0.5 +- 0.0001, which holds no real point, and 9 to 12.
    assert evaluate.precision_recall(real, made, k=1) == (0.5, 0.0)
    # With k = 2 the first two reach 9.5 far, and so to all real points.
    assert evaluate.precision_recall(real, made, k=2) == (0.5, 1.0)


def test_few_modes_have_precision_without_recall():
    random = np.random.default_rng(0)
    real = random.normal(size=(200, 2))
    made = real[:1] + random.normal(0, 0.01, size=(200, 2))
    precision, recall = evaluate.precision_recall(real, made)
    assert precision > 0.95
    assert recall < 0.05


def smooth(count, seed):
    """Images with three bumps at random places."""
    random, (i, j) = np.random.default_rng(seed), np.mgrid[:12, :12]
    at = random.uniform(0, 12, size=(2, count, 3, 1, 1))
    return np.exp(-((i - at[0]) ** 2 + (j - at[1]) ** 2) / 6).sum(1)[..., None].astype(np.float32)


def test_memorization_passes_on_new_images_and_finds_a_planted_copy():
    train, held_out, fresh = smooth(150, 0), smooth(100, 1), smooth(100, 2)
    good = evaluate.memorization(train, held_out, fresh)
    assert good.passed
    assert good.exact == 0
    assert good.expected == pytest.approx(0.01, abs=0.01)
    assert evaluate.memorization(train, held_out, fresh, level=0.2).expected == pytest.approx(0.2, abs=0.02)
    copy = 3 * train[17:18] + 5 + np.random.default_rng(0).normal(0, 0.02, size=train[:1].shape)
    found = evaluate.memorization(train, held_out, np.concatenate([fresh, copy]))
    assert not found.passed
    assert found.flagged[-1]
    assert found.nearest[-1] == 17
    assert found.ratios[-1] < 0.2


def test_memorization_fails_where_a_tenth_are_copies_or_one_is_exact():
    train, held_out, fresh = smooth(150, 0), smooth(100, 1), smooth(100, 2)
    noise = np.random.default_rng(0).normal(0, 0.02, size=train[:10].shape)
    found = evaluate.memorization(train, held_out, np.concatenate([fresh[:90], train[:10] + noise]))
    assert not found.passed
    assert found.p < 0.05
    assert found.flagged[90:].all()
    one = evaluate.memorization(train, held_out, np.concatenate([fresh, train[3:4]]))
    assert (one.exact, one.passed, one.nearest[-1]) == (1, False, 3)
    assert "FAILED" in str(one)


def test_smooth_samples_are_no_copies():
    """Nearer to all training images than real ones are, but to none above others."""
    random = np.random.default_rng(0)
    train, held_out = (smooth(100, seed) + random.normal(0, 0.3, size=(100, 12, 12, 1)) for seed in (0, 1))
    blurred = smooth(60, 2)
    found = evaluate.memorization(train, held_out, blurred)
    assert np.median(found.distances) < np.median(found.held_out_distances)
    assert found.passed


def test_ratios_by_hand():
    train = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 8.0]])
    held_out = np.tile([[2.0, 0.0]], (20, 1))
    found = evaluate.memorization(train, held_out, np.array([[1.0, 0.0], [0.0, 0.0]]), neighbors=1)
    np.testing.assert_allclose(found.distances, [1, 0])
    np.testing.assert_allclose(found.ratios, [1 / 3, 0])
    np.testing.assert_allclose(found.held_out_ratios, 1)
    assert found.flagged.tolist() == [True, True]


@pytest.mark.parametrize("unseen", [20, 100])
@pytest.mark.parametrize("change", ["8 bits", "factors", "noise", "five", "ten"])
def test_one_near_copy_among_many_new_images_fails(change, unseen):
    random = np.random.default_rng(0)
    train, held_out, fresh = smooth(200, 0), smooth(unseen, 1), smooth(199, 2)
    noise = random.normal(size=train.shape)
    copies = {
        "8 bits": np.round(255 * train[:1] / train.max()) / 255 * train.max(),
        "factors": train[:1] * (1 + 1e-5 * noise[:1]),
        "noise": train[:1] + 0.01 * noise[:1],
        "five": train[:5] + 0.01 * noise[:5],
        "ten": train[:10] + 0.01 * noise[:10],
    }[change]
    assert evaluate.memorization(train, held_out, fresh).passed
    found = evaluate.memorization(train, held_out, np.concatenate([fresh, copies]))
    assert found.flagged[199:].all()
    assert found.p_lowest < 0.01
    assert not found.passed


def test_new_images_fail_seldom():
    """Normal points in 6 dimensions, of which none is a copy; 20 held-out ones only."""
    random = np.random.default_rng(0)
    lowest = [
        evaluate.memorization(*(random.normal(size=(count, 6)) for count in (150, 20, 100))).p_lowest for _ in range(60)
    ]
    assert np.mean(np.array(lowest) <= 0.01) <= 0.05
    assert np.median(lowest) > 0.2


def test_held_out_images_that_were_trained_on_are_no_scale():
    train, fresh = smooth(60, 0), smooth(20, 2)
    near = train[:30] + np.random.default_rng(0).normal(0, 1e-3, size=train[:30].shape)
    for leaked in (train[:30], near):
        with pytest.raises(ValueError, match="30 of 30 held-out images are training images, or nearly so"):
            evaluate.memorization(train, leaked, fresh)


def test_training_images_that_repeat_count_once():
    train, held_out, fresh = smooth(60, 0), smooth(40, 1), smooth(30, 2)
    once = evaluate.memorization(train, held_out, fresh)
    thrice = evaluate.memorization(train.repeat(3, 0), held_out, fresh)
    np.testing.assert_allclose(thrice.ratios, once.ratios)
    np.testing.assert_array_equal(thrice.nearest, 3 * once.nearest)
    # Twenty times the same but for a trace of noise: a copy of it is still a copy.
    random = np.random.default_rng(0)
    often = np.concatenate([train[:1] + random.normal(0, 1e-4, size=(20, 12, 12, 1)), train[1:]])
    found = evaluate.memorization(often, held_out, often[:1] + random.normal(0, 1e-3, size=(1, 12, 12, 1)))
    assert found.ratios[0] < 0.05
    assert not found.passed


def test_training_images_that_are_all_alike_are_refused():
    train = np.ones((12, 4, 4, 1))
    with pytest.raises(ValueError, match="below the 1 different training images"):
        evaluate.memorization(train, train.repeat(2, 0), np.zeros((2, 4, 4, 1)))


@pytest.mark.parametrize("judge", [evaluate.fid, evaluate.kid, evaluate.precision_recall])
def test_features_that_are_none_are_refused(judge):
    good = np.random.default_rng(0).normal(size=(8, 3))
    with pytest.raises(ValueError, match=r"features of one encoder. Received 3 and 2"):
        judge(good, good[:, :2])
    with pytest.raises(ValueError, match=r"real as \(n, d\) finite features"):
        judge(good.reshape(8, 3, 1), good)
    with pytest.raises(ValueError, match="with NaN or infinity"):
        judge(good, np.where(good > 1, np.nan, good))
    with pytest.raises(ValueError, match="at least 2 images"):
        judge(good, good[:1])


def test_settings_that_cannot_be_are_refused():
    good = np.random.default_rng(0).normal(size=(30, 3))
    with pytest.raises(ValueError, match=r"at least 4 images of each kind. Received 3"):
        evaluate.kid(good[:3], good)
    for name, value in (("degree", 0), ("degree", 0.5), ("n", 1), ("n", 2.5), ("n", "a"), ("seed", -1)):
        with pytest.raises(ValueError, match=f"{name} to be a whole number of at least"):
            evaluate.kid(good, good, **{name: value})
    with pytest.raises(ValueError, match="confidence between 0 and 1"):
        evaluate.kid(good, good, confidence="a")
    with pytest.raises(ValueError, match="too large for a kernel of degree 3"):
        evaluate.kid(good * 1e60, good)
    with pytest.raises(ValueError, match="k from 1 to below the number of images"):
        evaluate.precision_recall(good[:3], good, k=3)
    with pytest.raises(ValueError, match="at least 20 held-out"):
        evaluate.memorization(good, good[:5], good)
    with pytest.raises(ValueError, match="generated is not"):
        evaluate.memorization(good, good, good[:, :2])
    with pytest.raises(ValueError, match="neighbors from 1 to below the 5 training images"):
        evaluate.memorization(good[:5], good, good)
    with pytest.raises(ValueError, match=r"level between 0 and 0.5"):
        evaluate.memorization(good, good, good, level=0.7)


@pytest.mark.parametrize("judge", [evaluate.fid, evaluate.kid, evaluate.precision_recall])
@pytest.mark.parametrize(("wrong", "says"), [
    ([["a", "b"]] * 6, "text"), ([[1, 2], [3]], "unlike lengths"), (np.ones((6, 2)) * 1j, "complex"),
])  # fmt: skip
def test_features_that_are_no_numbers_are_named(judge, wrong, says):
    right = np.random.default_rng(0).normal(size=(6, 2))
    with pytest.raises(ValueError, match=f"Expected generated as numbers. Received .*{says}"):
        judge(right, wrong)
    with pytest.raises(ValueError, match=f"Expected held_out as numbers. Received .*{says}"):
        evaluate.memorization(right, wrong, right)
