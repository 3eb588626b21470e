"""``esp-medsam calibrate``: measure weights once they are trained, so that doubts can be told."""

from __future__ import annotations

import sys
from functools import partial

from rich.console import Console
from rich.progress import track

from esp_medsam.cli.loudness import Quiet, Verbose
from esp_medsam.cli.options import Bundle, CkptPath, Config, Device, TrustConfig
from esp_medsam.cli.outcome import tell_what_runs
from esp_medsam.cli.training_options import Datalist
from esp_medsam.errors import one_line
from esp_medsam.memory import check_libraries_fit


def calibrate(
    datalist: Datalist,
    *,
    device: Device = None,
    config: Config = None,
    trust_config: TrustConfig = False,
    ckpt_path: CkptPath = None,
    bundle: Bundle = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Learn what images of each modality look like to trained weights, from a datalist.

    Writes FILE.calibration.json beside the weights. segment then says of each image how like these
    it is, and warns where it looks like something else. Masks do not change.
    """
    del verbose  # its callback sees to it
    from esp_medsam.workflows.datalist import read_datalist
    from esp_medsam.workflows.request import read_request

    request = read_request(
        bundle,
        config or [],
        trust_config=trust_config,
        device=device,
        ckpt_path=None if ckpt_path is None else str(ckpt_path),
    )
    tell_what_runs(request)
    sections = [read_datalist(datalist, section) for section in ("training", "validation")]
    check_libraries_fit()
    from esp_medsam.inferers.calibration import Calibration, write_calibration
    from esp_medsam.workflows.calibrate import Look, chosen, lines_of, measure_plausibility
    from esp_medsam.workflows.pipeline import read_config

    parsed = read_config(request)
    settings, table, inferer, network = (
        parsed.get_parsed_content(key) for key in ("settings", "table", "inferer", "network")
    )
    tracked = partial(
        track,
        description="Looking",
        console=Console(stderr=True),
        transient=True,
        disable=quiet,
    )
    look = Look(table, inferer, network, ct_input=settings.ct_input)
    training, validation = (chosen(items, table) for items in sections)
    plausibility, scores = measure_plausibility(training, validation, look, tracked)
    path = write_calibration(settings.ckpt_path, Calibration(plausibility))
    print("\n".join(lines_of(scores)))
    print(one_line(f"Wrote {path}."), file=sys.stderr)
