"""Preprocessing as a notebook: faults found, what repair and resampling cost, and a recipe that repeats itself."""

import json
import subprocess
import sys

import pytest

from medlab import standardize

pytestmark = pytest.mark.notebook


def run(folder, *values):
    words = ["run", "02_preprocess", *values, "--out", "x"]
    done = subprocess.run([sys.executable, "-m", "medlab.cli", *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "x" / "results.json").read_text())


def figures(folder):
    return {path.stem for path in (folder / "x" / "figures").glob("*.png")}


ALL = {"02-repair", "02-recipe", "02-intensities", "02-inverse", "02-augmentation"}


def test_pictures(tmp_path):
    found = run(tmp_path, "-p", "options", '{"n": 60, "size": 64}')
    assert figures(tmp_path) == ALL
    assert found["shape"] == [64, 64, 1]
    assert found["repair"]["faults"] == ["nan"]
    assert 0 < found["repair"]["error"] < 1, "better than the mean of the lost values, and not perfect"
    assert found["inverse_dice"]["this recipe"] == 1, "nothing is resampled"
    assert 0.5 < found["inverse_dice"]["voxels twice as large"] < 1
    steps = {step["step"]: step for step in found["measured"]["steps"]}
    assert steps["zscore"]["mask"] == "foreground"
    assert found["measured"]["why"]["resample"] == "all images have 3.75 x 3.75 mm"
    assert standardize.Recipe.from_dict(found["recipe"]) == standardize.recipe("MR")


def test_volumes_by_the_measured_recipe(tmp_path):
    found = run(tmp_path, "-p", "options", '{"rank": 3, "size": 32, "n": 30}', "-p", "recipe", "measured")
    assert figures(tmp_path) == ALL
    assert found["recipe"] == found["measured"], "the same training cases, measured twice"
    assert found["recipe"]["first"] == "intensity"
    assert "missing-slice" in found["repair"]["faults"]
    size = next(step["shape"] for step in found["recipe"]["steps"] if step["step"] == "crop_or_pad")
    assert found["shape"] == [*size, 1]
    assert max(size) < 32, "cropped to the head"
    assert found["inverse_dice"]["this recipe"] == 1


@pytest.mark.data
def test_real_volumes_of_different_shapes(tmp_path, data_folder):
    found = run(tmp_path, "-p", "dataset", str(data_folder / "hippocampus"), "-p", "limit", "20")
    assert figures(tmp_path) == ALL
    assert found["shape"] is None
    assert 0.6 < found["inverse_dice"]["voxels twice as large"] < 0.99
    assert "patches" in found["measured"]["why"]["crop_or_pad"]
