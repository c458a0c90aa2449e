"""`custom_handler`: what a handler is given, and how its result is answered."""

from __future__ import annotations

import json

import pytest

from headrace.errors import BadModelOutput, InvalidInput, ModelFailed, NotFound
from headrace.protocol import model_call
from headrace.protocol.messages import ModelMetadata
from headrace.protocol.model_call import ModelCall
from headrace.worker.host import ModelHost
from support import mlserver_sources as sources

HEAD = """
from typing import Annotated, Any, Dict, List, Optional, Union
from mlserver import MLModel, types
from mlserver.errors import MLServerError
from mlserver.handlers.custom import custom_handler

"""


class Served:
    """One loaded runtime with a handler, and how to call it."""

    def __init__(self, host, metadata):
        self._host = host
        self.metadata = metadata

    def call(self, body=b"", query="", path="/mine", headers=(), **path_params):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        (route,) = self.metadata.routes
        call = ModelCall(
            *(route.handler, route.method, path, path, query),
            *([list(item) for item in headers], path_params, "http", ["127.0.0.1", 1]),
        )
        response = self._host.infer("m", model_call.to_request(call, body))
        return model_call.from_response(response, "m")

    def json(self, *args, **more):
        answer = self.call(*args, **more)
        assert (answer.status, answer.headers) == (200, [["content-type", "application/json"]])
        return json.loads(answer.body)


@pytest.fixture
def serve(tmp_path):
    """Loads a runtime with one handler, given its signature after `self` and its body."""
    host = ModelHost()

    def loaded(signature, body, before="", path="/mine", method="POST"):
        source = (
            f"{HEAD}{before}\n"
            "class Runtime(MLModel):\n"
            f"    @custom_handler(rest_path={path!r}, rest_method={method!r})\n"
            f"    async def mine(self{signature}):\n"
            f"        {body}\n"
        )
        metadata = host.load("m", sources.settings_of(sources.write(tmp_path / "m", source)))
        return Served(host, metadata)

    yield loaded
    host.unload("m")


def test_the_metadata_names_the_routes_and_survives_the_way_to_the_server(serve):
    metadata = serve("", "'''Says one.'''; return 1", path="/v1/{a}", method="get").metadata

    (route,) = ModelMetadata.from_dict(metadata.to_dict()).routes

    assert (route.path, route.method, route.summary) == ("/v1/{a}", "GET", "Says one.")


@pytest.mark.parametrize(
    ("annotation", "sent", "got"),
    [
        pytest.param("list", [1, 2], [1, 2], id="list"),
        pytest.param("List[int]", ["1", 2.0], [1, 2], id="numbers that are text"),
        pytest.param("dict", {"a": 1}, {"a": 1}, id="dict"),
        pytest.param("Dict[str, List[float]]", {"a": [1]}, {"a": [1.0]}, id="nested"),
        pytest.param("Optional[dict]", None, None, id="null"),
        pytest.param("Optional[List[str]]", ["a"], ["a"], id="optional"),
        pytest.param("bytes", b"\xffab", 3, id="bytes"),
        pytest.param("str", "héllo".encode(), "héllo", id="text"),
    ],
)
def test_a_body_becomes_what_the_annotation_says(serve, annotation, sent, got):
    body = "return len(x)" if annotation == "bytes" else "return x"
    served = serve(f", x: {annotation}", body)

    assert served.json(sent) == got


@pytest.mark.parametrize(
    ("annotation", "sent", "message"),
    [
        pytest.param("list", {"a": 1}, "^the body: expected a list$", id="another type"),
        pytest.param("List[int]", ["secret"], "^the body: expected an integer$", id="an element"),
        pytest.param("dict", b"{", "^the body is not valid JSON$", id="no JSON"),
        pytest.param("dict", b"[" * 100_000, "not valid JSON|expected an object", id="deep"),
        pytest.param("dict", b"", "^the body field 'x' is missing$", id="nothing"),
        pytest.param("types.InferenceRequest", {}, "inputs.* required", id="fields"),
        pytest.param("types.InferenceRequest", [1], "expected an object", id="no fields"),
    ],
)
def test_a_body_that_is_something_else_is_refused_without_its_values(
    serve, annotation, sent, message
):
    served = serve(f", x: {annotation}", "return 1")

    with pytest.raises(InvalidInput, match=message) as caught:
        served.call(sent)
    assert "secret" not in str(caught.value)


