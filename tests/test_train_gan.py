"""A GAN's training: it learns, repeats itself, goes on where it stopped, and says what goes wrong."""

import numpy as np
import pandas as pd
import pytest

from medlab import models, train
from medlab.train import checkpoint
from medlab.train.adversarial import distorting, outcome, received, training


def squares(n=64, seed=0):
    """Images with one bright square at one of four places; y is whether it is in the upper half."""
    random = np.random.default_rng(seed)
    x, place = random.uniform(0, 0.1, size=(n, 8, 8, 1)).astype(np.float32), random.integers(0, 4, n)
    for image, one in zip(x, place, strict=True):
        row, column = divmod(one, 2)
        image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 0.8
    return x, (place < 2).astype(int)


def small(classes=0, **settings):
    return models.gan((8, 8, 1), latent=4, classes=classes, width=4, **settings)


QUICK = {"batch_size": 32, "samples": 16, "progress": False, "devices": "cpu", "augment": None}


def test_it_learns_the_images_and_their_classes():
    x, y = squares(256)
    gan = small(2)
    fit = train.fit_gan(gan, x, y, epochs=40, learning_rate=(0.004, 0.008), **QUICK)
    for label in (0, 1):
        made = gan.sample(64, label, seed=1)
        real = x[y == label].mean(0)
        # The mean image of a class has 0.45 in its half and 0.05 in the other: 0.4 apart, with the sign of its class.
        apart = [one[:4].mean() - one[4:].mean() for one in (made.mean(0), real)]
        assert 0.5 < apart[0] / apart[1] < 1.5
    assert fit.history["epoch"].tolist() == list(range(1, 41))
    assert fit.history["diversity"].iloc[-1] > outcome.COLLAPSED
    assert fit.warnings == ()
    assert fit.labels.tolist() == [0, 1] * 8
    assert min(fit.samples) == 1
    assert max(fit.samples) == 40
    # The generator that is given back is the one that made the last samples.
    np.testing.assert_allclose(gan.images(fit.latents, fit.labels), fit.samples[40], atol=1e-5)
    # The discriminator judges by itself as it did in training: its last layer has a norm of one.
    kernel = checkpoint.array(gan.discriminator.get_layer("real_bounded").layer.kernel)
    assert np.linalg.norm(kernel) == pytest.approx(1, abs=0.02)


def test_a_training_stopped_and_resumed_gives_the_same_numbers(tmp_path):
    x, _ = squares()
    whole = train.fit_gan(small(), x, epochs=4, seed=3, **QUICK)
    columns = ["discriminator_loss", "generator_loss", "diversity"]

    def stop(self, done):
        return done >= 2

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.GanProgress, "stop_asked", stop)
        part = train.fit_gan(small(), x, epochs=4, seed=3, run=tmp_path, **QUICK)
    assert part.stopped == "stopped by hand"
    assert len(part.history) == 2
    rest = train.fit_gan(small(), x, epochs=4, seed=3, run=tmp_path, resume=True, **QUICK)
    assert rest.stopped is None
    pd.testing.assert_frame_equal(whole.history[columns], rest.history[columns])
    np.testing.assert_allclose(whole.samples[4], rest.samples[4], atol=1e-6)

    written = models.load(tmp_path / "model.keras")
    np.testing.assert_allclose(written.predict_on_batch(rest.latents), rest.samples[4], atol=1e-5)
    assert len(pd.read_csv(tmp_path / "history.csv")) == 4
    with pytest.raises(ValueError, match=r"had other settings \(batch_size: 32 there, 16 now"):
        train.fit_gan(small(), x, epochs=4, seed=3, run=tmp_path, resume=True, **(QUICK | {"batch_size": 16}))


def test_a_diverging_training_stops_with_the_reason_and_keeps_the_last_good_samples():
    x, _ = squares()
    gan = small(spectral_norm=False)
    made = training.Training.train

    def poisoned(self):
        step = self._step

        def spoil(epoch, number, chosen):
            if epoch == 2:  # as a step does that is far too large
                self.job.gan.discriminator.get_layer("real").bias.assign([np.inf])
            return step(epoch, number, chosen)

        self._step = spoil
        return made(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.Training, "train", poisoned)
        said = r"in step 1 of epoch 3, .* learning_rate=\(2e-05, 8e-05\)"
        with pytest.raises(train.GanDivergedError, match=said) as error:
            train.fit_gan(gan, x, epochs=5, **QUICK)
    fit = error.value.fit
    assert isinstance(error.value, train.DivergedError)
    assert "generator and the samples of epoch 2 are kept" in str(error.value)
    assert len(fit.history) == 2
    assert np.isfinite(fit.samples[2]).all()
    np.testing.assert_allclose(gan.images(fit.latents), fit.samples[2], atol=1e-5)


