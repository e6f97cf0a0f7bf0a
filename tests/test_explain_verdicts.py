"""Verdicts: tables made by hand have known answers; intervals come close to the normal ones."""

import numpy as np
import pandas as pd
import pytest

from medlab import explain
from medlab.explain.checks import intervals


def table_of(**scores):
    """A table with rows (method, score) from {"method__score": (value, low, high)}."""
    rows = {tuple(name.split("__")): (*found, 9) for name, found in scores.items()}
    index = pd.MultiIndex.from_tuples(rows, names=["method", "score"])
    return pd.DataFrame(list(rows.values()), index=index, columns=["value", "low", "high", "n"])


def test_a_verdict_in_words():
    floors = {"random__insertion": (0.5, 0.4, 0.6), "edges__insertion": (0.55, 0.45, 0.65),
              "random__pixel_auprc": (0.1, 0.05, 0.2), "edges__pixel_auprc": (0.2, 0.1, 0.3)}  # fmt: skip
    table = table_of(
        good__randomization=(0.1, 0.0, 0.2), good__insertion=(0.8, 0.7, 0.9), good__pixel_auprc=(0.6, 0.5, 0.7),
        blind__randomization=(0.9, 0.8, 1.0), blind__insertion=(0.8, 0.7, 0.9), blind__pixel_auprc=(0.6, 0.5, 0.7),
        vague__randomization=(0.4, 0.2, 0.6), vague__insertion=(0.6, 0.5, 0.7), vague__pixel_auprc=(0.6, 0.5, 0.7),
        lost__randomization=(0.1, 0.0, 0.2), lost__insertion=(0.8, 0.7, 0.9), lost__pixel_auprc=(0.05, 0.0, 0.08),
        single__randomization=(0.1, np.nan, np.nan), single__repeatability=(0.7, np.nan, np.nan),
        unknown__insertion=(0.8, 0.7, 0.9), unknown__randomization=(np.nan, np.nan, np.nan), **floors,
    )  # fmt: skip
    found = explain.verdict(table)
    assert list(found.index) == ["good", "blind", "vague", "lost", "single", "unknown"]
    assert list(found.loc["good"]) == ["passes", "passes", "passes", "not measured", "passes", ""]
    assert list(found.loc["blind"])[:5] == ["fails", "passes", "passes", "not measured", "fails"]
    assert found.loc["blind", "why"] == "randomization 0.90 (0.80 to 1.00), should be below 0.5"
    assert list(found.loc["vague"])[:5] == ["unclear", "passes", "unclear", "not measured", "unclear"]
    assert found.loc["vague", "why"].endswith("insertion 0.60 (0.50 to 0.70), edges has 0.55 (to 0.65)")
    assert list(found.loc["lost"])[:5] == ["passes", "fails", "passes", "not measured", "fails"]
    assert "edges has 0.20 (to 0.30)" in found.loc["lost", "why"]
    assert list(found.loc["single"])[:5] == ["passes", "not measured", "not measured", "passes", "passes"]
    assert list(found.loc["unknown"])[:5] == ["not measured", "not measured", "passes", "not measured", "unclear"]
    assert explain.verdict(table, alike=0.05).loc["good", "sanity"] == "unclear"
    with pytest.raises(ValueError, match=r"Expected the table of `explain\.score`"):
        explain.verdict(table.reset_index())


def test_a_paired_difference_sees_what_overlapping_intervals_hide():
    generator = np.random.default_rng(0)
    hard = generator.normal(0, 1, 200)
    columns = pd.MultiIndex.from_tuples([("a", "iou"), ("b", "iou")], names=["method", "score"])
    cases = pd.DataFrame(np.stack([hard + 0.1 + generator.normal(0, 0.01, 200), hard], axis=1), columns=columns)
    cases.loc[0, ("a", "iou")] = np.nan
    table = explain.summary(cases)
    assert table.loc[("a", "iou"), "low"] < table.loc[("b", "iou"), "high"]
    apart = explain.difference(cases, "iou", "a", "b")
    assert apart["value"] == pytest.approx(0.1, abs=0.003)
    assert apart["low"] > 0.095
    assert apart["n"] == 199
    # So does a verdict that is given the cases; the floor is a method like any other.
    floor = cases.rename(columns={"a": "method", "b": "edges", "iou": "insertion"})
    assert explain.verdict(explain.summary(floor)).loc["method", "faithfulness"] == "unclear"
    found = explain.verdict(explain.summary(floor), cases=floor)
    assert found.loc["method", "faithfulness"] == "passes"
    turned = floor.rename(columns={"method": "edges", "edges": "method"})
    found = explain.verdict(explain.summary(turned), cases=turned)
    assert found.loc["method", "faithfulness"] == "fails"
    assert found.loc["method", "why"].startswith("insertion -0.10 (-0.10 to -0.10) against edges")
    with pytest.raises(ValueError, match=r"no score 'iou' of 'c'\. There are: a iou, b iou"):
        explain.difference(cases, "iou", "a", "c")


