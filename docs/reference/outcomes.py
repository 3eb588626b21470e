"""Write outcomes.md: the outcome of each fault, bad input and attack, and the tests that show it.

    python docs/reference/outcomes.py [--check]

The tests are the source. A test has its number in its name (``test_f3_...``), or in the keys of a
table of cases (``"N4 a packed file that was cut": ("E_CORRUPT", ...)``), from which the page also
takes the codes. ``faults.yaml`` says what each number means, and what is not built yet.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml


HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGE = HERE / "outcomes.md"
FAULTS = HERE / "faults.yaml"

NAME = re.compile(r"test_((?:[fndicsl]\d+_)+)")
CASE = re.compile(r"([FNDICSL]\d+) (.+)")


class Shown(NamedTuple):
    """What a test shows.

    Attributes:
        number: Number of the fault.
        case: What is wrong, if a table of cases says it; else empty.
        code: Error code that the case ends with; else empty.
        path: File of the tests, relative to the root of the project.
    """

    number: str
    case: str
    code: str
    path: str


def shown_by(path: Path) -> Iterator[Shown]:
    """Yield what the tests of a file show."""
    place = path.relative_to(ROOT).as_posix()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and (found := NAME.match(node.name)):
            for number in found[1].strip("_").split("_"):
                yield Shown(number.upper(), "", "", place)
        if isinstance(node, ast.Dict):
            yield from _cases(node, place)


def _cases(table: ast.Dict, place: str) -> Iterator[Shown]:
    for key, value in zip(table.keys, table.values, strict=True):
        text = key.value if isinstance(key, ast.Constant) else None
        found = CASE.fullmatch(text) if isinstance(text, str) else None
        if found and isinstance(value, ast.Tuple) and isinstance(value.elts[0], ast.Constant):
            yield Shown(found[1], found[2], str(value.elts[0].value), place)


def page() -> str:
    """Return the page.

    Raises:
        ValueError: If a number has no test and no note on what is not built, or is not listed.
    """
    by_number: dict[str, list[Shown]] = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for shown in shown_by(path):
            by_number[shown.number].append(shown)
    groups = yaml.safe_load(FAULTS.read_text(encoding="utf-8"))
    listed = {number for group in groups for number in group["rows"]}
    if unlisted := sorted(set(by_number) - listed):
        msg = f"{FAULTS.name} must list every number that tests have; it lacks {unlisted}."
        raise ValueError(msg)
    parts = [HEAD]
    for group in groups:
        parts += [
            f"\n## {group['title']}\n\n",
            "| | what | outcome | shown by |\n|---|---|---|---|\n",
        ]
        for number, row in group["rows"].items():
            parts.append(_row(number, row, by_number[number]))
    return "".join(parts)


def _row(number: str, row: dict[str, str], shown: list[Shown]) -> str:
    if bool(shown) == ("later" in row):
        msg = f"{number} must have a test or say what is not built yet, and not both."
        raise ValueError(msg)
    cases = [one for one in shown if one.case]
    told = row.get("outcome", "")
    if cases:
        told += (": " if told else "") + "; ".join(f"{one.case}: `{one.code}`" for one in cases)
    if "later" in row:
        told = f"**not built yet**: {row['later']}"
    paths = "<br>".join(f"`{path}`" for path in dict.fromkeys(one.path for one in shown))
    return f"| {number} | {row['what']} | {told} | {paths} |\n"


HEAD = """<!-- Written by outcomes.py from the tests; do not edit. -->
# Outcomes of faults, bad input and attacks

Each row is shown by tests that have its number in their names: `test_f1_...`, or a case `N4 ...`.
A failure is reported in one line with a stable code.
The run continues with the other items and ends with status 1; the failed item has no output.
"""


def main() -> None:
    """Write the page, or say that it is not current."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--check", action="store_true", help="Write nothing; fail if it differs.")
    checks = parser.parse_args().check
    content = page()
    if not checks:
        PAGE.write_text(content, encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != content:
        parser.exit(1, f"{PAGE.name} must be current; run python docs/reference/outcomes.py.\n")


if __name__ == "__main__":
    main()
