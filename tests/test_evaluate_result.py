"""What a reader gets: text, HTML, JSON and a figure of an Evaluation."""

import json

import numpy as np
import pytest

from medlab import evaluate


@pytest.fixture(scope="module")
def evaluation():
    rng = np.random.default_rng(0)
    y = rng.random(80) < 0.5
    p = np.clip(0.4 * y + 0.6 * rng.random(80), 0, 1)
    return evaluate.classification(y, p, classes=["normal", "pneumonia"], groups=np.arange(80) // 2, n=200)


def test_table_has_the_rows_and_columns_of_the_contract(evaluation):
    rows = "auc accuracy balanced_accuracy sensitivity specificity ppv npv f1 mcc brier ece average_precision"
    assert evaluation.table.index.tolist() == rows.split()
    assert evaluation.table.index.name == "metric"
    assert evaluation.table.columns.tolist() == ["value", "low", "high", "n"]
    assert evaluation.per_class is None


def test_text_names_the_cases_the_class_and_each_interval(evaluation):
    text = str(evaluation)
    assert text.startswith("80 cases of 40 patients; positive: pneumonia, called from a probability of 0.5; 95%")
    row = evaluation.table.loc["auc"]
    assert f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})" in text
    assert "Negative predictive value" in text
    assert repr(evaluation) == text


def test_html_escapes_names():
    result = evaluate.classification([0, 1, 2, 1], np.eye(3)[[0, 1, 2, 0]], classes=["<b>", "b", "c"], n=20)
    page = result._repr_html_()
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert page.count("<tr>") == 13
    assert page.count("<td>") == 12 * 4


def test_results_are_plain_json(evaluation):
    result = evaluation.to_dict()
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert (result["n"], result["patients"]) == (80, 40)
    assert result["metrics"]["auc"] == dict(evaluation.table.loc["auc", ["value", "low", "high"]])
    undefined = evaluate.classification([1, 1], [0.2, 0.9], n=20).to_dict()
    assert undefined["metrics"]["auc"] == {"value": None, "low": None, "high": None}
    several = evaluate.classification([0, 1, 2], np.eye(3), classes=["a", "b", "c"], n=20).to_dict()
    assert several["per_class"]["b"]["sensitivity"]["value"] == 1
    json.dumps(several, allow_nan=False)


def test_undefined_reads_so():
    text = str(evaluate.classification([1], [0.9], n=20))
    assert text.startswith("1 case; positive: 1")
    assert "AUC                            undefined" in text
    assert "Only 1 patient with 1: the intervals are rough." in text


@pytest.mark.parametrize("kind", ["binary", "multi-class", "multi-label", "one class"])
def test_plot_draws_every_task(kind):
    rng = np.random.default_rng(1)
    y = rng.integers(0, 3, 40)
    p = 0.5 * rng.dirichlet(np.ones(3), 40) + 0.5 * np.eye(3)[y]
    arguments = {
        "binary": (y > 0, 1 - p[:, 0]),
        "multi-class": (y, p),
        "multi-label": (p > 0.4, p),
        "one class": (np.ones(40, int), p[:, 0]),
    }
    figure = evaluate.classification(*arguments[kind], n=20).plot()
    assert len(figure.axes) >= 4
    titles = " ".join(axes.get_title() for axes in figure.axes)
    assert all(word in titles for word in ("ROC", "Precision-recall", "Reliability", "Confusion"))


def test_the_folder_is_light_and_its_names_are_functions():
    import subprocess
    import sys

    code = (
        "import sys, medlab.evaluate as e; heavy = {'keras', 'tensorflow', 'scipy', 'pandas', 'matplotlib'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules);"
        "import medlab.evaluate.robustness, medlab.evaluate.predictions;"
        "assert all(callable(getattr(e, name)) for name in e.__all__), dir(e);"
        "assert not {'keras', 'tensorflow', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match=r"medlab.evaluate has no 'accuracy'"):
        evaluate.accuracy


def test_worst_cases_come_first():
    binary = evaluate.classification([0, 1, 1, 0], [0.1, 0.2, 0.9, 0.7], classes=["well", "sick"])
    assert binary.worst(2).to_dict("split") == {
        "index": [1, 3], "columns": ["truth", "p"], "data": [["sick", 0.2], ["well", pytest.approx(0.3)]],
    }  # fmt: skip
    many = evaluate.classification([0, 2], [[0.5, 0.3, 0.2], [0.6, 0.3, 0.1]], classes=["a", "b", "c"])
    assert many.worst(1).iloc[0].tolist() == ["c", 0.1]
    labels = evaluate.classification([[1, 0], [0, 1]], [[0.9, 0.8], [0.1, 0.7]], classes=["x", "y"])
    assert labels.worst(1).iloc[0].tolist() == ["no y", pytest.approx(0.2)]
