from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest
from pydicom import Dataset, dcmread
from pydicom.pixels import apply_color_lut, apply_modality_lut
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    SecondaryCaptureImageStorage,
)

from esp_medsam.dicom import pixels
from esp_medsam.dicom.pixels import read_pixels
from esp_medsam.dicom.volume import DicomVolume
from esp_medsam.errors import CorruptFileError, FormatError, NonFiniteError, TooLargeError
from esp_medsam.grid import Grid
from esp_medsam.image import UltrasoundRegion
from esp_medsam.modality import ModalityTable


Write = Callable[..., Path]


def shown(array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """pydicom's ``(frames, rows, columns, 3)``, frames and colors only where there are, as ours."""
    if array.shape[-1] == 3:
        array = np.moveaxis(array, -1, 0)
        return np.moveaxis(array, 1, -1) if array.ndim == 4 else array
    return (np.moveaxis(array, 0, -1) if array.ndim == 3 else array)[None]


def lookup_table(entries: Iterable[int], bits: int, **attributes: str) -> Sequence:
    """A lookup table for stored values from 0 on."""
    item = Dataset()
    data = np.fromiter(entries, "<u2")
    item.add_new("LUTDescriptor", "US", [len(data), 0, bits])
    item.add_new("LUTData", "OW", data.tobytes())
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return Sequence([item])


class TestGray:
    @pytest.mark.parametrize(
        "name", ["CT_small.dcm", "693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm", "MR_small.dcm"]
    )
    def test_equals_pydicom_with_its_modality_lut(self, dicom: SimpleNamespace, name: str) -> None:
        dataset = dcmread(dicom.shipped(name))

        read = read_pixels(dicom.volume_of(dicom.shipped(name)))

        expected = apply_modality_lut(dataset.pixel_array, dataset)
        np.testing.assert_array_equal(read.pixels, expected[None])
        assert read.pixels.dtype == np.int16

    def test_stacks_are_columns_rows_slices_without_a_copy(
        self, dicom: SimpleNamespace, write_shipped: Write
    ) -> None:
        paths = [write_shipped(f"{i}.dcm", RescaleIntercept=-i) for i in range(3)]

        read = read_pixels(dicom.volume_of(*paths, positioned=True))

        stored = dcmread(paths[0]).pixel_array.astype(int)
        assert read.pixels.shape == (1, 128, 128, 3)
        for i in range(3):
            np.testing.assert_array_equal(read.pixels[0, :, :, i].T, stored - i)
        assert read.pixels[0].T.flags.c_contiguous

    def test_frames_are_found_by_number_and_keep_the_order_of_the_volume(
        self, dicom: SimpleNamespace
    ) -> None:
        volume = dicom.volume_of(dicom.shipped("rtdose.dcm"))
        kept = DicomVolume(
            name="a",
            slices=(volume.slices[7], volume.slices[2]),
            grid=Grid(shape=(volume.slices[0].rows, volume.slices[0].columns, 2), stack_axis=2),
            sop_class_uid=volume.sop_class_uid,
        )

        read = read_pixels(kept)

        frames = dcmread(dicom.shipped("rtdose.dcm")).pixel_array
        np.testing.assert_array_equal(read.pixels[0, :, :, 0], frames[7])
        np.testing.assert_array_equal(read.pixels[0, :, :, 1], frames[2])

    def test_the_stack_widens_when_a_slice_needs_it(
        self, dicom: SimpleNamespace, write_shipped: Write
    ) -> None:
        paths = [
            write_shipped("a.dcm"),
            write_shipped("b.dcm", RescaleSlope="0.5"),
            write_shipped("c.dcm"),
        ]

        read = read_pixels(dicom.volume_of(*paths, positioned=True))

        expected = apply_modality_lut(dcmread(paths[1]).pixel_array, dcmread(paths[1]))
        np.testing.assert_array_equal(read.pixels[0, :, :, 1].T, expected)
        np.testing.assert_array_equal(read.pixels[0, :, :, 0], read.pixels[0, :, :, 2])
        assert read.pixels.dtype == np.float32

    def test_a_modality_lut_is_applied(self, dicom: SimpleNamespace, write_shipped: Write) -> None:
        lut = lookup_table(reversed(range(3000)), 16, ModalityLUTType="US")
        path = write_shipped(ModalityLUTSequence=lut)

        read = read_pixels(dicom.volume_of(path))

        stored = dcmread(path).pixel_array.astype(int)
        np.testing.assert_array_equal(read.pixels[0], 2999 - np.clip(stored, 0, 2999))

    def test_monochrome1_is_left_as_stored(
        self, dicom: SimpleNamespace, write_shipped: Write
    ) -> None:
        plain = read_pixels(dicom.volume_of(write_shipped()))
        path = write_shipped("b.dcm", PhotometricInterpretation="MONOCHROME1")

        inverted = read_pixels(dicom.volume_of(path))

        np.testing.assert_array_equal(inverted.pixels, plain.pixels)
        assert (plain.inverted, inverted.inverted) == (False, True)
        assert "asks to show low ones white" in inverted.warnings[0]


class TestUnit:
    @pytest.mark.parametrize("kind", [CTImageStorage, EnhancedCTImageStorage])
    @pytest.mark.parametrize("rescale_type", ["HU", None])
    def test_ct_is_in_hounsfield_units(
        self, dicom: SimpleNamespace, write_shipped: Write, kind: str, rescale_type: str | None
    ) -> None:
        path = write_shipped(SOPClassUID=kind)

        read = read_pixels(dicom.volume_of(path, rescale_type=rescale_type))

        assert (read.unit, read.warnings) == ("HU", ())

    def test_ct_of_another_rescale_type_has_none(
        self, dicom: SimpleNamespace, write_shipped: Write
    ) -> None:
        read = read_pixels(dicom.volume_of(write_shipped(), rescale_type="US"))

        assert read.unit is None
        assert "Rescale Type says US" in read.warnings[0]

    def test_ct_of_another_modality_lut_type_has_none(
        self, dicom: SimpleNamespace, write_shipped: Write
    ) -> None:
        path = write_shipped(ModalityLUTSequence=lookup_table([3, 4], 16, ModalityLUTType="OD"))

        read = read_pixels(dicom.volume_of(path))

        assert read.unit is None
        assert "Modality LUT Type says OD" in read.warnings[0]

    def test_ct_that_states_no_rescaling_has_none(
        self, dicom: SimpleNamespace, write_shipped: Write
    ) -> None:
        read = read_pixels(dicom.volume_of(write_shipped(RescaleIntercept=None, RescaleSlope=None)))

        assert read.unit is None
        assert "no Rescale Intercept" in read.warnings[0]

    @pytest.mark.parametrize("kind", [SecondaryCaptureImageStorage, "1.2.3"])
    def test_other_classes_have_none(
        self, dicom: SimpleNamespace, write_shipped: Write, kind: str
    ) -> None:
        assert read_pixels(dicom.volume_of(write_shipped(SOPClassUID=kind))).unit is None


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
    def test_is_rgb_as_pydicom_decodes_it(self, dicom: SimpleNamespace, name: str) -> None:
        read = read_pixels(dicom.volume_of(dicom.shipped(name)))

        np.testing.assert_array_equal(read.pixels, shown(dcmread(dicom.shipped(name)).pixel_array))
        assert read.pixels.dtype == np.uint8
        assert read.unit is None

    def test_palettes_become_colors(self, dicom: SimpleNamespace) -> None:
        dataset = dcmread(dicom.shipped("examples_palette.dcm"))

        read = read_pixels(dicom.volume_of(dicom.shipped("examples_palette.dcm")))

        expected = apply_color_lut(dataset.pixel_array, dataset) >> 8
        np.testing.assert_array_equal(read.pixels, shown(expected))
        assert read.pixels.dtype == np.uint8

    def test_slices_of_color_are_columns_rows_slices(self, dicom: SimpleNamespace) -> None:
        volume = dicom.volume_of(dicom.shipped("SC_rgb_rle_2frame.dcm"), positioned=True)

        read = read_pixels(volume)

        frames = dcmread(dicom.shipped("SC_rgb_rle_2frame.dcm")).pixel_array
        np.testing.assert_array_equal(read.pixels, frames.transpose(3, 2, 1, 0))


class TestUltrasound:
    def test_regions_are_handed_on(self, dicom: SimpleNamespace) -> None:
        read = read_pixels(dicom.volume_of(dicom.shipped("examples_palette.dcm")))

        assert read.ultrasound_regions == (
            UltrasoundRegion(rows=(60, 349), columns=(120, 799), data_type=1, spatial_format=1),
        )
        assert "left out, being outside its image: 1" in read.warnings[0]

    def test_a_cine_keeps_its_frames_last(self, dicom: SimpleNamespace) -> None:
        read = read_pixels(dicom.volume_of(dicom.shipped("examples_ybr_color.dcm")))

        assert read.pixels.shape == (3, 240, 320, 30)


class TestRadiograph:
    def test_the_window_is_handed_on(self, dicom: SimpleNamespace, write_shipped: Write) -> None:
        path = write_shipped(
            SOPClassUID=DigitalXRayImageStorageForPresentation,
            WindowCenter=[100, 5], WindowWidth=[50, 6], VOILUTFunction="LINEAR_EXACT",
        )  # fmt: skip

        read = read_pixels(dicom.volume_of(path))

        assert read.window == (75.0, 125.0)

    def test_every_dicom_modality_of_xray_is_one(
        self, dicom: SimpleNamespace, write_shipped: Write, table: ModalityTable
    ) -> None:
        for dicom_modality in table["xray"].dicom_modalities:
            path = write_shipped(
                SOPClassUID=SecondaryCaptureImageStorage, Modality=dicom_modality,
                WindowCenter=100, WindowWidth=50, VOILUTFunction="LINEAR_EXACT",
            )  # fmt: skip

            assert read_pixels(dicom.volume_of(path)).window == (75.0, 125.0), dicom_modality

    def test_a_voi_lut_is_applied_and_comes_before_a_window(
        self, dicom: SimpleNamespace, write_shipped: Write
    ) -> None:
        path = write_shipped(
            SOPClassUID=DigitalXRayImageStorageForPresentation,
            WindowCenter=100, WindowWidth=50,
            VOILUTSequence=lookup_table(reversed(range(3000)), 12),
        )  # fmt: skip

        read = read_pixels(dicom.volume_of(path))

        dataset = dcmread(path)
        values = apply_modality_lut(dataset.pixel_array, dataset)
        np.testing.assert_array_equal(read.pixels[0], 2999 - np.clip(values, 0, 2999))
        assert read.window == (0.0, 4095.0)

    def test_ct_leaves_both_alone(self, dicom: SimpleNamespace, write_shipped: Write) -> None:
        plain = read_pixels(dicom.volume_of(write_shipped("b.dcm")))
        path = write_shipped(
            WindowCenter=100, WindowWidth=50, VOILUTSequence=lookup_table([1, 2], 12)
        )

        read = read_pixels(dicom.volume_of(path))

        assert read.window is None
        np.testing.assert_array_equal(read.pixels, plain.pixels)


class TestRefusals:
    def test_of_unknown_colors(self, dicom: SimpleNamespace, write_shipped: Write) -> None:
        path = write_shipped(
            like="examples_rgb_color.dcm", PhotometricInterpretation="YBR_PARTIAL_420"
        )

        with pytest.raises(FormatError, match=r"must be MONOCHROME1, .* got YBR_PARTIAL_420"):
            read_pixels(dicom.volume_of(path))

    def test_of_a_stack_of_gray_and_inverted(
        self, dicom: SimpleNamespace, write_shipped: Write
    ) -> None:
        paths = [
            write_shipped("a.dcm"),
            write_shipped("b.dcm", PhotometricInterpretation="MONOCHROME1"),
        ]

        with pytest.raises(FormatError, match=r"b\.dcm must be MONOCHROME2, as .*a\.dcm"):
            read_pixels(dicom.volume_of(*paths, positioned=True))

    @pytest.mark.parametrize(("slope", "intercept"), [(np.inf, 0.0), (np.nan, 0.0), (0.0, 1.0)])
    def test_of_a_slope_that_makes_no_numbers(
        self, dicom: SimpleNamespace, write_shipped: Write, slope: float, intercept: float
    ) -> None:
        with pytest.raises(NonFiniteError, match=r"a\.dcm must have a finite Rescale Slope"):
            read_pixels(dicom.volume_of(write_shipped(), slope=slope, intercept=intercept))

    def test_of_another_size_than_the_header_said(
        self, dicom: SimpleNamespace, write_shipped: Write
    ) -> None:
        with pytest.raises(CorruptFileError, match=r"a\.dcm must be 64 x 128 pixels; it is 128 x"):
            read_pixels(dicom.volume_of(write_shipped(), rows=64))

    def test_of_what_does_not_fit_name_its_size(
        self, dicom: SimpleNamespace, write_shipped: Write, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("esp_medsam.memory.available_memory", lambda: 200_000)

        with pytest.raises(TooLargeError, match="its 1 x 128 x 128 pixels needs"):
            read_pixels(dicom.volume_of(write_shipped()))

    def test_of_what_took_more_memory_than_there_is_say_so(
        self, dicom: SimpleNamespace, write_shipped: Write, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*args: object, **kwargs: object) -> None:
            raise MemoryError

        monkeypatch.setattr(pixels, "rescale", fail)

        with pytest.raises(TooLargeError, match=r"a\.dcm must fit in memory"):
            read_pixels(dicom.volume_of(write_shipped()))
