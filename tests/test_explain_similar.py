"""Similar cases: features that are the channels' means, so that neighbors are known."""

import keras
import numpy as np
import pytest
from keras import layers

from medlab import explain, models


def channel_means(channels=2):
    image = keras.Input((3, 4, channels))
    features = layers.GlobalAveragePooling2D(name="means")(image)
    return keras.Model(image, layers.Dense(3, name="logits")(layers.Dropout(0.5)(features)))


def images_of(vectors):
    """Images whose channels have these means, and some texture."""
    vectors = np.asarray(vectors, np.float32)
    texture = np.random.default_rng(0).normal(size=(len(vectors), 3, 4, vectors.shape[1])).astype(np.float32)
    return texture - texture.mean(axis=(1, 2), keepdims=True) + vectors[:, None, None]


def test_the_features_are_those_of_the_layer():
    vectors = [[1, 2], [3, 4], [5, 6]]
    found = explain.features(channel_means(), images_of(vectors), batch_size=2)
    np.testing.assert_allclose(found, vectors, atol=1e-5)
    model = models.small_cnn((16, 16, 1), 3, width=4, seed=1)
    x = np.random.default_rng(1).normal(size=(4, 16, 16, 1)).astype(np.float32)
    inside = keras.Model(model.input, [model.get_layer("features").output, model.get_layer("stage2").output])
    vector, maps = inside.predict(x, verbose=0)
    np.testing.assert_allclose(explain.features(model, x), vector, atol=1e-5)
    np.testing.assert_allclose(explain.features(model, x, layer="stage2"), maps.mean(axis=(1, 2)), atol=1e-5)


def test_neighbors_by_distance_and_by_angle():
    # by distance 0 - 1 - 2 lie on a line; by angle 0 and 2 point the same way
    x = images_of([[1, 0], [1, 1], [3, 0], [0, 4]])
    model = channel_means()
    found = explain.similar_cases(model, x, k=2, metric="euclidean")
    assert found.layer == "means"
    assert found.indices.tolist() == [[1, 2], [0, 2], [0, 1], [1, 0]]
    root = np.sqrt
    np.testing.assert_allclose(found.distances, [[1, 2], [1, root(5)], [2, root(5)], [root(10), root(17)]], rtol=1e-4)
    angle = explain.similar_cases(model, x, k=1)
    assert angle.indices[:, 0].tolist() == [2, 0, 0, 1]
    np.testing.assert_allclose(angle.distances[:, 0], [0, 1 - root(0.5), 0, 1 - root(0.5)], atol=1e-5)


def test_a_library_of_others():
    library = images_of([[0, 0], [10, 0], [0, 10]])
    x = images_of([[9, 1], [1, 8], [1, 1]])
    found = explain.similar_cases(channel_means(), x, library, k=3, metric="euclidean")
    assert found.indices[:, 0].tolist() == [1, 2, 0]
    assert (np.diff(found.distances, axis=1) >= 0).all()
    assert all(sorted(row) == [0, 1, 2] for row in found.indices.tolist())
    itself = explain.similar_cases(channel_means(), library, library, k=1, metric="euclidean")
    assert itself.indices[:, 0].tolist() == [0, 1, 2]


def test_never_the_same_patient():
    x = images_of([[1, 0], [1.1, 0], [5, 0], [9, 0]])
    model = channel_means()
    found = explain.similar_cases(model, x, k=3, metric="euclidean", groups=["a", "a", "b", "b"])
    assert found.indices.tolist() == [[2, 3, -1], [2, 3, -1], [1, 0, -1], [1, 0, -1]]
    assert np.isnan(found.distances[:, 2]).all()
    assert np.isfinite(found.distances[:, :2]).all()
    other = explain.similar_cases(model, x, x[:2], k=1, metric="euclidean", groups=[1, 2, 3, 4], library_groups=[1, 5])
    assert other.indices[:, 0].tolist() == [1, 1, 1, 1]


def test_a_network_of_slices_has_one_vector_a_volume():
    model = models.slice_rnn((8, 8, 3, 1), width=4, seed=1)
    x = np.random.default_rng(2).normal(size=(2, 8, 8, 3, 1)).astype(np.float32)
    whole = explain.features(model, x, layer="slices_encoder/stage4")
    encoder = model.get_layer("slices_encoder")
    each = np.stack([encoder.predict(x[:, :, :, k], verbose=0).mean(axis=(1, 2)) for k in range(3)], axis=1)
    np.testing.assert_allclose(whole, each.mean(axis=1), atol=1e-5)


def test_what_does_not_fit_is_told():
    model, x = channel_means(), images_of([[1, 0], [0, 1], [1, 1]])
    with pytest.raises(ValueError, match=r"Expected k from 1 to 2 neighbors. Received 3"):
        explain.similar_cases(model, x, k=3)
    with pytest.raises(ValueError, match=r"Expected a metric of cosine, euclidean. Received 'city'"):
        explain.similar_cases(model, x, k=1, metric="city")
    with pytest.raises(ValueError, match=r"Expected groups of shape \(3,\). Received \(2,\)"):
        explain.similar_cases(model, x, k=1, groups=[1, 2])
    with pytest.raises(ValueError, match=r"Expected groups of both the cases and the library"):
        explain.similar_cases(model, x, x, k=1, groups=[1, 2, 3])
    with pytest.raises(ValueError, match=r"There is no layer 'conv9'. There are: .*means"):
        explain.features(model, x, layer="conv9")
    with pytest.raises(ValueError, match=r"Expected finite images"):
        explain.features(model, x * np.nan)
    image = keras.Input((3, 4, 2))
    with pytest.raises(ValueError, match=r"Expected a model with features before its last layer"):
        explain.features(keras.Model(image, layers.Conv2D(1, 3)(image)), x)
    one = explain.similar_cases(model, x[:1], k=1)
    assert one.indices.tolist() == [[-1]]
    assert np.isnan(one.distances).all()
