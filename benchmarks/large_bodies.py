"""What large bodies cost: processor time to decode them, and memory while they are served.

`python -m benchmarks.large_bodies` first decodes in this process, without a server, and prints
processor time beside what it must cost, one pass of simdjson or one copy of the tensor: the best of
several interleaved rounds, so that it means something on a busy machine too.

Then it serves a model of scikit-learn and sends it one large request at a time, as JSON, as binary
tensors and over gRPC. While some are answered, the memory of all processes is sampled; while others
are, another process asks for the server's health. It writes `results/large_bodies.json`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlsplit

import grpc
import joblib
import numpy as np
import simdjson
from benchmarks import machine, render, result_files, servers, session
from sklearn.linear_model import ElasticNet

from headrace.protocol.open_inference import GRPC_SERVICE
from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.protocol.open_inference.rest_json import decode_request

NAME = "large_bodies"
TITLE = "Large bodies"
ROUNDS = 7
# Rows of the requests that are served, and how many are sent of each form for either figure.
ROWS, COLUMNS, DIGITS = 10_000, 784, 1
SERVED_ROUNDS = 10
MEMORY_GOAL, HEALTH_GOAL_MS = 4.0, 50.0
# Seconds between two looks at the memory, and between two questions for the server's health.
MEMORY_STEP, HEALTH_STEP = 0.002, 0.003
TIMEOUT = 60.0
LARGEST_MESSAGE = 512 * 1024 * 1024

SETTINGS = {
    "name": "large",
    "implementation": "mlserver_sklearn.SKLearnModel",
    "parameters": {"uri": "./model.joblib"},
}

# Sends one request, and returns its predictions.
Send = Callable[[], "np.ndarray[Any, Any]"]


def main() -> int:
    """Print a row for each body; write what serving costs. Returns 1 where a goal is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.large_bodies", description=__doc__)
    parser.add_argument(
        "--rounds", type=session.count, default=SERVED_ROUNDS, help="requests of each form"
    )
    parser.add_argument(
        "--out", type=Path, default=result_files.RESULTS, help="folder of the result"
    )
    options = parser.parse_args()
    path = result_files.place(NAME, options.out)
    decoding = decode_all()
    before = machine.load_average()
    served = serve(options.rounds)
    result = {
        "name": NAME,
        "title": TITLE,
        "machine": machine.describe(result_files.ROOT, ""),
        "load_average": {"before": before, "after": machine.load_average()},
        "method": {
            "rows": ROWS,
            "columns": COLUMNS,
            "rounds": options.rounds,
            "memory_goal": MEMORY_GOAL,
            "health_goal_ms": HEALTH_GOAL_MS,
        },
        "decoding_ms": decoding,
        "served": served,
    }
    for name, each in served.items():
        print(
            f"{'pass' if passes(each) else 'miss'}: {name}, {each['peak']:.2f} times the body, "
            f"goal {MEMORY_GOAL:g}; health in {each['health_p99_ms']:.0f} ms, "
            f"goal {HEALTH_GOAL_MS:g} ms"
        )
    result_files.write(path, result)
    if options.out == result_files.RESULTS:
        render.main()
    return 0 if all(passes(each) for each in served.values()) else 1


def passes(figures: dict[str, Any]) -> bool:
    """Whether a form of request reached both goals."""
    within: bool = figures["peak"] <= MEMORY_GOAL and figures["health_p99_ms"] <= HEALTH_GOAL_MS
    return within


def bodies() -> dict[str, tuple[bytes, int | None]]:
    """Requests by name, each with the size of its JSON part if raw bytes follow."""
    numbers = np.round(np.random.default_rng(0).random((1000, 784)), 5)
    single = numbers.astype("<f4")
    raw = single.tobytes()
    head = _json("FP32", parameters={"binary_data_size": len(raw)})
    return {
        "1000x784 FP32, flat JSON": (_json("FP32", data=numbers.ravel().tolist()), None),
        "1000x784 FP32, rows of JSON": (_json("FP32", data=numbers.tolist()), None),
        "1000x784 FP64, flat JSON": (_json("FP64", data=numbers.ravel().tolist()), None),
        "1000x784 FP32, raw bytes": (head + raw, len(head)),
    }