def test_without_a_running_mean_the_last_weights_are_kept():
    x, _ = squares()
    one, other = small(), small()
    before = [checkpoint.array(weight) for weight in one.generator.trainable_variables]
    train.fit_gan(one, x, epochs=1, ema=None, **QUICK | {"batch_size": len(x)})  # a single step
    for weight, old in zip(one.generator.trainable_variables, before, strict=True):
        assert not np.array_equal(checkpoint.array(weight), old), weight.path
    fit = train.fit_gan(other, x, epochs=1, ema=None, **QUICK | {"batch_size": len(x)})
    np.testing.assert_allclose(other.images(fit.latents), fit.samples[1], atol=1e-5)


def test_weights_that_are_no_numbers_stop_it_too_and_what_was_saved_stays(tmp_path):
    x, _ = squares()
    gan = small()
    made = training.Training.train

    def poisoned(self):
        step = self._step
        self.judge.run_eagerly = self.maker.run_eagerly = True  # few steps: nothing is compiled

        def spoil(epoch, number, chosen):
            losses = step(epoch, number, chosen)
            if epoch == 1:  # the only step of the second epoch: its losses were finite
                for network in (self.mean, self.job.gan.generator):
                    network.get_layer("image").bias.assign([np.nan])
            return losses

        self._step = spoil
        return made(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.Training, "train", poisoned)
        said = r"weights became NaN or infinite in epoch 2, .* samples of epoch 1 are kept"
        with pytest.raises(train.GanDivergedError, match=said) as error:
            train.fit_gan(gan, x, epochs=5, run=tmp_path, **QUICK | {"batch_size": 64})
    fit = error.value.fit
    assert sorted(fit.samples) == [1]
    np.testing.assert_allclose(gan.images(fit.latents), fit.samples[1], atol=1e-5)
    written = models.load(tmp_path / "model.keras")
    np.testing.assert_allclose(written.predict_on_batch(fit.latents), fit.samples[1], atol=1e-5)
    assert all(np.isfinite(checkpoint.array(one)).all() for one in gan.discriminator.weights)


def test_each_network_has_its_own_rate_and_the_mean_is_kept():
    """Adam's first step is its rate for each weight; the mean takes 2 / 11 of the start, 9 / 11 of what came then."""
    x, _ = squares()
    gan = small(spectral_norm=False)
    networks = (gan.generator.get_layer("image"), gan.discriminator.get_layer("stage1_conv"))
    before = [checkpoint.array(one.kernel) for one in networks]
    train.fit_gan(gan, x, epochs=1, learning_rate=(0.01, 1e-9), ema=0.9, **QUICK)
    moved = [np.abs(checkpoint.array(one.kernel) - old) for one, old in zip(networks, before, strict=True)]
    assert np.median(moved[0]) == pytest.approx(0.01 * 9 / 11, rel=0.02)
    assert 0 < moved[1].max() < 1e-8


def test_few_images_are_distorted_and_many_are_not():
    assert received.changes("auto", 9_999)[0] == distorting.CHANGES
    assert received.changes("auto", 10_000)[0] == ()
    assert received.changes(("contrast", "shift"), 20_000)[0] == ("shift", "contrast")
    assert received.changes(None, 10)[0] == ()


def test_alike_samples_are_warned_of(capsys):
    x, _ = squares()
    gan = small()
    # A generator that does not look at its latents: whatever it is trained to, all samples are one image.
    gan.generator.get_layer("start").kernel.assign(np.zeros(gan.generator.get_layer("start").kernel.shape))
    gan.generator.get_layer("start").trainable = False
    fit = train.fit_gan(gan, x, epochs=4, **(QUICK | {"progress": True}))
    assert fit.history["diversity"].max() < 0.01
    assert len(fit.warnings) == 1
    assert "mode collapse" in fit.warnings[0]
    assert "mode collapse" in capsys.readouterr().err


def test_time_ends_it():
    x, _ = squares()
    fit = train.fit_gan(small(), x, epochs=100_000, max_seconds=0.5, **QUICK)
    assert fit.stopped == "the 0.5 seconds given are used up"
    assert len(fit.history) >= 1
    assert fit.samples


def test_diversity_by_hand():
    real = np.zeros((4, 2, 2, 1))
    real[:, 0, 0, 0] = [0, 1, 3, 7]  # to the nearest: 1, 1, 2, 4
    assert outcome.nearest(outcome.coarse(real)) == pytest.approx(2)
    assert outcome.diversity(real / 2, 2.0) == pytest.approx(0.5)
    assert outcome.diversity(np.repeat(real[:2], 2, axis=0), 2.0) == 0  # two modes, each made twice
    ones = np.arange(2 * 32 * 16, dtype=float).reshape(2, 32, 16, 1)
    blocks = outcome.coarse(ones)  # 32 rows become 16, 16 columns stay
    np.testing.assert_allclose(blocks[0].reshape(16, 16), ones[0, ..., 0].reshape(16, 2, 16).mean(1))


