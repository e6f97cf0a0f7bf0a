"""Plan of a segmentation: spacing, patch, strides and kernels worked out by hand from shapes and spacings."""

import math

import numpy as np
import pytest

from medlab import load, models, train
from medlab.train import regions


def test_hippocampus():
    """Three halvings leave 4.4, 6.4 and 4.4 voxels, a fourth would leave 2.2; sides go up to multiples of 8."""
    plan = train.plan_segmentation([(35, 51, 35)] * 130, [(1.0, 1.0, 1.0)] * 130, 3)
    assert plan.spacing == (1, 1, 1)
    assert plan.median_shape == (35, 51, 35)
    assert plan.patch_size == (40, 56, 40)
    assert plan.strides == ((2, 2, 2),) * 3
    assert plan.kernels == ((3, 3, 3),) * 4
    assert plan.levels == 4
    # 2^18 = 262,144 voxels hold two patches of 89,600; 1,560 steps of two are 24 rounds of 130 cases.
    assert (plan.batch_size, plan.epochs) == (2, 24)
    assert plan.foreground == 0


@pytest.mark.data
def test_real_hippocampi(data_folder):
    """nnU-Net's own plan for this set: a patch of 40 x 56 x 40, three halvings (MIC-DKFZ/nnUNet, issue 148)."""
    cases = load.dataset(data_folder / "hippocampus")
    volumes = [cases.volume(case) for case in cases.ids[::6]]
    plan = train.plan_segmentation([one.shape for one in volumes], [one.spacing for one in volumes], 3)
    assert plan.patch_size == (40, 56, 40)
    assert plan.strides == ((2, 2, 2),) * 3


def test_lungs():
    """nnU-Net's plan for Task06: patch 80 x 160 x 160, batch 2, 4 and 5 halvings, kernels 3 (its issue 113)."""
    spacing = (1.24497998, 0.78515625, 0.78515625)
    plan = train.plan_segmentation([(252, 512, 512)] * 60, [spacing] * 60, 2, voxels=2 * 80 * 160 * 160)
    assert (plan.patch_size, plan.batch_size) == ((80, 160, 160), 2)
    assert np.prod(plan.strides, axis=0).tolist() == [2**4, 2**5, 2**5]
    assert plan.kernels == ((3, 3, 3),) * 6


def test_few_thick_slices():
    """0.5 mm pixels in 4 mm slices: the slices are halved, with kernels across, only once 2 x 2 mm pixels are reached.

    Pixels: 0.5, 1, 2, 4 mm ... An axis is halved while it is less than twice as coarse as the finest that can be: at
    2 mm pixels, 4 mm slices are still twice as coarse; at 4 mm both are alike.
    """
    plan = train.plan_segmentation([(128, 128, 16)] * 50, [(0.5, 0.5, 4.0)] * 50, 2, voxels=2**20)
    assert plan.patch_size == (128, 128, 16)
    assert plan.strides == ((2, 2, 1), (2, 2, 1), (2, 2, 1), (2, 2, 2), (2, 2, 2))
    assert plan.kernels == ((3, 3, 1), (3, 3, 1), (3, 3, 1), (3, 3, 3), (3, 3, 3), (3, 3, 3))


def test_slice_distance_of_uneven_data():
    """A coarse axis takes the 10th percentile of the slice distances, the others their medians."""
    distances = np.linspace(3, 8, 101)
    plan = train.plan_segmentation([(256, 256, 20)] * 101, [(0.6, 0.6, one) for one in distances], 2)
    assert plan.spacing == pytest.approx((0.6, 0.6, 3.5))
    assert "10th percentile along axis 2" in plan.reasons["spacing"]
    # With enough slices the axis is no exception: the median.
    plan = train.plan_segmentation([(256, 256, 100)] * 101, [(0.6, 0.6, one) for one in distances], 2)
    assert plan.spacing == pytest.approx((0.6, 0.6, 5.5))
    # Never finer than the other axes: one slice in nine is 0.1 mm apart.
    plan = train.plan_segmentation([(256, 256, 20)] * 9, [(0.6, 0.6, one) for one in [0.1, *[5] * 8]], 2)
    assert plan.spacing == pytest.approx((0.6, 0.6, 0.6 if np.percentile([0.1, *[5] * 8], 10) < 0.6 else 4.02))


def test_median_shape_is_that_at_the_new_spacing():
    """Of 40, 60 and 100 mm at a median of 2 mm: 20, 30 and 50 voxels."""
    plan = train.plan_segmentation([(40, 40), (30, 30), (25, 25)], [(1, 1), (2, 2), (4, 4)], 2)
    assert plan.spacing == (2, 2)
    assert plan.median_shape == (30, 30)


