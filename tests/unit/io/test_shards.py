from __future__ import annotations

import errno
import logging
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from esp_medsam.errors import DiskFullError, OptionError, OutputError
from esp_medsam.io.shards import MANIFEST, ShardStore


IDENTITY = {"teacher": "abc", "size": "64 x 64"}


def store(folder: Path, **options: Any) -> ShardStore:
    return ShardStore(folder / "store", IDENTITY, **options)


def shards(folder: Path) -> list[Path]:
    return sorted((folder / "store").glob("*.safetensors"))


@pytest.fixture
def filled(tmp_path: Path) -> ShardStore:
    """Three keys in two shards."""
    kept = store(tmp_path)
    for key in range(3):
        kept.put(f"k{key}", {"image": np.full((2, 3), key, np.uint8)})
        if key == 1:
            kept.flush()
    kept.flush()
    return kept


class TestRoundTrip:
    @given(
        st.dictionaries(
            st.text(min_size=1, max_size=20),
            st.dictionaries(
                st.text("abc_", min_size=1, max_size=5),
                npst.arrays(
                    st.sampled_from([np.uint8, np.float16, np.float32, np.int64, np.bool_]),
                    npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
                ),
                min_size=1,
                max_size=3,
            ),
            max_size=4,
        ),
        st.integers(1, 200),
    )
    def test_what_was_put_is_there_before_and_after_it_is_opened_anew(
        self, content: dict[str, dict[str, np.ndarray]], shard_bytes: int
    ) -> None:
        with tempfile.TemporaryDirectory() as folder:
            with store(Path(folder), shard_bytes=shard_bytes) as kept:
                for key, arrays in content.items():
                    kept.put(key, arrays)
                _assert_holds(kept, content)
            _assert_holds(store(Path(folder)), content)

    def test_another_process_sees_what_this_one_wrote(self, filled: ShardStore) -> None:
        read = pickle.loads(pickle.dumps(filled))

        np.testing.assert_array_equal(read["k2"]["image"], filled["k2"]["image"])

    def test_no_array_travels_with_the_store(self, tmp_path: Path) -> None:
        kept = store(tmp_path)
        kept.put("k", {"image": np.zeros(2**20, np.uint8)})

        assert len(pickle.dumps(kept)) < 2**12
        assert len(shards(tmp_path)) == 1

    def test_says_which_keys_it_holds(self, filled: ShardStore) -> None:
        filled.put("k3", {"image": np.zeros(1)})

        assert sorted(filled) == ["k0", "k1", "k2", "k3"]
        assert len(filled) == 4
        assert "k3" in filled
        assert "k4" not in filled
        with pytest.raises(KeyError):
            filled["k4"]


def _assert_holds(kept: ShardStore, content: dict[str, dict[str, np.ndarray]]) -> None:
    assert set(kept) == set(content)
    for key, arrays in content.items():
        assert kept[key].keys() == arrays.keys()
        for name, array in arrays.items():
            assert kept[key][name].dtype == array.dtype
            np.testing.assert_array_equal(kept[key][name], array)

    def test_needs_an_array(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="arrays of a must be at least one"):
            store(tmp_path).put("a", {})

    def test_counts_what_waits_once_when_a_key_is_put_again(self, tmp_path: Path) -> None:
        kept = store(tmp_path, shard_bytes=100)

        for _ in range(5):
            kept.put("a", {"x": np.zeros(5)})
        assert shards(tmp_path) == []
        for key in "bc":
            kept.put(key, {"x": np.zeros(5)})
        assert len(shards(tmp_path)) == 1


