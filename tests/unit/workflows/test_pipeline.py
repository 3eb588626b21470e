from __future__ import annotations

from pathlib import Path

import pytest

from esp_medsam.errors import OptionError
from esp_medsam.workflows.pipeline import read_config


BUNDLE = Path(__file__).parents[3] / "bundle"


class TestReadConfig:
    def test_takes_keys_of_the_users_own(self, tmp_path: Path) -> None:
        overlay = tmp_path / "overlay.yaml"
        overlay.write_text("my_limit: 3\nslice_batch: '@my_limit'\n")

        config = read_config(BUNDLE, [overlay])

        assert config.get_parsed_content("slice_batch") == 3

    @pytest.mark.parametrize(
        ("key", "meant"),
        [("transform", "transforms"), ("input-size", "input_size"), ("slice-axis", "slice_axis")],
    )
    def test_refuses_a_key_that_is_nearly_one(self, tmp_path: Path, key: str, meant: str) -> None:
        overlay = tmp_path / "overlay.yaml"
        overlay.write_text(f"{key}: ~\n")

        with pytest.raises(OptionError, match=f"got {key}. Is it {meant}\\?"):
            read_config(BUNDLE, [overlay])

    @pytest.mark.parametrize("text", ["", "- a\n", "a: [1,\n"])
    def test_refuses_what_holds_no_keys(self, tmp_path: Path, text: str) -> None:
        overlay = tmp_path / "overlay.yaml"
        overlay.write_text(text)

        with pytest.raises(OptionError, match="config must hold keys and values"):
            read_config(BUNDLE, [overlay])
