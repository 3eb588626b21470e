from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esp_medsam.dicom import DicomSlice, split_series
from esp_medsam.image import SourceInstance


AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)

_numbers = itertools.count()


def make_slice(
    height: float,
    *,
    image_type: tuple[str, ...] = (),
    orientation: tuple[float, float, float, float, float, float] = AXIAL,
    aside: float = 0,
    **dimensions: str,
) -> DicomSlice:
    number = next(_numbers)
    source = SourceInstance(path=f"{number}.dcm", sop_class_uid="1.2", sop_instance_uid=f"{number}")
    return DicomSlice(
        source=source,
        rows=4,
        columns=4,
        position=(aside, 0, height),
        orientation=orientation,
        pixel_spacing=(1, 1),
        image_type=image_type,
        dimensions=tuple(dimensions.items()),
    )


class TestSplitSeries:
    def test_a_plain_stack_stays_whole(self) -> None:
        slices = [make_slice(z, AcquisitionNumber=str(z), ContentTime=f"1000{z}") for z in range(5)]

        assert split_series(slices) == [((), tuple(slices))]

    def test_echoes_become_volumes(self) -> None:
        slices = [
            make_slice(z, EchoNumbers=str(echo), EchoTime=f"{echo * 10}")
            for z in range(4)
            for echo in (2, 1)
        ]

        volumes = split_series(slices)

        assert [split for split, _ in volumes] == [(("EchoNumbers", "1"),), (("EchoNumbers", "2"),)]
        assert all(len(part) == 4 for _, part in volumes)

    def test_b_values_and_then_directions_become_volumes(self) -> None:
        slices = [make_slice(z, DiffusionBValue="0") for z in range(3)]
        slices += [
            make_slice(z, DiffusionBValue="1000", DiffusionGradientOrientation=direction)
            for direction in ("1\\0\\0", "0\\1\\0")
            for z in range(3)
        ]

        names = [split for split, _ in split_series(slices)]

        assert names == [
            (("DiffusionBValue", "0"),),
            (("DiffusionBValue", "1000"), ("DiffusionGradientOrientation", "0\\1\\0")),
            (("DiffusionBValue", "1000"), ("DiffusionGradientOrientation", "1\\0\\0")),
        ]

    def test_numbers_sort_as_numbers(self) -> None:
        slices = [make_slice(0, TemporalPositionIdentifier=str(t)) for t in (10, 9, 1)]

        values = [split[0][1] for split, _ in split_series(slices)]

        assert values == ["1", "9", "10"]

    def test_cine_with_times_of_its_own_at_each_slice_is_split_by_rank(self) -> None:
        slices = [
            make_slice(z, TriggerTime=f"{phase * 40 + z * 0.7:g}")
            for z in range(4)
            for phase in range(3)
        ]

        volumes = split_series(slices)

        assert [split for split, _ in volumes] == [
            (("TriggerTime", f"phase{rank}"),) for rank in (1, 2, 3)
        ]
        for phase, (_, part) in enumerate(volumes):
            assert {dict(s.dimensions)["TriggerTime"] for s in part} == {
                f"{phase * 40 + z * 0.7:g}" for z in range(4)
            }

    def test_an_attribute_that_numbers_the_slices_is_passed_over(self) -> None:
        slices = [
            make_slice(z, AcquisitionNumber=str(2 * z + echo), EchoTime=str(echo))
            for z in range(6)
            for echo in (0, 1)
        ]

        volumes = split_series(slices)

        assert [split for split, _ in volumes] == [(("EchoTime", "0"),), (("EchoTime", "1"),)]

    def test_phase_and_magnitude_are_told_by_type_not_by_time(self) -> None:
        slices = [
            make_slice(z, ImageType=kind, ContentTime=str(100 + 10 * z + (kind == "P") * (-1) ** z))
            for z in range(6)
            for kind in ("M", "P")
        ]

        volumes = split_series(slices)

        assert [split for split, _ in volumes] == [(("ImageType", "M"),), (("ImageType", "P"),)]

    def test_where_nothing_else_tells_phases_the_numbers_of_instances_do(self) -> None:
        slices = [
            make_slice(z, InstanceNumber=str(1 + z + 4 * phase))
            for phase in range(3)
            for z in range(4)
        ]

        volumes = split_series(slices)

        assert [split for split, _ in volumes] == [
            (("InstanceNumber", f"phase{phase}"),) for phase in (1, 2, 3)
        ]
        assert [part for _, part in volumes] == [tuple(slices[k : k + 4]) for k in (0, 4, 8)]

    def test_one_slice_numbered_twice_stays_with_its_stack(self) -> None:
        slices = [make_slice(z, InstanceNumber=str(k)) for k, z in enumerate((0, 1, 2, 2))]

        assert split_series(slices) == [((), tuple(slices))]

    def test_a_real_duplicate_stays_with_its_stack(self) -> None:
        slices = [make_slice(z, ContentTime=str(z)) for z in (0, 1, 2, 2)]

        assert split_series(slices) == [((), tuple(slices))]

    def test_a_duplicate_sent_later_stays_with_its_stack(self) -> None:
        slices = [make_slice(z, ContentTime=str(100 + z)) for z in range(6)]
        slices.append(make_slice(2, ContentTime="900"))

        assert split_series(slices) == [((), tuple(slices))]

    def test_a_localizer_is_a_volume_of_its_own(self) -> None:
        scout = make_slice(0, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
        stack = [make_slice(z, image_type=("ORIGINAL", "PRIMARY", "AXIAL")) for z in range(3)]

        volumes = split_series([*stack, scout])

        assert volumes == [((), tuple(stack)), ((("ImageType", "LOCALIZER"),), (scout,))]

    def test_slices_turned_otherwise_are_volumes_of_their_own(self) -> None:
        stack = [make_slice(z) for z in range(3)]
        other = [make_slice(0, orientation=SAGITTAL, aside=z) for z in range(2)]

        volumes = dict(split_series([*stack, *other]))

        assert volumes == {
            (("ImageOrientationPatient", "1\\0\\0\\0\\1\\0"),): tuple(stack),
            (("ImageOrientationPatient", "0\\1\\0\\0\\0\\-1"),): tuple(other),
        }

    def test_slices_turned_a_little_stay_together(self) -> None:
        slices = [make_slice(0), make_slice(1, orientation=(1.0, 0.001, 0.0, 0.0, 1.0, 0.0))]

        assert len(split_series(slices)) == 1

    @pytest.mark.parametrize("lost", ["position", "orientation"])
    def test_slices_that_lie_nowhere_are_left_together(self, lost: str) -> None:
        slices = [make_slice(z, EchoTime=str(z)) for z in (0, 0)]
        object.__setattr__(slices[1], lost, None)

        assert split_series(slices) == [((), tuple(slices))]

    @settings(max_examples=25, deadline=None)
    @given(
        phases=st.integers(1, 4),
        count=st.integers(1, 5),
        keyword=st.sampled_from(["StackID", "TriggerTime", "EchoNumbers", "ImageType"]),
        data=st.data(),
    )
    def test_each_slice_is_in_one_volume_and_no_place_is_taken_twice(
        self, phases: int, count: int, keyword: str, data: st.DataObject
    ) -> None:
        slices = [make_slice(z, **{keyword: str(p)}) for z in range(count) for p in range(phases)]
        shuffled = data.draw(st.permutations(slices))

        volumes = split_series(shuffled)

        assert len(volumes) == phases
        assert sorted(s.source.path for _, part in volumes for s in part) == sorted(
            s.source.path for s in slices
        )
        for _, part in volumes:
            assert len({s.position for s in part}) == len(part) == count


def alternating(**values: tuple[str, str]) -> list[DicomSlice]:
    """Two stacks of a gap of 2, the second with its slices between those of the first."""
    return [make_slice(z, **{k: v[z % 2] for k, v in values.items()}) for z in range(10)]


class TestVolumesBetweenOneAnother:
    @pytest.mark.parametrize(
        ("keyword", "values"),
        [
            ("AcquisitionNumber", ("2", "3")),
            ("TemporalPositionIdentifier", ("1", "2")),
            ("TriggerTime", ("0", "412.5")),
            ("DiffusionBValue", ("0", "1000")),
            ("EchoTime", ("10", "90")),
            ("InversionTimes", ("120", "900")),
            ("FlipAngle", ("15", "5")),
            ("ConvolutionKernel", ("B30f", "B70f")),
            ("ImageType", ("M", "P")),
            ("KVP", ("80", "140")),
            ("ContrastBolusAgent", ("", "iodine")),
            ("EffectiveEchoTime", ("10", "90")),
            ("LUTLabel", ("1", "2")),  # one of a file's own dimensions
        ],
    )
    def test_are_told_by_whatever_does_not_come_in_one_run(
        self, keyword: str, values: tuple[str, str]
    ) -> None:
        slices = alternating(**{keyword: values})

        volumes = dict(split_series(slices))

        assert volumes == {
            ((keyword, value),): tuple(slices[k::2]) for k, value in enumerate(values)
        }

    def test_of_other_spacings_are_told(self) -> None:
        thick = [make_slice(5 * k, ConvolutionKernel="thick") for k in range(6)]
        thin = [make_slice(1.3 * k + 0.2, ConvolutionKernel="thin") for k in range(19)]

        volumes = split_series([*thick, *thin])

        assert [part for _, part in volumes] == [tuple(thick), tuple(thin)]

    def test_that_overlap_at_an_end_are_told(self) -> None:
        first = [make_slice(5 * k, AcquisitionNumber="1") for k in range(8)]
        second = [make_slice(5 * k + 22, AcquisitionNumber="2") for k in range(8)]

        volumes = split_series([*first, *second])

        assert [part for _, part in volumes] == [tuple(first), tuple(second)]

    def test_are_told_where_a_slice_is_missing(self) -> None:
        slices = alternating(AcquisitionNumber=("1", "2"))
        for gone in (slices[4:5], slices[4:6]):
            left = [part for part in slices if part not in gone]

            volumes = split_series(left)

            assert [part for _, part in volumes] == [
                tuple(part for part in slices[k::2] if part in left) for k in (0, 1)
            ]

    def test_that_follow_a_moving_head_are_told_by_their_time(self) -> None:
        moves = [0, 0.031, -0.012, 0.117, 0.064, -0.083, 0.003, 0.142, -0.055, 0.091]
        slices = [
            make_slice(2 * k + move, TemporalPositionIdentifier=str(time))
            for time, move in enumerate(moves)
            for k in range(4)
        ]

        volumes = split_series(slices)

        assert [len(part) for _, part in volumes] == [4] * 10

    def test_are_split_again_by_what_tells_slices_at_one_place_apart(self) -> None:
        slices = [
            make_slice(2 * k + offset, AcquisitionNumber=f"{offset}", EchoTime=echo)
            for offset in (0, 1)
            for echo in ("10", "90")
            for k in range(4)
        ]

        volumes = split_series(slices)

        assert len(volumes) == 4
        assert {keyword for split, _ in volumes for keyword, _ in split} == {
            "AcquisitionNumber", "EchoTime",
        }  # fmt: skip

    @pytest.mark.parametrize(
        "values",
        [
            "0000011111",  # the table moved once
            "0001112223",
            "0000110000",  # a block of its own amid a stack
            "0011001100",
            "0000101111",  # one slice that states another's
            "0123456789",  # a number of each slice
            "0123401234",  # likewise, in each of two blocks
            "0210320143",  # times that agree by chance
            "0012210012",
        ],
    )
    def test_a_value_that_tells_no_volumes_apart_leaves_a_stack_whole(self, values: str) -> None:
        slices = [make_slice(z, AcquisitionNumber=value) for z, value in enumerate(values)]

        assert split_series(slices) == [((), tuple(slices))]

    @pytest.mark.parametrize(("blocks", "wider"), [(2, 0.0), (2, 1.0), (2, 7.0), (3, 1.0)])
    @pytest.mark.parametrize("missing", [None, 0, 4, 5, 7, 9])
    def test_a_number_in_each_block_leaves_a_stack_with_gaps_whole(
        self, blocks: int, wider: float, missing: int | None
    ) -> None:
        slices = [
            make_slice(z + wider * (z // 5), TriggerTime=str(z % 5))
            for z in range(5 * blocks)
            if z != missing
        ]

        assert split_series(slices) == [((), tuple(slices))]

    @pytest.mark.parametrize("keyword", ["AcquisitionTime", "ContentTime", "InstanceNumber"])
    def test_every_other_slice_taken_first_is_one_volume(self, keyword: str) -> None:
        slices = alternating(**{keyword: ("100000", "100130")})

        assert split_series(slices) == [((), tuple(slices))]

    def test_the_user_says_that_they_are_one(self) -> None:
        slices = alternating(AcquisitionNumber=("1", "2"))

        assert split_series(slices, interleaved=True) == [((), tuple(slices))]


class TestStations:
    @pytest.mark.parametrize("counts", [(5, 4, 5), (5, 5, 5), (1, 1), (3, 1)])
    @pytest.mark.parametrize("shift", [0.0, 0.5, 40.0])  # along the normal from one to the next
    def test_beside_one_another_are_volumes(self, counts: tuple[int, ...], shift: float) -> None:
        groups = [
            tuple(
                make_slice(z + shift * k, aside=60.0 * k, InstanceNumber=str(z)) for z in range(n)
            )
            for k, n in enumerate(counts)
        ]

        volumes = dict(split_series([part for group in groups for part in group]))

        assert volumes == {
            (("ImagePositionPatient", f"{60 * k}\\0\\{shift * k:g}"),): group
            for k, group in enumerate(groups)
        }

    def test_are_told_by_what_they_state(self) -> None:
        slices = [
            make_slice(z, aside=60.0 * k, AcquisitionNumber=str(k + 1))
            for k in range(2)
            for z in range(3)
        ]

        volumes = split_series(slices)

        assert [split for split, _ in volumes] == [
            (("AcquisitionNumber", "1"),), (("AcquisitionNumber", "2"),),
        ]  # fmt: skip

    def test_each_hold_volumes_of_their_own(self) -> None:
        slices = [
            make_slice(z, aside=60.0 * k, EchoTime=echo)
            for k in range(2)
            for z in range(3)
            for echo in ("10", "90")
        ]

        volumes = split_series(slices)

        assert [len(part) for _, part in volumes] == [3] * 4
        assert all(len({part.position for part in group}) == 3 for _, group in volumes)

    def test_a_little_beside_one_another_are_told_where_slices_share_a_depth(self) -> None:
        slices = [make_slice(z, aside=a) for a in (0.0, 3.0) for z in range(4 - int(a) // 3)]
        wide = [replace(part, rows=400, columns=400) for part in slices]

        assert [len(part) for _, part in split_series(wide)] == [4, 3]

    @pytest.mark.parametrize("heights", [range(20), (0, 1, 2, 50, 51, 52), (0, 9)])
    def test_a_gantry_tilt_is_none(self, heights: Sequence[float]) -> None:
        slices = [make_slice(z, aside=0.577 * z) for z in heights]

        assert split_series(slices) == [((), tuple(slices))]
