"""Probabilities from every kind of head: the same weights, with and without an activation of their own."""

import keras
import numpy as np
import pytest
from keras import layers
from scipy.special import expit, softmax

from medlab import evaluate, models
from medlab.evaluate import predictions

SHAPE = (6, 5, 2)


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(7, *SHAPE)).astype("float32")


def head(outputs):
    """An image input and a linear layer on its flattened pixels, whose arithmetic NumPy can repeat."""
    image = layers.Input(SHAPE)
    dense = layers.Dense(outputs, name="logits", bias_initializer="random_normal")
    return image, dense(layers.Flatten()(image)), dense


def weights_of(layer):
    """A layer's weights as arrays; a sum is a tensor, which NumPy 2 takes without the warning that a variable gives."""
    return [keras.ops.convert_to_numpy(keras.ops.add(weight, 0)) for weight in layer.weights]


def logits_of(dense, x):
    kernel, bias = weights_of(dense)
    return (x.reshape(len(x), -1) @ kernel + bias).astype(np.float64)


def test_logits_become_probabilities(x):
    image, output, dense = head(1)
    p = evaluate.predict(keras.Model(image, output), x)
    assert p.shape == (7,)
    assert p.dtype == np.float64
    np.testing.assert_allclose(p, expit(logits_of(dense, x)[:, 0]), atol=1e-6)
    image, output, dense = head(3)
    model = keras.Model(image, output)
    np.testing.assert_allclose(evaluate.predict(model, x), softmax(logits_of(dense, x), axis=1), atol=1e-6)
    np.testing.assert_allclose(evaluate.predict(model, x, multi_label=True), expit(logits_of(dense, x)), atol=1e-6)


@pytest.mark.parametrize(
    "finish",
    [
        layers.Softmax(),
        layers.Activation("softmax"),
        keras.ops.softmax,
        lambda logits: layers.Activation("linear", dtype="float32")(layers.Softmax()(logits)),
        lambda logits: layers.Reshape((3,))(layers.Dropout(0.5)(layers.Softmax()(logits))),
    ],
)
def test_a_softmax_is_not_applied_twice(x, finish):
    image, output, dense = head(3)
    model = keras.Model(image, finish(output))
    assert predictions.activation(model) == "softmax"
    np.testing.assert_allclose(evaluate.predict(model, x), softmax(logits_of(dense, x), axis=1), atol=1e-6)
    nested = keras.Sequential([layers.Input(SHAPE), model])
    np.testing.assert_allclose(evaluate.predict(nested, x), softmax(logits_of(dense, x), axis=1), atol=1e-6)


def test_a_sigmoid_is_not_applied_twice(x):
    image, output, dense = head(1)
    model = keras.Model(image, keras.ops.sigmoid(output))
    np.testing.assert_allclose(evaluate.predict(model, x), expit(logits_of(dense, x)[:, 0]), atol=1e-6)
    sequential = keras.Sequential([layers.Input(SHAPE), layers.Flatten(), layers.Dense(1, activation="sigmoid")])
    expected = expit(x.reshape(7, -1) @ weights_of(sequential.layers[-1])[0])
    np.testing.assert_allclose(evaluate.predict(sequential, x), expected[:, 0], atol=1e-6)
    assert predictions.activation(sequential) == "sigmoid"


@pytest.mark.parametrize("finish", [layers.LeakyReLU(), layers.Activation("tanh"), layers.BatchNormalization()])
def test_other_ends_are_taken_for_logits(finish):
    image, output, _ = head(2)
    # A sigmoid inside, below something that changes values, is not the model's end.
    assert predictions.activation(keras.Model(image, finish(keras.ops.sigmoid(output)))) is None


def test_a_subclassed_model(x):
    @keras.saving.register_keras_serializable("medlab_tests")
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.flatten, self.dense = layers.Flatten(), layers.Dense(3, activation="softmax")

        def call(self, images, training=False):
            return self.dense(self.flatten(images))

    model = Own()
    p = evaluate.predict(model, x)
    kernel = weights_of(model.dense)[0]
    np.testing.assert_allclose(p, softmax(x.reshape(7, -1) @ kernel, axis=1), atol=1e-6)


