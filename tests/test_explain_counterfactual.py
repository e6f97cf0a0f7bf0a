"""Counterfactual: models whose answers are sums over a place, so that what is left is known."""

import keras
import numpy as np
import pytest
from keras import layers

from medlab import explain, load


def adds_up(weights):
    """logit = sum(weights * image)."""
    image = keras.Input((*weights.shape, 1))
    model = keras.Model(image, layers.Dense(1, use_bias=False)(layers.Flatten()(image)))
    model.set_weights([weights.reshape(-1, 1).astype(np.float32)])
    return model


def pair():
    """A bright lesion of 2 x 2 on a background of 1, and the same without it."""
    healthy = np.ones((2, 6, 6, 1), np.float32)
    x = healthy.copy()
    x[0, :2, :2] = x[1, 4:, 4:] = 5
    return x, healthy


def test_a_model_that_sees_the_lesion():
    x, healthy = pair()
    found = explain.healthy_counterfactual(
        adds_up(np.ones((6, 6))), x, healthy, method=explain.input_times_gradient, target=1
    )
    np.testing.assert_allclose(found["score"], [52, 52])
    np.testing.assert_allclose(found["score_healthy"], [36, 36])
    np.testing.assert_allclose(found["fall"], [16, 16])
    np.testing.assert_allclose(found["inside"], [20 / 52] * 2)
    np.testing.assert_allclose(found["inside_healthy"], [4 / 36] * 2)
    np.testing.assert_allclose(found["left"], [0.2, 0.2])
    alike = (4 * 5 + 32) / np.sqrt((4 * 25 + 32) * 36)
    np.testing.assert_allclose(found["alike"], [alike] * 2, rtol=1e-6)


def test_a_shortcut_does_not_notice():
    """A model that reads a marker in a corner: no fall, no heat in the lesion, the same map."""
    marker = np.zeros((6, 6))
    marker[0, 5] = 1
    x, healthy = pair()
    found = explain.healthy_counterfactual(adds_up(marker), x, healthy, method=explain.input_times_gradient, target=1)
    np.testing.assert_allclose(found["fall"], [0, 0])
    np.testing.assert_allclose(found["inside"], [0, 0])
    assert found["left"].isna().all()
    np.testing.assert_allclose(found["alike"], [1, 1])


def test_masks_of_ones_own_and_pairs_without_a_difference():
    x, healthy = pair()
    masks = np.zeros((2, 6, 6))
    masks[:, :3, :3] = 1
    model = adds_up(np.ones((6, 6)))
    found = explain.healthy_counterfactual(
        model, x, healthy, method=explain.input_times_gradient, target=1, masks=masks
    )
    np.testing.assert_allclose(found["inside"], [25 / 52, 9 / 52])
    same = explain.healthy_counterfactual(model, x, x, method=explain.saliency, target=1)
    assert same[["inside", "inside_healthy", "left"]].isna().all(axis=None)
    np.testing.assert_allclose(same["alike"], 1)
    np.testing.assert_allclose(same["fall"], 0)
    assert len(explain.healthy_counterfactual(model, x[:0], x[:0])) == 0


def test_the_target_is_that_of_the_case_with_the_finding():
    """Predicted is class 1 with the lesion and class 0 without; asked is class 1 of both."""
    weights = np.full((6, 6), 1.0)
    image = keras.Input((6, 6, 1))
    model = keras.Model(image, layers.Dense(1)(layers.Flatten()(image)))
    model.set_weights([weights.reshape(-1, 1).astype(np.float32), np.array([-40], np.float32)])
    x, healthy = pair()
    found = explain.healthy_counterfactual(model, x, healthy, method=explain.saliency)
    np.testing.assert_allclose(found["score"], 12)
    np.testing.assert_allclose(found["score_healthy"], -4)


def test_the_twins_of_phantoms_fit(tmp_path, monkeypatch):
    pytest.importorskip("pooch")
    monkeypatch.setenv("MEDLAB_CACHE", str(tmp_path))
    cases = load.dataset("phantom:ms-lesions", n=8, rank=2, size=32, severity=0.25)
    sick = cases.ids_of("ms")
    x, healthy = (
        np.stack([one.volume(name).array for name in sick])[..., None].astype(np.float32)
        for one in (cases, cases.twins())
    )
    masks = np.stack([cases.mask(name).array for name in sick])
    found = explain.healthy_counterfactual(
        adds_up(np.ones((32, 32))), x, healthy, method=explain.input_times_gradient, target=1, masks=masks
    )
    expected = (x - healthy).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(found["fall"], expected, rtol=1e-3)
    assert (found["fall"] > 0).all()  # lesions are bright in FLAIR
    assert (found["left"] < 1).all()


def test_beside_another_input():
    image, age = keras.Input((6, 6, 1), name="image"), keras.Input((1,), name="age")
    both = layers.Concatenate()([layers.Flatten()(image), age])
    model = keras.Model({"image": image, "age": age}, layers.Dense(1, use_bias=False)(both))
    model.set_weights([np.append(np.ones(36), 10).reshape(-1, 1).astype(np.float32)])
    x, healthy = pair()
    ages = np.array([[1], [2]], np.float32)
    found = explain.healthy_counterfactual(
        model, {"image": x, "age": ages}, healthy, method=explain.input_times_gradient, target=1
    )
    np.testing.assert_allclose(found["score"], [62, 72])
    np.testing.assert_allclose(found["score_healthy"], [46, 56])
    np.testing.assert_allclose(found["left"], [0.2, 0.2], rtol=1e-6)


def test_what_does_not_fit_is_told():
    x, healthy = pair()
    model = adds_up(np.ones((6, 6)))
    with pytest.raises(ValueError, match=r"Expected healthy images of shape \(2, 6, 6, 1\). Received \(1, 6, 6, 1\)"):
        explain.healthy_counterfactual(model, x, healthy[:1])
    with pytest.raises(ValueError, match=r"Expected masks of shape \(2, 6, 6\)"):
        explain.healthy_counterfactual(model, x, healthy, masks=np.ones((2, 3, 3)))
    with pytest.raises(ValueError, match=r"Received healthy images with NaN"):
        explain.healthy_counterfactual(model, x, healthy * np.nan)
