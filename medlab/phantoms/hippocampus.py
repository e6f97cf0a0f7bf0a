"""Hippocampus phantom: both hippocampi with known volumes, normal or shrunken, in T1-weighted MR.

In: the number of a case. Out: an image of the temporal lobes, of one hippocampus or of the head; the mask of the
anterior and posterior part; the parameters it was made with.
"""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medlab.phantoms import anatomy, brain, mixture, scanner, scenario, temporal
from medlab.volume import Volume

VERSION = 1
CLASSES = ("normal", "atrophy")

VIEWS = {
    "temporal": ((0.0, -24.0, -12.0), (128.0, 128.0, 128.0)),
    "left": (tuple(temporal.MIDDLE * (-1, 1, 1)), (36.0, 52.0, 36.0)),
    "right": (tuple(temporal.MIDDLE), (36.0, 52.0, 36.0)),
    "head": (tuple(brain.MIDDLE), (240.0, 240.0, 240.0)),
}
"""Middle (mm in the template, in RAS) and sides (mm along x, y and z) of what the image shows; both temporal lobes, one
hippocampus in a box as in Task04 of the Medical Segmentation Decathlon, or the whole head. An image's ``size`` is the
number of voxels along the longest side; voxels are cubes and the other sides hold as many as fit. One hippocampus with
``size=64`` is 44 x 64 x 44; a coronal slice shows the box's short sides: 89 x 89 for ``size=128``."""

_ALVEUS_MM = 0.35  # white matter on the surface; outlines of the hippocampus take it in
_GRAY = 0.88  # of the hippocampus' signal; the rest is that of white matter
_SHARPER = 0.8  # as :class:`medlab.phantoms.mixture.Scene` has it; chosen with _WHITE, by the histograms of real crops
_WHITE = 0.35  # log odds; with the template's shares, the blurred average of many, a crop is too gray


@dataclass(frozen=True)
class Parameters:
    """What one case is made of.

    Attributes:
        label: ``"normal"`` or ``"atrophy"``.
        left_ml: volume of the left hippocampus as drawn; a mask of 1 mm differs by a few percent. Normal ones are
            3.35 ml in the mean, as those of Task04 of the Medical Segmentation Decathlon (3.3 ml).
        right_ml: of the right one.
        left_loss_mm: how far its border lies inside the template's; below 0 outside.
        right_loss_mm: of the right one.
        horn_mm: further width of the temporal horns, in normal and shrunken alike.
        spots: number of small white-matter lesions of aging, likewise.
        atrophy: width of all fluid spaces, likewise; 0 is the template's.
        slice_y_mm: where a coronal slice is cut, mm to the front; it meets both hippocampi.
        noise: deviation of the noise by the white matter's signal.
        bias: largest deviation of the receive gain from 1.
    """

    label: str
    left_ml: float
    right_ml: float
    left_loss_mm: float
    right_loss_mm: float
    horn_mm: float
    spots: int
    atrophy: float
    slice_y_mm: float
    noise: float
    bias: float