def test_batches_and_training_mode_do_not_matter(x):
    image, output, _ = head(2)
    model = keras.Model(image, layers.BatchNormalization()(layers.Dropout(0.9)(output)))
    whole = evaluate.predict(model, x, batch_size=100)
    for size in (1, 3, None):
        np.testing.assert_allclose(evaluate.predict(model, x, batch_size=size), whole, atol=1e-6)
    np.testing.assert_allclose(evaluate.predict(model, x.astype(np.float64), progress=True), whole, atol=1e-6)


def test_batches_hold_about_four_million_values():
    assert predictions.batch_of(np.zeros((1, 28, 28, 1), np.uint8)) == 64
    assert predictions.batch_of(np.zeros((1, 128, 128, 128, 1), np.uint8)) == 2
    assert predictions.batch_of(np.zeros((1, 300, 300, 300, 1), np.uint8)) == 1


def test_a_mirrored_copy_is_averaged(x):
    image, output, dense = head(1)
    model = keras.Model(image, output)
    mean = (expit(logits_of(dense, x)) + expit(logits_of(dense, x[:, :, ::-1]))) / 2
    p = evaluate.predict(model, x, tta=[lambda batch: batch[:, :, ::-1]])
    np.testing.assert_allclose(p, mean[:, 0], atol=1e-6)


def test_mirrored_and_moved_copies():
    batch = np.arange(2 * 3 * 4).reshape(1, 2, 3, 4, 1)
    for axes, count in (((0,), 1), ((1, 2), 3), ((0, 1, 2), 7)):
        copies = [flip(batch) for flip in evaluate.flips(*axes)]
        assert len({copy.tobytes() for copy in [batch, *copies]}) == count + 1
    np.testing.assert_array_equal(evaluate.flips(1)[0](batch), batch[:, :, ::-1])
    np.testing.assert_array_equal(evaluate.flips(2, 0)[2](batch), batch[:, ::-1, :, ::-1])
    back, on = evaluate.shifts(1, 2)
    row = np.array([3, 5, 7, 9]).reshape(1, 1, 1, 4, 1)
    assert on(row).ravel().tolist() == [3, 3, 5, 7]
    assert back(row).ravel().tolist() == [5, 7, 9, 9]
    assert len(evaluate.shifts(2)) == 4
    np.testing.assert_array_equal(batch.ravel(), np.arange(24))


@pytest.mark.parametrize("own", [None, "sigmoid"])
def test_flips_are_averaged_in_probability_or_logit(x, own):
    image, output, dense = head(1)
    model = keras.Model(image, output if own is None else keras.ops.sigmoid(output))
    views = [x, x[:, ::-1], x[:, :, ::-1], x[:, ::-1, ::-1]]
    logits = np.array([logits_of(dense, view)[:, 0] for view in views])
    np.testing.assert_allclose(evaluate.predict(model, x, tta="flips"), expit(logits).mean(axis=0), atol=1e-6)
    by_list = evaluate.predict(model, x, tta=evaluate.flips(0, 1))
    np.testing.assert_array_equal(by_list, evaluate.predict(model, x, tta="flips"))
    np.testing.assert_allclose(
        evaluate.predict(model, x, tta="flips", average="logit"), expit(logits.mean(axis=0)), atol=1e-6
    )


def test_classes_are_averaged_in_logits_by_their_own_sum(x):
    image, output, dense = head(3)
    views = [x, x[:, :, ::-1]]
    mean = np.mean([logits_of(dense, view) for view in views], axis=0)
    expected = np.exp(mean) / np.exp(mean).sum(axis=1, keepdims=True)
    for model in (keras.Model(image, output), keras.Model(image, keras.ops.softmax(output))):
        found = evaluate.predict(model, x, tta=evaluate.flips(1), average="logit")
        np.testing.assert_allclose(found, expected, atol=1e-6)
    many = evaluate.predict(keras.Model(image, output), x, tta=evaluate.flips(1), average="logit", multi_label=True)
    np.testing.assert_allclose(many, expit(mean), atol=1e-6)


def test_sure_answers_keep_their_weight_in_logits():
    """100 and -50 have the mean 25; as probabilities they would be 1 and 0."""
    image = layers.Input((1, 2, 1))
    dense = layers.Dense(1, use_bias=False)
    model = keras.Model(image, dense(layers.Flatten()(image)))
    dense.kernel.assign([[100.0], [-50.0]])
    p = evaluate.predict(model, np.array([[[[1.0], [0.0]]]]), tta=evaluate.flips(1), average="logit")
    np.testing.assert_allclose(1 - p, 1 / (1 + np.exp(25)), rtol=1e-3)


