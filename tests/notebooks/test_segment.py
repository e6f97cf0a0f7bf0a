"""The segmentation notebook on its phantom, small: numbers of its results, not merely that it ran."""

import json

import pytest

from medlab import notebook, report

pytestmark = pytest.mark.notebook


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segment") / "run"
    parameters = {"epochs": 40, "options": {"n": 100, "size": 64}}
    notebook.run(notebook.folder() / "06_segment.ipynb", folder, parameters)
    return folder


@pytest.fixture(scope="module")
def found(run):
    return json.loads((run / "results" / "06_segment.json").read_text())


def test_the_network_has_learned_to_segment(found):
    dice = found["metrics"]["dice"]
    assert dice["value"] > 0.1  # marking nothing gives 0
    assert 0.03 < dice["low"] < dice["value"] < dice["high"] < 1
    validated = [epoch["val_dice"] for epoch in found["history"]]
    assert validated[found["best_epoch"] - 1] == max(validated) > validated[0] + 0.05


def test_every_structure_and_every_case_is_accounted_for(found):
    assert found["classes"] == ["edema", "core", "rim"]
    assert set(found["per_class"]) == set(found["failures"]) == set(found["classes"])
    for counts in found["failures"].values():
        assert sum(counts.values()) == found["n"] == 20
        assert counts["absent"] + counts["hallucinated"] >= 10  # the healthy half
    assert set(found["metrics"]) >= {"dice", "iou", "hd95", "assd", "nsd", "volume_error"}
    assert found["split"] == "test"
    assert found["seconds"] > 0
    assert found["peak_memory_mb"] > 100


def test_the_report_shows_structures_and_figures(run):
    page = report.build(run).read_text()
    for word in ("Dice", "Surface Dice", "edema", "Hallucinated", "HD95 (mm)"):
        assert word in page
    assert len(list((run / "figures").glob("06-*.png"))) == 4
