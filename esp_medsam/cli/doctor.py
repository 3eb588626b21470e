"""``esp-medsam doctor``: examine the installation."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import Annotated

import typer

from esp_medsam.cli import options
from esp_medsam.cli.options import option
from esp_medsam.errors import one_line


def doctor(
    *,
    device: options.Device = None,
    bundle: options.Bundle = None,
    as_json: Annotated[bool, option("--json", "Print one JSON object per finding.")] = False,
) -> None:
    """Say what is installed and what is missing, and test that a picture is segmented.

    The status is 1 if something is wrong; what is missing can be done without.
    """
    from esp_medsam.doctor import examine

    counts = Counter[str]()
    for finding in examine(bundle, device):
        counts[finding.status] += 1
        if as_json:
            print(json.dumps(asdict(finding)), flush=True)
            continue
        remedy = f" -> {finding.remedy}" if finding.remedy else ""
        line = f"{finding.status:<8} {finding.subject:<15} {finding.told}{remedy}"
        print(one_line(line), flush=True)
    if not as_json:
        told = f"{counts['missing']} missing, which can be done without; {counts['wrong']} wrong."
        print(f"{counts['ok']} ok; {told}")
    if counts["wrong"]:
        raise typer.Exit(1)
