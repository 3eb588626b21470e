"""Dice after simulated clicks, and after a box, on the images of a datalist: one line per target.

    python benchmarks/accuracy/clicks.py DATALIST [--section test] [--images 20] [--bundle FOLDER]

A click is set where an annotator would set it: in the middle of the largest error, inside the
target or outside. The last column is the share of a full pass that another prompt takes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt, label

from esp_medsam.inferers.prompted import Box, Click, PromptedSlices
from esp_medsam.io.load import as_meta_tensor
from esp_medsam.modality import ModalityTable
from esp_medsam.transforms.by_modality import MeasureImage
from esp_medsam.workflows.datalist import Item
from esp_medsam.workflows.datalist_images import MaskReader, read_image
from esp_medsam.workflows.one_image import read_parts
from esp_medsam.workflows.pipeline import read_config
from esp_medsam.workflows.request import read_request


CLICKS = (0, 1, 3, 5)
"""Numbers of clicks that are shown."""

Mask = npt.NDArray[np.bool_]


def dice(mask: Mask, truth: Mask) -> float:
    """Return the Dice of two masks, which are not both empty."""
    return float(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))


def next_click(mask: Mask, truth: Mask) -> Click | None:
    """Return a click in the middle of the largest error; None if there is none."""
    errors = []
    for wrong, is_inside in ((truth & ~mask, True), (mask & ~truth, False)):
        components, count = label(wrong)
        if count:
            sizes = np.bincount(components.ravel())[1:]
            errors.append((int(sizes.max()), components == sizes.argmax() + 1, is_inside))
    if not errors:
        return None
    _, largest, is_inside = max(errors, key=lambda error: error[0])
    depth = distance_transform_edt(np.pad(largest, 1))[(slice(1, -1),) * largest.ndim]
    voxel = np.unravel_index(int(depth.argmax()), depth.shape)
    return Click(tuple(int(n) for n in voxel), is_inside)


def scores(slices: PromptedSlices, target: str, truth: Mask) -> tuple[list[float], float, float]:
    """Return Dice after each number of clicks and after a box, and the share of another prompt."""
    places = np.argwhere(truth)
    first, last = (tuple(int(n) for n in corner) for corner in (places.min(0), places.max(0)))
    began = time.process_time()
    (box,) = slices.segment(target, [Box(first, last)]).values()
    whole = time.process_time() - began
    again = time.process_time()
    slices.segment(target, [Box(first, last)])
    share = (time.process_time() - again) / whole
    mask = slices.automatic(target, slices.pixel(first).slice).numpy() >= 128
    found, clicks = [dice(mask, truth)], list[Click]()
    for _ in range(max(CLICKS)):
        click = next_click(mask, truth)
        if click is not None:
            clicks.append(click)
            (drawn,) = slices.segment(target, clicks).values()
            mask = drawn.numpy() >= 128
        found.append(dice(mask, truth))
    return [found[n] for n in CLICKS], dice(box.numpy() >= 128, truth), share


def items_of(path: Path, section: str, table: ModalityTable) -> dict[tuple[str, ...], list[Item]]:
    """Return the items of a section by modality, set and target."""
    content: Any = json.loads(path.read_text(encoding="utf-8"))
    items = defaultdict(list)
    for entry in content[section]:
        item = Item.model_validate(entry).located(path.parent)
        names = [target.name for target in table[item.modality].targets]
        for target in item.labels:
            if target in names:
                items[item.modality, item.set_name, target].append(item)
    return dict(items)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datalist", type=Path)
    parser.add_argument("--section", default="test")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--bundle", type=Path)
    asked = parser.parse_args()
    request = read_request(
        asked.bundle,
        trust_config=asked.bundle is not None,
        dataset_dir=str(asked.datalist),
        output_dir=tempfile.gettempdir(),
        device="cpu",
    )
    network = read_parts(request)["network"]
    config = read_config(request)
    config.update({"network": network, "calibration": None})
    inferer = config.get_parsed_content("inferer")
    print("modality, set, target: images; Dice after", *CLICKS, "clicks; after a box; share")
    for key, items in items_of(asked.datalist, asked.section, request.table).items():
        drawn = np.random.default_rng(0).permutation(len(items))[: asked.images]
        rows = []
        for item in (items[place] for place in drawn):
            image = read_image(item, request.table)
            assert image.pixels is not None
            truth = MaskReader(image, request.table).of_target(item, key[-1])
            if truth is None or truth.ndim != 2 or not truth.any():
                continue
            measured = as_meta_tensor(MeasureImage(None)(image.pixels, image))
            clicked, box, share = scores(PromptedSlices(inferer, network, measured), key[-1], truth)
            rows.append([*clicked, box, share])
        if rows:
            means = (f"{statistics.mean(column):.3f}" for column in zip(*rows, strict=True))
            print(f"{', '.join(key)}: {len(rows)};", *means, flush=True)


if __name__ == "__main__":
    main()
