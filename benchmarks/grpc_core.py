"""`python -m benchmarks.grpc_core`: gRPC on the server's own HTTP/2 and on grpcio.

The load comes from h2load, over four connections. A gRPC error still has HTTP status 200, so
each server's answer is checked before it is loaded.
"""

from __future__ import annotations

import json
import struct
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import grpc
from benchmarks import h2load, load, machine, result_files, servers, session, wine
from benchmarks.wine import WINE

from headrace.protocol.open_inference import inference_pb2 as pb

NAME = "grpc_core"
CORES = ("headrace-grpcio", "headrace-native-grpc")
METHOD = "/inference.GRPCInferenceService/ModelInfer"
CONNECTIONS = 4
CALLS = (1, 32, 128)
ROUNDS = 5
SECONDS = 2


def main() -> int:
    """Measure, print and write the result."""
    path = result_files.place(NAME)
    result = measure()
    print(json.dumps(result["native_over_grpcio"], indent=1))
    result_files.write(path, result)
    return 0


def measure() -> dict[str, Any]:
    """Start both servers and load them in turn.

    Raises:
        LoadFailed, NotStarted: there is no result.
    """
    h2load.require()
    rates: dict[str, dict[str, list[float]]] = {str(calls): {} for calls in CALLS}
    front: dict[str, dict[str, list[float]]] = {str(calls): {} for calls in CALLS}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        model = wine.save(folder / "models")
        body = _body()
        h2load.write_message(folder / "body", body)
        running = {
            name: stack.enter_context(servers.running(name, model.sklearn, folder / f"{name}.log"))
            for name in CORES
        }
        sizes = {name: _check(server, body, model.expected) for name, server in running.items()}
        for number in range(ROUNDS + 1):
            for calls in CALLS:
                for name, server in running.items():
                    rate, used = _load(server, folder / "body", calls, sizes[name])
                    # The first round is the warm-up.
                    if number:
                        rates[str(calls)].setdefault(name, []).append(rate)
                        front[str(calls)].setdefault(name, []).append(used)
                        print(
                            f"round {number}, {calls:3} calls, {name:22} {rate:8,.0f}/s, "
                            f"{used:5.1f} us of the front"
                        )
    ratios = {}
    for calls, each in rates.items():
        grpcio, native = (each[name] for name in CORES)
        pairs = [n / g for g, n in zip(grpcio, native, strict=True)]
        ratios[f"{calls} calls at once"] = {
            "median": round(median(native) / median(grpcio), 2),
            "least": round(min(pairs), 2),
            "most": round(max(pairs), 2),
        }
    return {
        "name": NAME,
        "seconds": SECONDS,
        "machine": machine.describe(result_files.ROOT, ""),
        "load_average": machine.load_average(),
        "rates": rates,
        "front_us": front,
        "native_over_grpcio": ratios,
    }


def _body() -> bytes:
    message = pb.ModelInferRequest(model_name="wine")
    message.inputs.add(name="input-0", datatype="FP64", shape=[1, len(WINE)])
    message.raw_input_contents.append(struct.pack(f"<{len(WINE)}d", *WINE))
    encoded: bytes = message.SerializeToString()
    return encoded


def _check(server: servers.Server, body: bytes, expected: float) -> int:
    """See that the answer is right; returns its size in bytes."""
    with grpc.insecure_channel(server.grpc) as channel:
        answer: bytes = channel.unary_unary(METHOD)(body, timeout=30)
    (raw,) = pb.ModelInferResponse.FromString(answer).raw_output_contents
    if abs(struct.unpack("<d", raw)[0] - expected) > 1e-9:
        raise load.LoadFailed(f"{server.name} does not answer what the model predicts")
    return len(answer)


def _load(server: servers.Server, body: Path, calls: int, size: int) -> tuple[float, float]:
    """Calls a second, and the front's processor time for each of them in microseconds."""
    connections = min(CONNECTIONS, calls)
    streams = calls // connections
    before = server.cpu_seconds()["front"]
    done = h2load.run(server.grpc, METHOD, body, connections, streams, SECONDS, size)
    used = server.cpu_seconds()["front"] - before
    return done.rate, round(1e6 * used / done.requests, 1)


if __name__ == "__main__":
    session.run(main)
