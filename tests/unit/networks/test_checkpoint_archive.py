from __future__ import annotations

import os
import pickle
import socket
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from esp_medsam.errors import CheckpointError
from esp_medsam.networks.state_dicts import load_checkpoint


VALUES = struct.pack("<4f", 1, 2, 3, 4)


class RunsCode:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch marker",)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    encoded = pickle.encode_long(value)
    return b"\x8a" + bytes([len(encoded)]) + encoded


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def group(*values: bytes) -> bytes:
    return b"(" + b"".join(values) + b"t"


def tensor(key: str = "0", held: int = 4, size: int = 4, stride: int = 1, offset: int = 0) -> bytes:
    """What makes a tensor, as torch pickles it."""
    storage = group(
        text("storage"), named("torch", "FloatStorage"), text(key), text("cpu"), number(held)
    )
    shape = (group(number(size)), group(number(stride)))
    hooks = named("collections", "OrderedDict") + b")R"
    arguments = group(storage + b"Q", number(offset), *shape, b"\x89", hooks)
    return named("torch._utils", "_rebuild_tensor_v2") + arguments + b"R"


def mapping(**items: bytes) -> bytes:
    pairs = b"".join(text(key) + value for key, value in items.items())
    return b"\x80\x02}(" + pairs + b"u."


def nested_key(steps: bytes) -> bytes:
    return b"\x80\x02}" + steps + b"Ns."


