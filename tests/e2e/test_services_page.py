"""docs/how-to/services.md: its model is trained, its service served, and answers are as shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

import headrace
from support.asking import ask
from support.pages import ADDRESS, blocks, curl_examples, files
from support.serving import serving

pytestmark = pytest.mark.e2e

PAGES = Path(__file__).parents[2] / "docs"
PAGE = PAGES / "how-to/services.md"
BY_NAME = next(
    text for _, text in blocks(PAGES / "reference/services.md") if text.startswith("curl ")
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    for name, text in files(PAGE).items():
        (root / name).write_text(text)
    home = {"HEADRACE_HOME": str(root / "home")}
    subprocess.run([sys.executable, "train.py"], cwd=root, env={**os.environ, **home}, check=True)
    return root


@pytest.fixture(scope="module")
def server(root):
    home = {"HEADRACE_HOME": str(root / "home")}
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


def block_of(page, name):
    return next(text for _, text in blocks(PAGES / page) if f"class {name}(" in text)


def test_the_class_of_the_page_runs_in_a_service(root):
    block = block_of("how-to/services.md", "Cleaned")
    endpoint = """
@svc.api(input=headrace.io.NumpyNdarray(), output=headrace.io.NumpyNdarray())
async def classify(rows):
    return await cleaned.classify.async_run(rows)
"""
    (root / "cleaned.py").write_text(f"import headrace, headrace.io\n{block}\n{endpoint}")
    with serving(f"{root / 'cleaned.py'}:svc", env={"HEADRACE_HOME": str(root / "home")}) as server:
        assert ask(server.http, "POST", "/classify", [[5.9, 3, 5.1, 1.8]]).json == [2]
        assert ask(server.http, "POST", "/classify", [[5.9, 3, 5.1, 900]]).status == 200


def test_the_class_of_the_reference_does_what_it_shows(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    headrace.picklable_model.save_model("vectors", np.negative)
    names = {}
    exec(block_of("reference/services.md", "Similarity"), names)
    runner = names["similarity"]
    runner.init_local(quiet=True)

    assert runner.embed.run(np.ones(2)).tolist() == [-1, -1]
    assert runner.compare.run(np.ones(2), np.ones(2), weight=2.0) == 4.0
    assert runner.compare.run(np.ones(2), -np.ones(2)) == 0.1
