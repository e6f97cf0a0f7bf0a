"""Scanners: how the same head looks under another field strength, protocol, resolution or noise.

In: shares of tissues on a grid. Out: an MR image in arbitrary units. It knows no disease.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medlab.phantoms import anatomy, physics
from medlab.phantoms.physics import Tissue

# At 3 T. White and gray matter and muscle: Stanisz et al., MRM 54:507 (2005). The others are chosen: T1 longer than at
# 1.5 T by a quarter or more, T2 about the same; fluid does not change.
TISSUES_3T = {
    "white": Tissue(0.70, 1084, 69),
    "gray": Tissue(0.82, 1820, 99),
    "fluid": Tissue(1.00, 4000, 2000),
    "gliosis": Tissue(0.80, 1500, 135),
    "edema": Tissue(0.88, 1900, 170),
    "solid": Tissue(0.87, 1800, 140),
    "necrosis": Tissue(0.97, 2900, 380),
    "fat": Tissue(0.90, 380, 70),
    "marrow": Tissue(0.55, 480, 65),
    "muscle": Tissue(0.80, 1412, 50),
    "skin": Tissue(0.70, 1100, 48),
    "bone": Tissue(0.05, 1000, 1),
}


@dataclass(frozen=True, eq=False)
class Scanner:
    """A scanner with its protocol.

    Attributes:
        number: of the domain; goes into the seed of the noise.
        field_t: field strength in tesla.
        tissues: proton density and relaxation times at that field.
        times: acquisition times in ms that differ from :data:`medlab.phantoms.physics.SEQUENCES`, by sequence.
        noise: factor on a case's noise.
        bias: factor on a case's receive field.
        matrix: share of the grid's spatial frequencies that is acquired along each side; the rest is filled with 0.
    """

    number: int = 0
    field_t: float = 1.5
    tissues: Mapping[str, Tissue] = field(default_factory=lambda: physics.TISSUES)
    times: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    noise: float = 1.0
    bias: float = 1.0
    matrix: float = 1.0

    def sequence(self, name: str) -> dict[str, float]:
        """Acquisition times in ms."""
        return dict(self.times.get(name, physics.SEQUENCES[name]))

    def info(self, sequence: str) -> dict[str, Any]:
        """What a header would say."""
        times = {f"{key}_ms": value for key, value in self.sequence(sequence).items()}
        return {"sequence": sequence, **times, "field_strength_t": self.field_t}

    def changed(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of a case with the noise and bias that this scanner brings."""
        return {**case, "noise": case["noise"] * self.noise, "bias": case["bias"] * self.bias}

    def signals(
        self, sequence: str, vary: Mapping[str, NDArray], agent: Mapping[str, float] | None = None
    ) -> dict[str, float]:
        """Signal of each tissue of one person.

        Args:
            sequence: one of :data:`medlab.phantoms.physics.SEQUENCES`.
            vary: factors on T1 and T2 by tissue, of :func:`people`.
            agent: mmol/l of contrast agent by tissue.
        """
        found = {}
        for name, tissue in self.tissues.items():
            t1, t2 = vary.get(name, (1.0, 1.0))
            mine = Tissue(tissue.pd, tissue.t1 * t1, tissue.t2 * t2)
            if agent and name in agent:
                mine = physics.with_contrast_agent(mine, agent[name])
            found[name] = physics.signal_at(mine, self.sequence(sequence))
            if name in ("fat", "marrow"):
                found[name] *= physics.FAT_LEFT.get(sequence, 1.0)
        return found

    def image(
        self,
        shares: Mapping[str, NDArray],
        sequence: str,
        axes: tuple[NDArray, NDArray, NDArray],
        *,
        vary: Mapping[str, NDArray],
        noise: float,
        bias: float,
        rng: np.random.Generator,
        own: Sequence[int],
        agent: Mapping[str, float] | None = None,
    ) -> NDArray[np.int16]:
        """The image (i, j, k) of a mixture of tissues.

        Args:
            shares: of each tissue, (i, j, k), 0 to 1.
            sequence: one of :data:`medlab.phantoms.physics.SEQUENCES`.
            axes: places along x, y and z, mm.
            vary: of :func:`people`.
            noise: deviation by the white matter's signal, before this scanner's factor.
            bias: largest deviation of the receive gain, before this scanner's factor.
            rng: for receive field and scale; the same for every scanner.
            own: seed of the noise; the scanner's number is added.
            agent: mmol/l of contrast agent by tissue.
        """
        signals = self.signals(sequence, vary, agent)
        image = np.zeros(tuple(len(axis) for axis in axes), np.float32)
        for name, strength in signals.items():
            if name in shares:
                image += np.float32(strength) * shares[name]
        gain = anatomy.Waves.draw(rng, 1, 250, 500, n=8).on(axes)[0]
        image = np.abs(image) * (1 + bias * self.bias * np.clip(gain / 2, -1, 1))
        white = abs(physics.signal_at(self.tissues["white"], self.sequence(sequence)))
        generator = np.random.default_rng([*own, self.number] if self.number else list(own))
        sigma = noise * self.noise * white
        if self.matrix < 1:
            image = _zero_filled(image, sigma, self.matrix, generator)
        else:
            image = physics.add_rician_noise(image, sigma, generator)
        image = image * (rng.uniform(300, 600) / white)
        return np.rint(image).clip(0, 32767).astype(np.int16)


