import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace.errors import InvalidInput
from headrace.executors.shared_memory import SharedMemory
from headrace.protocol import large_buffers
from headrace.protocol.open_inference import large_numbers, rest_data, rest_json, set_aside
from headrace.protocol.open_inference.rest_json import decode_request
from headrace.worker.arena import SUPPORTED


def body(data: str, shape: list[int], datatype: str = "FP32", more: str = "") -> bytes:
    head = f'{{"inputs": [{{"name": "x", "shape": {shape}, "datatype": "{datatype}", '
    return f'{head}"data": {data}{more}}}]}}'.encode()


def outcome(text: bytes) -> Any:
    """The inputs of a request, or None if it is refused."""
    try:
        request = decode_request(text).request
    except InvalidInput:
        return None
    return [
        (each.name, each.datatype, each.shape, bytes(each.data), each.parameters)
        for each in request.inputs
    ]


def read_in_slices(text: bytes, monkeypatch: pytest.MonkeyPatch, size: int = 16) -> Any:
    """The same, if arrays of a few characters are as large as those that are read in slices."""
    with monkeypatch.context() as patched:
        patched.setattr(large_numbers, "SLICE", size)
        patched.setattr(large_numbers, "_WIDE", 8)
        for module in (rest_json, set_aside):
            patched.setattr(module, "SMALLEST", 8)
        patched.setattr(rest_data, "LARGE", 8)
        return outcome(text)


def nested(values: list[str], shape: list[int], comma: str) -> str:
    if not shape:
        return values[0]
    step = len(values) // shape[0]
    parts = [nested(values[i * step : (i + 1) * step], shape[1:], comma) for i in range(shape[0])]
    return "[" + comma.join(parts) + "]"


