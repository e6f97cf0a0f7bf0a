"""Artifacts that images suffer, at severities 0 (unharmed) to 5 (hardly usable), of all modalities in one place.

In: one image (i, j[, k], c) with a channel axis, and ``rng``, a numpy Generator or a seed. Out: a new float32 array of
the same shape. All strengths are relative to the image's own deviation, range or size, so that they fit any unit and
any recipe.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from medlab.augment.computed import beam_hardening, metal_streak, poisson_noise, ring
from medlab.augment.general import blur, brightness, contrast, dropped_pixels, dropped_slices, gamma, gaussian_noise
from medlab.augment.kspace import ghosting, gibbs_ringing, motion, spike
from medlab.augment.magnetic import bias_field, rician_noise, thick_slices
from medlab.augment.radiography import collimation, exposure, grid_lines, scatter
from medlab.augment.sonography import shadow, speckle

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "beam_hardening", "bias_field", "blur", "brightness", "collimation", "contrast", "dropped_pixels",
    "dropped_slices", "every", "exposure", "gamma", "gaussian_noise", "ghosting", "gibbs_ringing", "grid_lines",
    "metal_streak", "motion", "poisson_noise", "rician_noise", "ring", "scatter", "shadow", "speckle", "spike",
    "standard", "thick_slices",
]  # fmt: skip

Artifact = Callable[..., "NDArray[np.float32]"]

_RADIOGRAPHS = ("DX", "CR", "MG", "RF", "XA", "PX", "IO")
# The two of each modality by which a model is judged by default, and those that are asked for.
_COMMON: dict[str, dict[str, Artifact]] = {
    "MR": {"ghosting": ghosting, "motion": motion},
    "CT": {"photon noise": poisson_noise, "beam hardening": beam_hardening},
    "DX": {"exposure": exposure, "scatter": scatter},
    "US": {"speckle": speckle, "shadow": shadow},
}
_MORE: dict[str, dict[str, Artifact]] = {
    "MR": {"spike": spike, "Gibbs ringing": gibbs_ringing},
    "CT": {"metal streak": metal_streak, "ring": ring},
    "DX": {"collimation": collimation, "grid lines": grid_lines},
}


def standard(modality: str | None, rank: int) -> dict[str, Artifact]:
    """The artifacts under which a model for this modality is judged: name -> ``(array, *, severity, rng) -> array``.

    Args:
        modality: a DICOM code; MR gets Rician noise and a bias field, others Gaussian noise and gamma; MR, CT,
            radiographs and ultrasound get two of their own besides.
        rank: 2 or 3: lost rows or lost slices.

    Raises:
        ValueError: another rank.
    """
    if rank not in (2, 3):
        raise ValueError(f"Expected rank 2 or 3. Received {rank!r}.")
    family = _family(modality)
    chosen: dict[str, Artifact] = {"noise": rician_noise if family == "MR" else gaussian_noise, "blur": blur}
    chosen |= {"contrast": contrast, "dropped pixels": dropped_pixels}
    chosen["dropped slices" if rank == 3 else "dropped rows"] = dropped_slices
    chosen |= {"bias field": bias_field} if family == "MR" else {"gamma": gamma}
    return chosen | _COMMON.get(family, {})


def every(modality: str | None, rank: int) -> dict[str, Artifact]:
    """All artifacts of a modality, those of :func:`standard` first; for ``evaluate.stability(artifacts=...)``.

    Args:
        modality: a DICOM code, as in :func:`standard`.
        rank: 2 or 3.

    Raises:
        ValueError: another rank.
    """
    family = _family(modality)
    chosen = standard(modality, rank) | {"brightness": brightness} | _MORE.get(family, {})
    return chosen | ({"thick slices": thick_slices} if rank == 3 and family in ("MR", "CT") else {})


def _family(modality: str | None) -> str:
    code = str(modality).upper()
    return "DX" if code in _RADIOGRAPHS else code
