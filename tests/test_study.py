"""What the notebooks of a study share survives in the run folder, and nothing there names a person."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medlab import runs, study

PERSON = "Doe_Jane_19700101"


@pytest.fixture
def images(tmp_path):
    """A folder of class folders, whose file names name a person."""
    rng = np.random.default_rng(0)
    for label, level in (("well", 60), ("sick", 160)):
        folder = tmp_path / "images" / label
        folder.mkdir(parents=True)
        for number in range(20):
            pixels = np.clip(rng.normal(level, 20, (12, 10)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{PERSON}_{number:02d}.png")
    return tmp_path / "images"


def test_what_was_prepared_is_opened_again(images, tmp_path):
    first = study.prepare(tmp_path / "run", str(images), size=8, seed=3)
    again = study.open(tmp_path / "run", str(images))
    pd.testing.assert_frame_equal(first.cases.table, again.cases.table)
    assert first.recipe == again.recipe
    for split in ("train", "validation", "test"):
        for one, other in zip(first.arrays(split), again.arrays(split), strict=True):
            np.testing.assert_array_equal(one, other)
    assert first.arrays("train")[0].shape[1:] == (8, 8, 1)
    assert sorted(first.cases.table["split"].value_counts()) == [4, 8, 28]


def test_a_folder_that_was_not_prepared_is_prepared(images, tmp_path):
    made = study.open(tmp_path / "run", str(images), size=8)
    assert (tmp_path / "run" / "cases.csv").is_file()
    assert made.facts["size"] == 8


def test_nothing_in_the_run_folder_names_a_person_or_a_place(images, tmp_path):
    study.prepare(tmp_path / "run", str(images), size=8)
    for file in (tmp_path / "run").rglob("*"):
        if file.is_file():
            text = file.read_text()
            assert PERSON not in text, file
            assert str(images) not in text, file


def test_another_data_set_in_the_same_folder_is_refused(images, tmp_path):
    study.prepare(tmp_path / "run", str(images), size=8)
    with pytest.raises(ValueError, match=r"prepared from 'folder [0-9a-f]{12}', not from 'phantom:brain-tumor'"):
        study.open(tmp_path / "run", "phantom:brain-tumor")


def test_vanished_images_are_told(images, tmp_path):
    study.prepare(tmp_path / "run", str(images), size=8)
    next(iter(sorted((images / "sick").iterdir()))).unlink()
    with pytest.raises(ValueError, match=r"1 case\(s\) of run are no longer"):
        study.open(tmp_path / "run", str(images))


def test_added_images_are_told(images, tmp_path):
    study.prepare(tmp_path / "run", str(images), size=8)
    (images / "sick" / "late.png").write_bytes(next(iter(sorted((images / "sick").iterdir()))).read_bytes())
    with pytest.raises(ValueError, match=r"1 case\(s\) that run was not prepared with"):
        study.open(tmp_path / "run", str(images))


def test_a_missing_validation_split_is_cut_from_training(images, tmp_path):
    for split, numbers in (("train", range(16)), ("test", range(16, 20))):
        for label in ("well", "sick"):
            folder = tmp_path / "split" / split / label
            folder.mkdir(parents=True)
            for number in numbers:
                (images / label / f"{PERSON}_{number:02d}.png").rename(folder / f"{number}.png")
    made = study.prepare(tmp_path / "run", str(tmp_path / "split"), size=8)
    assert made.cases.counts().to_dict("list") == {
        "train": [14, 14],
        "validation": [2, 2],
        "test": [4, 4],
        "all": [20, 20],
    }


def test_a_model_is_trained_where_there_is_none(images, tmp_path, capsys):
    made = study.prepare(tmp_path / "run", str(images), size=16)
    model = study.model(made, epochs=1)
    assert "no trained model yet" in capsys.readouterr().err
    assert (tmp_path / "run" / "model.keras").is_file()
    again = study.model(made)
    x, _ = made.arrays("test")
    np.testing.assert_allclose(model.predict(x, verbose=0), again.predict(x, verbose=0), atol=1e-6)
    assert runs.open(tmp_path / "run").facts()["train"]["epochs"] == 1


def test_a_model_of_other_splits_is_refused(images, tmp_path):
    study.fit(study.prepare(tmp_path / "run", str(images), size=16, seed=0), epochs=1, progress=False)
    again = study.prepare(tmp_path / "run", str(images), size=16, seed=1)
    with pytest.raises(ValueError, match="trained on other cases, splits or another recipe"):
        study.model(again)


def test_parameters_that_contradict_the_prepared_folder_are_refused(images, tmp_path):
    study.prepare(tmp_path / "run", str(images), size=8)
    with pytest.raises(ValueError, match="prepared with size=8, now size=16 is given"):
        study.open(tmp_path / "run", str(images), size=16)
    assert study.open(tmp_path / "run", str(images), size=8).size == 8


def test_the_same_folder_may_be_written_in_other_ways(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study.prepare("run", "images", size=8)
    for spelling in ("images/", "./images", str(images)):
        study.open("run", spelling)


def test_a_split_of_one_class_is_refused(images, tmp_path):
    for split, label, name in (("train", "well", "00"), ("train", "sick", "00"), ("val", "well", "01"),
                               ("val", "sick", "01"), ("test", "well", "02")):  # fmt: skip
        folder = tmp_path / "given" / split / label
        folder.mkdir(parents=True)
        (images / label / f"{PERSON}_{name}.png").rename(folder / "x.png")
    with pytest.raises(ValueError, match=r"in the split 'test'.* It has only 'well'"):
        study.prepare(tmp_path / "run", str(tmp_path / "given"), size=8)


def test_zero_epochs_are_refused_and_not_taken_for_none(images, tmp_path):
    with pytest.raises(ValueError, match="epochs"):
        study.fit(study.prepare(tmp_path / "run", str(images), size=16), epochs=0)


def test_further_columns_of_a_table_are_not_written(images, tmp_path):
    rows = [f"{file},{file.parent.name},{PERSON}" for file in sorted(images.rglob("*.png"))]
    (tmp_path / "table.csv").write_text("\n".join(["image,label,patient_name", *rows]))
    made = study.prepare(tmp_path / "run", str(tmp_path / "table.csv"), size=8)
    assert list(made.cases.preview()) == ["id", "patient", "label", "split"]
    assert PERSON not in (tmp_path / "run" / "cases.csv").read_text()


def test_options_may_carry_size_but_not_another_one(tmp_path):
    made = study.prepare(tmp_path / "a", "phantom:brain-tumor", options={"n": 20, "size": 32})
    assert made.arrays("train")[0].shape[1:3] == (32, 32)
    with pytest.raises(ValueError, match="size is given twice"):
        study.prepare(tmp_path / "b", "phantom:brain-tumor", size=16, options={"n": 20, "size": 32})


def test_options_must_be_a_dict(tmp_path):
    with pytest.raises(ValueError, match="dict of options"):
        study.prepare(tmp_path, "phantom:brain-tumor", options=[1])


def test_facts_are_plain(images, tmp_path):
    study.prepare(tmp_path / "run", str(images), size=8, seed=5)
    facts = json.loads((tmp_path / "run" / "run.json").read_text())["data"]
    assert (facts["seed"], facts["cases"], facts["classes"]) == (5, 40, ["sick", "well"])


@pytest.fixture
def drawn(tmp_path):
    """A folder of volumes of different shapes, each with a ball of its own, and no label."""
    import nibabel

    rng = np.random.default_rng(0)
    for number in range(12):
        shape = (17 + number % 3, 15, 12)
        mask = np.sum((np.indices(shape).T - [8, 7, 6]).T ** 2, 0) < 12
        image = rng.normal(size=shape) + 4 * mask
        for name, array in (("images", image.astype(np.float32)), ("masks", mask.astype(np.uint8))):
            (tmp_path / "drawn" / name).mkdir(parents=True, exist_ok=True)
            affine = np.diag([1.0, 1.0, 2.0, 1.0])
            nibabel.Nifti1Image(array, affine).to_filename(tmp_path / "drawn" / name / f"{number}.nii.gz")
    return tmp_path / "drawn"


def test_images_with_masks_and_no_label_are_segmented_on_one_grid(drawn, tmp_path):
    made = study.prepare(tmp_path / "run", str(drawn))
    assert made.task == "segmentation"
    assert made.regions == ["background", "label 1"]
    assert made.patch == (20, 16, 12), "the median image, 18 x 15 x 12, in whole halvings"
    assert made.facts["spacings"][0] == [1.0, 1.0, 2.0]
    again = study.open(tmp_path / "run", str(drawn))
    assert (again.task, again.regions, again.patch) == ("segmentation", made.regions, made.patch)
    for split, n in (("train", 9), ("validation", 1), ("test", 2)):
        found = list(again.pairs(split))
        assert len(found) == n
        for _, image, mask in found:
            assert image.shape == mask.shape
            assert np.median(image.array[mask.array == 1]) > np.median(image.array[mask.array == 0])


def test_a_size_crops_or_pads_and_keeps_the_voxels(drawn, tmp_path):
    made = study.prepare(tmp_path / "run", str(drawn), size=16)
    x, y = made.arrays("train")
    assert made.patch is None
    assert x.shape == (9, 16, 16, 16, 1)
    for mask in y:
        assert (mask == 1).sum() == (np.sum((np.indices((17, 15, 12)).T - [8, 7, 6]).T ** 2, 0) < 12).sum()


def test_a_task_that_the_cases_do_not_allow_is_refused(images, drawn, tmp_path):
    with pytest.raises(ValueError, match="has no masks to learn a segmentation from"):
        study.prepare(tmp_path / "run", str(images), task="segmentation")
    with pytest.raises(ValueError, match="Expected task 'auto' or one of"):
        study.prepare(tmp_path / "run", str(images), task="detection")
    study.prepare(tmp_path / "run2", str(drawn))
    with pytest.raises(ValueError, match="prepared with task='segmentation', now task='classification'"):
        study.open(tmp_path / "run2", str(drawn), task="classification")


def test_phantoms_name_what_is_segmented(tmp_path):
    made = study.prepare(tmp_path / "run", "phantom:brain-tumor", size=32, task="segmentation", options={"n": 12})
    assert made.regions == ["background", "edema", "core", "rim"]
    assert made.outputs == 4
    assert made.arrays("train")[1].max() == 3


def test_masks_of_drawing_programs_are_numbered_when_told_how(images, tmp_path):
    for number, path in enumerate(sorted(images.rglob("*.png"))):
        mask = np.zeros((12, 10), np.uint8)
        mask[3:7, 2:5] = 255
        for name in ("images", "masks"):
            (tmp_path / "drawn" / name).mkdir(parents=True, exist_ok=True)
        path.rename(tmp_path / "drawn" / "images" / f"{number}.png")
        Image.fromarray(mask).save(tmp_path / "drawn" / "masks" / f"{number}.png")
    with pytest.raises(ValueError, match=r"hold the values 0, 255, and not 1, 2, .*mask_values.: \[0, 255\]"):
        study.prepare(tmp_path / "run", str(tmp_path / "drawn"))
    made = study.prepare(tmp_path / "run", str(tmp_path / "drawn"), options={"mask_values": [0, 255]})
    assert made.regions == ["background", "label 1"]
    assert set(np.unique(made.arrays("train")[1])) == {0, 1}
    assert (made.arrays("test")[1][0] == 1).sum() == 12
    with pytest.raises(ValueError, match="list of different whole numbers"):
        study.prepare(tmp_path / "other", str(tmp_path / "drawn"), options={"mask_values": 255})
    with pytest.raises(ValueError, match=r"values \[0, 7\]. One also holds \[255\]"):
        study.prepare(tmp_path / "other", str(tmp_path / "drawn"), options={"mask_values": [0, 7]})


def test_the_finding_is_what_only_its_class_shows(tmp_path):
    lungs = study.prepare(tmp_path / "lungs", "phantom:lung-nodule", size=64, options={"n": 24})
    masks, finding = lungs.masks("train"), lungs.findings("train", 1)
    labels = lungs.arrays("train")[1]
    np.testing.assert_array_equal(finding, masks == 2)
    assert finding[labels == 1].any(axis=(1, 2)).all()
    hearts = study.prepare(tmp_path / "hearts", "phantom:cardiomegaly", size=64, options={"n": 12})
    np.testing.assert_array_equal(hearts.findings("train", 1), hearts.masks("train") > 0)
