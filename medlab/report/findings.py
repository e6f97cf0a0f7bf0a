"""Findings: what the results of a run say, in one form, whatever form they were stored in.

In: the content of ``results/*.json`` and ``run.json``. Out: plain dicts, and sentences of warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FLOORS = ("random", "edges", "mask")
_FEW = 100

_NAMES = {
    "auc": "AUC", "accuracy": "Accuracy", "balanced_accuracy": "Balanced accuracy", "sensitivity": "Sensitivity",
    "specificity": "Specificity", "ppv": "Positive predictive value", "npv": "Negative predictive value",
    "f1": "F1 score", "mcc": "Matthews correlation", "brier": "Brier score (0 is best)",
    "ece": "Calibration error (0 is best)", "average_precision": "Average precision",
    "dice": "Dice", "hd95": "Hausdorff distance, 95th percentile (mm)", "hd": "Hausdorff distance (mm)",
    "assd": "Average surface distance (mm)", "nsd": "Surface Dice within tolerance",
    "volume_error": "Size error", "volume_error_percent": "Size error (%)",
    "pointing_game": "Pointing game", "mass_inside": "Heat inside the true region", "iou": "Overlap (IoU)",
    "pixel_auprc": "Pixel AUPRC",
    "deletion": "Deletion (low is good)", "insertion": "Insertion (high is good)",
    "randomization": "Likeness to an untrained model (0 is good)",
}  # fmt: skip


def gathered(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the notebooks found, by what it is; the notebook that judged a model says data set, split and n."""
    found: dict[str, Any] = {}
    judged = [values for values in results.values() if values.get("metrics")]
    for values in [*judged[-1:], *results.values()]:
        for key, value in values.items():
            if value is not None and value != [] and value != {}:
                found.setdefault(key, value)
    if not judged:
        found.pop("n", None)
    return found


