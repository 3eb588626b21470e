"""What `inspect` says of files that ship inside dependencies, and of the shared test volumes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import skimage
from pydicom import examples
from pydicom.uid import generate_uid

from esp_medsam.cli.main import main
from esp_medsam.workflows.bundle import default_root
from esp_medsam.workflows.new_bundle import new_bundle
from tests.support.shipped_dicom import copy_shipped


PICTURES = Path(skimage.__path__[0]) / "data"

Inspect = Callable[..., tuple[int, list[dict[str, Any]]]]


@pytest.fixture
def inspect(capsys: pytest.CaptureFixture[str]) -> Inspect:
    """Runs the command; returns its status and one object for each item."""

    def inspect_(path: Path, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
        status = main(["inspect", str(path), "--json", *arguments])
        shown = capsys.readouterr()
        assert "Traceback" not in shown.out + shown.err
        return status, [json.loads(line) for line in shown.out.splitlines()]

    return inspect_


class TestShippedDicom:
    @pytest.mark.parametrize(
        ("name", "kind", "modality", "shape", "unit"),
        [
            ("CT_small.dcm", "DICOM image", "ct", [128, 128, 1], "HU"),
            ("MR_small.dcm", "DICOM image", "mri", [64, 64, 1], None),
            ("examples_ybr_color.dcm", "DICOM frames", "ultrasound", [240, 320, 30], None),
            ("examples_palette.dcm", "DICOM image", "ultrasound", [350, 800], None),
        ],
    )
    def test_each_kind_is_told(
        self,
        inspect: Inspect,
        shipped: Callable[[str], Path],
        name: str,
        kind: str,
        modality: str,
        shape: list[int],
        unit: str | None,
    ) -> None:
        status, (item,) = inspect(shipped(name))

        assert status == 0
        assert (item["kind"], item["shape"], item["unit"]) == (kind, shape, unit)
        assert (item["modality"], item["modality_origin"]) == (modality, "dicom")
        assert item["file"] == str(shipped(name))

    def test_a_folder_in_depth_gives_each_series(self, inspect: Inspect, tmp_path: Path) -> None:
        for number, z in enumerate((0.0, 2.5, 5.0)):
            write_slice(tmp_path / f"in/series/{number}", z)
        shutil.copy(examples.get_path("mr"), tmp_path / "in")
        shutil.copy(examples.get_path("rt_plan"), tmp_path / "in")

        status, items = inspect(tmp_path / "in")

        assert status == 0
        image, series = sorted(items, key=lambda item: str(item["kind"]))
        assert (image["kind"], image["modality"]) == ("DICOM image", "mri")
        assert (series["kind"], series["files"], series["file"]) == ("DICOM series", 3, None)
        assert series["path"] == str(tmp_path / "in/series")
        assert (series["spacing"][2], series["orientation"]) == (2.5, "LPS")
        assert series["intensities"] == [-896, 1167]

    def test_an_uneven_stack_states_no_distance_and_warns(
        self, inspect: Inspect, tmp_path: Path
    ) -> None:
        for number, z in enumerate((0.0, 1.0, 2.0, 5.0)):
            write_slice(tmp_path / str(number), z)

        status, (item,) = inspect(tmp_path)

        assert status == 0
        assert item["spacing"][2] is None
        assert any("not evenly spaced" in warning for warning in item["warnings"])

    def test_a_conflict_is_refused_unless_forced(self, inspect: Inspect) -> None:
        path = examples.get_path("ct")

        status, (refused,) = inspect(path, "--modality", "mri")
        forced_status, (forced,) = inspect(path, "--modality", "mri", "--force_modality")

        assert (status, refused["code"]) == (1, "E_MODALITY_CONFLICT")
        assert forced_status == 0
        assert (forced["modality"], forced["modality_origin"]) == ("mri", "forced")
        assert forced["dicom_modality"] == "CT"

    def test_what_leaves_the_modality_open_is_described(
        self, inspect: Inspect, shipped: Callable[[str], Path]
    ) -> None:
        status, (item,) = inspect(shipped("SC_rgb_jpeg_gdcm.dcm"))

        assert status == 0
        assert (item["modality"], item["unit"], item["channels"]) == (None, None, 3)

    def test_what_no_modality_is_right_for_is_refused(
        self, inspect: Inspect, tmp_path: Path
    ) -> None:
        write_slice(tmp_path / "a", 0.0, Modality="PT", SOPClassUID="1.2.840.10008.5.1.4.1.1.128")

        status, (item,) = inspect(tmp_path)

        assert (status, item["code"]) == (1, "E_MODALITY")
        assert "'PT'" in item["message"]

    def test_one_series_may_be_chosen(self, inspect: Inspect, tmp_path: Path) -> None:
        uid = generate_uid()
        write_slice(tmp_path / "a", 0.0)
        write_slice(tmp_path / "b", 0.0, SeriesInstanceUID=uid)

        _, items = inspect(tmp_path, "--series", uid)

        assert [item["volume"] for item in items] == [uid]

    def test_all_of_pydicom_s_files_have_an_outcome(self, inspect: Inspect) -> None:
        folder = examples.get_path("ct").parent

        status, items = inspect(folder)

        assert status == 1
        assert "E_INTERNAL" not in {item.get("code") for item in items}
        for item in items:
            assert Path(item["path"]).exists(), item

    def test_no_patient_s_name_is_told(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        names = {"PatientName": "Canary^Jane", "PatientID": "canary-17"}
        for number, z in enumerate((0.0, 1.0, 1.0)):
            write_slice(tmp_path / f"bad/{number}", z, **names)
        write_slice(tmp_path / "good/a", 0.0, **names)

        assert main(["inspect", str(tmp_path)]) == 1
        assert main(["inspect", str(tmp_path), "--json", "--preview", f"{tmp_path}.png"]) == 1

        shown = capsys.readouterr()
        assert "canary" not in (shown.out + shown.err).lower()


def write_slice(path: Path, z: float, **attributes: str) -> None:
    """Write pydicom's CT slice in another place, as another instance."""
    placed = {"SOPInstanceUID": generate_uid(), "ImagePositionPatient": [-100.5, 20.0, z]}
    copy_shipped(path, **placed, **attributes)


