"""Brain tumor phantom: real anatomy, MR physics, and a tumor whose place is exactly known.

In: the number of a case and how hard it shall be. Out: an image, its mask and the parameters it was made with. The
same numbers always give the same case.
"""

from __future__ import annotations

import functools
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medlab.phantoms import mixture, physics, plan, scanner, scenario, tumor
from medlab.volume import Volume

SIZES = {2: (128, 16, 512), 3: (64, 16, 160)}
"""Voxels along a side for each rank: default, least, most."""

FIELD_OF_VIEW = 240.0  # mm, along each side
SLICE_MM = 5.0  # the slices' distance in a clinical protocol; what is drawn is the plane in its middle
VERSION = 2
"""Raised whenever the same parameters give another image or mask: cached ones of other versions are not used. It counts
apart from that of the plan, from which all is drawn: masks that were empty in a sick case gained a voxel."""

MIDDLE = np.array([0.0, -16.0, -4.0])  # mm in RAS


def brain_tumor(
    index: int,
    *,
    rank: int = 2,
    size: int | None = None,
    sequence: str = "flair",
    severity: float = 1.0,
    domain: str = "reference",
    seed: int = 0,
) -> tuple[Volume, Volume, dict[str, Any]]:
    """Image, mask and parameters of one case.

    Args:
        index: 0 or above.
        rank: 2 for an axial slice as radiologists look at it (rows to the back, columns to the patient's left), 3 for a
            volume in RAS.
        size: voxels along each side of the 240 mm field of view; 128 by default for a slice, 64 for a volume.
        sequence: ``"flair"``, ``"t1"``, ``"t1c"`` (T1 after a contrast agent) or ``"t2"``.
        severity: as in :func:`medlab.phantoms.plan.parameters`.
        domain: a scanner of :data:`medlab.phantoms.scanner.DOMAINS`; the patient stays the same.
        seed: of the whole set.

    Returns:
        The image (int16, arbitrary units as a scanner gives them), its mask (uint8: 0 background, 1 edema, 2 core, 3
        rim; all 0 where healthy, at least one voxel above 0 where not), and the parameters: those of
        :class:`medlab.phantoms.plan.Parameters`, ``tumor_ml``, the volume of core and rim as made, and ``core_ml``, the
        core's.

    Raises:
        ValueError: an argument out of its range.
    """
    scenario.check_number(index, "index")
    given = TUMOR.options(rank=rank, size=size, sequence=sequence, severity=severity, domain=domain, seed=seed)
    image, labels = TUMOR.render(index, **given)
    return image, labels, _parameters(index, **{key: given[key] for key in ("severity", "seed", "domain")})


def _parameters(index: int, *, severity: float, seed: int, domain: str, healthy: bool = False) -> dict[str, Any]:
    case = plan.parameters(index, severity=severity, seed=seed)
    if healthy:
        return scanner.DOMAINS[domain].changed(asdict(plan.healthy(case))) | {"tumor_ml": 0.0, "core_ml": 0.0}
    return scanner.DOMAINS[domain].changed(asdict(case)) | _volumes_ml(index, severity, seed)


@functools.lru_cache(maxsize=4096)
def _volumes_ml(index: int, severity: float, seed: int) -> dict[str, float]:
    volumes = tumor.volumes_ml(*plan.draw(index, severity, seed), _outlines(index, seed))
    return dict(zip(("tumor_ml", "core_ml"), volumes, strict=True))


def _outlines(index: int, seed: int) -> np.random.Generator:
    """What the plan of a case leaves open is drawn from this."""
    return np.random.default_rng([plan.VERSION, seed, index, 2])


def _volumes(
    index: int, *, rank: int, size: int, sequence: str, severity: float, domain: str, seed: int, healthy: bool = False
) -> tuple[Volume, Volume]:
    image, mask = render(index, rank, size, sequence, severity, seed, domain, healthy=healthy)
    case = _parameters(index, severity=severity, seed=seed, domain=domain, healthy=healthy)
    affine = head_affine(rank, size, case["slice_z_mm"])
    info = scanner.DOMAINS[domain].info(sequence) | {"parameters": case}
    return Volume(image, affine, "image", "MR", info, rank), Volume(mask, affine, "labels", "MR", {}, rank)


def head_affine(rank: int, size: int, slice_z_mm: float) -> NDArray[np.float64]:
    """Voxels to mm of a whole head: a volume in RAS, or an axial slice, rows to the back and columns to the left."""
    spacing = FIELD_OF_VIEW / size
    start = MIDDLE - FIELD_OF_VIEW / 2 + spacing / 2
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = start
    if rank == 2:
        end = start + (size - 1) * spacing
        affine[:3, :3] = [[0, -spacing, 0], [-spacing, 0, 0], [0, 0, SLICE_MM]]
        affine[:3, 3] = end[0], end[1], slice_z_mm
    return affine


def head_axes(rank: int, size: int, slice_z_mm: float) -> mixture.Axes:
    """Places of the voxels of :func:`head_affine` along x, y and z, mm in RAS, each ascending."""
    spacing = FIELD_OF_VIEW / size
    axes = tuple((MIDDLE[a] + (np.arange(size) - (size - 1) / 2) * spacing).astype(np.float32) for a in range(3))
    return (*axes[:2], np.array([slice_z_mm], np.float32)) if rank == 2 else axes


def axial(array: NDArray) -> NDArray:
    """The one plane of (i, j, 1) on :func:`head_axes` as radiologists look at it."""
    return np.ascontiguousarray(array[::-1, ::-1, 0].T)


def render(
    index: int, rank: int, size: int, sequence: str, severity: float, seed: int, domain: str = "reference", *,
    healthy: bool = False,
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:  # fmt: skip
    """Image and mask of a case as arrays; arguments as ``TUMOR.options`` lets them pass."""
    case, head = plan.draw(index, severity, seed)
    case = plan.healthy(case) if healthy else case
    rng = _outlines(index, seed)
    axes = head_axes(rank, size, case.slice_z_mm)
    shares, mask = mixture.compose(case, head, axes, FIELD_OF_VIEW / size, rng)
    vary = scanner.people(rng)
    agent = {"solid": case.agent_mmol_l} if sequence == "t1c" and case.label == "tumor" else {}
    # The scanner's own noise: another one for another sequence or grid.
    own = [plan.VERSION, seed, index, 3, rank, size, list(physics.SEQUENCES).index(sequence)]
    image = scanner.DOMAINS[domain].image(
        shares, sequence, axes, vary=vary, agent=agent, noise=case.noise, bias=case.bias, rng=rng, own=own
    )
    return (axial(image), axial(mask)) if rank == 2 else (image, mask)


TUMOR = scenario.Scenario(
    name="phantom:brain-tumor",
    classes=tuple(plan.CLASSES),
    modality="MR",
    anatomy="brain",
    topic="tumor",
    regions=tuple(sorted(mixture.LABELS, key=mixture.LABELS.get)),
    sizes=SIZES,
    choices={"sequence": ("flair", "t1", "t1c", "t2")},
    domains=tuple(scanner.DOMAINS),
    version=VERSION,
    note="Heads with and without a tumor, as MR. The anatomy is the ICBM 152 template, bent differently for each "
    "person; relaxation times are those of the literature. Skull, scalp, tumor, edema, aging, noise and the receive "
    "field are simulated. The grade names how a tumor was made, not its biology. Nothing about the sensitivity of a "
    "reader or a model in patients may be concluded.",
    parameters=_parameters,
    render=_volumes,
)
"""The data set of this file."""
