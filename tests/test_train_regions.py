"""Region losses: hand-worked numbers, MONAI's values, undefined cases, batches, missing labels, saving."""

import warnings

import keras
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from medlab.train import regions

SURE = 100.0
"""A logit whose probability is 1 in float32."""


def logits_of(labels, classes):
    """Logits that are sure of these labels."""
    return (SURE * np.eye(classes, dtype=np.float32)[np.asarray(labels)]).astype(np.float32)


def each(loss, y, z):
    """The loss of each case, through the public call."""
    return np.array([float(loss(y[case : case + 1], z[case : case + 1])) for case in range(len(z))])


def everything():
    """All losses of labels (n, i, j), by name."""
    return {
        "dice": regions.dice(),
        "dice with background": regions.dice(background=True),
        "dice_ce": regions.dice_ce(),
        "tversky": regions.tversky(),
        "focal": regions.focal(),
        "focal_tversky": regions.focal_tversky(),
        "boundary": regions.boundary(),
    }


ALL = list(everything())

# Keras hands variables to np.array, whose argument copy they do not know yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@pytest.fixture
def case():
    """Two cases of 5 x 4 x 3 voxels and three classes, as MONAI's values below were computed from."""
    random = np.random.default_rng(7)
    z = random.normal(0, 2, (2, 5, 4, 3, 3)).astype(np.float32)
    y = random.integers(0, 3, (2, 5, 4, 3))
    several = (random.random((2, 5, 4, 3, 3)) < 0.4).astype(np.float32)
    return y, several, z


# MONAI 1.6.1 on the arrays of the fixture, one case a call, channels first. For example:
# DiceLoss(include_background=False, to_onehot_y=True, softmax=True, smooth_nr=1, smooth_dr=1)(z[:1], y[:1, None])
# and TverskyLoss(..., alpha=0.3, beta=0.7), DiceCELoss(...), 3 * FocalLoss(use_softmax=True, gamma=2) (it divides by
# the classes too), DiceLoss(sigmoid=True, ...) and FocalLoss(gamma=2) for several labels.
MONAI = {
    "dice": (0.6381800174713135, 0.605789840221405),
    "dice with background": (0.6743906140327454, 0.6248698830604553),
    "dice_ce": (2.5560460090637207, 2.5118370056152344),
    "tversky": (0.6149793863296509, 0.5980952382087708),
    "focal": (1.5709607005119324, 1.5640822649002075),
}


@pytest.mark.parametrize("name", MONAI)
def test_the_values_of_monai(name, case):
    y, _, z = case
    np.testing.assert_allclose(each(everything()[name], y, z), MONAI[name], rtol=1e-5)


def test_the_values_of_monai_for_several_labels(case):
    _, y, z = case
    found = each(regions.dice(multi_label=True), y, z)
    np.testing.assert_allclose(found, (0.5706290602684021, 0.5316594243049622), rtol=1e-5)
    found = each(regions.focal(multi_label=True), y, z)
    np.testing.assert_allclose(found, (0.5296618342399597, 0.634901225566864), rtol=1e-5)


def test_dice_by_hand():
    """Class 1: 4 voxels in truth, 2 predicted, both right: (2 * 2 + 1) / (4 + 2 + 1). Class 2: 1 and 3, one right."""
    y = np.array([[1, 1, 1, 1, 2, 0, 0, 0]])[..., None]
    p = np.array([[1, 1, 0, 0, 2, 2, 2, 0]])[..., None]
    loss = float(regions.dice()(y, logits_of(p, 3)))
    assert loss == pytest.approx(1 - (5 / 7 + 3 / 5) / 2, abs=1e-6)
    without = float(regions.dice(smooth=0)(y, logits_of(p, 3)))
    assert without == pytest.approx(1 - (4 / 6 + 2 / 4) / 2, abs=1e-6)


def test_tversky_by_hand():
    """Of 4 voxels 3 are found and 2 more besides: TP 3, FN 1, FP 2, with one more voxel above and below."""
    y = np.array([[1, 1, 1, 1, 0, 0, 0, 0]])[..., None]
    p = np.array([[1, 1, 1, 0, 1, 1, 0, 0]])[..., None]
    index = (3 + 1) / (3 + 0.2 * 2 + 0.8 * 1 + 1)
    made = regions.tversky(alpha=0.2, beta=0.8)
    assert float(made(y, logits_of(p, 2))) == pytest.approx(1 - index, abs=1e-6)
    made = regions.focal_tversky(alpha=0.2, beta=0.8, gamma=0.5)
    # A thousandth is lost where the slope at 0 is kept finite.
    assert float(made(y, logits_of(p, 2))) == pytest.approx((1 - index) ** 0.5, abs=1e-3)


