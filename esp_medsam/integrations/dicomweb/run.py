"""Fetch, segment and store one series after another; a failure never ends the run."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from esp_medsam.dicom.modality import resolve_modality
from esp_medsam.errors import (
    DiskFullError,
    EspMedSamError,
    FormatError,
    OptionError,
    PacsError,
)
from esp_medsam.integrations.dicomweb.client import Pacs
from esp_medsam.integrations.dicomweb.fetch import IMAGE, check_listed, fetch_series
from esp_medsam.integrations.dicomweb.query import Series, no_uids
from esp_medsam.integrations.dicomweb.spool import Made, Spool
from esp_medsam.integrations.dicomweb.store import read_object, send
from esp_medsam.integrations.dicomweb.work import private_folder
from esp_medsam.io import file_names, read_record
from esp_medsam.io.output_formats import formats_for
from esp_medsam.version import __version__
from esp_medsam.workflows.items import plan_parts
from esp_medsam.workflows.left_alone import counted, is_left_alone
from esp_medsam.workflows.refusal import Refusal
from esp_medsam.workflows.results import ItemResult, Outcome, failure
from esp_medsam.workflows.segment import SegmentRun


_STATUSES = ("stored", "held", "empty", "failed")


@dataclass(frozen=True, kw_only=True)
class PacsResult(Outcome):
    """What became of one volume, or of a series or study that gave none.

    It is called ``series <UID>``, with the volume's name where a series holds several. It is
    ``stored`` now; ``held`` by the PACS before; ``empty``, nothing found and nothing stored; or it
    ``failed``.

    Attributes:
        instance_uid: SOP Instance UID of the segmentation; None without one.
        spooled: File that keeps the result until it is sent; None where none waits.
    """

    instance_uid: str | None = None
    spooled: str | None = None

    @property
    def line(self) -> str:
        """It in one line, with where its result waits."""
        return super().line + (f" The result waits in {self.spooled}." if self.spooled else "")

    @property
    def details(self) -> str:
        """The instance, where there is one."""
        if self.status == "empty":
            return ": nothing found, nothing stored"
        before = "" if self.status == "stored" else ", done before"
        return f": instance {self.instance_uid}{before}"


_failed = partial(failure, kind=PacsResult)


@dataclass(kw_only=True, eq=False)
class PacsRun:
    """Drives one pipeline, built once, over series of a PACS.

    Args:
        pacs: The PACS.
        segmentation: The pipeline, with fixed UIDs; its output folder lies in ``work``.
        spool: Keeps results until they are stored.
        work: Folder for patients' data, which the caller removes.
        modality: Name of the modality.
        force_modality: Whether that counts against what DICOM says.
        join: What to join that files of a series keep apart.

    Attributes:
        left_alone: Number of series that were not taken, by their Modality (0008,0060).
        not_tried: Number of ``volumes``, ``series`` and ``studies`` without a result because the
            disk was full, which ends a run.
    """

    pacs: Pacs
    segmentation: SegmentRun
    spool: Spool
    work: Path
    modality: str
    force_modality: bool = False
    join: Sequence[str] = ()
    left_alone: Counter[str] = field(default_factory=Counter, init=False)
    not_tried: Counter[str] = field(default_factory=Counter, init=False)

    def results(
        self, studies: Sequence[str], series_uid: str | None = None, *, refused: int = 0
    ) -> Iterator[PacsResult]:
        """Yield one result for each volume, as it comes; none after one that met a full disk.

        Args:
            studies: UIDs of the studies.
            series_uid: UID of the one series to take; None takes those of the modality.
            refused: Number of studies found that have no UID: a failure, and the rest goes on.
        """
        if refused:
            yield _failed("query", no_uids(refused, "studies"))
        is_full = False
        for place, study_uid in enumerate(studies, start=1):
            try:
                found, nameless = self.pacs.find_series(study_uid)
                if nameless:
                    yield _failed(
                        f"study {study_uid}", no_uids(nameless, "series"), kind=PacsResult
                    )
                chosen = self._chosen(found, study_uid, series_uid)
            except EspMedSamError as error:
                yield _failed(f"study {study_uid}", error)
                continue
            for number, series in enumerate(chosen, start=1):
                for result in self._series(series, named=series_uid is not None):
                    is_full |= result.code == DiskFullError.code
                    yield result
                if is_full:
                    left = {"series": len(chosen) - number, "studies": len(studies) - place}
                    self.not_tried += Counter(left)  # of which none is none
                    return

    def _chosen(
        self, found: Sequence[Series], study_uid: str, series_uid: str | None
    ) -> list[Series]:
        """Return the series to take, and count the others."""
        if not found:
            msg = f"Study {study_uid} must be in the PACS; {self.pacs.url} names no series of it."
            raise PacsError(msg)
        if series_uid is None:
            table = self.segmentation.table
            chosen = [
                series
                for series in found
                if not is_left_alone(
                    series.dicom_modality, None, self.modality, table, takes_open=False
                )
            ]
            self.left_alone.update(s.dicom_modality or "unknown" for s in found if s not in chosen)
            return chosen
        named = [series for series in found if series.series_uid == series_uid]
        if not named:
            msg = f"series must be one of study {study_uid}; got {series_uid}."
            raise OptionError(msg)
        resolve_modality(
            named[0].dicom_modality,
            None,
            self.modality,
            self.segmentation.table,
            force=self.force_modality,
            source=f"series {series_uid}",
        )
        return named

    def _series(self, series: Series, *, named: bool) -> Iterator[PacsResult]:
        """Yield the results of one series; its files are gone afterwards."""
        label = f"series {series.series_uid}"
        try:
            instances = self.pacs.find_instances(series)
            check_listed(series, instances)
            key = self._key(series, instances)
            known = self.spool.record(key)
            if known is not None and all(self._is_kept(series, made) for made in known):
                for made in known:
                    yield self._send(made)
                return
            kinds = fetch_series(
                self.pacs,
                series,
                instances,
                private_folder(self.work / "in"),
                # Unless they are named, or a modality has no other images: dose reports are such.
                captures=named or not self.segmentation.table[self.modality].dicom_modalities,
            )
            if kinds[IMAGE]:
                yield from self._segment(series, key)
            elif named:
                msg = f"{label} must hold images of a patient that are no localizers; it has none."
                raise FormatError(msg)
            else:
                self.left_alone[kinds.most_common(1)[0][0]] += 1
        except Exception as error:  # one bad series never ends a run
            yield _failed(label, error)
        finally:
            for folder in (self.work / "in", self.segmentation.outputs.output_dir):
                shutil.rmtree(folder, ignore_errors=True)

    def _segment(self, series: Series, key: str) -> Iterator[PacsResult]:
        """Segment the volumes of a fetched series, spool what is found, note it, and send it."""
        plans = plan_parts(
            self.work / "in",
            self.segmentation.outputs.output_dir,
            table=self.segmentation.table,
            modality=self.modality,
            force_modality=self.force_modality,
            join=self.join,
            leave_alone=False,  # that the series is of the modality was said by the PACS
        )
        made: list[Made] = []
        details: dict[str, ItemResult] = {}
        for number, item in enumerate(plans.steps, start=1):
            if isinstance(item, Refusal):
                yield _failed(_label(series, item.volume), item.error)
                continue
            result = self.segmentation.segment(item)
            label = _label(series, item.volume_name)
            details[label] = result
            if result.status == "failed":
                yield PacsResult(
                    path=label,
                    status="failed",
                    code=result.code,
                    message=result.message,
                    seconds=result.seconds,
                )
                if result.code == DiskFullError.code:
                    self.not_tried += Counter(volumes=len(plans) - number)
                    break
            else:
                made.append(self._spool(label, result))
        if len(made) == len(plans):
            self.spool.write_record(key, series, made)
        for one in made:
            sent, result = self._send(one), details[one.label]
            warnings = (*result.warnings, *sent.warnings)
            yield replace(sent, warnings=warnings, seconds=result.seconds)

    def _spool(self, label: str, result: ItemResult) -> Made:
        """Move what a volume gave into the outbox."""
        assert result.record is not None, "the item is done"
        stem = Path(result.record).with_suffix("")
        path = stem.with_name(f"{stem.name}.dcm")
        record = read_record(stem)
        if record is None or path.name not in file_names(record):
            return Made(label=label)
        dataset = read_object(path)
        made = Made(
            label=label,
            series_uid=str(dataset.SeriesInstanceUID),
            instance_uid=str(dataset.SOPInstanceUID),
        )
        self.spool.put(path, str(dataset.SOPInstanceUID))
        return made

    def _is_kept(self, series: Series, made: Made) -> bool:
        """Whether what an earlier run made is in the PACS, or waits to be sent."""
        if made.instance_uid is None or self.spool.entry(made.instance_uid).exists():
            return True
        return self.pacs.holds(series.study_uid, made.series_uid or "", made.instance_uid)

    def _send(self, made: Made) -> PacsResult:
        """Store what waits; a failure leaves it in the spool."""
        uid = made.instance_uid
        if uid is None:
            return PacsResult(path=made.label, status="empty")
        entry = self.spool.entry(uid)
        if not entry.exists():
            return PacsResult(path=made.label, status="held", instance_uid=uid)
        try:
            sent = send(self.pacs, entry)
        except EspMedSamError as error:
            return replace(_failed(made.label, error), instance_uid=uid, spooled=str(entry))
        return PacsResult(
            path=made.label, status=sent.status, instance_uid=uid, warnings=sent.warnings
        )

    def _key(self, series: Series, instances: Sequence[str]) -> str:
        """Return a name for all that a series' results depend on."""
        targets = self.segmentation.table.select(self.modality, self.segmentation.targets)
        outputs = self.segmentation.outputs
        formats = formats_for(outputs.output_format, is_volume=True, is_dicom=True)
        recipe = outputs.recipe(self.modality, targets, formats)
        facts: dict[str, Any] = {
            "version": __version__,
            "study": series.study_uid,
            "series": series.series_uid,
            "instances": list(instances),
            "recipe": asdict(recipe),
            "targets": [asdict(target) for target in targets],
            "force_modality": self.force_modality,
            **({"join": sorted(self.join)} if self.join else {}),
        }
        content = json.dumps(facts, sort_keys=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()


def _label(series: Series, volume: str | None) -> str:
    """Return what messages call a volume: its series, and its name where that says more."""
    label = f"series {series.series_uid}"
    return label if volume in (None, series.series_uid) else f"{label} ({volume})"


def summary(
    results: Sequence[PacsResult],
    left_alone: Mapping[str, int],
    not_tried: Mapping[str, int] | None = None,
) -> str:
    """Return how many volumes were stored and so on, and which series were left alone.

    Args:
        results: Of all volumes that were tried.
        left_alone: As :attr:`PacsRun.left_alone` counts them.
        not_tried: As :attr:`PacsRun.not_tried` counts them.
    """
    counts = Counter(result.status for result in results)
    told = ", ".join(f"{counts[status]} {status}" for status in _STATUSES)
    if not_tried:
        missing = ", ".join(f"{count} {kind}" for kind, count in not_tried.items())
        told += f"; not tried because the disk is full: {missing}"
    if not left_alone:
        return told
    return f"{told}; {counted(left_alone, 'series')}"
