"""One harness for every network: seeded starts, a step that lowers the loss, a saved copy that answers the same.

``tests/test_jax_models.py`` runs this file on JAX.
"""

import warnings

import keras
import numpy as np
import pytest

from medlab import models

# Keras hands variables to np.array, whose argument copy they do not know yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

# No dropout, so that the loss before and after a step is of one network. A function takes the seed.
NETWORKS = {
    "baseline_cnn": lambda seed: models.baseline_cnn((10, 8, 1), seed=seed),
    "small_cnn": lambda seed: models.small_cnn((8, 10, 1), 3, width=4, dropout=0, seed=seed),
    "small_cnn large": lambda seed: models.small_cnn((66, 16, 1), width=4, dropout=0, seed=seed),
    "small_cnn 3-D": lambda seed: models.small_cnn((8, 8, 10, 1), width=4, dropout=0, norm="group", seed=seed),
    "resnet 10": lambda seed: models.resnet((8, 10, 1), 3, depth=10, width=4, seed=seed),
    "resnet 10 large": lambda seed: models.resnet((66, 32, 2), depth=10, width=4, seed=seed),
    "resnet 10 3-D": lambda seed: models.resnet((9, 8, 10, 1), depth=10, width=4, seed=seed),
    "densenet121": lambda seed: models.densenet121((8, 10, 1), 3, growth=4, units=(1, 2, 2, 1), seed=seed),
    "densenet121 3-D": lambda seed: models.densenet121((8, 8, 9, 1), growth=4, units=(1, 1, 1, 2), seed=seed),
    "backbone": lambda seed: models.backbone("MobileNetV3Small", (32, 32, 1), 3, dropout=0, seed=seed),
    "two_and_half_d": lambda seed: models.two_and_half_d((8, 10, 5, 1), dropout=0, average="attention", seed=seed),
    "projection": lambda seed: models.projection((8, 9, 10, 1), 3, dropout=0, seed=seed),
    "slice_rnn": lambda seed: models.slice_rnn((8, 10, 5, 1), width=4, dropout=0, seed=seed),
    "slice_mean": lambda seed: models.slice_mean((8, 10, 5, 1), 3, width=4, dropout=0, seed=seed),
    "conv_lstm": lambda seed: models.conv_lstm((8, 10, 5, 1), width=4, dropout=0, seed=seed),
    "unet": lambda seed: models.unet((16, 16, 1), 3, width=4, levels=2, seed=seed),
    "unet 3-D": lambda seed: models.unet((16, 16, 16, 1), 2, width=4, levels=2, seed=seed),
    "vit": lambda seed: models.vit((16, 8, 1), 3, patch=4, width=8, depth=1, heads=2, dropout=0, seed=seed),
    "vit 3-D": lambda seed: models.vit((8, 8, 4, 1), width=8, depth=1, heads=2, pool="token", dropout=0, seed=seed),
    "ensemble": lambda seed: models.ensemble(
        [models.small_cnn((8, 8, 1), 3, width=4, dropout=0, seed=10 * seed + member) for member in range(2)]
    ),
}
OTHER_NAMES = {
    "NETWORKS", "cost", "decoder", "encoder", "latent_divergence", "load", "make", "match_parameters", "slice_weights",
    "with_head",
}  # fmt: skip
NO_CLASSIFIERS = {"GAN", "autoencoder", "denoising_autoencoder", "gan", "masked_autoencoder", "vae"}
"""Networks that give images; they have test files of their own."""


def arrays_of(model):
    return [keras.ops.convert_to_numpy(one) for one in model.weights]


def test_every_network_is_here():
    made = {name.split()[0] for name in NETWORKS}
    assert set(models.__all__) - OTHER_NAMES - NO_CLASSIFIERS == made
    assert set(models.NETWORKS) == made - {"backbone", "ensemble"}  # those that take an image's shape and classes


def test_a_network_by_its_name():
    model = models.make("resnet", (16, 16, 1), 3, depth=10, width=4, seed=1)
    same = models.resnet((16, 16, 1), 3, depth=10, width=4, seed=1)
    for first, second in zip(arrays_of(model), arrays_of(same), strict=True):
        np.testing.assert_array_equal(first, second)
    assert models.make("MobileNetV3Small", (32, 32, 1), 3, dropout=0.1).name == "MobileNetV3Small"
    with pytest.raises(ValueError, match=r"Received 'resnet18'. Did you mean 'resnet'\?"):
        models.make("resnet18", (16, 16, 1))
    with pytest.raises(ValueError, match=r"Expected a network of baseline_cnn, .* Received 'load'"):
        models.make("load", (16, 16, 1))
    with pytest.raises(ValueError, match=r"small_cnn has no setting 'depth'. It has width, norm, dropout"):
        models.make("small_cnn", (16, 16, 1), depth=3)


@pytest.mark.parametrize("name", NETWORKS)
def test_network(name, tmp_path):
    model, again, other = (NETWORKS[name](seed) for seed in (1, 1, 2))
    for first, second in zip(arrays_of(model), arrays_of(again), strict=True):
        np.testing.assert_array_equal(first, second)
    assert any(not np.array_equal(a, b) for a, b in zip(arrays_of(model), arrays_of(other), strict=True))

    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, *model.input_shape[1:])).astype(np.float32)
    classes = model.output_shape[-1]
    y = rng.integers(0, max(classes, 2), (6, *model.output_shape[1:-1]))
    y.ravel()[: max(classes, 2)] = np.arange(max(classes, 2))
    kind = keras.losses.BinaryCrossentropy if classes == 1 else keras.losses.SparseCategoricalCrossentropy
    # Compiling a graph would take longer than the two steps; on JAX single operations take longer.
    eager = keras.backend.backend() == "tensorflow"
    model.compile(keras.optimizers.SGD(1e-3), kind(from_logits=True), run_eagerly=eager)
    before = float(model.train_on_batch(x, y))
    model.reset_metrics()
    assert float(model.train_on_batch(x, y)) < before

    answer = keras.ops.convert_to_numpy(model(x, training=False))
    assert np.isfinite(answer).all()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
        model.save(tmp_path / "model.keras")
    loaded = models.load(tmp_path / "model.keras")
    assert (loaded.name, loaded.output_shape) == (model.name, model.output_shape)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(loaded(x, training=False)), answer)
