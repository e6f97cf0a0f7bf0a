"""A few labels and many images without: the loss by hand, the batches, and what is learned from images alone."""

import keras
import numpy as np
import pytest

from medlab import models, train
from medlab.train.unlabeled.consistency import Consistent, together
from medlab.train.unlabeled.pretraining import _views
from medlab.train.unlabeled.rounds import copies
from medlab.train.unlabeled.semisupervised import _policy
from medlab.train.unlabeled.views import Beside, parts_of
from tests.test_train_unlabeled import stripes, tiny, values


def softplus(value):
    return np.log1p(np.exp(value))


def test_the_loss_of_fixmatch_by_hand():
    logits = np.array([[[0.0, 1.0], [0.0, 4.0], [0.0, 1.0], [0.0, -2.0], [0.0, 0.5]]], np.float32)
    y = np.array([[1.0, 0.5]], np.float32)
    # Labeled: softplus(-1). Weak answers 0.982 (class 1, sure) and 0.731 (not sure enough for 0.95).
    wanted = softplus(-1.0) + 3 * 0.5 * (softplus(2.0) + 0) / 2
    made = np.asarray(Consistent(2, weight=3.0, threshold=0.95)(y, logits))
    np.testing.assert_allclose(made, [wanted], rtol=1e-5)


def test_the_loss_of_the_mean_teacher_by_hand():
    logits = np.array([[[0.0, -1.0], [0.0, 2.0], [0.0, -3.0]]], np.float32)
    p = 1 / (1 + np.exp(-np.array([2.0, -3.0])))
    wanted = softplus(-1.0) + 10 * (p[0] - p[1]) ** 2
    made = np.asarray(Consistent(1, weight=10.0, threshold=None)(np.array([[0.0, 1.0]], np.float32), logits))
    np.testing.assert_allclose(made, [wanted], rtol=1e-5)


def test_the_answers_of_a_row_are_those_of_its_images():
    model = tiny(3)
    x, _ = stripes(10)
    rows = x.reshape(2, 5, 16, 16, 1)
    alone = np.asarray(model(x)).reshape(2, 5, 3)
    for momentum in (None, 0.9):  # the follower starts as the network
        network = together(model, (16, 16, 1), 2, momentum=momentum)
        np.testing.assert_allclose(np.asarray(network(rows)), alone, atol=1e-5)
    # The follower answers for the weak views and for no other: here it knows nothing.
    for one in network.get_layer("followed").follower.get_layer("logits").weights:
        one.assign(np.zeros(one.shape))
    made = np.asarray(network(rows))
    np.testing.assert_array_equal(made[:, 1:3], 0)
    np.testing.assert_allclose(made[:, [0, 3, 4]], alone[:, [0, 3, 4]], atol=1e-5)


def test_a_batch_holds_labeled_weak_and_strong_views_of_the_same_cases():
    x = np.arange(6, dtype=np.float32).reshape(6, 1, 1, 1)
    others = 100 + np.arange(8, dtype=np.float32).reshape(8, 1, 1, 1)
    data = Beside(
        (x, np.arange(6) % 2), others, None, lambda x, keys: (x + 1000, None), batch_size=4, ratio=2, steps=5, ramp=2,
        seed=0,
    )  # fmt: skip
    rows, y = zip(*(data[n] for n in range(5)), strict=True)
    rows, y = np.concatenate(rows)[..., 0, 0, 0], np.concatenate(y)
    assert rows.shape == (20, 5)
    np.testing.assert_array_equal(rows[:, 0] % 2, y[:, 0])
    np.testing.assert_array_equal(rows[:, 1:3] + 1000, rows[:, 3:])
    assert np.bincount(rows[:, 0].astype(int)).min() == 3  # 20 draws of 6 cases, as even as can be
    assert np.unique(rows[:, 1:3]).tolist() == list(range(100, 108))
    assert y[0, 1] == pytest.approx(np.exp(-5))
    data.start_epoch(2)
    assert data[0][1][0, 1] == 1


@pytest.mark.parametrize(("known", "guessed", "times"), [(10, 100, 10), (10, 3, 1), (10, 0, 1), (100, 151, 2)])
def test_known_labels_are_not_drowned(known, guessed, times):
    assert copies(known, guessed) == times


@pytest.mark.parametrize("method", ["fixmatch", "mean_teacher", "pseudo_label"])
def test_images_without_labels_are_named_from_a_few_with_them(method, tmp_path):
    x, y = stripes(96)
    model = tiny()
    made = train.fit_semisupervised(
        model, (x[:8], y[:8]), x[8:], method=method, steps=40, epochs=4, batch_size=8, rounds=1, threshold=0.8,
        learning_rate=0.03, progress=False, run=tmp_path, precision="float32",
    )  # fmt: skip
    assert made.probabilities.shape == (88, 2)
    assert np.mean(made.probabilities.argmax(axis=1) == y[8:]) > 0.9
    np.testing.assert_array_equal(made.taken, made.probabilities.max(axis=1) >= 0.8)
    folder = tmp_path / "round1" if method == "pseudo_label" else tmp_path
    again = models.load(folder / "model.keras")
    np.testing.assert_allclose(np.asarray(again(x[:4])), np.asarray(model(x[:4])), atol=1e-4)
    assert len(made.history) == (8 if method == "pseudo_label" else 4)
    assert made.choices["labels"] == "8, beside 88 images without"


