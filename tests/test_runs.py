"""A run folder keeps numbers, figures and its record, as plain files."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from medlab import runs


def test_results_are_plain_json(tmp_path):
    run = runs.open(tmp_path / "a")
    run.write_results("03_train", {
        "auc": np.float32(0.5), "n": np.int64(3), "none": float("nan"), "list": np.arange(2),
        "table": pd.DataFrame({"x": [1, 2]}), "flag": np.True_, "path": tmp_path,
    })  # fmt: skip
    text = (tmp_path / "a" / "results" / "03_train.json").read_text()
    assert json.loads(text) == {
        "notebook": "03_train", "auc": 0.5, "n": 3, "none": None, "list": [0, 1],
        "table": [{"x": 1}, {"x": 2}], "flag": True, "path": str(tmp_path),
    }  # fmt: skip
    assert run.results()["03_train"]["n"] == 3


def test_what_json_cannot_hold_is_refused_and_nothing_is_written(tmp_path):
    run = runs.open(tmp_path)
    with pytest.raises(TypeError, match="Received object"):
        run.write_results("x", {"bad": object()})
    assert run.results() == {}


def test_the_record_grows_by_sections(tmp_path):
    run = runs.open(tmp_path)
    run.record("train", {"seed": 1})
    run.record("train", {"epochs": 2})
    run.record("data", {"dataset": "d"})
    facts = run.facts()
    assert facts["train"] == {"seed": 1, "epochs": 2}
    assert facts["data"] == {"dataset": "d"}
    assert facts["environment"]["packages"]["numpy"] == np.__version__


def test_the_record_names_no_host_and_no_user(tmp_path):
    import getpass
    import platform

    facts = json.dumps(runs.environment())
    assert platform.node() not in facts
    assert f'"{getpass.getuser()}"' not in facts


def test_figures_keep_their_order_and_captions(tmp_path):
    run = runs.open(tmp_path)
    for name in ("z", "a"):
        figure = Figure()
        figure.add_subplot().plot([0, 1])
        run.save_figure(figure, name, f"about {name}")
    assert [(path.name, caption) for path, caption in run.figures().items()] == [
        ("z.png", "about z"),
        ("a.png", "about a"),
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in run.figures())


def test_list_reads_metrics_from_the_folders(tmp_path):
    for name, value in (("one", 0.9), ("two", 0.8)):
        run = runs.open(tmp_path / name)
        run.record("train", {"model": "small_cnn", "seed": 0})
        run.write_results("04_evaluate", {"metrics": {"auc": {"value": value, "low": 0, "high": 1}}})
    table = runs.list(tmp_path)
    assert table["name"].tolist() == ["one", "two"]
    assert table["auc"].tolist() == [0.9, 0.8]


def test_errors(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="is a file"):
        runs.open(tmp_path / "file")
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        runs.open(tmp_path).facts()
