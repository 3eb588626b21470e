from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import pydicom.data
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from esp_medsam.dicom.dicom_file import opened
from esp_medsam.dicom.skim import UNDEFINED, Encoding, RawDataset, SkimError, Skimmer
from esp_medsam.quiet import quietly


EXPLICIT, IMPLICIT = Encoding(implicit=False, little=True), Encoding(implicit=True, little=True)
ENCODINGS = (EXPLICIT, IMPLICIT, Encoding(implicit=False, little=False))

ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
IMAGES, UID = 0x00081140, 0x00081155
"""A sequence, and what its items hold."""


class Everything:
    def __contains__(self, tag: object) -> bool:
        return True


def head(tag: int, length: int) -> bytes:
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, length)


def skim(content: bytes, encoding: Encoding = IMPLICIT, **options: Any) -> RawDataset:
    options = {"wanted": Everything(), **options}
    return Skimmer(io.BytesIO(content), len(content)).dataset(encoding, **options)


def as_stated(raw: RawDataset) -> dict[int, Any]:
    """Values by their tags, items likewise."""
    return {
        tag: [as_stated(item) for item in value] if isinstance(value, tuple) else value
        for tag, (_, value) in raw.elements.items()
    }


def by_pydicom(dataset: Dataset) -> dict[int, Any]:
    raw = {tag: dataset.get_item(tag) for tag in list(dataset.keys())}
    values: dict[int, Any] = {}
    for tag, element in raw.items():
        is_known = dictionary_has_tag(tag) and dictionary_VR(tag) == "SQ"
        if is_known:
            values[int(tag)] = [by_pydicom(item) for item in dataset[tag].value]
        elif isinstance(element, RawDataElement):
            values[int(tag)] = element.value or b""
        elif element.VR == "SQ":  # of others, which has no length
            values[int(tag)] = None
        elif not element.value:
            values[int(tag)] = b""
        else:
            assert element.keyword == "SpecificCharacterSet"  # it alone is converted at once
            encoded = "\\".join([element.value] if element.VM == 1 else element.value).encode()
            values[int(tag)] = encoded + b" " * (len(encoded) % 2)
    return values


SHIPPED = [
    path
    for path in sorted((Path(pydicom.data.__file__).parent / "test_files").glob("*.dcm"))
    if path.stem != "rtplan_truncated"  # of which we hand on nothing in place of a part
]


@st.composite
def datasets(draw: st.DrawFn, depth: int = 3) -> Dataset:
    dataset = Dataset()
    if draw(st.booleans()):
        dataset.PatientComments = draw(st.text("abc ", max_size=9))
    if draw(st.booleans()):
        dataset.Rows = draw(st.integers(0, 65535))
    if draw(st.booleans()):
        dataset.PixelSpacing = [draw(st.integers(1, 9)), 2]
    if depth and draw(st.booleans()):
        dataset.ReferencedImageSequence = Sequence(draw(st.lists(datasets(depth - 1), max_size=3)))
        dataset["ReferencedImageSequence"].is_undefined_length = draw(st.booleans())
        for item in dataset.ReferencedImageSequence:
            item.is_undefined_length_sequence_item = draw(st.booleans())
    return dataset


