from __future__ import annotations

import os
from pathlib import Path

import pytest

from esp_medsam.errors import OutputError
from esp_medsam.io import folder as module
from esp_medsam.io.folder import entered, missing_folders


@pytest.fixture(params=[True, False], ids=["by descriptor", "by path"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both ways: from an open folder on, and as on systems that cannot do so."""
    monkeypatch.setattr(module, "_HAS_DIR_FD", request.param)
    return bool(request.param)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder that no output may reach."""
    (tmp_path / "outside").mkdir()
    return tmp_path / "outside"


@pytest.mark.usefixtures("way")
class TestEntered:
    def test_makes_what_is_missing(self, tmp_path: Path) -> None:
        with entered(tmp_path / "a/b/c/d", tmp_path / "a/b") as folder:
            os.close(folder.open("file", os.O_WRONLY | os.O_CREAT))

        assert (tmp_path / "a/b/c/d/file").is_file()

    def test_makes_nothing_where_it_must_not(self, tmp_path: Path) -> None:
        with (
            pytest.raises(FileNotFoundError),
            entered(tmp_path / "a/b", tmp_path, make=False),
        ):
            pass

        assert not (tmp_path / "a").exists()

    def test_root_itself_may_be_a_link(self, tmp_path: Path, outside: Path) -> None:
        (tmp_path / "out").symlink_to(outside)

        with entered(tmp_path / "out/a", tmp_path / "out"):
            pass

        assert (outside / "a").is_dir()

    @pytest.mark.parametrize("make", [True, False])
    def test_never_goes_through_a_link_below_the_root(
        self, tmp_path: Path, outside: Path, make: bool
    ) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out/a").symlink_to(outside)

        with (
            pytest.raises(OutputError, match="out/a must be a real folder; it is a link"),
            entered(tmp_path / "out/a/b", tmp_path / "out", make=make),
        ):
            pass

        assert not list(outside.iterdir())

    def test_never_goes_up(self, tmp_path: Path) -> None:
        with (
            pytest.raises(OutputError, match="must be inside"),
            entered(tmp_path / "out/../up", tmp_path / "out"),
        ):
            pass

        assert not list(tmp_path.iterdir())

    def test_goes_deeper_than_python_recurses(self, tmp_path: Path, deep: Path) -> None:
        with entered(deep, tmp_path):
            pass
        with entered(deep / "a"):
            pass

        assert (deep / "a").is_dir()

    def test_modes_are_those_of_the_umask(self, tmp_path: Path) -> None:
        before = os.umask(0o027)
        try:
            with entered(tmp_path / "a", tmp_path) as folder:
                os.close(folder.open("file", os.O_WRONLY | os.O_CREAT))
        finally:
            os.umask(before)

        assert (tmp_path / "a").stat().st_mode & 0o777 == 0o750
        assert (tmp_path / "a/file").stat().st_mode & 0o777 == 0o640

    def test_leaves_no_descriptor_open(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path)
        before = len(list(Path("/proc/self/fd").iterdir()))

        for path in ("a/b/c", "link/a"):
            try:
                with entered(tmp_path / path, tmp_path) as folder:
                    folder.names()
                    folder.sync()
            except OutputError:
                assert path == "link/a"

        assert len(list(Path("/proc/self/fd").iterdir())) == before


class TestFolder:
    def test_stays_the_one_that_was_entered(self, tmp_path: Path, outside: Path) -> None:
        with entered(tmp_path / "out/a", tmp_path / "out") as folder:
            (tmp_path / "out/a").rename(tmp_path / "out/moved")
            (tmp_path / "out/a").symlink_to(outside)
            os.close(folder.open("file", os.O_WRONLY | os.O_CREAT))

        assert not list(outside.iterdir())
        assert (tmp_path / "out/moved/file").is_file()

    @pytest.mark.usefixtures("way")
    def test_opens_replaces_and_removes_links_themselves(self, tmp_path: Path) -> None:
        (tmp_path / "theirs").write_bytes(b"theirs")
        for name in ("replaced", "removed"):
            (tmp_path / name).symlink_to("theirs")
        (tmp_path / "new").write_bytes(b"new")

        with entered(tmp_path) as folder:
            with pytest.raises(OSError, match="symbolic links"):
                folder.open("removed", os.O_WRONLY)
            folder.replace("new", "replaced")
            folder.remove("removed")
            folder.remove("never there")

        assert (tmp_path / "theirs").read_bytes() == b"theirs"
        assert (tmp_path / "replaced").read_bytes() == b"new"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["replaced", "theirs"]


class TestMissingFolders:
    def test_are_those_up_to_one_that_is_there(self, tmp_path: Path) -> None:
        assert missing_folders(tmp_path) == []
        assert missing_folders(tmp_path / "a/b") == [tmp_path / "a/b", tmp_path / "a"]

    def test_end_at_a_file_and_at_a_link_to_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "link").symlink_to("nothing")

        assert missing_folders(tmp_path / "file/a") == [tmp_path / "file/a"]
        assert missing_folders(tmp_path / "link/a") == [tmp_path / "link/a"]
