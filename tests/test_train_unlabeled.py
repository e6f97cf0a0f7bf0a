"""Learning from images without labels: views, losses, the running mean, pretraining and the linear probe."""

import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from medlab import models, train
from medlab.train.unlabeled import tasks
from medlab.train.unlabeled.following import Followed
from medlab.train.unlabeled.views import Views


def noisy(x, keys):
    """Noise that follows from the keys alone."""
    return x + np.stack([np.random.default_rng(key).normal(size=x.shape[1:]) for key in keys]).astype(np.float32), None


def stripes(n, seed=0, side=16):
    """Images of stripes that lie (class 0) or stand (class 1), at a random phase."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    wave = np.sin(np.arange(side) * 2 * np.pi / 5 + rng.uniform(0, 6.3, (n, 1)))
    x = np.where(y[:, None, None] == 1, wave[:, None, :], wave[:, :, None]) * np.ones((1, side, side))
    return (x + 0.5 * rng.normal(size=x.shape))[..., None].astype(np.float32), y


def values(layer):
    """The weights of a layer or model, each as an array of its own."""
    return [np.array(np.asarray(one)) for one in layer.weights]


def tiny(classes=2, side=16, width=8):
    """The least that has a map, normalization, features and a head: it compiles quickly."""
    image = keras.Input((side, side, 1), name="image")
    x = keras.layers.Conv2D(width, 5, strides=2, padding="same", name="map")(image)
    x = keras.layers.Activation("relu")(keras.layers.BatchNormalization(momentum=0.9)(x))
    x = keras.layers.GlobalAveragePooling2D(name="features")(x)
    return keras.Model(image, keras.layers.Dense(1 if classes == 2 else classes, name="logits")(x), name="tiny")


def test_an_epoch_has_every_case_once_and_repeats_itself():
    x = np.arange(10, dtype=np.float32).reshape(10, 1, 1, 1)
    data = Views(x, [None, noisy], batch_size=4, seed=3)
    first = [np.array(data[n][0]) for n in range(len(data))]
    seen = np.concatenate(first)[:, 0].ravel()
    assert len(data) == 3
    assert sorted(seen[:10]) == list(range(10))
    np.testing.assert_array_equal(seen[10:], seen[:2])  # filled up from its beginning
    data.start_epoch(1)
    assert not np.array_equal(np.concatenate([data[n][0] for n in range(3)]), np.concatenate(first))
    data.start_epoch(0)
    for n in range(3):
        np.testing.assert_array_equal(data[n][0], first[n])


def test_the_two_views_of_a_case_are_changed_differently():
    data = Views(np.zeros((4, 3, 3, 1), np.float32), [noisy, noisy], batch_size=4, seed=0)
    views = data[0][0]
    assert views.shape == (4, 2, 3, 3, 1)
    assert np.abs(views[:, 0] - views[:, 1]).min() > 0


def test_the_contrastive_loss_is_that_of_the_paper():
    codes = np.random.default_rng(0).normal(size=(5, 2, 7))
    flat = codes.reshape(10, 7) / np.linalg.norm(codes.reshape(10, 7), axis=1, keepdims=True)
    cosines = flat @ flat.T / 0.3
    wanted = np.zeros(10)
    for row in range(10):
        others = [column for column in range(10) if column != row]
        wanted[row] = -np.log(np.exp(cosines[row, row ^ 1]) / np.exp(cosines[row, others]).sum())
    made = np.asarray(tasks.Contrast(0.3)(None, codes.astype(np.float32)))
    np.testing.assert_allclose(made, wanted.reshape(5, 2).mean(axis=1), rtol=1e-5)
    alike = np.asarray(tasks.Contrast(0.5)(None, np.ones((6, 2, 3), np.float32)))
    np.testing.assert_allclose(alike, np.log(11), rtol=1e-5)


def test_agreement_is_zero_for_the_same_and_four_for_the_opposite():
    code = np.random.default_rng(1).normal(size=(3, 1, 8)).astype(np.float32)
    same = np.concatenate([code, code, code * 2, code * 3], axis=1)
    np.testing.assert_allclose(np.asarray(tasks.agreement(None, same)), 0, atol=1e-5)
    np.testing.assert_allclose(np.asarray(tasks.agreement(None, same * [[[1], [1], [-1], [-1]]])), 4, atol=1e-5)
    # The first view is held against the target of the second: here these agree, and the same views do not.
    crossed = np.concatenate([code, -code, -code, code], axis=1)
    np.testing.assert_allclose(np.asarray(tasks.agreement(None, crossed)), 0, atol=1e-5)


def test_the_target_of_a_view_is_what_the_follower_says_of_it():
    image = keras.Input((4, 4, 1))
    network = tasks.byol(keras.Model(image, keras.layers.Flatten()(image)), (4, 4, 1), 5, 0.9).network
    views = np.random.default_rng(0).normal(size=(3, 2, 4, 4, 1)).astype(np.float32)
    follower = network.get_layer("followed").follower
    out = np.asarray(network(views))
    said = np.asarray(follower(views.reshape(6, 4, 4, 1))).reshape(3, 2, 5)
    np.testing.assert_allclose(out[:, 2:], said, atol=1e-6)
    for one in follower.get_layer("projector_last").weights:
        one.assign(np.zeros(one.shape))
    silent = np.asarray(network(views))
    assert np.abs(said).max() > 0.01
    np.testing.assert_array_equal(silent[:, 2:], 0)
    np.testing.assert_array_equal(silent[:, :2], out[:, :2])  # the predictions do not come from the follower


def test_the_hidden_error_counts_hidden_pixels_alone():
    y = np.zeros((2, 2, 2, 1), np.float32)
    filled = np.ones((2, 2, 2, 2), np.float32)
    filled[0, ..., 1] = [[1, 0], [0, 0]]
    filled[0, 0, 0, 0] = 3
    filled[1, ..., 1] = 0  # nothing hidden: the error of all
    np.testing.assert_allclose(np.asarray(tasks.hidden_error(y, filled)), [9, 1])


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_the_follower_is_the_running_mean_of_the_weights_in_full_precision(precision):
    network = tiny(side=8)
    image = keras.Input((8, 8, 1))
    pair = Followed(network, momentum=0.9)
    whole = keras.Model(image, keras.ops.concatenate(pair([image, image]), axis=-1))
    data = np.random.default_rng(0).normal(size=(8, 8, 8, 1)).astype(np.float32), np.full((8, 2), 0.5, np.float32)

    def step():
        train.fit(
            whole, data, epochs=1, batch_size=8, loss=lambda y, out: keras.ops.mean(out[:, :1] ** 2, axis=-1), ema=None,
            precision=precision, progress=False, learning_rate=0.01, warmup=0.0,
        )  # fmt: skip
        return values(network)

    start = values(network)
    after = step()
    step()
    moved = 0
    for own, first, second, kept in zip(network.weights, start, after, values(pair.follower), strict=True):
        if own.trainable:  # each step's mean takes the weights before the step
            moved += np.abs(second - first).max() > 1e-3
            np.testing.assert_allclose(kept, 0.9 * first + 0.1 * second, atol=1e-6)
    assert moved > 2
    assert not pair.follower.trainable_weights


@pytest.mark.parametrize("task", ["masked", "simclr", "byol"])
def test_pretraining_trains_the_features_and_leaves_the_head(task, tmp_path):
    model = tiny(3)
    x, _ = stripes(32)
    head = values(model.get_layer("logits"))
    stem = values(model.get_layer("map"))[0]
    made = train.pretrain(model, x, task=task, epochs=8, batch_size=8, learning_rate=0.01, progress=False, run=tmp_path)
    assert made.model is model
    assert list(made.history["epoch"]) == list(range(1, 9))
    assert made.history["loss"].iloc[-3:].mean() < made.history["loss"].iloc[0]
    assert np.abs(values(model.get_layer("map"))[0] - stem).max() > 1e-3
    for before, after in zip(head, values(model.get_layer("logits")), strict=True):
        np.testing.assert_array_equal(before, after)
    again = models.load(tmp_path / "model.keras")  # the classifier, not what was around it
    np.testing.assert_allclose(np.asarray(again(x[:4])), np.asarray(model(x[:4])), atol=1e-5)
    assert np.isnan(made.spread) if task == "masked" else 0.1 < made.spread <= 1
    assert {"masked": "60 % of", "simclr": "temperature 0.5", "byol": "momentum 0.99"}[task] in made.choices["task"]


def test_a_pretraining_that_is_resumed_goes_on_where_it_stopped(tmp_path):
    x, _ = stripes(16)
    losses = []
    for parts in ((2,), (1, 2)):
        model = tiny()
        run = tmp_path / str(len(parts))
        for number, epochs in enumerate(parts):
            if number:
                model = tiny()
            try:
                made = train.pretrain(
                    model, x, task="byol", epochs=2, batch_size=8, progress=False, run=run, resume=number > 0,
                    augment=Stopping(epochs) if epochs < 2 else noisy,
                )  # fmt: skip
            except KeyboardInterrupt:
                continue
        losses.append(made.history["loss"].to_numpy())
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


class Stopping:
    """Noise, until someone presses Ctrl-C in the epoch after ``epochs``."""

    def __init__(self, epochs):
        self.epochs = epochs

    def __call__(self, x, keys):
        if keys[0, 1] >= self.epochs:
            raise KeyboardInterrupt
        return noisy(x, keys)


def test_what_was_hidden_is_filled_in_better_than_by_the_mean():
    x, _ = stripes(64)
    model = tiny()
    made = train.pretrain(model, x, task="masked", hidden=0.3, patch=2, epochs=30, batch_size=16, progress=False)
    assert made.history["loss"].iloc[-1] < 0.75 * x.var()
    assert "30 %" in made.choices["task"]
    away = np.asarray(made.network(x, training=True))[..., -1]
    assert away.mean() == pytest.approx(0.3, abs=0.03)
    assert np.all(away[:, :2, :2] == away[:, :1, :1])
    assert np.mean(away[:, 1] != away[:, 2]) > 0  # patches of 2 pixels


def test_the_linear_probe_is_the_logistic_regression_on_the_features():
    x, y = stripes(40)
    y = (y + (np.arange(40) % 4 == 3)).astype(int)  # three classes
    for classes, truth in ((2, (y > 0).astype(int)), (3, y)):
        model = tiny(classes)
        features = np.asarray(keras.Model(model.input, model.get_layer("features").output)(x))
        before = values(model.get_layer("map"))[0]
        made = train.linear_probe(model, (x, truth), strength=0.5)
        standard = StandardScaler().fit_transform(features)
        wanted = LogisticRegression(C=0.5, max_iter=1000).fit(standard, truth).predict_proba(standard)
        logits = np.asarray(model(x))
        if classes == 2:
            np.testing.assert_allclose(1 / (1 + np.exp(-logits[:, 0])), wanted[:, 1], atol=2e-3)
        else:
            p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            np.testing.assert_allclose(p, wanted, atol=2e-3)
        np.testing.assert_array_equal(before, values(model.get_layer("map"))[0])
        assert made.strength == 0.5


def flat(side=4):
    """A linear classifier of two classes."""
    image = keras.Input((side, side, 1))
    return keras.Model(image, keras.layers.Dense(1)(keras.layers.Flatten()(image)))


def test_the_penalty_is_strong_where_labels_are_noise_and_weak_where_they_are_clear():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4, 4, 1)).astype(np.float32)
    clear, noise, single = (x[:, 0, 0, 0] > 0).astype(int), rng.permutation(60) % 2, np.eye(1, 60, dtype=int)[0]
    made = [train.linear_probe(flat(), (x, y)) for y in (clear, noise, single)]
    assert made[0].strength >= 1
    assert made[1].strength <= 0.01
    assert "cross-validation of 5 parts" in made[1].reason
    assert made[2].strength == 0.01
    assert "a class has a single case" in made[2].reason


@pytest.mark.parametrize(("weight", "share"), [(None, 0.25), ("balanced", 0.5)])
def test_a_probe_that_sees_nothing_tells_the_shares_or_with_balanced_classes_one_half(weight, share):
    x = np.random.default_rng(0).normal(size=(80, 4, 4, 1)).astype(np.float32)
    model = flat()
    train.linear_probe(model, (x, np.arange(80) % 4 // 3), strength=1e-5, class_weight=weight)
    np.testing.assert_allclose(1 / (1 + np.exp(-np.asarray(model(x)))), share, atol=0.01)


def test_a_layer_without_bias_is_fitted_through_zero():
    image = keras.Input((4, 4, 1))
    rng = np.random.default_rng(0)
    x = rng.normal(3, 1, (60, 4, 4, 1)).astype(np.float32)
    y = (x[:, 0, 0, 0] > x[:, 0, 1, 0]).astype(int)  # a plane through 0 tells them apart
    for units in (1, 2):
        model = keras.Model(image, keras.layers.Dense(units, use_bias=False)(keras.layers.Flatten()(image)))
        train.linear_probe(model, (x, y), strength=100.0)
        out = np.asarray(model(x))
        assert np.mean((out[:, -1] > (0 if units == 1 else out[:, 0])) == y) == 1


def test_the_last_layer_of_a_sequential_model_is_found():
    x, y = stripes(30)
    dense = [keras.layers.Dense(8, name="features"), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((16, 16, 1)), keras.layers.Flatten(), *dense])
    train.pretrain(model, x, epochs=1, batch_size=8, progress=False)
    train.linear_probe(model, (x, y), strength=1.0)
    standard = StandardScaler().fit_transform(np.asarray(keras.Sequential(model.layers[:-1])(x)))
    wanted = LogisticRegression(C=1.0, max_iter=1000).fit(standard, y).decision_function(standard)
    np.testing.assert_allclose(np.asarray(model(x))[:, 0], wanted, atol=5e-3)
    assert np.ptp(wanted) > 0.5


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda: models.small_cnn((16, 16, 1), 3, width=4, multi_label=True), "several labels a case"),
        (lambda: ending("tanh"), "ends in tanh"),
        (lambda: keras.Sequential([keras.layers.Dense(1)]), "knows its input"),
    ],
)
def test_what_is_no_classifier_of_one_class_is_not_probed(model, said):
    x, y = stripes(8)
    with pytest.raises(ValueError, match=said):
        train.linear_probe(model(), (x, y))


def ending(activation):
    """A linear classifier with an activation at its end."""
    image = keras.Input((16, 16, 1))
    return keras.Model(image, keras.layers.Dense(1, activation)(keras.layers.Flatten()(image)))


def test_images_that_are_not_standardized_are_spoken_of():
    x = np.random.default_rng(0).integers(0, 255, (8, 16, 16, 1))
    with pytest.warns(UserWarning, match="shown as 0"):
        train.pretrain(tiny(), x, task="masked", epochs=1, progress=False)


def test_two_logits_of_two_classes_are_fitted_too():
    image = keras.Input((16, 16, 1))
    out = keras.layers.Dense(2, activation="softmax")(keras.layers.Flatten()(image))
    model = keras.Model(image, out)
    x, y = stripes(30)
    train.linear_probe(model, (x, y), strength=1.0)
    assert np.mean(np.asarray(model(x)).argmax(axis=1) == y) == 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"task": "rotation"}, "Expected task to be one of"),
        ({"x": np.zeros((8, 16, 16, 1), np.float32)}, "Every image is constant"),
        ({"x": np.repeat(stripes(1)[0], 8, axis=0)}, "All images are the same"),
        ({"x": stripes(1)[0]}, "images of at least 2 for simclr: simclr compares cases"),
        ({"batch_size": 1}, "batch_size of at least 2 for simclr"),
        ({"x": np.full((8, 16, 16, 1), np.nan)}, "NaN or infinity"),
        ({"x": np.zeros((8, 12, 12, 1))}, "takes images of shape"),
        ({"temperature": 0}, "temperature above 0"),
        ({"layer": "nothing"}, "no layer 'nothing'"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(wrong, said):
    settings = {"x": stripes(8)[0], "epochs": 1, "progress": False, **wrong}
    with pytest.raises(ValueError, match=said):
        train.pretrain(tiny(), settings.pop("x"), **settings)


def test_the_spread_is_one_for_codes_in_every_direction_and_zero_for_one():
    from medlab.train.unlabeled.pretraining import spread_of

    codes = np.repeat(np.vstack([np.eye(4), -np.eye(4)])[:, None], 2, axis=1)
    assert spread_of(lambda x, **_: codes, np.zeros((8, 1))) == pytest.approx(1)
    assert spread_of(lambda x, **_: np.ones((8, 2, 4)), np.zeros((8, 1))) == pytest.approx(0)


def test_a_collapse_is_said():
    x, _ = stripes(16)
    image = keras.Input((16, 16, 1))
    start = {"kernel_initializer": "zeros", "bias_initializer": "ones"}
    features = keras.layers.Dense(8, **start, name="features")(keras.layers.Flatten()(image))
    model = keras.Model(image, keras.layers.Dense(1)(features))
    with pytest.warns(UserWarning, match="has collapsed"):
        train.pretrain(model, x, epochs=1, batch_size=8, learning_rate=1e-9, progress=False)


@pytest.mark.parametrize(
    ("y", "said"), [(np.zeros(8, int), "none of class 1"), (np.arange(8) / 2, "class indices 0 to 1")]
)
def test_labels_that_say_too_little_are_refused(y, said):
    model = tiny()
    with pytest.raises(ValueError, match=said):
        train.linear_probe(model, (stripes(8)[0], y))
    with pytest.raises(ValueError, match=said):
        train.fit_semisupervised(model, (stripes(8)[0], y), stripes(8)[0], progress=False)


def test_other_images_are_not_resumed_with(tmp_path):
    x, _ = stripes(16)
    settings = {
        "task": "simclr",
        "epochs": 1,
        "batch_size": 8,
        "progress": False,
        "run": tmp_path,
        "width": np.int64(8),
    }
    train.pretrain(tiny(), x, **settings)
    with pytest.raises(ValueError, match="had other settings"):
        train.pretrain(tiny(), -x, resume=True, **settings)
    with pytest.raises(ValueError, match="images alone, without labels"):
        train.pretrain(tiny(), (x, x), progress=False)