def test_the_epochs_whose_samples_are_kept():
    assert outcome.shown_epochs(1) == {1}
    assert outcome.shown_epochs(3) == {1, 2, 3}
    kept = sorted(outcome.shown_epochs(500))
    assert kept[0] == 1
    assert kept[-1] == 500
    assert len(kept) <= 10


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"x": np.zeros((4, 8, 8))}, r"images of shape \(n, 8, 8, 1\). Received \(4, 8, 8\)"),
        ({"x": np.zeros((1, 8, 8, 1))}, "at least 2 images"),
        ({"x": np.full((4, 8, 8, 1), np.nan)}, "NaN or infinity"),
        ({"x": np.full((4, 8, 8, 1), 3.0)}, r"reach from 3 to 3, .*value_range=\(3, 3\)"),
        ({"x": np.tile(np.eye(8)[None, ..., None], (4, 1, 1, 1))}, "All images are the same"),
        ({"x": np.linspace(0, 1, 4).reshape(4, 1, 1, 1) * np.ones((4, 8, 8, 1))}, "Every image is constant"),
        ({"y": [0, 1, 0, 1]}, "has no classes"),
        ({"epochs": 0}, "epochs to be a whole number of at least 1"),
        ({"batch_size": 1}, "batch_size to be a whole number of at least 2"),
        ({"samples": 1}, "samples to be a whole number of at least 2"),
        ({"loss": "minimax"}, "loss to be one of"),
        ({"learning_rate": (0.1, 0.0)}, "learning_rate above 0, or a pair"),
        ({"augment": ("blur",)}, "augment"),
        ({"max_seconds": 0}, "max_seconds above 0"),
        ({"resume": True}, "needs a run folder"),
        ({"x": (np.zeros((4, 8, 8, 1)), [0, 1, 0, 1])}, "images and labels apart"),
        ({"gan": np.zeros(3)}, "Expected a GAN of medlab.models.gan first. Received ndarray"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(change, said):
    x = squares(4)[0]
    with pytest.raises(ValueError, match=said):
        train.fit_gan(**({"gan": small(), "x": x, "epochs": 1} | QUICK | change))


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (None, "has 3 classes: give y"),
        ([0, 1, 2], "Expected 4 class indices from 0 to 2"),
        ([0, 1, 2, 3], "Expected 4 class indices from 0 to 2"),
        ([0.5, 1, 2, 0], "Expected 4 class indices"),
        ([0, 0, 1, 1], "No image has the label 2"),
    ],
)
def test_labels_that_do_not_fit_are_refused(y, said):
    with pytest.raises(ValueError, match=said):
        train.fit_gan(small(3), squares(4)[0], y, epochs=1, **QUICK)


def test_a_first_epoch_divergence_puts_the_given_weights_back():
    x, _ = squares(64)
    gan = small(spectral_norm=False)
    before = [checkpoint.array(one) for network in (gan.generator, gan.discriminator) for one in network.weights]
    with pytest.raises(train.GanDivergedError, match="first weights are put back"):
        train.fit_gan(gan, x, epochs=3, learning_rate=1e6, **QUICK | {"batch_size": 8})
    after = [checkpoint.array(one) for network in (gan.generator, gan.discriminator) for one in network.weights]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_partial_first_epoch_is_no_epoch_when_resumed(tmp_path, monkeypatch):
    x, _ = squares(64)
    settings = {"epochs": 2, "seed": 1, **QUICK}
    whole = train.fit_gan(small(), x, **settings)
    asked = iter([True])
    with monkeypatch.context() as patch:
        patch.setattr(training.GanProgress, "stop_asked", lambda *_: next(asked, False))
        first = train.fit_gan(small(), x, run=tmp_path, **settings)
    assert first.stopped == "stopped by hand"
    assert len(first.samples[1]) == 16
    # More time is no other setting.
    again = train.fit_gan(small(), x, run=tmp_path, resume=True, max_seconds=1000, **settings)
    pd.testing.assert_frame_equal(again.history.drop(columns="seconds"), whole.history.drop(columns="seconds"))
    longer = train.fit_gan(small(), x, run=tmp_path, resume=True, max_seconds=2000, **settings)
    assert len(longer.history) == 2


def test_diversity_does_not_count_repeated_images(tmp_path):
    """Each image four times: the real ones that are compared are all different."""
    x, _ = squares(12)
    plain = train.fit_gan(small(), x, epochs=1, **QUICK | {"batch_size": 12})
    often = train.fit_gan(small(), x.repeat(4, 0), epochs=1, **QUICK | {"batch_size": 48})
    assert 0 < often.history["diversity"].iloc[0] == pytest.approx(plain.history["diversity"].iloc[0], rel=0.5)
    assert outcome.nearest(1e4 + np.repeat(np.eye(3), 2, axis=0)) == 0
