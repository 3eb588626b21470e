from __future__ import annotations

from pathlib import Path

import pytest

from esp_medsam.errors import OptionError, WeightsNotFoundError
from esp_medsam.workflows import bundle
from esp_medsam.workflows.bundle import BUNDLE_VARIABLE, default_root, find_bundle, model_name


CHECKOUT = Path(__file__).parents[3] / "bundle"


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(BUNDLE_VARIABLE, raising=False)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A bundle of the user's own."""
    (tmp_path / "own/configs").mkdir(parents=True)
    (tmp_path / "own/configs/inference.yaml").touch()
    (tmp_path / "own/configs/targets.yaml").touch()
    return tmp_path / "own"


class TestFindBundle:
    def test_takes_what_the_user_names_first(
        self, own: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(BUNDLE_VARIABLE, str(CHECKOUT))

        assert find_bundle(own) == own

    def test_takes_the_variable_next(self, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(BUNDLE_VARIABLE, str(own))

        assert find_bundle() == own

    def test_takes_the_checkout_of_an_editable_install(self) -> None:
        assert find_bundle() == CHECKOUT

    def test_takes_what_the_wheel_installed_last(
        self, own: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        installed = own.rename(own.parent / "bundle")
        monkeypatch.setattr(bundle, "_installed_folders", lambda: iter([Path("/none"), installed]))

        assert find_bundle() == installed

    def test_folder_that_is_no_bundle_is_refused_not_passed_over(self, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match=r"bundle must be a folder that holds .*inference"):
            find_bundle(tmp_path)

    def test_variable_that_names_no_bundle_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(BUNDLE_VARIABLE, str(tmp_path))

        with pytest.raises(OptionError, match=BUNDLE_VARIABLE):
            find_bundle()

    def test_says_how_to_name_one_where_there_is_none(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bundle, "_installed_folders", lambda: iter([Path("/none")]))

        with pytest.raises(WeightsNotFoundError, match="`bundle` or ESP_MEDSAM_BUNDLE"):
            find_bundle()


class TestDefaultRoot:
    def test_is_the_current_folder_where_that_is_a_bundle(
        self, own: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(own)

        assert default_root() == "."

    def test_is_the_bundle_found_elsewhere(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)

        assert default_root() == str(CHECKOUT)


@pytest.mark.parametrize(
    ("folder", "expected"), [("bundle", "esp_medsam"), ("liver-2", "liver-2"), ('a "b"', "a__b_")]
)
def test_a_model_is_named_for_its_folder_in_letters_that_files_take(
    tmp_path: Path, folder: str, expected: str
) -> None:
    assert model_name(tmp_path / folder) == expected