def warnings_of(found: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """What a careful reader would ask about, in plain sentences."""
    lines = []
    n, metrics = found.get("n"), found.get("metrics") or {}
    if metrics and isinstance(n, int) and n < _FEW:
        lines.append(f"Only {n} cases were judged: read the intervals, not the values.")
    auc = metrics.get("auc")
    low = value_of(auc.get("low")) if isinstance(auc, Mapping) else None
    if low is not None and low <= 0.5:
        lines.append("The AUC's interval reaches 0.5: the model may be guessing.")
    for fault in rows_of(found.get("faults")):
        what, where = fault.get("fault", "fault"), fault.get("where", "")
        if fault.get("severity") == "error" or what == "leak":
            lines.append(f"Found in the data: {what}" + (f" ({where})" if where else ""))
    scores = scores_of(found.get("explanations"))
    for method in (name for name in scores if name not in FLOORS):
        for rule in ("pointing_game", "mass_inside"):
            others = [value_of(scores.get(name, {}).get(rule)) for name in ("random", "edges")]
            floor = max((value for value in others if value is not None), default=None)
            own = value_of(scores[method].get(rule))
            if own is not None and floor is not None and own <= floor:
                lines.append(f"{method} is no better than noise or plain image edges at: {name_of(rule).lower()}.")
        alike = scores[method].get("randomization")
        least = value_of(alike.get("low", alike)) if isinstance(alike, Mapping) else value_of(alike)
        if least is not None and least > 0.5:
            lines.append(
                f"{method} looks much the same for an untrained model ({value_of(alike):.2f}): it shows little of this "
                "one."
            )
    for values in (found, found.get("stability") or {}):
        if isinstance(values, Mapping):
            lines += [str(note) for note in values.get("notes") or []]
    if str(section_of(facts, "environment").get("revision") or "").endswith("+"):
        lines.append("The program's source had changes that no revision holds.")
    return list(dict.fromkeys(lines))


def limits(found: Mapping[str, Any]) -> list[str]:
    """What the results do not say, in plain sentences."""
    lines = ["Not for clinical use: nothing here was tested for diagnosis or treatment."]
    dataset = str(found.get("dataset", ""))
    if dataset.startswith("phantom:"):
        lines.append("The images are simulated: results say how the method works, not how it would do on patients.")
    lines.append("The intervals cover the choice of cases, not a change of scanner, hospital or population.")
    if found.get("explanations"):
        lines.append("A heat map says where a model looked, not why, and not that it was right to look there.")
    return lines


def scores_of(rows: Any) -> dict[str, dict[str, Any]]:
    """Scores by method, from rows of method, score, value, low, high, or from one row a method."""
    scores: dict[str, dict[str, Any]] = {}
    for row in rows_of(rows):
        method = str(row.get("method", "explanation"))
        if "score" in row:
            scores.setdefault(method, {})[str(row["score"])] = row
        else:
            entries = {key: value for key, value in row.items() if key != "method" and value_of(value) is not None}
            scores.setdefault(method, {}).update(entries)
    return scores


def structure_rows(found: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """For each structure of a segmentation its scores and in how many cases it was found, missed, ...: heads, rows."""
    counts = found.get("failures")
    if not isinstance(counts, Mapping) or not counts:
        return [], []
    unit = found.get("unit") or "ml"
    columns = {"dice": "Dice", "hd95": "HD95 (mm)", "nsd": "Surface Dice"}
    columns["volume_error"] = f"{'Volume' if unit == 'ml' else 'Area'} error ({unit})"
    states = list(dict.fromkeys(state for row in counts.values() for state in row))
    rows = []
    for name, row in counts.items():
        scores = (found.get("per_class") or {}).get(name) or {}
        cells = []
        for metric in columns:
            value, low, high = (value_of((scores.get(metric) or {}).get(key)) for key in ("value", "low", "high"))
            limits = "" if low is None or high is None else f" ({low:.3g} to {high:.3g})"
            cells.append("undefined" if value is None else f"{value:.3g}{limits}")
        rows.append([str(name), *cells, *(str(row.get(state, 0)) for state in states)])
    return ["Structure", *columns.values(), *(state.capitalize() for state in states)], rows


def stability_rows(stability: Any) -> list[dict[str, Any]]:
    """Rows of artifact, severity, value from the forms in which a Stability is stored."""
    if not isinstance(stability, Mapping):
        return []
    if isinstance(stability.get("artifacts"), Mapping):
        return [{**row, "artifact": name} for name, rows in stability["artifacts"].items() for row in rows]
    metric = str((stability.get("summary") or {}).get("metric") or "auc")
    rows = [{**row, "value": row.get("value", row.get(metric))} for row in rows_of(stability.get("table"))]
    return [row for row in rows if "artifact" in row and "severity" in row]


def stability_summary(stability: Any) -> dict[str, Any]:
    """The summary as it was stored, completed from the table."""
    if not isinstance(stability, Mapping):
        return {}
    summary = dict(stability.get("summary") or {key: value for key, value in stability.items() if key != "artifacts"})
    rows = [row for row in stability_rows(stability) if row["value"] is not None]
    harmed = [row for row in rows if row["severity"] > 0]
    clean = next((row["value"] for row in rows if row["severity"] == 0), summary.get("clean"))
    if summary.get("mean_drop") is None and harmed and clean is not None:
        drops: dict[str, list[float]] = {}
        for row in harmed:
            drops.setdefault(row["artifact"], []).append(clean - row["value"])
        means = {name: sum(values) / len(values) for name, values in drops.items()}
        worst = max(means, key=means.__getitem__)
        summary |= {
            "clean": clean,
            "mean_drop": sum(means.values()) / len(means),
            "worst": worst,
            "worst_drop": means[worst],
        }
    return summary if summary.get("mean_drop") is not None else {}


def rows_of(values: Any) -> list[dict[str, Any]]:
    """The rows of a table stored as a list of dicts; empty for anything else."""
    return [row for row in values if isinstance(row, Mapping)] if isinstance(values, list) else []


def value_of(entry: Any) -> float | None:
    """The number of an entry ``{"value": ...}``, or the number itself; None where there is none."""
    value = entry.get("value") if isinstance(entry, Mapping) else entry
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def name_of(metric: str) -> str:
    """The metric's name for readers."""
    return _NAMES.get(metric, str(metric).replace("_", " ").capitalize())


def section_of(facts: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """One section of ``run.json``, empty where there is none."""
    section = facts.get(name)
    return section if isinstance(section, Mapping) else {}
