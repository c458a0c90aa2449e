"""`make bench-mlp`: a PyTorch network behind the server, beside the same network called in a loop.

The server gets one row a request over 64 connections, and merges those that wait while the network
works: batching by back-pressure. The loop calls the network with batches of 1 to 256 rows, one
after the other. The server is compared with the fastest size of up to 64 rows, since it never has
more at once; the fastest of all is shown too.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from benchmarks import load, machine, render, result_files, servers, session
from torch import nn

NAME = "pytorch_mlp"
TITLE = "A PyTorch network, batched by back-pressure"
# Width of the hidden layers; each network takes 64 numbers and answers ten.
WIDTHS = (1024, 4096)
ROW, HIDDEN, ANSWER = 64, 3, 10
SIZES = (1, 8, 16, 32, 64, 128, 256)
CONNECTIONS = 64
ROUNDS, SECONDS, LOOP_SECONDS = 5, 3, 0.5
GOAL = 0.85
# Of an answer, those that are compared: sums are in another order when rows are merged.
DIGITS = len("-0.0123")


def main() -> int:
    """Measure, print and write the result; returns 1 if the goal is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.pytorch_mlp", description=__doc__)
    parser.add_argument("--rounds", type=session.count, default=ROUNDS)
    options = parser.parse_args()
    wrk, path = load.wrk_version(), result_files.place(NAME)
    before = machine.load_average()
    networks = [measure(width, options.rounds) for width in WIDTHS]
    result = {
        "name": NAME,
        "title": TITLE,
        "method": {"rounds": options.rounds, "seconds": SECONDS, "connections": CONNECTIONS},
        "goal": GOAL,
        "torch": {"version": torch.__version__, "threads": torch.get_num_threads()},
        "machine": machine.describe(result_files.ROOT, wrk),
        "load_average": {"before": before, "after": machine.load_average()},
        "networks": networks,
    }
    for each in networks:
        verdict = "pass" if each["ratio"] >= GOAL else "miss"
        print(f"{verdict}: {each['width']} wide, {each['ratio']:.2f} of the loop, goal {GOAL:g}")
    result_files.write(path, result)
    render.main()
    return 0 if min(each["ratio"] for each in networks) >= GOAL else 1


def measure(width: int, rounds: int) -> dict[str, Any]:
    """The loop and the server in turn, the network of one width.

    Raises:
        LoadFailed: a run of wrk had an error or a wrong answer.
        NotStarted: the server did not start.
    """
    torch.manual_seed(0)
    network = build(width)
    row = comparable(network)
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        folder = Path(name)
        save(network, folder / "network")
        script = folder / "row.lua"
        load.write_script(script, body(row), part=b'"data":[' + first_digits(network, row).encode())
        with servers.running("headrace-many", folder, folder / "server.log") as server:
            url = f"{server.url}/v2/models/network/infer"
            load.run(url, script, CONNECTIONS, 1)
            found = []
            for number in range(1, rounds + 1):
                found.append(_round(network, server, url, script))
                print(f"{width} wide, round {number}: {found[-1]}", flush=True)
    return {
        "width": width,
        "ratio": round(median(each["rate"] / each["loop_rate"] for each in found), 3),
        "rounds": found,
    }


def _round(network: nn.Module, server: servers.Server, url: str, script: Path) -> dict[str, float]:
    rates = {size: loop_rate(network, size) for size in SIZES}
    possible = {size: rate for size, rate in rates.items() if size <= CONNECTIONS}
    best = max(possible, key=lambda size: possible[size])
    before = server.cpu_seconds()
    sent = load.run(url, script, CONNECTIONS, SECONDS)
    after = server.cpu_seconds()
    used = {kind: (after[kind] - before[kind]) / sent.requests * 1e6 for kind in after}
    return {
        "loop_rate": round(rates[best], 1),
        "best_size": best,
        "any_size_rate": round(max(rates.values()), 1),
        "rate": round(sent.rate, 1),
        "p50_ms": sent.p50_ms,
        "p99_ms": sent.p99_ms,
        "front_us": round(used["front"], 1),
        "workers_us": round(used["workers"], 1),
    }


def build(width: int) -> nn.Sequential:
    """Three hidden layers of this width."""
    layers: list[nn.Module] = [nn.Linear(ROW, width), nn.ReLU()]
    for _ in range(HIDDEN - 1):
        layers += [nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, ANSWER)).eval()


def save(network: nn.Module, folder: Path) -> None:
    """Write the network, and the settings of a model whose rows are independent."""
    folder.mkdir()
    torch.save(network, folder / "model.pt")
    settings = {
        "name": "network",
        "implementation": "pytorch",
        "max_batch_size": SIZES[-1],
        "parameters": {"uri": "./model.pt", "extra": {"batchable": True}},
    }
    (folder / "model-settings.json").write_text(json.dumps(settings))


def body(row: torch.Tensor) -> bytes:
    """One row as the Open Inference Protocol has it in JSON."""
    tensor = {"name": "input", "datatype": "FP32", "shape": [1, ROW], "data": row[0].tolist()}
    return json.dumps({"inputs": [tensor]}).encode()


def comparable(network: nn.Module) -> torch.Tensor:
    """A row whose first answer begins with the same digits if its last ones differ a little."""
    while True:
        row = torch.randn(1, ROW)
        with torch.inference_mode():
            answer = network(row)[0, 0].item()
        digits = [repr(answer * factor)[:DIGITS] for factor in (1 - 1e-4, 1 + 1e-4)]
        if digits[0] == digits[1] and "e" not in repr(answer):
            return row


def first_digits(network: nn.Module, row: torch.Tensor) -> str:
    """How the first number of the answer begins."""
    with torch.inference_mode():
        return repr(network(row)[0, 0].item())[:DIGITS]


def loop_rate(network: nn.Module, size: int) -> float:
    """Rows a second, with batches of this size."""
    rows = torch.randn(size, ROW)
    calls = 0
    with torch.inference_mode():
        network(rows)
        began = time.perf_counter()
        while (taken := time.perf_counter() - began) < LOOP_SECONDS:
            network(rows)
            calls += 1
    return calls * size / taken


if __name__ == "__main__":
    session.run(main)
