from __future__ import annotations

from pathlib import Path

import pytest

from esp_medsam.integrations.monai_label.failed import (
    first_of,
    ids_of,
    read_failed,
    write_failed,
)
from esp_medsam.workflows.verdicts import Verdict


@pytest.mark.parametrize(
    ("item", "ids"),
    [
        ("scan1.nii.gz", ["scan1"]),
        ("sub/eye (left).png", ["eye (left)"]),
        ("sub/a_seg.json", ["a"]),
        ("(1.2.3)", ["1.2.3"]),
        ("ct (1.2.3_echo-2)", ["1.2.3", "1.2.3_echo-2"]),
    ],
)
def test_an_image_s_id_follows_from_the_name_of_its_item(item: str, ids: list[str]) -> None:
    assert ids_of(item) == ids


def test_images_that_failed_come_first_in_the_order_of_the_verdicts(tmp_path: Path) -> None:
    said = {"b.png": "fail", "c.png": "pass", "a.png": "fail"}
    write_failed(tmp_path, [Verdict(item=item, verdict=verdict) for item, verdict in said.items()])

    named = read_failed(tmp_path)

    assert first_of(named, ["a", "b", "c"]) == "b"
    assert first_of(named, ["a", "c"]) == "a"
    assert first_of(named, ["c"]) is None


def test_verdicts_of_an_earlier_start_are_forgotten(tmp_path: Path) -> None:
    write_failed(tmp_path, [Verdict(item="a.png", verdict="fail")])

    write_failed(tmp_path, [])

    assert read_failed(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