def decode_all() -> dict[str, dict[str, float]]:
    """Milliseconds of processor time to decode each body, and for what it must cost."""
    found = {}
    for name, (body, json_size) in bodies().items():
        works: dict[str, Callable[[], object]] = {
            "decode": lambda body=body, size=json_size: decode_request(body, size),  # type: ignore[misc]
            "copy": lambda body=body: bytearray(body),  # type: ignore[misc]
        }
        if json_size is None:
            kept = simdjson.Parser()
            works["simdjson"] = lambda body=body, kept=kept: _one_pass(body, kept)  # type: ignore[misc]
            works["simdjson, new parser"] = lambda body=body: _one_pass(  # type: ignore[misc]
                body, simdjson.Parser()
            )
        best = _best(works)
        figures = ", ".join(f"{key} {seconds * 1e3:.2f} ms" for key, seconds in best.items())
        ratio = f", ratio {best['decode'] / best['simdjson']:.2f}" if json_size is None else ""
        print(f"{name}, {len(body) / 1e6:.1f} MB: {figures}{ratio}")
        found[name] = {key: round(seconds * 1e3, 3) for key, seconds in best.items()}
    return found


def serve(rounds: int) -> dict[str, dict[str, Any]]:
    """What large requests cost a server, by their form.

    Raises:
        NotStarted: the server did not start.
    """
    numbers = np.round(np.random.default_rng(0).random((ROWS, COLUMNS)), DIGITS)
    model = ElasticNet(alpha=0.01).fit(numbers[:200], numbers[:200] @ np.arange(COLUMNS))
    found = {}
    for name, form in FORMS.items():
        # A server of its own each: its memory while idle is that of one that did nothing before.
        with tempfile.TemporaryDirectory(prefix="headrace-bench-") as place:
            folder = Path(place)
            joblib.dump(model, folder / "model.joblib")
            (folder / "model-settings.json").write_text(json.dumps(SETTINGS))
            with servers.running("headrace-many", folder, folder / "log") as server:
                size, send = form(server, numbers)
                found[name] = _served(server, size, send, model.predict(numbers), rounds)
        print(f"{name}, {size / 1e6:.1f} MB: {found[name]}", flush=True)
    return found


def _served(
    server: servers.Server, size: int, send: Send, expected: np.ndarray[Any, Any], rounds: int
) -> dict[str, Any]:
    _json_form(server, np.zeros((1, COLUMNS)))[1]()
    pids = [pid for ids in server.processes().values() for pid in ids]
    idle = servers.held_mb(pids)
    seconds = []
    with _beside(_sample_memory, pids) as peaks:
        for _ in range(rounds):
            begun = time.monotonic()
            answer = send()
            seconds.append(time.monotonic() - begun)
            np.testing.assert_allclose(answer, expected, rtol=1e-9)
    with _beside(_ask_health, server.url) as latencies:
        for _ in range(rounds):
            send()
    return {
        "body_bytes": size,
        "seconds": round(median(seconds), 3),
        "idle_mb": round(idle, 1),
        "peak_mb": round(max(peaks), 1),
        "peak": round((max(peaks) - idle) * 1024 * 1024 / size, 2),
        "left": round((servers.held_mb(pids) - idle) * 1024 * 1024 / size, 2),
        "health_asked": len(latencies),
        "health_p99_ms": round(quantiles(latencies, n=100)[98] * 1e3, 1),
        "health_most_ms": round(max(latencies) * 1e3, 1),
    }


