"""The GAN's two networks: what they take and give, and what each of their layers must keep."""

import numpy as np
import pytest

from medlab import models
from medlab.backend import keras


@pytest.mark.parametrize("shape", [(28, 28, 1), (13, 20, 3), (4, 5, 1), (12, 9, 7, 1)])
def test_images_have_the_shape_and_range_asked_for(shape):
    gan = models.gan(shape, latent=5, width=2, value_range=(-2.0, 6.0))
    for sign, end in ((-1, -2.0), (1, 6.0)):
        gan.generator.get_layer("image").bias.assign([sign * 50.0] * shape[-1])  # every pixel is driven to an end
        images = gan.sample(3)
        assert images.shape == (3, *shape)
        np.testing.assert_allclose(images, end, atol=1e-5)
    assert gan.discriminator.output_shape == (None, 1)


@pytest.mark.parametrize(
    ("shape", "maps"),
    [
        ((28, 28, 1), [(14, 14), (7, 7)]),
        ((13, 20, 1), [(13, 10), (7, 5)]),  # a short axis is halved last
        ((12, 9, 40, 1), [(12, 9, 20), (12, 9, 10), (6, 5, 5)]),
        ((256, 4, 1), [(128, 4), (64, 4), (32, 4), (16, 4), (8, 4)]),
    ],
)
def test_each_axis_is_halved_until_4_to_7_pixels_are_left(shape, maps):
    gan = models.gan(shape, latent=2, width=1)
    found = [gan.discriminator.get_layer(f"stage{number}").output.shape[1:-1] for number in range(1, len(maps) + 1)]
    assert found == maps
    assert gan.generator.get_layer("start_map").output.shape[1:-1] == maps[-1]


def test_the_discriminator_sees_the_range_as_minus_one_to_one():
    gan = models.gan((8, 8, 1), latent=2, width=2, value_range=(-2.0, 6.0))
    inside = keras.Model(gan.discriminator.input, gan.discriminator.get_layer("range").output)
    ends = np.stack([np.full((8, 8, 1), value, np.float32) for value in (-2, 2, 6)])
    np.testing.assert_allclose(inside.predict_on_batch(ends)[:, 0, 0, 0], [-1, 0, 1], atol=1e-6)


def test_classes_change_image_and_judgment():
    gan = models.gan((8, 8, 1), latent=4, classes=3, width=4)
    latents = np.repeat(gan.latents(1), 3, axis=0)
    images = gan.images(latents, [0, 1, 2])
    spread = images[0].std()
    assert np.abs(images[0] - images[1]).max() > 0.1 * spread
    assert np.abs(images[1] - images[2]).max() > 0.1 * spread
    logits = gan.discriminator.predict_on_batch([np.repeat(images[:1], 3, axis=0), np.arange(3, dtype=np.int32)])
    assert len(np.unique(np.round(logits, 9))) == 3
    np.testing.assert_array_equal(gan.images(latents), images)  # without labels the classes in turn
    np.testing.assert_allclose(gan.images(latents, 2)[0], images[2], atol=1e-6)


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("shape", [(32, 32, 1), (64, 64, 1)])
def test_a_fresh_pair_makes_images_that_differ_and_judges_them_within_reach(shape, classes, norm):
    """With a start of deviation 0.02 images are nearly gray and alike, and the discriminator sees next to nothing."""
    gan = models.gan(shape, classes=classes, spectral_norm=norm)
    images = gan.sample(16)
    assert images.std() > 0.1
    assert images.std(axis=0).mean() > 0.1
    given = [images, np.arange(16, dtype=np.int32) % 3] if classes else images
    logits, _ = gan.discriminator.stateless_call(
        gan.discriminator.trainable_variables, gan.discriminator.non_trainable_variables, given, training=True
    )
    logits = np.asarray(logits)
    assert np.abs(logits).max() < 10
    if not norm:
        assert logits.std() > 0.05


