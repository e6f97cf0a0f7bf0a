"""Curves: hand-worked deletion and insertion; removal that leaves no trace, against a dense linear solver."""

import keras
import numpy as np
import pytest

from medlab import explain
from medlab.explain.checks import removal
from medlab.explain.maps import methods
from tests.explained import images, network

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

L = keras.layers


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


def looks_at(place, size, steep=8.0):
    """A model whose logit is steep * the voxel at ``place``."""
    model = keras.Sequential([keras.Input((*size, 1)), L.Flatten(), L.Dense(1, use_bias=False)])
    weights = np.zeros((*size, 1, 1), "float32")
    weights[place] = steep
    model.layers[-1].set_weights([weights.reshape(-1, 1)])
    return model


@pytest.mark.parametrize(("size", "place"), [((8, 8), (2, 5)), ((4, 5, 6), (1, 2, 4))])
def test_deletion_is_0_and_insertion_1_on_a_model_that_looks_at_one_voxel(size, place):
    """With a step a voxel, the first takes or gives all: what is left is half a step at the curve's end."""
    model = looks_at(place, size, steep=40.0)
    model.layers[-1].set_weights([model.get_weights()[0]])
    x = -np.ones((2, *size, 1), "float32")  # sigmoid(-40) = 0 without it
    x[(slice(None), *place)] = 1.0
    heat = np.zeros((2, *size))
    heat[(slice(None), *place)] = 3.0
    voxels = heat[0].size
    gone = explain.deletion(model, x, heat, target=1, steps=voxels, baseline=-1.0)
    given = explain.insertion(model, x, heat, target=1, steps=voxels, baseline=-1.0)
    np.testing.assert_allclose(gone.auc, 0.5 / voxels, atol=1e-6)
    np.testing.assert_allclose(given.auc, 1 - 0.5 / voxels, atol=1e-6)
    # The other way round: the voxel goes last.
    last = explain.deletion(model, x, heat.max() - heat, target=1, steps=voxels, baseline=-1.0)
    np.testing.assert_allclose(last.auc, 1 - 0.5 / voxels, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 7, 100])
def test_a_curve_does_not_depend_on_the_batch(batch_size):
    model, x = network(), images(3, 16, 16, 1)
    heat = np.abs(x[..., 0]).round(1)  # many ties
    asked = {"steps": 5, "target": lambda y: y[:, 1]}
    whole = explain.deletion(model, x, heat, **asked)
    cut = explain.deletion(model, x, heat, batch_size=batch_size, **asked)
    np.testing.assert_allclose(cut.values, whole.values, rtol=1e-4)
    assert (np.ptp(whole.values, axis=1) > 0.1 * np.abs(whole.values).mean(axis=1)).all()


def test_a_case_scores_the_same_alone_and_among_others():
    model, x = network(), images(4, 16, 16, 1)
    heat = np.zeros((4, 16, 16))  # all ties: the order is drawn

    def logit(y):
        return y[:, 1]

    rules = {
        "deletion": lambda x, heat: explain.deletion(model, x, heat, target=logit, steps=5).auc,
        "insertion": lambda x, heat: explain.insertion(model, x, heat, target=logit, steps=5).auc,
        "road": lambda x, heat: explain.road(model, x, heat, target=logit, noise=0.5).gap,
        "infidelity": lambda x, heat: explain.infidelity(model, x, heat + x[..., 0], target=logit, n=8),
        "mu_fidelity": lambda x, heat: explain.mu_fidelity(model, x, heat + x[..., 0], target=logit, n=8),
        "random": lambda x, heat: methods.noise(x).mean(axis=(1, 2)),
    }
    for name, rule in rules.items():
        whole, turned = rule(x, heat), rule(x[::-1], heat)
        assert np.ptp(whole) > 1e-4, name
        np.testing.assert_allclose(turned[::-1], whole, rtol=1e-3, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(rule(x[2:3], heat[:1]), whole[2:3], rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("size", [(6, 7), (4, 5, 3)])
def test_removed_voxels_are_the_solution_of_the_linear_system(size):
    generator = np.random.default_rng(0)
    image = generator.normal(size=(*size, 2)).astype("float32")
    gone = generator.random(size) < 0.6
    places = [tuple(place) for place in np.argwhere(np.ones(size, bool))]
    matrix, right = np.zeros((len(places),) * 2), np.zeros((len(places), 2))
    for row, here in enumerate(places):
        matrix[row, row] = 1
        if not gone[here]:
            right[row] = image[here]
            continue
        steps = [np.abs(np.subtract(here, there)) for there in places]
        weights = np.array([2.0 ** -sum(step) if max(step) == 1 else 0 for step in steps])
        matrix[row] -= weights / weights.sum()
    expected = np.linalg.solve(matrix, right).reshape(image.shape)
    np.testing.assert_allclose(removal.impute(image, gone), expected, atol=2e-3)
    np.testing.assert_array_equal(removal.impute(image, gone)[~gone], image[~gone])
    np.testing.assert_array_equal(removal.impute(image, np.zeros(size, bool)), image)
    with pytest.raises(ValueError, match="a voxel that stays"):
        removal.impute(image, np.ones(size, bool))


def test_a_plane_is_filled_without_a_trace():
    i, j = np.meshgrid(np.arange(12.0), np.arange(9.0), indexing="ij")
    plane = (2 * i - 3 * j + 5)[..., None].astype("float32")
    gone = np.zeros(plane.shape[:-1], bool)
    gone[3:8, 2:6] = True
    np.testing.assert_allclose(removal.impute(plane, gone), plane, atol=0.02)  # of values from -19 to 27


def test_road_by_hand():
    """An even image with one bright voxel that the model looks at: it is filled with the even value."""
    model = looks_at((2, 2), (5, 5), steep=4.0)
    x = np.zeros((1, 5, 5, 1), "float32")
    x[0, 2, 2] = 1.0
    heat = np.zeros((1, 5, 5))
    heat[0, 2, 2] = 1.0
    there, away = 1 / (1 + np.exp(-4)), 0.5
    found = explain.road(model, x, heat, target=1, fractions=(0.2, 0.6), noise=0.0)
    np.testing.assert_allclose(found.least, [[there, there]], rtol=1e-5)
    np.testing.assert_allclose(found.most, [[away, away]], atol=1e-3)
    np.testing.assert_allclose(found.gap, [there - away], atol=1e-3)
    np.testing.assert_allclose(found.fractions, [0.2, 0.6])
    turned = explain.road(model, x, 1 - heat, target=1, fractions=(0.2, 0.6), noise=0.0)
    np.testing.assert_allclose(turned.gap, [away - there], atol=1e-3)
    noisy = explain.road(model, x, heat, target=1, fractions=(0.2,), noise=0.5, seed=1)
    assert abs(noisy.most[0, 0] - found.most[0, 0]) > 1e-3
    assert explain.road(model, x[:0], heat[:0]).gap.shape == (0,)
    constant = explain.road(model, np.ones_like(x), heat, target=1)
    np.testing.assert_allclose(constant.gap, 0, atol=1e-4)
    for bad in ((), (0.5, 1.0), (0.0,)):
        with pytest.raises(ValueError, match="fractions between 0 and 1"):
            explain.road(model, x, heat, fractions=bad)
