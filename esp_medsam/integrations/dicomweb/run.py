"""Fetch, segment and store one series after another; a failure never ends the run."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

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
from esp_medsam.integrations.dicomweb.outcome import PacsResult
from esp_medsam.integrations.dicomweb.query import Series, no_uids
from esp_medsam.integrations.dicomweb.spool import Made, Spool
from esp_medsam.integrations.dicomweb.store import read_object, send
from esp_medsam.integrations.dicomweb.work import private_folder
from esp_medsam.io import file_names, read_record
from esp_medsam.io.item import Item
from esp_medsam.io.output_formats import formats_for
from esp_medsam.version import __version__
from esp_medsam.workflows.item_loop import each_alone, until_full
from esp_medsam.workflows.items import plan_parts
from esp_medsam.workflows.left_alone import is_left_alone
from esp_medsam.workflows.refusal import Refusal
from esp_medsam.workflows.results import ItemResult, failure
from esp_medsam.workflows.segment import SegmentRun


_failed = partial(failure, kind=PacsResult)


class _Found(NamedTuple):
    """Series found in a study.

    Attributes:
        failed: Failures of the study.
        chosen: Series to process.
    """

    failed: Sequence[PacsResult] = ()
    chosen: Sequence[Series] = ()


@dataclass(kw_only=True, eq=False)
class PacsRun:
    """Run of one pipeline, built once, over series of a PACS.

    Args:
        pacs: The PACS.
        segmentation: The pipeline, with fixed UIDs; its output folder is in ``work``.
        spool: Spool that keeps results until they are stored.
        work: Folder for patients' data, which the caller removes.
        modality: Name of the modality.
        force_modality: Whether ``modality`` overrides what DICOM states.
        join: What the files of a series keep apart and should be joined.

    Attributes:
        left_alone: Number of series that were not processed, by their Modality (0008,0060).
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
        """Yield one result per volume as soon as it is ready; a full disk ends the results.

        Args:
            studies: UIDs of the studies.
            series_uid: UID of the only series to process; None means all of the modality.
            refused: Number of studies found without a UID; they are a failure, the rest goes on.
        """
        if refused:
            yield _failed("query", no_uids(refused, "studies"))
        found = each_alone(
            studies,
            lambda study: self._find(study, series_uid),
            lambda study, error: _Found((_failed(f"study {study}", error),)),
        )
        for place, (failed, chosen) in enumerate(found, start=1):
            yield from failed
            of_series = each_alone(
                chosen,
                lambda series: self._of_series(series, named=series_uid is not None),
                lambda series, error: [_failed(_label(series, None), error)],
            )
            for number, results in enumerate(of_series, start=1):
                yield from results
                if any(result.code == DiskFullError.code for result in results):
                    left = {"series": len(chosen) - number, "studies": len(studies) - place}
                    self.not_tried += Counter(left)  # drops zero counts
                    return

    def _find(self, study_uid: str, series_uid: str | None) -> _Found:
        """Query the series of a study, and choose among them."""
        found, nameless = self.pacs.find_series(study_uid)
        failed = (_failed(f"study {study_uid}", no_uids(nameless, "series")),) if nameless else ()
        try:
            return _Found(failed, self._chosen(found, study_uid, series_uid))
        except EspMedSamError as error:
            return _Found((*failed, _failed(f"study {study_uid}", error)))

    def _chosen(
        self, found: Sequence[Series], study_uid: str, series_uid: str | None
    ) -> list[Series]:
        """Return the series to process, and count the others."""
        if not found:
            msg = (
                f"Study {study_uid} must be in the PACS; {self.pacs.url} lists none of its series."
            )
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

    def _of_series(self, series: Series, *, named: bool) -> list[PacsResult]:
        """Return the results of one series, and remove its files."""
        try:
            instances = self.pacs.find_instances(series)
            check_listed(series, instances)
            key = self._key(series, instances)
            known = self.spool.record(key)
            if known is not None and all(self._is_kept(series, made) for made in known):
                return [self._send(made) for made in known]
            kinds = fetch_series(
                self.pacs,
                series,
                instances,
                private_folder(self.work / "in"),
                # Captures, such as dose reports, count if named or if a modality has no others.
                captures=named or not self.segmentation.table[self.modality].dicom_modalities,
            )
            if kinds[IMAGE]:
                return self._of_volumes(series, key)
            if named:
                label = _label(series, None)
                msg = f"{label} must hold images of a patient other than localizers; it has none."
                raise FormatError(msg)
            self.left_alone[kinds.most_common(1)[0][0]] += 1
            return []
        finally:
            for folder in (self.work / "in", self.segmentation.outputs.output_dir):
                shutil.rmtree(folder, ignore_errors=True)

    def _of_volumes(self, series: Series, key: str) -> list[PacsResult]:
        """Segment the volumes of a fetched series; spool, record and send the results."""
        plans = plan_parts(
            self.work / "in",
            self.segmentation.outputs.output_dir,
            table=self.segmentation.table,
            modality=self.modality,
            force_modality=self.force_modality,
            join=self.join,
            leave_alone=False,  # the PACS stated that the series has the modality
        )
        tried = each_alone(
            plans.steps,
            lambda step: self._of_volume(step, _label(series, step.volume_name)),
            lambda step, error: _failed(_label(series, step.volume_name), error),
        )
        results = list(until_full(tried))
        self.not_tried += Counter(volumes=len(plans) - len(results))
        done = [result for result in results if isinstance(result, ItemResult)]
        made = [self._spool(result) for result in done]
        if len(made) == len(plans):
            self.spool.write_record(key, series, made)
        stored = [
            replace(sent, warnings=(*result.warnings, *sent.warnings), seconds=result.seconds)
            for sent, result in zip(map(self._send, made), done, strict=True)
        ]
        return [*(result for result in results if isinstance(result, PacsResult)), *stored]

    def _of_volume(self, step: Item | Refusal, label: str) -> ItemResult:
        """Segment a volume of a fetched series, or raise the reason why it was refused."""
        if isinstance(step, Refusal):
            raise step.error
        return replace(self.segmentation.segment(step), path=label)

    def _spool(self, result: ItemResult) -> Made:
        """Move the result of a volume into the outbox."""
        assert result.record is not None, "the item is done"
        stem = Path(result.record).with_suffix("")
        path = stem.with_name(f"{stem.name}.dcm")
        record = read_record(stem)
        if record is None or path.name not in file_names(record):
            return Made(label=result.path)
        dataset = read_object(path)
        made = Made(
            label=result.path,
            series_uid=str(dataset.SeriesInstanceUID),
            instance_uid=str(dataset.SOPInstanceUID),
        )
        self.spool.put(path, str(dataset.SOPInstanceUID))
        return made

    def _is_kept(self, series: Series, made: Made) -> bool:
        """Whether the result of an earlier run is in the PACS or waits to be sent."""
        if made.instance_uid is None or self.spool.entry(made.instance_uid).exists():
            return True
        return self.pacs.holds(series.study_uid, made.series_uid or "", made.instance_uid)

    def _send(self, made: Made) -> PacsResult:
        """Store a waiting result; a failure leaves it in the spool."""
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
        return replace(sent, path=made.label)

    def _key(self, series: Series, instances: Sequence[str]) -> str:
        """Return a key for everything that the results of a series depend on."""
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
    """Return the label of a volume in messages: its series, and its name if that adds anything."""
    label = f"series {series.series_uid}"
    return label if volume in (None, series.series_uid) else f"{label} ({volume})"
