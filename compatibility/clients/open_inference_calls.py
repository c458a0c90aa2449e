"""Asks a server what the Open Inference Protocol defines, and checks answers with its schemas.

`open_inference_calls.py SPECIFICATION HTTP GRPC`; SPECIFICATION is the folder `protocol` of the
repository, whose stubs are generated here. The server has a model `echo`, version 3, which answers
its inputs.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
import tempfile
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

import calls
import grpc
import jsonschema
import yaml
from grpc_tools import protoc

SERVICE = "/inference.GRPCInferenceService/"
DATA: dict[str, list[Any]] = {
    "BOOL": [True, False],
    **{f"UINT{bits}": [0, 2**bits - 1] for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] for bits in (8, 16, 32, 64)},
    "FP16": [0.5, -65504.0],
    "FP32": [0.5, -1.0],
    "FP64": [0.1, 1e300],
    "BYTES": ["ale", ""],
}
FIELDS = {"BOOL": "bool", "INT64": "int64", "UINT64": "uint64", "FP32": "fp32", "FP64": "fp64"}


class Rest:
    """The paths of the OpenAPI document, each answer checked with its schema."""

    def __init__(self, document: dict[str, Any], address: str) -> None:
        self._address = address
        self._document = json.loads(json.dumps(document).replace("${", "{"))

    def ask(self, path: str, body: Any = None, status: int = 200, **names: str) -> Any:
        """The answer in JSON, of a path as the document writes it."""
        url = self._address + path.format(**names)
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:
                code, text = answer.status, answer.read()
        except urllib.error.HTTPError as refused:
            code, text = refused.code, refused.read()
        assert code == status, f"{url}: {code} {text[:200]!r}"
        found = json.loads(text)
        self._check(path, "get" if body is None else "post", code, found)
        return found

    def _check(self, path: str, method: str, code: int, found: Any) -> None:
        responses = self._document["paths"][path][method]["responses"]
        content = responses.get(str(code), {}).get("content", {})
        if "application/json" not in content:
            return
        schema = {**content["application/json"]["schema"], "components": self._components()}
        jsonschema.Draft4Validator(schema).validate(found)

    def _components(self) -> Any:
        return self._document["components"]


VERSION = {"MODEL_NAME": "echo", "MODEL_VERSION": "3"}
MODEL = "/v2/models/{MODEL_NAME}/versions/{MODEL_VERSION}"


def health(rest: Rest) -> None:
    assert rest.ask("/v2/health/live")["live"] is True
    rest.ask("/v2/health/ready")


def model_ready(rest: Rest) -> None:
    assert rest.ask(MODEL + "/ready", **VERSION) == {"name": "echo", "ready": True}


def server_metadata(rest: Rest) -> None:
    assert rest.ask("/v2/")["name"]


def model_metadata(rest: Rest) -> None:
    found = rest.ask(MODEL, **VERSION)
    assert (found["versions"], found["inputs"][0]["shape"]) == (["3"], [-1, 2])


def inference(datatype: str, rest: Rest) -> None:
    data = DATA[datatype]
    tensor = {"name": "x", "shape": [1, 2], "datatype": datatype}
    for form in (data, [data]):
        body = {"id": "42", "inputs": [{**tensor, "data": form}], "outputs": [{"name": "x"}]}
        found = rest.ask(MODEL + "/infer", body, **VERSION)
        assert (found["id"], found["model_name"], found["model_version"]) == ("42", "echo", "3")
        assert found["outputs"] == [{**tensor, "data": data}]


def a_request_that_is_refused(rest: Rest) -> None:
    found = rest.ask(MODEL + "/infer", {"inputs": []}, status=400, **VERSION)
    assert isinstance(found["error"], str)


def the_examples_of_the_document(document: dict[str, Any], rest: Rest) -> None:
    example = document["components"]["schemas"]["inference_request"]["x-examples"]["Example 1"]
    # Its second input has a shape of three elements and one of them.
    example = {**example, "inputs": example["inputs"][:1], "outputs": [{"name": "input0"}]}
    found = rest.ask(MODEL + "/infer", example, **VERSION)
    assert found["outputs"][0]["data"] == [1, 2, 3, 4]


class Grpc:
    """The methods of the definition, through messages generated from it."""

    def __init__(self, definition: Path, address: str) -> None:
        folder = tempfile.mkdtemp()
        words = ["", f"-I{definition.parent}", f"--python_out={folder}", str(definition)]
        assert protoc.main(words) == 0, "the definition does not compile"
        sys.path.insert(0, folder)
        self.pb: Any = importlib.import_module("open_inference_grpc_pb2")
        self._channel = grpc.insecure_channel(address)

    def ask(self, method: str, **fields: Any) -> Any:
        """The answer to a method; a field that the definition lacks is an error."""
        described = self.pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
        found = described.methods_by_name[method]
        request = getattr(self.pb, found.input_type.name)
        answer = getattr(self.pb, found.output_type.name)
        call = self._channel.unary_unary(
            SERVICE + method, request.SerializeToString, answer.FromString
        )
        return call(request(**fields), timeout=30)


def grpc_health(service: Grpc) -> None:
    assert service.ask("ServerLive").live
    assert service.ask("ServerReady").ready
    assert service.ask("ModelReady", name="echo", version="3").ready


def grpc_server_metadata(service: Grpc) -> None:
    assert service.ask("ServerMetadata").name


def grpc_model_metadata(service: Grpc) -> None:
    found = service.ask("ModelMetadata", name="echo", version="3")
    assert (found.platform, list(found.inputs[0].shape)) == ("mirror", [-1, 2])
    assert dict(found.properties) == {}


def grpc_inference(datatype: str, service: Grpc) -> None:
    group = "int" if datatype.startswith("INT") else "uint" if datatype.startswith("U") else "bytes"
    field = FIELDS.get(datatype, group) + "_contents"
    values = [v.encode() if isinstance(v, str) else v for v in DATA[datatype]]
    tensor = {"name": "x", "shape": [1, 2], "datatype": datatype, "contents": {field: values}}
    found = service.ask("ModelInfer", model_name="echo", id="42", inputs=[tensor])
    (output,) = found.outputs
    assert (found.id, found.model_name, output.datatype) == ("42", "echo", datatype)
    assert list(getattr(output.contents, field)) == values


def grpc_raw_inference(service: Grpc) -> None:
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP16"}
    raw = [b"\x00\x38\x00\x3c"]
    found = service.ask("ModelInfer", model_name="echo", inputs=[tensor], raw_input_contents=raw)
    assert list(found.raw_output_contents) == raw


def every_field_has_the_number_and_type_of_the_definition(service: Grpc) -> None:
    """Of the messages that this server's reflection would show."""
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
        ProtoReflectionDescriptorDatabase,
    )

    database = ProtoReflectionDescriptorDatabase(service._channel)
    ours = {
        message.name: message
        for message in database.FindFileContainingSymbol(
            "inference.GRPCInferenceService"
        ).message_type
    }
    wrong: list[str] = []
    for name, message in service.pb.DESCRIPTOR.message_types_by_name.items():
        _compare(message, ours.get(name), name, wrong)
    assert not wrong, ", ".join(wrong)


