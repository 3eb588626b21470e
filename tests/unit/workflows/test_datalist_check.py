from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as PILImage

from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.datalist import MOST_FAULTS
from esp_medsam.workflows.datalist_check import faults_of
from tests.support.nifti import save_nifti
from tests.support.pictures import noise, save_picture


Sections = dict[str, list[Any]]
Found = Callable[[Sections], list[str]]


def picture(path: Path, seed: int, size: tuple[int, int] = (12, 16)) -> Path:
    return save_picture(path, noise(*size, seed=seed))


@pytest.fixture
def sections(tmp_path: Path) -> Sections:
    """Two pictures with a mask, and a CT with a label map: nothing is wrong with them."""
    mask = np.zeros((12, 16), np.uint8)
    mask[2:5, 3:9] = 255
    for seed, name in enumerate("ab"):
        picture(tmp_path / f"{name}.png", seed)
        PILImage.fromarray(mask).save(tmp_path / f"{name}_mask.png")
    label = np.zeros((6, 7, 3), np.uint8)
    label[1], label[2] = 1, 5
    affine = np.diag([1.0, 1.0, 4.0, 1.0])
    save_nifti(tmp_path / "v.nii.gz", np.zeros((6, 7, 3), np.int16), affine)
    save_nifti(tmp_path / "v_map.nii.gz", label, affine)
    skin = {"modality": "dermoscopy"}
    return {
        "training": [
            {**skin, "image": "a.png", "labels": {"lesion": "a_mask.png"}},
            {
                "image": "v.nii.gz",
                "modality": "ct",
                "labels": {"path": "v_map.nii.gz", "values": {"liver": 1, "kidney": [5]}},
                "unknown": {"path": "v_map.nii.gz", "values": [255]},
                "absent": ["pancreas"],
            },
        ],
        "validation": [{**skin, "image": "b.png", "labels": {"lesion": "b_mask.png"}}],
    }


@pytest.fixture
def found(tmp_path: Path, table: ModalityTable) -> Found:
    """Return a function that gives the faults of sections as text."""
    return lambda sections: [str(fault) for fault in faults_of(sections, tmp_path, table)]


