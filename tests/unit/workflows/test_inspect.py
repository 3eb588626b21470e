from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import SimpleITK
import torch
from pydicom.uid import SecondaryCaptureImageStorage
from torch import Tensor

from esp_medsam.errors import (
    EmptyInputError,
    InputNotFoundError,
    ModalityError,
    explain,
)
from esp_medsam.image import Image, image_of
from esp_medsam.inferers.preparation import Slices
from esp_medsam.io.item import Item
from esp_medsam.io.raster import read_raster
from esp_medsam.modality import ModalityTable
from esp_medsam.transforms.by_modality import ModalityTransforms
from esp_medsam.workflows import inspect
from esp_medsam.workflows.describe import Description
from esp_medsam.workflows.inspect import (
    Inspection,
    build_inspection,
)
from esp_medsam.workflows.inspect_prepared import build_prepared_inspection, network_view
from esp_medsam.workflows.pipeline import read_config
from esp_medsam.workflows.request import Request, read_request
from tests.support.networks import Prediction
from tests.support.nifti import save_nifti
from tests.support.shipped_dicom import copy_stack


Build = Callable[..., Inspection]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def build(folder: Path) -> Build:
    """Builds an inspection for a small network: prepared where it must be, or on ``prepared``."""

    def build_(
        path: Path = folder, *, draw: bool = False, prepared: bool = False, **options: Any
    ) -> Inspection:
        request = asked(path, **options)
        if draw or prepared or "transforms" in options:
            return build_prepared_inspection(request, draw=draw)
        return build_inspection(request)

    return build_


def asked(path: Path, **options: Any) -> Request:
    return read_request(dataset_dir=path, device="cpu", input_size=[64, 96], **options)


