"""The OpenAPI document: the models that are served, and nothing they do not answer."""

from __future__ import annotations

import json
import re
from typing import Any, cast

import pytest

from headrace import __version__
from headrace.admin import openapi
from headrace.application import PROTOCOLS
from headrace.dataplane.resolve import Resolver
from headrace.http.router import Router
from headrace.protocol.messages import ModelMetadata, ModelRoute, TensorMetadata
from headrace.serving.served_model import ServedModel, State
from headrace.settings import ModelSettings, ServerSettings

PLUGIN = {"request_content_type": "image/png", "response_content_type": "text/plain"}


class FakePlane:
    """A data plane with these models; the last of several versions is the default one."""

    def __init__(self, *models: ServedModel, **settings: Any) -> None:
        self._models = models
        self.settings = ServerSettings(**settings)

    def models(self) -> list[ServedModel]:
        return list(self._models)

    def get(self, name: str) -> ServedModel:
        return [model for model in self._models if model.name == name][-1]

    def answering(self) -> list[ServedModel]:
        return [model for model in self._models if model.is_ready]

    def find(self, name: str | None, version: str | None, protocol: Any) -> ServedModel:
        return Resolver(self).find(name, version, protocol)  # type: ignore[arg-type]


def model(name: str = "m", version: str | None = None, **metadata: Any) -> ServedModel:
    return ServedModel(
        ModelSettings(name, "fake:Fake", version=version),
        key=name,
        state=State.READY,
        batcher=cast(Any, object()),
        model_metadata=ModelMetadata(**metadata),
    )


def document(*models: ServedModel, **settings: Any) -> dict[str, Any]:
    return openapi.document(FakePlane(*models, **settings), Router(PROTOCOLS))


def paths(*models: ServedModel, **settings: Any) -> dict[str, Any]:
    found: dict[str, Any] = document(*models, **settings)["paths"]
    return found


def test_a_server_without_models_documents_itself() -> None:
    found = document()

    assert (found["openapi"], found["info"]["version"]) == ("3.1.0", __version__)
    assert {"/v2", "/v2/health/ready", "/ping", "/readyz", "/livez", "/api/status"} <= set(
        found["paths"]
    )
    below = [path for path in found["paths"] if path.startswith("/v2/models/")]
    assert below == ["/v2/models/stats"]


@pytest.mark.parametrize(
    "models",
    [
        [],
        [model(streams=True), model("p", parameters=PLUGIN)],
        [model(version="1"), model(version="2", routes=[ModelRoute("/own", "POST", "h")])],
    ],
    ids=["no models", "a stream and a plugin", "versions and a route"],
)
def test_every_reference_leads_to_a_schema_and_every_operation_has_an_answer(
    models: list[ServedModel],
) -> None:
    found = document(*models)
    referred = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(found)))
    operations = [
        operation
        for item in found["paths"].values()
        for verb, operation in item.items()
        if verb != "parameters"
    ]

    assert referred <= set(found["components"]["schemas"])
    assert all(operation["responses"]["200"] for operation in operations)


@pytest.mark.parametrize(
    "models",
    [[model("a"), model("b", version="1")], [model("p", parameters=PLUGIN)]],
    ids=["models", "a plugin"],
)
def test_a_part_in_braces_is_a_parameter_of_its_path(models: list[ServedModel]) -> None:
    for path, item in paths(*models).items():
        wanted = set(re.findall(r"{(\w+)}", path))
        for verb, operation in item.items():
            if verb != "parameters":
                given = [*operation.get("parameters", ()), *item.get("parameters", ())]
                assert {each["name"] for each in given} == wanted, path


def test_an_input_of_a_model_is_in_the_example() -> None:
    inputs = [TensorMetadata("x", "FP32", [-1, 3]), TensorMetadata("text", "BYTES", [1])]
    operation = paths(model(inputs=inputs))["/v2/models/m/infer"]["post"]
    example = operation["requestBody"]["content"]["application/json"]["example"]

    assert [tensor["shape"] for tensor in example["inputs"]] == [[1, 3], [1]]
    assert [tensor["data"] for tensor in example["inputs"]] == [[0, 0, 0], ["text"]]


