"""docs/reference/transforms.md says what there is."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monai.bundle import ConfigParser

from esp_medsam import transforms
from esp_medsam.transforms.augmentation import RULES
from esp_medsam.transforms.by_modality import DEFAULTS, ModalityTransforms


PAGE = Path(__file__).parents[3] / "docs" / "reference" / "transforms.md"


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


class TestReferencePage:
    def test_names_every_transform_that_the_table_takes(self, page: str) -> None:
        offered = {
            name
            for name in transforms.__all__
            if f"{name}d" in transforms.__all__ or name.startswith("Measure")
        } - {"LabelMap", "MeasureImage", "MeasureImaged"}

        assert offered - set(re.findall(r"`([A-Z]\w+)`", page)) == set()

    def test_its_options_and_their_defaults_are_those_of_the_code(self, page: str) -> None:
        told: dict[str, dict[str, str]] = {}
        for row in re.findall(r"^\| `[A-Z].*\|$", page, re.MULTILINE):
            names, *others, options = (cell.strip() for cell in row.strip("|").split("|"))
            stated = dict(re.findall(r"`([a-z_]+)`,? ?([^`]*)", options))
            if len(others) == 2:  # the table of costs has more
                told = dict.fromkeys(re.findall(r"`(\w+)`", names), stated) | told

        assert len(told) > 25
        for name, options in told.items():
            stated = inspect.signature(getattr(transforms, name)).parameters
            assert options.keys() == stated.keys(), name
            for option, text in options.items():
                default = stated[option].default
                if default is not inspect.Parameter.empty:
                    stated_one, own = np.ravel(_literal(text)), np.ravel(default)
                    assert stated_one.tolist() == own.tolist(), f"{name}, {option}"

    def test_its_example_is_a_config_that_names_what_it_says(
        self, page: str, tmp_path: Path
    ) -> None:
        (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
        (tmp_path / "overlay.yaml").write_text(example)
        parser = ConfigParser()
        parser.read_config(tmp_path / "overlay.yaml")

        chosen = parser.get_parsed_content("transforms")

        assert {type(row) for row in chosen.values()} == {ModalityTransforms}
        names = {
            modality: [type(step).__name__ for step in (*row.measure, *row.native, *row.shown)]
            for modality, row in chosen.items()
        }
        assert names == {
            "fundus": ["CropToFieldOfView", "Clahe"],
            "ct": ["MeasureBody", "PaddingToAir", "ClipMetal"],
            "mri": ["MeasureBiasField", "MeasurePercentiles"],
        }
        assert list(chosen["ct"].intensity.hounsfield) == [-200.0, 300.0]

    def test_tells_the_defaults_and_what_training_allows(self, page: str) -> None:
        hounsfield = DEFAULTS["ct"].intensity.hounsfield

        assert f"| ct | {hounsfield[0]:g} and {hounsfield[1]:g} HU" in page
        for modality, rule in RULES.items():
            color = f"{100 * rule.color:g} %" if rule.color else "no"
            row = next(r for r in page.splitlines() if re.match(rf"\| {modality} \|.*degrees", r))
            cells = [cell.strip() for cell in row.split("|")]
            assert cells[4] == f"{rule.rotation:g} degrees"
            assert cells[5] == f"{100 * rule.scale:g} %"
            assert cells[6] == f"{100 * rule.gain:g} %, {rule.offset:g}"
            assert cells[7] == color
            assert cells[3] == ("yes" if rule.turn else "no")

    def test_shows_a_picture_that_is_there_and_light(self, page: str) -> None:
        (picture,) = re.findall(r"!\[[^]]+\]\(([^)]+)\)", page)

        assert (PAGE.parent / picture).stat().st_size < 400_000


def _literal(text: str) -> Any:
    """Return the value that a default in the table is written as."""
    (written,) = re.findall(r"^(\[.*?\]|\(.*?\)|[-\d./]+|[a-z]+)", text)
    if "/" in written:
        above, below = written.split("/")
        return float(above) / float(below)
    words = {"false": False, "true": True}
    return words.get(written, written) if written.isalpha() else ast.literal_eval(written)
