"""Outcome of a volume that was fetched, or of a result that waited to be sent."""

from __future__ import annotations

from dataclasses import dataclass

from esp_medsam.workflows.results import Outcome


@dataclass(frozen=True, kw_only=True)
class PacsResult(Outcome):
    """Outcome of one volume, of a series or study without volumes, or of a spooled result.

    It is named ``series <UID>``, plus the volume's name if the series has several, or ``instance
    <UID>`` if it waited in the spool. Its status is ``stored`` (now), ``held`` (PACS had it),
    ``empty`` (nothing found, nothing stored) or ``failed``.

    Attributes:
        instance_uid: SOP Instance UID of the segmentation; None without one.
        spooled: File that keeps the result until it is sent; None if no result waits.
    """

    statuses = ("stored", "held", "empty", "failed")

    instance_uid: str | None = None
    spooled: str | None = None

    @property
    def line(self) -> str:
        """The outcome as one line of text, with the file in which its result waits."""
        return super().line + (f" The result waits in {self.spooled}." if self.spooled else "")

    @property
    def details(self) -> str:
        """The instance, if there is one and the path does not name it."""
        if self.status == "empty":
            return ": nothing found, nothing stored"
        is_named = self.path == instance_label(self.instance_uid)
        before = "" if self.status == "stored" else ", done before"
        return ("" if is_named else f": {instance_label(self.instance_uid)}") + before


def instance_label(uid: str | None) -> str:
    """Return the name of a segmentation in messages."""
    return f"instance {uid}"
