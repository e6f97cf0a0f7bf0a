"""Figures: what they say, and that their pictures have the right place and aspect."""

import sys
import warnings
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from medlab import view
from medlab.cases import Cases
from medlab.view import figures
from medlab.volume import Volume


def words(figure) -> str:
    """All text of a figure that can be seen."""
    figure.draw_without_rendering()
    return "\n".join(
        text.get_text() for text in figure.findobj(lambda one: hasattr(one, "get_text")) if text.get_visible()
    )


def brain(shape=(20, 30, 10), spacing=(1, 1, 3)) -> Volume:
    array = np.random.default_rng(0).normal(40, 10, shape)
    return Volume(array, np.diag([*map(float, spacing), 1]), modality="CT")


def inside(figure) -> bool:
    """Whether all that is drawn lies within the figure."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    box, (width, height) = figure.get_tightbbox(canvas.get_renderer()), figure.get_size_inches()
    return box.x0 > -0.02 and box.y0 > -0.02 and box.x1 < width + 0.02 and box.y1 < height + 0.02


def overlaps(figure) -> list[tuple[str, str]]:
    """Pairs of visible texts that stand on one another."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    seen = figure.findobj(lambda one: isinstance(one, Text) and one.get_visible() and one.get_text().strip())
    boxes = [(text.get_text(), Text.get_window_extent(text, canvas.get_renderer())) for text in seen]
    return [(a, b) for (a, one), (b, other) in combinations(boxes, 2) if one.overlaps(other)]


def evaluation(classes=("healthy", "tumor")):
    from medlab import evaluate

    rng = np.random.default_rng(0)
    y = rng.integers(0, len(classes), 90)
    p = rng.dirichlet(np.ones(len(classes)), 90)
    p[np.arange(90), y] += 0.4
    p /= p.sum(axis=1, keepdims=True)
    return evaluate.classification(y, p[:, 1] if len(classes) == 2 else p, classes=list(classes), n=50)


def test_orthogonal_says_window_sides_spacing_and_slices():
    volume = brain()
    figure = view.orthogonal(volume, window=(40, 400), title="Case 7", note="A note.")
    text = words(figure)
    for part in ("Axial\nslice 5 (0 to 9)\nS 15.0 mm", "Coronal\nslice 15 (0 to 29)", "Sagittal\nslice 10 (0 to 19)",
                 "Maximum\nprojection", "center 40, width 400 HU", "1 x 1 x 3 mm", "right (R) is on the left", "5 mm",
                 "Case 7", "A note."):  # fmt: skip
        assert part in text
    panel = figure.axes[0]
    letters = {item.get_text(): item.get_position() for item in panel.texts if len(item.get_text()) == 1}
    assert letters["R"][0] < 0.1
    assert letters["L"][0] > 0.9
    assert letters["A"][1] > letters["P"][1]
    assert inside(figure)


def test_orthogonal_aspect_is_that_of_the_patient():
    figure = view.orthogonal(brain((20, 30, 10), (1, 1, 3)))
    figure.draw_without_rendering()
    # Axial 30 x 20 mm, coronal 30 x 20 mm, sagittal 30 x 30 mm: one scale for all.
    sizes = [(panel.bbox.height, panel.bbox.width) for panel in figure.axes[:3]]
    scale = sizes[0][1] / 20
    expected = [(30, 20), (30, 20), (30, 30)]
    assert np.ravel(sizes) == pytest.approx(np.ravel(expected) * scale, rel=0.02)


@pytest.mark.parametrize("heat", [False, True])
@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((40, 40, 200), (0.5, 0.5, 3)), ((4, 256, 256), (1, 1, 1)), ((64, 28, 4), (6.4, 4, 0.5)), ((1, 256, 4), (1, 1, 1)),
     ((200, 40, 40), (3, 0.5, 0.5)), ((64, 64, 40), (3, 3, 5))],
)  # fmt: skip
def test_no_texts_overlap_in_thin_and_narrow_volumes(shape, spacing, heat):
    volume = brain(shape, spacing)
    hot = np.random.default_rng(0).random(shape) if heat else None
    planes = [{"axis": plane} for plane in ("axial", "coronal", "sagittal")]
    for figure in [view.orthogonal(volume, heat=hot, title="A title")] + [
        view.overlay(volume, heat=hot, title="A title", **plane) for plane in planes
    ]:
        assert inside(figure)
        assert not overlaps(figure)
        letters = [
            item.get_text() for panel in figure.axes for item in panel.texts if item.get_text() in tuple("RLAPSI")
        ]
        assert len(letters) == 4 * sum(bool(panel.images) for panel in figure.axes)


