"""Recipe: the ordered steps that make the images of one modality comparable, as a value.

In: a modality or a recipe's name. Out: an object that is called on a Volume (and its mask), shown as a table and kept
as JSON. It holds no statistics of other images: each step looks at the one image alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medlab.standardize import intensity, space
from medlab.volume import Volume

if TYPE_CHECKING:
    import pandas as pd

SPATIAL: dict[str, Callable[..., Volume]] = {
    "orient": space.orient, "resample": space.resample, "crop_or_pad": space.crop_or_pad, "resize": space.resize,
}  # fmt: skip
INTENSITY: dict[str, Callable[..., Volume]] = {
    "window": intensity.window, "scale": intensity.scale, "percentile": intensity.percentile,
    "zscore": intensity.zscore, "clip": intensity.clip, "symmetric": intensity.symmetric,
}  # fmt: skip
_ORDER = (*SPATIAL, *INTENSITY)
_MAIN = {
    "orient": "axcodes", "resample": "spacing", "crop_or_pad": "shape", "resize": "shape", "window": "preset",
    "zscore": "mask",
}  # fmt: skip

_UPRIGHT = {"orient": {"axcodes": "RAS"}}
_RECIPES: dict[str, tuple[dict[str, dict[str, Any]], str]] = {
    "none": ({}, "values as they are, in float32"),
    "scale": ({"scale": {}, "symmetric": {}}, "the type's full range to [-1, 1]: brightness keeps its meaning"),
    "percentile": (
        {"percentile": {"low": 0.5, "high": 99.5}, "symmetric": {}},
        "each image between its own percentiles to [-1, 1]: exposure and a few extreme pixels do not matter",
    ),
    "zscore": ({"zscore": {}}, "each image to mean 0 and deviation 1"),
    "CT": (
        {**_UPRIGHT, "window": {"preset": "soft-tissue"}, "symmetric": {}},
        "HU have a physical meaning: a fixed window to [-1, 1]",
    ),
    "MR": (
        {**_UPRIGHT, "zscore": {"mask": "foreground"}, "clip": {"low": -3.0, "high": 5.0}},
        "MR has no unit: mean 0 and deviation 1 in the tissue of each image, outliers clipped",
    ),
    "radiograph": (
        {"percentile": {"low": 0.5, "high": 99.5}, "symmetric": {}},
        "exposure differs between radiographs: own percentiles to [-1, 1]",
    ),
    "US": ({"scale": {}, "symmetric": {}}, "the scanner has set gain and compression: the full range to [-1, 1]"),
    "picture": ({"scale": {}, "symmetric": {}}, "colors keep their meaning: the full range to [-1, 1]"),
}
for _preset in intensity.PRESETS:
    _RECIPES[f"CT-{_preset}"] = (
        {**_UPRIGHT, "window": {"preset": _preset}, "symmetric": {}},
        f"the {_preset} window to [-1, 1]",
    )

# DICOM modality codes (PS3.3, C.7.3.1.1.1) that share a recipe.
_MODALITIES = {
    "CT": "CT", "MR": "MR", "DX": "radiograph", "CR": "radiograph", "MG": "radiograph", "XA": "radiograph",
    "RF": "radiograph", "IO": "radiograph", "PX": "radiograph", "US": "US", "OP": "picture", "OPT": "picture",
    "XC": "picture", "GM": "picture", "SM": "picture", "ES": "picture", "DERM": "picture", "PT": "zscore",
    "NM": "zscore", "OT": "picture",
}  # fmt: skip


@dataclass(frozen=True, repr=False)
class Recipe:
    """Ordered steps that standardize a Volume.

    Attributes:
        name: what it was made from, such as ``"MR"``.
        steps: (step, arguments) in the order they are done: first space, then intensity. The arguments are JSON types.
    """

    name: str
    steps: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...]

    def __call__(self, volume: Volume, mask: Volume | None = None) -> Volume | tuple[Volume, Volume]:
        """The standardized image, and with a mask also the mask on the same new grid.

        Args:
            volume: image. ``orient`` is done for volumes only: a picture has no third axis to turn.
            mask: labels on the image's grid; only the spatial steps touch it.

        Returns:
            A float32 Volume with ``info["recipe"]`` set, or that and the mask.

        Raises:
            ValueError: a mask that lies on another grid, NaN in the image, or as the single steps.
        """
        if mask is not None:
            _same_grid(volume, mask)
        # Resampling makes floats, which would hide that an 8-bit image can reach from 0 to 255.
        bounds = intensity.full_range(volume) if volume.array.dtype in (np.uint8, bool) else None
        for step, arguments in self.steps:
            if step == "orient" and volume.rank == 2:
                continue
            values = dict(arguments)
            if step == "scale" and not values and bounds:
                values = dict(zip(("low", "high"), bounds, strict=True))
            if step in SPATIAL:
                volume = SPATIAL[step](volume, **values)
                mask = None if mask is None else SPATIAL[step](mask, **values)
            else:
                volume = INTENSITY[step](volume, **values)
        array = intensity._image(volume)
        volume = volume.replace(array=array, info={**volume.info, "recipe": self.name})
        return volume if mask is None else (volume, mask)

    def change(self, **changes: Any) -> Recipe:
        """A new recipe with some steps changed; see :func:`recipe`."""
        steps = {step: dict(arguments) for step, arguments in self.steps}
        for step, value in changes.items():
            if step not in _ORDER:
                raise ValueError(f"No step {step!r} in a recipe. There are {', '.join(_ORDER)}.")
            if value is None:
                steps.pop(step, None)
            elif isinstance(value, Mapping):
                steps[step] = dict(value)
            elif value is True:
                steps[step] = {}
            elif step in _MAIN and value is not False:
                steps[step] = {_MAIN[step]: value}
            else:
                raise ValueError(f"Expected a dict of arguments, True or None for {step!r}. Received {value!r}.")
        return _build(self.name, steps)

    def spatial(self) -> Recipe:
        """The steps that move voxels, without those that change values: what a mask goes through."""
        return Recipe(self.name, tuple(entry for entry in self.steps if entry[0] in SPATIAL))

    def on_labels(self, mask: Volume) -> Volume:
        """A mask alone after the spatial steps, nearest neighbor, its type kept."""
        for step, arguments in self.steps:
            if step in SPATIAL and not (step == "orient" and mask.rank == 2):
                mask = SPATIAL[step](mask, **dict(arguments))
        return mask

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain JSON types; :meth:`from_dict` makes the same recipe of it."""
        return {"name": self.name, "steps": [{"step": step, **_plain(dict(args))} for step, args in self.steps]}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Recipe:
        """The recipe that :meth:`to_dict` described.

        Raises:
            ValueError: no ``name`` or ``steps``, an unknown step or argument.
        """
        if not {"name", "steps"} <= set(content):
            raise ValueError(f"Expected a recipe with name and steps. Received the keys {sorted(content)}.")
        steps: dict[str, dict[str, Any]] = {}
        for entry in content["steps"]:
            values = dict(entry)
            step = values.pop("step", None)
            if step in steps:
                raise ValueError(f"Expected each step once in a recipe. {step!r} comes twice.")
            steps[step] = values
        return _build(content["name"], steps)

    def __repr__(self) -> str:
        lines = [f"Recipe {self.name!r}"]
        width = max((len(step) for step, _ in self.steps), default=0)
        for number, (step, arguments) in enumerate(self.steps, 1):
            text = ", ".join(f"{key}={value!r}" for key, value in arguments)
            lines.append(f"  {number}  {step:<{width}}  {text}".rstrip())
        return "\n".join(lines if self.steps else [*lines, "  no step: values as they are, in float32"])


