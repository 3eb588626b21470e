"""What becomes of each bad NIfTI file, all in one folder beside a good one."""

from __future__ import annotations

import gzip
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.support.nifti import save_nifti


AFFINE = np.array([[-2.0, 0, 0, 9], [0, 2, 0, -7], [0, 0, 4, 3], [0, 0, 0, 1]])
VOXELS = np.random.default_rng(0).integers(0, 900, (12, 10, 6)).astype(np.int16)

Write = Callable[[Path], None]
Ran = Any  # as the fixture ``segmented`` returns it

FIELDS = {
    "dim": (40, "<8h"),
    "datatype": (70, "<h"),
    "pixdim": (76, "<8f"),
    "vox_offset": (108, "<f"),
    "scl_slope": (112, "<f"),
    "scl_inter": (116, "<f"),
    "qform_code": (252, "<h"),
    "sform_code": (254, "<h"),
    "qoffset_x": (268, "<f"),
    "srow_x": (280, "<4f"),
    "srow_y": (296, "<4f"),
    "srow_z": (312, "<4f"),
}
"""Where a field of a NIfTI-1 header lies, and its type."""


def whole(voxels: np.ndarray = VOXELS, affine: np.ndarray = AFFINE) -> bytearray:
    return bytearray(nib.Nifti1Image(voxels, affine).to_bytes())


def with_fields(**values: tuple[float, ...] | float) -> Write:
    """Return what writes a good file with fields of its header replaced."""

    def write(path: Path) -> None:
        content = whole()
        for name, value in values.items():
            offset, form = FIELDS[name]
            struct.pack_into(
                form, content, offset, *(value if isinstance(value, tuple) else (value,))
            )
        path.write_bytes(content)

    return write


def spaced(millimeters: float) -> Write:
    return with_fields(sform_code=0, qform_code=1, pixdim=(1, 2, millimeters, 4, 0, 0, 0, 0))


def sized(*lengths: int) -> Write:
    return with_fields(dim=(3, *lengths, 1, 1, 1, 1))


def with_voxels(voxels: np.ndarray) -> Write:
    return lambda path: path.write_bytes(whole(voxels))


def packed(change: Callable[[bytearray], bytes]) -> Write:
    """Return what writes a good file packed, the packed bytes changed; its name says so."""
    return lambda path: path.with_name(f"{path.name}.gz").write_bytes(
        change(bytearray(gzip.compress(bytes(whole()))))
    )


def bomb(path: Path) -> None:
    content = whole()
    struct.pack_into("<8h", content, 40, 3, 2000, 2000, 2000, 1, 1, 1, 1)
    with gzip.open(path.with_name(f"{path.name}.gz"), "wb") as file:
        file.write(content)
        for _ in range(64):
            file.write(bytes(2**20))