def picture(path: Path, value: int = 200, mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new(mode, (30, 20), value if mode == "L" else (value, 0, 0)).save(path)
    return path


def volume(path: Path, least: int = -1000) -> Path:
    voxels = np.linspace(least, 1000, 12 * 10 * 20).reshape(12, 10, 20).astype(np.int16)
    save_nifti(path, voxels, np.diag([0.5, 0.5, 4.0, 1.0]))
    return path


def only(inspection: Inspection) -> Description:
    (result,) = inspection.results()
    assert result.description is not None, result
    return result.description


class TestResults:
    def test_describe_what_the_user_s_modality_makes_of_a_volume(
        self, folder: Path, build: Build
    ) -> None:
        volume(folder / "a.nii.gz")

        said = only(build(modality="ct"))

        assert (said.kind, said.shape, said.orientation) == ("NIfTI", (12, 10, 20), "RAS")
        assert (said.modality, said.modality_origin, said.unit) == ("ct", "user", "HU")
        assert (said.intensities, said.warnings) == ((-1000, 1000), ())

    @pytest.mark.parametrize(("ending", "kind"), [("nrrd", "NRRD"), ("mha", "MetaImage")])
    def test_describe_what_itk_writes(
        self, folder: Path, build: Build, ending: str, kind: str
    ) -> None:
        image = SimpleITK.GetImageFromArray(np.ones((4, 5, 6), np.uint8))
        image.SetSpacing((0.5, 0.6, 3.0))
        SimpleITK.WriteImage(image, str(folder / f"a.{ending}"))

        said = only(build())

        assert (said.kind, said.shape, said.orientation) == (kind, (6, 5, 4), "LPS")
        assert said.spacing == (0.5, 0.6, 3.0)

    @pytest.mark.parametrize("name", ["a.png", "a.nii.gz"])
    def test_describe_files_without_a_modality_and_pretend_none(
        self, folder: Path, build: Build, name: str
    ) -> None:
        (picture if name == "a.png" else volume)(folder / name)

        said = only(build())

        assert (said.modality, said.modality_origin, said.unit) == (None, None, None)
        assert said.intensities == ((0, 200) if name == "a.png" else (-1000, 1000))

    @pytest.mark.parametrize("modality", [None, "xray"])
    def test_files_are_read_once_with_and_without_a_modality(
        self, folder: Path, build: Build, monkeypatch: pytest.MonkeyPatch, modality: str | None
    ) -> None:
        picture(folder / "a.png")
        taken: list[Path] = []

        def counted(path: Path, *rest: Any, **options: Any) -> Image:
            taken.append(path)
            return read_raster(path, *rest, **options)

        # The package has a function of the module's name.
        monkeypatch.setattr(import_module("esp_medsam.io.read"), "read_raster", counted)

        only(build(**({} if modality is None else {"modality": modality})))

        assert taken == [folder / "a.png"]

    def test_describe_a_series_that_lies_in_several_folders_without_a_modality(
        self, folder: Path, build: Build
    ) -> None:
        other = {"SOPClassUID": SecondaryCaptureImageStorage, "Modality": "OT"}
        for k in range(3):
            copy_stack(folder / f"{k}", [5 * k], f"1.2.{k}", **other)

        results = list(build().results())

        assert [result.description and result.description.shape for result in results] == 3 * [
            (128, 128)
        ]

    def test_values_do_not_depend_on_whether_there_is_a_modality(
        self, folder: Path, build: Build
    ) -> None:
        volume(folder / "a.nii.gz")

        without, with_one = only(build()), only(build(modality="mri"))

        assert without.intensities == with_one.intensities
        assert without.dtype == with_one.dtype

    @pytest.mark.parametrize("modality", [None, "ct", "mri"])
    def test_are_the_same_whether_prepared_or_read_alone(
        self, folder: Path, build: Build, shipped: Callable[[str], Path], modality: str | None
    ) -> None:
        volume(folder / "a.nii.gz")
        picture(folder / "b.png", mode="L")
        (folder / "c.nii").write_bytes(b"no volume")
        for name in ("CT_small.dcm", "MR_small.dcm", "examples_palette.dcm"):
            (folder / name).write_bytes(shipped(name).read_bytes())

        alone, prepared = (build(modality=modality, prepared=p) for p in (False, True))

        told = [list(inspection.results()) for inspection in (alone, prepared)]
        assert told[0] == told[1]

    def test_one_bad_file_is_refused_alone(self, folder: Path, build: Build) -> None:
        picture(folder / "a.png")
        (folder / "b.png").write_bytes(b"no picture")
        (folder / "notes.txt").write_text("x")
        inspection = build(modality="fundus")

        good, bad = inspection.results()

        assert good.status == "read"
        assert bad.has_failed
        assert (bad.source, bad.volume, bad.code) == (str(folder / "b.png"), None, "E_FORMAT")
        assert len(inspection) == 2
        assert "1 other file (notes.txt)" in inspection.left_alone

    def test_names_that_clash_are_refused_as_they_would_be(
        self, folder: Path, build: Build
    ) -> None:
        picture(folder / "a.png")
        picture(folder / "a.jpg")

        results = list(build(modality="fundus").results())

        codes = [result.code for result in results]
        assert codes == ["E_NAME_CLASH"] * 2

    def test_what_segmenting_would_refuse_is_refused(self, folder: Path, build: Build) -> None:
        picture(folder / "a.png")

        (result,) = build(modality="ct").results()

        assert result.has_failed
        assert result.code == "E_FORMAT"
        assert "Hounsfield" in result.message

    def test_options_reach_the_reader(self, folder: Path, build: Build) -> None:
        picture(folder / "a.png", mode="L")

        said = only(build(modality="ct", ct_input="windowed", exclude=["b*"]))

        assert (said.modality, said.unit) == ("ct", None)

    def test_unexpected_errors_are_told_without_their_text(
        self, folder: Path, build: Build, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*args: object, **options: object) -> None:
            msg = "Patient^Jane"
            raise KeyError(msg)

        picture(folder / "a.png")
        monkeypatch.setattr(inspect, "describe", fail)

        (result,) = build(modality="fundus").results()

        assert result.has_failed
        assert result.code == "E_INTERNAL"
        assert "Jane" not in result.message

    def test_a_missing_window_is_not_taken_for_a_missing_modality(
        self, folder: Path, build: Build
    ) -> None:
        volume(folder / "a.nii.gz")
        inspection = build(modality="ct")

        def fail(item: Item) -> Image:
            msg = "An image in HU must be of a modality with a window."
            raise ModalityError(msg)

        inspection.read = fail
        (result,) = inspection.results()

        assert result.has_failed
        assert result.code == "E_MODALITY"


class TestBuildInspection:
    def test_refuses_a_path_that_is_not_there(self, build: Build, tmp_path: Path) -> None:
        with pytest.raises(InputNotFoundError, match="none must be an existing"):
            build(tmp_path / "none")

    def test_refuses_a_folder_without_an_image(self, build: Build) -> None:
        with pytest.raises(EmptyInputError):
            build()

    def test_refuses_an_unknown_modality(self, folder: Path, build: Build) -> None:
        picture(folder / "a.png")

        with pytest.raises(ModalityError, match="got 'ray'"):
            build(modality="ray")

    def test_refuses_an_unknown_option_before_anything_is_read(
        self, folder: Path, build: Build
    ) -> None:
        picture(folder / "a.png")

        with pytest.raises(Exception) as caught:  # noqa: PT011  # MONAI wraps ours
            build(modality="ct", ct_input="bytes")

        assert str(explain(caught.value)).startswith("E_OPTION: ct_input must")

    def test_needs_no_weights(self, folder: Path, build: Build) -> None:
        picture(folder / "a.png")

        assert only(build(modality="fundus", ckpt_path="none.pt")).modality == "fundus"


class Recorder:
    """A network that keeps what it is given to see."""

    def __init__(self, table: ModalityTable) -> None:
        self.modalities, self.targets = table.indices, table.target_names
        self.given: list[Tensor] = []

    def parameters(self) -> list[Tensor]:
        return [torch.zeros(1)]

    def encode(self, image: Tensor, modality: Tensor) -> Tensor:
        self.given.append(image)
        return image

    def decode(self, encoded: Tensor, modality: Tensor, places: list[int], _: None) -> Prediction:
        return Prediction(encoded[:, :1].expand(-1, len(places), -1, -1))


class TestDrawing:
    @pytest.mark.parametrize("resize", ["fit", "stretch"])
    @pytest.mark.parametrize("name", ["a.png", "a.nii.gz"])
    def test_shows_what_the_network_is_given(
        self, folder: Path, table: ModalityTable, name: str, resize: str
    ) -> None:
        path = (picture if name == "a.png" else volume)(folder / name)
        modality = "fundus" if name == "a.png" else "ct"
        config = read_config(asked(folder, modality=modality, resize=resize))
        inferer, network = config.get_parsed_content("inferer"), Recorder(table)
        image = config.get_parsed_content("preprocessing")({"image": str(path)})["image"]

        inferer(image[None], network)

        slices = Slices(image.as_tensor(), image_of(image.meta))
        given = torch.cat(network.given)
        assert len(given) == len(slices)
        mean, std = (np.array(v).reshape(3, 1, 1) for v in (inferer.pixel_mean, inferer.pixel_std))
        for index, normalized in enumerate(given):
            drawn = network_view(slices, index, inferer).transpose(2, 0, 1).astype(np.float64)
            expected = np.clip(normalized.numpy() * std + mean, 0, 1) * 255
            np.testing.assert_allclose(drawn, expected, atol=0.51)

    def test_spreads_tiles_over_a_volume_and_numbers_them(self, folder: Path, build: Build) -> None:
        volume(folder / "a.nii.gz")
        inspection = build(modality="ct", draw=True)

        only(inspection)

        assert [tile.place for tile in inspection.tiles] == [
            f"slice {index} (0-19)" for index in (1, 3, 5, 7, 10, 12, 14, 16, 18)
        ]
        assert {tile.pixels.shape for tile in inspection.tiles} == {(64, 96, 3)}
        assert {tile.name for tile in inspection.tiles} == {"a"}

    def test_pictures_are_drawn_once(self, folder: Path, build: Build) -> None:
        picture(folder / "a.png")
        picture(folder / "x/b.png")
        inspection = build(modality="fundus", draw=True)

        list(inspection.results())

        assert [(tile.name, tile.place) for tile in inspection.tiles] == [("a", ""), ("x/b", "")]

    def test_transforms_of_the_modality_are_shown(self, folder: Path, build: Build) -> None:
        picture(folder / "a.png", value=255)
        inverted = {"fundus": ModalityTransforms(shown=[lambda img: 1.0 - img])}
        inspection = build(modality="fundus", transforms=inverted, draw=True)

        only(inspection)

        (tile,) = inspection.tiles
        assert (tile.pixels[:64] == (0, 255, 255)).all()

    def test_without_a_modality_there_is_nothing_to_draw(self, folder: Path, build: Build) -> None:
        picture(folder / "a.png")
        inspection = build(draw=True)

        (result,) = inspection.results()

        assert result.has_failed
        assert result.code == "E_MODALITY"
        assert inspection.tiles == []

    def test_a_full_sheet_takes_no_more_and_counts_what_is_left(
        self, folder: Path, build: Build, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(inspect, "MOST_TILES", 2)
        for name in "abcd":
            picture(folder / f"{name}.png")
        inspection = build(modality="fundus", draw=True)

        results = list(inspection.results())

        assert len(results) == 4
        assert [tile.name for tile in inspection.tiles] == ["a", "b"]
        assert inspection.undrawn == 2
