"""Heads: tissue maps of the ICBM 152 template, a skull and scalp around them, and how people differ.

In: a random generator, places in mm. Out: where a place of one person lies in the template, and what is there.
Source of the template: Fonov et al., NeuroImage 54:313 (2011), 1 mm, nonlinear symmetric 2009a, as nilearn brings it.
"""

from __future__ import annotations

import functools
import importlib.util
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medlab import geometry

CENTER = np.array([0.0, -18.0, 8.0])
"""Middle of the template's brain, mm in RAS; people differ around it."""

_COARSE = 3.0  # mm; distances are smooth
_COARSE_START, _COARSE_SHAPE = np.array([-114.0, -159.0, -135.0]), (77, 99, 87)
SKULL = 13.0  # mm from the brain's hull to the skin of the vault

# Middle and half axes (mm) of what lies outside the brain, read from an atlas; good enough to look like a head.
_BULGES = {
    "face": ((0, 36, -78), (60, 58, 72)), "nose": ((0, 96, -72), (13, 16, 22)),
    "temple left": ((-60, 22, -18), (20, 34, 36)), "temple right": ((60, 22, -18), (20, 34, 36)),
}  # fmt: skip
_AIR = {
    "frontal": ((0, 78, -10), (17, 5, 9)), "nasal": ((0, 62, -64), (9, 30, 20)), "pharynx": ((0, 18, -92), (12, 9, 26)),
    "maxillary left": ((-27, 56, -72), (12, 14, 15)), "maxillary right": ((27, 56, -72), (12, 14, 15)),
    "mastoid left": ((-52, -34, -44), (7, 9, 11)), "mastoid right": ((52, -34, -44), (7, 9, 11)),
}  # fmt: skip
# Without end below the skull: middle (x, y), half axes, and the height where they begin.
_NECK, _COLUMN, _CANAL = ((0, -30), (52, 54), -45), ((0, -24), (15, 12), -70), ((0, -46), (9, 8), -68)
_ORBITS = {"left": ((-31, 56, -42), (17, 26, 16)), "right": ((31, 56, -42), (17, 26, 16))}
_EYES = {"left": ((-32, 68, -42), (12, 12, 12)), "right": ((32, 68, -42), (12, 12, 12))}


@dataclass(frozen=True, eq=False)
class Template:
    """What all people share; world is the template's mm in RAS.

    Attributes:
        tissues: gray and white matter, (i, j, k) uint8 each; 255 is all.
        to_voxel: (4, 4) world to the voxels of ``tissues``.
        surfaces: signed distances in mm to the hull of the brain and to the skin, positive outside; (i, j, k) float32
            each on a coarse grid, as are the next two.
        near: nearness to the lateral ventricles, 1 at their wall, fading within millimeters.
        spaces: signed distances to air-filled spaces, orbits, eyes, vertebrae and the spinal canal.
        to_coarse: (4, 4) world to the voxels of the coarse grid.
        sites: (m, 3) where a tumor may sit: white matter, and gray matter near it, well inside the brain.
        white_sites: (m, 3) deep white matter, where small lesions of aging sit.
    """

    tissues: tuple[NDArray[np.uint8], NDArray[np.uint8]]
    to_voxel: NDArray[np.float64]
    surfaces: tuple[NDArray[np.float32], NDArray[np.float32]]
    near: NDArray[np.float32]
    spaces: tuple[NDArray[np.float32], ...]
    to_coarse: NDArray[np.float64]
    sites: NDArray[np.float64]
    white_sites: NDArray[np.float64]


_reading = threading.Lock()


def template() -> Template:
    """The template, read once a process (about a second).

    Raises:
        ValueError: nilearn is not installed or does not bring the files.
    """
    with _reading:
        return _template()