def test_requests_and_answers_of_the_protocol(serve):
    served = serve(
        ", payload: types.InferenceRequest",
        "return types.InferenceResponse(model_name=self.name, outputs=["
        "types.ResponseOutput(name='y', shape=[1], datatype='INT64', "
        "data=[sum(payload.inputs[0].data)])])",
    )

    answer = served.json(
        {"inputs": [{"name": "x", "shape": [2], "datatype": "INT64", "data": [1, 2]}]}
    )

    assert answer == {
        "model_name": "m",
        "outputs": [{"name": "y", "shape": [1], "datatype": "INT64", "data": [3]}],
    }


def test_a_body_alongside_query_parameters(serve):
    served = serve(
        ", payload: dict, kind: str, count: int = 3, deep: bool = False",
        "return [payload, kind, count, deep]",
    )

    assert served.json({"a": 1}, query="kind=b%20c&deep=yes") == [{"a": 1}, "b c", 3, True]


def test_several_bodies_are_fields_of_one_object(serve):
    served = serve(", a: list, b: dict", "return [a, b]")

    assert served.json({"a": [1], "b": {"c": 2}}) == [[1], {"c": 2}]
    with pytest.raises(InvalidInput, match="the body field 'b' is missing"):
        served.call({"a": [1]})
    with pytest.raises(InvalidInput, match="not a JSON object"):
        served.call([1])


@pytest.mark.parametrize(
    ("query", "message"),
    [
        pytest.param("", "the query parameter 'n' is missing", id="missing"),
        pytest.param("n=one", "query 'n': expected an integer", id="no number"),
        pytest.param("n=", "query 'n': expected an integer", id="empty"),
    ],
)
def test_a_query_parameter_that_is_wrong_is_named(serve, query, message):
    with pytest.raises(InvalidInput, match=message):
        serve(", n: int", "return n").call(query=query)


def test_parts_of_the_path_are_converted(serve):
    served = serve(", n: int, name: str", "return [n, name]", path="/x/{n:int}/{name}")

    assert served.json(n="7", name="a") == [7, "a"]


def test_the_request_itself_by_starlettes_class(serve):
    served = serve(
        ", request: Request",
        "return [(await request.json())['a'], request.headers['X-A'], request.method, "
        "request.query_params['q'], str(request.url), request.path_params, "
        "request.client.host, type(request).__module__]",
        before="from starlette.requests import Request",
    )

    answer = served.json(
        {"a": 1}, query="q=%C3%A9", headers=[("host", "here"), ("x-a", "b")], p="7"
    )

    assert answer[:4] == [1, "b", "POST", "é"]
    assert answer[4:7] == ["http://here/mine?q=%C3%A9", {"p": "7"}, "127.0.0.1"]
    assert answer[7] == "starlette.requests"


@pytest.mark.parametrize(
    ("signature", "before"),
    [
        pytest.param(", request", "", id="by its name"),
        pytest.param(", r: Request", "from mlserver.rest.requests import Request", id="by class"),
    ],
)
def test_the_request_itself_without_a_web_framework(serve, signature, before):
    name = signature.partition(":")[0].strip(", ")
    served = serve(
        signature,
        f"r = {name}; return [(await r.body()).decode(), (await r.json())['a'], r.headers['X-A'], "
        "r.headers.get('none'), r.method, r.query_params['q'], r.query_params.getlist('q'), "
        "r.url, r.url.path, r.url.query, type(r).__module__]",
        before=before,
    )

    answer = served.json({"a": 1}, query="q=1&q=%C3%A9", headers=[("host", "here"), ("x-a", "b")])

    assert answer[:7] == ['{"a": 1}', 1, "b", None, "POST", "é", ["1", "é"]]
    assert answer[7:10] == ["http://here/mine?q=1&q=%C3%A9", "/mine", "q=1&q=%C3%A9"]
    assert answer[10] == "headrace.compat.mlserver.rest.requests"


