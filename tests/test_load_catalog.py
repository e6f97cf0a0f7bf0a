"""load.dataset on folders and CSV files, names, limits and references."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from medlab import load
from medlab.cases import Cases, pseudonym
from medlab.volume import Volume


def picture(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 5), value, np.uint8)).save(path)
    return path


@pytest.fixture(autouse=True)
def no_data_folder(request, monkeypatch):
    if "data_folder" not in request.fixturenames:
        monkeypatch.delenv("MEDLAB_DATA", raising=False)


def class_folders(root, names=("cat", "dog"), count=3):
    for number, name in enumerate(names):
        for index in range(count):
            picture(root / name / f"{name}{index}.png", 10 * number + index)
    return root


def test_class_folders(tmp_path):
    class_folders(tmp_path)
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "cat" / "notes.txt").touch()
    cases = load.dataset(tmp_path)
    assert cases.classes == ["cat", "dog"]
    assert cases.table["label"].tolist() == ["cat"] * 3 + ["dog"] * 3
    assert "split" not in cases.table
    assert [int(cases.volume(one).array[0, 0]) for one in cases.ids] == [0, 1, 2, 10, 11, 12]
    assert cases.ids[0] == pseudonym("cat/cat0.png") == cases.table["patient"][0]
    assert load.dataset(tmp_path, classes=["dog", "cat"]).y().tolist() == [1, 1, 1, 0, 0, 0]
    assert "cat0" not in cases.preview().to_string()


def test_given_splits_are_kept(tmp_path):
    for split, count in (("train", 3), ("val", 1), ("test", 2)):
        class_folders(tmp_path / split, count=count)
    cases = load.dataset(tmp_path)
    assert cases.table["split"].value_counts().to_dict() == {"train": 6, "test": 4, "validation": 2}
    assert len(set(cases.ids)) == 12  # train/cat/cat0 and test/cat/cat0 are two cases


def test_patients_from_file_names(tmp_path):
    for name in ("person1_bacteria_1", "person1_bacteria_2", "person12_virus_3"):
        picture(tmp_path / "PNEUMONIA" / f"{name}.jpeg")
    picture(tmp_path / "NORMAL" / "IM-0115.jpeg")
    cases = load.dataset(tmp_path, patient_pattern=r"(person\d+)_")
    normal, twelve, one, two = cases.table["patient"]  # person12_ sorts before person1_
    assert one == two != twelve
    assert normal == cases.ids[0]
    assert "person" not in cases.preview().to_string()
    assert load.dataset(tmp_path).table["patient"].nunique() == 4
    with pytest.raises(load.ReadError, match=r"No file name in .* matches patient_pattern='xyz'"):
        load.dataset(tmp_path, patient_pattern="xyz")
    with pytest.raises(ValueError, match="regular expression"):
        load.dataset(tmp_path, patient_pattern="(")


def test_class_folders_that_are_not_in_order(tmp_path):
    with pytest.raises(load.ReadError, match=r"has no class folders; it holds nothing. Expected a folder with"):
        load.dataset(tmp_path)
    picture(tmp_path / "a.png")
    with pytest.raises(load.ReadError, match=r"it holds 1 of \.png"):
        load.dataset(tmp_path)
    class_folders(tmp_path, ("cat",))
    with pytest.raises(load.ReadError, match=r"one class only \(cat\); two are needed"):
        load.dataset(tmp_path)
    class_folders(tmp_path, ("dog", "emu"))
    with pytest.raises(load.ReadError, match=r"not among classes=\['cat', 'dog'\]: \['emu'\]"):
        load.dataset(tmp_path, classes=["cat", "dog"])
    (tmp_path / "fox").mkdir()
    with pytest.raises(load.ReadError, match="fox holds no images"):
        load.dataset(tmp_path)
    with pytest.raises(ValueError, match=r"not know rank, root\. It knows patient_pattern, modality, mask_values"):
        load.dataset(tmp_path, rank=3, root="x")


def test_numbered_class_folders_are_in_order_of_size(tmp_path):
    class_folders(tmp_path, [str(number) for number in range(11)], count=1)
    assert load.dataset(tmp_path).classes == ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]


def test_class_folders_beside_splits_are_named(tmp_path):
    class_folders(tmp_path / "train")
    class_folders(tmp_path, ["bird"])
    with pytest.raises(load.ReadError, match=r"split\(s\) train and, beside them, 1 more folder.* \(bird\)"):
        load.dataset(tmp_path)
    for path in (tmp_path / "bird").iterdir():
        path.rename(path.with_suffix(".txt"))  # no images: notes may lie there
    assert load.dataset(tmp_path).classes == ["cat", "dog"]


def test_dicom_without_ending(tmp_path):
    """As archives export it: one file a case in a class folder, or one folder of slices a case."""
    slices = Volume(np.arange(4 * 5 * 3, dtype="int16").reshape(4, 5, 3), np.eye(4), modality="CT")
    load.write(slices, tmp_path / "series")
    written = sorted((tmp_path / "series").iterdir())
    root = tmp_path / "set"
    for label in ("sick", "well"):
        (root / label / "CASE1").mkdir(parents=True)
        (root / label / "IMG0001").write_bytes(written[0].read_bytes())
        (root / label / "1.2.840.77").write_bytes(written[1].read_bytes())
        (root / label / "DICOMDIR").write_bytes(written[1].read_bytes())
        (root / label / "README").write_text("no image")
        for number, path in enumerate(written):
            (root / label / "CASE1" / f"IM{number}").write_bytes(path.read_bytes())
    found = load.dataset(root)
    assert found.counts()["all"].to_dict() == {"sick": 3, "well": 3}
    names = [path.rsplit("/", 1)[-1] for path in found.table["image"]]
    assert sorted(names) == ["1.2.840.77"] * 2 + ["CASE1"] * 2 + ["IMG0001"] * 2
    shapes = {name: found.volume(one).shape for name, one in zip(names, found.ids, strict=True)}
    assert len(shapes["CASE1"]) == 3
    assert len(shapes["IMG0001"]) == 2


def test_images_and_masks(tmp_path):
    affine = np.diag([2.0, 2, 3, 1])
    for number in range(3):
        image, mask = np.full((2, 3, 4), number, np.int16), np.full((2, 3, 4), number % 2, np.uint8)
        load.write(Volume(image, affine), tmp_path / "imagesTr" / f"case{number}_0000.nii.gz")
        if number < 2:
            load.write(Volume(mask, affine, "labels"), tmp_path / "labelsTr" / f"case{number}.nii.gz")
    cases = load.dataset(tmp_path, classes=["background", "lesion"], modality="MR")
    assert cases.has_masks
    assert cases.classes == ["background", "lesion"]
    assert cases.volume(cases.ids[1]).modality == "MR"
    assert cases.mask(cases.ids[1]).array.max() == 1
    assert cases.mask(cases.ids[1]).kind == "labels"
    assert cases.mask(cases.ids[2]) is None
    load.write(Volume(mask, kind="labels"), tmp_path / "labelsTr" / "other.nii.gz")
    with pytest.raises(load.ReadError, match=r"1 mask\(s\) have no image of the same name in imagesTr \(other\)"):
        load.dataset(tmp_path)


def csv(folder, *lines):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "table.csv"


def test_csv(tmp_path):
    for name in "abcd":
        picture(tmp_path / "in" / f"{name}.png", ord(name))
    path = csv(tmp_path, "id,image,label,patient,split", "Doe,in/a.png,no,P1,train", "Roe,in/b.png,yes,P1,train",
               f"Poe,{tmp_path / 'in/c.png'},no,P2,test", "Moe,./in/d.png,yes,,test")  # fmt: skip
    cases = load.dataset(path)
    assert cases.classes == ["no", "yes"]
    assert cases.y().tolist() == [0, 1, 0, 1]
    assert [int(cases.volume(one).array[0, 0]) for one in cases.ids] == [97, 98, 99, 100]
    assert cases.ids[0] == pseudonym("Doe")
    patients = cases.table["patient"].tolist()
    assert patients[0] == patients[1]
    assert len(set(patients)) == 3
    for secret in ("Doe", "Roe", "P1", "a.png"):
        assert secret not in cases.preview().to_string()
    cases.to_csv(tmp_path / "kept.csv")
    again = load.dataset(tmp_path / "kept.csv")
    assert again.ids == cases.ids
    assert again.table["patient"].tolist() == patients
    assert load.dataset(str(path), classes=["yes", "no"]).y().tolist() == [1, 0, 1, 0]


def test_csv_that_is_not_in_order(tmp_path):
    for name in "ab":
        picture(tmp_path / f"{name}.png")
    good = "image,label", "a.png,no", "b.png,yes"
    with pytest.raises(load.ReadError, match=r"1 file\(s\) do not exist \(absent\.png\)"):
        load.dataset(csv(tmp_path, *good, "absent.png,no"))
    path = csv(tmp_path, *good[:2], "b.png,")
    with pytest.raises(load.ReadError, match=r"1 case\(s\) have no label \(00001\).*unlabeled='keep'"):
        load.dataset(path, classes=["no", "yes"])
    kept = load.dataset(path, classes=["no", "yes"], unlabeled="keep")
    assert kept.table["label"].isna().tolist() == [False, True]
    with pytest.raises(load.ReadError, match=r"Expected a label among .*'00001' has 'yes'"):
        load.dataset(csv(tmp_path, *good), classes=["no", "maybe"])
    with pytest.raises(load.ReadError, match=r"one class only \(no\)"):
        load.dataset(csv(tmp_path, "image,label", "a.png,no", "b.png,no"))
    with pytest.raises(load.ReadError, match=r"1 case\(s\) have no image path"):
        load.dataset(csv(tmp_path, *good, ",no"))
    with pytest.raises(load.ReadError, match="Expected a column image"):
        load.dataset(csv(tmp_path, "file,label", "a.png,no"))
    with pytest.raises(load.ReadError, match="Expected each id once"):
        load.dataset(csv(tmp_path, "id,image,label", "1,a.png,no", "1,b.png,yes"))
    with pytest.raises(load.ReadError, match=r"table.csv"):
        load.dataset(csv(tmp_path, "image,label", 'a.png,"no', "b.png,yes,more,and,more"))
    (tmp_path / "table.csv").write_bytes(b"image,label\n\xff\xfe\x00,no\n")
    with pytest.raises(load.ReadError, match=r"table\.csv"):
        load.dataset(tmp_path / "table.csv")
    (tmp_path / "table.csv").touch()
    (tmp_path / "table.csv").write_text("")
    with pytest.raises(load.ReadError, match=r"table\.csv"):
        load.dataset(tmp_path / "table.csv")


def test_csv_without_labels_and_with_spaces(tmp_path):
    for name in "ab":
        picture(tmp_path / f"{name}.png")
    spaced = load.dataset(csv(tmp_path, "image, label, split", "a.png, no, Train", "b.png, yes, val"))
    assert spaced.y().tolist() == [0, 1]
    assert spaced.table["split"].tolist() == ["train", "validation"]
    for header, there in (("image,Label", r"\['image', 'Label'\]"), ("image , finding", r"\['image', 'finding'\]")):
        path = csv(tmp_path, header, "a.png,no", "b.png,yes")
        with pytest.raises(load.ReadError, match=rf"Expected a column named label.*The columns are {there}"):
            load.dataset(path)
        assert load.dataset(path, unlabeled="keep").table["label"].isna().all()
    path = csv(tmp_path, "image,mask", "a.png,b.png")
    assert load.dataset(path).has_masks  # masks are what such cases teach


def test_csv_does_not_reach_out_of_its_folder(tmp_path):
    picture(tmp_path / "outside.png")
    picture(tmp_path / "inner" / "a.png")
    for text in ("../outside.png", "../../../../etc/passwd", "x/../../outside.png"):
        path = csv(tmp_path / "inner", "image,label", "a.png,no", f"{text},yes")
        with pytest.raises(load.ReadError, match="outside its folder"):
            load.dataset(path)
    path = csv(tmp_path / "inner", "image,label", "inner/a.png,no", "outside.png,yes")
    assert len(load.dataset(path, root=tmp_path)) == 2
    path = csv(tmp_path / "inner", "image,label", "a.png,no", f"{tmp_path / 'outside.png'},yes")
    assert len(load.dataset(path)) == 2  # an absolute path was meant as it is written


def test_limit_is_stratified_and_reproducible(tmp_path):
    class_folders(tmp_path / "train", ("a", "b"), 20)
    class_folders(tmp_path / "train", ("c",), 4)
    class_folders(tmp_path / "test", ("a", "b", "c"), 2)
    cases = load.dataset(tmp_path, limit=11, seed=1)
    train = cases.subset("train").table["label"].value_counts().to_dict()
    assert train == {"a": 5, "b": 5, "c": 1}
    assert len(cases.subset("test")) == 6
    assert load.dataset(tmp_path, limit=11, seed=1).ids == cases.ids
    assert load.dataset(tmp_path, limit=11, seed=2).ids != cases.ids
    for limit in range(1, 45):
        assert len(load.dataset(tmp_path, limit=limit).subset("train")) == min(limit, 44)
    assert set(load.dataset(tmp_path, limit=3).subset("train").table["label"]) == {"a", "b", "c"}
    for wrong in (0, -1, 2.5, True, "3"):
        with pytest.raises(ValueError, match="Expected a limit of at least 1"):
            load.dataset(tmp_path, limit=wrong)


def test_unknown_names(tmp_path, monkeypatch):
    with pytest.raises(load.ReadError, match=r"No data set, folder or CSV 'brestmnist'\. Did you mean 'breastmnist'"):
        load.dataset("brestmnist")
    with pytest.raises(load.ReadError, match="No such file or folder: nowhere/at/all"):
        load.dataset("nowhere/at/all")
    with pytest.raises(load.ReadError, match=r"is one file. Open an image with medlab.load.read"):
        load.dataset(picture(tmp_path / "a.png"))
    class_folders(tmp_path / "mine")
    monkeypatch.setenv("MEDLAB_DATA", str(tmp_path))
    assert len(load.dataset("mine")) == 6
    with pytest.raises(load.ReadError, match="No such file"):
        load.dataset("mine/../../mine")


def test_references(tmp_path):
    path = picture(tmp_path / "a.png", 3)
    assert load.open_reference(str(path)).modality is None
    assert load.open_reference(str(path), modality="DX").modality == "DX"
    assert load.open_reference(str(path), kind="labels").kind == "labels"
    with pytest.raises(load.ReadError, match="No such file or folder"):
        load.open_reference(str(tmp_path / "b.png"))


@pytest.mark.data
def test_real_folders(data_folder):
    chest = load.dataset("chest_xray_224", modality="DX", patient_pattern=r"(person\d+)_(bacteria|virus)")
    assert chest.classes == ["NORMAL", "PNEUMONIA"]
    assert chest.table.groupby(["split", "label"]).size().to_dict() == {
        ("test", "NORMAL"): 234, ("test", "PNEUMONIA"): 390, ("train", "NORMAL"): 600, ("train", "PNEUMONIA"): 600,
    }  # fmt: skip
    assert chest.volume(chest.ids[0]).modality == "DX"
    hippocampus = load.dataset("hippocampus", classes=["background", "anterior", "posterior"], modality="MR", limit=5)
    assert len(hippocampus) == 5
    one = hippocampus.ids[0]
    assert set(np.unique(hippocampus.mask(one).array)) == {0, 1, 2}
    np.testing.assert_allclose(hippocampus.mask(one).affine, hippocampus.volume(one).affine, atol=1e-4)
    assert isinstance(hippocampus, Cases)


def test_phantom():
    cases = load.dataset("phantom:brain-tumor", n=12, size=48, rank=2, sequence="t2", seed=3, limit=4)
    assert len(cases) == 4
    assert set(cases.classes) == {"healthy", "tumor"}
    assert cases.table["label"].value_counts().to_dict() == {"healthy": 2, "tumor": 2}
    sick = cases.ids[int(np.flatnonzero(cases.y())[0])]
    assert cases.volume(sick).shape == cases.mask(sick).shape == (48, 48)
    assert cases.mask(sick).array.any()
    np.testing.assert_array_equal(load.open_reference(cases.row(sick)["image"]).array, cases.volume(sick).array)
    table = load.datasets().set_index("name")
    assert table.loc["phantom:brain-tumor", ["modality", "scenario", "here"]].tolist() == ["MR", "tumor", True]
    with pytest.raises(ValueError, match=r"does not know depth\. It knows n, rank, sequence, severity, domain, size"):
        load.dataset("phantom:brain-tumor", depth=3)
    with pytest.raises(load.ReadError, match=r"'phantom:brain-tumour'\. Did you mean 'phantom:brain-tumor'"):
        load.dataset("phantom:brain-tumour")


def test_the_front_door_is_light():
    heavy = "'pydicom', 'nibabel', 'SimpleITK', 'pandas'"
    code = f"import sys, medlab.load as l; l.ReadError; print([m for m in ({heavy}) if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
