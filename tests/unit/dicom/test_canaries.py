"""S7: what may name a patient stays in the files, but for what a segmentation must take over."""

from __future__ import annotations

import io
import logging
import struct
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.datadict import DicomDictionary, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from esp_medsam import io as images
from esp_medsam.dicom import find_volumes, read_segmentation
from esp_medsam.dicom.seg.write.source import _IF_STATED, _OF_ANIMALS, _REQUIRED, _WITHOUT_POSITION
from esp_medsam.modality import ModalityTable


CANARY = "CANARY"

TEXTS = ("AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UR", "UT")

TOLD = ("Modality", "PhotometricInterpretation", "ImageType", "SpecificCharacterSet")
"""Codes that messages, and decoding, need; a canary in them is another test."""

TAKEN_OVER = {*_REQUIRED, *_WITHOUT_POSITION, *_IF_STATED, *_OF_ANIMALS}


def canaries() -> dict[BaseTag, RawDataElement]:
    """A canary in each text attribute that there is, whether its rules allow it or not."""
    found = {}
    for number, (representation, *_, keyword) in DicomDictionary.items():
        is_data = 0x0008 <= number >> 16 < 0x5400 and number >> 16 != 0x0028
        if representation in TEXTS and keyword not in TOLD and (is_data or representation == "LO"):
            if number >> 16 < 8 or number >> 16 >= 0x7FE0:
                continue
            tag = BaseTag(number)
            value = f"{CANARY}_{number:08X} ".encode()
            found[tag] = RawDataElement(tag, representation, len(value), value, 0, False, True)
    return found


def with_canaries(dataset: Dataset) -> Dataset:
    """Add them to a data set, to an item of a sequence, and to one of a sequence in that."""
    inner, outer = Dataset(canaries()), Dataset(canaries())
    outer.ReferencedImageSequence = Sequence([inner])
    stated = {**canaries(), **{element.tag: element for element in dataset}}
    changed = Dataset(stated)
    changed.ReferencedImageSequence = Sequence([outer])
    changed.RequestAttributesSequence = Sequence([outer])
    return changed


def damages(dicom: SimpleNamespace, path: Path) -> Iterator[None]:
    """Damage a file in one way after another."""
    content = path.read_bytes()
    for share in (0.02, 0.3, 0.6, 0.95, 0.999):
        path.write_bytes(content[: int(share * len(content))])
        yield
    for keyword, representation in (
        ("SeriesInstanceUID", b"UI"), ("SOPClassUID", b"UI"), ("FrameOfReferenceUID", b"UI"),
        ("RescaleSlope", b"DS"), ("PixelSpacing", b"DS"), ("ImagePositionPatient", b"DS"),
        ("InstanceNumber", b"IS"), ("NumberOfFrames", b"IS"), ("Modality", b"CS"),
        ("PhotometricInterpretation", b"CS"), ("RescaleType", b"LO"), ("Rows", b"US"),
        ("BitsAllocated", b"US"), ("PixelRepresentation", b"US"), ("SamplesPerPixel", b"US"),
        ("WindowCenter", b"DS"), ("ModalityLUTSequence", b"SQ"),
    ):  # fmt: skip
        dataset = dcmread(path.with_suffix(".whole"))
        tag = tag_for_keyword(keyword)
        assert tag is not None
        value = f"{CANARY.title()}^{keyword}".ljust(32).encode()
        element = RawDataElement(
            BaseTag(tag), representation.decode(), len(value), value, 0, False, True
        )
        dataset[tag] = element
        dataset.save_as(path, enforce_file_format=False)
        yield
    syntax = b"1.2.840.10008.1.2.1\0"
    path.write_bytes(content.replace(syntax, b"CANARY^Jane".ljust(len(syntax))))
    yield
    for syntax in (
        JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, RLELossless,
    ):  # fmt: skip
        dataset = dcmread(path.with_suffix(".whole"))
        dataset.PixelData = encapsulate([b"\xff\xd8\xff\xe1\x00\x40Exif\0\0" + b"CANARY_exif" * 9])
        dicom.save(dataset, path, syntax)
        yield
    place = content.rindex(b"\xe0\x7f\x10\x00")
    sequence = struct.pack("<HH2sHL", 0x5200, 0x9230, b"SQ", 0, 12) + b"CANARY_items"
    path.write_bytes(content[:place] + sequence + content[place:])
    yield
    dicom.save(dcmread(path.with_suffix(".whole")), path, DeflatedExplicitVRLittleEndian)
    path.write_bytes(path.read_bytes()[:-4000] + b"CANARY" * 100)
    yield


