"""Colors for masks and heat maps that every kind of color vision can tell apart; NumPy alone.

In: labels, or shares of heat from 0 to 1. Out: uint8 RGB.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

NAN_COLOR = (255, 0, 255)
"""The color of voxels that are not a number: in no gray scale, no mask and no heat map."""

# Okabe and Ito, Color Universal Design (2008), without black; label 1 has the first, label 8 the first again.
LABEL_COLORS = np.array(
    [(86, 180, 233), (230, 159, 0), (0, 158, 115), (240, 228, 66), (213, 94, 0), (0, 114, 178), (204, 121, 167)],
    np.uint8,
)


def whole(mask: np.ndarray) -> NDArray[np.int64]:
    """A mask as whole numbers: floats rounded, NaN as background."""
    if mask.dtype.kind == "f":
        mask = np.rint(np.nan_to_num(mask))
    return mask.astype(np.int64)


def label_colors(labels: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The color of each label, (..., 3) uint8, black for 0."""
    return np.where(labels[..., None] == 0, np.uint8(0), LABEL_COLORS[(labels - 1) % len(LABEL_COLORS)])


def heat_top(heat: np.ndarray) -> float:
    """The largest finite value of a heat map; 0 where it has none above."""
    finite = heat[np.isfinite(heat)]
    return max(float(finite.max()), 0.0) if finite.size else 0.0


def heat_share(heat: np.ndarray, top: float) -> NDArray[np.float64]:
    """The heat as a share of ``top``, 0 to 1; all 0 where ``top`` is 0, and where the heat is no number."""
    if not top > 0:
        return np.zeros(heat.shape)
    return np.clip(np.nan_to_num(heat.astype(np.float64) / top, nan=0.0), 0, 1)


def heat_colors(share: ArrayLike) -> NDArray[np.uint8]:
    """The colors of shares from 0 (dark blue) to 1 (yellow): (..., 3) uint8."""
    return HEAT_COLORS[np.rint(np.clip(share, 0, 1) * 255).astype(np.intp)]


def _table(*anchors: tuple[int, int, int], count: int = 256) -> NDArray[np.uint8]:
    """``count`` colors through the anchors, at equal steps of CIELAB, so that equal steps of the value look equal."""
    lab, last = _rgb_to_lab(np.array(anchors) / 255), len(anchors) - 1
    fine = np.stack([np.interp(np.linspace(0, last, 5001), np.arange(last + 1), column) for column in lab.T], axis=1)
    shown = np.clip(_lab_to_rgb(fine), 0, 1)
    # Measured on what can be shown: some colors between the anchors lie outside sRGB.
    way = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(_rgb_to_lab(shown), axis=0), axis=1))])
    even = np.stack([np.interp(np.linspace(0, way[-1], count), way, column) for column in shown.T], axis=1)
    return np.rint(even * 255).astype(np.uint8)


# IEC 61966-2-1 (sRGB) to CIE XYZ, white point D65.
_XYZ = np.array(
    [(0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041)]
)


def _rgb_to_lab(rgb: np.ndarray) -> np.ndarray:
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x, y, z = (linear @ _XYZ.T / _XYZ.sum(axis=1)).T
    f = [np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29) for t in (x, y, z)]
    return np.stack([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])], axis=-1)


def _lab_to_rgb(lab: np.ndarray) -> np.ndarray:
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * _XYZ.sum(axis=1)
    linear = np.clip(xyz @ np.linalg.inv(_XYZ).T, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


# Dark blue over purple and orange to yellow. Lightness only grows: they differ in gray and for any color vision.
HEAT_COLORS = _table((20, 10, 130), (110, 0, 168), (180, 40, 140), (225, 98, 95), (250, 155, 55), (240, 245, 40))
# Purple for values below 0, white for 0, orange for values above: told apart by any color vision.
SIGNED_COLORS = np.concatenate(
    [_table((84, 39, 136), (255, 255, 255), count=128), _table((255, 255, 255), (179, 88, 6), count=128)]
)


def nan_note(array: np.ndarray) -> str:
    """What a caption says of values that have no gray and are painted magenta: ``"all NaN"``, ``"3 % NaN"`` or ""."""
    share = float(np.isnan(array).mean()) if array.dtype.kind == "f" else 0.0
    if not share:
        return ""
    return "all NaN" if share == 1 else f"{100 * share:.2g} % NaN" if share < 0.995 else "over 99 % NaN"
