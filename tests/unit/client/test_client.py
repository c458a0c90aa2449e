"""`Client` against a server of three lines: what it sends, and what it makes of answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from headrace.client import (
    AsyncClient,
    BadAnswer,
    Client,
    ClientError,
    ConnectionFailed,
    InvalidRequest,
    NotServed,
    ServerError,
    TimedOut,
    Unavailable,
)
from headrace.protocol.messages import InferenceResponse
from headrace.protocol.open_inference import rest_json

Handler = Callable[[httpx.Request], httpx.Response]


def client_of(handler: Handler, **options: Any) -> Client:
    return Client("http://fake", transport=httpx.MockTransport(handler), **options)


def echo(request: httpx.Request) -> httpx.Response:
    """A model that answers its inputs, through the server's own codec."""
    if request.method == "GET":
        return httpx.Response(200, json={"name": "echo", "inputs": []})
    length = request.headers.get("inference-header-content-length")
    decoded = rest_json.decode_request(request.content, int(length) if length else None)
    body, head = rest_json.encode_response(
        InferenceResponse(decoded.request.inputs, decoded.request.parameters),
        model_name="echo",
        model_version="3",
        id=decoded.request.id or "made-up",
        binary_outputs=decoded.binary_outputs,
    )
    headers = {"inference-header-content-length": str(head)} if head else {}
    return httpx.Response(200, content=body, headers=headers)


def test_a_key_from_a_file_may_end_with_a_line_feed() -> None:
    sent: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers["authorization"])
        return echo(request)

    client_of(answer, api_key="hr_secret\n").metadata()

    assert sent == ["Bearer hr_secret"]


@pytest.mark.parametrize(
    "options",
    [
        {"api_key": "hr_secret\nhr_other"},
        {"api_key": "hr_secrét"},
        {"headers": {"Authorization": "Bearer hr_secret\n"}},
        {"headers": {"X-API-Key": "hr_secret\0"}},
    ],
)
@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "grpc://127.0.0.1:1"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_quoted(
    url: str, options: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"api_key|Authorization|X-API-Key") as refused:
        Client(url, **options)

    assert "secr" not in str(refused.value)


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize(
    "value",
    [
        pytest.param(np.arange(6, dtype=np.int32).reshape(2, 3), id="int32"),
        pytest.param(np.array([2**64 - 1, 0], np.uint64), id="uint64"),
        pytest.param(np.array([0.1, np.nan], np.float32), id="float32 with nan"),
        pytest.param(np.array([[True], [False]]), id="bool"),
        pytest.param(np.zeros((0, 4)), id="no rows"),
        pytest.param(np.asfortranarray(np.arange(6.0).reshape(2, 3)), id="column-major"),
        pytest.param(np.array(["grün", ""], object), id="text"),
        pytest.param(np.array([b"\xff\0", b""], object), id="bytes"),
        pytest.param(np.array([{"a": [1]}, None], object), id="json cells"),
    ],
)
def test_an_array_comes_back_as_it_was_sent(value, binary):
    with client_of(echo) as client:
        result = client.infer("echo", {"x": value}, binary=binary)

    assert result.outputs["x"].dtype == value.dtype
    np.testing.assert_array_equal(result.to_numpy(), value)


@pytest.mark.parametrize("length", ["\u00b2", "-1", "x", "99"])
def test_a_length_that_does_not_fit_the_answer_is_a_bad_answer(length: str) -> None:
    headers = {"inference-header-content-length": length.encode()}
    with (
        client_of(lambda request: httpx.Response(200, content=b"{}", headers=headers)) as client,
        pytest.raises(BadAnswer, match="does not fit"),
    ):
        client.infer("m", {"x": [1.0]})


@pytest.mark.parametrize("wait", ["\u00b2", "Fri, 31 Dec 1999 23:59:59 GMT"])
def test_a_wait_that_is_not_a_number_of_seconds_is_a_second(wait: str) -> None:
    headers = {"retry-after": wait.encode("latin-1")}
    with (
        client_of(lambda request: httpx.Response(503, headers=headers), retries=0) as client,
        pytest.raises(Unavailable) as caught,
    ):
        client.infer("m", {"x": [1.0]})

    assert caught.value.retry_after == 1.0


