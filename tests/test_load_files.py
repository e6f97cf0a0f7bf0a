"""load.read and load.write: NIfTI, NRRD, MetaImage, formats told by content, and what is no image."""

import gzip
import struct

import nibabel
import numpy as np
import pytest
import SimpleITK

from medlab import geometry, load
from medlab.volume import Volume, from_sitk

# Oblique, of three different spacings, with a left-handed first axis: a swapped axis or sign shows.
AFFINE = np.array([[-1.5, 0.2, 0, 10], [0.15, 2, 0.3, -20], [0, -0.4, 2.5, 30], [0, 0, 0, 1]])
_TURN = np.linalg.qr(np.array([[0.9, 0.1, 0.2], [-0.2, 0.8, 0.1], [0.1, -0.3, 0.7]]))[0]
STRAIGHT = geometry.from_parts((1.5, 2.0, 2.5), (10, -20, 30), _TURN)


def image(dtype="int16", shape=(3, 4, 5)):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32"])
def test_what_is_written_is_read_again(tmp_path, ending, dtype):
    volume = Volume(image(dtype), STRAIGHT)
    path = tmp_path / f"image{ending}"
    load.write(volume, path)
    back = load.read(path)
    assert back.array.dtype == dtype
    np.testing.assert_array_equal(back.array, volume.array)
    np.testing.assert_allclose(back.affine, STRAIGHT, atol=1e-5)
    assert back.has_geometry
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_channels_and_labels_survive(tmp_path, ending):
    path = tmp_path / f"image{ending}"
    load.write(Volume(image("float32", (3, 4, 5, 2)), STRAIGHT), path)
    back = load.read(path)
    assert back.rank == 3
    np.testing.assert_array_equal(back.array, image("float32", (3, 4, 5, 2)))
    load.write(Volume(image("uint8") % 3, STRAIGHT, "labels"), path)
    labels = load.read(path, kind="labels")
    assert labels.kind == "labels"
    np.testing.assert_array_equal(labels.array, image("uint8") % 3)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_unknown_geometry_stays_unknown(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    load.write(Volume(image(), geometry.scaling((2, 3, 4)), info={"geometry": "assumed"}), path)
    back = load.read(path)
    assert not back.has_geometry
    np.testing.assert_array_equal(back.affine, np.diag([2, 3, 4, 1]))
    np.testing.assert_array_equal(back.array, image())
    load.write(back, tmp_path / f"b{ending}")
    assert not load.read(tmp_path / f"b{ending}").has_geometry


@pytest.mark.parametrize("path", [None, 5, "", b"a.nii"])
def test_what_is_no_path(path):
    with pytest.raises(load.ReadError, match=r"Expected the path of an image file.*Received "):
        load.read(path)


@pytest.mark.parametrize("name", ["q.nii", "q.png", "q.mha", "q"])
def test_only_volumes_are_written(tmp_path, name):
    with pytest.raises(ValueError, match=r"Expected a Volume to write\. Received ndarray"):
        load.write(np.zeros((3, 3, 3)), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_nifti_slope_and_intercept_are_applied(tmp_path):
    stored = nibabel.Nifti1Image(np.array([[[0, 1, 1000]]], np.int16), np.eye(4))
    stored.header.set_slope_inter(0.5, -10)
    nibabel.save(stored, tmp_path / "a.nii")
    # nibabel rescales while saving: write the header's numbers by hand instead (offset 112: scl_slope, scl_inter).
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[112:120] = struct.pack("<ff", 0.5, -10)
    raw[-6:] = struct.pack("<3h", 0, 1, 1000)
    (tmp_path / "a.nii").write_bytes(raw)
    volume = load.read(tmp_path / "a.nii")
    assert volume.array.dtype == np.float32
    assert volume.array.ravel().tolist() == [-10, -9.5, 490]


def test_nifti_unit_becomes_millimeters(tmp_path):
    image_ = nibabel.Nifti1Image(image(), np.diag([500.0, 500.0, 1000.0, 1]))
    image_.header.set_xyzt_units("micron")
    nibabel.save(image_, tmp_path / "a.nii")
    np.testing.assert_allclose(load.read(tmp_path / "a.nii").spacing, (0.5, 0.5, 1.0))


def test_nifti_colors_time_and_big_endian(tmp_path):
    rgb = np.zeros((2, 3, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    rgb["G"][1, 2, 3] = 7
    nibabel.save(nibabel.Nifti1Image(rgb, AFFINE), tmp_path / "rgb.nii.gz")
    assert load.read(tmp_path / "rgb.nii.gz").array[1, 2, 3].tolist() == [0, 7, 0]
    header = nibabel.Nifti1Header(endianness=">")
    nibabel.save(nibabel.Nifti1Image(image("int16", (2, 3, 4, 1)), AFFINE, header), tmp_path / "big.nii")
    volume = load.read(tmp_path / "big.nii")
    assert volume.array.shape == (2, 3, 4)
    assert volume.array.dtype.isnative
    np.testing.assert_array_equal(volume.array, image("int16", (2, 3, 4)))
    nibabel.save(nibabel.Nifti2Image(image(), AFFINE), tmp_path / "two.nii")
    np.testing.assert_allclose(load.read(tmp_path / "two.nii").affine, AFFINE, atol=1e-5)
    with_nan = np.array([[[1, np.nan]]], np.float32)
    nibabel.save(nibabel.Nifti1Image(with_nan, AFFINE), tmp_path / "nan.nii")
    np.testing.assert_array_equal(load.read(tmp_path / "nan.nii").array, with_nan)


def test_nifti_pair_and_misnamed_file(tmp_path):
    nibabel.save(nibabel.Nifti1Pair(image(), AFFINE), tmp_path / "pair.img")
    np.testing.assert_array_equal(load.read(tmp_path / "pair.hdr").array, image())
    (tmp_path / "pair.img").unlink()
    with pytest.raises(load.ReadError, match=r"header without its image: put pair\.img beside it"):
        load.read(tmp_path / "pair.hdr")
    for version, kind in ((1, nibabel.Nifti1Image), (2, nibabel.Nifti2Image)):
        nibabel.save(kind(image(), AFFINE), tmp_path / "x.nii.gz")
        (tmp_path / "x.nii.gz").rename(tmp_path / f"scan{version}")
        volume = load.read(tmp_path / f"scan{version}")
        np.testing.assert_array_equal(volume.array, image())
        np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.99])
def test_truncated_nifti(tmp_path, ending, part):
    path = tmp_path / f"a{ending}"
    noise = np.random.default_rng(0).integers(0, 30000, (20, 20, 20)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(noise, AFFINE), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(load.ReadError, match=r"truncated|shorter"):
        load.read(path)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
def test_a_flipped_bit_in_compressed_numbers_is_noticed(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    load.write(Volume(np.random.default_rng(0).integers(0, 30000, (20, 20, 20)).astype(np.int16), AFFINE), path)
    whole = path.read_bytes()
    for place in range(len(whole) // 4, len(whole) - 10, len(whole) // 16):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        with pytest.raises(load.ReadError, match=r"truncated or damaged"):
            load.read(path)


def test_header_that_announces_more_than_can_be_there(tmp_path):
    header = nibabel.Nifti1Header()
    header.set_data_shape((32767, 32767, 32767))
    header.set_data_dtype(np.int16)
    raw = bytearray(header.binaryblock) + b"\0\0\0\0" + b"\0" * 100
    raw[344:348] = b"n+1\0"
    raw[108:112] = struct.pack("<f", 352)
    (tmp_path / "huge.nii").write_bytes(raw)
    with pytest.raises(load.ReadError, match=r"70\d{12} bytes of image announced, \d+ stored"):
        load.read(tmp_path / "huge.nii")
    (tmp_path / "huge.nii.gz").write_bytes(gzip.compress(bytes(raw)))
    with pytest.raises(load.ReadError, match="stored compressed"):
        load.read(tmp_path / "huge.nii.gz")


def test_complex_numbers_are_refused(tmp_path):
    nibabel.save(nibabel.Nifti1Image(image("complex64"), AFFINE), tmp_path / "a.nii")
    with pytest.raises(load.ReadError, match=r"complex numbers\. Save its magnitude"):
        load.read(tmp_path / "a.nii")


NRRD = "NRRD0004\ntype: short\ndimension: 3\nspace: {space}\nsizes: 2 3 4\nspace directions: (2,0,0) (0,3,0) (0,0,4)\n"


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", (-1, -1, 1)),
        ("LPS", (-1, -1, 1)),
        ("right-anterior-superior", (1, 1, 1)),
        ("left-anterior-superior", (-1, 1, 1)),
    ],
)
def test_nrrd_space_becomes_ras(tmp_path, space, signs):
    text = NRRD.format(space=space) + "endian: big\nencoding: raw\nspace origin: (5,6,7)\n\n"
    (tmp_path / "a.nrrd").write_bytes(text.encode() + np.arange(24, dtype=">i2").tobytes())
    volume = load.read(tmp_path / "a.nrrd")
    assert volume.array[1, 2, 3] == 1 + 2 * 2 + 3 * 6  # the first axis runs fastest
    np.testing.assert_allclose(volume.affine[:3, 3], np.multiply(signs, (5, 6, 7)))
    np.testing.assert_allclose(np.diag(volume.affine)[:3], np.multiply(signs, (2, 3, 4)))


def test_nrrd_channels_first_text_and_hex(tmp_path):
    head = "NRRD0005\ntype: uchar\ndimension: 4\nspace: RAS\nsizes: 2 1 1 3\n"
    head += "space directions: none (1,0,0) (0,1,0) (0,0,1)\nkinds: vector domain domain domain\n"
    (tmp_path / "a.nrrd").write_text(head + "encoding: ascii\n\n1 2\n3 4\n5 6\n")
    volume = load.read(tmp_path / "a.nrrd")
    assert volume.array.shape == (1, 1, 3, 2)
    assert volume.array[0, 0].tolist() == [[1, 2], [3, 4], [5, 6]]
    (tmp_path / "b.nrrd").write_text(head + "encoding: hex\n\n010203040506")
    np.testing.assert_array_equal(load.read(tmp_path / "b.nrrd").array, volume.array)


def test_nrrd_of_two_axes_is_a_picture(tmp_path):
    (tmp_path / "a.nrrd").write_text(
        "NRRD0001\ntype: uchar\ndimension: 2\nsizes: 3 2\nspacings: 0.5 0.25\nencoding: ascii\n\n1 2 3 4 5 6"
    )
    picture = load.read(tmp_path / "a.nrrd")
    assert picture.rank == 2
    assert picture.array.tolist() == [[1, 2, 3], [4, 5, 6]]  # row, column
    assert picture.spacing == (0.25, 0.5)
    assert not picture.has_geometry


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("encoding: raw\n\n1234", "shorter than its header says: 48 bytes of image announced, 4 stored"),
        ("encoding: gzip\n\nnot gzip at all", "damaged"),
        ("encoding: raw\nbyte skip: -5\n\n" + "x" * 60, "byte skip -5"),
        ("encoding: zip\n\n" + "x" * 60, "encoding 'zip'. Expected raw"),
        ("\n" + "x" * 60, "damaged NRRD header .KeyError: 'encoding'"),
        ("encoding: raw\ndata file: ../secret.raw\n", "names a data file outside its folder"),
        ("encoding: raw\ndata file: /etc/passwd\n", "names a data file outside its folder"),
        ("encoding: raw\ndata file: absent.raw\n", r"put absent\.raw beside it"),
        ("encoding: raw\ndata file: LIST\na.raw\n", "over several files"),
    ],
)
def test_damaged_nrrd(tmp_path, fields, message):
    (tmp_path / "secret.raw").write_bytes(b"\0" * 48)
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "a.nrrd").write_text(NRRD.format(space="RAS") + fields)
    with pytest.raises(load.ReadError, match=message):
        load.read(inner / "a.nrrd")


