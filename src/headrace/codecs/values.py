"""Forms of Python values, and values restored by them: a runner returns what its model did.

See `headrace.protocol.value_forms` for what the forms are.
"""

from __future__ import annotations

import base64
import importlib
from functools import cache
from typing import Any, Callable

import numpy as np

from headrace.codecs import image
from headrace.protocol.value_forms import Form

# What JSON and arrays of cells give back as it was.
_PLAIN = frozenset((bool, int, float, str, type(None)))
_IMAGE_DTYPES = {"L": "u1", "RGB": "u1", "RGBA": "u1", "CMYK": "u1", "YCbCr": "u1", "F": "<f4",
                 "I": "<i4"}  # fmt: skip


def form_of(value: Any) -> Form:
    """The form of a value that `encode_response` has made tensors of.

    Without a form, a value such as a data class or a table in a dict comes back as JSON has it.
    """
    try:
        return _form(value, is_whole=True)
    except RecursionError:
        return None


def restored(base: Any, form: Form) -> Any:
    """The value of a form, from what the content type made of its tensors."""
    if form is None:
        return base
    if form == "list":
        return _elements(base)
    if form == "tuple":
        return tuple(_elements(base))
    if form == "item":
        return _only(base)
    if form == "bytes":
        return base64.b64decode(base)
    if form == "torch":
        return _torch(base)
    ((kind, inner),) = form.items()
    return _RESTORE[kind](base, inner)


def is_image_to_send(value: Any) -> bool:
    """Whether the value is an image of Pillow whose pixels are an array."""
    return image.is_image(value) and value.mode in _IMAGE_DTYPES


def is_torch(value: Any) -> bool:
    """Whether the value is a tensor of PyTorch; does not import it."""
    return type(value).__module__ == "torch" and hasattr(value, "detach")


def as_array(value: Any) -> Any:
    """An image, or a tensor of another library, as an array; anything else as it is."""
    if isinstance(value, np.ndarray):
        return value
    if is_torch(value):
        return value.detach().cpu().numpy()
    # Arrow would make floats of integers some of which are missing.
    is_foreign = hasattr(value, "__array__") and not (
        hasattr(value, "iloc") or hasattr(value, "to_pylist")
    )
    if is_image_to_send(value) or (is_foreign and not isinstance(value, np.generic)):
        return np.asarray(value)
    return value


def _form(value: Any, is_whole: bool = False) -> Form:
    """Of a value that has tensors of its own or, if not `is_whole`, is inside of one."""
    if isinstance(value, np.generic):
        return {"number": value.dtype.str}
    if isinstance(value, (bytes, bytearray)):
        return "item" if is_whole else "bytes"
    if isinstance(value, (bool, int, float, str)):
        return "item" if is_whole else None
    if isinstance(value, np.ndarray):
        return _array_form(value, is_whole)
    if isinstance(value, (list, tuple)):
        return _sequence_form(value, is_whole)
    if isinstance(value, dict):
        return _dict_form(value)
    if is_image_to_send(value):
        return {"image": value.mode}
    if is_torch(value):
        return "torch"
    if is_whole and hasattr(value, "iloc") and hasattr(value, "columns"):
        return _frame_form(value)
    if is_whole and hasattr(value, "iloc"):
        return _series_form(value)
    return None


def _frame_form(value: Any) -> Form:
    """The columns, if they are not all text, as the names of tensors are, and which hold NaT."""
    columns = [list(each) if isinstance(each, tuple) else each for each in value.columns.tolist()]
    names = [name for each in columns for name in (each if isinstance(each, list) else [each])]
    found = ((i, _time_dtype(value.iloc[:, i])) for i in range(len(columns)))
    times = [[i, dtype] for i, dtype in found if dtype is not None]
    is_text = all(type(each) is str for each in columns)
    if is_text or not set(map(type, names)) <= _PLAIN:
        return {"frame": [None, times]} if times else None
    return {"frame": [columns, times]}


def _series_form(value: Any) -> Form:
    name = value.name if type(value.name) in _PLAIN else str(value.name)
    return {"series": [name, _time_dtype(value)]}


def _time_dtype(series: Any) -> str | None:
    """The dtype of times that would come back with another one: of a coarser unit, or with NaT."""
    dtype = series.dtype
    if not isinstance(dtype, np.dtype) or dtype.kind != "M":
        return None
    return str(dtype) if series.isna().any() or str(dtype) != "datetime64[ns]" else None


def _array_form(value: np.ndarray[Any, Any], is_whole: bool) -> Form:
    kind = value.dtype.kind
    if isinstance(value, np.ma.MaskedArray):
        return None if kind in "OV" else {"masked": value.dtype.str}
    if kind == "T":
        return {"array": "T"}
    if kind in "OV" or (is_whole and kind in "biuf"):
        return None
    return {"array": kind if kind in "US" else value.dtype.str}


