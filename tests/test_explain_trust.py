"""Trust: hand-worked localization, curves and intervals; chance scores as chance, the truth scores best."""

import keras
import numpy as np
import pytest

from medlab import explain
from medlab.explain import trust

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

L = keras.layers


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def network(shape=(16, 16, 1), classes=2):
    model = keras.Sequential(
        [
            keras.Input(shape),
            L.Conv2D(8, 3, padding="same"),
            L.BatchNormalization(),
            L.ReLU(),
            L.Conv2D(8, 3, padding="same", activation="relu"),
            L.GlobalAveragePooling2D(),
            L.Dense(classes),
        ]
    )
    generator = np.random.default_rng(5)
    model.set_weights([abs(generator.normal(size=w.shape)) - 0.5 * (w.ndim > 1) for w in model.get_weights()])
    return model


HEAT = np.array([[[0, 1, 2], [3, 9, 4]]], "float32")


@pytest.mark.parametrize(
    ("mask", "hit", "mass", "overlap"),
    [
        ([[0, 0, 0], [0, 1, 0]], 1, 9 / 19, 1),
        ([[0, 0, 0], [0, 0, 1]], 0, 4 / 19, 0),
        ([[0, 0, 0], [1, 2, 0]], 1, 12 / 19, 1 / 3),  # two voxels: 9 and 4 are taken, one of them inside
        ([[1, 1, 1], [1, 1, 1]], 1, 1, 5 / 6),  # the voxel without heat is never taken
        ([[1, 0, 0], [0, 0, 0]], 0, 0, 0),
        ([[0, 0, 0], [0, 0, 0]], np.nan, np.nan, np.nan),
    ],
)
def test_localization_by_hand(mask, hit, mass, overlap):
    np.testing.assert_allclose(explain.pointing_game(HEAT, [mask]), [hit])
    np.testing.assert_allclose(explain.mass_inside(HEAT, [mask]), [mass])
    np.testing.assert_allclose(explain.iou(HEAT, [mask]), [overlap])


def test_localization_without_heat_and_with_ties():
    mask = np.zeros((1, 4, 5, 2), bool)
    mask[0, :2] = True
    for score in (explain.pointing_game, explain.mass_inside, explain.iou):
        np.testing.assert_array_equal(score(np.zeros(mask.shape), mask), [0])
    even = np.ones(mask.shape)
    np.testing.assert_allclose(explain.pointing_game(even, mask), [0.5])
    np.testing.assert_allclose(explain.mass_inside(even, mask), [0.5])
    np.testing.assert_allclose(explain.iou(even, mask), [10 / 30])  # 20 of 40 taken, 10 of them inside the 20
    np.testing.assert_allclose(explain.iou(mask.astype(float), mask), [1])


def test_tolerance_is_a_distance_in_voxels():
    heat, mask = np.zeros((1, 9, 9)), np.zeros((1, 9, 9))
    heat[0, 4, 4] = 1
    mask[0, 7, 8] = 1  # 5 voxels away: 3 down, 4 right
    assert explain.pointing_game(heat, mask, tolerance=4.9) == [0]
    assert explain.pointing_game(heat, mask, tolerance=5) == [1]
    with pytest.raises(ValueError, match="tolerance of 0 voxels or more"):
        explain.pointing_game(heat, mask, tolerance=-1)


def test_localization_refuses_what_is_no_heat_map():
    mask = np.ones((1, 2, 3))
    with pytest.raises(ValueError, match=r"heat maps of shape \(1, 2, 3\)\. Received \(1, 3, 2\)"):
        explain.iou(np.ones((1, 3, 2)), mask)
    with pytest.raises(ValueError, match=r"masks of shape \(n, i, j\[, k\]\)\. Received \(2, 3\)"):
        explain.mass_inside(HEAT[0], mask[0])
    with pytest.raises(ValueError, match="below 0"):
        explain.pointing_game(-HEAT, mask)
    with pytest.raises(ValueError, match="Received NaN"):
        explain.pointing_game(HEAT, mask * np.nan)


