"""Command line: ``medlab run | notebooks | data | report | doctor``.

In: words. Out: what the functions behind them give, as text. Exit status 0 when it did what was asked, 1 when the
work failed, 2 for unusable arguments; an error is one line on standard error, with the traceback under ``--debug``.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from medlab import __version__

HEADLINES = ("auc", "accuracy", "sensitivity", "specificity", "dice", "hd95", "nsd")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status.

    Args:
        arguments: the words after ``medlab``; by default those of the process.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    parser = _parser()
    options = parser.parse_args(arguments)
    if not hasattr(options, "work"):
        parser.print_help()
        return 2
    try:
        return options.work(options) or 0
    except KeyboardInterrupt:
        return _fail("stopped by the keyboard; what was done so far is kept", options, 1)
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except (ValueError, KeyError) as error:
        return _fail(error.args[0] if isinstance(error, KeyError) else error, options, 2)
    except Exception as error:
        name = "" if type(error).__name__ == "NotebookError" else f"{type(error).__name__}: "
        return _fail(f"{name}{error}", options, 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="medlab", description="Interactive analysis of medical images in Jupyter.")
    parser.add_argument("--version", action="version", version=f"medlab {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    run = _command(commands, "run", _run, "run a notebook, or the whole study, headless")
    run.add_argument("notebook", help="'study', a notebook's name such as 03_train, or its path")
    run.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    run.add_argument("-o", "--out", type=Path, help="run folder (default: runs/<name>-<time>)")
    run.add_argument("-q", "--quiet", action="store_true", help="no progress")
    run.add_argument("--timeout", type=float, help="seconds that one cell may take")

    notebooks = _command(commands, "notebooks", _notebooks, "list medlab's notebooks, or copy them")
    notebooks.add_argument("action", nargs="?", choices=["list", "copy"], default="list")
    notebooks.add_argument("folder", nargs="?", type=Path)

    data = _command(commands, "data", _data, "list the data sets, or fetch one")
    data.add_argument("action", nargs="?", choices=["list", "get"], default="list")
    data.add_argument("name", nargs="?")
    data.add_argument("--size", type=int, help="pixels along one side, where a set has several sizes")

    report = _command(commands, "report", _report, "build the report of a run folder")
    report.add_argument("folder", type=Path)

    _command(commands, "doctor", _doctor, "show devices, versions, data folder, and what is missing")
    return parser


def _command(commands: Any, name: str, work: Callable[..., int | None], text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(work=work)
    return parser


def _fail(error: Any, options: argparse.Namespace, status: int) -> int:
    if options.debug:
        traceback.print_exc()
        detail = getattr(error, "traceback", "") or getattr(sys.exception(), "traceback", "")
        if isinstance(detail, str) and detail:
            print(detail, file=sys.stderr)
    print("medlab: " + " ".join(str(error).split()), file=sys.stderr)
    return status


def _run(options: argparse.Namespace) -> int:
    from medlab import notebook

    is_study = options.notebook == "study"
    paths = [notebook.folder() / f"{name}.ipynb" for name in notebook.STUDY] if is_study else [_find(options.notebook)]
    known = {}
    for path in paths:
        known |= notebook.read_parameters(path)
    values = {}
    for name, text in options.parameter:
        if name in values:
            raise ValueError(f"The parameter {name!r} is given twice.")
        values[name] = known[name].parse(text) if name in known else text
    stem = "study" if is_study else paths[0].stem
    out = options.out or Path("runs") / f"{stem}-{datetime.now():%Y%m%d-%H%M%S}"
    settings = {"progress": not options.quiet, "timeout": options.timeout}
    if not is_study:
        found = notebook.run(paths[0], out, values, **settings)
        _print_metrics(found)
        print(f"\nnotebook: {_short(out / paths[0].name)}")
        return 0
    found = notebook.study(out, values, **settings)
    _print_metrics(found["04_evaluate"])
    _print_explanations(found["05_explain"])
    print(f"\nreport: {_short(out / 'report.html')}")
    return 0


def _find(name: str) -> Path:
    from medlab import notebook

    path = Path(name)
    if path.suffix != ".ipynb" and not path.exists():
        path = notebook.folder() / f"{name}.ipynb"
        if not path.is_file():
            names = ", ".join(sorted(one.stem for one in notebook.folder().glob("*.ipynb")))
            raise ValueError(f"There is no notebook {name!r}. There are study, {names}; or give the path of a file.")
    elif not path.is_file() and (notebook.folder() / path.name).is_file() and path.parent.name == "notebooks":
        path = notebook.folder() / path.name
    return path


def _print_metrics(results: dict[str, Any]) -> None:
    metrics = results.get("metrics")
    if not metrics:
        return
    level = round(100 * results.get("confidence", 0.95))
    print(f"\n{results.get('dataset', '')}, {results.get('split', 'test')} split, {results.get('n', '?')} cases")
    print(f"{'':14}{'value':>7}   {level} % interval")
    for name in HEADLINES:
        if name in metrics:
            entry = metrics[name]
            value, low, high = (_number(entry.get(key)) for key in ("value", "low", "high"))
            shown = {"auc": "AUC", "dice": "Dice", "hd95": "HD95 (mm)", "nsd": "surface Dice"}.get(name, name)
            print(f"{shown:14}{value:>7}   {low} to {high}")


def _print_explanations(results: dict[str, Any]) -> None:
    pointing = results.get("pointing_game")
    if pointing:
        value, low, high = (_number(pointing.get(key)) for key in ("value", "low", "high"))
        print(f"{'pointing game':14}{value:>7}   {low} to {high}   (LayerCAM's maximum lies in the true mask)")


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _short(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path.resolve())


def _notebooks(options: argparse.Namespace) -> None:
    from medlab import notebook

    if options.action == "copy":
        if options.folder is None:
            raise ValueError("Where to? Call 'medlab notebooks copy FOLDER'.")
        for path in notebook.copy(options.folder):
            print(path)
        return
    for path in sorted(notebook.folder().glob("*.ipynb")):
        print(f"{path.stem}: {notebook.title(path)}")
        for parameter in notebook.read_parameters(path).values():
            print(f"    {parameter.name} = {parameter.default!r}  {parameter.description}")


def _data(options: argparse.Namespace) -> None:
    from medlab import load

    if options.action == "get":
        if options.name is None:
            raise ValueError("Which one? Call 'medlab data get NAME'; 'medlab data list' shows the names.")
        cases = load.dataset(options.name, **({"size": options.size} if options.size else {}))
        print(f"{options.name}: {len(cases)} cases, classes {', '.join(cases.classes)}")
        return
    print(load.datasets().to_string(index=False))


def _report(options: argparse.Namespace) -> None:
    from medlab import report

    print(_short(report.build(options.folder)))


def _doctor(options: argparse.Namespace) -> int:
    from medlab import doctor

    findings = doctor.examine()
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        print(
            f"{'ok  ' if finding.good else 'MISS' if finding.needed else 'note'} {finding.what:{width}}  {finding.text}"
        )
    return 0 if all(finding.good or not finding.needed for finding in findings) else 1


if __name__ == "__main__":
    sys.exit(main())
