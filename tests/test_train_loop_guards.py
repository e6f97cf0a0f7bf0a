"""What ends a training that cannot go on, when, and what it says: NaN, runaway rates, memory, misfits."""

import errno

import keras
import numpy as np
import pytest

from medlab import train
from medlab.train import guards, losses

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def data(n=64, seed=0):
    x = np.random.default_rng(seed).normal(size=(n, 4, 4, 1)).astype(np.float32)
    return x, (x.mean((1, 2, 3)) > 0).astype(np.int64)


def linear(outputs=1, activation=None, layer=None):
    image = keras.Input((4, 4, 1))
    x = keras.layers.Flatten()(image)
    x = x if layer is None else layer(x)
    start = keras.initializers.GlorotUniform(0)
    return keras.Model(image, keras.layers.Dense(outputs, activation=activation, kernel_initializer=start)(x), name="m")


def quiet(model, *given, **changes):
    wish = {"epochs": 2, "batch_size": 4, "progress": False, "precision": "float32", **changes}
    return train.fit(model, *given, **wish)


class Counting:
    """An augmentation that counts its batches and breaks one of them."""

    def __init__(self, broken):
        self.broken, self.steps = broken, 0

    def __call__(self, x, keys):
        self.steps += 1
        if keys[0, 1] == 1 and self.broken in keys[:, 2]:
            x = x.copy()
            x[list(keys[:, 2]).index(self.broken), 0, 0] = np.nan
        return x, None


def test_images_that_are_not_finite_are_named_and_end_it_at_once():
    x, y = data()
    broken = Counting(7)
    message = r"in step \d+ of epoch 2 .*: the data: images of cases \[7\] hold NaN"
    with pytest.raises(train.DivergedError, match=message) as it:
        quiet(linear(), (x, y), (x, y), augment=broken, epochs=50)
    assert "as the augmentation gives them" in str(it.value)
    assert "The weights of epoch 1 are kept." in str(it.value)
    # 16 steps an epoch: it never saw the other 48 epochs, beyond what was prepared ahead.
    assert broken.steps < 16 * 4


def test_the_best_weights_stay():
    x, y = data()
    model = linear()
    one = quiet(linear(), (x, y), (x, y), epochs=1, schedule="constant", ema=None)
    with pytest.raises(train.DivergedError):
        quiet(model, (x, y), (x, y), augment=Counting(7), epochs=50, schedule="constant", ema=None)
    for kept, wanted in zip(model.get_weights(), one.model.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, wanted)


def test_a_rate_that_runs_away_is_said_with_the_rate():
    with pytest.raises(train.DivergedError, match=r"The loss grew from .* too large. Take learning_rate=1e\+03 or"):
        quiet(linear(), data(), optimizer="sgd", learning_rate=1e4, schedule="constant", ema=None)


@pytest.mark.parametrize(
    ("steps", "precision", "message"),
    [
        ([0.7, 0.6, np.nan], "float32", r"in step 3 .*the learning rate is the likely cause. Take learning_rate=0.001"),
        ([0.7, 0.6, np.nan], "mixed_bfloat16", "16-bit arithmetic is the likely cause. Take precision='float32'"),
        ([0.7, 0.6, 8.0, np.inf], "mixed_bfloat16", r"became inf in step 4 .*grown from 0.6 to 8 before"),
        ([np.nan], "float32", "from the first step, before anything was learned"),
    ],
)
def test_the_reason_follows_from_what_came_before(steps, precision, message):
    guard = guards.LossGuard([(np.zeros((2, 1)), np.zeros(2))] * 9, precision, known_scale=True)
    guard.start_epoch()
    means = np.cumsum(steps) / np.arange(1, len(steps) + 1)
    said = [guard.broken(mean, epoch=1, rate=lambda: 0.01) for mean in means]
    assert said[:-1] == [None] * (len(steps) - 1)
    with pytest.raises(ValueError, match=message):
        raise ValueError(said[-1])


def test_images_of_a_giant_scale_are_the_reason_from_the_first_step():
    x, y = data()
    with pytest.raises(train.DivergedError, match=r"step 1 of epoch 1 .*: the images reach .*e\+38. Standardize them"):
        quiet(linear(), (np.sign(x) * np.float32(3e38), y))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="XLA never makes the large map: it fuses")
def test_memory_that_is_exhausted_says_what_would_fit():
    """A real allocation that no machine grants: 16 values become 16 * 10^11 in each case."""
    image = keras.Input((4, 4, 1))
    big = keras.layers.Flatten()(keras.layers.UpSampling2D(316_228)(image))
    big = keras.ops.max(big, axis=1, keepdims=True)
    model = keras.Model(image, keras.layers.Dense(1)(big))
    with pytest.raises(
        train.OutOfMemoryError, match=r"Out of memory with batch_size=8, images of 4 x 4, float32"
    ) as it:
        quiet(model, data(), batch_size=8)
    assert "Not even one case fits: take smaller images or patches" in str(it.value)
    # The map of 16 * 10^11 values twice, flat again twice, 4 bytes each: 25.6 TB a case.
    assert "25.6 TB of it for each case" in str(it.value)


