from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esp_medsam.errors import (
    CorruptFileError,
    EspMedSamError,
    FormatError,
    GeometryError,
    NonFiniteError,
    ReadError,
    TooLargeError,
)
from esp_medsam.io.itk_image import files_of_itk, read_itk


Write = Callable[..., Path]


class TestAffine:
    def test_keeps_a_shear_exactly_and_warns(
        self, stated_affine: np.ndarray, write_nrrd: Write, write_mha: Write
    ) -> None:
        sheared = stated_affine.copy()
        sheared[0, 1] = -0.5

        for path in (
            write_nrrd(space_directions="(1,0,0) (0.5,2,0) (0,0,3)"),
            write_mha(TransformMatrix="1 0 0 0.25 1 0 0 0 1"),
        ):
            content = read_itk(path)
            np.testing.assert_array_equal(content.grid.affine, sheared)
            assert "sheared" in content.warnings[0]

    def test_says_what_was_assumed(self, write_nrrd: Write, write_mha: Write) -> None:
        missing = read_itk(write_mha(TransformMatrix=None))
        origin = read_itk(write_nrrd(space_origin=None))
        meters = read_itk(write_nrrd(space_units='"m" "m" "m"'))

        assert "no orientation" in missing.warnings[0]
        assert "states no position" in origin.warnings[0]
        assert "read as millimeters" in meters.warnings[0]


class TestDetachedData:
    @pytest.mark.parametrize("name", ["b.raw", "./b.raw", "b c.raw"])
    def test_reads_one_file_beside_the_header(
        self, write_nrrd: Write, write_mha: Write, volume: np.ndarray, tmp_path: Path, name: str
    ) -> None:
        (tmp_path / name).write_bytes(b"junk" + volume.tobytes(order="F"))

        for path in (
            write_nrrd(data=b"", name="a.nhdr", byte_skip="4", data_file=name),
            write_mha(data=b"", name="a.mhd", HeaderSize="-1", ElementDataFile=name),
        ):
            np.testing.assert_array_equal(read_itk(path).pixels[0], volume)

    @pytest.mark.parametrize(
        "name",
        ["/etc/passwd", "../a.raw", "sub/a.raw", "..", "C:\\a.raw", "b%02d.raw 1 2 1", "LIST"],
    )
    def test_refuses_a_path_that_leads_elsewhere(
        self, write_nrrd: Write, write_mha: Write, name: str
    ) -> None:
        for path in (
            write_nrrd(data=b"", name="a.nhdr", data_file=name),
            write_mha(data=b"", name="a.mhd", ElementDataFile=name),
        ):
            with pytest.raises(FormatError, match="data file"):
                read_itk(path)

    @pytest.mark.parametrize("name", ["LISTx.raw", "LIST2", "list.raw", "List 2"])
    def test_s5_a_file_whose_name_itk_takes_for_a_list_is_refused(
        self, write_nrrd: Write, write_mha: Write, volume: np.ndarray, tmp_path: Path, name: str
    ) -> None:
        (tmp_path / name).write_bytes(volume.tobytes(order="F"))

        for path in (
            write_nrrd(data=b"/dev/zero", name="a.nhdr", data_file=name),
            write_mha(data=b"/dev/zero", name="a.mhd", ElementDataFile=name),
        ):
            with pytest.raises(FormatError, match="names several"):
                read_itk(path)

    def test_s5_only_what_itk_takes_for_the_file_itself_is_local(
        self, write_mha: Write, volume: np.ndarray, tmp_path: Path
    ) -> None:
        (tmp_path / "LoCaL").write_bytes((volume + 1).tobytes(order="F"))
        path = write_mha(ElementDataFile="LoCaL")

        content = read_itk(path)

        np.testing.assert_array_equal(content.pixels[0], volume + 1)
        assert files_of_itk(path) == (path, tmp_path / "LoCaL")

    def test_voxels_may_end_the_file_that_has_the_header(
        self, write_mha: Write, volume: np.ndarray
    ) -> None:
        path = write_mha(data=b"junk" + volume.tobytes(order="F"), HeaderSize="-1")

        np.testing.assert_array_equal(read_itk(path).pixels[0], volume)

    @pytest.mark.parametrize("size", ["1", "4000"])
    def test_refuses_a_header_size_where_voxels_follow_the_header(
        self, write_mha: Write, size: str
    ) -> None:
        with pytest.raises(FormatError, match="no HeaderSize"):
            read_itk(write_mha(HeaderSize=size))

    def test_refuses_a_link_to_elsewhere(
        self, write_nrrd: Write, write_mha: Write, volume: np.ndarray, tmp_path: Path
    ) -> None:
        folder = tmp_path / "elsewhere"
        folder.mkdir()
        (folder / "b.raw").write_bytes(volume.tobytes(order="F"))
        (tmp_path / "b.raw").symlink_to(folder / "b.raw")
        (tmp_path / "c.raw").symlink_to("/dev/zero")

        for name in ("b.raw", "c.raw"):
            for path in (
                write_nrrd(data=b"", name="a.nhdr", data_file=name),
                write_mha(data=b"", name="a.mhd", ElementDataFile=name),
            ):
                with pytest.raises((FormatError, CorruptFileError), match="its data file beside"):
                    read_itk(path)

    def test_a_folder_may_be_a_link(
        self, write_nrrd: Write, volume: np.ndarray, tmp_path: Path
    ) -> None:
        folder = tmp_path / "elsewhere"
        folder.mkdir()
        (folder / "b.raw").write_bytes(volume.tobytes(order="F"))
        write_nrrd(data=b"", name="elsewhere/a.nhdr", data_file="b.raw")
        (tmp_path / "link").symlink_to(folder)

        assert read_itk(tmp_path / "link" / "a.nhdr").pixels.shape == (1, *volume.shape)

    @pytest.mark.parametrize("kind", ["pipe", "folder", "loop"])
    def test_refuses_what_is_no_file(
        self, write_nrrd: Write, write_mha: Write, tmp_path: Path, kind: str
    ) -> None:
        data = tmp_path / "b.raw"
        {
            "pipe": lambda: os.mkfifo(data),
            "folder": data.mkdir,
            "loop": lambda: data.symlink_to("b.raw"),
        }[kind]()

        for path in (
            write_nrrd(data=b"", name="a.nhdr", data_file="b.raw"),
            write_mha(data=b"", name="a.mhd", ElementDataFile="b.raw"),
        ):
            with pytest.raises(CorruptFileError, match=r"'b\.raw' is not there"):
                read_itk(path)

    def test_refuses_a_missing_and_a_short_file(
        self, write_nrrd: Write, volume: np.ndarray, tmp_path: Path
    ) -> None:
        path = write_nrrd(data=b"", name="a.nhdr", data_file="b.raw")

        with pytest.raises(CorruptFileError, match=r"'b\.raw' is not there"):
            read_itk(path)
        (tmp_path / "b.raw").write_bytes(volume.tobytes()[:-1])
        with pytest.raises(CorruptFileError, match=r"b\.raw is cut short"):
            read_itk(path)


