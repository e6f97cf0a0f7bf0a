"""Named recipes: which steps make the images of a modality comparable, and why.

In: a modality, a name, or ``"auto"`` with cases. Out: a :class:`medlab.standardize.Recipe`.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from medlab.standardize import intensity, measure
from medlab.standardize.steps import Recipe, build

if TYPE_CHECKING:
    import pandas as pd

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
    "NM": "zscore", "OT": "picture", "SEG": "picture",
}  # fmt: skip


def recipe(
    modality_or_name: str | None, cases: Any = None, *, first: str | None = None, limit: int | None = None,
    **changes: Any,
) -> Recipe:  # fmt: skip
    """The recipe for a modality or of a name, or one measured on a data set, with some steps changed.

    Args:
        modality_or_name: a DICOM modality (``"CT"``, ``"MR"``, ``"DX"``, ``"US"``, ...), or a name that :func:`recipes`
            lists, such as ``"CT-lung"``, ``"percentile"``, ``"zscore"``, ``"none"``. None, an unknown modality, means
            ``"percentile"``. Capitals do not matter. ``"auto"`` with ``cases`` measures the training cases and proposes
            spacing, size and normalization by nnU-Net's rules, each with its reason; see :func:`propose`.
        cases: for ``"auto"``: what :func:`fingerprint` takes.
        first: ``"space"``: images are resampled, cropped and padded first, and their intensities follow; a named
            recipe's default. ``"intensity"``: normalized first, on the voxels that were measured: mean, percentiles and
            clipping then depend on no padding and no target grid, and a clipped extreme no longer bleeds into its
            neighbors; the default of ``"auto"``. Orientation and the crop to the foreground come before both.
        limit: for ``"auto"``: how many cases are measured at most.
        **changes: ``step=arguments``: a dict of the step's arguments; the value of its main argument alone
            (``resample=1.0``, ``resize=(64, 64)``, ``window="lung"``); True for a step without arguments; or None to
            leave the step out. The order of steps is fixed: orient, crop_to_foreground, resample, crop_or_pad, resize,
            and window, scale, percentile, clahe, histogram, white_stripe, zscore, fixed_zscore, clip, symmetric,
            before or after them as ``first`` says.

    Returns:
        A :class:`Recipe`.

    Raises:
        ValueError: an unknown name, step or argument; the message lists what there is. ``"auto"`` without cases, or
            cases with another name.
    """
    if modality_or_name == "auto":
        if cases is None:
            raise ValueError(
                'recipe("auto") measures a data set: give it, recipe("auto", cases). Without one, name a modality.'
            )
        from medlab.standardize.proposal import propose

        found = propose(measure.fingerprint(cases, limit=limit))
        return (found if first is None else build(found.name, found.plain_steps(), first, found.why)).change(**changes)
    if cases is not None or limit is not None:
        raise ValueError(
            f'Cases are measured for recipe("auto", cases) alone. Received {modality_or_name!r} with them.'
        )
    first = "space" if first is None else first
    name = "percentile" if modality_or_name is None else str(modality_or_name)
    known = {one.lower(): one for one in _RECIPES}
    found = known.get(name.lower()) or _MODALITIES.get(name.upper())
    if found is None:
        near = get_close_matches(name.lower(), known, 1)
        hint = f" Did you mean {known[near[0]]!r}?" if near else ""
        raise ValueError(
            f"No recipe {name!r}. There are {', '.join(_RECIPES)}, and the modalities {', '.join(_MODALITIES)}.{hint}"
        )
    return build(name, _RECIPES[found][0], first).change(**changes)


def recipes() -> pd.DataFrame:
    """All recipes: name, modalities that use it, steps, why."""
    import pandas as pd

    rows = []
    for name, (steps, why) in _RECIPES.items():
        users = ", ".join(code for code, found in _MODALITIES.items() if found == name)
        rows.append({"name": name, "modalities": users, "steps": " > ".join(steps) or "none", "why": why})
    return pd.DataFrame(rows)
