"""What became of a volume that was fetched, or of a result that waited to be sent."""

from __future__ import annotations

from dataclasses import dataclass

from esp_medsam.workflows.results import Outcome


@dataclass(frozen=True, kw_only=True)
class PacsResult(Outcome):
    """What became of one volume, of a series or study that gave none, or of a spooled result.

    It is called ``series <UID>``, with the volume's name where a series holds several, or
    ``instance <UID>`` where it waited in the spool. It is ``stored`` now; ``held`` by the PACS
    before; ``empty``, nothing found and nothing stored; or it ``failed``.

    Attributes:
        instance_uid: SOP Instance UID of the segmentation; None without one.
        spooled: File that keeps the result until it is sent; None where none waits.
    """

    statuses = ("stored", "held", "empty", "failed")

    instance_uid: str | None = None
    spooled: str | None = None

    @property
    def line(self) -> str:
        """The outcome as one line of text, with where its result waits."""
        return super().line + (f" The result waits in {self.spooled}." if self.spooled else "")

    @property
    def details(self) -> str:
        """The instance, where there is one that the path does not name."""
        if self.status == "empty":
            return ": nothing found, nothing stored"
        is_named = self.path == instance_label(self.instance_uid)
        before = "" if self.status == "stored" else ", done before"
        return ("" if is_named else f": {instance_label(self.instance_uid)}") + before


def instance_label(uid: str | None) -> str:
    """Return what messages call a segmentation."""
    return f"instance {uid}"