PYDANTIC = """
import datetime, enum
from pydantic import BaseModel, Field

class Item(BaseModel):
    name: str
    when: datetime.date = datetime.date(2024, 1, 2)
    own: int = Field(1, alias="other")

class Kind(enum.Enum):
    A = "a"
"""


def test_pydantic_models_come_and_go(serve):
    pytest.importorskip("pydantic")
    served = serve(", item: Item", "return item", before=PYDANTIC)

    assert served.json({"name": "x", "other": 5}) == {"name": "x", "when": "2024-01-02", "other": 5}
    with pytest.raises(InvalidInput, match="the body: name: Field required"):
        served.call({})


def test_an_answer_of_a_declared_type_has_only_what_was_set(serve):
    pytest.importorskip("pydantic")
    served = serve(", item: Item) -> (Item", "return item", before=PYDANTIC)

    assert served.json({"name": "x"}) == {"name": "x"}


def test_what_plain_python_does_not_know_is_left_to_pydantic(serve):
    pytest.importorskip("pydantic")
    served = serve(
        ", items: List[Item], kind: Kind, n: Annotated[int, Field(gt=2)] = 3",
        "return [items[0].name, kind.value, n]",
        before=PYDANTIC,
    )

    assert served.json([{"name": "x"}], query="kind=a") == ["x", "a", 3]
    with pytest.raises(InvalidInput, match="query 'n': Input should be greater than 2"):
        served.call([{"name": "x"}], query="kind=a&n=1")


def test_the_markers_of_fastapi_say_where_a_value_is(serve):
    pytest.importorskip("fastapi")
    served = serve(
        ", x_a: str = Header(), n: int = Query(4, alias='m'), many: List[int] = Query([]), "
        "text: str = Body(embed=True)",
        "return [x_a, n, many, text]",
        before="from fastapi import Body, Header, Query",
    )

    answer = served.json({"text": "t"}, query="m=5&many=1&many=2", headers=[("x-a", "h")])

    assert answer == ["h", 5, [1, 2], "t"]
    assert served.json({"text": "t"}, headers=[("x-a", "h")]) == ["h", 4, [], "t"]
    with pytest.raises(InvalidInput, match="the header 'x-a' is missing"):
        served.call({"text": "t"})


@pytest.mark.parametrize("parameter", ["n: int = Query(gt=2)", "n: Annotated[int, Query(gt=2)]"])
def test_the_bounds_of_fastapi_hold(serve, parameter):
    pytest.importorskip("fastapi")
    served = serve(f", {parameter}", "return n", before="from fastapi import Query")

    assert served.json(query="n=3") == 3
    with pytest.raises(InvalidInput, match="query 'n': Input should be greater than 2"):
        served.call(query="n=2")


@pytest.mark.parametrize(
    ("signature", "why"),
    [
        pytest.param(", a=Depends(len)", "parameter 'a': Depends is not supported", id="Depends"),
        pytest.param(", a: Response", "parameter 'a': Response is not supported", id="Response"),
        pytest.param(", a: 'Nowhere'", "the types in its signature cannot be read", id="unknown"),
        pytest.param(", *a", "'a' takes any number of arguments", id="star"),
        pytest.param(", a: Odd", "its type cannot be read from a request", id="no type"),
    ],
)
def test_a_handler_that_asks_for_what_is_not_supported_is_left_out_with_a_warning(
    serve, caplog, signature, why
):
    pytest.importorskip("fastapi")
    before = "from fastapi import Depends, Response\nclass Odd: pass"

    assert serve(signature, "return 1", before=before).metadata.routes == []

    assert "custom route POST /mine is not served: " in caplog.text
    assert why in caplog.text


def test_a_path_without_a_slash_is_left_out_with_a_warning(serve, caplog):
    assert serve("", "return 1", path="mine").metadata.routes == []
    assert "does not begin with a slash" in caplog.text


