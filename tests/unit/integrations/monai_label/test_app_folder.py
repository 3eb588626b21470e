from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from esp_medsam.errors import CheckpointHashError, DeviceError, OptionError, WeightsNotFoundError
from esp_medsam.integrations.monai_label import environment, stand_in
from esp_medsam.integrations.monai_label.app_folder import prepare_app
from esp_medsam.integrations.monai_label.settings import LabelSettings
from esp_medsam.workflows.bundle import find_bundle


SETTINGS = LabelSettings(modalities=("ct",), port=8123)


class TestPrepareApp:
    @pytest.fixture
    def app(self, tmp_path: Path) -> Path:
        folder = tmp_path / "app"
        prepare_app(folder, SETTINGS)
        return folder

    def test_holds_what_the_server_imports_and_reads(self, app: Path) -> None:
        assert "EspMedSamApp" in (app / "main.py").read_text()
        assert (app / "bundle" / "models" / "model.pt").is_file()
        assert LabelSettings.read(app) == SETTINGS
        paths = [str(app / "lib")]
        code = "import esp_medsam, pydicom._storage_sopclass_uids as u; print(esp_medsam.__file__)"
        said = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": ":".join(paths)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert said.stdout.startswith(str(app / "lib"))

    def test_again_keeps_trained_weights_and_removes_images_of_requests(self, app: Path) -> None:
        (app / "model" / "ct-1.pt").write_bytes(b"weights")
        (app / "tmp" / "image.nii.gz").write_bytes(b"image")

        prepare_app(app, SETTINGS)

        assert (app / "model" / "ct-1.pt").is_file()
        assert not list((app / "tmp").iterdir())

    def test_a_folder_of_something_else_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.txt").write_text("mine")

        with pytest.raises(OptionError, match="app must be a new or empty folder"):
            prepare_app(tmp_path, SETTINGS)

        assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]

    @pytest.fixture
    def bundle(self, tmp_path: Path) -> Path:
        return Path(shutil.copytree(find_bundle(), tmp_path / "bundle"))

    def test_weights_that_are_not_those_of_the_bundle_are_refused(
        self, tmp_path: Path, bundle: Path
    ) -> None:
        weights = bundle / "models" / "model.pt"
        weights.write_bytes(weights.read_bytes() + b"x")

        with pytest.raises(CheckpointHashError):
            prepare_app(tmp_path / "app", SETTINGS, bundle)

    def test_a_bundle_without_weights_is_refused(self, tmp_path: Path, bundle: Path) -> None:
        (bundle / "models" / "model.pt").unlink()

        with pytest.raises(WeightsNotFoundError, match="bundle must hold weights"):
            prepare_app(tmp_path / "app", SETTINGS, bundle)

    def test_a_device_that_none_is_called_is_refused(self, tmp_path: Path) -> None:
        settings = LabelSettings(modalities=("ct",), device="gpu")

        with pytest.raises(DeviceError, match="device must be cpu, cuda"):
            prepare_app(tmp_path / "app", settings)

    @pytest.mark.skipif(os.name == "nt", reason="needs permissions of POSIX")
    def test_others_cannot_look_into_it(self, app: Path) -> None:
        assert app.stat().st_mode & 0o077 == 0

    def test_configs_of_others_must_be_trusted(self, tmp_path: Path, bundle: Path) -> None:
        config = bundle / "configs" / "inference.yaml"
        config.write_text(config.read_text() + "# changed\n")

        with pytest.raises(OptionError, match="because configs are code"):
            prepare_app(tmp_path / "app", SETTINGS, bundle)
        prepare_app(tmp_path / "app", SETTINGS, bundle, trust_config=True)


class TestStandIn:
    def test_lists_the_storage_classes_of_pydicom(self) -> None:
        stand_in.install()
        stand_in.install()

        module = importlib.import_module(stand_in.NAME)

        assert module.CTImageStorage == "1.2.840.10008.5.1.4.1.1.2"
        assert sum(type(f).__name__ == "_StorageUids" for f in sys.meta_path) == 1


class TestEnvironment:
    def test_one_that_is_not_there_is_told_with_how_to_make_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(environment, "find_spec", lambda _: None)

        with pytest.raises(OptionError, match="esp-medsam label --setup"):
            environment.server_python(tmp_path)

    def test_a_python_that_numpy_1_is_not_made_for_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(environment, "NEWEST_PYTHON", (3, 9))

        with pytest.raises(OptionError, match=r"at most 3\.9 .* Name another one with --python"):
            environment.set_up(tmp_path / "env")

        assert not (tmp_path / "env").exists()

    def test_a_folder_of_something_else_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.txt").write_text("mine")

        with pytest.raises(OptionError, match="environment must be a new folder"):
            environment.set_up(tmp_path)

        assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]

    def test_a_failed_installation_is_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(environment, "REQUIREMENTS", tmp_path / "none.txt")

        with pytest.raises(OptionError, match="pip failed"):
            environment.set_up(tmp_path / "env", wheels=tmp_path)

    def test_requirements_are_those_of_the_package(self) -> None:
        """But for NumPy 1, which MONAI Label is bound to, and what needs NumPy 2."""
        lines = environment.REQUIREMENTS.read_text().splitlines()
        stated = {str(Requirement(line)) for line in lines if not line.startswith("#")}
        own = {str(Requirement(line)) for line in requires("esp-medsam") or ()}

        missing = {line for line in own if "extra" not in line and line not in stated}

        assert missing == {"numpy>=1.24", "pylibjpeg-openjpeg>=2.4"}
        assert str(Requirement("numpy>=1.26,<2")) in stated
