"""The relatives of Grad-CAM: closed forms in 2-D and 3-D, other implementations' formulas, several layers, the grid."""

import keras
import numpy as np
import pytest
from scipy import ndimage, signal

from medlab import explain

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

L = keras.layers
GRADED = (explain.grad_cam, explain.grad_cam_plus_plus, explain.hires_cam, explain.layer_cam, explain.xgrad_cam)
FAMILY = (*GRADED, explain.score_cam, explain.eigen_cam)
SHAPES = [(7, 6, 2), (5, 4, 6, 2)]


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def network(shape, channels=3, *, flat=False, dtype=None, classes=2):
    """Convolution, mean or all positions, dense; with known weights of either sign that speak for class 1 in all."""
    rank = len(shape) - 1
    conv, mean = getattr(L, f"Conv{rank}D"), getattr(L, f"GlobalAveragePooling{rank}D")
    model = keras.Sequential(
        [keras.Input(shape), conv(channels, 3, padding="same", activation="relu", name="conv", dtype=dtype),
         L.Flatten() if flat else mean(), L.Dense(classes, name="head", dtype="float32")]
    )  # fmt: skip
    generator = np.random.default_rng(1)
    kernel, bias, head, offset = (generator.normal(size=w.shape) * 0.3 for w in model.get_weights())
    head[:, 1] += 0.2
    model.set_weights([kernel, bias, head, offset])
    return model


