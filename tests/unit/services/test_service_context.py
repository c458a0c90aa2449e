"""Header fields and parameters, as an endpoint reads and sets them."""

from __future__ import annotations

from headrace.services.service_context import Headers, Parameters, ResponseView


def test_a_field_that_is_there_twice_is_joined_and_listed():
    headers = Headers([("Accept", "a"), ("accept", "b"), ("X-One", "1")])

    assert (headers["ACCEPT"], headers.getlist("Accept")) == ("a, b", ["a", "b"])
    assert headers.multi_items() == [("accept", "a"), ("accept", "b"), ("x-one", "1")]
    headers["accept"] = "c"
    assert headers.getlist("accept") == ["c"]
    assert headers.getlist("x-none") == []


def test_the_last_parameter_of_a_name_counts_and_all_are_listed():
    parameters = Parameters("a=1&b=&a=2")

    assert parameters == {"a": "2", "b": ""}
    assert parameters.getlist("a") == ["1", "2"]
    assert parameters.multi_items() == [("a", "1"), ("b", ""), ("a", "2")]


def test_a_dict_may_take_the_place_of_the_headers_of_an_answer():
    response = ResponseView()
    response.headers = {"X-One": "1"}

    assert response.fields() == [["x-one", "1"]]
