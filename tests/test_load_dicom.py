"""load.read on DICOM: order, place, HU, compression, gaps, tilt, and nothing that identifies a patient."""

import shutil
import struct

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    UltrasoundImageStorage,
    generate_uid,
)

from medlab import geometry, load
from medlab.load import codestream
from medlab.volume import Volume, from_sitk

SERIES = generate_uid()


def dataset(pixels, **fields):
    """A CT slice; ``fields`` overwrite or, being None, remove elements."""
    values = {
        "SOPClassUID": CTImageStorage, "SOPInstanceUID": generate_uid(), "SeriesInstanceUID": SERIES, "Modality": "CT",
        "PatientName": "Doe^Jane", "PatientID": "4711", "PatientBirthDate": "19700101", "StudyDate": "20200202",
        "InstitutionName": "Hospital", "SeriesNumber": 3, "KVP": "120", "SeriesDescription": "thorax",
        "Rows": pixels.shape[0], "Columns": pixels.shape[1], "SamplesPerPixel": 1, "BitsAllocated": 16,
        "PhotometricInterpretation": "MONOCHROME2", "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 1,
        "RescaleSlope": "1", "RescaleIntercept": "-1024", "PixelSpacing": [2.0, 1.5],
        "ImagePositionPatient": [10, 20, 30], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    } | fields  # fmt: skip
    data = Dataset()
    for name, value in values.items():
        if value is not None and name != "syntax":
            setattr(data, name, value)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = fields.get("syntax", ExplicitVRLittleEndian)
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.PixelData = pixels.tobytes()
    data["PixelData"].VR = "OB" if data.BitsAllocated == 8 else "OW"
    return data


