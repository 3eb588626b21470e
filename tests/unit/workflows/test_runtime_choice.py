"""Which runtime a run takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from esp_medsam.errors import OptionError
from esp_medsam.runtimes import RUNTIMES
from esp_medsam.workflows import runtime_choice
from esp_medsam.workflows.pipeline import read_config
from esp_medsam.workflows.request import read_request
from esp_medsam.workflows.runtime_choice import (
    Choice,
    Measured,
    asked_of,
    check_asked,
    read_choice,
    settled_runtime,
    situation_of,
    write_choice,
)


ONNX = Measured(name="onnxruntime", version="1", seconds=0.2, ratio=0.8)
OPENVINO = Measured(name="openvino", version="2", seconds=0.1, ratio=0.4)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(runtime_choice.VARIABLE, raising=False)
    return tmp_path


def settings_of(tmp_path: Path, **given: Any) -> Any:
    request = read_request(
        dataset_dir=str(tmp_path), output_dir=str(tmp_path), device="cpu", **given
    )
    return read_config(request).get_parsed_content("settings")


class TestTheChoice:
    def test_is_the_fastest(self) -> None:
        assert Choice((ONNX, OPENVINO)).name == "openvino"

    @pytest.mark.parametrize(
        "other", [Measured(name="openvino", version="2", told="crashed"), None]
    )
    def test_is_pytorch_if_no_other_is_clearly_faster(self, other: Measured | None) -> None:
        slow = Measured(name="onnxruntime", version="1", seconds=0.2, ratio=0.97)

        assert Choice((slow, *([other] if other else []))).name == "eager"
        assert Choice(()).name == "eager"

    def test_is_told_in_words(self) -> None:
        assert OPENVINO.text == "openvino 2: 0.100 s, 0.40 of PyTorch's time"
        crashed = Measured(name="openvino", version="2", told="its process ended by SIGFPE")
        assert crashed.text == "openvino 2 cannot be used: its process ended by SIGFPE"


class TestWhatWasMeasured:
    def test_is_read_again_in_the_same_situation_only(self) -> None:
        write_choice("here", [ONNX, OPENVINO], 0)

        assert read_choice("here") == Choice((ONNX, OPENVINO))
        assert read_choice("there") is None

    @pytest.mark.parametrize("content", ["", "{}", '{"schema": 1}', "[1"])
    def test_is_measured_anew_if_it_is_damaged(self, cache: Path, content: str) -> None:
        write_choice("here", [ONNX], 0)
        (path,) = (cache / "esp-medsam" / "runtimes").iterdir()
        path.write_text(content)

        assert read_choice("here") is None

    def test_does_not_hold_for_other_weights_or_sizes(self, tmp_path: Path) -> None:
        one = situation_of(settings_of(tmp_path))

        assert situation_of(settings_of(tmp_path)) == one
        assert situation_of(settings_of(tmp_path, input_size=(224, 224))) != one

    def test_is_not_kept_where_the_cache_cannot_be_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))

        assert write_choice("here", [OPENVINO], 0).name == "openvino"
        assert read_choice("here") is None


class TestWhatIsAsked:
    def test_auto_is_pytorch_before_anything_was_measured(self, tmp_path: Path) -> None:
        assert settled_runtime(settings_of(tmp_path)) == "eager"

    def test_auto_is_what_was_measured(self, tmp_path: Path) -> None:
        settings = settings_of(tmp_path)
        write_choice(situation_of(settings), [ONNX], 0)

        assert settled_runtime(settings) == "onnxruntime"

    def test_the_environment_stands_for_auto_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(runtime_choice.VARIABLE, "openvino")

        assert asked_of("auto") == "openvino"
        assert asked_of("eager") == "eager"

    def test_an_unknown_name_in_the_environment_is_refused(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(runtime_choice.VARIABLE, "fast")

        with pytest.raises(OptionError, match="ESP_MEDSAM_RUNTIME must be one of auto, eager, "):
            asked_of("auto")

    def test_an_unknown_name_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match=r"runtime must be 'auto', 'eager', .*; got 'fast'"):
            settings_of(tmp_path, runtime="fast")

    def test_sizes_that_vary_take_pytorch(self, tmp_path: Path) -> None:
        auto = settings_of(tmp_path, input_size="native")
        named = settings_of(tmp_path, input_size="native", runtime="compile")

        assert settled_runtime(auto) == "eager"
        with pytest.raises(OptionError, match="runtime must be eager with input_size native"):
            check_asked(named)

    def test_bfloat16_takes_pytorch(self, tmp_path: Path) -> None:
        auto = settings_of(tmp_path, amp=True)
        write_choice(situation_of(auto), [OPENVINO], 0)

        assert settled_runtime(auto) == "eager"
        with pytest.raises(OptionError, match=r"runtime must be eager with amp.*; got compile"):
            check_asked(settings_of(tmp_path, amp=True, runtime="compile"))


def test_runtimes_that_compile_for_minutes_are_not_tried_out(tmp_path: Path) -> None:
    found = runtime_choice.candidates(settings_of(tmp_path))

    assert all(RUNTIMES[each.name].is_quick for each in found)
    assert "compile" not in {each.name for each in found}
