"""Measure: what a data set is like, its fingerprint: shapes, spacings, and intensities inside the foreground.

In: training cases or Volumes, opened one at a time. Out: a :class:`Fingerprint` of plain numbers; of each image only a
sample of voxels is kept. It proposes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medlab.standardize import cropping, intensity, masks
from medlab.standardize.values import finite
from medlab.volume import Volume

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

SAMPLE = 2**22
"""Values kept of all images together, and at most ``EACH`` of one: 16 MiB."""
EACH = 10_000
INSIDE = ("auto", "masks", "foreground")


@dataclass(frozen=True)
class Fingerprint:
    """What :func:`fingerprint` measured.

    Attributes:
        modality: DICOM code that all images share, or None.
        geometry: whether all images know their place and spacing.
        shapes: (n, rank) voxels, of volumes that know their place along R, A, S, else along the array's axes.
        spacings: (n, rank) mm, in the same order of axes.
        boxes: (n, rank) voxels of the smallest box around the foreground.
        outside: in how many cases a mask reaches out of that box.
        turned: how many volumes are stored in another orientation than RAS.
        type: name of the arrays' type, or ``"mixed"``.
        levels: different values among those that were sampled; 9 stands for more than 8.
        channels: channels of each image.
        inside: ``"masks"`` or ``"foreground"``: where the intensities were taken.
        intensity: for each channel mean, deviation, minimum, percentile_0.5, median, percentile_99.5, maximum.
        split: the split that was measured, or None where there are none.
        window: name of the CT window (see :data:`medlab.standardize.PRESETS`) that ``cases.info["window"]`` asks for,
            or None.
    """

    modality: str | None
    geometry: bool
    shapes: tuple[tuple[int, ...], ...]
    spacings: tuple[tuple[float, ...], ...]
    boxes: tuple[tuple[int, ...], ...]
    outside: int
    turned: int
    type: str
    levels: int
    channels: int
    inside: str
    intensity: tuple[dict[str, float], ...]
    split: str | None
    window: str | None = None

    @property
    def n(self) -> int:
        """Number of images that were measured."""
        return len(self.shapes)

    @property
    def rank(self) -> int:
        """2 for pictures, 3 for volumes."""
        return len(self.shapes[0])

    @property
    def table(self) -> pd.DataFrame:
        """Smallest, median and largest shape, spacing (mm) and foreground box, one row a quantity and axis."""
        import pandas as pd

        letters = "RAS" if self.geometry and self.rank == 3 else "ijk"
        rows = {}
        for name, values in (("voxels", self.shapes), ("mm", self.spacings), ("foreground voxels", self.boxes)):
            for axis in range(self.rank):
                column = np.array([row[axis] for row in values], float)
                rows[f"{name} along {letters[axis]}"] = [column.min(), np.median(column), column.max()]
        return pd.DataFrame.from_dict(rows, orient="index", columns=["smallest", "median", "largest"])

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain JSON types."""
        lists = {name: [list(row) for row in getattr(self, name)] for name in ("shapes", "spacings", "boxes")}
        return vars(self) | lists | {"intensity": [dict(one) for one in self.intensity]}


