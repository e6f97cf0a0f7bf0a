"""Tables, references and the cache of the phantoms."""

import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from medlab import phantoms
from medlab.phantoms import brain, cache, store

NAME = "phantom:brain-tumor"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDLAB_CACHE", str(tmp_path / "cache"))
    store._volumes.cache_clear()
    yield
    store._volumes.cache_clear()


def _files(tmp_path):
    return sorted((tmp_path / "cache" / "phantoms").rglob("*.case"))


def test_table_has_what_a_study_needs():
    table = phantoms.cases(NAME, n=50)
    assert table.columns[:5].tolist() == ["id", "patient", "image", "mask", "label"]
    assert table["id"].tolist()[:2] == ["brain-0000", "brain-0001"]
    assert table["patient"].is_unique
    assert table["label"].value_counts().to_dict() == {"tumor": 25, "healthy": 25}
    assert table.attrs["classes"] == ["healthy", "tumor"]
    assert table.attrs["modality"] == "MR"
    assert table["image"][17] == f"{NAME}?rank=2&size=128&sequence=flair&severity=1&domain=reference&seed=0&n=50#17"
    sick = table[table["label"] == "tumor"]
    assert sick[["x_mm", "radius_mm", "edema_mm", "slice_z_mm", "noise", "bias"]].notna().all(axis=None)


def test_a_case_is_the_same_for_every_n():
    drop = ["image", "mask"]
    short, long = phantoms.cases(NAME, n=7), phantoms.cases(NAME, n=40)
    pd.testing.assert_frame_equal(short.drop(columns=drop), long.iloc[:7].drop(columns=drop), check_like=False)
    one = phantoms.open_reference(short["image"][6].replace("size=128", "size=32"))
    same = phantoms.open_reference(long["image"][6].replace("size=128", "size=32"))
    np.testing.assert_array_equal(one.array, same.array)


def test_a_table_of_1000_is_made_without_images(tmp_path):
    phantoms.cases(NAME, n=2)
    start = time.process_time()
    phantoms.cases(NAME, n=1000, seed=91)
    assert time.process_time() - start < 20  # images alone take 10 ms each, and the processor may be slow
    assert not _files(tmp_path)


def test_reference_opens_what_the_function_makes():
    reference = phantoms.cases(NAME, n=4, size=40, sequence="t2", severity=1.5, seed=3)["mask"][2]
    image, mask, facts = phantoms.brain_tumor(2, size=40, sequence="t2", severity=1.5, seed=3)
    for _ in range(2):  # made, then read from the cache
        store._volumes.cache_clear()
        opened = phantoms.open_reference(reference)
        np.testing.assert_array_equal(opened.array, image.array)
        np.testing.assert_array_equal(opened.affine, image.affine)
        assert opened.info["parameters"] == pytest.approx(facts, nan_ok=True)
        labels = phantoms.open_reference(reference, kind="labels")
        np.testing.assert_array_equal(labels.array, mask.array)
        assert labels.kind == "labels"


def test_a_choice_in_another_case_is_the_same_case(tmp_path):
    table = phantoms.cases(NAME, n=2, size=32, sequence="T1C", domain="3t")
    pd.testing.assert_frame_equal(table, phantoms.cases(NAME, n=2, size=32, sequence="t1c", domain="3T"))
    assert "sequence=t1c&" in table["image"][1]
    assert "domain=3T&" in table["image"][1]
    opened = phantoms.open_reference(table["image"][1].replace("t1c", "T1c").replace("3T", "3t"))
    np.testing.assert_array_equal(opened.array, brain.render(1, 2, 32, "t1c", 1.0, 0, "3T")[0])
    assert opened.info["sequence"] == "t1c"
    assert len(_files(tmp_path)) == 1
    store._volumes.cache_clear()
    phantoms.open_reference(table["image"][1])
    assert len(_files(tmp_path)) == 1
    made, _, facts = phantoms.brain_tumor(1, size=32, sequence="T1C", domain="3t")
    np.testing.assert_array_equal(made.array, opened.array)
    assert facts == pytest.approx(opened.info["parameters"], nan_ok=True)


def test_severity_survives_as_written():
    reference = phantoms.cases(NAME, n=1, size=16, severity=1 / 3)["image"][0]
    assert store.parse(reference)[2]["severity"] == 1 / 3


