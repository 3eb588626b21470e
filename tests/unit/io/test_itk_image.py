from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esp_medsam.errors import (
    CorruptFileError,
    FormatError,
    GeometryError,
    NonFiniteError,
    OptionError,
    ReadError,
    TooLargeError,
)
from esp_medsam.io.itk_image import read_itk


VOLUME = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4) - 5
SERIES = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)
AFFINE = np.array([[-1.0, 0, 0, -10], [0, -2, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]])
STEPS = "(1,0,0) (0,2,0) (0,0,3)"

Write = Callable[..., Path]


def nrrd_text(array: np.ndarray, fields: Mapping[str, str | None]) -> bytes:
    names = {"<i2": "short", "|u1": "uchar", "<f4": "float", "<i8": "int64", "|i1": "int8"}
    stated: dict[str, str | None] = {
        "type": names.get(array.dtype.str, "double"),
        "dimension": str(array.ndim),
        "sizes": " ".join(map(str, array.shape)),
        "encoding": "raw",
        "endian": "little",
        "space": "left-posterior-superior",
        "space directions": STEPS,
        "space origin": "(10,20,30)",
    }
    stated |= fields
    lines = [f"{name}: {value}" for name, value in stated.items() if value is not None]
    return "\n".join(["NRRD0005", "# made by a test", *lines, "", ""]).encode()


def mha_text(array: np.ndarray, fields: Mapping[str, str | None], *, channels: int = 1) -> bytes:
    names = {"<i2": "MET_SHORT", "|u1": "MET_UCHAR", "<f4": "MET_FLOAT", "<i8": "MET_LONG_LONG"}
    shape = array.shape if channels == 1 else array.shape[1:]
    axes = len(shape)
    stated: dict[str, str | None] = {
        "ObjectType": "Image",
        "NDims": str(axes),
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "TransformMatrix": " ".join(str(int(i)) for i in np.eye(axes).ravel()),
        "Offset": " ".join(["10", "20", "30", "0"][:axes]),
        "ElementSpacing": " ".join(["1", "2", "3", "1"][:axes]),
        "DimSize": " ".join(map(str, shape)),
        "ElementNumberOfChannels": str(channels) if channels > 1 else None,
        "ElementType": names[array.dtype.str],
        "ElementDataFile": "LOCAL",
    }
    last = stated.pop("ElementDataFile")
    stated |= fields
    stated["ElementDataFile"] = stated.pop("ElementDataFile", last)
    lines = [f"{name} = {value}" for name, value in stated.items() if value is not None]
    return "\n".join([*lines, ""]).encode()


@pytest.fixture
def write_nrrd(tmp_path: Path) -> Write:
    """Return a function that writes an array as NRRD, header fields by name."""

    def write(array: np.ndarray = VOLUME, data: bytes | None = None, **fields: str | None) -> Path:
        spelled = {name.replace("_", " "): value for name, value in fields.items()}
        content = array.tobytes(order="F") if data is None else data
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}_a.nrrd"
        path.write_bytes(nrrd_text(array, spelled) + content)
        return path

    return write


@pytest.fixture
def write_mha(tmp_path: Path) -> Write:
    """Return a function that writes an array as MetaImage, header fields by name."""

    def write(
        array: np.ndarray = VOLUME,
        data: bytes | None = None,
        channels: int = 1,
        **fields: str | None,
    ) -> Path:
        content = array.tobytes(order="F") if data is None else data
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}_a.mha"
        path.write_bytes(mha_text(array, fields, channels=channels) + content)
        return path

    return write