def save(data, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    if data.file_meta.TransferSyntaxUID == ExplicitVRBigEndian:
        data.save_as(path, implicit_vr=False, little_endian=False, enforce_file_format=True)
    else:
        data.save_as(path, enforce_file_format=True)
    return path


def series(folder, places, pixels=None, **fields):
    """Slices of 2 rows x 3 columns at z = ``places``; the names say nothing about the order."""
    for number, z in enumerate(places):
        array = np.full((2, 3), 1024 + 10 * number, np.int16) if pixels is None else pixels[number]
        own = {"ImagePositionPatient": [10, 20, z], **fields}
        save(dataset(array, **own), folder / f"{(number * 7919) % 100:02d}{number}.dcm")
    return folder


def test_place_order_and_hounsfield_units(tmp_path):
    pixels = np.arange(24, dtype=np.int16).reshape(4, 2, 3)
    volume = load.read(series(tmp_path, [40, 30, 60, 50], pixels))
    assert volume.shape == (3, 2, 4)  # columns, rows, slices
    assert volume.modality == "CT"
    assert volume.array.dtype == np.int16
    # The slice at z = 30 was written second: its pixel in row 1, column 2 is 11.
    assert volume.array[2, 1, 0] == 11 - 1024
    assert volume.array[:, :, 3].T.tolist() == (pixels[2] - 1024).tolist()
    # Columns run 1.5 mm to the left, rows 2 mm to the back, slices 10 mm to the head: LPS (10, 20, 30) at the start.
    expected = [[-1.5, 0, 0, -10], [0, -2, 0, -20], [0, 0, 10, 30], [0, 0, 0, 1]]
    np.testing.assert_allclose(volume.affine, expected)
    assert volume.orientation == "LPS"
    assert volume.info["units"] == "HU"


def test_oblique_series_agrees_with_simpleitk(tmp_path):
    turn = np.linalg.qr(np.array([[0.9, 0.1, 0.2], [-0.2, 0.8, 0.1], [0.1, -0.3, 0.7]]))[0]
    turn *= np.sign(np.linalg.det(turn))
    random = np.random.default_rng(0)
    for number in range(5):
        data = dataset(
            random.integers(-500, 500, (4, 6)).astype(np.int16),
            ImageOrientationPatient=np.round(np.concatenate([turn[:, 0], turn[:, 1]]), 10).tolist(),
            ImagePositionPatient=np.round(np.array([5, -7, 9]) + number * 3 * turn[:, 2], 10).tolist(),
        )
        save(data, tmp_path / f"{(number * 3) % 5}.dcm")
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    oracle = from_sitk(reader.Execute())
    volume = load.read(tmp_path)
    np.testing.assert_array_equal(volume.array, oracle.array)
    np.testing.assert_allclose(volume.affine, oracle.affine, atol=1e-6)


def test_nothing_identifies_the_patient(tmp_path):
    volume = load.read(series(tmp_path, [0, 1, 2]))
    assert volume.info["KVP"] == 120
    assert volume.info["SeriesDescription"] == "thorax"
    text = repr(volume.info) + repr(volume)
    for secret in ("Doe", "Jane", "4711", "1970", "2020", "Hospital", SERIES):
        assert secret not in text


def test_slopes_of_each_slice_and_their_types(tmp_path):
    for number, slope in enumerate((0.5, 0.25, 2)):
        data = dataset(
            np.full((2, 3), 100, np.int16), RescaleSlope=str(slope), ImagePositionPatient=[0, 0, number], Modality="PT"
        )
        save(data, tmp_path / f"{number}.dcm")
    volume = load.read(tmp_path)
    assert volume.array.dtype == np.float32
    assert volume.array[0, 0].tolist() == [50 - 1024, 25 - 1024, 200 - 1024]
    assert "units" not in volume.info


@pytest.mark.parametrize(
    ("fields", "stored", "dtype", "value"),
    [
        ({"PixelRepresentation": 0, "BitsStored": 12, "HighBit": 11}, 4095, "int16", 3071),
        ({"PixelRepresentation": 0}, 65535, "int32", 64511),
        ({"PixelRepresentation": 0, "RescaleIntercept": "0"}, 65535, "uint16", 65535),
        ({"RescaleIntercept": "0"}, -5, "int16", -5),
        # 12 signed bits with rubbish above them: 0x8FFF is -1.
        ({"BitsStored": 12, "HighBit": 11, "RescaleIntercept": "0"}, -28673, "int16", -1),
        ({"RescaleSlope": "3", "RescaleIntercept": "0"}, 20000, "int32", 60000),
        ({"RescaleSlope": None, "RescaleIntercept": None}, 7, "int16", 7),
        ({"PhotometricInterpretation": "MONOCHROME1", "PixelRepresentation": 0, "BitsStored": 10, "HighBit": 9,
          "RescaleIntercept": "0"}, 1000, "int16", 23),
    ],
)  # fmt: skip
def test_stored_bits(tmp_path, fields, stored, dtype, value):
    pixels = np.full((2, 3), stored, np.uint16 if stored > 32767 else np.int16)
    volume = load.read(save(dataset(pixels, **fields), tmp_path / "a.dcm"))
    assert volume.array.dtype == dtype
    assert volume.array[0, 0] == value


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_plain_transfer_syntaxes(tmp_path, syntax):
    pixels = np.arange(6, dtype=np.int16).reshape(2, 3)
    order = ">i2" if syntax == ExplicitVRBigEndian else "<i2"
    data = dataset(pixels.astype(order), syntax=syntax)
    np.testing.assert_array_equal(load.read(save(data, tmp_path / "a")).array, pixels - 1024)


def test_one_slice_is_a_picture_with_its_place(tmp_path):
    path = save(dataset(np.arange(6, dtype=np.int16).reshape(2, 3), SliceThickness="5"), tmp_path / "one" / "a.dcm")
    for picture in (load.read(path), load.read(path.parent)):
        assert picture.rank == 2
        assert picture.array.tolist() == [[-1024, -1023, -1022], [-1021, -1020, -1019]]
        assert picture.spacing == (2.0, 1.5)
        assert picture.orientation == "PL"
        np.testing.assert_allclose(picture.affine[:3, 3], (-10, -20, 30))
        assert np.linalg.norm(picture.affine[:3, 2]) == 5


RADIOGRAPH = {
    "SOPClassUID": DigitalXRayImageStorageForPresentation, "Modality": "DX", "ImagePositionPatient": None,
    "ImageOrientationPatient": None, "PixelSpacing": None, "ImagerPixelSpacing": [0.2, 0.1], "RescaleSlope": None,
    "RescaleIntercept": None, "PixelRepresentation": 0,
}  # fmt: skip


def test_radiograph_with_and_without_sides(tmp_path):
    pixels = np.arange(6, dtype=np.uint16).reshape(2, 3)
    sided = load.read(save(dataset(pixels, **RADIOGRAPH, PatientOrientation=["L", "F"]), tmp_path / "a.dcm"))
    assert sided.orientation == "IL"  # rows run to the foot, columns to the left
    assert sided.spacing == (0.2, 0.1)
    assert sided.has_geometry
    np.testing.assert_array_equal(sided.array, pixels)
    for number, orientation in enumerate((None, ["L", "L"], ["X", "F"])):
        data = dataset(pixels, **RADIOGRAPH, **({"PatientOrientation": orientation} if orientation else {}))
        assert not load.read(save(data, tmp_path / f"{number}.dcm")).has_geometry


@pytest.mark.parametrize("planar", [0, 1])
def test_colors(tmp_path, planar):
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    stored = pixels if planar == 0 else pixels.transpose(2, 0, 1).copy()
    fields = {"SOPClassUID": UltrasoundImageStorage, "Modality": "US", "SamplesPerPixel": 3, "BitsAllocated": 8,
              "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0, "PhotometricInterpretation": "RGB",
              "PlanarConfiguration": planar, "Rows": 2, "Columns": 3, "RescaleSlope": None,
              "RescaleIntercept": None, "ImagePositionPatient": None, "ImageOrientationPatient": None}  # fmt: skip
    data = dataset(stored, **fields)
    picture = load.read(save(data, tmp_path / "a.dcm"))
    assert picture.array.dtype == np.uint8
    np.testing.assert_array_equal(picture.array, pixels)


def multi_frame(places, frames):
    data = dataset(np.asarray(frames, np.int16), SOPClassUID=EnhancedCTImageStorage)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        delattr(data, name)
    data.Rows, data.Columns, data.NumberOfFrames = 2, 3, len(frames)

    def group(name, **fields):
        inner, outer = Dataset(), Dataset()
        for key, value in fields.items():
            setattr(inner, key, value)
        setattr(outer, name, [inner])
        return outer

    shared = group("PixelMeasuresSequence", PixelSpacing=[2.0, 1.5])
    shared.update(group("PlaneOrientationSequence", ImageOrientationPatient=[1, 0, 0, 0, 1, 0]))
    shared.update(group("PixelValueTransformationSequence", RescaleSlope="1", RescaleIntercept="-1000"))
    data.SharedFunctionalGroupsSequence = [shared]
    data.PerFrameFunctionalGroupsSequence = [
        group("PlanePositionSequence", ImagePositionPatient=[10, 20, z]) for z in places
    ]
    return data


def test_enhanced_multi_frame(tmp_path):
    frames = np.arange(18).reshape(3, 2, 3)
    volume = load.read(save(multi_frame([6, 2, 4], frames), tmp_path / "a.dcm"))
    assert volume.shape == (3, 2, 3)
    assert [volume.array[0, 0, k] + 1000 for k in range(3)] == [6, 12, 0]
    np.testing.assert_allclose(volume.affine[:3, 2:], [[0, -10], [0, -20], [2, 2]])


def test_film_is_no_volume(tmp_path):
    data = dataset(np.zeros((4, 3), np.int16), Rows=2, NumberOfFrames=2)
    with pytest.raises(load.ReadError, match="film of 2 frames without places"):
        load.read(save(data, tmp_path / "a.dcm"))


def test_missing_slice_is_named_and_can_be_filled(tmp_path):
    folder = series(tmp_path, [0, 2, 4, 8, 10])
    message = r"misses 1 slice\(s\): steps of 2 to 4 mm .* between slices 3 and 4 of 5 \(at 4\.00 and 8\.00 mm\)"
    with pytest.raises(load.ReadError, match=message):
        load.read(folder)
    volume = load.read(folder, gaps="interpolate")
    assert volume.array[0, 0].tolist() == [0, 10, 20, 25, 30, 40]
    assert volume.spacing == (1.5, 2.0, 2.0)
    assert volume.info["repairs"] == ["1 of 6 slices interpolated linearly between neighbors (missing slices)."]


def test_uneven_slices_are_resampled_along_the_normal(tmp_path):
    places = [0, 1, 2.5, 3, 4]
    folder = series(tmp_path, places, [np.full((2, 3), round(100 * z) + 1024, np.int16) for z in places])
    with pytest.raises(load.ReadError, match=r"unevenly spaced slices: steps of 0\.5 to 1\.5 mm"):
        load.read(folder)
    volume = load.read(folder, gaps="interpolate")
    assert volume.array[0, 0].tolist() == [0, 100, 200, 300, 400]
    assert "unevenly spaced" in volume.info["repairs"][0]


def test_rounded_positions_are_even(tmp_path):
    # 0.625 mm apart, written with one decimal as old scanners do.
    volume = load.read(series(tmp_path, [0, 0.6, 1.2, 1.9, 2.5, 3.1, 3.8, 4.4, 5.0]))
    assert volume.spacing[2] == pytest.approx(0.625)
    assert "repairs" not in volume.info


def test_steps_too_different_to_fill(tmp_path):
    with pytest.raises(load.ReadError, match="filling it would take"):
        load.read(series(tmp_path, [0, 0.01, 0.02, 900]), gaps="interpolate")


def test_one_place_twice(tmp_path):
    with pytest.raises(load.ReadError, match=r"slices at one place .* several time points"):
        load.read(series(tmp_path, [0, 0, 1, 1, 2, 2]))


def test_the_same_file_twice_is_left_out(tmp_path):
    series(tmp_path, [0, 1, 2])
    shutil.copy(next(tmp_path.glob("*.dcm")), tmp_path / "copy.dcm")
    volume = load.read(tmp_path)
    assert volume.shape[2] == 3
    assert volume.info["repairs"] == ["1 repeated file(s) left out."]


def test_tilted_gantry(tmp_path):
    tilt = np.radians(20)
    fields = {"ImageOrientationPatient": [1, 0, 0, 0, round(np.cos(tilt), 9), round(-np.sin(tilt), 9)]}
    series(tmp_path, [0, 5, 10, 15], **fields)
    with pytest.raises(load.ReadError, match=r"tilted gantry.*20\.0 degrees.*tilt='keep'"):
        load.read(tmp_path)
    kept = load.read(tmp_path, tilt="keep")
    np.testing.assert_allclose(geometry.apply(kept.affine, (0, 0, 3)), (-10, -20, 15), atol=1e-9)
    np.testing.assert_allclose(geometry.apply(kept.affine, (0, 1, 0)), (-10, -20 - 2 * np.cos(tilt), -2 * np.sin(tilt)))
    assert "20.0 degrees kept" in kept.info["repairs"][0]


def test_slices_that_do_not_fit_together(tmp_path):
    series(tmp_path / "a", [0, 1, 2])
    series(tmp_path / "a" / "more", [3], [np.zeros((4, 3), np.int16)])
    with pytest.raises(load.ReadError, match=r"different size \(2 x 3, 4 x 3\)"):
        load.read(tmp_path / "a")
    series(tmp_path / "b", [0, 1, 2])
    series(tmp_path / "b" / "more", [3], PixelSpacing=[1, 1])
    with pytest.raises(load.ReadError, match="different pixel spacing"):
        load.read(tmp_path / "b")
    series(tmp_path / "c", [0, 1, 2])
    series(tmp_path / "c" / "more", [3], ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    with pytest.raises(load.ReadError, match=r"different orientation .1 of 4 differ"):
        load.read(tmp_path / "c")
    series(tmp_path / "d", [0, 1, 2], ImagePositionPatient=None)
    with pytest.raises(load.ReadError, match="3 of 3 images have no Image Position"):
        load.read(tmp_path / "d")
    for number, x in enumerate((10, 10, 40, 10)):
        save(
            dataset(np.zeros((2, 3), np.int16), ImagePositionPatient=[x, 20, number]), tmp_path / "e" / f"{number}.dcm"
        )
    with pytest.raises(load.ReadError, match=r"shifted against each other by up to 30.00 mm"):
        load.read(tmp_path / "e")
    series(tmp_path / "f", [0, 1, 2], ImageOrientationPatient=[1, 0, 0, 1, 0, 0])
    with pytest.raises(load.ReadError, match="not two directions at a right angle"):
        load.read(tmp_path / "f")


def test_two_slices_need_consent(tmp_path):
    series(tmp_path, [0, 4])
    with pytest.raises(load.ReadError, match=r"holds only 2 slices.*fewest=2"):
        load.read(tmp_path)
    assert load.read(tmp_path, fewest=2).spacing == (1.5, 2.0, 4.0)


def test_several_series_are_listed_and_chosen(tmp_path):
    other = generate_uid()
    series(tmp_path, [0, 1, 2])
    fields = {"SeriesInstanceUID": other, "SeriesNumber": 2, "Modality": "MR", "SeriesDescription": "T2 axial"}
    series(tmp_path / "b", [0, 1, 2, 3], **fields)
    with pytest.raises(load.ReadError) as caught:
        load.read(tmp_path)
    text = str(caught.value)
    assert "holds 2 series" in text
    assert "series=1: MR, number 2, 4 images of 2 x 3, T2 axial" in text
    assert "series=2: CT, number 3, 3 images of 2 x 3, thorax" in text
    for secret in ("Doe", "4711", "2020", "Hospital"):
        assert secret not in text
    assert load.read(tmp_path, series=1).shape[2] == 4
    assert load.read(tmp_path, series=2).modality == "CT"
    assert load.read(tmp_path, series=other).modality == "MR"
    for wrong in (0, 3, "x", True):
        with pytest.raises(load.ReadError, match=f"There is no series {wrong!r}"):
            load.read(tmp_path, series=wrong)


def test_what_is_no_dicom(tmp_path):
    (tmp_path / "note.dcm").write_text("no image, just words " * 20)
    with pytest.raises(load.ReadError, match=r"note\.dcm is of no format known here. It looks like a text file"):
        load.read(tmp_path / "note.dcm")
    with pytest.raises(load.ReadError, match=r"note\.dcm is named like a DICOM file but is none"):
        load.read(tmp_path)
    (tmp_path / "note.dcm").rename(tmp_path / "note.txt")
    with pytest.raises(load.ReadError, match=r"holds no DICOM images \(files: 1 of \.txt\)"):
        load.read(tmp_path)
    report = dataset(np.zeros((1, 1), np.int16), Rows=None, Columns=None)
    with pytest.raises(load.ReadError, match="holds no image"):
        load.read(save(report, tmp_path / "report.dcm"))
    path = save(dataset(np.zeros((40, 40), np.int16)), tmp_path / "cut.dcm")
    whole = path.read_bytes()
    for length in (len(whole) - 100, len(whole) - 3200, 400, 140):
        path.write_bytes(whole[:length])
        with pytest.raises(load.ReadError, match=r"shorter|truncated|cut off|damaged|no image|not a DICOM"):
            load.read(path)
    huge = dataset(np.zeros((2, 3), np.int16), Rows=65535, Columns=65535, NumberOfFrames="1000000")
    huge.PerFrameFunctionalGroupsSequence = []
    with pytest.raises(load.ReadError, match="announces 1000000 frames and describes 0"):
        load.read(save(huge, tmp_path / "huge.dcm"))
    with pytest.raises(load.ReadError, match="8589672450 bytes of image announced"):
        load.read(save(dataset(np.zeros((2, 3), np.int16), Rows=65535, Columns=65535), tmp_path / "wide.dcm"))


def test_a_file_without_preamble(tmp_path):
    data = dataset(np.arange(6, dtype=np.int16).reshape(2, 3), syntax=ImplicitVRLittleEndian)
    del data.file_meta
    data.save_as(tmp_path / "bare.dcm", implicit_vr=True, little_endian=True)
    np.testing.assert_array_equal(load.read(tmp_path / "bare.dcm").array, np.arange(6).reshape(2, 3) - 1024)


STRAIGHT = geometry.from_parts((0.7, 0.8, 2.5), (-11.123456, 22.5, -33.25), np.linalg.qr(np.eye(3) + 0.1)[0])


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("values", ["whole", "fractions", "wide"])
def test_written_series_reads_back(tmp_path, modality, values):
    random = np.random.default_rng(0)
    array = {
        "whole": random.integers(-1000, 3000, (5, 4, 3)).astype(np.int16),
        "fractions": random.normal(0, 1, (5, 4, 3)).astype(np.float32),
        "wide": random.integers(0, 10**6, (5, 4, 3)),
    }[values]
    volume = Volume(array, STRAIGHT, modality=modality, info={"KVP": 120.0, "EchoTime": 80.0, "PatientName": "Doe"})
    load.write(volume, tmp_path / "out.dcm")
    back = load.read(tmp_path / "out.dcm")
    assert back.modality == modality
    if np.linalg.det(STRAIGHT) * np.linalg.det(back.affine) < 0:
        back = Volume(
            back.array[:, :, ::-1],
            geometry.compose(back.affine, np.diag([1, 1, -1, 1]), geometry.translation((0, 0, -2))),
        )
    np.testing.assert_allclose(back.affine, STRAIGHT, atol=1e-4)
    tolerance = 0 if values == "whole" else (float(array.max()) - float(array.min())) / 131070 * 1.01
    np.testing.assert_allclose(back.array, array, rtol=1e-6, atol=tolerance)
    header = pydicom.dcmread(sorted((tmp_path / "out.dcm").iterdir())[0])
    assert header.PatientName == ""
    assert header.ImageType[:2] == ["DERIVED", "SECONDARY"]
    assert "Doe" not in str(header)
    with pytest.raises(ValueError, match="exists and is not empty"):
        load.write(volume, tmp_path / "out.dcm")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modality": "US"}, "modality CT or MR"),
        ({"kind": "labels"}, "image of three axes and one channel"),
        ({"info": {"geometry": "assumed"}}, "place in the patient is known"),
        ({"affine": np.array([[1, 0, 0.5, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])}, "axes at right angles"),
        ({"array": np.full((2, 2, 2), np.nan)}, "finite values"),
    ],
)
def test_what_dicom_cannot_hold(tmp_path, changes, message):
    volume = Volume(np.zeros((2, 2, 2), np.int16), modality="CT").replace(**changes)
    with pytest.raises(ValueError, match=message):
        load.write(volume, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def canonical(image):
    """Array with colors last and affine, axes flipped to nearest RAS."""
    image = nibabel.as_closest_canonical(image)
    array = np.asanyarray(image.dataobj)
    if array.dtype.fields:
        array = np.stack([array[name] for name in "RGB"], axis=-1)
    return np.squeeze(array).astype(np.float64), image.affine


@pytest.mark.data
@pytest.mark.parametrize(
    ("folder", "truth"),
    [
        ("anatomical/001", "anatomical/001"),
        ("anatomical/002_non_isotropic", "anatomical/002_non_isotropic"),
        ("rgb/001", "rgb/001"),
        ("compressed/001", "compressed/001"),
        ("compressed_rle/001", "compressed/001"),
        ("compressed_jpeg/001", "compressed/001"),
        ("compressed_jpegls/001", "compressed/001"),
        ("compressed_j2k/001", "compressed/001"),
    ],
)
def test_real_series_equal_their_ground_truth(data_folder, folder, truth):
    base = data_folder / "formats/dicom/generic"
    array, affine = canonical(load.read(base / folder).to_nibabel())
    expected, expected_affine = canonical(nibabel.load(base / f"{truth}_ground_truth.nii.gz"))
    np.testing.assert_allclose(array, expected, atol=1e-5)
    np.testing.assert_allclose(affine, expected_affine, atol=1e-4)


@pytest.mark.data
@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("gantrytilting", r"tilted gantry.*14\.0 degrees"),
        ("notavolume", "all 4 slices lie at the same place"),
        ("slicecount", "holds only 2 slices"),
        ("sliceincrement", r"misses 1 slice\(s\): steps of 5 to 10 mm"),
        ("sliceorientation", "different orientation .2 of 4"),
    ],
)
def test_real_failing_series_are_reported(data_folder, folder, message):
    with pytest.raises(load.ReadError, match=message):
        load.read(data_folder / "formats/dicom/failing" / folder / "001")


