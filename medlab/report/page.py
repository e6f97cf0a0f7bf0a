"""Page: one self-contained HTML page from a run folder, for a reader who has neither Python nor a network.

In: what the notebooks left in ``results/``, ``figures/`` and ``run.json``. Out: ``report.html``: no scripts, nothing
loaded from elsewhere, every text escaped, of every path the last part alone. It measures nothing itself.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medlab import runs
from medlab.report.findings import (
    FLOORS,
    gathered,
    limits,
    name_of,
    rows_of,
    scores_of,
    section_of,
    stability_rows,
    stability_summary,
    structure_rows,
    value_of,
    warnings_of,
)
from medlab.report.markup import PRIVATE, bullets, card, facts_table, table_of, text_of, without_paths

_FLOOR_NAMES = {
    "random": "random (floor)",
    "edges": "edges of the image (floor)",
    "mask": "the true region itself (ceiling)",
}
_CSS = """
body{font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;color:#1b1f24;
background:#fff;max-width:1060px;margin:0 auto;padding:24px}
h1{font-size:26px;margin:0 0 4px}h2{font-size:19px;margin:34px 0 8px;border-bottom:1px solid #d5dae0;padding-bottom:4px}
h3{font-size:15px;margin:18px 0 4px}.muted{color:#57606a}.banner{background:#fff4e5;border-left:4px solid #d55e00;
padding:8px 12px;margin:14px 0}.cards{display:grid;grid-template-columns:repeat(3,1fr);gap:14px;margin:18px 0}
.card{border:1px solid #d5dae0;border-top:4px solid #0072b2;border-radius:6px;padding:12px 14px}
.card h3{margin:0;font-size:14px;color:#57606a}.card .big{font-size:26px;font-weight:600;line-height:1.25}
.card p{margin:2px 0;font-size:13.5px}.stability{border-top-color:#d55e00}.interpretability{border-top-color:#009e73}
table{border-collapse:collapse;margin:8px 0;font-size:14px}th,td{text-align:left;padding:3px 14px 3px 0;
border-bottom:1px solid #e6e9ed;vertical-align:top}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums}td.number{white-space:pre}
.wide{overflow-x:auto}
td{overflow-wrap:anywhere}td:first-child{overflow-wrap:normal}.wide table{font-size:13px}
figure{margin:16px 0;break-inside:avoid}img{max-width:100%;height:auto}
figcaption{font-size:13.5px;color:#57606a}li{margin:2px 0}
@media(max-width:720px){.cards{grid-template-columns:1fr}}
@media print{body{font-size:11pt;max-width:none;padding:0}.card,table,figure{break-inside:avoid}
.card,.banner{-webkit-print-color-adjust:exact;print-color-adjust:exact}h2,h3{break-after:avoid}}
"""


def build(run_folder: str | Path | runs.Run) -> Path:
    """Writes ``report.html`` into a run folder: accuracy, stability and interpretability side by side, and the rest.

    Sections of which the run has nothing are left out; the three headline cards say "not measured".

    Args:
        run_folder: a folder with ``results/*.json`` or ``run.json``; ``figures/`` is shown where it is there.

    Returns:
        The path of the page.

    Raises:
        ValueError: no such folder, nothing in it to report, or a file in it that is not JSON.
    """
    folder = Path(run_folder).expanduser().resolve()
    if not folder.is_dir():
        raise ValueError(f"Expected a run folder. There is none at {folder}; run a notebook or the study first.")
    run = runs.Run(folder)
    results, facts = run.results(), run.facts()
    if not results and not facts:
        raise ValueError(f"Nothing to report in {folder}: no results/*.json and no run.json. Run the study first.")
    page = _page(results, facts, run.figures())
    target = folder / "report.html"
    part = target.with_suffix(".part")
    part.write_text(page, encoding="utf-8")
    part.replace(target)
    return target


def _page(results: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Any], figures: Mapping[Path, str]) -> str:
    found = gathered(results)
    dataset = found.get("dataset") or section_of(facts, "data").get("dataset") or "run"
    title = f"medlab report: {without_paths(str(dataset))}"
    sections = [
        _cards(found),
        bullets("What to keep in mind", warnings_of(found, facts)),
        _metrics(found),
        _stability_table(found.get("stability")),
        _explanation_table(found.get("explanations"), found.get("verdicts")),
        _figures(figures),
        _data(found, facts),
        _made(results, facts),
        bullets("Limits", limits(found)),
    ]
    created = facts.get("created")
    split = found.get("split")
    under = [f"judged on the {split} split" if split else "", f"{found['n']} cases" if found.get("n") else "",
             f"made {str(created)[:16].replace('T', ' ')} UTC" if created else ""]  # fmt: skip
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        f"<title>{text_of(title)}</title><style>{_CSS}</style></head><body><h1>{text_of(title)}</h1>"
        f'<p class="muted">{text_of("; ".join(line for line in under if line))}</p>'
        '<div class="banner">For research and teaching. Not a medical device, not for clinical use.</div>'
        + "".join(sections)
        + "</body></html>\n"
    )


def _cards(found: Mapping[str, Any]) -> str:
    metrics = found.get("metrics") or {}
    accuracy = card("Accuracy", "accuracy", "")
    if metrics:
        first = "auc" if "auc" in metrics else next(iter(metrics))
        others = [
            name
            for name in ("accuracy", "sensitivity", "specificity", "hd95", "nsd")
            if name in metrics and name != first
        ]
        lines = [_range(metrics[first])] + [f"{name_of(name)} {_interval(metrics[name])}" for name in others]
        accuracy = card("Accuracy", "accuracy", f"{name_of(first)} {_number(metrics[first])}", lines)
    stability = card("Stability", "stability", "")
    summary = stability_summary(found.get("stability"))
    if summary:
        metric = name_of(summary.get("metric") or "auc")
        lines = [f"mean change of the {metric} under artifacts"]
        if summary.get("clean") is not None:
            lines.append(f"clean images: {_number(summary['clean'])}")
        if summary.get("worst"):
            lines.append(f"worst: {summary['worst']}, {_signed(summary.get('worst_drop'))} on average")
        if summary.get("mean_flips") is not None:
            lines.append(f"{summary['mean_flips']:.1%} of the calls change")
        stability = card("Stability", "stability", f"{metric} {_signed(summary.get('mean_drop'))}", lines)
    explained = _explanation_card(found.get("explanations"), found.get("verdicts"))
    return f'<div class="cards">{accuracy}{stability}{explained}</div>'


def _explanation_card(rows: Any, verdicts: Any = None) -> str:
    scores = scores_of(rows)
    methods = [name for name in scores if name not in FLOORS]
    if not methods:
        return card("Interpretability", "interpretability", "")
    method = methods[0]
    own = scores[method]
    first = next((name for name in ("pointing_game", "mass_inside", "insertion") if name in own), next(iter(own)))
    lines = [_range(own[first]), f"of {method}"]
    if isinstance(verdicts, Mapping) and verdicts.get(method):
        lines.append(f"all checks together: {verdicts[method]}")
    floors = [f"{name} {_number(scores[name][first])}" for name in ("random", "edges") if first in scores.get(name, {})]
    if floors:
        lines.append("to beat: " + ", ".join(floors))
    if first != "mass_inside" and "mass_inside" in own:
        lines.append(f"heat inside the true region {_interval(own['mass_inside'])}")
    if "randomization" in own:
        lines.append(f"sanity check, likeness to an untrained model: {_interval(own['randomization'])}")
    return card("Interpretability", "interpretability", f"{name_of(first)} {_number(own[first])}", lines)


def _metrics(found: Mapping[str, Any]) -> str:
    metrics = found.get("metrics") or {}
    if not metrics:
        return ""
    level = found.get("confidence")
    head = f"{level:.0%} interval" if isinstance(level, float) else "interval"
    rows = []
    for name, entry in metrics.items():
        entry = entry if isinstance(entry, Mapping) else {"value": entry}
        rows.append([name_of(name), _number(entry.get("value")), _range(entry), entry.get("n", found.get("n", ""))])
    page = "<h2>Accuracy</h2>" + table_of(["Metric", "Value", head, "Cases"], rows, numbers=(1, 2, 3))
    heads, rows = structure_rows(found)
    if not rows:
        return page
    structures = table_of(heads, rows, numbers=range(1, len(heads)))
    return f"{page}<h3>Structures: means with intervals, and cases</h3>{structures}"


def _stability_table(stability: Any) -> str:
    rows = stability_rows(stability)
    if not rows:
        return ""
    severities = sorted({row["severity"] for row in rows})
    names = list(dict.fromkeys(row["artifact"] for row in rows))
    values = {(row["artifact"], row["severity"]): row["value"] for row in rows}
    metric = name_of((stability_summary(stability) or {}).get("metric") or "auc")
    lines = [
        [name, *(_number(values[name, one]) if (name, one) in values else "" for one in severities)] for name in names
    ]
    heads = ["Artifact", *(f"severity {one}" for one in severities)]
    numbers = tuple(range(1, len(heads)))
    return f"<h2>Stability: {text_of(metric)} on worse images</h2>" + table_of(heads, lines, numbers=numbers)


def _explanation_table(rows: Any, verdicts: Any = None) -> str:
    scores = scores_of(rows)
    if not scores:
        return ""
    columns = list(dict.fromkeys(name for entry in scores.values() for name in entry if name != "share"))
    # Scores by row: there are more of them than methods, and a page is not wide: the interval has a line of its own.
    lines = [
        [
            name_of(name),
            *(_interval(entry[name]).replace(" (", "\n(") if name in entry else "" for entry in scores.values()),
        ]
        for name in columns
    ]
    if isinstance(verdicts, Mapping) and verdicts:
        lines.append(["Verdict", *(str(verdicts.get(method, "")) for method in scores)])
    heads = ["Score", *(_FLOOR_NAMES.get(method, method.replace("_", " ")) for method in scores)]
    return "<h2>Interpretability</h2>" + table_of(heads, lines, numbers=range(1, len(heads)))


def _figures(figures: Mapping[Path, str]) -> str:
    parts = []
    for file, caption in figures.items():
        if not file.is_file():
            continue
        data = base64.b64encode(file.read_bytes()).decode()
        text = text_of(caption or file.stem.replace("_", " "))
        parts.append(
            f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'
        )
    return "<h2>Figures</h2>" + "".join(parts) if parts else ""


def _data(found: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    parts = []
    classes = found.get("classes") or section_of(facts, "data").get("classes")
    if classes:
        names = classes if isinstance(classes, Mapping) else dict.fromkeys(classes, "")
        counted = [f"{name} ({count})" if count != "" else str(name) for name, count in names.items()]
        parts.append(f"<p>Classes: {text_of(', '.join(counted))}</p>")
    for title, key in (("Splits", "splits"), ("Standardization", "recipe")):
        if found.get(key):
            parts.append(f"<h3>{title}</h3>{facts_table(found[key])}")
    faults = rows_of(found.get("faults"))
    if faults:
        keys = [key for key in dict.fromkeys(key for row in faults for key in row) if key not in PRIVATE]
        lines = [[row.get(key, "") for key in keys] for row in faults]
        parts.append("<h3>Faults that were found</h3>" + table_of([key.replace("_", " ") for key in keys], lines))
    return "<h2>Data</h2>" + "".join(parts) if parts else ""


def _made(results: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Any]) -> str:
    """Parameters, seed, versions, devices, source, seconds and memory: enough to make the run again."""
    parts = []
    for section, values in facts.items():
        if isinstance(values, Mapping):
            parts.append(f"<h3>{text_of(section.replace('_', ' ').capitalize())}</h3>{facts_table(values)}")
    spent = [
        [name, "" if values.get("seconds") is None else f"{values['seconds']:.1f}",
         "" if values.get("peak_memory_mb") is None else f"{values['peak_memory_mb']:.0f}"]
        for name, values in results.items() if {"seconds", "peak_memory_mb"} & set(values)
    ]  # fmt: skip
    if spent:
        parts.append("<h3>Cost</h3>" + table_of(["Notebook", "Seconds", "Peak memory, MiB"], spent, numbers=(1, 2)))
    trained = next((values for values in results.values() if "history" in values or "learning_rate" in values), None)
    if trained:
        keys = ("model", "parameters", "learning_rate", "precision", "device", "devices", "best_epoch", "seconds")
        parts.append(
            f"<h3>Training</h3>{facts_table({key: trained[key] for key in keys if trained.get(key) is not None})}"
        )
    return "<h2>How it was made</h2>" + "".join(parts) if parts else ""


def _number(value: Any) -> str:
    number = value_of(value)
    return "undefined" if number is None else f"{number:.3f}"


def _signed(drop: Any) -> str:
    """The change that a drop is, with its sign: a drop of 0.04 is -0.040."""
    number = value_of(drop)
    return "undefined" if number is None else f"{-number:+.3f}".replace("-", "\N{MINUS SIGN}")


def _range(entry: Any) -> str:
    low, high = (value_of(entry.get(name)) if isinstance(entry, Mapping) else None for name in ("low", "high"))
    return "" if low is None or high is None else f"({low:.3f} to {high:.3f})"


def _interval(entry: Any) -> str:
    return f"{_number(entry)} {_range(entry)}".strip()
