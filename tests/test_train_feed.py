"""Batches: every case once, an order that follows from seed and epoch, and data that is refused."""

import keras
import numpy as np
import pytest

from medlab.train import feed


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
        feed.check((x, y), model(4, 4, 1), name="training")


def test_images_with_nan_are_named():
    x = np.zeros((5, 4, 4, 1), np.float32)
    x[1, 2, 2], x[4, 0, 0] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"2 of 5 training images hold NaN or infinity, the first are cases \[1, 4\]"):
        feed.check((x, np.zeros(5)), model(4, 4, 1), name="training")


def test_other_forms_are_refused():
    with pytest.raises(ValueError, match=r"Expected validation data as \(x, y\)"):
        feed.check(np.zeros((2, 4, 4, 1)), model(4, 4, 1), name="validation")
    one, two = keras.Input((4,)), keras.Input((4,))
    several = keras.Model([one, two], keras.layers.Dense(1)(keras.layers.Add()([one, two])))
    with pytest.raises(ValueError, match="model with one input"):
        feed.check((np.zeros((2, 4)), np.zeros(2)), several, name="training")


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
