"""Write the datalist that weights are trained, validated and tested with.

    python benchmarks/accuracy/datalist.py DATA2D MORE2D VOLUMES_TRAIN OUT.json

Each folder holds its manifests. Their ``test`` rows become the section ``test``; of the ``train``
rows a tenth becomes ``validation``, whole patients, sequences or images at a time, the same ones on
every run. What is known of each image follows from ``sets.yaml``. Masks of what is unknown, and
squares without their target of images that all show it, are written into a folder beside OUT.json.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from crops import Square, empty_square, square_around, write_square
from PIL import Image


SETS: dict[str, dict[str, Any]] = yaml.safe_load(
    Path(__file__).with_name("sets.yaml").read_text(encoding="utf-8")
)

VALIDATION_SHARE = 0.1
"""Least share of a set's training images that goes to validation."""

SUFFIXES = {
    "_liver": "liver",
    "_kidney": "kidney",
    "_pancreas": "pancreas",
    "_tumor": "kidney_tumor",
    "_LV": "left_ventricle",
    "_MYO": "myocardium",
    "_RV": "right_ventricle",
}
"""What the names of CT and MRI masks of one target end in; others are of the set's only one."""


@dataclass
class Picture:
    """An image and its masks, before anything is made of them.

    Attributes:
        path: The image.
        dataset: Name of its set.
        modality: Name of its modality.
        split: ``train`` or ``test``.
        subject: What is kept together.
        masks: Files by target, or under ``""`` a label map of several.
        annotated: Values that were outlined for the patient, if it is said.
    """

    path: Path
    dataset: str
    modality: str
    split: str
    subject: str = ""
    masks: dict[str, Path] = field(default_factory=dict)
    annotated: frozenset[int] | None = None


def main() -> None:
    """Write the datalist, and print how many images of each set there are."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name in ("data2d", "more2d", "volumes_train"):
        parser.add_argument(name, type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--modality", nargs="+", help="leave the images of others out")
    parser.add_argument(
        "--cropped_of",
        type=int,
        default=4,
        help="of so many training images one is cropped, by a hash of its name; of others each is",
    )
    asked = parser.parse_args()
    pictures = [
        *pictures_of_data2d(asked.data2d.resolve()),
        *pictures_of_more2d(asked.more2d.resolve()),
        *volumes(asked.volumes_train.resolve()),
    ]
    pictures = [picture for picture in pictures if not is_left_out(picture)]
    if asked.modality:
        pictures = [picture for picture in pictures if picture.modality in asked.modality]
    sections = sections_of(pictures)
    written = asked.out.resolve().with_suffix("")
    datalist: dict[str, list[dict[str, Any]]] = {"training": [], "validation": [], "test": []}
    for picture, section in zip(pictures, sections, strict=True):
        item = item_of(picture, asked.out.resolve().parent, written)
        cropped = section != "training" or not hash_of(picture) % asked.cropped_of
        crops = crops_of(picture, item, section, written) if cropped else ()
        datalist[section] += [item, *crops]
    content = json.dumps(datalist, indent=1)
    asked.out.write_text(content, encoding="utf-8")
    for section, items in datalist.items():
        print(section, len(items), dict(Counter(item["dataset"] for item in items)))
    print("SHA-256", hashlib.sha256(content.encode()).hexdigest())


def rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a manifest."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def pictures_of_data2d(root: Path) -> Iterator[Picture]:
    """Yield each picture of the sets with a mask a target, its masks gathered."""
    found: dict[str, Picture] = {}
    for row in [*rows(root / "manifest.csv"), *rows(root / "manifest_ctmri.csv")]:
        suffix = Path(row["mask"]).stem[len(Path(row["image"]).stem) :]
        target = SUFFIXES.get(suffix) or next(iter(SETS[row["dataset"]]["labels"]))
        picture = found.setdefault(
            row["image"],
            Picture(root / row["image"], row["dataset"], row["modality"], row["split"]),
        )
        picture.masks[target] = root / row["mask"]
    yield from found.values()


def pictures_of_more2d(root: Path) -> Iterator[Picture]:
    """Yield each picture of the sets with label maps."""
    for row in rows(root / "manifest.csv"):
        values = row["labels_annotated"].split(";")
        known = "unknown" not in row["patient"]
        yield Picture(
            root / row["image"],
            row["dataset"],
            row["modality"],
            row["split"],
            subject=row["patient"] if known else "",
            masks={"": root / row["mask"]},
            annotated=frozenset(map(int, values)) if values[0].isdecimal() else None,
        )


def volumes(root: Path) -> Iterator[Picture]:
    """Yield each volume."""
    for row in rows(root / "manifest.csv"):
        yield Picture(
            root / row["file"],
            f"STS-{row['modality']}",
            row["modality"].lower(),
            row["split"],
            subject=row["case"],
            masks={"soft_tissue_sarcoma": root / row["label_file"]},
        )


def is_left_out(picture: Picture) -> bool:
    """Whether a training picture shows what a test picture shows."""
    pattern = SETS[picture.dataset].get("left_out")
    return picture.split == "train" and bool(pattern and re.match(pattern, picture.path.name))


def sections_of(pictures: list[Picture]) -> list[str]:
    """Return each picture's section: subjects by a hash, until a tenth of a set validates.

    A set of one subject only trains.
    """
    sizes: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    subjects = [subject_of(picture) for picture in pictures]
    for picture, subject in zip(pictures, subjects, strict=True):
        if picture.split == "train":
            sizes[picture.dataset][subject] += 1
    validating: set[tuple[str, str]] = set()
    for dataset, counts in sizes.items():
        left = VALIDATION_SHARE * sum(counts.values()) if len(counts) > 1 else 0.0
        for subject in sorted(counts, key=lambda name: zlib.crc32(name.encode())):
            if left > 0:
                validating.add((dataset, subject))
                left -= counts[subject]
    return [
        "test"
        if picture.split == "test"
        else "validation"
        if (picture.dataset, subject) in validating
        else "training"
        for picture, subject in zip(pictures, subjects, strict=True)
    ]


def hash_of(picture: Picture) -> int:
    """Return a number that a picture's name decides."""
    return zlib.crc32(picture.path.name.encode())


