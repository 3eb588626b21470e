"""What becomes of each bad picture, all in one folder beside a good one."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from tests.support.picture_bytes import encode, png_chunk


Write = Callable[[Path], None]
Ran = Any  # as the fixture ``segmented`` returns it

PIXELS = np.random.default_rng(0).integers(0, 255, (48, 40, 3)).astype(np.uint8)
PIXELS[10:30, 10:30] = 240


def picture(mode: str = "RGB", pixels: np.ndarray = PIXELS) -> PIL.Image.Image:
    return PIL.Image.fromarray(pixels).convert(mode)


def saved(mode: str = "RGB", form: str = "PNG", **options: Any) -> bytes:
    return encode(picture(mode), form, **options)


def holding(content: bytes) -> Write:
    return lambda path: path.write_bytes(content)


def png(rows: int, columns: int, bits: int, color: int, data: bytes) -> bytes:
    """A PNG that says so many pixels and holds these bytes of them."""

    header = struct.pack(">IIBBBBB", columns, rows, bits, color, 0, 0, 0)
    chunks = (
        png_chunk(b"IHDR", header),
        png_chunk(b"IDAT", zlib.compress(data)),
        png_chunk(b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def claimed(rows: int, columns: int) -> bytes:
    """A PNG of color and transparency in 16 bits that holds next to nothing."""
    return png(rows, columns, 16, 6, bytes(1000))


def half_png() -> bytes:
    """A PNG that lacks its last rows and is closed as if it held them all."""
    return png(48, 40, 8, 2, b"".join(b"\0" + row.tobytes() for row in PIXELS[:10]))


def half_jpeg() -> bytes:
    content = saved(form="JPEG", quality=95)
    return content[: len(content) // 3] + b"\xff\xd9"


def coarse_jpeg() -> bytes:
    """A progressive JPEG whose first scan lacks most of its data, and the others none."""
    content = saved(form="JPEG", quality=95, progressive=True)
    start = content.index(b"\xff\xda") + 14
    end = content.index(b"\xff\xc4", start)
    return content[: start + (end - start) // 4] + content[end:]


def half_tiff(path: Path) -> None:
    """A TIFF in YCbCr that holds half of what its strip unpacks to."""
    picture("YCbCr").save(path, compression="tiff_adobe_deflate")
    with PIL.Image.open(path) as file:
        (size,) = file.tag_v2[279]
    content = path.read_bytes()
    entry = struct.pack("<HHI", 279, 4, 1)
    path.write_bytes(
        content.replace(entry + struct.pack("<I", size), entry + struct.pack("<I", size // 2))
    )


def pages(path: Path) -> None:
    picture().save(path, save_all=True, append_images=[picture()])


def deep(path: Path) -> None:
    PIL.Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 200).save(path)


def single(path: Path) -> None:
    picture(pixels=PIXELS[:1, :1]).save(path)


def turned(path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    picture().save(path, exif=exif)


CASES: dict[str, tuple[str, str, str, Write]] = {
    "I1 a PNG that was cut": ("E_CORRUPT", "cut short", "png", holding(saved()[:2000])),
    "I1 a PNG that lacks rows": ("E_CORRUPT", "missing", "png", holding(half_png())),
    "I1 a JPEG that was cut": ("E_CORRUPT", "cut short", "jpg", holding(saved(form="JPEG")[:900])),
    "I1 a JPEG that was cut and closed": ("E_CORRUPT", "missing", "jpg", holding(half_jpeg())),
    "I1 a progressive JPEG whose first scan was cut": (
        "E_CORRUPT",
        "missing",
        "jpg",
        holding(coarse_jpeg()),
    ),
    "I1 a TIFF in YCbCr that was cut": ("E_CORRUPT", "holds less", "tif", half_tiff),
    "I1 an empty PNG": ("E_CORRUPT", "empty", "png", holding(b"")),
    "I2 13,000 x 13,000 pixels in 400 bytes": (
        "E_CORRUPT",
        "missing",
        "png",
        holding(claimed(13_000, 13_000)),
    ),
    "I3 CMYK": ("done", "", "jpg", holding(saved("CMYK", "JPEG"))),
    "I3 a palette": ("done", "", "png", holding(saved("P"))),
    "I3 transparency": ("done", "", "png", holding(saved("RGBA"))),
    "I3 16 bits": ("done", "", "png", deep),
    "I3 turned by EXIF": ("done", "", "jpg", turned),
    "I4 a single pixel": ("done", "constant", "png", single),
    "I4 20,000 x 20,000 pixels": (
        "E_TOO_LARGE",
        "178,956,970 pixels",
        "png",
        holding(claimed(20_000, 20_000)),
    ),
    "I5 several pages": ("E_FORMAT", "has several", "tif", pages),
    "I5 an animation": ("E_FORMAT", "has several", "png", pages),
    "I6 SVG called PNG": ("E_FORMAT", "none of them", "png", holding(b"<svg/>" * 9)),
    "I6 HTML called JPEG": ("E_FORMAT", "none of them", "jpg", holding(b"<!doctype html>" * 9)),
}


def stem_of(case: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", case)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("pictures")
    picture().save(home / "good.png")
    for case, (_, _, ending, write) in CASES.items():
        write(home / f"{stem_of(case)}.{ending}")
    return home


@pytest.fixture(scope="module")
def ran(folder: Path, segmented: Callable[..., Ran]) -> Ran:
    return segmented(folder, "--modality", "endoscopy", "--targets", "polyp")


@pytest.mark.parametrize("case", CASES)
def test_comes_to_what_is_promised(case: str, ran: Ran) -> None:
    code, words, ending, _ = CASES[case]

    outcome, told = ran.outcome(f"{stem_of(case)}.{ending}")

    assert outcome == code, told
    assert re.search(words, told), told
    assert bool(list(ran.out.glob(f"{stem_of(case)}_seg*"))) == (outcome == "done")


def test_mask_of_a_turned_photograph_lies_as_it_is_shown(ran: Ran) -> None:
    with PIL.Image.open(ran.out / "I3_turned_by_EXIF_seg.png") as mask:
        assert mask.size == (48, 40)


def test_good_picture_beside_them_is_done_and_the_status_says_that_others_failed(ran: Ran) -> None:
    assert (ran.out / "good_seg.png").is_file()
    assert ran.status == 1
    assert "Traceback" not in ran.text
