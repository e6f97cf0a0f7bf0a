"""The GAN's notebook: its numbers hold what must be true of them."""

import json
import subprocess
import sys

import numpy as np
import pytest

from medlab import models, study, train

pytestmark = pytest.mark.notebook


def test_a_gan_is_trained_and_judged(tmp_path):
    values = ["-p", "seconds", "null", "-p", "epochs", "40", "-p", "options", '{"n": 240, "severity": 0.5}']
    words = ["run", "09_gan", *values, "--out", "x"]
    done = subprocess.run([sys.executable, "-m", "medlab.cli", *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "x" / "results.json").read_text())
    assert found["epochs"] == 40
    assert found["stopped"] is None
    kid = found["kid"]
    assert kid["1"][0] > 3 * kid["40"][0], "the samples came nearer to the real images"
    assert abs(found["kid_unseen"]) < 0.1 * kid["1"][0], "the judge takes real images that it never saw for real ones"
    assert all(low <= value <= high for value, low, high in kid.values())
    assert len(found["diversity"]) == 40
    assert found["planted_found"]
    assert 0 <= found["recall"] <= 1
    gain = found["gain"]
    assert gain["difference"] == pytest.approx(found["auc"]["real and samples"] - found["auc"]["real"])
    assert gain["low"] <= gain["difference"] <= gain["high"]
    assert {path.stem for path in (tmp_path / "x" / "figures").glob("*.png")} == {
        "09-real", "09-training", "09-samples", "09-copies", "09-latents"
    }  # fmt: skip
    assert (tmp_path / "x" / "gan" / "model.keras").is_file()


def test_images_of_64_pixels_do_not_become_alike(tmp_path):
    """With the start and the transposed convolutions of DCGAN they had 0.2 of the diversity after as many steps."""
    opened = study.open(tmp_path / "run", "phantom:brain-tumor", size=64, options={"n": 450})
    x, y = opened.arrays("train")
    low, high = np.quantile(x, [0.001, 0.999])
    x = np.clip((x - low) / (high - low), 0, 1)
    fit = train.fit_gan(models.gan(x.shape[1:], classes=2), x, y, epochs=40, progress=False)
    assert not fit.warnings
    assert fit.history["diversity"].iloc[-10:].min() > 0.5
    assert fit.history["diversity"].iloc[-10:].max() < 1.5, "and no noise, which is more diverse than any images"
    mean, last = x.mean(0).ravel(), fit.samples[40]
    assert np.corrcoef(last.mean(0).ravel(), mean)[0, 1] > 0.9
    nearest = [np.abs(x - one).mean((1, 2, 3)).min() for one in last]
    usual = [np.sort(np.abs(x - one).mean((1, 2, 3)))[1] for one in x]
    assert np.mean(nearest) < 1.5 * np.mean(usual), "each looks like some real image, about as one of them does"
