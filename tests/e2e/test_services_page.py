"""docs/how-to/services.md: its model is trained, its service served, and answers are as shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support.pages import ADDRESS, blocks, curl_examples, files
from support.serving import serving

pytestmark = pytest.mark.e2e

PAGES = Path(__file__).parents[2] / "docs"
PAGE = PAGES / "how-to/services.md"
BY_NAME = next(
    text for _, text in blocks(PAGES / "reference/services.md") if text.startswith("curl ")
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    for name, text in files(PAGE).items():
        (root / name).write_text(text)
    home = {"HEADRACE_HOME": str(root / "home")}
    subprocess.run([sys.executable, "train.py"], cwd=root, env={**os.environ, **home}, check=True)
    with serving(f"{root / 'service.py'}:svc", env=home) as server:
        yield server


def run(server, command):
    here = command.replace(ADDRESS, urlsplit(server.http).netloc)
    return json.loads(subprocess.run(here, shell=True, check=True, capture_output=True).stdout)


@pytest.mark.parametrize("example", curl_examples(PAGE), ids=lambda each: each.command[:40])
def test_each_request_of_the_page_is_answered_as_it_shows(server, example):
    assert run(server, example.command) == json.loads(example.answer)


def test_an_endpoint_is_called_by_its_name(server):
    assert run(server, BY_NAME)["outputs"][0]["data"] == [2]
