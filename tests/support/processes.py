"""Python in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path


ROOT = Path(__file__).parents[2]
COMMAND = "import sys; from esp_medsam.cli.main import main; sys.exit(main(sys.argv[1:]))"
"""Code that runs ``esp-medsam``."""


def run_python(
    code: str, *arguments: str, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run code that finds the package from any folder; return how it ended and what it told."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def descendants(pid: int) -> list[tuple[int, str]]:
    """Return the processes below one, and their names, on Linux."""
    found: list[tuple[int, str]] = []
    with suppress(OSError):
        for each in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in map(int, each.read_text().split()):
                name = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                found += [(child, name), *descendants(child)]
    return found


def until_gone(pids: list[int]) -> None:
    """Wait until none of some processes lives; a zombie does not.

    Raises:
        AssertionError: If one lives on.
    """
    for _ in range(600):
        if not any(map(_lives, pids)):
            return
        time.sleep(0.1)
    msg = f"processes must end; they live on: {[pid for pid in pids if _lives(pid)]}."
    raise AssertionError(msg)


def _lives(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