@pytest.fixture
def pack(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that puts a pickle, four numbers and more into an archive."""

    def write(pickled: bytes, *more: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
        with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "a.pt", "w", method) as archive:
            warnings.simplefilter("ignore")  # of two entries of one name
            archive.writestr("archive/data.pkl", pickled)
            archive.writestr("archive/data/0", VALUES)
            archive.writestr("archive/version", b"3\n")
            for name, content in more:
                archive.writestr(name, content)
        return tmp_path / "a.pt"

    return write


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let nothing reach the network, and see that no marker is left."""

    def refuse(*arguments: Any, **options: Any) -> None:
        msg = "a checkpoint reached for the network"
        raise AssertionError(msg)

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(tmp_path)
    yield
    assert not list(tmp_path.rglob("*marker*"))


class TestPlain:
    def test_an_archive_made_by_hand_is_read(self, pack: Callable[..., Path]) -> None:
        loaded = load_checkpoint(pack(mapping(weight=tensor())))

        assert loaded["weight"].tolist() == [1, 2, 3, 4]

    def test_the_state_of_a_training_is_read(self, tmp_path: Path) -> None:
        network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        groups = [{"params": [p]} for p in network.parameters()]
        optimizer = torch.optim.AdamW(groups)
        network(torch.ones(3, 2)).sum().backward()
        optimizer.step()
        state = {"model": network.state_dict(), "optimizer": optimizer.state_dict(), "best": 0.5}
        torch.save(state, tmp_path / "a.pt")

        assert list(load_checkpoint(tmp_path / "a.pt")) == list(network.state_dict())

    def test_a_parameter_is_read(self, tmp_path: Path) -> None:
        torch.save({"weight": nn.Parameter(torch.ones(2))}, tmp_path / "a.pt")

        assert torch.equal(load_checkpoint(tmp_path / "a.pt")["weight"], torch.ones(2))


MALICIOUS = {
    "huge_tensor": (mapping(weight=tensor(size=2**40)), "reading it gave RuntimeError"),
    "huge_storage": (mapping(weight=tensor(held=2**31, size=2**31)), "reading it gave RuntimeErr"),
    "huge_view": (mapping(weight=tensor(size=2**40, stride=0)), "tensors.*got 'weight'"),
    "negative_stride": (mapping(weight=tensor(stride=-1)), "reading it gave RuntimeError"),
    "negative_size": (mapping(weight=tensor(size=-4)), "reading it gave RuntimeError"),
    "negative_offset": (mapping(weight=tensor(offset=-4)), "reading it gave RuntimeError"),
    "runs_code": (b"\x80\x02}" + text("a") + pickle.dumps(RunsCode(), 2)[2:-1] + b"s.", "system"),
    "takes_room": (
        mapping(a=named("builtins", "bytearray") + group(number(2**40)) + b"R"),
        "more than tensors: builtins bytearray",
    ),
    "doubles": (mapping(a=named("_codecs", "encode")), "more than tensors: _codecs encode"),
    "without_storage": (
        mapping(a=named("torch._utils", "_rebuild_meta_tensor_no_storage")),
        "more than tensors: torch._utils _rebuild_meta",
    ),
    "sparse": (
        mapping(a=named("torch._utils", "_rebuild_sparse_tensor")), "more than tensors: torch._"
    ),
    "newer_pickle": (pickle.dumps({"a": 1}, 4), "more than tensors: FRAME"),
    "deep_key": (nested_key(b")" + b"\x85" * 200_000), "longer or deeper than any network needs"),
    "wide_key": (nested_key(b")q\0" + b"h\0h\0\x86q\0" * 60), "longer or deeper than any network"),
    "deep_list": (b"\x80\x02" + b"]" * 500_000 + b"a" * 499_999 + b".", "longer or deeper"),
    "long_pickle": (b"\x80\x02" + b"N" * 2**21 + b".", "longer than any network needs"),
    "many_names": (
        b"\x80\x02}(" + b"".join(text(f"{k}") + b"N" for k in range(99_000)) + b"u.", "longer"
    ),
    "nothing_to_take": (b"\x80\x02Rs.", "it is damaged or cut short"),
    "nothing_kept": (b"\x80\x02h\x07.", "it is damaged or cut short"),
    "no_mark": (b"\x80\x02Nt.", "it is damaged or cut short"),
    "mark_in_a_tuple": (b"\x80\x02(\x85.", "it is damaged or cut short"),
    "no_end": (b"\x80\x02N", "it is damaged or cut short"),
    "no_pickle": (b"\xff\xff\xff", "it is damaged or cut short"),
}  # fmt: skip


@pytest.mark.usefixtures("offline")
class TestS1:
    """No file of these runs code, reaches out, or costs more than a moment."""

    @pytest.mark.parametrize("kind", MALICIOUS)
    def test_s1_a_pickle_is_refused(
        self, pack: Callable[..., Path], bounded: Callable[..., Any], kind: str
    ) -> None:
        pickled, reason = MALICIOUS[kind]

        with pytest.raises(CheckpointError, match=reason):
            bounded(load_checkpoint, pack(pickled))

    @pytest.mark.parametrize(
        ("entries", "reason"),
        [
            ([("archive/data/0", VALUES)], "two of its files have.*name"),
            ([("archive/DATA.PKL", b"N.")], "two of its files have the same name"),
            ([("archive/../../marker", b"")], "has a name that torch does"),
            ([("/tmp/marker", b"")], "has a name that torch does not use"),
            ([("archive/..\\marker", b"")], "has a name that torch does not use"),
            (
                [(f"archive/data/{k}", b"") for k in range(1, 9000)],
                "it holds 9,002 files",
            ),
            ([(f"archive/{k:0900}", b"") for k in range(3000)], "it holds 3,003 files"),
        ],
    )
    def test_s1_an_archive_is_refused_for_its_entries(
        self,
        pack: Callable[..., Path],
        bounded: Callable[..., Any],
        entries: list[tuple[str, bytes]],
        reason: str,
    ) -> None:
        with pytest.raises(CheckpointError, match=reason):
            bounded(load_checkpoint, pack(mapping(weight=tensor()), *entries))

    def test_s1_packed_zeros_are_refused(
        self, pack: Callable[..., Path], bounded: Callable[..., Any]
    ) -> None:
        bomb = ("archive/data/1", bytes(2**28))

        with pytest.raises(CheckpointError, match=r"its archive/data\.pkl"):
            bounded(
                load_checkpoint,
                pack(mapping(weight=tensor()), bomb, method=zipfile.ZIP_DEFLATED),
            )

    def test_s1_a_flag_that_hides_code_from_scanners_hides_nothing(
        self, tmp_path: Path, bounded: Callable[..., Any]
    ) -> None:
        """CVE-2025-1945: Python's zipfile takes such entries for encrypted, torch does not."""
        torch.save({"weight": RunsCode()}, tmp_path / "a.pt")
        content = bytearray((tmp_path / "a.pt").read_bytes())
        for start in range(len(content)):
            if content[start : start + 4] in (b"PK\1\2", b"PK\3\4"):
                content[start + (8 if content[start + 2] == 1 else 6)] |= 1
        (tmp_path / "a.pt").write_bytes(content)

        with pytest.raises(CheckpointError, match=r"its a/data\.pkl"):
            bounded(load_checkpoint, tmp_path / "a.pt")

    def test_s1_a_legacy_file_is_refused_with_what_to_do(
        self, tmp_path: Path, bounded: Callable[..., Any]
    ) -> None:
        for number_, content in enumerate(({"weight": torch.ones(1)}, RunsCode())):
            path = tmp_path / f"{number_}.pt"
            torch.save(content, path, _use_new_zipfile_serialization=False)
            with pytest.raises(CheckpointError, match=r"zip archive.*1\.6.*save it again"):
                bounded(load_checkpoint, path)

    def test_s1_an_exported_and_a_scripted_network_are_refused(
        self, tmp_path: Path, bounded: Callable[..., Any]
    ) -> None:
        exported = torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),))
        torch.export.save(exported, tmp_path / "a.pt2")
        torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "a.ts"))

        for name in ("a.pt2", "a.ts"):
            with pytest.raises(CheckpointError, match=f"{name} must be a state dict"):
                bounded(load_checkpoint, tmp_path / name)

    @pytest.mark.parametrize("content", [b"PK\3\4", b"\x80\2", b"", b"PK\5\6" + bytes(18)])
    def test_s1_what_is_no_archive_is_refused(
        self, tmp_path: Path, bounded: Callable[..., Any], content: bytes
    ) -> None:
        (tmp_path / "a.pt").write_bytes(content + os.urandom(100_000))

        with pytest.raises(CheckpointError, match=r"\.pt2? must be a state dict"):
            bounded(load_checkpoint, tmp_path / "a.pt")


