"""Attention rollout: by hand in NumPy, in closed form, and what it cannot follow."""

import keras
import numpy as np
import pytest
from keras import layers

from medlab import explain, models

# Keras hands variables to np.array, whose argument copy they do not know yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def tiny(*, depth=1, heads=1, kind="multi", token=False, size=(4, 6), **more):
    """A transformer of 2 x 2 patches; each attention is called as ``look<number>``."""
    image = keras.Input((*size, 1))
    x = layers.Conv2D(3, 2, strides=2, name="patches")(image)
    x = layers.Reshape((-1, 3))(x)
    if token:
        x = layers.ZeroPadding1D((1, 0))(x)
    for number in range(depth):
        name = f"look{number}"
        if kind == "multi":
            look = layers.MultiHeadAttention(heads, 2, bias_initializer="normal", name=name, **more)
        else:
            look = layers.GroupQueryAttention(2, heads, heads // 2, bias_initializer="normal", name=name, **more)
        x = x + look(x, x)
    x = x[:, 0] if token else layers.GlobalAveragePooling1D()(x)
    return keras.Model(image, layers.Dense(2)(x))


def by_hand(model, x, depth, token=False):
    """Rollout in NumPy: softmax(q k / sqrt(d)) of the tokens that reach each layer, from the weights alone."""
    patches = model.get_layer("patches")
    kernel, bias = patches.get_weights()
    cut = x.reshape(len(x), 2, 2, 3, 2)[..., None].transpose(0, 1, 3, 2, 4, 5)  # (n, 2, 3, 2, 2, 1)
    tokens = np.einsum("nabijc,ijcd->nabd", cut, kernel).reshape(len(x), 6, 3) + bias
    if token:
        tokens = np.concatenate([np.zeros_like(tokens[:, :1]), tokens], axis=1)
    flow = np.eye(tokens.shape[1])
    for number in range(depth):
        weights = model.get_layer(f"look{number}").get_weights()
        (wq, bq), (wk, bk), (wv, bv), (wo, bo) = zip(weights[::2], weights[1::2], strict=True)
        q, k, v = (np.einsum("ntd,dhe->nhte", tokens, w) + b[None, :, None] for w, b in ((wq, bq), (wk, bk), (wv, bv)))
        score = np.einsum("nhte,nhse->nhts", q, k) / np.sqrt(q.shape[-1])
        power = np.exp(score - score.max(axis=-1, keepdims=True))
        share = power / power.sum(axis=-1, keepdims=True)
        flow = 0.5 * (share.mean(axis=1) + np.eye(tokens.shape[1])) @ flow
        tokens = tokens + np.einsum("nhts,nhse,hed->ntd", share, v, wo) + bo
    return flow[:, 0, 1:] if token else flow.mean(axis=1)


@pytest.mark.parametrize("token", [False, True])
def test_as_by_hand_through_two_layers_and_heads(token):
    model = tiny(depth=2, heads=2, token=token)
    x = np.random.default_rng(0).normal(size=(3, 4, 6, 1)).astype(np.float32)
    expected = by_hand(model, x, 2, token).reshape(3, 2, 3)
    heat = explain.attention_rollout(model, x)
    np.testing.assert_allclose(heat[:, ::3, ::5], expected[:, :, ::2], atol=1e-6)  # corners keep the outermost value
    assert heat.shape == (3, 4, 6)
    assert np.ptp(expected, axis=(1, 2)).min() > 1e-3


def test_all_look_at_one_patch():
    """Each of T tokens keeps half of its weight and gives the other to one: 1/2 + 1/(2T) there, 1/(2T) elsewhere."""
    model = tiny()
    look, patches = model.get_layer("look0"), model.get_layer("patches")
    kernel = np.zeros((2, 2, 1, 3), np.float32)
    kernel[..., 0] = 0.25
    patches.set_weights([kernel, np.zeros(3, np.float32)])
    weights = [np.zeros_like(one) for one in look.get_weights()]
    weights[1][:] = 1  # each query is the same
    weights[2][0] = 100  # the key is the brightness of the patch
    look.set_weights(weights)
    x = np.zeros((1, 4, 6, 1), np.float32)
    x[0, 2:, 4:] = 1
    heat = explain.attention_rollout(model, x)[0]
    np.testing.assert_allclose(heat[3, 5], 0.5 + 1 / 12, atol=1e-5)
    np.testing.assert_allclose(heat[0, 0], 1 / 12, atol=1e-5)
    # the token of a constant image looks everywhere alike
    np.testing.assert_allclose(explain.attention_rollout(model, np.ones_like(x)), 1 / 6, atol=1e-6)


def test_heads_fused_by_their_largest_or_smallest():
    model = tiny(heads=2)
    x = np.random.default_rng(1).normal(size=(2, 4, 6, 1)).astype(np.float32)
    maps = [explain.attention_rollout(model, x, heads=heads) for heads in ("mean", "max", "min")]
    assert all(np.abs(maps[a] - maps[b]).max() > 1e-4 for a, b in ((0, 1), (1, 2), (0, 2)))
    for heat in maps:  # each token's weights still have the sum 1
        corners = heat[:, ::3, ::5]
        assert (corners > 0).all()
        assert (corners < 1).all()


def test_grouped_queries_and_a_network_inside_another_are_followed():
    inner = tiny(depth=2, heads=2, kind="group")
    image = keras.Input((4, 6, 1))
    outer = keras.Model(image, layers.Dense(2)(inner(layers.Rescaling(1.0)(image))))
    x = np.random.default_rng(2).normal(size=(3, 4, 6, 1)).astype(np.float32)
    first = explain.attention_rollout(inner, x)
    np.testing.assert_allclose(explain.attention_rollout(outer, x), first, atol=1e-6)
    assert np.ptp(first, axis=(1, 2)).min() > 1e-4


def test_beside_another_input_and_in_half_precision():
    model = models.vit((16, 16, 1), patch=4, width=8, heads=2, depth=2, seed=1)
    image, age = keras.Input((16, 16, 1)), keras.Input((1,))
    two = keras.Model([image, age], layers.Dense(2)(layers.Concatenate()([model(image), age])))
    x = np.random.default_rng(7).normal(size=(3, 16, 16, 1)).astype(np.float32)
    alone = explain.attention_rollout(model, x)
    np.testing.assert_allclose(explain.attention_rollout(two, [x, np.ones((3, 1), np.float32)]), alone, atol=1e-6)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        half = models.vit((16, 16, 1), patch=4, width=8, heads=2, depth=2, seed=1)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    half.set_weights(model.get_weights())
    found = explain.attention_rollout(half, x)
    assert found.dtype == np.float32
    assert np.corrcoef(found.ravel(), alone.ravel())[0, 1] > 0.99


def test_the_model_is_as_before():
    model = tiny(heads=2)
    x = np.random.default_rng(3).normal(size=(2, 4, 6, 1)).astype(np.float32)
    before = keras.ops.convert_to_numpy(model(x))
    look = model.get_layer("look0")
    kept = dict(vars(look))
    explain.attention_rollout(model, x)
    assert {name: vars(look)[name] for name in kept} == kept
    assert "call" not in vars(look)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(x)), before)


