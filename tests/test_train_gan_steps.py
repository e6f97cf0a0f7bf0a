"""Each step of a GAN moves its own network's weights and only those; each loss is its formula."""

import warnings

import numpy as np
import pytest

from medlab import models
from medlab.backend import keras
from medlab.train import checkpoint
from medlab.train.adversarial import distorting, steps
from medlab.train.adversarial.distorting import CHANGES

ops = keras.ops
JIT = keras.backend.backend() == "jax"


def made(
    classes=0, *, changes=CHANGES, loss="hinge", momentum=0.5, norm=True, optimizer=None, shape=(8, 8, 1), eager=True
):
    """A GAN and its steps; eager ones start at once, the compiled ones that a training uses take seconds."""
    gan = models.gan(shape, latent=3, classes=classes, width=2, spectral_norm=norm)
    mean = keras.models.clone_model(gan.generator)
    mean.set_weights([checkpoint.array(one) for one in gan.generator.weights])
    settings = {"loss": loss, "changes": changes, "limits": (0.0, 1.0)}
    judge = steps.DiscriminatorStep(gan.discriminator, [gan.generator], **settings)
    maker = steps.GeneratorStep(gan.generator, [gan.discriminator, mean], momentum=momentum, **settings)
    for step in (judge, maker):
        step.compile(
            optimizer() if optimizer else keras.optimizers.Adam(1e-2), jit_compile=JIT and not eager, run_eagerly=eager
        )
    return gan, mean, judge, maker


def batches(classes=0, n=6, rank=2, seed=0):
    random = np.random.default_rng(seed)
    count = distorting.count_numbers(rank)
    judged = {
        "real": random.random((n, *(8,) * rank, 1), np.float32),
        "latent": random.standard_normal((n, 3), np.float32),
        "numbers": random.random((2 * n, count), np.float32),
    }
    making = {
        "latent": random.standard_normal((n, 3), np.float32),
        "numbers": random.random((n, count), np.float32),
    }
    if classes:
        judged |= {name: random.integers(0, classes, n).astype(np.int32) for name in ("label", "wanted")}
        making["wanted"] = random.integers(0, classes, n).astype(np.int32)
    return judged, making


def values(network):
    return {one.path: checkpoint.array(one) for one in network.variables}


def moved(before, network):
    now = values(network)
    return {path for path in before if not np.array_equal(before[path], now[path])}


def trained(network):
    return {one.path for one in network.trainable_variables}


@pytest.mark.parametrize(
    ("classes", "shape", "eager"), [(2, (8, 8, 1), False), (0, (8, 8, 1), True), (0, (8, 8, 8, 1), True)]
)
def test_each_step_moves_its_own_weights_and_only_those(classes, shape, eager):
    # Of the hinge loss the last bias has no gradient while all logits lie within -1 and 1.
    gan, mean, judge, maker = made(classes, shape=shape, eager=eager, loss="non-saturating")
    judged, making = batches(classes, rank=len(shape) - 1)
    maker.train_on_batch(making)  # so that the generator's start at zero biases is behind
    generator, discriminator, averaged = (values(one) for one in (gan.generator, gan.discriminator, mean))

    judge.train_on_batch(judged)
    assert moved(generator, gan.generator) == set()
    assert moved(averaged, mean) == set()
    changed = moved(discriminator, gan.discriminator)
    assert trained(gan.discriminator) <= changed, "each weight of the discriminator moves"
    assert {path.rsplit("/", 1)[1] for path in changed - trained(gan.discriminator)} == {"vector_u"}

    discriminator = values(gan.discriminator)
    maker.train_on_batch(making)
    assert moved(discriminator, gan.discriminator) == set(), "not even the spectral norm's vectors"
    changed = moved(generator, gan.generator)
    assert trained(gan.generator) <= changed, "each weight of the generator moves"
    assert {path.rsplit("/", 1)[1] for path in changed - trained(gan.generator)} == {"moving_mean", "moving_variance"}


