from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from esp_medsam.errors import DiskFullError, GeometryError
from esp_medsam.integrations.dicomweb.client import Pacs
from esp_medsam.integrations.dicomweb.outcome import PacsResult
from esp_medsam.integrations.dicomweb.run import PacsRun
from esp_medsam.integrations.dicomweb.spool import Spool
from esp_medsam.io import Recipe
from esp_medsam.io.item import Item
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.left_alone import series_text
from esp_medsam.workflows.results import ItemResult, Tally, not_tried_text, summary


class Pipeline:
    """Stands for the real one: each item gives the object that ``found`` says, or nothing."""

    def __init__(self, table: ModalityTable, output: Path, found: Callable[[str], bytes]) -> None:
        self.table, self.targets = table, ["liver"]
        self.items: list[str] = []
        self.found = found
        self.outputs = SimpleNamespace(
            output_dir=output,
            output_format="auto",
            recipe=lambda modality, targets, formats: Recipe(
                modality=modality,
                targets=tuple(target.name for target in targets),
                formats=tuple(formats),
                weights_sha256="0",
            ),
        )

    def segment(self, item: Item) -> ItemResult:
        self.items.append(item.name)
        content = self.found(item.name)
        output: Path = self.outputs.output_dir
        output.mkdir(exist_ok=True)
        files = []
        if content:
            (output / f"{item.name}_seg.dcm").write_bytes(content)
            files.append(f"{item.name}_seg.dcm")
        record = output / f"{item.name}_seg.json"
        record.write_text(json.dumps({"software": "esp-medsam 0", "files": files, "targets": []}))
        return ItemResult(path="x", status="done", record=str(record), warnings=("Dark.",))


@pytest.fixture
def result_of(image: Any) -> Callable[[str], bytes]:
    """The object that a series gives: always the same one, as with fixed UIDs."""

    def make(name: str) -> bytes:
        uids = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": f"{name}.99"}
        content: bytes = image(**uids, SOPInstanceUID=f"{name}.99.1", Modality="SEG")
        return content

    return make


@pytest.fixture
def driven(fake: Any, pacs: Pacs, tmp_path: Path, table: ModalityTable, result_of: Any) -> Any:
    """Return a function that runs study 1.2 and gives results, the run and its pipeline."""
    spool = Spool(tmp_path / "spool", pacs.url)

    def drive(
        series: str | None = None,
        found: Any = result_of,
        modality: str = "ct",
        studies: tuple[str, ...] = ("1.2",),
    ) -> Any:
        work = tmp_path / "work"
        work.mkdir(exist_ok=True)
        pipeline: Any = Pipeline(table, work / "out", found)
        run = PacsRun(pacs=pacs, segmentation=pipeline, spool=spool, work=work, modality=modality)
        results = list(run.results(studies, series))
        assert list(work.iterdir()) == []
        return SimpleNamespace(results=results, run=run, pipeline=pipeline, spool=spool)

    return drive


@pytest.fixture
def two_series(fake: Any, image: Any) -> None:
    """Two series of one slice each, beside a report."""
    for number, modality in ((3, "CT"), (4, "CT"), (5, "SR")):
        uids = ("1.2", f"1.2.{number}", f"1.2.{number}.1")
        keys = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        fake.files[uids] = image(**dict(zip(keys, uids, strict=True)), Modality=modality)


