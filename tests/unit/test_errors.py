from __future__ import annotations

import pickle
import re
from typing import Any

import pytest
from monai.bundle import ConfigParser

from esp_medsam import errors
from tests.support.processes import run_python


ALL = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, errors.EspMedSamError)
]


class TestErrors:
    def test_codes_are_unique_and_stable(self) -> None:
        codes = [error.code.removeprefix("E_").lower() for error in ALL]

        assert sorted(codes) == [
            *("checkpoint", "checkpoint_hash", "checkpoint_mismatch", "cluster", "corrupt"),
            *(
                "decode_crash",
                "device",
                "disk_full",
                "diverged",
                "error",
                "exists",
                "format",
                "geometry",
                "input_changed",
                "locked",
            ),
            *("modality", "modality_conflict", "name_clash", "network", "no_input"),
            *("no_weights", "nonfinite", "not_found", "option", "output", "pacs"),
            *("pacs_access", "pacs_incomplete", "pacs_refused", "read", "self_check", "table"),
            *("target", "timeout", "too_large", "worker_died"),
        ]

    @pytest.mark.parametrize("kind", ALL)
    def test_survives_a_process_boundary(self, kind: type[errors.EspMedSamError]) -> None:
        error = pickle.loads(pickle.dumps(kind("a sentence.")))

        assert type(error) is kind
        assert "a sentence." in str(error)

    @pytest.mark.parametrize(
        ("kind", "builtin"),
        [
            (errors.InputNotFoundError, FileNotFoundError),
            (errors.FormatError, ValueError),
            (errors.OutputExistsError, FileExistsError),
            (errors.DiskFullError, OSError),
        ],
    )
    def test_also_inherits_the_matching_builtin(
        self, kind: type[Exception], builtin: type[Exception]
    ) -> None:
        assert issubclass(kind, builtin)


class TestCheckpointMismatchError:
    def test_lists_all_three_kinds_and_keeps_them_through_pickle(self) -> None:
        error = errors.CheckpointMismatchError(
            "a.pt", missing=["m"], unexpected=["u1", "u2"], mismatched=["s"]
        )
        copy = pickle.loads(pickle.dumps(error))

        assert "1 missing: m; 2 unexpected: u1, u2; 1 mis-shaped: s" in str(error)
        assert str(copy) == str(error)
        assert copy.unexpected == ("u1", "u2")


class TestMismatch:
    def test_names_every_kind_but_stays_one_readable_line(self) -> None:
        missing = [f"m{number}" for number in range(1000)]
        error = errors.CheckpointMismatchError("a.pt", missing=missing, unexpected=["u"])

        assert "1000 missing: m0, m1," in str(error)
        assert "m19, and 980 more; 1 unexpected: u; 0 mis-shaped." in str(error)
        assert error.missing == tuple(missing)


class TestExplain:
    def test_finds_ours_behind_a_cause_and_a_context(self) -> None:
        inner = errors.TargetError("targets must be known; got x.")
        middle = RuntimeError("applying transform")
        middle.__cause__ = inner
        outer = ValueError("during handling")
        outer.__context__ = middle

        assert errors.explain(outer) == "E_TARGET: targets must be known; got x."

    @pytest.mark.parametrize(
        "inner",
        [
            MemoryError(),
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        ],
    )
    def test_tells_memory_that_ran_out_behind_whatever_it_caused(self, inner: Exception) -> None:
        outer = RuntimeError("applying transform")
        outer.__cause__ = inner

        assert errors.explain(outer) == (
            "E_TOO_LARGE: memory ran out; free some, raise the limit (ulimit -v), or, where "
            "volumes are segmented, use a smaller slice_batch."
        )

    def test_is_none_for_what_is_not_ours(self) -> None:
        assert errors.explain(ValueError("x")) is None

    @pytest.mark.parametrize(
        ("config", "line"),
        [
            (
                {"_target_": "esp_medsam.transforms.Clahe", "clip_limt": 3},
                "config must give .*Clahe what it takes; got: .*keyword argument 'clip_limt'",
            ),
            ({"_target_": "esp_medsam.transforms.Clahee"}, "existing .*; .*transforms.Clahee"),
            ({"a": "@nothing"}, "config must only refer to its own keys; .*`@nothing` is not"),
            (
                {"_target_": "esp_medsam.transforms.Clahe", "clip_limit": "much"},
                "clip_limit must be at least 1; got 'much'",
            ),
        ],
    )
    def test_tells_what_monai_finds_wrong_in_a_config(
        self, config: dict[str, Any], line: str
    ) -> None:
        with pytest.raises(Exception) as caught:  # noqa: PT011  # MONAI's: whichever they are
            ConfigParser({"x": config}).get_parsed_content("x")

        assert re.fullmatch(rf"E_OPTION: .*{line}.*\.", errors.explain(caught.value) or "")

    @pytest.mark.parametrize(
        "error",
        [
            MemoryError(),
            ImportError("libx.so: failed to map segment from shared object"),
            OSError("[Errno 12] Cannot allocate memory"),
        ],
    )
    def test_tells_that_memory_ran_out(self, error: Exception) -> None:
        wrapped = RuntimeError("wrapped")
        wrapped.__cause__ = error

        assert (errors.explain(wrapped) or "").startswith("E_TOO_LARGE: memory ran out;")

    def test_tells_what_the_system_says_of_a_path(self) -> None:
        wrapped = RuntimeError("Failed to evaluate")
        wrapped.__cause__ = OSError(36, "File name too long", "aa")

        line = errors.explain(wrapped)

        assert line == "E_READ: aa must be a usable path; got: File name too long."

    def test_blames_no_path_for_another_failure(self) -> None:
        error = KeyError("a")
        error.__context__ = FileNotFoundError(2, "No such file", "aa")

        assert errors.explain(error) is None

    def test_ends_on_a_loop_of_causes(self) -> None:
        first, second = ValueError(), ValueError()
        first.__cause__, second.__cause__ = second, first

        assert errors.explain(first) is None

    def test_keeps_one_line_whatever_a_file_is_called(self) -> None:
        line = errors.explain(errors.FormatError("a\nb\x1b[2J is not read."))

        assert line == r"E_FORMAT: a\nb\x1b[2J is not read."


class TestInstallExcepthook:
    @pytest.mark.parametrize(
        ("raised", "stderr"),
        [
            ("raise RuntimeError('wrapped') from TargetError('one line.')", "E_TARGET: one line."),
            ("raise RuntimeError('not ours')", "Traceback"),
        ],
    )
    def test_prints_ours_as_one_line_and_others_as_before(self, raised: str, stderr: str) -> None:
        code = (
            "from esp_medsam.errors import *\nfrom esp_medsam.errors import install_excepthook\n"
            f"install_excepthook()\ninstall_excepthook()\n{raised}\n"
        )

        done = run_python(code)

        assert done.returncode == 1
        assert done.stderr.startswith(stderr)
        assert (done.stderr.count("\n") == 1) == stderr.startswith("E_")