def test_each_version_has_paths_and_the_default_one_also_those_without_a_version() -> None:
    old, new = model(version="1"), model(version="2")
    found = [path for path in paths(old, new) if path.endswith(("/m", "/infer", "/1", "/2"))]

    assert sorted(found) == [
        "/v2/models/m",
        "/v2/models/m/infer",
        "/v2/models/m/versions/1",
        "/v2/models/m/versions/1/infer",
        "/v2/models/m/versions/2",
        "/v2/models/m/versions/2/infer",
    ]


@pytest.mark.parametrize("streams", [True, False])
def test_only_a_model_that_streams_has_routes_for_it(streams: bool) -> None:
    found = paths(model(streams=streams))
    scoring = found["/invocations"]["post"]["responses"]["200"]["content"]

    assert ("/v2/models/m/infer_stream" in found) is streams
    assert ("text/event-stream" in scoring) is streams


@pytest.mark.parametrize(
    ("models", "nameless"),
    [
        ([model()], {"/invocations"}),
        ([model(version="1"), model(version="2")], {"/invocations"}),
        ([model("a"), model("b")], set()),
        ([model("p", parameters=PLUGIN)], {"/api/predict"}),
        ([model("p", parameters=PLUGIN), model("m")], {"/invocations", "/api/predict"}),
    ],
    ids=["one", "versions", "two", "a plugin", "one and a plugin"],
)
def test_a_path_that_names_no_model_is_there_if_only_one_model_can_answer_it(
    models: list[ServedModel], nameless: set[str]
) -> None:
    assert {"/invocations", "/api/predict"} & set(paths(*models)) == nameless


def test_a_plugin_has_only_its_own_routes() -> None:
    found = paths(model("p", parameters=PLUGIN))
    body = found["/v2/models/p/raw"]["post"]["requestBody"]["content"]

    assert "/v2/models/p/infer" not in found
    assert set(body) == {"image/png", "multipart/form-data"}


def test_a_models_own_route_has_its_path_parameters() -> None:
    own = ModelRoute("/own/{row:int}/{name}", "PUT", "handler", "Change a row")
    operation = paths(model(routes=[own]))["/own/{row}/{name}"]["put"]

    assert operation["summary"] == "Change a row"
    assert [each["name"] for each in operation["parameters"]] == ["row", "name"]
    assert "requestBody" in operation


def test_a_route_without_a_body_documents_none() -> None:
    found = paths(model(routes=[ModelRoute("/own", "GET", "handler")]))

    assert "requestBody" not in found["/own"]["get"]


def test_a_models_own_route_replaces_none_of_the_server_or_of_an_earlier_model() -> None:
    first = model("a", routes=[ModelRoute("/own", "GET", "h", "of a")])
    second = model(
        "b",
        routes=[
            ModelRoute("/own", "GET", "h", "of b"),
            ModelRoute("/own", "POST", "h", "of b"),
            ModelRoute("/v2", "GET", "h", "of b"),
        ],
    )
    found = paths(first, second)

    assert {verb: each["summary"] for verb, each in found["/own"].items()} == {
        "get": "of a",
        "post": "of b",
    }
    assert found["/v2"] == paths()["/v2"]


def test_a_model_that_does_not_answer_shows_no_routes_of_its_own() -> None:
    gone = model(routes=[ModelRoute("/own", "GET", "h")])
    gone.state = State.UNAVAILABLE

    assert "/own" not in paths(gone)
    assert "/v2/models/m" in paths(gone)


@pytest.mark.parametrize(("root", "url"), [("", "/"), ("/ml", "/ml")])
def test_the_path_of_a_proxy_in_front_is_in_the_document(root: str, url: str) -> None:
    assert document(root_path=root)["servers"] == [{"url": url}]


def test_metrics_are_documented_where_they_are_served() -> None:
    assert "/numbers" in paths(metrics_endpoint="/numbers")
    assert "/metrics" not in paths(metrics_endpoint="")


def test_a_protocol_that_is_not_served_leaves_nothing_in_the_document() -> None:
    assert "InferenceRequest" in document()["components"]["schemas"]
    bare = openapi.document(FakePlane(model()), Router(()))  # type: ignore[arg-type]

    assert bare["components"]["schemas"] == openapi.SCHEMAS
    assert "InferenceRequest" not in openapi.SCHEMAS
    assert "/v2/models/m/infer" not in bare["paths"]
