"""Peak memory of segmenting a large CT volume with every target, beyond that of the imports.

    python benchmarks/segment_memory.py [--shape 512 512 300] [--config OVERLAY] [--limit_gb 1.5]

Reads, measures, segments and writes as the command does, with the bundle's weights, or with random
ones if it has none: what the network finds does not matter here. The peak is compared with the
limit, and with the estimate made before the volume is read. Needs Linux.
"""

from __future__ import annotations

import argparse
import math
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from esp_medsam.io.budget import beside_image
from esp_medsam.modality import ModalityTable
from esp_medsam.networks.builders import build_product
from esp_medsam.workflows.bundle import TABLE, WEIGHTS, find_bundle
from esp_medsam.workflows.pipeline import build_run


MAKE_VOLUME = """
import sys, nibabel, numpy
path, *shape = sys.argv[1:]
voxels = numpy.random.default_rng(0).integers(-1000, 1000, [int(n) for n in shape], numpy.int16)
nibabel.Nifti1Image(voxels, numpy.diag([0.7, 0.7, 1.5, 1.0])).to_filename(path)
"""
"""Code for a separate process, whose memory does not count."""


def gigabytes(field: str) -> float:
    """Return a field of this process's status, such as VmRSS."""
    status = Path("/proc/self/status").read_text()
    (kilobytes,) = re.findall(rf"{field}:\s+(\d+) kB", status)
    return int(kilobytes) / 2**20


def weights_of(bundle: Path, folder: Path) -> Path:
    """Return the bundle's weights, or random ones."""
    if (bundle / WEIGHTS).is_file():
        return bundle / WEIGHTS
    table = ModalityTable.read(bundle / TABLE)
    torch.save(build_product(table.indices, table.target_names).state_dict(), folder / "model.pt")
    return folder / "model.pt"


def main() -> int:
    """Segment the volume and print the peak; return 1 if it is above the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 300))
    parser.add_argument("--config", action="append", default=[])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--limit_gb", type=float, default=1.5)
    arguments = parser.parse_args()
    imports = gigabytes("VmRSS")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        volume = folder / "ct.nii"
        shape = [str(n) for n in arguments.shape]
        subprocess.run([sys.executable, "-c", MAKE_VOLUME, str(volume), *shape], check=True)
        ckpt_path = weights_of(find_bundle(), folder)
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak

        start = time.perf_counter()
        segmentation = build_run(
            overlays=arguments.config,
            dataset_dir=str(volume),
            output_dir=str(folder / "out"),
            modality="ct",
            ckpt_path=str(ckpt_path),
            device=arguments.device,
        )
        built = gigabytes("VmRSS")
        (result,) = segmentation.results()
    above, taken = gigabytes("VmHWM") - imports, gigabytes("VmHWM") - built
    voxels = math.prod(arguments.shape)
    later = beside_image(segmentation.table, "ct", None).of(voxels)
    estimate = (sum(later.values()) + 2 * voxels) / 2**30
    print(f"{result.status} {result.message}in {time.perf_counter() - start:.0f} s")
    print(f"{imports:.2f} GB after imports, {above:.2f} GB above them at the peak")
    print(f"{taken:.2f} GB from the volume on, {estimate:.2f} GB estimated")
    return int(result.status != "done" or above > arguments.limit_gb or taken > estimate)


if __name__ == "__main__":
    raise SystemExit(main())
