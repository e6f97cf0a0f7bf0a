"""Networks over slices, compared: the notebook's numbers hold what must be true of them."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.notebook


def test_networks_of_one_size_are_compared(tmp_path):
    values = ["-p", "networks", '["attention", "3-D"]', "-p", "seconds", "null", "-p", "epochs", "5"]
    words = ["run", "07_sequences", *values, "--out", "x"]
    done = subprocess.run([sys.executable, "-m", "medlab.cli", *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "x" / "results.json").read_text())
    networks = found["networks"]
    assert set(networks) == {"attention", "3-D"}
    for one in networks.values():
        assert abs(one["parameters"] / 60_000 - 1) < 0.1
        assert one["low"] <= one["auc"] <= one["high"]
        assert one["auc"] > 0.75
    # Attention has no order: mixed slices give the same.
    assert networks["attention"]["auc_mixed"] == pytest.approx(networks["attention"]["auc"], abs=0.002)
    other = {"attention": "3-D", "3-D": "attention"}[found["best"]]
    difference = found["differences"][other]
    assert difference["difference"] == pytest.approx(networks[found["best"]]["auc"] - networks[other]["auc"])
    assert (other in found["within_noise"]) == (difference["low"] <= 0)
    assert 0 < found["weight_on_lesion"]["attention"] < 1
    assert {path.stem for path in (tmp_path / "x" / "figures").glob("*.png")} == {
        "07-attention", "07-curves", "07-slices"
    }  # fmt: skip
