"""Values that a runner may be given, and a model may return."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

VALUES: dict[str, Any] = {
    "floats": np.arange(6, dtype=np.float32).reshape(2, 3),
    "booleans": np.array([[True], [False]]),
    "an array of text": np.array([["a", "é"], ["", "b"]]),
    "an array of times": np.array(["2024-01-01", "2024-01-02T03:04:05"], "datetime64[s]"),
    "an array of durations": np.array([1, 90, -5], "timedelta64[m]"),
    "durations of nanoseconds": np.array([1, 1_500_000_000, "NaT"], "timedelta64[ns]"),
    "masked integers": np.ma.array([[1, 2**53 + 1]], mask=[[True, False]]),
    "masked floats": np.ma.array([0.5, 2.5], mask=[False, True]),
    "masked times": np.ma.array(
        np.array(["2024-01-01", "2024-01-02"], "datetime64[s]"), mask=[False, True]
    ),
    "a tuple of masked arrays": (np.ma.array([1, 2], mask=[True, False]), np.ones(2)),
    "integers that no datatype holds": [-1, 2**64 - 1],
    "no rows": np.zeros((0, 4)),
    "a frame": pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": [0.5, 1.5]}),
    "a frame without names": pd.DataFrame([[1.0, 2.0], [3.0, 4.0]]),
    "a frame with two levels of names": pd.DataFrame(
        [[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("a", 2)])
    ),
    "a frame with times": pd.DataFrame({"at": pd.to_datetime(["2024-01-01", None])}),
    "a frame with missing integers": pd.DataFrame(
        {"a": pd.array([2**53 + 1, None], "Int64"), "b": pd.array([True, None], "boolean")}
    ),
    "a frame without rows": pd.DataFrame({"a": [], "b": []}),
    "a series": pd.Series([1.5, 2.5], name="weight"),
    "a series of times": pd.Series(
        np.array(["2024-01-01", "NaT", "2024-01-02T03:04:05.5"], "datetime64[ns]")
    ),
    "a series without a name": pd.Series(["a", "b"]),
    "a list": [1, 2, 3],
    "an empty list": [],
    "a list of lists": [[1, 2], [3, 4]],
    "a ragged list": [[1], [2, 3]],
    "a list of anything": [1, "a", None, {"b": [2]}],
    "a list of text": ["a", "b"],
    "a list of bytes": [b"a", b"\xff"],
    "a list of arrays": [np.ones(2, np.float32), np.zeros(2, np.float32)],
    "a ragged list of arrays": [np.ones(2, np.float32), np.zeros(3, np.float32)],
    "a list of scores": [{"label": "a", "score": 0.25}],
    "a list of tuples": [("a", 1), ("b", 2)],
    "a tuple of arrays": (np.ones(2, np.float32), np.zeros((3, 1), np.int64)),
    "a tuple of one array": (np.ones(2),),
    "a tuple": (1, "a"),
    "a tuple of an array and text": (np.ones(2, np.float32), "label"),
    "an integer": 3,
    "a float": 0.5,
    "a boolean": True,
    "numpy's number": np.float32(0.5),
    "text": "some text",
    "bytes": b"\x00\xff",
    "none": None,
    "a dict of arrays": {"a": np.ones(2, np.float32), "b": np.zeros((2, 3))},
    "a dict of lists": {"a": [1, 2], "b": ["x", "y"]},
    "a dict of anything": {"a": {"b": None}, "c": [1, "x"], "d": 0.5},
    "a dict with an array in it": {"scores": np.ones(2, np.float32), "label": "x"},
    "a dict with numbers as keys": {0: 0.25, 1: 0.75},
    "a dict of numpy's numbers": {"mean": np.float64(0.5), "count": np.int32(3)},
    "an image": Image.new("RGB", (4, 3), (1, 2, 3)),
    "a grey image": Image.new("L", (4, 3), 7),
    "a list of images": [Image.new("RGB", (2, 2), (n, 0, 0)) for n in range(2)],
}


def same(found: Any, expected: Any) -> bool:
    """Whether two values are equal, and so are their types."""
    if type(found) is not type(expected):
        return False
    if isinstance(expected, np.ma.MaskedArray):
        masks = np.ma.getmaskarray(found), np.ma.getmaskarray(expected)
        return np.array_equal(*masks) and np.array_equal(found.compressed(), expected.compressed())
    if isinstance(expected, np.ndarray) and expected.dtype.kind == "m":
        return found.dtype == expected.dtype and found.tolist() == expected.tolist()
    if isinstance(expected, np.ndarray):
        return found.dtype.kind == expected.dtype.kind and np.array_equal(found, expected)
    if isinstance(expected, (pd.DataFrame, pd.Series)):
        return bool(found.equals(expected)) and getattr(found, "name", 0) == getattr(
            expected, "name", 0
        )
    if isinstance(expected, dict):
        return list(found) == list(expected) and all(same(found[k], expected[k]) for k in found)
    if isinstance(expected, (list, tuple)):
        return len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(expected, Image.Image):
        return found.mode == expected.mode and found.tobytes() == expected.tobytes()
    return bool(found == expected)
