"""The picture of a report in its how-to: pictures that scikit-image ships, and their vessels.

    python docs/images/report.py

Writes ``report.jpg`` beside this file. Needs Chromium.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import PIL.Image
import skimage
from playwright.sync_api import sync_playwright

from esp_medsam.cli.main import main as command


SIZE = (1280, 700)
"""Width and height of the page that is shown, pixels."""


def make_report(home: Path) -> Path:
    """Segment parts of a photograph, one of them damaged, and return the page."""
    eyes = home / "eyes"
    eyes.mkdir()
    with PIL.Image.open(Path(skimage.__path__[0]) / "data" / "retina.jpg") as picture:
        for name, box in {
            "left": (0, 0, 1411, 1411),
            "disc": (700, 300, 1411, 1100),
            "fovea": (300, 300, 1000, 1100),
            "rim": (0, 0, 400, 400),
        }.items():
            picture.crop(box).save(eyes / f"{name}.png")
    PIL.Image.new("RGB", (400, 300), (80, 80, 80)).save(eyes / "blank.png")
    (eyes / "cut.png").write_bytes((eyes / "left.png").read_bytes()[:9000])
    options = ["--modality", "fundus", "--device", "cpu", "--preview", "--workers", "0", "--quiet"]
    command(["segment", str(eyes), str(home / "out"), *options])
    command(["report", str(home / "out"), "--quiet"])
    return home / "out" / "report.html"


def main() -> None:
    """Make the report, mark two cases, and write the picture."""
    with TemporaryDirectory() as home, sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        width, height = SIZE
        page = browser.new_page(viewport={"width": width, "height": height})
        page.goto(make_report(Path(home)).as_uri())
        for key in ("j", "j", "f", "p"):
            page.keyboard.press(key)
        page.wait_for_timeout(300)
        path = Path(__file__).with_name("report.jpg")
        page.screenshot(path=path, type="jpeg", quality=80)
        browser.close()


if __name__ == "__main__":
    main()
