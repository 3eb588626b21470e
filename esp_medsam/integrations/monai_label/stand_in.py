"""Stand-in for ``pydicom._storage_sopclass_uids``, which pydicom 3 no longer has.

MONAI Label 0.8.5, the newest release, imports pydicom-seg, and pydicom-seg 0.4.1, its newest,
imports that module, which only listed the storage classes that ``pydicom.uid`` lists too.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


NAME = "pydicom._storage_sopclass_uids"


class _StorageUids(MetaPathFinder, Loader):
    """Finder and loader of the module."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the module's spec, and None for any other name."""
        del path, target
        return ModuleSpec(NAME, self) if fullname == NAME else None

    def exec_module(self, module: ModuleType) -> None:
        """Copy the storage classes from ``pydicom.uid``."""
        uids = importlib.import_module("pydicom.uid")
        vars(module).update({k: v for k, v in vars(uids).items() if k.endswith("Storage")})


def install() -> None:
    """Let the module be imported; one that pydicom has itself comes first."""
    if not any(isinstance(finder, _StorageUids) for finder in sys.meta_path):
        sys.meta_path.append(_StorageUids())
