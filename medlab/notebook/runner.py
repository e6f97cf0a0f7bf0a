"""Notebook runner: a parameterized notebook as a batch job, strictly.

In: a notebook with one cell tagged ``parameters`` and values for it. Out: the executed notebook in a run folder and
what it wrote to its results. The same file stays an interactive lesson; nothing of its cells lives here.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medlab import runs
from medlab.notebook.parameters import read_parameters, refuse_unknown, title

STUDY = ("01_explore", "02_preprocess", "03_train", "04_evaluate", "05_explain")
"""The notebooks of one study, in order; they share one run folder."""


class NotebookError(RuntimeError):
    """A notebook failed while it ran; ``path`` is where it lies as far as it got."""

    def __init__(self, message: str, path: Path | None = None, traceback: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.traceback = traceback


def folder() -> Path:
    """Where medlab's notebooks lie: beside the package in a checkout, inside it when installed."""
    here = Path(__file__).resolve().parent.parent
    for place in (here.parent / "notebooks", here / "_notebooks"):
        if (place / f"{STUDY[0]}.ipynb").is_file():
            return place
    raise ValueError(f"medlab's notebooks are missing below {here}. Install medlab again.")


def run(
    path: str | Path,
    out: str | Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    progress: bool = True,
    timeout: float | None = None,
) -> dict[str, Any]:
    """Executes a notebook headless and returns what it wrote to its results.

    Args:
        path: the notebook.
        out: the run folder. The executed notebook lies there under its own name, also when it failed; a parameter
            ``run`` of the notebook is set to this folder unless it is given.
        parameters: values by name, JSON types only.
        progress: whether to show a bar over the cells and what they print, on standard error.
        timeout: seconds that one cell may take; None sets no limit.

    Returns:
        The content of ``<out>/results.json``; empty if the notebook wrote no results.

    Raises:
        ValueError: a parameter that the notebook does not have or of a wrong type, a missing tag, a missing file.
        NotebookError: a cell failed or the kernel died.
    """
    source = Path(path)
    ready = _ready(source, parameters or {}, Path(out))
    target = runs.open(out)
    return _execute(source, target, ready, progress=progress, timeout=timeout, single=True)


def study(
    out: str | Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    progress: bool = True,
    timeout: float | None = None,
) -> dict[str, dict[str, Any]]:
    """Executes the notebooks of a study in order over one run folder, then builds its report.

    Args:
        out: the run folder.
        parameters: values by name; each notebook gets those that it has.
        progress: as in :func:`run`.
        timeout: as in :func:`run`.

    Returns:
        The results by notebook name.

    Raises:
        ValueError: a parameter that no notebook of the study has, or of a wrong type.
        NotebookError: a notebook failed; those before it keep their results.
    """
    from medlab import report

    given = dict(parameters or {})
    known = {name: read_parameters(folder() / f"{name}.ipynb") for name in STUDY}
    refuse_unknown(given, {name for one in known.values() for name in one}, "the notebooks of the study")
    # All values are checked before the first notebook starts: a mistake costs no minutes and leaves no folder.
    shares = {}
    for name in STUDY:
        share = {key: value for key, value in given.items() if key in known[name]}
        shares[name] = _ready(folder() / f"{name}.ipynb", share, Path(out))
    target = runs.open(out)
    found = {}
    for number, name in enumerate(STUDY, 1):
        start = time.perf_counter()
        _say(f"[{number}/{len(STUDY)}] {name}: {title(folder() / f'{name}.ipynb')}", progress)
        source = folder() / f"{name}.ipynb"
        found[name] = _execute(source, target, shares[name], progress=progress, timeout=timeout, single=False)
        _say(f"[{number}/{len(STUDY)}] {name}: done in {time.perf_counter() - start:.0f} s", progress)
    report.build(target.path)
    return found


def copy(to: str | Path) -> list[Path]:
    """Copies medlab's notebooks into a folder to work on; a file that is already there is never overwritten.

    Raises:
        ValueError: one of them is already there; nothing has been copied then.
    """
    target = Path(to).expanduser()
    if target.exists() and not target.is_dir():
        raise ValueError(f"Expected a folder to copy the notebooks to. {target} is a file.")
    sources = sorted(folder().glob("*.ipynb"))
    taken = [source.name for source in sources if (target / source.name).exists()]
    if taken:
        raise ValueError(f"{target} already has {', '.join(taken)}. Give another folder, or move them away.")
    target.mkdir(parents=True, exist_ok=True)
    return [Path(shutil.copy(source, target / source.name)) for source in sources]


