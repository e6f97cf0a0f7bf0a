"""MedMNIST sets, their references, and the search for and fetching of files."""

import hashlib
import http.server
import threading

import numpy as np
import pytest

from medlab import load
from medlab.load import fetch, medmnist


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Empty data and cache folders, and a proxy that refuses: nothing is fetched from anywhere."""
    data, cache = tmp_path / "data", tmp_path / "cache"
    data.mkdir()
    monkeypatch.setenv("MEDLAB_DATA", str(data))
    monkeypatch.setenv("MEDLAB_CACHE", str(cache))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return data, cache


@pytest.fixture
def local_set(places, monkeypatch):
    """``make(name, **arrays)`` writes a set's file below the data folder and lets its checksum be the right one."""
    data, _ = places

    def make(name, **arrays):
        path = data / "deep" / "er" / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **arrays)
        base, _, size = name.partition("_")
        md5 = hashlib.md5(path.read_bytes()).hexdigest()
        monkeypatch.setitem(medmnist.sets()[base].md5, int(size or 28), md5)
        return path

    yield make
    medmnist._read_array.cache_clear()
    medmnist._path.cache_clear()


def arrays(shape, labels):
    count = len(labels)
    images = np.arange(count * np.prod(shape)).reshape(count, *shape).astype(np.uint8)
    return {f"{split}_{what}": array for split in ("train", "val", "test")
            for what, array in (("images", images), ("labels", np.array(labels, np.uint8)))}  # fmt: skip


def test_the_index_is_complete():
    sets = medmnist.sets()
    assert len(sets) == 18
    assert sum(len(facts.md5) for facts in sets.values()) == 12 * 4 + 6 * 2
    checksums = [md5 for facts in sets.values() for md5 in facts.md5.values()]
    assert len(set(checksums)) == 60
    assert all(len(md5) == 32 and set(md5) <= set("0123456789abcdef") for md5 in checksums)
    for name, facts in sets.items():
        assert list(facts.md5) == ([28, 64] if name.endswith("3d") else [28, 64, 128, 224])
        assert facts.scenario in ("tumor", "cardiovascular", "orthopedic", "neurological", "other")
        assert facts.task in ("binary-class", "multi-class", "multi-label", "ordinal-regression")
        assert (len(facts.classes) == 2) == (facts.task == "binary-class")
    assert sets["breastmnist"].md5[28] == "750601b1f35ba3300ea97c75c52ff8f6"
    assert sets["pneumoniamnist"].md5[28] == "28209eda62fecd6e6a2d98b1501bb15f"
    assert sets["adrenalmnist3d"].md5[28] == "bbd3c5a5576322bc4cdfea780653b1ce"
    assert sum(sets["chestmnist"].cases) == 112120


def test_a_set_its_splits_and_references(local_set):
    local_set("pneumoniamnist", **arrays((28, 28), [[0], [1], [1]]))
    cases = load.dataset("PneumoniaMNIST")
    assert cases.classes == ["normal", "pneumonia"]
    assert cases.table["split"].tolist() == ["train"] * 3 + ["validation"] * 3 + ["test"] * 3
    assert cases.subset("validation").y().tolist() == [0, 1, 1]
    row = cases.table.iloc[4]
    assert row["image"] == "pneumoniamnist#val/1"
    volume = cases.volume(row["id"])
    np.testing.assert_array_equal(volume.array, (np.arange(784) + 784).astype(np.uint8).reshape(28, 28))
    assert (volume.rank, volume.modality, volume.has_geometry) == (2, "DX", False)
    assert cases.info["licence"] == "CC BY 4.0"
    with pytest.raises(ValueError, match="read-only"):
        volume.array[0, 0] = 1
    flipped = load.dataset("pneumoniamnist", classes=["pneumonia", "normal"])
    assert flipped.subset("train").y().tolist() == [1, 0, 0]
    with pytest.raises(load.ReadError, match="all classes of 'pneumoniamnist' in some order"):
        load.dataset("pneumoniamnist", classes=["pneumonia"])
    with pytest.raises(ValueError, match=r"pneumoniamnist does not know rank. It knows size, classes, limit and seed"):
        load.dataset("pneumoniamnist", rank=3)


def test_colors_volumes_and_several_labels(local_set):
    local_set("bloodmnist_64", **arrays((64, 64, 3), [[7], [0]]))
    cases = load.dataset("bloodmnist", size=64)
    assert cases.table["label"].tolist()[:2] == ["platelet", "basophil"]
    picture = load.open_reference("bloodmnist_64#train/1")
    assert (picture.rank, picture.channels, picture.shape) == (2, 3, (64, 64))
    assert len(load.dataset("bloodmnist_64")) == 6
    local_set("organmnist3d", **arrays((28, 28, 28), [[10], [3]]))
    assert load.dataset("organmnist3d").table["label"].tolist()[:2] == ["pancreas", "femur-right"]
    assert load.open_reference("organmnist3d#test/1").shape == (28, 28, 28)
    findings = np.zeros((2, 14), int)
    findings[0, [1, 13]] = 1
    local_set("chestmnist", **arrays((28, 28), findings))
    chest = load.dataset("chestmnist")
    assert chest.multi_label
    assert chest.table["label"].tolist()[:2] == ["cardiomegaly|hernia", "none"]
    assert chest.y()[0].nonzero()[0].tolist() == [1, 13]


def test_shapes_are_not_taken_for_gray_values(local_set):
    local_set("vesselmnist3d", **arrays((28, 28, 28), [[1]]))
    assert load.dataset("vesselmnist3d").info["modality"] == "SEG"
    assert load.open_reference("vesselmnist3d#train/0").modality == "SEG"


