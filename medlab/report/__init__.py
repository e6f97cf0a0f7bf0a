"""Report: a run folder as one self-contained HTML page."""

from __future__ import annotations

from typing import Any

__all__ = ["build"]


def __getattr__(name: str) -> Any:
    if name == "build":
        from medlab.report.page import build

        return build
    raise AttributeError(f"medlab.report has no {name!r}. It has build.")


def __dir__() -> list[str]:
    return list(__all__)
