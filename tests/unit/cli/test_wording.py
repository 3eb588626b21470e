from __future__ import annotations

from collections.abc import Iterator

import pytest

from esp_medsam.cli.wording import as_options, option_line, set_options


@pytest.fixture(autouse=True)
def _options() -> Iterator[None]:
    set_options(("join", "force_modality", "frame"))
    yield
    set_options(())


class TestAsOptions:
    def test_names_arguments_as_the_command_has_them(self) -> None:
        told = as_options("Pass `join` series, or `force_modality`; see `esp-medsam convert`.")

        assert told == "Pass --join series, or --force_modality; see `esp-medsam convert`."

    def test_that_it_has_not_stay_bare(self) -> None:
        assert as_options("Pass `targets`.") == "Pass targets."

    @pytest.mark.parametrize("path", ["in/`frame`.png", "`frame`.png", "a`frame`", "``frame``"])
    def test_leaves_names_of_files_alone(self, path: str) -> None:
        assert as_options(path) == path

    def test_of_several_lines_are_one_where_that_is_asked_for(self) -> None:
        assert option_line("a\nPass `frame`.") == "a\\nPass --frame."