def test_infinities_survive_as_binary_and_are_refused_as_json():
    with client_of(echo) as client:
        assert client.infer("echo", {"x": [np.inf]}).to_numpy().tolist() == [np.inf]
        with pytest.raises(InvalidRequest, match="input 'x' holds an infinity"):
            client.infer("echo", {"x": [np.inf]}, binary=False)


@pytest.mark.parametrize("value", [np.nan, np.float32(np.inf), [1, {"a": -np.inf}]], ids=repr)
def test_a_parameter_that_json_would_make_null_is_refused(value):
    with client_of(echo) as client, pytest.raises(InvalidRequest, match="NaN or infinite"):
        client.infer("echo", {"x": [1.0]}, parameters={"p": value})


def test_id_version_parameters_and_outputs_reach_the_server():
    def handler(request: httpx.Request) -> httpx.Response:
        assert request.url.raw_path == b"/v2/models/a%20b/versions/7/infer"
        body = json.loads(request.content)
        assert body["outputs"] == [{"name": "y"}]
        assert body["parameters"] == {"depth": 3}
        return echo(request)

    options = {"version": "7", "outputs": ["y"], "parameters": {"depth": 3}, "id": "q"}
    with client_of(handler) as client:
        result = client.infer("a b", {"x": [1]}, binary=False, **options)

    assert (result.id, result.model_name, result.model_version) == ("q", "echo", "3")
    assert result.parameters == {"depth": 3}


def test_the_server_is_sent_what_is_left_of_the_time():
    sent = []

    def handler(request: httpx.Request) -> httpx.Response:
        sent.append(float(request.headers["x-request-timeout"]))
        return echo(request)

    with client_of(handler, timeout=5.0) as client:
        client.infer("echo", {"x": [1]})

    assert 4.0 < sent[0] <= 5.0


def metadata_and_echo(request: httpx.Request) -> httpx.Response:
    if request.method == "GET":
        return httpx.Response(200, json={"name": "echo", "inputs": [{"name": "pixels"}]})
    return echo(request)


def test_a_lone_array_takes_the_name_of_the_only_input():
    with client_of(metadata_and_echo) as client:
        assert list(client.infer("echo", np.ones(2)).outputs) == ["pixels"]


def test_a_lone_array_for_a_model_of_two_inputs_is_refused():
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"inputs": [{"name": "a"}, {"name": "b"}]})

    with client_of(handler) as client, pytest.raises(InvalidRequest, match="has 2 inputs"):
        client.infer("two", np.ones(2))


def test_predict_returns_the_type_it_was_given():
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}, index=[7, 8])

    with client_of(metadata_and_echo) as client:
        pd.testing.assert_frame_equal(client.predict("echo", frame), frame, check_dtype=False)
        assert client.predict("echo", {"a": [1]})["a"].tolist() == [1]
        assert client.predict("echo", [1.5]) == [1.5]
        assert client.predict("echo", np.ones(2)).tolist() == [1.0, 1.0]


def test_several_outputs_are_not_a_single_array():
    with client_of(echo) as client:
        result = client.infer("echo", {"a": [1], "b": [2]})

    with pytest.raises(BadAnswer, match="got 2: 'a', 'b'"):
        result.to_numpy()