class TestShippedPictures:
    def test_each_is_described_without_a_modality(self, inspect: Inspect) -> None:
        status, items = inspect(PICTURES, "--exclude", "multipage*")

        assert status == 0
        assert {item["kind"] for item in items} == {"picture"}
        assert {item["modality"] for item in items} == {None}
        shapes = {Path(item["path"]).name: (item["channels"], item["shape"]) for item in items}
        assert shapes["retina.jpg"] == (3, [1411, 1411])
        assert shapes["microaneurysms.png"] == (1, [102, 102])

    def test_several_pages_are_refused(self, inspect: Inspect) -> None:
        status, (item,) = inspect(PICTURES / "multipage.tif")

        assert (status, item["code"]) == (1, "E_FORMAT")

    def test_preview_shows_a_photograph_with_its_aspect(
        self, inspect: Inspect, tmp_path: Path
    ) -> None:
        path, sheet = PICTURES / "chelsea.png", tmp_path / "out.png"

        status, _ = inspect(path, "--modality", "dermoscopy", "--preview", str(sheet))

        assert status == 0
        with PIL.Image.open(path) as original, PIL.Image.open(sheet) as drawn:
            height = round(448 * original.height / original.width)
            small = original.resize((448, height), PIL.Image.Resampling.BILINEAR)
            tile = np.array(drawn)[-448 - 4 :, 4:452][:height]
        difference = np.abs(tile.astype(float) - np.array(small).astype(float))
        assert difference.mean() < 1.0


def test_a_modality_without_a_ready_target_is_described(inspect: Inspect, tmp_path: Path) -> None:
    shipped = Path(default_root(), "configs", "targets.yaml").read_text(encoding="utf-8")
    table, picture = tmp_path / "targets.yaml", tmp_path / "a.png"
    table.write_text(shipped.replace("tier: ready", "tier: experimental"), encoding="utf-8")
    PIL.Image.new("RGB", (30, 20), (200, 0, 0)).save(picture)

    new_bundle(tmp_path / "bundle", table)
    status, items = inspect(
        picture, "--modality", "dermoscopy", "--bundle", str(tmp_path / "bundle")
    )

    assert status == 0
    assert [item["modality"] for item in items] == ["dermoscopy"]


def test_every_shared_folder_has_an_outcome(shared: Path, inspect: Inspect) -> None:
    folders = sorted(path for path in (shared / "volumes").glob("*/*") if path.is_dir())
    assert len(folders) > 50

    for folder in folders:
        status, items = inspect(folder)

        assert status in (0, 1), folder
        codes = {item.get("code") for item in items}
        assert "E_INTERNAL" not in codes, folder
        assert status == int(not items or any("code" in item for item in items)), folder


@pytest.mark.parametrize(
    ("group", "modality"),
    [("CT", "ct"), ("MRI", "mri"), ("US", "ultrasound"), ("XR", "xray"), ("ENDO", "endoscopy")],
)
def test_shared_volumes_are_drawn(
    shared: Path, inspect: Inspect, tmp_path: Path, group: str, modality: str
) -> None:
    folder, sheet = shared / "volumes" / group, tmp_path / "out.png"

    status, items = inspect(
        folder, "--modality", modality, "--force_modality", "--exclude", "*label*", "--preview",
        str(sheet),
    )  # fmt: skip

    assert status == 0, [item for item in items if "code" in item]
    assert {item["modality"] for item in items} == {modality}
    with PIL.Image.open(sheet) as drawn:
        assert np.array(drawn).std() > 20
