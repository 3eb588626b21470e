"""What stands nowhere in the package's code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest


PACKAGE = Path(__file__).parents[2] / "esp_medsam"

RUN = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle", "marshal"}
RUN |= {"shelve", "dill", "joblib", "subprocess", "runpy", "yaml.unsafe_load", "yaml.full_load"}
UNPACK = {"extractall", "extract", "unpack_archive"}
FORESEEABLE = {"mktemp", "gettempdir"}


def names(tree: ast.AST) -> set[str]:
    """Every name that is called or imported; of an attribute also its last part."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
        elif isinstance(node, ast.Call):
            found |= {ast.unparse(node.func)}
            if isinstance(node.func, ast.Attribute):
                found |= {node.func.attr} - {"eval", "compile"}  # of a network, of a pattern
    return found


def of_package(unwanted: set[str]) -> list[str]:
    return [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for name in sorted(names(ast.parse(path.read_text(encoding="utf-8"))) & unwanted)
    ]


class TestPackage:
    def test_s10_runs_no_data(self) -> None:
        """Programs are started by three files alone: MONAI Label's server, pip, and Orthanc."""
        starters = ("cli/label.py", "integrations/monai_label/environment.py")
        starters += ("integrations/viewer/store.py",)

        assert of_package(RUN) == [f"{file}: subprocess" for file in starters]

    def test_s4_unpacks_no_archive(self) -> None:
        """But the viewer's, whose hash is known."""
        assert of_package(UNPACK) == ["integrations/viewer/ohif.py: extractall"]

    def test_s9_makes_no_foreseeable_name(self) -> None:
        assert of_package(FORESEEABLE) == []

    def test_s1_loads_weights_as_data_alone(self) -> None:
        calls = [
            ast.unparse(node)
            for path in PACKAGE.rglob("*.py")
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
        ]

        assert calls
        assert all("weights_only=True" in call for call in calls)

    @pytest.mark.parametrize(
        "code", ["import pickle", "from pickle import load", "os.system('x')", "eval('x')"]
    )
    def test_s10_code_of_that_kind_is_seen(self, code: str) -> None:
        assert names(ast.parse(code)) & RUN

    @pytest.mark.parametrize("code", ["network.eval()", "re.compile('x')", "torch.compile(x)"])
    def test_s10_methods_of_those_names_are_not(self, code: str) -> None:
        assert not names(ast.parse(code)) & RUN
