"""Measure how well calibrated weights tell images that are not of the stated modality.

    python benchmarks/accuracy/plausibility.py DATALIST.json [--bundle FOLDER] [--section test]

Of each set up to PER_SET images, by a hash of their names, are looked at as what they are, and as
each other modality. The limit is the calibration's own, from validation images.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

from esp_medsam.inferers.calibration import input_settings, read_calibration
from esp_medsam.workflows.calibrate import Look, sample_items, score_of
from esp_medsam.workflows.datalist import read_datalist
from esp_medsam.workflows.pipeline import read_config
from esp_medsam.workflows.request import read_request


PER_SET = 15


def main() -> None:
    """Print the share of flagged images, by true and stated modality."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("datalist", type=Path)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--section", default="test")
    asked = parser.parse_args()
    parsed = read_config(read_request(asked.bundle))
    settings, table = (parsed.get_parsed_content(key) for key in ("settings", "table"))
    inferer, network = (parsed.get_parsed_content(key) for key in ("inferer", "network"))
    calibration = read_calibration(settings.ckpt_path, input_settings(settings))
    if calibration is None:
        parser.error("the weights are not calibrated; run esp-medsam calibrate")
    known = calibration.plausibility
    look = Look(table, inferer, network, ct_input=settings.ct_input)
    flags: dict[tuple[str, str], list[bool]] = defaultdict(list)
    by_set: dict[str, int] = defaultdict(int)
    for item in sample_items(read_datalist(asked.datalist, asked.section), table):
        by_set[item.set_name] += 1
        if by_set[item.set_name] > PER_SET:
            continue
        for stated in known.centers:
            seen = look(item, stated)
            flags[seen.modality, stated].append(score_of(known, seen, stated) > 1)
    print("\n".join(table_of(flags, list(known.centers))))


def table_of(flags: dict[tuple[str, str], list[bool]], modalities: list[str]) -> list[str]:
    """Return the rows of a table of Markdown: true modality down, stated one across."""
    rows = [f"| is | images | {' | '.join(f'stated {m}' for m in modalities)} |"]
    rows.append("|" + " --- |" * (len(modalities) + 2))
    for true in modalities:
        shares = [flags[true, stated] for stated in modalities]
        told = " | ".join(f"{sum(each) / len(each):.0%}" for each in shares)
        rows.append(f"| {true} | {len(shares[0])} | {told} |")
    own = [flag for (true, stated), each in flags.items() if true == stated for flag in each]
    other = [flag for (true, stated), each in flags.items() if true != stated for flag in each]
    rows.append(
        f"\nFlagged: {sum(other) / len(other):.1%} of {len(other)} with another modality stated, "
        f"{sum(own) / len(own):.1%} of {len(own)} with their own."
    )
    return rows


if __name__ == "__main__":
    main()
