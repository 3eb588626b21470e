"""Clicks and boxes as clients send them, and the plane that they lie in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from esp_medsam.errors import OptionError
from esp_medsam.grid import Grid
from esp_medsam.inferers.prompted import Box, Click
from esp_medsam.orientation import PLANES, display_of
from esp_medsam.setting_checks import Settings


Index = Annotated[int, Field(ge=0, lt=2**20)]
Point = tuple[Index, Index, Index]
Points = Annotated[tuple[Point, ...], Field(max_length=1000)]


class _Sent(Settings):
    """What a client sends: voxels by column, row and slice, as in its files.

    Attributes:
        foreground: Voxels inside the target.
        background: Voxels outside.
        roi: First and last column, row and slice of a box; empty for none.
        slice: The slice that is shown, in which a box lies.
    """

    foreground: Points = ()
    background: Points = ()
    roi: tuple[()] | tuple[Index, Index, Index, Index, Index, Index] = ()
    slice: Index | None = None


class Prompts(NamedTuple):
    """Prompts on the axes of an image.

    Attributes:
        given: Clicks and boxes.
        slice: Index of their slice.
    """

    given: tuple[Click | Box, ...]
    slice: int


def prompts_of(request: Mapping[str, Any], *, of_picture: bool) -> Prompts:
    """Return the prompts of a request, which must lie in one slice along the file's third axis.

    Args:
        request: ``foreground``, ``background``, ``roi`` and ``slice`` as 3D Slicer sends them.
        of_picture: Whether the image is a picture, whose rows come first here.

    Raises:
        OptionError: If they are not valid, lie in several slices, or there are none.
    """
    given = {name: request.get(name) for name in _Sent.model_fields}
    sent = _Sent.of(**{name: value for name, value in given.items() if value is not None})
    voxels = [*sent.foreground, *sent.background]
    slices = {voxel[2] for voxel in voxels}
    if sent.slice is not None:
        slices.add(sent.slice)
    elif sent.roi:
        slices.add(sent.roi[4])
    if len(slices) != 1 or not (voxels or sent.roi):
        msg = "foreground, background and roi must lie in one slice, and at least one be given; "
        raise OptionError(msg + f"got {len(slices)} slices.")
    (place,) = slices

    def on_axes(column: int, row: int) -> tuple[int, ...]:
        return (row, column) if of_picture else (column, row, place)

    prompts: list[Click | Box] = []
    if sent.roi:
        left, right, top, bottom, *_ = sent.roi
        prompts.append(Box(on_axes(left, top), on_axes(right, bottom)))
    prompts += [Click(on_axes(*voxel[:2])) for voxel in sent.foreground]
    prompts += [Click(on_axes(*voxel[:2]), is_inside=False) for voxel in sent.background]
    return Prompts(tuple(prompts), place)


def plane_along_third_axis(grid: Grid) -> str | None:
    """Return the plane whose slices follow each other along a file's third axis.

    Args:
        grid: Grid of the image; of a picture there is none.

    Returns:
        One of :data:`~esp_medsam.orientation.PLANES`; None for a picture, or without an affine.

    Raises:
        OptionError: If no plane does.
    """
    if not grid.is_volume or grid.affine is None:
        return None
    for plane in PLANES:
        if display_of(grid.shape, grid.affine, plane).slice_axis == 2:
            return plane
    msg = "image must have slices along its third axis for clicks; its axes are turned otherwise."
    raise OptionError(msg)
