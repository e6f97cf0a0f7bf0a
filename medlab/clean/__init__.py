"""Clean: what is wrong with images and data sets, what can be mended, and splits that leak no patient."""

from typing import Any

from medlab.clean.repairs import repair
from medlab.clean.splits import split

__all__ = ["faults", "repair", "split"]


def __getattr__(name: str) -> Any:
    if name == "faults":
        from medlab.clean.checks import faults

        return faults
    raise AttributeError(f"medlab.clean has no {name!r}. It has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return sorted(__all__)
