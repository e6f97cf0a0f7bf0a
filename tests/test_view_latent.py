"""The latent map: what the static picture shows, what the browser is given, and how undefined cases are answered."""

import io

import numpy as np
import pytest
from PIL import Image

from medlab import view
from medlab.view import latent, points, widgets
from medlab.volume import Volume


@pytest.fixture
def live(monkeypatch):
    """As in Jupyter: widgets are made, and displayed into a list."""
    displayed = []
    monkeypatch.setattr(widgets, "live", lambda: True)
    monkeypatch.setattr(widgets, "_display", displayed.append)
    return displayed


def four() -> tuple[np.ndarray, np.ndarray]:
    """Four corners of a rectangle, and images of 3 x 5 pixels that are black but for pixel (0, n)."""
    images = np.zeros((4, 3, 5, 1))
    images[range(4), 0, range(4), 0] = 1
    return np.array([[0.0, 0], [4, 0], [0, 2], [4, 2]]), images


def test_every_case_stands_at_its_place_with_its_marker():
    where, _ = four()
    found = view.latent_map(where, labels=["b", None, "a", "b"])
    panel = found.figure.axes[0]
    at = {one.get_label(): one.get_offsets().tolist() for one in panel.collections}
    assert at == {"no label (1)": [[4, 0]], "a (1)": [[0, 2]], "b (2)": [[0, 0], [4, 2]]}
    shapes = {one.get_label(): one.get_paths()[0].vertices.shape for one in panel.collections}
    assert shapes["a (1)"] != shapes["b (2)"]
    assert found.widget is None
    assert found.selected == []
    assert found._ipython_display_() is None


def test_the_images_beside_the_map_are_those_of_their_letters():
    where, images = four()
    found = view.latent_map(where, images=images, names=["one", "two", "three", "four"])
    assert sorted(found.shown) == [0, 1, 2, 3]
    titles = {panel.get_title(): panel.images[0].get_array() for panel in found.figure.axes[1:] if panel.images}
    for place, case in enumerate(found.shown):
        picture = titles[f"{'ABCD'[place]}: {['one', 'two', 'three', 'four'][case]}"]
        assert np.argwhere(picture[..., 0] == 255).tolist() == [[0, case]]
    letters = {text.get_text(): text.xy for text in found.figure.axes[0].texts}
    assert all(tuple(letters["ABCD"[place]]) == tuple(where[case]) for place, case in enumerate(found.shown))


def test_far_apart_takes_the_middle_then_the_ends():
    line = np.stack([np.arange(11.0), np.zeros(11)], axis=1)
    assert points.far_apart(line, 3) == [5, 0, 10]
    assert points.far_apart(line + np.array([[np.nan, 0]]), 3) == []
    assert points.far_apart(np.zeros((5, 2)), 3) == [0]


def test_the_sheet_holds_every_thumbnail_at_its_place():
    _, images = four()
    png, side, columns = points.sheet_of(images, (0.5, 1.0))
    sheet = np.asarray(Image.open(io.BytesIO(png)))
    assert (side, columns, sheet.shape) == (5, 2, (10, 10))
    for case in range(4):
        row, column = divmod(case, 2)
        # Three rows in the middle of five: one black row above.
        assert np.argwhere(sheet[5 * row : 5 * row + 5, 5 * column : 5 * column + 5]).tolist() == [[1, case]]


def test_the_window_is_that_of_the_call():
    x = np.full((1, 4, 4, 1), 3.0)
    found = view.latent_map([[0.0, 0]], images=x, window=(4.0, 4.0))  # from 2 to 6: 3 is a quarter of the way
    assert np.unique(found.figure.axes[1].images[0].get_array()).tolist() == [64]


def test_many_or_large_images_are_shrunk_and_colors_stay():
    red = np.zeros((2, 200, 100, 3), np.uint8)
    red[..., 0] = 200
    png, side, columns = points.sheet_of(red, None)
    sheet = np.asarray(Image.open(io.BytesIO(png)))
    assert (side, columns, sheet.shape) == (96, 2, (96, 192, 3))
    assert sheet[48, 48].tolist() == [200, 0, 0]
    assert sheet[48, 10].tolist() == [0, 0, 0]  # half as wide as high: empty at the sides