def test_what_is_opened_is_the_callers_own():
    reference = f"{NAME}?size=32#1"
    first = phantoms.open_reference(reference)
    before = first.array.copy()
    first.array[:] = 0
    np.testing.assert_array_equal(phantoms.open_reference(reference).array, before)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("brain-tumor#1", "Expected a reference such as 'phantom:brain-tumor"),
        (f"{NAME}?rank=2", "Expected a reference such as"),
        (f"{NAME}?rank=2#-1", "Expected a reference such as"),
        ("phantom:heart?rank=2#1", "Expected one of phantom:brain-tumor, .* Received 'phantom:heart'"),
        (f"{NAME}?difficulty=2#1", "'difficulty' is called severity now"),
        (f"{NAME}?severity=5#1", "severity from 0.25 to 4. Received 5.0"),
        (f"{NAME}?domain=mars#1", "domain of reference, .* Received 'mars'"),
        (f"{NAME}?size=32&color=red#1", "rank, size, .* once at most. Received 'color'"),
        (f"{NAME}?size=32&size=64#1", "once at most. Received 'size'"),
        (f"{NAME}?size=big#1", "a number for 'size'. Received 'big'"),
        (f"{NAME}?severity=nan#1", "a number for 'severity'. Received 'nan'"),
        (f"{NAME}?size=#1", "a number for 'size'. Received ''"),
        (f"{NAME}?size#1", "key=value"),
        (f"{NAME}?size=32&n=10#10", "a case from 0 to 9. Received 10"),
        (f"{NAME}?n=0#0", "n from 1 to 100000 cases. Received 0"),
        (f"{NAME}?rank=3&size=500#0", "size from 16 to 160"),
        (f"{NAME}?sequence=dwi#0", "sequence of flair"),
    ],
)
def test_references_that_are_none_are_refused(reference, message):
    with pytest.raises(ValueError, match=message):
        phantoms.open_reference(reference)


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="Received 'phantom:knee'"):
        phantoms.cases("phantom:knee")
    with pytest.raises(ValueError, match=r"n from 1 to 100000 cases\. Received 0"):
        phantoms.cases(NAME, n=0)
    with pytest.raises(ValueError, match=r"kind 'image' or 'labels'\. Received 'mask'"):
        phantoms.open_reference(f"{NAME}?size=32#1", kind="mask")
    with pytest.raises(AttributeError, match=r"medlab\.phantoms has no 'liver'"):
        phantoms.liver


# -- cache -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "longer"])
def test_a_damaged_file_is_made_again(tmp_path, damage):
    reference = f"{NAME}?size=32#3"
    whole = phantoms.open_reference(reference).array
    (file,) = _files(tmp_path)
    content = bytearray(file.read_bytes())
    if damage == "truncate":
        content = content[:-100]
    elif damage == "flip":
        content[500] ^= 0xFF
    elif damage == "empty":
        content = bytearray()
    else:
        content += b"x"
    file.write_bytes(content)
    store._volumes.cache_clear()
    np.testing.assert_array_equal(phantoms.open_reference(reference).array, whole)
    store._volumes.cache_clear()
    assert file.read_bytes()[-32 * 32 * 3 : -32 * 32] == whole.astype("<i2").tobytes()  # int16 image, uint8 mask
    np.testing.assert_array_equal(phantoms.open_reference(reference).array, whole)


def test_cached_images_are_read_not_made(tmp_path):
    reference = f"{NAME}?size=32#3"
    phantoms.open_reference(reference)
    (file,) = _files(tmp_path)
    marked = np.full((32, 32), 7, np.int16), np.full((32, 32), 2, np.uint8)
    options = "rank=2&size=32&sequence=flair&severity=1&domain=reference&seed=0"
    key = f"2-{NAME}-{brain.VERSION}-{options}"
    facts = cache.load(key, 3)[1]
    cache.save(key, 3, marked, facts)
    assert _files(tmp_path) == [file]
    store._volumes.cache_clear()
    assert (phantoms.open_reference(reference).array == 7).all()
    assert cache.load("other", 3) is None


def test_other_parameters_have_other_files(tmp_path):
    for query in ("size=32", "size=32&seed=1", "size=32&severity=2", "size=32&sequence=t1", "size=33"):
        phantoms.open_reference(f"{NAME}?{query}#0")
    assert len({file.parent for file in _files(tmp_path)}) == 5


def test_a_folder_that_cannot_be_written_does_no_harm(tmp_path, monkeypatch):
    blocked = tmp_path / "a file"
    blocked.write_text("in the way")
    monkeypatch.setenv("MEDLAB_CACHE", str(blocked))
    made = phantoms.open_reference(f"{NAME}?size=32#3")
    np.testing.assert_array_equal(made.array, brain.render(3, 2, 32, "flair", 1.0, 0)[0])
    cache.trim()


def test_cache_stays_within_its_bound_and_keeps_what_was_used_last(tmp_path):
    import os

    array = (np.zeros(1000, np.uint8),)
    for number in range(10):
        cache.save("key", number, array)
        file = _files(tmp_path)[number]
        os.utime(file, (1_000_000 + number, 1_000_000 + number))
    cache.trim(largest=20_000)
    assert len(_files(tmp_path)) == 10
    cache.trim(largest=5_000)
    assert [file.stem for file in _files(tmp_path)] == [f"{number:07d}" for number in (6, 7, 8, 9)]


def test_leftovers_of_a_stopped_process_are_removed(tmp_path):
    import os

    cache.save("key", 0, (np.zeros(10, np.uint8),))
    folder = _files(tmp_path)[0].parent
    old, new = folder / "old.part", folder / "new.part"
    for file in (old, new):
        file.write_bytes(b"half")
    os.utime(old, (1, 1))
    cache.trim()
    assert [file.name for file in folder.glob("*.part")] == ["new.part"]


def test_two_processes_share_the_cache(tmp_path):
    code = f"from medlab import phantoms\nfor k in range(6): phantoms.open_reference('{NAME}?size=32#%d' % k)"
    running = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(2)]
    for process in running:
        assert process.communicate(timeout=100)[1] == b""
        assert process.returncode == 0
    assert len(_files(tmp_path)) == 6
    assert not list((tmp_path / "cache").rglob("*.part"))


def test_importing_the_room_loads_nothing_heavy():
    code = (
        "import sys, medlab.phantoms; print([m for m in ('scipy', 'pandas', 'nibabel', 'pooch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
