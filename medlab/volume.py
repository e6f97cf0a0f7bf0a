"""Volume: an array, its affine, its kind and its modality; the one object that flows through medlab.

In: an array and where it lies. Out: an immutable object with derived geometry, and its nibabel and SimpleITK forms.
It does not read files and does not change arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medlab import geometry

if TYPE_CHECKING:
    import nibabel
    import SimpleITK

KINDS = ("image", "labels")


@dataclass(frozen=True, eq=False, repr=False)
class Volume:
    """An image or a label map with its place in the patient.

    Attributes:
        array: 3-D: (i, j, k[, c]) in nibabel's axis order; 2-D pictures and radiographs: (row, column[, c]).
        affine: (4, 4) float64, voxel index to mm in RAS+. A 2-D picture uses (row, column, 0). The default, the
            identity, is a unit spacing; where nothing is known about the place, set ``info["geometry"]`` to
            ``"assumed"``, so that no viewer marks a side of the patient.
        kind: ``"image"`` (interpolated linearly) or ``"labels"`` (integers, nearest neighbor).
        modality: DICOM code such as ``"CT"``, ``"MR"``, ``"DX"``, ``"US"``, or None.
        info: acquisition facts that identify nobody (kVp, TE, series description, ...).
        rank: 2 or 3 spatial axes. Needed only for an array of three axes that is a 2-D picture with channels.

    Raises:
        ValueError: an affine, kind, rank or array that does not fit; the message says which rule it broke.
    """

    array: np.ndarray
    affine: np.ndarray = field(default_factory=lambda: np.eye(4))
    kind: str = "image"
    modality: str | None = None
    info: dict[str, Any] = field(default_factory=dict)
    rank: int | None = None

    def __post_init__(self) -> None:
        array = np.asarray(self.array)
        rank = self.rank
        if rank is None:
            rank = {2: 2, 3: 3, 4: 3}.get(array.ndim)
        if rank not in (2, 3) or array.ndim - rank not in (0, 1):
            raise ValueError(
                "Expected a picture (row, column[, c]) or a volume (i, j, k[, c]). "
                f"Received an array of shape {array.shape} and rank {self.rank}."
            )
        if array.size == 0:
            raise ValueError(f"Expected at least one voxel. Received an array of shape {array.shape}.")
        if array.dtype.kind not in "biuf":
            raise ValueError(f"Expected numbers. Received an array of type {array.dtype}.")
        if self.kind not in KINDS:
            raise ValueError(f"Expected kind 'image' or 'labels'. Received {self.kind!r}.")
        if self.kind == "labels" and array.dtype.kind == "f":
            raise ValueError(
                f"Expected whole numbers in a label map. Received type {array.dtype}; convert with .astype('int32')."
            )
        object.__setattr__(self, "array", array)
        object.__setattr__(self, "rank", rank)
        object.__setattr__(self, "affine", geometry.check(self.affine))
        object.__setattr__(self, "info", dict(self.info))

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each spatial axis, channels left out: ``rank`` numbers."""
        return self.array.shape[: self.rank]

    @property
    def channels(self) -> int:
        """Length of the channel axis; 1 where the array has none."""
        return self.array.shape[self.rank] if self.array.ndim > self.rank else 1

    @property
    def spacing(self) -> tuple[float, ...]:
        """Millimeters between voxels along each spatial axis: ``rank`` numbers."""
        return tuple(geometry.spacing(self.affine)[: self.rank].tolist())

    @property
    def origin(self) -> tuple[float, float, float]:
        """World position of the first voxel, mm in RAS+."""
        return tuple(geometry.origin(self.affine).tolist())

    @property
    def orientation(self) -> str:
        """Where the spatial axes point: ``"RAS"`` for a volume, ``"PL"`` for an axial picture."""
        return geometry.axis_codes(self.affine)[: self.rank]

    @property
    def has_geometry(self) -> bool:
        """False where the affine is only assumed, so that sides and millimeters mean nothing."""
        return self.info.get("geometry") != "assumed"

    def replace(self, **changes: Any) -> Volume:
        """A new Volume with some attributes changed; the rest is shared, the info dict copied."""
        return replace(self, **changes)

    def __repr__(self) -> str:
        sides = self.orientation if self.has_geometry else "geometry unknown"
        size = " x ".join(map(str, self.array.shape))
        millimeters = " x ".join(f"{s:.3g}" for s in self.spacing)
        return f"Volume({size} {self.array.dtype}, {self.kind}, {self.modality}, {millimeters} mm, {sides})"

    def to_nibabel(self) -> nibabel.Nifti1Image:
        """The same as a nibabel image (i, j, k[, c]); a picture becomes a volume of one slice.

        Types that NIfTI lacks are widened: bool to uint8, float16 to float32.
        """
        import nibabel

        array = self.array
        if self.rank == 2:
            array = np.expand_dims(array, 2)
        if array.dtype == bool:
            array = array.astype(np.uint8)
        elif array.dtype == np.float16:
            array = array.astype(np.float32)
        image = nibabel.Nifti1Image(array, self.affine, dtype=array.dtype)
        image.header.set_xyzt_units("mm")
        if not self.has_geometry:
            image.header.set_qform(self.affine, code=0)
            image.header.set_sform(self.affine, code=0)
        return image

    def to_sitk(self) -> SimpleITK.Image:
        """The same as a SimpleITK image (LPS, index order i, j, k); a picture becomes a 2-D image (column, row)."""
        import SimpleITK

        array = self.array
        vector = array.ndim > self.rank
        if array.dtype == bool:
            array = array.astype(np.uint8)
        elif array.dtype == np.float16:
            array = array.astype(np.float32)
        if self.rank == 2:
            image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array), isVector=vector)
            image.SetSpacing(self.spacing[::-1])
            return image
        axes = (2, 1, 0, 3) if vector else (2, 1, 0)
        image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.transpose(axes)), isVector=vector)
        lps = geometry.lps_to_ras(self.affine)
        image.SetSpacing(geometry.spacing(lps).tolist())
        image.SetOrigin(geometry.origin(lps).tolist())
        image.SetDirection(geometry.direction(lps).ravel().tolist())
        return image


