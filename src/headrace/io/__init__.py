"""Descriptors: what an endpoint of a service takes and returns.

Importing this package needs numpy only; pandas, pydantic, msgspec and Pillow are imported by the
descriptors that need them, when one is made.
"""

from __future__ import annotations

from headrace.io.descriptor import Descriptor, Encoded
from headrace.io.json_value import JSON
from headrace.io.named_values import Arguments, Multipart
from headrace.io.numpy_ndarray import NumpyNdarray
from headrace.io.pandas_dataframe import PandasDataFrame
from headrace.io.pandas_series import PandasSeries
from headrace.io.pil_image import Image
from headrace.io.plain_text import Text
from headrace.io.shape import Shape
from headrace.io.typed import Endpoint, endpoint_descriptors
from headrace.io.uploaded_file import File, Upload

__all__ = [
    "JSON",
    "Arguments",
    "Descriptor",
    "Encoded",
    "Endpoint",
    "File",
    "Image",
    "Multipart",
    "NumpyNdarray",
    "PandasDataFrame",
    "PandasSeries",
    "Shape",
    "Text",
    "Upload",
    "endpoint_descriptors",
]
