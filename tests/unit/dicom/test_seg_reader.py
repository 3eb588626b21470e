from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.data import get_testdata_file
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
    build_segmentation,
    find_volumes,
    is_segmentation,
    read_segmentation,
    write_segmentation,
)
from esp_medsam.errors import (
    CorruptFileError,
    EspMedSamError,
    FormatError,
    GeometryError,
    OptionError,
    TooLargeError,
)
from esp_medsam.image import Image
from esp_medsam.modality import Code, Target


TISSUE = Code("91723000", "SCT", "Anatomical Structure")
TARGETS = tuple(
    Target(
        name=name,
        label=label,
        category=TISSUE,
        type=Code(value, "SCT", name.title()),
        color=(label, 100, 200),
    )
    for name, label, value in (
        ("liver", 3, "10200004"),
        ("spleen", 200, "78961009"),
        ("heart", 9, "80891009"),
    )
)


def record(path: Path) -> Image:
    """The record of the one volume at a path, as the loader makes it, without pixels."""
    (volume,) = find_volumes(path).volumes
    return Image(
        path=str(path),
        name=volume.name,
        modality="ct",
        spatial_shape=volume.spatial_shape,
        affine=volume.geometry.affine,
        slice_affines=volume.geometry.slice_affines,
        stack_axis=volume.geometry.stack_axis,
        pixel_spacing=volume.geometry.pixel_spacing,
        sources=tuple(piece.source for piece in volume.slices),
        study_uid=volume.study_uid,
        series_uid=volume.series_uid,
    )


def scattered(image: Image, count: int, seed: int = 0) -> np.ndarray:
    """Masks without any symmetry, which overlap, one for each target."""
    shape = (count, *image.spatial_shape)
    return (np.random.default_rng(seed).random(shape) > 0.6).astype(np.uint8)


def made(image: Image, masks: Any, kind: str = "binary", **options: Any) -> Dataset:
    targets = TARGETS if kind == "labelmap" else TARGETS[: len(masks)]
    dataset = build_segmentation(image, masks, targets, kind=kind, **options)
    assert dataset is not None
    return dataset


def saved(dataset: Dataset, path: Path) -> Path:
    with path.open("wb") as file:
        write_segmentation(dataset, file)
    return path


def changed(dataset: Dataset, path: Path, **attributes: Any) -> Path:
    """Save an object with attributes that it should not have; None leaves one out."""
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return saved(dataset, path)


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


