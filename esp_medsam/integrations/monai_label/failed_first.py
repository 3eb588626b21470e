"""Choice of the images whose masks a reader marked as failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from esp_medsam.integrations.monai_label.failed import first_of


class FailedFirst(Strategy):  # type: ignore[misc]  # MONAI Label has no types
    """Choice of the images whose masks failed, in the order of the verdicts, and then others.

    Args:
        named: The ids that each of the images may have.
        others: Choice among the other images.
    """

    def __init__(self, named: Sequence[Sequence[str]], others: Strategy) -> None:
        super().__init__("The next image whose mask a reader marked as failed.")
        self.named = named
        self.others = others

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> Any:
        """Return the ``id`` of an image; None if all have labels."""
        image = first_of(self.named, datastore.get_unlabeled_images())
        return self.others(request, datastore) if image is None else {"id": image}
