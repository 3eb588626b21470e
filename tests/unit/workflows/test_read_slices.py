from __future__ import annotations

import json
import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage

from esp_medsam.errors import EmptyInputError, OptionError
from esp_medsam.modality import ModalityTable
from esp_medsam.transforms import IntensityRule, ModalityTransforms
from esp_medsam.workflows import kept_slices, read_slices
from esp_medsam.workflows.datalist import read_datalist
from esp_medsam.workflows.kept_slices import InMemory, SliceSequence
from esp_medsam.workflows.read_slices import SliceReader
from esp_medsam.workflows.training_slices import slices_of
from tests.support.nifti import save_nifti
from tests.support.pictures import rectangle, write_labeled


@pytest.fixture
def picture(tmp_path: Path) -> Any:
    """Return a function that writes a picture and its mask, and returns its item."""

    def write(name: str, **keys: Any) -> dict[str, Any]:
        mask = rectangle((40, 20), (10, 20), (5, 10))
        return {**write_labeled(tmp_path, name, "dermoscopy", "lesion", mask), **keys}

    return write


@pytest.fixture
def volume(tmp_path: Path) -> dict[str, Any]:
    """A CT of twenty slices, two of which hold the liver."""
    values = np.random.default_rng(0).integers(-100, 100, (32, 32, 20), np.int16)
    label = np.zeros((32, 32, 20), np.uint8)
    label[8:20, 8:20, 9:11] = 1
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    save_nifti(tmp_path / "v.nii.gz", values, affine)
    save_nifti(tmp_path / "v_label.nii.gz", label, affine)
    return {"image": "v.nii.gz", "modality": "ct", "labels": {"liver": "v_label.nii.gz"}}


def reader(folder: Path, table: ModalityTable, content: Any, **options: Any) -> SliceReader:
    path = folder / "datalist.json"
    path.write_text(json.dumps(content))
    return SliceReader(datalist=path, table=table, **{"input_size": (32, 32), **options})


