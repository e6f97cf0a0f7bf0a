"""Volumes through 2-D networks: which slice goes where, against NumPy, and heat maps that lie over the volume."""

import warnings

import keras
import numpy as np
import pytest

from medlab import explain, models
from medlab.models import slicewise

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def numbers(tensor):
    return keras.ops.convert_to_numpy(tensor)


def linear(shape, *, channels=2):
    """A 2-D encoder whose map is a sum of its channels, weighted 1, 10, 100, ..., and its negative."""
    image = keras.Input(shape)
    conv = keras.layers.Conv2D(channels, 1, use_bias=False, name="conv")
    model = keras.Model(image, conv(image))
    weights = 10.0 ** np.arange(shape[-1])
    conv.kernel.assign(np.stack([weights, -weights], axis=-1)[None, None])
    return model


def part(model, layer, x):
    return numbers(keras.Model(model.input, model.get_layer(layer).output)(x))


def test_slices_are_encoded_one_by_one_and_put_back_in_order():
    encoder = models.small_cnn((8, 12, 2), width=4, seed=5)
    volume = keras.Input((8, 12, 5, 2))
    made = keras.Model(volume, slicewise.encode_slices(volume, encoder))
    x = np.random.default_rng(0).normal(size=(3, 8, 12, 5, 2)).astype(np.float32)
    alone = keras.Model(encoder.input, encoder.get_layer("stage4").output)
    expected = np.stack([numbers(alone(x[:, :, :, k])) for k in range(5)], axis=3)
    np.testing.assert_allclose(numbers(made(x)), expected, rtol=1e-4, atol=1e-5)


def test_an_encoder_may_be_a_model_within_a_model():
    inner = models.small_cnn((8, 8, 1), width=4, seed=5)
    trunk = keras.Model(inner.input, inner.get_layer("stage4").output, name="trunk")
    outer = keras.Sequential([keras.Input((8, 8, 1)), trunk, keras.layers.GlobalMaxPooling2D(), keras.layers.Dense(3)])
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32)
    np.testing.assert_allclose(numbers(slicewise.slice_encoder(outer, (8, 8, 1))(x)), numbers(trunk(x)), rtol=1e-5)


def test_features_of_each_slice():
    maps = keras.Input((2, 3, 4, 5))
    x = np.random.default_rng(0).normal(size=(2, 2, 3, 4, 5)).astype(np.float32)
    both = numbers(keras.Model(maps, slicewise.pool_slices(maps, peaks=True))(x))
    np.testing.assert_allclose(both, np.concatenate([x.mean((1, 2)), x.max((1, 2))], axis=-1), rtol=1e-5, atol=1e-6)
    mean = numbers(keras.Model(maps, slicewise.pool_slices(maps))(x))
    np.testing.assert_allclose(mean, x.mean((1, 2)), rtol=1e-5, atol=1e-6)


def test_two_and_half_d_gives_each_slice_its_neighbors():
    """Channel weights 1, 10, 100 for the slice before, the slice and the one after; the edge slice stands in."""
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5, 1)).astype(np.float32)
    model = models.two_and_half_d((3, 4, 5, 1), encoder=linear, slices=3)
    k = np.arange(5)
    before, after = np.maximum(k - 1, 0), np.minimum(k + 1, 4)
    expected = x[:, :, :, before] + 10 * x + 100 * x[:, :, :, after]
    maps = part(model, "slices", x)
    np.testing.assert_allclose(maps[..., :1], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(part(model, "features", x), maps.mean((1, 2, 3)), rtol=1e-4, atol=1e-4)


def test_attention_weighs_slices_and_the_weights_add_up_to_one():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5, 1)).astype(np.float32)
    model = models.two_and_half_d((3, 4, 5, 1), encoder=linear, slices=1, average="attention", seed=1)
    weights, features = part(model, "attention", x), part(model, "per_slice", x)
    assert weights.shape == (2, 5, 1)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
    assert weights.std() > 1e-3
    np.testing.assert_allclose(part(model, "features", x), (weights * features).sum(axis=1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("kind", "function"), [("max", np.max), ("mean", np.mean)])
def test_projections_along_each_axis(kind, function):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5, 1)).astype(np.float32)
    model = models.projection((3, 4, 5, 1), encoder=linear, kind=kind, planes=(2, 0))
    expected = []
    for plane in (2, 0):
        image = function(x, axis=plane + 1)
        maps = part(model, f"plane{plane}", x)
        np.testing.assert_allclose(
            np.squeeze(maps, plane + 1), np.concatenate([image, -image], -1), rtol=1e-4, atol=1e-5
        )
        expected += [image.mean((1, 2)), -image.mean((1, 2))]
    np.testing.assert_allclose(part(model, "features", x), np.concatenate(expected, -1), rtol=1e-4, atol=1e-5)


