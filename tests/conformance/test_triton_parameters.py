"""The parameters of Triton's extensions mean the same over every transport."""

from __future__ import annotations

import pytest

from conformance.transports import Refused, Tensor

pytestmark = pytest.mark.e2e

X = Tensor("x", "FP64", [2, 3], [0.1, 0.7, 0.2, 5.0, -1.0, 5.0])


def refusal(transport, tensor=X, **more):
    with pytest.raises(Refused) as refused:
        transport.infer("echo", [tensor], **more)
    return refused.value


def classes(transport, tensor, count):
    (output,) = transport.infer("echo", [tensor], outputs={"x": {"classification": count}}).outputs
    return output


def test_the_highest_elements_of_each_row_are_texts(transport):
    expected = [b"0.7:1", b"0.2:2", b"5.0:0", b"5.0:2"]

    assert classes(transport, X, 2) == Tensor("x", "BYTES", [2, 2], expected)


def test_an_output_of_one_dimension_is_one_row(transport):
    tensor = Tensor("x", "INT32", [4], [1, 5, 10, 4])

    assert classes(transport, tensor, 2) == Tensor("x", "BYTES", [2], [b"10:2", b"5:1"])


def test_no_more_classes_are_returned_than_there_are(transport):
    assert classes(transport, X, 9).shape == [2, 3]


def test_no_classes_are_the_output_itself(transport):
    assert classes(transport, X, 0) == X


@pytest.mark.parametrize("count", [-1, "two", True, 1.5])
def test_a_number_of_classes_that_is_none_is_refused(count, transport):
    refused = refusal(transport, outputs={"x": {"classification": count}})

    assert refused.kind == "invalid_argument"
    assert refused.message.startswith("output 'x': parameter classification: expected the number")


def test_an_output_without_numbers_has_no_classes(transport):
    text = Tensor("x", "BYTES", [1], [b"ale"])
    refused = refusal(transport, text, outputs={"x": {"classification": 1}})

    assert refused.kind == "invalid_argument"
    assert "'x': parameter classification needs numbers" in refused.message


@pytest.mark.parametrize(
    ("name", "value"),
    [("priority", 1), ("sequence_id", 42), ("sequence_id", "a"), ("sequence_start", True)],
)
def test_what_is_not_done_is_refused_by_its_name(name, value, transport):
    refused = refusal(transport, parameters={name: value})

    assert refused.kind == "invalid_argument"
    assert refused.message.startswith(f"request: parameter {name} is not supported: ")


def test_what_asks_for_nothing_is_not_for_the_model(transport):
    nothing = {"priority": 0, "sequence_id": 0, "sequence_start": False, "timeout": 0}

    answer = transport.infer("echo", [X], parameters={**nothing, "own": 1})

    assert answer.parameters == {"own": 1}


def test_a_timeout_in_microseconds_ends_the_wait_for_an_answer(transport):
    with pytest.raises(Refused) as refused:
        transport.infer("sleeps", [X], parameters={"timeout": 20_000})

    assert refused.value.kind == "deadline_exceeded"


def test_a_timeout_that_is_long_enough_is_not_for_the_model(transport):
    answer = transport.infer("echo", [X], parameters={"timeout": 30_000_000})

    assert (answer.outputs, answer.parameters) == ([X], {})


@pytest.mark.parametrize("timeout", [-1, "1s", True, 0.5])
def test_a_timeout_that_is_no_number_of_microseconds_is_refused(timeout, transport):
    refused = refusal(transport, parameters={"timeout": timeout})

    assert refused.kind == "invalid_argument"
    assert refused.message.startswith("request: parameter timeout: expected a whole number of")


@pytest.mark.parametrize("where", ["input", "output"])
def test_shared_memory_is_refused_by_its_name(where, transport):
    given = {"shared_memory_region": "r", "shared_memory_byte_size": 48}
    if where == "input":
        refused = refusal(transport, X._replace(parameters=given))
    else:
        refused = refusal(transport, outputs={"x": given})

    assert refused.kind == "invalid_argument"
    assert refused.message.startswith(f"{where} 'x': parameter shared_memory_region: shared memory")
