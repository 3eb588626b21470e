"""Plans of inputs that are small enough for one part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.items import plan_parts
from esp_medsam.workflows.plan import Plan
from tests.support.processes import ROOT


TABLE = ModalityTable.read(ROOT / "bundle/configs/targets.yaml")


def plan_items(*given: Any, **options: Any) -> Plan:
    """Return the only plan of an input; arguments as of ``plan_parts``."""
    (plan,) = plan_parts(*given, **options)
    return plan


def planned(root: Path, output_dir: Path | None, *patterns: str, **options: Any) -> Plan:
    """Return the only plan of an input, of MRI unless said otherwise."""
    return plan_items(root, output_dir, *patterns, **{"table": TABLE, "modality": "mri", **options})


def make(root: Path, *names: str) -> Path:
    """Make empty files below a folder, and return it."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def images(plan: Plan, root: Path) -> list[str]:
    """Return the paths of a plan's items from a folder on."""
    return [Path(item.path).relative_to(root).as_posix() for item in plan.items]
