from __future__ import annotations

import io
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
)

from esp_medsam.dicom import (
    DicomSegmentation,
    is_segmentation,
    read_segmentation,
)
from esp_medsam.errors import (
    CorruptFileError,
    EspMedSamError,
    FormatError,
    OptionError,
)
from esp_medsam.image import Image


def shuffled(dataset: Dataset, seed: int) -> None:
    """Put the frames of an object into another order."""
    order = list(range(int(dataset.NumberOfFrames)))
    random.Random(seed).shuffle(order)
    groups = dataset.PerFrameFunctionalGroupsSequence
    dataset.PerFrameFunctionalGroupsSequence = [groups[k] for k in order]
    bits = np.frombuffer(dataset.PixelData, np.uint8)
    size = dataset.Rows * dataset.Columns
    if dataset.BitsAllocated == 1:
        bits = np.unpackbits(bits, bitorder="little")
    frames = bits[: size * len(order)].reshape(len(order), size)[order].ravel()
    if dataset.BitsAllocated == 1:
        frames = np.packbits(frames, bitorder="little")
    dataset.PixelData = frames.tobytes() + bytes(frames.size % 2)


def in_space(mask: np.ndarray, affines: np.ndarray) -> dict[tuple[float, ...], int]:
    """Values by where they lie, RAS+ to 0.01 mm; ``affines`` of each slice along the last axis."""
    voxels = np.argwhere(mask)
    planar = np.column_stack([voxels[:, :2], np.zeros(len(voxels)), np.ones(len(voxels))])
    places = np.einsum("nij,nj->ni", affines[voxels[:, 2]], planar)[:, :3].round(2) + 0.0
    values = mask[tuple(voxels.T)].tolist()
    return dict(zip(map(tuple, places.tolist()), values, strict=True))


def slices_of(segmentation: DicomSegmentation) -> np.ndarray:
    """The affine of each slice, by the one affine of the grid."""
    affine = segmentation.grid.affine
    assert affine is not None
    stack = np.repeat(affine[None], segmentation.grid.shape[2], axis=0)
    stack[:, :3, 3] += np.arange(len(stack))[:, None] * affine[:3, 2]
    return stack