def test_intervals_that_overlap_decide_nothing():
    table = table_of(
        m__insertion=(0.5, 0.3, 0.7), random__insertion=(0.3, 0.2, 0.4), edges__insertion=(0.51, 0.3, 0.72),
        low__insertion=(0.1, 0.05, 0.25), sunk__insertion=(0.1, 0.05, 0.19),
    )  # fmt: skip
    assert list(explain.verdict(table)["faithfulness"]) == ["unclear", "fails", "fails"]
    # In pairs: a mean difference of about -0.01 whose interval holds 0, with as many cases above as below.
    apart = np.random.default_rng(1).normal(size=40)
    apart += -0.01 - apart.mean()
    names = pd.MultiIndex.from_tuples([("m", "insertion"), ("edges", "insertion")], names=["method", "score"])
    cases = pd.DataFrame(np.stack([apart, 0 * apart], axis=1), columns=names)
    assert explain.verdict(explain.summary(cases), cases=cases).loc["m", "faithfulness"] == "unclear"


def test_a_map_kept_upside_down_is_kept():
    table = table_of(m__randomization=(-0.97, -0.99, -0.95), n__cascade=(-0.1, -0.3, 0.1), o__cascade=(-0.3, -0.6, 0.1))
    found = explain.verdict(table)
    assert list(found["sanity"]) == ["fails", "passes", "unclear"]
    assert found.loc["m", "why"].startswith("randomization -0.97 (-0.99 to -0.95), should be below 0.5 in size")
    # Half of the cases kept, half kept upside down: the mean near 0 says nothing, the cases do.
    names = pd.MultiIndex.from_tuples([("m", "randomization")], names=["method", "score"])
    cases = pd.DataFrame(np.tile([0.9, -0.9], 200)[:, None], columns=names)
    assert explain.verdict(explain.summary(cases)).loc["m", "sanity"] == "passes"
    found = explain.verdict(explain.summary(cases), cases=cases)
    assert found.loc["m", "sanity"] == "fails"
    assert found.loc["m", "why"].startswith("size of randomization 0.90 (0.90 to 0.90), should be below 0.5")


def test_the_interval_of_a_mean_comes_close_to_the_normal_one():
    values = np.random.default_rng(0).normal(3, 1, 400)
    mean, low, high, n = intervals.mean_with_interval(np.append(values, np.nan), n_boot=2000)
    assert mean == pytest.approx(values.mean())
    assert n == 400
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(mean - half, abs=0.01)
    assert high == pytest.approx(mean + half, abs=0.01)


def test_patients_are_resampled_whole():
    # 20 patients, each with 10 equal cases: as uncertain as 20 cases, not as 200.
    values = np.random.default_rng(0).normal(0, 1, 20)
    alone = intervals.mean_with_interval(values, n_boot=2000)
    grouped = intervals.mean_with_interval(np.repeat(values, 10), groups=np.repeat(np.arange(20), 10), n_boot=2000)
    np.testing.assert_allclose(grouped[:3], alone[:3], atol=0.06)
    assert grouped[3] == 200
    assert np.isnan(intervals.mean_with_interval(np.ones(3), groups=["p"] * 3)[1])
    with pytest.raises(ValueError, match="one group for each of 3 cases"):
        intervals.mean_with_interval(np.ones(3), groups=["p"])
    with pytest.raises(ValueError, match="number of resamples, of at least 1"):
        intervals.mean_with_interval(np.ones(3), n_boot=0)
