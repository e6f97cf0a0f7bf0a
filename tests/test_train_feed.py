"""Batches: every case once, an order that follows from seed and epoch, and data that is refused."""

import keras
import numpy as np
import pytest

from medlab import augment, models, train
from medlab.train import feed, received


def identity(y):
    return np.asarray(y)


def numbered(n, **changes):
    """Images whose value is their number."""
    x = np.arange(n, dtype=np.float32).reshape(n, 1, 1, 1)
    return feed.Feed(x, np.arange(n) % 2, **{"encode": identity, "batch_size": 4, **changes})


def seen(dataset):
    return np.concatenate([dataset[index][0].ravel() for index in range(len(dataset))]).astype(int)


def test_every_case_comes_and_all_batches_are_of_one_size():
    dataset = numbered(10)
    assert [len(dataset[index][0]) for index in range(len(dataset))] == [4, 4, 4]
    order = seen(dataset)
    assert sorted(order[:10]) == list(range(10))
    assert list(order[10:]) == list(order[:2])
    assert len(numbered(3)[0][0]) == 3


def test_order_follows_from_seed_and_epoch():
    first = numbered(20, seed=5)
    again = numbered(20, seed=5)
    first.start_epoch(3)
    again.start_epoch(7)
    other = seen(again)
    again.start_epoch(3)
    assert list(seen(first)) == list(seen(again))
    assert list(seen(first)) != list(other)


def test_augmentation_gets_seed_epoch_and_case_and_does_not_touch_the_images():
    def augment(x, keys):
        x = x.copy()
        x[:, 0, 0, 0] += 100 * keys[:, 2] + 10_000 * keys[:, 1] + 1_000_000 * keys[:, 0]
        return x, None

    dataset = numbered(6, augment=augment, seed=2)
    dataset.start_epoch(1)
    values = seen(dataset)[:6]
    case = values % 100
    np.testing.assert_array_equal(values, 2_010_000 + 101 * case)
    np.testing.assert_array_equal(dataset.x.ravel(), np.arange(6))


def test_class_weights_go_with_their_cases():
    dataset = numbered(8, weights=np.array([1.0, 3.0], np.float32))
    for index in range(len(dataset)):
        x, y, weight = dataset[index]
        np.testing.assert_array_equal(weight, np.where(x.ravel() % 2, 3, 1))
        np.testing.assert_array_equal(y, x.ravel() % 2)


def test_validation_batches_hold_every_case_once_in_order():
    found = list(feed.batches((np.arange(7).reshape(7, 1), np.arange(7)), 3))
    assert [list(y) for _, y in found] == [[0, 1, 2], [3, 4, 5], [6]]


class Ready(keras.utils.PyDataset):
    """A user's data set of two batches."""

    def __init__(self):
        super().__init__()
        self.epoch = 0

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return np.full((3, 4, 4, 1), index, np.float32), np.array([0, 1, index])


def test_a_pydataset_is_passed_on_with_its_labels_encoded():
    dataset = feed.Wrapped(Ready(), encode=lambda y: 10 * y, weights=np.array([1.0, 2.0]))
    x, y, weight = dataset[1]
    assert x.mean() == 1
    np.testing.assert_array_equal(y, [0, 10, 10])
    np.testing.assert_array_equal(weight, [1, 2, 2])
    np.testing.assert_array_equal(feed.labels(Ready()), [0, 1, 0, 0, 1, 1])
    dataset.start_epoch(4)
    assert dataset.dataset.epoch == 4


def model(*shape):
    image = keras.Input(shape)
    return keras.Model(image, keras.layers.Dense(1)(keras.layers.Flatten()(image)))


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (
            np.zeros((4, 4, 4, 1)),
            np.zeros(3),
            r"as many training labels as images. Received x \(4, 4, 4, 1\) and y \(3,\)",
        ),
        (np.zeros((0, 4, 4, 1)), np.zeros(0), "at least one training case"),
        (
            np.zeros((2, 4, 5, 1)),
            np.zeros(2),
            r"images of shape \('n', 4, 4, 1\). Received training images of shape \(2, 4, 5, 1\)",
        ),
        (np.zeros((2, 4, 4)), np.zeros(2), "axis of channels"),
        (np.full((2, 4, 4, 1), "a"), np.zeros(2), "images of numbers"),
    ],
)
def test_arrays_that_are_refused(x, y, message):
    with pytest.raises(ValueError, match=message):
        received.check((x, y), model(4, 4, 1), name="training")


