"""MR physics: what signal a tissue gives, and what a scanner adds to it.

In: proton density, relaxation and acquisition times in milliseconds, images as arrays. Out: signals and images.
Pure functions; they know no anatomy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Tissue(NamedTuple):
    """What a tissue is to a scanner: proton density relative to water (0 to 1), T1 and T2 in ms."""

    pd: float
    t1: float
    t2: float


# At 1.5 T. Sources:
#   White and gray matter, fluid: T1 of Rooney et al., MRM 57:308 (2007); T2 of Stanisz et al., MRM 54:507 (2005), of
#   fluid as of free water; proton density from the water contents of Whittall et al., MRM 37:34 (1997).
#   Muscle: Stanisz et al. Fat and the fatty marrow: Bottomley et al., Med Phys 11:425 (1984), at 64 MHz. Skin: between
#   muscle and the BrainWeb phantom, Kwan et al., IEEE TMI 18:1085 (1999). Compact bone is as good as silent.
#   Edema, solid tumor, fluid of a necrosis: within the wide ranges of Bottomley et al., Med Phys 14:1 (1987), and
#   Just and Thelen, Radiology 169:779 (1988). Gliosis lies between white matter and edema.
TISSUES = {
    "white": Tissue(0.70, 656, 72),
    "gray": Tissue(0.82, 1188, 95),
    "fluid": Tissue(1.00, 4000, 2000),
    "gliosis": Tissue(0.80, 1050, 140),
    "edema": Tissue(0.88, 1450, 180),
    "solid": Tissue(0.87, 1350, 150),
    "necrosis": Tissue(0.97, 2600, 400),
    "fat": Tissue(0.90, 260, 84),
    "marrow": Tissue(0.55, 350, 80),
    "muscle": Tissue(0.80, 1008, 44),
    "skin": Tissue(0.70, 900, 50),
    "bone": Tissue(0.05, 1000, 1),
}

# Acquisition times in ms: what a clinical 1.5 T protocol uses. "t1c" is T1 after a gadolinium agent was given.
SEQUENCES: dict[str, dict[str, float]] = {
    "flair": {"tr": 9000, "te": 110, "ti": 2400},
    "t1": {"tr": 500, "te": 14},
    "t1c": {"tr": 500, "te": 14},
    "t2": {"tr": 5000, "te": 100},
    # As an inversion recovery read out at once; an MPRAGE's train of small flip angles changes the contrast little.
    "mprage": {"tr": 2000, "te": 3, "ti": 800},
}

# What a fat-saturation pulse leaves of the fat's signal; FLAIR is taken with one.
FAT_LEFT = {"flair": 0.2}


def spin_echo(pd: ArrayLike, t1: ArrayLike, t2: ArrayLike, *, tr: float, te: float) -> NDArray[np.float64]:
    """Signal of a spin-echo sequence, in the units of ``pd``.

    Args:
        pd: proton density relative to water, 0 to 1.
        t1: longitudinal relaxation time, ms.
        t2: transverse relaxation time, ms.
        tr: repetition time, ms.
        te: echo time, ms, much shorter than ``tr``.

    Returns:
        PD (1 - exp(-TR/T1)) exp(-TE/T2), 0 to ``pd``.

    Source: Haacke et al., Magnetic Resonance Imaging: Physical Principles and Sequence Design (1999), chapter 8.
    """
    t1, t2 = np.asarray(t1, np.float64), np.asarray(t2, np.float64)
    return np.asarray(pd, np.float64) * -np.expm1(-tr / t1) * np.exp(-te / t2)


def inversion_recovery(
    pd: ArrayLike, t1: ArrayLike, t2: ArrayLike, *, tr: float, te: float, ti: float
) -> NDArray[np.float64]:
    """Signal of an inversion-recovery spin echo, signed; FLAIR is the one whose ``ti`` nulls fluid.

    Args:
        pd: proton density relative to water, 0 to 1.
        t1: longitudinal relaxation time, ms.
        t2: transverse relaxation time, ms.
        tr: repetition time, ms.
        te: echo time, ms, much shorter than ``tr``.
        ti: inversion time, ms.

    Returns:
        PD (1 - 2 exp(-TI/T1) + exp(-TR/T1)) exp(-TE/T2); below 0 where the tissue has not passed its null yet. A
        scanner shows the magnitude of what the tissues of a voxel give together.

    Source: Haacke et al. (1999), chapter 8; for FLAIR, Hajnal et al., J Comput Assist Tomogr 16:841 (1992).
    """
    t1, t2 = np.asarray(t1, np.float64), np.asarray(t2, np.float64)
    return np.asarray(pd, np.float64) * (1 - 2 * np.exp(-ti / t1) + np.exp(-tr / t1)) * np.exp(-te / t2)


def null_time(t1: float, *, tr: float) -> float:
    """The inversion time (ms) at which a tissue of longitudinal relaxation time ``t1`` gives no signal.

    Returns:
        T1 (ln 2 - ln(1 + exp(-TR/T1))), the root of the bracket in :func:`inversion_recovery`.
    """
    return float(t1 * (np.log(2) - np.log1p(np.exp(-tr / t1))))


def with_contrast_agent(tissue: Tissue, concentration: float, *, r1: float = 4.78, r2: float = 6.1) -> Tissue:
    """The tissue after it took up a gadolinium agent: 1/T1' = 1/T1 + r1 C, 1/T2' = 1/T2 + r2 C.

    Args:
        tissue: before.
        concentration: of the agent in the tissue, mmol/l, 0 or above.
        r1: longitudinal relaxivity, l/(mmol s): gadobutrol in human plasma at 1.5 T, Szomolanyi et al., Invest Radiol
            54:559 (2019).
        r2: transverse relaxivity, l/(mmol s): gadobutrol in plasma at 1.5 T, Rohrer et al., Invest Radiol
            40:715 (2005).
    """
    return tissue._replace(
        t1=1 / (1 / tissue.t1 + r1 * concentration / 1000), t2=1 / (1 / tissue.t2 + r2 * concentration / 1000)
    )


def signal(tissue: Tissue, sequence: str) -> float:
    """Signed signal of a tissue in one of ``SEQUENCES``; a contrast agent is the caller's part.

    Raises:
        ValueError: there is no such sequence.
    """
    if sequence not in SEQUENCES:
        raise ValueError(f"Expected a sequence of {', '.join(SEQUENCES)}. Received {sequence!r}.")
    return signal_at(tissue, SEQUENCES[sequence])


def signal_at(tissue: Tissue, times: Mapping[str, float]) -> float:
    """Signed signal of a tissue under acquisition times (ms): a spin echo, or with ``ti`` an inversion recovery."""
    return float((inversion_recovery if "ti" in times else spin_echo)(*tissue, **times))


def add_rician_noise(image: ArrayLike, sigma: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """The magnitude of ``image`` with Gaussian noise of deviation ``sigma`` in both quadrature channels.

    Where there is no signal, the mean is sigma sqrt(pi / 2). Source: Gudbjartsson and Patz, MRM 34:910 (1995).
    """
    image = np.asarray(image, np.float32)
    real, imaginary = rng.standard_normal((2, *image.shape), np.float32) * np.float32(sigma)
    return np.hypot(real + image, imaginary)
