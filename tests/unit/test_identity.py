from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from esp_medsam import identity as module
from esp_medsam.errors import InputChangedError, InputNotFoundError, ReadError
from esp_medsam.identity import check_unchanged, identify, sha256_of, states_of


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two files of an input."""
    paths = [tmp_path / "a", tmp_path / "b"]
    for path, content in zip(paths, (b"one", b"three"), strict=True):
        path.write_bytes(content)
        os.utime(path, ns=(1, 10**9 * len(content)))
    return paths


class TestIdentify:
    def test_of_one_file_is_its_own_hash(self, files: list[Path]) -> None:
        identity = identify(files[:1])

        assert identity.sha256 == hashlib.sha256(b"one").hexdigest() == sha256_of(files[0])
        assert (identity.size, identity.modified_ns) == (3, 3 * 10**9)

    def test_of_several_is_the_hash_of_their_sorted_hashes_a_line_each(
        self, files: list[Path]
    ) -> None:
        hashes = sorted(hashlib.sha256(content).hexdigest() for content in (b"one", b"three"))

        identity = identify(files)

        lines = "".join(f"{line}\n" for line in hashes)
        assert identity.sha256 == hashlib.sha256(lines.encode()).hexdigest()
        assert (len(identity.files), identity.size, identity.modified_ns) == (2, 8, 5 * 10**9)

    def test_depends_on_no_name_and_no_order(self, files: list[Path]) -> None:
        before = identify(files).sha256
        shutil.move(files[0], files[0].with_name("z"))

        assert identify([files[1], files[0].with_name("z")]).sha256 == before

    def test_counts_a_file_once(self, files: list[Path]) -> None:
        assert identify([*files, str(files[0])]) == identify(files)

    def test_follows_links(self, files: list[Path], tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("a")

        assert identify([tmp_path / "link"]).sha256 == identify(files[:1]).sha256

    def test_f16_names_a_file_that_is_gone(self, tmp_path: Path) -> None:
        with pytest.raises(
            InputNotFoundError, match=r"none must be an existing file; there is none"
        ):
            identify([tmp_path / "none"])

    def test_does_not_wait_for_a_pipe(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")

        with pytest.raises(ReadError, match="pipe must be readable; got: it is a pipe"):
            identify([tmp_path / "pipe"])


class TestStatesOf:
    def test_tells_size_and_time_without_opening(self, files: list[Path], tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")

        states = states_of([*files, tmp_path / "pipe"])

        assert [state.size for state in states] == [3, 5, 0]

    def test_names_a_file_that_is_gone(self, tmp_path: Path) -> None:
        with pytest.raises(
            InputNotFoundError, match=r"none must be an existing file; there is none"
        ):
            states_of([tmp_path / "none"])


class TestCheckUnchanged:
    def test_reads_nothing_where_nothing_happened(
        self, files: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        identity = identify(files)
        monkeypatch.setattr(module, "open_regular", None)

        check_unchanged(identity)

    def test_takes_a_file_that_was_touched_copied_or_replaced_by_itself(
        self, files: list[Path], tmp_path: Path
    ) -> None:
        identity = identify(files)
        files[0].touch()
        files[0].chmod(0o600)
        shutil.copy(files[1], tmp_path / "copy")
        (tmp_path / "copy").replace(files[1])

        check_unchanged(identity)

    @pytest.mark.parametrize("in_place", [False, True])
    def test_f16_refuses_another_content_of_the_same_size_and_time(
        self, files: list[Path], tmp_path: Path, in_place: bool
    ) -> None:
        identity = identify(files)
        status = files[1].stat()
        other = files[1] if in_place else tmp_path / "other"
        other.write_bytes(b"THREE")
        os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
        other.replace(files[1])

        with pytest.raises(InputChangedError, match=r"b must not change before its result"):
            check_unchanged(identity)

    def test_f16_refuses_what_was_written_while_it_was_hashed(
        self, files: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hashed = module._sha256

        def hash_and_write(file: object) -> str:
            digest = hashed(file)  # type: ignore[arg-type]
            files[0].write_bytes(b"two")
            os.utime(files[0], ns=(1, 3 * 10**9))
            return digest

        with monkeypatch.context() as patched:
            patched.setattr(module, "_sha256", hash_and_write)
            identity = identify(files[:1])

        with pytest.raises(InputChangedError, match="a must not change"):
            check_unchanged(identity)

    def test_f16_names_a_file_that_is_gone(self, files: list[Path]) -> None:
        identity = identify(files)
        files[1].unlink()

        with pytest.raises(InputNotFoundError, match=r"b must be an existing file; there is none"):
            check_unchanged(identity)
