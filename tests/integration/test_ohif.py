"""OHIF as its authors publish it, in a browser without a screen, over a real Orthanc."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
import requests

from esp_medsam.integrations.dicomweb.access import Access
from esp_medsam.integrations.viewer import ohif
from esp_medsam.integrations.viewer.server import viewer_at
from esp_medsam.integrations.viewer.store import dicom_files, serving
from esp_medsam.io import read, settle_modality
from esp_medsam.io.dicom_seg import SegOptions, write_dicom_seg
from esp_medsam.modality import ModalityTable
from tests.support.orthanc import skip_without_orthanc
from tests.support.shipped_dicom import copy_stack


CHROMIUM = shutil.which("chromium")
ROWS, COLUMNS = slice(30, 60), slice(20, 90)
"""Where the mask lies in each slice of 128 x 128 pixels: on no axis symmetric."""

SOFTWARE_GL = (
    *("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader"),
    *("--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"),
)


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    """A page of a browser."""
    skip_without_orthanc()
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("needs chromium: apt-get install chromium")
    if not (ohif.default_folder() / ohif.CONFIG).is_file():
        pytest.skip("needs the viewer of `esp-medsam view --setup`")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(SOFTWARE_GL))
        yield browser.new_page(viewport={"width": 1200, "height": 800})
        browser.close()


def write_study(folder: Path, table: ModalityTable, kind: str) -> Path:
    """Write four slices of a CT, and our DICOM-SEG of a rectangle in each."""
    copy_stack(folder / "images", [0, 5, 10, 15])
    image = settle_modality(read(folder / "images"), "ct", table)
    liver = next(target for target in table["ct"].targets if target.name == "liver")
    mask = np.zeros(image.grid.shape, np.uint8)
    mask[COLUMNS, ROWS] = 1  # the first axis of a volume runs along a row
    masks = iter([mask * liver.label if kind == "labelmap" else mask])
    assert write_dicom_seg(folder / "seg.dcm", image, masks, [liver], SegOptions(kind=kind))
    return folder


def colored(screen: bytes, box: dict[str, float]) -> npt.NDArray[np.bool_]:
    """Return where a viewport is colored: the CT is gray."""
    pixels = np.asarray(PIL.Image.open(io.BytesIO(screen)).convert("RGB")).astype(int)
    top, left = int(box["y"]), int(box["x"])
    shown = pixels[top : top + int(box["height"]), left : left + int(box["width"])]
    different: npt.NDArray[np.bool_] = np.ptp(shown, axis=-1) > 40
    return different


def expected(box: dict[str, float]) -> npt.NDArray[np.bool_]:
    """Return the rectangle as the viewport shows it: as large as it fits, in the middle."""
    height, width = int(box["height"]), int(box["width"])
    side = min(height, width)
    rows = (np.arange(height) - (height - side) / 2) * 128 / side
    columns = (np.arange(width) - (width - side) / 2) * 128 / side
    inside_rows = (rows >= ROWS.start) & (rows < ROWS.stop)
    inside_columns = (columns >= COLUMNS.start) & (columns < COLUMNS.stop)
    mask: npt.NDArray[np.bool_] = inside_rows[:, None] & inside_columns[None]
    return mask


@pytest.mark.slow
def test_our_segmentation_is_shown_where_it_lies_with_its_name(
    tmp_path: Path, table: ModalityTable, page: Any
) -> None:
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    study = write_study(tmp_path, table, "binary")
    uid = read(study / "images").study_uid
    files, _ = dicom_files([study])
    with serving(files) as service, viewer_at(ohif.default_folder(), Access(url=service)) as at:
        page.goto(f"{at}viewer?StudyInstanceUIDs={uid}")
        for text in ("Confirm and hide", "Skip all"):  # a notice and a tour, each over the other
            page.get_by_text(text).evaluate("button => button.click()", timeout=120_000)
        page.locator(".shepherd-modal-is-visible").wait_for(state="detached", timeout=60_000)
        page.get_by_text("Segmentation: liver").first.dblclick()
        page.get_by_text("Yes", exact=True).click(timeout=120_000)
        box = page.locator(".viewport-element canvas").first.bounding_box()
        overlap = 0.0
        for _ in range(60):  # until it is drawn
            shown, wanted = colored(page.screenshot(), box), expected(box)
            overlap = float((shown & wanted).sum() / (shown | wanted).sum())
            if overlap > 0.9:
                break
            time.sleep(1)
        assert overlap > 0.9
        page.locator("[data-cy='panelSegmentation-btn'], [aria-label='Segmentation']").first.click()
        page.get_by_text("Liver", exact=True).first.wait_for(timeout=30_000)
    assert errors == []
    assert [url for url in asked if not url.startswith((at, "blob:", "data:"))] == []


def test_a_file_that_orthanc_does_not_take_is_told_and_the_others_are_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    skip_without_orthanc()
    copy_stack(tmp_path, [0])
    (tmp_path / "damaged.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 100)
    files, left_out = dicom_files([tmp_path])
    assert left_out == 0  # its header can be read

    with serving(files) as service:
        (series,) = requests.get(f"{service}/series", timeout=10).json()

    assert series["00080060"]["Value"] == ["CT"]
    (told,) = caplog.messages
    assert told.endswith("damaged.dcm is left out: Orthanc does not take it.")


def commands() -> Iterator[str]:
    """Yield the command line of each process."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended in the meantime
            yield path.read_text(errors="replace")


def test_a_viewer_that_is_ended_leaves_no_server_and_no_copy_of_the_images(
    tmp_path: Path, table: ModalityTable
) -> None:
    skip_without_orthanc()
    study = write_study(tmp_path / "study", table, "binary")
    pages = tmp_path / "cache" / "esp-medsam" / f"ohif-{ohif.VERSION}"
    pages.mkdir(parents=True)
    (pages / ohif.CONFIG).write_text("")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    own = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "TMPDIR": str(temporary)}
    program = Path(sys.executable).with_name("esp-medsam")

    with subprocess.Popen(
        [program, "view", str(study), "--no-browser"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **own},
    ) as viewer:
        assert viewer.stdout is not None
        assert viewer.stdout.readline().startswith("The viewer is at http://127.0.0.1:")
        (home,) = temporary.glob("esp-medsam-view-*")
        assert [command for command in commands() if str(home) in command]
        viewer.terminate()
        assert viewer.wait(30) == 128 + signal.SIGTERM

    assert not list(temporary.glob("esp-medsam-view-*"))
    assert not [command for command in commands() if str(home) in command]
