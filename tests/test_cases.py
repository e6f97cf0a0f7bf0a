"""A table of cases keeps its labels, refuses what it cannot hold, and survives a CSV."""

import numpy as np
import pandas as pd
import pytest

from medlab import cases
from medlab.cases import Cases
from medlab.volume import Volume


def table(**columns) -> pd.DataFrame:
    base = {"id": ["a", "b", "c"], "image": ["a.png", "b.png", "c.png"], "label": ["sick", "well", "sick"]}
    return pd.DataFrame(base | columns)


def test_labels_follow_the_order_of_the_classes():
    np.testing.assert_array_equal(Cases(table(), ["well", "sick"]).y(), [1, 0, 1])
    np.testing.assert_array_equal(Cases(table(), ["sick", "well"]).y(), [0, 1, 0])


def test_multi_label():
    many = Cases(table(label=["x|y", "none", "y"]), ["x", "y"], multi_label=True)
    np.testing.assert_array_equal(many.y(), [[1, 1], [0, 0], [0, 1]])


def test_a_case_without_patient_is_its_own_patient():
    assert Cases(table(), ["sick", "well"]).table["patient"].tolist() == ["a", "b", "c"]
    mixed = Cases(table(patient=["p", None, "p"]), ["sick", "well"])
    assert mixed.table["patient"].tolist() == ["p", "b", "p"]


def test_volume_and_mask_go_through_the_opener():
    seen = []

    def opener(reference, *, kind):
        seen.append((reference, kind))
        return Volume(np.zeros((2, 2), np.uint8), kind=kind)

    some = Cases(table(mask=["m.png", None, None]), ["sick", "well"], open=opener)
    assert some.volume("b").kind == "image"
    assert some.mask("a").kind == "labels"
    assert some.mask("b") is None
    assert seen == [("b.png", "image"), ("m.png", "labels")]


def test_subset_by_split_and_by_ids():
    some = Cases(table(split=["train", "test", "train"]), ["sick", "well"])
    assert some.subset("train").ids == ["a", "c"]
    assert some.subset(ids=["c", "a"]).ids == ["c", "a"]
    with pytest.raises(ValueError, match=r"No case .* 'validation'"):
        some.subset("validation")
    with pytest.raises(ValueError, match="Received 'val'"):
        some.subset("val")


def test_counts_and_members():
    some = Cases(table(split=["train", "test", "train"]), ["well", "sick"])
    assert some.ids_of("sick") == ["a", "c"]
    assert some.counts().loc["sick"].to_dict() == {"train": 2, "validation": 0, "test": 0, "all": 2}
    many = Cases(table(label=["x|y", "none", None]), ["x", "y"], multi_label=True)
    assert many.counts()["all"].to_dict() == {"x": 1, "y": 1, "(no label)": 1}
    with pytest.raises(ValueError, match="Received 'ill'"):
        some.ids_of("ill")


def test_csv_keeps_names_classes_and_awkward_text(tmp_path):
    first = Cases(
        table(id=["007", "NA", "c"], label=["none", "a|b", None], patient=["01", "02", "02"]),
        ["a", "b"], name="set, with comma", multi_label=True,
    )  # fmt: skip
    first.to_csv(tmp_path / "x" / "cases.csv")
    again = cases.read_csv(tmp_path / "x" / "cases.csv")
    assert (again.name, again.classes, again.multi_label) == ("set, with comma", ["a", "b"], True)
    assert again.ids == ["007", "NA", "c"]
    assert again.table["patient"].tolist() == ["01", "02", "02"]
    assert again.table["label"].tolist() == ["none", "a|b", None]


def test_a_plain_csv_gets_ids_and_sorted_classes(tmp_path):
    (tmp_path / "plain.csv").write_text("image,label\na.png,well\nb.png,sick\n")
    again = cases.read_csv(tmp_path / "plain.csv")
    assert again.ids == ["00000", "00001"]
    assert again.classes == ["sick", "well"]
    assert cases.read_csv(tmp_path / "plain.csv", classes=["well", "sick"]).y().tolist() == [0, 1]


