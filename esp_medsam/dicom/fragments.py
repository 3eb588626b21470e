"""Locate compressed frames and their fragments in a file."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from esp_medsam.dicom.bounded_file import BoundedFile
from esp_medsam.errors import CorruptFileError


_ITEM, _DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"

_FRAGMENTS, _LEAST_FRAGMENT = 100_000, 64
"""Number of fragments above which they must average this many bytes, so that the walk ends."""

_STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  ")
"""First bytes of a JPEG, JPEG-LS or JPEG 2000 frame."""


class Fragment(NamedTuple):
    """A fragment of compressed pixel data: its offset and length in the file, without its head."""

    start: int
    length: int


def find_fragments(file: BoundedFile, start: int, path: str) -> list[Fragment]:
    """Return the fragments of compressed pixel data, without reading their content.

    Args:
        file: The file.
        start: Offset of the first byte of its pixel data.
        path: Path of the file, for messages.

    Returns:
        The fragments; the first is the offset table, which may be empty.

    Raises:
        CorruptFileError: If a fragment is cut short, or too many are empty.
    """
    file.seek(start)
    found: list[Fragment] = []
    held = 0
    while head := file.read(8):
        if head[:4] == _DELIMITER:
            break
        length = int.from_bytes(head[4:], "little")
        if len(head) < 8 or head[:4] != _ITEM or file.left() < length:
            msg = f"{path} must hold whole compressed pixels; it is cut short. Copy it again."
            raise CorruptFileError(msg)
        found.append(Fragment(file.tell(), length))
        held += length
        if len(found) > _FRAGMENTS and held < _LEAST_FRAGMENT * len(found):
            msg = f"{path} must hold compressed pixels; got at least {len(found)} empty fragments."
            raise CorruptFileError(msg)
        file.seek(file.tell() + length)
    return found


def frames_of(
    file: BoundedFile, fragments: Sequence[Fragment], count: int, path: str
) -> list[tuple[Fragment, ...]]:
    """Return the fragments of each frame.

    If there are as many fragments as frames, each fragment is a frame, whatever the offset table
    says; otherwise the table separates the frames. If the table is empty or useless (such as all
    zeros), the first bytes of frames separate them.

    Args:
        file: The file.
        fragments: The fragments of its pixel data, the offset table first.
        count: Number of frames.
        path: Path of the file, for messages.

    Raises:
        CorruptFileError: If there are fewer fragments than frames, several frames instead of one,
            or nothing separates the frames.
    """
    pieces = [fragment for fragment in fragments[1:] if fragment.length]
    if len(pieces) < count:
        msg = (
            f"{path} must hold {count} compressed frames; got {len(pieces)} fragments. "
            "Copy it again."
        )
        raise CorruptFileError(msg)
    if len(pieces) == count:
        return [(piece,) for piece in pieces]
    begun = {piece.start for piece in pieces if _begins(file, piece).startswith(_STARTS)}
    if count == 1 and len(begun) > 1:
        msg = (
            f"{path} must hold 1 compressed frame, as its Number of Frames says; {len(begun)} "
            "of its fragments begin one."
        )
        raise CorruptFileError(msg)
    if count == 1:
        return [tuple(pieces)]
    for firsts in (_by_table(file, fragments), begun):
        frames = _frames_of(pieces, firsts)
        if len(frames) == count:
            return frames
    msg = (
        f"{path} must say where its {count} compressed frames begin; its offset table is "
        f"missing, or does not match its {len(pieces)} fragments."
    )
    raise CorruptFileError(msg)


def _frames_of(pieces: Sequence[Fragment], firsts: set[int]) -> list[tuple[Fragment, ...]]:
    """Return the fragments of each frame; none if fragments precede the first frame."""
    frames: list[tuple[Fragment, ...]] = []
    for piece in pieces:
        if piece.start in firsts:
            frames.append((piece,))
        elif not frames:
            return []
        else:
            frames[-1] += (piece,)
    return frames


def _by_table(file: BoundedFile, fragments: Sequence[Fragment]) -> set[int]:
    """Return where frames begin according to the offset table; an empty set if it is empty."""
    file.seek(fragments[0].start)
    table = file.read(fragments[0].length // 4 * 4)
    first = fragments[1].start
    return {first + offset for (offset,) in struct.iter_unpack("<L", table)}


def _begins(file: BoundedFile, fragment: Fragment) -> bytes:
    file.seek(fragment.start)
    return file.read(8)