def test_the_old_recipe_never_trains_the_discriminator():
    """Compile the discriminator, freeze it, compile both stacked: a trap of Keras 3, with a warning at most."""
    gan = models.gan((8, 8, 1), latent=3, width=2, spectral_norm=False)
    gan.discriminator.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True), jit_compile=JIT)
    gan.discriminator.trainable = False
    before = values(gan.discriminator)
    random = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The model does not have any trainable weights")  # on TensorFlow
        gan.discriminator.train_on_batch(random.random((6, 8, 8, 1), np.float32), np.ones((6, 1), np.float32))
    assert moved(before, gan.discriminator) == set()


def test_steps_follow_the_gradient_of_their_formulas():
    """One step of plain gradient descent on the last bias, without distortion or norm, worked by hand."""
    gan, _, judge, _ = made(changes=(), norm=False, optimizer=lambda: keras.optimizers.SGD(0.5))
    judged, _ = batches()
    fake, _ = gan.generator.stateless_call(
        gan.generator.trainable_variables, gan.generator.non_trainable_variables, judged["latent"], training=True
    )
    real = gan.discriminator.predict_on_batch(judged["real"])[:, 0]
    fake = gan.discriminator.predict_on_batch(np.asarray(fake))[:, 0]
    # With a bias of 2 most logits lie above 1, where only the generated images count.
    bias = gan.discriminator.get_layer("real").bias
    bias.assign([2.0])
    real, fake = real + 2, fake + 2
    slope = -(real < 1).mean() + (fake > -1).mean()  # d/db of mean(relu(1 - real)) + mean(relu(1 + fake))
    assert slope > 0
    loss = judge.train_on_batch(judged)
    assert float(loss) == pytest.approx(np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + fake).mean(), rel=1e-4)
    np.testing.assert_allclose(checkpoint.array(bias), [2.0 - 0.5 * slope], rtol=1e-5)


@pytest.mark.parametrize("classes", [0, 2])
def test_real_and_generated_images_are_judged_distorted_and_beside_their_labels(classes):
    gan, _, judge, maker = made(classes, changes=("brightness",), norm=False)
    judged, making = batches(classes)

    def drawn(batch):
        asked = [batch["latent"], batch["wanted"]] if classes else batch["latent"]
        weights = gan.generator.trainable_variables, gan.generator.non_trainable_variables
        return ops.convert_to_numpy(gan.generator.stateless_call(*weights, asked, training=True)[0])

    def logits(images, numbers, *labels):  # brighter by half of: the first number less a half
        images = images + (numbers[:, :1, None, None] - 0.5) / 2
        return gan.discriminator.predict_on_batch([images, np.concatenate(labels)] if classes else images)

    both = np.concatenate([judged["real"], drawn(judged)])
    wanted = logits(both, judged["numbers"], judged.get("label"), judged.get("wanted"))
    unlike = np.abs(wanted - logits(both, np.full((12, 6), 0.5, np.float32), judged.get("label"), judged.get("wanted")))
    assert unlike.min() > 1e-6
    np.testing.assert_allclose(ops.convert_to_numpy(judge.call(judged)), wanted, atol=1e-7)
    wanted = logits(drawn(making), making["numbers"], making.get("wanted"))
    np.testing.assert_allclose(ops.convert_to_numpy(maker.call(making)), wanted, atol=1e-7)


def test_losses_are_their_formulas():
    _, _, judge, maker = made()
    logits = np.array([[2.0], [0.5], [-3.0], [0.0]], np.float32)  # two real, two generated
    assert float(judge.compute_loss(y_pred=logits)) == pytest.approx((0 + 0.5) / 2 + (0 + 1) / 2)
    assert float(maker.compute_loss(y_pred=logits)) == pytest.approx(0.125)
    judge.loss_name = maker.loss_name = "non-saturating"
    log1p = [np.log1p(np.exp(one)) for one in (-2, -0.5, -3, 0)]
    assert float(judge.compute_loss(y_pred=logits)) == pytest.approx(sum(log1p[:2]) / 2 + sum(log1p[2:]) / 2, rel=1e-6)
    expected = np.mean(np.log1p(np.exp(-logits)))
    assert float(maker.compute_loss(y_pred=logits)) == pytest.approx(expected, rel=1e-6)


