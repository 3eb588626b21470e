"""The progress bars of ``esp-medsam segment``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


if TYPE_CHECKING:  # loads torch and MONAI, which would slow down --help
    from esp_medsam.workflows.engine import Pool
    from esp_medsam.workflows.segment import SegmentRun


class Bars(Progress):
    """Progress bar of the items, and below it one of the slices of the current volume.

    Args:
        console: Where the bars are drawn; nothing is drawn if it is no terminal.
        segmentation: Run whose items are counted.
        workers: Its workers; of several, no slices are shown.
    """

    def __init__(self, console: Console, segmentation: SegmentRun, workers: Pool | None) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        super().__init__(
            *columns,
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._segmentation = segmentation
        self._items = self.add_task("Segmenting", total=len(segmentation))
        self._slices = self.add_task("  slices", visible=False)
        if workers is None:
            segmentation.tell_slices(self._count)
        else:
            workers.tell_slices(self._count)

    def advance_item(self) -> None:
        """Count a finished item."""
        self.update(self._items, advance=1, total=len(self._segmentation))
        self.update(self._slices, visible=False)

    def _count(self, done: int, total: int) -> None:
        """Show how many slices are done; a picture has only one."""
        self.update(self._slices, completed=done, total=total, visible=total > 1)
