"""Runs: a run is a folder, with numbers, figures, the model and a record of how it was made.

In: values, figures and facts from any station. Out: files in one folder, and tables over many such folders.
It knows neither models nor images.
"""

from __future__ import annotations

import builtins
import importlib.metadata
import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PACKAGES = (
    "medlab", "keras", "tensorflow", "jax", "numpy", "scipy", "pandas", "scikit-learn", "scikit-image", "nibabel",
    "pydicom", "SimpleITK", "nilearn", "matplotlib", "papermill",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes:
        path: the folder. Inside: ``results/<notebook>.json``, ``cases.csv``, ``model.keras``, ``figures/``,
            ``run.json``, ``report.html``.
    """

    path: Path

    @property
    def model_path(self) -> Path:
        """Where the trained model is or will be."""
        return self.path / "model.keras"

    @property
    def cases_path(self) -> Path:
        """Where the table of cases with their splits is or will be."""
        return self.path / "cases.csv"

    def write_results(self, notebook: str, values: Mapping[str, Any]) -> None:
        """Writes ``results/<notebook>.json``; NumPy numbers, arrays and pandas frames become plain JSON.

        Args:
            notebook: the notebook's name without ending, such as ``"03_train"``.
            values: what it found. NaN becomes null.
        """
        _write_json(self.path / "results" / f"{notebook}.json", {"notebook": notebook, **values})

    def results(self) -> dict[str, dict[str, Any]]:
        """What each notebook wrote, by name, in order of the names."""
        return {file.stem: _read_json(file) for file in sorted((self.path / "results").glob("*.json"))}

    def record(self, section: str, facts: Mapping[str, Any]) -> None:
        """Merges ``facts`` into one section of ``run.json``, which also says when, with what and from which source."""
        target = self.path / "run.json"
        content = self.facts()
        content.setdefault("created", datetime.now(UTC).isoformat(timespec="seconds"))
        content["environment"] = environment()
        content[section] = {**content.get(section, {}), **facts}
        _write_json(target, content)

    def facts(self) -> dict[str, Any]:
        """The content of ``run.json``; empty where there is none yet."""
        target = self.path / "run.json"
        return _read_json(target) if target.is_file() else {}

    def save_figure(self, figure: Figure, name: str, caption: str = "") -> Path:
        """Writes ``figures/<name>.png`` and keeps its caption for the report, in the order of the calls."""
        target = self.path / "figures" / f"{name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(target, dpi=110, bbox_inches="tight", facecolor="white")
        index = target.parent / "captions.json"
        captions = _read_json(index) if index.is_file() else {}
        captions[name] = caption
        _write_json(index, captions)
        return target

    def figures(self) -> dict[Path, str]:
        """The figures with their captions, in the order they were first saved."""
        index = self.path / "figures" / "captions.json"
        captions = _read_json(index) if index.is_file() else {}
        return {self.path / "figures" / f"{name}.png": caption for name, caption in captions.items()}

    def __fspath__(self) -> str:
        return str(self.path)


def open(path: str | Path | Run) -> Run:  # noqa: A001 - runs.open reads like the built-in
    """The run in folder ``path``, which is made if it does not exist.

    Raises:
        ValueError: ``path`` is a file.
    """
    folder = path.path if isinstance(path, Run) else Path(path).expanduser().resolve()
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"Expected a run folder. {folder} is a file; give the path of a folder.")
    folder.mkdir(parents=True, exist_ok=True)
    return Run(folder)


def list(root: str | Path) -> pd.DataFrame:  # noqa: A001
    """One row for each run below ``root``: name, created, dataset, model, seed, and the metrics where it has them."""
    rows = []
    for file in sorted(Path(root).expanduser().rglob("run.json")):
        run = Run(file.parent)
        facts = run.facts()
        row = {"name": file.parent.name, "path": str(file.parent), "created": facts.get("created")}
        for section in ("data", "train"):
            for key in ("dataset", "model", "seed", "seconds"):
                if key in facts.get(section, {}):
                    row[key] = facts[section][key]
        for values in run.results().values():
            row |= {name: entry.get("value") for name, entry in values.get("metrics", {}).items()}
        rows.append(row)
    return pd.DataFrame(rows)


def environment() -> dict[str, Any]:
    """Versions, platform and source revision: what a run needs to be made again. No host or user name."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": versions,
        "revision": _revision(),
        "keras_backend": getattr(getattr(sys.modules.get("keras"), "config", None), "backend", lambda: None)(),
    }


def peak_memory_mb() -> float:
    """The largest memory that this process has held so far, in MiB."""
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / 2**20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def plain(value: Any) -> Any:
    """``value`` as plain JSON types: NumPy and pandas objects turned, NaN and infinity to None.

    Raises:
        TypeError: something that JSON cannot hold; the message names its type.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, builtins.list | tuple | set | frozenset):
        return [plain(entry) for entry in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, pd.DataFrame):
        return [plain(row) for row in value.reset_index(drop=isinstance(value.index, pd.RangeIndex)).to_dict("records")]
    if isinstance(value, pd.Series):
        return plain(value.to_dict())
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"Expected something that JSON can hold. Received {type(value).__name__}: {value!r:.80}.")


def _revision() -> str | None:
    """The git revision of the source that runs, with ``+`` where it was changed; None outside a checkout."""
    here = Path(__file__).resolve().parent
    if not (here.parent / ".git").exists():
        return None
    try:
        ask = {"cwd": here, "capture_output": True, "text": True, "timeout": 5, "check": True}
        revision = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], **ask).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain", "-uno"], **ask).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return revision + ("+" if changed else "")


def _write_json(target: Path, content: Mapping[str, Any]) -> None:
    """Writes whole or not at all: a file half written is never seen."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    part.write_text(json.dumps(plain(content), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(target)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is not JSON ({error}). Delete it or run the notebook again.") from None
