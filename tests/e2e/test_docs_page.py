"""The page at `/docs`, in a browser if there is one."""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.asking import ask
from support.browser import QUIET, chromium
from support.custom import write_model
from support.serving import Server, serving

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("models")
    write_model(root, "return x", name="echo")
    with serving(root) as server:
        yield server


def test_the_page_allows_its_own_script_and_nothing_from_elsewhere(server: Server) -> None:
    answer = ask(server.http, "GET", "/docs")
    page = answer.body.decode()
    script = page.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()

    assert answer.headers["content-type"].startswith("text/html")
    assert f"script-src 'sha256-{digest}'" in answer.headers["content-security-policy"]
    assert "//" not in script.replace("// ", "")
    assert "http:" not in page
    assert "https:" not in page


@pytest.mark.parametrize("path", ["/docs", "/docs/", "/v2/docs", "/v2/models/echo/docs"])
def test_a_page_is_shown_in_no_frame_and_says_nothing_of_itself(server: Server, path: str) -> None:
    headers = ask(server.http, "GET", path).headers

    policy = dict(
        part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", path) for path in ("/", "/v2", "/v2/models/echo", "/api/status")),
        *(("GET", path) for path in ("/openapi.json", "/v2/models/x", "/nowhere", "/%3Cb%3E")),
        *(("POST", path) for path in ("/v2/models/echo/infer", "/invocations", "/v2/models/x/y")),
    ],
)
def test_what_is_no_page_is_taken_for_none(server: Server, method: str, path: str) -> None:
    answer = ask(server.http, method, path, b"<script>alert(1)</script>" * (method == "POST"))

    assert not answer.headers["content-type"].startswith("text/html")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_browser_shows_every_operation_of_the_document(server: Server, tmp_path: Path) -> None:
    browser = chromium()
    if browser is None:
        pytest.skip("no chromium")
    shown = subprocess.run(
        [
            *(browser, *QUIET, f"--user-data-dir={tmp_path}"),
            *("--virtual-time-budget=5000", "--dump-dom", f"{server.http}/docs"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    paths = ask(server.http, "GET", "/openapi.json").json["paths"]
    operations = sum(verb in ("get", "post") for path in paths.values() for verb in path)

    assert shown.count("<details") == operations > 5
    headings = [part.partition("<")[0] for part in shown.split("<h2>")[1:]]
    assert headings == ["echo", "Server"]
    model = shown.partition("<h2>echo</h2>")[2].partition("<h2>")[0]
    assert model.index("/v2/models/echo/infer") < model.index("/v2/models/echo/ready")
    assert shown.count(">Copy as curl<") == operations


CURL = """
const page = require("fs").readFileSync(0, "utf8");
const begin = page.indexOf("const quoted"), end = page.indexOf("function route(");
class File {}
const curl = new Function("File", page.slice(begin, end) + "; return curl")(File);
console.log(curl(...JSON.parse(process.argv[1])));
"""


def test_a_request_is_copied_as_a_command_that_sends_it(server: Server) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node")
    body = '{"inputs": [{"name": "it\'s", "shape": [1], "datatype": "FP64", "data": [1.5]}]}'
    url = f"{server.http}/v2/models/echo/infer"
    call = json.dumps(["post", url, {"type": "application/json", "body": body}])
    page = ask(server.http, "GET", "/docs").body

    copied = subprocess.run(
        [node, "-e", CURL, call], input=page, stdout=subprocess.PIPE, timeout=60
    )
    words = shlex.split(copied.stdout.decode())

    assert words == [
        *("curl", "-sS", "-X", "POST", url, "-H", "Content-Type: application/json"),
        *("--data-raw", body),
    ]


def test_operations_of_a_model_carry_its_name(server: Server) -> None:
    paths = ask(server.http, "GET", "/openapi.json").json["paths"]

    tags = {verb: each["tags"] for verb, each in paths["/v2/models/echo/infer"].items()}
    assert tags == {"post": ["echo"]}
    assert paths["/v2/models/echo"]["get"]["tags"] == ["echo"]
    assert "tags" not in paths["/v2/health/live"]["get"]