@functools.lru_cache(maxsize=1024)
def draw(index: int, severity: float, seed: int, healthy: bool = False) -> tuple[Parameters, anatomy.Head]:
    """Parameters and head of a case. Every case draws the same numbers in the same order, shrunken or not.

    ``healthy``: the same person before anything shrank.
    """
    first_is_sick = np.random.default_rng([VERSION, seed, index // 2, 49]).random() < 0.5
    sick = first_is_sick == (index % 2 == 0) and not healthy
    head = anatomy.Head.draw(np.random.default_rng([VERSION, seed, index, 40]))
    rng = np.random.default_rng([VERSION, seed, index, 41])
    u = rng.random(9)
    # Shrinking takes both sides, one of them often more.
    usual = 3.35 * np.exp(0.09 * np.clip(rng.standard_normal(), -2, 2) + 0.03 * np.clip(rng.standard_normal(2), -2, 2))
    worse = (0.22 + 0.24 * u[0]) / severity**0.6
    milder = worse * (1 - 0.7 * u[1])
    lost = np.array([worse, milder] if u[2] < 0.5 else [milder, worse])
    left, right = volumes = usual * (1 - lost * sick)
    years = u[3]
    template = temporal.hippocampus()
    both = np.concatenate([template.sites * [[-1], [1], [1]], template.sites], 1)
    growth = head.growth(both).reshape(2, -1).mean(1)
    losses = [template.loss(volume, ratio) for volume, ratio in zip(volumes, growth, strict=True)]
    y = head.from_template(temporal.MIDDLE * (0, 1, 1))[1] + 14 * (u[4] - 0.5) * 2
    case = Parameters(
        label=CLASSES[int(sick)],
        left_ml=float(left),
        right_ml=float(right),
        left_loss_mm=float(losses[0]),
        right_loss_mm=float(losses[1]),
        horn_mm=float(min(1.6 * years * u[5] * severity**0.5, 2.5)),
        spots=int(rng.poisson(12 * severity * years**2)),
        atrophy=float(1.2 * (years - 0.4) + 0.4 * (u[8] - 0.5)),
        slice_y_mm=float(y),
        noise=float((0.012 + 0.02 * u[6]) * severity**0.5),
        bias=float(0.04 + 0.12 * u[7]),
    )
    return case, head


def _parameters(index: int, *, severity: float, seed: int, domain: str, healthy: bool = False) -> dict[str, Any]:
    return scanner.DOMAINS[domain].changed(asdict(draw(index, severity, seed, healthy)[0]))


def _grid(rank: int, size: int, view: str, case: Parameters, head: anatomy.Head, rng: np.random.Generator) -> tuple:
    """Axes in mm and spacing of what a view shows; boxes are placed by hand, so to say: not quite in the middle."""
    middle, sides = (np.array(one) for one in VIEWS[view])
    if view != "head":
        middle = head.from_template(middle) + rng.uniform(-2, 2, 3)
    spacing = sides.max() / size
    axes = []
    for one, side in zip(middle, sides, strict=True):
        count = max(round(side / spacing), 1)
        axes.append((one + (np.arange(count) - (count - 1) / 2) * spacing).astype(np.float32))
    if rank == 2:
        axes[1] = np.array([case.slice_y_mm], np.float32)
    return tuple(axes), spacing


def _render(
    index: int, *, rank: int, size: int, sequence: str, view: str, severity: float, domain: str, seed: int,
    healthy: bool = False,
) -> tuple[Volume, Volume]:  # fmt: skip
    case, head = draw(index, severity, seed, healthy)
    axes, spacing = _grid(rank, size, view, case, head, np.random.default_rng([VERSION, seed, index, 44]))
    rng = np.random.default_rng([VERSION, seed, index, 42])
    soft = max(spacing, 1.0)
    texture, layers = mixture.textures(rng)
    rough = anatomy.Waves.draw(rng, 2, 5, 20, n=40)
    spots, spot_mm = mixture.aging(rng, case.spots)
    scene = mixture.Scene.build(head, axes, soft, texture, layers, case.atrophy, 0.0, white=_WHITE, sharper=_SHARPER)
    mixture.add_spots(scene.brain, scene.there, spots, 0.6 * spot_mm, soft)
    mask = np.zeros(scene.shape, np.uint8)
    mask.reshape(-1)[scene.within] = _add(scene, case, scene.field(rough))
    shares = scene.shares()
    choice = list(VIEWS).index(view)
    own = [VERSION, seed, index, 43, rank, size, choice, int(sequence == "random")]
    machine = scanner.DOMAINS[domain]
    if sequence == "random":
        image = scanner.random_image(shares, axes, machine, np.random.default_rng([*own, machine.number]))
        info = {"sequence": "random"}
    else:
        part = shares.pop("hippocampus")
        for name, share in (("gray", _GRAY), ("white", 1 - _GRAY)):
            shares[name] = shares[name] + share * part
        image = machine.image(
            shares, "mprage", axes, vary=scanner.people(rng), noise=case.noise, bias=case.bias, rng=rng, own=own
        )
        info = machine.info("mprage")
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = [axis[0] for axis in axes]
    if rank == 2:
        # Coronal as radiologists look at it: rows to the feet, columns to the patient's left.
        image, mask = (np.ascontiguousarray(one[::-1, 0, ::-1].T) for one in (image, mask))
        affine[:3, :3] = [[0, -spacing, 0], [0, 0, brain.SLICE_MM], [-spacing, 0, 0]]
        affine[:3, 3] = axes[0][-1], case.slice_y_mm, axes[2][-1]
    return Volume(image, affine, "image", "MR", info, rank), Volume(mask, affine, "labels", "MR", {}, rank)


def _add(scene: mixture.Scene, case: Parameters, rough: NDArray) -> NDArray[np.uint8]:
    """Puts both hippocampi as they are into the brain (in place) and returns the mask (m,)."""
    found, shares, soft = temporal.hippocampus(), scene.brain, scene.soft
    there = scene.there
    shares["hippocampus"] = np.zeros(there.shape[1], np.float32)
    mask = np.zeros(there.shape[1], np.uint8)
    close = np.flatnonzero(
        (np.abs(there[0]) < 44) & (there[1] > -50) & (there[1] < 0) & (there[2] > -34) & (there[2] < 12)
    )
    if not len(close):
        return mask
    place = there[:, close]
    distance, fluid = found.at(place)
    distance = distance + 0.35 * rough[0, close]
    loss = np.where(place[0] > 0, case.right_loss_mm, case.left_loss_mm).astype(np.float32)
    inside = np.clip(0.5 - (distance + loss) / soft, 0, 1)
    deep = np.clip(0.5 - (distance + loss + _ALVEUS_MM) / soft, 0, 1)
    # What was hippocampus in the template, and a thin layer around it, is the room; the rest of it is left free.
    room = np.clip(0.5 - (distance - case.horn_mm * fluid * (fluid > 0.55)) / soft, 0, 1)
    free = np.maximum(room - inside, 0)
    wet = np.clip(fluid + 0.2 * rough[1, close], 0, 1)
    kept = 1 - inside - free
    for share in shares.values():
        share[close] *= kept
    shares["fluid"][close] += free * wet
    shares["white"][close] += free * (1 - wet) + inside - deep
    shares["hippocampus"][close] = deep
    mask[close] = np.where(inside >= 0.5, np.where(place[1] > temporal.FRONT_MM, 1, 2), 0)
    return mask


ATROPHY = scenario.Scenario(
    name="phantom:hippocampus",
    classes=CLASSES,
    modality="MR",
    anatomy="brain",
    topic="neurological",
    regions=("background", "anterior", "posterior"),
    sizes={2: (128, 16, 512), 3: (64, 16, 160)},
    choices={"view": tuple(VIEWS), "sequence": ("t1", "random")},
    domains=tuple(scanner.DOMAINS),
    version=VERSION,
    note="Hippocampi of normal size and shrunken ones, as T1-weighted MR. The anatomy is the ICBM 152 template, bent "
    "differently for each person, and its hippocampus, found by gray matter within a tube that was drawn by hand; no "
    "expert outlined it. Normal volumes are about those measured in adults; what disease takes was chosen. Subfields, "
    "disease elsewhere and a normal aging of the hippocampus are left out: nothing about dementia or epilepsy in "
    "patients may be concluded. With sequence='random' every tissue has a gray of its own by chance, as in SynthSeg "
    "(Billot et al., Med Image Anal 86:102789, 2023): for training, no image of a scanner. With view='left' or 'right' "
    "the box is 36 x 52 x 36 mm and size counts the voxels along its 52 mm, front to back: size=64 gives volumes of "
    "44 x 64 x 44, and a coronal slice of size=128 has 89 x 89 pixels.",
    parameters=_parameters,
    render=_render,
)
"""The data set of this file."""