def test_projection_is_the_inner_product_with_the_class_embedding():
    """Miyato and Koyama 2018, equation 3: f(x, y) = y' V phi(x) + psi(phi(x))."""
    gan = models.gan((8, 8, 1), latent=4, classes=2, width=2, spectral_norm=False)
    net = gan.discriminator
    x = np.random.default_rng(0).random((5, 8, 8, 1), np.float32)
    y = np.array([0, 1, 1, 0, 1], np.int32)
    phi = keras.Model(net.inputs[0], net.get_layer("features").output).predict_on_batch(x)
    kernel, bias = (np.asarray(one) for one in net.get_layer("real").get_weights())
    embedding = np.asarray(net.get_layer("class_projection").get_weights()[0])
    expected = phi @ kernel[:, 0] + bias + (phi * embedding[y]).sum(1)
    np.testing.assert_allclose(net.predict_on_batch([x, y])[:, 0], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's own, in saving
def test_a_generator_is_saved_and_loaded_by_keras_alone(tmp_path):
    gan = models.gan((10, 12, 1), latent=3, classes=2, width=2)
    gan.generator.save(tmp_path / "generator.keras")
    gan.discriminator.save(tmp_path / "discriminator.keras")
    latents, labels = gan.latents(4), np.array([0, 1, 0, 1], np.int32)
    images = gan.images(latents, labels)
    again = keras.models.load_model(tmp_path / "generator.keras")
    np.testing.assert_allclose(again.predict_on_batch([latents, labels]), images, atol=1e-6)
    judge = keras.models.load_model(tmp_path / "discriminator.keras")
    expected = gan.discriminator.predict_on_batch([images, labels])
    np.testing.assert_allclose(judge.predict_on_batch([images, labels]), expected, atol=1e-6)


def test_batches_of_any_size_give_the_same_images():
    gan = models.gan((8, 8, 1), latent=4, width=2)
    latents = gan.latents(7, seed=3)
    np.testing.assert_allclose(gan.images(latents, batch_size=3), gan.images(latents), atol=1e-6)


def test_the_same_seed_gives_the_same_networks():
    first, second, other = (models.gan((8, 8, 1), latent=4, width=2, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.sample(2, seed=5), second.sample(2, seed=5))
    for one, two in zip(first.discriminator.variables, second.discriminator.variables, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(two), one.path)  # also the spectral norm's vectors
    assert np.abs(first.sample(2, seed=5) - other.sample(2, seed=5)).max() > 1e-4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"latent": 0}, "latent to be a whole number of at least 1. Received 0"),
        ({"latent": 2.5}, "latent to be a whole number"),
        ({"classes": 1}, "classes=0 for images of one kind"),
        ({"classes": -1}, "classes to be a whole number of at least 0"),
        ({"width": 0}, "width to be a whole number"),
        ({"value_range": (1.0, 1.0)}, "value_range as"),
        ({"value_range": (0.0, float("nan"))}, "value_range as"),
        ({"image_shape": (3, 8, 1)}, "at least 4 pixels"),
        ({"image_shape": (8, 8)}, "Expected input_shape"),
    ],
)
def test_what_cannot_be_built_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        models.gan(**({"image_shape": (8, 8, 1), "width": 2} | change))


def test_what_cannot_be_made_is_refused():
    plain, conditional = (models.gan((8, 8, 1), latent=4, classes=classes, width=2) for classes in (0, 2))
    with pytest.raises(ValueError, match=r"latents of shape \(n, 4\). Received \(2, 5\)"):
        plain.images(np.zeros((2, 5)))
    with pytest.raises(ValueError, match="has no classes"):
        plain.sample(2, [0, 1])
    with pytest.raises(ValueError, match="2 labels, whole numbers from 0 to 1"):
        conditional.sample(2, [0, 2])
    with pytest.raises(ValueError, match="count to be a whole number"):
        plain.latents(0)