def test_metaimage_place_comes_out_as_simpleitk_has_it(tmp_path):
    image_ = Volume(image("float32"), STRAIGHT).to_sitk()
    SimpleITK.WriteImage(image_, str(tmp_path / "a.mhd"))
    volume = load.read(tmp_path / "a.mhd")
    oracle = from_sitk(image_)
    np.testing.assert_array_equal(volume.array, oracle.array)
    np.testing.assert_allclose(volume.affine, STRAIGHT, atol=1e-5)
    raw = tmp_path / "a.raw"
    raw.write_bytes(raw.read_bytes()[:100])
    with pytest.raises(load.ReadError, match="240 bytes of image announced, 100 stored"):
        load.read(tmp_path / "a.mhd")
    raw.unlink()
    with pytest.raises(load.ReadError, match=r"put a\.raw beside it"):
        load.read(tmp_path / "a.mhd")
    header = (tmp_path / "a.mhd").read_text()
    (tmp_path / "a.mhd").write_text(header.replace("a.raw", "../../../etc/passwd"))
    with pytest.raises(load.ReadError, match="outside its folder"):
        load.read(tmp_path / "a.mhd")


def test_truncated_metaimage(tmp_path):
    load.write(Volume(np.random.default_rng(0).normal(size=(20, 20, 20)).astype("f4")), tmp_path / "a.mha")
    whole = (tmp_path / "a.mha").read_bytes()
    (tmp_path / "a.mha").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(load.ReadError, match=r"damaged|truncated"):
        load.read(tmp_path / "a.mha")