def test_unusable_augmentations_are_refused(x):
    image, output, _ = head(1)
    model = keras.Model(image, output)
    for wrong, message in (
        ("mirror", 'Expected tta "flips", a list of functions or None'),
        ([1], "Expected functions from a batch to a batch"),
        ([lambda batch: batch[:, 1:]], "to keep the shape"),
        (evaluate.flips(2), "Expected images with a spatial axis 2"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate.predict(model, x, tta=wrong)
    with pytest.raises(ValueError, match='average "probability" or "logit"'):
        evaluate.predict(model, x, average="vote")
    for make in (lambda: evaluate.flips(3), lambda: evaluate.flips(1, 1), lambda: evaluate.shifts(1, True)):
        with pytest.raises(ValueError, match="different spatial axes of 0, 1 and 2"):
            make()
    with pytest.raises(ValueError, match="Expected axes to mirror"):
        evaluate.flips()
    with pytest.raises(ValueError, match=r"whole number of pixels, at least 1. Received 0"):
        evaluate.shifts(0)


def test_bfloat16_gives_sound_probabilities(x):
    image = layers.Input(SHAPE)
    model = keras.Model(image, layers.Dense(3, dtype="mixed_bfloat16")(layers.Flatten()(image)))
    p = evaluate.predict(model, x)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-12)


def test_unusable_images_are_refused(x):
    image, output, _ = head(1)
    model = keras.Model(image, output)
    with pytest.raises(ValueError, match=r"shape \(n, 6, 5, 2\) for this model. Received \(7, 5, 6, 2\)"):
        evaluate.predict(model, x.transpose(0, 2, 1, 3))
    with pytest.raises(ValueError, match=r"Received \(6, 5, 2\); one case needs a leading axis"):
        evaluate.predict(model, x[0])
    broken = x.copy()
    broken[4, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="Case 4 has NaN or infinity"):
        evaluate.predict(model, broken, batch_size=3)
    with pytest.raises(ValueError, match="Expected at least one case"):
        evaluate.predict(model, x[:0])
    with pytest.raises(ValueError, match="Expected images as numbers"):
        evaluate.predict(model, x.astype(str))
    with pytest.raises(ValueError, match="batch size of at least 1"):
        evaluate.predict(model, x, batch_size=0)
    assert np.isnan(broken[4, 0, 0, 0])


def test_heads_that_contradict_the_task(x):
    image, output, _ = head(3)
    with pytest.raises(ValueError, match=r"ends in a sigmoid with 3 outputs.*multi_label=True"):
        evaluate.predict(keras.Model(image, keras.ops.sigmoid(output)), x)
    with pytest.raises(ValueError, match="ends in a softmax, which excludes several labels"):
        evaluate.predict(keras.Model(image, keras.ops.softmax(output)), x, multi_label=True)
    constant, one, _ = head(1)
    # Keras warns of it too when the layer is called.
    with (
        pytest.raises(ValueError, match="of one output is 1 for every image"),
        pytest.warns(UserWarning, match="softmax"),
    ):
        evaluate.predict(keras.Model(constant, layers.Softmax()(one)), x)
    with pytest.raises(ValueError, match=r"Expected a model that gives \(n, outputs\). This one gives shape"):
        evaluate.predict(keras.Model(image, layers.Conv2D(1, 3)(image)), x)
    other = layers.Input(SHAPE)
    both = keras.Model([image, other], layers.Dense(1)(layers.Flatten()(layers.Add()([image, other]))))
    with pytest.raises(ValueError, match=r"Expected a model of one input. This one takes 2"):
        evaluate.predict(both, x)


def test_a_failed_model_is_told(x):
    image, output, dense = head(1)
    dense.bias.assign([np.nan])
    with pytest.raises(ValueError, match="its training has failed"):
        evaluate.predict(keras.Model(image, output), x)


def test_a_network_made_for_several_labels_is_known_by_its_name():
    x = np.random.default_rng(0).normal(size=(3, 16, 16, 1)).astype(np.float32)
    model = models.small_cnn((16, 16, 1), 3, multi_label=True)
    expected = 1 / (1 + np.exp(-model.predict(x, verbose=0)))
    np.testing.assert_allclose(evaluate.predict(model, x), expected, atol=1e-5)
    np.testing.assert_allclose(evaluate.predict(models.small_cnn((16, 16, 1), 3), x).sum(axis=1), 1, atol=1e-5)
