"""Damage to files, accidental or deliberate: in bits, lengths, blocks and ends."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator


def mutations(content: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield damaged copies of a file's content, the same for the same seed.

    Args:
        content: Content of the intact file.
        count: Number of copies.
        seed: Seed of the random choices.
    """
    choose = random.Random(f"{seed} {len(content)}")
    for number in range(count):
        damaged = bytearray(content)
        for _ in range(1 if number % 2 else choose.choice((1, 2, 5, 20))):
            choose.choice(KINDS)(damaged, choose)
        yield bytes(damaged)


def flip_bits(content: bytearray, choose: random.Random) -> None:
    """Flip one bit, and perhaps some near it."""
    for _ in range(choose.choice((1, 1, 4))):
        if content:
            content[_place(content, choose)] ^= 1 << choose.randrange(8)


def set_bytes(content: bytearray, choose: random.Random) -> None:
    """Replace bytes by others that have a meaning."""
    value = choose.choice((b"\0", b"\xff", b"\x80", b"\x7f", b"nan", b"-1", b"1e999", b"\xff\xff"))
    at = _place(content, choose)
    content[at : at + len(value)] = value


def set_length(content: bytearray, choose: random.Random) -> None:
    """Replace what may be a length, a count or an offset by a number."""
    code, bits = choose.choice((("H", 16), ("L", 32), ("L", 32), ("Q", 64)))
    near = choose.choice((0, 1, 2, 255, len(content), choose.randrange(2**bits)))
    extreme = choose.choice((2**bits - 1, 2 ** (bits - 1), 2 ** (bits - 1) - 1, 2**bits - 16, near))
    value = struct.pack(choose.choice("<>") + code, extreme % 2**bits)
    at = _place(content, choose)
    content[at : at + len(value)] = value


def cut(content: bytearray, choose: random.Random) -> None:
    """Remove the end."""
    if choose.random() < 0.5:
        del content[_place(content, choose) :]
    else:
        del content[max(len(content) - choose.randrange(1, 64), 0) :]


def leave_out(content: bytearray, choose: random.Random) -> None:
    """Remove a block."""
    at = _place(content, choose)
    del content[at : at + _size(content, choose)]


def repeat(content: bytearray, choose: random.Random) -> None:
    """Repeat a block once or many times."""
    at, size = _place(content, choose), _size(content, choose)
    content[at:at] = content[at : at + size] * choose.choice((1, 1, 100))


def swap(content: bytearray, choose: random.Random) -> None:
    """Replace a block by another."""
    size = _size(content, choose)
    first, second = (_place(content, choose) for _ in range(2))
    content[first : first + size] = content[second : second + size]


def wipe(content: bytearray, choose: random.Random) -> None:
    """Set a block to all zeros or all ones."""
    at = _place(content, choose)
    size = len(content[at : at + _size(content, choose)])
    content[at : at + size] = choose.choice((b"\0", b"\xff")) * size


KINDS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip_bits, flip_bits, set_bytes, set_length, set_length, cut, leave_out, repeat, swap, wipe,
)  # fmt: skip


def _place(content: bytearray, choose: random.Random) -> int:
    """Return a position, more likely near the beginning, where headers are."""
    if not content:
        return 0
    end = min(len(content), choose.choice((64, 1024, 8192, len(content), len(content))))
    return choose.randrange(end)


def _size(content: bytearray, choose: random.Random) -> int:
    return choose.choice((1, 2, 4, 16, 128, 512, 4096, max(len(content) // 3, 1)))