def test_size_in_compressed_streams(tmp_path):
    gray, color = Image.fromarray(np.zeros((13, 7), np.uint8)), Image.fromarray(np.zeros((13, 7, 3), np.uint8))
    for name, image, samples in (("a.jpg", gray, 1), ("b.jpg", color, 3), ("a.j2k", gray, 1), ("b.j2k", color, 3)):
        image.save(tmp_path / name)
        head = (tmp_path / name).read_bytes()
        assert codestream.announced(head) == (13, 7, samples)
        assert codestream.announced(head[:8]) is None
    tiny_tiles = bytearray(head)
    tiny_tiles[8:16] = struct.pack(">2I", 60000, 60000)
    tiny_tiles[24:32] = struct.pack(">2I", 1, 1)
    assert codestream.announced(bytes(tiny_tiles)) == (0, 0, 0)
    assert codestream.announced(b"neither") is None


@pytest.mark.data
@pytest.mark.parametrize("name", ["jpeg", "jpegls", "j2k"])
def test_damage_that_would_ask_for_gigabytes(data_folder, tmp_path, name):
    source = data_folder / f"formats/dicom/generic/compressed_{name}/001/IM-0001-0001-0001.dcm"
    whole = source.read_bytes()
    assert load.read(source).shape == (256, 256)
    start = whole.index(b"\xff\x4f\xff\x51" if name == "j2k" else b"\xff\xd8\xff")
    assert codestream.announced(whole[start:]) == (256, 256, 1)
    # The length of the only fragment stands before its bytes.
    longer = whole[: start - 4] + struct.pack("<I", 0xF0000000) + whole[start:]
    (tmp_path / "a.dcm").write_bytes(longer)
    with pytest.raises(load.ReadError, match="damaged within its compressed pixels"):
        load.read(tmp_path / "a.dcm")
    header = pydicom.dcmread(source)
    header.Rows = 128
    header.save_as(tmp_path / "b.dcm")
    with pytest.raises(load.ReadError, match=r"announces 128 x 256 pixels .* image 256 x 256 of 1"):
        load.read(tmp_path / "b.dcm")


