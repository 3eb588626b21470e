"""Each block in README, the model card and the docs runs in a test, or its page says why not."""

from __future__ import annotations

import csv
import json
import pkgutil
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
import SimpleITK
import skimage
import torch
import yaml
from pydicom import dcmread
from pydicom.data import get_testdata_file

from esp_medsam.cli.main import main
from esp_medsam.modality import ModalityTable
from esp_medsam.networks import build_released
from esp_medsam.networks.checkpoints import to_delightsam
from esp_medsam.settings import given_settings
from esp_medsam.training_settings import TrainSettings
from tests.support.shipped_dicom import copy_shipped, copy_stack


ROOT = Path(__file__).parents[2]
PAGES = [
    path.relative_to(ROOT).as_posix()
    for path in (
        *(ROOT / name for name in ("README.md", "AGENTS.md", "CONTRIBUTING.md")),
        ROOT / "bundle/docs/README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    )
]
ACCOUNTED = {"bash", "shell", "console", "python", "yaml"}
SMALL = [
    "--input_size",
    "64",
    "--epochs",
    "1",
    "--batch_size",
    "2",
    "--device",
    "cpu",
    "--config",
    "few.yaml",
]
"""What makes a training small enough for a test."""

RunPage = Callable[..., None]


def pages_that_run() -> set[str]:
    """The pages that tests of this folder hand to ``run_page``, or read with ``blocks_of``."""
    sources = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.rglob("*.py")]
    return set(re.findall(r"(?:run_page|blocks_of)\(\s*\"([^\"]+)\"", "\n".join(sources)))


def is_there(name: str) -> bool:
    """Whether a dotted name is a module of the package, or what one of them holds."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A CT volume, alone and in a folder of scans; what is returned is the first."""
    voxels = np.random.default_rng(0).integers(-900, 900, (40, 36, 3)).astype(np.int16)
    (tmp_path / "scans").mkdir()
    for name in ("scan.nii.gz", "scans/scan.nii.gz"):
        nib.save(nib.Nifti1Image(voxels, np.diag([1.0, 1.0, 5.0, 1.0])), tmp_path / name)
    return tmp_path / "scan.nii.gz"


@pytest.fixture
def datalist(tmp_path: Path) -> Path:
    """A datalist of two CT volumes with a liver in each section."""
    rng = np.random.default_rng(0)
    sections: dict[str, list[dict[str, Any]]] = {}
    for section in ("training", "validation", "test"):
        for number in range(2):
            name = f"{section}{number}"
            voxels = rng.integers(-100, 100, (40, 36, 2)).astype(np.int16)
            mask = np.zeros(voxels.shape, np.uint8)
            mask[8:24, 8:24] = 1
            for kind, array in (("", voxels), ("_liver", mask)):
                nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / f"{name}{kind}.nii.gz")
            item = {"image": f"{name}.nii.gz", "modality": "ct"}
            item["labels"] = {"liver": f"{name}_liver.nii.gz"}  # type: ignore[assignment]  # JSON
            sections.setdefault(section, []).append(item)
    (tmp_path / "datalist.json").write_text(json.dumps(sections))
    return tmp_path / "datalist.json"


class TestAccount:
    @pytest.mark.parametrize("page", PAGES)
    def test_a_block_runs_or_has_a_reason_above_it(
        self, page: str, blocks_of: Callable[..., Any]
    ) -> None:
        runs = page in pages_that_run()

        unaccounted = [
            f"line {block.line}: {block.language or 'a block must name its language'}"
            for block in blocks_of(page)
            if (block.language in ACCOUNTED or not block.language)
            and not (block.reason or (runs and block.language))
        ]

        assert unaccounted == []

    @pytest.mark.parametrize("page", PAGES)
    def test_no_fence_or_reason_escapes_the_reader(
        self, page: str, blocks_of: Callable[..., Any]
    ) -> None:
        text, blocks = (ROOT / page).read_text(encoding="utf-8"), blocks_of(page)

        assert len(re.findall(r"^\s*(?:```|~~~)", text, re.M)) == 2 * len(blocks)
        assert text.count("not run in tests") == sum(bool(block.reason) for block in blocks)

    def test_pages_that_run_exist(self) -> None:
        assert pages_that_run() <= set(PAGES)