def test_the_discriminator_judges_with_a_norm_of_one():
    gan, _, judge, _ = made(changes=())
    for seed in range(15):
        judge.train_on_batch(batches(seed=seed)[0])
    inside = gan.discriminator.get_layer("real_bounded")
    _, kernel = inside.normalized_weights()
    assert np.linalg.norm(ops.convert_to_numpy(kernel)) == pytest.approx(1, abs=1e-3)


def test_the_running_mean_is_that_of_the_weights_before_each_step():
    gan, mean, _, maker = made(momentum=0.2)
    kept = values(mean)
    for step in range(4):
        weights = dict(zip(kept, values(gan.generator).values(), strict=True))
        share = min(0.2, (1 + step) / (10 + step))
        kept = {path: share * kept[path] + (1 - share) * weights[path] for path in kept}
        maker.train_on_batch(batches(seed=step)[1])
    for path, now in values(mean).items():
        np.testing.assert_allclose(now, kept[path], rtol=1e-5, atol=1e-6)


def test_without_a_mean_the_step_leaves_the_other_weights_alone():
    _, mean, _, maker = made(momentum=None)
    before = values(mean)
    maker.train_on_batch(batches()[1])
    assert moved(before, mean) == set()


# What distorts real and generated images.


def numbers(**chosen):
    """Random numbers that change nothing but what is named: brightness, contrast, shift 2, middle of the box 2."""
    row = np.array([0.5, 0.5, 0.5, 0.5, 0.5, 0.5], np.float32)
    for place, value in {"brightness": 0, "contrast": 1, "down": 2, "right": 3, "row": 4, "column": 5}.items():
        if place in chosen:
            row[value] = chosen[place]
    return row[None]


def test_a_shift_moves_pixels_and_repeats_the_border():
    x = np.arange(64, dtype=np.float32).reshape(1, 8, 8, 1)
    out = ops.convert_to_numpy(distorting.distort(x, numbers(down=0.0, right=0.99), ("shift",), (0, 1)))[0, ..., 0]
    image = x[0, ..., 0]
    expected = np.concatenate([image[:1], image[:-1]])  # one pixel (8 // 8) down ...
    expected = np.concatenate([expected[:, 1:], expected[:, -1:]], 1)  # ... and one to the left
    np.testing.assert_array_equal(out, expected)


def test_brightness_and_contrast_by_hand():
    x = np.array([0.2, 0.4, 0.6, 0.8], np.float32).reshape(1, 2, 2, 1)
    out = distorting.distort(x, numbers(brightness=0.75), ("brightness",), (0.0, 2.0))
    np.testing.assert_allclose(
        ops.convert_to_numpy(out), x + 0.25, rtol=1e-6
    )  # half of the way to a quarter of the range
    out = distorting.distort(x, numbers(contrast=0.0), ("contrast",), (0.0, 1.0))
    np.testing.assert_allclose(ops.convert_to_numpy(out), 0.5 + (x - 0.5) / 2, rtol=1e-6)


def test_the_box_has_half_of_each_side_and_the_middle_of_the_range():
    x = np.ones((1, 8, 8, 1), np.float32)
    out = ops.convert_to_numpy(distorting.distort(x, numbers(row=0.5, column=0.0), ("cutout",), (0.0, 1.0)))[0, ..., 0]
    expected = np.ones((8, 8))
    expected[2:6, :2] = 0.5  # the middle lies on the left border, so that half of the box is outside
    np.testing.assert_array_equal(out, expected)
