"""Which runtimes there are, and where they run."""

from __future__ import annotations

import typing

import pytest

from esp_medsam.errors import OptionError
from esp_medsam.runtimes import RUNTIMES, check_runtime, kinds, packages
from esp_medsam.setting_types import RuntimeName


def test_the_setting_names_all_of_them() -> None:
    assert {"auto", *RUNTIMES} == set(typing.get_args(RuntimeName))


def test_a_runtime_of_another_device_is_refused() -> None:
    with pytest.raises(OptionError, match=r"runs on mps \(eager\); got openvino\."):
        check_runtime("openvino", "mps")


def test_missing_packages_are_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None if "onnx" in name else name)

    with pytest.raises(OptionError, match=r"onnxscript to be installed.*esp-medsam\[openvino\]"):
        check_runtime("openvino", "cpu")


def test_a_module_of_another_distribution_says_its_own_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def version(name: str) -> str:
        raise kinds.PackageNotFoundError(name)

    monkeypatch.setattr(kinds, "version", version)

    assert RUNTIMES["onnxruntime"].version == pytest.importorskip("onnxruntime").__version__


def test_packages_that_are_not_ours_are_named_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda _: None)

    with pytest.raises(OptionError, match=r"pip install tensorrt polygraphy"):
        check_runtime("tensorrt", "cuda")
