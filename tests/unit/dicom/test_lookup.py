from __future__ import annotations

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from esp_medsam.dicom.lookup import LookupTable, palette_of, table_of
from esp_medsam.errors import CorruptFileError


def _dataset() -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.set_original_encoding(False, True)
    return dataset


def _with_table(
    descriptor: object, data: object, *, keyword: str = "VOILUTSequence", vr: str = "OW"
) -> Dataset:
    item = Dataset()
    if descriptor is not None:
        item.add_new("LUTDescriptor", "SS", descriptor)
    if data is not None:
        item.add_new("LUTData", vr, data)
    dataset = _dataset()
    setattr(dataset, keyword, Sequence([item]))
    return dataset


ENTRIES = (np.arange(300) ** 2 % 4096).astype("<u2")


class TestTables:
    @pytest.mark.parametrize(("keyword", "apply"), [
        ("VOILUTSequence", apply_voi), ("ModalityLUTSequence", apply_modality_lut),
    ])  # fmt: skip
    @pytest.mark.parametrize("first", [0, 7, -7])
    def test_equal_pydicom(self, keyword: str, apply, first: int) -> None:
        dataset = _with_table([300, first, 16], ENTRIES.tobytes(), keyword=keyword)
        values = np.arange(-20, 400, dtype=np.int16)

        table = table_of(dataset, keyword, "a")

        assert table is not None
        np.testing.assert_array_equal(table(values), apply(values, dataset))

    def test_many_8_bit_entries_do_not_wrap(self) -> None:
        """Which pydicom's do: it counts the entries in the type of an entry."""
        entries = (np.arange(1024) // 4).astype(np.uint8)
        table = table_of(_with_table([1024, 0, 8], entries.tobytes()), "VOILUTSequence", "a")

        assert table is not None
        assert table.bits == 8
        np.testing.assert_array_equal(table(np.array([0, 300, 1023, 2000])), [0, 75, 255, 255])

    def test_entries_may_be_a_list_of_numbers(self) -> None:
        dataset = _with_table([3, 0, 16], [5, 6, 7], vr="US")

        table = table_of(dataset, "VOILUTSequence", "a")

        assert table is not None
        np.testing.assert_array_equal(table(np.array([0.4, 0.6, 9.0])), [5, 6, 7])

    def test_zero_stands_for_65536_entries(self) -> None:
        data = np.arange(65536, dtype="<u2").tobytes()

        table = table_of(_with_table([0, 0, 16], data), "VOILUTSequence", "a")

        assert table is not None
        np.testing.assert_array_equal(table(np.array([0, 65535], np.uint16)), [0, 65535])

    def test_big_endian_files_have_big_endian_entries(self) -> None:
        dataset = _with_table([300, 0, 16], ENTRIES.astype(">u2").tobytes())
        dataset.set_original_encoding(False, False)

        table = table_of(dataset, "VOILUTSequence", "a")

        assert table is not None
        np.testing.assert_array_equal(table.entries, ENTRIES)

    def test_none_is_stated(self) -> None:
        assert table_of(Dataset(), "VOILUTSequence", "a") is None

    @pytest.mark.parametrize(
        ("descriptor", "data", "found"),
        [
            ([300, 0], ENTRIES.tobytes(), "three numbers"),
            ([300, 0, 32], ENTRIES.tobytes(), "three numbers"),
            (None, ENTRIES.tobytes(), "three numbers"),
            ([300, 0, 16], ENTRIES.tobytes()[:200], "300 entries in VOILUTSequence"),
            ([300, 0, 16], None, "300 entries in VOILUTSequence"),
        ],
    )
    def test_refuses_less_than_it_describes(
        self, descriptor: object, data: object, found: str
    ) -> None:
        with pytest.raises(CorruptFileError, match=f"^a must .*{found}"):
            table_of(_with_table(descriptor, data), "VOILUTSequence", "a")


class TestPalette:
    def test_equals_pydicom_in_the_upper_eight_bits(self) -> None:
        dataset = dcmread(get_testdata_file("examples_palette.dcm"))
        stored = dataset.pixel_array

        colors = palette_of(dataset, "a")(stored)

        assert colors.dtype == np.uint8
        np.testing.assert_array_equal(colors, apply_color_lut(stored, dataset) >> 8)

    def test_segmented_palettes_are_expanded(self) -> None:
        dataset = _dataset()
        for color, top in (("Red", 200), ("Green", 100), ("Blue", 0)):
            setattr(dataset, f"{color}PaletteColorLookupTableDescriptor", [4, 10, 8])
            # One discrete entry, 0, and a line of three entries up to the top.
            data = bytes([0, 1, 0, 1, 3, top])
            setattr(dataset, f"Segmented{color}PaletteColorLookupTableData", data)

        palette = palette_of(dataset, "a")

        stored = np.array([[0, 10], [13, 99]], dtype=np.uint8)
        np.testing.assert_array_equal(
            palette(stored), [[[0, 0, 0], [0, 0, 0]], [[200, 100, 0], [200, 100, 0]]]
        )

    def test_8_bit_colors_in_16_bit_entries_are_kept(self) -> None:
        dataset = _dataset()
        for color in ("Red", "Green", "Blue"):
            setattr(dataset, f"{color}PaletteColorLookupTableDescriptor", [2, 0, 16])
            data = np.array([3, 250], "<u2").tobytes()
            setattr(dataset, f"{color}PaletteColorLookupTableData", data)

        np.testing.assert_array_equal(palette_of(dataset, "a").entries[:, 0], [3, 250])

    def test_refuses_a_missing_palette(self) -> None:
        with pytest.raises(CorruptFileError, match="a must describe its Palette"):
            palette_of(_dataset(), "a")

    def test_refuses_a_missing_color(self) -> None:
        dataset = dcmread(get_testdata_file("examples_palette.dcm"))
        del dataset.GreenPaletteColorLookupTableData

        with pytest.raises(CorruptFileError, match="a must hold 256 colors"):
            palette_of(dataset, "a")


class TestLookupTable:
    def test_values_beyond_it_take_its_ends(self) -> None:
        table = LookupTable(first=-2, entries=np.array([9, 8, 7], np.uint16), bits=4)

        values = np.array([[-9, -2], [0, 90]], dtype=np.int32)
        np.testing.assert_array_equal(table(values), [[9, 9], [7, 7]])
