"""Which columns of a table a scikit-learn model takes by name, and which of them hold text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from headrace.protocol.messages import TensorMetadata


def columns_by_name(model: Any) -> list[str] | None:
    """The names of the columns, if the model selects them by name; None if an array will do."""
    names = getattr(model, "feature_names_in_", None)
    if names is None or not _selects_by_name(model):
        return None
    return [str(name) for name in names]


def columns_metadata(model: Any, names: list[str]) -> list[TensorMetadata] | None:
    """One input for each column, if some hold text; None if all hold numbers."""
    texts = set(_texts(model, names))
    if not texts:
        return None
    return [
        TensorMetadata(name, "BYTES", [-1], {"content_type": "str"})
        if name in texts
        else TensorMetadata(name, "FP64", [-1])
        for name in names
    ]


def _first(model: Any) -> Any:
    """The first step of a pipeline, or the model itself."""
    while getattr(model, "steps", None):
        model = model.steps[0][1]
    return model


def _selects_by_name(model: Any) -> bool:
    first = _first(model)
    chosen = [columns for _, _, columns in getattr(first, "transformers", ())]
    by_name = any(isinstance(each, str) or _holds_text(each) or callable(each) for each in chosen)
    return by_name or bool(list(_texts(model, [str(n) for n in model.feature_names_in_])))


def _holds_text(columns: Any) -> bool:
    return isinstance(columns, (list, tuple)) and any(isinstance(each, str) for each in columns)


def _texts(model: Any, names: list[str]) -> Iterator[str]:
    """The names of the columns that some step has learnt text from."""
    first = _first(model)
    places = getattr(first, "_transformer_to_input_indices", None)
    if places is None:
        yield from _learnt_from(_steps(model), names)
        return
    for label, step, _ in first.transformers_:
        found = [names[place] for place in places.get(label, ())]
        yield from _learnt_from(_steps(step), found)


def _steps(model: Any) -> list[Any]:
    return [step for _, step in getattr(model, "steps", ())] or [model]


def _learnt_from(steps: list[Any], names: list[str]) -> Iterator[str]:
    """The columns among `names` whose categories or words the first steps know."""
    for step in steps:
        if hasattr(step, "vocabulary_"):
            yield from names
            return
        kept = getattr(step, "categories_", getattr(step, "statistics_", None))
        if kept is None:
            continue
        for name, values in zip(names, kept):
            if _is_text(values):
                yield name
        return


def _is_text(values: Any) -> bool:
    values = np.asarray(values, object).ravel()
    return any(isinstance(value, str) for value in values)
