"""``esp-medsam calibrate``: measure plausibility and confidence of trained weights."""

from __future__ import annotations

import sys

from esp_medsam.cli.loudness import Quiet, Verbose
from esp_medsam.cli.options import Bundle, CkptPath, Config, Device, TrustConfig
from esp_medsam.cli.outcome import tell_what_runs, tracked
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
    """Calibrate weights, to tell how plausible an image is and estimate the Dice of its masks.

    Uses the training and validation sections of a datalist, and writes NAME.calibration.json next
    to the weights. From then on, segment records how similar each image is to those of its
    modality, warns about images that look like something else, and records the expected Dice of
    each mask. Masks do not change.
    """
    del verbose  # handled by its callback
    from esp_medsam.workflows.evaluation import with_all_targets
    from esp_medsam.workflows.request import read_request

    request = read_request(
        bundle,
        config or [],
        trust_config=trust_config,
        device=device,
        ckpt_path=None if ckpt_path is None else str(ckpt_path),
    )
    tell_what_runs(request)
    request = with_all_targets(request)
    check_libraries_fit()
    from esp_medsam.workflows.calibrate import calibrate as measure  # loads torch: after all checks

    path, lines = measure(request, datalist, tracked("Measuring", quiet=quiet))
    print("\n".join(lines))
    print(one_line(f"Wrote {path}."), file=sys.stderr)
