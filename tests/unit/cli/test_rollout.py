"""`headrace rollout` against a listener, and without one."""

from __future__ import annotations

import http.server
import json
import threading

import pytest

from headrace.cli.main import main

STATE = {
    "model": "wine",
    "stable": {"version": "7"},
    "canary": {
        "version": "8", "percent": 12.5, "steps": [12.5, 100], "step": 0,
        "step_ends": "2026-01-01T00:00:00+00:00", "requests": 30, "failures": {"internal": 2},
    },
    "shadow": None,
    "rollout": {"version": "8", "outcome": "running", "reason": ""},
}  # fmt: skip


@pytest.fixture
def listener():
    """A server that answers everything with the status and body in `answer`, and notes it."""
    answer = {"status": 200, "body": STATE, "asked": []}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            length = int(self.headers.get("content-length", 0))
            answer["asked"].append((self.command, self.path, self.rfile.read(length)))
            self.send_response(answer["status"])
            self.end_headers()
            self.wfile.write(json.dumps(answer["body"]).encode())

        do_POST = do_GET

        def log_message(self, *arguments):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}", answer
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_state_is_shown_to_people(listener, capsys):
    url, answer = listener
    assert main(["rollout", "status", "wine", "--url", url]) == 0
    shown = capsys.readouterr().out
    assert "canary    version 8, 12.5 % of the requests" in shown
    assert "30, of which 2 failed" in shown
    assert answer["asked"] == [("GET", "/v2/repository/models/wine/rollout", b"")]


def test_it_is_shown_why_there_is_no_canary(listener, capsys):
    url, answer = listener
    answer["body"] = {**STATE, "canary": None, "no_canary": "it is being loaded", "moves_to": "6"}
    assert main(["rollout", "status", "wine", "--url", url]) == 0
    shown = capsys.readouterr().out
    assert "canary    none: it is being loaded" in shown
    assert "moves to  version 6, once it is loaded" in shown


def test_scripts_get_what_the_server_answers(listener, capsys):
    assert main(["rollout", "status", "wine", "--json", "--url", listener[0]]) == 0
    assert json.loads(capsys.readouterr().out) == STATE


@pytest.mark.parametrize("verb", ["promote", "hold", "rollback"])
def test_a_decision_is_sent_with_its_reason(listener, verb):
    url, answer = listener
    assert main(["rollout", verb, "a b", "--reason", "so", "--url", f"http://{url}/base/"]) == 0
    path = f"/base/v2/repository/models/a%20b/rollout/{verb}"
    assert answer["asked"] == [("POST", path, b'{"reason": "so"}')]


def test_a_refusal_is_one_line_and_status_1(listener, capsys):
    url, answer = listener
    answer.update(status=409, body={"error": "model 'wine' has no canary"})
    assert main(["rollout", "promote", "wine", "--url", url]) == 1
    assert (
        capsys.readouterr().err == f"headrace: http://{url} refuses: model 'wine' has no canary\n"
    )


@pytest.mark.parametrize(
    ("url", "status", "told"),
    [("127.0.0.1:1", 1, "no answer from"), ("http://", 2, "--url: expected"), ("a:b", 2, "--url")],
)
def test_a_server_that_is_not_there_is_named(url, status, told, capsys):
    assert main(["rollout", "status", "wine", "--url", url]) == status
    assert told in capsys.readouterr().err
