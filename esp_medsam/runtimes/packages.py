"""Packages that runtimes and exports need beside our own requirements."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from esp_medsam.errors import OptionError


ONNX = ("onnx", "onnxscript")
"""What PyTorch writes ONNX models with."""


def missing_of(packages: Sequence[str]) -> tuple[str, ...]:
    """Return the packages that are not installed."""
    return tuple(name for name in packages if find_spec(name) is None)


def check_packages(what: str, packages: Sequence[str], extra: str) -> None:
    """Refuse what needs packages that are missing.

    Args:
        what: What needs them, as the user wrote it.
        packages: The packages.
        extra: Extra of this package that installs them; empty if it is not ours to install.

    Raises:
        OptionError: If one is missing.
    """
    if missing := missing_of(packages):
        source = f"'esp-medsam[{extra}]'" if extra else " ".join(missing)
        msg = f"{what} needs {' and '.join(missing)} to be installed; run: pip install {source}."
        raise OptionError(msg)