def flipped(content: bytearray) -> bytes:
    content[len(content) // 2] ^= 0x10
    return bytes(content)


def not_finite(path: Path) -> None:
    voxels = VOXELS.astype(np.float32)
    voxels[3, 3, 3] = np.nan
    path.write_bytes(whole(voxels))


def color(path: Path) -> None:
    rgb = np.zeros((12, 10, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    save_nifti(path, rgb, AFFINE)


def apart(path: Path) -> None:
    """A qform that says another place than the sform."""
    image = nib.Nifti1Image(VOXELS, AFFINE)
    moved = AFFINE.copy()
    moved[:3, 3] += 30
    image.set_qform(moved, 1)
    image.set_sform(AFFINE, 1)
    nib.save(image, path)


def turned() -> np.ndarray:
    angle = np.deg2rad(20)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn @ AFFINE


CASES: dict[str, tuple[str, str, Write]] = {
    "N2 an empty file": ("E_CORRUPT", "empty", lambda path: path.touch()),
    "N3 text": ("E_FORMAT", "must be NIfTI", lambda path: path.write_text("not an image\n" * 99)),
    "N4 a packed file that was cut": ("E_CORRUPT", "cut short", packed(lambda c: c[: len(c) // 2])),
    "N5 a packed file with a changed bit": ("E_CORRUPT", "damaged", packed(flipped)),
    "N6 voxels that were cut": (
        "E_CORRUPT",
        "cut short",
        lambda path: path.write_bytes(whole()[:-100]),
    ),
    "N7 a packed file that claims 16 GB": ("E_TOO_LARGE", "together", bomb),
    "N8 dimensions of 32,767": (
        "E_TOO_LARGE",
        "together",
        sized(32767, 32767, 32767),
    ),
    "N9 a negative dimension": ("E_CORRUPT", "at least one voxel", sized(12, -10, 6)),
    "N9 a dimension of 0": ("E_CORRUPT", "at least one voxel", sized(12, 0, 6)),
    "N10 a spacing that is no number": (
        "E_GEOMETRY",
        "spacing",
        spaced(np.nan),
    ),
    "N10 a spacing of 0": (
        "E_GEOMETRY",
        "spacing",
        spaced(0),
    ),
    "N10 an infinite spacing": (
        "E_GEOMETRY",
        "spacing",
        spaced(np.inf),
    ),
    "N11 an sform that is no number": ("E_GEOMETRY", "NaN", with_fields(srow_y=(0, np.nan, 0, -7))),
    "N11 a qform that is no number": (
        "E_GEOMETRY",
        "qform",
        with_fields(sform_code=0, qform_code=1, qoffset_x=np.nan),
    ),
    "N12 a singular affine": ("E_GEOMETRY", "no length", with_fields(srow_y=(-2, 0, 0, -7))),
    "N13 a qform apart from the sform": ("done", "qform", apart),
    "N14 no position at all": (
        "done",
        "states no position",
        with_fields(qform_code=0, sform_code=0),
    ),
    "N15 several volumes": (
        "E_FORMAT",
        "frame",
        with_voxels(np.stack([VOXELS, VOXELS], axis=-1)),
    ),
    "N16 two dimensions": ("done", "", with_voxels(VOXELS[..., 0])),
    "N17 five dimensions": (
        "E_FORMAT",
        "one volume",
        with_voxels(np.zeros((4, 4, 3, 2, 2), np.int16)),
    ),
    "N17 color": ("E_FORMAT", "RGB", color),
    "N17 complex numbers": ("E_FORMAT", "complex", with_voxels(VOXELS.astype(np.complex64))),
    "N18 a voxel that is no number": ("E_NONFINITE", "NaN", not_finite),
    "N19 the same everywhere": ("done", "constant", with_voxels(np.full((12, 10, 6), 7, np.int16))),
    "N20 a slope that is no number": ("done", "as stored", with_fields(scl_slope=np.nan)),
    "N20 an infinite slope": ("E_CORRUPT", "scaling", with_fields(scl_slope=np.inf, scl_inter=0)),
    "N20 an intercept that is no number": (
        "E_CORRUPT",
        "scaling",
        with_fields(scl_slope=1, scl_inter=np.nan),
    ),
    "N21 an oblique volume": (
        "done",
        "",
        lambda path: path.write_bytes(whole(affine=turned())),
    ),
    "N22 a mirrored volume": (
        "done",
        "",
        lambda path: path.write_bytes(whole(affine=AFFINE @ np.diag([-1, 1, 1, 1]))),
    ),
}


def file_of(case: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", case)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("nifti")
    (home / "good.nii").write_bytes(whole())
    for case, (_, _, write) in CASES.items():
        write(home / f"{file_of(case)}.nii")
    return home


@pytest.fixture(scope="module")
def ran(folder: Path, segmented: Callable[..., Ran]) -> Ran:
    return segmented(folder, "--modality", "mri")


@pytest.mark.parametrize("case", CASES)
def test_comes_to_what_is_promised(case: str, ran: Ran, folder: Path) -> None:
    code, words, _ = CASES[case]
    (name,) = (
        path.name for path in folder.iterdir() if path.name.startswith(f"{file_of(case)}.nii")
    )

    outcome, told = ran.outcome(name)

    assert outcome == code, told
    assert re.search(words, told), told
    written = sorted(path.name for path in ran.out.glob(f"{file_of(case)}_seg*"))
    assert bool(written) == (outcome == "done")


@pytest.mark.parametrize("case", ["N21 an oblique volume", "N22 a mirrored volume"])
def test_mask_lies_where_its_image_lies(case: str, ran: Ran, folder: Path) -> None:
    image = nib.load(folder / f"{file_of(case)}.nii")

    mask = nib.load(ran.out / f"{file_of(case)}_seg.nii.gz")

    assert mask.shape == image.shape
    np.testing.assert_allclose(mask.affine, image.affine, atol=1e-5)


def test_good_file_beside_them_is_done_and_the_status_says_that_others_failed(ran: Ran) -> None:
    assert (ran.out / "good_seg.nii.gz").is_file()
    assert ran.status == 1
    assert "Traceback" not in ran.text
