"""docs/tutorials/notebook-to-container.md, up to the container: cells, service and bundle."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support.pages import ADDRESS, blocks, cells, curl_examples, files, run_cells
from support.serving import COMMAND, serving
from support.wheels import offline, wheelhouse

pytestmark = pytest.mark.e2e

PAGE = Path(__file__).parents[2] / "docs/tutorials/notebook-to-container.md"


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """The folder of the page, its variables, and what its cells showed."""
    root = tmp_path_factory.mktemp("notebook")
    for name, text in files(PAGE).items():
        (root / name).write_text(text)
    env = {
        "HEADRACE_HOME": str(root / "home"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{root}/mlflow.db",
    }
    return root, env, run_cells(PAGE, root, env)


def ask(server, command):
    here = command.replace(ADDRESS, urlsplit(server.http).netloc)
    return json.loads(subprocess.run(here, shell=True, check=True, capture_output=True).stdout)


def test_each_cell_shows_what_the_page_shows(notebook):
    _, _, shown = notebook
    expected = [output for _, output in cells(PAGE)]

    assert sum(each is not None for each in expected) == 2
    for found, wanted in zip(shown, expected, strict=True):
        assert wanted is None or found == wanted


def test_the_service_answers_as_the_page_shows(notebook):
    root, env, _ = notebook
    examples = curl_examples(PAGE)
    with serving(f"{root / 'service.py'}:svc", env=env) as server:
        for example in examples:
            assert ask(server, example.command) == json.loads(example.answer)
        ready = ask(server, f"curl -s http://{ADDRESS}/v2/models/wine/ready")

    assert len(examples) == 2
    assert ready["ready"] is True


def test_the_bundle_answers_as_the_service_does(notebook, tmp_path):
    root, env, _ = notebook
    packages = offline(wheelhouse(tmp_path / "wheels", "headrace[mlflow,sklearn]", "skops"))
    build, serve = (
        text.split()[1:]
        for _, text in blocks(PAGE)
        if "build\n" in text or "sommelier:latest\n" in text
    )
    assert (build, serve) == (["build"], ["serve", "sommelier:latest"])

    done = subprocess.run(
        [*COMMAND, *build],
        cwd=root,
        env={**os.environ, **packages, **env},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    example = curl_examples(PAGE)[0]
    with serving(*serve[1:], env=env) as server:
        assert ask(server, example.command) == json.loads(example.answer)
