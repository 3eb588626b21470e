"""The blocks of the documentation's pages, run as they stand."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from esp_medsam.cli.main import main


ROOT = Path(__file__).parents[2]

_FENCE = re.compile(
    r"(?:^<!-- not run in tests: (?P<reason>[^>]+?) -->\n)?^```(?P<language>\w*)\n"
    r"(?P<content>.*?)^```$",
    re.M | re.S,
)


class Block(NamedTuple):
    """A fenced block of a page.

    Attributes:
        language: The word after the fence; empty where there is none.
        content: Its lines.
        reason: Why no test runs it, as the comment above it says; empty where one must.
        line: Of the page, on which it begins.
    """

    language: str
    content: str
    reason: str
    line: int

    @property
    def name(self) -> str:
        """Name of the file that a reader saves it as: the comment in its first line."""
        found = re.match(r"# (\S+\.\w+)\n", self.content)
        assert found is not None, f"line {self.line}: the first line must name the file: # a.yaml"
        return found[1]


def blocks_of(page: str) -> list[Block]:
    """Return the blocks of a page, named from the root of the project on."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(
            found["language"],
            found["content"],
            found["reason"] or "",
            text.count("\n", 0, found.start("language")) + 1,
        )
        for found in _FENCE.finditer(text)
    ]


def run_page(
    page: str,
    names: Mapping[str, Any] | None = None,
    *,
    more: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Run the blocks of a page in the current folder, in order.

    A block of Python shares its names with those before it. One of YAML is saved under the name in
    its first line. Of one of a shell the lines of esp-medsam run in this process, which need not
    load torch again.

    Args:
        page: From the root of the project on.
        names: What a reader's program has before the first block.
        more: Arguments to add by sub-command, which make it small enough for a test.
    """
    namespace = dict(names or {})
    for block in blocks_of(page):
        if block.reason:
            continue
        where = f"{page}, line {block.line}"
        if block.language == "python":
            exec(compile(block.content, where, "exec"), namespace)
        elif block.language == "yaml":
            Path(block.name).write_text(block.content, encoding="utf-8")
        elif block.language in ("bash", "shell"):
            for line in block.content.replace("\\\n", " ").splitlines():
                _run_line(line, where, more or {})


def _run_line(line: str, where: str, more: Mapping[str, Sequence[str]]) -> None:
    words = shlex.split(line, comments=True)
    if words and Path(words[0]).name == "esp-medsam":
        arguments = [*words[1:], *more.get(words[1], ())]
        assert main(arguments) == 0, f"{where}: {line}"
    elif words:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line], check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{where}: {line}\n{done.stderr}"
