"""What pip installs works without the checkout: it brings the bundle and the command along."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
import skimage


CHECKOUT = Path(__file__).parents[2]
PARTS = ("esp_medsam", "bundle", "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "NOTICE")
RETINA = Path(skimage.__path__[0]) / "data/retina.jpg"


def run(*command: str, cwd: Path) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    ended = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=clean)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def environment(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, and this one's packages below it."""
    root = tmp_path_factory.mktemp("wheel")
    source = root / "source"
    source.mkdir()
    for part in PARTS:
        copy = shutil.copytree if (CHECKOUT / part).is_dir() else shutil.copy
        copy(CHECKOUT / part, source / part)
    model = source / "bundle/models/model.pt"
    if not model.exists():
        model.parent.mkdir(exist_ok=True)
        shutil.copy(weights, model)

    pip = (sys.executable, "-m", "pip")
    quiet = ("--no-deps", "--no-build-isolation", "--quiet", "--disable-pip-version-check")
    run(*pip, "wheel", ".", "--wheel-dir", str(root), *quiet, cwd=source)
    (wheel,) = root.glob("*.whl")
    venv.create(root / "env", with_pip=False)
    python = root / "env/bin/python"
    run(*pip, "--python", str(python), "install", str(wheel), "--no-deps", "--quiet", cwd=root)
    own = run(str(python), "-c", "import site; print(site.getsitepackages()[0])", cwd=root)
    Path(own.strip(), "below.pth").write_text(sysconfig.get_path("purelib") + "\n")
    shutil.rmtree(source)
    return root / "env"


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="paths of a POSIX environment")
class TestWheel:
    def test_command_segments_outside_the_checkout(self, environment: Path, tmp_path: Path) -> None:
        command = str(environment / "bin/esp-medsam")

        told = run(command, "segment", str(RETINA), "out", "--modality", "fundus", cwd=tmp_path)

        assert told.startswith("1 done, 0 kept, 0 failed")
        assert (tmp_path / "out/retina_seg.png").exists()

    def test_bundle_run_finds_the_installed_bundle(self, environment: Path, tmp_path: Path) -> None:
        config = environment / "share/esp_medsam/bundle/configs/inference.yaml"
        options = {"config_file": config, "dataset_dir": RETINA, "output_dir": "out"}
        arguments = [text for key, value in options.items() for text in (f"--{key}", str(value))]

        run(
            str(environment / "bin/python"),
            *("-m", "monai.bundle", "run", *arguments, "--modality", "fundus"),
            cwd=tmp_path,
        )

        assert (tmp_path / "out/retina_seg.json").exists()
