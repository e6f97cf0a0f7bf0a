"""What labels and dimensions cost, drawn: every number where it belongs, every line told without color."""

import itertools

import numpy as np
import pandas as pd
import pytest

from medlab import view
from medlab.view import budgets

SHARES = (0.01, 0.05, 0.25, 1.0)


def table(methods=("supervised", "masked", "FixMatch"), shares=SHARES) -> pd.DataFrame:
    rows = [
        {"method": method, "share": share, "labels": round(4708 * share), "auc": 0.8 + 0.03 * place + 0.01 * number,
         "low": 0.79 + 0.03 * place + 0.01 * number, "high": 0.85 + 0.03 * place + 0.01 * number}
        for number, method in enumerate(methods) for place, share in enumerate(shares)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def costs(**changed) -> pd.DataFrame:
    return pd.DataFrame({"way": ["a", "a"], "size": [8, 16], "memory_mb": 1.0, "seconds": 1.0}).assign(**changed)


def curves(panel):
    """The lines that run through the data, not the samples beside the labels."""
    return [line for line in panel.lines if line.get_transform() == panel.transData and len(line.get_xdata()) > 2]


def test_each_line_runs_through_its_scores():
    panel = view.label_efficiency(table()).axes[0]
    lines = curves(panel)
    for number, line in enumerate(lines):
        np.testing.assert_allclose(line.get_ydata(), [0.8 + 0.03 * k + 0.01 * number for k in range(4)])
        np.testing.assert_allclose(line.get_xdata(), SHARES, rtol=0.06)  # side by side, but near their share
    assert len(lines) == 3
    low, high = panel.collections[0].get_segments()[1][:, 1]
    assert (low, high) == pytest.approx((0.82, 0.88))


def test_shares_and_counts_stand_below_on_a_logarithmic_axis():
    panel = view.label_efficiency(table()).axes[0]
    assert panel.get_xscale() == "log"
    assert [one.get_text() for one in panel.get_xticklabels()] == ["1 %\n47", "5 %\n235", "25 %\n1,177", "100 %\n4,708"]
    uneven = table().assign(labels=[47, 235, 1177, 4708, 48, 235, 1177, 4708, 47, 235, 1177, 4708])
    assert view.label_efficiency(uneven).axes[0].get_xticklabels()[0].get_text() == "1 %\n47–48"


def test_eight_methods_are_told_apart_without_color_and_alike_in_every_panel():
    names = [f"method {number}" for number in range(8)]
    figure = view.label_efficiency({"one": table(names), "other": table(names[3:])})
    looks = [{(line.get_marker(), str(line._dash_pattern)) for line in curves(panel)} for panel in figure.axes]
    assert (len(looks[0]), len(looks[1])) == (8, 5)
    assert looks[1] < looks[0]
    assert len({marker for marker, _ in looks[0]}) == len({dashes for _, dashes in looks[0]}) == 8
    assert [panel.get_title() for panel in figure.axes] == ["one", "other"]


def test_direct_labels_do_not_overlap_and_stay_in_the_figure():
    names = [f"method {number}" for number in range(8)]
    same = table(names).assign(auc=0.9, low=0.89, high=0.91)  # all end at one point
    figure = view.label_efficiency({"a": same, "b": table(names)}, title="title")
    figure.draw_without_rendering()
    for panel in figure.axes:
        boxes = sorted((text.get_window_extent() for text in panel.texts if text.get_text()), key=lambda box: box.y0)
        assert len(boxes) == 8
        assert all(lower.y1 <= upper.y0 + 1 for lower, upper in itertools.pairwise(boxes))
        assert max(box.x1 for box in boxes) <= figure.bbox.x1
    ends = [text.get_text() for text in figure.axes[1].texts if text.get_text()]
    assert sorted(ends) == names


README = ("supervised", "masked, fine-tuned", "SimCLR, linear probe", "SimCLR, fine-tuned", "pseudo-labels",
          "mean teacher", "FixMatch", "SimCLR, then mean teacher")  # fmt: skip


def boxes_apart(boxes) -> bool:
    return not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_seven_shares_and_long_names_print_over_nothing():
    part = table(README, (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)).assign(auc=0.95, low=0.93, high=0.97)
    figure = view.label_efficiency({"one": part, "other": part})
    for panel in figure.axes:
        ticks = [one.get_window_extent() for one in panel.get_xticklabels()]
        names = [one.get_window_extent() for one in panel.texts if one.get_text()]
        assert (len(ticks), len(names)) == (7, 8)
        assert boxes_apart(ticks)
        assert boxes_apart(names)
        assert panel.bbox.width / figure.dpi > 3.4
    assert max(box.x1 for box in names) <= figure.bbox.x1


def test_near_sizes_print_over_nothing():
    sizes = (16, 32, 64, 96, 112, 128)
    frame = pd.DataFrame({"way": "full 3-D", "size": sizes, "memory_mb": np.power(sizes, 3.0), "seconds": 1.0})
    for panel in view.cost_of_dimensions(frame).axes:
        assert [one.get_text().strip() for one in panel.get_xticklabels()] == [f"{one}" for one in sizes]
        assert boxes_apart([one.get_window_extent() for one in panel.get_xticklabels()])


def test_shares_without_a_number_of_labels_say_only_the_share():
    panel = view.label_efficiency(table().assign(labels=np.nan)).axes[0]
    assert [one.get_text() for one in panel.get_xticklabels()] == ["1 %", "5 %", "25 %", "100 %"]


def test_labels_move_no_farther_than_they_must():
    np.testing.assert_allclose(budgets._spread(np.array([0.1, 0.5, 0.9]), 0.2), [0.1, 0.5, 0.9])
    np.testing.assert_allclose(budgets._spread(np.array([0.5, 0.5, 0.5]), 0.1), [0.4, 0.5, 0.6])
    np.testing.assert_allclose(budgets._spread(np.array([0.98, 0.99]), 0.1), [0.9, 1.0])  # not above the panel


def test_the_reference_runs_through_the_panel():
    panel = view.label_efficiency(table(), reference="masked").axes[0]
    (band,) = panel.patches
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((0.89, 0.95))
    assert [line.get_ydata()[0] for line in panel.lines if len(line.get_xdata()) == 2] == pytest.approx([0.9])


def test_a_method_without_an_interval_or_a_score_has_none():
    few = table(["a", "b"])
    few.loc[:3, ["low", "high"]] = np.nan
    few.loc[7, "auc"] = np.nan
    figure = view.label_efficiency(few)
    first, second = curves(figure.axes[0])
    assert np.isfinite(first.get_ydata()).all()
    assert np.isnan(second.get_ydata()).tolist() == [False, False, False, True]
    assert figure._repr_png_()
    assert view.label_efficiency(few[:1])._repr_png_()


def test_costs_are_drawn_on_logarithmic_axes():
    rows = [{"way": way, "size": size, "memory_mb": size**power, "seconds": size**power / 1000}
            for way, power in (("slice", 2), ("volume", 3)) for size in (16, 32, 64)]  # fmt: skip
    frame = pd.DataFrame(rows)
    frame.loc[5, "seconds"] = np.nan  # the largest volume was not measured
    memory, seconds = view.cost_of_dimensions(frame).axes
    assert (memory.get_xscale(), memory.get_yscale()) == ("log", "log")
    slices, volumes = curves(memory)
    np.testing.assert_allclose(slices.get_xydata(), [[16, 256], [32, 1024], [64, 4096]])
    np.testing.assert_allclose(volumes.get_ydata(), [4096, 32768, 262144])
    assert sum(line.get_transform() == seconds.transData and len(line.get_xdata()) == 2 for line in seconds.lines) == 1


@pytest.mark.parametrize(("call", "message"), [
    (lambda t: view.label_efficiency(t.drop(columns="low")), "The table lacks low"),
    (lambda t: view.label_efficiency({"x": t[:0]}), "The table of 'x' is empty"),
    (lambda t: view.label_efficiency(t.assign(share=5)), "Expected shares above 0 and up to 1, such as 0.05 for 5 %"),
    (lambda t: view.label_efficiency(pd.concat([t, t])), "several of 'supervised' at 0.01"),
    (lambda t: view.label_efficiency(t.assign(low=1)), "low is not above their high"),
    (lambda t: view.label_efficiency(t, reference="x"), "Expected a reference among supervised, masked, FixMatch"),
    (lambda t: view.label_efficiency(table("abcdefghi")), "at most 8 methods, which can be told apart. Received 9"),
    (lambda t: view.cost_of_dimensions(t), "Missing: way, size, memory_mb, seconds"),
    (lambda t: view.cost_of_dimensions(pd.DataFrame(columns=["way", "size", "memory_mb", "seconds"])), "no row"),
    (lambda t: view.cost_of_dimensions(pd.DataFrame({"way": ["a"], "size": 8, "memory_mb": 0, "seconds": 1})),
     "Expected costs above 0"),
    (lambda t: view.label_efficiency({}), "Expected a DataFrame, or .* Received none"),
    (lambda t: view.label_efficiency([1, 2]), "Received list"),
    (lambda t: view.label_efficiency(t.assign(auc="x")), "Expected numbers in the columns share, labels, auc"),
    (lambda t: view.label_efficiency(t.assign(auc=np.nan)), "at least one AUC"),
    (lambda t: view.label_efficiency(t.assign(auc=1.5)), "AUC from 0 to 1. The table has 1.5"),
    (lambda t: view.label_efficiency({"x": t.assign(auc=0.99)}), "within its interval. The table of 'x' has 0.99"),
    (lambda t: view.cost_of_dimensions(costs(seconds="a")), "Expected numbers in the columns size, memory_mb, seconds"),
    (lambda t: view.cost_of_dimensions(costs(seconds=np.nan)), "only NaN in seconds"),
    (lambda t: view.cost_of_dimensions(costs(seconds=np.inf)), "Expected costs above 0, finite"),
    (lambda t: view.cost_of_dimensions(costs(size=0)), "Expected sizes above 0"),
    (lambda t: view.cost_of_dimensions([{"way": "a"}]), "Expected a DataFrame. Received list"),
])  # fmt: skip
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(table())


def test_the_axis_ends_at_the_ends_of_the_auc():
    panel = view.label_efficiency(table(["a"]).assign(auc=[0.1, 0.5, 0.9, 1.0], low=-0.2, high=1.3)).axes[0]
    assert panel.get_ylim() == (0, 1)
    line = curves(panel)[0]
    assert line.get_ydata().tolist() == [0.1, 0.5, 0.9, 1.0]
    assert not line.get_clip_on()  # the marker at 1 stays whole
    low, high = view.label_efficiency(table()).axes[0].get_ylim()
    assert 0.7 < low < 0.79
    assert 0.96 < high < 1