def test_tiny_pictures_get_a_scale_of_their_own_and_that_is_said():
    figure = view.orthogonal(brain((40, 40, 200), (0.5, 0.5, 3)))
    assert "the pictures are not at one scale" in " ".join(words(figure).split())
    # The aspect stays that of the patient: axial 20 x 20 mm, coronal 600 x 20 mm.
    axial, coronal = figure.axes[0].bbox, figure.axes[1].bbox
    assert axial.height / axial.width == pytest.approx(1)
    assert coronal.height / coronal.width == pytest.approx(30)
    assert "not at one scale" not in " ".join(words(view.orthogonal(brain())).split())


def test_unknown_sides_are_said():
    figure = view.orthogonal(np.random.default_rng(0).random((8, 9, 10)))
    text = words(figure)
    assert "sides unknown" in text
    assert " mm" not in text
    assert not [item for panel in figure.axes for item in panel.texts if item.get_text() in tuple("RLAPSI")]


def test_a_picture_gives_one_panel_and_a_heat_map_its_color_bar():
    figure = view.orthogonal(np.random.default_rng(0).random((9, 7)), heat=np.eye(9, 7))
    assert len(figure.axes) == 2
    assert "heat, share of its maximum" in words(figure)
    assert inside(figure)


def test_labels_are_named():
    volume = brain()
    mask = np.zeros(volume.shape, np.uint8)
    mask[2:5, 2:5, 2:5] = 1
    mask[8:12, 8:12, 3:8] = 3
    assert {"label 1", "label 3"} <= set(words(view.overlay(volume, mask)).split("\n"))
    assert "Coronal, slice 10" in words(view.overlay(volume, mask == 3, axis="coronal"))


@pytest.mark.parametrize("shape", [(6, 16, 16, 1), (3, 8, 8, 8, 2), (2, 16, 12, 3)])
def test_montage_and_explanations_of_tensors(shape):
    rng = np.random.default_rng(0)
    x, heat = rng.random(shape, np.float32), rng.random(shape[:-1], np.float32)
    titles = [f"true tumor\npredicted healthy {n}" for n in range(shape[0])]
    figure = view.montage(x, titles)
    assert sum(bool(panel.images) for panel in figure.axes) == shape[0]
    assert "predicted healthy 1" in words(figure)
    grid = view.explanation_grid(x, heat, (heat > 0.9).astype(int), titles, title="Grad-CAM")
    assert sum(bool(panel.images) for panel in grid.axes) == 3 * shape[0]
    assert {"Image", "Heat map", "True region, outlined", "Grad-CAM"} <= set(words(grid).split("\n"))
    assert inside(figure)
    assert inside(grid)


def test_montage_of_one_volume_shows_its_slices():
    figure = view.montage(brain())
    assert sum(bool(panel.images) for panel in figure.axes) == 10
    assert "slice 9" in words(figure)


def test_montage_marks_the_sides_where_they_are_known():
    known, unknown = brain(), np.zeros((20, 22, 18))
    figure = view.montage([known, unknown], marks=True)
    letters = [{text.get_text() for text in panel.texts} & set("RLAPSI") for panel in figure.axes[:2]]
    assert letters == [set("RLAP"), set()]
    assert not any(panel.texts for panel in view.montage([known, unknown]).axes)


def test_montage_wants_as_many_titles_as_images():
    with pytest.raises(ValueError, match=r"as many titles as images, 2\. Received 1"):
        view.montage([np.zeros((4, 4)), np.zeros((4, 4))], ["one"])
    with pytest.raises(ValueError, match="at least one image"):
        view.montage([])
    with pytest.raises(ValueError, match=r"Expected an array \(n, i, j\[, k\], c\)"):
        view.montage(np.zeros((4, 4)))


def test_evaluation_figures():
    result = evaluation()
    figure = view.evaluation_grid(result, title="Test split")
    text = words(figure)
    for part in ("ROC", "Precision-recall", "Reliability", "Confusion", "Test split", "1 - specificity", "tumor",
                 "true class", f"AUC {result['auc']:.3f} ("):  # fmt: skip
        assert part in text
    assert inside(figure)
    roc = view.roc(result).axes[0].lines[1]
    assert np.array_equal(roc.get_xdata(), result.curves["roc"]["fpr"])
    assert np.array_equal(roc.get_ydata(), result.curves["roc"]["tpr"])
    prevalence = np.mean(result.y == 1)
    assert view.precision_recall(result).axes[0].lines[1].get_ydata()[0] == pytest.approx(prevalence)
    counts = result.curves["confusion"].to_numpy()
    shown = [item.get_text().split("\n")[0] for item in view.confusion(result).axes[0].texts]
    assert shown == [str(count) for count in counts.ravel()]
    dots = view.reliability(result).axes[0].collections[0].get_offsets()
    rows = result.curves["reliability"].query("count > 0")
    assert np.asarray(dots) == pytest.approx(rows[["confidence", "accuracy"]].to_numpy())


