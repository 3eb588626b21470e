"""DICOM-SEG before parties that did not write it: dciodvfy, dcmqi, ITK and MONAI."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # its own custom
from monai.data import PydicomReader
from pydicom import dcmread, examples
from pydicom.data import get_testdata_file
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    SecondaryCaptureImageStorage,
    VLEndoscopicImageStorage,
    VLPhotographicImageStorage,
)

from esp_medsam import io
from esp_medsam.image import Image
from esp_medsam.io import settle_modality
from esp_medsam.io.dicom_seg import SegOptions, write_dicom_seg
from esp_medsam.modality import ModalityTable
from tests.support.dicom_seg import as_stored


TABLE = ModalityTable.read(Path(__file__).parents[2] / "bundle/configs/targets.yaml")

EXPLAINED = re.compile(
    # Only a directory of a medium needs it, and an empty one is what the source states.
    r"Warning - </\w+\(00(20,0010|10,0020)\)> - Missing attribute or value that would be needed "
    r"to build DICOMDIR"
)
"""What dciodvfy may warn of though the source does not have it."""

HANDED_ON = re.compile(
    r"</(Patient\w*|Study\w*|AccessionNumber|ReferringPhysicianName|Responsible\w*|Lossy\w*)\("
)
"""Attributes that are the source's own: what is wrong with them there is wrong in ours."""

dciodvfy = pytest.mark.skipif(
    shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed"
)
PATHS = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
DCMQI = shutil.which("segimage2itkimage", path=PATHS) or ""
dcmqi = pytest.mark.skipif(not DCMQI, reason="segimage2itkimage (dcmqi) is not installed")


def stack(
    name: str,
    folder: Path,
    places: list[float],
    orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0),
) -> None:
    """Write one shipped slice as a stack, its last slice first."""
    normal = np.cross(orientation[:3], orientation[3:])
    for number, place in reversed(list(enumerate(places))):
        slice_ = get_testdata_file(name, read=True)
        slice_.SOPInstanceUID = f"{slice_.SeriesInstanceUID}.{number}"[-64:].lstrip(".0")
        slice_.file_meta.MediaStorageSOPInstanceUID = slice_.SOPInstanceUID
        slice_.ImagePositionPatient = [f"{x:.6f}" for x in (-40.5, 20.25, 7.0) + place * normal]
        slice_.ImageOrientationPatient = [f"{x:.9f}" for x in orientation]
        slice_.InstanceNumber = number + 1
        slice_.save_as(folder / f"{9 - number}.dcm")


def odd_stack(folder: Path) -> None:
    """Write the same cut to 61 x 55 pixels, frames of which begin inside a byte."""
    stack("CT_small.dcm", folder, [0, 2.5, 5, 7.5])
    for path in folder.iterdir():
        slice_ = dcmread(path)
        pixels = slice_.pixel_array[20:81, 30:85]
        slice_.Rows, slice_.Columns = pixels.shape
        slice_.PixelData = pixels.tobytes()
        slice_.save_as(path)


OBLIQUE = (0.6, 0.8, 0.0, -0.64, 0.48, 0.6)
"""Cosines of a stack that lies along no axis."""


def enhanced(folder: Path) -> None:
    parts = folder / "parts"
    parts.mkdir()
    stack("CT_small.dcm", parts, [0.0, 2.5, 5.0, 7.5])
    slices = [dcmread(path) for path in sorted(parts.iterdir())]
    converted = hd.legacy.LegacyConvertedEnhancedCTImage(
        slices, hd.UID(), series_number=2, sop_instance_uid=hd.UID(), instance_number=1
    )
    shutil.rmtree(parts)
    converted.save_as(folder / "enhanced.dcm")


def picture(sop_class: str, modality: str, **changes: Any) -> Callable[[Path], None]:
    """Write the shipped color image, or a gray one of its size, as one of another class."""

    def write(folder: Path) -> None:
        image = examples.rgb_color
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = sop_class
        image.Modality = modality
        if modality in ("CR", "DX"):
            pixels = image.pixel_array[..., 0].copy()
            image.SamplesPerPixel = 1
            image.PhotometricInterpretation = "MONOCHROME2"
            del image.PlanarConfiguration
            image.PixelData = pixels.tobytes()
            image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
        for keyword, value in changes.items():
            setattr(image, keyword, value)
        image.save_as(folder / "picture.dcm")

    return write


def copied(name: str) -> Callable[[Path], None]:
    return lambda folder: get_testdata_file(name, read=True).save_as(folder / name)


PLACED = {"FrameOfReferenceUID": "1.2.3.9", "PositionReferenceIndicator": ""}


@dataclass(frozen=True)
class Kind:
    """A kind of source.

    Attributes:
        write: Writes its files into a folder.
        modality: What it shows.
        on_a_grid: Whether its slices lie on an even grid, be it with some of them missing.
    """

    write: Callable[[Path], None]
    modality: str
    on_a_grid: bool = False


