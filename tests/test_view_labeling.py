"""The reader's buttons: what each of them does to the labels, and what a cell displays."""

import io

import numpy as np
import pytest
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image

from medlab import label, view

CLASSES = ("normal", "pneumonia")


@pytest.fixture
def jupyter(monkeypatch, tmp_path):
    """An IPython shell that passes for Jupyter and keeps what it displays."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.delenv("MEDLAB_HEADLESS", raising=False)
    one = InteractiveShell.instance()
    monkeypatch.setattr(one, "display_pub", CapturingDisplayPublisher())
    monkeypatch.setattr(type(one), "kernel", object(), raising=False)
    yield one
    InteractiveShell.clear_instance()


def images(n: int = 6) -> np.ndarray:
    """Gray images, each brighter than the one before it."""
    return np.arange(n, dtype=np.float32)[:, None, None, None] + np.eye(8, dtype=np.float32)[None, ..., None]


def buttons(widget) -> dict:
    import ipywidgets

    found, waiting = {}, [widget]
    while waiting:
        one = waiting.pop()
        waiting += getattr(one, "children", ())
        if isinstance(one, ipywidgets.Button):
            found[one.description] = one
    return found


def only(widget, kind):
    found, waiting = [], [widget]
    while waiting:
        one = waiting.pop(0)
        waiting += getattr(one, "children", ())
        found += [one] * isinstance(one, kind)
    return found


def test_answers_undo_and_unsure():
    shown = view.label_cases(images(), [4, 1, 3], CLASSES)
    shown.give(1)
    shown.give(-1)
    assert shown.labels.tolist() == [1, -1, -1]
    shown.undo()
    shown.give(0)
    assert not shown.done
    shown.give(-1)
    assert shown.labels.tolist() == [1, 0, -1]
    assert shown.indices.tolist() == [4, 1]
    assert shown.done
    assert repr(shown) == "<Labeling: 2 of 3 cases labeled>"
    shown.undo()
    shown.undo()
    shown.undo()
    shown.undo()
    assert shown.labels.tolist() == [-1, -1, -1]


def test_the_truth_answers_what_is_left():
    called = []
    shown = view.label_cases(images(), [4, 1, 3], CLASSES, on_done=called.append)
    shown.give(0)
    truth = np.array([0, 1, 0, 0, 1, 1])
    assert shown.answer(truth).tolist() == [0, 1, 0]
    assert called == [shown]


def test_buttons_label_one_case_after_the_other(jupyter):
    shown = view.label_cases(images(), [4, 1, 3], CLASSES)
    found = buttons(shown.widget)
    assert set(found) == {"normal", "pneumonia", "Unsure", "Undo"}
    assert found["Undo"].disabled
    found["pneumonia"].click()
    found["Unsure"].click()
    found["normal"].click()
    assert shown.labels.tolist() == [1, -1, 0]
    assert found["normal"].disabled
    assert found["Unsure"].disabled
    found["Undo"].click()
    found["pneumonia"].click()
    assert shown.labels.tolist() == [1, -1, 1]
    kinds = ["image/png" in one["data"] for one in jupyter.display_pub.outputs]
    assert kinds == [True, False]


def test_the_picture_is_the_case_in_the_window(jupyter):
    import ipywidgets

    shown = view.label_cases(images(), [2, 5], CLASSES, window=(3.0, 6.0))

    def pixels() -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(only(shown.widget, ipywidgets.Image)[0].value)).convert("L"))

    # Window 0 to 6: the first case's off-diagonal 2 is 2/6 gray, its diagonal 3 one half; the second's 5 is 5/6.
    gray = pixels()
    np.testing.assert_allclose([gray[0, 0], gray[0, -1]], [127.5, 85], atol=1)
    buttons(shown.widget)["normal"].click()
    np.testing.assert_allclose(pixels()[0, -1], 212.5, atol=1)
    sliders = {one.description: one for one in only(shown.widget, ipywidgets.FloatSlider)}
    sliders["Center"].value = 5.0
    np.testing.assert_allclose(pixels()[0, -1], 127.5, atol=3)


def test_slices_of_volumes(jupyter):
    import ipywidgets

    volume = np.zeros((2, 6, 5, 4, 1), np.float32)
    volume[0, ..., 3, 0] = 1
    shown = view.label_cases(volume, [0, 1], CLASSES, window=(0.5, 1.0))
    slider = only(shown.widget, ipywidgets.IntSlider)[0]
    assert slider.max == 3
    picture = only(shown.widget, ipywidgets.Image)[0]
    middle = np.asarray(Image.open(io.BytesIO(picture.value)))
    slider.value = 3
    assert middle.max() == 0
    assert np.asarray(Image.open(io.BytesIO(picture.value))).min() == 255


def test_headless_leaves_one_picture(jupyter, monkeypatch):
    monkeypatch.setenv("MEDLAB_HEADLESS", "1")
    shown = view.label_cases(images(), [0, 2], CLASSES)
    assert shown.widget is None
    assert ["image/png" in one["data"] for one in jupyter.display_pub.outputs] == [True]


def test_errors():
    x = images()
    with pytest.raises(ValueError, match=r"different cases from 0 to 5. Received \[0, 6\]"):
        view.label_cases(x, [0, 6], CLASSES)
    with pytest.raises(ValueError, match=r"different cases"):
        view.label_cases(x, [1, 1], CLASSES)
    with pytest.raises(ValueError, match=r"at least one. Received shape \(0,\)"):
        view.label_cases(x, [], CLASSES)
    with pytest.raises(ValueError, match=r"two classes or more"):
        view.label_cases(x, [0], "normal")
    shown = view.label_cases(x, [0], CLASSES)
    with pytest.raises(ValueError, match=r"class from 0 to 1, or -1 for unsure. Received 2"):
        shown.give(2)
    with pytest.raises(ValueError, match=r"class of every case"):
        shown.answer([])
    shown.give(0)
    with pytest.raises(ValueError, match=r"All 1 cases are done"):
        shown.give(0)


@pytest.mark.parametrize("window", [(-600, 1500), (40, 0.01), (2000, 4000), None])
def test_the_sliders_reach_the_window_that_was_asked_for(jupyter, window):
    """Images from -200 to 300: the picture beside the buttons is that of the static one."""
    import ipywidgets

    from medlab.view import slices

    x = np.linspace(-200, 300, 64, dtype=np.float32).reshape(1, 8, 8, 1)
    shown = view.label_cases(x, [0], CLASSES, window=window)
    center, width = only(shown.widget, ipywidgets.FloatSlider)
    wanted = slices.auto_window(x[0]) if window is None else window
    assert (center.value, width.value) == pytest.approx(wanted)


def test_an_image_without_values_is_said(jupyter):
    import ipywidgets

    x = images()
    x[3] = np.nan
    shown = view.label_cases(x, [3, 1], CLASSES)
    assert [panel.get_title() for panel in shown.figure.axes] == ["case 3 (all NaN)", "case 1"]
    (where,) = only(shown.widget, ipywidgets.HTML)
    assert where.value == "<b>Case 3 (all NaN)</b>, 1 of 2"


def test_what_next_cases_gives_and_a_number_of_classes_are_named():
    asked = label.next_cases(np.array([0.5, 0.9, 0.1, 0.6]), method="entropy", count=2)
    with pytest.raises(ValueError, match=r"numbers of cases \(m,\). Received a Next; give its numbers, .indices"):
        view.label_cases(images(), asked, CLASSES)
    with pytest.raises(ValueError, match=r"names of two classes or more, all different. Received 2"):
        view.label_cases(images(), [1, 2], 2)
