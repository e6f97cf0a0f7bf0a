"""The plan for a data set's size: rules by hand, arguments that its functions take, and errors."""

import pytest

from medlab import augment, models, train

SHAPES = [(28, 28, 1), (32, 32, 3), (64, 64, 1), (128, 128, 1), (28, 28, 28, 1), (64, 64, 32, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("cases", [1, 30, 546, 700, 4708, 100_000])
def test_a_plan_names_a_network_and_gives_a_reason_for_everything(cases, shape):
    plan = train.plan(cases, shape, 2)
    assert plan.model in models.__all__
    assert set(plan.reasons) == {"model", "epochs", "batch_size", "augment"}
    assert str(plan.epochs) in plan.reasons["epochs"]
    assert str(plan.batch_size) in plan.reasons["batch_size"]
    assert plan.epochs >= 10
    width = plan.settings.get("width")
    assert width is None or str(width) in plan.reasons["model"]


@pytest.mark.parametrize("shape", SHAPES)
def test_fewer_cases_are_seen_more_often(shape):
    epochs = [train.plan(cases, shape, 2).epochs for cases in (100, 500, 1000, 5000, 50_000)]
    assert epochs == sorted(epochs, reverse=True)
    assert epochs[0] > epochs[-1]


@pytest.mark.parametrize(("cases", "shape"), [(4708, (28, 28, 1)), (1188, (20, 20, 20, 1)), (700, (128, 128, 1))])
def test_what_a_plan_says_can_be_done(cases, shape):
    plan = train.plan(cases, shape, 2)
    network = getattr(models, plan.model)(shape, 2, **plan.settings)
    assert network.input_shape == (None, *shape)
    policy = augment.policy("MR", rank=len(shape) - 1, seed=0, **plan.policy)
    assert {name: getattr(policy, name) for name in plan.policy} == plan.policy


def test_images_of_the_default_study_keep_their_time():
    """About 17,000 images of 128 pixels, or of more, through the network at its own width."""
    for side in (64, 128, 224):
        plan = train.plan(700, (side, side, 1), 2)
        assert (plan.model, plan.settings, plan.epochs, plan.batch_size) == ("small_cnn", {}, 24, 32)


def test_small_images_are_seen_more_often():
    """They cost a twentieth of one of 128 pixels: 28 * 28 / (128 * 128); about 56,000 are seen."""
    plans = [train.plan(cases, (28, 28, 1), 2) for cases in (546, 4708, 100_000)]
    assert [(plan.settings, plan.epochs, plan.batch_size) for plan in plans] == [
        ({}, 40, 32),
        ({"width": 32}, 12, 64),
        ({"width": 32}, 10, 64),
    ]
    for shape in ((64, 64, 1), (64, 64, 64, 1)):
        assert (train.plan(4708, shape, 2).settings, train.plan(4708, shape, 2).epochs) == ({}, 10)


def test_small_volumes_get_a_residual_network_that_halves_early():
    plan = train.plan(1188, (28, 28, 28, 1), 2)
    assert (plan.model, plan.settings["stem_stride"], plan.epochs) == ("resnet", 2, 30)
    assert train.plan(1188, (28, 40, 28, 1), 2).model == "small_cnn"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, (28, 28, 1), 2), "at least one case and two classes. Received 0 and 2"),
        ((10, (28, 28, 1), 1), "Received 10 and 1"),
        ((10, (0, 16, 1), 2), r"each at least 1\. Received \(0, 16, 1\)"),
        ((10, (28, 28), 2), r"Expected \(i, j, c\) or \(i, j, k, c\)"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        train.plan(*arguments)
