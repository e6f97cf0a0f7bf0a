"""Segmentation in fit: Dice by hand, masks that move with their images, unknown voxels, deep supervision."""

import keras
import numpy as np
import pytest

from medlab import augment, train
from medlab.train import feed, losses, received, score, supervision

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def squares(n, seed, size=16, rank=2):
    """Noise with a brighter box of class 1 and a still brighter one of class 2."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, *[size] * rank, 1)).astype(np.float32)
    y = np.zeros((n, *[size] * rank), np.int64)
    for case in range(n):
        for label in (1, 2):
            y[(case, *(slice(start, start + 5) for start in rng.integers(1, size - 6, rank)))] = label
    x[..., 0] += 3 * y
    return x, y


def network(classes=3, size=16, rank=2, stages=True, activation=None):
    """Two levels; the coarse one feeds the fine one."""
    kind = "23"[rank - 2]
    convolution, pool = getattr(keras.layers, f"Conv{kind}D"), getattr(keras.layers, f"MaxPooling{kind}D")
    larger = getattr(keras.layers, f"UpSampling{kind}D")
    image = keras.Input((*[size] * rank, 1))

    def block(x, name, seed):
        start = keras.initializers.GlorotUniform(seed)
        return convolution(6, 3, padding="same", activation="elu", kernel_initializer=start, name=name)(x)

    fine = block(image, "encode1", 0)
    coarse = block(pool()(fine), "decode2" if stages else "coarse", 1)
    out = block(keras.layers.Concatenate()([fine, larger()(coarse)]), "decode1", 2)
    start = keras.initializers.GlorotUniform(3)
    logits = convolution(classes, 1, kernel_initializer=start, activation=activation, name="logits")(out)
    return keras.Model(image, logits, name="tiny_unet")


def quiet(model, *data, **changes):
    return train.fit(
        model, *data, **{"epochs": 1, "batch_size": 8, "progress": False, "learning_rate": 0.01, **changes}
    )


def test_dice_by_hand():
    # Case 0: class 1 has 2 true and 1 found voxel, 1 of them shared: 2 * 1 / 3. Class 2: 1 and 2, 1 shared: 2/3.
    # Case 1: class 1 alone, missed: 0. Case 2: nothing there, nothing found: no score. Case 3: found where none is: 0.
    truth = np.array([[[1, 1, 2, 0]], [[1, 0, 0, 0]], [[0, 0, 0, 0]], [[0, 0, 0, 0]]])
    found = np.array([[[1, 2, 2, 0]], [[0, 0, 0, 0]], [[0, 0, 0, 0]], [[0, 0, 2, 0]]])
    np.testing.assert_allclose(score.dice(truth, np.eye(3)[found]), [2 / 3, 0, np.nan, 0])
    # An unknown voxel counts neither here nor there.
    truth[0, 0, 1], truth[3, 0, 2] = -1, -1
    np.testing.assert_allclose(score.dice(truth, np.eye(3)[found])[[0, 3]], [(1 + 1) / 2, np.nan])


def test_it_learns_boxes_and_the_history_says_the_dice_of_the_kept_weights(tmp_path):
    held_out = squares(16, 1)
    fitted = quiet(network(), squares(64, 0), held_out, epochs=5, batch_size=4, run=tmp_path, precision="float32")
    best = fitted.history.iloc[fitted.best_epoch - 1]
    assert best["val_dice"] == fitted.history["val_dice"].max() > 0.8
    out = fitted.model.predict(held_out[0], verbose=0)
    assert np.nanmean(score.dice(held_out[1], out)) == pytest.approx(best["val_dice"], abs=1e-4)
    assert list(fitted.history) == ["epoch", "loss", "val_loss", "val_dice", "learning_rate", "seconds"]
    assert "best validation Dice" in fitted.choices["best weights"]
    assert fitted.choices["loss"].startswith("Dice + cross-entropy: one of 3 classes a voxel")
    saved = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    assert [weight.path for weight in saved.weights] == [weight.path for weight in network().weights]
    np.testing.assert_array_equal(saved.predict(held_out[0], verbose=0), out)


def test_volumes_and_masks_with_a_last_axis_and_a_pydataset_give_the_same_numbers():
    x, y = squares(8, 0, size=12, rank=3)
    masks = quiet(network(size=12, rank=3), (x, y), (x, y), batch_size=4)
    np.testing.assert_array_equal(received.check((x, y[..., None]), network(size=12, rank=3), name="training")[1], y)

    class Data(keras.utils.PyDataset):
        def __init__(self):
            super().__init__()
            self.order = np.random.default_rng([0, 0]).permutation(8)

        def __len__(self):
            return 2

        def __getitem__(self, index):
            rows = self.order[4 * index : 4 * index + 4]
            return x[rows], y[rows]

    ready = quiet(network(size=12, rank=3), Data(), Data(), batch_size=4)
    assert ready.history["loss"][0] == pytest.approx(masks.history["loss"][0], rel=1e-5)
    assert ready.history["val_dice"][0] == pytest.approx(masks.history["val_dice"][0], abs=1e-6)


def test_masks_move_with_their_images():
    x = np.zeros((6, 16, 16, 1), np.float32)
    y = np.zeros((6, 16, 16), np.int64)
    for case in range(6):
        y[case, 2 : 5 + case, 3:9] = 1
    x[..., 0] = y * (1 + np.arange(16))
    policy = augment.policy("none", rank=2, seed=0, flip=(0, 1))
    batches = feed.Feed(x, y, encode=lambda mask: mask, augment=policy, batch_size=6, masks=True)
    moved, masks = batches[0]
    assert not np.array_equal(masks, y[batches.order])
    np.testing.assert_array_equal(moved[..., 0] > 0, masks == 1)

    def forgets(x, mask, keys):
        return x, None

    with pytest.raises(ValueError, match=r"augment to give masks of shape \(8, 16, 16\). It gave \(\)"):
        quiet(network(), squares(16, 0), augment=forgets)


def test_unknown_voxels_teach_nothing():
    x, y = squares(8, 0)
    hidden = y.copy()
    hidden[:, :8] = -1
    other = x.copy()
    other[:, :3] = 7.0  # far from every voxel that is known
    loss = [
        quiet(network(stages=False), (images, hidden), batch_size=8, ema=None, precision="float32").history["loss"][0]
        for images in (x, other)
    ]
    assert loss[0] == pytest.approx(loss[1], rel=1e-6)
    assert loss[0] != pytest.approx(quiet(network(stages=False), (x, y), batch_size=8).history["loss"][0], rel=1e-3)


def test_a_validation_set_without_foreground_falls_back_to_the_loss():
    x, _ = squares(8, 1)
    model = network()
    model.get_layer("logits").bias.assign([50.0, 0, 0])  # it finds nothing either
    fitted = quiet(model, squares(8, 0), (x, np.zeros(x.shape[:-1], int)), epochs=2, learning_rate=1e-6)
    assert fitted.history["val_dice"].isna().all()
    assert fitted.best_epoch == fitted.history["epoch"][fitted.history["val_loss"].argmin()]


@pytest.mark.parametrize("name", ["dice", "tversky", "focal", "focal_tversky", "boundary"])
def test_losses_by_name(name):
    x, y = squares(4, 0)
    model = network(stages=False)
    made = getattr(losses, name)()
    wanted = float(made(made.encode(y, 3), model(x)))
    for loss in (name, made):
        chosen = losses.choose(model, y, loss)
        assert chosen.task == "segmentation"
        assert float(chosen.loss(chosen.encode(y), model(x))) == wanted
        assert chosen.reason == f"{name}, as given"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x, y + 1), r"labels 0 to 2, or below 0 for unknown voxels, .* Received \[3\]"),
        (lambda x, y: (x, y + 0.5), r"Received \[0.5, 1.5, 2.5\]"),
        (lambda x, y: (x, 0 * y), "All voxels of the 8 training masks have the same class 0"),
        (lambda x, y: (x, 0 * y - 1), "All voxels of the 8 training masks are unknown"),
        (lambda x, y: (x, y[:, ::2]), r"masks on the grid of their images. Received x \(8, 16, 16, 1\) and y \(8, 8"),
        (lambda x, y: (x, y.astype(float) * np.nan), "have NaN as label"),
    ],
)
def test_masks_that_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        quiet(network(), change(*squares(8, 0)))


def test_wishes_that_do_not_fit_masks():
    data = squares(8, 0)
    with pytest.raises(ValueError, match=r"at least two classes, background included"):
        quiet(network(classes=1), data)
    with pytest.raises(ValueError, match="takes logits, but the model ends in softmax"):
        quiet(network(activation="softmax"), data)
    with pytest.raises(ValueError, match="Class weights need one class a case"):
        quiet(network(), data, class_weight="balanced")
    with pytest.raises(ValueError, match="Leave it at 0 for segmentation"):
        quiet(network(), data, label_smoothing=0.1)
    image = keras.Input((16, 16, 1))
    flat = keras.Model(image, keras.layers.Dense(1)(keras.layers.Flatten()(image)))
    with pytest.raises(ValueError, match=r"'dice' needs masks .* the task binary"):
        quiet(flat, (data[0], np.arange(8) % 2), loss="dice")

    class Wrong(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return data[0], data[1] + 2 * index

    with pytest.raises(ValueError, match=r"\(batch of\) training labels 0 to 2.* Received \[3, 4\]"):
        quiet(network(), Wrong())


def test_deep_supervision_is_the_weighted_mean_of_the_stages_losses():
    x, y = squares(8, 0)
    model = network()
    loss = losses.choose(model, y).loss
    trainee = supervision.Trainee(model, ["decode2"], seed=5)
    trainee.compile("sgd", loss)
    fine, coarse = trainee(x, training=True)
    wanted = (2 * float(loss(y, fine)) + float(loss(y[:, 1::2, 1::2], coarse))) / 3
    assert float(trainee.compute_loss(x, y, [fine, coarse])) == pytest.approx(wanted, rel=1e-6)
    assert trainee.shares == pytest.approx([2 / 3, 1 / 3])
    np.testing.assert_array_equal(trainee(x, training=False), model(x))
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(trainee.heads[0](keras.Model(model.input, model.get_layer("decode2").output)(x))),
        keras.ops.convert_to_numpy(coarse), atol=1e-6,
    )  # fmt: skip


def test_labels_of_a_coarser_grid_are_the_nearest():
    y = np.arange(2 * 6 * 5).reshape(2, 6, 5)
    # The centers of 3 of 6 lie at 1, 3 and 5, of 2 of 5 at 1.25 and 3.75.
    np.testing.assert_array_equal(supervision.thinned(y, np.zeros((2, 3, 2, 4))), y[:, 1::2][:, :, [1, 3]])
    np.testing.assert_array_equal(supervision.thinned(np.ones(2), np.zeros((2, 3, 2, 4))), np.ones(2))


def test_deep_supervision_is_said_changes_the_training_and_leaves_no_trace(tmp_path):
    data = squares(16, 0)
    deep = quiet(network(), data, data, run=tmp_path / "deep")
    assert deep.choices["deep supervision"] == "losses at decode2 count 1/2 of the output's, in training only"
    plain = quiet(network(), data, data, deep_supervision=False)
    assert plain.choices["deep supervision"] == "none"
    assert deep.history["loss"][0] != plain.history["loss"][0]
    assert [weight.shape for weight in deep.model.weights] == [weight.shape for weight in plain.model.weights]
    none = quiet(network(stages=False), data, data)
    assert none.choices["deep supervision"].startswith("none: the model has no stages")
    with pytest.raises(ValueError, match=r"deep_supervision=True needs .* 'tiny_unet' has none"):
        quiet(network(stages=False), data, deep_supervision=True)
    with pytest.raises(ValueError, match="Expected deep_supervision"):
        quiet(network(), data, deep_supervision="yes")


def test_missing_labels_of_several_findings():
    """By hand: a model of zeros has the loss log 2 for each label that is known, whatever is missing."""
    image = keras.Input((2, 2, 1))
    start = keras.Model(image, keras.layers.Dense(3, kernel_initializer="zeros")(keras.layers.Flatten()(image)))
    x = np.random.default_rng(0).normal(size=(4, 2, 2, 1)).astype(np.float32)
    y = np.array([[0, 1, np.nan], [1, np.nan, np.nan], [1, -1, 0], [0, 0, 1]])
    fitted = quiet(keras.models.clone_model(start), (x, y), (x, y), batch_size=4)
    assert fitted.history["loss"][0] == pytest.approx(np.log(2), rel=1e-5)
    assert "where it is known (66.7 % are)" in fitted.choices["loss"]
    again = quiet(keras.models.clone_model(start), (x, np.nan_to_num(y, nan=-1)), (x, y), batch_size=4)
    np.testing.assert_array_equal(again.model.get_weights()[0], fitted.model.get_weights()[0])
    # AUC and accuracy look at the known labels: column 1 has the pair (1, 0) of cases 0 and 3 alone.
    scores = np.array([[0.1, 0.2, 0.9], [0.8, 0.9, 0.9], [0.9, 0.9, 0.9], [0.2, 0.4, 0.1]])
    assert train.auc(y, scores) == pytest.approx((1 + 0 + 0) / 3)
    # Right: 0, 1, 2 and 3 of the first column; of the others case 3's 0 alone, for 0.4 < 0.5.
    assert score.accuracy(y, scores) == pytest.approx(5 / 8)
    smooth = losses.choose(start, y, label_smoothing=0.2)
    out = np.full((1, 3), np.log(3), np.float32)  # 0.9 and 0.1 for 1 and 0: the third is missing
    wanted = -(0.9 * np.log(0.75) + 0.1 * np.log(0.25) + 0.1 * np.log(0.75) + 0.9 * np.log(0.25)) / 2
    assert float(smooth.loss(smooth.encode(y[:1] * 0 + [1, 0, np.nan]), out)) == pytest.approx(wanted, rel=1e-5)


def test_missing_labels_are_for_several_findings_alone():
    image = keras.Input((2, 2, 1))
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(image)))
    with pytest.raises(ValueError, match="NaN as label"):
        quiet(model, (np.zeros((2, 2, 2, 1)), np.array([0, np.nan])))
    with pytest.raises(ValueError, match=r"labels 0 to 1 .* Received \[2.0\]"):
        quiet(model, (np.zeros((2, 2, 2, 1)), np.array([[0, 1, np.nan], [2, 1, 0]])))
