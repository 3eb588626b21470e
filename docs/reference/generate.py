"""Write the generated part of the pages on options, keys, errors and records from the code.

python docs/reference/generate.py [--check]
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from typer.main import get_command

from esp_medsam import errors as exceptions
from esp_medsam.cli.main import app
from esp_medsam.io.record_fields import FIELDS, SEG2NIFTI_FIELDS
from esp_medsam.modality import ModalityTable
from esp_medsam.setting_checks import Settings
from esp_medsam.settings import EvaluationSettings, InferenceSettings
from esp_medsam.training_settings import STAGE_SETTINGS


HERE = Path(__file__).parent
MKDOCS = HERE.parents[1] / "mkdocs.yml"
CONFIGS = HERE.parents[1] / "bundle" / "configs"
MARK = "<!-- Written by generate.py from here on; do not edit. -->\n\n"

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

READS = {
    **dict.fromkeys(("segment", "inspect", "calibrate", "pacs"), "inference.yaml"),
    "evaluate": "evaluate.yaml",
    "train": "train.yaml",
    **dict.fromkeys(("distill", "embed"), "distill_modality.yaml"),
    "add-target": "add_modality.yaml",
}
"""By command: the config whose keys its options set."""

PLACES = ("bundle_root", "dataset_dir")
"""Keys that users set and that need be no settings."""

WRONG = (object(), "?", -1.0, -1, 50, 10**9, [-1] * 2, [10**9] * 2, [33] * 2, [-1] * 3)
"""Values that make a setting tell its rules."""

PLAIN = ("INT", "FLOAT", "INT|auto", "DEVICE")
"""Names of values that say less than the rule of a setting."""

TYPES = {"Path": "a path", "int": "a whole number", "float": "a number", "str": "text"}


def rule_of(kinds: Kinds, key: str) -> str:
    """Return what a setting takes, in the words of its messages; empty where it is none."""
    kind = next((kind for kind in kinds if key in kind.model_fields), Settings)
    rules: dict[str, str] = {}
    for wrong in WRONG if key in kind.model_fields else ():
        try:
            kind.given({key: wrong})
        except exceptions.EspMedSamError as error:
            rule = str(error).removeprefix(f"{key} must be ").partition("; got ")[0]
            rule = re.sub(r"'([\w-]+)'", r"`\1`", re.sub(r" at index \d+", "", rule))
            rules[rule[:8]] = rule  # of two bounds on one side, the one that is met last
    return cell("; ".join(rules.values()))


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


def options() -> Iterator[str]:
    """Yield the arguments and options of each command."""
    group: Any = get_command(app)
    yield table(("option", "what it does"), (row[::3] for row in _options(group)))
    for name, command in group.commands.items():
        usage = _usage(name, command)
        told = "\n\n".join(cell(text) for text in command.help.split("\n\n"))
        yield f"\n## {name}\n\n{told}\n\n```text\n{usage}\n```\n\n"
        config = READS.get(name, "")
        head = ("argument or option", "value", "default", "what it does")
        yield table(head, _options(command, config))
        if config:
            yield f"\nSets keys of [{config}](keys.md#{config.replace('.', '')}).\n"


def _usage(name: str, command: Any) -> str:
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    taken = [p.metavar if p.required else f"[{p.metavar}]" for p in arguments]
    return " ".join(["esp-medsam", name, "[OPTIONS]", *taken])


def _options(command: Any, config: str = "") -> Iterator[tuple[str, ...]]:
    """Yield name, value, default and help of each argument and option of a command."""
    hints = get_type_hints(command.callback)
    kinds, defaults = LAYERS[config][1] if config else (), _defaults(config)
    for param in command.params:
        is_option = param.param_type_name == "option"
        # Of two spellings the one with underscores.
        names = [o for o in param.opts if "-" not in o[2:] or len(param.opts) == 1]
        default = defaults.get(param.name) if param.default is None else param.default
        if isinstance(default, Enum):
            default = default.value
        if isinstance(default, list):
            default = ", ".join(dict.fromkeys(map(str, default)))
        is_shown = not (default in (None, "") or default is False or str(default)[0] in "$@{")
        yield (
            ", ".join(f"`{name}`" for name in (names if is_option else [param.metavar])),
            "" if is_option and param.is_flag else _value(param, hints[param.name], kinds),
            "required" if param.required else f"`{default}`" if is_shown else "",
            cell(param.help),
        )


def _defaults(config: str) -> dict[str, Any]:
    """Return the values of a config and those below it."""
    text = (CONFIGS / config).read_text(encoding="utf-8") if config else ""
    return {**_defaults(LAYERS[config][0]), **yaml.safe_load(text)} if text else {}


def _value(param: Any, hint: Any, kinds: Kinds) -> str:
    """Return what an argument or an option takes."""
    is_option = param.param_type_name == "option"
    rule = rule_of(kinds, param.name)
    if is_option and param.metavar not in (None, *PLAIN):
        *words, last = (f"`{word}`" for word in param.metavar.split("|"))
        told = f"{', '.join(words)}{' or ' if words else ''}{last}"
    elif rule and "list" not in rule:  # commands make lists of what they take
        told = rule
    elif isinstance(hint, type) and issubclass(hint, Enum):
        told = ", ".join(f"`{one.value}`" for one in hint)
    else:
        told = next(word for name, word in TYPES.items() if name in str(hint))
        told += "" if param.min is None else f"; at least {param.min:g}"
    return told


def keys() -> Iterator[str]:
    """Yield the keys of each config."""
    comments: dict[str, dict[str, str]] = {"": {}}
    for name, (below, kinds) in LAYERS.items():
        text = (CONFIGS / name).read_text(encoding="utf-8")
        about = text.partition("\n")[0].lstrip("# ").partition(". ")[0].rstrip(":.")
        over = f"Overrides [{below}](#{below.replace('.', '')}).\n" if below else ""
        comments[name] = dict(comments[below])
        yield f"\n## {name}\n\n{cell(about)}.\n{over}\n"
        yield table(("key", "default", "takes", "what it does"), _keys(text, kinds, comments[name]))


def _keys(text: str, kinds: Kinds, comments: dict[str, str]) -> Iterator[tuple[str, ...]]:
    """Yield each key with its default, its rules and its comment, or that of the config below."""
    for key, default, _, comment in re.findall(r"^(\w+): (.+?)(  # (.*))?$", text, re.M):
        is_key = key in PLACES or any(key in kind.model_fields for kind in kinds)
        if is_key and not default.startswith('"@'):
            comments[key] = comment or comments[key]
            yield f"`{key}`", f"`{default}`", rule_of(kinds, key), cell(comments[key])


def errors() -> Iterator[str]:
    """Yield the exceptions with their codes."""
    rows = []
    for code, (kind, meaning, remedy) in exceptions.remedies().items():
        names = (f"`{name}`" for name in (code, kind.__name__, kind.__bases__[-1].__name__))
        shown, name, base = names
        rows.append((shown, cell(meaning), cell(remedy), name, base))
    yield table(("code", "meaning", "remedy", "exception", "also a"), rows)


def record_fields() -> Iterator[str]:
    """Yield the fields of the records of both commands that write them."""
    titles = ("Records of segmented images", "Further fields of seg2nifti")
    for title, fields in zip(titles, (FIELDS, SEG2NIFTI_FIELDS), strict=True):
        names = {key: ", ".join(f"`{name}`" for name in key) for key in fields}
        rows = [(names[key], cell(content)) for key, content in fields.items()]
        yield f"\n## {title}\n\n"
        yield table(("field", "content"), rows)


def agents() -> Iterator[str]:
    """Yield what programs need: modalities, commands, exit statuses and codes."""
    yield "## Modalities\n\n"
    rows = []
    for one in ModalityTable.read(CONFIGS / "targets.yaml").modalities:
        tiers: dict[str, list[str]] = {}
        for target in one.targets:
            tiers.setdefault(target.tier, []).append(f"`{target.name}`")
        ready = ", ".join(tiers.pop("ready", [])) or "none"
        named = "; ".join(f"{tier}: {', '.join(names)}" for tier, names in tiers.items())
        rows.append((f"`{one.name}`", ready, named))
    yield table(("modality", "ready targets", "others, only if named"), rows)
    yield "\n## Commands\n\nAll options: [options.md](docs/reference/options.md).\n\n"
    group: Any = get_command(app)
    told = []
    for name, command in group.commands.items():
        is_json = any(param.name == "as_json" for param in command.params)
        about = cell(command.help.split("\n\n")[0])
        told.append((f"`{_usage(name, command)}`", about, "yes" if is_json else ""))
    yield table(("command", "what it does", "`--json`"), told)
    statuses = (HERE / "command.md").read_text(encoding="utf-8").partition("| exit status |")
    yield f"\n## Exit statuses\n\n| exit status |{statuses[2].partition(chr(10) * 2)[0]}\n"
    yield "\n## Codes\n\n"
    yield "".join(errors()).replace("](", "](docs/reference/")


def llms() -> Iterator[str]:
    """Yield the pages of the documentation, each with its first sentence."""
    nav = yaml.safe_load(re.search(r"^nav:.*", MKDOCS.read_text(encoding="utf-8"), re.M | re.S)[0])
    for part in nav["nav"]:
        ((title, pages),) = part.items()
        if isinstance(pages, str):
            continue
        yield f"## {title}\n\n"
        for one in pages:
            ((name, page),) = one.items()
            if isinstance(page, str):
                text = (HERE.parent / page).read_text(encoding="utf-8")
                body = re.search(r"^# .*\n\n(\w.*?\.)\s", text, re.M)
                about = "" if body is None else re.sub(r"\[(.+?)\]\(.+?\)", r"\1", f": {body[1]}")
                yield f"- [{name}]({page}){about}\n"
        yield "\n"


PAGES = {
    "../../AGENTS.md": agents,
    "../llms.txt": llms,
    "options.md": options,
    "keys.md": keys,
    "errors.md": errors,
    "record-fields.md": record_fields,
}


def main() -> None:
    """Write the pages, or say that one is not current."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--check", action="store_true", help="Write nothing; fail if one differs.")
    checks = parser.parse_args().check
    for name, told in PAGES.items():
        before = (HERE / name).read_text(encoding="utf-8")
        content = before.partition(MARK)[0] + MARK + "".join(told()).lstrip()
        if not checks:
            (HERE / name).write_text(content, encoding="utf-8")
        elif before != content:
            parser.exit(1, f"{name} must be current; run python docs/reference/generate.py.\n")


if __name__ == "__main__":
    main()
