"""What a run comes to when the world around it fails."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import PIL.Image
import PIL.PngImagePlugin
import pytest

from esp_medsam.workflows.pipeline import build_run


ROOT = Path(__file__).parents[2]
CANARY = "CANARY"
ITEMS = 12


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with a picture whose texts name a patient."""
    (tmp_path / "in").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (40, 48, 3), np.uint8)
    texts = PIL.PngImagePlugin.PngInfo()
    texts.add_text("Patient", f"{CANARY}1")
    exif = PIL.Image.Exif()
    exif[0x010E], exif[0x9286] = f"{CANARY}2", f"{CANARY}3".encode()
    PIL.Image.fromarray(pixels).save(tmp_path / "in/a.png", pnginfo=texts, exif=exif)
    return tmp_path / "in"


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """A folder with a volume whose header names a patient, and one that is damaged."""
    (tmp_path / "volumes").mkdir()
    voxels = np.random.default_rng(0).integers(0, 900, (12, 10, 6)).astype(np.int16)
    image = nib.Nifti1Image(voxels, np.eye(4))
    image.header["descrip"] = f"{CANARY}4".encode()
    image.header["aux_file"] = f"{CANARY}5".encode()
    image.header["intent_name"] = f"{CANARY}6".encode()
    image.header["db_name"] = f"{CANARY}7".encode()
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", f"{CANARY}8".encode()))
    nib.save(image, tmp_path / "volumes/whole.nii.gz")
    content = bytearray(image.to_bytes())
    content[-200:] = b""
    (tmp_path / "volumes/zcut.nii").write_bytes(content)
    return tmp_path / "volumes"


def segment(folder: Path, out: Path, modality: str, weights: Path, **options: Any) -> list[Any]:
    settings = {"input_size": [64, 64], "device": "cpu", "ckpt_path": str(weights), **options}
    driven = build_run(
        ROOT / "bundle",
        dataset_dir=str(folder),
        output_dir=str(out),
        modality=modality,
        **settings,
    )
    return list(driven.results())


class TestSignals:
    @pytest.mark.skipif(os.name == "nt", reason="Windows sends no such signals")
    @pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_f2_end_a_run_in_seconds_and_the_next_one_goes_on(
        self, number: int, status: int, tmp_path: Path, random_weights: Path
    ) -> None:
        (tmp_path / "in").mkdir()
        pixels = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
        for name in range(ITEMS):
            PIL.Image.fromarray(pixels).save(tmp_path / f"in/{name}.png")
        # Whoever started the tests in the background had SIGINT ignored, by all that they start.
        start = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        start += "from esp_medsam.cli.main import main; raise SystemExit(main())"
        command = [sys.executable, "-c", start, "segment", "in", "out", "--modality", "fundus"]
        command += ["--ckpt_path", str(random_weights)]
        run = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        until = time.monotonic() + 60
        while not list(tmp_path.glob("out/*.json")) and time.monotonic() < until:
            time.sleep(0.02)

        run.send_signal(number)
        told, _ = run.communicate(timeout=60)

        assert run.returncode == status, told
        assert "Traceback" not in told
        done = list(tmp_path.glob("out/*.json"))
        assert 0 < len(done) < ITEMS
        rest = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert f"{ITEMS - len(done)} done, {len(done)} kept, 0 failed" in rest.stdout + rest.stderr
        assert not list(tmp_path.glob("out/.esp-medsam-*"))


class TestSurroundings:
    def test_f27_a_clock_that_ran_ahead_changes_nothing(
        self, images: Path, tmp_path: Path, random_weights: Path
    ) -> None:
        tomorrow = time.time() + 86_400
        os.utime(images / "a.png", (tomorrow, tomorrow))

        statuses = [
            segment(images, tmp_path / "out", "fundus", random_weights)[0].status for _ in range(2)
        ]

        assert statuses == ["done", "kept"]

    def test_f28_no_temporary_folder_is_needed(
        self,
        images: Path,
        volumes: Path,
        tmp_path: Path,
        random_weights: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def refuse(*_: Any, **__: Any) -> Any:
            raise FileNotFoundError(2, "No usable temporary directory found")

        for name in ("mkstemp", "mkdtemp", "gettempdir", "TemporaryFile", "NamedTemporaryFile"):
            monkeypatch.setattr(tempfile, name, refuse)

        for folder, modality in ((images, "fundus"), (volumes, "mri")):
            results = segment(folder, tmp_path / "out", modality, random_weights, preview=True)
            assert results[0].status == "done", results

    def test_s8_nothing_is_asked_of_a_network(
        self,
        images: Path,
        tmp_path: Path,
        random_weights: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def refuse(*_: Any, **__: Any) -> Any:
            raise AssertionError

        monkeypatch.setattr(socket.socket, "connect", refuse)
        monkeypatch.setattr(socket, "getaddrinfo", refuse)

        (result,) = segment(images, tmp_path / "out", "fundus", random_weights)

        assert result.status == "done", result


def test_s7_what_files_say_of_a_patient_is_in_nothing_that_is_written_or_told(
    images: Path,
    volumes: Path,
    tmp_path: Path,
    random_weights: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    out = tmp_path / "out"

    results = segment(images, out, "fundus", random_weights, preview=True, probabilities=True)
    results += segment(volumes, out, "mri", random_weights, preview=True, split_targets=True)

    assert [result.status for result in results] == ["done", "done", "failed"]
    told = [caplog.text, repr(results), *capsys.readouterr()]
    for path in out.rglob("*"):
        if path.is_file():
            packed = path.name.endswith(".gz")
            content = nib.load(path).to_bytes() if packed else path.read_bytes()
            told.append(content.decode("latin-1"))
    assert not [text for text in told if CANARY in text]
