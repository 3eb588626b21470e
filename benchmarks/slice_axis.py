"""Which axis to slice a volume along: Dice of head-foot slices and of slices along a coarser axis.

    python benchmarks/slice_axis.py DATALIST [--section test] [--factors 1 1.1 1.25 1.5 2 3]

Takes CT or MRI volumes of a datalist (docs/reference/datalist.md), preferably isotropic ones. Each
is resampled so that one of its axes is coarser by each factor, and segmented with the bundle's
weights along head-foot and along that axis; the table compares the Dice of both on the same voxels.
docs/decisions/0015 is based on it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from rich.console import Console
from rich.table import Table

from esp_medsam.io import read, settle_modality
from esp_medsam.modality import ModalityTable
from esp_medsam.orientation import PLANES, closest_world_axes
from esp_medsam.workflows.datalist import Item, read_datalist
from esp_medsam.workflows.evaluate import target_scores
from esp_medsam.workflows.pipeline import read_config
from esp_medsam.workflows.request import read_request


def coarser(item: Item, axis: int, factor: float, folder: Path) -> Item:
    """Write an item's image and masks with one array axis coarser, and return it."""

    def resampled(path: str, interpolator: int) -> str:
        image = SimpleITK.ReadImage(path)
        size, spacing = list(image.GetSize()), list(image.GetSpacing())
        size[axis] = max(1, round(size[axis] / factor))
        spacing[axis] *= factor
        grid = SimpleITK.Image(size, image.GetPixelID())
        grid.SetSpacing(spacing)
        grid.SetDirection(image.GetDirection())
        # Voxels grow from the outer face of the first, so that both grids cover the same space.
        shift = [0.0] * 3
        shift[axis] = (factor - 1) / 2
        grid.SetOrigin(image.TransformContinuousIndexToPhysicalPoint(shift))
        if interpolator == SimpleITK.sitkLinear:  # thicker slices average
            sigma = [0.0] * 3
            sigma[axis] = 0.4 * (factor - 1) * image.GetSpacing()[axis]
            if sigma[axis]:
                image = SimpleITK.SmoothingRecursiveGaussian(
                    SimpleITK.Cast(image, SimpleITK.sitkFloat32), [max(s, 1e-3) for s in sigma]
                )
        out = SimpleITK.Resample(image, grid, SimpleITK.Transform(), interpolator, -1024.0)
        target = folder / f"{len(list(folder.iterdir()))}.nii.gz"
        SimpleITK.WriteImage(SimpleITK.Cast(out, grid.GetPixelID()), str(target))
        return str(target)

    masks = {
        target: tuple(
            mask.model_copy(update={"path": resampled(mask.path, SimpleITK.sitkNearestNeighbor)})
            for mask in given
        )
        for target, given in item.labels.items()
    }
    image = resampled(item.image, SimpleITK.sitkLinear)
    return item.model_copy(update={"image": image, "labels": masks})


def dices(
    item: Item, plane: str, table: ModalityTable, network: Any, options: list[str]
) -> Iterator[tuple[str, float]]:
    """Yield each target of an item with its Dice, sliced along a plane's axis."""
    request = read_request(None, options, slice_axis=plane, device="cpu")
    inferer = read_config(request).get_parsed_content("inferer")
    for score in target_scores([item], table=table, inferer=inferer, network=network):
        if score.present:
            yield score.target, score.dice


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datalist", type=Path)
    parser.add_argument("--section", default="test")
    parser.add_argument("--config", action="append", default=[])
    parser.add_argument("--factors", type=float, nargs="+", default=[1, 1.1, 1.25, 1.5, 2, 3])
    arguments = parser.parse_args()
    network = read_config(read_request(None, arguments.config, device="cpu")).get_parsed_content(
        "network"
    )
    table = read_request().table
    names = {world: plane for plane, world in PLANES.items()}
    found: defaultdict[tuple[float, str], dict[str, list[float]]] = defaultdict(
        lambda: {"axial": [], "along": []}
    )
    for item in read_datalist(arguments.datalist, arguments.section):
        image = settle_modality(read(item["image"]), item["modality"], table)
        assert image.grid.affine is not None, "a volume has one"
        for axis, (world, _) in enumerate(closest_world_axes(np.asarray(image.grid.affine))):
            for factor in arguments.factors:
                with tempfile.TemporaryDirectory() as folder:
                    made = coarser(item, axis, factor, Path(folder))
                    key = (factor, names[world])
                    for way, plane in (("axial", "axial"), ("along", names[world])):
                        for target, dice in dices(made, plane, table, network, arguments.config):
                            found[key][way].append(dice)
                            print(item.image, f"{factor:g}", names[world], plane, target, dice)
    shown = Table("coarser by", "along", "volumes x targets", "head-foot slices", "slices along it")
    for (factor, plane), ways in sorted(found.items()):
        means = [f"{np.mean(ways[way]):.3f}" for way in ("axial", "along")]
        shown.add_row(f"{factor:g}", plane, str(len(ways["axial"])), *means)
    Console(width=110).print(shown)


if __name__ == "__main__":
    main()
