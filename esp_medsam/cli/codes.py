"""``esp-medsam codes``: look up coded terms by name."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from esp_medsam.cli.options import option
from esp_medsam.errors import OptionError, quoted
from esp_medsam.modality import Code


_MOST = 40
"""Most terms that are printed without ``--all``."""


def codes(
    name: Annotated[list[str], typer.Argument(metavar="NAME...", help="English name to look up.")],
    *,
    every: Annotated[
        bool, option("--all", f"List all matches, not only the first {_MOST}.")
    ] = False,
    as_json: Annotated[bool, option("--json", "Print JSON.")] = False,
) -> None:
    """Look up the SNOMED CT codes of a target, for targets.yaml.

    The last column shows what DICOM suggests a code for: category (CID 7150), type (CID 7151) or
    anatomic_region. You may use codes that are not listed.
    """
    from esp_medsam.terms import find_terms

    asked = " ".join(name)
    found = find_terms(asked)
    if not found:
        msg = f"NAME must match a term that DICOM knows; got {quoted(asked)}. "
        raise OptionError(msg + "Try fewer words, in English, in the singular.")
    told = found if every else found[:_MOST]
    if as_json:
        print(json.dumps([asdict(term) for term in told], indent=1))
        return
    rows = [(_as_yaml(term.code), ", ".join(term.uses)) for term in told]
    width = max(len(row[0]) for row in rows)
    print("\n".join(f"{code:<{width}}  {uses}".rstrip() for code, uses in rows))
    if len(told) < len(found):
        print(f"{len(found) - len(told)} more; give more words of the name, or pass --all.")


def _as_yaml(code: Code) -> str:
    """Return a code as a line of targets.yaml."""
    needs_quotes = any(sign in code.meaning for sign in ",:[]{}#&*!|>'\"%@`")
    meaning = json.dumps(code.meaning) if needs_quotes else code.meaning
    return f'{{value: "{code.value}", scheme: {code.scheme}, meaning: {meaning}}}'
