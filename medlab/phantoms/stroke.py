"""Stroke phantom: infarcts of known territory and age in CT of the head, among old lacunes and pale white matter.

In: the number of a case. Out: a CT image in HU, the infarct's mask and the parameters it was made with.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medlab.phantoms import anatomy, brain, mixture, scenario, tomograph
from medlab.volume import Volume

VERSION = 1
CLASSES = ("healthy", "stroke")
TERRITORIES = ("mca-left", "mca-right", "aca", "pca", "cerebellum")
AGES = ("hyperacute", "acute", "subacute", "chronic")

# HU, chosen within what textbooks give for a head without contrast agent. Gliosis is the pale white matter of age.
HU = {
    "white": 28.0, "gray": 37.0, "fluid": 6.0, "gliosis": 20.0, "artery": 42.0,
    "fat": -90.0, "marrow": 350.0, "muscle": 55.0, "skin": 45.0, "bone": 1100.0,
}  # fmt: skip
AIR = -1000.0

# By age, chosen: how far the infarct's attenuation fell from that of gray and white matter toward fluid (least, most),
# and by how much its lengths swelled (above 0) or shrank. Hyperacute: the first hours; acute: to two days; subacute:
# to weeks (its fogging is left out); chronic: later.
_FALL = {"hyperacute": (0.10, 0.18), "acute": (0.28, 0.45), "subacute": (0.45, 0.65), "chronic": (0.85, 1.0)}
_SWELL = {"hyperacute": 0.02, "acute": 0.10, "subacute": 0.08, "chronic": -0.10}


@dataclass(frozen=True)
class Parameters:
    """What one case is made of. A healthy case has no infarct: radius 0, and NaN or ``"none"`` where nothing is.

    Attributes:
        label: ``"healthy"`` or ``"stroke"``.
        region: territory of ``TERRITORIES``; middle (mca), anterior (aca) or posterior (pca) cerebral artery.
        age: of the infarct, one of ``AGES``.
        x_mm: middle of the infarct, mm to the patient's right.
        y_mm: mm to the front.
        z_mm: mm to the head.
        radius_mm: of a ball as large as the infarct before the borders of its territory cut it.
        fall: how far its attenuation fell from that of the tissue toward fluid, 0 to 1.
        dense_artery: HU of the clotted artery; NaN where there is none.
        lacunes: number of old small holes in the deep brain, in healthy and sick alike.
        leukoaraiosis: pallor of the white matter beside the ventricles, 0 to 1, likewise.
        atrophy: width of the fluid spaces; 0 is the template's.
        slice_z_mm: where a 2-D slice is cut, mm to the head; in the sick it meets the infarct.
        noise: deviation in HU.
    """

    label: str
    region: str
    age: str
    x_mm: float
    y_mm: float
    z_mm: float
    radius_mm: float
    fall: float
    dense_artery: float
    lacunes: int
    leukoaraiosis: float
    atrophy: float
    slice_z_mm: float
    noise: float


def territory(name: str, there: NDArray) -> NDArray[np.float32]:
    """About the distance in mm into a territory (positive inside) at places (3, n) of the template.

    Plain planes, near where atlases draw the borders; left and right are one territory but for the middle artery.
    """
    x, y, z = there
    tentorium = z + 22 + 0.25 * (y + 45)  # above 0 over the cerebellum
    # Behind this border lies the posterior territory, nearer to the falx the anterior one.
    behind = -58 - y + 0.35 * (20 - z)
    medial = 16 - np.abs(x) + 0.12 * np.maximum(z - 30, 0)
    if name == "cerebellum":
        return np.minimum(-tentorium, -y - 40).astype(np.float32)
    if name == "pca":
        return np.minimum(np.minimum(tentorium, behind), 46 - np.abs(x)).astype(np.float32)
    if name == "aca":
        return np.minimum(np.minimum(medial, -behind), z - 2).astype(np.float32)
    side = x if name == "mca-right" else -x
    above = np.minimum(tentorium, -behind)
    return np.minimum(np.minimum(above, side - 10), np.where(z > 2, -medial, 40.0)).astype(np.float32)


@functools.cache
def sites() -> dict[str, NDArray[np.float64]]:
    """Where an infarct of each territory may have its middle: (m, 3) mm in the template each."""
    template = anatomy.template()
    gray, white = template.tissues
    to_world = np.linalg.inv(template.to_voxel)
    voxel = np.argwhere((gray[::2, ::2, ::2].astype(int) + white[::2, ::2, ::2]) > 200) * 2
    place = voxel @ to_world[:3, :3].T + to_world[:3, 3]
    hull = anatomy.sample(template.surfaces[:1], template.to_coarse, place.T.astype(np.float32))[0]
    place = place[(hull < -7) & (place[:, 2] > -48) & (place[:, 2] < 62)]
    return {name: place[territory(name, place.T) > 5] for name in TERRITORIES}


@dataclass(frozen=True, eq=False)
class _Plan:
    case: Parameters
    head: anatomy.Head
    middle: NDArray[np.float64]  # of the infarct, in the template
    half: NDArray[np.float64]  # its half axes
    side: float  # of the clotted artery
    artery: float  # HU of the others


@functools.lru_cache(maxsize=1024)
def draw(index: int, severity: float, seed: int) -> _Plan:
    """All that makes a case. Every case draws the same numbers in the same order, sick or not."""
    first_is_sick = np.random.default_rng([VERSION, seed, index // 2, 39]).random() < 0.5
    sick = first_is_sick == (index % 2 == 0)
    head = anatomy.Head.draw(np.random.default_rng([VERSION, seed, index, 30]))
    rng = np.random.default_rng([VERSION, seed, index, 31])
    u = rng.random(12)
    region = TERRITORIES[int(rng.choice(len(TERRITORIES), p=(0.3, 0.3, 0.1, 0.15, 0.15)))]
    age = AGES[int(rng.choice(len(AGES), p=(0.2, 0.35, 0.25, 0.2)))]
    places = sites()[region]
    middle = places[rng.integers(len(places))]
    radius = (9 + 15 * u[0]) / severity**0.4
    shape = np.exp(0.25 * np.clip(rng.standard_normal(3), -1.5, 1.5))
    half = radius * shape / np.cbrt(shape.prod())
    least, most = _FALL[age]
    fall = min((least + (most - least) * u[1]) / severity**0.5, 1.0)
    years = u[2]
    x, y, z = head.from_template(middle)
    right = middle[0] > 0
    clot = region.startswith("mca") and age == "hyperacute" and u[3] < 0.6 and sick
    # Thick blood makes all arteries dense, in anyone.
    artery = HU["artery"] + 3 * (u[4] - 0.5) + (9 if u[5] > 0.85 else 0)
    nan = float("nan")
    infarct = {"x_mm": nan, "y_mm": nan, "z_mm": nan, "radius_mm": 0.0, "fall": nan}
    if sick:
        infarct = {
            "x_mm": float(x), "y_mm": float(y), "z_mm": float(z), "radius_mm": float(radius), "fall": float(fall)
        }  # fmt: skip
    case = Parameters(
        label=CLASSES[int(sick)],
        region=region if sick else "none",
        age=age if sick else "none",
        **infarct,
        dense_artery=float(60 + 18 * u[6]) if clot else nan,
        lacunes=int(rng.poisson(3.5 * severity * years)),
        leukoaraiosis=float(min(1.1 * severity**0.5 * years * u[7], 1)),
        atrophy=float(1.2 * (years - 0.35) + 0.4 * (u[8] - 0.5)),
        slice_z_mm=float(z + (u[9] - 0.5) * 0.9 * radius),
        noise=float((2.2 + 1.6 * u[10]) * severity**0.5),
    )
    return _Plan(case, head, middle, half, 1.0 if right else -1.0, float(artery))


def _without(case: Parameters) -> Parameters:
    """The same person without the infarct and the clot."""
    lost = dict.fromkeys(("x_mm", "y_mm", "z_mm", "fall", "dense_artery"), float("nan"))
    return replace(case, label=CLASSES[0], region="none", age="none", radius_mm=0.0, **lost)


def _parameters(index: int, *, severity: float, seed: int, domain: str, healthy: bool = False) -> dict[str, Any]:
    case = draw(index, severity, seed).case
    case = asdict(_without(case) if healthy else case)
    return {**case, "noise": case["noise"] * tomograph.DOMAINS[domain].noise}


def _render(
    index: int, *, rank: int, size: int, severity: float, domain: str, seed: int, healthy: bool = False
) -> tuple[Volume, Volume]:
    plan = draw(index, severity, seed)
    plan = replace(plan, case=_without(plan.case)) if healthy else plan
    case = plan.case
    axes = brain.head_axes(rank, size, case.slice_z_mm)
    rng = np.random.default_rng([VERSION, seed, index, 32])
    soft = max(brain.FIELD_OF_VIEW / size, 1.0)
    texture, layers = mixture.textures(rng)
    lobes = anatomy.Waves.draw(rng, 2, 14, 50, n=32)
    sites_, sizes = mixture.aging(rng, case.lacunes)
    persons = rng.standard_normal(4)
    warp = functools.partial(_swell, case=case, lengths=plan.half.mean()) if case.label == "stroke" else None
    scene = mixture.Scene.build(plan.head, axes, soft, texture, layers, case.atrophy, case.leukoaraiosis, warp)
    for site, radius in zip(sites_, sizes, strict=True):
        _move(scene, "fluid", _ball(scene, site, 0.3 * radius + 1.2))
    _arteries(scene, plan)
    mask = np.zeros(scene.shape, np.uint8)
    fallen = np.zeros(len(scene.within), np.float32)
    if case.label == "stroke":
        share = _infarct(scene, plan, scene.field(lobes))
        fallen = share * np.float32(case.fall)
        mask.reshape(-1)[scene.within] = share >= 0.5
        if not mask.any() and share.any():
            mask.reshape(-1)[scene.within[np.argmax(share)]] = 1
    shares = scene.shares()
    mine = dict(HU) | {"artery": plan.artery, "clot": case.dense_artery}
    for name, change in zip(("white", "gray", "gliosis", "muscle"), persons, strict=True):
        mine[name] += 1.2 * float(np.clip(change, -2, 2))
    image = np.full(scene.shape, AIR, np.float32)
    for name, share in shares.items():
        image += np.float32(mine[name] - AIR) * share
    matter = sum(shares[name] for name in ("white", "gray", "gliosis")).reshape(-1)[scene.within]
    level = image.reshape(-1)[scene.within]
    # What gray and white matter lose; the cortex loses more than the white matter and so they look alike.
    image.reshape(-1)[scene.within] = level - fallen * matter * np.maximum(level - HU["fluid"], 0)
    own = np.random.default_rng([VERSION, seed, index, 33, rank, size, tomograph.DOMAINS[domain].number])
    image = tomograph.acquire(image, tomograph.DOMAINS[domain], case.noise, axes, own)
    if rank == 2:
        image, mask = brain.axial(image), brain.axial(mask)
    affine = brain.head_affine(rank, size, case.slice_z_mm)
    info = {"kvp": 120, "unit": "HU"}
    return Volume(image, affine, "image", "CT", info, rank), Volume(mask, affine, "labels", "CT", {}, rank)


def _swell(here: NDArray, hull: NDArray, *, case: Parameters, lengths: float) -> NDArray[np.float32]:
    """From where tissue came: an infarct that swells pushes its surroundings outward, one that shrinks draws them."""
    away = here - np.array([[case.x_mm], [case.y_mm], [case.z_mm]], np.float32)
    near = np.exp(-(away**2).sum(0) / (2 * (1.2 * lengths) ** 2)) * np.clip(-hull / 10, 0, 1)
    return here - np.float32(_SWELL[case.age]) * away * near


def _ball(scene: mixture.Scene, site: NDArray, radius: float) -> NDArray[np.float32]:
    """Share of a ball of the template (mm) in each voxel of the brain."""
    distance = np.sqrt(((scene.there - site.astype(np.float32)[:, None]) ** 2).sum(0))
    return np.clip(0.5 - (distance - radius) / (1.5 * scene.soft), 0, 1)


def _move(scene: mixture.Scene, name: str, share: NDArray) -> None:
    """Lets one tissue take its share of every voxel."""
    for other in scene.brain.values():
        other *= 1 - share
    scene.brain[name] = scene.brain.get(name, 0) + share


def _arteries(scene: mixture.Scene, plan: _Plan) -> None:
    """The first parts of both middle cerebral arteries, from the carotid to the insula; one may hold a clot."""
    course = np.array([[9, 3, -17], [18, 1, -18], [28, 3, -17], [36, 0, -10]], np.float32)
    for side in (-1.0, 1.0):
        distance = np.full(scene.there.shape[1], np.inf, np.float32)
        points = course * np.array([side, 1, 1], np.float32)
        close = np.flatnonzero((scene.there[2] > -26) & (scene.there[2] < -2))
        here = scene.there[:, close]
        for start, end in itertools.pairwise(points):
            along = end - start
            t = np.clip(along @ (here - start[:, None]) / (along @ along), 0, 1)
            gap = np.sqrt(((here - start[:, None] - along[:, None] * t) ** 2).sum(0))
            distance[close] = np.minimum(distance[close], gap)
        share = np.clip(0.5 - (distance - 1.5) / scene.soft, 0, 1)
        clotted = plan.case.dense_artery > 0 and side == plan.side
        _move(scene, "clot" if clotted else "artery", share)


def _infarct(scene: mixture.Scene, plan: _Plan, lobes: NDArray) -> NDArray[np.float32]:
    """Share of infarcted tissue in each voxel of the brain: an uneven ellipsoid within its territory."""
    there = scene.there
    scaled = (there - plan.middle.astype(np.float32)[:, None]) / plan.half.astype(np.float32)[:, None]
    distance = (np.sqrt((scaled**2).sum(0)) * np.exp(0.2 * lobes[0]) - 1) * plan.half.min()
    inside = territory(plan.case.region, there) + 3.0 * lobes[1]
    same_side = there[0] * np.sign(plan.middle[0])
    share = np.clip(0.5 - distance / (2.5 * scene.soft), 0, 1)
    share *= np.clip(0.5 + inside / (2.5 * scene.soft), 0, 1) * np.clip(0.5 + same_side / scene.soft, 0, 1)
    return share * np.clip(1 - scene.brain["fluid"], 0, 1)


STROKE = scenario.Scenario(
    name="phantom:stroke",
    classes=CLASSES,
    modality="CT",
    anatomy="brain",
    topic="neurological",
    regions=("background", "infarct"),
    sizes=brain.SIZES,
    choices={},
    domains=tuple(tomograph.DOMAINS),
    window=("brain", 40, 80),
    version=VERSION,
    note="Heads with and without an ischemic infarct, as CT without contrast agent. The brain is the ICBM 152 "
    "template, bent differently for each person; skull, arteries and territories are plain shapes. Attenuations by "
    "tissue and by the infarct's age, swelling and frequencies were chosen; noise has the spectrum of filtered "
    "back-projection, but nothing was projected: no streaks, no beam hardening of the skull. Hemorrhage is left out. "
    "In the window of the brain (the recipe 'CT-brain', which \"auto\" takes) an infarct is seen, in that of soft "
    "tissue hardly. Nothing about diagnosis, timing or treatment of patients may be concluded.",
    parameters=_parameters,
    render=_render,
)
"""The data set of this file."""
