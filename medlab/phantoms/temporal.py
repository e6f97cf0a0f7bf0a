"""The hippocampus of the template: where it lies, how large it is after it lost some of its border.

In: places in the template's mm. Out: distance to its border, and what fills the room that it leaves.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medlab import geometry
from medlab.phantoms import anatomy

MIDDLE = np.array([27.0, -24.0, -13.5])
"""Middle of the right hippocampus, mm in the template; the left one is its mirror image."""

FRONT_MM = -20.5
"""Height y of the plane between the anterior and the posterior part, near the end of the uncus; chosen."""

# Sections of a tube around the right hippocampus, read from the template's T1 image: y; x and z of its middle; half
# width and half height in mm; how far its lateral end is raised, degrees.
_TUBE = np.array([
    (-6, 27, -22.0, 6.0, 3.5, -10), (-8, 27, -21.5, 8.0, 4.5, -15), (-11, 26.5, -20.0, 9.0, 5.0, -12),
    (-14, 27.5, -18.2, 9.5, 5.2, -8), (-17, 28, -16.5, 9.2, 5.1, -6), (-20, 28.5, -15.2, 8.8, 5.0, -5),
    (-23, 28.5, -13.8, 8.4, 4.7, 0), (-26, 28, -12.2, 8.3, 4.4, 5), (-29, 28.5, -10.2, 8.4, 4.5, 8),
    (-32, 28.5, -8.0, 8.5, 4.6, 10), (-35, 27.5, -5.8, 8.2, 4.8, 12), (-38, 25.5, -3.2, 7.8, 4.8, 15),
    (-41, 23, -1.0, 6.0, 4.3, 20), (-43, 21, 0.5, 4.0, 3.5, 20),
])  # fmt: skip
_START, _SHAPE = np.array([4.0, -54.0, -38.0]), (46, 60, 56)  # of the maps: mm, voxels of 1 mm


@dataclass(frozen=True, eq=False)
class Hippocampus:
    """Maps of the right side; the left is its mirror image.

    Attributes:
        distance: signed distance in mm to the border, negative inside; (i, j, k) float32.
        fluid: what a shrinking leaves: 1 fluid of the temporal horn and the choroid fissure, 0 white matter.
        to_voxel: (4, 4) mm of the template to voxels of the maps.
        sites: (3, n) places evenly inside, one in 59 voxels, mm in the template.
        losses: mm lost at the border, ascending.
        volumes: (2, m) ml of the anterior and the posterior part after each of ``losses``, in the template.
    """

    distance: NDArray[np.float32]
    fluid: NDArray[np.float32]
    to_voxel: NDArray[np.float64]
    sites: NDArray[np.float64]
    losses: NDArray[np.float64]
    volumes: NDArray[np.float64]

    def at(self, there: NDArray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Distance and fluid at places (3, n) of the template, of either side."""
        places = there.copy()
        places[0] = np.abs(places[0])
        distance, fluid = anatomy.sample([self.distance, self.fluid], self.to_voxel, places)
        return distance, fluid

    def volume_at(self, loss: float) -> float:
        """Volume in ml of a side of the template that lost ``loss`` mm of its border."""
        return float(np.interp(loss, self.losses, self.volumes.sum(0)))

    def loss(self, volume: float, growth: float) -> float:
        """The loss in mm after which a side has a volume in ml, where the person is ``growth`` times the template."""
        return float(np.interp(-volume / growth, -self.volumes.sum(0), self.losses))


@functools.cache
def hippocampus() -> Hippocampus:
    """The template's gray matter within the tube, closed and smooth."""
    template = anatomy.template()
    to_world = geometry.from_parts([1.0] * 3, _START)
    places = geometry.apply(to_world, np.stack(np.indices(_SHAPE), -1)).reshape(-1, 3).T
    gray = anatomy.sample(template.tissues[:1], template.to_voxel, places.astype(np.float32)).reshape(_SHAPE) / 255
    sections = _TUBE.T[1:]
    x, z, width, height, raised = (np.interp(-places[1], -_TUBE[:, 0], column) for column in sections)
    a = np.radians(raised)
    across = (places[0] - x) * np.cos(a) + (places[2] - z) * np.sin(a)
    up = (places[2] - z) * np.cos(a) - (places[0] - x) * np.sin(a)
    tube = (np.abs(across) / width) ** 2.5 + (np.abs(up) / height) ** 2.5 < 1
    tube &= (places[1] < _TUBE[0, 0] + 1) & (places[1] > _TUBE[-1, 0] - 1)
    tube = tube.reshape(_SHAPE)
    found = tube & (ndimage.gaussian_filter(gray, 0.7) > 0.5)
    found = ndimage.binary_opening(ndimage.binary_closing(found, iterations=2) & tube)
    parts, _ = ndimage.label(found)
    found = parts == np.argmax(np.bincount(parts.ravel())[1:]) + 1
    inside, outside = (ndimage.distance_transform_edt(one) for one in (found, ~found))
    distance = ndimage.gaussian_filter(np.where(found, 0.5 - inside, outside - 0.5), 0.8).astype(np.float32)
    # Above and to the side lie the choroid fissure and the temporal horn; below and medially white matter.
    fluid = np.clip(0.5 + 0.8 * (up / height + 0.6 * across / width), 0, 1).reshape(_SHAPE).astype(np.float32)
    losses = np.linspace(-1, 2.5, 36)
    front = places[1].reshape(_SHAPE) > FRONT_MM
    held = [np.clip(0.5 - distance - loss, 0, 1) for loss in losses]
    volumes = np.array([[one[front].sum(), one[~front].sum()] for one in held]).T / 1000
    sites = places[:, distance.reshape(-1) < -0.4][:, ::59]
    return Hippocampus(distance, fluid, geometry.invert(to_world), sites, losses, volumes)
