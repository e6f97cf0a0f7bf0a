"""Policy: which random changes a training image of a modality may undergo, and how they are done.

In: a modality. Out: a callable from a batch of arrays to a new one. What happens to a case depends on the seed and the
case's key alone. It knows arrays, not Volumes, and nothing of files.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

from medlab.augment import deformation, intensity, spatial
from medlab.augment.kinds import KINDS, USERS
from medlab.augment.numbering import rows_of, seed_of
from medlab.augment.threads import each

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Policy:
    """Random changes for training images; call it on a batch.

    Attributes:
        name: the modality or name it was made for.
        rank: 2 or 3 spatial axes.
        seed: decides, with a case's key, all that happens to the case.
        flip: spatial axes that are mirrored in half of the cases.
        rotation: degrees, at most, either way; in 3-D about each axis.
        scale: at most this much larger or smaller: 0.1 is 1/1.1 to 1.1 times.
        translation: at most this part of the image's length along each axis.
        shear: at most this many voxels along one axis for each voxel along another.
        brightness: at most this many standard deviations of the image are added or taken away.
        contrast: distance from the mean times 1/(1 + contrast) to 1 + contrast.
        gamma: exponent 1/(1 + gamma) to 1 + gamma, between the image's own smallest and largest value.
        noise: standard deviation of added Gaussian noise, at most, in the image's standard deviations.
        fill: what comes in from outside: ``"edge"`` repeats the outermost voxels, ``"minimum"`` is background.
        spacing: mm between voxels in 3-D where they are no cubes.
        reason: why these axes may be mirrored.
        elastic: control points of a smooth deformation move along each axis by at most this part of the image's
            length; less than 0.48 / ``elastic_cells`` in 2-D and 0.40 / ``elastic_cells`` in 3-D: nothing folds.
        elastic_cells: distances between control points along each axis: more of them make finer wrinkles.
        crop: voxels of the output along each axis, cut out at a random place (and filled up where the image is
            smaller); None keeps the image's shape. :func:`medlab.train.fit` needs None.
        bias_field: deviation of the logarithm of a smooth field, at most, by which the distance from the image's
            smallest value is multiplied: the uneven sensitivity of MR coils, as
            :func:`medlab.augment.artifacts.bias_field` makes it.
        space_probability: the part of the cases that is mirrored, moved and bent; all are cropped.
        intensity_probability: the part of the cases whose intensities change.
    """

    name: str
    rank: int
    seed: int
    flip: tuple[int, ...] = ()
    rotation: float = 0.0
    scale: float = 0.0
    translation: float = 0.0
    shear: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    noise: float = 0.0
    fill: str = "edge"
    spacing: tuple[float, ...] | None = None
    reason: str = ""
    elastic: float = 0.0
    elastic_cells: int = 4
    crop: tuple[int, ...] | None = None
    bias_field: float = 0.0
    space_probability: float = 1.0
    intensity_probability: float = 1.0
    _count: Any = field(default_factory=itertools.count, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.rank not in (2, 3):
            raise ValueError(f"Expected rank 2 or 3. Received {self.rank!r}.")
        seed_of(self.seed)
        if any(axis not in range(self.rank) for axis in self.flip):
            raise ValueError(f"Expected axes to mirror between 0 and {self.rank - 1}. Received {self.flip!r}.")
        for name in _AMOUNTS:
            value = getattr(self, name)
            if not (isinstance(value, Real) and np.isfinite(value) and value >= 0):
                raise ValueError(f"Expected {name} of 0 or above, 0 for none. Received {value!r}.")
        if self.fill not in spatial.FILLS:
            raise ValueError(f"Expected fill to be one of {spatial.FILLS}. Received {self.fill!r}.")
        if self.spacing is not None and (len(self.spacing) != self.rank or min(self.spacing) <= 0):
            raise ValueError(f"Expected {self.rank} spacings in mm above 0. Received {self.spacing!r}.")
        if not isinstance(self.elastic_cells, Real) or self.elastic_cells % 1 != 0:
            raise ValueError(f"Expected elastic_cells as a whole number. Received {self.elastic_cells!r}.")
        if self.elastic_cells < 1 or self.elastic * self.elastic_cells >= deformation.FOLD[self.rank]:
            raise ValueError(
                f"Expected elastic below {deformation.FOLD[self.rank]} / elastic_cells, where nothing folds, and at "
                f"least 1 cell. Received elastic {self.elastic!r} and elastic_cells {self.elastic_cells!r}."
            )
        if self.crop is not None and (len(self.crop) != self.rank or min(self.crop) < 1):
            raise ValueError(f"Expected crop as {self.rank} numbers of voxels of 1 or above. Received {self.crop!r}.")
        for name in ("space_probability", "intensity_probability"):
            if not (isinstance(getattr(self, name), Real) and 0 <= getattr(self, name) <= 1):
                raise ValueError(f"Expected {name} between 0 and 1. Received {getattr(self, name)!r}.")

    def __call__(
        self, x: NDArray, mask: NDArray | None = None, *, keys: NDArray | None = None
    ) -> tuple[NDArray[np.float32], NDArray | None]:
        """The batch with each case changed at random: one resampling, then intensities.

        Args:
            x: (n, i, j[, k], c), without NaN. Channels change together in space and in contrast; noise differs.
            mask: (n, i, j[, k]) labels, or None; mirrored, turned and moved with the image, nearest voxel.
            keys: (n,) or (n, m) integers of 0 or above, such as (case number, epoch): with the seed they decide what
                happens to each case, whatever else is in the batch. None counts the cases that this policy has seen.

        Returns:
            ``(x, mask)``: new float32 images, new masks in their own type, or None; of the shape of ``crop`` where it
            is given.

        Raises:
            ValueError: shapes that do not fit the rank or each other.
        """
        x = np.asarray(x)
        if x.ndim != self.rank + 2:
            raise ValueError(f"Expected a batch (n, {'i, j' if self.rank == 2 else 'i, j, k'}, c). Received {x.shape}.")
        if mask is not None and np.shape(mask) != x.shape[:-1]:
            raise ValueError(f"Expected masks of shape {x.shape[:-1]}. Received {np.shape(mask)}.")
        keys = self._keys(keys, len(x))
        shape = x.shape[1:-1] if self.crop is None else self.crop
        if not len(x):
            empty = None if mask is None else np.empty((0, *shape), np.asarray(mask).dtype)
            return np.empty((0, *shape, x.shape[-1]), np.float32), empty
        # The same draws whatever is switched on, so that two policies with one seed can be compared.
        random = [np.random.default_rng([self.seed, *key]) for key in keys]
        draws = np.array([one.uniform(-1, 1, 24) for one in random])
        more = np.zeros((len(x), 8))
        if self.crop is not None or self.elastic or self.bias_field or not self._always:
            more = np.array([_stream(self.seed, key, 1).uniform(-1, 1, 8) for key in keys])
        if self._moves or self.crop is not None:
            matrix, bend = self._space(x.shape[1:-1], shape, keys, draws, more)
            out = spatial.warp(x, matrix, bend=bend, shape=shape, fill=self.fill)
            if mask is not None:
                mask = spatial.warp_mask(np.asarray(mask), matrix, bend=bend, shape=shape, fill=self.fill)
        else:
            out = np.array(x, np.float32, order="C")
            mask = None if mask is None else np.array(mask)
        changed = [case for case in range(len(x)) if more[case, 4] < 2 * self.intensity_probability - 1]
        each(lambda n: self._intensity(out[n], draws[n, 20:], more[n], random[n], keys[n]), changed, out.size)
        return out, mask

    @property
    def _always(self) -> bool:
        return self.space_probability == self.intensity_probability == 1

    @property
    def _moves(self) -> bool:
        moves = self.flip or self.rotation or self.scale or self.translation or self.shear or self.elastic
        return bool(moves and self.space_probability)

    def _keys(self, keys: NDArray | None, n: int) -> list[tuple[int, ...]]:
        if keys is None:
            return [(next(self._count),) for _ in range(n)]
        return rows_of(keys, n)

    def _space(
        self, shape: tuple[int, ...], out: tuple[int, ...], keys: list[tuple[int, ...]], draws: NDArray, more: NDArray
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """A matrix for each case, and the displacement of its control points where there is a deformation."""
        rank = self.rank
        still = more[:, 3] >= 2 * self.space_probability - 1
        draws = np.where(still[:, None], 0.0, draws)
        mirrored = (draws[:, :rank] > 0) & np.isin(np.arange(rank), self.flip)
        turns = 1 if rank == 2 else 3
        matrix = spatial.matrices(
            shape, flip=mirrored,
            angles=np.deg2rad(self.rotation) * draws[:, 3 : 3 + turns],
            scale=(1 + self.scale) ** np.repeat(draws[:, 6:7], rank, 1),
            shift=self.translation * np.asarray(shape) * draws[:, 9 : 9 + rank],
            shear=self.shear * draws[:, 12 : 12 + rank * (rank - 1)],
            spacing=self.spacing,
        )  # fmt: skip
        if self.crop is not None:
            free = np.subtract(shape, out)
            # A whole number of voxels from 0 to what is free, or from what is missing to 0.
            start = np.sign(free) * np.floor((more[:, :rank] + 1) / 2 * (np.abs(free) + 1))
            matrix[:, :rank, rank] += np.einsum("nab,nb->na", matrix[:, :rank, :rank], start)
        if not self.elastic:
            return matrix, None
        points = (rank, *(int(self.elastic_cells) + 3,) * rank)
        bend = np.array([_stream(self.seed, key, 2).uniform(-1, 1, points) for key in keys])
        strength = np.where(still, 0.0, np.abs(more[:, 6]))
        length = np.subtract(out, 1).reshape(rank, *(1,) * rank)
        return matrix, bend * self.elastic * length * strength.reshape(-1, *(1,) * (rank + 1))

    def _intensity(
        self, image: NDArray[np.float32], draws: NDArray, more: NDArray, random: np.random.Generator, key: tuple
    ) -> None:
        """Changes one image in place: bias field, gamma, contrast and brightness, noise."""
        if self.bias_field:
            draw = _stream(self.seed, key, 3).standard_normal
            intensity.apply_field(image, self.bias_field * abs(more[5]), draw)
        if self.gamma:
            intensity.apply_gamma(image, (1 + self.gamma) ** draws[0])
        deviation = float(image.std(dtype=np.float64)) if self.noise or self.brightness else 0.0
        if self.contrast or self.brightness:
            offset = self.brightness * deviation * draws[2]
            intensity.apply_linear(image, (1 + self.contrast) ** draws[1], offset)
        if self.noise:
            intensity.apply_noise(image, self.noise * abs(draws[3]) * deviation, random)


_AMOUNTS = (
    "rotation", "scale", "translation", "shear", "brightness", "contrast", "gamma", "noise", "elastic", "bias_field",
)  # fmt: skip


def _stream(seed: int, key: tuple[int, ...], number: int) -> np.random.Generator:
    """Random numbers of a case beside those that it has always had, so that these stay as they were."""
    return np.random.default_rng(np.random.SeedSequence([seed, *key], spawn_key=(number,)))


def policy(name_or_modality: str | None, *, rank: int, seed: int, **changes: Any) -> Policy:
    """The policy for a modality or of a name, with some of its numbers changed.

    Args:
        name_or_modality: a DICOM modality (``"DX"``, ``"MR"``, ``"US"``, ...; ``"SEG"`` for binary shapes), a body part
            (``"chest"``, ``"abdomen"``, ``"brain"``, ``"breast"``, ``"heart"``, ``"knee"``, ...) or a name that
            :func:`policies` lists. None, an unknown modality, means ``"gentle"``.
        rank: 2 or 3 spatial axes. Axes of volumes are taken in RAS order (left-right, back-front, foot-head), as
            recipes put them; of pictures as (row, column) with left and right beside each other.
        seed: decides all that is random.
        **changes: attributes of :class:`Policy`, such as ``flip=()``, ``rotation=20``, ``noise=0``, ``fill="minimum"``.

    Returns:
        A :class:`Policy`.

    Raises:
        ValueError: an unknown name or attribute, or a value out of range; the message lists what there is.
    """
    name = "gentle" if name_or_modality is None else str(name_or_modality)
    found = name if name in KINDS else USERS.get(name.upper())
    if found is None:
        raise ValueError(f"No policy {name!r}. There are {', '.join(KINDS)}; for {', '.join(USERS)}.")
    kind = KINDS[found]
    known = set(Policy.__dataclass_fields__) - {"name", "rank", "seed", "_count", "reason"}
    if set(changes) - known:
        raise ValueError(f"No attribute {sorted(set(changes) - known)} in a policy. There are {sorted(known)}.")
    base = Policy(
        name, rank, seed_of(seed), flip=kind.flip2 if rank == 2 else kind.flip3, rotation=float(kind.rotation),
        reason=kind.reason,
    )  # fmt: skip
    if found != "none":
        part = 0.5 if found == "gentle" else 1.0
        base = replace(
            base, scale=0.1 * part, translation=0.08 * part, brightness=0.2 * part, contrast=0.2 * part,
            gamma=0.15 * part, noise=0.05 * part,
        )  # fmt: skip
        base = replace(base, **kind.amounts)
    if "flip" in changes:
        changes["flip"] = _axes(changes["flip"], rank)
        changes["reason"] = "chosen by the caller"
    if changes.get("crop") is not None:
        crop = changes["crop"]
        crop = (crop,) * rank if np.ndim(crop) == 0 else crop
        changes["crop"] = _each(crop, int, f"crop as {rank} numbers of voxels, or one for all axes")
    if changes.get("spacing") is not None:
        changes["spacing"] = _each(changes["spacing"], float, f"spacing as {rank} spacings in mm")
    return replace(base, **changes)


def policies() -> pd.DataFrame:
    """All policies: name, what uses it, axes that may be mirrored in 2-D and 3-D, degrees, and why."""
    import pandas as pd

    rows = []
    for name, kind in KINDS.items():
        users = ", ".join(code for code, found in USERS.items() if found == name)
        rows.append(
            {"name": name, "used_for": users, "flip_2d": kind.flip2, "flip_3d": kind.flip3,
             "rotation": kind.rotation, "reason": kind.reason}
        )  # fmt: skip
    return pd.DataFrame(rows)


def _axes(axes: int | Sequence[int] | None, rank: int) -> tuple[int, ...]:
    if axes is None or axes is False:
        return ()
    listed = (axes,) if isinstance(axes, Integral) and axes is not True else axes
    return _each(listed, operator.index, f"flip as axes between 0 and {rank - 1}, such as 1 or (0, 1), or () for none")


def _each(values: Any, kind: Callable[[Any], Any], expected: str) -> tuple:
    """A tuple of the values, each turned into ``kind``; what is no list of numbers is refused."""
    try:
        if isinstance(values, str):
            raise TypeError
        return tuple(kind(value) for value in values)
    except (TypeError, ValueError):
        raise ValueError(f"Expected {expected}. Received {values!r}.") from None
