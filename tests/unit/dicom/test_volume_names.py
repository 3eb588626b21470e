from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esp_medsam.dicom.volume import DicomSlice
from esp_medsam.dicom.volume_names import Split, distinguishing_values, name_of, natural, safe_name
from esp_medsam.image import SourceInstance


_numbers = itertools.count()


def volumes(keyword: str, *values: str) -> list[tuple[Split, list[DicomSlice]]]:
    """A volume of one slice for each value."""
    return [(((keyword, value),), [a_slice(**{keyword: value})]) for value in values]


def a_slice(**dimensions: str) -> DicomSlice:
    path = f"{next(_numbers)}.dcm"
    source = SourceInstance(path=path, sop_class_uid="1.2", sop_instance_uid="1")
    return DicomSlice(source=source, rows=4, columns=4, dimensions=tuple(dimensions.items()))


def told(keyword: str, *values: str) -> list[str]:
    return [split[0][1] for split in distinguishing_values(volumes(keyword, *values))]


class TestToldValues:
    @pytest.mark.parametrize(
        ("keyword", "values"),
        [
            ("EchoTime", ("12.5", "5")),
            ("EchoNumbers", ("1", "1\\2")),
            ("DiffusionBValue", ("1000", "0")),
            ("DiffusionGradientOrientation", ("0\\1\\0", "1\\0\\0")),
            ("ImageOrientationPatient", ("1\\0\\0\\0\\1\\0",)),
        ],
    )
    def test_numbers_stay(self, keyword: str, values: tuple[str, ...]) -> None:
        assert told(keyword, *values) == list(values)

    def test_our_own_words_stay(self) -> None:
        phases = [
            ((("AcquisitionTime", f"phase{k}"),), [a_slice(AcquisitionTime=f"10{k}")])
            for k in (1, 2)
        ]
        kinds = [
            ((("ImageType", "LOCALIZER"),), [a_slice(ImageType="LOCALIZER")]),
            ((), [a_slice(ImageType="M")]),
        ]

        assert distinguishing_values(phases) == [split for split, _ in phases]
        assert distinguishing_values(kinds) == [split for split, _ in kinds]

    @pytest.mark.parametrize(
        ("keyword", "values", "ranks"),
        [
            ("ConvolutionKernel", ("B70f", "B30f"), ["2", "1"]),
            ("ConvolutionKernel", ("B100f", "B30f"), ["2", "1"]),
            ("ConvolutionKernel", ("30", "none", "4"), ["2", "3", "1"]),
            ("ConvolutionKernel", ("30", "", "4"), ["2", "none", "1"]),
            ("FilterType", ("none", ""), ["1", "none"]),
            ("FilterType", ("phase1", "B"), ["2", "1"]),
            ("AcquisitionTime", ("101112.5", "091112"), ["2", "1"]),
            ("FrameAcquisitionDateTime", ("20200102", "20191231101010"), ["1", "2"]),
            ("StackID", ("4711", "Doe^Jane"), ["1", "2"]),
            ("ImageType", ("P", "M"), ["2", "1"]),
            ("EchoNumbers", ("1", "Doe"), ["1", "2"]),
            ("DiffusionBValue", ("nan", "5"), ["2", "1"]),
            ("DiffusionBValue", ("nan", "2", ""), ["2", "1", "none"]),
            ("EchoTime", ("1_0e", "inf"), ["2", "1"]),
        ],
    )
    def test_texts_and_times_become_their_rank(
        self, keyword: str, values: tuple[str, ...], ranks: list[str]
    ) -> None:
        assert told(keyword, *values) == ranks

    def test_ranks_count_in_the_whole_series(self) -> None:
        series = [
            ((("ImageType", kind), ("ConvolutionKernel", kernel)),
             [a_slice(ImageType=kind, ConvolutionKernel=kernel)])
            for kind, kernel in (("A", "x"), ("A", "z"), ("B", "y"))
        ]  # fmt: skip

        assert [[rank for _, rank in split] for split in distinguishing_values(series)] == [
            ["1", "1"], ["1", "3"], ["2", "2"],
        ]  # fmt: skip

    @given(
        st.sampled_from(["StackID", "EchoTime", "FilterType", "DiffusionBValue"]),
        st.lists(
            st.text(max_size=9) | st.sampled_from(["none", "nan", "1", "2"]),
            min_size=1,
            unique=True,
        ),
    )
    def test_values_that_differ_are_told_apart_without_a_letter_of_them(
        self, keyword: str, values: list[str]
    ) -> None:
        shown = told(keyword, *values)

        assert len(set(shown)) == len(values)
        numbers = {value for value in values if natural(value)[0] < float("inf")}
        own = {"none"} | (numbers if keyword in ("EchoTime", "DiffusionBValue") else set())
        assert all(rank.isdigit() or rank in own for rank in shown)


class TestNameOf:
    def test_says_the_series_and_what_the_volume_was_told_by(self) -> None:
        assert name_of("1.2", ()) == "1.2"
        assert name_of("1.2", (("EchoTime", "5"), ("StackID", "1"))) == "1.2_EchoTime-5_StackID-1"


class TestNatural:
    @given(st.lists(st.text(max_size=9)))
    def test_any_values_have_an_order(self, values: list[str]) -> None:
        backwards = list(reversed(values))

        assert sorted(backwards, key=natural) == sorted(values, key=natural)


class TestSafe:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("1.5", "1.5"),
            ("M\\DIXON", "M_DIXON"),
            ("../../etc", ".._.._etc"),
            ("", "none"),
            ("\0", "_"),
        ],
    )
    def test_a_value_becomes_part_of_a_file_name(self, value: str, expected: str) -> None:
        assert safe_name(value) == expected

    def test_long_values_stay_apart_and_short(self) -> None:
        names = {safe_name("A" * 500 + end) for end in ("1", "2")}

        assert len(names) == 2
        assert {len(name) for name in names} == {64}
