"""Healthy twins: the finding is gone, everything else is the same."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from medlab import load, phantoms
from medlab.cases import Cases
from medlab.phantoms import twins

# Labels of the mask that are the finding itself.
FINDING = {
    "phantom:brain-tumor": (1, 2, 3), "phantom:lung-nodule": (2,), "phantom:fracture": (2,), "phantom:stenosis": (4,),
    "phantom:ms-lesions": (1,), "phantom:stroke": (1,),
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDLAB_CACHE", str(tmp_path))


def first(cases, label):
    return cases.ids_of(cases.classes[label])[0]


@pytest.mark.parametrize("name", phantoms.NAMES)
def test_the_finding_is_gone_and_a_healthy_case_is_its_own_twin(name):
    cases = load.dataset(name, n=4, rank=2, size=64, seed=5)
    well = cases.twins()
    assert set(well.table["label"]) == {cases.classes[0]}
    assert well.table[["id", "patient"]].equals(cases.table[["id", "patient"]])
    one, other = first(cases, 0), first(cases, 1)
    np.testing.assert_array_equal(well.volume(one).array, cases.volume(one).array)
    assert well.row(one)["image"] == cases.row(one)["image"]
    sick, twin = cases.volume(other), cases.twin(other)
    np.testing.assert_array_equal(twin.affine, sick.affine)
    assert twin.array.dtype == sick.array.dtype
    assert twin.array.shape == sick.array.shape
    assert not np.array_equal(twin.array, sick.array)
    assert twin.info["parameters"]["label"] == cases.classes[0]
    assert sick.info["parameters"]["label"] == cases.classes[1]
    shared = {key: value for key, value in sick.info.items() if key != "parameters"}
    assert {key: twin.info[key] for key in shared} == shared
    assert twin.info["parameters"]["noise"] == sick.info["parameters"]["noise"]
    if name in FINDING:
        assert np.isin(cases.mask(other).array, FINDING[name]).any()
        assert not np.isin(well.mask(other).array, FINDING[name]).any()


@pytest.mark.parametrize(
    ("name", "options", "reach"),
    [
        ("phantom:ms-lesions", {}, 3),
        ("phantom:ms-lesions", {"rank": 3, "size": 32}, 2),
        ("phantom:stroke", {}, 22),
        ("phantom:stenosis", {"technique": "mr"}, 20),
        ("phantom:hippocampus", {"view": "left", "rank": 3, "size": 32}, 4),
    ],
)
def test_far_from_the_finding_not_a_number_changes(name, options, reach):
    """The same noise: were it drawn anew, nearly all voxels would differ."""
    cases = load.dataset(name, **{"n": 4, "rank": 2, "size": 64, "seed": 2, **options})
    other = first(cases, 1)
    changed = cases.volume(other).array != cases.twin(other).array
    mask = cases.mask(other).array
    finding = np.isin(mask, FINDING.get(name, (1, 2)))
    near = ndimage.binary_dilation(finding, iterations=reach)
    assert changed.any()
    # Lesions that fill less than half of any voxel are seen, but not in the mask.
    assert changed[~near].mean() <= (0.01 if name == "phantom:ms-lesions" else 0)
    assert (~near).mean() > 0.3


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("phantom:lung-nodule", {"size": 128}),
        ("phantom:lung-nodule", {"technique": "radiograph"}),
        ("phantom:fracture", {"technique": "radiograph"}),
        ("phantom:cardiomegaly", {}),
    ],
)
def test_photons_keep_their_noise(name, options):
    """Detail finer than 1.5 pixels is mostly noise: within the field it is the same for both, but for what changed."""
    cases = load.dataset(name, **{"n": 4, "rank": 2, "size": 64, "seed": 1, "severity": 4, **options})
    other = first(cases, 1)
    fine = [
        array - ndimage.gaussian_filter(array, 1.5)
        for array in (cases.volume(other).array.astype(float), cases.twin(other).array.astype(float))
    ]
    different = np.abs(fine[0] - fine[1])
    assert np.quantile(different, 0.5) < 0.1 * fine[0].std()
    assert np.corrcoef(fine[0].ravel(), fine[1].ravel())[0, 1] > 0.8


def test_what_the_tumor_pushed_away_is_back():
    """The healthy twin of a tumor has brain where the tumor was, as bright as other brain."""
    cases = load.dataset("phantom:brain-tumor", n=6, rank=2, size=64, seed=0, severity=0.25, sequence="flair")
    for name in cases.ids_of("tumor"):
        place = cases.mask(name).array > 0
        sick, well = (one.array.astype(float) for one in (cases.volume(name), cases.twin(name)))
        brain = well > np.quantile(well, 0.75)
        usual = np.median(well[brain & ~place])
        assert abs(np.median(well[place]) - usual) < 0.35 * usual
        assert np.quantile(sick[place], 0.9) > np.quantile(well[place], 0.9)


def test_the_twin_of_each_measure():
    hearts = load.dataset("phantom:cardiomegaly", n=6, seed=3)
    ratios, twin = hearts.table["ratio"], hearts.twins().table["ratio"]
    large = hearts.table["label"] == "cardiomegaly"
    np.testing.assert_allclose(twin[large], 1 - ratios[large], atol=2e-3)
    np.testing.assert_array_equal(twin[~large], ratios[~large])
    arteries = load.dataset("phantom:stenosis", n=6, seed=3)
    narrow = arteries.table["label"] == "stenosis"
    well = arteries.twins().table
    assert (well["narrowing"][narrow] == 0).all()
    assert (well["minimum_mm"][narrow] > 1.5 * arteries.table["minimum_mm"][narrow]).all()
    hippocampi = load.dataset("phantom:hippocampus", n=6, seed=3)
    shrunken = hippocampi.table["label"] == "atrophy"
    well = hippocampi.twins().table
    assert (well["left_ml"][shrunken] > hippocampi.table["left_ml"][shrunken]).all()
    assert well["left_ml"].between(2.4, 4.4).all()


def test_counts_keep_their_deviations():
    """z = (count - expected) / sqrt(expected) is carried over; where as many are expected the count is the same."""
    found = twins._counts(np.array([110, 90, 100, 7]), np.array([100.0, 100, 100, 0]), np.array([400.0, 400, 100, 0]))
    assert found.tolist() == [420, 380, 100, 7]
    rng = np.random.default_rng(0)
    before, now = np.full(200_000, 50.0), np.full(200_000, 20.0)
    moved = twins._counts(rng.poisson(before), before, now)
    assert abs(moved.mean() - 20) < 0.05
    assert abs(moved.var() - 20) < 0.4


def test_the_same_noise_in_the_same_order():
    def make(rng, expected):
        return rng.poisson(expected), rng.standard_normal(3, np.float32)

    again = twins.same_noise(np.random.default_rng(1), lambda rng: make(rng, np.array([9.0, 1e4, 3.0])))
    counts, normal = make(again, np.array([9.0, 1e4, 30.0]))
    direct = np.random.default_rng(1)
    np.testing.assert_array_equal(counts[:2], direct.poisson([9.0, 1e4, 3.0])[:2])
    np.testing.assert_array_equal(normal, direct.standard_normal(3, np.float32))
    other = twins.same_noise(np.random.default_rng(1), lambda rng: rng.standard_normal(3))
    with pytest.raises(RuntimeError, match=r"Expected standard_normal of 3, as in the case. Received poisson"):
        other.poisson(1.0)


def test_references_of_twins():
    table = phantoms.cases("phantom:stroke", n=4, rank=2, size=32)
    sick = table["image"][table["label"] == "stroke"].iloc[0]
    reference = twins.twin_reference(sick)
    assert "&twin=healthy#" in reference
    assert twins.twin_reference(reference) == reference
    twin = phantoms.healthy_twin(sick)
    np.testing.assert_array_equal(phantoms.open_reference(reference).array, twin.array)
    np.testing.assert_array_equal(phantoms.healthy_twin(sick).array, twin.array)  # from the cache
    assert not phantoms.healthy_twin(sick, kind="labels").array.any()
    bare = "phantom:brain-tumor?#0", "phantom:brain-tumor?#1"
    assert sum(twins.twin_reference(one) != one for one in bare) == 1
    assert all(phantoms.store.parse(twins.twin_reference(one))[1] == number for number, one in enumerate(bare))
    with pytest.raises(ValueError, match=r"Expected a twin of healthy. Received 'sick'"):
        phantoms.open_reference(sick.replace("#", "&twin=sick#"))
    with pytest.raises(ValueError, match=r"Expected a reference such as"):
        phantoms.healthy_twin("scan.nii.gz")


def test_only_phantoms_have_twins():
    cases = Cases(pd.DataFrame({"id": ["a"], "image": ["a.png"], "label": ["x"]}), ["x", "y"], "clinic")
    with pytest.raises(ValueError, match=r"'clinic' has no healthy twins: only the phantoms"):
        cases.twins()
    with pytest.raises(ValueError, match=r"'clinic' has no healthy twins"):
        cases.twin("a")
    phantom = load.dataset("phantom:stroke", n=2, rank=2, size=32)
    with pytest.raises(KeyError, match=r"No case 'b'"):
        phantom.twin("b")
    part = phantom.subset(ids=phantom.ids[1:])
    assert part.twins().ids == part.ids