@pytest.fixture
def mended(dicom: SimpleNamespace, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that mends a file of dcmqi's that pydicom ships cut to one frame."""

    def mend(name: str = "liver_1frame.dcm", **attributes: Any) -> Path:
        dataset = dcmread(dicom.shipped(name))
        dataset.PerFrameFunctionalGroupsSequence = dataset.PerFrameFunctionalGroupsSequence[:1]
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
        dataset.save_as(tmp_path / name)
        return tmp_path / name

    return mend


class TestOurOwn:
    @settings(
        max_examples=40,
        deadline=None,
        # It hands out functions without a state, as does the folder made anew each time.
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(data=st.data())
    def test_is_read_back_equal_in_space_however_it_lies(
        self,
        seg: SimpleNamespace,
        tmp_path_factory: pytest.TempPathFactory,
        data: st.DataObject,
    ) -> None:
        folder = tmp_path_factory.mktemp("stack")
        image, headers = seg.drawn(data, folder)
        kept = sorted(header.InstanceNumber for header in headers)
        kind = data.draw(st.sampled_from(["binary", "labelmap", "fractional"]))
        masks = seg.scattered(image, data.draw(st.integers(1, 3)), data.draw(st.integers(0, 99)))
        masks[:, 0, 0, -1] = 1
        numbers = st.lists(st.integers(1, 255), min_size=3, max_size=3, unique=True)
        drawn = zip(seg.targets, data.draw(numbers), strict=True)
        all_targets = [replace(target, label=label) for target, label in drawn]
        if kind == "fractional":
            masks *= np.uint8(data.draw(st.integers(128, 255)))
        labels = np.zeros(image.grid.shape, np.uint8)
        for mask, target in zip(masks, all_targets, strict=False):
            labels[mask != 0] = target.label

        content = [labels] if kind == "labelmap" else masks
        targets = all_targets if kind == "labelmap" else all_targets[: len(masks)]
        dataset = seg.made(image, content, targets, kind=kind)
        shuffled(dataset, data.draw(st.integers(0, 99)))
        read = read_segmentation(seg.saved(dataset, folder / "seg"))

        assert image.grid.slice_affines is not None
        spread = slices_of(read) if not read.problem else read.grid.slice_affines
        assert spread is not None
        gaps = np.diff(sorted(kept))
        assert not read.problem or (gaps % max(gaps.min(initial=9), 1)).any()
        by_label = {target.label: target.words for target in all_targets}
        for segment in read.segments:
            found = in_space(read.mask(segment.number), spread)
            if kind == "labelmap":
                assert by_label[segment.number] == segment.label
                expected = (labels == segment.number).astype(np.uint8)
            else:
                names_of = [target.words for target in all_targets]
                expected = masks[names_of.index(segment.label)]
            assert found == in_space(expected, image.grid.slice_affines)
        assert {s.number for s in read.segments} == (
            set(np.unique(labels).tolist()) - {0}
            if kind == "labelmap"
            else set(range(1, len(masks) + 1))
        )

    def test_says_what_each_segment_is(
        self, seg: SimpleNamespace, stack: Image, tmp_path: Path
    ) -> None:
        path = seg.saved(
            seg.made(stack, seg.scattered(stack, 2), seg.targets[:2]), tmp_path / "seg"
        )

        read = read_segmentation(path)

        first = read.segments[0]
        assert (first.number, first.label, first.type) == (1, "Liver", seg.targets[0].type)
        assert first.category == seg.targets[0].category
        assert first.algorithm_type == "AUTOMATIC"
        assert first.algorithm_name == "esp-medsam"
        assert first.color == pytest.approx(seg.targets[0].color, abs=2)
        assert read.kind == "binary"
        assert read.source_series == ("1.2.3",)
        assert read.source_instances == {f"1.2.3.{k}" for k in range(1, 6)}

    def test_of_a_cine_has_its_frames_in_order(
        self, seg: SimpleNamespace, dicom: SimpleNamespace, tmp_path: Path
    ) -> None:
        stated = dicom.picture(
            0, UltrasoundMultiFrameImageStorage, NumberOfFrames=5, PixelData=bytes(240)
        )
        image = seg.record(dicom.save(stated, tmp_path / "cine"))
        masks = seg.scattered(image, 2)
        dataset = seg.made(image, masks, seg.targets[:2])
        shuffled(dataset, 3)

        read = read_segmentation(seg.saved(dataset, tmp_path / "seg"))

        assert read.grid.shape == (4, 6, 5)
        assert "no position" in read.problem
        np.testing.assert_array_equal(read.mask(2), masks[1])

    def test_of_a_picture_is_rows_and_columns(
        self, seg: SimpleNamespace, dicom: SimpleNamespace, tmp_path: Path
    ) -> None:
        image = seg.record(dicom.save(dicom.picture(), tmp_path / "picture"))
        masks = seg.scattered(image)

        read = read_segmentation(seg.saved(seg.made(image, masks), tmp_path / "seg"))

        np.testing.assert_array_equal(read.mask(1), masks[0])
        assert read.grid.affine is None

    def test_that_is_empty_has_empty_masks(
        self, seg: SimpleNamespace, stack: Image, tmp_path: Path
    ) -> None:
        empty = np.zeros((2, *stack.grid.shape), np.uint8)
        dataset = seg.made(stack, empty, seg.targets[:2], write_empty=True)

        read = read_segmentation(seg.saved(dataset, tmp_path / "seg"))

        assert [read.mask(number).any() for number in (1, 2)] == [False, False]


class TestShipped:
    def test_dcmqi_file_is_what_highdicom_reads(
        self, seg: SimpleNamespace, mended: Callable[..., Path]
    ) -> None:
        path = mended()
        expected = hd.seg.segread(path).get_stored_frames([1])[0]

        read = read_segmentation(path)

        assert expected.any()
        np.testing.assert_array_equal(read.mask(1)[..., 0], expected.T)
        np.testing.assert_allclose(
            read.grid.affine,
            [[-0.810547, 0, 0, 235.2], [0, -0.810547, 0, 226.8], [0, 0, 1, -128.69], [0, 0, 0, 1]],
        )

    def test_big_endian_file_is_the_same(self, mended: Callable[..., Path]) -> None:
        little, big = (
            read_segmentation(mended(name))
            for name in ("liver_1frame.dcm", "liver_expb_1frame.dcm")
        )

        assert little.mask(1).any()
        np.testing.assert_array_equal(little.mask(1), big.mask(1))
        assert little.segments == big.segments

    def test_file_that_describes_more_frames_than_it_has_is_refused(
        self, dicom: SimpleNamespace
    ) -> None:
        with pytest.raises(FormatError, match="3 items for 1 frames"):
            read_segmentation(dicom.shipped("liver_1frame.dcm"))

    def test_text_beyond_ascii_is_read(self, mended: Callable[..., Path]) -> None:
        path = mended(SpecificCharacterSet="ISO_IR 192")
        dataset = dcmread(path)
        dataset.SegmentSequence[0].SegmentLabel = "肝臓"
        dataset.save_as(path)

        assert read_segmentation(path).segments[0].label == "肝臓"

    def test_a_byte_changed_anywhere_raises_errors_of_ours_alone(
        self, mended: Callable[..., Path], tmp_path: Path
    ) -> None:
        content = mended().read_bytes()
        # The header and the first pixels: beyond, a byte is pixels that no one can know.
        head = content.index(b"\xe0\x7f\x10\x00") + 40
        chance = random.Random(1)
        outcomes = set()
        for number in range(200):
            damaged = bytearray(content)
            damaged[chance.randrange(head)] ^= 1 << chance.randrange(8)
            path = tmp_path / f"{number}.dcm"
            path.write_bytes(damaged)
            try:
                for segment in read_segmentation(path).segments:
                    read_segmentation(path).mask(segment.number)
                outcomes.add("read")
            except EspMedSamError as error:
                outcomes.add(error.code)
        assert {"read", "E_CORRUPT", "E_FORMAT"} <= outcomes


class TestRefused:
    def test_by_class(self, dicom: SimpleNamespace, tmp_path: Path) -> None:
        path = dicom.save(dicom.dataset(), tmp_path / "ct.dcm")

        assert not is_segmentation(path)
        with pytest.raises(FormatError, match=r"must be a DICOM Segmentation.*CT Image Storage"):
            read_segmentation(path)

    def test_by_the_name_of_a_syntax_that_nothing_here_decodes(
        self, mended: Callable[..., Path]
    ) -> None:
        path = mended()
        dataset = dcmread(path)
        dataset.PixelData = encapsulate([b"\0" * 40])
        dataset["PixelData"].is_undefined_length = True
        for syntax, name in (
            (RLELossless, r"RLE Lossless \(1\.2\.840"),
            ("1.2.840.10008.1.2.8.1", "Deflated Image Frame Compression"),
            (JPEGLSNearLossless, "JPEG-LS Lossy"),
        ):
            dataset.file_meta.TransferSyntaxUID = syntax
            with path.open("wb") as file:
                dcmwrite(file, dataset, implicit_vr=False, little_endian=True, force_encoding=True)
            with pytest.raises(FormatError, match=name):
                read_segmentation(path)

    @pytest.mark.parametrize(
        ("changes", "error"),
        [
            ({"SegmentationType": "SURFACE"}, "SegmentationType"),
            ({"SegmentSequence": []}, "describe its segments"),
            ({"Rows": 60_000, "Columns": 60_000}, "bytes of pixels"),
            ({"NumberOfFrames": 60_000}, "bytes of pixels"),
            ({"NumberOfFrames": 2_000_000_000}, "at most 65536 frames"),
            ({"PixelRepresentation": 1}, "whole number"),
            ({"BitsAllocated": 32, "PixelData": bytes(960)}, "BitsAllocated"),
            ({"SegmentationType": "FRACTIONAL"}, "BitsAllocated"),
            ({"PixelData": b"\0\0"}, "bytes of pixels"),
        ],
    )
    def test_by_what_the_header_claims(
        self,
        seg: SimpleNamespace,
        stack: Image,
        tmp_path: Path,
        changes: dict[str, Any],
        error: str,
    ) -> None:
        dataset = seg.made(stack, seg.scattered(stack, 2), seg.targets[:2])

        with pytest.raises(EspMedSamError, match=error):
            read_segmentation(seg.changed(dataset, tmp_path / "seg", **changes))

    def test_by_a_segment_number_that_stands_for_nothing(
        self, seg: SimpleNamespace, stack: Image, tmp_path: Path
    ) -> None:
        dataset = seg.made(stack, seg.scattered(stack, 1), seg.targets[:1])
        dataset.SegmentSequence[0].SegmentNumber = 0
        for group in dataset.PerFrameFunctionalGroupsSequence:
            group.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 0

        with pytest.raises(CorruptFileError, match=r"numbered from 1.*is 0"):
            read_segmentation(seg.saved(dataset, tmp_path / "seg"))

    @pytest.mark.parametrize(
        ("most", "error"), [(300, "must be from 1 to 255; got 300"), (None, "is missing or empty")]
    )
    def test_by_fractions_of_more_than_a_byte_holds(
        self, seg: SimpleNamespace, stack: Image, tmp_path: Path, most: int | None, error: str
    ) -> None:
        masks = 255 * seg.scattered(stack, 1)
        dataset = seg.made(stack, masks, seg.targets[:1], kind="fractional")
        dataset.MaximumFractionalValue = most

        with pytest.raises(EspMedSamError, match=error):
            read_segmentation(seg.saved(dataset, tmp_path / "seg"))

    def test_by_a_segment_that_is_not_described(
        self, seg: SimpleNamespace, stack: Image, tmp_path: Path
    ) -> None:
        dataset = seg.made(stack, seg.scattered(stack, 2), seg.targets[:2])
        dataset.SegmentSequence = dataset.SegmentSequence[:1]
        group = dataset.PerFrameFunctionalGroupsSequence[-1]
        group.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 7

        with pytest.raises(CorruptFileError, match="got 2"):
            read_segmentation(seg.saved(dataset, tmp_path / "seg"))

    def test_by_a_value_that_no_segment_has(
        self, seg: SimpleNamespace, stack: Image, tmp_path: Path
    ) -> None:
        labels = np.full(stack.grid.shape, 7, np.uint8)
        dataset = seg.made(stack, [labels], seg.targets, kind="labelmap")
        read = read_segmentation(
            seg.changed(dataset, tmp_path / "seg", PixelData=b"\5" * len(dataset.PixelData))
        )

        with pytest.raises(CorruptFileError, match=r"LABELMAP.*5"):
            read.labelmap()

    def test_by_a_number_that_two_segments_have(
        self, seg: SimpleNamespace, stack: Image, tmp_path: Path
    ) -> None:
        dataset = seg.made(stack, seg.scattered(stack, 2), seg.targets[:2])
        dataset.SegmentSequence[1].SegmentNumber = 1

        with pytest.raises(CorruptFileError, match="one twice"):
            read_segmentation(seg.saved(dataset, tmp_path / "seg"))

    def test_by_a_segment_that_is_asked_for_and_not_there(
        self, seg: SimpleNamespace, stack: Image, tmp_path: Path
    ) -> None:
        read = read_segmentation(seg.saved(seg.made(stack, seg.scattered(stack)), tmp_path / "seg"))

        with pytest.raises(OptionError, match="got 2"):
            read.mask(2)


class TestCompressed:
    @pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
    def test_labelmap_is_what_it_was(
        self, seg: SimpleNamespace, tmp_path: Path, syntax: str
    ) -> None:
        stack = seg.stack(tmp_path, 2, Rows=40, Columns=50, PixelData=bytes(4000))
        labels = seg.scattered(stack)[0] * np.uint8(7)
        dataset = seg.made(stack, [labels], seg.targets, kind="labelmap")
        plain = dcmread(io.BytesIO(seg.bytes_of(dataset)))
        assert plain.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        pytest.importorskip("jpeg_ls", reason="pyjpegls encodes what this test reads")
        plain.compress(syntax, generate_instance_uid=False)
        plain.save_as(tmp_path / "seg")

        np.testing.assert_array_equal(read_segmentation(tmp_path / "seg").labelmap(), labels)