class TestDamage:
    @pytest.fixture
    def whole(self, tmp_path: Path) -> bytes:
        torch.save({"weight": torch.linspace(0, 1, 999)}, tmp_path / "a.pt")
        return (tmp_path / "a.pt").read_bytes()

    def test_f18_a_changed_bit_is_refused(self, whole: bytes, tmp_path: Path) -> None:
        """Torch itself compares no checksum."""
        start = whole.index(torch.linspace(0, 1, 999).numpy().tobytes())
        for bit in range(0, 8 * 3996, 777):
            content = bytearray(whole)
            content[start + bit // 8] ^= 1 << bit % 8
            (tmp_path / "a.pt").write_bytes(content)
            with pytest.raises(CheckpointError, match="the checksum of its a/data/0 is wrong"):
                load_checkpoint(tmp_path / "a.pt")

    def test_f19_every_truncation_is_refused(self, whole: bytes, tmp_path: Path) -> None:
        for end in range(0, len(whole), 97):
            (tmp_path / "a.pt").write_bytes(whole[:end])
            with pytest.raises(CheckpointError, match=r"\.pt2? must be a state dict"):
                load_checkpoint(tmp_path / "a.pt")

    @pytest.mark.parametrize("place", [-98, -42 + 8, -98 + 48])
    def test_what_python_and_torch_may_find_elsewhere_is_refused(
        self, whole: bytes, tmp_path: Path, place: int
    ) -> None:
        """The list of entries is pointed to twice."""
        content = bytearray(whole)
        content[place] ^= 1
        (tmp_path / "a.pt").write_bytes(content)

        with pytest.raises(CheckpointError, match=r"a\.pt must be a state dict"):
            load_checkpoint(tmp_path / "a.pt")

    @pytest.mark.parametrize("more", [b"x", bytes(22), b"PK\5\6" + bytes(18)])
    def test_what_has_something_before_or_behind_it_is_refused(
        self, whole: bytes, tmp_path: Path, more: bytes
    ) -> None:
        for content in (whole + more, more + whole):
            (tmp_path / "a.pt").write_bytes(content)
            with pytest.raises(CheckpointError, match=r"\.pt2? must be a state dict"):
                load_checkpoint(tmp_path / "a.pt")
