"""State: what a GAN's training leaves in its run folder after each epoch, and how it goes on from there.

``model.keras`` is the generator with the running mean of its weights, ``discriminator.keras`` the other network,
``last.npz`` everything needed to go on. No pickle is written or read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medlab.train import checkpoint

FILES = ("last.npz", "history.csv", "model.keras", "discriminator.keras")


@dataclass
class State:
    """Where a training stands: rows of its history, samples by epoch, the running mean of the generator's weights."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    samples: dict[int, np.ndarray] = field(default_factory=dict)
    mean: list[np.ndarray] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def epoch(self) -> int:
        """Epochs that are done."""
        return len(self.rows)


def save(folder: Path, state: State, variables: list[Any], settings: dict[str, Any]) -> None:
    """Writes ``last.npz`` whole or not at all."""
    note = {"settings": settings, "rows": state.rows, "warnings": state.warnings, "kind": "gan"}
    content = {"note": np.frombuffer(json.dumps(note).encode(), np.uint8)}
    content |= {f"variable_{number}": checkpoint.array(one) for number, one in enumerate(variables)}
    content |= {f"mean_{number}": one for number, one in enumerate(state.mean)}
    content |= {f"samples_{epoch}": one for epoch, one in state.samples.items()}
    part = folder / "last.part"
    with part.open("wb") as stream:
        np.savez(stream, **content)
    part.replace(folder / "last.npz")


def load(folder: Path, variables: list[Any], settings: dict[str, Any]) -> State | None:
    """Puts back what :func:`save` wrote into ``variables``; None where the folder has no state.

    Raises:
        ValueError: a state of other settings (the message names them), or a damaged file.
    """
    found = checkpoint.read(folder)
    if found is None:
        return None
    note, arrays = found
    before, now = note["settings"], json.loads(json.dumps(settings))
    before.pop("max_seconds", None)  # older states have it; a training that ran out of time goes on with more
    other = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    if note.get("kind") != "gan" or other:
        said = "; ".join(f"{name}: {before.get(name)} there, {now.get(name)} now" for name in other)
        raise ValueError(
            f"The training in {folder} had other settings ({said or 'it was no GAN'}). "
            "Resume with the same settings, or train anew with resume=False or another run folder."
        )
    for number, variable in enumerate(variables):
        variable.assign(arrays[f"variable_{number}"])
    mean = [arrays[f"mean_{number}"] for number in range(sum(name.startswith("mean_") for name in arrays))]
    samples = {int(name.split("_")[1]): one for name, one in arrays.items() if name.startswith("samples_")}
    return State(note["rows"], dict(sorted(samples.items())), mean, note["warnings"])


def clear(folder: Path) -> None:
    """Removes what an earlier training left."""
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