def test_what_is_no_image(tmp_path):
    with pytest.raises(load.ReadError, match=r"No such file or folder: .*absent\.nii"):
        load.read(tmp_path / "absent.nii")
    with pytest.raises(load.ReadError, match="is empty: no file in it"):
        load.read(tmp_path)
    (tmp_path / "empty.nii").touch()
    with pytest.raises(load.ReadError, match=r"empty\.nii is empty \(0 bytes\)"):
        load.read(tmp_path / "empty.nii")
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04" + b"\0" * 40)
    with pytest.raises(load.ReadError, match=r"zip archive.*Readable formats: DICOM, NIfTI"):
        load.read(tmp_path / "a.zip")
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 40)
    with pytest.raises(load.ReadError, match=r"HDF5 file\. Readable formats"):
        load.read(tmp_path / "a.h5")
    (tmp_path / "a.txt").write_text("Größe: " * 200)
    with pytest.raises(load.ReadError, match=r"looks like a text file\. Readable formats"):
        load.read(tmp_path / "a.txt")
    (tmp_path / "a.gz").write_bytes(b"\x1f\x8b broken")
    with pytest.raises(load.ReadError, match="damaged gzip file"):
        load.read(tmp_path / "a.gz")
    assert issubclass(load.ReadError, ValueError)