KINDS = {
    "ct": Kind(lambda f: stack("CT_small.dcm", f, [0, 2.5, 5, 7.5]), "ct", True),
    "ct_odd": Kind(odd_stack, "ct", True),
    "ct_oblique": Kind(lambda f: stack("CT_small.dcm", f, [0, 1.5, 3], OBLIQUE), "ct", True),
    "ct_with_a_gap": Kind(lambda f: stack("CT_small.dcm", f, [0, 2, 4, 10]), "ct", True),
    "ct_uneven": Kind(lambda f: stack("CT_small.dcm", f, [0, 2, 5.1]), "ct"),
    "ct_enhanced": Kind(enhanced, "ct", True),
    "mr": Kind(lambda f: stack("MR_small.dcm", f, [0, 0.8, 1.6]), "mri", True),
    "mr_slice": Kind(copied("MR_small.dcm"), "mri", True),
    "us_cine": Kind(copied("examples_ybr_color.dcm"), "ultrasound"),
    "us_image": Kind(copied("examples_rgb_color.dcm"), "ultrasound"),
    "us_palette": Kind(copied("examples_palette.dcm"), "ultrasound"),
    "cr": Kind(picture(ComputedRadiographyImageStorage, "CR", PixelSpacing=[0.2, 0.3]), "xray"),
    "dx": Kind(picture(DigitalXRayImageStorageForPresentation, "DX", **PLACED), "xray"),
    "sc": Kind(picture(SecondaryCaptureImageStorage, "OT"), "fundus"),
    "sc_placed": Kind(
        picture(SecondaryCaptureImageStorage, "OT", PixelSpacing=[0.5, 0.5], **PLACED), "fundus"
    ),
    "vl_photo": Kind(picture(VLPhotographicImageStorage, "XC"), "dermoscopy"),
    "vl_endoscopy": Kind(picture(VLEndoscopicImageStorage, "ES", **PLACED), "endoscopy"),
}


def read(kind: Kind, folder: Path) -> Image:
    folder.mkdir()
    kind.write(folder)
    return settle_modality(io.read(folder), kind.modality, TABLE)


def masks_of(image: Image, count: int) -> list[np.ndarray]:
    """Overlapping masks without any symmetry, nothing in the first plane."""
    random = np.random.default_rng(0)
    masks = []
    for place in range(count):
        mask = np.zeros(image.grid.shape, np.uint8)
        inner = tuple(slice(size // (4 + place), size * 2 // 3 + 1) for size in mask.shape)
        mask[inner] = random.random(mask[inner].shape) > 0.4
        masks.append(mask)
    return masks


def written(image: Image, path: Path, kind: str) -> list[np.ndarray]:
    """Write a DICOM-SEG of two targets, where there are, and return what it must hold."""
    (modality,) = (m for m in TABLE.modalities if m.name == image.modality)
    targets = modality.targets[:2]
    masks = masks_of(image, len(targets))
    if kind == "fractional":
        masks = [mask * np.uint8(128 + 50 * place) for place, mask in enumerate(masks)]
    options = SegOptions(kind=kind, weights_sha256="5e" * 32, settings={"input_size": [448, 448]})
    assert write_dicom_seg(path, image, masks, targets, options)
    return masks


@pytest.mark.parametrize("seg_type", ["binary", "fractional"])
@pytest.mark.parametrize("name", KINDS)
class TestEveryKindOfSource:
    def test_is_read_back_equal_by_highdicom(
        self, tmp_path: Path, name: str, seg_type: str
    ) -> None:
        image = read(KINDS[name], tmp_path / "in")
        masks = written(image, tmp_path / "seg.dcm", seg_type)

        segmentation = hd.seg.segread(tmp_path / "seg.dcm")
        options: dict[str, Any] = {
            "ignore_spatial_locations": True,
            "assert_missing_frames_are_empty": True,
        }
        if seg_type == "fractional":
            options["rescale_fractional"] = False
        uids = [source.sop_instance_uid for source in image.sources]
        frames = [source.frame for source in image.sources]
        found = (
            segmentation.get_pixels_by_source_instance(uids, **options)
            if frames[0] is None
            else segmentation.get_pixels_by_source_frame(uids[0], frames, **options)
        )

        for place, mask in enumerate(masks):
            np.testing.assert_array_equal(found[..., place], as_stored(mask, image))

    @dciodvfy
    def test_is_valid_to_dciodvfy(self, tmp_path: Path, name: str, seg_type: str) -> None:
        image = read(KINDS[name], tmp_path / "in")
        written(image, tmp_path / "seg.dcm", seg_type)
        theirs = {line for path in (tmp_path / "in").iterdir() for line in complaints(path)}

        found = [line for line in complaints(tmp_path / "seg.dcm") if not EXPLAINED.fullmatch(line)]

        assert [line for line in found if line not in theirs or not HANDED_ON.search(line)] == []


@dcmqi
@pytest.mark.parametrize("seg_type", ["binary", "fractional"])
@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.on_a_grid])
def test_dcmqi_finds_the_same_voxels_in_the_same_places(
    tmp_path: Path, name: str, seg_type: str
) -> None:
    image = read(KINDS[name], tmp_path / "in")
    masks = written(image, tmp_path / "seg.dcm", seg_type)

    subprocess.run(
        [DCMQI, "--inputDICOM", tmp_path / "seg.dcm", "--outputDirectory", tmp_path, "-t", "nrrd"],
        check=True,
        capture_output=True,
    )

    for place, mask in enumerate(masks):
        found = sitk.ReadImage(tmp_path / f"{place + 1}.nrrd")
        values = sitk.GetArrayFromImage(found)  # axes reversed: slices, rows, columns
        voxels = np.argwhere(mask)
        index = index_in(found, positions_of(voxels, image))
        assert np.count_nonzero(values) == len(voxels)
        is_fractional = dcmread(tmp_path / "seg.dcm").SegmentationType == "FRACTIONAL"
        expected = mask[tuple(voxels.T)] if is_fractional else place + 1
        np.testing.assert_array_equal(values[index[:, 2], index[:, 1], index[:, 0]], expected)


