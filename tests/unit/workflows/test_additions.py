from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from esp_medsam.errors import TableError
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.additions import PALETTE, read_additions


CODE = '{value: "1", scheme: SCT, meaning: Thing}'
OLD = f"""
neutral_dicom_modalities: [OT]
modalities:
  xray:
    index: 1
    dicom_modalities: [DX]
    targets:
      lungs: {{label: 3, category: {CODE}, type: {CODE}, color: [90, 180, 235]}}
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    (tmp_path / "old.yaml").write_text(OLD)
    return tmp_path / "old.yaml"


def write(folder: Path, text: str) -> Path:
    (folder / "new.yaml").write_text(text)
    return folder / "new.yaml"


class TestReadAdditions:
    def test_a_new_target_gets_label_color_tier_and_adapter(
        self, old: Path, tmp_path: Path
    ) -> None:
        new = write(
            tmp_path,
            f"modalities: {{xray: {{targets: {{heart: {{category: {CODE}, type: {CODE}}}}}}}}}",
        )

        added = read_additions(new, old)

        lungs, heart = added.table["xray"].targets
        assert lungs == ModalityTable.read(old)["xray"].targets[0]
        assert (heart.label, heart.tier, heart.adapter) == (4, "experimental", True)
        assert heart.color in PALETTE
        assert heart.color != lungs.color
        assert added.targets == (("xray", "heart"),)
        assert added.trained == (
            "modality_query.targets.xray.heart.*",
            "prompt_generator.heads.xray.heart.*",
            "target_adapters.adapters.xray.heart.*",
        )

    def test_a_new_modality_gets_the_next_index_and_no_adapters(
        self, old: Path, tmp_path: Path
    ) -> None:
        rows = ", ".join(f"{name}: {{category: {CODE}, type: {CODE}}}" for name in ("rim", "cup"))
        new = write(tmp_path, f"modalities: {{oct: {{targets: {{{rows}}}}}}}")

        added = read_additions(new, old)

        oct_ = added.table["oct"]
        assert oct_.index == 8
        assert [(t.name, t.label, t.adapter) for t in oct_.targets] == [
            ("rim", 1, False),
            ("cup", 2, False),
        ]
        assert oct_.targets[0].color != oct_.targets[1].color
        assert added.trained[0] == "image_encoder.*.controllers.oct.*"
        assert len(added.trained) == 1 + 2 * 2
        assert added.table.names == ("xray", "oct")

    def test_what_is_said_is_taken(self, old: Path, tmp_path: Path) -> None:
        said = "label: 9, color: [1, 200, 3], tier: ready, adapter: false"
        new = write(
            tmp_path,
            f"modalities: {{xray: {{targets: {{heart: {{category: {CODE}, type: {CODE}, "
            f"{said}}}}}}}}}",
        )

        heart = read_additions(new, old).table["xray"].targets[1]

        assert (heart.label, heart.color, heart.tier, heart.adapter) == (
            *(9, (1, 200, 3), "ready"),
            False,
        )

    def test_its_text_is_the_same_table(self, old: Path, tmp_path: Path) -> None:
        new = write(
            tmp_path,
            f"modalities: {{oct: {{targets: {{rim: {{category: {CODE}, type: {CODE}}}}}}}}}",
        )

        added = read_additions(new, old)

        assert ModalityTable.of(yaml.safe_load(added.text), "text") == added.table

    def test_the_network_stays_as_it_is_made(self, old: Path, tmp_path: Path) -> None:
        old.write_text(f"{OLD}presence: true\nprompt: soft\n")
        row = f"targets: {{rim: {{category: {CODE}, type: {CODE}}}}}"

        added = read_additions(write(tmp_path, f"modalities: {{oct: {{{row}}}}}"), old)

        assert (added.table.presence, added.table.prompt) == (True, "soft")
        assert ModalityTable.of(yaml.safe_load(added.text), "text") == added.table

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("[]", "must hold a mapping as modalities"),
            ("modalities: {}", "must name at least one target that is new"),
            ("modalities: {xray: 3}", "must hold a mapping as targets; got None"),
            ("modalities: {xray: {targets: {lungs: {}}}}", "xray has lungs already"),
            ("modalities: {xray: {index: 1, targets: {a: {}}}}", "got index"),
            ("{modalities: {xray: {targets: {}}}, neutral: []}", "got also neutral"),
            ("{modalities: {xray: {targets: {}}}, presence: true}", "got also presence"),
            ("modalities: {xray: {targets: {heart: {}}}}", "heart must have category, type"),
            ("modalities: {xray: {targets: {heart: 3}}}", "heart must be a mapping; got 3"),
            ("modalities: {Oct: {targets: {a: {}}}}", "must have names of a-z"),
            ("modalities: {oct: {index: 1, targets: {a: {}}}}", "index must be at least 8"),
        ],
    )
    def test_refuses_what_is_no_addition(
        self, old: Path, tmp_path: Path, text: str, problem: str
    ) -> None:
        with pytest.raises(TableError) as caught:
            read_additions(write(tmp_path, text), old)

        assert problem in str(caught.value)
        assert "new.yaml" in str(caught.value)
