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


def test_options_must_be_a_dict(tmp_path):
    with pytest.raises(ValueError, match="dict of options"):
        study.prepare(tmp_path, "phantom:brain-tumor", options=[1])


def test_facts_are_plain(images, tmp_path):
    study.prepare(tmp_path / "run", str(images), size=8, seed=5)
    facts = json.loads((tmp_path / "run" / "run.json").read_text())["data"]
    assert (facts["seed"], facts["cases"], facts["classes"]) == (5, 40, ["sick", "well"])
