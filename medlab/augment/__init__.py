"""Augment: random training transforms that respect anatomy, and the artifacts that images suffer."""

from typing import Any

from medlab.augment.device import layers
from medlab.augment.mixing import cutmix, mixup
from medlab.augment.rules import Policy, policies, policy

__all__ = ["Policy", "artifacts", "cutmix", "layers", "mixup", "policies", "policy"]


def __getattr__(name: str) -> Any:
    if name == "artifacts":
        import importlib

        return importlib.import_module("medlab.augment.artifacts")
    raise AttributeError(f"medlab.augment has no {name!r}. It has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return sorted(__all__)
