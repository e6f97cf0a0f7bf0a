"""Multiple sclerosis phantom: lesions where the McDonald criteria look for them, in heads that also age.

In: the number of a case. Out: an MR image, the lesions' mask and the parameters it was made with.
"""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medlab.phantoms import anatomy, brain, mixture, physics, scanner, scenario
from medlab.volume import Volume

VERSION = 1
CLASSES = ("healthy", "ms")
MOST = 60  # lesions
AREAS = ("periventricular", "juxtacortical", "infratentorial", "deep")
"""Areas of the white matter. The first three, with the spinal cord, are those of the 2017 McDonald criteria: lesions in
two of the four show dissemination in space; Thompson et al., Lancet Neurol 17:162 (2018)."""

_SHARES = (0.45, 0.25, 0.12, 0.18)  # chosen: how often a further lesion lies in each area

_SOFT = 1.5  # mm, edges of the finest volume

_SPOT = 0.55  # spots of aging by those of the tumor phantom: most smaller than a lesion


@dataclass(frozen=True)
class Parameters:
    """What one case is made of. A healthy case has no lesions: counts and volume 0.

    Attributes:
        label: ``"healthy"`` or ``"ms"``.
        lesions: number of lesions in the whole brain.
        periventricular: of them, beside the lateral ventricles, elongated away from them (Dawson's fingers).
        juxtacortical: of them, touching the cortex.
        infratentorial: of them, in brain stem and cerebellum.
        deep: of them, elsewhere in the white matter.
        black_holes: of them, dark in T1 as well.
        load_ml: volume of all lesions (:func:`load_ml`). A mask of 1.7 mm held from 10 % less to 9 % more in 23 sick
            cases of severity 1 and 2, and 2 % less in the mean; outlines and tissue are uneven there.
        conspicuity: how much of a lesion's tissue is truly lesion, 0 to 1.
        spots: number of small white-matter lesions of aging, in healthy and sick alike.
        caps: brightness of the white matter beside the ventricles, 0 to 1, likewise.
        atrophy: width of the fluid spaces; 0 is the template's.
        slice_z_mm: where a 2-D slice is cut, mm to the head; in the sick it meets a lesion.
        noise: deviation of the noise by the white matter's signal.
        bias: largest deviation of the receive gain from 1.
    """

    label: str
    lesions: int
    periventricular: int
    juxtacortical: int
    infratentorial: int
    deep: int
    black_holes: int
    load_ml: float
    conspicuity: float
    spots: int
    caps: float
    atrophy: float
    slice_z_mm: float
    noise: float
    bias: float


@dataclass(frozen=True, eq=False)
class Lesions:
    """Lesions as ellipsoids of the template's space; arrays of one row a lesion.

    Attributes:
        middle: (n, 3) mm.
        axes: (n, 3) half axes, mm.
        turn: (n, 3, 3) rows are the directions of the axes.
        hole: (n,) whether it is dark in T1.
    """

    middle: NDArray[np.float64]
    axes: NDArray[np.float64]
    turn: NDArray[np.float64]
    hole: NDArray[np.bool_]


@functools.cache
def sites() -> tuple[NDArray[np.float64], ...]:
    """Where lesions of each of ``AREAS`` may have their middle: (m, 3) mm in the template each."""
    template = anatomy.template()
    gray, white = template.tissues
    to_world = np.linalg.inv(template.to_voxel)
    place = np.argwhere(white > 150) @ to_world[:3, :3].T + to_world[:3, 3]
    near = anatomy.sample([template.near], template.to_coarse, place.T.astype(np.float32))[0]
    cortex = anatomy.sample([gray], template.to_voxel, place.T.astype(np.float32))[0]
    hull = anatomy.sample(template.surfaces[:1], template.to_coarse, place.T.astype(np.float32))[0]
    x, y, z = place.T
    above = z > -8
    stem = (np.abs(x) < 13) & (y > -42) & (y < -16) & (z > -46) & (z < -18)
    cerebellum = (np.abs(x) < 32) & (y > -72) & (y < -42) & (z > -46) & (z < -22)
    beside = above & (np.abs(x) > 5) & (near > 0.33) & (near < 0.75) & (z < 34)
    touching = above & (cortex > 40) & (hull < -6) & (hull > -16) & (z < 56)
    deep = above & (near < 0.2) & (cortex < 15) & (hull < -14) & (z < 50)
    return tuple(place[chosen] for chosen in (beside, touching, stem | cerebellum, deep))