@contextmanager
def _beside(work: Callable[[Any, Any], None], argument: Any) -> Iterator[list[float]]:
    """Have another process measure meanwhile; the list is filled in the end."""
    found: list[float] = []
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=work, args=(theirs, argument))
    process.start()
    try:
        # It says when it is ready.
        ours.recv()
        yield found
        ours.send(None)
        found += ours.recv()
    finally:
        process.terminate()
        process.join()


def _sample_memory(pipe: Any, pids: list[int]) -> None:
    """The memory of these processes, in MB, what they share counted once."""
    found = []
    pipe.send(None)
    while not pipe.poll(MEMORY_STEP):
        found.append(servers.held_mb(pids))
    pipe.send(found)


def _ask_health(pipe: Any, url: str) -> None:
    """Seconds that answers of the server about its health took."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT)
    connection.connect()
    found = []
    pipe.send(None)
    while not pipe.poll(HEALTH_STEP):
        begun = time.perf_counter()
        connection.request("GET", "/v2/health/live")
        answer = connection.getresponse()
        answer.read()
        found.append(time.perf_counter() - begun)
        assert answer.status == 200
    pipe.send(found)


def _json_form(server: servers.Server, numbers: np.ndarray[Any, Any]) -> tuple[int, Send]:
    tensor = {"name": "x", "shape": list(numbers.shape), "datatype": "FP64"}
    body = json.dumps({"inputs": [{**tensor, "data": numbers.tolist()}]}).encode()
    # As compact as most clients write it.
    body = body.replace(b", ", b",")
    return len(body), lambda: _posted(server.url, body, {})


def _binary_form(server: servers.Server, numbers: np.ndarray[Any, Any]) -> tuple[int, Send]:
    raw = numbers.astype("<f8").tobytes()
    tensor = {"name": "x", "shape": list(numbers.shape), "datatype": "FP64"}
    head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": len(raw)}}]})
    fields = {"Inference-Header-Content-Length": str(len(head))}
    body = head.encode() + raw
    return len(body), lambda: _posted(server.url, body, fields)


def _grpc_form(server: servers.Server, numbers: np.ndarray[Any, Any]) -> tuple[int, Send]:
    raw = numbers.astype("<f8").tobytes()
    message = pb.ModelInferRequest(model_name="large", raw_input_contents=[raw])
    message.inputs.add(name="x", datatype="FP64", shape=numbers.shape)
    body = message.SerializeToString()

    def send() -> np.ndarray[Any, Any]:
        options = [("grpc.max_send_message_length", LARGEST_MESSAGE)]
        with grpc.insecure_channel(server.grpc, options) as channel:
            call = channel.unary_unary(f"/{GRPC_SERVICE}/ModelInfer")
            answer = pb.ModelInferResponse.FromString(call(body, timeout=TIMEOUT))
        return np.frombuffer(answer.raw_output_contents[0], np.float64)

    return len(body), send


FORMS = {
    "JSON": _json_form,
    "binary tensors": _binary_form,
    "gRPC, raw": _grpc_form,
}


def _posted(url: str, body: bytes, fields: dict[str, str]) -> np.ndarray[Any, Any]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT)
    try:
        connection.request("POST", "/v2/models/large/infer", body, fields)
        answer = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return np.array(answer["outputs"][0]["data"])


def _json(datatype: str, **more: object) -> bytes:
    tensor = {"name": "x", "shape": [1000, 784], "datatype": datatype, **more}
    return json.dumps({"inputs": [tensor]}).encode()


def _one_pass(body: bytes, parser: simdjson.Parser) -> object:
    document = parser.parse(body)
    return document["inputs"].at_pointer("/0/data").as_buffer(of_type="d")  # type: ignore[index, union-attr]


def _best(works: dict[str, Callable[[], object]]) -> dict[str, float]:
    best = dict.fromkeys(works, float("inf"))
    for _ in range(ROUNDS):
        for name, work in works.items():
            begun = time.thread_time()
            work()
            best[name] = min(best[name], time.thread_time() - begun)
    return best


if __name__ == "__main__":
    session.run(main)