def test_numbers_are_ordered_by_size(tmp_path):
    assert cases.class_order(["10", "2", "-1", "2", "0"]) == ["-1", "0", "2", "10"]
    assert cases.class_order(["10", "2", "b"]) == ["10", "2", "b"]
    (tmp_path / "grades.csv").write_text("image,label\n" + "".join(f"{n}.png,{n}\n" for n in range(10, -1, -1)))
    grades = cases.read_csv(tmp_path / "grades.csv")
    assert grades.classes == ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]
    assert grades.y().tolist() == list(range(10, -1, -1))


def test_spaces_and_split_names_of_other_programs(tmp_path):
    names = "Train", "training", "val", "valid", "Validation", "testing", "TEST", ""
    rows = "".join(f'{n}.png , "sick, old" , {name}, {n} \n' for n, name in enumerate(names))
    (tmp_path / "plain.csv").write_text("image, label ,split , patient\n" + rows)
    table = cases.read_csv(tmp_path / "plain.csv").table
    assert table["image"].tolist() == [f"{n}.png" for n in range(8)]
    assert table["label"].tolist() == ["sick, old"] * 8
    assert table["patient"].tolist() == [str(n) for n in range(8)]
    assert table["split"].tolist()[:7] == ["train"] * 2 + ["validation"] * 3 + ["test"] * 2
    assert table["split"].isna().tolist() == [False] * 7 + [True]
    (tmp_path / "plain.csv").write_text("image,label,split\na.png,sick,fold1\n")
    with pytest.raises(ValueError, match="Received \\['fold1'\\]"):
        cases.read_csv(tmp_path / "plain.csv")


def test_preview_shows_no_path():
    assert list(Cases(table(mask=[None] * 3), ["sick", "well"]).preview(2)) == ["id", "patient", "label"]


def test_pseudonyms_are_stable_and_tell_nothing():
    # The first 12 digits of SHA-256("abc"), from FIPS 180-2's example.
    assert cases.pseudonym("abc") == "ba7816bf8f01"


@pytest.mark.parametrize(
    ("columns", "classes", "message"),
    [
        ({"label": ["sick", "wel", "sick"]}, ["sick", "well"], "'b' has 'wel'"),
        ({"id": ["a", "a", "b"]}, ["sick", "well"], "several times: a"),
        ({"split": ["train", "val", "test"]}, ["sick", "well"], "Received \\['val'\\]"),
    ],
)
def test_wrong_tables(columns, classes, message):
    with pytest.raises(ValueError, match=message):
        Cases(table(**columns), classes)


def test_other_wrong_calls(tmp_path):
    with pytest.raises(ValueError, match="Missing: \\['image'\\]"):
        Cases(pd.DataFrame({"id": ["a"]}), [])
    with pytest.raises(ValueError, match="is empty"):
        Cases(pd.DataFrame({"id": [], "image": []}), [])
    with pytest.raises(ValueError, match="1 case\\(s\\) have no label: b"):
        Cases(table(label=["sick", None, "sick"]), ["sick"]).y()
    with pytest.raises(KeyError, match="No case 'z'"):
        Cases(table(), ["sick", "well"]).volume("z")
    with pytest.raises(ValueError, match="cannot open images"):
        Cases(table(), ["sick", "well"]).volume("a")
    with pytest.raises(ValueError, match="no splits yet"):
        Cases(table(), ["sick", "well"]).subset("train")
    with pytest.raises(ValueError, match="No such file"):
        cases.read_csv(tmp_path / "none.csv")
    (tmp_path / "x.csv").write_text("picture\na\n")
    with pytest.raises(ValueError, match="column image"):
        cases.read_csv(tmp_path / "x.csv")