class TestNames:
    @pytest.mark.parametrize("page", [page for page in PAGES if "/decisions/" not in page])
    def test_files_and_objects_of_the_package_that_a_page_names_exist(self, page: str) -> None:
        text = (ROOT / page).read_text(encoding="utf-8")
        files = re.findall(r"\besp_medsam(?:/\w+)+\.py\b", text)
        objects = re.findall(r"(?<![\w/])esp_medsam(?:\.[A-Za-z_]\w*)+", text)

        assert [name for name in files if not (ROOT / name).is_file()] == []
        assert [name for name in objects if not is_there(name)] == []


class TestReadme:
    def test_its_commands_and_its_lines_of_python_save_results(
        self, run_page: RunPage, scans: Path
    ) -> None:
        run_page("README.md")

        for name in ("scan_seg.nii.gz", "scan_seg_preview.png", "scan_seg.json"):
            assert (scans.parent / "out" / name).is_file()


class TestModelCard:
    def test_its_commands_segment_in_the_folder_of_the_bundle(
        self, run_page: RunPage, scans: Path, tmp_path: Path
    ) -> None:
        shutil.copytree(ROOT / "bundle", tmp_path, dirs_exist_ok=True)
        (tmp_path / "scans").rename(tmp_path / "DIR")

        run_page("bundle/docs/README.md")

        assert (tmp_path / "OUT/scan_seg.nii.gz").is_file()
        assert (tmp_path / "LIVERS/scan_seg.nii.gz").is_file()


class TestTutorials:
    def test_a_first_mask_is_made_and_looked_at_as_the_page_shows(
        self, run_page: RunPage, blocks_of: Callable[..., Any], capsys: Any
    ) -> None:
        outputs = [
            b.content for b in blocks_of("docs/tutorials/first-mask.md") if b.language == "text"
        ]

        run_page("docs/tutorials/first-mask.md")
        assert main(["segment", "retina.jpg", "out"]) == 1

        printed = "".join(capsys.readouterr())
        assert [text for text in outputs if text not in printed] == []
        assert "(1411, 1411) uint8 [0 1]" in printed
        assert "warnings []" in printed
        assert Path("out/retina_seg_preview.jpg").is_file()


class TestExplanation:
    def test_the_first_rooms_show_what_the_page_says(
        self, run_page: RunPage, scans: Path, capsys: Any
    ) -> None:
        run_page("docs/explanation/how-an-image-travels.md")

        first, second = capsys.readouterr().out.splitlines()
        assert first == "None (40, 36, 3) (1.0, 1.0, 5.0)"
        assert second == "ct user HU assumed"


