from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import torch

from esp_medsam.cli.main import main
from esp_medsam.errors import CheckpointMismatchError, OptionError, OutputExistsError, TableError
from esp_medsam.inferers.calibration import (
    Calibration,
    read_calibration,
    write_calibration,
)
from esp_medsam.inferers.plausibility import Plausibility
from esp_medsam.modality import ModalityTable
from esp_medsam.networks import build_product
from esp_medsam.networks.state_dicts import load_checkpoint
from esp_medsam.workflows.bundle import find_bundle
from esp_medsam.workflows.new_bundle import new_bundle
from esp_medsam.workflows.request import read_request
from esp_medsam.workflows.weights import load_network, place_weights, record_weights


SCHEMA = Path(__file__).parents[2] / "bundle/meta_schema_20240725.json"

TARGETS = """
modalities:
  thermography:
    index: 8
    targets:
      hot_spot:
        label: 1
        category: {value: "49755003", scheme: SCT, meaning: Morphologically Abnormal Structure}
        type: {value: "52988006", scheme: SCT, meaning: Lesion}
        color: [230, 120, 50]
"""


@pytest.fixture
def targets(tmp_path: Path) -> Path:
    (tmp_path / "targets.yaml").write_text(TARGETS)
    return tmp_path / "targets.yaml"


@pytest.fixture
def made(tmp_path: Path, targets: Path) -> Path:
    new_bundle(tmp_path / "mine", targets)
    return tmp_path / "mine"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a network of that table, with what they must be beside them."""
    torch.manual_seed(0)
    network = build_product({"thermography": 8}, {"thermography": ["hot_spot"]}).eval()
    path = tmp_path_factory.mktemp("run") / "model.pt"
    torch.save(network.state_dict(), path)
    record_weights(path, network)
    return path


class TestNewBundle:
    def test_is_a_bundle_of_its_own_table_that_may_run_without_trust(
        self, made: Path, targets: Path
    ) -> None:
        request = read_request(made, modality="thermography")

        assert request.table == ModalityTable.read(targets)
        assert request.runs == ()

    def test_metadata_say_what_it_segments_and_nothing_of_the_shipped_weights(
        self, made: Path
    ) -> None:
        metadata = json.loads((made / "configs/metadata.json").read_text())

        jsonschema.validate(metadata, json.loads(SCHEMA.read_text()))
        assert metadata["network_data_format"]["outputs"]["pred"]["channel_def"] == {
            "0": "hot_spot"
        }
        assert metadata["weights"] == {}
        card = (made / "docs/README.md").read_text()
        assert "Not a medical device" in card
        assert "hot_spot" in card
        assert metadata["data_source"].startswith("Unknown; state what it was trained on, and")
        told = json.dumps(metadata) + card
        assert not any(word in told for word in ("liver", "Thirteen public sets", "Dice"))

    def test_takes_an_empty_folder_and_no_other(self, tmp_path: Path, targets: Path) -> None:
        (tmp_path / "mine").mkdir()
        new_bundle(tmp_path / "mine", targets)

        with pytest.raises(OutputExistsError, match=r"FOLDER must be.*new or empty"):
            new_bundle(tmp_path / "mine", targets)

    def test_a_table_that_breaks_a_rule_leaves_nothing(self, tmp_path: Path, targets: Path) -> None:
        targets.write_text(TARGETS.replace("label: 1", "label: 0"))

        with pytest.raises(TableError, match="label"):
            new_bundle(tmp_path / "mine", targets)
        assert not (tmp_path / "mine").exists()


class TestPlaceWeights:
    def test_the_bundle_holds_them_and_knows_them(self, made: Path, weights: Path) -> None:
        place_weights(made, weights)

        network = build_product({"thermography": 8}, {"thermography": ["hot_spot"]})
        load_network(network, made / "models/model.pt")
        assert (made / "models/model.pt").read_bytes() == weights.read_bytes()

    def test_those_of_other_targets_are_refused_and_leave_nothing(self, made: Path) -> None:
        with pytest.raises(CheckpointMismatchError):
            place_weights(made, find_bundle() / "models/model.pt")
        assert not (made / "models").exists()

    def test_commands_tell_in_a_line_each(
        self, tmp_path: Path, targets: Path, weights: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = tmp_path / "mine"

        assert main(["new-bundle", str(folder), "--targets", str(targets)]) == 0
        assert main(["pin-weights", str(folder), str(weights)]) == 0
        assert main(["pin-weights", str(folder), str(weights)]) == 1

        shown = capsys.readouterr()
        assert shown.out.splitlines() == [
            f"{folder}: a bundle of 1 target of thermography, without weights.",
            f"{weights}: copied to {folder / 'models/model.pt'}; its hash is recorded.",
        ]
        assert shown.err.startswith("E_EXISTS: BUNDLE must have no weights yet;")

    def test_take_along_what_was_measured_of_them_and_nothing_of_others(
        self, made: Path, weights: Path
    ) -> None:
        known = Plausibility(torch.ones(4, 2), {"thermography": torch.zeros(1, 2)}, 3.0)
        write_calibration(weights, Calibration(known), {})

        place_weights(made, weights)
        taken = read_calibration(made / "models/model.pt", {})
        weights.with_name("other.pt").write_bytes(weights.read_bytes())
        place_weights(made, weights.with_name("other.pt"), overwrite=True)

        assert taken is not None
        assert taken.plausibility.limit == 3.0
        assert not (made / "models/model.calibration.json").exists()

    @pytest.mark.parametrize("content", ["not json", "[]", '{"weights": []}'])
    def test_stay_where_the_metadata_of_the_bundle_are_none(
        self, made: Path, weights: Path, content: str
    ) -> None:
        place_weights(made, weights)
        before = (made / "models/model.pt").read_bytes()
        (made / "configs/metadata.json").write_text(content)

        with pytest.raises(OptionError, match=r"bundle must have metadata .*metadata\.json"):
            place_weights(made, weights, overwrite=True)

        assert (made / "models/model.pt").read_bytes() == before

    def test_fit_the_network_that_the_table_says(self, tmp_path: Path, targets: Path) -> None:
        targets.write_text(f"{TARGETS}presence: true\nprompt: soft\n")
        table, mine = new_bundle(tmp_path / "mine", targets), tmp_path / "mine"
        network = build_product(table.indices, table.target_names, presence=True, prompt="soft")
        torch.save(network.state_dict(), tmp_path / "with.pt")

        place_weights(mine, tmp_path / "with.pt")

        load_network(network, mine / "models/model.pt")
        targets.write_text(TARGETS)
        new_bundle(tmp_path / "without", targets)
        with pytest.raises(CheckpointMismatchError, match="presence"):
            place_weights(tmp_path / "without", tmp_path / "with.pt")

    def test_are_replaced_where_asked(self, made: Path, weights: Path) -> None:
        place_weights(made, weights)

        place_weights(made, weights, overwrite=True)

        assert load_checkpoint(made / "models/model.pt").keys() == load_checkpoint(weights).keys()
