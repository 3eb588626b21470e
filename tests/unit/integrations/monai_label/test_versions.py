from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from esp_medsam.errors import OptionError
from esp_medsam.integrations.monai_label.versions import Versions


BETTER: dict[str, Any] = {"is_better": True, "weights_sha256": "b"}
WORSE: dict[str, Any] = {"is_better": False, "weights_sha256": "w"}


@pytest.fixture
def app(tmp_path: Path) -> Path:
    make_bundle(tmp_path / "bundle")
    return tmp_path


def make_bundle(folder: Path, table: str = "modalities: {}", weights: str = "1") -> Path:
    (folder / "configs").mkdir(parents=True, exist_ok=True)
    (folder / "models").mkdir(exist_ok=True)
    (folder / "configs" / "targets.yaml").write_text(table)
    (folder / "models" / "model.pt").write_text(weights)
    return folder


def add(app: Path, stated: dict[str, Any], **bundle: str) -> str:
    return Versions(app).add("ct", make_bundle(app / "new", **bundle), stated).name


class TestCurrent:
    def test_is_the_bundle_s_own_before_any_training(self, app: Path) -> None:
        current = Versions(app).current("ct")

        assert (current.name, current.bundle) == ("shipped", app / "bundle")

    def test_is_the_newest_that_was_better(self, app: Path) -> None:
        names = [add(app, stated) for stated in (BETTER, BETTER, WORSE)]

        assert names == ["1", "2", "3"]
        assert Versions(app).current("ct").name == "2"
        assert Versions(app).current("mri").name == "shipped"

    def test_is_the_bundle_s_own_once_that_has_other_weights(self, app: Path) -> None:
        """A new release is not passed over for what was trained from an old one."""
        add(app, BETTER)
        make_bundle(app / "bundle", weights="2")

        assert Versions(app).current("ct").name == "shipped"
        assert Versions(app).named("ct", "1").stated["weights_sha256"] == "b"


class TestVersions:
    def test_are_there_after_a_restart_with_what_was_stated(self, app: Path) -> None:
        add(app, {**WORSE, "seconds": 7})

        stored = Versions(app).named("ct", "1")

        assert stored.stated["seconds"] == 7
        assert (stored.bundle / "models" / "model.pt").read_text() == "1"
        assert not (app / "new").exists()

    def test_are_in_order_beyond_nine(self, app: Path) -> None:
        for _ in range(11):
            add(app, BETTER)

        names = [version.name for version in Versions(app).all("ct")]

        assert names == ["shipped", *map(str, range(1, 12))]

    def test_with_other_targets_are_left_out(self, app: Path) -> None:
        """Their labels would mean something else."""
        add(app, BETTER, table="modalities: {ct: 6}")

        assert [version.name for version in Versions(app).all("ct")] == ["shipped"]

    def test_a_folder_that_training_did_not_finish_is_none(self, app: Path) -> None:
        make_bundle(app / "versions" / "ct" / "1")

        assert [version.name for version in Versions(app).all("ct")] == ["shipped"]
        assert add(app, BETTER) == "2"

    @pytest.mark.parametrize(
        ("file", "text"),
        [("version.json", "{"), ("version.json", "{}"), ("configs/targets.yaml", None)],
    )
    def test_that_are_damaged_are_left_out(self, app: Path, file: str, text: str | None) -> None:
        add(app, BETTER)
        add(app, BETTER)
        path = app / "versions" / "ct" / "2" / file
        path.unlink() if text is None else path.write_text(text)

        assert Versions(app).current("ct").name == "1"

    @pytest.mark.parametrize("name", ["2", "", "../bundle", "01"])
    def test_another_name_is_refused(self, app: Path, name: str) -> None:
        add(app, BETTER)

        with pytest.raises(OptionError, match="version must be one of current, shipped, 1"):
            Versions(app).named("ct", name)