def subject_of(picture: Picture) -> str:
    """Return what a picture is kept together with."""
    match = re.match(SETS[picture.dataset].get("subject", ""), picture.path.name)
    named = match.group(1) if match and match.groups() else ""
    return picture.subject or named or picture.path.name


def item_of(picture: Picture, root: Path, unknown: Path) -> dict[str, Any]:
    """Return what a datalist says of a picture.

    Args:
        picture: The picture.
        root: Folder that paths are relative to.
        unknown: Folder for masks of what is unknown.
    """
    rules = SETS[picture.dataset]
    labels, found, looked_for = labels_of(picture, rules, root)
    absent = {*rules.get("absent", ()), *(looked_for - found)}
    for target, others in rules.get("absent_beside", {}).items():
        absent |= set(others) if target in found else set()
    item: dict[str, Any] = {
        "image": os.path.relpath(picture.path, root),
        "modality": picture.modality,
        "dataset": picture.dataset,
        "labels": labels,
        "absent": sorted(absent),
        "patient": f"{picture.dataset} {subject_of(picture)}",
    }
    if rules.get("unknown") == "outside_rows" and found:
        path = outside_rows(picture, unknown)
        item["unknown"] = {"path": os.path.relpath(path, root), "values": [255]}
    return {**item, **{key: rules[key] for key in ("ct_input", "offset") if key in rules}}


def crops_of(
    picture: Picture, item: dict[str, Any], section: str, folder: Path
) -> Iterator[dict[str, Any]]:
    """Yield a square without the target, and in training one around it.

    Args:
        picture: One of a set whose ``cropped`` is a target, wherever it is.
        item: What the datalist says of it.
        section: Where that goes.
        folder: For the squares; the datalist lies beside it.
    """
    target = SETS[picture.dataset].get("cropped")
    train = section == "training"
    if target is None:
        return
    with Image.open(picture.masks[target]) as image:
        mask = np.asarray(image) > 0
    square = empty_square(mask)
    if square is None or not mask.any():
        return
    folder.mkdir(exist_ok=True)

    def cut(part: Square, name: str) -> dict[str, Any]:
        out = folder / f"{picture.dataset}_{picture.path.stem}_{name}.png"
        path = write_square(picture.path, part, out)
        return {**item, "image": os.path.relpath(path, folder.parent)}

    absent = sorted({*item["absent"], target})
    yield {**cut(square, "without"), "labels": {}, "absent": absent}
    if train:
        part = square_around(mask, square.side)
        out = folder / f"{picture.dataset}_{picture.path.stem}_mask.png"
        label = os.path.relpath(write_square(picture.masks[target], part, out), folder.parent)
        yield {**cut(part, "with"), "labels": {target: [label]}}


def labels_of(
    picture: Picture, rules: dict[str, Any], root: Path
) -> tuple[dict[str, Any], set[str], set[str]]:
    """Return labels, the targets that are outlined, and those that would be if they were there."""
    if "" not in picture.masks:
        drawn = {t: path for t, path in picture.masks.items() if is_drawn(path)}
        labels: dict[str, Any] = {t: [os.path.relpath(p, root)] for t, p in drawn.items()}
        looked_for = {*picture.masks, *rules.get("complete", ())}
        if picture.dataset == "KiTS19":
            if "kidney" not in picture.masks:
                looked_for.discard("kidney")
            else:  # its kidney leaves the tumor out; ours is the organ with any tumor in it
                labels["kidney"] = labels.get("kidney", []) + labels.get("kidney_tumor", [])
                looked_for.add("kidney_tumor")
        return {t: v for t, v in labels.items() if v}, set(drawn), looked_for
    with Image.open(picture.masks[""]) as mask:
        seen = set(np.unique(np.asarray(mask)).tolist()) - {0}
    values: dict[str, list[int]] = {}
    looked_for = set()
    for target, meant in rules.get("labels", {}).items():
        meant = sorted(seen) if meant == "all" else meant
        if picture.annotated is not None and not picture.annotated.issuperset(meant):
            continue  # of one parotid alone the pair is not known
        if target in rules.get("complete", ()):
            looked_for.add(target)
        if seen.intersection(meant):
            values[target] = sorted(seen.intersection(meant))
    if not values:
        return {}, set(), looked_for
    path = os.path.relpath(picture.masks[""], root)
    return {"path": path, "values": values}, set(values), looked_for


def is_drawn(path: Path) -> bool:
    """Whether a mask holds anything; of a volume it is said that it does."""
    if path.suffix != ".png":
        return True
    with Image.open(path) as mask:
        return mask.getbbox() is not None


def outside_rows(picture: Picture, folder: Path) -> Path:
    """Write a mask of the rows above and below all that is outlined, and return its path."""
    folder.mkdir(exist_ok=True)
    with Image.open(picture.masks[""]) as mask:
        outlined = np.asarray(mask) > 0
    rows_with = np.flatnonzero(outlined.any(axis=1))
    outside = np.full(outlined.shape, 255, np.uint8)
    outside[rows_with[0] : rows_with[-1] + 1] = 0
    path = folder / f"{picture.dataset}_{picture.path.stem}.png"
    Image.fromarray(outside).save(path)
    return path


if __name__ == "__main__":
    main()
