"""Write keys.md, the keys of the configs, from the configs and the settings that check them.

python docs/reference/generate.py [--check]
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import yaml

from esp_medsam.errors import EspMedSamError
from esp_medsam.setting_checks import Settings
from esp_medsam.settings import EvaluationSettings, InferenceSettings
from esp_medsam.training_settings import STAGE_SETTINGS


HERE = Path(__file__).parent
CONFIGS = HERE.parents[1] / "bundle" / "configs"

Kinds = tuple[type[Settings], ...]

LAYERS: dict[str, tuple[str, Kinds]] = {
    "inference.yaml": ("", (InferenceSettings,)),
    "delightsam.yaml": ("inference.yaml", (InferenceSettings,)),
    "evaluate.yaml": ("inference.yaml", (EvaluationSettings, InferenceSettings)),
    "train.yaml": ("", (STAGE_SETTINGS["train"],)),
    "train_teacher.yaml": ("train.yaml", (STAGE_SETTINGS["teacher"],)),
    "distill_modality.yaml": ("train.yaml", (STAGE_SETTINGS["modality"],)),
    "distill_common.yaml": ("distill_modality.yaml", (STAGE_SETTINGS["common"],)),
    "add_modality.yaml": ("train.yaml", (STAGE_SETTINGS["train"],)),
}
"""By config: the one that it goes over, and the settings that check it; the first with a key."""

PLACES = ("bundle_root", "dataset_dir")
"""Keys that users set and that need be no settings."""

WRONG = (object(), "?", -1.0, -1, 50, 10**9, [-1] * 2, [10**9] * 2, [33] * 2, [-1] * 3)
"""Values that make a setting tell its rules."""


def rule_of(kinds: Kinds, key: str) -> str:
    """Return what a setting takes, in the words of its messages; empty where it is none."""
    kind = next((kind for kind in kinds if key in kind.model_fields), Settings)
    rules: dict[str, str] = {}
    for wrong in WRONG if key in kind.model_fields else ():
        try:
            kind.given({key: wrong})
        except EspMedSamError as error:
            rule = str(error).removeprefix(f"{key} must be ").partition("; got ")[0]
            rule = re.sub(r"'([\w-]+)'", r"`\1`", re.sub(r" at index \d+", "", rule))
            rules[rule[:8]] = rule  # of two bounds on one side, the one that is met last
    return "; ".join(rules.values())


def cell(text: str) -> str:
    """Return text as a cell of a table has it: options as code, pages as links."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    for number in range(0, len(parts), 2):
        part = re.sub(r"([*|])", r"\\\1", parts[number]).replace("<", "&lt;")
        part = re.sub(r"(?<![\w-])(--[a-z][a-z_]+)", r"`\1`", part)
        parts[number] = re.sub(r"docs/reference/([\w-]+\.md)", r"[\1](\1)", part)
    return "".join(parts)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown."""
    lines = [" | ".join(line) for line in (head, ["---"] * len(head), *rows)]
    return "".join(f"| {line} |\n" for line in lines)


def keys_page() -> str:
    """Return the page of the keys of configs.

    Raises:
        ValueError: If a setting stands in no config.
    """
    parts, comments = [KEYS], dict[str, dict[str, str]]()
    left = {key for _, kinds in LAYERS.values() for kind in kinds for key in kind.model_fields}
    for name, (below, kinds) in LAYERS.items():
        text = (CONFIGS / name).read_text(encoding="utf-8")
        about = text.partition("\n")[0].lstrip("# ").partition(". ")[0].rstrip(":.")
        over = f"It goes over [{below}](#{below.replace('.', '')}).\n" if below else ""
        comments[name] = dict(comments.get(below, {}))
        rows = list(_keys(text, kinds, comments[name]))
        left -= {row[0].strip("`") for row in rows}
        parts.append(f"\n## {name}\n\n{cell(about)}.\n{over}\n")
        parts.append(table(("key", "default", "takes", "what it does"), rows))
    if left:
        msg = f"Each setting must stand in a config; {sorted(left)} do not."
        raise ValueError(msg)
    return "".join(parts)


def _keys(text: str, kinds: Kinds, comments: dict[str, str]) -> Iterator[tuple[str, ...]]:
    """Yield each key of a config with its default, its rules and its comment.

    Args:
        text: Of the config.
        kinds: Settings that check it.
        comments: Those of the config below, which its own go over.

    Raises:
        ValueError: If a line is not ``key: value  # comment``.
    """
    for key, value in yaml.safe_load(text).items():
        is_key = key in PLACES or any(key in kind.model_fields for kind in kinds)
        if not is_key or str(value).startswith("@"):
            continue
        found = re.search(rf"^{key}: (.+?)(?:  # (.*))?$", text, re.M)
        if found is None or yaml.safe_load(found[1]) != value or not (found[2] or comments[key]):
            msg = f"{key} must stand in one line with its comment, behind two spaces."
            raise ValueError(msg)
        comments[key] = found[2] or comments[key]
        yield f"`{key}`", f"`{found[1]}`", cell(rule_of(kinds, key)), cell(comments[key])


KEYS = """<!-- Written by generate.py from bundle/configs and the settings; do not edit. -->
# Keys of the configuration files

Each table lists the keys that you may set in one file of `bundle/configs`, with its defaults.
A file that goes over another one changes the defaults of the keys that it lists, and no others.
[configs.md](configs.md) says how to set keys.

A default that begins with `$` is computed.
Keys without an entry under "takes" can only be set with `python -m monai.bundle run`.
"""

PAGES = {"keys.md": keys_page}


def main() -> None:
    """Write the pages, or say that one is not current."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--check", action="store_true", help="Write nothing; fail if one differs.")
    checks = parser.parse_args().check
    for name, page in PAGES.items():
        path, content = HERE / name, page()
        if not checks:
            path.write_text(content, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != content:
            parser.exit(1, f"{name} must be current; run python docs/reference/generate.py.\n")


if __name__ == "__main__":
    main()
