"""Kinds: what each modality and anatomy allows an image to undergo, and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Kind:
    """What a modality allows: mirrored axes in 2-D (row, column) and 3-D (RAS: i left-right, j, k), and why.

    ``amounts`` are attributes of a policy that differ from what all modalities have.
    """

    flip2: tuple[int, ...]
    flip3: tuple[int, ...]
    rotation: float
    reason: str
    amounts: dict[str, Any] = field(default_factory=dict)


_EXPOSED = {"scale": 0.15, "translation": 0.1, "brightness": 0.3, "contrast": 0.4, "gamma": 0.3, "noise": 0.1}
"""For radiographs, whose exposure and position vary. On pneumoniamnist (one small network each) the validation AUC was
0.997 with these amounts as with those of other modalities; on validation images changed more than any training image it
was 0.990 instead of 0.978. Larger amounts still (contrast 0.5, noise 0.15, ...) gave 0.995 and 0.989."""
_SHAPE = {"scale": 0.0, "translation": 0.1, "brightness": 0.0, "contrast": 0.0, "gamma": 0.0, "noise": 0.0}
"""For segmented shapes: moved only. On adrenalmnist3d (one network each) rotation, scale and intensity changes besides
gave a validation AUC of 0.833 instead of 0.842."""

KINDS: dict[str, Kind] = {
    "radiograph": Kind(
        (), (), 15, "heart, stomach and liver have sides, and so has the L or R mark: no mirror image", _EXPOSED
    ),
    "limb": Kind(
        (1,), (0,), 20, "a right limb is the mirror image of a left one, and limbs are turned to be imaged", _EXPOSED
    ),
    "CT": Kind((), (), 10, "organs of chest and abdomen have sides: no mirror image"),
    "MR": Kind((1,), (0,), 10, "the halves of a head resemble each other: left and right may change places"),
    "heart": Kind((), (), 15, "the apex points to the left and the ventricles differ: turned, but no mirror image"),
    "mammography": Kind((1,), (0,), 10, "one breast is the other's mirror image: left and right may change places"),
    "US": Kind((1,), (0,), 10, "a probe may be held either way round, but echoes fade with depth: columns only"),
    "retina": Kind((1,), (0,), 15, "one eye is the other's mirror image; the vessels' arcs have an up and a down"),
    "microscopy": Kind((0, 1), (0, 1, 2), 180, "a tissue section has no up, down, left or right"),
    "picture": Kind((0, 1), (0, 1, 2), 30, "skin, retina and endoscopy look alike from all sides"),
    "shape": Kind(
        (), (), 0, "a segmented organ has no brightness, and its size and thickness may be what counts: only moved",
        _SHAPE,
    ),
    "gentle": Kind((), (), 5, "for unknown modalities: small changes only"),
    "none": Kind((), (), 0, "nothing changes"),
}  # fmt: skip
USERS = {
    "DX": "radiograph", "CR": "radiograph", "XA": "radiograph", "RF": "radiograph", "PX": "radiograph",
    "IO": "radiograph",
    "CT": "CT", "PT": "CT", "NM": "CT", "MR": "MR", "MG": "mammography", "US": "US", "SM": "microscopy",
    "GM": "microscopy", "OP": "picture", "OPT": "US", "XC": "picture", "ES": "picture", "DERM": "picture",
    "OT": "gentle", "SEG": "shape",
    "CHEST": "radiograph", "ABDOMEN": "CT", "BRAIN": "MR", "HEAD": "MR", "BREAST": "mammography",
    "BONE": "limb", "HAND": "limb", "WRIST": "limb", "ELBOW": "limb", "SHOULDER": "limb", "HIP": "limb",
    "KNEE": "limb", "ANKLE": "limb", "FOOT": "limb", "EYE": "retina",
}  # fmt: skip
