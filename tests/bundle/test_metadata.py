from __future__ import annotations

import configparser
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from esp_medsam.modality import ModalityTable


ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "bundle" / "configs"
SCHEMA = Path(__file__).with_name("meta_schema_20240725.json")


@pytest.fixture
def metadata() -> dict[str, Any]:
    return json.loads((CONFIGS / "metadata.json").read_text(encoding="utf-8"))


@pytest.fixture
def pins(metadata: dict[str, Any]) -> dict[str, str]:
    """Exact versions by canonical name, MONAI's own three included."""
    stated = dict(metadata["required_packages_version"])
    stated["monai"] = metadata["monai_version"]
    stated["numpy"] = metadata["numpy_version"]
    stated["torch"] = metadata["pytorch_version"]
    return {canonicalize_name(name): version for name, version in stated.items()}


@pytest.fixture
def base_requirements() -> list[Requirement]:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = config["options"]["install_requires"].splitlines()
    return [Requirement(line) for line in lines if line]


class TestMetadata:
    def test_is_valid_against_the_schema_of_monai(self, metadata: dict[str, Any]) -> None:
        jsonschema.validate(metadata, json.loads(SCHEMA.read_text(encoding="utf-8")))

    def test_names_the_schema_it_is_valid_against(self, metadata: dict[str, Any]) -> None:
        assert metadata["schema"].endswith(SCHEMA.name)

    def test_changelog_has_the_version(self, metadata: dict[str, Any]) -> None:
        assert metadata["version"] in metadata["changelog"]

    def test_pred_lists_the_targets_of_the_default_modality(self, metadata: dict[str, Any]) -> None:
        targets = ModalityTable.read(CONFIGS / "targets.yaml")["ct"].targets
        pred = metadata["network_data_format"]["outputs"]["pred"]

        assert pred["channel_def"] == {str(i): t.name for i, t in enumerate(targets)}
        assert pred["num_channels"] == len(targets)

    def test_states_that_it_is_for_research_only(self, metadata: dict[str, Any]) -> None:
        assert metadata["intended_use"].startswith("Research only.")


class TestVersions:
    def test_stated_versions_meet_the_floors_of_setup_cfg(
        self, pins: dict[str, str], base_requirements: list[Requirement]
    ) -> None:
        unmet = [
            str(requirement)
            for requirement in base_requirements
            if not requirement.specifier.contains(pins[canonicalize_name(requirement.name)])
        ]

        assert unmet == []

    def test_cover_what_the_extras_of_monai_bring(
        self, pins: dict[str, str], base_requirements: list[Requirement]
    ) -> None:
        (monai,) = (r for r in base_requirements if r.name == "monai")
        packages = {"pytorch-ignite" if extra == "ignite" else extra for extra in monai.extras}

        assert packages <= set(pins)


class TestLicense:
    def test_has_a_part_for_the_code_and_one_for_the_weights(self) -> None:
        text = (ROOT / "bundle" / "LICENSE").read_text(encoding="utf-8")
        code, weights = text.split("\nPart 2. License of the Model Weights\n")

        assert "Apache License" in code
        assert "Version 2.0" in code
        assert "research" in weights
        assert "Non-commercial" in weights

    def test_code_part_is_the_license_of_the_repository(self) -> None:
        license_text = (ROOT / "LICENSE").read_text(encoding="utf-8")

        assert license_text in (ROOT / "bundle" / "LICENSE").read_text(encoding="utf-8")
