"""Train the wine model, serve it, call it over both protocols, and compare the answers."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAME = "wine-quality"
FOLDER = Path(__file__).parents[2] / ".demo"
WINE = {
    "fixed acidity": 7.4,
    "volatile acidity": 0.7,
    "citric acid": 0.0,
    "residual sugar": 1.9,
    "chlorides": 0.076,
    "free sulfur dioxide": 11.0,
    "total sulfur dioxide": 34.0,
    "density": 0.9978,
    "pH": 3.51,
    "sulphates": 0.56,
    "alcohol": 9.4,
}
START_TIMEOUT = 120.0
STOP_TIMEOUT = 40.0
ANSWER_TIMEOUT = 30.0


def main() -> int:
    """Run the demo and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="port to serve on (default 8080)")
    parser.add_argument(
        "--check", action="store_true", help="compare the answers, stop, and fail if they differ"
    )
    options = parser.parse_args()
    port = 0 if options.check else options.port
    if not is_free(port):
        print(f"port {port} is taken; choose another: make demo PORT={port + 10}", file=sys.stderr)
        return 2
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        return demo(port, options.check)
    except (OSError, RuntimeError) as exc:
        print(f"the demo failed: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def demo(port: int, check: bool) -> int:
    """Train, serve and score; then compare and stop, or wait for Ctrl-C."""
    folder, direct = trained()
    print(f"serving it as {NAME}")
    with serving(folder, port) as (server, address):
        answers = {
            "the model called directly": direct,
            "POST /invocations": ask_invocations(address),
            f"POST /v2/models/{NAME}/infer": ask_open_inference(address),
        }
        print("\nquality of the wine, according to")
        for source, answer in answers.items():
            print(f"  {source:<36} {answer:.4f}")
        agree = all(abs(answer - direct) < 1e-9 for answer in answers.values())
        if not check:
            print(f"\nserving at {address} until Ctrl-C", flush=True)
            wait_for_ctrl_c(server)
    if not agree:
        print("the answers differ", file=sys.stderr)
    return 0 if agree and server.returncode == 0 else 1


def trained() -> tuple[Path, float]:
    """Train and log the model; returns its folder and its direct prediction for the wine."""
    print("training the ElasticNet from MLflow's tutorial", flush=True)
    import pandas as pd
    import train

    model, features = train.train()
    shutil.rmtree(FOLDER, ignore_errors=True)
    folder = train.log(model, features, FOLDER / "mlruns")
    print(f"logged to {os.path.relpath(folder)}")
    return folder, float(model.predict(pd.DataFrame([WINE]))[0])


@contextlib.contextmanager
def serving(folder: Path, port: int) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run `headrace serve` as a child; yields it and its address, and stops it at the end."""
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "headrace", "serve", str(folder), "--name", NAME]
    command += ["--http-port", str(port), "--grpc-port", "0", "--metrics-port", "0"]
    command += ["--ready-fd", str(writer)]
    # A session of its own, so that Ctrl-C reaches only the demo, which then stops the server.
    server = subprocess.Popen(command, pass_fds=[writer], start_new_session=True)
    os.close(writer)
    try:
        yield server, ready_address(reader)
    finally:
        os.close(reader)
        stop(server)


def ready_address(reader: int) -> str:
    """Wait for the line that the server writes when it is ready."""
    deadline = time.monotonic() + START_TIMEOUT
    line = b""
    while not line.endswith(b"\n"):
        if not select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise RuntimeError(f"the server was not ready within {START_TIMEOUT:.0f} s")
        chunk = os.read(reader, 4096)
        if not chunk:
            raise RuntimeError("the server exited before it was ready; its log is above")
        line += chunk
    return str(json.loads(line)["http"])


def stop(server: subprocess.Popen[bytes]) -> None:
    """Ask the server to finish and exit; kill it if it does not."""
    if server.poll() is None:
        server.send_signal(signal.SIGTERM)
    try:
        server.wait(STOP_TIMEOUT)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        server.kill()
        server.wait()
        print("the server did not stop in time and was killed", file=sys.stderr)


def wait_for_ctrl_c(server: subprocess.Popen[bytes]) -> None:
    """Return on Ctrl-C or SIGTERM; it is an error if the server exits on its own."""
    try:
        server.wait()
    except KeyboardInterrupt:
        print("\nstopping", flush=True)
        return
    raise RuntimeError(f"the server exited on its own, with status {server.returncode}")


def ask_open_inference(address: str) -> float:
    """Score with the Open Inference Protocol, one tensor per column."""
    inputs = [
        {"name": name, "shape": [1], "datatype": "FP64", "data": [value]}
        for name, value in WINE.items()
    ]
    answer = post(f"{address}/v2/models/{NAME}/infer", {"inputs": inputs})
    return float(answer["outputs"][0]["data"][0])


def ask_invocations(address: str) -> float:
    """Score with MLflow's scoring protocol."""
    table = {"columns": list(WINE), "data": [list(WINE.values())]}
    answer = post(f"{address}/invocations", {"dataframe_split": table})
    return float(answer["predictions"][0])


def post(url: str, payload: dict[str, Any]) -> Any:
    """Send JSON and return the answer's JSON; an error response is raised with its text."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(payload).encode(), headers)
    # The server is on this machine, so ignore proxies from the environment.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=ANSWER_TIMEOUT) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as exc:
        raise RuntimeError(f"{url} answered {exc.code}: {exc.read().decode()}") from exc


def is_free(port: int) -> bool:
    """Whether the port can be bound now; 0 always can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


if __name__ == "__main__":
    sys.exit(main())
