"""Networks over slices: padding that changes nothing, order that does, attention worked out by hand, and errors."""

import functools
import json
import subprocess
import warnings

import keras
import numpy as np
import pytest

from medlab import explain, models, train
from tests.environments import environment

# On JAX Keras' get_weights hands variables to np.array, whose argument copy they do not know yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SHAPE = (8, 10, 5, 1)  # unequal sizes: a swapped axis shows


def tiny(shape):
    """A 2-D network of one convolution and a batch normalization, quick to build."""
    image = keras.Input(shape)
    x = keras.layers.Conv2D(3, 3, kernel_initializer=keras.initializers.HeNormal(seed=0))(image)
    return keras.Model(image, keras.layers.Activation("relu")(keras.layers.BatchNormalization()(x)))


slice_rnn = functools.partial(models.slice_rnn, encoder=tiny, width=2)
slice_mean = functools.partial(models.slice_mean, encoder=tiny)
MAKERS = {
    "gru": slice_rnn,
    "lstm, mean": functools.partial(slice_rnn, cell="lstm", pool="mean"),
    "gru, attention": functools.partial(slice_rnn, pool="attention"),
    "gru, one way": functools.partial(slice_rnn, bidirectional=False),
    "mean": slice_mean,
    "attention": functools.partial(slice_mean, pool="attention"),
    "conv_lstm": functools.partial(models.conv_lstm, width=2),
}


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(3, *SHAPE)).astype(np.float32)


