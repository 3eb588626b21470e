"""Write the datalist that the shipped weights were trained with.

    python benchmarks/shipped_datalist.py DATA2D VOLUMES_TRAIN OUT.json

DATA2D holds ``manifest.csv`` and ``manifest_ctmri.csv``, VOLUMES_TRAIN ``manifest.csv``. Their
``test`` rows become the section ``test``; a tenth of the ``train`` rows becomes ``validation``,
whole patients, sequences or images at a time, the same ones on every run.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import zlib
from collections import defaultdict
from pathlib import Path
from typing import Any

import PIL.Image


TARGET_2D = {
    "dermoscopy": "lesion",
    "endoscopy": "polyp",
    "ultrasound": "breast_lesion",
    "xray": "lungs",
    "fundus": "vessels",
    "microscopy": "nuclei",
}

ABDOMEN = ["liver", "kidney", "pancreas", "kidney_tumor"]
HEART = ["left_ventricle", "right_ventricle", "myocardium"]
ABSENT = {
    # Every structure of CURVAS is outlined wherever it is visible.
    "CURVAS": ["liver", "kidney", "pancreas", "intracranial_hemorrhage"],
    "KiTS19": ["intracranial_hemorrhage"],
    "CHAOS-CT": ["intracranial_hemorrhage"],
    "CT-ICH": [*ABDOMEN, "soft_tissue_sarcoma"],
    "LGG": [*HEART, "soft_tissue_sarcoma"],
    "ACDC": ["glioma", "soft_tissue_sarcoma"],
    # Sarcomas of the extremities.
    "STS-CT": [*ABDOMEN, "intracranial_hemorrhage"],
    "STS-MRI": ["glioma", *HEART],
}
"""Targets of each set that are known to be absent from an image without their mask."""

TARGET_OF_SUFFIX = {
    "_liver": "liver",
    "_kidney": "kidney",
    "_pancreas": "pancreas",
    "_tumor": "kidney_tumor",
    "_LV": "left_ventricle",
    "_MYO": "myocardium",
    "_RV": "right_ventricle",
}

TARGET_OF_SET = {"LGG": "glioma", "CHAOS-CT": "liver", "CT-ICH": "intracranial_hemorrhage"}

SUBJECT = {
    "CVC-ClinicDB": r"(seq\d+)_",
    "CHASE_DB1": r"(Image_\d+)",
    "LGG": r"(TCGA_\w\w_\w{4})_",
    "ACDC": r"(patient\d+)_",
    "CURVAS": r"(\d+)_",
    "KiTS19": r"(\d+)_",
    "CHAOS-CT": r"(\d+)_",
}
"""Pattern of what is kept together when validation is split off; by default, one image."""

VALIDATION_SHARE = 0.1
"""Least share of a set's training images that goes to validation."""


def main() -> None:
    """Write the datalist."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data2d", type=Path)
    parser.add_argument("volumes_train", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    items = [*images_2d(args.data2d), *slices_ctmri(args.data2d), *volumes(args.volumes_train)]
    datalist: dict[str, list[dict[str, Any]]] = {"training": [], "validation": [], "test": []}
    carve([item for split, item in items if split == "train"])
    for split, item in items:
        section = item.pop("section", split)
        item.pop("subject", None)
        root = args.out.resolve().parent
        item["image"] = os.path.relpath(item["image"], root)
        item["labels"] = {
            target: [os.path.relpath(path, root) for path in paths]
            for target, paths in item["labels"].items()
        }
        datalist[section].append(item)
    args.out.write_text(json.dumps(datalist, indent=1), encoding="utf-8")
    print({section: len(entries) for section, entries in datalist.items()})


def rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a manifest."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def images_2d(root: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return split and item of every picture with one target."""
    root = root.resolve()
    return [
        (
            row["split"],
            {
                "image": str(root / row["image"]),
                "modality": row["modality"],
                "dataset": row["dataset"],
                "labels": {TARGET_2D[row["modality"]]: [str(root / row["mask"])]},
                "absent": [],
            },
        )
        for row in rows(root / "manifest.csv")
    ]


def slices_ctmri(root: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return split and item of every CT and MRI slice, with all its masks."""
    root = root.resolve()
    masks: dict[tuple[str, str, str, str], dict[str, str]] = defaultdict(dict)
    for row in rows(root / "manifest_ctmri.csv"):
        suffix = Path(row["mask"]).stem[len(Path(row["image"]).stem) :]
        target = TARGET_OF_SET.get(row["dataset"]) or TARGET_OF_SUFFIX[suffix]
        key = (row["split"], row["modality"], row["dataset"], row["image"])
        masks[key][target] = str(root / row["mask"])
    items = []
    for (split, modality, dataset, image), found in masks.items():
        drawn = {target: path for target, path in found.items() if is_drawn(path)}
        labels = {target: [path] for target, path in drawn.items()}
        absent = {*ABSENT[dataset], *(found.keys() - drawn.keys())}
        if dataset == "KiTS19" and "kidney" in found:
            # Its kidney excludes the tumor; ours is the organ with any tumor in it.
            labels["kidney"] += labels.get("kidney_tumor", [])
            absent.add("kidney_tumor")
        item = {
            "image": str(root / image),
            "modality": modality,
            "dataset": dataset,
            "labels": labels,
            "absent": sorted(absent - set(labels)),
        }
        if modality == "ct":
            item["ct_input"] = "windowed"
        items.append((split, item))
    return items


def is_drawn(path: str) -> bool:
    """Whether a mask picture has any foreground."""
    with PIL.Image.open(path) as mask:
        return mask.getbbox() is not None


def volumes(root: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return split and item of every volume."""
    root = root.resolve()
    return [
        (
            row["split"],
            {
                "image": str(root / row["file"]),
                "modality": row["modality"].lower(),
                "dataset": f"STS-{row['modality']}",
                "labels": {"soft_tissue_sarcoma": [str(root / row["label_file"])]},
                "absent": ABSENT[f"STS-{row['modality']}"],
                "subject": row["case"],
            },
        )
        for row in rows(root / "manifest.csv")
    ]


def carve(items: list[dict[str, Any]]) -> None:
    """Mark validation subjects of each set, by hash, until they have a tenth of its images."""
    by_set: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for item in items:
        name = Path(item["image"]).name
        match = re.match(SUBJECT.get(item["dataset"], r"(.*)"), name)
        subject = item.get("subject") or (match.group(1) if match else name)
        by_set[item["dataset"]][subject].append(item)
    for subjects in by_set.values():
        wanted = VALIDATION_SHARE * sum(len(images) for images in subjects.values())
        taken = 0
        for subject in sorted(subjects, key=lambda name: zlib.crc32(name.encode())):
            section = "validation" if taken < wanted else "training"
            for item in subjects[subject]:
                item["section"] = section
            taken += len(subjects[subject])


if __name__ == "__main__":
    main()
