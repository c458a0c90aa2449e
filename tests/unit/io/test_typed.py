"""Descriptors from annotations."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, Optional, Union

import msgspec
import numpy as np
import numpy.typing
import pandas as pd
import PIL.Image
import pytest
from pydantic import BaseModel

from headrace.errors import InvalidInput
from headrace.io import (
    JSON,
    Arguments,
    File,
    Image,
    Multipart,
    NumpyNdarray,
    PandasDataFrame,
    PandasSeries,
    Shape,
    Text,
    endpoint_descriptors,
)
from headrace.io.typed import descriptor_of


class Wine(BaseModel):
    sugar: float


class Order(msgspec.Struct):
    number: int


def test_an_array_is_enforced_as_it_is_annotated():
    def classify(x: Annotated[np.ndarray, Shape(-1, 4), "float64"]) -> np.ndarray: ...

    described, answer = endpoint_descriptors(classify)
    assert described.decode(b"[[5.9,3,5.1,1.8]]", {}).dtype == "float64"
    assert isinstance(answer, NumpyNdarray)
    with pytest.raises(InvalidInput, match=r"expected an array of shape \(\*, 4\), got \(1, 1\)"):
        described.decode(b"[[1]]", {})
    with pytest.raises(InvalidInput, match="expected elements of float64"):
        described.decode(b'[["a","b","c","d"]]', {})


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (np.ndarray, NumpyNdarray),
        (numpy.typing.NDArray[np.float32], NumpyNdarray),
        (pd.DataFrame, PandasDataFrame),
        (pd.Series, PandasSeries),
        (str, Text),
        (bytes, File),
        (BinaryIO, File),
        (io.BytesIO, File),
        (Path, File),
        (PIL.Image.Image, Image),
        (PIL.Image, Image),
        (dict, JSON),
        (list, JSON),
        (dict[str, list[float]], JSON),
        (Optional[int], JSON),  # noqa: UP045
        (int | None, JSON),
        (Union[int, str], JSON),  # noqa: UP007
        (Literal["a", "b"], JSON),
        (float, JSON),
        (None, JSON),
        (Any, JSON),
        (Wine, JSON),
        (list[Wine], JSON),
        (Order, JSON),
        (Annotated[Any, Text()], Text),
    ],
)
def test_a_type_has_its_descriptor(hint, expected):
    assert type(descriptor_of(hint)) is expected


def test_the_element_type_of_an_array_alias_is_enforced():
    descriptor = descriptor_of(numpy.typing.NDArray[np.float32])

    assert (descriptor.dtype, descriptor.enforce_dtype) == (np.dtype("float32"), True)


def test_the_columns_of_a_frame_are_enforced():
    descriptor = descriptor_of(Annotated[pd.DataFrame, {"a": "int64"}, Shape(-1, 1)])

    assert descriptor.decode(b'[{"a": 1}]', {})["a"].tolist() == [1]
    for body in (b'[{"b": 1}]', b'[{"a": "x"}]', b'[{"a": 1, "b": 1}]'):
        with pytest.raises(InvalidInput):
            descriptor.decode(body, {})


@pytest.mark.parametrize(
    ("hint", "value", "words"),
    [
        (Optional[int], "a", "the body: expected integer, got string"),  # noqa: UP045
        (Union[int, str], [], "the body: expected integer or string, got array"),  # noqa: UP007
        (Literal["a", 1], "b", "the body: expected one of 'a', 1"),
        (Literal[1], True, "the body: expected one of 1"),
        (list[Wine], [{"sugar": 1}, {}], r"the body at \[1\] is not a Wine: sugar: Field required"),
        (dict[str, int], {"a": 1.5}, r"the body at \.a: expected integer, got number"),
        (None, 1, "the body: expected null, got integer"),
        (bool, 1, "the body: expected boolean, got integer"),
        (list[list[int]], [[1], ["a"]], r"the body at \[1\]\[0\]: expected integer, got string"),
    ],
)
def test_a_value_of_another_type_is_refused_by_its_place(hint, value, words):
    with pytest.raises(InvalidInput, match=words):
        descriptor_of(hint).decode(json.dumps(value).encode(), {})


def test_values_have_the_annotated_type():
    assert descriptor_of(float).decode(b"1", {}) == 1.0
    assert type(descriptor_of(float).decode(b"1", {})) is float
    assert descriptor_of(set[int]).decode(b"[1,1]", {}) == {1}
    assert descriptor_of(list[Wine]).decode(b'[{"sugar":1}]', {}) == [Wine(sugar=1)]
    assert descriptor_of(Optional[int]).decode(b"null", {}) is None  # noqa: UP045


def test_several_parameters_are_an_object_by_name_and_defaults_may_be_left_out():
    def predict(x: np.ndarray, wine: Wine, k: int = 3, *, ctx: Any = None) -> dict: ...

    described = endpoint_descriptors(predict).input
    assert isinstance(described, Arguments)
    found = described.decode(b'{"x": [1], "wine": {"sugar": 1}}', {})
    assert (found["x"].tolist(), found["wine"], "k" in found) == ([1], Wine(sugar=1), False)
    schema = described.openapi_schema()
    assert (list(schema["properties"]), schema["required"]) == (["x", "wine", "k"], ["x", "wine"])


def test_a_file_among_several_parameters_makes_a_form():
    def label(picture: PIL.Image.Image, note: str, k: int = 3) -> str: ...

    described = endpoint_descriptors(label).input
    assert isinstance(described, Multipart)
    body = Multipart(picture=Image(mime_type="image/png"), note=Text()).encode(
        {"picture": PIL.Image.new("L", (3, 2)), "note": "a"}
    )
    found = described.decode(body.body, {"content-type": body.content_type})
    assert (found["picture"].size, found["note"], "k" in found) == ((3, 2), "a", False)


def test_an_endpoint_without_parameters_needs_no_body():
    def version(context) -> str: ...

    described = endpoint_descriptors(version).input
    assert (described.decode(b"", {}), described.decode(b"{}", {})) == ({}, {})
    assert described.openapi_request()["required"] is False


def unknown(x: Unknown) -> int: ...  # type: ignore[name-defined]  # noqa: F821


def bare(x) -> int: ...


def silent(x: int): ...


def spread(*x: int) -> int: ...


def strange(x: complex) -> int: ...


def shaped(x: Annotated[str, Shape(1)]) -> int: ...


def twice(x: Annotated[np.ndarray, "float32", "int8"]) -> int: ...


def wrong(x: Annotated[np.ndarray, "nonsense"]) -> int: ...


def keyed(x: dict[int, str]) -> int: ...


def fixed(x: tuple[int, str]) -> int: ...


def answer(x: int) -> object.__class__: ...


def mixed(x: int, y: Annotated[Any, Multipart(a=Text())]) -> int: ...


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (unknown, "unknown: an annotation cannot be resolved: name 'Unknown' is not defined"),
        (bare, "bare: parameter 'x' has no annotation, expected numpy.ndarray, pandas"),
        (silent, "silent: the return value has no annotation"),
        (spread, "spread: parameter 'x' stands for any number of arguments"),
        (strange, "strange: parameter 'x': complex has no form in JSON; expected numpy.nda"),
        (shaped, "shaped: parameter 'x': <class 'str'> has no shape"),
        (twice, "twice: parameter 'x': an array has one dtype"),
        (wrong, "wrong: parameter 'x': 'nonsense' is neither a Shape nor a dtype"),
        (keyed, "parameter 'x': .* the keys of a JSON object are str"),
        (fixed, "parameter 'x': .* a tuple of fixed length is not checked"),
        (answer, "answer: the return value: type has no form in JSON"),
        (mixed, "mixed: parameter 'y' must be the only one"),
    ],
)
def test_what_has_no_descriptor_is_refused_when_the_endpoint_is_defined(function, words):
    with pytest.raises(TypeError, match=words):
        endpoint_descriptors(function)