@functools.cache
def _template() -> Template:
    gray, white, t1 = (_read(name) for name in ("gm", "wm", "t1"))
    affine = t1.affine
    gray, white, t1 = (np.asarray(image.dataobj) for image in (gray, white, t1))
    coarse = geometry.from_parts([_COARSE] * 3, _COARSE_START)
    places = geometry.apply(coarse, np.stack(np.indices(_COARSE_SHAPE), -1))
    voxel = np.rint(geometry.apply(geometry.invert(affine), places)).astype(int)
    inside = ((voxel >= 0) & (voxel < t1.shape)).all(-1)
    i, j, k = np.where(inside[..., None], voxel, 0).transpose(3, 0, 1, 2)
    at = {name: np.where(inside, image[i, j, k], 0) for name, image in (("gray", gray), ("white", white), ("t1", t1))}

    # Closed by 9 mm, so that sulci and fissures lie inside the hull.
    hull = ndimage.gaussian_filter(_signed(_distance(at["t1"] > 0) <= 9) + 9, 0.8)
    matter = at["gray"].astype(int) + at["white"]
    x, z = places[..., 0], places[..., 2]
    ventricle = (matter < 110) & (hull < -24) & (np.abs(x) < 36) & (z > -12) & (z < 36)
    near = np.exp(-_distance(ventricle) / 4.0)
    neck, column, canal = (_pillar(places, *one) for one in (_NECK, _COLUMN, _CANAL))
    disks = 2 - np.abs((z + 75) % 18 - 9)  # every 18 mm the column is interrupted by a dark disk
    skin = functools.reduce(_smooth_minimum, [hull - SKULL, neck, *(_ellipsoid(places, *b) for b in _BULGES.values())])
    spaces = [
        functools.reduce(np.minimum, (_ellipsoid(places, *one) for one in group.values()))
        for group in (_AIR, _ORBITS, _EYES)
    ]
    deep = (hull < -13) & (z > -18) & (z < 52)
    return Template(
        tissues=(np.ascontiguousarray(gray), np.ascontiguousarray(white)),
        to_voxel=geometry.invert(affine),
        surfaces=(hull.astype(np.float32), skin.astype(np.float32)),
        near=near.astype(np.float32),
        spaces=tuple(space.astype(np.float32) for space in (*spaces, np.maximum(column, disks), canal)),
        to_coarse=geometry.invert(coarse),
        sites=places[deep & (matter > 225) & (at["white"] > 60)],
        white_sites=places[deep & (at["white"] > 215) & (hull < -16)],
    )


def _read(name: str) -> nibabel.Nifti1Image:
    spec = importlib.util.find_spec("nilearn")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError("The brain phantom needs the template inside nilearn: pip install nilearn.")
    folder = Path(spec.submodule_search_locations[0]) / "datasets" / "data"
    file = folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"
    if not file.is_file():
        raise ValueError(f"This nilearn does not bring {file.name}. Install nilearn 0.11 or newer.")
    return nibabel.load(file)


