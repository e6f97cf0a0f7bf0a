"""What a cell displays: the static picture first and once, then the viewer where there is Jupyter."""

import io
import sys

import numpy as np
import pytest
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image

from medlab import view
from medlab.view import scene, slices, widgets
from medlab.volume import Volume


@pytest.fixture
def shell(monkeypatch, tmp_path):
    """An IPython shell whose displays are kept in ``outputs``; with a ``kernel`` it passes for Jupyter."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    one = InteractiveShell.instance()
    publisher = CapturingDisplayPublisher()
    monkeypatch.setattr(one, "display_pub", publisher)
    yield one
    InteractiveShell.clear_instance()


@pytest.fixture
def jupyter(shell, monkeypatch):
    monkeypatch.delenv("MEDLAB_HEADLESS", raising=False)
    monkeypatch.setattr(type(shell), "kernel", object(), raising=False)
    return shell


def pictures(shell) -> list[bytes]:
    return [one["data"]["image/png"] for one in shell.display_pub.outputs if "image/png" in one["data"]]


def models(shell) -> list[dict]:
    key = "application/vnd.jupyter.widget-view+json"
    return [one["data"][key] for one in shell.display_pub.outputs if key in one["data"]]


def head() -> Volume:
    array = np.zeros((8, 10, 12), np.int16)
    array[-1, -1, :] = 100
    return Volume(array, np.diag([2.0, 1, 1, 1]), modality="MR")


@pytest.mark.parametrize("image", [np.eye(5), np.zeros((4, 5, 6)), head(), np.zeros((4, 5, 3), np.uint8)])
def test_headless_leaves_exactly_one_png(shell, monkeypatch, image):
    monkeypatch.setenv("MEDLAB_HEADLESS", "1")
    monkeypatch.setattr(type(shell), "kernel", object(), raising=False)
    result = view.show(image)
    assert len(shell.display_pub.outputs) == 1
    assert Image.open(io.BytesIO(pictures(shell)[0])).format == "PNG"
    assert result.widget is None
    assert result._ipython_display_() is None


def test_headless_scene_leaves_exactly_one_png(shell, monkeypatch):
    monkeypatch.setenv("MEDLAB_HEADLESS", "1")
    result = view.show3d(head(), mask=(head().array > 0).astype(np.uint8))
    assert len(shell.display_pub.outputs) == len(pictures(shell)) == 1
    assert result.widget is None


def test_without_a_kernel_there_is_no_widget(shell, monkeypatch):
    monkeypatch.delenv("MEDLAB_HEADLESS", raising=False)
    assert view.show(head()).widget is None
    assert len(pictures(shell)) == 1


def test_without_ipython_nothing_is_displayed(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "IPython", None)
    result = view.show(head())
    assert result.widget is None
    assert result.figure._repr_png_()
    assert capsys.readouterr().out == ""


def test_in_jupyter_the_picture_comes_first(jupyter):
    result = view.show(head())
    outputs = jupyter.display_pub.outputs
    assert "image/png" in outputs[0]["data"]
    assert [one["model_id"] for one in models(jupyter)] == [result.widget.model_id]
    assert len(outputs) == 2


def controls(widget) -> dict:
    return {one.description: one for one in widget.children[1].children if hasattr(one, "description")}


def test_the_viewer_shows_the_slice_of_its_sliders(jupyter):
    volume = head()
    mask = (volume.array > 0).astype(np.uint8)
    widget = view.show(volume, mask=mask, window=(50, 100), alpha=0).widget
    found = controls(widget)
    assert set(found) >= {"Plane", "Slice", "Center", "Width", "Opacity"}
    picture = widget.children[0].children[1].children[1]

    def shown():
        return np.asarray(Image.open(io.BytesIO(picture.value)))

    for plane, index in [("axial", 3), ("coronal", 9), ("sagittal", 7), ("sagittal", 0)]:
        found["Plane"].value = plane
        found["Slice"].value = index
        scale = round(420 / max(slices.picture_shape(volume, plane)))
        look = {"axis": plane, "index": index, "mask": mask, "alpha": 0, "scale": scale}
        assert np.array_equal(shown(), view.slice_image(volume, window=(50, 100), **look))
    # 8 x 2 mm wide, 12 x 1 mm high.
    found["Plane"].value = "coronal"
    assert found["Slice"].max == 9
    assert int(picture.layout.width[:-2]) / int(picture.layout.height[:-2]) == pytest.approx(16 / 12, rel=0.01)
    found["Center"].value, found["Width"].value = 10, 20
    assert np.array_equal(
        shown(),
        view.slice_image(volume, window=(10, 20), **(look | {"axis": "coronal", "index": found["Slice"].value})),
    )
    letters = [
        box.value for box in (widget.children[0].children[1].children[0], widget.children[0].children[1].children[2])
    ]
    assert letters == ["<b>R</b>", "<b>L</b>"]


def test_a_picture_has_window_sliders_alone(jupyter):
    assert set(controls(view.show(np.eye(30)).widget)) - {""} == {"Center", "Width"}


@pytest.mark.parametrize("image", [np.full((5, 5, 5), 3.0), np.full((4, 4), np.nan), np.full((3, 3), 1e-12)])
def test_odd_images_have_a_viewer_too(jupyter, image):
    assert view.show(image).widget is not None


def test_large_pictures_are_thinned_and_say_so(jupyter):
    widget = view.show(np.random.default_rng(0).random((2000, 1500))).widget
    picture = widget.children[0].children[1].children[1]
    assert Image.open(io.BytesIO(picture.value)).size == (500, 667)
    assert "1 of 3 pixels" in widget.children[1].children[-1].value


def test_scene_sends_a_small_nameless_volume(jupyter):
    import nibabel

    array = np.arange(150 * 4 * 5, dtype=np.float32).reshape(150, 4, 5)
    volume = Volume(array, np.diag([1.0, 2, 3, 1]), info={"PatientName": "Doe^Jane"})
    mask = np.zeros(array.shape, np.uint8)
    mask[10, 1, 1] = 2
    result = view.show3d(volume, mask=mask, heat=mask * 0.5)
    assert "75 x 4 x 5 voxels, averaged from 150 x 4 x 5" in result.figure.texts[0].get_text()
    layers = {layer.name: layer for layer in result.widget.volumes}
    assert set(layers) == {"image.nii", "mask.nii", "heat.nii"}
    sent = nibabel.Nifti1Image.from_bytes(layers["image.nii"].data)
    assert sent.get_fdata() == pytest.approx((array[::2] + array[1::2]) / 2)
    # The first block's center lies half a voxel further.
    assert sent.affine[:3, 3].tolist() == [0.5, 0, 0]
    assert sent.header.get_zooms() == (2, 2, 3)
    assert nibabel.Nifti1Image.from_bytes(layers["mask.nii"].data).get_fdata()[5, 1, 1] == 2
    assert b"Doe" not in layers["image.nii"].data


def test_scene_with_odd_sizes_and_nan(jupyter):
    array = np.ones((257, 3, 3), np.float32)
    array[0, 0, 0] = np.nan
    image, _, _ = scene._reduced(Volume(array), None, None, (3, 1, 1))
    assert image.shape == (86, 3, 3)
    assert np.isfinite(image.array).all()
    assert image.array[1:] == pytest.approx(1)


def test_itk_without_its_viewer_says_so_and_shows_niivue(jupyter, monkeypatch):
    monkeypatch.setattr(scene.urllib.request, "urlopen", _refuse)
    result = view.show3d(head(), engine="itk")
    said = [one["data"]["text/plain"] for one in jupyter.display_pub.outputs]
    assert any("did not answer (3 s). NiiVue is shown instead." in text for text in said)
    assert type(result.widget).__name__ == "NiiVue"
    assert "itkwidgets" not in sys.modules


def _refuse(*args, **kwargs):
    raise OSError("no network")


def test_scene_refuses_what_it_cannot_show():
    with pytest.raises(ValueError, match=r"Expected a volume \(i, j, k\).*use show"):
        view.show3d(np.eye(4))
    with pytest.raises(ValueError, match=r"Expected an engine of .*Received 'vtk'"):
        view.show3d(head(), engine="vtk")


def test_headless_mark(monkeypatch):
    for value in ("", "0"):
        monkeypatch.setenv("MEDLAB_HEADLESS", value)
        assert widgets.live() is False  # no kernel here


def test_importing_view_loads_nothing_heavy():
    import subprocess

    heavy = ("matplotlib", "ipywidgets", "ipyniivue", "IPython")
    code = f"import sys, medlab.view; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
