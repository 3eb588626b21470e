"""A network that finds what is bright."""

from __future__ import annotations

import pytest

from esp_medsam.modality import ModalityTable
from tests.support.networks import BrightIsForeground


@pytest.fixture
def network(table: ModalityTable) -> BrightIsForeground:
    return BrightIsForeground(table)
