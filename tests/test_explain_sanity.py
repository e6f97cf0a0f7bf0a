"""Sanity: what does not depend on the model stays the same, what does changes; the copies forget, not the model."""

import keras
import numpy as np
import pytest

from medlab import explain
from medlab.explain.asking import question
from medlab.explain.checks import sanity
from medlab.explain.maps import methods
from tests.explained import images, network

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

L = keras.layers


def test_a_map_without_the_model_survives_randomization_and_grad_cam_does_not():
    model, x = network(), images(6, 16, 16, 1)
    before = model.get_weights()
    drawn = explain.randomization(model, x, lambda model, x, *, target: methods.edges(x))
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
    one, same, other = (sanity.forgotten(model, seed).get_weights() for seed in (0, 0, 1))
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
    with pytest.raises(sanity.CopyError, match="cannot be copied"):
        sanity.forgotten(own)


def test_a_cascade_runs_from_the_output_to_the_input():
    model, x = network(), images(3, 16, 16, 1)
    before = model.get_weights()
    names = [layer.name for layer in model.layers]
    found = explain.cascade(model, x, "saliency")
    # Conv, BatchNorm, Conv and Dense have weights: from the last to the first.
    ours = [name for name in names if name.startswith(("conv", "batch", "dense"))]
    assert len(ours) == 4
    assert found.layers == [[name] for name in ours[::-1]]
    assert found.alike.shape == (3, 4)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    # The last step is the network that has forgotten everything.
    np.testing.assert_allclose(found.alike[:, -1], explain.randomization(model, x, "saliency"), atol=1e-5)
    grouped = explain.cascade(model, x, "saliency", steps=2)
    assert grouped.layers == [ours[:1:-1], ours[1::-1]]
    np.testing.assert_allclose(grouped.alike, found.alike[:, [1, 3]], atol=1e-5)
    with pytest.raises(ValueError, match="at least 1 step"):
        explain.cascade(model, x, "saliency", steps=0)


def test_in_a_cascade_a_map_of_the_first_layer_ignores_what_is_above_it():
    model, x = network(), images(2, 16, 16, 1)
    first = model.layers[0]

    def response(model, x, *, target):
        return keras.ops.convert_to_numpy(keras.ops.abs(model.layers[0](x))[..., 0])

    found = explain.cascade(model, x, response)
    np.testing.assert_allclose(found.alike[:, :-1], 1)  # Dense, Conv and BatchNorm forget: nothing changes
    assert (found.alike[:, -1] < 0.9).all()
    assert found.layers[-1] == [first.name]


def test_a_cascade_reaches_layers_in_layers_and_weights_of_their_own():
    class Scale(L.Layer):
        def build(self, shape):
            self.scale = self.add_weight(shape=(shape[-1], shape[-1]), initializer="ones", name="scale")
            self.inner = L.Dense(2, name="inner")
            self.inner.build(shape)

        def call(self, x):
            return self.inner(keras.ops.matmul(x, self.scale))

    block = keras.Sequential([keras.Input((6, 6, 1)), L.Conv2D(2, 3, name="deep"), L.Flatten()], name="block")
    inputs = keras.Input((6, 6, 1))
    with keras.utils.custom_object_scope({"Scale": Scale}):
        model = keras.Model(inputs, Scale(name="top")(block(inputs)))
        found = explain.cascade(model, images(2, 6, 6, 1), "saliency")
    assert sorted(name for names in found.layers for name in names) == ["block/deep", "top", "top/inner"]
    assert found.layers[-1] == ["block/deep"]


def test_a_cascade_goes_through_a_nested_model_backward():
    inner = [keras.Input((8, 8, 1)), *(L.Conv2D(2, 3, padding="same", name=f"c{place}") for place in (1, 2, 3))]
    backbone = keras.Sequential(inner, name="bb")
    image = keras.Input((8, 8, 1))
    token = L.Bidirectional(L.LSTM(2, return_sequences=True), name="both")(L.Reshape((64, 2))(backbone(image)))
    model = keras.Model(image, L.Dense(2, name="head")(L.Flatten()(token)))
    found = explain.cascade(model, images(2, 8, 8, 1), "saliency", steps=20).layers
    names = [name for step in found for name in step]
    assert names[0] == "head"
    assert {name.split("/")[0] for name in names[1:3]} == {"both"}
    assert names[3:] == ["bb/c3", "bb/c2", "bb/c1"]
    assert explain.cascade(model, images(0, 8, 8, 1), "saliency", steps=20).layers == found


@pytest.mark.parametrize("axis", [-1, (1, 2)])
def test_a_forgotten_model_still_sees_the_same_images(axis):
    """What ``adapt`` measured is not learned: of images around 500 the copy gets what the model gets."""
    x = images(20, 8, 6, 1) * 10 + 500
    normalization = L.Normalization(axis=axis)
    normalization.adapt(x)
    model = keras.Sequential([keras.Input((8, 6, 1)), normalization, L.Conv2D(2, 3), L.Flatten(), L.Dense(2)])
    copy = sanity.forgotten(model)
    seen = keras.ops.convert_to_numpy(normalization(x))
    assert np.abs(seen).max() < 10
    np.testing.assert_allclose(keras.ops.convert_to_numpy(copy.layers[0](x)), seen, rtol=1e-5)
    assert not np.allclose(copy.layers[1].kernel, model.layers[1].kernel)
    found = explain.cascade(model, x[:2], "input_times_gradient")
    assert [name.split("_")[0] for step in found.layers for name in step] == ["dense", "conv2d"]
    np.testing.assert_allclose(
        found.alike[:, -1], explain.randomization(model, x[:2], "input_times_gradient"), atol=1e-4
    )


def test_labels_shuffled_by_a_function_that_trains():
    model, x = network(), images(4, 16, 16, 1)
    y = np.arange(50)
    given = []

    def train(labels):
        given.append(labels)
        return sanity.forgotten(model, seed=3)

    found = explain.label_randomization(model, x, "saliency", shuffled=train, y=y)
    assert sorted(given[0]) == sorted(y)
    assert (given[0] != y).any()
    same = explain.label_randomization(model, x, "saliency", shuffled=sanity.forgotten(model, seed=3))
    np.testing.assert_allclose(found, same, atol=1e-6)
    np.testing.assert_allclose(found, explain.randomization(model, x, "saliency", seed=3), atol=1e-6)
    np.testing.assert_allclose(explain.label_randomization(model, x, "saliency", shuffled=model), 1, atol=1e-6)
    with pytest.raises(ValueError, match="Expected y, the labels to shuffle"):
        explain.label_randomization(model, x, shuffled=train)


def test_likeness_is_by_rank_or_by_structure():
    pytest.importorskip("skimage", reason="structural similarity comes from scikit-image")
    model, x = network(), images(3, 16, 16, 1)
    rank, similar = (explain.randomization(model, x, "saliency", measure=measure) for measure in ("rank", "ssim"))
    assert np.abs(rank - similar).min() > 1e-3
    maps = [explain.saliency(one, x, target=question.Question(model, x).target)
            for one in (model, sanity.forgotten(model))]  # fmt: skip
    np.testing.assert_allclose(similar, explain.repeatability(*maps), atol=1e-5)
    with pytest.raises(ValueError, match='measure "ssim" or "rank"'):
        explain.randomization(model, x, measure="dice")