def fingerprint(cases: Any, *, limit: int | None = None, inside: str = "auto", progress: bool = True) -> Fingerprint:
    """Shapes, spacings and intensities of a data set's training images.

    Args:
        cases: :class:`medlab.cases.Cases` (where they have splits, the training cases are measured, so that no test
            case teaches anything), or Volumes, each alone or with its mask, (image, mask).
        limit: at most so many cases, evenly spread over the table; None for all.
        inside: where intensities are taken: ``"masks"`` (their voxels above 0), ``"foreground"`` (see
            :func:`medlab.standardize.foreground`), or ``"auto"``: the masks of sets that have no labels of whole
            images, whose voxels are what is to be found, else the foreground.
        progress: a bar on standard error once it has taken two seconds.

    Returns:
        The fingerprint. At most 10,000 values of an image count, drawn at random but always the same ones.

    Raises:
        ValueError: no case, pictures and volumes or different channels together, ``"masks"`` where no mask has a voxel
            above 0, a limit below 1, or NaN; the message names the case.
    """
    if inside not in INSIDE:
        raise ValueError(f"Expected inside to be one of {', '.join(INSIDE)}. Received {inside!r}.")
    if limit is not None and (isinstance(limit, bool) or not hasattr(limit, "__index__") or limit < 1):
        raise ValueError(f"Expected a limit of at least 1, or None. Received {limit!r}.")
    entries, n, modality, split, labeled = _entries(cases, limit)
    each = EACH if n is None else int(np.clip(SAMPLE // max(n, 1), 100, EACH))
    found = []
    for number, (name, volume, mask) in enumerate(_bar(entries, n, progress)):
        try:
            found.append(_one(volume, mask, each, number))
        except ValueError as error:
            raise ValueError(f"Case {name!r}: {error}") from error
    if not found:
        raise ValueError("Expected at least one image to measure. There is none.")
    for what in ("rank", "channels"):
        several = sorted({one[what] for one in found})
        if len(several) > 1:
            raise ValueError(f"Expected images of one {what}. There are {several}; measure each kind by itself.")
    modalities = {one["modality"] for one in found}
    masked = [one["masked"] for one in found if one["masked"] is not None and len(one["masked"])]
    wanted = inside if inside != "auto" else "masks" if masked and not labeled else "foreground"
    if wanted == "masks" and not masked:
        raise ValueError("Expected masks with at least one voxel above 0. There is none; take inside='foreground'.")
    values = np.concatenate(masked if wanted == "masks" else [one["values"] for one in found])
    types, geometry = {one["type"] for one in found}, all(one["geometry"] for one in found)
    levels = len(set().union(*(one["levels"] for one in found)))
    return Fingerprint(
        modality=modality or (modalities.pop() if len(modalities) == 1 else None), geometry=geometry,
        **{name: tuple(one[name] for one in found) for name in ("shapes", "spacings", "boxes")},
        outside=sum(one["outside"] for one in found), turned=sum(one["turned"] for one in found),
        type=types.pop() if len(types) == 1 else "mixed", levels=min(levels, 9),
        channels=found[0]["channels"], inside=wanted,
        intensity=tuple(_summary(column) for column in values.T), split=split, window=_window(cases),
    )  # fmt: skip


def _window(cases: Any) -> str | None:
    """The known window that a data set is to be seen through."""
    info = getattr(cases, "info", None)
    name = info.get("window") if isinstance(info, Mapping) else None
    return name if isinstance(name, str) and name in intensity.PRESETS else None


def _entries(cases: Any, limit: int | None) -> tuple[Iterator[tuple[str, Volume, Any]], int | None, Any, Any, bool]:
    """Name, image and mask of each case one by one; their number, modality, split, and whether they have labels."""
    if hasattr(cases, "ids") and hasattr(cases, "volume"):
        table = getattr(cases, "table", {})
        split = "train" if "split" in table and (table["split"] == "train").any() else None
        part = cases.subset(split) if split else cases
        ids = list(part.ids)
        if limit is not None and limit < len(ids):
            ids = [ids[at] for at in np.linspace(0, len(ids) - 1, limit).round().astype(int)]
        masked = getattr(part, "has_masks", False)
        opened = ((one, part.volume(one), part.mask(one) if masked else None) for one in ids)
        labeled = "label" in table and bool(table["label"].notna().any())
        return opened, len(ids), getattr(cases, "info", {}).get("modality"), split, labeled
    if isinstance(cases, Volume):
        cases = [cases]
    if not isinstance(cases, Iterable) or isinstance(cases, str):
        raise ValueError(f"Expected cases, or Volumes. Received {type(cases).__name__}.")
    given = cases if limit is None else (one for one, _ in zip(cases, range(limit), strict=False))
    pairs = (one if isinstance(one, tuple) else (one, None) for one in given)
    n = len(cases) if hasattr(cases, "__len__") else None
    return ((f"number {at}", *pair) for at, pair in enumerate(pairs)), n, None, None, False


def _one(volume: Volume, mask: Volume | NDArray | None, each: int, number: int) -> dict[str, Any]:
    """What is kept of one image."""
    array, rank = finite(volume), volume.rank
    columns = array.reshape(*volume.shape, -1)
    front = masks.foreground(volume)
    box = cropping.foreground_box(volume, front)
    drawn = None if mask is None else np.asarray(mask.array if isinstance(mask, Volume) else mask) > 0
    if drawn is not None and drawn.shape != volume.shape:
        raise ValueError(f"Expected a mask of the image's shape {volume.shape}. Received {drawn.shape}.")
    known = volume.has_geometry and rank == 3
    order = [next(axis for axis, code in enumerate(volume.orientation) if code in pair) for pair in ("RL", "AP", "SI")
             ] if known else list(range(rank))  # fmt: skip
    spread = columns.reshape(-1)[:: max(1, columns.size // each)]
    random = np.random.default_rng([0, number])
    sides = [last - first for first, last in box]
    return {
        "rank": rank, "channels": columns.shape[-1], "modality": volume.modality, "geometry": volume.has_geometry,
        "type": volume.array.dtype.name, "turned": int(known and volume.orientation != "RAS"),
        "shapes": tuple(volume.shape[axis] for axis in order), "boxes": tuple(sides[axis] for axis in order),
        "spacings": tuple(round(volume.spacing[axis], 5) for axis in order),
        "outside": int(drawn is not None and bool(drawn.any()) and drawn.sum() > drawn[
            tuple(slice(*ends) for ends in box)].sum()),
        "levels": set(np.unique(spread)[:9].tolist()),
        "values": _sample(columns[front.array > 0], each, random),
        "masked": None if drawn is None else _sample(columns[drawn], each, random),
    }  # fmt: skip


def _sample(rows: NDArray, each: int, random: np.random.Generator) -> NDArray[np.float32]:
    """At most ``each`` rows (n, channels)."""
    return rows if len(rows) <= each else rows[random.integers(0, len(rows), each)]


def _summary(values: NDArray) -> dict[str, float]:
    low, middle, high = np.percentile(values, [0.5, 50, 99.5])
    found = {
        "mean": values.mean(dtype=np.float64), "deviation": values.std(dtype=np.float64), "minimum": values.min(),
        "percentile_0.5": low, "median": middle, "percentile_99.5": high, "maximum": values.max(),
    }  # fmt: skip
    return {name: float(f"{value:.6g}") for name, value in found.items()}


def _bar(entries: Iterator[Any], n: int | None, progress: bool) -> Iterator[Any]:
    from tqdm import tqdm

    return iter(tqdm(entries, total=n, desc="measuring", delay=2, leave=False, disable=not progress))
