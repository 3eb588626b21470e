from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import DataElement, dcmread

from esp_medsam.modality import ModalityTable
from esp_medsam.terms import body_part
from tests.support.plans import plan_items
from tests.support.shipped_dicom import copy_shipped


Write = Callable[..., Path]
Named = Callable[..., list[str]]


class TestBodyPart:
    @pytest.mark.parametrize(
        ("value", "part"),
        [
            ("ABDOMEN", "abdomen"),
            ("CHEST", "chest"),
            ("CSPINE", "cspine"),
            (" Head And Neck ", "headandneck"),
            ("KIDNEY", "kidney"),
        ],
    )
    def test_is_a_term(self, value: str, part: str) -> None:
        assert body_part(value) == part

    @pytest.mark.parametrize("value", ["", "DOE^JANE", "ABDOMEN DOE", "JANE", "19610203", "../X"])
    def test_is_nothing_that_is_no_term(self, value: str) -> None:
        assert body_part(value) is None


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a DICOM slice that says such things, of a series of its own."""

    def write_(name: str, **said: Any) -> Path:
        uid = f"1.2.{len(name)}.{ord(name[0])}"
        stated = {"BodyPartExamined": "ABDOMEN", "SeriesNumber": 3, **said}
        uids = {"SeriesInstanceUID": uid, "SOPInstanceUID": uid}
        return copy_shipped(tmp_path / "in" / name, **{**uids, **stated})

    return write_


@pytest.fixture
def named(tmp_path: Path, table: ModalityTable) -> Named:
    """Returns the names of a run's results."""

    def named_(**options: Any) -> list[str]:
        asked = {"modality": "ct", "names": "readable", **options}
        plan = plan_items(tmp_path / "in", tmp_path / "out", table=table, **asked)
        assert plan.refused == ()
        return [item.name for item in plan.items]

    return named_


class TestReadableNames:
    def test_are_modality_body_part_and_series_number(self, write: Write, named: Named) -> None:
        write("a.dcm")

        assert named() == ["CT_abdomen_3"]

    @pytest.mark.parametrize(
        ("said", "name"),
        [
            ({"BodyPartExamined": "DOE JANE"}, "CT_3"),
            ({"BodyPartExamined": None}, "CT_3"),
            ({"SeriesNumber": None}, "CT_abdomen"),
            ({"Modality": "OT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "OT_abdomen_3"),
            ({"Modality": ""}, "ct_abdomen_3"),
            ({"SeriesDescription": "Doe^Jane", "PatientName": "Doe^Jane"}, "CT_abdomen_3"),
        ],
    )
    def test_leave_out_what_is_missing_or_no_coded_term(
        self, write: Write, named: Named, said: dict[str, Any], name: str
    ) -> None:
        write("a.dcm", **said)

        assert named() == [name]

    @pytest.mark.parametrize("names", ["uid", "readable"])
    def test_refuse_no_image_for_what_only_a_name_is_made_of(
        self, write: Write, named: Named, tmp_path: Path, names: str
    ) -> None:
        path = write("a.dcm")
        dataset = dcmread(path)
        dataset["BodyPartExamined"] = DataElement("BodyPartExamined", "LT", "A" * 9000)
        dataset.save_as(path)
        (tmp_path / "out").mkdir()

        assert named(names=names) == ["CT_3" if names == "readable" else dataset.SeriesInstanceUID]

    def test_that_a_run_would_give_twice_end_in_a_hash_each(
        self, write: Write, named: Named
    ) -> None:
        write("1/a.dcm")
        write("2/b.dcm")
        write("3/c.dcm", SeriesNumber=4)

        first, second, third = named()

        assert first != second
        assert all(re.fullmatch(r"CT_abdomen_3_[0-9a-f]{8}", name) for name in (first, second))
        assert third == "CT_abdomen_4"
        assert named() == [first, second, third]

    def test_spare_what_is_called_so_already(
        self, write: Write, named: Named, tmp_path: Path
    ) -> None:
        write("a.dcm")
        (tmp_path / "out").mkdir()
        record = {"software": "esp-medsam 0", "targets": [], "files": []}
        path = tmp_path / "out/CT_abdomen_3_seg.json"

        path.write_text(json.dumps({**record, "volume": "1.2.9"}))
        assert re.fullmatch(r"CT_abdomen_3_[0-9a-f]{8}", *named())

        path.write_text("no record")
        assert re.fullmatch(r"CT_abdomen_3_[0-9a-f]{8}", *named())

        path.write_text(json.dumps({**record, "volume": "1.2.5.97"}))
        assert named() == ["CT_abdomen_3"]

    def test_other_formats_keep_the_names_of_their_files(
        self, write: Write, named: Named, tmp_path: Path
    ) -> None:
        write("a.dcm")
        (tmp_path / "in/CT_abdomen_3.nii").touch()

        file, volume = named()

        assert file == "CT_abdomen_3"
        assert re.fullmatch(r"CT_abdomen_3_[0-9a-f]{8}", volume)

    def test_without_the_option_the_uid_is_the_name(self, write: Write, named: Named) -> None:
        write("a.dcm")

        assert named(names="uid") == ["1.2.5.97"]