class TestFaultsOf:
    def test_are_none_of_a_datalist_that_is_right(self, sections: Sections, found: Found) -> None:
        assert found(sections) == []

    @pytest.mark.parametrize(
        ("key", "value", "fault"),
        [
            (
                "image",
                "none.png",
                "training[0]['image'] must be an existing file; there is none at ",
            ),
            ("modality", "skin", "training[0]['modality'] must be one of dermoscopy, "),
            (
                "labels",
                {"lesion": "none.png"},
                "training[0]['labels']['lesion'] must be an existing file; there is none at ",
            ),
            ("labels", {"mole": "a_mask.png"}, "training[0]['labels'] must name targets of dermo"),
            ("absent", ["mole"], "training[0]['absent'] must name targets of dermoscopy, lesion; "),
            ("labels", {}, "training[0]['labels'] must name a target, or absent must; got none"),
            ("labels", 5, "training[0]['labels'] must be masks by target, "),
            (
                "unknown",
                "none.png",
                "training[0]['unknown'] must be an existing file; there is none at ",
            ),
        ],
    )
    def test_of_a_single_key_name_it(
        self, sections: Sections, found: Found, key: str, value: Any, fault: str
    ) -> None:
        sections["training"][0][key] = value

        (told,) = found(sections)

        assert told.startswith(fault)

    def test_name_the_values_that_a_label_map_does_not_hold(
        self, sections: Sections, found: Found
    ) -> None:
        sections["training"][1]["labels"]["values"] = {"liver": [1, 3], "kidney": [7, 8]}

        first, second = found(sections)

        assert first.startswith("training[1]['labels']['liver'] must be values that the map holds")
        assert first.endswith("v_map.nii.gz holds no 3")
        assert second.endswith("v_map.nii.gz holds no 7, 8")

    def test_name_an_empty_mask_unless_another_of_the_target_holds_it(
        self, tmp_path: Path, sections: Sections, found: Found
    ) -> None:
        PILImage.fromarray(np.zeros((12, 16), np.uint8)).save(tmp_path / "e.png")
        sections["training"][0]["labels"] = {"lesion": ["e.png", "a_mask.png"]}
        assert found(sections) == []

        sections["training"][0]["labels"] = {"lesion": "e.png"}

        (told,) = found(sections)
        assert told.startswith("training[0]['labels']['lesion'] must hold the target; ")
        assert "e.png is empty. List the target under absent" in told

    def test_name_a_mask_off_its_image_s_grid(
        self, tmp_path: Path, sections: Sections, found: Found
    ) -> None:
        picture(tmp_path / "a_mask.png", 5, (16, 12))
        map_path = tmp_path / "v_map.nii.gz"
        volume = nib.load(map_path)
        moved = volume.affine.copy()
        moved[0, 3] = 9
        save_nifti(map_path, np.asarray(volume.dataobj), moved)

        first, second = found(sections)  # one of the map, which two targets and unknown share

        assert first.startswith("training[0]['labels']['lesion'] must be usable; ")
        assert "image's grid, (12, 16); " in first
        assert second.startswith("training[1]['labels']['liver'] must be usable; ")
        assert "9 mm off" in second

    @pytest.mark.parametrize("after_the_pixels", [False, True])
    def test_pictures_that_exif_turns_are_seen_as_they_are_shown(
        self, tmp_path: Path, sections: Sections, found: Found, after_the_pixels: bool
    ) -> None:
        """Stored of 16 rows and 12 columns, shown of 12 and 16, as its mask is."""
        exif = PILImage.Exif()
        exif[0x0112] = 6
        path = tmp_path / "a.png"
        with PILImage.open(picture(path, 3, (16, 12))) as stored:
            stored.save(path, exif=exif)
        if after_the_pixels:
            content = path.read_bytes()
            start = content.index(b"eXIf") - 4
            length = 12 + int.from_bytes(content[start : start + 4], "big")
            chunk = content[start : start + length]
            rest = content[:start] + content[start + length :]
            path.write_bytes(rest[:-12] + chunk + rest[-12:])

        assert found(sections) == []

    def test_name_an_unreadable_file(
        self, tmp_path: Path, sections: Sections, found: Found
    ) -> None:
        (tmp_path / "a.png").write_bytes(b"no picture")
        mask = (tmp_path / "b_mask.png").read_bytes()
        (tmp_path / "b_mask.png").write_bytes(mask[: len(mask) // 2])

        first, second = found(sections)

        assert first.startswith("training[0]['image'] must be usable; ")
        assert "its content is none of them" in first
        assert second.startswith("validation[0]['labels']['lesion'] must be usable; ")

    @pytest.mark.parametrize("name", ["a.png", "v.nii.gz"])
    def test_name_an_image_whose_end_is_missing(
        self, tmp_path: Path, sections: Sections, found: Found, name: str
    ) -> None:
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) - 24])

        (told,) = found(sections)

        assert "['image'] must be usable; " in told
        assert name in told

    def test_name_an_image_that_is_given_twice(self, sections: Sections, found: Found) -> None:
        sections["training"].append({**sections["training"][0], "image": "./a.png"})

        (told,) = found(sections)

        assert told.startswith("training[2]['image'] must not be named twice; ")
        assert told.endswith("a.png is also training[0]")

    def test_name_an_image_whose_content_is_in_two_sections(
        self, tmp_path: Path, sections: Sections, found: Found
    ) -> None:
        (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())

        (told,) = found(sections)

        assert told.startswith("validation[0]['image'] must be in one section only; ")
        assert "holds the same bytes as training[0]" in told

    def test_the_same_content_twice_in_a_section_is_no_fault(
        self, tmp_path: Path, sections: Sections, found: Found
    ) -> None:
        (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes())
        sections["training"].append({**sections["training"][0], "image": "c.png"})

        assert found(sections) == []

    def test_name_a_patient_in_two_sections_once_and_not_by_name(
        self, tmp_path: Path, sections: Sections, found: Found
    ) -> None:
        picture(tmp_path / "c.png", 2)
        sections["training"][0]["patient"] = sections["validation"][0]["patient"] = "Doe"
        sections["validation"].append({**sections["validation"][0], "image": "c.png"})

        assert found(sections) == [
            "validation[0]['patient'] must be in one section; training[0] is of the same patient"
        ]

    def test_patients_of_two_sets_are_two(self, sections: Sections, found: Found) -> None:
        for section, dataset in (("training", "one"), ("validation", "other")):
            sections[section][0] |= {"patient": "1", "dataset": dataset}

        assert found(sections) == []

    def test_ct_in_pictures_must_say_what_its_values_are(
        self, tmp_path: Path, sections: Sections, found: Found
    ) -> None:
        item = {"image": "a.png", "modality": "ct", "labels": {"liver": "a_mask.png"}}
        sections["training"][0] = copy.deepcopy(item)

        (told,) = found(sections)

        assert told.startswith("training[0]['ct_input'] must be given for a CT picture")
        sections["training"][0] = {**item, "ct_input": "windowed"}
        assert found(sections) == []

    @pytest.mark.parametrize("bits", [np.uint8, np.uint16])
    def test_ct_in_pictures_in_hounsfield_units_must_say_their_offset(
        self, tmp_path: Path, sections: Sections, found: Found, bits: type
    ) -> None:
        PILImage.fromarray(np.full((12, 16), 200, bits)).save(tmp_path / "c.png")
        item = {"image": "c.png", "modality": "ct", "labels": {"liver": "a_mask.png"}}
        sections["training"][0] = {**item, "ct_input": "hu"}

        assert found(sections) == [
            "training[0]['offset'] must be given of a CT picture in hu, such as -1024; got none"
        ]
        sections["training"][0]["offset"] = -1024
        assert found(sections) == []

    def test_a_photograph_is_no_mask(
        self, tmp_path: Path, sections: Sections, found: Found
    ) -> None:
        save_picture(tmp_path / "c.png", noise(12, 16, 3))
        sections["training"][0]["labels"] = {"lesion": "c.png"}

        (told,) = found(sections)

        place = "training[0]['labels']['lesion'] must be usable"
        assert told.startswith(f"{place}; labels must be gray pictures, or have a palette")
        assert f"{tmp_path / 'c.png'} is in color. Save it" in told

    @pytest.mark.parametrize("name", ["white.png", "white.jpg"])
    def test_a_white_mask_may_be_stored_as_color(
        self, tmp_path: Path, sections: Sections, found: Found, name: str
    ) -> None:
        with PILImage.open(tmp_path / "a_mask.png") as mask:
            mask.convert("RGB").save(tmp_path / name)
        sections["training"][0]["labels"] = {"lesion": name}

        assert found(sections) == []

    def test_all_of_a_datalist_are_told_in_its_order(
        self, sections: Sections, found: Found
    ) -> None:
        sections["training"][0]["image"] = "none.png"
        sections["training"].append(5)
        sections["validation"][0]["modality"] = "skin"

        assert [told.split(" ")[0] for told in found(sections)] == [
            "training[0]['image']",
            "training[2]",
            "validation[0]['modality']",
        ]

    def test_are_no_more_than_can_be_read(self, sections: Sections, found: Found) -> None:
        sections["training"] = [{**sections["training"][0], "image": f"{n}"} for n in range(2000)]

        assert len(found(sections)) == MOST_FAULTS + 1

    def test_say_that_there_is_no_image(self, found: Found) -> None:
        assert found({"training": [], "test": []}) == [
            "datalist must hold at least one image; got none in training, test"
        ]

    def test_name_the_sections_where_none_is_known(self, found: Found) -> None:
        assert found({"train": []}) == [
            "datalist must have a section training, validation, test; got train"
        ]
