"""Make dictionary transforms from array transforms."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from inspect import Parameter, Signature, getdoc, signature
from typing import Any, ClassVar, TypeVar, overload

from monai.config import KeysCollection
from monai.transforms import Crop, Cropd, MapTransform
from monai.utils import TransformBackends

from esp_medsam.transforms.slices import CropToFound, SliceTransform


_Form = TypeVar("_Form", bound=MapTransform)


class SliceTransformd(MapTransform):
    """Base of the dictionary forms of transforms that change values.

    Args:
        keys: Keys of slices ``(C, rows, columns)``.
        allow_missing_keys: Whether to skip missing keys.
        options: Options of the array form.
    """

    backend = [TransformBackends.TORCH]
    array: ClassVar[type[SliceTransform]]

    def __init__(
        self, keys: KeysCollection, *, allow_missing_keys: bool = False, **options: Any
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = self.array(**options)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with each slice changed."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.transform(result[key])
        return result


class SliceCropd(Cropd):
    """Base of the dictionary forms of crops; ``inverse`` puts every key's slice back.

    Args:
        keys: Keys of slices of one size: an image and what lies over it.
        allow_missing_keys: Whether to skip missing keys.
        options: Options of the array form.
    """

    array: ClassVar[type[Crop]]

    def __init__(
        self, keys: KeysCollection, *, allow_missing_keys: bool = False, **options: Any
    ) -> None:
        super().__init__(keys, self.array(**options), allow_missing_keys)


class CropToFoundd(SliceCropd):
    """Base of the dictionary forms of crops that find a box in one slice and crop all keys to it.

    Args:
        keys: Keys of slices of one size: an image and what lies over it.
        source_key: Key of the slice in which the box is found; None means the first key.
        allow_missing_keys: Whether to skip missing keys.
        options: Options of the array form.
    """

    array: ClassVar[type[CropToFound]]
    cropper: CropToFound

    def __init__(
        self,
        keys: KeysCollection,
        *,
        source_key: str | None = None,
        allow_missing_keys: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(keys, allow_missing_keys=allow_missing_keys, **options)
        self.source_key = self.keys[0] if source_key is None else source_key

    @property
    def requires_current_data(self) -> bool:
        """Whether the pixels are needed: the box depends on them."""
        return True

    def __call__(
        self, data: Mapping[Hashable, Any], lazy: bool | None = None
    ) -> dict[Hashable, Any]:
        """Return the data with each slice cropped to the box."""
        box = self.cropper.find(data[self.source_key])
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = Crop.__call__(self.cropper, result[key], slices=box, lazy=lazy)
        return result


@overload
def dictionary_form(array: type[SliceTransform]) -> type[SliceTransformd]: ...
@overload
def dictionary_form(array: type[CropToFound]) -> type[CropToFoundd]: ...
@overload
def dictionary_form(array: type[Crop]) -> type[SliceCropd]: ...
def dictionary_form(array: type[SliceTransform] | type[Crop]) -> type[MapTransform]:
    """Return the dictionary form of an array form, to be bound to its name plus ``d``.

    The dictionary form takes ``keys``, ``allow_missing_keys``, and the array form's own options by
    name. For a crop that finds its box, it also takes ``source_key``.

    Args:
        array: A transform of this package, or your own on the same base class.
    """
    if issubclass(array, SliceTransform):
        return _derived_class(SliceTransformd, array)
    return _derived_class(CropToFoundd if issubclass(array, CropToFound) else SliceCropd, array)


def _derived_class(base: type[_Form], array: type[SliceTransform] | type[Crop]) -> type[_Form]:
    """Return a subclass that help() and pickle treat like one written by hand."""
    options = [
        option.replace(kind=Parameter.KEYWORD_ONLY)
        for option in signature(array).parameters.values()
    ]
    keys, *own = (
        parameter
        for parameter in signature(base).parameters.values()
        if parameter.kind is not Parameter.VAR_KEYWORD
    )
    summary = f"Dictionary form of :class:`{array.__name__}`, which says what the options mean."
    arguments = (getdoc(base) or "").partition("\nArgs:\n")[2]
    return type(
        f"{array.__name__}d",
        (base,),
        {
            "array": array,
            "__module__": array.__module__,
            "__doc__": f"{summary}\n\nArgs:\n{arguments}",
            "__signature__": Signature([keys, *options, *own]),
        },
    )