def test_a_value_that_cannot_be_represented_is_refused_by_name():
    with client_of(echo) as client, pytest.raises(InvalidRequest, match="input 'x': .*complex128"):
        client.infer("echo", {"x": np.array([1j])})


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, InvalidRequest),
        (413, InvalidRequest),
        (422, InvalidRequest),
        (404, NotServed),
        (501, NotServed),
        (429, Unavailable),
        (503, Unavailable),
        (408, TimedOut),
        (504, TimedOut),
        (500, ServerError),
    ],
    ids=str,
)
def test_each_status_has_its_error(status, error):
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, json={"error": "why", "code": "word"})

    with client_of(handler) as client, pytest.raises(ClientError) as caught:
        client.metadata()

    assert type(caught.value) is error
    assert (caught.value.status, caught.value.code, caught.value.message) == (status, "word", "why")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>bad gateway</html>", "<html>bad gateway</html>"),
        (b"", "the server answered 500"),
        (b'{"error_code": "INTERNAL", "message": "no"}', "no"),
        (b'{"detail": [{"loc": ["body"]}]}', "the server answered 500"),
    ],
    ids=["page", "nothing", "mlflow", "fastapi"],
)
def test_errors_of_other_servers_are_read(body, message):
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(500, content=body)

    with client_of(handler) as client, pytest.raises(ServerError) as caught:
        client.metadata()

    assert caught.value.message == message


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({"outputs": 3}, id="outputs is a number"),
        pytest.param({}, id="no outputs"),
        pytest.param({"outputs": [{"name": "y", "shape": [1], "datatype": "FP64"}]}, id="no data"),
        pytest.param(
            {"outputs": [{"name": "y", "shape": [2], "datatype": "FP64", "data": [1]}]},
            id="too few elements",
        ),
        pytest.param(
            {"outputs": [{"name": "y", "shape": [1], "datatype": "FP9", "data": [1]}]},
            id="unknown datatype",
        ),
        pytest.param(
            {
                "outputs": [
                    {
                        "name": "y",
                        "shape": [1],
                        "datatype": "FP64",
                        "parameters": {"binary_data_size": 8},
                    }
                ]
            },
            id="binary data that is not there",
        ),
    ],
)
def test_an_answer_that_is_not_of_the_protocol_is_refused(answer):
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=answer)

    with client_of(handler) as client, pytest.raises(BadAnswer):
        client.infer("m", {"x": [1]})


def test_half_precision_in_a_json_answer_is_read():
    output = {"name": "y", "shape": [2], "datatype": "FP16", "data": [1.5, 2]}

    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"outputs": [output]})

    with client_of(handler) as client:
        assert client.infer("m", {"x": [1]}).to_numpy().tolist() == [1.5, 2.0]


@pytest.mark.parametrize("status", [400, 503], ids=str)
def test_not_ready_is_false_and_not_retried(status):
    asked = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(status, headers={"retry-after": "1"})

    with client_of(handler) as client:
        assert not client.ready()
        assert not client.model_ready("m", "2")

    assert asked == ["/v2/health/ready", "/v2/models/m/versions/2/ready"]


def test_an_unknown_model_is_not_merely_not_ready():
    with client_of(lambda _: httpx.Response(404)) as client, pytest.raises(NotServed):
        client.model_ready("m")


def refuse(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


def test_a_server_that_refuses_connections_is_not_live():
    with client_of(refuse) as client:
        assert not client.live()


def test_the_repository_is_listed_loaded_and_unloaded():
    asked = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append((request.url.path, json.loads(request.content)))
        return httpx.Response(200, json=[{"name": "m", "state": "READY"}])

    with client_of(handler) as client:
        assert client.index(ready=True)[0]["state"] == "READY"
        client.load("m")
        client.unload("m")

    models = "/v2/repository/models/m"
    assert asked == [
        ("/v2/repository/index", {"ready": True}),
        (f"{models}/load", {}),
        (f"{models}/unload", {}),
    ]


def test_every_exception_of_httpx_becomes_ours():
    kinds = {httpx.RequestError}
    pending = [httpx.RequestError]
    while pending:
        pending += (subclasses := pending.pop().__subclasses__())
        kinds.update(subclasses)

    for kind in kinds:

        def handler(request: httpx.Request, kind: Any = kind) -> httpx.Response:
            raise kind("why", request=request)

        expected = TimedOut if issubclass(kind, httpx.TimeoutException) else ConnectionFailed
        with client_of(handler, retries=0) as client, pytest.raises(expected):
            client.metadata()


def test_the_async_client_has_the_same_methods():
    assert {name for name in vars(Client) if not name.startswith("__")} == {
        name for name in vars(AsyncClient) if not name.startswith("__")
    }


def test_the_async_client_answers_the_same():
    async def ask() -> Any:
        async with AsyncClient("fake", transport=httpx.MockTransport(metadata_and_echo)) as client:
            return await client.predict("echo", [1, 2])

    assert asyncio.run(ask()) == [1, 2]


def test_an_unknown_scheme_is_refused():
    with pytest.raises(ValueError, match="got ftp://"):
        Client("ftp://host")
