"""The study as a user runs it: five notebooks over one run folder, on the embedded data and on real images."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from medlab import cli, notebook

pytestmark = pytest.mark.notebook


def medlab(*words, cwd, **environment):
    """The command line in a process of its own, as a user calls it."""
    return subprocess.run(
        [sys.executable, "-m", "medlab.cli", *words],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The default study, run once for all tests of this file."""
    folder = tmp_path_factory.mktemp("study")
    done = medlab("run", "study", "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "run", done


def results(run: Path, name: str) -> dict:
    return json.loads((run / "results" / f"{name}.json").read_text())


def test_the_table_and_the_report_are_printed(study):
    _, done = study
    for name in ("AUC", "accuracy", "sensitivity", "specificity"):
        assert re.search(rf"^{name}\s+[01]\.\d{{3}}\s+[01]\.\d{{3}} to [01]\.\d{{3}}", done.stdout, re.MULTILINE), (
            done.stdout
        )
    assert "pointing game" in done.stdout
    assert f"report: {Path('run') / 'report.html'}" in done.stdout
    assert "[3/5] 03_train" in done.stderr


def test_the_default_model_is_good_and_not_perfect(study):
    run, _ = study
    found = results(run, "04_evaluate")
    auc = found["metrics"]["auc"]
    assert auc["value"] >= 0.95
    assert auc["low"] < auc["value"] <= auc["high"] <= 1
    assert auc["low"] > found["floor"]["auc"]["high"], "a network must be clearly better than logistic regression"
    assert found["split"] == "test"
    assert found["n"] == results(run, "02_preprocess")["splits"][0].get("n", found["n"])


def test_stability_and_explanations_stand_beside_accuracy(study):
    run, _ = study
    assert results(run, "04_evaluate")["stability"]["artifacts"]
    pointing = results(run, "05_explain")["pointing_game"]
    assert 0.7 <= pointing["low"] <= pointing["value"] <= pointing["high"] <= 1
    page = (run / "report.html").read_text()
    for word in ("Accuracy", "Stability", "Interpretability"):
        assert word in page


def test_the_planted_letter_is_found_where_accuracy_alone_hides_it(study):
    run, _ = study
    found = results(run, "05_explain")["shortcut"]
    auc = {row["test cases"]: row["value"] for row in found["judged"] if row["metric"] == "auc"}
    assert auc["with the letter, as trained"] > auc["without it"] + 0.05
    points = {
        row["place"]: row["value"]
        for row in found["explanations"]
        if (row["method"], row["score"]) == ("layer_cam", "pointing_game")
    }
    assert points["letter"] > 0.8
    assert points["lesion"] < 0.2


def test_the_run_can_be_made_again_from_its_record(study):
    run, _ = study
    facts = json.loads((run / "run.json").read_text())
    assert facts["data"]["dataset"] == "phantom:brain-tumor"
    assert facts["train"]["seed"] == 0
    assert facts["environment"]["packages"]["keras"]


def test_pictures_stay_in_the_executed_notebooks(study):
    run, _ = study
    for name in notebook.STUDY:
        cells = json.loads((run / f"{name}.ipynb").read_text())["cells"]
        kinds = {kind for cell in cells for output in cell.get("outputs", []) for kind in output.get("data", {})}
        assert "application/vnd.jupyter.widget-view+json" not in kinds
        if name != "03_train":
            assert "image/png" in kinds, name


def test_an_evaluation_of_its_own_trains_first(tmp_path):
    values = ["-p", "options", '{"n": 120, "size": 64}', "-p", "stability_cases", "0"]
    done = medlab("run", "04_evaluate", *values, "--out", "x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "x" / "results.json").read_text())["n"] > 0
    assert "no trained model yet" in done.stderr


def test_a_misspelt_parameter_of_the_study_starts_nothing(tmp_path, capsys):
    assert cli.main(["run", "study", "-p", "datset", "x", "--out", str(tmp_path / "o")]) == 2
    assert "Did you mean 'dataset'" in capsys.readouterr().err
    assert not (tmp_path / "o" / "01_explore.ipynb").exists()


@pytest.mark.data
def test_the_same_study_on_real_images(tmp_path, data_folder):
    values = [
        "-p",
        "dataset",
        "breastmnist",
        "-p",
        "epochs",
        "2",
        "-p",
        "stability_cases",
        "20",
        "-p",
        "cases_explained",
        "10",
    ]
    done = medlab("run", "study", *values, "--out", "breast", cwd=tmp_path, MEDLAB_DATA=str(data_folder))
    assert done.returncode == 0, done.stderr[-3000:]
    assert results(tmp_path / "breast", "04_evaluate")["n"] == 156