def people(rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """Factors on T1 and T2 of each tissue, a few percent different in each person."""
    # White and gray matter keep their contrast; fat and muscle may differ more.
    return {
        name: 1 + (0.02 if name in ("white", "gray", "fluid") else 0.06) * np.clip(rng.standard_normal(2), -2, 2)
        for name in physics.TISSUES
    }


def random_image(
    shares: Mapping[str, NDArray], axes: tuple[NDArray, NDArray, NDArray], machine: Scanner, rng: np.random.Generator
) -> NDArray[np.int16]:
    """An image in which every tissue has a gray by chance, with blur, receive field, gamma and noise by chance.

    A network that learns from such images cannot rely on a contrast: Billot et al., Med Image Anal 86:102789 (2023).

    Args:
        shares: of each tissue, (i, j, k); ``"hippocampus"`` is as gray as ``"gray"``, or nearly.
        axes: places along x, y and z, mm.
        machine: its factors on noise and receive field.
        rng: of everything.
    """
    from scipy import ndimage

    shape = tuple(len(axis) for axis in axes)
    levels = {name: float(rng.uniform(0.05, 1)) for name in TISSUES_3T}
    levels["hippocampus"] = float(np.clip(levels["gray"] + 0.05 * rng.standard_normal(), 0, 1))
    grain = {name: float(rng.uniform(0, 0.06)) for name in levels}
    image = np.zeros(shape, np.float32)
    spread = np.zeros(shape, np.float32)
    for name, share in shares.items():
        image += np.float32(levels[name]) * share
        spread += np.float32(grain[name]) * share
    image += spread * rng.standard_normal(shape, np.float32)
    blur = [rng.uniform(0, 0.8) if length > 1 else 0 for length in shape]
    image = ndimage.gaussian_filter(image, blur)
    gain = anatomy.Waves.draw(rng, 1, 60, 400, n=8).on(axes)[0]
    image = np.clip(image, 0, 1.5) * np.exp(0.3 * rng.random() * machine.bias * gain)
    image = image ** np.exp(0.25 * rng.standard_normal())
    image = physics.add_rician_noise(image, rng.uniform(0.005, 0.04) * machine.noise, rng)
    return np.rint(image * rng.uniform(300, 600)).clip(0, 32767).astype(np.int16)


def _zero_filled(image: NDArray, sigma: float, share: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """The magnitude of an image of which only the low spatial frequencies were acquired, with their noise."""
    real, imaginary = rng.standard_normal((2, *image.shape), np.float32) * np.float32(sigma)
    spectrum = np.fft.fftn(image + real + 1j * imaginary)
    for axis, length in enumerate(image.shape):
        if length > 1:
            far = np.abs(np.fft.fftfreq(length)) > share / 2
            spectrum[(slice(None),) * axis + (far,)] = 0
    return np.abs(np.fft.ifftn(spectrum)).astype(np.float32)


DOMAINS = {
    "reference": Scanner(),
    "3T": Scanner(
        1,
        3.0,
        TISSUES_3T,
        {"flair": {"tr": 9000, "te": 100, "ti": 2500}, "mprage": {"tr": 2300, "te": 3, "ti": 1000}},
        noise=0.6,
        bias=1.8,
    ),
    "other-protocol": Scanner(
        2,
        times={
            "flair": {"tr": 7000, "te": 85, "ti": 2200},
            "t1": {"tr": 700, "te": 10},
            "t1c": {"tr": 700, "te": 10},
            "t2": {"tr": 3500, "te": 80},
            "mprage": {"tr": 1900, "te": 4, "ti": 1000},
        },
    ),
    "low-resolution": Scanner(3, matrix=0.5),
    "noisy": Scanner(4, noise=2.5),
}
"""By name: the 1.5 T protocol of :mod:`medlab.phantoms.physics`; 3 T; another site's times; half the resolution,
interpolated by zero filling as scanners do; two and a half times the noise. All factors are chosen."""