def test_tversky_with_halves_is_dice(case):
    y, _, z = case
    halves = regions.tversky(alpha=0.5, beta=0.5, smooth=0)
    np.testing.assert_allclose(each(halves, y, z), each(regions.dice(smooth=0), y, z), rtol=1e-5)


def test_focal_by_hand():
    """Probability 0.9 of the truth costs 0.1 squared of its cross-entropy; gamma 0 is cross-entropy."""
    z = np.log(np.array([[[0.9, 0.1]], [[0.2, 0.8]]], np.float32))
    y = np.array([[0], [0]])
    np.testing.assert_allclose(each(regions.focal(), y, z), [-0.01 * np.log(0.9), -0.64 * np.log(0.2)], rtol=1e-5)
    weighted = regions.focal(gamma=0, alpha=[0.25, 1])
    np.testing.assert_allclose(each(weighted, y, z), [-0.25 * np.log(0.9), -0.25 * np.log(0.2)], rtol=1e-5)
    assert np.allclose(each(regions.focal(gamma=0.5), y, z), [-(0.1**0.5) * np.log(0.9), -(0.8**0.5) * np.log(0.2)])


def test_focal_of_whole_images():
    """A class a case, one logit for two classes, or several labels a case: the same cross-entropies."""
    z = np.array([[2.0], [-1.0]], np.float32)
    p = 1 / (1 + np.exp(-z[:, 0]))
    wanted = [-((1 - p[0]) ** 2) * np.log(p[0]), -(p[1] ** 2) * np.log(1 - p[1])]
    y = np.array([1, 0])
    np.testing.assert_allclose(each(regions.focal(), y, z), wanted, rtol=1e-5)
    np.testing.assert_allclose(each(regions.focal(), y[:, None], z), wanted, rtol=1e-5)
    two = np.concatenate([np.zeros_like(z), z], -1)
    np.testing.assert_allclose(each(regions.focal(), y, two), wanted, rtol=1e-5)
    np.testing.assert_allclose(each(regions.focal(), np.eye(2)[y], two), wanted, rtol=1e-5)


