from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.PngImagePlugin
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from esp_medsam.errors import EmptyInputError, InputNotFoundError
from esp_medsam.image import image_of
from esp_medsam.io import LoadMedicalImaged, read
from esp_medsam.io.atomic import MARK
from esp_medsam.io.folder import entered
from esp_medsam.io.item import Item
from esp_medsam.io.picture_file import write_gray_png
from esp_medsam.workflows.left_alone import LeftAlone
from tests.support.plans import TABLE, images, make, planned


class TestPlanItems:
    def test_takes_every_readable_image_below_the_folder(self, tmp_path: Path) -> None:
        root = make(tmp_path / "in", "b.png", "a.nii.gz", "x/c.TIF", "x/y/d.nii", "x/notes.txt")

        plan = planned(root, tmp_path / "out")

        assert images(plan, root) == ["a.nii.gz", "b.png", "x/c.TIF", "x/y/d.nii"]
        assert plan.others == (str(root / "x/notes.txt"),)

    def test_item_says_what_its_outputs_are_called_and_where_it_lies(self, tmp_path: Path) -> None:
        root = make(tmp_path / "in", "x/y/scan.1.nii.gz")

        (item,) = planned(root, tmp_path / "out").items

        path = str(root / "x/y/scan.1.nii.gz")
        assert item == Item(path=path, name="scan.1", relative_dir="x/y", modality="mri")
        assert item.is_volume
        assert item.files == (path,)

    def test_takes_one_file(self, tmp_path: Path) -> None:
        root = make(tmp_path, "a.png", "b.png")

        assert images(planned(root / "a.png", tmp_path), root) == ["a.png"]

    def test_leaves_the_output_folder_out_where_it_lies_inside(self, tmp_path: Path) -> None:
        root = make(tmp_path, "a.png", "out/b.png", "out/x/c.png")

        assert images(planned(root, root / "out"), root) == ["a.png"]

    def test_leaves_outputs_of_an_earlier_run_out(self, tmp_path: Path) -> None:
        root = make(
            tmp_path,
            *("a.png", "a_seg.png", "a_seg_liver.nii.gz", "a_seg_preview.png"),
        )
        (root / "a_seg.json").write_bytes(b'{"software": "' + MARK)

        plan = planned(root, root)

        assert images(plan, root) == ["a.png"]
        assert len(plan.outputs) == 4

    def test_leaves_what_a_killed_run_wrote_out(self, tmp_path: Path) -> None:
        root = make(tmp_path, "a.png")
        (root / "a_seg.png").write_bytes(b"\x89PNG" + MARK)

        assert images(planned(root, root), root) == ["a.png"]

    def test_leaves_pictures_that_were_drawn_here_out_whatever_their_name(
        self, tmp_path: Path
    ) -> None:
        root = make(tmp_path, "a.png")
        write_gray_png(root / "sheet.PNG", np.zeros((4, 4), np.uint8))
        note = PIL.PngImagePlugin.PngInfo()
        note.add_text("Comment", "from a folder esp-medsam/in")
        PIL.Image.new("L", (4, 4)).save(root / "b.png", pnginfo=note)

        plan = planned(root, tmp_path / "out")

        assert images(plan, root) == ["a.png", "b.png"]
        assert plan.outputs == (str(root / "sheet.PNG"),)

    def test_takes_images_that_others_called_seg(self, tmp_path: Path) -> None:
        root = make(tmp_path / "in", "a_seg.png", "a_seg.json", "my_segments.png")

        assert len(planned(root, tmp_path).items) == 2

    def test_leaves_hidden_files_out(self, tmp_path: Path) -> None:
        root = make(tmp_path, "a.png", "._a.png")

        assert images(planned(root, tmp_path / "out"), root) == ["a.png"]

    @pytest.mark.parametrize(
        ("include", "exclude", "taken"),
        [
            ("*.png", None, ["a.png", "x/b.png"]),
            (["x/*", "*.bmp"], None, ["c.bmp", "x/b.png"]),
            (None, "x/*", ["a.png", "c.bmp"]),
            ("*.png", ["x/*"], ["a.png"]),
        ],
    )
    def test_takes_what_the_patterns_say(
        self, tmp_path: Path, include: object, exclude: object, taken: list[str]
    ) -> None:
        root = make(tmp_path, "a.png", "x/b.png", "c.bmp")

        plan = planned(root, tmp_path / "out", include, exclude)  # type: ignore[arg-type]

        assert images(plan, root) == taken

    def test_inputs_that_share_an_output_are_refused_and_the_rest_goes_on(
        self, tmp_path: Path
    ) -> None:
        root = make(tmp_path, "a.nii", "a.nii.gz", "B.png", "b.jpg", "x/a.nii", "c.png")

        plan = planned(root, tmp_path / "out")

        assert images(plan, root) == ["c.png", "x/a.nii"]
        refused = {Path(refusal.path).name: str(refusal.error) for refusal in plan.refused}
        assert sorted(refused) == ["B.png", "a.nii", "a.nii.gz", "b.jpg"]
        assert "a.nii.gz" in refused["a.nii"]

    def test_says_what_it_leaves_alone_in_one_line(self, tmp_path: Path) -> None:
        root = make(tmp_path, "a.png", "b.png", *(f"{n}.txt" for n in range(7)))

        assert LeftAlone.of(planned(root, tmp_path / "out")).text == (
            "7 other files (0.txt, 1.txt, 2.txt, 3.txt, 4.txt, ...), 0 outputs of earlier runs"
        )
        assert LeftAlone.of(planned(root, tmp_path / "out", exclude="*.txt")).text == ""

    def test_broken_links_are_counted_not_taken(self, tmp_path: Path) -> None:
        root = make(tmp_path, "a.png")
        (root / "b.png").symlink_to(root / "none.png")
        (root / "c.png").symlink_to(root / "c.png")

        plan = planned(root, tmp_path / "out")

        assert images(plan, root) == ["a.png"]
        assert len(plan.others) == 2

    def test_folder_that_cannot_be_listed_fails_and_the_rest_goes_on(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = make(tmp_path, "a.png", "locked/b.png")
        scandir = os.scandir

        def refuse(folder: Path) -> Any:
            if Path(folder).name == "locked":
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return scandir(folder)

        monkeypatch.setattr(os, "scandir", refuse)

        plan = planned(root, tmp_path / "out")

        assert images(plan, root) == ["a.png"]
        (item,) = plan.refused
        error = item.error
        assert item.path == str(root / "locked")
        assert "cannot be listed: Permission denied." in str(error)

    @pytest.mark.parametrize("ending", ["", ".png", ".nii.gz", "_seg.png", "_seg.json", ".dcm"])
    def test_f17_pipes_sockets_and_devices_are_counted_and_never_opened(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
    ) -> None:
        root = make(tmp_path / "in", "a.png", "b_seg.png")
        monkeypatch.chdir(root)  # the path of a socket may have a hundred characters
        os.mkfifo(f"b{ending}" if "_seg" not in ending else f"c{ending}")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"d{ending}")
        (root / f"e{ending}").symlink_to("/dev/zero")

        plan = planned(root, tmp_path / "out")

        assert images(plan, root) == ["a.png", "b_seg.png"]
        assert len(plan.others) == 3

    def test_f17_a_pipe_in_the_place_of_a_record_keeps_nobody_waiting(self, tmp_path: Path) -> None:
        root = make(tmp_path / "in", "a.png", "a_seg.png")
        os.mkfifo(root / "a_seg.json")

        assert images(planned(root, tmp_path / "out"), root) == ["a.png", "a_seg.png"]

    def test_walks_deeper_than_python_recurses(self, tmp_path: Path, deep: Path) -> None:
        with entered(deep) as folder:
            os.close(folder.open("a.png", os.O_WRONLY | os.O_CREAT))

        (item,) = planned(tmp_path / "deep", tmp_path / "out").items

        assert item.path == str(deep / "a.png")

    def test_what_lies_too_deep_for_the_system_is_refused_in_one_line(
        self, tmp_path: Path, deep: Path
    ) -> None:
        root = make(tmp_path / "deep", "a.png")
        with entered(deep / ("n" * 200) / Path(*["d"] * 600), tmp_path):
            pass

        plan = planned(root, tmp_path / "out")

        assert images(plan, root) == ["a.png"]
        (refusal,) = plan.refused
        error = refusal.error
        assert str(error).endswith("cannot be listed: File name too long.")

    @pytest.mark.parametrize("name", ["n" * 300, "d/" * 3000])
    def test_an_input_whose_name_is_too_long_is_not_there(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(InputNotFoundError, match="must be an existing file or folder"):
            planned(tmp_path / name, tmp_path / "out")

    def test_series_that_is_not_there_is_refused_naming_those_that_are(self) -> None:
        path = Path(str(get_testdata_file("CT_small.dcm", download=False)))
        uid = dcmread(path, stop_before_pixels=True).SeriesInstanceUID

        with pytest.raises(EmptyInputError, match=f"must hold DICOM series 1.2; got {uid}"):
            planned(path, path.parent / "out", modality="ct", series="1.2")

    def test_refused_dicom_volume_is_called_by_its_folder_and_name(self, tmp_path: Path) -> None:
        dataset = dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
        (tmp_path / "in/x").mkdir(parents=True)
        for number in range(2):  # two slices at one place
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.{number}"
            dataset.save_as(tmp_path / f"in/x/{number}.dcm")

        (item,) = planned(tmp_path / "in", tmp_path / "out", modality="ct").refused

        assert item.path == str(tmp_path / "in/x")
        assert item.volume_name == dataset.SeriesInstanceUID
        assert item.label == f"{tmp_path / 'in/x'} ({dataset.SeriesInstanceUID})"

    def test_series_in_several_folders_is_one_item_of_the_folder_above(
        self, tmp_path: Path
    ) -> None:
        root = self._spread(tmp_path / "in")

        (item,) = planned(root, tmp_path / "out", modality="ct").items

        assert item.path == str(root / "study")
        assert item.relative_dir == "study"
        assert list(item.files) == [str(root / f"study/{k}/image.png") for k in range(3)]
        image = read(item)
        assert image.grid.shape == (128, 128, 3)
        assert image.grid.affine is not None

    def test_folders_that_the_patterns_leave_out_hold_no_part_of_a_series(
        self, tmp_path: Path
    ) -> None:
        root = self._spread(tmp_path / "in")

        plan = planned(root, tmp_path / "out", "study*", "study/2/*", modality="ct")

        assert [len(item.files) for item in plan.items] == [2]

    def test_a_file_that_may_be_a_missing_slice_refuses_its_stack_unless_it_is_left_out(
        self, write_stack: Callable[..., Path], tmp_path: Path
    ) -> None:
        root = write_stack(tmp_path / "in", [0, 2, 4, 6])
        (root / "1.dcm").write_bytes(b"")

        refused = planned(root, tmp_path / "out", modality="ct")
        plan = planned(root, tmp_path / "out", exclude="1.dcm", modality="ct")

        (item,) = refused.refused
        error = item.error
        assert "1.dcm is empty" in str(error)
        assert refused.items == ()
        (item,) = plan.items
        assert not any("1.dcm" in warning for warning in item.volume.warnings)

    def test_a_file_that_may_be_a_slice_is_told_by_what_is_loaded(
        self, write_stack: Callable[..., Path], tmp_path: Path
    ) -> None:
        root = write_stack(tmp_path / "in", [0, 2, 4, 6])
        (root / "3.dcm").write_bytes(b"")
        (item,) = planned(root, tmp_path / "out", modality="ct").items

        loaded = LoadMedicalImaged("image", table=TABLE, modality="ct")({"image": item})["image"]

        warnings = [w for w in image_of(loaded.meta).warnings if "3.dcm is empty" in w]
        assert len(warnings) == 1

    def test_volumes_carry_the_name_that_earlier_versions_gave_them(
        self, write_stack: Callable[..., Path], tmp_path: Path
    ) -> None:
        root = write_stack(tmp_path / "in", [0, 2, 0, 2])
        for number in range(4):
            slice_ = dcmread(root / f"{number}.dcm")
            slice_.ConvolutionKernel, slice_.InstanceNumber = f"B{number // 2}0f", 1
            slice_.save_as(root / f"{number}.dcm")
        uid = str(slice_.SeriesInstanceUID)

        items = planned(root, tmp_path / "out", modality="ct").items
        one = planned(root, tmp_path / "out", modality="ct", series=f"{uid}_ConvolutionKernel-B10f")

        assert [item.name for item in items] == [f"{uid}_ConvolutionKernel-{k}" for k in "12"]
        assert [item.other_names for item in items] == [
            (f"{uid}_ConvolutionKernel-B00f",), (f"{uid}_ConvolutionKernel-B10f",),
        ]  # fmt: skip
        assert [item.name for item in one.items] == [f"{uid}_ConvolutionKernel-2"]

    def _spread(self, root: Path) -> Path:
        """Write a stack of three files, whose ending lies, into a folder each."""
        dataset = dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
        for k in range(3):
            folder = root / f"study/{k}"
            folder.mkdir(parents=True)
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.{k}"
            dataset.ImagePositionPatient[2] = 5 * k
            dataset.save_as(folder / "image.png")
        return root

    def test_follows_links_once(self, tmp_path: Path) -> None:
        root = make(tmp_path / "in", "x/a.png")
        (root / "x/loop").symlink_to(root)
        (tmp_path / "elsewhere").mkdir()
        make(tmp_path / "elsewhere", "b.png")
        (root / "link").symlink_to(tmp_path / "elsewhere")

        assert images(planned(root, tmp_path / "out"), root) == ["link/b.png", "x/a.png"]

    def test_missing_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputNotFoundError, match="none must be an existing"):
            planned(tmp_path / "none", tmp_path)

    def test_folder_without_images_is_refused_naming_what_it_has(self, tmp_path: Path) -> None:
        root = make(tmp_path / "in", "notes.txt")

        with pytest.raises(EmptyInputError, match=r"1 other file \(notes.txt\)"):
            planned(root, tmp_path / "out")
