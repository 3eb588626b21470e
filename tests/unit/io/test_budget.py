from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import PIL.Image
import pytest

from esp_medsam import memory
from esp_medsam.errors import TooLargeError
from esp_medsam.io import LoadMedicalImaged, read
from esp_medsam.io.budget import beside_image
from esp_medsam.modality import CleanUp, ModalityTable


GIGABYTE = 2**30


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return a function that says how many GiB of memory are free."""
    return lambda size: monkeypatch.setattr(
        memory, "available_memory", lambda: int(size * GIGABYTE)
    )


@pytest.fixture
def claimed(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a NIfTI header, and of its voxels nothing but a hole."""

    def write(*shape: int, dtype: type = np.int16) -> Path:
        header = nib.Nifti1Image(np.zeros((1, 1, 1), dtype), np.eye(4)).header
        header.set_data_shape(shape)
        header.set_slope_inter(1, 0)
        header["vox_offset"] = 352
        path = tmp_path / "a.nii"
        with path.open("wb") as file:
            file.write(header.binaryblock)
            file.truncate(352 + int(np.prod(shape)) * np.dtype(dtype).itemsize)
        return path

    return write


class TestBesideImage:
    def test_counts_the_targets_that_are_segmented(self, table: ModalityTable) -> None:
        count = len(table["ct"].targets)
        assert f"the probability of {count} targets" in beside_image(table, "ct", "all").per_voxel
        assert beside_image(table, "ct", None) == beside_image(table, "ct", ["liver"])
        assert beside_image(table, "ct", ["liver"]).of(10)["the probability of 1 target"] == 10

    def test_counts_the_most_where_the_modality_is_not_known(self, table: ModalityTable) -> None:
        assert beside_image(table, None, "all") == beside_image(table, "ct", "all")

    def test_counts_what_cleaning_up_takes(self, table: ModalityTable) -> None:
        target = replace(table["xray"].targets[0], clean_up=CleanUp(largest_component=True))
        cleaned = ModalityTable((replace(table["xray"], targets=(target,)),))

        plain, more = (beside_image(each, "xray", None).of(1) for each in (table, cleaned))

        assert more["the labelmap"] > plain["the labelmap"] + 8


class TestRead:
    def test_l6_is_refused_with_an_estimate_before_any_of_it_is_taken(
        self,
        claimed: Callable[..., Path],
        table: ModalityTable,
        free: Callable[[float], None],
        bounded: Callable[..., Any],
    ) -> None:
        """A volume of 0.3 GiB fits in 0.4, and segmenting it does not."""
        free(0.4)
        path = claimed(1024, 1024, 150)
        six = [target.name for target in table["ct"].targets[:6]]
        load = LoadMedicalImaged("image", table=table, modality="ct", targets=six)

        expected = (
            "its volume needs 0.3 GiB, the probability of 6 targets needs 0.9 GiB, the labelmap "
            "needs 0.3 GiB, the network needs 0.5 GiB, 2.0 GiB together, 0.4 GiB are free. "
            "Segment fewer targets at a time, crop or split it"
        )
        with pytest.raises(TooLargeError, match=re.escape(expected)):
            bounded(load, {"image": path})

    def test_fewer_targets_fit_where_more_do_not(
        self,
        claimed: Callable[..., Path],
        table: ModalityTable,
        free: Callable[[float], None],
    ) -> None:
        free(0.507)
        path = claimed(100, 100, 100)

        with pytest.raises(TooLargeError, match="Segment fewer targets at a time"):
            LoadMedicalImaged("image", table=table, modality="ct", targets="all")({"image": path})
        for targets in ("liver", ["liver"], ()):
            load = LoadMedicalImaged("image", table=table, modality="ct", targets=targets)
            assert load({"image": path})["image"].shape == (1, 100, 100, 100)

    def test_an_item_may_say_the_modality(
        self, claimed: Callable[..., Path], table: ModalityTable, free: Callable[[float], None]
    ) -> None:
        free(0.1)
        load = LoadMedicalImaged("image", table=table, modality="xray", targets=None)

        with pytest.raises(TooLargeError, match="the probability of 1 target needs"):
            load({"image": claimed(200, 200, 200), "modality": "ct"})

    @pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".png", ".tif"])
    def test_every_format_counts_what_comes_later(
        self,
        write_nrrd: Callable[..., Path],
        write_mha: Callable[..., Path],
        tmp_path: Path,
        table: ModalityTable,
        free: Callable[[float], None],
        suffix: str,
    ) -> None:
        array = np.zeros((300, 200), np.int16)
        path = tmp_path / f"a{suffix}"
        if suffix in (".nrrd", ".mha"):
            path = {".nrrd": write_nrrd, ".mha": write_mha}[suffix](array[..., None].copy())
        else:
            PIL.Image.fromarray(array.astype(np.uint8)).save(path)
        free(0.5)

        assert read(path).pixels is not None
        with pytest.raises(TooLargeError, match=r"the network needs 0\.5 GiB"):
            read(path, beside=beside_image(table, "xray", None))

    def test_dicom_counts_what_comes_later(
        self, shipped: Callable[[str], Path], table: ModalityTable, free: Callable[[float], None]
    ) -> None:
        free(0.5)
        path = shipped("CT_small.dcm")

        assert read(path).pixels is not None
        with pytest.raises(TooLargeError, match=r"1 x 128 x 128 pixels needs 0\.0 GiB, the prob"):
            read(path, beside=beside_image(table, "ct", None))

    def test_counts_what_torch_holds_in_twice_the_bytes(
        self, claimed: Callable[..., Path], table: ModalityTable, free: Callable[[float], None]
    ) -> None:
        free(0.1)

        with pytest.raises(TooLargeError, match=r"its volume needs 0\.2 GiB"):
            read(claimed(400, 400, 400, dtype=np.uint16))