def axes(angles: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three unit vectors at right angles, right-handed, turned by angles about x, y and z."""
    turned = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        turned = turn @ turned
    return turned[0], turned[1], np.cross(turned[0], turned[1])


def in_space(mask: np.ndarray, affines: np.ndarray) -> dict[tuple[float, ...], int]:
    """Values by where they lie, RAS+ to 0.01 mm; ``affines`` of each slice along the last axis."""
    voxels = np.argwhere(mask)
    planar = np.column_stack([voxels[:, :2], np.zeros(len(voxels)), np.ones(len(voxels))])
    places = np.einsum("nij,nj->ni", affines[voxels[:, 2]], planar)[:, :3].round(2) + 0.0
    values = mask[tuple(voxels.T)].tolist()
    return dict(zip(map(tuple, places.tolist()), values, strict=True))


def slices_of(segmentation: DicomSegmentation) -> np.ndarray:
    """The affine of each slice, by the one affine of the grid."""
    affine = segmentation.geometry.affine
    assert affine is not None
    stack = np.repeat(affine[None], segmentation.spatial_shape[2], axis=0)
    stack[:, :3, 3] += np.arange(len(stack))[:, None] * affine[:3, 2]
    return stack


@pytest.fixture
def stack(dicom: SimpleNamespace, tmp_path: Path) -> Image:
    """A stack of five slices."""
    (tmp_path / "in").mkdir()
    dicom.save_stack(tmp_path / "in", 5)
    return record(tmp_path / "in")


@pytest.fixture
def shipped(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that mends a file of dcmqi's that pydicom ships cut to one frame."""

    def mend(name: str = "liver_1frame.dcm", **attributes: Any) -> Path:
        source = get_testdata_file(name, download=False)
        assert isinstance(source, str)
        dataset = dcmread(source)
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
        dicom: SimpleNamespace,
        tmp_path_factory: pytest.TempPathFactory,
        data: st.DataObject,
    ) -> None:
        folder = tmp_path_factory.mktemp("stack")
        count = data.draw(st.integers(1, 7))
        kept = data.draw(st.sets(st.integers(0, count - 1), min_size=1))
        names = data.draw(st.permutations(range(count)))
        across, down, normal = axes(data.draw(st.tuples(*[st.floats(-3.1, 3.1)] * 3)))
        gap = data.draw(st.sampled_from([-2.5, 0.7, 3.0]))
        for number in kept:
            stated = dicom.dataset(
                number,
                ImagePositionPatient=(gap * number * normal).round(6).tolist(),
                ImageOrientationPatient=[*across.round(9), *down.round(9)],
            )
            dicom.save(stated, folder / f"{names[number]}.dcm")
        image = record(folder)
        kind = data.draw(st.sampled_from(["binary", "labelmap", "fractional"]))
        masks = scattered(image, data.draw(st.integers(1, 3)), data.draw(st.integers(0, 99)))
        masks[:, 0, 0, -1] = 1
        if kind == "fractional":
            masks *= np.uint8(data.draw(st.integers(128, 255)))
        labels = np.zeros(image.spatial_shape, np.uint8)
        for mask, target in zip(masks, TARGETS, strict=False):
            labels[mask != 0] = target.label

        dataset = made(image, [labels] if kind == "labelmap" else masks, kind)
        shuffled(dataset, data.draw(st.integers(0, 99)))
        read = read_segmentation(saved(dataset, folder / "seg"))

        assert image.slice_affines is not None
        spread = slices_of(read) if not read.problem else read.geometry.slice_affines
        assert spread is not None
        gaps = np.diff(sorted(kept))
        assert not read.problem or (gaps % max(gaps.min(initial=9), 1)).any()
        by_label = {target.label: target.name for target in TARGETS}
        for segment in read.segments:
            found = in_space(read.mask(segment.number), spread)
            if kind == "labelmap":
                assert by_label[segment.number] == segment.label
                expected = (labels == segment.number).astype(np.uint8)
            else:
                names_of = [target.name for target in TARGETS]
                expected = masks[names_of.index(segment.label)]
            assert found == in_space(expected, image.slice_affines)
        assert {s.number for s in read.segments} == (
            set(np.unique(labels).tolist()) - {0}
            if kind == "labelmap"
            else set(range(1, len(masks) + 1))
        )

    def test_says_what_each_segment_is(self, stack: Image, tmp_path: Path) -> None:
        path = saved(made(stack, scattered(stack, 2)), tmp_path / "seg")

        read = read_segmentation(path)

        first = read.segments[0]
        assert (first.number, first.label, first.type) == (1, "liver", TARGETS[0].type)
        assert first.category == TISSUE
        assert first.algorithm_type == "AUTOMATIC"
        assert first.algorithm_name == "esp-medsam"
        assert first.color == pytest.approx(TARGETS[0].color, abs=2)
        assert read.kind == "binary"
        assert read.source_series == ("1.2.3",)
        assert read.source_instances == {f"1.2.3.{k}" for k in range(1, 6)}

    def test_of_a_cine_has_its_frames_in_order(
        self, dicom: SimpleNamespace, tmp_path: Path
    ) -> None:
        stated = dicom.picture(
            0, UltrasoundMultiFrameImageStorage, NumberOfFrames=5, PixelData=bytes(240)
        )
        image = record(dicom.save(stated, tmp_path / "cine"))
        masks = scattered(image, 2)
        dataset = made(image, masks)
        shuffled(dataset, 3)

        read = read_segmentation(saved(dataset, tmp_path / "seg"))

        assert read.spatial_shape == (4, 6, 5)
        assert "no position" in read.problem
        np.testing.assert_array_equal(read.mask(2), masks[1])

    def test_of_a_picture_is_rows_and_columns(self, dicom: SimpleNamespace, tmp_path: Path) -> None:
        image = record(dicom.save(dicom.picture(), tmp_path / "picture"))
        masks = scattered(image, 1)

        read = read_segmentation(saved(made(image, masks), tmp_path / "seg"))

        np.testing.assert_array_equal(read.mask(1), masks[0])
        assert read.geometry.affine is None

    def test_that_is_empty_has_empty_masks(self, stack: Image, tmp_path: Path) -> None:
        dataset = made(stack, np.zeros((2, *stack.spatial_shape), np.uint8), write_empty=True)

        read = read_segmentation(saved(dataset, tmp_path / "seg"))

        assert [read.mask(number).any() for number in (1, 2)] == [False, False]


