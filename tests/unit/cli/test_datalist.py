from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from esp_medsam.cli.main import main
from tests.support.nifti import save_nifti
from tests.support.shipped_dicom import copy_shipped


Shown = pytest.CaptureFixture[str]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with twelve CT as nnU-Net has them; the last shows no kidney."""
    monkeypatch.chdir(tmp_path)
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
    for number in range(12):
        rng = np.random.default_rng(number)
        image = rng.integers(-1000, 1000, (8, 9, 3), np.int16)
        labels = np.zeros((8, 9, 3), np.uint8)
        labels[1:3], labels[5] = 1, 2 if number < 11 else 0
        for path, values in (("imagesTr/{}_0000.nii.gz", image), ("labelsTr/{}.nii.gz", labels)):
            save_nifti(tmp_path / path.format(f"p{number:02}"), values)
    return tmp_path


NNUNET = (
    "--images", "imagesTr/{case}_0000.nii.gz", "--modality", "ct",
    "--labels", "liver=labelsTr/{case}.nii.gz#1", "--labels", "kidney=labelsTr/{case}.nii.gz#2",
)  # fmt: skip


def built(*options: str, path: str = "d.json") -> dict[str, list[dict[str, Any]]]:
    assert main(["datalist", path, *options]) == 0
    sections: dict[str, list[dict[str, Any]]] = json.loads(Path(path).read_text())
    return sections


def images(sections: dict[str, list[dict[str, Any]]]) -> list[list[str]]:
    return [[item["image"] for item in items] for items in sections.values()]


class TestPatterns:
    def test_find_images_and_maps_as_nnunet_has_them(self, home: Path, capsys: Shown) -> None:
        sections = built(*NNUNET, "--dataset", "mine", "--json")

        assert {name: len(items) for name, items in sections.items()} == {
            "training": 8,
            "validation": 2,
            "test": 2,
        }
        items = {item["image"]: item for items in sections.values() for item in items}
        assert items["imagesTr/p00_0000.nii.gz"] == {
            "image": "imagesTr/p00_0000.nii.gz",
            "modality": "ct",
            "dataset": "mine",
            "labels": {"path": "labelsTr/p00.nii.gz", "values": {"liver": [1], "kidney": [2]}},
        }
        assert items["imagesTr/p11_0000.nii.gz"]["absent"] == ["kidney"]
        counts = json.loads(capsys.readouterr().out)
        assert sum(count["labeled"] for count in counts if count["target"] == "kidney") == 11
        assert sum(count["absent"] for count in counts if count["target"] == "kidney") == 1
        assert main(["datalist", "--check", "d.json"]) == 0

    def test_targets_that_are_to_be_added_are_known_where_they_are_said(
        self, home: Path, capsys: Shown
    ) -> None:
        code = "{value: a, scheme: 99A, meaning: A}"
        codes = f"category: {code}, type: {code}"
        Path("more.yaml").write_text(f"modalities: {{ct: {{targets: {{node: {{{codes}}}}}}}}}\n")
        asked = (*NNUNET[:4], "--labels", "node=labelsTr/{case}.nii.gz#1")

        assert main(["datalist", "d.json", *asked]) == 1
        assert "got 'node'" in capsys.readouterr().out
        assert built(*asked, "--targets", "more.yaml")["training"][0]["labels"]["values"]

    def test_paths_are_those_from_the_datalist_s_folder(self, home: Path) -> None:
        sections = built(*NNUNET, path="lists/d.json")

        assert all(path.startswith("../imagesTr/") for paths in images(sections) for path in paths)

    def test_a_star_stands_for_the_case_where_nothing_else_does(self, home: Path) -> None:
        stars = [option.replace("{case}", "*") for option in NNUNET]

        assert built(*stars) == built(*NNUNET, path="e.json")

    def test_masks_that_are_missing_leave_a_target_unknown_and_are_told(
        self, home: Path, capsys: Shown
    ) -> None:
        (home / "imagesTr/p03_0000.nii.gz").unlink()
        (home / "labelsTr/p04.nii.gz").unlink()
        (home / "labelsTr/p05.nii.gz").rename(home / "labelsTr/x.nii.gz")

        assert main(["datalist", "d.json", *NNUNET, "--absent", "intracranial_hemorrhage"]) == 0

        told = capsys.readouterr().err
        assert "liver is unknown in 2 images (p04, p05), which have no mask of it." in told
        assert "2 masks of liver match no image: p03, x." in told

    @pytest.mark.parametrize(
        ("options", "status", "told"),
        [
            (("--images", "none/*"), 1, "E_NO_INPUT: images must match files in"),
            (("--images", "imagesTr"), 1, "images must have {case} or * where"),
            (("--labels", "liver"), 1, "labels must be TARGET=PATTERN, such as liver=masks"),
            (("--labels", "liver=imagesTr/{case}.nii.gz"), 1, "must match images; none does"),
            (("--labels", "spleen=labelsTr/{case}.nii.gz#1"), 1, "must have no faults; d.json has"),
            (("--modality", "cat"), 1, "E_MODALITY"),
            (("--split", "1,2"), 1, "split must be percentages of training, validation, test"),
            (("--split", "-1,1,1"), 1, "split must be percentages"),
            (("--split", "0,0,0"), 1, "split must be percentages"),
            (("--split", "nan,1,1"), 1, "split must be percentages"),
            (("--patient", "("), 1, "patient must be a regular expression; got ("),
            (("--patient", "q\\d"), 1, "patient must match every image"),
            (("--csv", "a.csv"), 2, "--images or --csv"),
            (("--check", "d.json"), 2, "--check cannot be combined with FILE"),
        ],
    )
    def test_what_is_wrong_is_told_and_nothing_is_written(
        self, home: Path, capsys: Shown, options: tuple[str, ...], status: int, told: str
    ) -> None:
        assert main(["datalist", "d.json", *NNUNET, *options]) == status

        assert told in " ".join(capsys.readouterr().err.replace("│", " ").split())
        assert not (home / "d.json").exists()

    def test_two_files_of_a_case_are_refused(self, home: Path, capsys: Shown) -> None:
        options = [*NNUNET, "--images", "imagesTr/*{case}_0000.nii.gz"]

        assert main(["datalist", "d.json", *options]) == 1

        assert "must match one file per case" in capsys.readouterr().err

    def test_images_and_masks_are_never_replaced(self, home: Path, capsys: Shown) -> None:
        before = (home / "labelsTr/p00.nii.gz").read_bytes()

        assert main(["datalist", "labelsTr/p00.nii.gz", *NNUNET, "--overwrite"]) == 1

        assert "FILE must end in .json; got labelsTr/p00.nii.gz." in capsys.readouterr().err
        assert (home / "labelsTr/p00.nii.gz").read_bytes() == before

    def test_nothing_is_replaced_without_a_word(self, home: Path, capsys: Shown) -> None:
        (home / "d.json").write_text("mine")

        assert main(["datalist", "d.json", *NNUNET]) == 1
        assert "E_EXISTS: FILE must not exist" in capsys.readouterr().err
        assert (home / "d.json").read_text() == "mine"

        assert images(built(*NNUNET, "--overwrite"))


class TestSplit:
    def test_is_the_same_every_time_and_another_with_another_seed(self, home: Path) -> None:
        first, same, other = (
            images(built(*NNUNET, "--seed", seed, path=path))
            for seed, path in (("3", "a.json"), ("3", "b.json"), ("4", "c.json"))
        )

        assert first == same != other

    def test_keeps_a_patient_in_one_section(self, home: Path) -> None:
        """Of two patients one has ten images, the other two."""
        sections = built(*NNUNET, "--patient", r"p(\d)\d_", "--split", "50,50,0")

        assert sorted(len(items) for items in sections.values()) == [0, 2, 10]

    def test_goes_by_dicom_s_patient_and_writes_nothing_of_it(
        self,
        home: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: Shown,
    ) -> None:
        for number in range(8):
            copy_shipped(
                home / f"dicom/{number}/a.dcm",
                PatientID=f"secret{number % 4}",
                SOPInstanceUID=f"1.2.{number}",
                SeriesInstanceUID=f"1.3.{number}",
            )
        options = ("--images", "dicom/{case}", "--modality", "ct", "--absent", "liver")

        sections = built(*options, "--split", "50,25,25")

        patients = [{int(path[-1]) % 4 for path in paths} for paths in images(sections)]
        assert [len(paths) for paths in images(sections)] == [4, 2, 2]
        assert [len(found) for found in patients] == [2, 1, 1]
        shown = capsys.readouterr()
        assert "secret" not in (home / "d.json").read_text() + shown.out + shown.err


class TestCsv:
    def write(self, home: Path, rows: list[dict[str, Any]]) -> None:
        with (home / "t.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def rows(self, count: int = 12) -> list[dict[str, Any]]:
        return [
            {
                "image": f"imagesTr/p{number:02}_0000.nii.gz",
                "labels.liver": f"labelsTr/p{number:02}.nii.gz#1",
                "absent": "intracranial_hemorrhage; pancreas",
                "patient": f"secret{number // 3}",
            }
            for number in range(count)
        ]

    def test_says_masks_patients_and_what_is_absent(self, home: Path) -> None:
        self.write(home, self.rows())

        sections = built("--csv", "t.csv", "--modality", "ct", "--split", "50,25,25")

        assert [len(items) for items in sections.values()] == [6, 3, 3]
        numbers = [{int(path[10:12]) // 3 for path in paths} for paths in images(sections)]
        assert [len(found) for found in numbers] == [2, 1, 1]
        assert sections["test"][0]["absent"] == ["intracranial_hemorrhage", "pancreas"]
        patients = {item["patient"] for items in sections.values() for item in items}
        assert len(patients) == 4
        assert {item["patient"] for item in sections["test"]} != patients
        assert "secret" not in (home / "d.json").read_text()

    @pytest.mark.parametrize("path", ["/dev/zero", "imagesTr", "imagesTr/p00_0000.nii.gz"])
    def test_is_a_file_of_text(self, home: Path, capsys: Shown, path: str) -> None:
        assert main(["datalist", "d.json", "--csv", path]) == 1

        assert "E_OPTION: csv must " in capsys.readouterr().err

    def test_may_say_the_sections(self, home: Path) -> None:
        rows = [{**row, "section": "test"} for row in self.rows(4)[2:]]  # of two patients
        rows[0]["section"] = "training"
        self.write(home, rows)

        sections = built("--csv", "t.csv", "--modality", "ct")

        assert [len(items) for items in sections.values()] == [1, 0, 1]

    def test_a_patient_in_two_sections_is_refused(self, home: Path, capsys: Shown) -> None:
        first, second = self.rows(2)
        self.write(home, [{**first, "section": "training"}, {**second, "section": "test"}])

        assert main(["datalist", "d.json", "--csv", "t.csv", "--modality", "ct"]) == 1

        (line,) = capsys.readouterr().out.splitlines()
        assert line.startswith("test[0]['patient'] must be in one section; training[0] is of the")
        assert not (home / "d.json").exists()

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"label.liver": "a"}, "csv must have the column image"),
            ({"section": "train"}, "section must be training, validation, test in every row"),
            ({"image": ""}, "in each row; t.csv, row 2"),
            ({"offset": "much"}, "offset must be a number; t.csv, row 2 has much"),
            ({"labels.spleen": "labelsTr/p00.nii.gz"}, "must have no faults"),
        ],
    )
    def test_wrong_tables_are_refused(
        self, home: Path, capsys: Shown, change: dict[str, str], told: str
    ) -> None:
        self.write(home, [{**self.rows(1)[0], **change}])

        assert main(["datalist", "d.json", "--csv", "t.csv", "--modality", "ct"]) == 1

        assert told in capsys.readouterr().err
        assert not (home / "d.json").exists()


class TestCheck:
    def test_prints_a_line_for_each_fault(self, home: Path, capsys: Shown) -> None:
        built(*NNUNET)
        (home / "labelsTr/p02.nii.gz").unlink()
        (home / "imagesTr/p01_0000.nii.gz").write_bytes(b"no volume")
        capsys.readouterr()

        assert main(["datalist", "--check", "d.json"]) == 1

        shown = capsys.readouterr()
        assert len(shown.out.splitlines()) == 2
        assert shown.err == "E_OPTION: datalist must have no faults; d.json has 2.\n"

    def test_pictures_are_found_with_their_masks(self, home: Path) -> None:
        for folder in ("a/pictures", "a/masks"):
            (home / folder).mkdir(parents=True)
        mask = np.zeros((12, 16), np.uint8)
        mask[2:5] = 255
        for number in range(4):
            values = np.random.default_rng(number).integers(0, 256, (12, 16, 3), np.uint8)
            PIL.Image.fromarray(values).save(home / f"a/pictures/{number}.jpg")
            PIL.Image.fromarray(mask * (number > 0)).save(home / f"a/masks/{number}_mask.png")
        options = ("--root", "a", "--images", "pictures/{case}.jpg", "--modality", "dermoscopy")

        sections = built(*options, "--labels", "lesion=masks/{case}_mask.png", "--split", "1,0,0")

        assert sections["training"][0]["absent"] == ["lesion"]
        assert sections["training"][1]["labels"] == {"lesion": "a/masks/1_mask.png"}
