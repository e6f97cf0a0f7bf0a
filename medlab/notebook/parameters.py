"""The parameters of a notebook: what its tagged cell offers, and whether given values fit.

In: a notebook file. Out: names, defaults, types and descriptions. It runs nothing; the cell is read as text.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import json
import re
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

_KINDS = {"bool": bool, "int": int, "float": float, "str": str, "list": list, "dict": dict, "None": type(None)}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a notebook: its default, the types it takes (names of JSON types) and what it is."""

    name: str
    default: Any
    types: tuple[str, ...]
    description: str

    def check(self, value: Any) -> Any:
        """``value`` if it has one of the parameter's types; a whole number also serves as a float.

        Raises:
            ValueError: it is not a JSON value, or of another type.
        """
        if not _is_json(value):
            raise ValueError(
                f"Expected a JSON value (number, text, true, false, null, list, dict) for {self.name!r}. "
                f"Received {type(value).__name__}; convert it first, a path with str(), a NumPy number with .item()."
            )
        kind = type(value).__name__ if value is not None else "None"
        if "any" in self.types or kind in self.types:
            return value
        if kind == "int" and "float" in self.types:
            return float(value)
        raise ValueError(f"Expected {' or '.join(self.types)} for {self.name!r}. Received {kind}: {value!r}.")

    def parse(self, text: str) -> Any:
        """The value that ``text`` from a command line stands for.

        Raises:
            ValueError: the text fits none of the parameter's types.
        """
        if self.types == ("str",):
            return text
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = {"None": None, "True": True, "False": False}.get(text, text)
        if not isinstance(value, str) and "str" in self.types:
            with contextlib.suppress(ValueError):
                return self.check(value)
            return text
        return self.check(value)


def read_parameters(path: str | Path) -> dict[str, Parameter]:
    """The parameters of a notebook in the order of its cell tagged ``parameters``.

    Args:
        path: a notebook file.

    Raises:
        ValueError: no such file, not a notebook, no tagged cell, or a default that is not a JSON value.
    """
    source = _tagged_source(Path(path))
    comments = _comments(source)
    found = {}
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target, annotation = statement.targets[0], None
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            target, annotation = statement.target, statement.annotation
        else:
            raise ValueError(
                f"Expected only lines 'name = value' in the parameters cell of {Path(path).name}. "
                f"Received {ast.unparse(statement)!r}."
            )
        try:
            default = ast.literal_eval(statement.value)
        except ValueError:
            default = ...
        if not isinstance(target, ast.Name) or not _is_json(default):
            raise ValueError(
                f"Expected 'name = value' with a JSON value in the parameters cell of {Path(path).name}. "
                f"Received {ast.unparse(statement)!r}."
            )
        types, comment = _types(default, annotation), comments.get(statement.lineno, "")
        found[target.id] = Parameter(target.id, default, types, comment)
    return found


def title(path: str | Path) -> str:
    """The notebook's first heading, or its file name."""
    for cell in _read(Path(path))["cells"]:
        heading = re.search(r"^#\s+(.+)$", "".join(cell["source"]), re.MULTILINE)
        if cell["cell_type"] == "markdown" and heading:
            return heading.group(1).strip()
    return Path(path).stem


def refuse_unknown(given: Mapping[str, Any], known: set[str], where: str) -> None:
    """Raises a ValueError that names the closest parameter, if one of ``given`` is not among ``known``."""
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"There is no parameter {name!r} in {where}.{hint} It has: {', '.join(sorted(known))}.")


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"No such notebook: {path}. 'medlab notebooks' lists those of medlab.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content["cells"]
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError):
        raise ValueError(f"Expected a Jupyter notebook. {path} is not one.") from None
    return content


def _tagged_source(path: Path) -> str:
    code = [cell for cell in _read(path)["cells"] if cell["cell_type"] == "code"]
    tagged = [cell for cell in code if "parameters" in cell.get("metadata", {}).get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(
            f"Expected one cell tagged 'parameters' in {path.name}. Found {len(tagged)}; "
            "set the tag in JupyterLab under Property Inspector > Cell Tags."
        )
    source = "".join(tagged[0]["source"])
    try:
        ast.parse(source)
    except SyntaxError as error:
        raise ValueError(
            f"The parameters cell of {path.name} is not Python: {error.msg}, line {error.lineno}."
        ) from None
    return source


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(StringIO(source).readline)
    return {token.start[0]: token.string.lstrip("# ").strip() for token in tokens if token.type == tokenize.COMMENT}


def _types(default: Any, annotation: ast.expr | None) -> tuple[str, ...]:
    if annotation is not None:
        names = [name.strip().split("[")[0] for name in ast.unparse(annotation).split("|")]
        return tuple(names) if set(names) <= set(_KINDS) else ("any",)
    return ("any",) if default is None else (type(default).__name__,)


def _is_json(value: Any) -> bool:
    if type(value) in (bool, int, float, str, type(None)):
        return True
    if type(value) is list:
        return all(map(_is_json, value))
    return type(value) is dict and all(type(key) is str and _is_json(entry) for key, entry in value.items())