def test_a_shared_encoder_has_the_weights_of_one():
    one = models.small_cnn((12, 12, 1), width=4)
    trunk = one.count_params() - one.get_layer("logits").count_params()
    for model in (
        models.projection((12, 12, 12, 1), encoder=one),
        models.projection((12, 12, 12, 1), encoder=lambda shape: models.small_cnn(shape, width=4), shared=True),
    ):
        assert model.count_params() - model.get_layer("logits").count_params() == trunk
    apart = models.projection((12, 12, 12, 1), encoder=lambda shape: models.small_cnn(shape, width=4))
    assert apart.count_params() - apart.get_layer("logits").count_params() == 3 * trunk


def test_the_planes_of_one_name_start_from_different_weights():
    model = models.projection((8, 8, 8, 1), seed=0)
    first, second = (model.get_layer(f"plane{n}_encoder").get_layer("stem_conv").kernel for n in (0, 1))
    assert not np.array_equal(numbers(first), numbers(second))


def test_a_heat_map_of_slices_lies_on_the_slice_that_speaks():
    """One bright spot; the encoder passes it on, so Grad-CAM must find it again."""
    x = np.zeros((1, 6, 8, 5, 1), np.float32)
    x[0, 4, 6, 3] = 1
    model = models.two_and_half_d((6, 8, 5, 1), encoder=linear, slices=1, dropout=0)
    model.get_layer("logits").kernel.assign([[1.0], [0.0]])
    heat = explain.grad_cam(model, x, target=1)
    assert np.unravel_index(heat[0].argmax(), heat[0].shape) == (4, 6, 3)
    assert np.count_nonzero(heat) == 1
    # Three shadows cross in the spot.
    model = models.projection((6, 8, 5, 1), encoder=linear, dropout=0)
    model.get_layer("logits").kernel.assign(np.tile([[1.0], [0.0]], (3, 1)))
    heat = explain.grad_cam(model, x, target=1)
    assert np.unravel_index(heat[0].argmax(), heat[0].shape) == (4, 6, 3)
    assert np.count_nonzero(heat) == 6 + 8 + 5 - 2


def test_a_saved_network_loads_where_medlab_was_never_imported(tmp_path):
    """No layer of our own: functions of keras.ops are saved by name."""
    import subprocess
    import sys

    made = {
        "slices": models.two_and_half_d((8, 8, 5, 1), average="attention"),
        "planes": models.projection((8, 8, 9, 1)),
        "ensemble": models.ensemble([models.small_cnn((8, 8, 1), width=4, seed=seed) for seed in (0, 1)]),
    }
    for name, model in made.items():
        x = np.random.default_rng(0).normal(size=(2, *model.input_shape[1:])).astype(np.float32)
        np.savez(tmp_path / f"{name}.npz", x=x, y=numbers(model(x)))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
            model.save(tmp_path / f"{name}.keras")
    story = (
        "import sys, keras, numpy as np\n"
        "for name in sys.argv[2:]:\n"
        "    path = sys.argv[1] + '/' + name\n"
        "    both = np.load(path + '.npz')\n"
        "    model = keras.saving.load_model(path + '.keras', compile=False, safe_mode=True)\n"
        "    assert np.allclose(model(both['x']), both['y'], atol=1e-5), name\n"
        "assert 'medlab' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", story, str(tmp_path), *made], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: models.two_and_half_d((8, 8, 1)), r"Expected input_shape \(i, j, k, c\) in"),
        (lambda: models.two_and_half_d((8, 8, 5, 1), slices=2), "odd number of at most 5. Received 2"),
        (lambda: models.two_and_half_d((8, 8, 5, 1), slices=7), "odd number of at most 5. Received 7"),
        (lambda: models.two_and_half_d((8, 8, 5, 1), average="vote"), "average to be one of"),
        (lambda: models.two_and_half_d((8, 8, 5, 1), encoder="nowhere"), "network of keras.applications: .*'nowhere'"),
        (lambda: models.two_and_half_d((8, 8, 5, 1), encoder=3), "Expected as encoder a name, a model or a function"),
        (
            lambda: models.two_and_half_d((8, 8, 5, 1), encoder=models.small_cnn((8, 8, 1), width=4)),
            r"encoder for images of shape \(8, 8, 3\). 'small_cnn' takes \(None, 8, 8, 1\)",
        ),
        (lambda: models.two_and_half_d((8, 8, 5, 1), encoder=lambda shape: None), "functional or Sequential"),
        (
            lambda: models.two_and_half_d(
                (8, 8, 5, 1), encoder=lambda s: keras.Sequential([keras.Input(s), keras.layers.Flatten()])
            ),
            "Expected an encoder with a feature map",
        ),
        (lambda: models.projection((8, 8, 1)), r"Expected input_shape \(i, j, k, c\) in"),
        (lambda: models.projection((8, 8, 8, 1), kind="sum"), "kind to be one of"),
        (lambda: models.projection((8, 8, 8, 1), planes=()), r"different axes of 0, 1 and 2. Received \(\)"),
        (lambda: models.projection((8, 8, 8, 1), planes=(1, 1)), "different axes"),
        (lambda: models.projection((8, 8, 8, 1), planes=(0, 3)), "different axes"),
        (lambda: models.projection((8, 8, 9, 1), shared=True), "projections of one size for a shared encoder"),
        (lambda: models.projection((8, 8, 8, 1), 1), "at least 2 classes"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