@pytest.fixture
def listen(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> Callable[[], AbstractContextManager[list[str]]]:
    """Return a context in which all is heard that is said, at any level, to anyone."""
    caplog.set_level(logging.DEBUG)

    @contextmanager
    def listening() -> Iterator[list[str]]:
        said: list[str] = []
        caplog.clear()
        capfd.readouterr()
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield said
        said += [caplog.text, *capfd.readouterr(), *(str(w.message) for w in warned)]

    return listening


Listen = Callable[[], AbstractContextManager[list[str]]]


def looked_at(path: Path, table: ModalityTable) -> list[str]:
    """All that is told of what a folder holds, and of reading it; failures with their causes."""
    told = []
    found = find_volumes(path)
    for volume in found.volumes:
        told += [volume.name, *volume.warnings, repr(volume)]
    for name, error in found.refused:
        told += [name, *traceback.format_exception(error)]
    for volume in found.volumes:
        try:
            image = images.read(path, volume=volume.name)
        except Exception as error:  # whatever it is, it must not quote
            told += traceback.format_exception(error)
        else:
            told.append(repr(image))
    return told


def test_s7_canaries_stay_where_they_are(
    dicom: SimpleNamespace,
    seg: SimpleNamespace,
    table: ModalityTable,
    tmp_path: Path,
    listen: Listen,
) -> None:
    for k in range(6):
        stated = dicom.dataset(k, ImagePositionPatient=[0, 0, k % 3], PatientName=None)
        kernel = f"{CANARY}_kernel{k // 3}"
        dicom.save(with_canaries(stated), tmp_path / f"{k}.dcm")
        changed = dcmread(tmp_path / f"{k}.dcm")
        changed.ConvolutionKernel = kernel
        changed.AcquisitionTime, changed.ContentTime = f"10111{k}", f"10111{k}.5"
        changed.save_as(tmp_path / f"{k}.dcm")

    with listen() as said:
        told = looked_at(tmp_path, table)
        volumes = find_volumes(tmp_path).volumes

    assert [volume.name for volume in volumes] == [
        "1.2.3_ConvolutionKernel-1",
        "1.2.3_ConvolutionKernel-2",
    ]
    assert CANARY in volumes[0].former_name
    assert all(CANARY not in words.upper() for words in told)
    assert not any("10111" in words for words in told + said)
    assert all(CANARY not in words.upper() for words in said)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_s7_canaries_go_into_a_segmentation_only_where_they_must(
    dicom: SimpleNamespace,
    seg: SimpleNamespace,
    tmp_path: Path,
    syntax: str,
    listen: Listen,
) -> None:
    path = dicom.save(with_canaries(dicom.dataset(PatientName=None)), tmp_path / "a.dcm", syntax)
    with listen() as said:
        image = seg.record(path)
        written = seg.bytes_of(seg.made(image, seg.scattered(image)))
        (tmp_path / "seg.dcm").write_bytes(written)
        read = read_segmentation(tmp_path / "seg.dcm")

    dataset = dcmread(io.BytesIO(written))
    with_them = {element.keyword for element in dataset if CANARY in str(element)}
    assert {"PatientName", "PatientID", "StudyID"} <= with_them <= TAKEN_OVER
    assert np.asarray(read.mask(1)).any()
    assert CANARY not in repr(read.segments)
    assert all(CANARY not in words.upper() for words in said)


def test_s7_canaries_are_in_no_refusal(
    dicom: SimpleNamespace, table: ModalityTable, tmp_path: Path, listen: Listen
) -> None:
    path = tmp_path / "a" / "a.dcm"
    path.parent.mkdir()
    dicom.save(with_canaries(dicom.dataset(PatientName=None)), path)
    path.with_suffix(".whole").write_bytes(path.read_bytes())
    whole = path.with_suffix(".whole")
    refused = 0
    for _ in damages(dicom, path):
        whole.rename(tmp_path / "whole")

        with listen() as said:
            told = looked_at(path.parent, table)

        assert all(CANARY not in words.upper() for words in told + said)
        refused += any("Error" in words for words in told)
        (tmp_path / "whole").rename(whole)
    assert refused > 20