def test_images_with_nan_are_named():
    x = np.zeros((5, 4, 4, 1), np.float32)
    x[1, 2, 2], x[4, 0, 0] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"2 of 5 training images hold NaN or infinity, the first are cases \[1, 4\]"):
        received.check((x, np.zeros(5)), model(4, 4, 1), name="training")


def test_other_forms_are_refused():
    with pytest.raises(ValueError, match=r"Expected validation data as \(x, y\)"):
        received.check(np.zeros((2, 4, 4, 1)), model(4, 4, 1), name="validation")
    one, two = keras.Input((4,)), keras.Input((4,))
    several = keras.Model([one, two], keras.layers.Dense(1)(keras.layers.Add()([one, two])))
    with pytest.raises(ValueError, match="model with one input"):
        received.check((np.zeros((2, 4)), np.zeros(2)), several, name="training")


class Masks(keras.utils.PyDataset):
    """Two batches of masks; the second holds a class that the first has not."""

    asked = 0

    def __len__(self):
        return 2

    def __getitem__(self, index):
        self.asked += 1
        return np.zeros((3, 4, 4, 1), np.float32), np.full((3, 4, 4), index)


def test_masks_of_a_pydataset_are_looked_at_batch_by_batch():
    dataset = Masks()
    np.testing.assert_array_equal(feed.labels(dataset), np.zeros((3, 4, 4)))
    assert dataset.asked == 1
    seen_labels = []
    wrapped = feed.Wrapped(dataset, encode=identity, check=seen_labels.append)
    wrapped[1]
    assert seen_labels[0].mean() == 1
    assert wrapped.size == 3
    assert tuple(wrapped.image_shape) == (4, 4, 1)


def test_an_error_in_the_check_of_a_batch_is_kept():
    def refuse(y):
        raise ValueError("class 1 is not known")

    wrapped = feed.Wrapped(Masks(), encode=identity, check=refuse)
    with pytest.raises(ValueError, match="class 1 is not known"):
        wrapped[0]
    assert isinstance(wrapped.failure, ValueError)


def test_weights_of_a_pydataset_do_not_reach_validation():
    class Weighted(Masks):
        def __getitem__(self, index):
            return (*super().__getitem__(index), np.ones(3))

    found = list(feed.batches(Weighted(), 3))
    assert [(x.shape, int(y.mean())) for x, y in found] == [((3, 4, 4, 1), 0), ((3, 4, 4, 1), 1)]


def mixing(mix, seed=0, size=4):
    x = np.stack([np.full((4, 4, 1), case, np.float32) for case in range(8)])
    y = np.arange(8) % 2
    return feed.Feed(x, y, encode=lambda y: np.eye(2, dtype=np.float32)[y], batch_size=size, seed=seed, mix=mix)


def test_mixed_images_have_labels_in_the_same_shares():
    """Image k has the value k everywhere and the label k mod 2, so that a pair's share can be read from its value."""
    batches = mixing(augment.mixup)
    for index in range(len(batches)):
        cases = batches.cases_of(index)
        x, y = batches[index]
        np.testing.assert_allclose(y.sum(1), 1, rtol=1e-6)
        for value, shares, case in zip(x[:, 0, 0, 0], y, cases, strict=True):
            pairs = [(case, other, (value - other) / (case - other)) for other in cases if other != case]
            fitting = [
                a * np.eye(2)[one % 2] + (1 - a) * np.eye(2)[other % 2] for one, other, a in pairs if -1e-6 <= a <= 1
            ]
            assert value == pytest.approx(case) or any(np.allclose(shares, each, atol=1e-4) for each in fitting)
    assert any(not np.isin(batches[index][1], (0, 1)).all() for index in range(2))


