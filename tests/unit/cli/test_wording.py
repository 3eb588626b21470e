from __future__ import annotations

from esp_medsam.cli.wording import as_options, option_line


class TestAsOptions:
    def test_names_arguments_as_the_command_has_them(self) -> None:
        told = as_options("Pass `join` series, or `force_modality`; see `esp-medsam convert`.")

        assert told == "Pass --join series, or --force_modality; see `esp-medsam convert`."

    def test_of_several_lines_are_one_where_that_is_asked_for(self) -> None:
        assert option_line("a\nPass `frame`.") == "a\\nPass --frame."
