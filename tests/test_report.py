"""The report: self-contained, escaped, without folders' names, and with the values of the run."""

import base64
import html.parser
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from medlab import report, runs, view
from medlab.report.markup import without_paths

EVIL = 'tumor <script>alert(1)</script> & "x"'


class Page(html.parser.HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, source: str):
        super().__init__()
        self.tags, self.words, self.stack = [], [], []
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.stack.append(tag)

    def handle_endtag(self, tag):
        self.stack.append("")

    def handle_data(self, data):
        if not self.stack or self.stack[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def entry(value, low, high, n=140):
    return {"value": value, "low": low, "high": high, "n": n}


@pytest.fixture
def run(tmp_path):
    one = runs.open(tmp_path / "Miller^John" / "study")
    faults = [{"fault": "leak", "severity": "error", "where": "3 images", "what_to_do": "split by patient"}]
    one.write_results(
        "01_explore", {"dataset": "phantom:brain-tumor", "n": 700, "classes": ["healthy", EVIL], "faults": faults}
    )
    one.write_results("02_preprocess", {"recipe": {"name": "MR", "size": 128}, "splits": {"train": 490, "test": 140}})
    training = {"model": "small_cnn", "learning_rate": 0.001, "precision": "mixed_bfloat16", "seconds": 41.25}
    one.write_results("03_train", {"history": [{"epoch": 1, "loss": 0.6}], **training})
    metrics = {
        "auc": entry(0.9714, 0.9581, 0.9822),
        "accuracy": entry(0.9, 0.85, 0.95),
        "ppv": entry(np.nan, np.nan, np.nan),
    }
    rows = [{"severity": s, "value": 0.97 - 0.02 * s, "drop": 0.02 * s} for s in (1, 5)]
    stability = {
        "metric": "auc",
        "clean": 0.97,
        "mean_drop": 0.06,
        "worst": "blur",
        "worst_drop": 0.06,
        "artifacts": {"blur": rows},
    }
    judged = {"dataset": "phantom:brain-tumor", "split": "test", "n": 140}
    one.write_results("04_evaluate", {**judged, "metrics": metrics, "stability": stability, "peak_memory_mb": 1832})
    scores = [
        ("grad_cam", "pointing_game", 0.812),
        ("grad_cam", "mass_inside", 0.2),
        ("grad_cam", "randomization", 0.03),
        ("random", "pointing_game", 0.05),
        ("edges", "pointing_game", 0.3),
        ("edges", "mass_inside", 0.25),
    ]
    explanations = [{"method": m, "score": s, **entry(v, v - 0.01, v + 0.01, 70)} for m, s, v in scores]
    one.write_results("05_explain", {"explanations": explanations, "verdicts": {"grad_cam": "unclear"}})
    one.record("data", {"dataset": "/home/anna/Miller^John/Knee MR/scan.nii.gz", "seed": 7, "key": "secret"})
    one.record("parameters", {"csv": r"C:\Users\anna\Miller^John\cases.csv", "folder": "~/Miller^John/images"})
    one.save_figure(view.montage([np.eye(4)]), "cases", "Some cases <i>.")
    return one


def test_values_stand_in_the_page(run):
    target = report.build(run.path)
    assert target == run.path / "report.html"
    text = Page(target.read_text(encoding="utf-8")).text
    expected = """AUC 0.971|(0.958 to 0.982)|Accuracy 0.900 (0.850 to 0.950)|AUC −0.060|worst: blur, −0.060|
        Pointing game 0.812|(0.802 to 0.822)|random 0.050, edges 0.300|0.030 (0.020 to 0.040)|undefined|small_cnn|
        judged on the test split; 140 cases|mixed_bfloat16|41.2|1832|seed 7|leak (3 images)|not for clinical use|
        The images are simulated|severity 5|0.870"""
    for part in [one.strip() for one in expected.split("|")] + [f"numpy {np.__version__}"]:
        assert part in text, part
    assert re.search(r"Verdict\s+unclear", text)
    assert "all checks together: unclear" in text
    # Worse than the edges of the image at one of two rules.
    assert "no better than noise or plain image edges at: heat inside the true region" in text
    assert "edges at: pointing game" not in text


def test_nothing_is_loaded_from_elsewhere(run):
    source = report.build(run).read_text(encoding="utf-8")
    assert not re.search(r"https?://|//[a-z]|url\(|@import", source)
    page = Page(source)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 1
    data = base64.b64decode(images[0]["src"].removeprefix("data:image/png;base64,"))
    assert data == (run.path / "figures" / "cases.png").read_bytes()


def test_text_is_escaped(run):
    source = report.build(run).read_text(encoding="utf-8")
    page = Page(source)
    assert EVIL in page.text
    assert "Some cases <i>." in page.text
    assert not {"script", "i"} & {tag for tag, _ in page.tags}
    assert next(attributes["alt"] for tag, attributes in page.tags if tag == "img") == "Some cases <i>."
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_no_folder_is_named(run):
    source = report.build(run).read_text(encoding="utf-8")
    for word in ("Miller", "anna", "Knee", "Users", str(run.path.parent), "secret"):
        assert word not in source
    assert "scan.nii.gz" in source
    assert "cases.csv" in source


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/anna/John Miller/scan.nii", "scan.nii"),
        ("read from /home/anna/John Miller/scan.nii", "read from scan.nii"),
        (r"C:\data\Miller\x.dcm", "x.dcm"),
        (r"from D:\Miller\x.dcm now", "from x.dcm now"),
        ("data/Miller/x", "x"),
        ("John Miller/scan.nii.gz", "scan.nii.gz"),
        ("../Miller/x.csv", "x.csv"),
        ("file:///srv/Miller/x", "x"),
        ("T1/T2 contrast", "T1/T2 contrast"),
        ("3 / 4 of the cases", "3 / 4 of the cases"),
        ("phantom:brain-tumor?rank=2#17", "phantom:brain-tumor?rank=2#17"),
        ("pneumoniamnist#train/12", "pneumoniamnist#train/12"),
        ("</script>", "</script>"),
    ],
)
def test_paths_are_cut(text, expected):
    assert without_paths(text) == expected


