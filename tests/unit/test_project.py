from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import esp_medsam


ROOT = Path(__file__).parents[2]


def tracked_files() -> list[Path]:
    """Every file that git tracks; skips the test where there is no git checkout."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def bash_blocks(path: Path) -> list[str]:
    return re.findall(r"^```bash\n(.*?)^```$", path.read_text(encoding="utf-8"), re.M | re.S)


class TestVersion:
    def test_is_one_in_package_setup_cfg_and_metadata(self) -> None:
        setup_cfg = (ROOT / "setup.cfg").read_text(encoding="utf-8")
        metadata = json.loads((ROOT / "bundle/configs/metadata.json").read_text(encoding="utf-8"))

        assert "\nversion = attr: esp_medsam.version.__version__\n" in setup_cfg
        assert metadata["version"] == esp_medsam.__version__


class TestReadme:
    def test_commands_are_of_one_line_each(self) -> None:
        assert all(block.count("\n") == 1 for block in bash_blocks(ROOT / "README.md"))

    def test_first_command_runs_the_bundle(self) -> None:
        assert "-m monai.bundle run " in bash_blocks(ROOT / "README.md")[0]

    def test_second_command_runs_the_tests(self) -> None:
        assert bash_blocks(ROOT / "README.md")[1].endswith("-m pytest\n")

    @pytest.mark.parametrize("number", [1, 2])
    def test_ci_runs_each_command_once_as_it_stands_there(self, number: int) -> None:
        script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
        function = re.search(r"^readme_block\(\) \{\n.*?^\}$", script, re.M | re.S)
        assert function is not None

        taken = subprocess.run(
            ["bash", "-c", f"{function.group()}\nreadme_block {number}"],
            cwd=ROOT,
            capture_output=True,
            check=True,
            text=True,
        )

        assert taken.stdout == bash_blocks(ROOT / "README.md")[number - 1]
        assert script.count(f'bash -euo pipefail -c "$(readme_block {number})"') == 1

    def test_names_only_files_that_exist(self) -> None:
        text = (ROOT / "README.md").read_text(encoding="utf-8")
        named = set(re.findall(r"`((?:bundle|docs)/[\w./-]+|[A-Z]+(?:\.md)?)`", text))
        named |= set(re.findall(r"\]\((?!https?:)([^)]+)\)", text))

        assert {name for name in named if not (ROOT / name).exists()} == set()


class TestDecisions:
    def test_are_numbered_without_gaps(self) -> None:
        records = sorted((ROOT / "docs" / "decisions").glob("*.md"))

        assert [int(r.name[:4]) for r in records] == list(range(1, len(records) + 1))

    def test_carry_their_number_and_the_four_parts(self) -> None:
        for record in (ROOT / "docs" / "decisions").glob("*.md"):
            text = record.read_text(encoding="utf-8")

            assert text.startswith(f"# {int(record.name[:4])}. ")
            for part in ("\nStatus: ", "\n## Context\n", "\n## Decision\n", "\n## Consequences\n"):
                assert part in text, record.name


class TestGeneratedPages:
    @pytest.mark.parametrize("script", ["generate.py", "outcomes.py"])
    def test_are_what_the_code_and_the_tests_say(self, script: str) -> None:
        check = [sys.executable, ROOT / "docs/reference" / script, "--check"]
        places = {**os.environ, "PYTHONPATH": str(ROOT)}

        checked = subprocess.run(check, env=places, capture_output=True, check=False, text=True)

        assert checked.returncode == 0, checked.stderr


class TestTrackedFiles:
    def test_hold_no_path_of_a_machine(self) -> None:
        first_folder = re.compile(rb"(?<![\w.~$}>*-])/(?:home|root|work|workspace|Users)/[\w.]")

        found = [
            str(path.relative_to(ROOT))
            for path in tracked_files()
            if path.suffix not in {".pt", ".npz", ".png", ".gz"} and path.is_file()
            if first_folder.search(path.read_bytes())
        ]

        assert found == []

    def test_are_small_but_for_the_weights_and_the_parity_fixtures(self) -> None:
        large = [
            name
            for name in (str(path.relative_to(ROOT)) for path in tracked_files())
            if (ROOT / name).is_file() and (ROOT / name).stat().st_size > 500_000
        ]

        known = ("bundle/models/", "benchmarks/accuracy/next.", "tests/parity/")
        assert [name for name in large if not name.startswith(known)] == []