def _distance(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance in mm to the border of a mask on the coarse grid, 0 inside."""
    return np.maximum(ndimage.distance_transform_edt(~mask, sampling=_COARSE) - _COARSE / 2, 0)


def _signed(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance in mm to the border of a mask on the coarse grid, negative inside."""
    return np.where(mask, -_distance(~mask), _distance(mask))


def _ellipsoid(places: NDArray, middle: tuple, half_axes: tuple) -> NDArray[np.float64]:
    """About the distance in mm to an ellipsoid's surface, negative inside."""
    scaled = (places - middle) / half_axes
    return (np.linalg.norm(scaled, axis=-1) - 1) * min(half_axes)


def _pillar(places: NDArray, middle: tuple, half_axes: tuple, top: float) -> NDArray[np.float64]:
    """About the distance in mm to an elliptic pillar below the height ``top``, negative inside."""
    scaled = (places[..., :2] - middle) / half_axes
    return np.maximum((np.linalg.norm(scaled, axis=-1) - 1) * min(half_axes), places[..., 2] - top)


def _smooth_minimum(a: NDArray, b: NDArray, width: float = 8.0) -> NDArray[np.float64]:
    """The smaller of two distances, rounded where they meet."""
    mix = np.clip(0.5 + (b - a) / (2 * width), 0, 1)
    return b + (a - b) * mix - width * mix * (1 - mix)


def sample(maps: Sequence[NDArray], to_voxel: NDArray, places: NDArray) -> NDArray[np.float32]:
    """Linear interpolation of several maps at the same places; outside, the value at the border.

    Args:
        maps: m arrays (i, j, k), C-contiguous.
        to_voxel: (4, 4), mm to voxels.
        places: (3, n) mm.

    Returns:
        (m, n) float32.
    """
    _, columns, layers = shape = maps[0].shape
    voxel = to_voxel[:3, :3].astype(np.float32) @ places + to_voxel[:3, 3:].astype(np.float32)
    np.clip(voxel, 0, np.array(shape, np.float32)[:, None] - 1.001, out=voxel)
    low = voxel.astype(np.int32)
    up = voxel - low
    down = 1 - up
    first = (low[0] * columns + low[1]) * layers + low[2]
    flat = [one.reshape(-1) for one in maps]
    result = np.zeros((len(maps), voxel.shape[1]), np.float32)
    for corner in np.ndindex(2, 2, 2):
        x, y, z = (up[axis] if one else down[axis] for axis, one in enumerate(corner))
        weight = x * y * z
        index = first + ((corner[0] * columns + corner[1]) * layers + corner[2])
        for row, values in zip(result, flat, strict=True):
            row += values.take(index) * weight
    return result


@dataclass(frozen=True, eq=False)
class Waves:
    """Smooth random fields over space: sums of plane waves, so that a place has one value whatever the grid.

    On a grid along the axes a plane wave is a product of three, and the sum is one matrix product.

    Attributes:
        vectors: (n, 3) radians per mm.
        weights: (m, n) complex: amplitude and phase of each wave in each field.
    """

    vectors: NDArray[np.float64]
    weights: NDArray[np.complex128]

    @classmethod
    def draw(cls, rng: np.random.Generator, fields: int, shortest: float, longest: float, n: int = 24) -> Waves:
        """``fields`` independent fields of mean 0 and deviation 1 with wavelengths between two lengths in mm."""
        direction = rng.standard_normal((n, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        length = shortest * (longest / shortest) ** rng.random(n)
        share = length / np.sqrt((length**2).sum())  # long waves are the strong ones
        phase = np.exp(2j * np.pi * rng.random((fields, n)))
        return cls(direction * (2 * np.pi / length)[:, None], np.sqrt(2) * share * phase)

    def at(self, point: NDArray) -> NDArray[np.float64]:
        """Values (m,) at one place (3,) in mm."""
        return (self.weights @ np.exp(1j * (self.vectors @ point))).real

    def near(self, points: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Values (m, n) at places (3, n) in mm, and their slopes (m, 3, n) per mm."""
        phase = np.exp(1j * (self.vectors @ points))
        slopes = np.einsum("mw,wa,wn->man", self.weights, 1j * self.vectors, phase, optimize=True)
        return (self.weights @ phase).real, slopes.real

    def on(self, axes: tuple[NDArray, NDArray, NDArray]) -> NDArray[np.float32]:
        """Values (m, i, j, k) on the grid of three axes, each in mm."""
        x, y, z = (np.exp(1j * np.outer(self.vectors[:, a], axis)) for a, axis in enumerate(axes))
        fields, n = self.weights.shape
        left = (self.weights[:, None, :] * x.T[None]).reshape(-1, n)
        right = (y[:, :, None] * z[:, None, :]).reshape(n, -1)
        # The real part of the complex product, as one product of real matrices.
        left = np.concatenate([left.real, -left.imag], 1).astype(np.float32)
        right = np.concatenate([right.real, right.imag], 0).astype(np.float32)
        # Eight rows at a time where it is small: such products are not spread over threads, which on a busy machine
        # would cost far more than they save.
        rows = len(left)
        if right.shape[1] <= 512:
            left = np.pad(left, ((0, -rows % 8), (0, 0))).reshape(-1, 8, 2 * n)
        product = (left @ right).reshape(-1, right.shape[1])[:rows]
        return product.reshape(fields, *(len(axis) for axis in axes))


@dataclass(frozen=True, eq=False)
class Head:
    """One person: an affine and an elastic difference from the template, both by chance.

    Attributes:
        linear: (3, 3), person to template.
        shift: (3,) mm.
        shape: three fields: how lobes and ventricles lie elsewhere (deviation 2.2 mm each).
        folds: three fields: how the cortex folds otherwise (deviation 1 mm each).
    """

    linear: NDArray[np.float64]
    shift: NDArray[np.float64]
    shape: Waves
    folds: Waves

    SHAPE_MM = 2.2
    FOLDS_MM = 1.0

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Head:
        """A person: size within some 5 %, nodded and turned by a few degrees, moved by a few millimeters."""
        stretch = 1 + 0.03 * np.clip(rng.standard_normal(), -2, 2) + 0.025 * np.clip(rng.standard_normal(3), -2, 2)
        angles = np.radians([5.0, 2.5, 4.0]) * np.clip(rng.standard_normal(3), -2, 2)
        shift = np.array([2.0, 2.0, 2.0]) * np.clip(rng.standard_normal(3), -2, 2)
        linear = _rotation(angles) / stretch
        return cls(linear, shift, Waves.draw(rng, 3, 70, 200), Waves.draw(rng, 3, 18, 45, n=40))

    def to_template(self, places: NDArray, bend: NDArray) -> NDArray[np.float32]:
        """Where places (3, n) of the person lie in the template, with their elastic part ``bend`` (3, n); mm."""
        offset = CENTER + self.shift - self.linear @ CENTER
        return self.linear.astype(np.float32) @ places + offset.astype(np.float32)[:, None] + bend

    def from_template(self, site: NDArray) -> NDArray[np.float64]:
        """The place (3,) of the person that lies at ``site`` of the template, to a hundredth of a millimeter."""
        inverse = np.linalg.inv(self.linear)
        place = np.asarray(site, np.float64)
        for _ in range(8):
            bend = self.SHAPE_MM * self.shape.at(place) + self.FOLDS_MM * self.folds.at(place)
            place = inverse @ (site - bend - CENTER - self.shift) + CENTER
        return place

    def growth(self, sites: NDArray) -> NDArray[np.float64]:
        """How large each little volume around ``sites`` (3, n) of the template is in the person, by its size there."""
        inverse = np.linalg.inv(self.linear)
        middle, moved = CENTER[:, None], (CENTER + self.shift)[:, None]
        places = inverse @ (sites - moved) + middle
        for _ in range(4):
            bend = self.SHAPE_MM * self.shape.near(places)[0] + self.FOLDS_MM * self.folds.near(places)[0]
            places = inverse @ (sites - bend - moved) + middle
        slopes = self.SHAPE_MM * self.shape.near(places)[1] + self.FOLDS_MM * self.folds.near(places)[1]
        return 1 / np.abs(np.linalg.det(self.linear + slopes.transpose(2, 0, 1)))


def _rotation(angles: NDArray) -> NDArray[np.float64]:
    """The rotation by three angles (radians) about x, y and z in turn."""
    (a, b, c), (s, t, u) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, a, -s], [0, s, a]])
    about_y = np.array([[b, 0, t], [0, 1, 0], [-t, 0, b]])
    about_z = np.array([[c, -u, 0], [u, c, 0], [0, 0, 1]])
    return about_x @ about_y @ about_z