class TestSeveralProcesses:
    def test_fill_one_store_and_see_each_other(self, tmp_path: Path) -> None:
        mine, other = store(tmp_path), store(tmp_path)

        mine.put("a", {"x": np.zeros(1)})
        mine.flush()
        other.put("b", {"x": np.ones(1)})
        other.put("a", {"x": np.zeros(1)})
        other.flush()
        mine.refresh()

        assert set(mine) == set(other) | {"a"} == {"a", "b"}
        assert mine["b"]["x"] == 1

    def test_may_open_one_fresh_folder_at_once(self, tmp_path: Path) -> None:
        code = (
            "import sys, numpy as np\n"
            "from esp_medsam.io.shards import ShardStore\n"
            "print('ready', flush=True)\n"
            "sys.stdin.read()\n"  # until all are ready
            f"with ShardStore(sys.argv[1], {IDENTITY!r}) as store:\n"
            "    store.put(sys.argv[2], {'x': np.zeros(3)})\n"
        )
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", code, tmp_path / "store", str(number)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(4)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()

        for process in processes:
            assert process.stdout is not None
            process.stdout.close()
        assert [process.wait(60) for process in processes] == [0] * 4
        assert set(store(tmp_path)) == {"0", "1", "2", "3"}

    def test_a_killed_one_loses_its_last_shard_alone(self, tmp_path: Path) -> None:
        code = (
            "import os, sys, numpy as np\n"
            "from esp_medsam.io.shards import ShardStore\n"
            f"store = ShardStore(sys.argv[1], {IDENTITY!r}, shard_bytes=80)\n"
            "for key in range(25):\n"
            "    store.put(str(key), {'x': np.full(1, key, np.int64)})\n"
            "os.kill(os.getpid(), 9)\n"
        )

        ended = subprocess.run([sys.executable, "-c", code, tmp_path / "store"], check=False)

        assert ended.returncode == -9
        kept = store(tmp_path)
        assert set(kept) == {str(key) for key in range(20)}
        assert [int(kept[str(key)]["x"][0]) for key in range(20)] == list(range(20))


class TestDamage:
    @pytest.mark.parametrize("kind", ["changed", "cut", "empty", "foreign"])
    def test_of_a_shard_is_told_and_its_keys_are_made_anew(
        self, tmp_path: Path, filled: ShardStore, kind: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        lost = next(path for path in shards(tmp_path) if b"k2/image" in path.read_bytes())
        content = lost.read_bytes()
        changed = content[:-1] + bytes([content[-1] ^ 1])
        damaged = {"changed": changed, "cut": content[:-1], "empty": b"", "foreign": b"\x89PNG"}
        lost.write_bytes(damaged[kind])

        with caplog.at_level(logging.WARNING):
            kept = store(tmp_path)
            assert set(kept) == {"k0", "k1"}
            kept.put("k2", filled["k0"])
            kept.flush()

        assert f"{lost} is ignored and made again" in caplog.text
        assert "k2" in store(tmp_path)

    def test_that_only_a_hash_shows_passes_where_none_is_taken(
        self, tmp_path: Path, filled: ShardStore
    ) -> None:
        (first, _) = shards(tmp_path)
        content = first.read_bytes()
        first.write_bytes(content[:-1] + b"\x63")

        assert set(store(tmp_path, verify=False)) == {"k0", "k1", "k2"}

    def test_after_it_was_opened_is_an_error(self, tmp_path: Path, filled: ShardStore) -> None:
        for path in shards(tmp_path):
            path.unlink()

        with pytest.raises(OutputError, match="Run again"):
            filled["k0"]

    def test_of_the_manifest_is_refused(self, tmp_path: Path, filled: ShardStore) -> None:
        (tmp_path / "store" / MANIFEST).write_text("{")

        with pytest.raises(OptionError, match=r"cache_dir must hold a store; .* is damaged"):
            store(tmp_path)


class TestFolder:
    def test_of_another_identity_is_refused_by_what_differs(
        self, tmp_path: Path, filled: ShardStore
    ) -> None:
        other = {**IDENTITY, "teacher": "xyz", "views": "2"}

        with pytest.raises(OptionError, match=r"cache_dir must.*the same teacher, views"):
            ShardStore(tmp_path / "store", other)

    def test_of_something_else_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "store").mkdir()
        (tmp_path / "store" / "thesis.doc").touch()

        with pytest.raises(OptionError, match=r"embeddings must be an empty folder, .*else"):
            store(tmp_path, argument="embeddings")

    def test_that_is_a_file_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "store").touch()

        with pytest.raises(OutputError, match="must be writable"):
            store(tmp_path)

    def test_has_no_room(self, tmp_path: Path, full: None) -> None:
        kept = store(tmp_path)
        kept.put("k", {"x": np.zeros(10)})

        with pytest.raises(DiskFullError, match=r"must fit on the disk"):
            kept.flush()

        assert shards(tmp_path) == []


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A disk without room for more than a manifest."""
    synced = os.fsync

    def fsync(descriptor: int) -> None:
        if os.fstat(descriptor).st_size > 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        synced(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        yield


def test_what_a_killed_start_left_in_a_folder_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / ".esp-medsam-0.tmp").touch()

    with store(tmp_path) as kept:
        kept.put("k", {"x": np.array(3.0)})

    assert store(tmp_path)["k"]["x"].shape == ()
