"""Networks: names, sizes, weights counted by hand, one step that lowers the loss, saving, and errors."""

import logging
import warnings

import keras
import numpy as np
import pytest

from medlab import models

# On JAX Keras' get_weights hands variables to np.array, whose argument copy they do not know yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def weights_of_baseline(i, j, c):
    """By hand: 3x3 convolution to 64, halved after losing a border of 1, dense 1024, dense 1; each with its bias."""
    flat = ((i - 2) // 2) * ((j - 2) // 2) * 64
    return (9 * c * 64 + 64) + (flat * 1024 + 1024) + (1024 + 1)


def test_baseline_has_the_weights_counted_by_hand():
    for shape in ((28, 20, 1), (32, 32, 3)):
        assert models.baseline_cnn(shape, 2).count_params() == weights_of_baseline(*shape)
    # The network of the design, not built here: its dense layer alone has 807 million weights.
    assert weights_of_baseline(224, 224, 3) == 807_473_921 - 1024
    assert 111 * 111 * 64 * 1024 == 807_469_056


def test_baseline_layers():
    model = models.baseline_cnn((12, 10, 3), 2)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == ["InputLayer", "Conv2D", "MaxPooling2D", "Flatten", "Dense", "Dense"]
    conv, pool, dense, last = model.layers[1], model.layers[2], model.layers[4], model.layers[5]
    assert (conv.filters, conv.kernel_size, conv.strides, conv.activation.__name__) == (64, (3, 3), (1, 1), "relu")
    assert (pool.pool_size, dense.units, dense.activation.__name__) == ((2, 2), 1024, "relu")
    assert (last.units, last.activation.__name__) == (1, "linear")


@pytest.mark.parametrize(
    ("make", "cells"),
    [
        (lambda: models.small_cnn((128, 96, 1)), (16, 12)),
        (lambda: models.small_cnn((28, 28, 3)), (7, 7)),
        (lambda: models.small_cnn((16, 16, 24, 1), width=4), (4, 4, 6)),
        (lambda: models.resnet((128, 96, 1), width=4), (4, 3)),
        (lambda: models.resnet((28, 28, 1), width=4), (4, 4)),
        (lambda: models.resnet((16, 16, 24, 1), width=4), (2, 2, 3)),
        (lambda: models.resnet((32, 32, 1), depth=50, width=4), (4, 4)),
        (lambda: models.resnet((32, 32, 32, 1), depth=10, width=4, stem_stride=2), (2, 2, 2)),
        (lambda: models.resnet((64, 32, 1), depth=10, width=4, stem_stride=4), (2, 1)),
        (lambda: models.densenet121((128, 96, 1), growth=2, units=(1, 1, 1, 1)), (4, 3)),
        (lambda: models.densenet121((28, 28, 1), growth=2, units=(1, 1, 1, 1)), (4, 4)),
        (lambda: models.densenet121((16, 16, 24, 1), growth=2, units=(1, 1, 1, 1)), (2, 2, 3)),
    ],
)
def test_size_of_the_last_map(make, cells):
    model = make()
    assert model.get_layer("stage4").output.shape[1:-1] == cells
    assert [layer.name for layer in model.layers][-1] == "logits"
    assert {"stem", "stage1", "stage2", "stage3", "features"} <= {layer.name for layer in model.layers}


def test_small_cnn_has_eight_convolutions():
    kinds = [type(layer).__name__ for layer in models.small_cnn((32, 32, 1)).layers]
    assert kinds.count("Conv2D") == 8


@pytest.mark.parametrize(("depth", "convolutions"), [(10, 9), (18, 17), (34, 33), (50, 49)])
def test_depth_counts_the_layers_on_the_longest_way(depth, convolutions):
    """As He et al. count them: the convolutions but for the shortcuts, and the dense layer."""
    model = models.resnet((32, 32, 1), depth=depth, width=4)
    found = [one for one in model.layers if type(one).__name__ == "Conv2D" and "shortcut" not in one.name]
    assert len(found) == convolutions


def test_resnet18_has_the_weights_of_the_paper():
    """11,689,512 weights with 1000 classes on 224x224x3 (torchvision's count, running statistics left out)."""
    model = models.resnet((224, 224, 3), 1000, depth=18)
    trained = sum(int(np.prod(one.shape)) for one in model.trainable_weights)
    assert trained == 11_689_512


def test_densenet121_has_the_weights_and_layers_of_the_paper():
    """7,978,856 weights with 1000 classes (torchvision's count); 120 convolutions and the dense layer."""
    model = models.densenet121((224, 224, 3), 1000)
    assert sum(int(np.prod(one.shape)) for one in model.trainable_weights) == 7_978_856
    assert sum(type(one).__name__ == "Conv2D" for one in model.layers) == 120
    assert model.name == "densenet121"
    assert models.densenet121((32, 32, 1), growth=2, units=(6, 12, 32, 32)).name == "densenet169"


def test_a_dense_unit_keeps_what_was_there_and_adds_its_growth():
    model = models.densenet121((16, 16, 1), growth=4, units=(2, 1, 1, 1))
    x = np.random.default_rng(0).normal(size=(2, 16, 16, 1)).astype(np.float32)
    inner = keras.Model(model.input, [model.get_layer(one).output for one in ("stem", "stage1_unit1", "stage1")])
    stem, first, second = (keras.ops.convert_to_numpy(one) for one in inner(x))
    assert (stem.shape[-1], first.shape[-1], second.shape[-1]) == (8, 12, 16)
    np.testing.assert_array_equal(second[..., :12], first)
    np.testing.assert_array_equal(first[..., :8], stem)


@pytest.mark.parametrize(
    ("classes", "multi_label", "outputs"), [(2, False, 1), (3, False, 3), (2, True, 2), (1, True, 1)]
)
def test_number_of_logits(classes, multi_label, outputs):
    model = models.small_cnn((16, 16, 1), classes, width=4, multi_label=multi_label)
    assert model.output_shape == (None, outputs)


@pytest.mark.parametrize(
    "make",
    [
        lambda: models.baseline_cnn((12, 12, 1), 2),
        lambda: models.small_cnn((12, 12, 1), 3, width=4),
        lambda: models.small_cnn((8, 8, 10, 1), 2, width=4, norm="group"),
        lambda: models.resnet((12, 12, 1), 3, width=4, norm=None),
        lambda: models.resnet((8, 8, 10, 2), 2, width=4),
    ],
)
def test_steps_lower_the_loss_and_a_saved_model_predicts_the_same(make, tmp_path):
    model = make()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, *model.input_shape[1:])).astype(np.float32)
    classes = model.output_shape[1]
    y = np.arange(8) % max(classes, 2)
    loss = keras.losses.BinaryCrossentropy if classes == 1 else keras.losses.SparseCategoricalCrossentropy
    model.compile(keras.optimizers.Adam(1e-3), loss(from_logits=True))
    losses = [float(model.train_on_batch(x, y)) for _ in range(6)]
    model.reset_metrics()
    assert float(model.train_on_batch(x, y)) < losses[0]
    before = model.predict(x, verbose=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
        model.save(tmp_path / "model.keras")
    after = keras.models.load_model(tmp_path / "model.keras", safe_mode=True).predict(x, verbose=0)
    np.testing.assert_array_equal(before, after)


def test_the_same_seed_starts_from_the_same_weights():
    first, same, other = (models.small_cnn((16, 16, 1), width=4, seed=seed).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_a_new_residual_unit_changes_nothing():
    """Its last normalization starts at 0: the unit is the ReLU of its input."""
    model = models.resnet((16, 16, 1), width=8)
    inner = keras.Model(model.input, [model.get_layer("stem").output, model.get_layer("stage1").output])
    before, after = inner.predict(np.random.default_rng(0).normal(size=(2, 16, 16, 1)).astype("float32"), verbose=0)
    np.testing.assert_allclose(after, before, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: models.baseline_cnn((3, 8, 1)), r"at least 4 pixels a side. Received input_shape \(3, 8, 1\)"),
        (lambda: models.small_cnn((28, 7, 1)), "small_cnn needs images of at least 8 pixels"),
        (lambda: models.resnet((28, 28, 4, 1)), "resnet needs images of at least 8 pixels"),
        (lambda: models.small_cnn((28, 28)), r"Expected input_shape \(i, j, c\) or \(i, j, k, c\)"),
        (lambda: models.small_cnn((None, 28, 1)), "positive whole numbers"),
        (lambda: models.baseline_cnn((28, 28, 28, 1)), r"Expected input_shape \(i, j, c\) in"),
        (lambda: models.small_cnn((28, 28, 1), 1), "at least 2 classes. Received 1; a binary task has classes=2"),
        (lambda: models.resnet((28, 28, 1), 2.5), "at least 2 classes"),
        (lambda: models.resnet((28, 28, 1), depth=19), r"depth to be one of \(10, 18, 34, 50\). Received 19"),
        (lambda: models.densenet121((28, 28, 1), growth=5), "growth to be an even number of channels. Received 5"),
        (lambda: models.densenet121((28, 28, 1), units=(6, 12, 24)), "four numbers of units"),
        (lambda: models.small_cnn((28, 28, 1), dropout=1), "dropout from 0 to below 1. Received 1"),
        (lambda: models.resnet((28, 28, 1), dropout=-0.1), r"dropout from 0 to below 1. Received -0\.1"),
        (lambda: models.densenet121((28, 7, 1)), "densenet121 needs images of at least 8 pixels"),
        (lambda: models.small_cnn((28, 28, 1), norm="layer"), "norm to be one of"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "side"),
    [
        (models.small_cnn, 128),
        (models.small_cnn, 28),
        (lambda shape: models.resnet(shape, depth=10, width=1, norm=None), 64),
        (lambda shape: models.resnet(shape, depth=10, width=1, norm=None), 224),
        (lambda shape: models.densenet121(shape, growth=2, units=(1, 1, 1, 1)), 64),
        (lambda shape: models.densenet121(shape, growth=2, units=(1, 1, 1, 1)), 224),
    ],
)
def test_the_last_map_lies_over_what_it_looks_at(make, side):
    """Along one axis: where the pixels that reach a cell have their center, against where the cell lies."""
    model = make((side, 16, 1))
    for layer in model.layers:
        if "conv" in layer.name and layer.weights:
            layer.set_weights(
                [np.full(one.shape, 1 / 9) if len(one.shape) > 1 else np.zeros(one.shape) for one in layer.weights]
            )
        elif layer.name.endswith("_norm"):  # the last of a residual unit starts at 0
            layer.set_weights(
                [np.ones(one.shape) if n in (0, 3) else np.zeros(one.shape) for n, one in enumerate(layer.weights)]
            )
    maps = keras.Model(model.input, model.get_layer("stage4").output)
    cells = maps.output.shape[1]
    # One row of pixels at a time.
    rows = np.eye(side, dtype=np.float32)[:, :, None, None] * np.ones((1, 1, 16, 1), np.float32)
    reached = keras.ops.convert_to_numpy(maps(rows))[:, cells // 2].sum(axis=(1, 2)).astype(float)
    center = (cells // 2 + 0.5) * side / cells - 0.5
    assert abs(np.average(np.arange(side), weights=reached) - center) <= 1


def test_tracing_several_models_is_no_warning_and_other_warnings_are(caplog):
    logger = logging.getLogger("tensorflow")
    with caplog.at_level(logging.WARNING, "tensorflow"):
        logger.propagate, before = True, logger.propagate
        logger.warning("5 out of the last 9 calls to %s triggered tf.function retracing.", "one_step")
        logger.warning("something else")
        logger.propagate = before
    assert [record.getMessage() for record in caplog.records] == ["something else"]