def test_many_classes_with_long_names():
    names = [f"a tissue with a rather long name, number {n}" for n in range(9)]
    figure = view.evaluation_grid(evaluation(names))
    assert len(figure.axes) == 4
    assert inside(figure)


def test_missing_curve():
    empty = SimpleNamespace(curves={}, table=pd.DataFrame())
    with pytest.raises(ValueError, match="no roc curve"):
        view.roc(empty)
    with pytest.raises(ValueError, match="Expected an evaluation with curves"):
        view.evaluation_grid(empty)


def test_stability_curve_starts_at_the_clean_images():
    index = pd.MultiIndex.from_tuples(
        [("clean", 0), ("noise", 1), ("noise", 3), ("blur", 1)], names=["artifact", "severity"]
    )
    table = pd.DataFrame({"value": [0.9, 0.8, 0.7, 0.85], "low": 0.6, "high": 0.95}, index=index)
    figure = view.stability_curve(SimpleNamespace(table=table))
    noise, blur = figure.axes[0].lines[:2]
    assert noise.get_xdata().tolist() == [0, 1, 3]
    assert noise.get_ydata().tolist() == [0.9, 0.8, 0.7]
    assert blur.get_ydata().tolist() == [0.9, 0.85]
    text = words(figure)
    assert {"noise", "blur", "AUC"} <= set(text.split("\n"))
    assert "clean" not in text.replace("clean images", "")
    with pytest.raises(ValueError, match=r"Missing: \['artifact'\]"):
        view.stability_curve(pd.DataFrame({"severity": [1], "auc": [1.0]}))


def test_history_marks_the_best_epoch():
    table = pd.DataFrame(
        {"loss": [3, 2, 1.0], "val_loss": [3, 2, 2.5], "val_auc": [0.6, 0.9, 0.8], "learning_rate": [1e-3] * 3}
    )
    figure = view.history(table)
    assert "best epoch, 2" in words(figure)
    assert [panel.get_ylabel() for panel in figure.axes] == ["loss", "AUC", "learning rate"]
    assert inside(view.history({"loss": [0.5]}))
    own = pd.DataFrame({"validation_loss": [3, 2, 1.0], "validation_auc": [0.6, 0.9, 0.9], "epoch": [5, 6, 7]})
    assert "best epoch, 7" in words(view.history(own))
    with pytest.raises(ValueError, match="history is empty"):
        view.history(pd.DataFrame())
    with pytest.raises(ValueError, match="Expected one of loss"):
        view.history({"foo": [1]})


def test_intensities_counts_what_is_not_finite():
    values = np.array([[0.0, 1, 2], [np.nan, 3, np.inf]])
    figure = view.intensities(Volume(values, modality="CT"), values / 2)
    text = words(figure)
    assert "intensity (HU)\nmean 1.5" in text
    assert "2 not finite" in text
    with pytest.raises(ValueError, match="finite values"):
        view.intensities(np.full((3, 3), np.nan))


def test_label_counts():
    table = pd.DataFrame({"id": list("abcdef"), "image": "-", "label": ["no", "no", "yes", "no", "yes", None],
                          "split": ["train"] * 4 + ["test"] * 2})  # fmt: skip
    text = words(view.label_counts(Cases(table, ["no", "yes"])))
    for part in ("train (4)", "test (2)", "3 (75%)", "1 (25%)", "1 cases have no label"):
        assert part in text
    multi = pd.DataFrame({"id": list("abc"), "image": "-", "label": ["x|y", "x", "none"]})
    text = words(view.label_counts(Cases(multi, ["x", "y"], multi_label=True)))
    assert "2 (67%)" in text
    assert "1 (33%)" in text


def test_curve():
    figure = view.curve([1e-4, 1e-3], [2, 1], x="learning rate", y="loss", log_x=True, mark=1e-3)
    assert figure.axes[0].get_xscale() == "log"
    assert "0.001" in words(figure)


def test_a_figure_is_a_png_without_pyplot():
    figure = view.montage([np.zeros((4, 4))])
    assert figure._repr_png_()[:8] == b"\x89PNG\r\n\x1a\n"
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_lines_differ():
    looks = [tuple(figures.line_style(number).values()) for number in range(28)]
    assert len(set(looks)) == 28


def test_extent_is_in_millimeters():
    assert figures.extent(brain((20, 30, 10), (1, 2, 3)), "sagittal") == (30, 60)


def test_no_warnings_for_odd_volumes():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for shape in [(1, 1, 1), (2, 300, 3), (1, 5)]:
            assert view.orthogonal(np.zeros(shape))._repr_png_()