@pytest.mark.parametrize("reference", ["pneumoniamnist#train/3", "pneumoniamnist#train/999999999999"])
def test_references_beyond_the_end(local_set, reference):
    local_set("pneumoniamnist", **arrays((28, 28), [[0], [1], [1]]))
    with pytest.raises(load.ReadError, match="does not exist: that split has 3 images"):
        load.open_reference(reference)


def test_wrong_sizes_and_references(places):
    with pytest.raises(load.ReadError, match=r"adrenalmnist3d comes in the sizes 28, 64\. Received 128"):
        load.dataset("adrenalmnist3d", size=128)
    with pytest.raises(load.ReadError, match=r"comes in the sizes 28, 64, 128, 224. Received 32"):
        load.dataset("breastmnist_32")
    with pytest.raises(load.ReadError, match="no MedMNIST reference"):
        load.open_reference("nosuchmnist#train/1")
    with pytest.raises(load.ReadError, match="There is no MedMNIST file breastmnist_99"):
        load.open_reference("breastmnist_99#train/1")


def test_offline_and_absent_says_where_to_put_the_file(places):
    cache = places[1]
    with pytest.raises(load.ReadError) as caught:
        load.dataset("dermamnist", size=64)
    text = str(caught.value)
    for part in ("dermamnist_64.npz is not here", "zenodo.org/records/10519652", str(cache), "MEDLAB_DATA",
                 medmnist.sets()["dermamnist"].md5[64]):  # fmt: skip
        assert part in text


def test_another_file_under_the_name_is_refused(places):
    data, _ = places
    np.savez(data / "retinamnist.npz", train_images=np.zeros(3))
    with pytest.raises(load.ReadError, match="its MD5 differs from"):
        load.dataset("retinamnist")


def test_pickled_objects_are_refused(local_set):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("code in the file was run",))

    content = arrays((28, 28), [[0], [1]])
    content["train_labels"] = np.array([Trap(), None], dtype=object)
    local_set("breastmnist", **content)
    with pytest.raises(load.ReadError, match="pickled Python objects in 'train_labels'"):
        load.dataset("breastmnist")


def test_damaged_and_incomplete_files(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, images=np.random.default_rng(0).integers(0, 255, (50, 50)))
    with pytest.raises(load.ReadError, match=r"no array 'labels'. It has images\.npy"):
        medmnist.read_npz(path, "labels")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(load.ReadError, match="damaged"):
        medmnist.read_npz(path, "images")
    path.write_bytes(whole[:400] + bytes(200) + whole[600:])
    with pytest.raises(load.ReadError, match="damaged"):
        medmnist.read_npz(path, "images")


def test_large_arrays_are_mapped_from_the_cache(local_set, places, monkeypatch):
    monkeypatch.setattr(medmnist, "MAPPED_FROM", 1000)
    local_set("pneumoniamnist", **arrays((28, 28), [[0], [1], [1]]))
    volume = load.open_reference("pneumoniamnist#train/2")
    assert volume.array[0, 0] == 2 * 784 % 256
    kept = list(places[1].iterdir())
    assert [path.suffix for path in kept] == [".npy"]
    medmnist._read_array.cache_clear()
    load.open_reference("pneumoniamnist#train/2")
    assert list(places[1].iterdir()) == kept


def test_a_file_is_fetched_once_and_checked(places, tmp_path):
    served = tmp_path / "served"
    served.mkdir()
    (served / "x.npz").write_bytes(b"content")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(served))

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/x.npz"
        md5 = hashlib.md5(b"content").hexdigest()
        with pytest.raises(load.ReadError, match="could not be fetched"):
            fetch.file("x.npz", md5="0" * 32, url=url)
        path = fetch.file("x.npz", md5=md5, url=url)
        server.shutdown()
    assert path == places[1] / "x.npz"
    assert fetch.file("x.npz", md5=md5, url=url) == path  # the server is gone
    path.write_bytes(b"spoilt")
    with pytest.raises(load.ReadError, match="could not be fetched"):
        fetch.file("x.npz", md5=md5, url=url)
    (places[0] / "deep").mkdir()
    (places[0] / "deep" / "x.npz").write_bytes(b"content")
    assert fetch.file("x.npz", md5=md5, url=url) == places[0] / "deep" / "x.npz"


def test_datasets_lists_what_is_here(local_set):
    table = load.datasets().set_index("name")
    assert not table.loc["breastmnist", "here"]
    local_set("breastmnist", **arrays((28, 28), [[0], [1]]))
    table = load.datasets().set_index("name")
    assert table.loc["breastmnist", "here"]
    assert table.loc["breastmnist", "sizes_here"] == "28"
    assert not table.loc["pathmnist", "here"]
    assert table.loc["pathmnist", "cases"] == 107180
    assert table.loc["fracturemnist3d", ["modality", "scenario", "rank"]].tolist() == ["CT", "orthopedic", "3"]
    assert table.loc["dermamnist", "licence"] == "CC BY-NC 4.0"


@pytest.mark.data
def test_real_sets(data_folder):
    breast = load.dataset("breastmnist")
    assert breast.table["split"].value_counts().to_dict() == {"train": 546, "validation": 78, "test": 156}
    assert breast.classes[0] == "malignant"
    pneumonia = load.dataset("pneumoniamnist", limit=100)
    assert len(pneumonia) == 300
    # 1,214 of 4,708 training images are normal: 26 % of 100.
    assert pneumonia.subset("train").y().sum() == 74
    adrenal = load.dataset("adrenalmnist3d")
    assert len(adrenal) == 1584
    volume = adrenal.volume(adrenal.ids[-1])
    assert volume.shape == (28, 28, 28)
    with np.load(data_folder / "medmnist/adrenalmnist3d.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(volume.array, arrays["test_images"][297])
