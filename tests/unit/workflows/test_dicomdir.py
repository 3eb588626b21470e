"""A DICOMDIR, or an archive, as the input or in it."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from esp_medsam import io
from esp_medsam.errors import EmptyInputError, FormatError
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.left_alone import LeftAlone
from esp_medsam.workflows.plan import Plan
from tests.support.plans import plan_items
from tests.support.shipped_dicom import shipped


TABLE = ModalityTable.read(Path(__file__).parents[3] / "bundle/configs/targets.yaml")


def planned(root: Path) -> Plan:
    return plan_items(root, None, table=TABLE, modality=list(TABLE.names))


@pytest.fixture
def medium(tmp_path: Path, shipped_ct: bytes) -> Path:
    """A folder with an image in a folder of its own."""
    (tmp_path / "cd/PT0/SE0").mkdir(parents=True)
    (tmp_path / "cd/PT0/SE0/IM0").write_bytes(shipped_ct)
    return tmp_path / "cd"


@pytest.fixture
def shipped_ct() -> bytes:
    return shipped("CT_small.dcm").read_bytes()


def write_dicomdir(path: Path, *names: str | list[str]) -> Path:
    """Write a DICOMDIR with a record for each name; an empty one is that of a patient."""
    records = []
    for name in names:
        record = Dataset()
        record.DirectoryRecordType = "IMAGE" if name else "PATIENT"
        if name:
            record.add_new(0x00041500, "CS", name)
        records.append(record)
    dataset = Dataset()
    dataset.FileSetID = "A"
    dataset.DirectoryRecordSequence = Sequence(records)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
class TestDicomdir:
    @pytest.mark.parametrize("name", ["DICOMDIR", "dicomdir", "index.dcm"])
    def test_stands_for_its_folder(self, medium: Path, name: str) -> None:
        path = write_dicomdir(medium / name, "", ["PT0", "SE0", "IM0"])

        plan = planned(path)

        (item,) = plan.items
        assert item.path == str(medium / "PT0/SE0")
        assert item.relative_dir == "PT0/SE0"
        assert plan.notes == ()

    def test_in_a_folder_is_left_alone(self, medium: Path) -> None:
        path = write_dicomdir(medium / "DICOMDIR", ["pt0", "se0", "im0"])

        plan = planned(medium)

        assert len(plan.items) == 1
        assert plan.others == (str(path),)
        assert plan.notes == ()

    def test_tells_how_many_files_are_missing(self, medium: Path) -> None:
        names = [["PT0", "SE0", f"IM{k}"] for k in range(4)]
        path = write_dicomdir(medium / "DICOMDIR", *names)

        for root in (path, medium, medium.parent):
            plan = planned(root)

            assert len(plan.items) == 1
            assert LeftAlone.of(plan).text.endswith(
                "; 3 of 4 files that DICOMDIR lists are missing"
            )

    @pytest.mark.parametrize(
        "name", [["..", "secret"], ["PT0", "..", "..", "secret"], ["/etc/passwd"], ["C:", "a"], "."]
    )
    def test_d18_that_leads_outside_its_folder_is_not_followed(
        self, medium: Path, name: str | list[str], shipped_ct: bytes
    ) -> None:
        (medium.parent / "secret").write_bytes(shipped_ct)
        path = write_dicomdir(medium / "DICOMDIR", ["PT0", "SE0", "IM0"], name)

        plan = planned(path)

        assert [item.files for item in plan.items] == [(str(medium / "PT0/SE0/IM0"),)]
        assert plan.notes == ("1 that DICOMDIR lists outside its folder were ignored",)

    def test_that_is_damaged_does_not_keep_its_folder_from_being_read(self, medium: Path) -> None:
        path = write_dicomdir(medium / "DICOMDIR", *[["PT0", "SE0", "IM0"]] * 5)
        item = b"\xfe\xff\x00\xe0"
        start, *rest = path.read_bytes().split(item)
        path.write_bytes(start + item + rest[0] + b"none" + item.join(rest[1:]))

        plan = planned(path)

        assert len(plan.items) == 1
        assert plan.notes == ("DICOMDIR is damaged, so it is not known whether files are missing",)

    def test_read_as_an_image_is_told_what_it_is(self, medium: Path) -> None:
        path = write_dicomdir(medium / "DICOMDIR", ["PT0", "SE0", "IM0"])

        with pytest.raises(EmptyInputError, match=r"it is a DICOMDIR\. Pass its folder"):
            io.read(path)


class TestArchives:
    @pytest.mark.parametrize("name", ["study.zip", "study", "study.dcm"])
    def test_of_zip_are_to_be_unpacked(self, medium: Path, name: str) -> None:
        path = medium.parent / name
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(medium / "PT0/SE0/IM0")

        with pytest.raises(FormatError, match=rf"{name} must .* \(zip\)\. Unpack it, and pass"):
            planned(path)

    @pytest.mark.parametrize(
        ("name", "mode", "kind"),
        [("a.tar", "w", "tar"), ("a.tgz", "w:gz", "gzip"), ("a.tar.xz", "w:xz", "xz")],
    )
    def test_of_other_kinds_too(self, medium: Path, name: str, mode: str, kind: str) -> None:
        path = medium.parent / name
        with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]  # a literal
            archive.add(medium / "PT0/SE0/IM0")

        with pytest.raises(FormatError, match=rf"\({kind}\)\. Unpack it"):
            planned(path)

    def test_in_a_folder_of_nothing_else_are_named(self, tmp_path: Path) -> None:
        (tmp_path / "study.zip").write_bytes(b"PK\x03\x04" + bytes(20))
        (tmp_path / "notes.txt").write_text("hello")

        with pytest.raises(EmptyInputError, match=r"Unpack the archives first: study\.zip\.$"):
            planned(tmp_path)

    def test_beside_images_are_other_files(self, medium: Path) -> None:
        (medium / "study.zip").write_bytes(b"PK\x03\x04" + bytes(20))

        plan = planned(medium)

        assert len(plan.items) == 1
        assert plan.others == (str(medium / "study.zip"),)
