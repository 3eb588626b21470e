from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from esp_medsam.errors import EspMedSamError, InputNotFoundError, ModalityError, OptionError
from esp_medsam.setting_checks import Given
from esp_medsam.workflows.bundle import BUNDLE_VARIABLE
from esp_medsam.workflows.pipeline import read_config
from esp_medsam.workflows.request import read_request


BUNDLE = Path(__file__).parents[3] / "bundle"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A bundle elsewhere, the same but for its weights."""
    shutil.copytree(BUNDLE / "configs", tmp_path / "copy" / "configs")
    return tmp_path / "copy"


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    return tmp_path / "overlay.yaml"


class TestReadRequest:
    def test_holds_what_was_given_typed_and_leaves_the_rest_to_the_config(self) -> None:
        request = read_request(modality="xray", slice_batch="2", device=None)

        assert request.settings == {"modality": "xray", "slice_batch": 2}
        assert request.configs == (BUNDLE / "configs" / "inference.yaml",)

    def test_what_is_given_goes_before_overlays_and_the_last_of_these_before_others(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "a.yaml").write_text("slice_batch: 2\nseries: a\nframe: 1")
        (tmp_path / "b.json").write_text('{"series": "b", "frame": 2}')

        request = read_request(None, [tmp_path / "a.yaml", tmp_path / "b.json"], frame=3)

        assert request.settings == {"slice_batch": 2, "series": "b", "frame": 3}

    def test_modality_of_one_and_targets_of_the_other_must_agree(self, overlay: Path) -> None:
        overlay.write_text("targets: [liver]")

        with pytest.raises(EspMedSamError, match="targets of xray must"):
            read_request(None, [overlay], modality="xray")

    def test_own_overlay_may_be_code_and_replaces_what_came_before(self, overlay: Path) -> None:
        overlay.write_text("input_size: [64, 64]\nslice_batch: 2")
        own = BUNDLE / "configs" / "delightsam.yaml"

        request = read_request(None, [overlay, "delightsam.yaml"])

        assert request.configs == (BUNDLE / "configs" / "inference.yaml", own)
        assert request.settings == {"slice_batch": 2}
        assert request.runs == ()

    def test_overlay_that_only_has_the_name_of_our_own_is_data(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("delightsam.yaml").write_text("network_def: {_target_: os.system, command: id}")

        with pytest.raises(OptionError, match=r"config must.*hold settings.*'network_def'"):
            read_request(None, ["delightsam.yaml"])

    def test_link_to_our_own_overlay_is_our_own(self, tmp_path: Path) -> None:
        (tmp_path / "link.yaml").symlink_to(BUNDLE / "configs" / "delightsam.yaml")

        assert len(read_request(None, [tmp_path / "link.yaml"]).configs) == 2

    @pytest.mark.parametrize("name", ["train.yaml", "metadata.json", "multi_gpu_train.yaml"])
    def test_our_own_configs_of_other_workflows_are_no_overlays(self, name: str) -> None:
        with pytest.raises(OptionError, match=f"settings of inference.yaml; .*{name}"):
            read_request(None, [name])

    def test_bundle_in_a_folder_that_configs_cannot_name_is_refused(
        self, copy: Path, tmp_path: Path
    ) -> None:
        copy.rename(tmp_path / "a#1")

        with pytest.raises(OptionError, match=r"bundle must .* # .*; got .*a#1"):
            read_request(tmp_path / "a#1")

    def test_missing_overlay_is_refused(self) -> None:
        with pytest.raises(InputNotFoundError, match=r"config must .* at none\.yaml"):
            read_request(None, ["none.yaml"])

    def test_reads_no_modality_that_the_bundle_s_own_table_lacks(self, copy: Path) -> None:
        table = copy / "configs" / "targets.yaml"
        table.write_text(
            table.read_text().replace("  fundus:", "  retina:").replace("index: 3", "index: 8")
        )

        with pytest.raises(ModalityError, match=r"retina.*got 'fundus'"):
            read_request(copy, modality="fundus")


class TestTrust:
    def test_copy_of_the_bundle_is_the_bundle(self, copy: Path) -> None:
        assert read_request(copy).root == copy

    @pytest.mark.parametrize("named", ["option", "variable"])
    def test_bundle_with_another_inference_yaml_is_code(
        self, copy: Path, monkeypatch: pytest.MonkeyPatch, named: str
    ) -> None:
        with (copy / "configs" / "inference.yaml").open("a") as file:
            file.write("# changed\n")
        monkeypatch.setenv(BUNDLE_VARIABLE, str(copy) if named == "variable" else "")
        bundle = copy if named == "option" else None

        with pytest.raises(OptionError, match=r"bundle must have the.*installed.*`trust_config`"):
            read_request(bundle)

        (line,) = read_request(bundle, trust_config=True).runs
        assert line == f"{copy / 'configs' / 'inference.yaml'}: all of it"

    def test_overlay_of_such_a_bundle_must_be_ours_too(self, copy: Path) -> None:
        with (copy / "configs" / "delightsam.yaml").open("a") as file:
            file.write("run: ['$print(1)']\n")

        with pytest.raises(OptionError, match=r"config must.*hold settings"):
            read_request(copy, ["delightsam.yaml"])

    def test_says_what_a_trusted_overlay_runs(self, overlay: Path) -> None:
        overlay.write_text(
            "slice_batch: 2\n"
            "initialize: ['$print(1)']\n"
            "network_def: {_target_: os.system, command: '%other.yaml'}\n"
        )

        request = read_request(None, [overlay], trust_config=True)

        assert request.runs == (
            f"{overlay}: initialize[0] runs $print(1)",
            f"{overlay}: network_def makes os.system",
            f"{overlay}: network_def.command runs %other.yaml",
        )
        assert request.configs[-1] == overlay
        assert request.settings == {}

    def test_plain_overlay_stays_data_where_configs_are_trusted(self, overlay: Path) -> None:
        overlay.write_text("slice_batch: 2\n")

        request = read_request(None, [overlay], trust_config=True)

        assert request.settings == {"slice_batch": 2}
        assert request.runs == ()

    def test_trusted_overlay_keeps_keys_of_its_own(self, overlay: Path) -> None:
        overlay.write_text("my_limit: 3\nslice_batch: '@my_limit'\n")

        config = read_config(read_request(None, [overlay], trust_config=True))

        assert config.get_parsed_content("settings").slice_batch == 3


class TestReadConfig:
    @pytest.mark.parametrize("text", ["$print(1)", "@modality", "%none.yaml", "@", "$"])
    def test_hands_text_of_users_on_as_it_is(self, text: str) -> None:
        config = read_config(read_request(dataset_dir=text, include=[text], series=text))

        assert config["dataset_dir"] == Given(text)
        settings = config.get_parsed_content("settings")
        assert settings.dataset_dir == text
        assert settings.include == (text,)
        assert settings.series == text
