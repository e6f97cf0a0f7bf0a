"""What every phantom data set promises, whoever made it."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from medlab import load, phantoms
from medlab.phantoms import cache, making, scenario, store

SMALL = {2: 48, 3: 24}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDLAB_CACHE", str(tmp_path / "cache"))
    store._volumes.cache_clear()
    yield
    store._volumes.cache_clear()


def _options(name, **changes):
    found = phantoms.find(name)
    rank = changes.pop("rank", min(found.sizes))
    return found, found.options(rank=rank, size=max(SMALL[rank], found.sizes[rank][1]), **changes)


def _truth(found, index, options):
    return dict(found.parameters(index, **{key: options[key] for key in ("severity", "seed", "domain")}))


@pytest.mark.parametrize("name", phantoms.NAMES)
def test_a_scenario_says_all_of_itself(name):
    found = phantoms.find(name)
    assert found.name == name
    assert found.regions[0] == "background"
    assert found.topic in ("tumor", "cardiovascular", "orthopedic", "neurological")
    assert len(set(found.classes)) == len(found.classes) >= 2
    assert len(set(found.domains)) == len(found.domains) >= 2
    assert "patients" in found.note
    assert len(found.note.split(". ")) >= 3
    for least, default, most in ((sizes[1], sizes[0], sizes[2]) for sizes in found.sizes.values()):
        assert 8 <= least <= default <= most


@pytest.mark.parametrize("name", phantoms.NAMES)
def test_pairs_hold_one_of_each_in_an_order_by_chance(name):
    found, options = _options(name, seed=3)
    labels = [_truth(found, index, options)["label"] for index in range(60)]
    healthy = [label == found.classes[0] for label in labels]
    assert all(a != b for a, b in zip(healthy[::2], healthy[1::2], strict=True))
    assert 4 <= sum(healthy[::2]) <= 26  # 30 fair coins: outside once in 100,000
    assert set(labels) == set(found.classes)


@pytest.mark.parametrize("name", phantoms.NAMES)
def test_every_rank_renders_an_image_and_a_mask_on_one_grid(name):
    found = phantoms.find(name)
    for rank in found.sizes:
        _, options = _options(name, rank=rank)
        image, labels = found.render(1, **options)
        assert (image.kind, labels.kind, image.rank) == ("image", "labels", rank)
        assert image.shape == labels.shape
        np.testing.assert_array_equal(image.affine, labels.affine)
        assert set(np.unique(labels.array)) <= set(range(len(found.regions)))
        assert np.isfinite(image.array).all()
        assert image.array.std() > 0


@pytest.mark.parametrize("name", phantoms.NAMES)
def test_a_domain_changes_the_look_and_not_the_patient(name):
    found, options = _options(name)
    index = next(index for index in range(2) if _truth(found, index, options)["label"] != found.classes[0])
    image, labels = found.render(index, **options)
    for domain in found.domains[1:]:
        other, same = found.render(index, **{**options, "domain": domain})
        np.testing.assert_array_equal(same.array, labels.array)
        assert not np.array_equal(other.array, image.array)
        assert _truth(found, index, {**options, "domain": domain})["label"] == _truth(found, index, options)["label"]


@pytest.mark.parametrize("name", phantoms.NAMES)
def test_the_same_numbers_give_the_same_case_and_others_another(name):
    found, options = _options(name)
    first = found.render(2, **options)
    found.render(3, **options)
    again = found.render(2, **options)
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.array, same.array)
    other = found.render(2, **{**options, "seed": 1})[0]
    assert not np.array_equal(other.array, first[0].array)


@pytest.mark.parametrize("name", phantoms.NAMES)
def test_dataset_opens_what_the_scenario_makes(name):
    found, options = _options(name, severity=0.5)
    cases = load.dataset(name, n=4, **options)
    assert cases.classes == list(found.classes)
    assert (cases.info["modality"], cases.info["scenario"]) == (found.modality, found.topic)
    assert cases.info["regions"] == list(found.regions)
    for _ in range(2):  # made, then read from the cache
        store._volumes.cache_clear()
        image, labels = found.render(3, **options)
        opened = cases.volume(cases.ids[3])
        np.testing.assert_array_equal(opened.array, image.array)
        np.testing.assert_array_equal(opened.affine, image.affine)
        assert opened.array.dtype == image.array.dtype
        assert opened.modality == image.modality
        np.testing.assert_array_equal(cases.mask(cases.ids[3]).array, labels.array)
    truth = pd.Series(_truth(found, 3, options))
    pd.testing.assert_series_equal(cases.row(cases.ids[3])[truth.index], truth, check_names=False)


def test_the_list_of_data_sets_names_all_with_their_facts():
    table = load.datasets().set_index("name")
    for name in phantoms.NAMES:
        found = phantoms.find(name)
        row = table.loc[name]
        assert (row["modality"], row["scenario"], row["classes"]) == (found.modality, found.topic, len(found.classes))
        assert row["rank"] == ", ".join(map(str, sorted(found.sizes)))
        assert found.note.startswith(row["what"])


# -- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"difficulty": 2}, r"'difficulty' is called severity now: severity=2\."),
        ({"severity": 5}, r"severity from 0\.25 to 4\. Received 5"),
        ({"severity": True}, "Received True"),
        ({"severity": "hard"}, "Received 'hard'"),
        ({"domain": "7T"}, r"domain of reference, .*\. Received '7T'"),
        ({"sequence": 3}, "sequence of flair, t1, t2. Received 3"),
        ({"color": "red"}, "does not know color. It knows rank, size, sequence, severity, domain, seed"),
        ({"seed": 2**31}, "a seed of 0 or above. Received 2147483648"),
        ({"rank": 4}, r"rank 2 \(slices\) or 3 \(volumes\)\. Received 4"),
        ({"size": 8}, "size from 16 to 512 for rank 2. Received 8"),
    ],
)
def test_arguments_out_of_range_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        phantoms.cases("phantom:ms-lesions", n=2, **changes)


def test_an_old_argument_is_told_its_new_name_at_the_front_door():
    with pytest.raises(ValueError, match=r"'difficulty' is called severity now: severity=1\.5"):
        load.dataset("phantom:brain-tumor", n=2, difficulty=1.5)


def test_defaults_are_the_first_of_each_choice():
    found = phantoms.find("phantom:hippocampus")
    assert found.options() == {
        "rank": 2, "size": 128, "view": "temporal", "sequence": "t1", "severity": 1.0, "domain": "reference", "seed": 0,
    }  # fmt: skip
    assert found.options(rank=3, size=None)["size"] == 64


@pytest.mark.parametrize("name", phantoms.NAMES)
def test_choices_and_domains_may_be_given_in_any_case(name):
    found = phantoms.find(name)
    for key, values in {**found.choices, "domain": found.domains}.items():
        assert len({value.lower() for value in values}) == len(values)
        for value in values:
            for written in (value.upper(), value.lower(), value.title()):
                assert found.options(rank=2, **{key: written})[key] == value


LESIONS = {
    "phantom:brain-tumor": ("edema", "core", "rim"),
    "phantom:lung-nodule": ("nodule",),
    "phantom:stenosis": ("narrowing",),
    "phantom:fracture": ("fracture",),
    "phantom:ms-lesions": ("lesion",),
    "phantom:stroke": ("infarct",),
}


@pytest.mark.parametrize("name", LESIONS)
def test_the_smallest_mask_of_every_sick_case_shows_its_lesion_and_of_no_healthy_one(name):
    found = phantoms.find(name)
    numbers = [found.regions.index(region) for region in LESIONS[name]]
    for rank, (_, least, _) in found.sizes.items():
        options = found.options(rank=rank, size=least, severity=4, seed=1)
        for index in range(20 if rank == 2 else 6):
            labels = found.render(index, **options)[1].array
            sick = _truth(found, index, options)["label"] != found.classes[0]
            assert np.isin(labels, numbers).any() == sick, (rank, index)


def test_a_rank_may_narrow_a_choice():
    found = replace(phantoms.find("phantom:ms-lesions"), narrower={3: {"sequence": ("t1",)}})
    assert [found.options(rank=rank)["sequence"] for rank in (2, 3)] == ["flair", "t1"]
    with pytest.raises(ValueError, match=r"a sequence of t1 for rank 3\. Received 'flair'"):
        found.options(rank=3, sequence="flair")


def test_a_whole_number_may_be_numpys_and_a_half_is_none():
    assert scenario.whole(np.int64(3))
    assert not scenario.whole(True)
    assert not scenario.whole(3.0)


# -- making in parallel ----------------------------------------------------------------------------------------------


def test_two_processes_make_what_one_makes(tmp_path, capsys):
    options = {"rank": 2, "size": 24, "seed": 5}
    table = phantoms.make("phantom:ms-lesions", n=20, workers=2, **options)
    assert "20/20" in capsys.readouterr().err
    files = sorted((tmp_path / "cache").rglob("*.case"))
    assert [file.stem for file in files] == [f"{index:07d}" for index in range(20)]
    found = phantoms.find("phantom:ms-lesions")
    for index in (0, 17):
        made = phantoms.open_reference(table["image"][index])
        np.testing.assert_array_equal(made.array, found.render(index, **found.options(**options))[0].array)
    content = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    store._volumes.cache_clear()
    phantoms.make("phantom:ms-lesions", n=20, workers=1, progress=False, **options)
    assert [file.read_bytes() for file in files] == content
    assert not capsys.readouterr().err


def test_workers_are_checked():
    with pytest.raises(ValueError, match=r"at least 1 worker, or None\. Received 0"):
        phantoms.make("phantom:ms-lesions", n=2, workers=0)


def test_a_script_without_a_guard_may_ask_for_processes(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from medlab import phantoms\n"
        "print(len(phantoms.make('phantom:fracture', n=5, size=32, workers=2, progress=False)))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("5\n", "")
    assert len(list((tmp_path / "cache").rglob("*.case"))) == 5


def test_what_a_process_died_of_is_told(monkeypatch):
    monkeypatch.setattr(making, "_START", "raise SystemExit('no room left')")
    with pytest.raises(RuntimeError, match=r"makes phantom:fracture stopped\. It said: no room left"):
        phantoms.make("phantom:fracture", n=4, size=32, workers=2, progress=False)


def test_the_tail_of_cases_is_made_too(monkeypatch):
    seen = []
    monkeypatch.setattr(store, "ensure", lambda name, index, given: seen.append(index))
    making.make("phantom:stroke", n=19, workers=1, progress=False)
    assert seen == list(range(19))


def test_making_loads_no_framework():
    code = (
        "import sys; from medlab import phantoms; "
        "phantoms.make('phantom:ms-lesions', n=1, size=16, progress=False); "
        "print([m for m in ('tensorflow', 'keras', 'jax', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- facts beside the arrays -----------------------------------------------------------------------------------------


def test_the_cache_keeps_types_shapes_and_facts():
    arrays = [np.arange(6, dtype=np.float32).reshape(1, 2, 3), np.array([[1, 0]], np.uint8)]
    cache.save("key", 4, arrays, {"spacing": np.float32(0.5), "middle": np.array([1.0, 2.0]), "who": "x"})
    found, facts = cache.load("key", 4)
    for one, same in zip(found, arrays, strict=True):
        np.testing.assert_array_equal(one, same)
        assert one.dtype == same.dtype
    assert facts == {"spacing": 0.5, "middle": [1.0, 2.0], "who": "x"}
    assert cache.load("key", 5) is None