def test_the_browser_is_given_coordinates_styles_and_words(live):
    where, images = four()
    found = view.latent_map(where, labels=[1, -1, 0, 1], classes=["well", "ill"], images=images, axes=("u", "v"))
    (widget,) = live
    assert found.widget is widget
    np.testing.assert_array_equal(np.frombuffer(widget.points, "<f4").reshape(4, 2), where)
    styles = np.frombuffer(widget.styles, "<u2")
    assert styles[0] == styles[3]
    assert len({widget.colors[one] for one in styles}) == len({widget.markers[one] for one in styles}) == 3
    assert widget.markers[styles[1]] == "."
    legend = {entry["name"]: (entry["style"], entry["count"]) for entry in widget.legend}
    assert legend == {"no label": (styles[1], 1), "well": (styles[2], 1), "ill": (styles[0], 2)}
    assert widget.texts == ["case 0, ill", "case 1, no label", "case 2, well", "case 3, ill"]
    assert (widget.side, widget.columns, widget.axes) == (5, 2, ["u", "v"])


def test_a_click_is_kept_and_told(live):
    told = []
    found = view.latent_map(four()[0], on_click=told.append)
    assert live[0].children[0] is found.widget  # below it an area for what the call prints
    found.widget._handle_custom_msg({"clicked": 2}, [])
    found.widget.selected = [2]
    assert (told, found.selected) == ([2], [2])


def test_the_script_asks_no_other_machine():
    source = latent._class()._esm
    assert "http" not in source
    assert "import" not in source


def test_scores_have_a_scale_and_missing_ones_are_gray():
    groups = points.groups_of([0.5, np.nan, 2.5, 1.0], None, 4)
    assert groups.span == (0.5, 2.5)
    assert groups.number.tolist() == [0, -1, 0, 0]
    assert groups.texts == ("0.5", "no score", "2.5", "1")
    assert len(set(groups.colors)) == 4
    assert points.groups_of([0.5, 0.5], None, 2).span == (0.5, 1.5)


def test_volumes_one_point_and_points_without_a_place_are_shown():
    volumes = [Volume(np.arange(24.0).reshape(2, 3, 4)), Volume(np.zeros((3, 3, 3)))]
    found = view.latent_map([[0, 0], [np.nan, 1]], images=volumes, labels=[[0], [1]])
    assert found.shown == (0,)
    assert view.latent_map([[1.0, 2.0]], images=np.zeros((1, 4, 4, 1))).shown == (0,)


@pytest.mark.parametrize(("call", "message"), [
    (lambda p, x: view.latent_map(p[:0]), r"points \(n, 2\), at least one. Received shape \(0, 2\)"),
    (lambda p, x: view.latent_map(x[..., 0, 0]), r"Received shape \(4, 3\); medlab.evaluate.project brings"),
    (lambda p, x: view.latent_map(p * np.nan), "Expected at least one point whose coordinates are finite"),
    (lambda p, x: view.latent_map(p, images=x[:3]), "as many images as points, 4. Received 3"),
    (lambda p, x: view.latent_map(p, names=["a"]), "as many names as points, 4. Received 1"),
    (lambda p, x: view.latent_map(p, labels=[0, 1]), r"one label for each of 4 points. Received labels of shape \(2"),
    (lambda p, x: view.latent_map(p, labels=[0, 1, 2, 0], classes=["a", "b"]), "among the classes a, b. Received 2"),
    (lambda p, x: view.latent_map(p, labels=list("abca"), classes=["a", "b"]), "among the classes a, b. Received c"),
    (lambda p, x: view.latent_map(np.ones((9, 2)), labels=range(9)), "at most 8 classes"),
])  # fmt: skip
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(*four())


def test_cases_that_all_lie_at_one_point_are_counted():
    where = np.array([[2.0, 3], [2, 3], [np.nan, 0], [2, 3]])
    texts = [one.get_text() for one in view.latent_map(where).figure.axes[0].texts]
    assert texts == ["all 3 cases lie at this point"]
    assert not view.latent_map(four()[0]).figure.axes[0].texts
    assert not view.latent_map(where[:1]).figure.axes[0].texts


def test_values_that_are_missing_are_said(live):
    where, images = four()
    images[0], images[2, 0, :3] = np.nan, np.nan
    found = view.latent_map(where, images=images)
    said = {panel.get_title()[3:] for panel in found.figure.axes[1:] if panel.images}
    assert said == {"case 0\nall NaN", "case 1", "case 2\n20 % NaN", "case 3"}
    assert live[0].texts == ["case 0, all NaN", "case 1", "case 2, 20 % NaN", "case 3"]


def test_images_without_channels_and_points_that_are_no_numbers_are_named():
    where, images = four()
    with pytest.raises(ValueError, match=r"Received shape \(4, 3, 5\); images\[..., None\] adds the channel axis"):
        view.latent_map(where, images=images[..., 0])
    for wrong in ([["a", "b"], ["c", "d"]], [[0, 1], [2]]):
        with pytest.raises(ValueError, match=r"points \(n, 2\) as numbers. Received list with text, or with rows of"):
            view.latent_map(wrong)