class TestSkimmer:
    """It must read what pydicom reads, and nothing else."""

    @pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
    def test_finds_in_the_files_of_others_what_pydicom_finds(self, path: Path) -> None:
        with quietly():
            try:
                expected = by_pydicom(dcmread(path, stop_before_pixels=True, force=True))
            except Exception:  # not what is tested here
                pytest.skip("pydicom does not read it")

        with opened(path) as file:
            found = as_stated(file.elements(Everything()).raw)

        assert found == expected

    @given(dataset=datasets(), encoding=st.sampled_from(ENCODINGS))
    def test_finds_what_pydicom_wrote(self, dataset: Dataset, encoding: Encoding) -> None:
        file = DicomBytesIO()
        file.is_implicit_VR, file.is_little_endian = encoding
        write_dataset(file, dataset)

        found = skim(file.getvalue(), encoding)

        assert list(found.elements) == sorted(dataset.keys())
        assert found.elements.get(0x00280010, (None, b""))[1] == (
            struct.pack("<H" if encoding.little else ">H", dataset.Rows)
            if "Rows" in dataset
            else b""
        )
        values = found.elements.get(IMAGES, (None, ()))[1]
        assert values is not None
        assert len(values) == len(dataset.get("ReferencedImageSequence", ()))

    def test_keeps_what_is_wanted_alone(self) -> None:
        item = head(UID, 2) + b"1\0" + head(0x00280010, 2) + b"ab"
        content = head(IMAGES, 8 + len(item)) + head(ITEM, len(item)) + item
        content += head(0x00280010, 2) + b"cd"

        assert as_stated(skim(content, wanted={0x00280010})) == {0x00280010: b"cd"}
        assert as_stated(skim(content, wanted={IMAGES, UID})) == {IMAGES: [{UID: b"1\0"}]}

    @pytest.mark.parametrize("wanted", [(), (IMAGES, UID)])
    def test_ends_before_what_is_asked_for_and_goes_back(self, wanted: tuple[int, ...]) -> None:
        start = head(IMAGES, UNDEFINED) + head(ITEM, UNDEFINED) + head(UID, 0)
        start += head(ITEM_END, 0) + head(SEQUENCE_END, 0)
        source = io.BytesIO(start + head(0x7FE00010, 4) + b"abcd")
        skimmer = Skimmer(source, 100)

        skimmer.dataset(IMPLICIT, wanted, until=lambda tag, *_: tag == 0x7FE00010)

        assert source.tell() == len(start)

    def test_a_value_that_is_cut_short_is_what_there_is(self) -> None:
        assert as_stated(skim(head(UID, 9) + b"123")) == {UID: b"123"}

    def test_items_may_leave_out_representations(self) -> None:
        item = head(UID, 2) + b"1\0"
        content = struct.pack("<HH2sHL", 8, 0x1140, b"SQ", 0, 8 + len(item)) + head(ITEM, len(item))

        assert as_stated(skim(content + item, EXPLICIT)) == {IMAGES: [{UID: b"1\0"}]}

    @pytest.mark.parametrize(
        ("items", "expected"),
        [
            (b"abcdefgh", None),
            (head(UID, 0), None),
            (head(ITEM, UNDEFINED), [{}]),
            (head(ITEM, UNDEFINED) + head(UID, UNDEFINED) + head(UID, 0), None),
            (head(ITEM, 0)[:5], [{}]),
        ],
    )
    def test_a_sequence_that_holds_no_items_is_astray(
        self, items: bytes, expected: list[dict[int, object]] | None
    ) -> None:
        behind = head(0x00280010, 2) + b"ab"

        found = as_stated(skim(head(IMAGES, len(items)) + items + behind))

        assert found[IMAGES] == expected
        assert found[0x00280010] == b"ab"
        with pytest.raises(SkimError, match="whole items"):
            skim(head(IMAGES, UNDEFINED) + items)
        with pytest.raises(SkimError, match="whole items"):
            skim(head(IMAGES, UNDEFINED) + items, wanted=())

    def test_a_sequence_where_none_should_be_has_no_value(self) -> None:
        content = head(UID, UNDEFINED) + head(SEQUENCE_END, 0)

        assert as_stated(skim(content)) == {UID: None}

    @pytest.mark.parametrize("wanted", [(), (IMAGES,)])
    def test_d19_sequences_do_not_lie_in_one_another_without_end(
        self, wanted: tuple[int, ...]
    ) -> None:
        deep = (head(IMAGES, UNDEFINED) + head(ITEM, UNDEFINED)) * 65

        with pytest.raises(SkimError, match="more than 64 deep"):
            skim(deep, wanted=wanted)

    @pytest.mark.parametrize("wanted", [(), (IMAGES, UID)])
    @pytest.mark.parametrize(
        "content",
        [
            head(UID, 0) * 2000,
            head(IMAGES, UNDEFINED) + head(ITEM, 0) * 2000,
            head(IMAGES, UNDEFINED) + (head(ITEM, UNDEFINED) + head(ITEM_END, 0)) * 1000,
        ],
    )
    def test_d19_a_header_does_not_fall_into_pieces_without_end(
        self, content: bytes, wanted: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("esp_medsam.dicom.skim._PIECES", 1000)

        with pytest.raises(SkimError, match="too many pieces"):
            skim(content, wanted=wanted)

    def test_d19_keeps_no_more_than_it_may(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("esp_medsam.dicom.skim.MOST_KEPT", 1000)
        content = head(UID, 600) + bytes(600)

        assert len(skim(content * 9, wanted=()).elements) == 0
        with pytest.raises(SkimError, match="longer than 1000 bytes"):
            skim(content * 2)

    @given(st.binary(max_size=200))
    def test_any_bytes_are_followed_or_refused(self, content: bytes) -> None:
        for encoding in ENCODINGS:
            try:
                found = skim(content, encoding)
            except SkimError:
                continue
            values = [value for _, value in found.elements.values() if isinstance(value, bytes)]
            assert sum(map(len, values)) <= len(content)
