from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.processes import run_python


HOW_TO = Path(__file__).parents[4] / "docs" / "how-to"

CHECK = """
import sys, yaml
from ray.autoscaler._private.util import prepare_config, validate_config
validate_config(prepare_config(yaml.safe_load(open(sys.argv[1]))))
"""


@pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray")
@pytest.mark.parametrize("name", ["cluster.yaml", "cluster-on-premise.yaml"])
def test_ray_takes_the_clusters_of_the_guide(name: str) -> None:
    checked = run_python(CHECK, str(HOW_TO / name))

    assert checked.returncode == 0, checked.stderr
