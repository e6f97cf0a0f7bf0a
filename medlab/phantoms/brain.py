"""Brain tumor phantom: real anatomy, MR physics, and a tumor whose place is exactly known.

In: the number of a case and how hard it shall be. Out: an image, its mask and the parameters it was made with. The
same numbers always give the same case.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medlab.phantoms import anatomy, mixture, physics, plan
from medlab.volume import Volume

SIZES = {2: (128, 16, 512), 3: (64, 16, 160)}
"""Voxels along a side for each rank: default, least, most."""

FIELD_OF_VIEW = 240.0  # mm, along each side
SLICE_MM = 5.0  # the slices' distance in a clinical protocol; what is drawn is the plane in its middle
MIDDLE = np.array([0.0, -16.0, -4.0])  # mm in RAS


def brain_tumor(
    index: int,
    *,
    rank: int = 2,
    size: int | None = None,
    sequence: str = "flair",
    difficulty: float = 1.0,
    seed: int = 0,
) -> tuple[Volume, Volume, dict[str, Any]]:
    """Image, mask and parameters of one case.

    Args:
        index: 0 or above.
        rank: 2 for an axial slice as radiologists look at it (rows to the back, columns to the patient's left), 3 for a
            volume in RAS.
        size: voxels along each side of the 240 mm field of view; 128 by default for a slice, 64 for a volume.
        sequence: ``"flair"``, ``"t1"``, ``"t1c"`` (T1 after a contrast agent) or ``"t2"``.
        difficulty: as in :func:`medlab.phantoms.plan.parameters`.
        seed: of the whole set.

    Returns:
        The image (int16, arbitrary units as a scanner gives them), its mask (uint8: 0 background, 1 edema, 2 core, 3
        rim; all 0 where healthy), and the parameters.

    Raises:
        ValueError: an argument out of its range.
    """
    size = check(index, rank=rank, size=size, sequence=sequence, difficulty=difficulty, seed=seed)
    image, mask = render(index, rank, size, sequence, difficulty, seed)
    return volumes(image, mask, index, rank, size, sequence, difficulty, seed)


def volumes(
    image: NDArray, mask: NDArray, index: int, rank: int, size: int, sequence: str, difficulty: float, seed: int
) -> tuple[Volume, Volume, dict[str, Any]]:
    """The arrays of a case as Volumes with their place, and its parameters."""
    case = asdict(plan.parameters(index, difficulty=difficulty, seed=seed))
    spacing = FIELD_OF_VIEW / size
    start = MIDDLE - FIELD_OF_VIEW / 2 + spacing / 2
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = start
    if rank == 2:
        end = start + (size - 1) * spacing
        affine[:3, :3] = [[0, -spacing, 0], [-spacing, 0, 0], [0, 0, SLICE_MM]]
        affine[:3, 3] = end[0], end[1], case["slice_z_mm"]
    times = {f"{key}_ms": value for key, value in physics.SEQUENCES[sequence].items()}
    info = {"sequence": sequence, **times, "field_strength_t": 1.5, "parameters": case}
    return Volume(image, affine, "image", "MR", info, rank), Volume(mask, affine, "labels", "MR", {}, rank), dict(case)


def check(
    index: int,
    *,
    rank: int = 2,
    size: int | None = None,
    sequence: str = "flair",
    difficulty: float = 1.0,
    seed: int = 0,
) -> int:
    """The size that is meant, after making sure that every argument is in its range.

    Raises:
        ValueError: one is not; the message names it.
    """
    if not _whole(rank) or rank not in SIZES:
        raise ValueError(f"Expected rank 2 (slices) or 3 (volumes). Received {rank!r}.")
    default, least, most = SIZES[rank]
    size = default if size is None else size
    if not _whole(size) or not least <= size <= most:
        raise ValueError(f"Expected a size from {least} to {most} for rank {rank}. Received {size!r}.")
    if sequence not in physics.SEQUENCES:
        raise ValueError(f"Expected a sequence of {', '.join(physics.SEQUENCES)}. Received {sequence!r}.")
    if isinstance(difficulty, bool) or not isinstance(difficulty, int | float) or not 0.25 <= difficulty <= 4:
        raise ValueError(f"Expected a difficulty from 0.25 to 4. Received {difficulty!r}.")
    if not _whole(index) or not _whole(seed) or not 0 <= index < 2**31 or not 0 <= seed < 2**31:
        raise ValueError(f"Expected an index and a seed of 0 or above. Received {index!r} and {seed!r}.")
    return int(size)


def _whole(number: Any) -> bool:
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


def render(
    index: int, rank: int, size: int, sequence: str, difficulty: float, seed: int
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Image and mask of a case as arrays; arguments as :func:`check` lets them pass."""
    case, head = plan.draw(index, difficulty, seed)
    rng = np.random.default_rng([plan.VERSION, seed, index, 2])
    spacing = FIELD_OF_VIEW / size
    axes = tuple((MIDDLE[a] + (np.arange(size) - (size - 1) / 2) * spacing).astype(np.float32) for a in range(3))
    if rank == 2:
        axes = (*axes[:2], np.array([case.slice_z_mm], np.float32))
    shares, mask = mixture.compose(case, head, axes, spacing, rng)
    image = np.zeros(mask.shape, np.float32)
    for name, strength in _signals(case, sequence, rng).items():
        if name in shares:
            image += np.float32(strength) * shares[name]
    gain = anatomy.Waves.draw(rng, 1, 250, 500, n=8).on(axes)[0]
    image = np.abs(image) * (1 + case.bias * np.clip(gain / 2, -1, 1))
    # The scanner's own noise: another one for another sequence or grid.
    own = np.random.default_rng([plan.VERSION, seed, index, 3, rank, size, list(physics.SEQUENCES).index(sequence)])
    white = abs(physics.signal(physics.TISSUES["white"], sequence))
    image = physics.add_rician_noise(image, case.noise * white, own) * (rng.uniform(300, 600) / white)
    image = np.rint(image).clip(0, 32767).astype(np.int16)
    if rank == 2:
        image, mask = image[::-1, ::-1, 0].T, mask[::-1, ::-1, 0].T
    return np.ascontiguousarray(image), np.ascontiguousarray(mask)


def _signals(case: plan.Parameters, sequence: str, rng: np.random.Generator) -> dict[str, float]:
    """Signal of each tissue, a few percent different in each person."""
    found = {}
    for name, tissue in physics.TISSUES.items():
        # White and gray matter keep their contrast; fat and muscle may differ more.
        vary = 1 + (0.02 if name in ("white", "gray", "fluid") else 0.06) * np.clip(rng.standard_normal(2), -2, 2)
        mine = physics.Tissue(tissue.pd, tissue.t1 * vary[0], tissue.t2 * vary[1])
        if sequence == "t1c" and name == "solid" and case.label == "tumor":
            mine = physics.with_contrast_agent(mine, case.agent_mmol_l)
        found[name] = physics.signal(mine, sequence)
        if name in ("fat", "marrow"):
            found[name] *= physics.FAT_LEFT.get(sequence, 1.0)
    return found