NUMBERS = st.one_of(
    st.integers(-300, 300).map(str),
    st.sampled_from(["1.0", "-0.0", "1e3", "null", "70000", "1e39", "9007199254740993", "0.1"]),
    st.sampled_from(["18446744073709551615", "-9223372036854775808", "1e400", "true", '"a"']),
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    count = int(np.prod(shape))
    plain = st.integers(0, 9).map(str)
    values = draw(st.lists(plain, min_size=count, max_size=count))
    if draw(st.booleans()):
        values[draw(st.integers(0, count - 1))] = draw(NUMBERS)
    comma = draw(st.sampled_from([",", ", ", " ,\n"]))
    flat = draw(st.booleans())
    data = nested(values, [count] if flat else shape, comma)
    more = draw(st.sampled_from(["", ', "parameters": {"data": [1, 2, 3, 4, 5, 6, 7, 8, 9]}']))
    datatype = draw(st.sampled_from(["FP64", "FP32", "FP16", "BF16", "INT8", "INT64", "UINT64"]))
    return body(data, shape, datatype, more)


@settings(max_examples=300, deadline=None)
@given(text=bodies(), size=st.integers(8, 64))
@example(body("[[1,2],[3,4],[5,6]]", [3, 2]), 8)
@example(body("[[[1],2],[[3],4],[[5],6]]", [3, 2]), 16)
@example(body("[1],[2,3,4,5,6]", [6]), 8)
@example(body("[1,2],3,[4,5,6]", [6]), 8)
@example(body("[[1],[2]],[[3],[4],[5]]", [5, 1]), 8)
@example(body("[" + "[1,2,3,4,5,6]," * 2 + "[1,2,3,4,5,6]]", [3, 6]), 20)
def test_slices_hold_the_same_numbers_as_the_whole(text: bytes, size: int) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert read_in_slices(text, monkeypatch, size) == outcome(text)


@settings(max_examples=600, deadline=None)
@given(text=bodies(), data=st.data())
def test_damaged_arrays_are_refused_in_slices_as_they_are_whole(
    text: bytes, data: st.DataObject
) -> None:
    at = data.draw(st.integers(text.index(b'"data"'), len(text)))
    removed = data.draw(st.integers(0, 2))
    added = data.draw(st.sampled_from(list('[]{},:"\\-.e 1n')) | st.just("[]") | st.just(",,"))
    damaged = text[:at] + added.encode() + text[at + removed :]
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert read_in_slices(damaged, monkeypatch) == outcome(damaged)


@pytest.mark.parametrize("datatype", ["FP32", "FP64", "INT32"])
@pytest.mark.parametrize("form", ["flat", "rows", "columns"])
def test_a_large_array_decodes_exactly(datatype: str, form: str) -> None:
    numbers = np.random.default_rng(0).integers(-1000, 1000, (300, 400)).astype("f8")
    if datatype != "INT32":
        numbers /= 7
    array = numbers.astype({"FP32": "f4", "FP64": "f8", "INT32": "i4"}[datatype])
    if form == "columns":
        array = array.reshape(-1, 3)
    data = json.dumps(array.ravel().tolist() if form == "flat" else array.tolist())
    [(_, _, _, packed, _)] = outcome(body(data, list(array.shape), datatype))
    assert packed == array.tobytes()


def test_the_place_of_a_number_that_does_not_fit_is_named_in_any_slice() -> None:
    values = ["1"] * 200_000
    values[150_001] = "3000000000"
    text = body(nested(values, [1000, 200], ","), [1000, 200], "INT32")
    with pytest.raises(InvalidInput, match="row 750, column 1|750, 1"):
        decode_request(text)


def test_rows_of_one_number_take_a_few_times_the_memory_of_their_text() -> None:
    count = 200_000
    text = body("[" + "[1]," * (count - 1) + "[1]]", [count, 1], "FP64")
    tracemalloc.start()
    [(_, _, _, packed, _)] = outcome(text)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert packed == np.ones(count).tobytes()
    # The numbers are twice as long, and `outcome` has them once more.
    assert peak < 5 * len(text)


@pytest.mark.parametrize("shape", [[20, 40_000], [8000, 100], [1, 8000, 100], [400_000, 2]])
def test_nested_arrays_are_read_in_little_more_memory_than_their_numbers(shape: list[int]) -> None:
    numbers = np.zeros(shape, "i8")
    text = body(json.dumps(numbers.tolist()).replace(" ", ""), shape, "INT64")
    tracemalloc.start()
    request = decode_request(text).request
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert request.inputs[0].data == numbers.tobytes()
    assert peak < 1.2 * numbers.nbytes + 8 * large_numbers.SLICE


def test_rows_in_more_dimensions_than_the_text_has_room_for_are_refused_at_once() -> None:
    count = 20_000
    text = body("[" + "[1]," * (count - 1) + "[1]]", [1, count, *[1] * 30], "FP64")
    tracemalloc.start()
    assert outcome(text) is None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * len(text)


@pytest.mark.skipif(not SUPPORTED, reason="needs memory files")
def test_large_numbers_are_read_into_shared_memory_which_is_free_again_if_they_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = SharedMemory(1024 * 1024)
    monkeypatch.setattr(large_buffers, "_shared", memory)
    values = ["1"] * 50_000
    request = decode_request(body(nested(values, [500, 100], ","), [500, 100], "FP64")).request
    assert memory.offset(request.inputs[0].data) is not None
    values[40_000] = "true"
    assert outcome(body(nested(values, [500, 100], ","), [500, 100], "FP64")) is None
    del request
    assert memory.used == 0
    memory.close()


def test_a_claimed_shape_takes_no_more_memory_than_the_text_can_fill() -> None:
    text = body("[" + "1," * 20_000 + "1]", [2**31 - 1] * 3)
    with pytest.raises(InvalidInput, match="elements, data has 20001"):
        decode_request(text)


@pytest.mark.parametrize(
    "data", ["1,", ",1", "1,,1", "1,[1]", "1,[1,1]", "1 1", "1,[]", "1,]", "1, ", "1,   "]
)
@pytest.mark.parametrize("count", range(4, 24))
def test_what_is_no_flat_array_is_refused_wherever_a_slice_ends(
    data: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = data.count("1")
    front, back = (
        body(f"[{'1,' * count}{data}]", [count + found]),
        body(f"[{data}{',1' * count}]", [count + found]),
    )
    assert outcome(front) is outcome(back) is None
    assert read_in_slices(front, monkeypatch) is None
    assert read_in_slices(back, monkeypatch) is None
