"""The report in Chromium: open, sort, filter, mark, export; and what segments anew by it."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from esp_medsam.cli.main import main
from esp_medsam.workflows.report.gather import gather
from esp_medsam.workflows.report.write import write_report
from esp_medsam.workflows.verdicts import read_verdicts
from tests.support.reports import target, write_journal, write_result


CHROMIUM = shutil.which("chromium")
BUNDLE = Path(__file__).parents[2] / "bundle"
ODD = '=1+1 "quoted", </script><b>&\';\n.png'


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser without a network."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("needs chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that may ask for nothing but files, and at the end had no error."""
    context = browser.new_context(accept_downloads=True, offline=True)
    opened = context.new_page()
    told: list[str] = []
    opened.on("pageerror", lambda error: told.append(str(error)))
    opened.on("console", lambda message: told.append(message.text))
    opened.on("requestfailed", lambda request: told.append(request.url))
    yield opened
    assert told == []
    context.close()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder of ten results, one of them with an odd name, and a failure."""
    out = tmp_path / "out"
    write_result(out, "odd", source={"path": ODD, "sha256": "77" * 32}, warnings=["Odd."])
    for number in range(9):
        targets = [target(confidence=0.8 + number / 50, voxels=1000 - number)]
        write_result(out, f"a{number}", preview=number < 2, targets=targets)
    write_journal(out, {"sub/bad.png": "E_CORRUPT"})
    return out


def opened(page: Any, out: Path, **options: Any) -> None:
    made = write_report(gather([out]), [out], **options)
    page.goto(made.as_uri())
    page.locator("#row-0").wait_for()


def names(page: Any) -> list[str]:
    shown: list[str] = page.locator("#body td.item b").all_text_contents()
    return shown


def exported(page: Any, folder: Path, button: str = "Export CSV") -> Path:
    with page.expect_download() as download:
        page.get_by_role("button", name=button, exact=True).click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


class TestTable:
    def test_lists_first_what_should_be_looked_at_first(self, page: Any, out: Path) -> None:
        opened(page, out)

        assert names(page)[:3] == ["sub/bad.png", ODD, "a0.png"]
        assert page.locator("#details h3").text_content() == "sub/bad.png"
        assert "Copy or export it again." in page.locator("#details").inner_text()

    def test_sorts_and_filters(self, page: Any, out: Path) -> None:
        opened(page, out)

        page.get_by_role("button", name="vessels (px)").click()
        assert names(page)[:2] == [ODD, "a8.png"]
        page.get_by_role("button", name="vessels (px)").click()
        assert names(page)[0] == "a0.png"
        assert page.locator("th[aria-sort=descending]").inner_text() == "vessels (px)"
        page.locator("#search").fill("A3")
        assert names(page) == ["a3.png"]
        page.locator("#search").fill("nowhere")
        page.get_by_role("button", name="Show all").click()
        page.locator(".tile.failed").click()
        assert names(page) == ["sub/bad.png"]
        assert page.locator("#count").inner_text() == "1 of 11"

    def test_of_ten_thousand_draws_only_rows_in_sight(self, page: Any, tmp_path: Path) -> None:
        many = {f"n{number:05d}.png": "E_CORRUPT" for number in range(10_000)}
        write_journal(tmp_path / "many", many)
        opened(page, tmp_path / "many")

        page.locator("#table").press("End")

        assert page.locator("#details h3").text_content() == "n09999.png"
        assert names(page)[-1] == "n09999.png"
        assert len(names(page)) < 60
        page.locator("#search").fill("n0777")
        assert names(page) == [f"n0777{digit}.png" for digit in range(10)]


class TestVerdicts:
    def test_are_marked_by_keys_kept_and_exported(
        self, page: Any, out: Path, tmp_path: Path
    ) -> None:
        opened(page, out)
        page.keyboard.press("j")
        page.keyboard.press("n")
        page.locator("#note").fill('@note with "quotes",\nlines and a f in it')
        page.keyboard.press("Escape")
        for key in ("f", "p", "k", "u", "a"):
            page.keyboard.press(key)
        page.reload()

        path = exported(page, tmp_path)

        assert page.locator("#reviewed").inner_text() == "2 of 11 reviewed: 1 fail, 1 artefact"
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
        assert rows[0][:2] == ["item", "verdict"]
        assert rows[1][0] == f"'{ODD}"
        assert rows[1][2].startswith("'@note")
        odd, second = read_verdicts(path)
        assert (odd.item, odd.verdict, odd.folder) == (ODD, "fail", "out")
        assert odd.note == '@note with "quotes",\nlines and a f in it'
        assert (odd.record, odd.sha256) == ("odd_seg.json", "77" * 32)
        assert (second.item, second.verdict) == ("a0.png", "artefact")
        assert read_verdicts(exported(page, tmp_path, "JSON")) == [odd, second]

    def test_come_back_from_an_export_and_not_to_results_that_were_made_anew(
        self, page: Any, out: Path, tmp_path: Path
    ) -> None:
        opened(page, out)
        for key in ("j", "f", "f", "f"):
            page.keyboard.press(key)
        path = exported(page, tmp_path)
        page.evaluate("localStorage.clear()")
        write_result(out, "a0", targets=[target(confidence=0.5)])
        opened(page, out)
        assert page.locator("#reviewed").inner_text() == "0 of 11 reviewed"

        page.locator("#import-file").set_input_files(path)

        page.get_by_text("2 verdicts were imported; left out: 1 of earlier results.").wait_for()
        assert page.locator("#body span.verdict").all_text_contents() == ["fail", "fail"]
        (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
        page.locator("#import-file").set_input_files(tmp_path / "bad.csv")
        page.get_by_text("bad.csv cannot be imported.").wait_for()

    def test_of_two_reports_do_not_mix(self, page: Any, out: Path, tmp_path: Path) -> None:
        opened(page, out)
        page.keyboard.press("f")
        shutil.copytree(out, tmp_path / "other/out")

        opened(page, tmp_path / "other/out")

        assert page.locator("#reviewed").inner_text() == "0 of 11 reviewed"


def test_a_folder_shows_the_previews_themselves(page: Any, out: Path) -> None:
    opened(page, out, as_folder=True)
    page.locator("#search").fill("a0")

    page.wait_for_function("document.querySelector('#details img')?.naturalWidth === 300")
    page.wait_for_function("document.querySelector('#body img')?.naturalWidth === 240")


class TestRerun:
    def options(self, weights: Path) -> list[str]:
        own = ["--modality", "fundus", "--ckpt_path", str(weights), "--device", "cpu"]
        return [*own, "--bundle", str(BUNDLE), "--input_size", "64", "--preview"]

    def test_segments_anew_what_was_marked_as_failed_in_the_page(
        self,
        page: Any,
        photographs: Path,
        weights: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        out = tmp_path / "out"
        run = ["segment", str(photographs), str(out), *self.options(weights)]
        assert main(run) == 0
        assert main(["report", str(out)]) == 0
        page.goto((out / "report.html").as_uri())
        page.locator("#search").fill("more/b")
        page.keyboard.press("Escape")
        page.keyboard.press("f")
        verdicts = exported(page, tmp_path)
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*_seg*")}
        capsys.readouterr()

        assert main([*run, "--rerun", str(verdicts), "--dry_run"]) == 0
        assert capsys.readouterr().out.startswith(f"to do {photographs}/more/b.jpg as fundus")
        assert main([*run, "--rerun", str(verdicts), "--threshold", "0.4"]) == 0

        changed = {path.parent.name for path in before if path.stat().st_mtime_ns != before[path]}
        assert changed == {"more"}
        record = json.loads((out / "more/b_seg.json").read_text())
        assert record["settings"]["threshold"]
        capsys.readouterr()
        assert main([*run, "--rerun", str(verdicts)]) == 0
        assert "made anew since they were marked are kept: 'more/b.jpg'" in capsys.readouterr().err

    def test_names_what_it_does_not_know_and_refuses_what_is_none(
        self,
        photographs: Path,
        weights: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        run = ["segment", str(photographs), str(tmp_path / "out"), *self.options(weights)]
        table = tmp_path / "v.csv"

        table.write_text("item,verdict\na.png,fail\nnone.png,fail\n")
        assert main([*run, "--rerun", str(table)]) == 0
        told = capsys.readouterr().err
        assert "--rerun names what the input does not hold: 'none.png'." in told
        assert [path.name for path in (tmp_path / "out").rglob("*_seg.json")] == ["a_seg.json"]

        for content, said in (
            ("item,verdict\nnone.png,fail\n", "E_NO_INPUT: rerun must hold a verdict fail on an"),
            ("item,verdict\na.png,pass\n", "E_NO_INPUT: rerun must hold a verdict fail on a res"),
            ("item\na.png\n", "E_OPTION: rerun must hold verdicts as the report exports them"),
        ):
            table.write_text(content)
            assert main([*run, "--rerun", str(table)]) == 1
            assert said in capsys.readouterr().err
