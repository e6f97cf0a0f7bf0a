"""load.read and load.write on PNG, JPEG, TIFF and BMP."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from medlab import load
from medlab.volume import Volume

GRAY8 = np.arange(0, 240, 20, dtype=np.uint8).reshape(3, 4)
GRAY16 = (np.arange(12, dtype=np.uint16) * 5000).reshape(3, 4)
COLOR8 = np.arange(36, dtype=np.uint8).reshape(3, 4, 3) * 7


@pytest.mark.parametrize("array", [GRAY8, GRAY16, COLOR8, COLOR8.astype(np.uint16) * 250, GRAY8[..., None]])
def test_png_there_and_back(tmp_path, array):
    load.write(Volume(array, rank=2), tmp_path / "a.png")
    picture = load.read(tmp_path / "a.png")
    assert picture.rank == 2
    assert picture.array.dtype == array.dtype
    np.testing.assert_array_equal(picture.array, array[..., 0] if array.shape[-1] == 1 else array)
    assert not picture.has_geometry
    assert picture.array.dtype.isnative


def test_png_of_masks_and_small_integers(tmp_path):
    load.write(Volume(np.array([[0, 1], [2, 3]], np.int32), kind="labels"), tmp_path / "a.png")
    mask = load.read(tmp_path / "a.png", kind="labels")
    assert mask.array.tolist() == [[0, 1], [2, 3]]
    assert mask.kind == "labels"
    load.write(Volume(np.array([[True, False]])), tmp_path / "b.png")
    assert load.read(tmp_path / "b.png").array.tolist() == [[255, 0]]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((2, 2), 0.5), "whole numbers from 0 to 65535.*window it"),
        (np.array([[-1, 5]]), "whole numbers from 0 to 65535"),
        (np.array([[70000, 5]]), "whole numbers from 0 to 65535"),
        (np.zeros((2, 2, 2), np.uint8), "Expected a picture for .png"),
    ],
)
def test_what_png_cannot_hold(tmp_path, array, message):
    with pytest.raises(ValueError, match=message):
        load.write(Volume(array), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_the_content_decides_not_the_ending(tmp_path):
    Image.fromarray(COLOR8).save(tmp_path / "a.jpeg", quality=100, subsampling=0)
    (tmp_path / "a.jpeg").rename(tmp_path / "a.png")
    picture = load.read(tmp_path / "a.png")
    assert picture.array.shape == (3, 4, 3)
    assert np.abs(picture.array.astype(int) - COLOR8).max() < 60
    Image.fromarray(GRAY8).save(tmp_path / "b.png")
    (tmp_path / "b.png").rename(tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(load.read(tmp_path / "b.nii.gz").array, GRAY8)
    Image.fromarray(GRAY8).save(tmp_path / "c.bmp")
    np.testing.assert_array_equal(load.read(tmp_path / "c.bmp").array, GRAY8)


def test_palette_bits_transparency_and_camera_rotation(tmp_path):
    palette = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), mode="P")
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0] + [0] * 759)
    palette.save(tmp_path / "p.png")
    assert load.read(tmp_path / "p.png").array[0, 1].tolist() == [255, 0, 0]
    assert load.read(tmp_path / "p.png", kind="labels").array.tolist() == [[0, 1], [2, 1]]
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "1.png")
    assert load.read(tmp_path / "1.png").array.tolist() == [[255, 0]]
    assert load.read(tmp_path / "1.png", kind="labels").array.tolist() == [[1, 0]]
    Image.fromarray(np.dstack([COLOR8, np.full((3, 4), 9, np.uint8)])).save(tmp_path / "a.png")
    np.testing.assert_array_equal(load.read(tmp_path / "a.png").array, COLOR8)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter turn clockwise
    Image.fromarray(np.tile(np.array([[0], [255]], np.uint8), (1, 8)).repeat(4, 0)).save(tmp_path / "t.jpg", exif=exif)
    turned = load.read(tmp_path / "t.jpg").array
    assert turned.shape == (8, 8)
    assert turned[:, 0].min() > 200
    assert turned[:, -1].max() < 50


def test_mask_in_color(tmp_path):
    Image.fromarray(np.repeat(GRAY8[..., None], 3, axis=2)).save(tmp_path / "gray.png")
    np.testing.assert_array_equal(load.read(tmp_path / "gray.png", kind="labels").array, GRAY8)
    Image.fromarray(COLOR8).save(tmp_path / "color.png")
    with pytest.raises(load.ReadError, match="mask in color"):
        load.read(tmp_path / "color.png", kind="labels")


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_tiff_deep_float_and_pages(tmp_path, byteorder):
    tifffile.imwrite(tmp_path / "a.tif", GRAY16, byteorder=byteorder)
    picture = load.read(tmp_path / "a.tif")
    assert picture.array.dtype == np.uint16
    assert picture.array.dtype.isnative
    np.testing.assert_array_equal(picture.array, GRAY16)
    tifffile.imwrite(tmp_path / "f.tif", GRAY16.astype(np.float32) / 3, byteorder=byteorder)
    np.testing.assert_array_equal(load.read(tmp_path / "f.tif").array, GRAY16.astype(np.float32) / 3)
    pages = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    tifffile.imwrite(tmp_path / "p.tif", pages, photometric="minisblack", byteorder=byteorder)
    volume = load.read(tmp_path / "p.tif")
    assert volume.rank == 3
    np.testing.assert_array_equal(volume.array, pages.transpose(1, 2, 0))
    assert not volume.has_geometry


def test_tiff_colors_inverted_and_compressed(tmp_path):
    tifffile.imwrite(tmp_path / "rgb.tif", COLOR8, photometric="rgb")
    np.testing.assert_array_equal(load.read(tmp_path / "rgb.tif").array, COLOR8)
    planes = np.ascontiguousarray(COLOR8.transpose(2, 0, 1))
    tifffile.imwrite(tmp_path / "planes.tif", planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(load.read(tmp_path / "planes.tif").array, COLOR8)
    tifffile.imwrite(tmp_path / "white.tif", GRAY8, photometric="miniswhite")
    np.testing.assert_array_equal(load.read(tmp_path / "white.tif").array, 255 - GRAY8)
    for compression in ("tiff_lzw", "tiff_deflate", "packbits"):
        Image.fromarray(GRAY16).save(tmp_path / "c.tif", compression=compression)
        np.testing.assert_array_equal(load.read(tmp_path / "c.tif").array, GRAY16, err_msg=compression)
    pages = [Image.fromarray(GRAY16 + page) for page in range(3)]
    pages[0].save(tmp_path / "p.tif", compression="tiff_lzw", save_all=True, append_images=pages[1:])
    volume = load.read(tmp_path / "p.tif")
    assert volume.rank == 3
    assert volume.array[1, 2].tolist() == [30000, 30001, 30002]


def test_pages_of_several_sizes(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(GRAY8)
        file.write(GRAY8[:2])
    with pytest.raises(load.ReadError, match="2 pages of different sizes"):
        load.read(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.bmp"])
def test_truncated_pictures(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for part in (0.05, 0.5):
        (tmp_path / name).write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(load.ReadError, match=r"damaged|cannot be read|unknown kind"):
            load.read(tmp_path / name)


def test_truncated_deep_png(tmp_path):
    noise = np.random.default_rng(0).integers(0, 65535, (64, 64, 3)).astype(np.uint16)
    load.write(Volume(noise, rank=2), tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    for length in (10, 24, 25, len(whole) // 2):
        (tmp_path / "a.png").write_bytes(whole[:length])
        with pytest.raises(load.ReadError, match=r"a\.png"):
            load.read(tmp_path / "a.png")


def png(width, height, bits, color):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def test_decompression_bombs(tmp_path):
    (tmp_path / "a.png").write_bytes(png(60000, 60000, 8, 0))
    with pytest.raises(load.ReadError, match=r"refused: Image size .3600000000 pixels. exceeds limit"):
        load.read(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(png(60000, 60000, 16, 2))
    with pytest.raises(load.ReadError, match="21600000000 bytes of image announced"):
        load.read(tmp_path / "b.png")
    tifffile.imwrite(tmp_path / "c.tif", GRAY8)
    with tifffile.TiffFile(tmp_path / "c.tif", mode="r+") as file:
        file.pages[0].tags["ImageWidth"].overwrite(4_000_000_000)
        file.pages[0].tags["ImageLength"].overwrite(4_000_000_000)
    with pytest.raises(load.ReadError, match=r"c\.tif"):
        load.read(tmp_path / "c.tif")


@pytest.mark.data
def test_real_radiograph(data_folder):
    file = next((data_folder / "chest_xray_224/test/NORMAL").iterdir())
    picture = load.read(file)
    assert picture.array.shape == (224, 224, 3)
    with Image.open(file) as oracle:
        np.testing.assert_array_equal(picture.array, np.asarray(oracle))
