"""Faults: each is planted into a sound image or set and must be found, alone."""

import numpy as np
import pandas as pd
import pytest

from medlab import clean
from medlab.cases import Cases
from medlab.volume import Volume

COLUMNS = ["fault", "severity", "where", "what_to_do"]


def tissue(shape=(24, 25, 26), seed=0):
    """A smooth bright ball on noise: an image without faults."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    return (1000 * np.exp(-2 * radius**2) + rng.normal(100, 5, shape)).astype(np.float32)


def found(volume):
    table = clean.faults(volume)
    assert table.columns.tolist() == COLUMNS
    return table["fault"].tolist()


def test_a_sound_image_has_an_empty_table():
    table = clean.faults(Volume(tissue(), modality="MR"))
    assert table.columns.tolist() == COLUMNS
    assert len(table) == 0
    assert found(Volume(tissue()[:, :, 12], modality="MR")) == []
    assert found(Volume((tissue() > 400).astype(np.uint8), kind="labels")) == []


def test_nan_is_counted():
    array = tissue()
    array[1, 2, 3] = np.nan
    array[4, 5, 6] = np.inf
    table = clean.faults(Volume(array))
    assert table["fault"].tolist() == ["nan"]
    assert table["where"][0] == f"2 of {array.size} values"
    assert table["severity"][0] == "error"
    assert found(Volume(np.full((4, 4), np.nan))) == ["nan"]


def test_a_constant_image():
    assert found(Volume(np.full((5, 6), 3.0))) == ["constant"]
    assert found(Volume(np.zeros((5, 6, 7), np.uint8), modality="CT")) == ["constant"]


def test_a_lost_and_a_repeated_slice_are_named():
    array = tissue()
    array[:, :, 7] = 0
    array[:, :, 20] = array[:, :, 19]
    table = clean.faults(Volume(array)).set_index("fault")
    assert table.loc["missing-slice", "where"] == "k = 7"
    assert table.loc["duplicate-slice", "where"] == "k = 20 (as the slice before)"
    array = tissue()
    array[3] = np.nan
    assert clean.faults(Volume(array)).set_index("fault").loc["missing-slice", "where"] == "i = 3"


def test_what_the_reader_noted_is_reported():
    note = "3 of 20 slices interpolated linearly between neighbors (unevenly spaced slices)."
    assert found(Volume(tissue(), info={"repairs": [note]})) == ["uneven-spacing"]
    note = "1 of 20 slices interpolated linearly between neighbors (missing slices)."
    assert found(Volume(tissue(), info={"repairs": [note]})) == ["missing-slice"]


def test_a_burnt_out_image():
    array = tissue()
    assert found(Volume(np.minimum(array, np.percentile(array, 90)))) == ["clipped"]


def test_one_extreme_voxel_takes_the_contrast():
    array = tissue()
    array[0, 0, 0] = 1e6
    assert found(Volume(array)) == ["low-contrast"]
    faint = (tissue()[:, :, 12] / 100 + 120).astype(np.uint8)
    assert "low-contrast" in found(Volume(faint))


def test_noise_that_hides_the_object():
    rng = np.random.default_rng(1)
    array = tissue() + rng.normal(0, 2000, tissue().shape)
    assert found(Volume(array)) == ["low-snr"]


def test_the_noise_level_is_the_deviation_that_was_added():
    from medlab.clean.image_checks import noise_level

    rng = np.random.default_rng(2)
    slope = np.add.outer(np.arange(200.0), 3 * np.arange(210.0))
    noisy = slope + rng.normal(0, 12.5, slope.shape)
    assert noise_level(Volume(noisy)) == pytest.approx(12.5, rel=0.02)
    assert noise_level(Volume(slope)) == pytest.approx(0, abs=1e-9)
    assert noise_level(Volume(np.ones((2, 9)))) == 0


@pytest.mark.parametrize(
    ("modality", "low", "high", "kind", "severity"),
    [
        ("CT", -1000, 2000, np.int16, None),
        ("CT", -3024, 2000, np.int16, "warning"),
        ("CT", 0, 3000, np.uint16, "warning"),
        ("CT", -1000, 1e6, np.float32, "error"),
        ("CT", 0, 255, np.uint8, "warning"),
        ("MR", -50, 800, np.float32, "warning"),
        ("DX", -50, 800, np.float32, "warning"),
        ("DX", 0, 4095, np.uint16, None),
        (None, -50, 800, np.float32, None),
    ],
)
def test_values_that_a_modality_cannot_have(modality, low, high, kind, severity):
    unit = tissue()
    unit = (unit - unit.min()) / (unit.max() - unit.min())
    table = clean.faults(Volume((low + unit * (high - low)).astype(kind), modality=modality))
    wanted = [] if severity is None else [("wrong-range", severity)]
    assert list(zip(table["fault"], table["severity"], strict=True)) == wanted


# Data sets


def cases_of(images, *, labels=None, splits=None, masks=None, classes=("a", "b"), **columns):
    """Cases whose images lie in memory."""
    n = len(images)
    table = pd.DataFrame({"id": [f"c{i}" for i in range(n)], "image": [f"image {i}" for i in range(n)]})
    table["label"] = list("ab" * n)[:n] if labels is None else labels
    if splits is not None:
        table["split"] = splits
    if masks is not None:
        table["mask"] = [None if mask is None else f"mask {i}" for i, mask in enumerate(masks)]
    for name, values in columns.items():
        table[name] = values

    def read(reference, kind="image"):
        what, number = reference.split()
        thing = (images if what == "image" else masks)[int(number)]
        if isinstance(thing, Exception):
            raise thing
        if isinstance(thing, Volume):
            return thing
        return Volume(thing, kind=kind)

    return Cases(table, list(classes), open=read)


def random_images(n, shape=(6, 7)):
    return [np.random.default_rng(i).random(shape) for i in range(n)]


def test_a_sound_set_has_an_empty_table():
    splits = ["train", "train", "validation", "validation", "test", "test"]
    table = clean.faults(cases_of(random_images(6), splits=splits))
    assert table.columns.tolist() == COLUMNS
    assert len(table) == 0


def test_equal_images_are_found_by_their_content():
    images = random_images(6)
    images[4] = images[1].copy()
    splits = ["train"] * 4 + ["test"] * 2
    table = clean.faults(cases_of(images, splits=splits, labels=list("ababba")))
    assert list(zip(table["fault"], table["where"], strict=True)) == [
        ("leak", "image: c1 (train), c4 (test)"),
        ("duplicate-image", "c1, c4"),
    ]
    contradicting = clean.faults(cases_of(images, labels=list("abababab")[:6]))
    assert contradicting["severity"].tolist() == ["error"]
    assert contradicting["where"][0] == "c1, c4, labeled a and b"


def test_the_type_of_equal_images_does_not_hide_them():
    images = [np.arange(42, dtype=np.uint8).reshape(6, 7), np.arange(42, dtype=np.int32).reshape(6, 7)]
    assert clean.faults(cases_of(images, labels=["a", "b"]))["fault"].tolist() == ["duplicate-image"]
    turned = [images[0], images[0].reshape(7, 6)]
    assert "duplicate-image" not in clean.faults(cases_of(turned))["fault"].tolist()


def test_a_patient_in_two_splits():
    splits = ["train", "train", "test", "test"]
    table = clean.faults(cases_of(random_images(4), splits=splits, patient=["p", "q", "p", "r"]))
    assert table["fault"].tolist() == ["leak"]
    assert table["where"][0] == "patient p: train, test"


def test_labels_that_are_missing_or_of_one_class():
    table = clean.faults(cases_of(random_images(4), labels=["a", "b", None, None]))
    assert table[["fault", "where"]].to_numpy().tolist() == [["missing-label", "c2, c3"]]
    assert (
        clean.faults(cases_of(random_images(3), labels=list("aaa")))["fault"].tolist()
        == ["one-class", "empty-class"][:1]
    )
    table = clean.faults(cases_of(random_images(22), labels=["a"] * 20 + ["b"] * 2))
    assert table[["fault", "where"]].to_numpy().tolist() == [["class-imbalance", "a: 20, b: 2"]]
    table = clean.faults(cases_of(random_images(3), labels=["a", "b", "a"], classes=("a", "b", "c")))
    assert table[["fault", "where"]].to_numpy().tolist() == [["empty-class", "c"]]


def test_a_split_without_a_class():
    table = clean.faults(cases_of(random_images(4), splits=["train", "train", "test", "test"], labels=list("abaa")))
    assert table[["fault", "where"]].to_numpy().tolist() == [["empty-class-in-split", "test: b"]]


def test_files_that_are_missing_or_broken_are_named_by_id_alone(tmp_path):
    images = random_images(4)
    images[2] = RuntimeError("cannot read /home/smith_john/scan.dcm")
    cases = cases_of(images)
    cases.table.loc[3, "image"] = None
    table = clean.faults(cases)
    assert sorted(zip(table["fault"], table["where"], strict=True)) == [("missing-file", "c3"), ("unreadable", "c2")]
    assert "smith" not in table.to_string()

    def read(reference, kind="image"):
        raise FileNotFoundError(reference)

    lost = Cases(pd.DataFrame({"id": ["x"], "image": [str(tmp_path / "smith.png")]}), [], open=read)
    table = clean.faults(lost)
    assert sorted(table["fault"]) == ["missing-file", "missing-label"]
    assert "smith" not in table.to_string()


def test_images_of_several_shapes_and_with_nan_or_one_value():
    images = [*random_images(3), np.ones((6, 7)), np.full((6, 7), np.nan), np.random.default_rng(9).random((5, 5))]
    table = clean.faults(cases_of(images)).set_index("fault")
    assert table.loc["constant", "where"] == "c3"
    assert table.loc["nan", "where"] == "c4"
    assert table.loc["shape-mismatch", "where"] == "6 x 7: 5 (e.g. c0); 5 x 5: 1 (e.g. c5)"
    assert len(table) == 3


def test_a_mask_that_lies_elsewhere():
    array = np.random.default_rng(0).random((5, 6, 7))
    labels = (array > 0.5).astype(np.uint8)
    moved = np.eye(4)
    moved[0, 3] = 1.0
    rounded = np.eye(4)
    rounded[0, 3] = 0.01
    images = [Volume(array + i) for i in range(5)]
    masks = [
        Volume(labels, kind="labels"),
        Volume(labels, moved, kind="labels"),
        Volume(labels, rounded, kind="labels"),
        Volume(labels[:, :, 1:], kind="labels"),
        None,
    ]
    table = clean.faults(cases_of(images, masks=masks))
    assert table[["fault", "where"]].to_numpy().tolist() == [["mask-geometry-mismatch", "c1, c3"]]


def test_a_set_for_segmentation_needs_no_labels():
    masks = [np.zeros((6, 7), np.uint8)] * 3
    assert len(clean.faults(cases_of(random_images(3), labels=[None] * 3, masks=masks))) == 0


def test_something_else_is_an_error():
    with pytest.raises(ValueError, match=r"Expected a Volume or Cases\. Received ndarray"):
        clean.faults(np.zeros((3, 3)))


@pytest.mark.data
def test_pneumoniamnist_holds_27_groups_of_equal_images_and_8_leaks(data_folder):
    with np.load(data_folder / "medmnist" / "pneumoniamnist.npz", allow_pickle=False) as file:
        parts = [(name, file[f"{name}_images"], file[f"{name}_labels"]) for name in ("train", "val", "test")]
    splits = {"train": "train", "val": "validation", "test": "test"}
    images = np.concatenate([images for _, images, _ in parts])
    labels = ["ab"[int(label[0])] for _, _, part in parts for label in part]
    splits = [splits[name] for name, part, _ in parts for _ in part]
    table = clean.faults(cases_of(list(images), labels=labels, splits=splits))
    assert table["fault"].value_counts().to_dict() == {"duplicate-image": 27, "leak": 8}
    leaks = table[table["fault"] == "leak"]["where"]
    assert leaks.str.count("validation").tolist() == [1] * 8
    assert leaks.str.contains("train").all()
    assert not leaks.str.contains("test").any()
