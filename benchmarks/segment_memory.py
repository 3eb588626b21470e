"""Peak memory and time of segmenting a large CT volume, beyond the imports and the network itself.

    python benchmarks/segment_memory.py [--shape 512 512 300] [--targets liver] [--runtime eager]

Reads, measures, segments and writes as the command does, with the bundle's weights, or with random
ones if it has none: what the network finds does not matter here. The peak is compared with the
limit, and with the estimate made before the volume is read; the wall time with that of the
network's own calls. Needs Linux.
"""

from __future__ import annotations

import argparse
import math
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from esp_medsam.allocator import reuse_memory
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


class Timed:
    """A network whose calls are timed; its other attributes are the network's own."""

    def __init__(self, network: Any) -> None:
        self.network = network
        self.seconds, self.calls = 0.0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)

    def encode(self, *given: Any) -> Any:
        """Encode, and count."""
        self.calls += 1
        return self._timed(self.network.encode, *given)

    def decode(self, *given: Any) -> Any:
        """Decode."""
        return self._timed(self.network.decode, *given)

    def _timed(self, run: Callable[..., Any], *given: Any) -> Any:
        began = time.perf_counter()
        found = run(*given)
        self.seconds += time.perf_counter() - began
        return found


def main() -> int:
    """Segment the volume and print the peak; return 1 if it is above the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 300))
    parser.add_argument("--config", action="append", default=[])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--targets", nargs="+", default=["all"])
    parser.add_argument("--runtime", default="eager")
    parser.add_argument("--limit_gb", type=float, default=1.5)
    arguments = parser.parse_args()
    reuse_memory()  # as the command does
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
            targets=arguments.targets,
            runtime=arguments.runtime,
        )
        network = Timed(segmentation.network)
        segmentation.network = network
        built = gigabytes("VmRSS")
        (result,) = segmentation.results()
    above, taken = gigabytes("VmHWM") - imports, gigabytes("VmHWM") - built
    voxels = math.prod(arguments.shape)
    later = beside_image(segmentation.table, "ct", None).of(voxels)
    estimate = (sum(later.values()) + 2 * voxels) / 2**30
    took = time.perf_counter() - start
    print(f"{result.status} {result.message}in {took:.0f} s, {took / network.seconds:.3f} of the")
    print(f"network's own {network.seconds:.0f} s in {network.calls} passes")
    print(f"{imports:.2f} GB after imports, {above:.2f} GB above them at the peak")
    print(f"{taken:.2f} GB from the volume on, {estimate:.2f} GB estimated")
    return int(result.status != "done" or above > arguments.limit_gb or taken > estimate)


if __name__ == "__main__":
    raise SystemExit(main())
