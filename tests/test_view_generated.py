"""Pictures of generated images: the right pixel in the right place, and what a slider does."""

import re

import numpy as np
import pandas as pd
import pytest

from medlab import view
from medlab.train.adversarial.watching import GanProgress
from medlab.view import figures, generated, sampler
from medlab.view.live_samples import LiveSamples


class Linear:
    """A generator whose images are known: 0.5 + the latents times a matrix."""

    classes, value_range = 0, (-4.0, 5.0)

    def __init__(self, matrix):
        self.matrix = np.asarray(matrix, np.float32)

    def latents(self, count, *, seed=0):
        return np.random.default_rng(seed).standard_normal((count, len(self.matrix))).astype(np.float32)

    def images(self, latents, labels=None):
        return (0.5 + latents @ self.matrix).reshape(len(latents), 2, 3, 1)


@pytest.fixture
def linear():
    matrix = np.zeros((4, 6))
    matrix[2] = 0.6  # latent 2 makes the whole image brighter; latent 0 the first pixel alone
    matrix[0, 0] = 0.3
    return Linear(matrix)


def test_sliders_go_along_what_changes_the_images_most(linear):
    found = view.explore_samples(linear, directions=2, display=False)
    # Singular vectors of the matrix, worked from its two rows: nearly latent 2, then nearly latent 0.
    left, sizes, _ = np.linalg.svd(linear.matrix)
    for number in range(2):
        assert abs(found.directions[number] @ left[:, number]) == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(found.changes, sizes[:2] / np.sqrt(6), rtol=1e-4)
    assert found.directions[0][2] > 0.9
    moved = found.at([2.0]) - found.at([0.0])
    np.testing.assert_allclose(moved.ravel(), 2 * found.directions[0] @ linear.matrix, atol=1e-5)
    assert found.widget is None


def test_more_directions_than_latents_are_refused(linear):
    with pytest.raises(ValueError, match="directions from 1 to 4"):
        view.explore_samples(linear, directions=5, display=False)


def test_the_widget_draws_what_the_sliders_say(linear):
    found = view.explore_samples(linear, directions=2, display=False)
    box = sampler._widget(found, None, linear.value_range)
    picture, controls = box.children
    first = picture.value
    sliders = controls.children[:2]
    sliders[0].value = 3.0
    assert picture.value == sampler._png(generated.pictures(found.at([3.0, 0.0])[None], linear.value_range)[0])
    assert picture.value != first
    back = controls.children[-1].children[1]
    back.click()
    assert sliders[0].value == 0
    assert picture.value == first
    toward = controls.children[2]
    toward.value = 1.0  # all the way to another image
    other = linear.images(linear.latents(2, seed=1)[1:])
    assert picture.value == sampler._png(generated.pictures(other, linear.value_range)[0])
    assert picture.value != first
    toward.value = 0.0
    assert picture.value == first
    controls.children[-1].children[0].click()
    assert picture.value != first


