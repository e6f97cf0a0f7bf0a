"""Foreground by modality: drawn bodies are found, whatever surrounds them."""

import numpy as np
import pytest
from scipy import ndimage

from medlab import geometry, standardize
from medlab.volume import Volume


def patient():
    """A CT of a cylinder of water with two lungs of air inside, open at no slice, beside a thin table; HU."""
    i, j, k = np.indices((60, 50, 12))
    body = (((i - 30) / 25) ** 2 + ((j - 25) / 18) ** 2 <= 1) & (k >= 0)
    lungs = (((np.abs(i - 30) - 11) / 7) ** 2 + ((j - 25) / 10) ** 2 <= 1) & body
    hu = np.full(body.shape, -1000.0)
    hu[body] = 30
    hu[lungs] = -850
    hu[5:55, 47, :] = 100
    return hu, body


@pytest.mark.parametrize("codes", ["RAS", "SAR", "LIP"])
def test_the_body_of_a_ct_holds_the_lungs_and_not_the_table(codes):
    hu, body = patient()
    turned = standardize.orient(Volume(hu, geometry.scaling((1, 1, 3)), modality="CT"), codes)
    truth = standardize.orient(Volume(body.astype(np.uint8), geometry.scaling((1, 1, 3)), "labels"), codes)
    np.testing.assert_array_equal(standardize.foreground(turned).array, truth.array)


def test_holes_are_those_of_each_axial_slice():
    """What scipy fills slice by slice is filled, however the slices lie."""
    noise = np.random.default_rng(0).random((22, 17, 9)) > 0.45
    body = ndimage.label(noise)[0]
    body = body == np.bincount(body.ravel())[1:].argmax() + 1
    truth = np.stack([ndimage.binary_fill_holes(part) for part in np.moveaxis(body, 2, 0)], -1)
    assert truth.sum() > body.sum()
    ct = Volume(np.where(noise, 30.0, -1000.0), modality="CT")
    for codes, axes in (("RAS", (0, 1, 2)), ("SRA", (2, 0, 1)), ("RSA", (0, 2, 1))):
        found = standardize.foreground(standardize.orient(ct, codes)).array
        np.testing.assert_array_equal(found, truth.transpose(axes))


def test_a_slice_of_ct_and_a_windowed_one():
    hu, body = patient()
    picture = Volume(hu[:, :, 5], modality="CT")
    np.testing.assert_array_equal(standardize.foreground(picture).array, body[:, :, 5])
    windowed = standardize.window(picture, preset="soft-tissue")
    np.testing.assert_array_equal(standardize.foreground(windowed).array, hu[:, :, 5] > 0)
    inside = Volume(np.random.default_rng(0).normal(40, 10, (9, 9, 9)), modality="CT")
    assert 0.3 < standardize.foreground(inside).array.mean() < 0.7, "no air: Otsu's threshold"


@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_a_ct_without_air_is_body_everywhere(kind):
    """Fat, muscle and a vessel with contrast: Otsu's threshold would take the vessel for the body."""
    rng = np.random.default_rng(0)
    hu = rng.normal(40, 15, (20, 20, 20))
    hu[:5] = rng.normal(-100, 10, (5, 20, 20))
    hu[9:12, 9:12] = 350
    assert standardize.foreground(Volume(hu.astype(kind), modality="CT")).array.all()
    stored = np.zeros((20, 20, 20), np.int16)
    for tissue in (300, 1064):
        stored[5:15, 5:15, 5:15] = rng.normal(tissue, 15, (10, 10, 10))
        found = standardize.foreground(Volume(stored, modality="CT")).array
        np.testing.assert_array_equal(found, stored > 0, "stored values without their offset: air is 0")


def test_the_collimated_border_of_a_radiograph():
    rng = np.random.default_rng(0)
    array = rng.normal(5, 0.5, (80, 100))
    array[10:70, 15:90] = rng.normal(150, 40, (60, 75))
    truth = np.zeros((80, 100))
    truth[10:70, 15:90] = 1
    np.testing.assert_array_equal(standardize.foreground(Volume(array, modality="DX")).array, truth)
    assert standardize.foreground(Volume(array[10:70, 15:90], modality="CR")).array.all()


def test_the_fan_of_an_ultrasound():
    i, j = np.indices((90, 120))
    radius, angle = np.hypot(i + 20, j - 60), np.arctan2(j - 60, i + 20)
    fan = (radius > 35) & (radius < 100) & (np.abs(angle) < 0.6)
    array = np.where(fan, np.random.default_rng(0).integers(20, 255, (90, 120)), 0).astype(np.uint8)
    array[50:60, 55:65] = 0  # a cyst: no echo, and inside the fan
    array[2:6, 2:30] = 255  # writing beside it
    np.testing.assert_array_equal(standardize.foreground(Volume(array, modality="US")).array, fan)


@pytest.mark.parametrize("modality", ["CT", "MR", "DX", "US", None])
def test_a_constant_image_is_all_foreground(modality):
    for value in (0.0, -1000.0, 7.0):
        assert standardize.foreground(Volume(np.full((5, 6), value), modality=modality)).array.all()


def test_the_rule_for_mr_is_otsus_for_every_other_modality():
    array = np.random.default_rng(0).gamma(2, 50, (20, 21))
    found = [standardize.foreground(Volume(array, modality=m)).array for m in ("MR", None, "MG", "OT")]
    for one in found[1:]:
        np.testing.assert_array_equal(one, found[0])


@pytest.mark.data
def test_the_heads_of_real_ct_and_mr(data_folder):
    from medlab import load

    volume = load.read(data_folder / "ct_small_17")
    share = standardize.foreground(volume).array.mean()
    assert 0.2 < share < 0.9
