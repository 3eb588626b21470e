"""benchmarks/training_speed.py, on tiny pictures: what GPU sessions run."""

from __future__ import annotations

import gc
import importlib.util
import weakref
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import pytest


SCRIPT = Path(__file__).parents[2] / "benchmarks" / "training_speed.py"


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("training_speed", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_medical_teacher_is_measured_without_segment_anything_and_let_go(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Namespace(
        device="cpu",
        input_size=64,
        teacher_input_size=None,
        batch_size=2,
        steps=2,
        distributed=False,
        processor_time=False,
    )
    networks = []
    build = script.ConfigWorkflow.initialize

    def initialize(workflow: script.ConfigWorkflow) -> None:
        build(workflow)
        networks.append(weakref.ref(workflow.parser.get_parsed_content("network")))

    monkeypatch.setattr(script, "has_sam", lambda: False)
    monkeypatch.setattr(script.ConfigWorkflow, "initialize", initialize)
    script.write_inputs(tmp_path, 64)

    line = script.measure("2 medical teacher", tmp_path, asked, "false")

    assert line.startswith("2 medical teacher (tiny SAM), amp false: ")
    gc.collect()
    (network,) = networks
    assert network() is None