class TestGrid:
    def test_includes_planes_that_hold_no_segment(self, stack: Image, tmp_path: Path) -> None:
        mask = np.zeros(stack.spatial_shape, np.uint8)
        mask[1, 2, 1] = mask[3, 1, 4] = 1

        read = read_segmentation(saved(made(stack, [mask]), tmp_path / "seg"))

        assert stack.affine is not None
        assert read.spatial_shape == (6, 4, 4)
        np.testing.assert_array_equal(read.mask(1), mask[..., 1:])
        expected = stack.affine.copy()
        expected[:3, 3] += stack.affine[:3, 2]
        np.testing.assert_allclose(read.geometry.affine, expected, atol=1e-6)
        assert read.warnings == ()

    def test_is_not_made_up_where_distances_are_no_multiples(
        self, stack: Image, tmp_path: Path
    ) -> None:
        dataset = made(stack, np.ones((1, *stack.spatial_shape), np.uint8))
        position = dataset.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0]
        position.ImagePositionPatient[2] += 0.1

        read = read_segmentation(saved(dataset, tmp_path / "seg"))

        assert read.geometry.affine is None
        assert "not evenly spaced" in read.problem
        assert read.mask(1).all()

    def test_takes_the_least_distance_where_none_is_stated_and_says_so(
        self, stack: Image, tmp_path: Path
    ) -> None:
        mask = np.zeros(stack.spatial_shape, np.uint8)
        mask[..., ::2] = 1
        dataset = made(stack, [mask])
        measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        del measures.SpacingBetweenSlices

        read = read_segmentation(saved(dataset, tmp_path / "seg"))

        assert read.spatial_shape == (6, 4, 3)
        (warning,) = read.warnings
        assert "states no spacing between its planes; they were taken to be 4 mm apart" in warning
        assert read.with_spacing(2.0).spatial_shape == (6, 4, 5)
        np.testing.assert_array_equal(read.with_spacing(2.0).mask(1), mask)

    def test_believes_positions_where_the_stated_spacing_contradicts_them(
        self, stack: Image, tmp_path: Path
    ) -> None:
        dataset = made(stack, np.ones((1, *stack.spatial_shape), np.uint8))
        measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        measures.SpacingBetweenSlices = 5

        read = read_segmentation(saved(dataset, tmp_path / "seg"))

        assert read.spatial_shape == (6, 4, 5)
        assert "contradict the spacing of 5 mm" in read.warnings[0]

    def test_of_one_plane_of_no_stated_depth_is_none(self, stack: Image, tmp_path: Path) -> None:
        mask = np.zeros(stack.spatial_shape, np.uint8)
        mask[..., 2] = 1
        dataset = made(stack, [mask])
        measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        del measures.SpacingBetweenSlices, measures.SliceThickness

        read = read_segmentation(saved(dataset, tmp_path / "seg"))

        assert read.geometry.affine is None
        assert "one plane" in read.problem
        assert read.with_spacing(2.0).geometry.affine is not None

    def test_refuses_two_frames_of_a_segment_in_one_place(
        self, stack: Image, tmp_path: Path
    ) -> None:
        dataset = made(stack, np.ones((1, *stack.spatial_shape), np.uint8))
        groups = dataset.PerFrameFunctionalGroupsSequence
        groups[1].PlanePositionSequence = groups[0].PlanePositionSequence

        with pytest.raises(GeometryError, match=r"\(frame 2\) and .*\(frame 1\) lie in one place"):
            read_segmentation(saved(dataset, tmp_path / "seg"))

    def test_refuses_frames_beside_one_another(self, stack: Image, tmp_path: Path) -> None:
        dataset = made(stack, np.ones((2, *stack.spatial_shape), np.uint8))
        position = dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
        position.ImagePositionPatient[0] += 10

        with pytest.raises(GeometryError, match="beside one another"):
            read_segmentation(saved(dataset, tmp_path / "seg"))

    def test_refuses_a_stack_that_would_not_fit(
        self, stack: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mask = np.zeros(stack.spatial_shape, np.uint8)
        mask[..., [0, 4]] = 1
        dataset = made(stack, [mask])
        measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        measures.SpacingBetweenSlices = 8 / 1000

        read = read_segmentation(saved(dataset, tmp_path / "seg"))

        monkeypatch.setattr("esp_medsam.memory.available_memory", lambda: 24_000)
        with pytest.raises(TooLargeError, match="1001 x 4 x 6 mask"):
            read.mask(1)


class TestLabelmap:
    def test_of_binary_segments_has_their_numbers(self, stack: Image, tmp_path: Path) -> None:
        masks = scattered(stack, 2)
        masks[1][masks[0] != 0] = 0

        read = read_segmentation(saved(made(stack, masks), tmp_path / "seg"))

        np.testing.assert_array_equal(read.labelmap(), masks[0] + 2 * masks[1])

    def test_of_large_numbers_is_wide_enough(self, stack: Image, tmp_path: Path) -> None:
        mask = scattered(stack, 1)
        dataset = made(stack, mask)
        dataset.SegmentSequence[0].SegmentNumber = 300
        for group in dataset.PerFrameFunctionalGroupsSequence:
            group.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 300

        found = read_segmentation(saved(dataset, tmp_path / "seg")).labelmap()

        assert found.dtype == np.uint16
        np.testing.assert_array_equal(found, mask[0] * np.uint16(300))

    def test_of_16_bits_is_read(self, stack: Image, tmp_path: Path) -> None:
        labels = np.full(stack.spatial_shape, 200, np.uint8)
        labels[0] = 0
        dataset = made(stack, [labels], "labelmap")
        wide = np.frombuffer(dataset.PixelData, np.uint8).astype("<u2")
        wide[wide == 200] = 40_000
        dataset.SegmentSequence[1].SegmentNumber = 40_000
        path = changed(
            dataset,
            tmp_path / "seg",
            BitsAllocated=16,
            BitsStored=16,
            HighBit=15,
            PixelData=wide.tobytes(),
        )

        found = read_segmentation(path).labelmap()

        assert found.dtype == np.uint16
        np.testing.assert_array_equal(found, (labels != 0) * np.uint16(40_000))

    def test_is_refused_where_segments_overlap(self, stack: Image, tmp_path: Path) -> None:
        masks = np.ones((2, *stack.spatial_shape), np.uint8)
        read = read_segmentation(saved(made(stack, masks), tmp_path / "seg"))

        with pytest.raises(OptionError, match=r"segment 2 overlaps.*--split_segments"):
            read.labelmap()

        assert read.mask(2).all()

    def test_is_refused_of_fractions(self, stack: Image, tmp_path: Path) -> None:
        masks = np.full((1, *stack.spatial_shape), 255, np.uint8)
        read = read_segmentation(saved(made(stack, masks, "fractional"), tmp_path / "seg"))

        with pytest.raises(OptionError, match="FRACTIONAL"):
            read.labelmap()


class TestShipped:
    def test_dcmqi_file_is_what_highdicom_reads(self, shipped: Callable[..., Path]) -> None:
        path = shipped()
        expected = hd.seg.segread(path).get_stored_frames([1])[0]

        read = read_segmentation(path)

        assert expected.any()
        np.testing.assert_array_equal(read.mask(1)[..., 0], expected.T)
        np.testing.assert_allclose(
            read.geometry.affine,
            [[-0.810547, 0, 0, 235.2], [0, -0.810547, 0, 226.8], [0, 0, 1, -128.69], [0, 0, 0, 1]],
        )

    def test_big_endian_file_is_the_same(self, shipped: Callable[..., Path]) -> None:
        little, big = (
            read_segmentation(shipped(name))
            for name in ("liver_1frame.dcm", "liver_expb_1frame.dcm")
        )

        assert little.mask(1).any()
        np.testing.assert_array_equal(little.mask(1), big.mask(1))
        assert little.segments == big.segments

    def test_file_that_describes_more_frames_than_it_has_is_refused(self) -> None:
        path = get_testdata_file("liver_1frame.dcm", download=False)
        assert isinstance(path, str)

        with pytest.raises(FormatError, match="3 items for 1 frames"):
            read_segmentation(path)

    def test_text_beyond_ascii_is_read(self, shipped: Callable[..., Path]) -> None:
        path = shipped(SpecificCharacterSet="ISO_IR 192")
        dataset = dcmread(path)
        dataset.SegmentSequence[0].SegmentLabel = "肝臓"
        dataset.save_as(path)

        assert read_segmentation(path).segments[0].label == "肝臓"

    def test_a_byte_changed_anywhere_raises_errors_of_ours_alone(
        self, shipped: Callable[..., Path], tmp_path: Path
    ) -> None:
        content = shipped().read_bytes()
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
        self, shipped: Callable[..., Path]
    ) -> None:
        path = shipped()
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
            ({"NumberOfFrames": 2_000_000_000}, "bytes of pixels"),
            ({"SamplesPerPixel": 3}, "one whole number"),
            ({"BitsAllocated": 32}, "BitsAllocated"),
            ({"SegmentationType": "FRACTIONAL"}, "BitsAllocated"),
            ({"PixelData": b"\0\0"}, "bytes of pixels"),
        ],
    )
    def test_by_what_the_header_claims(
        self, stack: Image, tmp_path: Path, changes: dict[str, Any], error: str
    ) -> None:
        dataset = made(stack, scattered(stack, 1))

        with pytest.raises(EspMedSamError, match=error):
            read_segmentation(changed(dataset, tmp_path / "seg", **changes))

    def test_by_a_segment_that_is_not_described(self, stack: Image, tmp_path: Path) -> None:
        dataset = made(stack, scattered(stack, 2))
        dataset.SegmentSequence = dataset.SegmentSequence[:1]
        group = dataset.PerFrameFunctionalGroupsSequence[-1]
        group.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 7

        with pytest.raises(CorruptFileError, match="got 2"):
            read_segmentation(saved(dataset, tmp_path / "seg"))

    def test_by_a_value_that_no_segment_has(self, stack: Image, tmp_path: Path) -> None:
        labels = np.full(stack.spatial_shape, 200, np.uint8)
        dataset = made(stack, [labels], "labelmap")
        read = read_segmentation(
            changed(dataset, tmp_path / "seg", PixelData=b"\7" * len(dataset.PixelData))
        )

        with pytest.raises(CorruptFileError, match=r"LABELMAP.*holds 7"):
            read.labelmap()

    def test_by_a_number_that_two_segments_have(self, stack: Image, tmp_path: Path) -> None:
        dataset = made(stack, scattered(stack, 2))
        dataset.SegmentSequence[1].SegmentNumber = 1

        with pytest.raises(CorruptFileError, match="one twice"):
            read_segmentation(saved(dataset, tmp_path / "seg"))

    def test_by_a_segment_that_is_asked_for_and_not_there(
        self, stack: Image, tmp_path: Path
    ) -> None:
        read = read_segmentation(saved(made(stack, scattered(stack, 1)), tmp_path / "seg"))

        with pytest.raises(OptionError, match="got 2"):
            read.mask(2)


class TestCompressed:
    @pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
    def test_labelmap_is_what_it_was(
        self, dicom: SimpleNamespace, tmp_path: Path, syntax: str
    ) -> None:
        dicom.save_stack(tmp_path, 2, Rows=40, Columns=50, PixelData=bytes(4000))
        stack = record(tmp_path)
        labels = scattered(stack, 1)[0] * np.uint8(200)
        dataset = made(stack, [labels], "labelmap")
        buffer = io.BytesIO()
        write_segmentation(dataset, buffer)
        plain = dcmread(io.BytesIO(buffer.getvalue()))
        assert plain.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        pytest.importorskip("jpeg_ls", reason="pyjpegls encodes what this test reads")
        plain.compress(syntax, generate_instance_uid=False)
        plain.save_as(tmp_path / "seg")

        np.testing.assert_array_equal(read_segmentation(tmp_path / "seg").labelmap(), labels)