def test_a_batch_that_would_fit_by_hand():
    model = linear()  # a case: 16 values, 16 flat, 1 out; 17 weights
    fixed, each = guards.memory_needed(model, (4, 4, 1), "float32")
    assert (fixed, each) == (16 * 17, 2 * 4 * (16 + 16 + 1))
    room = (fixed + 16 * each) / 0.7 + 1
    text = guards.out_of_memory(model, (4, 4, 1), batch_size=100, precision="float32", room=room)
    assert "Take batch_size=12 with accumulate=9" in text  # 100, 50, 25, 12: the first that is 16 or below
    text = guards.out_of_memory(model, (4, 4, 1), batch_size=100, precision="mixed_bfloat16")
    assert "Take batch_size=50 with accumulate=2" in text


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 123 bytes"), True),
        (RuntimeError("OOM when allocating tensor with shape[8,512]"), True),
        (RuntimeError("shapes differ"), False),
    ],
)
def test_errors_of_memory_are_known(error, is_memory):
    assert guards.is_out_of_memory(error) is is_memory


def test_other_errors_of_a_disk_are_passed_on(tmp_path):
    with pytest.raises(PermissionError), guards.room_to_write(tmp_path, "the state", ""):
        raise PermissionError(errno.EACCES, "not yours")


def test_a_batch_larger_than_the_set_is_said():
    fitted = quiet(linear(), data(6), batch_size=32)
    assert fitted.choices["batch size"] == "6: there are not 32 cases"
    assert "batch size" not in quiet(linear(), data(6), batch_size=6).choices


@pytest.mark.parametrize(
    ("model", "loss", "y", "message"),
    [
        (linear(3), "categorical_crossentropy", [0, 1, 2, 0], "takes probabilities, but the model gives logits"),
        (linear(3, "softmax"), "categorical_crossentropy", [0, 1, 2, 0], r"takes labels \(n, 3\), one column a class"),
        (
            linear(3, "softmax"), keras.losses.CategoricalCrossentropy(from_logits=True), np.eye(3)[[0, 1, 2, 0]],
            "takes logits, but the model ends in softmax",
        ),
        (
            linear(3, "softmax"), "sparse_categorical_crossentropy", np.eye(3)[[0, 1, 2, 0]], r"class indices \(n,\)",
        ),
        (linear(3, "sigmoid"), "binary_crossentropy", [0, 1, 2, 0], "an output for each label"),
        (linear(1), "dice", [0, 1, 1, 0], r"'dice' needs masks"),
        (linear(1), "binary_crosentropy", [0, 1, 1, 0], "Expected loss to be .* Received 'binary_crosentropy'"),
        (linear(2), "auto", ["cat", "dog", "dog", "cat"], r"such as 'cat'. Turn names into indices: numpy.unique"),
        (linear(3), "masked_bce", [0, 1, 2, 0], "needs 0/1 labels"),
    ],
)  # fmt: skip
def test_a_loss_that_does_not_fit_is_refused_before_training(model, loss, y, message):
    with pytest.raises(ValueError, match=message):
        quiet(model, (np.zeros((4, 4, 4, 1), np.float32), np.array(y)), loss=loss)


def test_losses_that_fit_are_not_refused():
    x, y = data(8)
    for model, loss, labels in (
        (linear(3), keras.losses.SparseCategoricalCrossentropy(from_logits=True), y),
        (linear(3, "softmax"), "sparse_categorical_crossentropy", y),
        (linear(1, "sigmoid"), "binary_crossentropy", y),
        (linear(1), "focal", y),
        (linear(1), keras.losses.BinaryFocalCrossentropy(from_logits=True), y),
    ):
        assert losses.choose(model, labels, loss).reason.endswith("as given")
    image = keras.Input((4, 4, 1))
    coder = keras.Model(image, keras.layers.Conv2D(1, 1)(image))
    assert np.isfinite(quiet(coder, (x, x), loss="mean_squared_error").history["loss"]).all()


def test_a_rare_class_is_said():
    x = data(40)[0]
    y = np.zeros(40, int)
    y[:3] = 1
    assert quiet(linear(), (x, y)).choices["class weights"] == (
        'none: class 1 has 7.5 % of the cases; class_weight="balanced" would let each class count the same'
    )
    y[:8] = 1
    assert quiet(linear(), (x, y)).choices["class weights"] == "none"
