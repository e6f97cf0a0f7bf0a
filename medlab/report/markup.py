"""Markup: tables, lists and cards as HTML, every text escaped and without folders' names.

In: plain values. Out: pieces of a page. It does not know what they mean.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# What never stands in a report: where files lie, and what belongs to single cases.
PRIVATE = {"image", "images", "mask", "masks", "id", "ids", "patient", "path", "paths", "notebook", "key"}
_ABSOLUTE = re.compile(
    r"(?:file:/{2,3}|(?<![\w.:<)/\\])(?:~|\.{1,2}|[A-Za-z]:)?[\\/])(?=[^\s\\/])(?:[^\n\"'<>|]*[\\/])?"
)
_RELATIVE = re.compile(r"^[^\n]*[\\/][^\n]*\.[A-Za-z]\w{0,6}$|^\S*[\\/]\S*[\\/]\S*$")


def text_of(value: Any) -> str:
    """Escaped text without folders' names."""
    return html.escape(without_paths(str(value)), quote=True)


def without_paths(text: str) -> str:
    """``text`` with every path shortened to its last part: folders may be named after people.

    A text from a path's start to the line's last separator is taken for one path, since names of folders hold spaces.
    """
    short = _ABSOLUTE.sub("", text)
    if short == text and _RELATIVE.match(text) and "://" not in text:
        return re.split(r"[\\/]", text.rstrip("\\/"))[-1]
    return short


def card(title: str, kind: str, big: str, lines: Sequence[str] = ()) -> str:
    """A box with a title, one large value ("not measured" where it is empty) and lines below."""
    body = "".join(f"<p>{text_of(line)}</p>" for line in lines if line)
    return (
        f'<div class="card {kind}"><h3>{title}</h3><div class="big">{text_of(big or "not measured")}</div>{body}</div>'
    )


def bullets(title: str, lines: Sequence[str]) -> str:
    """A titled list; nothing where there are no lines."""
    items = "".join(f"<li>{text_of(line)}</li>" for line in lines)
    return f"<h2>{title}</h2><ul>{items}</ul>" if lines else ""


def table_of(
    heads: Sequence[str], rows: Iterable[Sequence[Any]], *, numbers: Sequence[int] = (), head: bool = True
) -> str:
    """A table; the columns in ``numbers`` are set flush right."""

    def cell(tag: str, place: int, value: Any) -> str:
        return f"<{tag}{' class=number' if place in numbers else ''}>{text_of(_brief(value))}</{tag}>"

    top = "".join(cell("th", place, text) for place, text in enumerate(heads))
    body = "".join("<tr>" + "".join(cell("td", i, value) for i, value in enumerate(row)) + "</tr>" for row in rows)
    top = f"<thead><tr>{top}</tr></thead>" if head else ""
    return f'<div class="wide"><table>{top}<tbody>{body}</tbody></table></div>'


def facts_table(values: Any) -> str:
    """A table of names and values; what is nested is named with dots."""
    return table_of(["", ""], [[name, value] for name, value in _flat(values)], head=False)


def _flat(values: Any, before: str = "") -> Iterable[tuple[str, str]]:
    if not isinstance(values, Mapping):
        yield before or "value", _brief(values)
        return
    for key, value in values.items():
        if key in PRIVATE:
            continue
        name = f"{before}.{key}" if before else str(key)
        if isinstance(value, Mapping) and len(value) > 6 and all(isinstance(one, str) for one in value.values()):
            yield name.replace("_", " "), ", ".join(f"{one} {_brief(text)}" for one, text in value.items())
        elif isinstance(value, Mapping) and value:
            yield from _flat(value, name)
        elif value is not None:
            yield name.replace("_", " "), _brief(value)


def _brief(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        text = ", ".join(_brief(one) for one in value[:20])
        return text + (f", ... ({len(value)} in all)" if len(value) > 20 else "")
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_brief(one)}" for key, one in value.items() if key not in PRIVATE)
    return without_paths(str(value))