def recipe(modality_or_name: str | None, **changes: Any) -> Recipe:
    """The recipe for a modality or of a name, with some steps changed.

    Args:
        modality_or_name: a DICOM modality (``"CT"``, ``"MR"``, ``"DX"``, ``"US"``, ...), or a name that :func:`recipes`
            lists, such as ``"CT-lung"``, ``"percentile"``, ``"zscore"``, ``"none"``. None, an unknown modality, means
            ``"percentile"``.
        **changes: ``step=arguments``: a dict of the step's arguments; the value of its main argument alone
            (``resample=1.0``, ``resize=(64, 64)``, ``window="lung"``); True for a step without arguments; or None to
            leave the step out. Steps are always done in the order orient, resample, crop_or_pad, resize, window, scale,
            percentile, zscore, clip, symmetric.

    Returns:
        A :class:`Recipe`.

    Raises:
        ValueError: an unknown name, step or argument; the message lists what there is.
    """
    name = "percentile" if modality_or_name is None else str(modality_or_name)
    found = name if name in _RECIPES else _MODALITIES.get(name.upper())
    if found is None:
        raise ValueError(f"No recipe {name!r}. There are {', '.join(_RECIPES)}, and the modalities {_listed()}.")
    return _build(name, _RECIPES[found][0]).change(**changes)


def recipes() -> pd.DataFrame:
    """All recipes: name, modalities that use it, steps, why."""
    import pandas as pd

    rows = []
    for name, (steps, why) in _RECIPES.items():
        users = ", ".join(code for code, found in _MODALITIES.items() if found == name)
        rows.append({"name": name, "modalities": users, "steps": " > ".join(steps) or "none", "why": why})
    return pd.DataFrame(rows)


def _build(name: str, steps: Mapping[str, Mapping[str, Any]]) -> Recipe:
    """A Recipe with its steps in the one order and its arguments checked."""
    for step, arguments in steps.items():
        if step not in _ORDER:
            raise ValueError(f"No step {step!r} in a recipe. There are {', '.join(_ORDER)}.")
        function = SPATIAL.get(step) or INTENSITY[step]
        known = [name for name in inspect.signature(function).parameters if name != "volume"]
        for key in arguments:
            if key not in known:
                raise ValueError(f"{step!r} has no argument {key!r}. It has {', '.join(known) or 'none'}.")
    ordered = sorted(steps, key=_ORDER.index)
    return Recipe(name, tuple((step, tuple((k, _frozen(v)) for k, v in steps[step].items())) for step in ordered))


def _frozen(value: Any) -> Any:
    if isinstance(value, np.ndarray | list | tuple):
        return tuple(_frozen(one) for one in value)
    return value.item() if isinstance(value, np.generic) else value


def _plain(arguments: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in arguments.items()}


def _listed() -> str:
    return ", ".join(_MODALITIES)


def _same_grid(volume: Volume, mask: Volume) -> None:
    """Makes sure that image and mask share shape and place."""
    if mask.shape != volume.shape:
        raise ValueError(
            f"Expected a mask of the image's shape {volume.shape}. Received {mask.shape}; "
            "bring it there with medlab.standardize.match(mask, volume)."
        )
    both = volume.has_geometry and mask.has_geometry
    if both and not np.allclose(mask.affine, volume.affine, rtol=0, atol=0.1 * min(volume.spacing)):
        raise ValueError(
            "Expected image and mask at the same place. Their affines differ by more than a tenth of a voxel; "
            "bring the mask there with medlab.standardize.match(mask, volume)."
        )