def _sequence_form(value: Any, is_whole: bool) -> Form:
    name = "list" if isinstance(value, list) else "tuple"
    types = set(map(type, value))
    if types <= _PLAIN or (is_whole and types == {bytes}):
        return name
    # The arrays in a tuple have tensors of their own; those in a list are its rows.
    are_outputs = name == "tuple" and all(issubclass(each, np.ndarray) for each in types)
    forms = [_form(each, are_outputs) for each in value]
    if not any(form is not None for form in forms):
        return name
    if name == "list" and all(form == forms[0] for form in forms):
        return {"each": forms[0]}
    return {name: forms}


def _dict_form(value: dict[Any, Any]) -> Form:
    # An output each, or one JSON value; see `encode_response`.
    are_outputs = all(isinstance(each, (np.ndarray, list)) for each in value.values())
    pairs = [
        [key.item() if isinstance(key, np.generic) else key, _form(each, are_outputs)]
        for key, each in value.items()
    ]
    plain = all(type(key) is str and form is None for key, form in pairs)
    if plain or not all(type(key) in _PLAIN for key, _ in pairs):
        return None
    return {"dict": pairs}


def _elements(base: Any) -> list[Any]:
    if isinstance(base, np.ndarray):
        found: list[Any] = base.tolist()
        return found
    return list(base.values()) if isinstance(base, dict) else list(base)


def _rows(base: Any) -> list[Any]:
    """The elements, where those of an array keep their dtype."""
    return list(base) if isinstance(base, np.ndarray) else _elements(base)


def _only(base: Any) -> Any:
    while isinstance(base, list):
        (base,) = base
    return base.item() if isinstance(base, np.ndarray) else base


def _series(base: Any, inner: list[Any]) -> Any:
    name, dtype = inner
    found = base.iloc[:, 0] if dtype is None else _times(base.iloc[:, 0], dtype)
    found.name = name
    return found


def _times(series: Any, dtype: str) -> Any:
    import pandas as pd

    return pd.to_datetime(series, format="ISO8601").astype(dtype)


def _frame(base: Any, inner: list[Any]) -> Any:
    import pandas as pd

    columns, times = inner
    for position, dtype in times:
        base.isetitem(position, _times(base.iloc[:, position], dtype))
    if columns is None:
        return base
    has_levels = any(isinstance(each, list) for each in columns)
    base.columns = (
        pd.MultiIndex.from_tuples([tuple(each) for each in columns])
        if has_levels
        else pd.Index(columns)
    )
    return base


def _array(base: Any, dtype: str) -> Any:
    if np.dtype(dtype).kind == "m":
        # Durations have been numbers of seconds.
        units = np.asarray(base, float) * (np.timedelta64(1, "s") / np.ones((), dtype))
        return np.rint(units).astype(dtype)
    return np.asarray(base, dtype)


def _masked(base: Any, dtype: str) -> np.ndarray[Any, Any]:
    """The array whose missing elements are null, or NaN, in what the content type has made."""
    cells: np.ndarray[Any, Any] = np.asarray(base, object)
    missing = np.array([cell is None or cell != cell for cell in cells.flat], bool)
    missing = missing.reshape(cells.shape)
    plain = cells.copy()
    plain[missing] = None if np.dtype(dtype).kind in "Mm" else 0
    return np.ma.array(_array(plain, dtype), mask=missing)


def _number(base: Any, dtype: str) -> Any:
    return np.dtype(dtype).type(_only(base))


def _image(base: Any, mode: str) -> Any:
    from PIL import Image

    pixels = np.asarray(base, _IMAGE_DTYPES[mode])
    return Image.frombytes(mode, (pixels.shape[1], pixels.shape[0]), pixels.tobytes())


def _torch(base: Any) -> Any:
    torch = _pytorch()
    return base if torch is None else torch.from_numpy(np.array(base))


@cache
def _pytorch() -> Any:
    """PyTorch; None where only the model's own environment has it."""
    try:
        return importlib.import_module("torch")
    except ImportError:
        return None


def _dict(base: Any, pairs: list[Any]) -> Any:
    return {key: restored(each, form) for (key, form), each in zip(pairs, base.values())}


def _each(base: Any, form: Form) -> list[Any]:
    return [restored(each, form) for each in _rows(base)]


def _listed(base: Any, forms: list[Form]) -> list[Any]:
    return [restored(each, form) for each, form in zip(_rows(base), forms)]


_RESTORE: dict[str, Callable[[Any, Any], Any]] = {
    "array": _array,
    "dict": _dict,
    "each": _each,
    "frame": _frame,
    "image": _image,
    "list": _listed,
    "masked": _masked,
    "number": _number,
    "series": _series,
    "tuple": lambda base, forms: tuple(_listed(base, forms)),
}