class TestHowTo:
    def test_a_folder_is_segmented_and_tabled_and_what_fails_is_told(
        self, run_page: RunPage, blocks_of: Callable[..., Any], scans: Path, capsys: Any
    ) -> None:
        folder = scans.parent / "scans"
        for name in ("a", "b"):
            (folder / name).mkdir()
            shutil.copyfile(scans, folder / name / "ct.nii.gz")
        (folder / "scan.nii.gz").unlink()
        (told,) = (b.content for b in blocks_of("docs/how-to/folder.md") if b.language == "text")

        run_page("docs/how-to/folder.md")
        kept = capsys.readouterr().out
        (folder / "c").mkdir()
        (folder / "c/ct.nii.gz").write_bytes(scans.read_bytes()[:2000])
        status = main(["segment", "scans", "out", "--modality", "ct", "--preview"])

        assert "0 done, 2 kept, 0 failed; masks and records are in out.\n" in kept
        shares = sorted(path.parent.name for path in Path("shares").rglob("ct_seg.json"))
        assert shares == ["a", "b"]
        assert Path("out/a/ct_seg_preview.png").is_file()
        with Path("summary.csv").open(newline="") as file:
            assert [row["image"] for row in csv.DictReader(file)] == ["a/ct.nii.gz", "b/ct.nii.gz"]
        assert status == 1
        assert told in capsys.readouterr().err

    def test_a_network_and_the_bundle_are_exported(
        self, run_page: RunPage, blocks_of: Callable[..., Any], capsys: Any
    ) -> None:
        told = [b.content for b in blocks_of("docs/how-to/export.md") if b.language == "text"]

        run_page("docs/how-to/export.md")

        assert capsys.readouterr().out.splitlines() == [each.strip() for each in told]

    def test_a_study_is_segmented_and_its_objects_are_read_back(
        self,
        run_page: RunPage,
        blocks_of: Callable[..., Any],
        weights: Path,
        tmp_path: Path,
        capsys: Any,
    ) -> None:
        study = tmp_path / "study"
        copy_stack(study / "ct", [0, 5, 10])
        copy_shipped(study / "mr/1.dcm", like="MR_small.dcm")
        copy_stack(tmp_path / "gap", [0, 5, 20], uid="1.2.4", SeriesInstanceUID="1.2.4")
        (told,) = (b.content for b in blocks_of("docs/how-to/dicom.md") if b.language == "text")
        small = ["--ckpt_path", str(weights), "--input_size", "64"]

        run_page("docs/how-to/dicom.md", more={"segment": small})
        printed = capsys.readouterr().out
        uneven = ["segment", "gap", "out2", "--output_format", "dicom-seg,nifti", *small]
        assert main(uneven) == 1

        assert "left alone: 1 DICOM volume of another modality (1 MR)" in printed
        assert "BINARY Segmentation: liver\n1 Liver\n" in printed
        assert "1 Liver 10200004 (128, 128, 3)" in printed
        (labelmap,) = tmp_path.glob("nifti/ct/*.nii.gz")
        assert nib.load(labelmap).shape == (128, 128, 3)
        assert told in capsys.readouterr().err

    def test_official_weights_are_converted_and_used(
        self, run_page: RunPage, datalist: Path, tmp_path: Path
    ) -> None:
        official = to_delightsam(build_released("dermoscopy"), "dermoscopy")
        torch.save(official, tmp_path / "ESP_isic_best.pth")
        kept = ("SemiTViT.", "prompt_encoder.", "mask_decoder.")
        mobile_sam = {
            key.replace("SemiTViT.", "image_encoder."): value
            for key, value in official.items()
            if key.startswith(kept) and "med" not in key
        }
        torch.save(mobile_sam, tmp_path / "mobile_sam.pt")
        (tmp_path / "pictures").mkdir()
        PIL.Image.new("RGB", (40, 30)).save(tmp_path / "pictures/a.png")
        (tmp_path / "few.yaml").write_text("samples_per_epoch: 2\nwarmup_steps: 0\n")

        run_page(
            "docs/how-to/converted-weights.md",
            more={"segment": ["--input_size", "64"], "train": SMALL},
        )

        record = json.loads((tmp_path / "out/a_seg.json").read_text())
        assert record["settings"]["resize"] == "stretch"
        assert record["settings"]["pixel_mean"] == record["settings"]["pixel_std"]
        assert [target["name"] for target in record["targets"]] == ["lesion"]
        assert (tmp_path / "run1/model.pt").is_file()

    def test_python_runs_as_it_stands(self, run_page: RunPage, scans: Path) -> None:
        image = nib.load(scans)
        dataset = dcmread(get_testdata_file("MR_small.dcm"))
        picture = PIL.Image.open(Path(skimage.__path__[0]) / "data/retina.jpg").resize((96, 96))

        run_page(
            "docs/how-to/python.md",
            {
                "paths": ["scan.nii.gz"],
                "nibabel_image": image,
                "simpleitk_image": SimpleITK.ReadImage(str(scans)),
                "pydicom_dataset": dataset,
                "list_of_datasets": [dataset],
                "array": np.asarray(image.dataobj),
                "affine": image.affine,
                "picture": np.asarray(picture),
            },
        )

        assert (scans.parent / "out/scan_seg.nii.gz").is_file()


