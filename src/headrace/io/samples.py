"""The descriptor for values like a sample."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import numpy as np

from headrace.io.descriptor import Descriptor
from headrace.io.json_value import JSON
from headrace.io.numpy_ndarray import NumpyNdarray
from headrace.io.pandas_dataframe import PandasDataFrame
from headrace.io.pandas_series import PandasSeries
from headrace.io.pil_image import Image
from headrace.io.plain_text import Text
from headrace.io.uploaded_file import File


def descriptor_of_sample(sample: Any) -> Descriptor:
    """The descriptor for values like a sample, with the sample as its example."""
    if isinstance(sample, Descriptor):
        return sample
    if isinstance(sample, np.ndarray):
        return NumpyNdarray.from_sample(sample)
    if isinstance(sample, str):
        return Text.from_sample(sample)
    if isinstance(sample, (bytes, Path)) or hasattr(sample, "read"):
        return File.from_sample(sample)
    cls = type(sample)
    if is_class(cls, "pandas", "DataFrame"):
        return PandasDataFrame.from_sample(sample)
    if is_class(cls, "pandas", "Series"):
        return PandasSeries.from_sample(sample)
    if any(is_class(each, "PIL", "Image") for each in cls.__mro__):
        return Image.from_sample(sample)
    return JSON.from_sample(sample)


def is_class(plain: Any, package: str, name: str) -> bool:
    """Whether a type is the class `name` of a package, or a module of that name, unimported."""
    if isinstance(plain, types.ModuleType):
        return plain.__name__ == f"{package}.{name}"
    module = str(getattr(plain, "__module__", ""))
    return module.partition(".")[0] == package and getattr(plain, "__name__", "") == name