def test_dice_ce_is_the_sum(case):
    y, _, z = case
    entropy = -np.take_along_axis(log_softmax(z.astype(float), -1), y[..., None], -1).mean((1, 2, 3, 4))
    wanted = 0.5 * each(regions.dice(), y, z) + 2 * entropy
    np.testing.assert_allclose(each(regions.dice_ce(dice_weight=0.5, ce_weight=2), y, z), wanted, rtol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_a_perfect_segmentation_costs_nothing(name):
    y = np.random.default_rng(0).integers(0, 3, (2, 6, 5))
    loss = everything()[name]
    assert float(loss(loss.encode(y, 3), logits_of(y, 3))) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", ["dice", "tversky", "focal_tversky"])
def test_a_disjoint_segmentation_costs_one(name):
    y, p = np.zeros((1, 40, 40), int), np.zeros((1, 40, 40), int)
    y[0, :20], p[0, 20:] = 1, 1
    assert float(everything()[name](y, logits_of(p, 2))) == pytest.approx(1, abs=5e-3)


@pytest.mark.parametrize("name", ALL)
def test_nothing_there_and_nothing_found_costs_nothing(name):
    y = np.zeros((1, 6, 6), int)
    loss = everything()[name]
    assert float(loss(loss.encode(y, 3), logits_of(y, 3))) == pytest.approx(0, abs=1e-6)


def test_a_class_that_is_absent_costs_what_is_found_of_it():
    """Found in S voxels: S / (S + 1) for that class, nothing for the other one, which is right."""
    y = np.zeros((1, 5, 8), int)
    y[0, :2] = 1
    for count in (1, 3, 19):
        p = y.copy()
        p[0].flat[40 - count :] = 2
        assert float(regions.dice()(y, logits_of(p, 3))) == pytest.approx(count / (count + 1) / 2, abs=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_a_batch_is_the_mean_of_its_cases(name, case):
    y, _, z = case
    loss = everything()[name]
    y = loss.encode(y, 3)
    assert float(loss(y, z)) == pytest.approx(each(loss, y, z).mean(), rel=1e-6)
    assert float(loss(y, z, sample_weight=np.array([1.0, 0.0]))) == pytest.approx(each(loss, y, z)[0] / 2, rel=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_ignored_voxels_change_nothing(name, case):
    """The loss of an image whose second half is ignored is that of its first half, whatever stands there."""
    y, _, z = case
    loss = everything()[name]
    if name == "boundary":
        y = loss.encode(y, 3)
        hidden = y.copy()
        hidden[:, 3:] = 0
    else:
        hidden = y.copy()
        hidden[:, 3:] = -1
    wanted = each(loss, y[:, :3], z[:, :3])
    np.testing.assert_allclose(each(loss, hidden, z), wanted, rtol=1e-5)
    other = z.copy()
    other[:, 3:] = 50
    np.testing.assert_allclose(each(loss, hidden, other), wanted, rtol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_a_case_without_a_known_voxel_costs_nothing(name, case):
    _, _, z = case
    loss = everything()[name]
    y = np.full(z.shape[:-1], -1)
    assert float(loss(loss.encode(y, 3), z)) == 0


@pytest.mark.parametrize("name", [name for name in ALL if name != "boundary"])
def test_labels_and_one_channel_a_class_mean_the_same(name, case):
    y, _, z = case
    loss = everything()[name]
    wanted = each(loss, y, z)
    np.testing.assert_allclose(each(loss, np.eye(3)[y], z), wanted, rtol=1e-6)
    np.testing.assert_allclose(each(loss, y[..., None].astype(np.float32), z), wanted, rtol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_one_step_down_the_slope(name):
    """Gradients are finite, also at a perfect segmentation, and following them lowers the loss."""
    y = np.zeros((2, 12, 12), int)
    y[0, 3:8, 2:9], y[1, 5:9, 5:9] = 1, 2
    loss = everything()[name]
    x = np.random.default_rng(0).normal(size=(2, 12, 12, 1)).astype(np.float32) + y[..., None]
    inputs = keras.Input((12, 12, 1))
    model = keras.Model(inputs, keras.layers.Conv2D(3, 3, padding="same")(inputs))
    model.compile(keras.optimizers.Adam(0.1), loss)
    values = [float(model.train_on_batch(x, loss.encode(y, 3))) for _ in range(60)]
    assert np.isfinite(values).all()
    assert values[-1] < 0.8 * values[0]
    sure = keras.Model(inputs, keras.layers.Conv2D(3, 1)(inputs))
    sure.layers[-1].kernel.assign(np.array([0, SURE, -SURE]).reshape(1, 1, 1, 3))
    sure.layers[-1].bias.assign([SURE, 0, -SURE])
    sure.compile(keras.optimizers.SGD(0.1), loss)
    sure.train_on_batch(3.0 * (y[..., None] == 1), loss.encode(np.where(y == 1, 1, 0), 3))
    assert all(np.isfinite(keras.ops.convert_to_numpy(one)).all() for one in sure.weights)


def test_signed_distance_by_hand():
    y = np.array([[0, 0, 0, 1, 1, 1, 0, -1]])
    phi = regions.signed_distance(y, 3)
    assert phi[0, :, 1].tolist() == [3, 2, 1, -1, -2, -1, 1, 0]
    assert phi[0, :, 0].tolist() == [-3, -2, -1, 1, 2, 1, -1, 0]
    # Class 2 is absent: a voxel away everywhere.
    assert phi[0, :, 2].tolist() == [1, 1, 1, 1, 1, 1, 1, 0]
    square = np.zeros((1, 5, 7), int)
    square[0, 1:4, 2:5] = 1
    phi = regions.signed_distance(square, 2, spacing=(2.0, 0.5))
    assert phi[0, 2, :, 1].tolist() == [1.0, 0.5, -0.5, -1.0, -0.5, 0.5, 1.0]
    assert phi[0, 0, 0, 1] == pytest.approx(np.hypot(2, 1))
    assert (regions.signed_distance(np.ones((1, 2, 2)), 2)[..., 1] == -1).all()


def test_boundary_by_hand():
    """Class 1 stands at 3 to 5 of 8 voxels and is found at 5 to 7: wrong at distances 1, 2 (missed), 1, 2 (extra)."""
    y = np.array([[0, 0, 0, 1, 1, 1, 0, 0]])
    p = np.array([[0, 0, 0, 0, 0, 1, 1, 1]])
    alone = regions.boundary(weight=1, dice_weight=0)
    assert float(alone(alone.encode(y, 2), logits_of(p, 2))) == pytest.approx((1 + 2 + 1 + 2) / 8)
    both = regions.boundary(weight=0.1, dice_weight=1)
    wanted = (1 - 3 / 7) + 0.1 * 6 / 8
    assert float(both(both.encode(y, 2), logits_of(p, 2))) == pytest.approx(wanted, abs=1e-6)


def test_boundary_is_the_formula_of_the_paper(case):
    """Up to the constant phi g, the mean over voxels of phi times the probability (Kervadec et al. 2019)."""
    y, _, z = case
    alone = regions.boundary(weight=1, dice_weight=0)
    phi, p, g = alone.encode(y, 3)[..., 1:], softmax(z, -1)[..., 1:], np.eye(3)[y][..., 1:]
    wanted = (phi * p).mean((1, 2, 3, 4)) - (phi * g).mean((1, 2, 3, 4))
    np.testing.assert_allclose(each(alone, alone.encode(y, 3), z), wanted, rtol=1e-5)


def test_a_far_mistake_costs_more_at_equal_dice():
    y, near, far = (np.zeros((1, 20, 20), int) for _ in range(3))
    y[0, 2:6, 2:6] = 1
    near[0, 2:6, 2:7] = far[0, 2:6, 2:6] = 1
    far[0, 15:19, 15] = 1
    dice, loss = regions.dice(), regions.boundary()
    assert float(dice(y, logits_of(near, 2))) == pytest.approx(float(dice(y, logits_of(far, 2))))
    phi = loss.encode(y, 2)
    assert float(loss(phi, logits_of(far, 2))) > float(loss(phi, logits_of(near, 2))) + 0.01


def test_missing_labels():
    """Case 1: labels 1, missing, 0. Case 2: all missing. The known ones cost log(1 + e^-z) and log(1 + e^z)."""
    z = np.array([[2.0, 9.0, -1.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]], np.float32)
    y = np.array([[1, np.nan, 0], [-1, np.nan, -1], [1, 0, 1]])
    loss = regions.masked_bce()
    wanted = [(np.log1p(np.exp(-2)) + np.log1p(np.exp(-1))) / 2, 0, np.log(2)]
    np.testing.assert_allclose(each(loss, loss.encode(y, 3), z), wanted, rtol=1e-6)
    np.testing.assert_allclose(each(loss, y, z), wanted, rtol=1e-6)
    assert float(loss(y, z)) == pytest.approx(np.mean(wanted))
    assert loss.encode(y, 3).tolist() == [[1, -1, 0], [-1, -1, -1], [1, 0, 1]]


def test_missing_labels_do_not_spoil_gradients():
    x = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    y = (x[:, :2] > 0).astype(np.float32)
    known = np.random.default_rng(1).random(y.shape) < 0.5
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    model.compile(keras.optimizers.Adam(0.1), regions.masked_bce())
    for _ in range(60):
        model.train_on_batch(x, np.where(known, y, np.nan))
    assert ((model.predict_on_batch(x) > 0) == y)[~known].mean() > 0.85


def test_half_known_voxels_of_several_labels():
    """Class by class: where only one of two classes is known, it alone counts."""
    y = np.full((1, 4, 4, 2), -1.0)
    y[..., 0] = 1
    z = np.zeros((1, 4, 4, 2), np.float32)
    # Class 0: p 0.5 in 16 voxels, (2 * 8 + 1) / (8 + 16 + 1); class 1 is unknown: 0.
    assert float(regions.dice(multi_label=True)(y, z)) == pytest.approx((1 - 17 / 25) / 2, abs=1e-6)


@pytest.mark.parametrize(
    "loss",
    [
        regions.dice(background=True, smooth=0.5),
        regions.dice_ce(dice_weight=0.3, ce_weight=2, multi_label=True),
        regions.tversky(alpha=0.1, beta=0.9),
        regions.focal_tversky(gamma=0.6),
        regions.focal(gamma=1, alpha=(0.2, 1, 1)),
        regions.boundary(weight=0.3, spacing=(1.0, 2.0)),
        regions.masked_bce(),
    ],
    ids=lambda loss: loss.name,
)
def test_saved_and_loaded(loss):
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()


def test_half_precision_outputs_are_summed_in_float32(case):
    y, _, z = case
    many, deep = np.repeat(y, 40, axis=1), np.repeat(z, 40, axis=1).astype(np.float16)
    exact = each(regions.dice(), many, deep.astype(np.float32))
    np.testing.assert_allclose(each(regions.dice(), many, deep), exact, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: regions.dice(smooth=-1), "Expected smooth of 0 or above. Received -1"),
        (lambda: regions.tversky(alpha=float("nan")), "Expected alpha of 0 or above"),
        (lambda: regions.focal(gamma=-2), "Expected gamma of 0 or above. Received -2"),
        (lambda: regions.signed_distance(np.zeros((1, 4, 4)), 2, spacing=(1, 1, 1)), "Expected 2 spacings above 0"),
        (lambda: regions.dice()(np.zeros((1, 4, 4)), np.zeros((1, 4, 5, 2))), r"Expected labels \(n, i, j, 2\)"),
        (lambda: regions.dice()(np.zeros((1, 4, 4, 4)), np.zeros((1, 4, 4, 2))), r"Received \(1, 4, 4, 4\)"),
        (lambda: regions.dice(multi_label=True)(np.zeros((1, 4, 4)), np.zeros((1, 4, 4, 2))), r"Expected labels \(n,"),
        (lambda: regions.boundary()(np.zeros((1, 4, 4)), np.zeros((1, 4, 4, 2))), "encode the labels"),
        (lambda: regions.focal(alpha=[1])(np.zeros((1, 4)), np.zeros((1, 4, 2))), "Expected 2 weights in alpha"),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(make, text):
    with warnings.catch_warnings(), pytest.raises(ValueError, match=text):
        make()
