"""Write the tables of the model card: tiers of targets by what was measured, and all scores.

    python benchmarks/accuracy/card.py SUMMARY [SUMMARY ...] [--card bundle/docs/README.md]

A summary is what ``esp-medsam evaluate --summary`` writes. An image without a target shows the same
anatomy if its set has images with it, else another. Without ``--card`` the tables are printed; with
it they replace those between comments such as ``<!-- rates -->`` and ``<!-- end of rates -->``.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from esp_medsam.modality import ModalityTable, Target
from esp_medsam.workflows.bundle import default_root


LEAST_IMAGES = 5
"""Of fewer, nothing is concluded."""

LEAST_DICE, LEAST_FOUND, LEAST_EMPTY = 0.75, 0.95, 0.90

EVERYWHERE = {("fundus", "vessels")}
"""Modality and target of which no image is without."""

EMPTY = ("empty, same anatomy", "empty, another")

TIERS = ("ready", "experimental", "research")

COLUMNS = ("set", "modality", "target", "with it", "mean Dice (95 %)", "missed", "left empty")

Score = dict[str, Any]


class Shares(NamedTuple):
    """How often a target is found where it is, and left out where it is not: counts of images."""

    present: int
    found: int
    same: int
    same_empty: int
    other: int
    other_empty: int


def shares_of(scores: Sequence[Score]) -> Shares:
    """Return the shares of one target over all sets."""
    same = [score for score in scores if score["present"]]
    other = [score for score in scores if not score["present"]]

    def empty(group: Sequence[Score]) -> int:
        return sum(score["absent"] - score["false_alarms"] for score in group)

    present = sum(score["present"] for score in scores)
    return Shares(
        present,
        present - sum(score["missed"] for score in scores),
        sum(score["absent"] for score in same),
        empty(same),
        sum(score["absent"] for score in other),
        empty(other),
    )


def faults_of(modality: str, target: str, scores: Sequence[Score], shares: Shares) -> Iterator[str]:
    """Yield what keeps a target from being ready, in words."""
    if not shares.same + shares.other and (modality, target) not in EVERYWHERE:
        yield "no image without it"
    for score in scores:
        if score["present"] >= LEAST_IMAGES and score["dice"] < LEAST_DICE:
            yield f"Dice {score['dice']:.2f} on {score['dataset']}"
    if shares.present < LEAST_IMAGES:
        yield f"{shares.present} images with it"
    elif shares.found < LEAST_FOUND * shares.present:
        yield f"found in {shares.found / shares.present:.0%}"
    for count, empty, where in (
        (shares.same, shares.same_empty, "the same anatomy"),
        (shares.other, shares.other_empty, "another anatomy"),
    ):
        if count >= LEAST_IMAGES and empty < LEAST_EMPTY * count:
            yield f"{empty / count:.0%} left empty in {where}"


def row(*cells: str) -> str:
    """Return a row of a table of Markdown."""
    return f"| {' | '.join(cells)} |"


def tiers(table: ModalityTable) -> Iterator[str]:
    """Yield the rows of the table of targets by tier, as the bundle has them."""
    yield row("modality", *(f"{tier} (label value)" for tier in TIERS))
    yield row(*["---"] * 4)
    for modality in table.modalities:
        named = {tier: [t for t in modality.targets if t.tier == tier] for tier in TIERS}
        cells = (", ".join(f"{t.name} ({t.label})" for t in named[tier]) for tier in TIERS)
        yield row(modality.name, *cells)


def rates(table: ModalityTable, scores: dict[tuple[str, str], list[Score]]) -> Iterator[str]:
    """Yield the rows of the table of rates, with the tier that they allow."""
    yield row("modality", "target (label)", "tier", "found", *EMPTY, "why")
    yield row(*["---"] * 7)
    for modality in table.modalities:
        for target in modality.targets:
            own = scores.get((modality.name, target.name), [])
            shares = shares_of(own)
            faults = list(faults_of(modality.name, target.name, own, shares))
            cells = (
                modality.name,
                f"{target.name} ({target.label})",
                _tier(target, faults),
                _share(shares.found, shares.present),
                _share(shares.same_empty, shares.same),
                _share(shares.other_empty, shares.other),
                "; ".join(faults),
            )
            yield row(*cells)


def _tier(target: Target, faults: Sequence[str]) -> str:
    """Return the tier that the numbers allow: research stays what it is."""
    if target.tier == "research":
        return "research"
    return "experimental" if faults else "ready"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%} of {whole}" if whole else "not measured"


def performance(scores: Sequence[Score]) -> Iterator[str]:
    """Yield the rows of the table of scores: one for each target that a set's images show."""
    yield row(*COLUMNS)
    yield row(*["---"] * len(COLUMNS))
    for score in scores:
        if not score["present"]:
            continue  # counted as another anatomy in the table of tiers
        interval = score["intervals"].get("dice")
        between = f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else ""
        absent = score["absent"]
        cells = (
            *(score[name] for name in ("dataset", "modality", "target")),
            str(score["present"]),
            f"{score['dice']:.2f}{between}",
            str(score["missed"]),
            f"{score['empty']:.0%} of {absent}" if absent else "",
        )
        yield row(*cells)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("summaries", nargs="+", type=Path)
    parser.add_argument("--bundle", type=Path, default=Path(default_root()))
    parser.add_argument("--card", type=Path)
    asked = parser.parse_args()
    scores: list[Score] = []
    for path in asked.summaries:
        scores += json.loads(path.read_text(encoding="utf-8"))["scores"]
    by_target: dict[tuple[str, str], list[Score]] = defaultdict(list)
    for score in scores:
        by_target[score["modality"], score["target"]].append(score)
    table = ModalityTable.read(asked.bundle / "configs" / "targets.yaml")
    tables = {
        "tiers": tiers(table),
        "rates": rates(table, by_target),
        "scores": performance(scores),
    }
    rows = {name: "\n".join(table) for name, table in tables.items()}
    if asked.card is None:
        print("\n\n".join(rows.values()))
    else:
        text = asked.card.read_text(encoding="utf-8")
        asked.card.write_text(filled(text, rows), encoding="utf-8")


def filled(text: str, tables: dict[str, str]) -> str:
    """Return a card with tables in the places that its comments name."""
    for name, table in tables.items():
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, opening, rest = text.partition(start)
        _, closing, after = rest.partition(end)
        if not opening or not closing:
            msg = f"the card must have a line {start.strip()} and then a line {end}"
            raise SystemExit(msg)
        text = f"{before}{start}{table}\n{end}{after}"
    return text


if __name__ == "__main__":
    main()
