"""A planted marker: in as many cases as asked, of one class only, in the corner, and nothing else changes."""

import numpy as np
import pytest

from medlab import phantoms


@pytest.fixture
def pictures():
    return np.random.default_rng(0).normal(size=(20, 32, 40, 1)).astype(np.float32), np.arange(20) % 2


@pytest.mark.parametrize(("share", "count"), [(0, 0), (0.5, 5), (0.05, 1), (1, 10)])
def test_so_many_cases_of_the_class_have_it(pictures, share, count):
    x, y = pictures
    before = x.copy()
    marked, marks = phantoms.plant_marker(x, y, share=share)
    has = marks.any(axis=(1, 2))
    assert has.sum() == count
    assert (y[has] == 1).all()
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(marked[~marks], x[~marks])
    assert set(np.unique(marked[marks])) <= {x.min(), x.max()}


def test_the_letter_is_an_l_on_dark_ground_in_the_far_corner(pictures):
    marked, marks = phantoms.plant_marker(*pictures, side=4, share=1)
    low, high = pictures[0].min(), pictures[0].max()
    wanted = np.array(
        [[0] * 6, [0, 1, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0, 1, 1, 1, 1, 0], [0] * 6]
    )
    np.testing.assert_array_equal(marked[1, -6:, -6:, 0], np.where(wanted == 1, high, low))
    assert marks[1, -6:, -6:].all()
    assert marks[1].sum() == 36


def test_a_seed_draws_the_same_cases_and_another_seed_others(pictures):
    one, two, other = (phantoms.plant_marker(*pictures, seed=seed)[1].any(axis=(1, 2)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


def test_a_volume_has_it_in_every_slice():
    _, marks = phantoms.plant_marker(np.zeros((2, 12, 12, 5, 1)), [0, 1])
    assert marks[1].any(axis=(0, 1)).all()
    assert not marks[0].any()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"x": np.zeros((4, 8, 8))}, r"Expected x of shape"),
        ({"y": [0, 1]}, r"Expected y of shape \(4,\)"),
        ({"x": np.full((4, 8, 8, 1), np.nan)}, "finite"),
        ({"share": 1.5}, "share from 0 to 1"),
        ({"label": 7}, r"class 7 to mark. Received classes \[0, 1\]"),
        ({"side": 8}, "Expected a side"),
        ({"side": 2}, "Expected a side"),
    ],
)
def test_bad_input_is_named(change, match):
    given = {"x": np.zeros((4, 8, 8, 1)), "y": [0, 1, 0, 1]} | change
    with pytest.raises(ValueError, match=match):
        phantoms.plant_marker(given.pop("x"), given.pop("y"), **given)
