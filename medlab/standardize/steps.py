"""Recipe: the ordered steps that make images comparable, as a value that is called, shown as a table and kept as JSON.

In: steps with plain arguments. Out: an object that is called on a Volume (and its mask), and its inverse. What was
measured on other images is among its arguments, so that inference repeats it exactly.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medlab import geometry
from medlab.standardize import contrast, cropping, intensity, inverse, landmarks, probes, space, stripes, values
from medlab.volume import Volume

if TYPE_CHECKING:
    import pandas as pd

SPATIAL: dict[str, Callable[..., Volume]] = {
    "orient": space.orient, "crop_to_foreground": cropping.crop_to_foreground, "resample": space.resample,
    "crop_or_pad": cropping.crop_or_pad, "resize": space.resize,
}  # fmt: skip
INTENSITY: dict[str, Callable[..., Volume]] = {
    "window": intensity.window, "scale": intensity.scale, "percentile": intensity.percentile, "clahe": contrast.clahe,
    "histogram": landmarks.histogram, "white_stripe": stripes.white_stripe, "zscore": intensity.zscore,
    "fixed_zscore": intensity.fixed_zscore, "clip": intensity.clip, "symmetric": intensity.symmetric,
}  # fmt: skip
_BEFORE = ("orient", "crop_to_foreground")  # whatever comes first: they only choose voxels
_AFTER = tuple(step for step in SPATIAL if step not in _BEFORE)
ORDERS = {"space": (*_BEFORE, *_AFTER, *INTENSITY), "intensity": (*_BEFORE, *INTENSITY, *_AFTER)}
_MAIN = {
    "orient": "axcodes", "crop_to_foreground": "margin", "resample": "spacing", "crop_or_pad": "shape",
    "resize": "shape", "window": "preset", "zscore": "mask", "histogram": "landmarks", "white_stripe": "contrast",
}  # fmt: skip
_WHY = {
    "orient": "the same side of the patient at the same side of the array",
    "crop_to_foreground": "no voxels spent on background",
    "resample": "a voxel is as large in every image",
    "crop_or_pad": "one shape, nothing interpolated",
    "resize": "one shape, over the whole field of view",
    "window": "HU mean the same everywhere: a fixed window to [0, 1]",
    "scale": "a fixed range to [0, 1]: brightness keeps its meaning",
    "percentile": "exposure and a few extreme values do not matter",
    "clahe": "faint structures show in dark and in bright regions",
    "histogram": "percentiles moved to those of the training images",
    "white_stripe": "white matter at 0 in each image",
    "zscore": "no unit: mean 0 and deviation 1 in each image",
    "fixed_zscore": "one scale for all images, measured on training cases",
    "clip": "outliers do not dominate",
    "symmetric": "to [-1, 1], where networks start to learn fastest",
}


@dataclass(frozen=True, repr=False)
class Recipe:
    """Ordered steps that standardize a Volume.

    Attributes:
        name: what it was made from, such as ``"MR"``.
        steps: (step, arguments) in the order they are done. The arguments are JSON types.
        first: ``"space"`` or ``"intensity"``: which steps come first where both are there.
        why: (step, reason) for steps whose reason was measured.
    """

    name: str
    steps: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...]
    first: str = "space"
    why: tuple[tuple[str, str], ...] = ()

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
        values.require_volume(volume)
        if mask is not None:
            space.same_grid(volume, values.require_volume(mask))
        # Resampling makes floats, which would hide that an 8-bit image can reach from 0 to 255.
        bounds = values.full_range(volume) if volume.array.dtype in (np.uint8, bool) else None
        for step, pairs in self.steps:
            arguments = dict(pairs)
            if step == "orient" and volume.rank == 2:
                continue
            if step == "scale" and not arguments and bounds:
                arguments = dict(zip(("low", "high"), bounds, strict=True))
            if step in SPATIAL:
                volume, mask = _move(step, arguments, volume, mask)
            else:
                volume = INTENSITY[step](volume, **arguments)
        array = values.finite(volume)
        volume = volume.replace(array=array, info={**volume.info, "recipe": self.name})
        return volume if mask is None else (volume, mask)

    def change(self, **changes: Any) -> Recipe:
        """A new recipe with some steps changed; see :func:`recipe`."""
        steps = self.plain_steps()
        for step, value in changes.items():
            if step not in ORDERS["space"]:
                raise ValueError(f"No step {step!r} in a recipe. There are {', '.join(ORDERS['space'])}.")
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
        return build(self.name, steps, self.first, [(step, why) for step, why in self.why if step not in changes])

    def spatial(self) -> Recipe:
        """The steps that move voxels, without those that change values: what a mask goes through."""
        return Recipe(self.name, tuple(entry for entry in self.steps if entry[0] in SPATIAL), self.first)

    @property
    def looks_at_image(self) -> bool:
        """Whether a mask alone cannot be moved, since the image decides what is cut away."""
        return any(step == "crop_to_foreground" for step, _ in self.steps)

    def on_labels(self, mask: Volume, image: Volume | None = None) -> Volume:
        """A mask alone after the spatial steps, nearest neighbor, its type kept.

        Args:
            mask: labels.
            image: the image that it belongs to, needed where the recipe crops to the foreground.

        Raises:
            ValueError: an image is needed and not given, or lies on another grid.
        """
        values.require_volume(mask)
        if self.looks_at_image:
            if image is None:
                raise ValueError(
                    "This recipe crops to the foreground of the image, which a mask alone does not show. Give both: "
                    "recipe(image, mask), or recipe.on_labels(mask, image)."
                )
            space.same_grid(image, mask)
        for step, arguments in self.steps:
            if step == "orient" and mask.rank == 2:
                continue
            if step in _BEFORE and image is not None:
                image, mask = _move(step, dict(arguments), image, mask)
            elif step in SPATIAL:
                mask = SPATIAL[step](mask, **dict(arguments))
        return mask

    def inverse(self, prediction: Any, original: Volume, *, fill: float | Sequence[float] | None = None) -> Volume:
        """A prediction for the standardized image, on the grid of the original image; see :func:`restore`.

        Args:
            prediction: a Volume, or an array of one case (i, j[, k][, c]) on the grid that the recipe gives the
                original: whole numbers are labels (nearest voxel), fractions probabilities (linear).
            original: the image before this recipe.
            fill: as in :func:`restore`.

        Returns:
            A Volume with the original's shape and affine. What the recipe cut away is background. Where resampling left
            a rim thinner than half a new voxel uncovered, it takes the outermost values.

        Raises:
            ValueError: an array of another shape than the recipe's grid, or as :func:`restore`.
        """
        names = [step for step, _ in self.steps]
        blank = original.replace(array=np.ones(original.shape, np.uint8), kind="labels")
        if not isinstance(prediction, Volume):
            prediction = inverse.as_prediction(prediction, self.on_labels(blank, original))
        if "resample" not in names or "crop_or_pad" in names:
            return inverse.restore(prediction, original, fill=fill)
        rim = [(1, 1)] * prediction.rank + [(0, 0)] * (prediction.array.ndim - prediction.rank)
        corner = geometry.translation([-1, -1, -1 if prediction.rank == 3 else 0])
        wider = prediction.replace(array=np.pad(prediction.array, rim, "edge"), affine=prediction.affine @ corner)
        if "crop_to_foreground" not in names:
            return inverse.restore(wider, original, fill=fill)
        chosen = Recipe(self.name, tuple(entry for entry in self.steps if entry[0] in _BEFORE))
        kept = inverse.restore(chosen.on_labels(blank, original), original).array > 0
        inside, outside = inverse.restore(wider, original, fill=fill), inverse.background(prediction, fill)
        return inside.replace(array=np.where(kept if inside.array.ndim == inside.rank else kept[..., None],
                                             inside.array, np.asarray(outside, inside.array.dtype)))  # fmt: skip

    def plain_steps(self) -> dict[str, dict[str, Any]]:
        """Each step's name and arguments, in order."""
        return {step: dict(arguments) for step, arguments in self.steps}

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain JSON types; :meth:`from_dict` makes the same recipe of it."""
        content = {"name": self.name, "steps": [{"step": step, **_plain(dict(args))} for step, args in self.steps]}
        if self.first != "space":
            content["first"] = self.first
        return content | ({"why": dict(self.why)} if self.why else {})

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Recipe:
        """The recipe that :meth:`to_dict` described.

        Raises:
            ValueError: no ``name`` or ``steps``, an unknown step or argument.
        """
        if not {"name", "steps"} <= set(content):
            raise ValueError(f"Expected a recipe with name and steps. Received the keys {sorted(content)}.")
        steps: dict[str, dict[str, Any]] = {}
        if not isinstance(content["steps"], list | tuple):
            raise ValueError(f"Expected steps as a list. Received {content['steps']!r}.")
        for entry in content["steps"]:
            if not isinstance(entry, Mapping):
                raise ValueError(f"Expected each step as {{'step': name, argument: value, ...}}. Received {entry!r}.")
            arguments = dict(entry)
            step = arguments.pop("step", None)
            if step in steps:
                raise ValueError(f"Expected each step once in a recipe. {step!r} comes twice.")
            steps[step] = arguments
        return build(content["name"], steps, content.get("first", "space"), dict(content.get("why", {})).items())

    @property
    def table(self) -> pd.DataFrame:
        """One row a step, in order: step, arguments, why."""
        import pandas as pd

        why = _WHY | dict(self.why)
        rows = [(step, _text(arguments), why[step]) for step, arguments in self.steps]
        rows += [(step, "left out", reason) for step, reason in self.why if step not in self.plain_steps()]
        return pd.DataFrame(rows, columns=["step", "arguments", "why"], index=range(1, len(rows) + 1))

    def __repr__(self) -> str:
        lines = [f"Recipe {self.name!r}"]
        width = max((len(step) for step, _ in self.steps), default=0)
        texts = [_text(arguments) for _, arguments in self.steps]
        wide = min(max(map(len, texts), default=0), 48)
        for number, ((step, _), text) in enumerate(zip(self.steps, texts, strict=True), 1):
            reason = dict(self.why).get(step, "")
            lines.append(f"  {number}  {step:<{width}}  {text:<{wide}}  {reason}".rstrip())
        if not self.steps:
            lines.append("  no step: values as they are, in float32")
        lines += [f"     {step} left out: {why}" for step, why in self.why if step not in self.plain_steps()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return f"<b>Recipe {self.name!r}</b>{self.table.to_html()}"


def build(
    name: str, steps: Mapping[str, Mapping[str, Any]], first: str = "space", why: Sequence[tuple[str, str]] = ()
) -> Recipe:
    """A Recipe with its steps in the order of ``first`` and its arguments checked.

    Raises:
        ValueError: an unknown order, step or argument, an argument that is missing or that the step refuses.
    """
    if first not in ORDERS:
        raise ValueError(f"Expected first to be 'space' or 'intensity'. Received {first!r}.")
    for step, arguments in steps.items():
        if step not in ORDERS[first]:
            raise ValueError(f"No step {step!r} in a recipe. There are {', '.join(ORDERS['space'])}.")
        function = SPATIAL.get(step) or INTENSITY[step]
        known = [name for name in inspect.signature(function).parameters if name != "volume"]
        for key in arguments:
            if key not in known:
                raise ValueError(f"{step!r} has no argument {key!r}. It has {', '.join(known) or 'none'}.")
        probes.probe(step, function, {key: _frozen(value) for key, value in arguments.items()})
    ordered = sorted(steps, key=ORDERS[first].index)
    entries = tuple((step, tuple((k, _frozen(v)) for k, v in steps[step].items())) for step in ordered)
    return Recipe(name, entries, first, tuple((step, str(text)) for step, text in why if step in ORDERS[first]))


def _move(step: str, arguments: dict[str, Any], volume: Volume, mask: Volume | None) -> tuple[Volume, Volume | None]:
    """Image and mask after one spatial step; the image alone decides what is cut away around its foreground."""
    if step == "crop_to_foreground":
        box = cropping.foreground_box(volume, **arguments)
        return cropping.cut(volume, box), None if mask is None else cropping.cut(mask, box)
    return SPATIAL[step](volume, **arguments), None if mask is None else SPATIAL[step](mask, **arguments)


def _frozen(value: Any) -> Any:
    if isinstance(value, np.ndarray | list | tuple):
        return tuple(_frozen(one) for one in value)
    return value.item() if isinstance(value, np.generic) else value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


def _text(arguments: tuple[tuple[str, Any], ...]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in arguments)
