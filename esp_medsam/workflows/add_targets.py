"""Add modalities or targets to a bundle, and train only what is new."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esp_medsam.errors import OptionError, OutputExistsError, listed
from esp_medsam.identity import sha256_of
from esp_medsam.io.atomic import atomic_file
from esp_medsam.plain_data import read_yaml
from esp_medsam.workflows.additions import Additions, read_additions
from esp_medsam.workflows.bundle import CONFIG, TABLE, WEIGHTS, find_bundle, is_bundle
from esp_medsam.workflows.datalist import Item, check_targets, read_datalist
from esp_medsam.workflows.new_bundle import make_bundle
from esp_medsam.workflows.request import Request
from esp_medsam.workflows.train_request import read_training


if TYPE_CHECKING:  # evaluation loads torch and MONAI; a refusal must not wait for that
    from esp_medsam.workflows.evaluation_summary import Score


logger = logging.getLogger(__name__)

ADD_CONFIG = "add_modality.yaml"

CARD = Path("docs", "README.md")

_ADDED = "\n## What was added\n"

_CARD = """\
# {name}

A bundle for the Python package esp_medsam: the one described below, and what was added to it:

{targets}

Research only. Not a medical device: not for diagnosis, treatment or any other clinical decision.

## What was added

`esp-medsam add-target` trained it on top of weights with SHA-256 {weights}.
Their parameters did not change, and neither did their masks.
The datalist has SHA-256 {datalist}.

| Modality | Target | Set | Images trained on | Validation images | Dice | 95 % interval |
|---|---|---|---|---|---|---|
{rows}

The epoch was chosen on the validation images, so these numbers are optimistic.
A few dozen images from one source show whether it is worth going on, not how it does elsewhere.
Say here where the images come from, under which terms, and how well it does on images of another
source: `esp-medsam evaluate DATALIST --bundle .`

## The bundle that it was added to

{source}
"""


def prepare_addition(
    folder: str | os.PathLike[str],
    targets: str | Path,
    datalist: str | Path,
    *,
    source: str | os.PathLike[str] | None = None,
) -> tuple[Path, Additions]:
    """Make the bundle that a training run will complete, or find one left by an interrupted call.

    Args:
        folder: Folder for the bundle: new, empty, or left by the same call.
        targets: YAML of the additions; see :func:`~esp_medsam.workflows.additions.read_additions`.
        datalist: Images that show the additions.
        source: Bundle to add to; None is the installed one.

    Returns:
        The bundle that is added to, and the additions.

    Raises:
        TableError: If an addition breaks a rule.
        OptionError: If the datalist is not usable, or does not show all the additions.
        OutputExistsError: If the folder holds anything else.
        OutputError: If the folder cannot be written to.
    """
    origin, root = find_bundle(source), Path(folder)
    additions = read_additions(targets, origin / TABLE)
    for section in ("training", "validation"):
        _check_shown(read_datalist(datalist, section), section, additions)
    if is_bundle(root) and (root / TABLE).read_text(encoding="utf-8") == additions.text:
        if _ADDED in _read_card(root):  # the card is written last
            msg = f"OUT must not hold a finished bundle; {root} does. Choose another folder."
            raise OutputExistsError(msg)
        return origin, additions
    make_bundle(
        root, additions.table, additions.text, origin=origin, maker="add-target", argument="OUT"
    )
    return origin, additions


def _check_shown(items: Sequence[Item], section: str, additions: Additions) -> None:
    """Require a section to show all additions, and only modalities that get additions."""
    for item in items:
        check_targets(item, additions.table)
    shown = {(additions.table[item.modality].name, name) for item in items for name in item.labels}
    added = {modality for modality, _ in additions.targets}
    missing = [".".join(pair) for pair in additions.targets if pair not in shown]
    others = {additions.table[item.modality].name for item in items} - added
    if missing:
        msg = f"datalist must label all that is added in {section}; "
        raise OptionError(msg + f"it has no labels of {listed(missing)}.")
    if others:
        msg = f"datalist must only hold images of {listed(sorted(added))}, to which something is "
        raise OptionError(msg + f"added; in {section} got {listed(sorted(others))}.")


def addition_request(
    folder: Path, origin: Path, additions: Additions, *, trust_config: bool = False, **given: Any
) -> Request:
    """Return the request for training the new parts of a prepared bundle.

    Args:
        folder: The prepared bundle.
        origin: The bundle whose weights training starts from.
        additions: The additions.
        trust_config: Whether configs of a foreign bundle, and overlays, may run code.
        given: Settings of ``train.yaml``; ``overlays`` lists further configs.

    Raises:
        EspMedSamError: As in :func:`~esp_medsam.workflows.train_request.read_training`.
    """
    overlays = given.pop("overlays", ())
    request = read_training(
        folder,
        [folder / "configs" / ADD_CONFIG, *overlays],
        trust_config=trust_config,
        pretrained=str(origin / WEIGHTS),
        trained=additions.trained,
        **given,
    )
    own, size = read_yaml(folder / CONFIG).get("input_size"), request.settings.get("input_size")
    if size is not None and isinstance(own, list) and list(size) != own:  # else native
        logger.warning(
            "input_size should be %d x %d, at which the bundle segments; got %d x %d. What is "
            "added will do worse than in training; the bundle's card says how it does.",
            *own,
            *size,
        )
    return request


def write_card(
    folder: Path,
    origin: Path,
    additions: Additions,
    datalist: str | Path,
    scores: Iterable[Score],
) -> None:
    """Write to a bundle's card what was added, from how many images, and how well it does.

    Args:
        folder: The bundle.
        origin: The bundle that was added to.
        additions: The additions.
        datalist: Images for training and validation.
        scores: Scores on the validation images.

    Raises:
        OutputError: If the card cannot be written.
    """
    trained = Counter(
        (additions.table[item.modality].name, name)
        for item in read_datalist(datalist, "training")
        for name in item.labels
    )
    rows = [
        f"| {score.modality} | {score.target} | {_cell(score.dataset)} "
        f"| {trained[score.modality, score.target]} | {score.present + score.absent} "
        f"| {_number_text(score.dice)} | {_interval(score)} |"
        for score in scores
        if (score.modality, score.target) in additions.targets
    ]
    text = _CARD.format(
        name=folder.resolve().name,
        targets="\n".join(f"- {modality}: {target}" for modality, target in additions.targets),
        weights=sha256_of(origin / WEIGHTS)[:16],
        datalist=sha256_of(Path(datalist))[:16],
        rows="\n".join(rows),
        source=_demoted(_read_card(origin)),
    )
    with atomic_file(folder / CARD) as file:
        file.write(text.encode())


def _read_card(bundle: Path) -> str:
    path = bundle / CARD
    return path.read_text(encoding="utf-8") if path.is_file() else "The bundle has no card."


def _demoted(text: str) -> str:
    """Return a card without its front matter, with its headings two levels lower."""
    if text.startswith("---\n"):
        text = text.partition("\n---\n")[2].lstrip()
    lines, is_code = list[str](), False
    for line in text.splitlines():
        is_code ^= line.startswith("```")
        lines.append(f"##{line}" if line.startswith("#") and not is_code else line)
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _number_text(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _interval(score: Score) -> str:
    found = score.intervals.get("dice")
    return "none" if found is None else f"{found.low:.3f} to {found.high:.3f}"
