"""Which form a stream has, and what is sent in each."""

from __future__ import annotations

import pytest

from headrace.errors import InvalidInput, NotFound
from headrace.grpc.stream_forms import BARE, TritonForm, form_of
from headrace.protocol.open_inference import inference_pb2 as pb


def asked(raw: bool = False, parameters: tuple[str, ...] = ()) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name="m", id="7")
    added = message.inputs.add(name="x", datatype="FP64", shape=[1])
    if raw:
        message.raw_input_contents.append(bytes(8))
    else:
        added.contents.fp64_contents.append(1.0)
    for name in parameters:
        message.parameters[name].int64_param = 1
    return message


def is_tritons(request: pb.ModelInferRequest, **metadata: str) -> bool:
    given = {name.replace("_", "-"): value for name, value in metadata.items()}
    return isinstance(form_of(given, request), TritonForm)


def test_raw_tensors_are_tritons_and_typed_contents_are_not() -> None:
    assert is_tritons(asked(raw=True))
    assert not is_tritons(asked())


@pytest.mark.parametrize(
    "name", ["timeout", "priority", "sequence_id", "triton_enable_empty_final_response"]
)
def test_parameters_that_others_lack_are_tritons(name: str) -> None:
    assert is_tritons(asked(parameters=(name,)))
    assert not is_tritons(asked(parameters=("own",)))


def test_a_tensor_in_shared_memory_is_tritons() -> None:
    request = pb.ModelInferRequest(model_name="m")
    tensor = request.inputs.add(name="x", datatype="FP64", shape=[1])
    tensor.parameters["shared_memory_region"].string_param = "r"

    assert is_tritons(request)


@pytest.mark.parametrize("raw", [True, False])
def test_metadata_decides_before_the_request_does(raw: bool) -> None:
    assert is_tritons(asked(raw), x_stream_form="triton")
    assert not is_tritons(asked(raw), x_stream_form="bare")


def test_a_form_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InvalidInput, match="x-stream-form: expected 'triton' or 'bare', got 'tr'"):
        form_of({"x-stream-form": "tr"}, asked())


def test_a_stream_of_triton_survives_errors_unless_its_metadata_says_otherwise() -> None:
    assert form_of({}, asked(raw=True)).survives_errors
    assert not form_of({"triton_grpc_error": "true"}, asked(raw=True)).survives_errors
    assert not BARE.survives_errors


def test_an_error_has_the_id_of_its_request() -> None:
    told = TritonForm().error(NotFound("no such model"), asked(raw=True))

    assert (told.error_message, told.infer_response.id) == ("no such model", "7")
    assert TritonForm().error(NotFound("no"), None).infer_response.id == ""


def test_a_request_that_asks_for_no_end_gets_none() -> None:
    request = asked(raw=True)
    assert TritonForm().after(request) is None

    request.parameters["triton_enable_empty_final_response"].bool_param = True
    last = TritonForm().after(request).infer_response

    assert (last.id, last.model_name, len(last.outputs)) == ("7", "m", 0)
    assert last.parameters["triton_final_response"].bool_param
    assert BARE.after(request) is None
