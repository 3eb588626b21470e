from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from esp_medsam.errors import CorruptFileError, InputNotFoundError


class TestPatientAndStudy:
    def test_are_those_of_the_source_and_nothing_else_is_taken(
        self, seg: SimpleNamespace, tmp_path: Path
    ) -> None:
        taken = {
            "PatientName": "Doe^Jane", "PatientID": "17", "PatientBirthDate": "19700101",
            "PatientSex": "F", "StudyDate": "20200101", "StudyTime": "1200", "StudyID": "S",
            "AccessionNumber": "A", "ReferringPhysicianName": "Roe^R",
        }  # fmt: skip
        left = {
            "PatientAge": "050Y", "PatientWeight": "70", "OtherPatientIDs": "18",
            "PatientComments": "x", "InstitutionName": "x", "StudyDescription": "x",
            "OperatorsName": "x", "SeriesDescription": "x", "ProtocolName": "x",
            "ResponsiblePerson": "x", "PatientOrientation": ["L", "P"],
        }  # fmt: skip
        image = seg.stack(tmp_path, 1, **taken, **left)

        dataset = seg.made(image, seg.scattered(image))

        assert {keyword: str(dataset[keyword].value) for keyword in taken} == taken
        assert dataset.StudyInstanceUID == "1.2"
        assert dataset.SeriesDescription == "Segmentation: liver"
        assert not {element.keyword for element in dataset} & (set(left) - {"SeriesDescription"})

    def test_are_there_and_empty_where_the_source_lacks_them(
        self, seg: SimpleNamespace, tmp_path: Path
    ) -> None:
        image = seg.stack(tmp_path, 1, PatientName=None)

        dataset = dcmread(io.BytesIO(seg.bytes_of(seg.made(image, seg.scattered(image)))))

        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "StudyID"):
            assert not dataset[keyword].value

    @pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    def test_are_handed_on_byte_for_byte(
        self,
        seg: SimpleNamespace,
        dicom: SimpleNamespace,
        tmp_path: Path,
        syntax: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        stated = dicom.dataset(
            SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName="Yamada^Tarou=山田^太郎"
        )
        path = dicom.save(stated, tmp_path / "a.dcm", syntax)
        # What no character set decodes must not end the run, nor appear in its log.
        content = path.read_bytes()
        path.write_bytes(content.replace(b"Yamada^Tarou", b"Canary^\xff\xfe?--"))
        image = seg.record(path)

        written = seg.bytes_of(seg.made(image, seg.scattered(image)))

        assert dcmread(io.BytesIO(written)).get_item("PatientName").value == (
            dcmread(path).get_item("PatientName").value
        )
        assert b"Canary^\xff\xfe?--" in written
        assert "山田".encode("iso2022_jp") in written
        assert "anary" not in caplog.text

    def test_that_break_the_rules_are_handed_on_without_a_word(
        self,
        seg: SimpleNamespace,
        dicom: SimpleNamespace,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        path = dicom.save(
            dicom.dataset(PatientSex="F", PatientBirthDate="19700101"), tmp_path / "a"
        )
        content = path.read_bytes()
        path.write_bytes(content.replace(b"19700101", b"Canary  ").replace(b"F ", b"??"))
        image = seg.record(path)

        written = seg.bytes_of(seg.made(image, seg.scattered(image)))

        stated = dcmread(io.BytesIO(written))
        assert stated.get_item("PatientBirthDate").value == b"Canary"
        assert stated.get_item("PatientSex").value == b"??"
        assert "Canary" not in caplog.text

    def test_in_a_character_set_that_nobody_knows_are_handed_on(
        self,
        seg: SimpleNamespace,
        dicom: SimpleNamespace,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        path = dicom.save(dicom.dataset(SpecificCharacterSet="ISO_IR 192"), tmp_path / "a")
        path.write_bytes(path.read_bytes().replace(b"ISO_IR 192", b"ISO_IR 999"))
        image = seg.record(path)
        caplog.clear()

        written = seg.bytes_of(seg.made(image, seg.scattered(image)))

        assert b"ISO_IR 999" in written
        assert b"Doe^Jane" in written
        assert caplog.text == ""

    @pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    def test_of_animals_say_so(
        self, seg: SimpleNamespace, dicom: SimpleNamespace, tmp_path: Path, syntax: str
    ) -> None:
        dog = dicom.item(CodeValue="448771007", CodingSchemeDesignator="SCT", CodeMeaning="Dog")
        stated = dicom.dataset(
            PatientSpeciesCodeSequence=[dog], PatientBreedCodeSequence=[], ResponsiblePerson="Roe"
        )
        image = seg.record(dicom.save(stated, tmp_path / "a.dcm", syntax))

        dataset = dcmread(io.BytesIO(seg.bytes_of(seg.made(image, seg.scattered(image)))))

        assert dataset.PatientSpeciesCodeSequence[0].CodeMeaning == "Dog"
        assert dataset.ResponsiblePerson == "Roe"

    def test_come_with_what_compression_lost(self, seg: SimpleNamespace, tmp_path: Path) -> None:
        lossy = {"LossyImageCompression": "01", "LossyImageCompressionRatio": "12.5"}
        image = seg.stack(tmp_path, 1, **lossy, LossyImageCompressionMethod="ISO_10918_1")

        dataset = seg.made(image, seg.scattered(image))

        assert dataset.LossyImageCompression == "01"
        assert dataset.LossyImageCompressionRatio == 12.5
        assert dataset.LossyImageCompressionMethod == "ISO_10918_1"


class TestReadSource:
    def test_refuses_files_that_are_gone(self, seg: SimpleNamespace, tmp_path: Path) -> None:
        image = seg.stack(tmp_path, 2)
        Path(image.sources[0].path).unlink()

        with pytest.raises(InputNotFoundError, match=r"0\.dcm"):
            seg.made(image, seg.scattered(image))

    def test_refuses_files_that_were_replaced(self, seg: SimpleNamespace, tmp_path: Path) -> None:
        image = seg.stack(tmp_path, 2)
        (tmp_path / "1.dcm").replace(tmp_path / "0.dcm")

        with pytest.raises(CorruptFileError, match=r"must still be the instance 1\.2\.3\.1"):
            seg.made(image, seg.scattered(image))