def test_chance_points_into_the_mask_as_often_as_the_mask_is_large():
    n = 4000
    mask = np.zeros((n, 6, 5), bool)
    mask[:, 1:4, 2:4] = True  # 6 of 30
    hits = explain.pointing_game(np.random.default_rng(0).random(mask.shape), mask)
    assert abs(hits.mean() - 0.2) < 4 * np.sqrt(0.2 * 0.8 / n)


def test_curves_of_a_model_that_looks_at_one_pixel():
    model = keras.Sequential([keras.Input((2, 2, 1)), L.Flatten(), L.Dense(1)])
    model.layers[-1].set_weights([np.array([[0], [0], [4], [0]]), np.array([-2])])
    x = np.ones((1, 2, 2, 1), "float32")
    high, low = 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2))
    right, wrong = np.zeros((1, 2, 2)), np.array([[[3, 2], [0, 1]]])
    right[0, 1, 0] = 1
    first = explain.deletion(model, x, right, target=1, steps=4, baseline=0.0)
    np.testing.assert_allclose(first.values, [[high, low, low, low, low]], rtol=1e-5)
    np.testing.assert_allclose(first.fractions, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(first.auc, [low + (high - low) / 8], rtol=1e-5)
    last = explain.deletion(model, x, wrong, target=1, steps=4, baseline=0.0)
    np.testing.assert_allclose(last.values, [[high, high, high, high, low]], rtol=1e-5)
    given = explain.insertion(model, x, right, target=1, steps=4, baseline=0.0)
    np.testing.assert_allclose(given.values, [[low, high, high, high, high]], rtol=1e-5)
    # All of one value: the mean of the image and its blur are the image.
    np.testing.assert_allclose(explain.deletion(model, x, right).values, high, rtol=1e-5)
    np.testing.assert_allclose(explain.insertion(model, x, right, target=0).values, low, rtol=1e-5)
    with pytest.raises(ValueError, match="at least 1 step"):
        explain.deletion(model, x, right, steps=0)
    with pytest.raises(ValueError, match='baseline "mean", "blur", a number'):
        explain.deletion(model, x, right, baseline="black")
    assert explain.deletion(model, x[:0], right[:0]).values.shape == (0, 17)


def test_probabilities_end_at_what_the_model_says():
    x = images(3, 16, 16, 1)
    for head, squash in ((None, keras.ops.softmax), ("softmax", lambda y: y), ("sigmoid", lambda y: y)):
        model = network(classes=3)
        model.layers[-1].activation = keras.activations.get(head)
        p = keras.ops.convert_to_numpy(squash(model(x)))
        curve = explain.insertion(model, x, np.abs(x[..., 0]), target=[0, 1, 2], steps=3)
        np.testing.assert_allclose(curve.values[:, -1], p[[0, 1, 2], [0, 1, 2]], rtol=1e-4, atol=1e-6)


def test_a_map_without_the_model_survives_randomization_and_grad_cam_does_not():
    model, x = network(), images(6, 16, 16, 1)
    before = model.get_weights()
    drawn = explain.randomization(model, x, lambda model, x, *, target: trust.edges(x))
    np.testing.assert_allclose(drawn, 1)
    learned = explain.randomization(model, x)
    assert learned.shape == (6,)
    assert np.nanmean(np.abs(learned)) < 0.9
    np.testing.assert_array_equal(learned, explain.randomization(model, x, seed=0))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    nothing = explain.randomization(model, x, lambda model, x, *, target: np.zeros(x.shape[:-1], "float32"))
    assert np.isnan(nothing).all()
    assert explain.randomization(model, x[:0]).shape == (0,)


def test_a_forgotten_model_is_drawn_by_its_seed():
    model = network()
    one, same, other = (trust.forgotten(model, seed).get_weights() for seed in (0, 0, 1))
    for a, b in zip(one, same, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.allclose(one[0], other[0])
    assert abs(one[6].std() - np.sqrt(2 / 72)) < 0.01  # He: 3 * 3 * 8 inputs

    class Own(keras.Model):
        def __init__(self, needed):
            super().__init__()
            self.head = L.Dense(needed)

        def call(self, x):
            return self.head(x)

    own = Own(2)
    own(np.zeros((1, 4, 4, 1), "float32"))
    with pytest.raises(trust.CopyError, match="cannot be copied"):
        trust.forgotten(own)


def test_score_lies_between_chance_and_the_masks():
    n = 24
    x = images(n, 16, 16, 1)
    masks = np.zeros((n, 16, 16), np.uint8)
    masks[:, 4:8, 2:10] = 1  # 32 of 256
    masks[0] = 0
    table = explain.score(network(), x, methods=("grad_cam", "saliency"), masks=masks, steps=2, n_boot=200)
    assert list(table.columns) == ["value", "low", "high", "n"]
    assert list(table.index.unique("method")) == ["grad_cam", "saliency", "random", "edges", "mask"]
    for rule in ("pointing_game", "mass_inside", "iou"):
        assert tuple(table.loc[("mask", rule)]) == (1, 1, 1, n - 1)
    assert abs(table.loc[("random", "mass_inside"), "value"] - 32 / 256) < 0.01
    assert table.loc[("random", "pointing_game"), "value"] < 0.4
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()
    assert table.loc[("grad_cam", "randomization"), "n"] <= n
    assert ("edges", "randomization") not in table.index
    assert ("edges", "deletion") in table.index
    again = explain.score(network(), x, methods=("grad_cam", "saliency"), masks=masks, steps=2, n_boot=200)
    assert table.equals(again)


def test_score_without_masks_with_an_own_method_and_one_case():
    def center(model, x, *, target, batch_size):
        heat = np.zeros(x.shape[:-1], "float32")
        heat[:, 8, 8] = 1
        return heat

    class Own(keras.Model):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def call(self, x):
            return self.inner(x)

    own = Own(network())
    own(images(1, 16, 16, 1))
    table = explain.score(own, images(3, 16, 16, 1), steps=0)
    assert table.loc[("grad_cam", "randomization"), "n"] == 0
    named = explain.score(own, images(3, 16, 16, 1), methods={"last": explain.grad_cam, "middle": center}, steps=0)
    assert list(named.index) == [("last", "randomization"), ("middle", "randomization")]
    table = explain.score(network(), images(1, 16, 16, 1), methods=(center,), steps=0)
    assert list(table.index) == [("center", "randomization")]
    value, low, high, n = table.iloc[0]
    assert value == pytest.approx(1)
    assert np.isnan([low, high]).all()
    assert n == 1
    with pytest.raises(ValueError, match=r"no method 'gradcam'\. There are: grad_cam, "):
        explain.score(network(), images(1, 16, 16, 1), methods=("gradcam",))
    with pytest.raises(ValueError, match="at least one case"):
        explain.score(network(), images(0, 16, 16, 1))
    with pytest.raises(ValueError, match=r"masks of shape \(1, 16, 16\)\. Received \(1, 16\)"):
        explain.score(network(), images(1, 16, 16, 1), masks=np.ones((1, 16)))
    with pytest.raises(ValueError, match="nothing to score"):
        explain.score(network(), images(1, 16, 16, 1), methods=(), steps=0)
    with pytest.raises(ValueError, match="confidence between 0 and 1"):
        explain.score(network(), images(1, 16, 16, 1), confidence=95)


def test_the_interval_of_a_mean_comes_close_to_the_normal_one():
    values = np.random.default_rng(0).normal(3, 1, 400)
    mean, low, high, n = trust._mean_with_interval(np.append(values, np.nan), 0, 2000, 0.95)
    assert mean == pytest.approx(values.mean())
    assert n == 400
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(mean - half, abs=0.01)
    assert high == pytest.approx(mean + half, abs=0.01)
