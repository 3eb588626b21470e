from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_color_lut, apply_modality_lut
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    SecondaryCaptureImageStorage,
)

from esp_medsam.dicom import pixels
from esp_medsam.dicom.pixels import read_pixels
from esp_medsam.dicom.volume import DicomSlice, DicomVolume, StackGeometry
from esp_medsam.errors import (
    CorruptFileError,
    EspMedSamError,
    FormatError,
    InputNotFoundError,
    NonFiniteError,
    ReadError,
    TooLargeError,
)
from esp_medsam.image import SourceInstance, UltrasoundRegion


Write = Callable[..., Path]


def volume_of(*paths: Path | str, positioned: bool = False, **changes: object) -> DicomVolume:
    """A volume as the headers of its files would describe it, every frame a slice."""
    slices = []
    for path in paths:
        header = dcmread(path, stop_before_pixels=True)
        count = int(header.get("NumberOfFrames") or 1)
        values = {
            "rows": header.Rows,
            "columns": header.Columns,
            "slope": float(header.get("RescaleSlope") or 1),
            "intercept": float(header.get("RescaleIntercept") or 0),
            "rescale_type": header.get("RescaleType"),
            **changes,
        }
        for frame in range(1, count + 1):
            source = SourceInstance(
                path=str(path),
                sop_class_uid=str(header.SOPClassUID),
                sop_instance_uid=str(header.SOPInstanceUID),
                frame=frame if count > 1 else None,
            )
            slices.append(DicomSlice(source=source, **values))
    affines = np.tile(np.eye(4), (len(slices), 1, 1)) if positioned else None
    stack_axis = 2 if len(slices) > 1 and not positioned else None
    return DicomVolume(
        name="a",
        slices=tuple(slices),
        geometry=StackGeometry(slice_affines=affines, stack_axis=stack_axis),
        sop_class_uid=str(header.SOPClassUID),
        dicom_modality=header.get("Modality"),
    )


def shipped(name: str) -> Path:
    path = get_testdata_file(name)
    assert isinstance(path, str)
    return Path(path)


