"""Reconstructions, anomaly maps and samples: one window for what is compared, one scale for what is measured."""

import numpy as np
import pytest

from medlab import view
from medlab.view.colors import HEAT_COLORS, SIGNED_COLORS
from medlab.volume import Volume


def pixel(panel, row, column, side=8):
    """The color at the middle of a pixel of an image with ``side`` pixels a side."""
    picture = panel.images[0].get_array()
    step = picture.shape[0] // side
    return picture[row * step + step // 2, column * step + step // 2].tolist()


def pair() -> tuple[np.ndarray, np.ndarray]:
    """Two images of 8 x 8 from 0 to 1, and reconstructions that lack 0.4 at (2, 5) and have 0.4 too much at (6, 1)."""
    x = np.zeros((2, 8, 8, 1))
    x[:, :4] = 1
    made = x.copy()
    made[:, 2, 5] -= 0.4
    made[:, 6, 1] += 0.4
    return x, made


def test_a_row_shares_the_window_of_its_image():
    x, made = pair()
    figure = view.reconstructions({"Image": x, "Reconstruction": made}, ["a", "b"])
    panels = figure.axes
    assert [panel.get_title() for panel in panels[:2]] == ["Image", "Reconstruction"]
    assert pixel(panels[0], 2, 5)[0] == 255
    assert pixel(panels[1], 2, 5)[0] == pytest.approx(0.6 * 255, abs=1)
    assert pixel(panels[3], 6, 1)[0] == pytest.approx(0.4 * 255, abs=1)
    assert [panels[0].get_ylabel(), panels[2].get_ylabel()] == ["a", "b"]


def test_the_residual_is_signed_and_on_one_scale():
    x, made = pair()
    made[1] = x[1] + (made[1] - x[1]) / 2  # the second case errs half as much
    figure = view.reconstructions({"Image": x, "Given": x, "Made": made}, residual=("Image", "Made"))
    first, second = figure.axes[3], figure.axes[7]
    assert first.get_title() == "Residual"
    assert pixel(first, 2, 5) == SIGNED_COLORS[255].tolist()  # the image is brighter: orange
    assert pixel(first, 6, 1) == SIGNED_COLORS[0].tolist()  # the reconstruction is: purple
    assert pixel(first, 0, 0) == [255, 255, 255]
    assert pixel(second, 2, 5) == SIGNED_COLORS[191].tolist()
    assert figure.axes[-1].get_ylabel() == "image − made"
    assert figure.axes[-1].get_ylim() == pytest.approx((-0.4, 0.4))


def test_a_perfect_reconstruction_leaves_white():
    x, _ = pair()
    figure = view.reconstructions({"Image": x, "Made": x}, residual=("Image", "Made"))
    assert (figure.axes[2].images[0].get_array() == 255).all()


def test_signed_colors_are_white_in_the_middle_and_differ_in_hue_at_the_ends():
    assert SIGNED_COLORS[127].tolist() == SIGNED_COLORS[128].tolist() == [255, 255, 255]
    assert SIGNED_COLORS[0].tolist() == [84, 39, 136]
    assert SIGNED_COLORS[255].tolist() == [179, 88, 6]


def test_volumes_are_cut_where_the_lesion_is():
    x = np.zeros((1, 8, 8, 6, 1))
    x[0, :, :, 4] = 1
    mask = np.zeros((1, 8, 8, 6), int)
    mask[0, 2:5, 2:5, 4] = 1
    figure = view.reconstructions({"Image": x, "Made": x * 0}, residual=("Image", "Made"), masks=mask)
    picture = figure.axes[2].images[0].get_array()
    assert (picture == SIGNED_COLORS[255]).all(axis=-1).mean() > 0.8  # a whole slice of 1, and the outline
    figure = view.anomaly_maps(x, x[..., 0], mask)
    assert (figure.axes[1].images[0].get_array() == HEAT_COLORS[255]).all()


def test_anomaly_maps_share_one_scale_so_that_healthy_cases_stay_dark():
    x, _ = pair()
    maps = np.zeros((2, 8, 8))
    maps[0, 1, 1], maps[1, 3, 4] = 0.2, 1.0
    figure = view.anomaly_maps(x, maps, heat_max=1.0)
    healthy, sick = figure.axes[1], figure.axes[3]
    assert pixel(sick, 3, 4) == HEAT_COLORS[255].tolist()
    assert pixel(healthy, 1, 1) == HEAT_COLORS[51].tolist()  # 0.2 of 255
    assert pixel(healthy, 0, 0) == HEAT_COLORS[0].tolist()
    assert figure.axes[-1].get_ylim() == (0, 1)


def test_found_missed_and_false_alarms_have_their_own_colors():
    x = np.full((1, 8, 8, 1), 0.5)
    maps, mask = np.zeros((1, 8, 8)), np.zeros((1, 8, 8), int)
    mask[0, 1:7, 1:4] = 1  # upper half found, lower half missed
    maps[0, 1:4, 1:4], maps[0, 1:7, 5:8] = 0.5, 0.9
    figure = view.anomaly_maps(x, maps, mask, reconstruction=x, threshold=0.5)
    assert [panel.get_title() for panel in figure.axes[:4]] == ["Image", "Reconstruction", "Anomaly", "Found"]
    found = figure.axes[3]
    inside = [pixel(found, *place) for place in ((2, 2), (5, 2), (3, 6), (0, 0))]
    assert len({tuple(color) for color in inside}) == 4
    assert inside[3] == [128, 128, 128]
    (legend,) = figure.legends
    said = [text.get_text() for text in legend.get_texts()]
    assert said == ["lesion, found", "lesion, missed", "found, but no lesion"]
    for color, patch in zip(inside[:3], legend.get_patches(), strict=True):  # 0.6 of it over gray
        np.testing.assert_allclose(color, 0.6 * 255 * np.array(patch.get_facecolor()[:3]) + 0.4 * 128, atol=2)


@pytest.mark.parametrize("maps", [np.zeros((2, 8, 8)), np.full((2, 8, 8), np.nan)])
def test_maps_of_nothing_are_dark(maps):
    figure = view.anomaly_maps(pair()[0], maps, threshold=0.5)
    assert (figure.axes[1].images[0].get_array() == HEAT_COLORS[0]).all()


def test_samples_come_by_epoch_and_latent_in_one_window():
    samples = {epoch: np.full((3, 8, 8, 1), -1.0) for epoch in range(31)}
    for epoch, made in samples.items():
        made[1, 4, 4] = epoch / 15 - 1  # the second latent's middle grows from -1 to 1
    figure = view.samples_over_time(samples, {30: "KID 0.01"}, columns=2, rows=4, window=(0, 2))
    panels = np.array(figure.axes).reshape(4, 2)
    assert [row[0].get_ylabel() for row in panels] == ["epoch 0", "epoch 10", "epoch 20", "KID 0.01"]
    assert [pixel(row[1], 4, 4)[0] for row in panels] == pytest.approx([0, 85, 170, 255], abs=1)
    assert all((row[0].images[0].get_array() == 0).all() for row in panels)


def test_one_epoch_and_volumes():
    assert len(view.samples_over_time({5: np.zeros((2, 6, 6, 4, 1))}).axes) == 2
    last = view.samples_over_time({epoch: np.zeros((1, 6, 6, 1)) for epoch in (1, 2)}, rows=1)
    assert [panel.get_ylabel() for panel in last.axes] == ["epoch 2"]


@pytest.mark.parametrize(("call", "message"), [
    (lambda x, y: view.reconstructions({}), "at least one column"),
    (lambda x, y: view.reconstructions([x]), "columns of pictures by name, .* Received list"),
    (lambda x, y: view.reconstructions({"a": x[:0]}), "at least one image"),
    (lambda x, y: view.reconstructions({"a": x, "b": y[:1]}), "as many pictures of 'b' as images, 2. Received 1"),
    (lambda x, y: view.reconstructions({"a": x, "b": y[:, :4]}), r"'b' in the shape of 'a', \(8, 8\). Received \(4, 8"),
    (lambda x, y: view.reconstructions({"a": x, "b": y}, residual=("a", "c")), "a residual of two among a, b"),
    (lambda x, y: view.reconstructions({"a": x}, ["only one"]), "as many titles as images, 2"),
    (lambda x, y: view.anomaly_maps(x, y[:, :4, :, 0]), r"Expected a map of shape \(8, 8\). Received shape \(4, 8\)"),
    (lambda x, y: view.anomaly_maps(x, y[:1, ..., 0]), "as many maps as images, 2. Received 1"),
    (lambda x, y: view.samples_over_time({}), "samples of at least one epoch"),
    (lambda x, y: view.samples_over_time({1: x, 2: y[:1]}), "of one shape in all epochs"),
    (lambda x, y: view.samples_over_time({1: x}, columns=0), "at least one column and one row. Received 0 and 7"),
])  # fmt: skip
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(*pair())


def test_volumes_keep_their_place():
    volume = Volume(np.zeros((8, 6, 4)), np.diag([1.0, 1, 3, 1]))
    figure = view.reconstructions({"Image": [volume], "Made": [volume]}, residual=("Image", "Made"), axis="coronal")
    left, right, low, high = figure.axes[2].images[0].get_extent()
    assert (abs(right - left), abs(high - low)) == (8, 12)  # 8 voxels of 1 mm, 4 of 3 mm


@pytest.mark.parametrize("threshold", [float("nan"), np.inf, "0.5", True])
def test_a_threshold_that_finds_nothing_is_refused(threshold):
    x, _ = pair()
    with pytest.raises(ValueError, match=r"threshold as a finite number.* pass threshold=None then"):
        view.anomaly_maps(x, np.abs(x[..., 0]), threshold=threshold)