@functools.lru_cache(maxsize=1024)
def draw(index: int, severity: float, seed: int) -> tuple[Parameters, anatomy.Head, Lesions]:
    """Parameters, head and lesions of a case. All draw the same numbers in the same order, sick or not."""
    first_is_sick = np.random.default_rng([VERSION, seed, index // 2, 29]).random() < 0.5
    sick = first_is_sick == (index % 2 == 0)
    head = anatomy.Head.draw(np.random.default_rng([VERSION, seed, index, 20]))
    rng = np.random.default_rng([VERSION, seed, index, 21])
    u = rng.random(10)
    # Their own generator: how many there are must not change where they are.
    counts = np.random.default_rng([VERSION, seed, index, 24])
    n = min(6 + int(counts.poisson(20 * u[0] / severity**0.5)), MOST)
    area = rng.choice(len(AREAS), size=MOST, p=_SHARES)
    # Two different areas at least, as the criteria ask; the slice is cut through the first.
    area[:2] = (0, 1 + (u[1] > 0.6)) if u[2] < 0.7 else (1, 0)
    places = sites()
    middle = np.stack([places[one][rng.integers(len(places[one]))] for one in area]) + rng.uniform(-0.7, 0.7, (MOST, 3))
    size = (2.0 + 3.4 * rng.random(MOST) ** 1.5) / severity**0.35
    size[0] = (3.2 + 2.3 * u[3]) / severity**0.35
    longer = np.where(area == 0, rng.uniform(1.3, 2.0, MOST), rng.uniform(1.0, 1.4, MOST))
    half = np.stack([size * longer, size, size * rng.uniform(0.85, 1.1, MOST)], 1)
    turn = _toward(middle, area == 0, rng)
    hole = rng.random(MOST) < 0.35
    area, middle, half, turn, hole = area[:n], middle[:n], half[:n], turn[:n], hole[:n]
    age = u[4]
    areas = {name: int((area == number).sum()) for number, name in enumerate(AREAS)}
    z = head.from_template(middle[0])[2] + 0.5 * size[0] * (u[5] - 0.5) * 2
    caps = float(min(0.25 + 0.6 * severity**0.5 * age * u[8], 1))
    atrophy = float(1.2 * (age - 0.4) + 0.4 * (u[9] - 0.5))
    lesions = Lesions(middle, half, turn, hole)
    found = Parameters(
        label=CLASSES[int(sick)],
        lesions=n * sick,
        **{name: number * sick for name, number in areas.items()},
        black_holes=int(hole.sum()) * sick,
        load_ml=load_ml(head, lesions, atrophy, caps) if sick else 0.0,
        conspicuity=float(np.clip((0.55 + 0.35 * u[6]) / severity**0.5, 0.15, 1)) if sick else float("nan"),
        spots=int(counts.poisson((3 + 20 * age**2) * severity)),
        caps=caps,
        atrophy=atrophy,
        slice_z_mm=float(z),
        noise=float((0.02 + 0.025 * rng.random()) * severity**0.5),
        bias=float(0.04 + 0.12 * u[7]),
    )
    return found, head, lesions


def load_ml(head: anatomy.Head, lesions: Lesions, atrophy: float, caps: float) -> float:
    """Volume of all lesions in the person, ml: what several share counts once, and fluid is none of it.

    It is counted at places of each ellipsoid, without the unevenness of outlines and of tissue that an image has.
    """
    inside = _ball()
    scaled = lesions.axes[:, :, None] * inside.T  # (n, 3, m) along each lesion's own axes
    there = lesions.middle[:, :, None] + np.einsum("nad,nam->ndm", lesions.turn, scaled)
    shared = np.ones((len(there), len(inside)))  # how many lesions lie there
    reach = lesions.axes.max(1)
    gap = np.linalg.norm(lesions.middle[:, None] - lesions.middle, axis=2) - reach[:, None] - reach
    for one, other in np.argwhere((gap < 0) & ~np.eye(len(gap), dtype=bool)):
        turned = lesions.turn[other] @ (there[one] - lesions.middle[other][:, None])
        shared[one] += ((turned / lesions.axes[other][:, None]) ** 2).sum(0) < 1
    places = there.transpose(1, 0, 2).reshape(3, -1).astype(np.float32)
    still = np.zeros(places.shape, np.float32)
    fluid = mixture.healthy_brain(anatomy.template(), places, still, atrophy, caps, 0.0, 1.4)["fluid"]
    edge = (1 - np.linalg.norm(inside, axis=1)) * lesions.axes.min(1)[:, None] / (1.2 * _SOFT)
    counted = np.clip(0.5 + edge, 0, 1) * (1 - fluid.reshape(shared.shape)) >= 0.5
    volume = 4 / 3 * np.pi * lesions.axes.prod(1) * head.growth(lesions.middle.T)
    return float((volume * (counted / shared).mean(1)).sum() / 1000)


@functools.cache
def _ball() -> NDArray[np.float64]:
    """Places (m, 3) spread evenly in a ball of radius 1."""
    along = (np.arange(8) - 3.5) / 4
    places = np.stack(np.meshgrid(along, along, along), -1).reshape(-1, 3)
    return places[(places**2).sum(1) < 1]


def _toward(middle: NDArray, beside: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float64]:
    """Directions (n, 3, 3) of the axes: beside a ventricle the long one points away from it, else by chance."""
    first, other = rng.standard_normal((2, len(middle), 3))
    away = np.array([1.0, 0.0, 0.35]) * np.stack([np.sign(middle[:, 0]), *np.ones((2, len(middle)))], 1)
    first = np.where(beside[:, None], away + 0.25 * first, first)
    second = np.cross(first, other)
    basis = np.stack([first, second, np.cross(first, second)], 1)
    return basis / np.linalg.norm(basis, axis=2, keepdims=True)


def _parameters(index: int, *, severity: float, seed: int, domain: str, healthy: bool = False) -> dict[str, Any]:
    case = draw(index, severity, seed)[0]
    return scanner.DOMAINS[domain].changed(asdict(_without(case) if healthy else case))


def _without(case: Parameters) -> Parameters:
    """The same person without lesions."""
    none = dict.fromkeys(("lesions", *AREAS, "black_holes"), 0)
    return replace(case, label=CLASSES[0], load_ml=0.0, conspicuity=float("nan"), **none)


def _render(
    index: int, *, rank: int, size: int, sequence: str, severity: float, domain: str, seed: int, healthy: bool = False
) -> tuple[Volume, Volume]:
    case, head, lesions = draw(index, severity, seed)
    case = _without(case) if healthy else case
    axes = brain.head_axes(rank, size, case.slice_z_mm)
    rng = np.random.default_rng([VERSION, seed, index, 22])
    soft = max(brain.FIELD_OF_VIEW / size, 1.0)
    texture, layers = mixture.textures(rng)
    rough = anatomy.Waves.draw(rng, 1, 5, 14, n=32)
    spots, spot_mm = mixture.aging(rng, case.spots)
    scene = mixture.Scene.build(head, axes, soft, texture, layers, case.atrophy, case.caps)
    mixture.add_spots(scene.brain, scene.there, spots, _SPOT * spot_mm, soft)
    mask = np.zeros(scene.shape, np.uint8)
    if case.label == "ms":
        mask.reshape(-1)[scene.within] = _add(scene, lesions, case.conspicuity, scene.field(rough)[0])
    vary = scanner.people(rng)
    own = [VERSION, seed, index, 23, rank, size, list(physics.SEQUENCES).index(sequence)]
    machine = scanner.DOMAINS[domain]
    image = machine.image(scene.shares(), sequence, axes, vary=vary, noise=case.noise, bias=case.bias, rng=rng, own=own)
    if rank == 2:
        image, mask = brain.axial(image), brain.axial(mask)
    affine = brain.head_affine(rank, size, case.slice_z_mm)
    return (
        Volume(image, affine, "image", "MR", machine.info(sequence), rank),
        Volume(mask, affine, "labels", "MR", {}, rank),
    )


def _add(scene: mixture.Scene, lesions: Lesions, conspicuity: float, rough: NDArray) -> NDArray[np.uint8]:
    """Puts the lesions into the brain (in place) and returns the mask (m,)."""
    brain_, there, soft = scene.brain, scene.there, scene.soft
    filled = np.zeros(there.shape[1], np.float32)
    emptied = np.zeros_like(filled)  # of it, what is dark in T1
    for middle, half, turn, hole in zip(lesions.middle, lesions.axes, lesions.turn, lesions.hole, strict=True):
        middle = middle.astype(np.float32)[:, None]
        close = np.flatnonzero((np.abs(there - middle) < 1.2 * half.max() + soft).all(0))
        if not len(close):
            continue
        scaled = (turn.astype(np.float32) @ (there[:, close] - middle)) / half.astype(np.float32)[:, None]
        stretch = np.sqrt((scaled**2).sum(0)) * np.exp(0.10 * rough[close] + 1.5 * 0.10**2)
        share = np.clip(0.5 - (stretch - 1) * half.min() / (1.2 * soft), 0, 1)
        filled[close] = np.maximum(filled[close], share)
        if hole:
            emptied[close] = np.maximum(emptied[close], share)
    filled *= 1 - brain_["fluid"]
    emptied = np.minimum(emptied, filled)
    change = conspicuity * filled
    for name in ("white", "gray", "gliosis"):
        brain_[name] *= 1 - change / np.maximum(1 - brain_["fluid"], 1e-3)
    dark = conspicuity * emptied
    brain_["gliosis"] += 0.5 * (change - dark)
    brain_["edema"] = 0.5 * (change - dark) + 0.75 * dark
    brain_["fluid"] = brain_["fluid"] + 0.25 * dark
    mask = (filled >= 0.5).astype(np.uint8)
    if not mask.any() and filled.any():
        mask[np.argmax(filled)] = 1
    return mask


LESIONS = scenario.Scenario(
    name="phantom:ms-lesions",
    classes=CLASSES,
    modality="MR",
    anatomy="brain",
    topic="neurological",
    regions=("background", "lesion"),
    sizes=brain.SIZES,
    choices={"sequence": ("flair", "t1", "t2")},
    domains=tuple(scanner.DOMAINS),
    version=VERSION,
    note="Heads with and without lesions of multiple sclerosis, as MR. The anatomy is the ICBM 152 template, bent "
    "differently for each person; relaxation times are those of the literature. Lesions lie in the areas that the "
    "McDonald criteria name, with sizes, numbers and contrast that were chosen; spots and caps of aging in both "
    "classes look like them. In T1 alone only black holes show well. Spinal cord, activity and time course are left "
    "out: nothing about diagnosis or about reading patients may be concluded.",
    parameters=_parameters,
    render=_render,
)
"""The data set of this file."""
