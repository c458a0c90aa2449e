"""Whether one request can stop the server: how health answers, and what memory it takes, meanwhile.

`python -m benchmarks.hostile_bodies` sends bodies of up to 60 MB that cost far more than their
bytes to decode, and asks for answers that cost as much to encode, one at a time. Another process
asks for the server's health meanwhile. It prints a row for each, and writes
`results/hostile_bodies.json`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import grpc
from benchmarks import machine, result_files, servers, session
from benchmarks.held_memory import Memory, decoders

from headrace.admin.object_body import LARGEST_BODY
from headrace.http.large_requests import MUCH_TEXT
from headrace.protocol.open_inference import GRPC_SERVICE
from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.protocol.open_inference.grpc_contents import varint

NAME = "hostile_bodies"
HEALTH_GOAL_MS, MEMORY_GOAL = 100.0, 6.0
HEALTH_STEP = 0.005
TIMEOUT = 120.0
# Bytes of the largest bodies, within the default bound, and of the answers.
SIZE = 60_000_000
ANSWER = 200_000_000
JSON = "application/json"

MODEL = """
import numpy as np
from headrace.model import Model
from headrace.protocol.messages import InferenceResponse
from headrace.protocol.tensor import Tensor, pack_bytes

class Anything(Model):
    def predict(self, request): ...

    def metadata(self):
        from headrace.protocol.messages import ModelMetadata
        return ModelMetadata(platform="python")

    def infer(self, request):
        wanted = request.parameters or {}
        size, kind = wanted.get("size", 8), wanted.get("kind", "FP64")
        if kind == "FP64":
            data = np.random.default_rng(0).random(size // 8)
            tensor = Tensor("y", "FP64", [size // 8], data.tobytes())
        elif kind == "INT8":
            tensor = Tensor("y", "INT8", [size], b"\\x9c" * size)
        elif kind == "text":
            tensor = Tensor("y", "BYTES", [1], pack_bytes([b"x" * size]))
        else:
            tensor = Tensor("y", "BYTES", [size // 6], pack_bytes([b"ab"]) * (size // 6))
        return InferenceResponse([tensor])

class Payload(Anything):
    def metadata(self):
        found = super().metadata()
        found.parameters["request_content_type"] = "text/plain"
        return found

    def infer(self, request):
        parts = [pack_bytes([each]) for each in (b"", b"text/plain")]
        return InferenceResponse([Tensor("y", "BYTES", [1], part) for part in parts])
"""


class Sent(NamedTuple):
    """A request over HTTP, or over gRPC if there is no path."""

    body: bytes
    path: str = "/v2/models/anything/infer"
    content_type: str = JSON
    fields: dict[str, str] = {}


def main() -> int:
    """Print a row for each case; write the result. Returns 1 where a goal is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.hostile_bodies", description=__doc__)
    parser.add_argument("--only", default="", help="run the cases whose names have this in them")
    parser.add_argument(
        "--out", type=Path, default=result_files.RESULTS, help="folder of the result"
    )
    options = parser.parse_args()
    path = result_files.place(NAME, options.out)
    before = machine.load_average()
    found = {
        name: measure(name, make, goal)
        for name, (make, goal) in cases().items()
        if options.only in name
    }
    result = {
        "name": NAME,
        "title": "Hostile bodies",
        "machine": machine.describe(result_files.ROOT, ""),
        "load_average": {"before": before, "after": machine.load_average()},
        "method": {"memory_goal": MEMORY_GOAL, "health_goal_ms": HEALTH_GOAL_MS},
        "cases": found,
    }
    result_files.write(path, result)
    return 0 if all(each["passes"] for each in found.values()) else 1


def cases() -> dict[str, tuple[Callable[[], Sent], bool]]:
    """What is sent, by name, and whether the memory it takes has a goal."""
    requests = {f"request: {name}": (make, True) for name, make in REQUESTS.items()}
    answers = {f"answer: {name}": (make, False) for name, make in ANSWERS.items()}
    # Next to which whatever a server takes for a request is much.
    small = {f"small request: {name}": (make, False) for name, make in SMALL.items()}
    return {**requests, **answers, **small}


def measure(name: str, make: Callable[[], Sent], has_goal: bool) -> dict[str, Any]:
    """What one request does to a server of its own."""
    sent = make()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as place:
        for each in ("anything", "payload"):
            folder = Path(place) / each
            folder.mkdir()
            (folder / f"{each}.py").write_text(MODEL)
            settings = {"name": each, "implementation": f"{each}:{each.capitalize()}"}
            (folder / "model-settings.json").write_text(json.dumps(settings))
        with servers.running("headrace-many", Path(place), Path(place) / "log") as server:
            figures = _measured(server, sent)
    memory = figures["peak"] <= MEMORY_GOAL or not has_goal
    figures["passes"] = figures["health_most_ms"] <= HEALTH_GOAL_MS and memory
    print(
        f"{'pass' if figures['passes'] else 'miss'}: {name}, {len(sent.body) / 1e6:.1f} MB: status "
        f"{figures['status']} in {figures['seconds']:.1f} s, health within "
        f"{figures['health_most_ms']:.0f} ms, {figures['peak_mb']:.0f} MB more "
        f"({figures['peak']:.1f} times the body)",
        flush=True,
    )
    return figures


def _measured(server: servers.Server, sent: Sent) -> dict[str, Any]:
    warm = Sent(b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP64","data":[1]}]}')
    # Large enough to start the process that decodes.
    _send(server, Sent(warm.body + b" " * MUCH_TEXT))
    pids = [server.process.pid, *decoders(server.process.pid)]
    ours, theirs = multiprocessing.Pipe()
    watch = multiprocessing.get_context("spawn").Process(target=_watch, args=(theirs, server.url))
    watch.start()
    ours.recv()
    memory = Memory(pids)
    begun = time.monotonic()
    status = _send(server, sent)
    seconds = time.monotonic() - begun
    ours.send(None)
    latencies = ours.recv()
    watch.join()
    more = memory.stop()
    _send(server, warm)
    return {
        "body_bytes": len(sent.body),
        "status": status,
        "seconds": round(seconds, 2),
        "health_asked": len(latencies),
        "health_most_ms": round(max(latencies) * 1e3, 1),
        "peak_mb": round(more, 1),
        "peak": round(more * 1024 * 1024 / max(len(sent.body), 1), 2),
    }


def _send(server: servers.Server, sent: Sent) -> int | str:
    if not sent.path:
        return _send_grpc(server, sent)
    connection = HTTPConnection(urlsplit(server.url).netloc, timeout=TIMEOUT)
    headers = {"Content-Type": sent.content_type, **sent.fields}
    try:
        connection.request("POST", sent.path, sent.body, headers)
        response = connection.getresponse()
        while response.read(1024 * 1024):
            pass
        return response.status
    except ConnectionError:
        # Refused before all of it was sent.
        return "closed"
    finally:
        connection.close()


def _send_grpc(server: servers.Server, sent: Sent) -> str:
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.grpc, options) as channel:
        method = channel.unary_unary(f"/{GRPC_SERVICE}/ModelInfer")
        try:
            method(sent.body, timeout=TIMEOUT)
        except grpc.RpcError as error:
            return str(error.code().name)  # type: ignore[attr-defined]
        return "OK"


def _watch(pipe: Any, url: str) -> None:
    """Ask for the server's health until told to stop."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT)
    latencies = []
    while not pipe.poll():
        begun = time.perf_counter()
        connection.request("GET", "/v2/health/live")
        connection.getresponse().read()
        latencies.append(time.perf_counter() - begun)
        if len(latencies) == 1:
            pipe.send(None)
        time.sleep(HEALTH_STEP)
    pipe.send(latencies[1:] or latencies)


def _tensor(datatype: str, count: int, data: bytes, more: bytes = b"") -> bytes:
    head = f'{{"inputs":[{{"name":"x","shape":[{count}],"datatype":"{datatype}","data":'
    return head.encode() + data + b"}]" + more + b"}"


def _list(element: bytes, size: int = SIZE) -> tuple[int, bytes]:
    count = size // (len(element) + 1)
    return count, b"[" + b",".join([element] * count) + b"]"


def _texts(size: int = SIZE) -> Sent:
    return Sent(_tensor("BYTES", *_list(b'""', size)))


def _numbers(datatype: str, element: bytes) -> Callable[[], Sent]:
    return lambda: Sent(_tensor(datatype, *_list(element)))


def _parameters() -> Sent:
    members = b",".join(b'"%d":1' % index for index in range(4_000_000))
    return Sent(_tensor("FP64", 1, b"[1]", b',"parameters":{%b}' % members))


def _parameter(value: bytes) -> Sent:
    return Sent(_tensor("FP64", 1, b"[1]", b',"parameters":{"a":%b}' % _list(value)[1]))


def _inputs() -> Sent:
    each = b'{"name":"%d","shape":[1],"datatype":"INT8","data":[1]}'
    return Sent(b'{"inputs":[%b]}' % b",".join(each % index for index in range(1_000_000)))


def _outputs() -> Sent:
    each = b",".join(b'{"name":"%d"}' % index for index in range(1_000_000))
    return Sent(_tensor("FP64", 1, b"[1]", b',"outputs":[%b]' % each))


def _deep(size: int = SIZE) -> bytes:
    return b"[" * (size // 2) + b"]" * (size // 2)


def _scoring(key: bytes, value: bytes) -> Sent:
    return Sent(b'{"%b":%b}' % (key, value), "/invocations")


def _records() -> Sent:
    return _scoring(b"dataframe_records", _list(b'{"a":1,"b":""}')[1])


def _split() -> Sent:
    rows = _list(b'[1,""]')[1]
    return _scoring(b"dataframe_split", b'{"columns":["a","b"],"data":%b}' % rows)


def _csv() -> Sent:
    return Sent(b"a,b\n" + b",\n" * (SIZE // 2), "/invocations", "text/csv")


def _multipart() -> Sent:
    part = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n\r\n'
    body = part * (SIZE // len(part)) + b"--b--\r\n"
    return Sent(body, "/v2/models/payload/raw", "multipart/form-data; boundary=b")


def _form_of(piece: bytes) -> Callable[[], Sent]:
    def make() -> Sent:
        head = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n'
        body = head + piece * (SIZE // len(piece)) + b"\r\n--b--\r\n"
        return Sent(body, "/v2/models/payload/raw", "multipart/form-data; boundary=b")

    return make


def _control() -> Sent:
    """As large a body as is read."""
    value = _list(b"[]", LARGEST_BODY - 100)[1]
    return Sent(b'{"parameters":{"a":%b}}' % value, "/v2/repository/models/anything/load")


def _v1(value: bytes) -> Sent:
    return Sent(b'{"instances":%b}' % value, "/v1/models/anything:predict")


def _chat() -> Sent:
    messages = _list(b'{"role":"user","content":""}')[1]
    body = b'{"model":"anything","messages":%b}' % messages
    return Sent(body, "/v1/chat/completions")


def _load() -> Sent:
    members = b",".join(b'"%d":1' % index for index in range(4_000_000))
    body = b'{"parameters":{%b}}' % members
    return Sent(body, "/v2/repository/models/anything/load")


def _binary_texts() -> Sent:
    raw = bytes(SIZE)
    head = (
        b'{"inputs":[{"name":"x","shape":[%d],"datatype":"BYTES","parameters":'
        b'{"binary_data_size":%d}}]}' % (SIZE // 4, SIZE)
    )
    fields = {"Inference-Header-Content-Length": str(len(head))}
    return Sent(head + raw, content_type="application/octet-stream", fields=fields)


def _message(fill: Callable[[Any], None]) -> Callable[[], Sent]:
    def make() -> Sent:
        message = pb.ModelInferRequest(model_name="anything")
        fill(message)
        return Sent(message.SerializeToString(), path="")

    return make


def _typed(field: str, datatype: str, values: Callable[[], Any]) -> Callable[[], Sent]:
    def fill(message: Any) -> None:
        found = values()
        added = message.inputs.add(name="x", datatype=datatype, shape=[len(found)])
        getattr(added.contents, field).extend(found)

    return _message(fill)


def _field(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2]) + varint(len(data)) + data


def _wire(datatype: str, shape: bytes, contents: bytes) -> Callable[[], Sent]:
    """A message of one input as its bytes; `contents` are those of the field, with its key."""
    described = _field(1, b"x") + _field(2, datatype.encode()) + _field(3, shape)
    tensor = described + (_field(5, contents) if contents else b"")
    return lambda: Sent(_field(1, b"anything") + _field(5, tensor), path="")


def _pieces(datatype: str, number: int, piece: bytes, count: int) -> Callable[[], Sent]:
    """Packed numbers of a byte each, divided."""
    shape = varint(len(piece) * count)
    return lambda: _wire(datatype, shape, _field(number, piece) * count)()


def _raw_texts(message: Any) -> None:
    message.inputs.add(name="x", datatype="BYTES", shape=[SIZE // 4])
    message.raw_input_contents.append(bytes(SIZE))


def _grpc_parameters(message: Any) -> None:
    for index in range(3_000_000):
        message.parameters[str(index)].int64_param = 1


def _grpc_inputs(message: Any) -> None:
    for index in range(1_000_000):
        message.inputs.add(name=str(index), datatype="INT8", shape=[1])


def _grpc_outputs(message: Any) -> None:
    for index in range(1_000_000):
        message.outputs.add(name=str(index))
    message.inputs.add(name="x", datatype="INT8", shape=[1]).contents.int_contents.append(1)


def _answer(kind: str, more: bytes = b"") -> Callable[[], Sent]:
    wanted = b',"parameters":{"kind":"%b","size":%d%b}' % (kind.encode(), ANSWER, more)
    return lambda: Sent(_tensor("FP64", 1, b"[1]", wanted))


def _grpc_answer(kind: str, raw: bool) -> Callable[[], Sent]:
    def fill(message: Any) -> None:
        message.parameters["kind"].string_param = kind
        message.parameters["size"].int64_param = ANSWER
        added = message.inputs.add(name="x", datatype="FP64", shape=[1])
        if raw:
            message.raw_input_contents.append(bytes(8))
        else:
            added.contents.fp64_contents.append(1)

    return _message(fill)


def _scored(kind: str) -> Callable[[], Sent]:
    body = b'{"inputs":[1],"params":{"kind":"%b","size":%d}}' % (kind.encode(), ANSWER)
    return lambda: Sent(body, "/invocations")


REQUESTS: dict[str, Callable[[], Sent]] = {
    "20 million empty texts": _texts,
    "4 MB of empty texts": lambda: _texts(4_000_000),
    "a million empty texts, all that are allowed": lambda: _texts(2_999_000),
    "whole numbers": _numbers("INT8", b"1"),
    "booleans": _numbers("BOOL", b"true"),
    "numbers of 4,000 digits": _numbers("INT64", b"1" * 4000),
    "long decimals": _numbers("FP64", b"0." + b"1" * 300),
    "nulls": _numbers("FP64", b"null"),
    "one text": lambda: Sent(_tensor("BYTES", 1, b'["' + b"x" * SIZE + b'"]')),
    "one escaped text": lambda: Sent(_tensor("BYTES", 1, b'["' + b"\\n" * (SIZE // 2) + b'"]')),
    "brackets": lambda: Sent(_tensor("FP64", 1, _deep())),
    "nothing but brackets": lambda: Sent(_deep()),
    "4 million parameters": _parameters,
    "lists in a parameter": lambda: _parameter(b"[]"),
    "numbers in a parameter": lambda: _parameter(b"1.5"),
    "a long shape": lambda: Sent(
        b'{"inputs":[{"name":"x","shape":%b,"datatype":"INT8","data":[1]}]}' % _list(b"300")[1]
    ),
    "a million inputs": _inputs,
    "a million outputs": _outputs,
    "a long id": lambda: Sent(_tensor("FP64", 1, b"[1]", b',"id":"%b"' % (b"x" * SIZE))),
    "a long unknown key": lambda: Sent(_tensor("FP64", 1, b"[1]", b',"%b":1' % (b"x" * SIZE))),
    "an unknown list": lambda: Sent(_tensor("FP64", 1, b"[1]", b',"other":' + _list(b"{}")[1])),
    "spaces": lambda: Sent(b" " * SIZE),
    "binary texts": _binary_texts,
    "gRPC, 30 million texts": _typed("bytes_contents", "BYTES", lambda: [b""] * 30_000_000),
    "gRPC, 60 million numbers": _typed("int_contents", "INT8", lambda: bytes(60_000_000)),
    "gRPC, negative numbers": lambda: _wire(
        "INT8", varint(SIZE // 10), _field(2, (b"\xff" * 9 + b"\1") * (SIZE // 10))
    )(),
    "gRPC, numbers in two pieces": _pieces("INT8", 2, b"\1" * (SIZE // 2), 2),
    "gRPC, numbers in pieces of one": _pieces("INT8", 2, b"\1", SIZE // 3),
    "gRPC, pieces of nothing": _pieces("INT8", 2, b"", SIZE // 2),
    "gRPC, booleans": _pieces("BOOL", 1, b"\1" * SIZE, 1),
    "gRPC, floats": lambda: _wire("FP32", varint(SIZE // 4), _field(6, bytes(SIZE)))(),
    "gRPC, doubles in two pieces": lambda: _wire(
        "FP64", varint(SIZE // 8), _field(7, bytes(SIZE // 2)) * 2
    )(),
    "gRPC, numbers that are not packed": lambda: _wire("INT8", b"\1", b"\x10\1" * (SIZE // 2))(),
    "gRPC, a long shape": lambda: _wire("INT8", b"\1" * SIZE, b"")(),
    "gRPC, raw texts": _message(_raw_texts),
    "gRPC, 3 million parameters": _message(_grpc_parameters),
    "gRPC, a million inputs": _message(_grpc_inputs),
    "gRPC, a million outputs": _message(_grpc_outputs),
    "/invocations, split": _split,
    "/invocations, records": _records,
    "/invocations, CSV": _csv,
    "/invocations, inputs": lambda: _scoring(b"inputs", _list(b'""')[1]),
    "/invocations, objects": lambda: _scoring(b"instances", _list(b"{}")[1]),
    "/invocations, brackets": lambda: _scoring(b"inputs", _deep()),
    "/v1, texts": lambda: _v1(_list(b'""')[1]),
    "/v1, lists": lambda: _v1(_list(b"[1]")[1]),
    "chat": _chat,
    "a form of many parts": _multipart,
    "a form of zeros": _form_of(b"\0"),
    "a form of line ends": _form_of(b"\r\n"),
    "a form of what begins like a boundary": _form_of(b"\r\n--"),
    "load": _load,
}
SMALL: dict[str, Callable[[], Sent]] = {"load": _control}
ANSWERS: dict[str, Callable[[], Sent]] = {
    "numbers": _answer("FP64"),
    "bytes": _answer("INT8"),
    "one text": _answer("text"),
    "texts": _answer("texts"),
    "binary": _answer("FP64", b',"binary_data_output":true'),
    "gRPC, raw": _grpc_answer("FP64", True),
    "gRPC, typed": _grpc_answer("FP64", False),
    "gRPC, typed bytes": _grpc_answer("INT8", False),
    "gRPC, texts": _grpc_answer("texts", False),
    "/invocations, numbers": _scored("FP64"),
    "/invocations, texts": _scored("texts"),
}


if __name__ == "__main__":
    session.run(main)
