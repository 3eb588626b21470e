"""Plans of inputs that are small enough for one part."""

from __future__ import annotations

from typing import Any

from esp_medsam.workflows.items import plan_parts
from esp_medsam.workflows.plan import Plan


def plan_items(*given: Any, **options: Any) -> Plan:
    """Return the only plan of an input; arguments as of ``plan_parts``."""
    (plan,) = plan_parts(*given, **options)
    return plan