def logits(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


def padded(x, before, after, value=0.0):
    return np.pad(x, ((0, 0), (0, 0), (0, 0), (before, after), (0, 0)), constant_values=value)


def longer(make, model, slices):
    """The same network for more slices: its weights fit."""
    other = make((*SHAPE[:2], slices, SHAPE[3]), 3)
    other.set_weights(model.get_weights())
    return other


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_padding_changes_nothing(make, x):
    model = make(SHAPE, 3)
    expected = logits(model, x)
    assert np.ptp(expected, axis=0).min() > 1e-3  # the cases differ, so that being equal means something
    other = longer(make, model, 9)
    for before, after in ((0, 4), (4, 0), (1, 3)):
        np.testing.assert_allclose(logits(other, padded(x, before, after)), expected, atol=1e-5)
    # Volumes of different length in one batch.
    mixed = np.stack([padded(x[:1], 2, 2)[0], padded(x[1:2, :, :, :3], 0, 6)[0]])
    np.testing.assert_allclose(logits(other, mixed)[0], expected[0], atol=1e-5)
    three = longer(make, model, 3)
    np.testing.assert_allclose(logits(other, mixed)[1], logits(three, x[1:2, :, :, :3])[0], atol=1e-5)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_without_a_mask_padding_is_read(make, x):
    model = make(SHAPE, 3, mask_value=None)
    other = longer(functools.partial(make, mask_value=None), model, 9)
    assert np.abs(logits(other, padded(x, 0, 4)) - logits(model, x)).max() > 1e-3


def test_another_value_marks_the_padding(x):
    make = functools.partial(slice_rnn, mask_value=-1.1)
    model = make(SHAPE, 3)
    other = longer(make, model, 7)
    np.testing.assert_allclose(logits(other, padded(x, 1, 1, -1.1)), logits(model, x), atol=1e-5)
    assert np.abs(logits(other, padded(x, 1, 1, 0.0)) - logits(model, x)).max() > 1e-3


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_volume_without_slices_gets_the_bias_of_the_last_layer(make):
    model = make(SHAPE, 3)
    model.get_layer("logits").bias.assign([1.0, -2.0, 0.5])
    np.testing.assert_allclose(logits(model, np.zeros((2, *SHAPE), np.float32)), [[1.0, -2.0, 0.5]] * 2, atol=1e-6)


@pytest.mark.parametrize("name", MAKERS)
def test_order_matters_to_recurrent_networks_alone(name, x):
    model = MAKERS[name](SHAPE, 3)
    change = np.abs(logits(model, x[:, :, :, ::-1]) - logits(model, x)).max()
    assert change < 1e-5 if name in ("mean", "attention") else change > 1e-3


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_one_slice_several_channels_and_labels(make):
    volume = np.random.default_rng(1).normal(size=(2, 8, 8, 1, 3)).astype(np.float32)
    model = make((8, 8, 1, 3), 2, multi_label=True)
    assert model.name.endswith("_multi_label")
    assert logits(model, volume).shape == (2, 2)
    assert np.isfinite(logits(model, volume)).all()
    assert make((8, 8, 1, 3), 2).output_shape == (None, 1)


def test_the_mean_is_the_mean_of_the_slices_that_are_read(x):
    model = slice_mean(SHAPE, 3)
    x[:, :, :, 1] = 0.0  # an empty slice in the middle
    inner = keras.Model(model.input, [model.get_layer("per_slice").output, model.get_layer("features").output])
    slices, features = (keras.ops.convert_to_numpy(one) for one in inner(x))
    np.testing.assert_allclose(features, slices[:, [0, 2, 3, 4]].mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("mask_value", [0.0, None])
def test_attention_is_the_formula_of_ilse_and_others(x, mask_value):
    model = slice_mean(SHAPE, 3, pool="attention", mask_value=mask_value)
    x[0, :, :, 1] = 0.0
    inner = keras.Model(model.input, [model.get_layer("per_slice").output, model.get_layer("features").output])
    h, features = (keras.ops.convert_to_numpy(one).astype(np.float64) for one in inner(x))
    v, u, w = (
        keras.ops.convert_to_numpy(model.get_layer(f"attention_{name}").kernel) for name in ("content", "gate", "score")
    )
    score = np.exp((np.tanh(h @ v) / (1 + np.exp(-h @ u)) @ w)[..., 0])
    if mask_value is not None:
        score[0, 1] = 0
    weights = score / score.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(models.slice_weights(model, x), weights, atol=1e-5)
    np.testing.assert_allclose(features, np.einsum("nk,nkf->nf", weights, h), atol=1e-5)


def test_weights_of_a_volume_without_slices_are_0():
    model = slice_rnn(SHAPE, 2, pool="attention")
    assert not models.slice_weights(model, np.zeros((2, *SHAPE), np.float32)).any()


def test_gru_has_the_parameters_counted_by_hand():
    model = slice_rnn(SHAPE, 2, units=7)
    features = 2 * 3  # mean and maximum of three channels
    direction = 3 * 7 * (features + 7 + 2)  # three gates: input, state, and two biases (reset after the product)
    assert model.count_params() == (9 * 3 + 3) + 4 * 3 + 2 * direction + (14 + 1)


def test_an_encoder_may_be_a_model_a_function_or_a_name(x):
    encoder = tiny((8, 10, 1))
    made = [
        models.slice_mean(SHAPE, 3, encoder=encoder),
        models.slice_mean(SHAPE, 3, encoder=functools.partial(models.small_cnn, width=4)),
        models.slice_rnn(SHAPE, 3, encoder="resnet"),
    ]
    assert [model.get_layer("per_slice").output.shape[1:] for model in made] == [(5, 6), (5, 64), (5, 1024)]
    maps = keras.ops.convert_to_numpy(keras.Model(made[0].input, made[0].get_layer("slices").output)(x))
    expected = logits(encoder, x[:, :, :, 3])
    np.testing.assert_allclose(maps[:, :, :, 3], expected, atol=1e-5)


def test_grad_cam_looks_at_slices(x):
    heat = np.asarray(explain.grad_cam(slice_rnn(SHAPE, 3), x, target=1, layer="slices"))
    assert heat.shape == x.shape[:-1]


@pytest.mark.parametrize(
    "make",
    [
        functools.partial(slice_rnn, pool="attention"),
        functools.partial(models.slice_mean, width=2, norm="group"),
        functools.partial(models.conv_lstm, width=2),
    ],
)
def test_steps_lower_the_loss_and_a_saved_model_predicts_the_same(make, x, tmp_path):
    model = make(SHAPE, 3, dropout=0.0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss, run_eagerly=True)
    losses = [float(model.train_on_batch(x, np.arange(3))) for _ in range(8)]
    assert losses[-1] < losses[0]
    before = logits(model, x)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
        model.save(tmp_path / "model.keras")
    same = models.load(tmp_path / "model.keras")
    np.testing.assert_array_equal(logits(same, x), before)


@pytest.mark.parametrize("name", ["gru, attention"])
def test_training_in_bfloat16_stays_finite_beside_empty_volumes(name, x):
    x = padded(np.concatenate([x, x]), 1, 1)
    x[0] = 0.0
    model = MAKERS[name]((8, 10, 7, 1), 2)
    fitted = train.fit(model, (x, np.arange(6) % 2), epochs=2, batch_size=3, precision="mixed_bfloat16", progress=False)
    assert np.isfinite(fitted.history["loss"]).all()
    assert np.isfinite(logits(model, x)).all()


def test_the_same_seed_starts_from_the_same_weights():
    first, same, other = (
        models.slice_rnn((8, 8, 2, 1), width=2, pool="attention", seed=seed).get_weights() for seed in (1, 1, 2)
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    assert not np.array_equal(first[0], other[0])
    reader = slice_rnn(SHAPE).get_layer("features").get_weights()
    assert not np.array_equal(reader[0], reader[3])  # each direction has a start of its own


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: models.slice_rnn((8, 8, None, 1)), r"a number of slices k in .* pad shorter ones with whole slices"),
        (lambda: models.slice_rnn((8, 8, 1)), r"input_shape \(i, j, k, c\) in positive whole numbers"),
        (lambda: models.slice_mean((8, 8, 0, 1)), "positive whole numbers"),
        (lambda: models.conv_lstm((7, 8, 5, 1)), r"conv_lstm's encoder needs images of at least 8 pixels"),
        (lambda: models.slice_rnn(SHAPE, 1), "at least 2 classes"),
        (lambda: models.slice_rnn(SHAPE, cell="rnn"), r"cell to be one of \('gru', 'lstm'\). Received 'rnn'"),
        (lambda: models.slice_rnn(SHAPE, pool="max"), "pool to be one of .* Received 'max'"),
        (lambda: models.slice_mean(SHAPE, pool="last"), "pool to be one of .* Received 'last'"),
        (lambda: models.conv_lstm(SHAPE, width=0), "width to be a whole number of at least 1. Received 0"),
        (lambda: slice_mean(SHAPE, mask_value=float("nan")), "mask_value to be a finite number, or None .* nan"),
        (lambda: slice_mean(SHAPE, mask_value="0"), "mask_value to be a finite number"),
        (lambda: models.slice_rnn(SHAPE, norm="layer"), "norm to be one of"),
        (lambda: models.slice_mean(SHAPE, encoder="vgg"), "vgg"),
        (
            lambda: models.slice_weights(slice_mean(SHAPE), np.zeros((1, *SHAPE))),
            'the layer "attention"',
        ),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", ["mean", "conv_lstm"])
def test_padding_does_not_enter_the_statistics_of_batch_normalization(name, x):
    """Twice as many slices: each real one is seen twice, and means and variances stay what they were."""
    model = MAKERS[name](SHAPE, 3)
    other = longer(MAKERS[name], model, 10)
    model(x, training=True)
    other(padded(x, 2, 3), training=True)
    means = [keras.ops.convert_to_numpy(one) for one in model.non_trainable_weights if "moving" in one.path]
    same = [keras.ops.convert_to_numpy(one) for one in other.non_trainable_weights if "moving" in one.path]
    assert len(means) >= 2
    for a, b in zip(means, same, strict=True):
        # Keras keeps the biased variance, so that the count does not matter.
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert any(np.abs(a - start).max() > 1e-3 for a, start in zip(means, (0, 1) * len(means), strict=False))


PADDING_ON_JAX = """
import functools, json, keras, numpy as np
from medlab import models
x = np.random.default_rng(0).normal(size=(2, 8, 8, 3, 1)).astype(np.float32)
long = np.pad(x, ((0, 0), (0, 0), (0, 0), (1, 2), (0, 0)))
found = {}
for name in ("slice_rnn", "slice_mean", "conv_lstm"):
    make = functools.partial(getattr(models, name), classes=3, width=2)
    model, other = make((8, 8, 3, 1)), make((8, 8, 6, 1))
    for one, same in zip(other.weights, model.weights):
        one.assign(same)
    change = float(abs(other(long) - model(x)).max())
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    found[name] = [change, float(model.train_on_batch(x, np.array([0, 1])))]
print(json.dumps([keras.backend.backend(), found]))
"""


@pytest.mark.jax
def test_padding_changes_nothing_on_jax(jax_python):
    done = subprocess.run(
        [jax_python, "-c", PADDING_ON_JAX], env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    backend, found = json.loads(done.stdout)
    assert backend == "jax"
    for change, loss in found.values():
        assert change < 1e-5
        assert np.isfinite(loss)
