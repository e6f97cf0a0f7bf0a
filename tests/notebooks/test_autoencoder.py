"""Autoencoders: the notebook's numbers hold what must be true of them."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.notebook


def test_tumors_are_found_by_a_network_that_saw_none(tmp_path):
    words = ["run", "08_autoencoder", "--out", "x"]
    done = subprocess.run([sys.executable, "-m", "medlab.cli", *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "x" / "results.json").read_text())
    maps = {name: one["metrics"] for name, one in found["anomalies"].items()}
    assert set(maps) == {"denoising autoencoder", "principal components", "intensity"}
    assert maps["denoising autoencoder"]["auc"]["value"] >= 0.9
    gain = found["gains"]["principal components, auc"]
    assert gain["difference"] > 0
    assert gain["difference"] == pytest.approx(gain["a"] - gain["b"])
    assert (
        maps["denoising autoencoder"]["average_precision"]["value"]
        > 10 * maps["denoising autoencoder"]["average_precision"]["chance"]
    )
    # More principal components leave less over, and none leaves more than the mean image does.
    linear = [
        row["principal components"] for _, row in sorted(found["compression"].items(), key=lambda one: int(one[0]))
    ]
    assert 1 > linear[0] > linear[1] > 0
    assert all(row["autoencoder"] < 1 for row in found["compression"].values())
    assert found["denoising"]["U-Net"]["psnr"] > found["denoising"]["noisy"]["psnr"]
    assert found["nats"][0] > 0.05
    assert {path.stem for path in (tmp_path / "x" / "figures").glob("*.png")} == {
        "08-anomalies", "08-blotches", "08-compression", "08-denoising", "08-map", "08-variational"
    }  # fmt: skip