def test_the_way_between_two_latents_keeps_their_length():
    way = sampler.between(np.array([3.0, 0, 0]), np.array([0, 3.0, 0]), 5)
    np.testing.assert_allclose(np.linalg.norm(way, axis=1), 3, rtol=1e-6)
    np.testing.assert_allclose(way[1], [3 * np.cos(np.pi / 8), 3 * np.sin(np.pi / 8), 0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(sampler.between(np.array([1.0, 1]), np.array([2.0, 2]), 3)[1], [1.5, 1.5])


def test_tiles_lie_in_rows():
    images = np.arange(6, dtype=float)[:, None, None, None] * np.ones((1, 2, 3, 1)) / 5
    figure = view.sample_grid(images, ["a", "b"], columns=3, value_range=(0, 1))
    sheet = figure.axes[0].images[0].get_array()
    assert sheet.shape == (5, 11)  # a gap of one pixel
    np.testing.assert_allclose(sheet[::3, ::4], [[0, 0.2, 0.4], [0.6, 0.8, 1]])
    assert [one.get_text() for one in figure.axes[0].get_yticklabels()] == ["a", "b"]
    with pytest.raises(ValueError, match="Expected 2 names"):
        view.sample_grid(images, ["a"], columns=3)


def test_of_a_volume_the_middle_slice_is_shown_upright():
    volume = np.zeros((1, 4, 6, 5, 1))
    volume[0, 0, 5, 2, 0] = 1  # first i, last j, the middle k
    picture = generated.pictures(volume)[0]
    assert picture.shape == (6, 4)
    assert picture[0, 3] == 1  # the patient's left, on the right
    assert picture.sum() == 1


def test_a_constant_picture_is_drawn_and_no_image_is_refused():
    assert generated.pictures(np.full((2, 3, 3, 1), 7.0)).tolist() == np.zeros((2, 3, 3)).tolist()
    with pytest.raises(ValueError, match=r"images of shape \(n, i, j\[, k\], c\)"):
        generated.pictures(np.zeros((3, 3)))


def test_the_most_suspicious_come_first():
    made = np.arange(4, dtype=float)[:, None, None, None] * np.ones((1, 2, 2, 1))
    figure = view.copies(made, made[::-1], [0.9, 0.1, 0.5, 0.7], count=2, flagged=[False, True, False, False])
    assert [panel.get_title() for panel in figure.axes[:2]] == ["flagged\n0.10", "0.50"]
    # Of the four pictures drawn (1 and 2, their nearest 2 and 1) all share one window.
    assert [float(panel.images[0].get_array()[0, 0]) for panel in figure.axes] == [0, 1, 1, 0]


def test_the_curves_are_those_of_the_history():
    history = pd.DataFrame({
        "epoch": [1, 2, 3], "discriminator_loss": [2.0, 1.5, 1.0], "generator_loss": [0.0, 0.5, 0.7],
        "diversity": [0.1, 0.6, 0.8],
    })  # fmt: skip
    figure = view.gan_training(history, np.random.default_rng(0).random((30, 8, 8, 1)))
    tiles, losses, variety = figure.get_axes()
    assert tiles.images[0].get_array().shape == (26, 107)
    assert [line.get_ydata().tolist() for line in losses.lines] == [[2.0, 1.5, 1.0], [0.0, 0.5, 0.7]]
    assert variety.lines[0].get_ydata().tolist() == [0.1, 0.6, 0.8]
    assert "epoch 3" in tiles.get_title()


def test_the_live_view_shows_the_samples_and_a_stop_button():
    progress, live = GanProgress(10), LiveSamples(10)
    row = {"epoch": 1, "discriminator_loss": 2.0, "generator_loss": 0.5, "diversity": 0.1, "seconds": 1.0}
    progress.live, progress.samples = live, np.random.default_rng(0).random((4, 8, 8, 1))
    progress.epoch(row)
    assert live.curves.value == figures.png(generated.gan_training(pd.DataFrame([row]), progress.samples))
    assert "discriminator 2.000, generator 0.500, diversity 0.10" in progress.last
    assert live.step(1.5) is False
    live.button.click()
    assert live.step(1.6) is True


def test_volumes_are_shown_as_slices_are():
    x = np.zeros((1, 12, 10, 7, 1), np.float32)
    x[0, 2:4, 7:9, 3] = 1
    x[0, 2, 2, 3] = 0.5
    shown = view.slice_image(x[0], axis="axial", window=(0.5, 1))
    np.testing.assert_allclose(generated.pictures(x)[0], shown[..., 0] / 255, atol=0.005)
    assert np.argwhere(generated.pictures(x)[0] == 1).min(0).tolist() == [1, 8]


def test_what_cannot_be_drawn_is_refused(linear):
    x, history = np.zeros((3, 4, 4, 1)), pd.DataFrame({"epoch": []})
    for call, says in (
        (lambda: view.sample_grid(x, columns=0), "columns to be a whole number"),
        (lambda: view.sample_grid(x, value_range="a"), "value_range as"),
        (lambda: view.gan_training(history, x), "history of at least one epoch"),
        (lambda: view.copies(x, x[:1], [1, 2, 3]), r"Received \[1, 3\]"),
        (lambda: view.copies(x, x, [1, 2, 3], flagged=[True]), r"Received \[1, 3\]"),
        (lambda: view.explore_samples(linear, display=False).at([0] * 9), "up to 4 finite steps"),
        (lambda: view.explore_samples(linear, display=False).at(1), "up to 4 finite steps"),
    ):
        with pytest.raises(ValueError, match=says):
            call()


def test_the_sampler_keeps_its_label():
    class Labeled(Linear):
        classes = 2

        def images(self, latents, labels=None):
            return super().images(latents) + 10 * labels

    found = view.explore_samples(Labeled(np.eye(4, 6)), label=1, display=False)
    assert found.at([0]).mean() - found.at([0], label=0).mean() == pytest.approx(10, rel=1e-5)
    picture, controls = sampler._widget(found, 1, (-20.0, 20.0)).children
    for kind in (1, 0):
        controls.children[-2].value = kind
        assert picture.value == sampler._png(generated.pictures(found.at([0], kind)[None], (-20.0, 20.0))[0])


def test_a_grid_grows_with_its_rows_and_leaves_gaps():
    x = np.zeros((160, 8, 8, 1))
    x[0] = 1
    short, tall = (view.sample_grid(x[:count], columns=4).get_figheight() for count in (8, 160))
    assert (tall - 0.1) / (short - 0.1) == pytest.approx(20, rel=1e-6)
    sheet = view.sample_grid(x[:8], columns=4).axes[0].images[0].get_array()
    assert sheet.shape == (17, 35)
    assert (sheet[8] == 1).all()
    assert sheet[9:, :8].max() == 0


def test_one_label_beyond_the_classes_is_named():
    class Labeled(Linear):
        classes = 2

        def images(self, latents, labels=None):
            return super().images(latents) + 10 * labels

    gan = Labeled(np.eye(4, 6))
    for label in (5, -1, 0.5, [0, 1]):
        with pytest.raises(ValueError, match=r"label as one class from 0 to 1. Received " + re.escape(repr(label))):
            view.explore_samples(gan, label=label, display=False)
    with pytest.raises(ValueError, match=r"label as one class from 0 to 1. Received 2"):
        view.explore_samples(gan, display=False).at([0.0], 2)
    assert view.explore_samples(gan, label=np.int64(1), display=False).label == 1


def test_nan_is_magenta_and_said():
    x = np.zeros((2, 2, 2, 1))
    x[0, 0, 0] = np.nan
    x[1, 1, 1] = 4
    found = generated.pictures(x)
    assert found[0, 0, 0].tolist() == [1, 0, 1]
    assert found[0, 1].tolist() == [[0] * 3] * 2
    assert found[1, 1, 1].tolist() == [1, 1, 1]
    assert generated.pictures(np.full((1, 2, 2, 3), np.nan))[0, 1, 1].tolist() == [1, 0, 1]
    figure = view.copies(x, x[::-1], [0.5, np.nan])
    assert figure.axes[0].images[0].get_array()[0, 0].tolist() == [1, 0, 1]
    assert [panel.get_xlabel() for panel in figure.axes] == ["25 % NaN", "", "", "25 % NaN"]
    assert [panel.get_title() for panel in figure.axes[:2]] == ["0.50", "no ratio"]


def test_copies_needs_images_of_one_shape():
    x = np.zeros((3, 4, 4, 1))
    for nearest, ratios, says in (
        (np.arange(3), [1, 2, 3], r"nearest as images.* take train\[found.nearest\]. Received shape \(3,\)"),
        (np.zeros((3, 5, 4, 1)), [1, 2, 3], r"of one shape .* Received \(3, 4, 4, 1\), \(3, 5, 4, 1\) and \(3,\)"),
        (x, ["a", "b", "c"], "ratios as numbers"),
        (x, 0.5, r"ratios \(n,\). Received .* and \(\)"),
    ):
        with pytest.raises(ValueError, match=says):
            view.copies(x, nearest, ratios)