class TestReference:
    def test_configs_set_what_they_say(
        self, run_page: RunPage, scans: Path, tmp_path: Path, table: ModalityTable
    ) -> None:
        shutil.copytree(ROOT / "bundle", tmp_path / "my-bundle")

        run_page("docs/reference/configs.md")

        record = json.loads((tmp_path / "out/scan_seg.json").read_text())
        assert [target["name"] for target in record["targets"]] == ["liver"]
        assert given_settings(yaml.safe_load(Path("small.yaml").read_text()), table)

    def test_datalists_are_built_and_checked(self, run_page: RunPage, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        for folder in ("pictures", "masks", "imagesTr", "labelsTr"):
            (tmp_path / folder).mkdir()
        for number in range(10):
            pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
            mask = np.zeros((16, 16), np.uint8)
            mask[4:9, 4:9] = 255
            PIL.Image.fromarray(pixels).save(tmp_path / f"pictures/{number}.jpg")
            PIL.Image.fromarray(mask).save(tmp_path / f"masks/{number}_mask.png")
            volume = rng.integers(-100, 100, (8, 8, 2)).astype(np.int16)
            labels = np.arange(volume.size, dtype=np.uint8).reshape(volume.shape) % 4
            for name, array in (
                (f"imagesTr/{number}_0000.nii.gz", volume),
                (f"labelsTr/{number}.nii.gz", labels),
            ):
                nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / name)
        (tmp_path / "table.csv").write_text(
            "image,modality,labels.lesion,section\n"
            "pictures/1.jpg,dermoscopy,masks/1_mask.png,training\n"
            "pictures/2.jpg,dermoscopy,masks/2_mask.png,validation\n"
        )

        run_page("docs/reference/datalist.md")

        for name in ("skin", "abdomen", "listed"):
            assert json.loads((tmp_path / f"{name}.json").read_text())["training"]

    def test_two_models_are_evaluated_and_compared(
        self, run_page: RunPage, datalist: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "bundle").symlink_to(ROOT / "bundle")
        for name in ("a.pt", "b.pt"):
            shutil.copyfile(ROOT / "bundle/models/model.pt", tmp_path / name)

        run_page("docs/reference/evaluation.md")

        assert "liver" in (tmp_path / "cases.csv").read_text()
        assert (tmp_path / "a.csv").is_file()

    def test_training_starts_from_weights_and_with_another_encoder(
        self, run_page: RunPage, datalist: Path, scans: Path, tmp_path: Path
    ) -> None:
        shutil.copyfile(ROOT / "bundle/models/model.pt", tmp_path / "model.pt")
        table = (ROOT / "bundle/configs/targets.yaml").read_text()
        (tmp_path / "targets.yaml").write_text("image_encoder: tic\n" + table)
        (tmp_path / "few.yaml").write_text("samples_per_epoch: 2\nwarmup_steps: 0\n")

        run_page("docs/reference/training.md", more={"train": SMALL})

        overlay = yaml.safe_load(Path("frozen.yaml").read_text())
        assert TrainSettings.given(overlay) == {"frozen": tuple(overlay["frozen"])}
        assert (tmp_path / "out/scan_seg.nii.gz").is_file()

    # MONAI's LoadImage says so wherever there is no GPU.
    @pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")
    def test_transforms_prepare_what_is_segmented(self, run_page: RunPage, tmp_path: Path) -> None:
        (tmp_path / "bundle").symlink_to(ROOT / "bundle")
        with PIL.Image.open(Path(skimage.__path__[0]) / "data/retina.jpg") as picture:
            picture.resize((96, 96)).save(tmp_path / "retina.jpg")

        run_page("docs/reference/transforms.md")

        assert (tmp_path / "seen.png").is_file()
        record = json.loads((tmp_path / "out/retina_seg.json").read_text())
        assert "Clahe" in json.dumps(record["settings"])
