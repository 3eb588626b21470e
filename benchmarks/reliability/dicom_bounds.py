"""Cost of hostile DICOM files, for each file and each way to read it.

    python benchmarks/reliability/dicom_bounds.py [--megabytes 30] [--most_seconds 2]
        [--most_megabytes 300]

Prints one line for each file and way: seconds of one core, the most memory beyond that of the
imports, and how it ended. The last lines are no attack but an enhanced MR of many frames. The exit
status is 1 if an attack exceeded a limit. Each is read in a process of its own. Needs Linux.
"""

from __future__ import annotations

import argparse
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path


sys.path.insert(0, str(Path(__file__).parent))
from seeds import a_slice, enhanced, save

from esp_medsam.dicom import find_volumes, read_segmentation
from esp_medsam.dicom.pixel_file import PixelFile, explain_damage
from esp_medsam.dicom.seg.write.source import read_source
from esp_medsam.errors import EspMedSamError
from esp_medsam.grid import Grid
from esp_medsam.image import Image, SourceInstance
from esp_medsam.quiet import quietly


OPEN = 0xFFFFFFFF
"""Undefined length."""

REFERENCED, PER_FRAME, POSITIONS, PIXELS = 0x00081140, 0x52009230, 0x00209113, 0x7FE00010


def element(tag: int, representation: bytes, value: bytes, length: int | None = None) -> bytes:
    """Return an encoded element, whose stated length may be wrong."""
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, representation)
    size = len(value) if length is None else length
    if representation in (b"OB", b"SQ", b"UN"):
        return head + struct.pack("<HL", 0, size) + value
    return head + struct.pack("<H", size) + value


def item(length: int, content: bytes = b"") -> bytes:
    """Return an encoded item of a sequence."""
    return struct.pack("<HHL", 0xFFFE, 0xE000, length) + content


ITEM_END, SEQUENCE_END = (
    struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)[:8],
    (struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)),
)