def from_nibabel(image: nibabel.spatialimages.SpatialImage, *, kind: str = "image", **attributes: Any) -> Volume:
    """A Volume from a nibabel image of three or four axes, scaled as its header says.

    Args:
        image: shape (i, j, k) or (i, j, k, t); a fifth axis of a vector image is taken as channels.
        kind: ``"image"`` gives the stored type, or float32 where the header scales; ``"labels"`` gives integers.
        **attributes: other attributes of the Volume.

    Raises:
        ValueError: more axes than a Volume has, or labels that are not whole numbers.
    """
    array = np.asanyarray(image.dataobj)
    if array.ndim == 5 and array.shape[3] == 1:
        array = array[:, :, :, 0, :]
    if array.ndim not in (3, 4):
        raise ValueError(f"Expected a nibabel image of 3 or 4 axes. Received shape {array.shape}.")
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    if kind == "labels" and array.dtype.kind == "f":
        array = _whole(array)
    info = dict(attributes.pop("info", {}))
    header = image.header
    if "sform_code" in header and header["sform_code"] == 0 and header["qform_code"] == 0:
        info.setdefault("geometry", "assumed")
    return Volume(array, image.affine, kind, info=info, rank=3, **attributes)


def from_sitk(image: SimpleITK.Image, *, kind: str = "image", **attributes: Any) -> Volume:
    """A Volume from a SimpleITK image: 3-D with its place turned from LPS to RAS, 2-D with its spacing.

    A 2-D image has no place in the patient; its Volume says so (``info["geometry"] == "assumed"``).

    Raises:
        ValueError: an image of another dimension, or labels that are not whole numbers.
    """
    import SimpleITK

    dimension = image.GetDimension()
    vector = image.GetNumberOfComponentsPerPixel() > 1
    array = SimpleITK.GetArrayFromImage(image)
    if kind == "labels" and array.dtype.kind == "f":
        array = _whole(array)
    info = dict(attributes.pop("info", {}))
    if dimension == 2:
        info.setdefault("geometry", "assumed")
        column, row = image.GetSpacing()
        return Volume(array, geometry.scaling((row, column, 1)), kind, info=info, rank=2, **attributes)
    if dimension == 4 and not vector:
        array = np.moveaxis(array, 0, -1)
        vector = True
        side = np.asarray(image.GetDirection()).reshape(4, 4)[:3, :3]
    elif dimension == 3:
        side = np.asarray(image.GetDirection()).reshape(3, 3)
    else:
        raise ValueError(f"Expected a SimpleITK image of 2, 3 or 4 dimensions. Received {dimension}.")
    lps = geometry.from_parts(image.GetSpacing()[:3], image.GetOrigin()[:3], side)
    array = array.transpose((2, 1, 0, 3) if vector else (2, 1, 0))
    return Volume(array, geometry.lps_to_ras(lps), kind, info=info, rank=3, **attributes)


def _whole(array: np.ndarray) -> np.ndarray:
    """``array`` as int32 if all its values are whole numbers."""
    rounded = np.rint(array)
    if not np.array_equal(rounded, array):
        raise ValueError("Expected whole numbers in a label map. Received fractions or NaN; is it an image?")
    return rounded.astype(np.int32)