def test_the_unlabeled_loss_moves_the_weights():
    x, y = stripes(24)
    made = []
    for weight in (1e-9, 50.0):
        model = tiny()
        train.fit_semisupervised(
            model, (x[:4], y[:4]), x[4:], method="mean_teacher", steps=6, epochs=1, batch_size=4, weight=weight,
            progress=False, precision="float32",
        )  # fmt: skip
        made.append(values(model.get_layer("map"))[0])
    assert np.abs(made[0] - made[1]).max() > 1e-4


def test_the_same_seed_gives_the_same_numbers():
    x, y = stripes(24)
    made = []
    for _ in range(2):
        model = tiny()
        settings = {"steps": 6, "epochs": 2, "batch_size": 4, "progress": False}
        made.append(train.fit_semisupervised(model, (x[:4], y[:4]), x[4:], **settings).probabilities)
    np.testing.assert_array_equal(*made)
    assert np.ptp(made[0]) > 0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"method": "guess"}, "Expected method to be one of"),
        ({"unlabeled": np.zeros((0, 16, 16, 1))}, "at least one unlabeled image"),
        ({"unlabeled": np.zeros((3, 12, 16, 1))}, "unlabeled image of shape"),
        ({"unlabeled": np.full((3, 16, 16, 1), np.inf)}, "NaN, infinity"),
        ({"unlabeled": np.arange(3.0)[:, None, None, None] * np.ones((16, 16, 1))}, "Every image is constant"),
        ({"unlabeled": np.repeat(np.eye(16)[None, ..., None], 3, axis=0)}, "All images are the same"),
        ({"threshold": 0.5}, "threshold above 1/2"),
        ({"ratio": 0}, "ratio as a whole number"),
        ({"steps": 2.5}, "steps as a whole number"),
        ({"momentum": 5.0}, "momentum from 0 to below 1"),
        ({"weight": -3}, "weight of 0 or above"),
        ({"threshold": "much"}, "threshold as a number"),
        ({"unlabeled": None}, "at least one unlabeled image"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(wrong, said):
    x, y = stripes(8)
    settings = {"unlabeled": x, "progress": False, **wrong}
    with pytest.raises(ValueError, match=said):
        train.fit_semisupervised(tiny(), (x, y), settings.pop("unlabeled"), **settings)


def test_a_softmax_at_the_end_is_refused_wherever_it_stands():
    x, y = stripes(8)
    inner = tiny(3)
    image = keras.Input((16, 16, 1))
    behind = keras.Model(image, keras.layers.Softmax()(inner(image)))
    outer = keras.Model(image, behind(image))
    for model in (behind, outer):
        with pytest.raises(ValueError, match="ends in softmax"):
            train.fit_semisupervised(model, (x, y), x, progress=False)


@pytest.mark.parametrize(
    ("steps", "epochs", "parts"), [(7, 4, 7), (150, 100, 75), (600, 10, 10), (1, 10, 1), (12, 5, 6)]
)
def test_steps_are_divided_without_a_rest(steps, epochs, parts):
    assert parts_of(steps, epochs) == parts
    assert steps % parts == 0


def test_a_model_that_is_sure_of_nothing_says_so():
    x, y = stripes(24)
    with pytest.warns(UserWarning, match="No unlabeled image is sure enough"):
        made = train.fit_semisupervised(
            tiny(), (x[:4], y[:4]), x[4:], method="pseudo_label", steps=2, batch_size=4, threshold=1.0, progress=False
        )  # fmt: skip
    assert not made.taken.any()
    assert set(made.history["round"]) == {0}


class Watching:
    """No change; keeps what images a training takes, and the weights it has then."""

    def __init__(self, model):
        self.model, self.images, self.weights = model, [], []

    def __call__(self, x, keys):
        self.images.append([image.tobytes() for image in x])
        self.weights.append(values(self.model))
        return x, None


def test_a_round_of_pseudo_labels_begins_anew_with_known_and_sure_images_alike_often():
    x, y = stripes(24)
    model = tiny()
    start, weak = values(model), Watching(model)
    train.fit_semisupervised(
        model, (x[:4], y[:4]), x[4:], method="pseudo_label", weak=weak, steps=10, epochs=2, batch_size=8, rounds=1,
        threshold=0.5001, progress=False, precision="float32",
    )  # fmt: skip
    known, others = ({image.tobytes() for image in part} for part in (x[:4], x[4:]))
    second = next(n for n, images in enumerate(weak.images) if others & set(images))
    assert second >= 10
    assert set().union(*weak.images[:second]) == known
    taken = [image for images in weak.images[second:] for image in images]
    assert set(taken) == known | others
    assert np.mean([image in known for image in taken]) == pytest.approx(0.5, abs=0.05)
    for first, last, again in zip(start, weak.weights[second - 1], weak.weights[second], strict=True):
        assert first.size < 3 or not np.array_equal(first, last)
        np.testing.assert_array_equal(first, again)


def test_strong_views_move_twice_as_far_as_weak_ones_and_none_is_mirrored():
    axis = np.arange(32)
    spot = np.exp(-((axis[:, None] - 9) ** 2 + (axis - 11) ** 2) / 8)[..., None].astype(np.float32)
    keys = np.column_stack([np.zeros((200, 2), int), np.arange(200)])
    moved = []
    for change in (_policy(2, 0, 1.0), _policy(2, 0, 2.0), _views(2, 0)):  # weak, strong, those of pretraining
        made = change(np.repeat(spot[None], 200, axis=0), keys=keys)[0]
        at = np.stack(np.unravel_index(made.reshape(200, -1).argmax(axis=1), (32, 32)), axis=1)
        assert np.mean((at < 16).all(axis=1)) > 0.85  # at most one half, were they mirrored along an axis
        moved.append(np.linalg.norm(at - [9, 11], axis=1).mean())
    assert moved[1] / moved[0] == pytest.approx(2, abs=0.4)
    assert moved[0] > 1
    assert moved[2] > 1


def test_pseudo_labels_are_resumed_from_the_first_weights(tmp_path):
    x, y = stripes(24)
    start = values(tiny())
    made = []
    for name, stops in (("whole", None), ("cut", 1)):
        model = tiny()
        model.set_weights(start)
        settings = {"method": "pseudo_label", "steps": 4, "epochs": 2, "batch_size": 4, "threshold": 0.51, "rounds": 1}
        settings |= {"progress": False, "run": tmp_path / name}
        if stops is not None:
            with pytest.raises(KeyboardInterrupt):
                train.fit_semisupervised(model, (x[:4], y[:4]), x[4:], weak=Interrupted(), **settings)
        train.fit_semisupervised(model, (x[:4], y[:4]), x[4:], weak=still, resume=stops is not None, **settings)
        made.append(values(model))
    for one, other in zip(*made, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def still(x, keys):
    """No change."""
    return x, None


class Interrupted:
    """No change, until someone presses Ctrl-C in the second round."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x, keys):
        self.calls += 1
        if self.calls > 6:
            raise KeyboardInterrupt
        return x, None


@pytest.mark.parametrize("method", ["fixmatch", "pseudo_label"])
def test_other_unlabeled_images_are_not_resumed_with(method, tmp_path):
    x, y = stripes(24)
    settings = {"method": method, "steps": 2, "epochs": 1, "rounds": 1, "threshold": 0.51, "progress": False}
    settings |= {"batch_size": 4, "run": tmp_path}
    train.fit_semisupervised(tiny(), (x[:4], y[:4]), x[4:14], **settings)
    with pytest.raises(ValueError, match="had other settings"):
        train.fit_semisupervised(tiny(), (x[:4], y[:4]), -x[14:], resume=True, **settings)


def test_a_fresh_start_leaves_no_old_round_to_resume(tmp_path):
    x, y = stripes(24)
    settings = {"method": "pseudo_label", "steps": 2, "epochs": 1, "rounds": 1, "threshold": 0.51, "progress": False}
    settings |= {"batch_size": 4, "run": tmp_path}
    train.fit_semisupervised(tiny(), (x[:4], y[:4]), x[4:], **settings)
    kept = tmp_path / "rounds of mine" / "last.npz"
    kept.parent.mkdir()
    kept.touch()
    assert (tmp_path / "round1" / "last.npz").is_file()
    with pytest.warns(UserWarning, match="sure enough"):
        train.fit_semisupervised(tiny(), (x[:6], 1 - y[:6]), x[6:], **(settings | {"threshold": 1.0}))
    assert (tmp_path / "round0" / "last.npz").is_file()
    assert not (tmp_path / "round1" / "last.npz").is_file()
    assert kept.is_file()


def test_images_in_other_units_are_spoken_of():
    x, y = stripes(8)
    with pytest.warns(UserWarning, match="in other units, it seems"):
        train.fit_semisupervised(tiny(), (x, y), 4000 * x, steps=1, epochs=1, batch_size=4, progress=False)


def test_a_change_without_keys_and_labels_beside_images_are_refused():
    x, y = stripes(8)
    with pytest.raises(ValueError, match="takes no keys"):
        train.fit_semisupervised(tiny(), (x, y), x, weak=lambda images: images, steps=1, progress=False)
    with pytest.raises(ValueError, match="images alone, without labels"):
        train.fit_semisupervised(tiny(), (x, y), (x, y), steps=1, progress=False)
    with pytest.raises(ValueError, match=r"such as -1, 1.*as unlabeled"):
        train.fit_semisupervised(tiny(), (x, np.where(np.arange(8) % 2, -1, 1)), x, steps=1, progress=False)