def assert_same(first: SliceSequence, second: SliceSequence) -> None:
    assert len(first) == len(second)
    assert list(first.modalities) == list(second.modalities)
    assert list(first.datasets) == list(second.datasets)
    assert list(first.names) == list(second.names)
    for index in range(len(first)):
        one, other = first[index], second[index]
        for name in ("image", "label", "unlabeled", "known"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
        assert (one.modality, one.dataset) == (other.modality, other.dataset)
        assert one.window == other.window


class TestFaults:
    def test_are_all_told_before_anything_is_learned(
        self, tmp_path: Path, picture: Any, table: ModalityTable, caplog: pytest.LogCaptureFixture
    ) -> None:
        PILImage.new("L", (21, 40), 255).save(tmp_path / "wide.png")
        first = picture("a")
        faulty = [
            {"image": "b.png"},
            {**picture("b"), "labels": {"lesion": "none.png"}},
            {**picture("d"), "labels": {"lesion": "wide.png"}},
            {**picture("e"), "labels": {"moon": "e_mask.png"}},
            {**picture("f"), "modality": "xrays"},
        ]
        (tmp_path / "copy.png").write_bytes((tmp_path / "a.png").read_bytes())
        read = reader(
            tmp_path,
            table,
            {"training": [first, *faulty], "validation": [{**first, "image": "copy.png"}]},
        )

        with (
            caplog.at_level(logging.ERROR),
            pytest.raises(
                OptionError,
                match=r"faults.*has 7, the first: training\[1\]",
            ),
        ):
            read("training", "validation")

        lines = sorted(record.getMessage() for record in caplog.records)
        expected = [
            r"training[1]['labels'] must be given",
            r"training[1]['modality'] must be given",
            "must be an existing file; there is none",
            "must lie on their image's grid, (40, 20); ",
            "must name targets of dermoscopy, lesion; got 'moon'",
            "got 'xrays'",
            f"copy.png holds the same bytes as training[0], {tmp_path / 'a.png'}",
        ]
        assert len(lines) == len(expected)
        for part in expected:
            assert any(part in line for line in lines), (part, lines)

    def test_of_names_and_headers_are_told_before_an_image_is_read(
        self, tmp_path: Path, picture: Any, table: ModalityTable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def read(*args: object) -> None:
            pytest.fail("an image was read")

        monkeypatch.setattr("esp_medsam.workflows.read_slices.slices_of", read)
        items = [picture("a"), {**picture("b"), "image": "none.png"}]

        with pytest.raises(OptionError, match=r"there is none at .*none\.png"):
            reader(tmp_path, table, {"training": items})("training")

    @pytest.mark.parametrize(
        ("of_test", "told"),
        [
            ({"image": "copy.png"}, r"test\[0\]\['image'\] must be in one section"),
            ({"patient": "x"}, r"test\[0\]\['patient'\] must be in one section"),
            ({"image": "none.png"}, r"test\[0\]\['image'\] must be an existing file"),
        ],
    )
    def test_of_a_section_that_is_not_read_are_told_too(
        self, tmp_path: Path, picture: Any, table: ModalityTable, of_test: Any, told: str
    ) -> None:
        sections = {"training": [picture("a", patient="x")], "test": [{**picture("b"), **of_test}]}
        (tmp_path / "copy.png").write_bytes((tmp_path / "a.png").read_bytes())

        with pytest.raises(OptionError, match=told):
            reader(tmp_path, table, sections)("training")

    def test_that_only_masks_tell_are_told_as_they_are_read(
        self, tmp_path: Path, picture: Any, table: ModalityTable, caplog: pytest.LogCaptureFixture
    ) -> None:
        PILImage.new("L", (20, 40)).save(tmp_path / "empty.png")
        items = [
            {**picture("a"), "labels": {"lesion": "empty.png"}},
            {**picture("b"), "labels": {"path": "b_mask.png", "values": {"lesion": [7]}}},
        ]

        with caplog.at_level(logging.ERROR), pytest.raises(OptionError, match="has 2"):
            reader(tmp_path, table, {"training": items})("training")

        for line in caplog.messages:
            assert "must hold some lesion" in line

    def test_name_the_place_of_an_item_behind_a_faulty_one(
        self, tmp_path: Path, picture: Any, table: ModalityTable, caplog: pytest.LogCaptureFixture
    ) -> None:
        items = [picture("a"), {"image": "b.png"}, {**picture("c"), "modality": "xrays"}]

        with caplog.at_level(logging.ERROR), pytest.raises(OptionError):
            reader(tmp_path, table, {"training": items})("training")

        assert any(
            record.getMessage().startswith("training[2]['modality'] ") for record in caplog.records
        )

    def test_are_images_that_are_named_twice_in_a_section_or_in_two(
        self, tmp_path: Path, picture: Any, table: ModalityTable, caplog: pytest.LogCaptureFixture
    ) -> None:
        item = picture("a")
        again = {**item, "image": "../" + tmp_path.name + "/a.png"}

        with caplog.at_level(logging.ERROR), pytest.raises(OptionError, match="has 2"):
            reader(tmp_path, table, {"training": [item, again], "validation": [item]})(
                "training", "validation"
            )

        path = tmp_path / "a.png"
        assert caplog.messages == [
            f"training[1]['image'] must not be named twice; {path} is also training[0]",
            f"validation[0]['image'] must not be named twice; {path} is also training[0]",
        ]

    def test_refuses_a_section_that_is_missing_or_empty(
        self, tmp_path: Path, table: ModalityTable
    ) -> None:
        read = reader(tmp_path, table, {"training": []})

        with pytest.raises(EmptyInputError, match="at least one item under 'training'"):
            read("training")
        with pytest.raises(OptionError, match=r"a section 'validation'; .* has training"):
            read("training", "validation")


class TestNames:
    def test_are_files_and_of_volumes_which_slice(
        self, tmp_path: Path, picture: Any, volume: dict[str, Any], table: ModalityTable
    ) -> None:
        read = reader(tmp_path, table, {"training": [picture("a"), volume]}, empty_slices=0.0)

        names = read("training")["training"].names

        stack = tmp_path / "v.nii.gz"
        assert names == [str(tmp_path / "a.png"), f"{stack}, slice 9", f"{stack}, slice 10"]


class TestMemory:
    def test_gives_back_what_was_read_from_an_eighth_of_the_masks(
        self, tmp_path: Path, volume: dict[str, Any], table: ModalityTable
    ) -> None:
        read = reader(tmp_path, table, {"training": [volume]}, input_size=(64, 64))
        (item,) = read_datalist(tmp_path / "datalist.json", "training")

        slices = read("training")["training"]

        assert isinstance(slices, InMemory)
        targets = len(table["ct"].targets)
        pixels = sum(piece.image.numel() for piece in slices_of(item, table, (64, 64)))
        kept = sum(array.nbytes for packed in slices.packed for array in packed.values())
        assert kept < pixels * (1 + (targets + 1) / 8) + len(slices) * 64
        for index, piece in enumerate(slices_of(item, table, (64, 64))):
            for name in ("image", "label", "unlabeled", "known"):
                assert torch.equal(getattr(piece, name), getattr(slices[index], name)), name
            assert piece.window == slices[index].window

    @pytest.mark.parametrize("cache", ["", "cache"])
    def test_is_told_once_slices_take_half_of_it(
        self,
        tmp_path: Path,
        volume: dict[str, Any],
        picture: Any,
        table: ModalityTable,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        cache: str,
    ) -> None:
        monkeypatch.setattr(kept_slices, "available_memory", lambda: 2**12)
        cache_dir = tmp_path / cache if cache else None
        read = reader(tmp_path, table, {"training": [volume, picture("a")]}, cache_dir=cache_dir)

        read("training")

        told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert len(told) == (0 if cache else 1)
        assert all("set cache_dir to a folder" in line for line in told)


class TestCache:
    def test_gives_what_memory_gives_and_is_filled_once(
        self,
        tmp_path: Path,
        picture: Any,
        volume: dict[str, Any],
        table: ModalityTable,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        content = {"training": [picture("a", dataset="mine"), volume]}
        in_memory = reader(tmp_path, table, content)("training")["training"]
        cached = {"cache_dir": tmp_path / "cache"}

        first = reader(tmp_path, table, content, **cached)("training")["training"]
        monkeypatch.setattr(read_slices, "slices_of", None)  # nothing is read a second time
        second = reader(tmp_path, table, content, **cached)("training")["training"]

        assert_same(first, in_memory)
        assert_same(second, in_memory)

    def test_reads_anew_what_changed(
        self, tmp_path: Path, picture: Any, table: ModalityTable
    ) -> None:
        content = {"training": [picture("a")]}
        cached = {"cache_dir": tmp_path / "cache"}
        before = reader(tmp_path, table, content, **cached)("training")["training"]
        PILImage.new("L", (20, 40), 255).save(tmp_path / "a_mask.png")

        after = reader(tmp_path, table, content, **cached)("training")["training"]

        assert before[0].label.sum() < after[0].label.sum() == after[0].label.numel()

    @pytest.mark.parametrize("key", ["absent", "unknown", "modality"])
    def test_tells_items_apart_by_what_they_say(
        self, tmp_path: Path, picture: Any, table: ModalityTable, key: str
    ) -> None:
        item = picture("a", modality="ct", ct_input="windowed", labels={"liver": "a_mask.png"})
        PILImage.new("L", (20, 40)).save(tmp_path / "a.png")
        changed: dict[str, Any] = {
            "absent": {"absent": ["kidney"]},
            "unknown": {"unknown": {"path": "a_mask.png", "values": [0]}},
            "modality": {"modality": "dermoscopy", "labels": {"lesion": "a_mask.png"}},
        }
        cached = {"cache_dir": tmp_path / "cache"}

        for each in (item, {**item, **changed[key]}):
            content = {"training": [each]}
            memory = reader(tmp_path, table, content)("training")["training"]
            assert_same(reader(tmp_path, table, content, **cached)("training")["training"], memory)

    def test_of_another_size_or_other_transforms_is_refused(
        self, tmp_path: Path, picture: Any, table: ModalityTable
    ) -> None:
        content = {"training": [picture("a")]}
        cached = {"cache_dir": tmp_path / "cache"}
        reader(tmp_path, table, content, **cached)("training")
        window = {"ct": ModalityTransforms(intensity=IntensityRule(hounsfield=(-160, 240)))}

        with pytest.raises(OptionError, match=r"cache_dir must.*the same input_size, transf"):
            reader(tmp_path, table, content, **cached, input_size=(64, 64), transforms=window)(
                "training"
            )

    def test_travels_to_workers_without_its_slices(
        self, tmp_path: Path, volume: dict[str, Any], table: ModalityTable
    ) -> None:
        read = reader(tmp_path, table, {"training": [volume]}, cache_dir=tmp_path / "cache")
        slices = read("training")["training"]

        pickled = pickle.dumps(slices)

        assert len(pickled) < 20 * 400  # names of files
        assert_same(pickle.loads(pickled), slices)


class TestEmptySlices:
    @pytest.mark.parametrize("cache", ["", "cache"])
    def test_of_volumes_are_kept_at_a_rate_and_always_the_same(
        self, tmp_path: Path, volume: dict[str, Any], table: ModalityTable, cache: str
    ) -> None:
        cache_dir = tmp_path / cache if cache else None

        def kept(share: float) -> list[float]:
            read = reader(
                tmp_path, table, {"training": [volume]}, empty_slices=share, cache_dir=cache_dir
            )
            slices = read("training")["training"]
            filled = [slices[index].is_filled for index in range(len(slices))]
            assert sum(filled) == 2
            return [float(slices[index].image.float().mean()) for index in range(len(slices))]

        none, some, again, all_of_them = kept(0.0), kept(0.5), kept(0.5), kept(1.0)

        assert (len(none), len(all_of_them)) == (2, 20)
        assert 2 < len(some) < 20
        assert some == again
        assert set(none) < set(some) < set(all_of_them)

    def test_pictures_stay(self, tmp_path: Path, picture: Any, table: ModalityTable) -> None:
        empty = picture("a", labels={}, absent=["lesion"])

        slices = reader(tmp_path, table, {"training": [empty]}, empty_slices=0.0)("training")

        assert len(slices["training"]) == 1