@pytest.mark.data
def test_compressed_and_scaled(data_folder, tmp_path):
    source = data_folder / "formats/dicom/generic/compressed_jpegls/001/IM-0001-0001-0001.dcm"
    stored = load.read(source).array
    header = pydicom.dcmread(source)
    header.RescaleSlope, header.RescaleIntercept = "0.5", "-100"
    header.save_as(tmp_path / "a.dcm")
    np.testing.assert_array_equal(load.read(tmp_path / "a.dcm").array, stored * np.float32(0.5) - 100)
    header.RescaleSlope, header.RescaleIntercept = "1", "0"
    header.PhotometricInterpretation = "MONOCHROME1"
    header.save_as(tmp_path / "a.dcm")
    np.testing.assert_array_equal(load.read(tmp_path / "a.dcm").array, 4095 - stored)


@pytest.mark.data
def test_real_repairs(data_folder):
    base = data_folder / "formats/dicom/failing"
    filled = load.read(base / "sliceincrement/001", gaps="interpolate")
    assert filled.shape == (512, 512, 5)
    around = (filled.array[:, :, 2].astype(float) + filled.array[:, :, 4]) / 2
    np.testing.assert_allclose(filled.array[:, :, 3], around, atol=0.5)
    two, truth = load.read(base / "slicecount/001", fewest=2), nibabel.load(base / "slicecount/001_ground_truth.nii.gz")
    array, affine = canonical(two.to_nibabel())
    np.testing.assert_array_equal(array, canonical(truth)[0])
    np.testing.assert_allclose(affine, canonical(truth)[1], atol=1e-4)


@pytest.mark.data
def test_real_ct_series_agrees_with_simpleitk_in_any_order(data_folder, tmp_path):
    source = data_folder / "ct_small_17"
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(source)))
    oracle = from_sitk(reader.Execute())
    for number, file in enumerate(sorted(source.iterdir())):
        shutil.copy(file, tmp_path / f"{(number * 5) % 17:02d}")
    for folder in (source, tmp_path):
        volume = load.read(folder)
        np.testing.assert_array_equal(volume.array, oracle.array)
        np.testing.assert_allclose(volume.affine, oracle.affine, atol=1e-4)
