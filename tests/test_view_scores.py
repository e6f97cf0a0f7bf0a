"""Scores drawn: the dots stand where the table says, floors and ceiling are told from methods."""

import numpy as np
import pandas as pd
import pytest

from medlab import view


def table_of(methods=("grad_cam", "saliency")):
    rows = {}
    for number, method in enumerate(methods):
        middle = 0.3 + 0.4 * number / max(1, len(methods) - 1)
        rows[(method, "pixel_auprc")] = (middle, middle - 0.1, middle + 0.1, 9)
        rows[(method, "deletion")] = (1 - middle, 0.9 - middle, 1.1 - middle, 9)
        rows[(method, "randomization")] = (0.2, np.nan, np.nan, 1)
        rows[(method, "seconds")] = (0.01 * (number + 1), np.nan, np.nan, 9)
    for floor, low in (("random", 0.05), ("edges", 0.1)):
        rows[(floor, "pixel_auprc")] = (low + 0.05, low, low + 0.1, 9)
    rows[("mask", "pixel_auprc")] = (1, 1, 1, 9)
    rows[("mask", "share")] = (0.04, 0.04, 0.04, 9)
    index = pd.MultiIndex.from_tuples(rows, names=["method", "score"])
    return pd.DataFrame(list(rows.values()), index=index, columns=["value", "low", "high", "n"])


def dots(panel):
    """Where the dots are, by row."""
    return {round(line.get_ydata()[0]): line.get_xdata()[0] for line in panel.lines if line.get_marker() == "o"}


def test_dots_and_intervals_stand_where_the_table_says():
    figure = view.explanation_scores(table_of(), title="A table")
    panels = [panel for panel in figure.axes if panel.get_title()]
    assert [panel.get_title() for panel in panels] == ["pixel AUPRC", "deletion", "randomization", "seconds a case"]
    assert dots(panels[0]) == pytest.approx({0: 0.3, 1: 0.7})
    lines = [(tuple(line.get_xdata()), list(line.get_ydata())) for line in panels[0].lines]
    spans = [span for span, rows in lines if rows == [0, 0]]
    assert spans == [pytest.approx((0.2, 0.4))]
    upright = {
        line.get_label(): line.get_xdata()[0] for panel in panels for line in panel.lines if "_" not in line.get_label()
    }
    assert upright == pytest.approx(
        {"ceiling: true mask": 1, "chance: the mask's share": 0.04, "threshold of likeness": 0.5}
    )
    bands = {
        patch.get_label(): patch.get_extents().transformed(panels[0].transData.inverted())
        for patch in panels[0].patches
    }
    assert bands["floor: edges"].x0 == pytest.approx(0.1)
    assert bands["floor: edges"].x1 == pytest.approx(0.2)
    assert [panel.get_xlabel() for panel in panels] == ["high is good"] + 3 * ["low is good"]
    assert [text.get_text() for text in panels[0].get_yticklabels()] == ["grad cam", "saliency"]
    assert [text.get_text() for text in figure.legends[0].get_texts()][:2] == ["floor: random", "floor: edges"]
    assert figure.get_suptitle() == "A table"
    # The mean of one case has no interval: a hollow dot.
    hollow = [line.get_markerfacecolor() for line in panels[2].lines if line.get_marker() == "o"]
    assert hollow == ["white", "white"]


def test_the_best_method_comes_first_on_request():
    for score in ("pixel_auprc", "deletion"):  # high is good, low is good
        figure = view.explanation_scores(table_of(("a", "b", "c")), scores=["pixel_auprc"], order=score)
        assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["c", "b", "a"]
    assert len([panel for panel in figure.axes if panel.get_title()]) == 1


def test_an_undefined_score_is_written_out():
    table = table_of()
    table.loc[("saliency", "deletion"), ["value", "low", "high"]] = np.nan
    panel = next(panel for panel in view.explanation_scores(table).axes if panel.get_title() == "deletion")
    assert [(text.get_text(), text.get_position()[1]) for text in panel.texts] == [("undefined", 1)]


def test_what_is_no_table_of_scores_is_refused():
    table = table_of()
    with pytest.raises(ValueError, match="rows by method and score"):
        view.explanation_scores(table.reset_index())
    with pytest.raises(ValueError, match="at least one method beside the floors"):
        view.explanation_scores(table.loc[["random", "edges", "mask"]])
    with pytest.raises(ValueError, match=r"no score 'iou' to draw\. There are: pixel_auprc, deletion"):
        view.explanation_scores(table, scores=["iou"])


def test_what_is_no_table_is_named():
    with pytest.raises(ValueError, match=r"Expected the table of medlab\.explain\.score\. Received NoneType"):
        view.explanation_scores(None)
