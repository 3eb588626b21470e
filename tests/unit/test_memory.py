"""What is refused before any of it is allocated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from esp_medsam import memory
from esp_medsam.errors import TooLargeError
from esp_medsam.memory import Beside


GIGABYTE = 2**30


class TestCheckFits:
    @pytest.fixture(autouse=True)
    def one_gigabyte(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(memory, "available_memory", lambda: GIGABYTE)

    def test_refuses_more_than_is_free(self) -> None:
        memory.check_fits(Path("a"), GIGABYTE, "it")
        with pytest.raises(TooLargeError, match=r"it needs 2\.0 GiB, 1\.0 GiB are free\. Crop or"):
            memory.check_fits(Path("a"), 2 * GIGABYTE, "it")

    def test_counts_what_comes_later_and_says_how_much_each_part_needs(self) -> None:
        beside = Beside({"a mask": 2}, {"a network": GIGABYTE // 2})

        memory.check_fits(Path("a"), 0, "it", beside, GIGABYTE // 4)
        with pytest.raises(
            TooLargeError,
            match=r"it needs 0\.2 GiB, a mask needs 0\.5 GiB, a network needs 0\.5 GiB, "
            r"1\.2 GiB together, 1\.0 GiB are free\. Segment fewer targets at a time, crop or",
        ):
            memory.check_fits(Path("a"), GIGABYTE // 4, "it", beside, GIGABYTE // 4)

    def test_tells_sizes_beyond_any_machine(self) -> None:
        with pytest.raises(TooLargeError, match="must fit in memory"):
            memory.check_fits(Path("a"), (2**63) ** 7, "it")


@pytest.fixture
def limit_addresses() -> Iterator[Callable[[int], None]]:
    """Return a function that leaves the process so many bytes of addresses, until the test ends."""
    resource = pytest.importorskip("resource")
    statistics = Path("/proc/self/statm")
    if not statistics.exists():
        pytest.skip("the system does not say what a process has taken")
    before = resource.getrlimit(resource.RLIMIT_AS)

    def limit(left: int) -> None:
        taken = int(statistics.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + left, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_AS, before)


class TestCheckLibrariesFit:
    def test_refuses_what_the_limit_of_the_process_leaves_no_room_for(
        self, limit_addresses: Callable[[int], None]
    ) -> None:
        limit_addresses(GIGABYTE)

        with pytest.raises(TooLargeError, match=r"torch and MONAI .* need \d.* Raise it \(ulimit"):
            memory.check_libraries_fit()

    def test_asks_for_more_where_torch_is_built_for_cuda(
        self,
        limit_addresses: Callable[[int], None],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        monkeypatch.setattr(memory.os, "cpu_count", lambda: 2)
        monkeypatch.setattr(memory, "find_spec", lambda name: Spec(str(tmp_path / "__init__.py")))
        limit_addresses(2 * GIGABYTE)

        memory.check_libraries_fit()
        (tmp_path / "lib").mkdir()
        (tmp_path / "lib/libtorch_cuda.so").touch()
        with pytest.raises(TooLargeError, match=r"need 3\.9 GiB"):
            memory.check_libraries_fit()

    def test_passes_where_there_is_no_limit(self) -> None:
        memory.check_libraries_fit()


class Spec(NamedTuple):
    """Where a module lies."""

    origin: str


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 16 GiB free, whose control groups lie in the folder returned."""
    (tmp_path / "meminfo").write_text("MemTotal: 99 kB\nMemAvailable:   16777216 kB\n")
    monkeypatch.setattr(memory, "_SYSTEM", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_GROUP", tmp_path / "cgroup")
    roots = tuple(tmp_path / "groups" / name for name in ("", "memory", "unified"))
    monkeypatch.setattr(memory, "_GROUPS", roots)
    return tmp_path / "groups"


def write_group(folder: Path, limit: int | str, used: int, files: int, *, first: bool) -> None:
    """Write what a control group says, of version 1 or of version 2, in GiB."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("limit_in_bytes", "usage_in_bytes") if first else ("max", "current")
    stated = limit if isinstance(limit, str) else limit * GIGABYTE
    (folder / f"memory.{names[0]}").write_text(f"{stated}\n")
    (folder / f"memory.{names[1]}").write_text(f"{used * GIGABYTE}\n")
    prefix = "total_" if first else ""
    (folder / "memory.stat").write_text(
        f"anon 1\n{prefix}active_file {files * GIGABYTE}\n{prefix}inactive_file 0\n"
    )


class TestAvailableMemory:
    def test_is_what_the_system_says(self, system: Path) -> None:
        assert memory.available_memory() == 16 * GIGABYTE

    @pytest.mark.parametrize(
        ("line", "folder", "first"),
        [
            ("0::/a/b", "a/b", False),
            ("0::/a/b", "a", False),
            ("0::/", "", False),
            ("0::/a/b", "unified/a/b", False),
            ("0::/../../a", "a", False),
            ("4:memory:/a/b", "memory/a/b", True),
            ("4:memory:/a/b", "memory/a", True),
            ("4:cpu,memory:/docker/12ab", "memory", True),
        ],
    )
    def test_is_no_more_than_what_a_control_group_leaves(
        self, system: Path, line: str, folder: str, first: bool
    ) -> None:
        """A limit is not what is left: what is used counts, but for what is kept of files."""
        system.with_name("cgroup").write_text(f"9:cpu:/elsewhere\n{line}\n")
        write_group(system / folder, 8, 5, 2, first=first)

        assert memory.available_memory() == 5 * GIGABYTE

    def test_is_the_least_of_nested_groups(self, system: Path) -> None:
        system.with_name("cgroup").write_text("0::/a/b\n")
        write_group(system / "a" / "b", 9, 1, 0, first=False)
        write_group(system / "a", 4, 1, 0, first=False)
        write_group(system, "max", 99, 0, first=False)

        assert memory.available_memory() == 3 * GIGABYTE

    def test_is_nothing_where_a_group_uses_more_than_its_limit(self, system: Path) -> None:
        system.with_name("cgroup").write_text("0::/\n")
        write_group(system, 1, 2, 0, first=False)

        assert memory.available_memory() == 0

    @pytest.mark.parametrize("text", ["", "nonsense", "0::/none", "4:memory:/none"])
    def test_passes_over_groups_that_say_nothing(self, system: Path, text: str) -> None:
        system.with_name("cgroup").write_text(text)

        assert memory.available_memory() == 16 * GIGABYTE

    def test_is_asked_seldom_where_that_will_do(
        self, system: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = 100.0
        monkeypatch.setattr(memory.time, "monotonic", lambda: now)
        with memory.seldom_asked():
            first = memory.available_memory()
            (system.parent / "meminfo").write_text("MemAvailable: 7 kB\n")
            again = memory.available_memory()
            now = 101.0
            later = memory.available_memory()
            (system.parent / "meminfo").write_text("MemAvailable: 5 kB\n")

        assert again == first != later == 7 * 1024
        assert memory.available_memory() == 5 * 1024

    def test_is_a_sensible_amount_here(self) -> None:
        assert 2**26 < memory.available_memory() < 2**50

    def test_is_no_more_than_the_limit_of_the_process_leaves(
        self, limit_addresses: Callable[[int], None]
    ) -> None:
        limit_addresses(2**28)

        available = memory.available_memory()

        assert 2**27 < available <= 2**28
