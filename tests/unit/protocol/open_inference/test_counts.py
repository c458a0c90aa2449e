import json
from typing import Any

import pytest

from headrace.errors import TooLarge
from headrace.protocol.open_inference import grpc_messages, rest_json
from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.protocol.open_inference.counts import Counts

FEW = Counts(text_elements=20_000, inputs=3, outputs=3, parameters=3)
MANY_TEXTS = 30_000
MIB = 1024 * 1024


def tensor(name: str = "x", **more: Any) -> dict[str, Any]:
    return {"name": name, "shape": [1], "datatype": "INT8", "data": [1], **more}


def texts(count: int, text: str = "") -> dict[str, Any]:
    return tensor(shape=[count], datatype="BYTES", data=[text] * count)


BEYOND = {
    "text-elements": {"inputs": [texts(MANY_TEXTS)]},
    "inputs": {"inputs": [tensor(str(number)) for number in range(4)]},
    "outputs": {"inputs": [tensor()], "outputs": [{"name": str(number)} for number in range(4)]},
    "parameters": {
        "inputs": [tensor(parameters={"a": 1, "b": 2})],
        "parameters": {"c": 3, "d": 4},
    },
}


@pytest.mark.parametrize("flag", list(BEYOND))
def test_more_than_a_bound_allows_is_refused_with_its_flag(flag: str) -> None:
    with pytest.raises(TooLarge, match=f"--max-{flag} raises the cap"):
        rest_json.decode_request(json.dumps(BEYOND[flag]).encode(), None, FEW)


@pytest.mark.parametrize("flag", list(BEYOND))
def test_a_message_beyond_a_bound_is_refused_with_its_flag(flag: str) -> None:
    message = pb.ModelInferRequest()
    for item in BEYOND[flag]["inputs"]:
        added = message.inputs.add(
            name=item["name"], datatype=item["datatype"], shape=item["shape"]
        )
        if item["datatype"] == "BYTES":
            added.contents.bytes_contents.extend([b""] * MANY_TEXTS)
        for key in item.get("parameters", {}):
            added.parameters[key].int64_param = 1
    for key in BEYOND[flag].get("parameters", {}):
        message.parameters[key].int64_param = 1
    for output in BEYOND[flag].get("outputs", []):
        message.outputs.add(name=output["name"])
    with pytest.raises(TooLarge, match=f"--max-{flag} raises the cap"):
        grpc_messages.decode_request(message, FEW)


@pytest.mark.parametrize("text", ["", "\\", '"', 'a"b"c\\'])
def test_texts_within_the_bound_are_never_refused_whatever_is_in_them(text: str) -> None:
    body = json.dumps({"inputs": [texts(FEW.text_elements, text)]}).encode()
    [decoded] = rest_json.decode_request(body, None, FEW).request.inputs
    assert decoded.nbytes == FEW.text_elements * (4 + len(text))


@pytest.mark.parametrize("text", ["", "\\", "\\\\"])
def test_very_many_texts_are_refused_before_they_are_read(text: str) -> None:
    # The bound on what comes around the elements is far below what these are.
    body = json.dumps({"inputs": [texts(100_000, text)]}).encode()
    with pytest.raises(TooLarge, match="--max-text-elements raises the cap"):
        FEW.check_texts(body)


def objects(count: int, text: str = "") -> bytes:
    """A body of so many objects, with spaces behind them so that it is large."""
    outputs = [{"name": f"{number}{text}"} for number in range(count - 2)]
    body = {"inputs": [tensor()], "outputs": outputs}
    return json.dumps(body).encode() + b" " * MIB


@pytest.mark.parametrize("text", ["", "{{{{{{{{", '{"{\\', "\\{\\\\{", "\\" * 1001 + '"{'])
def test_objects_are_counted_before_they_are_made_and_braces_of_texts_are_not(text: str) -> None:
    # The body and its parameters, those of each input and output, and a parameter for each of 3.
    most = 2 + 2 * (3 + 3) + 3
    FEW.check_objects(objects(most, text))
    with pytest.raises(TooLarge, match="--max-inputs, --max-outputs and --max-parameters"):
        FEW.check_objects(objects(most + 1, text))


@pytest.mark.parametrize("text", ['"{', "\\", "\\{", "{"])
@pytest.mark.parametrize("before", range(8))
def test_a_text_that_is_cut_by_a_step_of_counting_is_still_a_text(text: str, before: int) -> None:
    names = json.dumps([text] * (MIB // 2)).encode()
    FEW.check_objects(b" " * before + names)
    with pytest.raises(TooLarge):
        FEW.check_objects(b" " * before + names + b"{" * 20)


def test_a_body_of_very_many_outputs_is_refused_before_they_are_made() -> None:
    with pytest.raises(TooLarge, match="--max-inputs, --max-outputs and --max-parameters"):
        rest_json.decode_request(objects(200_000), None, FEW._replace(text_elements=10**6))