def shown(array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """pydicom's ``(frames, rows, columns, 3)``, frames and colors only where there are, as ours."""
    if array.shape[-1] == 3:
        array = np.moveaxis(array, -1, 0)
        return np.moveaxis(array, 1, -1) if array.ndim == 4 else array
    return (np.moveaxis(array, 0, -1) if array.ndim == 3 else array)[None]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes CT_small, changed, and returns the path."""

    def write(name: str = "a.dcm", *, like: str = "CT_small.dcm", **changes: object) -> Path:
        dataset = dcmread(shipped(like))
        for keyword, value in changes.items():
            if value is None:
                delattr(dataset, keyword)
            elif keyword == "syntax":
                dataset.file_meta.TransferSyntaxUID = UID(str(value))
            else:
                setattr(dataset, keyword, value)
        dataset["PixelData"].is_undefined_length = dataset.file_meta.TransferSyntaxUID.is_compressed
        dcmwrite(tmp_path / name, dataset)
        return tmp_path / name

    return write


class TestGray:
    @pytest.mark.parametrize(
        "name", ["CT_small.dcm", "693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm", "MR_small.dcm"]
    )
    def test_equals_pydicom_with_its_modality_lut(self, name: str) -> None:
        dataset = dcmread(shipped(name))

        read = read_pixels(volume_of(shipped(name)))

        expected = apply_modality_lut(dataset.pixel_array, dataset)
        np.testing.assert_array_equal(read.pixels, expected[None])
        assert read.pixels.dtype == np.int16

    @pytest.mark.parametrize(
        "twin",
        [
            "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm",
            "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_padded.dcm",
        ],
    )  # fmt: skip
    def test_compressed_twins_are_equal(self, twin: str) -> None:
        first = read_pixels(volume_of(shipped("MR_small.dcm")))
        second = read_pixels(volume_of(shipped(twin)))

        np.testing.assert_array_equal(first.pixels, second.pixels)

    def test_a_deflated_data_set_is_read(self) -> None:
        read = read_pixels(volume_of(shipped("image_dfl.dcm")))

        np.testing.assert_array_equal(read.pixels[0], dcmread(shipped("image_dfl.dcm")).pixel_array)
        assert read.pixels.dtype == np.uint8

    def test_a_file_without_a_preamble_is_read(self, write: Write) -> None:
        path = write()
        expected = read_pixels(volume_of(path)).pixels
        volume = volume_of(path)
        path.write_bytes(path.read_bytes()[132:])

        np.testing.assert_array_equal(read_pixels(volume).pixels, expected)

    def test_stacks_are_columns_rows_slices_and_views(self, write: Write) -> None:
        paths = [write(f"{i}.dcm", RescaleIntercept=-i) for i in range(3)]

        read = read_pixels(volume_of(*paths, positioned=True))

        stored = dcmread(paths[0]).pixel_array.astype(int)
        assert read.pixels.shape == (1, 128, 128, 3)
        for i in range(3):
            np.testing.assert_array_equal(read.pixels[0, :, :, i].T, stored - i)
        assert read.pixels[0].T.flags.c_contiguous

    def test_frames_are_found_by_number_and_keep_the_order_of_the_volume(self) -> None:
        volume = volume_of(shipped("rtdose.dcm"))
        kept = DicomVolume(
            name="a",
            slices=(volume.slices[7], volume.slices[2]),
            geometry=StackGeometry(stack_axis=2),
            sop_class_uid=volume.sop_class_uid,
        )

        read = read_pixels(kept)

        frames = dcmread(shipped("rtdose.dcm")).pixel_array
        np.testing.assert_array_equal(read.pixels[0, :, :, 0], frames[7])
        np.testing.assert_array_equal(read.pixels[0, :, :, 1], frames[2])

    def test_the_stack_widens_when_a_slice_needs_it(self, write: Write) -> None:
        paths = [write("a.dcm"), write("b.dcm", RescaleSlope="0.5"), write("c.dcm")]

        read = read_pixels(volume_of(*paths, positioned=True))

        expected = apply_modality_lut(dcmread(paths[1]).pixel_array, dcmread(paths[1]))
        np.testing.assert_array_equal(read.pixels[0, :, :, 1].T, expected)
        np.testing.assert_array_equal(read.pixels[0, :, :, 0], read.pixels[0, :, :, 2])
        assert read.pixels.dtype == np.float32

    def test_a_modality_lut_is_applied(self, write: Write) -> None:
        item = Dataset()
        item.add_new("LUTDescriptor", "US", [3000, 0, 16])
        item.add_new("LUTData", "OW", np.arange(3000, dtype="<u2")[::-1].tobytes())
        item.ModalityLUTType = "US"
        path = write(ModalityLUTSequence=Sequence([item]))

        read = read_pixels(volume_of(path))

        stored = dcmread(path).pixel_array.astype(int)
        np.testing.assert_array_equal(read.pixels[0], 2999 - np.clip(stored, 0, 2999))


class TestUnit:
    @pytest.mark.parametrize("kind", [CTImageStorage, EnhancedCTImageStorage])
    @pytest.mark.parametrize("rescale_type", ["HU", None])
    def test_ct_is_in_hounsfield_units(
        self, write: Write, kind: str, rescale_type: str | None
    ) -> None:
        path = write(SOPClassUID=kind)

        read = read_pixels(volume_of(path, rescale_type=rescale_type))

        assert (read.unit, read.warnings) == ("HU", ())

    def test_ct_of_another_rescale_type_is_not(self, write: Write) -> None:
        read = read_pixels(volume_of(write(), rescale_type="US"))

        assert read.unit is None
        assert "Rescale Type says US" in read.warnings[0]

    def test_a_modality_lut_of_another_type_is_not(self, write: Write) -> None:
        item = Dataset()
        item.add_new("LUTDescriptor", "US", [2, 0, 16])
        item.add_new("LUTData", "US", [3, 4])
        item.ModalityLUTType = "OD"

        read = read_pixels(volume_of(write(ModalityLUTSequence=Sequence([item]))))

        assert read.unit is None
        assert "Modality LUT Type says OD" in read.warnings[0]

    def test_ct_that_states_no_rescaling_is_not(self, write: Write) -> None:
        read = read_pixels(volume_of(write(RescaleIntercept=None, RescaleSlope=None)))

        assert read.unit is None
        assert "no Rescale Intercept" in read.warnings[0]

    @pytest.mark.parametrize("kind", [SecondaryCaptureImageStorage, "1.2.3"])
    def test_other_classes_have_none(self, write: Write, kind: str) -> None:
        assert read_pixels(volume_of(write(SOPClassUID=kind))).unit is None

    def test_monochrome1_is_left_as_stored(self, write: Write) -> None:
        plain = read_pixels(volume_of(write()))
        path = write("b.dcm", PhotometricInterpretation="MONOCHROME1")

        inverted = read_pixels(volume_of(path))

        np.testing.assert_array_equal(inverted.pixels, plain.pixels)
        assert (plain.inverted, inverted.inverted) == (False, True)
        assert "asks to show low ones white" in inverted.warnings[0]


class TestColor:
    @pytest.mark.parametrize(
        "name",
        [
            "examples_rgb_color.dcm", "ExplVR_BigEnd.dcm", "SC_rgb_rle.dcm", "examples_jpeg2k.dcm",
            "SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_jpeg_gdcm.dcm", "SC_rgb_jls_lossy_sample.dcm",
            "SC_ybr_full_422_uncompressed.dcm", "SC_rgb_small_odd_big_endian.dcm",
            "examples_ybr_color.dcm", "SC_rgb_rle_2frame.dcm",
        ],
    )  # fmt: skip
    def test_is_rgb_as_pydicom_decodes_it(self, name: str) -> None:
        read = read_pixels(volume_of(shipped(name)))

        np.testing.assert_array_equal(read.pixels, shown(dcmread(shipped(name)).pixel_array))
        assert read.pixels.dtype == np.uint8
        assert read.unit is None

    def test_compressed_twins_are_equal(self) -> None:
        plain = dcmread(shipped("SC_rgb_rle.dcm"))
        for twin in ("SC_rgb_jpeg_gdcm.dcm",):
            read = read_pixels(volume_of(shipped(twin)))
            np.testing.assert_array_equal(read.pixels, shown(plain.pixel_array))

    def test_a_planar_twin_is_equal(self, write: Write) -> None:
        dataset = dcmread(shipped("examples_rgb_color.dcm"))
        planes = np.moveaxis(dataset.pixel_array, -1, 0).tobytes()
        path = write(like="examples_rgb_color.dcm", PixelData=planes, PlanarConfiguration=1)

        read = read_pixels(volume_of(path))

        np.testing.assert_array_equal(read.pixels, shown(dataset.pixel_array))

    def test_palettes_become_colors(self) -> None:
        dataset = dcmread(shipped("examples_palette.dcm"))

        read = read_pixels(volume_of(shipped("examples_palette.dcm")))

        expected = apply_color_lut(dataset.pixel_array, dataset) >> 8
        np.testing.assert_array_equal(read.pixels, shown(expected))
        assert read.pixels.dtype == np.uint8

    def test_slices_of_color_are_columns_rows_slices(self) -> None:
        volume = volume_of(shipped("SC_rgb_rle_2frame.dcm"), positioned=True)

        read = read_pixels(volume)

        frames = dcmread(shipped("SC_rgb_rle_2frame.dcm")).pixel_array
        np.testing.assert_array_equal(read.pixels, frames.transpose(3, 2, 1, 0))

    def test_refuses_unknown_colors(self, write: Write) -> None:
        path = write(like="examples_rgb_color.dcm", PhotometricInterpretation="YBR_PARTIAL_420")

        with pytest.raises(FormatError, match=r"must be MONOCHROME1, .* got YBR_PARTIAL_420"):
            read_pixels(volume_of(path))

    def test_refuses_a_stack_of_gray_and_inverted(self, write: Write) -> None:
        paths = [write("a.dcm"), write("b.dcm", PhotometricInterpretation="MONOCHROME1")]

        with pytest.raises(FormatError, match=r"b\.dcm must be MONOCHROME2, as .*a\.dcm"):
            read_pixels(volume_of(*paths, positioned=True))


class TestUltrasound:
    def test_regions_are_handed_on(self) -> None:
        read = read_pixels(volume_of(shipped("examples_palette.dcm")))

        assert read.ultrasound_regions == (
            UltrasoundRegion(rows=(60, 349), columns=(120, 799), data_type=1, spatial_format=1),
        )
        assert "left out, being outside its image: 1" in read.warnings[0]

    def test_a_cine_keeps_its_frames_last(self) -> None:
        read = read_pixels(volume_of(shipped("examples_ybr_color.dcm")))

        assert read.pixels.shape == (3, 240, 320, 30)


class TestRadiograph:
    def test_the_window_is_handed_on(self, write: Write) -> None:
        path = write(
            SOPClassUID=DigitalXRayImageStorageForPresentation,
            WindowCenter=[100, 5], WindowWidth=[50, 6], VOILUTFunction="LINEAR_EXACT",
        )  # fmt: skip

        read = read_pixels(volume_of(path))

        assert read.window == (75.0, 125.0)

    def test_a_voi_lut_is_applied_and_comes_before_a_window(self, write: Write) -> None:
        item = Dataset()
        item.add_new("LUTDescriptor", "US", [3000, 0, 12])
        item.add_new("LUTData", "OW", np.arange(3000, dtype="<u2")[::-1].tobytes())
        path = write(
            SOPClassUID=DigitalXRayImageStorageForPresentation,
            WindowCenter=100, WindowWidth=50, VOILUTSequence=Sequence([item]),
        )  # fmt: skip

        read = read_pixels(volume_of(path))

        dataset = dcmread(path)
        values = apply_modality_lut(dataset.pixel_array, dataset)
        np.testing.assert_array_equal(read.pixels[0], 2999 - np.clip(values, 0, 2999))
        assert read.window == (0.0, 4095.0)

    def test_ct_leaves_both_alone(self, write: Write) -> None:
        item = Dataset()
        item.add_new("LUTDescriptor", "US", [2, 0, 12])
        item.add_new("LUTData", "US", [1, 2])
        path = write(WindowCenter=100, WindowWidth=50, VOILUTSequence=Sequence([item]))

        read = read_pixels(volume_of(path))

        assert read.window is None
        np.testing.assert_array_equal(read.pixels, read_pixels(volume_of(write("b.dcm"))).pixels)


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "error", "found"),
        [
            ({"BitsStored": 17, "HighBit": 16}, CorruptFileError, "'Bits Stored' value of '17'"),
            ({"BitsAllocated": 12}, CorruptFileError, "'Bits Allocated' value of '12'"),
            ({"BitsAllocated": 8, "BitsStored": 8}, CorruptFileError, "long enough for 2"),
            ({"BitsStored": 12, "HighBit": 15}, FormatError, "High Bit of Bits Stored - 1, 11"),
            ({"PixelData": b"1234"}, CorruptFileError, "less than expected"),
            ({"PixelData": b""}, CorruptFileError, "must hold what its header says"),
            ({"NumberOfFrames": 10**9}, CorruptFileError, "less than expected"),
            ({"SamplesPerPixel": 4}, CorruptFileError, "'Samples per Pixel' value of '4'"),
            ({"PixelRepresentation": None}, CorruptFileError, "'Pixel Representation'"),
            ({"PhotometricInterpretation": "CMYK"}, FormatError, "got CMYK"),
            ({"PhotometricInterpretation": None}, CorruptFileError, "Photometric"),
            (
                {"syntax": JPEG2000Lossless, "PixelData": encapsulate([b"1234"])},
                CorruptFileError,
                "frame 1 holds none",
            ),
        ],
    )
    def test_one_error_names_the_file(
        self, write: Write, changes: dict[str, object], error: type[EspMedSamError], found: str
    ) -> None:
        good = volume_of(write())
        write(**changes)

        with pytest.raises(error, match=rf"a\.dcm.*({found})"):
            read_pixels(good)

    @pytest.mark.parametrize(("slope", "intercept"), [(np.inf, 0.0), (np.nan, 0.0), (0.0, 1.0)])
    def test_a_slope_that_makes_no_numbers(
        self, write: Write, slope: float, intercept: float
    ) -> None:
        with pytest.raises(NonFiniteError, match=r"a\.dcm must have a finite Rescale Slope"):
            read_pixels(volume_of(write(), slope=slope, intercept=intercept))

    def test_another_size_than_the_header_said(self, write: Write) -> None:
        with pytest.raises(CorruptFileError, match=r"a\.dcm must be 64 x 128 pixels; it is 128 x"):
            read_pixels(volume_of(write(), rows=64))

    def test_a_file_that_is_gone(self, write: Write) -> None:
        volume = volume_of(write())
        Path(volume.slices[0].source.path).unlink()

        with pytest.raises(InputNotFoundError, match=r"a\.dcm must be a file"):
            read_pixels(volume)

    def test_a_file_that_became_a_folder(self, write: Write) -> None:
        path = write()
        volume = volume_of(path)
        path.unlink()
        path.mkdir()

        with pytest.raises(ReadError, match=r"a\.dcm must be readable; got: Is a directory"):
            read_pixels(volume)

    @pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
    @pytest.mark.parametrize("name", ["CT_small.dcm", "693_J2KI.dcm", "MR_small_RLE.dcm"])
    def test_a_file_cut_short(self, tmp_path: Path, name: str, share: float) -> None:
        content = shipped(name).read_bytes()
        path = tmp_path / "a.dcm"
        path.write_bytes(content)
        volume = volume_of(path)
        path.write_bytes(content[: int(share * len(content))])

        with pytest.raises(EspMedSamError, match=r"a\.dcm must"):
            read_pixels(volume)

    def test_floating_point_pixel_data(self, write: Write) -> None:
        path = write()
        volume = volume_of(path)
        write(FloatPixelData=bytes(128 * 128 * 4))

        with pytest.raises(FormatError, match="must hold whole numbers"):
            read_pixels(volume)

    @pytest.mark.parametrize("name", ["JPGExtended.dcm", "JPEG-lossy.dcm"])
    def test_12_bit_jpeg_names_the_package(self, name: str) -> None:
        with pytest.raises(FormatError, match=r"JPEG Extended .* pip install pylibjpeg pylibjpeg-"):
            read_pixels(volume_of(shipped(name)))

    @pytest.mark.parametrize(
        "name",
        [
            "CT_small.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "image_dfl.dcm",
            "MR_small_jpeg_ls_lossless.dcm", "SC_rgb_jpeg_gdcm.dcm", "examples_palette.dcm",
        ],
    )  # fmt: skip
    def test_damaged_files_raise_only_errors_of_ours(self, tmp_path: Path, name: str) -> None:
        content = shipped(name).read_bytes()
        path = tmp_path / "a.dcm"
        path.write_bytes(content)
        volume = volume_of(path)
        random = np.random.default_rng(0)
        messages = []
        for _ in range(20):
            damaged = np.frombuffer(content, np.uint8).copy()
            places = random.integers(0, len(damaged), random.choice([1, 5, 100]))
            damaged[places] = random.integers(0, 256, len(places))
            path.write_bytes(damaged[: random.integers(1, 5) * len(damaged) // 2].tobytes())
            try:
                read_pixels(volume)
            except EspMedSamError as error:
                messages.append(str(error))

        assert messages
        assert all("a.dcm" in message and "\n" not in message for message in messages)

    def test_nothing_of_pydicom_gets_out(
        self, write: Write, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Neither warnings, which the test run would turn into errors, nor its log."""
        path = write(syntax=JPEGBaseline8Bit, PixelData=encapsulate([b"\xff\xd8\xff\xd9"]))

        with pytest.raises(CorruptFileError):
            read_pixels(volume_of(path))

        assert caplog.text == ""


class TestMemory:
    def test_a_codestream_larger_than_the_header_is_never_decoded(
        self, capfd: pytest.CaptureFixture[str]
    ) -> None:
        path = shipped("JPEG2000-embedded-sequence-delimiter.dcm")

        with pytest.raises(CorruptFileError, match="1024 x 256 pixels; frame 1 holds 1024 x 3722"):
            read_pixels(volume_of(path))

        assert capfd.readouterr() == ("", "")

    def test_frames_that_are_not_there_cost_nothing(self, write: Write) -> None:
        """A cine that claims a billion frames, as its header would be believed."""
        volume = volume_of(shipped("examples_ybr_color.dcm"))
        path = write(like="examples_ybr_color.dcm", NumberOfFrames=10**9)
        source = SourceInstance(
            path=str(path), sop_class_uid="1", sop_instance_uid="1", frame=10**9
        )
        last = DicomSlice(source=source, rows=240, columns=320)
        claimed = DicomVolume(
            name="a", slices=(last,), geometry=volume.geometry, sop_class_uid="1.2"
        )

        tracemalloc.start()
        with pytest.raises(CorruptFileError, match="must hold frame 1000000000; it holds"):
            read_pixels(claimed)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert peak < 20e6

    def test_what_does_not_fit_is_refused_first(
        self, write: Write, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("esp_medsam.memory.available_memory", lambda: 200_000)

        with pytest.raises(TooLargeError, match="its 1 x 128 x 128 pixels needs"):
            read_pixels(volume_of(write()))

    def test_a_file_larger_than_memory_is_not_read(
        self, write: Write, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        volume = volume_of(write())
        monkeypatch.setattr("esp_medsam.memory.available_memory", lambda: 1000)

        with pytest.raises(TooLargeError, match="the file needs"):
            read_pixels(volume)

    def test_a_deflated_bomb_is_not_inflated(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("esp_medsam.dicom.claims.MOST_INFLATED", 100_000)

        with pytest.raises(TooLargeError, match=r"image_dfl\.dcm must inflate to at most"):
            read_pixels(volume_of(shipped("image_dfl.dcm")))

    def test_an_element_longer_than_the_file_costs_nothing(self, write: Write) -> None:
        path = write()
        volume = volume_of(path)
        expected = read_pixels(volume).pixels
        content = path.read_bytes()
        at = content.index(b"\xe0\x7f\x10\x00OW\x00\x00") + 8
        path.write_bytes(content[:at] + b"\xf0\xff\xff\xff" + content[at + 4 :])

        tracemalloc.start()
        read = read_pixels(volume)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert peak < 20e6
        np.testing.assert_array_equal(read.pixels, expected)

    def test_memory_that_runs_out_is_said(
        self, write: Write, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*args: object, **kwargs: object) -> None:
            raise MemoryError

        monkeypatch.setattr(pixels, "rescale", fail)

        with pytest.raises(TooLargeError, match=r"a\.dcm must fit in memory"):
            read_pixels(volume_of(write()))
