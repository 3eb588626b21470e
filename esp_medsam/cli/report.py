"""``esp-medsam report``: make a page about results, on which a reader marks them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from esp_medsam.cli.loudness import Quiet
from esp_medsam.cli.options import option, path_argument, path_option
from esp_medsam.cli.outcome import interrupted, tracked
from esp_medsam.errors import OptionError, one_line


def report(
    outputs: Annotated[
        list[Path], path_argument("OUT...", "Folders of results; several are merged.")
    ],
    *,
    output: Annotated[
        Path | None,
        path_option(
            "--output",
            "Page to write (.html), or folder; default: report.html in the first OUT, or the "
            "folder report for more than 2,000 cases.",
            "PATH",
        ),
    ] = None,
    folder: Annotated[
        bool, option("--folder", "Write a folder, with pictures and data beside the page.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Make a page about results: what to look at first, distributions, failures, provenance.

    It needs no network and no server. On it a reader marks cases as pass, fail or artefact, and
    exports these verdicts for `segment --rerun` and `label --verdicts`. Previews that `segment
    --preview` wrote are in it. Nothing else in OUT is changed.
    """
    if find_spec("jinja2") is None:
        msg = "The package jinja2 is needed here; install esp-medsam[report]."
        raise OptionError(msg)
    from esp_medsam.workflows.report.gather import gather
    from esp_medsam.workflows.report.write import check_place, write_report

    check_place(outputs, output, as_folder=folder)
    shows = tracked("Reading results", quiet=quiet)

    def pictured(steps: Iterable[Any], total: int) -> Iterable[Any]:
        shown: Iterable[Any] = tracked("Drawing thumbnails", quiet=quiet)(steps, total=total)
        return shown

    try:
        found = gather(outputs, shows)
        page = write_report(found, outputs, output, as_folder=folder, tracked=pictured)
    except KeyboardInterrupt:
        outlook = "no page was written; run the same command again"
        raise interrupted(outlook) from None
    counts = Counter(name for case in found.cases for name in case.findings[:1])
    told = "".join(f", {count} with {name}" for name, count in counts.items() if name != "failed")
    print(one_line(f"{len(found.cases)} cases, {counts['failed']} failed{told}: {page}"))
