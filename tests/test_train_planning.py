"""The plan for a data set's size: rules by hand, and errors."""

import pytest

from medlab import models, train


@pytest.mark.parametrize("cases", [1, 30, 546, 700, 4708, 100_000])
def test_a_plan_names_a_network_and_gives_a_reason_for_everything(cases):
    plan = train.plan(cases, (28, 28, 1), 2)
    assert plan.model in models.__all__
    assert set(plan.reasons) == {"model", "epochs", "batch_size", "augment"}
    assert str(plan.epochs) in plan.reasons["epochs"]
    assert plan.epochs >= 10


def test_fewer_cases_are_seen_more_often():
    epochs = [train.plan(cases, (28, 28, 1), 2).epochs for cases in (100, 500, 1000, 5000, 50_000)]
    assert epochs == sorted(epochs, reverse=True)
    assert epochs[0] > epochs[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, (28, 28, 1), 2), "at least one case and two classes. Received 0 and 2"),
        ((10, (28, 28, 1), 1), "Received 10 and 1"),
        ((10, (28, 28), 2), r"Expected \(i, j, c\) or \(i, j, k, c\)"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        train.plan(*arguments)