class TestDamage:
    def test_refuses_a_field_that_stands_twice(self, write_nrrd: Write, write_mha: Write) -> None:
        nrrd = write_nrrd()
        nrrd.write_bytes(nrrd.read_bytes().replace(b"encoding:", b"sizes: 4 3 2\nencoding:"))
        meta = write_mha()
        meta.write_bytes(meta.read_bytes().replace(b"DimSize", b"DimSize = 4 3 2\nDimSize"))

        for path in (nrrd, meta):
            with pytest.raises(CorruptFileError, match="stands twice"):
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

    @pytest.mark.parametrize("encoding", ["raw", "gzip", "ascii"])
    def test_refuses_nrrd_cut_short_anywhere(
        self, volume: np.ndarray, write_nrrd: Write, encoding: str
    ) -> None:
        raw = volume.tobytes(order="F")
        text = " ".join(map(str, volume.ravel(order="F") + 100)).encode()
        data = {"raw": raw, "gzip": gzip.compress(raw), "ascii": text}[encoding]
        path = write_nrrd(data=data, encoding=encoding)
        whole = path.read_bytes()
        last = {"raw": 1, "gzip": 1, "ascii": 4}[encoding]  # fewer digits are another number

        for end in range(1, len(whole) - last + 1):
            path.write_bytes(whole[:end])
            with pytest.raises((ReadError, GeometryError)):
                read_itk(path)

    def test_refuses_metaimage_cut_short_anywhere(
        self, volume: np.ndarray, write_mha: Write
    ) -> None:
        packed = zlib.compress(volume.tobytes(order="F"))
        for path in (
            write_mha(data=packed, CompressedData="True", CompressedDataSize=str(len(packed))),
            write_mha(),
        ):
            whole = path.read_bytes()
            for end in range(1, len(whole)):
                path.write_bytes(whole[:end])
                with pytest.raises((ReadError, GeometryError)):
                    read_itk(path)

    @settings(
        max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(data=st.data())
    def test_a_damaged_header_gives_an_image_or_one_of_our_errors(
        self, write_nrrd: Write, write_mha: Write, volume: np.ndarray, data: st.DataObject
    ) -> None:
        is_nrrd = data.draw(st.booleans())
        path = write_nrrd(name="d.nrrd") if is_nrrd else write_mha(name="d.mha")
        content = bytearray(path.read_bytes())
        last = len(content) - volume.nbytes - 1
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, last))] = data.draw(st.integers(0, 255))
        path.write_bytes(content)

        try:
            pixels = read_itk(path, frame=0).pixels
        except (ReadError, GeometryError, NonFiniteError):
            return
        assert pixels.ndim == 4