READ_WITH_MONAI = """
import sys, numpy
from monai.data import ITKReader
reader = ITKReader()
array, _ = reader.get_data(reader.read(sys.argv[1]))
numpy.save(sys.argv[2], array)
"""
"""In a process of its own: ITK's package may end an interpreter that holds others of its kind."""


@pytest.mark.parametrize("seg_type", ["binary", "fractional"])
@pytest.mark.parametrize("name", ["ct", "ct_odd"])
def test_itk_and_monai_find_the_same_frames(tmp_path: Path, name: str, seg_type: str) -> None:
    image = read(KINDS[name], tmp_path / "in")
    masks = written(image, tmp_path / "seg.dcm", seg_type)
    stored = [as_stored(mask, image) for mask in masks]
    frames = np.concatenate([planes[planes.any(axis=(1, 2))] for planes in stored])
    shown = frames * 255 if dcmread(tmp_path / "seg.dcm").BitsAllocated == 1 else frames

    command = [sys.executable, "-c", READ_WITH_MONAI, tmp_path / "seg.dcm", tmp_path / "monai.npy"]
    subprocess.run(command, check=True)
    by_monai = np.load(tmp_path / "monai.npy")
    by_itk = sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "seg.dcm"))

    for found in (by_itk, by_monai.T):
        np.testing.assert_array_equal(found[: len(shown)], shown)
        assert not found[len(shown) :].any()  # of odd length it has an empty frame more


def test_monai_s_own_reader_finds_the_same_volume(tmp_path: Path) -> None:
    image = read(KINDS["ct_oblique"], tmp_path / "in")
    # It takes segments to have one number of frames, so each has all of them here.
    always = np.eye(128, dtype=np.uint8)[..., None]
    masks = [np.maximum(mask, always) for mask in masks_of(image, 2)]
    targets = TABLE.select("ct", ["liver", "kidney"])
    write_dicom_seg(tmp_path / "seg.dcm", image, masks, targets, SegOptions())
    reader = PydicomReader()

    array, meta = reader.get_data(reader.read(tmp_path / "seg.dcm"))

    np.testing.assert_array_equal(array, np.stack(masks, axis=-1))
    np.testing.assert_allclose(meta["affine"], image.grid.affine, atol=1e-6)
    assert meta["labels"] == {"Liver": 0, "Kidney": 1}


def complaints(path: Path) -> list[str]:
    """Return what dciodvfy says is wrong, without the name of the module."""
    ended = subprocess.run(["dciodvfy", "-new", path], capture_output=True, check=False)
    lines = (ended.stderr + ended.stdout).decode("latin-1").splitlines()
    kept = [line for line in lines if line.startswith(("Error", "Warning"))]
    return [re.sub(r" - Module=<\w*>$", "", line).strip() for line in kept]


def positions_of(voxels: np.ndarray, image: Image) -> np.ndarray:
    """Return where voxels lie, LPS in mm, by the affines of their slices."""
    assert image.grid.is_positioned
    planar = np.column_stack([voxels[:, :2], np.zeros(len(voxels)), np.ones(len(voxels))])
    ras = np.einsum("nij,nj->ni", image.grid.slice_affines[voxels[:, 2]], planar)[:, :3]
    return ras * (-1.0, -1.0, 1.0)


def index_in(image: sitk.Image, positions: np.ndarray) -> np.ndarray:
    """Return the index (column, row, slice) of positions, which must be those of voxels."""
    turn = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    exact = np.linalg.solve(turn, (positions - image.GetOrigin()).T).T
    index = exact.round().astype(int)
    np.testing.assert_allclose(exact, index, atol=1e-3)
    assert (index >= 0).all()
    assert (index < image.GetSize()).all()
    return index