class TestGeometry:
    @pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
    def test_values_and_places_are_those_of_simpleitk(self, tmp_path: Path, suffix: str) -> None:
        image = SimpleITK.GetImageFromArray(VOLUME.T)
        turned = nib.eulerangles.euler2mat(0.2, -0.7, 1.1)
        image.SetDirection(turned.ravel())
        image.SetSpacing((0.7, 1.3, 4.1))
        image.SetOrigin((-123.4, 56.7, 8.9))
        path = tmp_path / f"a{suffix}"
        SimpleITK.WriteImage(image, str(path), useCompression=suffix in (".nrrd", ".mha"))

        content = read_itk(path)

        corner = np.array([1, 2, 3, 1.0])
        place = np.array(image.TransformIndexToPhysicalPoint((1, 2, 3))) * [-1, -1, 1]
        np.testing.assert_array_equal(content.pixels[0], VOLUME)
        np.testing.assert_allclose((content.affine @ corner)[:3], place, atol=1e-9)
        assert content.pixels.dtype == np.int16
        assert content.warnings == ()

    @pytest.mark.parametrize(
        ("space", "signs"),
        [("LPS", (-1, -1, 1)), ("RAS", (1, 1, 1)), ("left-anterior-superior", (-1, 1, 1))],
    )
    def test_spaces_of_the_patient_are_turned_exactly(
        self, write_nrrd: Write, space: str, signs: tuple[int, int, int]
    ) -> None:
        directions = "(0.1,0,0.3) (0,2,0) (-0.3,0,0.1)"

        content = read_itk(write_nrrd(space=space, space_directions=directions))

        stated = np.array([[0.1, 0, -0.3, 10], [0, 2, 0, 20], [0.3, 0, 0.1, 30]])
        np.testing.assert_array_equal(content.affine[:3], np.array(signs)[:, None] * stated)

    def test_each_row_of_a_matrix_is_the_direction_of_an_axis(self, write_mha: Write) -> None:
        content = read_itk(write_mha(TransformMatrix="0 1 0 -1 0 0 0 0 1"))

        expected = [[0, 2, 0, -10], [-1, 0, 0, -20], [0, 0, 3, 30]]
        np.testing.assert_array_equal(content.affine[:3], expected)

    def test_keeps_a_shear_exactly_and_warns(self, write_nrrd: Write, write_mha: Write) -> None:
        sheared = AFFINE.copy()
        sheared[0, 1] = -0.5

        for path in (
            write_nrrd(space_directions="(1,0,0) (0.5,2,0) (0,0,3)"),
            write_mha(TransformMatrix="1 0 0 0.25 1 0 0 0 1"),
        ):
            content = read_itk(path)
            np.testing.assert_array_equal(content.affine, sheared)
            assert "sheared" in content.warnings[0]

    @pytest.mark.parametrize(
        ("fields", "found"),
        [
            ({"space": None, "space_directions": None, "spacings": "1 2 3"}, "space directions"),
            ({"space_directions": None}, "space directions"),
            ({"space": "scanner-xyz"}, "in the patient"),
            ({"space_directions": "(1,0,0) (1,0,0) (0,0,3)"}, "singular"),
            ({"space_directions": "(1,0,0) (0,0,0) (0,0,3)"}, "no length"),
            ({"space_directions": "(1,0,0) (0,2,0)"}, "for each of 3 axes"),
            ({"space_directions": "(1,0,0) (0,nan,0) (0,0,3)"}, "finite numbers"),
            ({"space_directions": "(1,0,0) (0,1,5,0) (0,0,3)"}, "finite numbers"),
            ({"space_origin": "(inf,0,0)"}, "finite numbers"),
        ],
    )
    def test_refuses_nrrd_without_usable_directions(
        self, write_nrrd: Write, fields: dict[str, str | None], found: str
    ) -> None:
        with pytest.raises(GeometryError, match=rf"a\.nrrd must .*{found}"):
            read_itk(write_nrrd(**fields))

    @pytest.mark.parametrize(
        ("fields", "found"),
        [
            ({"ElementSpacing": None}, "ElementSpacing"),
            ({"ElementSpacing": "1 0 3"}, "no length"),
            ({"ElementSpacing": "1 1e999 3"}, "finite numbers"),
            ({"Offset": "1,5 2 3"}, "finite numbers"),
            ({"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, "singular"),
            ({"TransformMatrix": "1 0 0 1"}, "9 finite numbers"),
        ],
    )
    def test_refuses_metaimage_without_usable_directions(
        self, write_mha: Write, fields: dict[str, str | None], found: str
    ) -> None:
        with pytest.raises(GeometryError, match=rf"a\.mha must .*{found}"):
            read_itk(write_mha(**fields))

    def test_says_what_was_assumed(self, write_nrrd: Write, write_mha: Write) -> None:
        missing = read_itk(write_mha(TransformMatrix=None))
        origin = read_itk(write_nrrd(space_origin=None))
        meters = read_itk(write_nrrd(space_units='"m" "m" "m"'))

        assert "no orientation" in missing.warnings[0]
        assert "states no position" in origin.warnings[0]
        assert "read as millimeters" in meters.warnings[0]


class TestValues:
    @pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
    @pytest.mark.parametrize(
        ("stored", "held"),
        [
            ("u1", "u1"), ("i1", "i1"), ("i2", "i2"), ("u2", "u2"), ("i4", "i4"), ("u4", "i4"),
            ("i8", "i4"), ("u8", "i4"), ("f4", "f4"), ("f8", "f4"),
        ],
    )  # fmt: skip
    def test_keeps_the_numbers_of_every_type(
        self, tmp_path: Path, suffix: str, stored: str, held: str
    ) -> None:
        values = np.arange(24).reshape(2, 3, 4)
        image = SimpleITK.GetImageFromArray(values.T.astype(stored))
        SimpleITK.WriteImage(image, str(tmp_path / f"a{suffix}"))

        pixels = read_itk(tmp_path / f"a{suffix}").pixels

        assert pixels.dtype == np.dtype(held)
        assert pixels.flags.owndata or pixels.base is not None
        np.testing.assert_array_equal(pixels[0], values)

    def test_large_integers_become_single_precision(self, write_mha: Write) -> None:
        values = VOLUME.astype(np.int64) << 40

        pixels = read_itk(write_mha(values)).pixels

        assert pixels.dtype == np.float32
        np.testing.assert_array_equal(pixels[0], values.astype(np.float32))

    def test_long_numbers_have_4_bytes_or_are_refused(self, write_mha: Write) -> None:
        four = write_mha(data=VOLUME.astype("<i4").tobytes(order="F"), ElementType="MET_LONG")
        eight = write_mha(data=VOLUME.astype("<i8").tobytes(order="F"), ElementType="MET_LONG")

        np.testing.assert_array_equal(read_itk(four).pixels[0], VOLUME)
        with pytest.raises(FormatError, match="room for 8"):
            read_itk(eight)

    def test_reads_big_endian(self, write_nrrd: Write, write_mha: Write) -> None:
        swapped = VOLUME.astype(">i2").tobytes(order="F")

        for path in (
            write_nrrd(data=swapped, endian="big"),
            write_mha(data=swapped, BinaryDataByteOrderMSB="True"),
        ):
            np.testing.assert_array_equal(read_itk(path).pixels[0], VOLUME)

    def test_reads_gzip_zlib_and_text(self, write_nrrd: Write, write_mha: Write) -> None:
        raw = VOLUME.tobytes(order="F")
        text = " ".join(map(str, VOLUME.ravel(order="F"))).encode()
        packed = zlib.compress(raw)

        for path in (
            write_nrrd(data=gzip.compress(raw), encoding="gzip"),
            write_nrrd(data=text, encoding="ascii"),
            write_mha(data=packed, CompressedData="True", CompressedDataSize=str(len(packed))),
        ):
            np.testing.assert_array_equal(read_itk(path).pixels[0], VOLUME)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_refuses_voxels_that_are_not_finite(self, write_nrrd: Write, value: float) -> None:
        values = VOLUME.astype(np.float32)
        values[1, 2, 3] = value

        with pytest.raises(NonFiniteError, match="NaN or infinite voxels"):
            read_itk(write_nrrd(values))

    @pytest.mark.parametrize(
        ("fields", "found"),
        [
            ({"encoding": "bzip2", "data": bz2.compress(VOLUME.tobytes())}, "raw, gzip or text"),
            ({"encoding": "hex"}, "raw, gzip or text"),
            ({"type": "block", "block_size": "2"}, "real numbers"),
            ({"line_skip": "1"}, "skips some"),
            ({"byte_skip": "-1"}, "skips some"),
        ],
    )
    def test_refuses_nrrd_that_itk_does_not_read(
        self, write_nrrd: Write, fields: dict[str, Any], found: str
    ) -> None:
        with pytest.raises(FormatError, match=found):
            read_itk(write_nrrd(**fields))

    @pytest.mark.parametrize(
        ("fields", "found"),
        [
            ({"BinaryData": "False"}, "binary numbers"),
            ({"ElementType": "MET_STRING"}, "real numbers"),
            ({"ElementToIntensityFunctionSlope": "2"}, "does not apply"),
        ],
    )
    def test_refuses_metaimage_that_itk_does_not_read(
        self, write_mha: Write, fields: dict[str, str], found: str
    ) -> None:
        with pytest.raises(FormatError, match=found):
            read_itk(write_mha(**fields))


class TestShapes:
    def test_one_volume_of_a_fourth_axis(self, write_mha: Write) -> None:
        content = read_itk(write_mha(SERIES), frame=3)

        np.testing.assert_array_equal(content.pixels[0], SERIES[..., 3])
        np.testing.assert_array_equal(content.affine, AFFINE)
        assert content.warnings == ("It holds 5 volumes; number 3, counted from 0, was read.",)

    @pytest.mark.parametrize("dtype", ["i2", "f4", "i8", "u1"])
    def test_one_volume_of_channels(self, write_mha: Write, dtype: str) -> None:
        channels = np.ascontiguousarray(np.moveaxis(SERIES, -1, 0)).astype(dtype)

        content = read_itk(write_mha(channels, channels=5), frame=3)

        np.testing.assert_array_equal(content.pixels[0], SERIES[..., 3])

    @pytest.mark.parametrize("kind", ["list", "vector"])
    @pytest.mark.parametrize("first", [True, False])
    def test_one_volume_of_a_list(self, write_nrrd: Write, kind: str, first: bool) -> None:
        array = np.ascontiguousarray(np.moveaxis(SERIES, -1, 0)) if first else SERIES
        directions, kinds = [STEPS], ["space space space"]
        directions.insert(0 if first else 1, "none")
        kinds.insert(0 if first else 1, kind)

        content = read_itk(
            write_nrrd(array, kinds=" ".join(kinds), space_directions=" ".join(directions)), 3
        )

        np.testing.assert_array_equal(content.pixels[0], SERIES[..., 3])
        np.testing.assert_array_equal(content.affine, AFFINE)

    def test_drops_an_axis_of_one(self, write_nrrd: Write, write_mha: Write) -> None:
        listed = {"kinds": "space space space list", "space_directions": f"{STEPS} none"}

        for path in (write_nrrd(VOLUME[..., None], **listed), write_mha(VOLUME[..., None])):
            content = read_itk(path, frame=7)
            np.testing.assert_array_equal(content.pixels[0], VOLUME)
            assert content.file_shape is None

    def test_several_volumes_need_a_choice_that_exists(self, write_mha: Write) -> None:
        path = write_mha(SERIES)

        with pytest.raises(FormatError, match=r"got 2 x 3 x 4 x 5 .* with frame, from 0 to 4"):
            read_itk(path)
        for frame in (-1, 5):
            with pytest.raises(OptionError, match=rf"in 0\.\.4 for .*a\.mha; got {frame}"):
                read_itk(path, frame)

    def test_a_2d_image_is_a_stack_of_one_slice(self, write_mha: Write) -> None:
        content = read_itk(write_mha(VOLUME[..., 1]))

        np.testing.assert_array_equal(content.pixels[0, ..., 0], VOLUME[..., 1])
        np.testing.assert_array_equal(content.affine[:2], AFFINE[:2])
        np.testing.assert_array_equal(content.affine[2], [0, 0, 1, 0])
        assert content.file_shape == (2, 3)

    @pytest.mark.parametrize(
        ("array", "fields", "found"),
        [
            (VOLUME[..., 0], {"space_directions": "(1,0,0) (0,2,0)"}, "three axes in space"),
            (SERIES, {"space_directions": f"{STEPS} (0,0,0)"}, "three axes in space"),
            (
                np.zeros((3, 2, 3, 4), np.uint8),
                {"kinds": "RGB-color space space space", "space_directions": f"none {STEPS}"},
                "got colors",
            ),
            (
                SERIES,
                {"kinds": "space space space time", "space_directions": f"{STEPS} none"},
                "as ITK reads it",
            ),
        ],
    )
    def test_refuses_what_is_no_gray_volume(
        self, write_nrrd: Write, array: np.ndarray, fields: dict[str, str], found: str
    ) -> None:
        with pytest.raises(FormatError, match=found):
            read_itk(write_nrrd(array, **fields), frame=0)


class TestDetachedData:
    @pytest.mark.parametrize("name", ["b.raw", "./b.raw", "b c.raw"])
    def test_reads_one_file_beside_the_header(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(b"junk" + VOLUME.tobytes(order="F"))
        nrrd, meta = tmp_path / "a.nhdr", tmp_path / "a.mhd"
        nrrd.write_bytes(nrrd_text(VOLUME, {"byte skip": "4", "data file": name}))
        meta.write_bytes(mha_text(VOLUME, {"HeaderSize": "-1", "ElementDataFile": name}))

        for path in (nrrd, meta):
            np.testing.assert_array_equal(read_itk(path).pixels[0], VOLUME)

    @pytest.mark.parametrize(
        "name",
        ["/etc/passwd", "../a.raw", "sub/a.raw", "..", "C:\\a.raw", "b%02d.raw 1 2 1", "LIST"],
    )
    def test_refuses_a_path_that_leads_elsewhere(self, tmp_path: Path, name: str) -> None:
        nrrd, meta = tmp_path / "a.nhdr", tmp_path / "a.mhd"
        nrrd.write_bytes(nrrd_text(VOLUME, {"data file": name}))
        meta.write_bytes(mha_text(VOLUME, {"ElementDataFile": name}))

        for path in (nrrd, meta):
            with pytest.raises(FormatError, match="data file"):
                read_itk(path)

    def test_refuses_a_missing_and_a_short_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.nhdr"
        path.write_bytes(nrrd_text(VOLUME, {"data file": "b.raw"}))

        with pytest.raises(CorruptFileError, match=r"'b\.raw' is not there"):
            read_itk(path)
        (tmp_path / "b.raw").write_bytes(VOLUME.tobytes()[:-1])
        with pytest.raises(CorruptFileError, match=r"b\.raw is cut short"):
            read_itk(path)


class TestDamage:
    @pytest.mark.parametrize("encoding", ["raw", "gzip", "ascii"])
    def test_refuses_every_truncation_of_nrrd(self, write_nrrd: Write, encoding: str) -> None:
        raw = VOLUME.tobytes(order="F")
        text = " ".join(map(str, VOLUME.ravel(order="F") + 100)).encode()
        data = {"raw": raw, "gzip": gzip.compress(raw), "ascii": text}[encoding]
        path = write_nrrd(data=data, encoding=encoding)
        whole = path.read_bytes()
        last = {"raw": 1, "gzip": 1, "ascii": 4}[encoding]  # fewer digits are another number

        for end in [*range(1, len(whole) - len(data), 11), len(whole) - 9, len(whole) - last]:
            path.write_bytes(whole[:end])
            with pytest.raises((ReadError, GeometryError)):
                read_itk(path)

    def test_refuses_every_truncation_of_metaimage(self, write_mha: Write) -> None:
        packed = zlib.compress(VOLUME.tobytes(order="F"))
        for path in (
            write_mha(data=packed, CompressedData="True", CompressedDataSize=str(len(packed))),
            write_mha(),
        ):
            whole = path.read_bytes()
            for end in [*range(1, len(whole) - len(packed), 13), len(whole) - 1]:
                path.write_bytes(whole[:end])
                with pytest.raises((ReadError, GeometryError)):
                    read_itk(path)

    def test_refuses_compressed_data_that_hold_less_than_claimed(self, write_mha: Write) -> None:
        short = zlib.compress(bytes(10))
        fields = {"CompressedData": "True", "CompressedDataSize": str(len(short))}

        with pytest.raises(CorruptFileError, match="cut short"):
            read_itk(write_mha(data=short, **fields))

    def test_refuses_compressed_data_of_unknown_size(self, write_mha: Write) -> None:
        with pytest.raises(CorruptFileError, match="CompressedDataSize"):
            read_itk(write_mha(data=zlib.compress(VOLUME.tobytes()), CompressedData="True"))

    def test_refuses_a_wrong_checksum(self, write_nrrd: Write) -> None:
        content = bytearray(gzip.compress(VOLUME.tobytes(order="F")))
        content[-6] ^= 1

        with pytest.raises(CorruptFileError, match="whole compressed data"):
            read_itk(write_nrrd(data=bytes(content), encoding="gzip"))

    def test_says_that_bytes_were_passed_over(self, write_nrrd: Write, write_mha: Write) -> None:
        more = VOLUME.tobytes(order="F") + b"more"

        for path in (write_nrrd(data=more), write_mha(data=more)):
            content = read_itk(path)
            np.testing.assert_array_equal(content.pixels[0], VOLUME)
            assert any("more bytes" in note for note in content.warnings)

    def test_refuses_a_header_that_claims_more_than_memory(
        self, write_nrrd: Write, write_mha: Write
    ) -> None:
        for path in (
            write_nrrd(sizes="99999 99999 99999"),
            write_nrrd(sizes="99999 99999 99999", encoding="gzip", data=gzip.compress(b"x")),
            write_mha(DimSize="99999 99999 99999", CompressedData="True", CompressedDataSize="9"),
        ):
            with pytest.raises(TooLargeError, match=r"must fit in memory.* GiB"):
                read_itk(path)

    def test_refuses_a_file_too_small_for_its_claim(
        self, write_nrrd: Write, write_mha: Write
    ) -> None:
        for path in (
            write_nrrd(sizes="700 700 700"),
            write_nrrd(sizes="700 700 700", encoding="gzip", data=gzip.compress(bytes(9))),
            write_nrrd(sizes="700 700 700", encoding="ascii"),
            write_mha(DimSize="700 700 700"),
            write_mha(CompressedData="True", CompressedDataSize=str(10**15)),
        ):
            with pytest.raises(CorruptFileError, match=r"voxels of 2 bytes; .* is cut short"):
                read_itk(path)

    @pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
    @pytest.mark.parametrize(
        "content", [b"x", b"NRRD", b"text " * 99, bytes(600), b"NRRD0005\n", b"NDims = 3\n"]
    )
    def test_refuses_what_is_no_such_file(
        self, tmp_path: Path, suffix: str, content: bytes
    ) -> None:
        path = tmp_path / f"a{suffix}"
        path.write_bytes(content)

        with pytest.raises(ReadError, match=r"a\.\w+ must"):
            read_itk(path)

    def test_refuses_a_field_that_stands_twice(self, write_nrrd: Write, write_mha: Write) -> None:
        nrrd = write_nrrd()
        nrrd.write_bytes(nrrd.read_bytes().replace(b"encoding:", b"sizes: 4 3 2\nencoding:"))
        meta = write_mha()
        meta.write_bytes(meta.read_bytes().replace(b"DimSize", b"DimSize = 4 3 2\nDimSize"))

        for path in (nrrd, meta):
            with pytest.raises(CorruptFileError, match="stands twice"):
                read_itk(path)

    def test_refuses_an_ending_in_capitals_that_itk_does_not_know(self, write_mha: Write) -> None:
        path = write_mha()
        path = path.rename(path.with_name("A.MHA"))

        with pytest.raises(FormatError, match="small letters"):
            read_itk(path)

    @settings(
        max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(data=st.data())
    def test_a_damaged_header_gives_an_image_or_one_of_our_errors(
        self, tmp_path: Path, data: st.DataObject
    ) -> None:
        is_nrrd = data.draw(st.booleans())
        text = nrrd_text(VOLUME, {}) if is_nrrd else mha_text(VOLUME, {})
        path = tmp_path / ("d.nrrd" if is_nrrd else "d.mha")
        content = bytearray(text)
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(bytes(content) + VOLUME.tobytes(order="F"))

        try:
            pixels = read_itk(path, frame=0).pixels
        except (ReadError, GeometryError, NonFiniteError):
            return
        assert pixels.ndim == 4