@pytest.mark.parametrize("shape", [(16, 24, 1), (8, 12, 8, 1)])
@pytest.mark.parametrize("pool", ["mean", "token"])
def test_a_batch_equals_its_single_maps(shape, pool):
    model = models.vit(shape, 3, patch=4, width=8, heads=2, depth=2, pool=pool, seed=1)
    x = np.random.default_rng(4).normal(size=(5, *shape)).astype(np.float32)
    together = explain.attention_rollout(model, x, batch_size=2)
    single = np.concatenate([explain.attention_rollout(model, case[None]) for case in x])
    np.testing.assert_allclose(together, single, atol=1e-6)
    assert together.shape == x.shape[:-1]
    assert together.dtype == np.float32
    assert (together > 0).all()
    assert explain.attention_rollout(model, x[:0]).shape == (0, *shape[:-1])


def test_weights_trained_on_are_the_weights_followed():
    model = tiny()
    x = np.random.default_rng(5).normal(size=(1, 4, 6, 1)).astype(np.float32)
    first = explain.attention_rollout(model, x)
    model.set_weights([3 * one for one in model.get_weights()])
    second = explain.attention_rollout(model, x)
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_allclose(second[:, ::3, ::5], by_hand(model, x, 1).reshape(1, 2, 3)[:, :, ::2], atol=1e-6)


def test_what_cannot_be_followed_is_told():
    x = np.zeros((1, 4, 6, 1), np.float32)
    with pytest.raises(ValueError, match=r"Expected a model with MultiHeadAttention .* has none: use grad_cam"):
        explain.attention_rollout(models.small_cnn((8, 8, 1), width=4), np.zeros((1, 8, 8, 1)))
    with pytest.raises(ValueError, match=r"Expected heads one of mean, max, min. Received 'sum'"):
        explain.attention_rollout(tiny(), x, heads="sum")
    with pytest.raises(ValueError, match=r"Expected a grid of 2 axes for 6 tokens"):
        explain.attention_rollout(tiny(), x, grid=(5, 5))
    with pytest.raises(ValueError, match=r"There is none: class_token=False"):
        explain.attention_rollout(tiny(), x, class_token=True)
    with pytest.raises(ValueError, match=r"Expected x of shape \(n, 4, 6, 1\)"):
        explain.attention_rollout(tiny(), x[:, :2])
    image = keras.Input((4, 6, 1))  # attention within two windows of three tokens
    y = layers.Conv2D(3, 2, strides=2)(image)
    y = keras.ops.reshape(y, (-1, 3, 3))
    y = layers.MultiHeadAttention(1, 2)(y, y)
    y = layers.GlobalAveragePooling1D()(keras.ops.reshape(y, (-1, 6, 3)))
    with pytest.raises(ValueError, match=r"through windows, merged patches or two sequences is not defined"):
        explain.attention_rollout(keras.Model(image, layers.Dense(2)(y)), x)


def test_a_grid_of_ones_own():
    model = tiny(size=(4, 6))
    x = np.random.default_rng(6).normal(size=(1, 4, 6, 1)).astype(np.float32)
    np.testing.assert_array_equal(explain.attention_rollout(model, x, grid=(2, 3)), explain.attention_rollout(model, x))
    turned = explain.attention_rollout(model, x, grid=(3, 2))
    assert np.abs(turned - explain.attention_rollout(model, x)).max() > 1e-5
