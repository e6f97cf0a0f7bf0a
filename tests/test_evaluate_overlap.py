"""Overlap of two masks: hand-counted voxels, and identities that hold for every pair."""

import numpy as np
import pytest

from medlab import evaluate
from medlab.evaluate import overlap

A = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
B = np.array([[0, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])


def test_by_hand():
    """4 and 5 voxels, 3 of them in both: Dice 2 * 3 / 9, union 6."""
    assert evaluate.dice(A, B) == pytest.approx(6 / 9, abs=1e-15)
    assert evaluate.iou(A, B) == pytest.approx(3 / 6, abs=1e-15)


@pytest.mark.parametrize("rank", [2, 3])
def test_symmetry_range_and_the_identity_between_them(rank):
    rng = np.random.default_rng(rank)
    for _ in range(20):
        a, b = rng.random((2, *(7, 5, 4)[:rank])) < rng.random()
        dice, iou = evaluate.dice(a, b), evaluate.iou(a, b)
        assert dice == evaluate.dice(b, a)
        assert 0 <= iou <= dice <= 1
        assert iou == pytest.approx(dice / (2 - dice), abs=1e-12)


def test_identical_disjoint_and_empty():
    empty = np.zeros_like(A)
    for measure in (evaluate.dice, evaluate.iou):
        assert measure(A, A) == 1
        assert measure(A, 1 - A) == 0
        assert measure(empty, empty) == 1
        assert measure(A, empty) == measure(empty, A) == 0


def test_masks_may_be_of_any_number_type():
    for kind in (bool, np.uint8, np.int64, np.float32):
        assert evaluate.dice(A.astype(kind), B.astype(bool)) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (A, B[:2], r"masks of one shape. Received \(3, 4\) and \(2, 4\)"),
        (A, B * 2, r"0 and 1. The second one has 2 among its values: choose one label"),
        (A * 0.4, B, r"The first one has 0.4 among its values"),
        (A * np.nan, B, r"The first one has nan"),
        (A[0], B[0], r"masks \(i, j\) or \(i, j, k\) of one case. Received shape \(4,\)"),
        (A.astype(str), B, r"The first one is of type <U"),
    ],
)
def test_bad_masks(a, b, message):
    for measure in (evaluate.dice, evaluate.iou, lambda a, b: evaluate.assd(a, b, 1)):
        with pytest.raises(ValueError, match=message):
            measure(a, b)


def test_pair_copies_nothing_that_is_boolean():
    mask = A.astype(bool)
    assert overlap.pair(mask, mask)[0] is mask
