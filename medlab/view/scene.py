"""Scene: a volume in three dimensions, below a static picture that stays when a browser cannot render it.

In: a 3-D Volume with its mask and heat map. Out: what a Jupyter cell displays: NiiVue (works without a network), or
itkwidgets where its viewer, which comes from the internet, can be reached.
"""

from __future__ import annotations

import http.client
import importlib.util
import queue
import threading
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from medlab import geometry
from medlab.view import slices
from medlab.view.colors import LABEL_COLORS, heat_top, whole
from medlab.view.widgets import Viewer, _display, live, publish
from medlab.volume import Volume

ENGINES = ("auto", "niivue", "itk")
LARGEST = 128
"""The longest side, in voxels, of a volume that is sent to the browser."""


def show3d(
    volume: Volume | ArrayLike,
    *,
    mask: Volume | ArrayLike | None = None,
    heat: Volume | ArrayLike | None = None,
    window: tuple[float, float] | None = None,
    alpha: float | None = None,
    engine: str = "auto",
    title: str = "",
) -> Viewer:
    """Displays a static picture and, in Jupyter, below it a scene in three dimensions that can be turned.

    Args:
        volume: a 3-D image or label map.
        mask: label map of the volume's shape.
        heat: heat map >= 0 of the volume's shape.
        window: (center, width) in the image's unit; None: the 0.5th to the 99.5th percentile.
        alpha: opacity of mask or heat map, 0 to 1.
        engine: ``"niivue"``; ``"itk"``, for itkwidgets, which needs the internet: where its viewer does not answer
            within 3 seconds a line says so and NiiVue is shown; ``"auto"``: NiiVue, else itkwidgets if its viewer
            answers.
        title: a line above the static picture. Give no name of a patient.

    Returns:
        The figure and the widget; already displayed, so that a cell may end with the call.

    Raises:
        ValueError: not a volume of three axes, an unknown engine, or as :func:`medlab.view.slice_image`.
    """
    from medlab.view import images

    volume = slices.as_volume(volume)
    if volume.rank != 3:
        raise ValueError(f"Expected a volume (i, j, k). Received a picture of shape {volume.array.shape}; use show.")
    if engine not in ENGINES:
        raise ValueError(f"Expected an engine of {ENGINES}. Received {engine!r}.")
    if alpha is None:
        alpha = 0.4 if heat is None else 0.6
    factors = tuple(-(-n // LARGEST) for n in volume.shape)
    note = ""
    if max(factors) > 1:
        sent = " x ".join(str(-(-n // f)) for n, f in zip(volume.shape, factors, strict=True))
        note = f"The 3-D scene has {sent} voxels, averaged from {' x '.join(map(str, volume.shape))}."
    look = {"window": slices.auto_window(volume) if window is None else window, "alpha": alpha}
    figure = images.orthogonal(volume, mask, heat, title=title, note=note, **look)
    publish(figure)
    if not live():
        return Viewer(figure)
    parts = _reduced(volume, mask, heat, factors)
    widget = None
    if engine == "itk":
        reason = _why_not_itk()
        if not reason:
            return Viewer(figure, _itk(*parts))
        _say(f"{reason} NiiVue is shown instead.")
    if importlib.util.find_spec("ipyniivue") is not None:
        widget = _niivue(*parts, **look)
        _display(widget)
    elif engine == "auto" and not _why_not_itk():
        widget = _itk(*parts)
    else:
        _say("No 3-D viewer is installed: pip install ipyniivue. The picture above stands alone.")
    return Viewer(figure, widget)


def _reduced(
    volume: Volume, mask: Any, heat: Any, factors: tuple[int, ...]
) -> tuple[Volume, Volume | None, Volume | None]:
    """Blocks of ``factors`` voxels joined: the mean of the image, the largest of mask and heat map."""
    array = volume.array if volume.array.ndim == 3 else volume.array[..., 0]
    labels = volume.kind == "labels"
    array = whole(array).astype(np.int16) if labels else np.nan_to_num(array.astype(np.float32), posinf=0, neginf=0)
    # A block's center lies (factor - 1) / 2 voxels from its first one.
    shift = geometry.translation([(factor - 1) / 2 for factor in factors])
    affine = geometry.compose(volume.affine, shift, geometry.scaling(factors))
    info = {} if volume.has_geometry else {"geometry": "assumed"}

    def joined(values: np.ndarray, how: Any, kind: str = "image") -> Volume:
        return Volume(_blocks(values, factors, how), affine, kind, info=info)

    image = joined(array, np.max if labels else np.mean, volume.kind)
    marks = (
        None if mask is None else joined(whole(slices.fitting(mask, volume, "mask")).astype(np.int16), np.max, "labels")
    )
    if heat is not None:
        heat = joined(np.nan_to_num(slices.fitting(heat, volume, "heat map").astype(np.float32)), np.max)
    return image, marks, heat


def _blocks(array: np.ndarray, factors: tuple[int, ...], how: Any) -> np.ndarray:
    """``how`` over blocks of the given size; the last block of an axis is filled up with copies of its edge."""
    if max(factors) == 1:
        return array
    padded = np.pad(array, [(0, -n % f) for n, f in zip(array.shape, factors, strict=True)], mode="edge")
    sizes = [size for n, f in zip(padded.shape, factors, strict=True) for size in (n // f, f)]
    return how(padded.reshape(sizes), axis=(1, 3, 5)).astype(array.dtype)


def _niivue(
    image: Volume, mask: Volume | None, heat: Volume | None, *, window: tuple[float, float], alpha: float
) -> Any:
    """NiiVue with image, mask and heat map, given as bytes: no file is written, and no name leaves the kernel."""
    import ipyniivue

    center, width = window
    gray = {"colormap": "gray", "cal_min": center - width / 2, "cal_max": center + width / 2}
    layers = [_layer("image", image, **({} if image.kind == "labels" else gray))]
    if heat is not None:
        top = heat_top(heat.array) or 1.0
        below = ipyniivue.ColormapType.ZERO_TO_MAX_TRANSPARENT_BELOW_MIN
        layers.append(
            _layer("heat", heat, opacity=alpha, colormap="plasma", cal_min=0.4 * top, cal_max=top, colormap_type=below)
        )
    if mask is not None:
        layers.append(_layer("mask", mask, opacity=alpha))
    widget = ipyniivue.NiiVue(
        height=420, is_radiological_convention=True, sagittal_nose_left=True, show_legend=False,
        multiplanar_show_render=ipyniivue.ShowRender.ALWAYS, crosshair_width=0.5,
        is_orientation_text_visible=image.has_geometry, atlas_outline=0.0 if heat is None else 1.0,
    )  # fmt: skip
    widget.load_volumes(layers)
    if mask is not None or heat is not None:
        planes = ("sagittal", "coronal", "axial")
        at = [slices.telling_index(image, plane, mask=mask, heat=heat) for plane in planes]
        counts = [slices.slice_count(image, plane) for plane in planes]
        # Where the slices begin: shares of the way to the right, the front and the head.
        widget.scene.crosshair_pos = [(index + 0.5) / count for index, count in zip(at, counts, strict=True)]
    return widget


def _layer(name: str, volume: Volume, **look: Any) -> Any:
    """One image for NiiVue, as the bytes of a NIfTI file whose name says nothing about the patient."""
    import ipyniivue

    layer = ipyniivue.Volume(name=f"{name}.nii", data=volume.to_nibabel().to_bytes(), **look)
    if volume.kind == "labels":
        layer.set_colormap_label(_label_table(int(volume.array.max())))
    return layer


def _label_table(most: int) -> dict[str, list[Any]]:
    """NiiVue's color table for the labels 0 to ``most``; 0 is transparent."""
    colors = [(0, 0, 0), *(LABEL_COLORS[index % len(LABEL_COLORS)].tolist() for index in range(most))]
    red, green, blue = zip(*colors, strict=True)
    return {
        "R": list(red), "G": list(green), "B": list(blue), "A": [0, *[255] * most], "I": list(range(most + 1)),
        "labels": ["", *(f"label {index}" for index in range(1, most + 1))],
    }  # fmt: skip


def _why_not_itk(seconds: float = 3.0) -> str:
    """Why itkwidgets cannot show anything here, as a sentence; empty where its viewer answers in time."""
    spec = importlib.util.find_spec("itkwidgets")
    if spec is None or not spec.submodule_search_locations:
        return "itkwidgets is not installed."
    # Read without importing itkwidgets: that alone makes the next cells wait for its viewer.
    address = ""
    for line in (
        (Path(spec.submodule_search_locations[0]) / "viewer_config.py").read_text(encoding="utf-8").splitlines()
    ):
        if '"https://' in line:
            address = line.split('"')[1]
            break
    if not address:
        return "This release of itkwidgets does not say where its viewer is."
    answers: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=seconds):
                answers.put(True)
        except (OSError, http.client.HTTPException):
            answers.put(False)

    # A thread, because looking up a host's name has no time limit of its own.
    threading.Thread(target=ask, daemon=True).start()
    try:
        reached = answers.get(timeout=seconds)
    except queue.Empty:
        reached = False
    return "" if reached else f"itkwidgets loads its viewer from the internet, and that did not answer ({seconds:g} s)."


def _itk(image: Volume, mask: Volume | None, heat: Volume | None) -> Any:
    """A scene of itkwidgets with the image and the mask, else the heat map as labels of its upper half."""
    import itkwidgets

    labels = mask
    if labels is None and heat is not None:
        labels = heat.replace(array=(heat.array > 0.5 * heat_top(heat.array)).astype(np.uint8), kind="labels")
    return itkwidgets.view(image=image.to_sitk(), label_image=None if labels is None else labels.to_sitk())


def _say(text: str) -> None:
    from IPython.display import publish_display_data

    publish_display_data({"text/plain": text})
