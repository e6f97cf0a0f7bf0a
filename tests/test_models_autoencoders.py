"""Autoencoders: their codes, their noise and their loss against numbers worked out by hand."""

import numpy as np
import pytest

from medlab import models, train
from medlab.backend import keras

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SHAPES = [(13, 9, 2), (4, 5, 1), (12, 9, 4, 1)]


def blobs(count, side=16, seed=0):
    """Images of one bright spot each: two numbers say all about them."""
    rng = np.random.default_rng(seed)
    at = rng.uniform(4, side - 4, (count, 2))
    axis = np.arange(side)
    spots = np.exp(-(((axis - at[:, :1]) ** 2)[:, :, None] + ((axis - at[:, 1:]) ** 2)[:, None]) / 8)
    return spots[..., None].astype(np.float32), at


@pytest.mark.parametrize("make", [models.autoencoder, models.vae], ids=["plain", "vae"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_image_is_its_code_decoded(make, shape):
    model = make(shape, latent=3, width=4)
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    code = models.encoder(model)(x)
    assert code.shape == (2, 3)
    np.testing.assert_allclose(models.decoder(model)(code), model(x), atol=1e-5)
    assert model(x).shape == x.shape


def test_all_that_the_decoder_knows_is_in_the_code():
    model = models.autoencoder((16, 16, 1), latent=2, width=4)
    model.get_layer("latent").kernel.assign(np.zeros(model.get_layer("latent").kernel.shape))
    x = np.random.default_rng(0).normal(size=(2, 16, 16, 1)).astype(np.float32)
    out = np.asarray(model(x))
    np.testing.assert_array_equal(out[0], out[1])


def test_the_halves_follow_the_training_of_the_whole():
    model = models.autoencoder((8, 8, 1), latent=2, width=2)
    front, back = models.encoder(model), models.decoder(model)
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype(np.float32)
    before = np.asarray(front(x))
    model.compile("sgd", "mean_squared_error")
    model.train_on_batch(x, x)
    assert np.abs(np.asarray(front(x)) - before).max() > 1e-4
    np.testing.assert_allclose(back(front(x)), model(x), atol=1e-5)


def test_two_numbers_are_enough_for_a_spot_with_two_coordinates():
    x, _ = blobs(128)
    held_out, _ = blobs(40, seed=1)
    model = models.autoencoder((16, 16, 1), latent=2, width=4)
    train.fit(model, (x, x), loss="mean_squared_error", epochs=40, batch_size=16, learning_rate=0.01, progress=False)
    error = float(((np.asarray(model(held_out)) - held_out) ** 2).mean())
    mean = float(((held_out - x.mean(axis=0)) ** 2).mean())  # the best that no number at all could do
    assert error < mean / 3


def test_one_level_halves_along_the_axes_that_are_long_enough():
    model = models.autoencoder((16, 16, 4, 1), latent=2, width=2, levels=2)
    assert model.get_layer("encode2").output.shape[1:] == (4, 4, 4, 8)


@pytest.mark.parametrize("make", [models.autoencoder, models.vae, models.denoising_autoencoder])
def test_saved_models_load_without_medlab(make, tmp_path):
    model = make((9, 8, 1), width=2)
    model.save(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(2, 9, 8, 1)).astype(np.float32)
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(again(x), model(x))
    np.testing.assert_array_equal(models.load(tmp_path / "model.keras")(x), model(x))


def with_code(model, mean, log_variance):
    """The model with the same distribution of the code for every image."""
    for name, value in (("latent", mean), ("log_variance", log_variance)):
        layer = model.get_layer(name)
        layer.kernel.assign(np.zeros(layer.kernel.shape))
        layer.bias.assign(value)
    return model


def test_the_divergence_is_added_in_the_scale_of_the_squared_error():
    # KL of N(1, 1) from N(0, 1): 1/2. Of N(0, 4): (4 - 1 - ln 4) / 2 = 0.80685.
    model = with_code(models.vae((8, 8, 1), latent=2, width=2, beta=3.0, pixel_sd=0.5), [1.0, 0.0], [0.0, np.log(4.0)])
    for cases in (1, 5):  # a mean over the cases, not a sum
        model(np.zeros((cases, 8, 8, 1)))
        assert float(sum(model.losses)) == pytest.approx(3 * (2 * 0.25 / 64) * (0.5 + 0.80685), rel=1e-4)
    nats = models.latent_divergence(model, np.zeros((5, 8, 8, 1)), batch_size=2)
    np.testing.assert_allclose(nats, [0.5, 0.80685], rtol=1e-4)


def test_a_code_is_drawn_with_its_mean_and_deviation_in_training_alone():
    model = with_code(models.vae((8, 8, 1), latent=2, width=2), [1.0, -2.0], [0.0, np.log(9.0)])
    sample = keras.Model(model.input, model.get_layer("sample").output)
    x = np.zeros((4000, 8, 8, 1), np.float32)
    drawn = np.asarray(sample(x, training=True))
    np.testing.assert_allclose(drawn.mean(axis=0), [1, -2], atol=0.15)  # errors 3 / sqrt(4000) = 0.05
    np.testing.assert_allclose(drawn.std(axis=0), [1, 3], rtol=0.05)
    np.testing.assert_allclose(sample(x[:2], training=False), [[1, -2]] * 2)


@pytest.mark.parametrize(("pixel_sd", "collapsed"), [(0.02, False), (10.0, True)])
def test_a_code_collapses_where_pixels_are_taken_for_noise(pixel_sd, collapsed):
    x, _ = blobs(128)
    model = models.vae((16, 16, 1), latent=3, width=2, pixel_sd=pixel_sd)
    train.fit(
        model, (x, x), loss="mean_squared_error", epochs=15, batch_size=16, learning_rate=0.01, progress=False,
        precision="float32",
    )  # fmt: skip
    nats = models.latent_divergence(model, x)
    assert (nats.max() < 0.05) == collapsed
    if not collapsed:
        assert nats.sum() > 2  # two coordinates told to a fraction of their range


@pytest.mark.parametrize("shape", [(64, 48, 1), (28, 28, 2), (13, 9, 1), (16, 12, 10, 1)], ids=str)
@pytest.mark.parametrize("kind", ["coarse", "fine"])
def test_noise_has_its_deviation_in_training_and_is_gone_otherwise(shape, kind):
    model = models.denoising_autoencoder(shape, noise=2.0, kind=kind, width=2, levels=1)
    noisy = keras.Model(model.input, model.get_layer("noisy").output)
    x = np.full((200, *shape), 3.0, np.float32)
    drawn = np.asarray(noisy(x, training=True)) - 3
    assert abs(drawn.mean()) < 0.15
    assert drawn.std() == pytest.approx(2.0, rel=0.05)
    np.testing.assert_array_equal(noisy(x, training=False), x)


def test_coarse_noise_is_alike_within_its_cell_and_independent_beyond_it():
    model = models.denoising_autoencoder((64, 64, 1), noise=1.0, cell=8, width=2, levels=1)
    noisy = keras.Model(model.input, model.get_layer("noisy").output)
    drawn = np.asarray(noisy(np.zeros((400, 64, 64, 1), np.float32), training=True))[..., 0]
    near, far = drawn[:, 32, 33], drawn[:, 32, 56]
    assert np.corrcoef(drawn[:, 32, 32], near)[0, 1] > 0.9
    assert abs(np.corrcoef(drawn[:, 32, 32], far)[0, 1]) < 0.2  # an error of 0.05 by chance


def test_coarse_noise_reaches_as_far_as_its_cell_and_differs_between_channels():
    """Over 6 pixels: two means of 4 pixels have hardly anything in common, two of 8 (a side's eighth) much."""
    far, channels = {}, {}
    for cell in (4, None):
        model = models.denoising_autoencoder((64, 64, 2), noise=1.0, cell=cell, width=2, levels=1)
        noisy = keras.Model(model.input, model.get_layer("noisy").output)
        drawn = np.asarray(noisy(np.zeros((100, 64, 64, 2), np.float32), training=True))
        here = drawn[:, ::16, 16:48:16]
        far[cell] = np.corrcoef(here[..., 0].ravel(), drawn[:, ::16, 22:54:16, 0].ravel())[0, 1]
        channels[cell] = np.corrcoef(here[..., 0].ravel(), here[..., 1].ravel())[0, 1]
    assert far[4] < 0.2 < 0.3 < far[None] < 0.7
    assert max(abs(one) for one in channels.values()) < 0.15


def test_an_untrained_denoiser_changes_nothing():
    x = np.random.default_rng(0).normal(size=(2, 9, 8, 1)).astype(np.float32)
    np.testing.assert_array_equal(models.denoising_autoencoder((9, 8, 1), width=2)(x), x)


def test_noise_stays_within_the_body():
    model = models.denoising_autoencoder((16, 16, 1), noise=1.0, background=0.5, width=2, levels=1)
    noisy = keras.Model(model.input, model.get_layer("noisy").output)
    x = np.zeros((3, 16, 16, 1), np.float32)
    x[:, 4:9] = 1
    drawn = np.asarray(noisy(x, training=True)) - x
    assert (drawn[x == 0] == 0).all()
    assert (drawn[x == 1] != 0).all()


def test_it_learns_to_undo_white_noise():
    clean, _ = blobs(96)
    model = models.denoising_autoencoder((16, 16, 1), noise=0.3, kind="fine", width=4, levels=2)
    train.fit(
        model, (clean, clean), loss="mean_squared_error", epochs=15, batch_size=16, learning_rate=0.01, progress=False
    )
    held_out, _ = blobs(40, seed=1)
    noisy = held_out + np.random.default_rng(0).normal(0, 0.3, held_out.shape).astype(np.float32)
    after = float(((np.asarray(model(noisy)) - held_out) ** 2).mean())
    assert after < 0.09 / 4  # the noise's variance is 0.09


@pytest.mark.parametrize("make", [models.autoencoder, models.vae, models.denoising_autoencoder])
def test_constant_images_are_learned(make):
    x = np.full((8, 8, 8, 1), 2.0, np.float32)
    model = make((8, 8, 1), width=2, norm="group")
    train.fit(
        model, (x, x), loss="mean_squared_error", epochs=4, batch_size=2, learning_rate=0.05, ema=None, progress=False
    )
    assert np.abs(np.asarray(model(x)) - 2).mean() < 0.5  # zeros are 2 away


@pytest.mark.parametrize("make", [models.autoencoder, models.vae])
@pytest.mark.parametrize("latent", [0, -1, 2.5, True, None])
def test_a_code_needs_at_least_one_number(make, latent):
    with pytest.raises(ValueError, match="Expected latent to be a whole number of at least 1"):
        make((8, 8, 1), latent=latent)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: models.autoencoder((3, 8, 1)), "at least 4 pixels a side"),
        (lambda: models.autoencoder((8, 8)), "Expected input_shape"),
        (lambda: models.autoencoder((8, 8, 1), levels=2), "room for 1 halving"),
        (lambda: models.autoencoder((8, 8, 1), width=0), "Expected width"),
        (lambda: models.vae((8, 8, 1), beta=-1), "Expected beta as a number of at least 0"),
        (lambda: models.vae((8, 8, 1), pixel_sd=0), "Expected pixel_sd as a number above 0"),
        (lambda: models.denoising_autoencoder((8, 8, 1), kind="pink"), "Expected kind to be one of"),
        (lambda: models.denoising_autoencoder((8, 8, 1), noise=float("nan")), "Expected noise"),
        (lambda: models.denoising_autoencoder((8, 8, 1), background="dark"), "Expected background"),
        (lambda: models.denoising_autoencoder((8, 8, 1), cell=0), "Expected cell"),
        (lambda: models.encoder(models.denoising_autoencoder((8, 8, 1))), "with a layer 'latent'"),
        (lambda: models.latent_divergence(models.autoencoder((8, 8, 1)), np.zeros((1, 8, 8, 1))), "models.vae"),
        (lambda: models.latent_divergence(models.vae((8, 8, 1)), np.zeros((0, 8, 8, 1))), "at least one image"),
    ],
)
def test_what_makes_no_network_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