def features(model, x):
    """The output of the convolution by SciPy: (n, i, j[, k], c), "same", ReLU."""
    kernel, bias = (w.astype(np.float64) for w in model.get_weights()[:2])
    out = np.zeros((*x.shape[:-1], kernel.shape[-1]))
    for case, channel in np.ndindex(len(x), kernel.shape[-1]):
        for source in range(x.shape[-1]):
            out[case, ..., channel] += signal.correlate(
                x[case, ..., source].astype(np.float64), kernel[..., source, channel], mode="same"
            )
    return np.maximum(out + bias, 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_closed_forms_with_the_mean_of_all_positions(shape):
    model, x = network(shape), images(3, *shape)
    a, w = features(model, x), model.get_weights()[2][:, 1]
    positions = np.prod(shape[:-1])
    close = {"rtol": 0, "atol": 1e-6}
    plain = np.maximum(a @ w, 0) / positions
    assert plain.max() > 0.001
    # The gradient is w / positions everywhere: every mean of it, weighted or not, is the same.
    for method in (explain.grad_cam, explain.hires_cam, explain.xgrad_cam):
        np.testing.assert_allclose(method(model, x, target=1), plain, **close)
    np.testing.assert_allclose(explain.layer_cam(model, x, target=1), a @ np.maximum(w, 0) / positions, **close)


@pytest.mark.parametrize("shape", SHAPES)
def test_closed_forms_with_a_weight_at_each_position(shape):
    model, x = network(shape, flat=True), images(3, *shape)
    a = features(model, x)
    slope = model.get_weights()[2][:, 1].reshape(a.shape[1:]).astype(np.float64)
    places = tuple(range(1, a.ndim - 1))
    share = a / a.sum(axis=places, keepdims=True)
    expected = {
        explain.grad_cam: a * slope.mean(axis=tuple(range(slope.ndim - 1))),
        explain.hires_cam: a * slope,
        explain.layer_cam: a * np.maximum(slope, 0),
        explain.xgrad_cam: a * (share * slope).sum(axis=places, keepdims=True),
    }
    for method, weighted in expected.items():
        truth = np.maximum(weighted.sum(axis=-1), 0)
        assert truth.max() > 0.01
        np.testing.assert_allclose(method(model, x, target=1), truth, rtol=1e-5, atol=1e-6, err_msg=method.__name__)


def test_a_silent_channel_has_no_weight_in_xgrad_cam():
    model, x = network((6, 6, 1), flat=True), images(2, 6, 6, 1)
    kernel, bias, *head = model.get_weights()
    kernel[..., 0], bias[0] = 0, -1  # never above 0, so its share of nothing is undefined
    model.set_weights([kernel, bias, *head])
    heat = explain.xgrad_cam(model, x, target=1)
    assert np.isfinite(heat).all()
    assert heat.max() > 0


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weights", ["increase", "probability"])
def test_score_cam_weighs_each_channel_by_the_image_seen_through_it(shape, weights):
    model, x = network(shape), images(2, *shape)
    a = features(model, x)

    def probability(image):
        mean = features(model, image[None]).mean(axis=tuple(range(1, len(shape))))[0]
        logits = mean @ model.get_weights()[2] + model.get_weights()[3]
        return np.exp(logits[1]) / np.exp(logits).sum()

    expected = np.zeros(a.shape[:-1])
    for case, channel in np.ndindex(len(x), a.shape[-1]):
        one = a[case, ..., channel]
        if np.ptp(one) == 0:
            continue
        mask = (one - one.min()) / np.ptp(one)
        nothing = probability(np.zeros_like(x[case])) if weights == "increase" else 0
        expected[case] += one * (probability(x[case] * mask[..., None]) - nothing)
    expected = np.maximum(expected, 0)
    assert expected.max() > 0.001
    for batch_size in (None, 2):
        heat = explain.score_cam(model, x, target=1, weights=weights, batch_size=batch_size)
        np.testing.assert_allclose(heat, expected, rtol=1e-4, atol=1e-6)


def test_score_cam_of_few_channels_takes_those_that_vary_most():
    model, x = network((8, 8, 1), 4), images(3, 8, 8, 1)
    a = features(model, x)
    kept = a.std(axis=(1, 2)).argmax(axis=1)
    one = explain.score_cam(model, x, target=1, channels=1, weights="probability")
    for heat, maps, channel in zip(one, a, kept, strict=True):
        np.testing.assert_allclose(heat / heat.max(), maps[..., channel] / maps[..., channel].max(), atol=1e-5)
    whole = explain.score_cam(model, x, target=1)
    np.testing.assert_array_equal(explain.score_cam(model, x, target=1, channels=9), whole)
    with pytest.raises(ValueError, match=r"Expected at least 1 channel\. Received 0"):
        explain.score_cam(model, x, channels=0)
    with pytest.raises(ValueError, match='Expected weights "increase" or "probability"'):
        explain.score_cam(model, x, weights="softmax")
    # An image that is the baseline itself: nothing is gained by seeing it.
    np.testing.assert_array_equal(explain.score_cam(model, x, baseline=x), np.zeros((3, 8, 8)))


@pytest.mark.parametrize(("shape", "channels"), [((7, 6, 2), 5), ((5, 4, 3, 2), 5), ((3, 2, 1), 20)])
def test_eigen_cam_is_the_first_singular_vector(shape, channels):
    model, x = network(shape, channels), images(3, *shape)
    heat = explain.eigen_cam(model, x)
    for one, a in zip(heat, features(model, x), strict=True):
        flat = a.reshape(-1, channels)
        projected = flat @ np.linalg.svd(flat, full_matrices=False)[2][0]
        projected = projected * np.sign(projected.sum())
        np.testing.assert_allclose(one.ravel(), np.maximum(projected, 0), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(heat, explain.eigen_cam(model, x, target=0))


@pytest.mark.parametrize("method", FAMILY)
def test_a_batch_equals_its_single_maps_and_no_features_give_no_heat(method):
    model, x = network((12, 9, 1)), images(5, 12, 9, 1)
    whole = method(model, x, target=1)
    assert whole.dtype == np.float32
    assert (whole.max(axis=(1, 2)) > 0).any()
    assert whole.min() >= 0
    single = np.concatenate([method(model, x[case : case + 1], target=1) for case in range(5)])
    np.testing.assert_allclose(whole, single, rtol=1e-4, atol=1e-6)
    assert method(model, x[:0], target=1).shape == (0, 12, 9)
    kernel, bias, *head = model.get_weights()
    model.set_weights([0 * kernel, 0 * bias, *head])  # a constant image's like: all features are 0
    np.testing.assert_array_equal(method(model, x, target=1), np.zeros((5, 12, 9)))


@pytest.mark.parametrize("method", FAMILY)
def test_bfloat16_comes_close(method):
    x = images(3, 16, 16, 1)
    full = method(network((16, 16, 1)), x, target=1)
    half = method(network((16, 16, 1), dtype="mixed_bfloat16"), x, target=1)
    assert full.max() > 0
    assert half.dtype == np.float32
    # Score-CAM lives on small differences of probabilities.
    np.testing.assert_allclose(half, full, rtol=0, atol=(0.1 if method is explain.score_cam else 0.03) * full.max())


@pytest.mark.parametrize("method", FAMILY)
@pytest.mark.parametrize("place", [(1, 2), (2, 1, 1)])
def test_heat_is_centered_on_the_place_that_made_it(method, place):
    """Features of blocks of 4: the heat of one block has its center where the block has it, to a thousandth pixel."""
    rank = len(place)
    size = (16, 20, 12)[:rank]
    conv, mean = getattr(L, f"Conv{rank}D"), getattr(L, f"GlobalAveragePooling{rank}D")
    model = keras.Sequential(
        [keras.Input((*size, 1)), conv(2, 4, strides=4, activation="relu", kernel_initializer="ones"), mean(),
         L.Dense(1, kernel_initializer="ones")]
    )  # fmt: skip
    x = np.zeros((1, *size, 1), "float32")
    x[(0, *(slice(4 * at, 4 * at + 4) for at in place), 0)] = 1
    heat = method(model, x, target=1)[0]
    np.testing.assert_allclose(ndimage.center_of_mass(heat), [4 * at + 1.5 for at in place], atol=1e-3)


def deep():
    model = keras.Sequential(
        [keras.Input((12, 8, 1)), L.Conv2D(3, 3, padding="same", activation="relu", name="early"), L.MaxPooling2D(),
         L.Conv2D(4, 3, padding="same", activation="relu", name="late"), L.GlobalAveragePooling2D(), L.Dense(2)]
    )  # fmt: skip
    generator = np.random.default_rng(2)
    model.set_weights([generator.normal(size=w.shape) * 0.5 for w in model.get_weights()])
    return model


@pytest.mark.parametrize("method", FAMILY)
def test_several_layers_are_fused_each_by_its_largest_value(method):
    model, x = deep(), images(4, 12, 8, 1)
    early, late = (method(model, x, target=1, layer=name) for name in ("early", "late"))
    assert early.max() > 0
    assert late.max() > 0

    def scaled(maps):
        largest = maps.max(axis=(1, 2), keepdims=True)
        return np.where(largest > 0, maps / np.where(largest > 0, largest, 1), 0)

    fused = method(model, x, target=1, layer=["early", "late"])
    np.testing.assert_allclose(fused, (scaled(early) + scaled(late)) / 2, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(method(model, x, target=1, layer=("late",)), scaled(late), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match=r"There is no layer 'laet' .* There are: early, late\."):
        method(model, x, layer=["early", "laet"])
    with pytest.raises(ValueError, match=r"a list of layers\. Received an empty list"):
        method(model, x, layer=[])


def test_a_layer_behind_the_last_position_is_refused():
    model, x = deep(), images(1, 12, 8, 1)
    with pytest.raises(ValueError, match=r"There is no layer 'global_average.* There are: early, late\."):
        explain.grad_cam(model, x, layer=model.layers[-2].name)


@pytest.mark.parametrize("method", FAMILY)
def test_a_saturated_answer_still_has_a_map_or_a_defined_none(method):
    """A softmax at exactly 1 has no gradient; the score before it has. Score-CAM asks for probabilities by design."""
    model = network((8, 8, 1))
    kernel, bias, head, offset = model.get_weights()
    model.set_weights([kernel, bias, head * 1e4, offset])
    squashed = keras.Sequential([*model.layers, L.Softmax()])
    x = images(3, 8, 8, 1)
    assert keras.ops.convert_to_numpy(squashed(x)).max() == 1
    heat = method(squashed, x)
    assert np.isfinite(heat).all()
    np.testing.assert_allclose(heat, method(model, x), rtol=1e-5)


def test_a_map_is_saved_with_the_affine_of_its_volume(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    from medlab import load
    from medlab.volume import Volume

    affine = np.array([[0, -2.0, 0, 10], [1.5, 0, 0, -20], [0, 0, 3.0, 5], [0, 0, 0, 1]])
    shape = (8, 6, 5, 1)
    x = images(1, *shape)
    volume = Volume(x[0, ..., 0], affine)
    heat = explain.grad_cam(network(shape), x, target=1)
    assert heat.max() > 0
    load.write(volume.replace(array=heat[0]), tmp_path / "heat.nii.gz")
    read = nibabel.load(tmp_path / "heat.nii.gz")
    np.testing.assert_array_equal(read.get_fdata(dtype=np.float32), heat[0])
    np.testing.assert_allclose(read.affine, affine, atol=1e-6)