@pytest.mark.parametrize(
    ("returned", "body"),
    [
        pytest.param("'a\\n'", b'"a\\n"', id="text"),
        pytest.param("None", b"null", id="nothing"),
        pytest.param("{'a': float('nan')}", b'{"a":null}', id="no number"),
        pytest.param("[np.float32(0.5), np.arange(2)]", b"[0.5,[0,1]]", id="numpy"),
    ],
)
def test_values_are_answered_as_json(serve, returned, body):
    served = serve("", f"return {returned}", before="import numpy as np")

    assert served.call() == (200, [["content-type", "application/json"]], body)


@pytest.mark.parametrize(
    ("returned", "answer"),
    [
        pytest.param(
            "Response(b'x', 201, {'X-A': 'b'}, 'text/css')",
            (201, [["content-length", "1"]], b"x"),
            id="Response",
        ),
        pytest.param("JSONResponse({'a': 1}, 404)", (404, [], b'{"a":1}'), id="JSONResponse"),
        pytest.param("StreamingResponse(iter([b'a', b'b']))", (200, [], b"ab"), id="streamed"),
        pytest.param("Response(status_code=204)", (204, [], b""), id="no content"),
    ],
)
def test_responses_of_starlette_are_sent_as_they_are(serve, returned, answer):
    status, headers, body = answer
    served = serve("", f"return {returned}", before="from starlette.responses import *")

    found = served.call()

    assert (found.status, found.body) == (status, body)
    assert all(header in found.headers for header in headers)


def test_a_response_without_a_web_framework(serve):
    before = "from mlserver.rest.responses import Response"
    served = serve("", "return Response(b'x', 418, {'X-A': 'b'}, 'text/css')", before=before)

    assert served.call() == (418, [["content-type", "text/css"], ["X-A", "b"]], b"x")


def test_a_response_has_one_media_type_however_its_header_is_written(serve):
    before = "from mlserver.rest.responses import Response"
    served = serve("", "return Response({}, headers={'Content-Type': 'text/x'})", before=before)

    assert served.call() == (200, [["Content-Type", "text/x"]], b"{}")


@pytest.mark.parametrize(
    ("raised", "status", "body"),
    [
        pytest.param("MLServerError('no', 409)", 409, b'{"error":"no"}', id="MLServerError"),
        pytest.param("MLServerError('no', 503)", 503, b'{"error":"no"}', id="503"),
        pytest.param("HTTPException(418, 'tea')", 418, b'{"detail":"tea"}', id="HTTPException"),
    ],
)
def test_an_error_with_a_status_is_answered_with_it(serve, raised, status, body):
    served = serve("", f"raise {raised}", before="from starlette.exceptions import HTTPException")

    answer = served.call()

    assert (answer.status, answer.body) == (status, body)


def test_the_details_of_any_other_error_are_only_in_the_log(serve):
    with pytest.raises(ModelFailed, match="the server's log has the details") as caught:
        serve("", "raise ValueError('secret')").call()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("returned", ["object()", "Response(b'', 99)"])
def test_an_answer_that_cannot_be_sent_is_the_models_fault(serve, returned):
    served = serve("", f"return {returned}", before="from mlserver.rest.responses import Response")

    with pytest.raises(BadModelOutput):
        served.call()


def test_a_route_that_a_reload_took_away_is_not_found(serve):
    served = serve("", "return 1")
    (route,) = served.metadata.routes
    object.__setattr__(route, "handler", "predict")

    with pytest.raises(NotFound):
        served.call()


def test_a_handler_that_is_not_a_coroutine_is_called_too(tmp_path):
    source = HEAD + (
        "class Runtime(MLModel):\n"
        "    @custom_handler(rest_path='/mine')\n"
        "    def mine(self, payload: list) -> int:\n"
        "        return sum(payload)\n"
    )
    host = ModelHost()
    metadata = host.load("m", sources.settings_of(sources.write(tmp_path / "m", source)))

    assert Served(host, metadata).json([1, 2]) == 3
    host.unload("m")
