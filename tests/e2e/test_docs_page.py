"""The page at `/docs`, in a browser if there is one."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.asking import ask
from support.custom import write_model
from support.serving import Server, serving

pytestmark = pytest.mark.e2e

QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


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


def test_a_browser_shows_every_operation_of_the_document(server: Server, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
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
