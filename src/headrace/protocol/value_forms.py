"""The form of a Python value: what its tensors and their content type do not say of it.

A form is None, text, or a dict with one key, and has a JSON form itself. `headrace.codecs.values`
makes forms of values and values of forms; here is what the batcher needs to know.

| form | the value |
|---|---|
| None | what the content type says: an array, a DataFrame, a dict of arrays, JSON |
| `list`, `tuple` | its elements need nothing further |
| `{"list": [...]}`, `{"tuple": [...]}` | its elements have these forms |
| `{"each": form}` | a list whose elements all have this form |
| `{"dict": [[key, form], ...]}` | a dict with these keys in this order |
| `{"series": [name, dtype]}` | a Series; the dtype is given for times |
| `{"frame": [columns, [[position, dtype], ...]]}` | a DataFrame: other names than text, times |
| `item`, `{"number": dtype}` | a single value, which is Python's or numpy's |
| `{"array": dtype}` | an array of text, bytes or times, or one inside of JSON |
| `{"masked": dtype}` | a masked array |
| `{"image": mode}`, `torch` | an image of Pillow, a tensor of PyTorch |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Form = Any


def is_tuple(form: Form) -> bool:
    """Whether the value is a tuple."""
    return form == "tuple" or isinstance(form, dict) and "tuple" in form


def is_by_row(form: Form) -> bool:
    """Whether values of this form can be put one after the other, and taken apart again."""
    if isinstance(form, dict):
        ((kind, inner),) = form.items()
        if kind == "dict":
            return all(is_by_row(each) for _, each in inner)
        return kind in ("array", "each", "frame", "masked", "series")
    return form in (None, "list", "torch")


def split(form: Form, counts: Sequence[int]) -> list[Form]:
    """The form of each part of a value that is taken apart into so many rows."""
    if not isinstance(form, dict):
        return [form] * len(counts)
    ((kind, inner),) = form.items()
    if kind == "dict":
        columns = [(key, split(each, counts)) for key, each in inner]
        return [
            {"dict": [[key, column[index]] for key, column in columns]}
            for index in range(len(counts))
        ]
    if kind == "list":
        parts, start = [], 0
        for count in counts:
            parts.append({"list": inner[start : start + count]})
            start += count
        return parts
    return [form] * len(counts)
