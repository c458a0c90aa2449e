"""What a large body costs beside what it must cost: one pass of simdjson, one copy of its tensor.

`python -m benchmarks.large_bodies` decodes in this process, without a server, and prints processor
time: the best of several interleaved rounds, so that it means something on a busy machine too.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import numpy as np
import simdjson

from headrace.protocol.open_inference.rest_json import decode_request

ROUNDS = 7


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


def main() -> None:
    """Print a row for each body."""
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
    main()
