"""Draw the page of a report from its template, style and scripts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import jinja2
from jinja2.utils import htmlsafe_json_dumps

from esp_medsam.io.report_files import SCRIPT_MARK
from esp_medsam.version import __version__
from esp_medsam.workflows.report.case import FINDINGS, LOW_CONFIDENCE
from esp_medsam.workflows.report.charts import (
    HEIGHT,
    MOST_TARGETS,
    WIDTH,
    columns_of,
    histograms,
)
from esp_medsam.workflows.report.gather import Gathered
from esp_medsam.workflows.report.plain import plain_report
from esp_medsam.workflows.report.summary import (
    MOST_NAMED,
    MOST_SETTINGS,
    causes_of,
    counts_of,
    folders_of,
    made_with,
)
from esp_medsam.workflows.verdicts import VERDICTS


_HERE = Path(__file__).parent
_SCRIPTS = ("verdicts.js", "table.js", "page.js")


class Page:
    """The page of a report.

    Args:
        found: The items.
        folder: Folder that the page goes to.
        pictures: Addresses of thumbnails, by the place of the item.
    """

    def __init__(self, found: Gathered, folder: Path, pictures: Mapping[int, str]) -> None:
        self._found = found
        self._columns = columns_of(found.cases)
        self._causes = causes_of(found.cases)
        self._pictures = len(pictures)
        self.data = plain_report(found, folder, pictures, self._columns, self._causes)

    def script(self) -> bytes:
        """Return a script with the data, for pages that are not all in one file."""
        return (
            SCRIPT_MARK + f"window.espMedsamReport = {htmlsafe_json_dumps(self.data)};\n".encode()
        )

    def drawn(self, script: str = "") -> bytes:
        """Return the page as HTML.

        Args:
            script: Name of the script with the data; empty puts them into the page.
        """
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_HERE),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        style = (_HERE / "page.css").read_text(encoding="utf-8")
        code = "\n".join((_HERE / name).read_text(encoding="utf-8") for name in _SCRIPTS)
        code = f'(() => {{\n"use strict";\n{code}}})();\n'
        text = environment.get_template("page.html").render(
            policy=_policy(style, code, has_files=bool(script)),
            style=style,
            code=code,
            script=script,
            data=None if script else self.data,
            **self._told(),
        )
        return text.encode("utf-8", "backslashreplace")

    def _told(self) -> dict[str, Any]:
        """Return what the template shows."""
        cases = self._found.cases
        return {
            "generator": f"esp-medsam report {__version__}",
            "made": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            "counts": counts_of(cases),
            "findings": FINDINGS,
            "low_confidence": LOW_CONFIDENCE,
            "verdicts": VERDICTS,
            "modalities": sorted({case.modality for case in cases if case.modality}),
            "charts": [(one, list(histograms(cases, one))) for one in self._columns[:MOST_TARGETS]],
            "targets": len(self._columns),
            "width": WIDTH,
            "height": HEIGHT,
            "causes": self._causes,
            "most_named": MOST_NAMED,
            "folders": folders_of(self._found),
            "unreadable": self._found.unreadable,
            "made_with": made_with(cases),
            "most_settings": MOST_SETTINGS,
            "pictures": self._pictures,
        }


def _policy(style: str, code: str, *, has_files: bool) -> str:
    """Return the page's Content-Security-Policy: its own style, code and pictures, nothing else."""
    files = " 'self' file:" if has_files else ""
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src '{_digest(style)}'",
            f"script-src '{_digest(code)}'{files}",
            f"img-src data:{files}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