def test_an_empty_or_missing_folder_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"Nothing to report in .*Run the study first"):
        report.build(tmp_path)
    with pytest.raises(ValueError, match=r"Expected a run folder\. There is none"):
        report.build(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "04_evaluate.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        report.build(tmp_path)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"metrics": {"accuracy": 0.5}},
        {"metrics": {"auc": {"value": None, "low": None, "high": None}}, "n": 3, "split": "test"},
        {"stability": None, "explanations": [], "faults": [], "classes": {}},
        {"stability": {"summary": {}, "table": [{"artifact": "x", "severity": 1, "auc": None}]}},
        {"stability": [1, 2], "explanations": {"a": 1}, "faults": "none", "metrics": {}, "splits": 3, "recipe": "MR"},
    ],
)
def test_whatever_is_there_is_shown(tmp_path, values):
    one = runs.open(tmp_path)
    one.write_results("04_evaluate", values)
    assert "not measured" in report.build(one).read_text(encoding="utf-8")


def test_stability_from_a_plain_table(tmp_path):
    one = runs.open(tmp_path)
    table = [{"artifact": "clean", "severity": 0, "auc": 0.9}, {"artifact": "blur", "severity": 1, "auc": 0.8},
             {"artifact": "noise", "severity": 1, "auc": 0.86}]  # fmt: skip
    one.write_results("04_evaluate", {"stability": {"summary": {}, "table": table}})
    text = Page(report.build(one).read_text(encoding="utf-8")).text
    assert "AUC −0.070" in text
    assert "worst: blur, −0.100" in text


def test_few_cases_and_chance_are_said(tmp_path):
    one = runs.open(tmp_path)
    one.write_results("04_evaluate", {"n": 12, "split": "test", "metrics": {"auc": entry(0.6, 0.4, 0.8)}})
    text = Page(report.build(one).read_text(encoding="utf-8")).text
    assert "Only 12 cases were judged" in text
    assert "may be guessing" in text


def test_only_run_json(tmp_path):
    facts = {"created": "2026-01-02T03:04:05+00:00", "data": "odd", "train": {"epochs": 3}}
    (tmp_path / "run.json").write_text(json.dumps(facts))
    text = Page(report.build(tmp_path).read_text(encoding="utf-8")).text
    assert "made 2026-01-02 03:04 UTC" in text
    assert "epochs 3" in text


def test_importing_report_loads_nothing_heavy():
    code = "import sys, medlab.report; print([m for m in ('matplotlib', 'pandas', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