def _compare(message: Any, ours: Any, name: str, wrong: list[str]) -> None:
    if ours is None:
        wrong.append(f"{name} is missing")
        return
    known = {field.number: field for field in ours.field}
    for field in message.fields:
        mine = known.get(field.number)
        kind = field.message_type.full_name if field.message_type else ""
        if mine is None or (mine.name, mine.type, mine.type_name.lstrip(".")) != (
            field.name,
            field.type,
            kind,
        ):
            wrong.append(f"{name}.{field.name}")
    nested = {inner.name: inner for inner in ours.nested_type}
    for inner in message.nested_types:
        _compare(inner, nested.get(inner.name), f"{name}.{inner.name}", wrong)


def _named(call: Any, datatype: str) -> Any:
    found: Any = partial(call, datatype)
    found.__name__ = f"{call.__name__.removeprefix('grpc_')} of {datatype}"
    return found


def main() -> None:
    folder, http, grpc_address = sys.argv[1:]
    text = (Path(folder) / "open_inference_rest.yaml").read_text()
    document = yaml.safe_load(text)
    examples: Any = partial(the_examples_of_the_document, document)
    examples.__name__ = "the_examples_of_the_document"
    inferences = [_named(inference, datatype) for datatype in DATA]
    rest = [health, model_ready, server_metadata, model_metadata, *inferences]
    calls.run("REST", [*rest, examples, a_request_that_is_refused], Rest(document, http))
    service = Grpc(Path(folder) / "open_inference_grpc.proto", grpc_address)
    inferences = [_named(grpc_inference, name) for name in DATA if name != "FP16"]
    methods = [grpc_health, grpc_server_metadata, grpc_model_metadata, *inferences]
    for call in methods[:3]:
        call.__name__ = re.sub("^grpc_", "", call.__name__)
    grpc_raw_inference.__name__ = "inference with raw contents"
    last = every_field_has_the_number_and_type_of_the_definition
    calls.run("gRPC", [*methods, grpc_raw_inference, last], service)


if __name__ == "__main__":
    main()
