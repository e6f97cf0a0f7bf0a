"""Vessel and bone phantoms: narrowing and displacement are measured in the masks, and must be what is told."""

import numpy as np
import pytest
from scipy import ndimage

from medlab.phantoms import bone, limb, vessels
from medlab.phantoms.bone import FRACTURE
from medlab.phantoms.vessels import STENOSIS

PLAIN = {"severity": 1.0, "seed": 0, "domain": "reference"}


def _vessel(index, **changes):
    return STENOSIS.render(index, **(PLAIN | {"rank": 3, "size": 64, "technique": "ct"} | changes))


def _bone(index, **changes):
    return FRACTURE.render(index, **(PLAIN | {"rank": 2, "size": 128, "technique": "radiograph"} | changes))


def _sick(scenario, count, **changes):
    """The first cases of the second class."""
    found = (i for i in range(400) if scenario.parameters(i, **(PLAIN | changes))["label"] == scenario.classes[1])
    return [next(found) for _ in range(count)]


def _diameter(mask, number, center, direction, spacing, reach=9.0):
    """Diameter (mm) of one branch in the plane through ``center`` (voxels): of the disk with its area."""
    direction = direction / np.linalg.norm(direction)
    across = np.linalg.svd(direction[None])[2][1:]
    steps = np.arange(-reach, reach, 0.1)
    u, v = np.meshgrid(steps / spacing, steps / spacing, indexing="ij")
    points = center[:, None, None] + across[0][:, None, None] * u + across[1][:, None, None] * v
    found = ndimage.map_coordinates(np.isin(mask, number).astype(float), points, order=1) >= 0.5
    pieces, _ = ndimage.label(found)
    here = pieces[len(steps) // 2 - 4 : len(steps) // 2 + 5, len(steps) // 2 - 4 : len(steps) // 2 + 5]
    if not here.any():
        return 0.0
    return 2 * np.sqrt((pieces == here[here > 0][0]).sum() * 0.01 / np.pi)


# -- vessels ---------------------------------------------------------------------------------------------------------


def test_the_narrowing_measured_in_the_mask_is_the_one_told():
    errors = []
    for index in _sick(STENOSIS, 8):
        facts, tree = vessels._plan(index, 1.0, 0)
        image, mask = _vessel(index, size=128)
        number = STENOSIS.regions.index(facts["place"])
        mine = tree.branch == number
        points, arc = (tree.point + tree.inward)[mine], tree.arc[mine]
        inverse = np.linalg.inv(image.affine)
        found = []
        for where in (facts["arc_mm"], facts["arc_mm"] + facts["length_mm"] + 4):
            at = int(np.argmin(np.abs(arc - where)))
            center = inverse[:3, :3] @ points[at] + inverse[:3, 3]
            line = points[min(at + 5, len(points) - 1)] - points[max(at - 5, 0)]
            if not ((center > 8) & (center < 120)).all():
                break
            found.append(_diameter(mask.array, [number, 4], center, line, image.spacing[0]))
        if len(found) == 2:
            errors.append(1 - found[0] / found[1] - facts["narrowing"])
            assert found[0] == pytest.approx(facts["minimum_mm"], abs=0.6)
    assert len(errors) >= 4
    assert np.abs(errors).max() < 0.15
    assert abs(np.mean(errors)) < 0.06


def test_told_diameters_agree_with_the_tree_and_the_threshold_with_the_label():
    for index in range(60):
        facts, tree = vessels._plan(index, 1.0, 0)
        mine = tree.branch == STENOSIS.regions.index(facts["place"])
        at = np.argmin(np.abs(tree.arc[mine] - facts["arc_mm"]))
        assert 2 * tree.radius[mine][at] == pytest.approx(facts["minimum_mm"])
        assert 1 - facts["minimum_mm"] / facts["distal_mm"] == pytest.approx(facts["narrowing"])
        beyond = np.interp(facts["arc_mm"] + facts["length_mm"] + 4, *_sorted(tree.arc[mine], tree.radius[mine]))
        if facts["narrowing"] > 0:
            assert 2 * beyond == pytest.approx(facts["distal_mm"], rel=0.06)
        assert (facts["narrowing"] >= 0.5) == (facts["label"] == "stenosis")


def _sorted(arc, radius):
    order = np.argsort(arc)
    return arc[order], radius[order]


def test_the_narrow_place_lies_where_it_is_told_and_only_in_the_sick():
    for index in range(8):
        image, mask = _vessel(index)
        facts = STENOSIS.parameters(index, **PLAIN)
        narrow = np.argwhere(mask.array == 4)
        if facts["label"] == "normal":
            assert len(narrow) == 0
        elif len(narrow):
            center = image.affine @ [*narrow.mean(0), 1]
            told = np.array([facts["x_mm"], facts["y_mm"], facts["z_mm"]])
            assert np.linalg.norm(center[:3] - told) < 3


def test_normal_arteries_have_mild_narrowings_and_calcium_too():
    cases = [STENOSIS.parameters(i, **PLAIN) for i in range(300)]
    normal = [one for one in cases if one["label"] == "normal"]
    assert 0.5 < np.mean([one["narrowing"] > 0.1 for one in normal]) < 0.85
    assert max(one["narrowing"] for one in normal) < 0.45
    plaques = [np.mean([one["plaques"] for one in cases if one["label"] == label]) for label in STENOSIS.classes]
    assert plaques[0] == pytest.approx(plaques[1], abs=0.5)  # 150 Poisson numbers of mean 1.5 each


@pytest.mark.parametrize("technique", ["ct", "mr"])
def test_the_artery_is_the_brightest_and_a_projection_shows_all_of_it(technique):
    image, mask = _vessel(3, technique=technique)
    lumen = ndimage.binary_erosion(mask.array > 0)
    assert image.array[lumen].mean() > image.array[mask.array == 0].mean() + 3 * image.array[mask.array == 0].std()
    assert image.orientation == "RAS"
    assert image.modality == {"ct": "CT", "mr": "MR"}[technique]
    flat, flat_mask = _vessel(3, technique=technique, rank=2)
    assert flat.orientation == "IL"
    shadow = mask.array[:, 16:48].max(1)[::-1, ::-1].T > 0  # the slab is half as deep as the volume
    overlap = 2 * (shadow & (flat_mask.array > 0)).sum() / (shadow.sum() + (flat_mask.array > 0).sum())
    assert overlap > 0.9


def test_the_internal_artery_is_on_the_outside():
    for index in range(10):
        facts, tree = vessels._plan(index, 1.0, 0)
        inner, outer = (tree.point[(tree.branch == n) & (tree.arc > 15) & (tree.arc < 25)].mean(0) for n in (2, 3))
        assert inner[1] < outer[1] + 6  # behind it, but for turned necks
        outward = 1 if facts["side"] == "right" else -1
        assert outward * tree.vein[:, 0].mean() > outward * tree.point[tree.branch == 1].mean(0)[0]


# -- bone ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("technique", ["ct", "radiograph"])
def test_the_displacement_measured_in_the_mask_is_the_one_told(technique):
    errors = []
    for index in _sick(FRACTURE, 30):
        facts, shape, broken = bone._plan(index, 1.0, 0)
        image, mask = _bone(index, size=256, technique=technique)
        # Places in the bone's own axes; the middle of the bone on either side, close to the fracture.
        rows, columns = np.nonzero(mask.array > 0)
        world = image.affine @ np.stack([rows, columns, np.zeros(len(rows)), np.ones(len(rows))])
        a, s = limb.own_axes(shape, world[0].astype(np.float32), world[2].astype(np.float32))
        a = a - limb.axis_at(shape, s)
        near = np.abs(a) < shape.radius + 7
        a, s = a[near], s[near]
        reach = shape.radius * broken.slope * 1.3 + 3
        if not -20 < broken.at - reach - 4 < broken.at + reach + 4 < 36 or abs(broken.bend) > 0.04:
            continue
        edges = []
        for start in (broken.at + reach, broken.at - reach - 4):
            part = (s > start) & (s < start + 4)
            edges.append((np.percentile(a[part], 0.5) + np.percentile(a[part], 99.5)) / 2)
        # A fragment that leans has its middle off by the angle times the way to where it is measured.
        lean = np.sin(broken.bend) * (-reach - 2)
        assert abs(broken.shift[0]) == pytest.approx(facts["seen_mm"])
        errors.append(abs(edges[1] - edges[0] - broken.shift[0] - lean))
    assert len(errors) >= 5
    assert np.max(errors) < 0.8  # mm; a pixel is 0.375
    assert np.mean(errors) < 0.4


def test_seen_displacement_is_part_of_all_and_intact_bones_have_none():
    for index in range(60):
        facts = FRACTURE.parameters(index, **PLAIN)
        if facts["label"] == "fracture":
            _, _, broken = bone._plan(index, 1.0, 0)
            assert np.linalg.norm(broken.shift) == pytest.approx(facts["displacement_mm"])
            # It slides along the fracture: the shift lies in its plane, so that the gap stays as told.
            normal = np.array([-broken.slope * np.cos(broken.turn), -broken.slope * np.sin(broken.turn), 1])
            assert np.dot(broken.shift, normal) == pytest.approx(0, abs=1e-9)
            assert 0 <= facts["seen_mm"] <= facts["displacement_mm"]
        else:
            assert facts["displacement_mm"] == facts["gap_mm"] == 0
            assert np.isnan(facts["x_mm"])


@pytest.mark.parametrize(("rank", "technique"), [(2, "radiograph"), (2, "ct"), (3, "ct")])
def test_the_fracture_lies_on_the_bone_where_it_is_told(rank, technique):
    for index in _sick(FRACTURE, 3):
        facts = FRACTURE.parameters(index, **PLAIN)
        image, mask = _bone(index, rank=rank, technique=technique, size=64)
        where = np.argwhere(mask.array == 2)
        assert 3 < len(where) < 0.2 * (mask.array > 0).sum()
        points = np.concatenate([where, np.zeros((len(where), 3 - rank)), np.ones((len(where), 1))], 1)
        center = (image.affine @ points.T).mean(1)[:3]
        told = np.array([facts["x_mm"], facts["y_mm"], facts["z_mm"]])
        assert np.linalg.norm((center - told)[[0, 2]]) < 8  # it may reach out of the picture
        around = ndimage.binary_dilation(mask.array == 2) & (mask.array == 1)
        if technique == "ct":
            assert image.array[mask.array == 2].mean() < image.array[around].mean() + 50


def test_intact_bones_have_no_fracture_in_the_mask_and_growth_plates_in_half():
    cases = [FRACTURE.parameters(i, **PLAIN) for i in range(300)]
    for label in FRACTURE.classes:
        young = np.mean([one["young"] for one in cases if one["label"] == label])
        assert 0.35 < young < 0.65  # 150 fair coins: deviation 0.04
    for index in range(6):
        if cases[index]["label"] == "intact":
            assert _bone(index)[1].array.max() == 1


def test_a_growth_plate_is_a_dark_line_in_intact_bone():
    index = next(
        i for i in range(50) if (f := FRACTURE.parameters(i, **PLAIN))["young"] and f["label"] == "intact"
    )  # fmt: skip
    _, shape, _ = bone._plan(index, 1.0, 0)
    image, _ = _bone(index, technique="ct", size=192)
    profile = []
    for s in np.arange(shape.end + 4, shape.plate[0] + 12, 0.5):
        a = np.linspace(-0.4, 0.4, 9) * shape.radius
        places = np.array([limb.world(shape, p + limb.axis_at(shape, s), 0.0, s) for p in a])
        voxel = np.linalg.inv(image.affine) @ np.concatenate([places, np.ones((9, 1))], 1).T
        profile.append(ndimage.map_coordinates(image.array.astype(float), voxel[:2], order=1).mean())
    darkest = shape.end + 4 + 0.5 * int(np.argmin(profile))
    assert darkest == pytest.approx(shape.plate[0], abs=3)
    assert min(profile) < np.median(profile) - 60


def test_cortex_is_dense_and_the_marrow_of_the_shaft_is_not():
    index = next(i for i in range(50) if FRACTURE.parameters(i, **PLAIN)["label"] == "intact")
    _, shape, _ = bone._plan(index, 1.0, 0)
    image, _ = _bone(index, technique="ct", size=192, domain="sharp-kernel")
    found = {}
    for name, a in (("cortex", shape.radius - shape.cortex / 2), ("marrow", 0.0)):
        places = np.array([limb.world(shape, a + limb.axis_at(shape, s), 0.0, s) for s in np.arange(20, 34, 1.0)])
        voxel = np.linalg.inv(image.affine) @ np.concatenate([places, np.ones((len(places), 1))], 1).T
        found[name] = np.median(ndimage.map_coordinates(image.array.astype(float), voxel[:2], order=1))
    assert found["cortex"] > 1000
    assert -150 < found["marrow"] < 200


def test_a_bone_radiograph_has_no_third_axis():
    with pytest.raises(ValueError, match="expected rank 2 with technique 'radiograph'"):
        _bone(0, rank=3)
