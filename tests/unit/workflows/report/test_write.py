from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from esp_medsam.errors import OptionError, OutputExistsError
from esp_medsam.workflows.report import write
from esp_medsam.workflows.report.gather import gather
from esp_medsam.workflows.report.thumbnails import (
    LEAST_BYTES,
    MOST_BYTES,
    PAGE_BYTES,
    bytes_each,
    thumbnail,
)
from esp_medsam.workflows.report.write import write_report
from esp_medsam.workflows.search import is_output
from tests.support.reports import target, write_journal, write_result


def written(folder: Path, output: Path | None = None, **options: Any) -> Path:
    return write_report(gather([folder]), [folder], output, **options)


def data_in(page: Path) -> dict[str, Any]:
    text = page.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert found is not None
    held: dict[str, Any] = json.loads(found[1])
    return held


class TestPage:
    def test_lies_in_the_folder_and_holds_everything(self, tmp_path: Path) -> None:
        write_result(tmp_path, "a", preview=True)
        write_result(tmp_path, "b")

        page = written(tmp_path)

        assert page == tmp_path / "report.html"
        first, second = data_in(page)["cases"]
        assert first["thumbnail"].startswith("data:image/jpeg;base64,/9j/")
        assert first["preview"] == "./a_seg_preview.png"
        assert "thumbnail" not in second
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r'(?:src|href)="(?!#|data:)', text.partition("<script>")[0])

    def test_shows_names_as_text_whatever_they_are(self, tmp_path: Path) -> None:
        name = "</script><img src=x onerror=alert(1)>&'\"\u2028"
        write_result(tmp_path, "a", source={"path": name}, warnings=[name], modality=name)
        write_journal(tmp_path, {name: "E_CORRUPT"})

        page = written(tmp_path)

        assert "<img src=x" not in page.read_text(encoding="utf-8")
        assert name in [case["item"] for case in data_in(page)["cases"]]

    def test_is_replaced_by_the_next_and_never_replaces_another_file(self, tmp_path: Path) -> None:
        write_result(tmp_path, "a")
        assert written(tmp_path) == written(tmp_path)
        (tmp_path / "mine.html").write_text("<html>")

        with pytest.raises(
            OutputExistsError, match=r"mine\.html must not exist unless it is a rep"
        ):
            written(tmp_path, tmp_path / "mine.html")

    def test_of_the_same_folders_has_the_same_key_wherever_it_lies(self, tmp_path: Path) -> None:
        write_result(tmp_path / "a", "a")
        write_result(tmp_path / "b", "a")
        keys = [data_in(written(tmp_path / "a", tmp_path / f"{n}.html"))["key"] for n in "xy"]
        other = data_in(written(tmp_path / "b"))["key"]

        assert keys[0] == keys[1] != other

    def test_states_remedies_and_what_is_not_known(self, tmp_path: Path) -> None:
        write_journal(tmp_path / "a", {"a.png": "E_CORRUPT"})
        write_result(tmp_path / "b", "b")
        found = gather([tmp_path / "a", tmp_path / "b"])

        text = write_report(found, [tmp_path / "a"]).read_text(encoding="utf-8")

        assert "Copy or export it again." in text
        assert "Failures in <b>b</b> are not known: there is no journal." in " ".join(text.split())

    def test_shows_sizes_in_the_unit_that_says_most(self, tmp_path: Path) -> None:
        by_statistics = {**target(), "statistics": {"area_mm2": 12.5, "components": 3}}
        write_result(tmp_path, "a", targets=[by_statistics])
        write_result(tmp_path, "b", targets=[{**target("liver"), "ml": 4.5}, target("kidney")])

        data = data_in(written(tmp_path))

        units = {column["target"]: column["unit"] for column in data["columns"]}
        assert units == {"vessels": "mm2", "liver": "ml", "kidney": "pixels"}
        sizes = {t["name"]: t["size"] for case in data["cases"] for t in case["targets"]}
        assert sizes == {"vessels": 12.5, "liver": 4.5, "kidney": 50}


class TestFolder:
    def test_is_written_for_many_items_or_if_asked_for(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_result(tmp_path, "a", preview=True)
        write_result(tmp_path, "b")
        assert written(tmp_path, as_folder=True) == tmp_path / "report/index.html"
        monkeypatch.setattr(write, "MOST_IN_A_PAGE", 1)
        assert written(tmp_path) == tmp_path / "report/index.html"

        with pytest.raises(OptionError, match="output must be a folder for more than 1 items"):
            written(tmp_path, tmp_path / "x.html")

    def test_is_kept_from_pages_and_other_folders(self, tmp_path: Path) -> None:
        write_result(tmp_path / "out", "a")
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine/file").touch()

        with pytest.raises(OptionError, match="output must be a folder with `folder`"):
            written(tmp_path / "out", tmp_path / "x.html", as_folder=True)
        with pytest.raises(OutputExistsError, match="mine must not exist unless it is a report"):
            written(tmp_path / "out", tmp_path / "mine")

    def test_keeps_pictures_that_are_current_and_loses_those_that_are_not(
        self, tmp_path: Path
    ) -> None:
        write_result(tmp_path, "a", preview=True)
        write_result(tmp_path, "b", preview=True)
        report = written(tmp_path, as_folder=True).parent
        (report / "mine.txt").touch()
        kept = {path: path.stat().st_mtime_ns for path in report.rglob("*.jpg")}
        (tmp_path / "b_seg_preview.png").unlink()

        written(tmp_path, as_folder=True)

        (left,) = report.rglob("*.jpg")
        assert kept[left] == left.stat().st_mtime_ns
        assert len(list(report.glob("data-*.js"))) == 1
        assert (report / "mine.txt").exists()

    def test_is_no_input_of_a_run(self, tmp_path: Path) -> None:
        write_result(tmp_path, "a", preview=True)
        report = written(tmp_path, as_folder=True).parent

        files = [path for path in report.rglob("*") if path.is_file()]

        assert len(files) == 3
        assert all(map(is_output, [*files, written(tmp_path)]))


class TestThumbnails:
    def test_fit_the_limit_and_keep_their_shape(self, tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        noise = PIL.Image.effect_noise((900, 600), 80).convert("RGB")
        noise.save(path)

        small, large = (thumbnail(path, most) for most in (8_000, 10**6))

        assert small is not None
        assert large is not None
        assert len(small) <= 8_000
        assert PIL.Image.open(io.BytesIO(large)).size == (640, 427)

    @pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n" + b"x" * 50, b"GIF89a"])
    def test_of_damaged_previews_are_none(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.png").write_bytes(content)

        assert thumbnail(tmp_path / "a.png", 9000) is None

    @pytest.mark.parametrize("count", [0, 1, 100, 2000, 10**6])
    def test_of_a_page_have_a_limit_together(self, count: int) -> None:
        assert LEAST_BYTES <= bytes_each(count) <= MOST_BYTES
        assert bytes_each(2000) * 2000 <= PAGE_BYTES