class TestCost:
    """Each of these took seconds, and 90,000 keys a minute and a half."""

    @pytest.mark.parametrize("line", ["k:=v", "k{}:=v", "k{}: v", "# comment", "#"])
    def test_of_a_long_nrrd_header_is_nothing(
        self, write_nrrd: Write, bounded: Callable[..., Any], line: str
    ) -> None:
        path = write_nrrd()
        more = "".join(f"{line.format(k)}\n" for k in range(90_000)).encode()
        path.write_bytes(path.read_bytes().replace(b"\n", b"\n" + more, 1))

        with pytest.raises(TooLargeError, match="a header of at most 8,192 lines"):
            bounded(read_itk, path)

    @pytest.mark.parametrize("line", ["k{} = v", "", "Comment{} ="])
    def test_of_a_long_metaimage_header_is_nothing(
        self, write_mha: Write, bounded: Callable[..., Any], line: str
    ) -> None:
        path = write_mha()
        more = "".join(f"{line.format(k)}\n" for k in range(90_000)).encode()
        path.write_bytes(path.read_bytes().replace(b"\n", b"\n" + more, 1))

        with pytest.raises(TooLargeError, match="a header of at most 8,192 lines"):
            bounded(read_itk, path)

    def test_of_a_line_that_does_not_end_is_nothing(
        self, write_nrrd: Write, write_mha: Write, bounded: Callable[..., Any]
    ) -> None:
        for path in (write_nrrd(), write_mha()):
            path.write_bytes(path.read_bytes().split(b"\n")[0] + b"\nk: " + b"v" * 10**8)
            with pytest.raises((CorruptFileError, FormatError), match="must"):
                bounded(read_itk, path)

    @pytest.mark.parametrize("digits", [19, 300, 4000, 900_000])
    def test_of_a_length_beyond_64_bits_is_nothing(
        self, write_nrrd: Write, write_mha: Write, bounded: Callable[..., Any], digits: int
    ) -> None:
        sizes = "2 3 " + "9" * digits

        for path in (write_nrrd(sizes=sizes), write_mha(DimSize=sizes)):
            with pytest.raises(CorruptFileError, match=r"must have integers.*1"):
                bounded(read_itk, path)

    def test_of_numbers_as_text_is_bounded(
        self, write_nrrd: Write, bounded: Callable[..., Any]
    ) -> None:
        path = write_nrrd(data=b"0 " * 10**7, sizes="1000 1000 10", encoding="text")

        with pytest.raises(TooLargeError, match="at most 8,388,608 numbers as text"):
            bounded(read_itk, path)


class TestTexts:
    def test_s7_of_a_patient_are_in_no_message(self, write_nrrd: Write, write_mha: Write) -> None:
        canary = "DOE^JOHN 1970"

        warnings = (
            *read_itk(write_nrrd(space_units=f'"{canary}" "{canary}" "{canary}"')).warnings,
            *read_itk(write_mha(DistanceUnits=canary)).warnings,
        )
        told = []
        for write, field in (
            (write_nrrd, {"sizes": canary}), (write_nrrd, {"space": canary}),
            (write_nrrd, {"type": canary}), (write_nrrd, {"encoding": canary}),
            (write_nrrd, {"space_origin": canary}), (write_mha, {"DimSize": canary}),
            (write_mha, {"ElementType": canary}), (write_mha, {"Offset": canary}),
            (write_mha, {"ElementDataFile": f"/{canary}"}),
        ):  # fmt: skip
            with pytest.raises(EspMedSamError) as refused:
                read_itk(write(**field))
            told.append(str(refused.value))

        assert not [text for text in (*warnings, *told) if "DOE" in text]
        assert all("another unit" in text for text in warnings)