@pytest.mark.parametrize(("option", "value"), [("gaps", "fill"), ("kind", "mask"), ("tilt", "yes")])
def test_unknown_options(tmp_path, option, value):
    with pytest.raises(ValueError, match=rf"Expected {option} .* Received '{value}'"):
        load.read(tmp_path, **{option: value})


def test_fractions_are_no_labels(tmp_path):
    load.write(Volume(np.full((2, 2, 2), 0.5, np.float32)), tmp_path / "a.nii")
    with pytest.raises(load.ReadError, match=r"a\.nii cannot be read: Expected whole numbers in a label map"):
        load.read(tmp_path / "a.nii", kind="labels")


def test_writing_says_what_it_cannot(tmp_path):
    with pytest.raises(ValueError, match=r"Expected a path ending in .*Received 'a\.jpg'"):
        load.write(Volume(image()), tmp_path / "a.jpg")
    sheared = np.eye(4)
    sheared[0, 2] = 0.5
    for name in ("a.nii.gz", "a.nrrd", "a.mha"):
        load.write(Volume(image(), sheared), tmp_path / "new" / name)
        np.testing.assert_allclose(load.read(tmp_path / "new" / name).affine, sheared)


@pytest.mark.data
def test_real_nifti_and_nrrd_agree_with_simpleitk(data_folder):
    files = [*(data_folder / "formats/nifti").glob("*.nii.gz"), *(data_folder / "formats/nrrd").rglob("*.n*")]
    compared = 0
    for file in files:
        try:
            oracle = from_sitk(SimpleITK.ReadImage(str(file)))
        except RuntimeError:
            continue
        volume = load.read(file)
        np.testing.assert_array_equal(volume.array, oracle.array, err_msg=file.name)
        np.testing.assert_allclose(volume.affine, oracle.affine, atol=1e-3, err_msg=file.name)
        compared += 1
    assert compared >= 14


@pytest.mark.data
def test_real_nrrd_that_simpleitk_does_not_read(data_folder):
    folder = data_folder / "formats/nrrd/tests/data"
    plain = load.read(folder / "BallBinary30x30x30.nrrd")
    np.testing.assert_array_equal(load.read(folder / "BallBinary30x30x30_bz2.nrrd").array, plain.array)
    four = load.read(folder / "test_simple4d_raw.nrrd")
    assert four.array.shape == (1, 1, 1, 1)
    assert four.spacing == (1.5, 1.5, 1.0)
    with pytest.raises(load.ReadError, match="2 or 3 spatial axes"):
        load.read(folder / "test1d_ascii.nrrd")
