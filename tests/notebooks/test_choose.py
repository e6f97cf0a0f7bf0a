"""11_choose as a user runs it, small: what its results say."""

import json

import pytest

from tests.notebooks.test_study import medlab

pytestmark = pytest.mark.notebook


def test_a_small_experiment(tmp_path):
    listed = [{"model": "small_cnn"}, {"model": "small_cnn", "name": "still", "learning_rate": 1e-9}]
    values = {"options": {"n": 160}, "epochs": 4, "candidates": listed, "seeds": 1, "values": []}
    words = [word for name, value in values.items() for word in ("-p", name, json.dumps(value))]
    done = medlab("run", "11_choose", *words, "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    first, second = found["table"]
    assert (first["candidate"], first["verdict"]) == (found["best"], "chosen")
    assert second["verdict"] in ("within noise", "worse")
    assert first["mean"] >= second["mean"]
    assert second["behind"] == pytest.approx(first["auc"] - second["auc"])
    assert second["behind_low"] < second["behind"] < second["behind_high"]
    # At a rate of 1e-9 nothing is learned: the range test would not have proposed it.
    assert 1e-5 < found["range_test"]["suggestion"] < 1
    assert found["split"] == "test"
    auc = found["metrics"]["auc"]
    assert 0 <= auc["low"] <= auc["value"] <= auc["high"] <= 1
    assert {"model", "optimizer", "learning_rate", "loss"} <= set(found["reasons"])
    assert {path.stem for path in (tmp_path / "run" / "figures").glob("*.png")} == {"11-range-test", "11-candidates"}
