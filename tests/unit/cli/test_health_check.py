"""`headrace health` against a listener of each kind."""

from __future__ import annotations

import http.server
import threading

import pytest

from headrace.cli.main import main


@pytest.fixture
def listener():
    """A server whose answer to every request is the status in `answer`."""
    answer = {"status": 200}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(answer["status"] if self.path == "/v2/health/ready" else 404)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port, answer
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_status_says_whether_the_server_here_is_ready(listener, monkeypatch, capsys):
    port, answer = listener
    monkeypatch.setenv("HEADRACE_HOST", "0.0.0.0")
    monkeypatch.setenv("HEADRACE_HTTP_PORT", str(port))

    assert main(["health"]) == 0
    answer["status"] = 503
    assert main(["health"]) == 1

    assert capsys.readouterr().out.splitlines() == ["ready", "not ready: status 503"]


def test_no_answer_is_not_ready_and_is_explained(listener, capsys):
    port, _ = listener

    assert main(["health", "--host", "127.0.0.2", "--http-port", str(port)]) == 1

    assert f"no answer from 127.0.0.2:{port}" in capsys.readouterr().err
