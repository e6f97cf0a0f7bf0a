"""Few labels: the notebook's numbers hold what must be true of them."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.notebook


def test_methods_with_few_labels_are_compared(tmp_path):
    values = ["-p", "steps", "80", "-p", "pretraining_epochs", "3", "-p", "labels", "30"]
    words = ["run", "10_few_labels", *values, "--out", "x"]
    done = subprocess.run([sys.executable, "-m", "medlab.cli", *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "x" / "results.json").read_text())
    assert found["labels"] == 30
    assert found["of"] == 560
    assert set(found["methods"]) == {
        "supervised", "simclr, linear probe", "simclr, fine-tuned", "masked, linear probe", "masked, fine-tuned",
        "mean_teacher",
    }  # fmt: skip
    floor = found["methods"]["supervised"]["auc"]
    for name, one in found["methods"].items():
        assert one["low"] <= one["auc"] <= one["high"]
        if name != "supervised":
            assert one["gain"] == pytest.approx(one["auc"] - floor)
            assert one["gain_low"] <= one["gain"] <= one["gain_high"]
    assert found["judged"] == "mean_teacher"
    assert found["metrics"]["auc"]["value"] == found["methods"]["mean_teacher"]["auc"] > 0.6
    assert found["worth_of_ten"]["before"] == floor
    assert {"asked", "at random"} < set(found["worth_of_ten"])
    assert found["spread"]["simclr"] > 0.1
    # A tenth of the labels is wrong: pointing at random would be right in a tenth.
    assert found["wrong_labels"]["precision"]["value"] > 0.1
    assert found["wrong_labels"]["recall"]["n"] == 53  # of the 530 that were hidden
    assert {path.stem for path in (tmp_path / "x" / "figures").glob("*.png")} == {"10-views", "10-masked", "10-map"}
