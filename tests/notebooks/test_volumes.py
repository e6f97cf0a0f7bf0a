"""Classification of volumes: the notebook's numbers hold what must be true of them."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.notebook


def run(folder, *values):
    words = ["run", "12_volumes", *values, "--out", "x"]
    done = subprocess.run([sys.executable, "-m", "medlab.cli", *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "x" / "results.json").read_text())


def test_volumes_are_classified_explained_and_their_price_is_told(tmp_path):
    found = run(tmp_path, "-p", "seconds", "null", "-p", "epochs", "6")
    auc = found["metrics"]["auc"]
    assert auc["low"] <= auc["value"] <= auc["high"]
    assert auc["value"] > 0.75
    assert (found["n"], found["epochs"], found["model"]) == (80, 6, "resnet10")
    assert found["layer"]
    score = {(row["method"], row["score"]): row for row in found["explanations"]}
    hit = score["grad_cam", "pointing_game"]
    assert hit["low"] <= hit["value"] <= hit["high"]
    assert score["mask", "pointing_game"]["value"] == 1
    # Noise has as much of its mass in the tumors as they have of a head's volume with the air around it.
    assert 0.005 < score["random", "mass_inside"]["value"] < 0.03
    assert score["grad_cam", "mass_inside"]["value"] > score["random", "mass_inside"]["value"]
    costs = found["costs"]
    # 20 slices through one 2-D network: as many times the maps, the same weights but for the first filters' channels.
    assert costs["2.5-D"]["map_mb"] / costs["2-D"]["map_mb"] == pytest.approx(20, rel=0.1)
    assert costs["2.5-D"]["parameters"] - costs["2-D"]["parameters"] == 9 * 2 * 8
    assert costs["3-D"]["parameters"] > 2.5 * costs["2-D"]["parameters"]


@pytest.mark.data
def test_real_volumes(tmp_path, data_folder):
    values = {"dataset": "adrenalmnist3d", "options": "{}", "limit": "60", "epochs": "1", "seconds": "null"}
    found = run(tmp_path, *(word for name, value in values.items() for word in ("-p", name, value)))
    assert found["dataset"] == "adrenalmnist3d"
    assert found["n"] == 60
    scores = {row["score"] for row in found["explanations"] if row["method"] == "grad_cam"}
    assert scores == {"randomization", "sparseness"}