@pytest.mark.usefixtures("two_series")
class TestPacsRun:
    def test_stores_one_result_per_series_with_one_pipeline(self, driven: Any, fake: Any) -> None:
        done = driven()

        assert [(r.path, r.status) for r in done.results] == [
            ("series 1.2.3", "stored"),
            ("series 1.2.4", "stored"),
        ]
        assert done.results[0].warnings == ("Dark.",)
        assert done.pipeline.items == ["1.2.3", "1.2.4"]
        assert done.run.left_alone == {"SR": 1}
        assert len(fake.files) == 5

    def test_fetches_and_segments_nothing_that_is_held(self, driven: Any, fake: Any) -> None:
        driven()
        fake.requests.clear()
        again = driven()

        assert [r.status for r in again.results] == ["held", "held"]
        assert again.pipeline.items == []
        assert fake.asked("POST") == []
        assert [r for r in fake.asked("/instances/") if not r.endswith("/metadata")] == []

    def test_makes_anew_what_the_pacs_has_lost(self, driven: Any, fake: Any) -> None:
        driven()
        del fake.files["1.2", "1.2.3.99", "1.2.3.99.1"]

        again = driven("1.2.3")

        assert [r.status for r in again.results] == ["stored"]

    def test_makes_anew_a_series_that_has_grown(self, driven: Any, fake: Any, image: Any) -> None:
        driven("1.2.3")
        content = image(
            StudyInstanceUID="1.2",
            SeriesInstanceUID="1.2.3",
            SOPInstanceUID="1.9",
            ImagePositionPatient=[-158.135803, -179.035797, -70.699997],
        )
        fake.files["1.2", "1.2.3", "1.9"] = content

        again = driven("1.2.3", found=lambda name: b"")

        assert fake.asked("instances/1.9")
        assert [r.status for r in again.results] == ["empty"]

    def test_records_what_is_empty_and_stores_nothing(self, driven: Any, fake: Any) -> None:
        first = driven("1.2.3", found=lambda name: b"")
        again = driven("1.2.3", found=lambda name: b"")

        assert [r.status for r in first.results + again.results] == ["empty", "empty"]
        assert again.pipeline.items == []
        assert fake.asked("POST") == []

    def test_one_bad_series_does_not_end_the_run(self, driven: Any, result_of: Any) -> None:
        def found(name: str) -> bytes:
            if name == "1.2.3":
                raise GeometryError
            content: bytes = result_of(name)
            return content

        first = driven(found=found)
        again = driven(found=found)

        assert [(r.status, r.code) for r in first.results] == [
            ("failed", "E_GEOMETRY"),
            ("stored", None),
        ]
        assert again.pipeline.items == ["1.2.3"]  # what failed is tried again

    def test_f3_full_disk_ends_the_run_and_what_waits_stays(
        self, driven: Any, fake: Any, reply: Any
    ) -> None:
        fake.replies = lambda method, path: reply(status=503) if method == "POST" else None
        (waiting,) = driven("1.2.3").spool.entries()

        def full(name: str) -> bytes:
            raise DiskFullError

        done = driven("1.2.4", found=full, studies=("1.2", "1.2", "1.2"))

        assert [(r.status, r.code) for r in done.results] == [("failed", "E_DISK_FULL")]
        assert done.run.not_tried == {"studies": 2}
        assert done.spool.entries() == [waiting]
        told = summary(
            Tally(done.results), PacsResult, not_tried=not_tried_text(done.run.not_tried)
        )
        assert told.endswith("1 failed, 2 studies not tried because the disk is full")

    def test_f3_full_disk_of_one_volume_still_sends_those_before_it(
        self, driven: Any, fake: Any, image: Any, result_of: Any
    ) -> None:
        for number in range(3):  # three volumes: at one place, of an acquisition each
            uids = ("1.2", "1.2.3", f"1.2.3.{number + 1}")
            keys = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
            stated = dict(zip(keys, uids, strict=True))
            fake.files[uids] = image(**stated, Modality="CT", AcquisitionNumber=number)

        def found(name: str) -> bytes:
            if name.endswith("-1"):
                raise DiskFullError
            content: bytes = result_of("1.2.3")
            return content

        done = driven(found=found)

        assert [(r.status, r.code) for r in done.results] == [
            ("failed", "E_DISK_FULL"),
            ("stored", None),
        ]
        assert done.run.not_tried == {"volumes": 1, "series": 1}
        assert len(done.pipeline.items) == 2

    def test_an_error_of_ours_names_no_value(self, driven: Any) -> None:
        def found(name: str) -> bytes:
            raise RuntimeError("Canary^Jane")  # noqa: EM101

        done = driven("1.2.3", found=found)

        assert done.results[0].code == "E_INTERNAL"
        assert "Canary" not in repr(done.results)

    def test_f23_keeps_what_the_pacs_does_not_take_and_sends_it_next_time(
        self, driven: Any, fake: Any, reply: Any
    ) -> None:
        fake.replies = lambda method, path: reply(status=503) if method == "POST" else None
        first = driven("1.2.3")
        (entry,) = first.spool.entries()
        fake.replies = lambda method, path: None
        again = driven("1.2.3")

        assert [(r.status, r.code, r.spooled) for r in first.results] == [
            ("failed", "E_PACS", str(entry))
        ]
        assert [r.status for r in again.results] == ["stored"]
        assert again.pipeline.items == []
        assert again.spool.entries() == []

    def test_keeps_what_a_pacs_says_it_stored_and_does_not_show(
        self, driven: Any, fake: Any, reply: Any
    ) -> None:
        fake.replies = lambda method, path: reply(body=b"{}") if method == "POST" else None

        done = driven("1.2.3")

        assert done.results[0].code == "E_PACS"
        assert "must show instance" in done.results[0].message
        assert len(done.spool.entries()) == 1

    @pytest.mark.parametrize(
        ("series", "words"),
        [("1.2.5", "series 1.2.5; got ct"), ("1.2.9", "series must be one of study")],
    )
    def test_a_series_named_that_does_not_fit_is_an_error(
        self, driven: Any, series: str, words: str
    ) -> None:
        done = driven(series)

        assert [r.status for r in done.results] == ["failed"]
        assert words in done.results[0].message

    def test_localizers_are_left_alone_unless_named(
        self, driven: Any, fake: Any, image: Any
    ) -> None:
        uids = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.3"}
        kind = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        content = image(**uids, SOPInstanceUID="1.2.3.1", ImageType=kind)
        fake.files["1.2", "1.2.3", "1.2.3.1"] = content

        assert driven().run.left_alone == {"SR": 1, "localizer": 1}
        assert "other than localizers; it has none" in driven("1.2.3").results[0].message

    def test_a_study_that_is_not_there_is_an_error(self, driven: Any, fake: Any) -> None:
        fake.files.clear()

        (result,) = driven().results

        assert result.path == "study 1.2"
        assert "lists none of its series" in result.message

    def test_results_without_a_uid_fail_and_the_rest_goes_on(self, driven: Any, fake: Any) -> None:
        nameless = {"0020000E": {"Value": ["../.."]}}
        fake.change = lambda path, found: [nameless, *found] if path.endswith("series") else found

        done = driven()

        assert [r.status for r in done.results] == ["failed", "stored", "stored"]
        assert "must identify series by UIDs" in done.results[0].message

    def test_a_listing_that_is_too_short_fails(self, driven: Any, fake: Any) -> None:
        fake.change = lambda path, found: (
            [{**f, "00201209": {"Value": [9]}} for f in found] if path.endswith("series") else found
        )

        done = driven("1.2.3")

        assert done.results[0].code == "E_PACS_INCOMPLETE"
        assert "has 9 instances and lists 1" in done.results[0].message


class TestLines:
    def test_say_what_became_of_each(self) -> None:
        stored = PacsResult(path="series 1.2", status="stored", instance_uid="1.3")

        assert stored.line == "stored series 1.2: instance 1.3"
        assert replace(stored, status="held").line.endswith("instance 1.3, done before")
        assert replace(stored, status="empty").line.endswith("nothing found, nothing stored")

    def test_count(self) -> None:
        results = [PacsResult(path="a", status="stored"), PacsResult(path="b", status="failed")]

        assert summary(Tally(results), PacsResult) == "1 stored, 0 held, 0 empty, 1 failed"
        told = summary(Tally(), PacsResult, left_alone=series_text({"SR": 2, "SEG": 1}))
        assert told.endswith("0 failed; left alone: 3 series (1 SEG, 2 SR)")
