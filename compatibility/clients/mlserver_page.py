"""Runs the cells of a notebook of MLServer's examples, unedited, against a server.

`mlserver_page.py REPORT SERVER...` in a copy of the example's folder, in an environment with
MLServer and IPython. `SERVER...` is the command that serves the folder; it is started before the
first request, and again when a cell has changed a file. Requests to the ports that the page names
go to this server. REPORT gets the requests of each cell with their answers, and how the cell ended.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import numpy as np
import requests
from google.protobuf.json_format import MessageToDict
from IPython.core.interactiveshell import InteractiveShell

# What brings a broker, conda, or Docker, or loads a server for a while.
LEFT_OUT = re.compile(r"^(%%bash|!(wget|tar|conda|\./kafka))", re.MULTILINE)
# What a page calls the server, its brokers included. LightGBM's says 8788, where nothing listens.
PORTS = {"8080": "HTTP", "8788": "HTTP", "8081": "GRPC"}
ASKS = re.compile(rf"localhost:({'|'.join(PORTS)}|9092)")
SERVED = (".json", ".py", ".joblib", ".bst", ".cbm", ".ubj")
# Loading TensorFlow or MLflow takes MLServer most of a minute.
START, STOP = 120, 60


class Server:
    """The server of the folder, on free ports in place of those of the page."""

    def __init__(self, command: list[str]) -> None:
        self._ports = {name: _free_port() for name in ("HTTP", "GRPC", "METRICS")}
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._files: dict[Path, int] = {}
        self._failure = ""

    def address(self, text: str) -> str:
        """`text` with the port of this server in place of the page's."""
        ports = "|".join(PORTS)
        return re.sub(
            f"localhost:({ports})", lambda m: f"127.0.0.1:{self._ports[PORTS[m[1]]]}", text
        )

    def refresh(self) -> None:
        """Start it, or start it again if a cell has written what it serves."""
        files = {p: p.stat().st_mtime_ns for p in Path().rglob("*") if p.suffix in SERVED}
        if files != self._files:
            self.stop()
            self._files, self._failure = files, ""
            self._start()
        if self._failure:
            raise RuntimeError(f"the server did not start: {self._failure}")

    def _start(self) -> None:
        variables = {f"MLSERVER_{name}_PORT": str(port) for name, port in self._ports.items()}
        with open("server.log", "ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env={**os.environ, **variables},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._failure = _last_words()
                return
            time.sleep(0.1)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP)
            # Its workers outlive an MLServer that is killed, or that never found its broker.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process, self._files = None, {}

    def _is_ready(self) -> bool:
        # MLServer says that it is ready before its models are.
        url = self.address("http://localhost:8080/v2/repository/index")
        asked = urllib.request.Request(url, b"{}", {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:
                models = json.load(answer)
        except (urllib.error.URLError, OSError):
            return False
        return bool(models) and all(model["state"] == "READY" for model in models)


class Traffic:
    """Sends what the cells send to the server, and keeps the answers."""

    def __init__(self, server: Server) -> None:
        self.requests: list[dict[str, Any]] = []
        self._server = server
        self._patch_requests()
        self._patch_httpx()
        self._patch_grpc()

    def keep(self, request: str, status: Any, answer: Any) -> None:
        self.requests.append({"request": request, "status": str(status), "answer": answer})

    def _patch_requests(self) -> None:
        sent = requests.Session.send

        def send(session: Any, prepared: Any, **options: Any) -> Any:
            url, prepared.url = prepared.url, self._server.address(prepared.url)
            if (found := _beside(url)) is not None:
                return found
            response = sent(session, prepared, **options)
            if prepared.url != url:
                path = prepared.path_url
                self.keep(f"{prepared.method} {path}", response.status_code, _parsed(response.text))
            return response

        requests.Session.send = send

    def _patch_httpx(self) -> None:
        handled = httpx.HTTPTransport.handle_request

        def handle(transport: Any, request: Any) -> Any:
            request.url = httpx.URL(self._server.address(str(request.url)))
            response = handled(transport, request)
            body = response.read().decode()
            # A stream is read to its end: its events are the answer.
            events = [_parsed(line[6:]) for line in body.splitlines() if line.startswith("data: ")]
            self.keep(f"{request.method} {request.url.path}", response.status_code, events)
            return httpx.Response(
                response.status_code, headers=response.headers, content=body, request=request
            )

        httpx.HTTPTransport.handle_request = handle

    def _patch_grpc(self) -> None:
        plain, of_loop, traffic = grpc.insecure_channel, grpc.aio.insecure_channel, self

        class Unary(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
            def intercept_unary_unary(self, continue_with: Any, details: Any, request: Any) -> Any:
                call = continue_with(details, request)
                ok = call.code() is grpc.StatusCode.OK
                answer = MessageToDict(call.result()) if ok else call.details()
                traffic.keep(f"gRPC {details.method}", call.code().name, answer)
                return call

        class Stream(grpc.aio.StreamStreamClientInterceptor):  # type: ignore[misc]
            async def intercept_stream_stream(
                self, continue_with: Any, details: Any, given: Any
            ) -> Any:
                return self._kept(await continue_with(details, given), details.method.decode())

            async def _kept(self, call: Any, method: str) -> Any:
                answers = []
                try:
                    async for each in call:
                        answers.append(MessageToDict(each))
                        yield each
                finally:
                    traffic.keep(f"gRPC {method}", (await call.code()).name, answers)

        grpc.insecure_channel = lambda target, **options: grpc.intercept_channel(
            plain(self._server.address(target), **options), Unary()
        )
        grpc.aio.insecure_channel = lambda target, **options: of_loop(
            self._server.address(target), interceptors=[Stream()], **options
        )


def main() -> None:
    """Run the page of the working directory, cell by cell; a failure of one does not end it."""
    report, *command = sys.argv[1:]
    # A cell's `!python` is the python of this environment.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    cells = json.loads(Path("README.ipynb").read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    # So that the pages that train on random numbers make the same model each time.
    np.random.seed(0)
    server = Server(command)
    traffic = Traffic(server)
    shell = InteractiveShell.instance()
    done = []
    try:
        for number, source in enumerate(sources, 1):
            asks = bool(ASKS.search(source))
            error = "" if LEFT_OUT.search(source) else _run(shell, server, source, asks)
            found = {"cell": number, "asks": asks, "error": error, "requests": traffic.requests}
            done.append(found)
            traffic.requests = []
    finally:
        server.stop()
    Path(report).write_text(json.dumps(done))


def _run(shell: InteractiveShell, server: Server, source: str, asks: bool) -> str:
    try:
        if asks:
            server.refresh()
    except RuntimeError as error:
        return str(error)
    with contextlib.redirect_stdout(io.StringIO()):
        result = shell.run_cell(source)
    error = result.error_before_exec or result.error_in_exec
    return f"{type(error).__name__}: {error}" if error else ""


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _last_words() -> str:
    lines = Path("server.log").read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it wrote nothing"


def _beside(url: str) -> Any:
    """The answer to a download of a file that the example's folder has already."""
    name = url.rpartition("/")[2]
    if "localhost:" in url or "//127.0.0.1" in url or not Path(name).is_file():
        return None
    found = requests.Response()
    found.status_code, found._content = 200, Path(name).read_bytes()
    return found


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


if __name__ == "__main__":
    main()
