"""Headers that a model adds to its answer, as HTTP sends them."""

from __future__ import annotations

import pytest

from headrace.errors import BadModelOutput
from headrace.http import header_fields
from headrace.protocol.messages import InferenceResponse


def taken(headers):
    return header_fields.taken(InferenceResponse([], {"headers": headers, "a": 1}), "m")


def test_headers_leave_the_parameters_of_this_answer_only():
    shared = InferenceResponse([], {"headers": {"X-A": "1"}, "a": 1})

    response, fields = header_fields.taken(shared, "m")

    assert (response.parameters, fields) == ({"a": 1}, [(b"x-a", b"1")])
    assert shared.parameters == {"headers": {"X-A": "1"}, "a": 1}


def test_an_answer_without_headers_is_left_alone():
    response = InferenceResponse([], {"a": 1})

    assert header_fields.taken(response, "m") == (response, [])


@pytest.mark.parametrize("name", ["Content-Length", "connection", "transfer-encoding", "date"])
def test_a_model_cannot_set_the_headers_that_frame_an_answer(name):
    assert taken({name: "1"})[1] == []


@pytest.mark.parametrize(
    "header",
    [
        pytest.param({"x-a": "1\r\nset-cookie: evil"}, id="a line break"),
        pytest.param({"x a": "1"}, id="a space in a name"),
        pytest.param({"": "1"}, id="no name"),
        pytest.param({"x-a": "\N{SNOWMAN}"}, id="not latin-1"),
    ],
)
def test_a_header_that_would_break_the_head_is_refused(header):
    with pytest.raises(BadModelOutput, match="which HTTP cannot carry"):
        taken(header)