def test_parts_of_two_processes_are_the_mixed_batch_of_one():
    whole, parts = mixing(augment.cutmix)[0], []
    for rank in (0, 1):
        batches = mixing(augment.cutmix)
        batches.share(1, 2, rank)
        parts.append(batches[0])
    for one, *halves in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(np.concatenate(halves), one)


def test_training_with_mixed_cases_still_learns_and_says_what_cannot_be_mixed():
    rng = np.random.default_rng(0)
    y = np.arange(64) % 2
    x = (rng.normal(size=(64, 8, 8, 1)) + 2 * y[:, None, None, None]).astype(np.float32)
    wish = {"epochs": 6, "batch_size": 16, "progress": False, "learning_rate": 3e-3}
    network = models.small_cnn((8, 8, 1), 2, width=4)
    train.fit(network, (x, y), mix=augment.mixup, **wish)
    assert train.auc(y, network.predict(x, verbose=0)[:, 0]) > 0.95
    with pytest.raises(ValueError, match="class_weight=None with mix"):
        train.fit(network, (x, y), mix=augment.mixup, class_weight="balanced", **wish)
    with pytest.raises(ValueError, match=r"Expected mix as a function .* Received 'mixup'"):
        train.fit(network, (x, y), mix="mixup", **wish)
    with pytest.raises(ValueError, match="A PyDataset mixes by itself"):
        train.fit(network, feed.Feed(x, y, encode=identity), mix=augment.mixup, **wish)
    masks = models.unet((16, 16, 1), 2, width=4, levels=2)
    with pytest.raises(ValueError, match="Received the task 'segmentation'"):
        train.fit(masks, (np.zeros((4, 16, 16, 1)), np.indices((4, 16, 16))[2] // 8), mix=augment.mixup, **wish)


def test_the_loss_that_takes_no_shares_is_named():
    x, y = np.zeros((4, 8, 8, 1), np.float32), np.arange(4) % 2
    network = models.small_cnn((8, 8, 1), 2, width=4)
    with pytest.raises(ValueError, match=r'The loss focal was given, with labels as whole numbers .* take loss="auto"'):
        train.fit(network, (x, y), mix=augment.mixup, loss="focal", epochs=1, progress=False)
    sparse = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with pytest.raises(ValueError, match="The loss sparse_categorical_crossentropy was given"):
        train.fit(models.small_cnn((8, 8, 1), 3, width=4), (x, np.arange(4) % 3), mix=augment.mixup, loss=sparse,
                  epochs=1, progress=False)  # fmt: skip


def no_keys(a, b):
    return a, b


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        (
            no_keys,
            r"Expected mix as a function mix\(x, y, keys=keys, seed=seed\) .* first two cases it failed: TypeError",
        ),
        (lambda x, y, keys, seed: x, "it gave no pair but ndarray"),
        (lambda x, y, keys, seed: (x[:1], y[:1]), r"\(2, 8, 8, 1\) and \(2, 1\), it made \(\(1, 8, 8, 1\), \(1, 1\)\)"),
    ],
)
def test_a_function_that_cannot_mix_is_refused_before_training(mix, message):
    network = models.small_cnn((8, 8, 1), 2, width=4)
    before = [np.asarray(weight).copy() for weight in network.weights]
    with pytest.raises(ValueError, match=message):
        train.fit(network, (np.ones((4, 8, 8, 1)), np.arange(4) % 2), mix=mix, epochs=1, progress=False)
    for old, new in zip(before, network.weights, strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_trial_of_mix_leaves_the_images_alone():
    def careless(x, y, keys, seed):
        assert (keys.shape, keys.dtype.kind) == ((len(x), 3), "i")
        x[:], y[:] = 9, 0
        return x, y

    x, y = np.ones((4, 8, 8, 1), np.float32), np.arange(4) % 2
    train.fit(models.small_cnn((8, 8, 1), 2, width=4), (x, y), mix=careless, epochs=1, progress=False)
    assert (x == 1).all()
    np.testing.assert_array_equal(y, [0, 1, 0, 1])
