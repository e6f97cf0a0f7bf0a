"""The vision transformer: what is true of it by its making."""

import keras
import numpy as np
import pytest

from medlab import models

# Keras hands variables to np.array, whose argument copy they do not know yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def test_its_weights_by_hand():
    """Patches (p p c + 1) d, places T d, a block 4 d^2 + 4 d of attention, 8 d^2 + 5 d dense, 4 d norms; norm, head."""
    d, p, depth, tokens = 16, 4, 3, 6
    model = models.vit((8, 12, 2), 5, patch=p, width=d, depth=depth, heads=4)
    block = 4 * d * d + 4 * d + 8 * d * d + 5 * d + 4 * d
    assert model.count_params() == (p * p * 2 + 1) * d + tokens * d + depth * block + 2 * d + (d + 1) * 5
    with_token = models.vit((8, 12, 2), 5, patch=p, width=d, depth=depth, heads=4, pool="token")
    assert with_token.count_params() == model.count_params() + d


@pytest.mark.parametrize(
    ("shape", "patch"), [((16, 24, 1), (2, 2)), ((32, 16, 16, 1), (2, 2, 2)), ((224, 224, 3), (16, 16))]
)
def test_a_patch_of_its_own(shape, patch):
    kernel = models.vit(shape, width=4, heads=1, depth=1).get_layer("patches").kernel
    assert tuple(kernel.shape)[:-2] == patch


def test_without_places_the_order_of_the_patches_means_nothing():
    """The mean of what attention makes of a set: a shuffled image has the same answer, until places are learned."""
    model = models.vit((8, 8, 1), 3, patch=4, width=8, heads=2, depth=2, dropout=0, seed=1)
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32)
    turned = np.concatenate([x[:, 4:], x[:, :4]], axis=1)
    assert np.abs(model.predict(x, verbose=0) - model.predict(turned, verbose=0)).max() > 1e-5
    places = model.get_layer("places")
    places.set_weights([np.zeros_like(one) for one in places.get_weights()])
    np.testing.assert_allclose(model.predict(x, verbose=0), model.predict(turned, verbose=0), atol=1e-5)


def test_patches_are_a_linear_map_over_the_image():
    model = models.vit((8, 12, 1), patch=(4, 6), width=8, heads=2, depth=1, seed=2)
    patches = keras.Model(model.input, model.get_layer("patches").output)
    x = np.zeros((1, 8, 12, 1), np.float32)
    x[0, 5, 7] = 1  # in the patch of row 1, column 1
    moved = patches.predict(x, verbose=0) - patches.predict(np.zeros_like(x), verbose=0)
    assert moved.shape == (1, 2, 2, 8)
    np.testing.assert_allclose(moved[0, 1, 1], model.get_layer("patches").get_weights()[0][1, 1, 0], atol=1e-6)
    assert np.abs(moved[0, [0, 0, 1], [0, 1, 0]]).max() == 0


def test_query_key_and_value_start_apart():
    """From one seed Keras would start them alike, and attention would be to what is like oneself."""
    model = models.vit((8, 8, 1), width=16, heads=4, depth=2, seed=3)
    matrices = [
        one for name in ("block1_attention", "block2_attention") for one in model.get_layer(name).get_weights()
        if one.ndim == 3
    ]  # fmt: skip
    flat = [one.reshape(-1) for one in matrices]
    assert len(flat) == 8
    for number, one in enumerate(flat):
        assert abs(one.std() - (2 / 32) ** 0.5) < 0.03  # Glorot: variance 2 / (16 + 16)
        assert all(abs(np.corrcoef(one, other)[0, 1]) < 0.25 for other in flat[:number])


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ((9, 8, 1), {}, r"Expected sides that 2, 4, 8 or 16 divides. Received an image of \(9, 8\)"),
        ((8, 8, 1), {"patch": 3}, r"Expected a patch that divides the sides of the image \(8, 8\). Received 3"),
        ((8, 8, 1), {"patch": (4, 4, 4)}, r"Expected a patch that divides"),
        ((8, 8, 1), {"patch": 0}, r"Expected a patch that divides"),
        ((8, 8, 1), {"patch": 8}, r"Expected 2 to 4,096 patches. Received 1"),
        ((256, 256, 1), {"patch": 2}, r"Expected 2 to 4,096 patches. Received 16,384"),
        ((8, 8, 1), {"width": 10, "heads": 4}, r"multiple of heads. Received width 10 and 4 heads"),
        ((8, 8, 1), {"depth": 0}, r"Expected depth to be a whole number of at least 1. Received 0"),
        ((8, 8, 1), {"pool": "last"}, r"Expected pool to be one of .*Received 'last'"),
        ((8, 8, 1), {"dropout": 1.0}, r"Expected dropout from 0 to below 1"),
        ((8, 8), {}, r"Expected input_shape \(i, j, c\) or \(i, j, k, c\)"),
    ],
)
def test_what_cannot_be_made_is_told(shape, settings, message):
    with pytest.raises(ValueError, match=message):
        models.vit(shape, **settings)