def _execute(
    source: Path, target: runs.Run, values: dict[str, Any], *, progress: bool, timeout: float | None, single: bool
) -> dict[str, Any]:
    """Runs one notebook whose values are checked."""
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    place = target.path / source.name
    if place.resolve() == source.resolve():
        raise ValueError(f"The executed notebook would overwrite {source}. Give another folder with out.")
    results = target.path / "results" / f"{source.stem}.json"
    before = results.stat().st_mtime_ns if results.is_file() else None
    stream = _Above() if progress else None
    options: dict[str, Any] = {
        "progress_bar": {"file": sys.stderr, "desc": source.stem, "leave": False, "mininterval": 1}
        if progress
        else False,
        "stdout_file": stream,
        "stderr_file": stream,
        "store_widget_state": False,
        "execution_timeout": None if timeout is None else max(1, math.ceil(timeout)),
        "kernel_name": "python3",
        # A kernel of this machine alone: no word about encryption on the way.
        "extra_arguments": ["--IPKernelApp.log_level=CRITICAL"],
    }
    try:
        with _headless():
            # Braces in a path are formatted by papermill; doubled ones come out single.
            paths = [str(one).replace("{", "{{").replace("}", "}}") for one in (source, place)]
            papermill.execute_notebook(*paths, values, **options)
    except papermill.PapermillExecutionError as error:
        detail = _plain_text("\n".join(error.traceback))
        message = f"{source.name}, cell {error.exec_count}: {error.ename}: {_plain_text(str(error.evalue))}"
        raise NotebookError(message, place, detail) from None
    except DeadKernelError:
        message = f"{source.name}: its kernel died, most often for lack of memory. As far as it ran: {place}"
        raise NotebookError(message, place) from None
    except CellTimeoutError:
        raise NotebookError(f"{source.name}: a cell took longer than {timeout} s. See {place}", place) from None
    finally:
        _forget_paths(place)
    # Results of an earlier run stay until there are new ones, but they are not this run's.
    new = results.is_file() and results.stat().st_mtime_ns != before
    found = json.loads(results.read_text(encoding="utf-8")) if new else {}
    if single and found:
        shutil.copy(results, target.path / "results.json")
    return found


def _ready(source: Path, given: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """The values for one notebook, all checked, with its run folder."""
    known = read_parameters(source)
    refuse_unknown(given, set(known), source.name)
    values = {name: known[name].check(value) for name, value in given.items()}
    if "run" in known:
        values.setdefault("run", str(out.expanduser().resolve()))
    return values


def _plain_text(text: str) -> str:
    """``text`` without the color codes of a terminal."""
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)


def _forget_paths(place: Path) -> None:
    """Takes the absolute paths that papermill notes out of an executed notebook: a folder may name a person."""
    if not place.is_file():
        return
    content = json.loads(place.read_text(encoding="utf-8"))
    note = content.get("metadata", {}).get("papermill", {})
    for key in ("input_path", "output_path"):
        if note.get(key):
            note[key] = Path(note[key]).name
    for cell in content["cells"]:
        for output in cell.get("outputs", []):
            if output["output_type"] == "error":
                output["evalue"] = _without_paths(output["evalue"])
                output["traceback"] = [_without_paths(_plain_text(line)) for line in output["traceback"]]
    place.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _without_paths(text: str) -> str:
    """``text`` with paths to files of the user replaced by ``<path>``; those of installed programs stay."""
    ours = (sys.prefix, sys.base_prefix, str(Path(__file__).resolve().parent.parent), "/tmp/ipykernel")

    def replaced(match: re.Match) -> str:
        return match[0] if match[0].startswith(ours) else "<path>"

    # A path ends with a known ending, since folders and files may have spaces in their names, or with the word.
    endings = r"png|jpe?g|tiff?|dcm|nii(?:\.gz)?|nrrd|nhdr|mh[ad]|csv|npz"
    known = rf"(?:[A-Za-z]:)?(?:[/\\][^/\\\n'\":]+?)+?\.(?:{endings})\b"
    word = r"(?:[A-Za-z]:[/\\]|/)[^\s'\":,;)]+"
    path = rf"(?<![\w.])(?:{known}|{word})"
    return re.sub(path, replaced, text)


def _say(line: str, progress: bool) -> None:
    if progress:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


@contextlib.contextmanager
def _headless() -> Iterator[None]:
    """The environment of a kernel without a person before it, and papermill without its log lines."""
    marks = {
        "MEDLAB_HEADLESS": "1",
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    before = {name: os.environ.get(name) for name in marks}
    logger = logging.getLogger("papermill")
    level = logger.level
    os.environ.update(marks)
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class _Above:
    """A stream that writes whole lines above the progress bar, and leaves the bars of the kernel itself out."""

    def __init__(self) -> None:
        self.rest = ""

    def write(self, text: str) -> None:
        """Keeps what comes after the last line end for the next call."""
        *lines, self.rest = (self.rest + text).split("\n")
        # A carriage return draws over what stood there: only what is left at the line's end counts.
        kept = [line.rsplit("\r", 1)[-1] for line in lines]
        kept = [line for line, whole in zip(kept, lines, strict=True) if line.strip() or "\r" not in whole]
        if kept:
            from tqdm import tqdm

            tqdm.write("\n".join(kept), file=sys.stderr)

    def flush(self) -> None:
        """Shows what was written so far."""
        sys.stderr.flush()
