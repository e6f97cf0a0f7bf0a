"""Figures of evidence: what stands in them is what they were given."""

import numpy as np
import pytest

from medlab import view
from medlab.explain.similar import Similar


def panels_of(figure):
    return [panel for panel in figure.axes if panel.images]


def picture(panel):
    return np.asarray(panel.images[0].get_array())


def images(n, size=(8, 10)):
    """Case k is black with one white row, its k-th."""
    x = np.zeros((n, *size, 1), np.float32)
    for case in range(n):
        x[case, case] = 1
    return x


def rows(panel, size=8):
    """The white rows of a panel's picture."""
    gray = picture(panel).mean(axis=-1)
    return np.flatnonzero(gray.reshape(size, -1).mean(axis=1) > 127).tolist()


def test_neighbors_stand_where_they_belong():
    found = Similar(
        np.array([[2, 0], [1, -1]]), np.array([[0.125, 0.5], [0.25, np.nan]], np.float32), "features", "cosine"
    )
    figure = view.similar_cases(images(2), images(4), found, ["a", "b"], ["a", "b", "b", "a"])
    shown = panels_of(figure)
    assert [rows(panel) for panel in shown] == [[0], [2], [0], [1], [1]]
    assert [panel.get_title() for panel in shown[1:]] == [
        "b\ndistance 0.125", "a\ndistance 0.5", "b", "b\ndistance 0.25"
    ]  # fmt: skip
    frames = [panel.spines["left"].get_linestyle() for panel in (shown[1], shown[2], shown[4])]
    assert frames == ["--", "-", "-"]
    plain = view.similar_cases(list(images(2)[..., 0]), list(images(4)[..., 0]), found)
    assert [rows(panel) for panel in panels_of(plain)] == [[0], [2], [0], [1], [1]]
    assert not plain.legends


def test_the_slices_that_count_most_are_shown():
    volumes = np.zeros((2, 6, 6, 5, 1), np.float32)
    for k in range(5):
        volumes[:, : k + 1, :, k] = 1  # slice k is bright in k + 1 of 6 rows
    importance = np.array([[0.1, -0.4, 0.0, 0.9, 0.3], [2, 1, 0, 0, 0]])
    masks = np.zeros((2, 6, 6, 5))
    masks[0, 2, 2, 3] = 1
    figure = view.slice_importance(volumes, importance, masks, ["one", "two"], pictures=2, window=(0.5, 1), what="fall")
    shown = panels_of(figure)
    assert [panel.get_title() for panel in shown] == ["slice 3: 0.9", "slice 4: 0.3", "slice 0: 2", "slice 1: 1"]
    share = [picture(panel).mean() / 255 for panel in (shown[1], shown[2], shown[3])]
    np.testing.assert_allclose(share, [5 / 6, 1 / 6, 2 / 6], atol=0.02)
    bars = [panel for panel in figure.axes if panel.patches]
    np.testing.assert_allclose([[bar.get_height() for bar in panel.patches] for panel in bars], importance)
    colored = [[bar.get_facecolor() != bars[0].patches[0].get_facecolor() for bar in panel.patches] for panel in bars]
    assert colored[0] == [False, False, False, True, True]
    assert bars[0].get_title() == "one"
    assert bars[0].lines[-1].get_xdata().tolist() == [3]
    along = view.slice_importance(volumes, np.eye(6)[:2], axis=0, pictures=1)
    assert [panel.get_title() for panel in panels_of(along)] == ["slice 0: 1", "slice 1: 1"]


def test_a_map_for_each_class():
    x = images(2)
    maps = np.zeros((2, 3, 8, 10))
    maps[0, 1, 3, 4] = maps[1, 2, 5, 5] = 1
    labels = np.zeros((2, 8, 10), int)
    labels[0, 6, 2:5] = 1
    figure = view.class_maps(x, maps, ["background", "liver", "spleen"], labels, ["p", "q"])
    shown = panels_of(figure)[:8]
    assert [panel.get_title() for panel in shown[:4]] == ["Image", "background", "liver", "spleen"]
    assert [panel.get_xlabel() for panel in shown if panel.get_xlabel()] == ["no heat"] * 4
    colored = [bool(np.ptp(picture(panel).astype(int), axis=-1).max() > 30) for panel in shown]
    # heat or an outline: background and liver of the first case, spleen of the second, which is background all over
    assert colored == [False, True, True, False, False, False, False, True]
    assert shown[4].get_ylabel() == "q"


def test_case_and_twin_share_a_scale():
    x = images(1)
    heat, less = np.zeros((1, 8, 10)), np.zeros((1, 8, 10))
    heat[0, 4, 4], less[0, 4, 4] = 1, 0.02
    figure = view.healthy_twins(x, x, heat, less, titles=["p"])
    shown = panels_of(figure)[:4]
    assert [panel.get_title() for panel in shown] == ["Case", "Its map", "Healthy twin", "The twin's map"]
    plain, hot, well, cool = (picture(panel).astype(int) for panel in shown)
    np.testing.assert_array_equal(plain, well)
    assert np.abs(hot - plain).max() > 60
    assert np.abs(cool - plain).max() < 20


def test_what_does_not_fit_is_told():
    x = images(2)
    good = Similar(np.zeros((2, 1), int), np.zeros((2, 1), np.float32), "f", "cosine")
    with pytest.raises(ValueError, match=r"Expected neighbors of 1 cases, \(n, k\). Received indices \(2, 1\)"):
        view.similar_cases(x[:1], x, good)
    far = Similar(np.full((2, 1), 2), np.zeros((2, 1), np.float32), "f", "cosine")
    with pytest.raises(ValueError, match=r"Expected neighbors among 2 cases. Received numbers up to 2"):
        view.similar_cases(x, x, far)
    with pytest.raises(ValueError, match=r"Expected as many library labels as images, 2. Received 1"):
        view.similar_cases(x, x, good, ["a", "b"], ["a"])
    volumes = np.zeros((1, 4, 4, 5, 1))
    with pytest.raises(ValueError, match=r"Expected a number for each slice, \(1, 5\). Received shape \(1, 4\)"):
        view.slice_importance(volumes, np.zeros((1, 4)))
    with pytest.raises(ValueError, match=r"Expected an axis of 0, 1 or 2. Received 'k'"):
        view.slice_importance(volumes, np.zeros((1, 5)), axis="k")
    with pytest.raises(ValueError, match=r"Expected maps \(2, classes, i, j\[, k\]\)"):
        view.class_maps(x, np.zeros((1, 2, 8, 10)))
    with pytest.raises(ValueError, match=r"Expected 3 classes. Received 3 labels and 2 names"):
        view.class_maps(x, np.zeros((2, 3, 8, 10)), ["a", "b"])
    with pytest.raises(ValueError, match=r"Expected as many twins as images, 2. Received 1"):
        view.healthy_twins(x, x[:1], np.zeros((2, 8, 10)), np.zeros((2, 8, 10)))