def test_large_volumes_are_cut_into_cubes():
    """Two cubes of 128 voxels are 2^22; the same in mm where one axis is twice as coarse."""
    plan = train.plan_segmentation([(512, 512, 512)] * 100, [(1, 1, 1)] * 100, 2, voxels=2**22)
    assert plan.patch_size == (128, 128, 128)
    assert (plan.batch_size, plan.foreground) == (2, 1 / 3)
    plan = train.plan_segmentation([(512, 512, 256)] * 100, [(0.5, 0.5, 1.0)] * 100, 2, voxels=2**22)
    assert plan.patch_size == (160, 160, 80)


def test_pictures():
    """256 x 256 pixels are halved six times, down to 4; four of them are 2^18 pixels."""
    plan = train.plan_segmentation([(256, 256)] * 400, [(1, 1)] * 400, 2)
    assert (plan.patch_size, plan.batch_size, plan.levels) == ((256, 256), 4, 7)
    assert plan.strides == ((2, 2),) * 6


def test_batches_stay_a_small_part_of_the_training_set():
    """A twentieth of 60 images are 3, of 10 not even 1: two."""
    assert train.plan_segmentation([(32, 32)] * 60, [(1, 1)] * 60, 2).batch_size == 3
    assert train.plan_segmentation([(32, 32)] * 10, [(1, 1)] * 10, 2).batch_size == 2


@pytest.mark.parametrize("seed", range(30))
def test_whatever_comes_the_patch_fits(seed):
    """The promises: within the budget, a multiple of the strides, at least 4 voxels deep down, a reason for each."""
    random = np.random.default_rng(seed)
    rank = int(random.integers(2, 4))
    shape, spacing = random.integers(20, 600, rank), random.uniform(0.3, 6, rank)
    voxels = int(2 ** random.integers(16, 23))
    plan = train.plan_segmentation([shape] * 40, [spacing] * 40, 2, voxels=voxels)
    total = np.prod(plan.strides, axis=0)
    assert plan.batch_size * math.prod(plan.patch_size) <= voxels
    assert (np.array(plan.patch_size) % total == 0).all()
    assert (np.array(plan.patch_size) <= shape + total).all()
    deepest, halved = np.array(plan.patch_size) / total, total > 1
    assert (deepest[halved] >= 4).all()
    assert len(plan.strides) == len(plan.kernels) - 1
    assert set(plan.reasons) == {
        "spacing", "median_shape", "patch_size", "batch_size", "strides", "kernels", "width", "epochs", "foreground",
        "learning_rate", "loss", "augment",
    }  # fmt: skip


def test_the_network_of_a_plan():
    plan = train.plan_segmentation([(48, 40, 9)] * 20, [(1, 1, 4)] * 20, 2, shares=[0.98, 0.02], width=2)
    model = models.unet((*plan.patch_size, 1), 2, **plan.network())
    assert model.input_shape[1:-1] == plan.patch_size
    assert model.get_layer("encode1_first_conv").kernel.shape == (*plan.kernels[0], 1, 2)
    assert hasattr(regions, plan.loss)
    assert "the smallest class has 2 % of the voxels" in plan.reasons["loss"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (([(32, 32)], [(1, 1, 1)], 2), r"Received \(1, 2\) and \(1, 3\)"),
        (([(32,)], [(1,)], 2), r"Expected shapes and spacings \(n, 2\) or \(n, 3\)"),
        (([(32, 32)], [(1, 0)], 2), "spacings above 0 mm"),
        (([(32, 32)], [(1, float("nan"))], 2), "all finite"),
        (([(32, 32)], [(1, 1)], 1), "at least two classes, background included. Received 1"),
        (([(7, 7)], [(1, 1)], 2), "7 x 7 voxels is too small for two levels"),
    ],
)
def test_errors_say_what_to_do(arguments, text):
    with pytest.raises(ValueError, match=text):
        train.plan_segmentation(*arguments)


def test_a_budget_that_is_too_small():
    with pytest.raises(ValueError, match="more than the 100 voxels of a step"):
        train.plan_segmentation([(32, 32)] * 5, [(1, 1)] * 5, 2, voxels=100)
    with pytest.raises(ValueError, match="Expected voxels to be a positive whole number"):
        train.plan_segmentation([(32, 32)] * 5, [(1, 1)] * 5, 2, voxels=0)
    with pytest.raises(ValueError, match="Expected 2 shares"):
        train.plan_segmentation([(32, 32)] * 5, [(1, 1)] * 5, 2, shares=[0.5, 0.4, 0.1])