def attacks(size: int) -> dict[str, Callable[[], bytes]]:
    """Return the functions that make each file, of about ``size`` bytes."""
    empty = item(0) * (size // 8)
    tiny = item(10, element(0x00081150, b"UI", b"1\0")) * (size // 18)
    nested = item(OPEN) + element(POSITIONS, b"SQ", empty + SEQUENCE_END, OPEN) + ITEM_END
    private = element(0x00090010, b"LO", b"x ")
    deep = (element(REFERENCED, b"SQ", b"", OPEN) + item(OPEN)) * 2000
    zeros = bytes(2**24)
    return {
        "empty items, no length": lambda: with_(REFERENCED, b"SQ", empty + SEQUENCE_END, OPEN),
        "empty items of frames": lambda: with_(PER_FRAME, b"SQ", empty),
        "tiny items of frames, no length": lambda: with_(
            PER_FRAME, b"SQ", tiny + SEQUENCE_END, OPEN
        ),
        "empty items in an item of frames": lambda: with_(
            PER_FRAME, b"SQ", nested + SEQUENCE_END, OPEN
        ),
        "empty items, private": lambda: with_(
            0x00091000, b"UN", empty + SEQUENCE_END, OPEN, before=private
        ),
        "tiny elements": lambda: spliced(
            b"".join(element(0x00091000 + k % 0xE000, b"LO", b"") for k in range(size // 8))
        ),
        "2,000 sequences in one another": lambda: spliced(deep),
        "deflated, 1 GB before its pixels": lambda: deflated(
            element(0x00091000, b"OB", b"", 63 * len(zeros)), zeros * 63
        ),
        "deflated, 1 GB behind its pixels": lambda: deflated(b"", b"", behind=zeros * 63),
        "deflated empty items": lambda: deflated(
            element(REFERENCED, b"SQ", b"", OPEN) + item(0) * 2**22, b""
        ),
        "frames that are not there": lambda: saved(a_slice(NumberOfFrames=10**6)),
        "65,000 frames of one pixel": lambda: saved(
            a_slice(
                Modality="US", NumberOfFrames=65_000, Rows=1, Columns=1, PixelData=bytes(65_000)
            )
        ),
    }


def saved(dataset: object, syntax: str = "1.2.840.10008.1.2.1") -> bytes:
    """Return the bytes of a file of a data set."""
    with tempfile.TemporaryDirectory() as folder:
        return save(dataset, Path(folder) / "a", syntax).read_bytes()


def spliced(content: bytes, place: bytes = b"\x18\x00\x50\x00") -> bytes:
    """Return a file with bytes inserted before its Slice Thickness, or another element."""
    whole = saved(a_slice(SliceThickness=2))
    at = whole.rindex(place)
    return whole[:at] + content + whole[at:]


def with_(
    tag: int, representation: bytes, value: bytes, length: int | None = None, before: bytes = b""
) -> bytes:
    """Return a file with an element inserted at its place."""
    place = b"\xe0\x7f\x10\x00" if tag == PER_FRAME else b"\x18\x00\x50\x00"
    return spliced(before + element(tag, representation, value, length), place)


def deflated(before: bytes, value: bytes, behind: bytes = b"") -> bytes:
    """Return a deflated file with an element inserted, or with more bytes at its end."""
    plain, packed = spliced(before + value) + behind, saved(a_slice(), "1.2.840.10008.1.2.1.99")
    start, end = (144 + struct.unpack("<L", whole[140:144])[0] for whole in (plain, packed))
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packed[:end] + deflate.compress(plain[start:]) + deflate.flush()


def read(way: str, path: str) -> None:
    """Read a file in one of the ways."""
    if way == "find":
        found = find_volumes(path)
        for _, error in found.refused:
            raise error
    elif way == "pixels":
        with quietly(), explain_damage(path):
            list(PixelFile(path).frames([0]))
    elif way == "segments":
        read_segmentation(path)
    else:
        source = SourceInstance(path=path, sop_class_uid="1.2", sop_instance_uid="1.2.3.1")
        image = Image(
            path=path, name="a", modality="ct", grid=Grid(shape=(20, 16, 1)), sources=(source,)
        )
        read_source(image)


def most_megabytes() -> float:
    """Return the peak memory of this process; ``getrusage`` would include its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def work(way: str, path: str) -> None:
    """Read a file, and print its cost."""
    find_volumes(__file__)  # so that its imports are loaded
    base = most_megabytes()
    start = time.process_time()
    try:
        read(way, path)
        end = "read"
    except EspMedSamError as error:
        end = str(error).replace(path, "it")
    seconds = time.process_time() - start
    print(f"{seconds:.2f}\t{most_megabytes() - base:.0f}\t{end}")


def main() -> int:
    """Read each file in each way; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=30)
    parser.add_argument("--most_seconds", type=float, default=2)
    parser.add_argument("--most_megabytes", type=float, default=300)
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(*options.work)
        return 0
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.dcm"
        for name, make in attacks(options.megabytes * 10**6).items():
            path.write_bytes(make())
            for way in ("find", "pixels", "segments", "source"):
                seconds, megabytes, end = cost(way, path)
                failed |= seconds > options.most_seconds or megabytes > options.most_megabytes
                show(name, way, seconds, megabytes, end)
        for frames in (1000, 5000):
            path.write_bytes(saved(enhanced(frames)))
            show(f"no attack: {frames} frames", "find", *cost("find", path))
    return int(failed)


def show(name: str, way: str, seconds: float, megabytes: float, end: str) -> None:
    """Print the line of one file and way."""
    print(f"{name:<34}{way:<9}{seconds:>6.2f} s{megabytes:>6.0f} MB  {end[:90]}", flush=True)


def cost(way: str, path: Path) -> tuple[float, float, str]:
    """Return the seconds and megabytes that reading takes, and how it ends."""
    command = [sys.executable, __file__, "--work", way, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, megabytes, end = done.stdout.rstrip("\n").split("\t")
    return float(seconds), float(megabytes), end


if __name__ == "__main__":
    sys.exit(main())
