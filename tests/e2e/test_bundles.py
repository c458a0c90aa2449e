"""A bundle in an environment that was made of nothing but its lock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import headrace
from headrace import bundles
from support.asking import ask
from support.serving import serving
from support.wheels import offline, wheelhouse

pytestmark = pytest.mark.e2e

SERVICE = """\
import bentoml
import numpy as np
from headrace.io import JSON
double = bentoml.models.get("double:latest").to_runner()
svc = bentoml.Service("doubling", runners=[double])
@svc.api(input=JSON(), output=JSON())
def twice(value):
    return [int(each) for each in double.run(np.array(value))]
"""


def test_a_bundle_serves_from_its_lock_alone_and_answers_as_its_sources_do(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    packages = offline(wheelhouse(tmp_path / "wheels", "headrace[pickle]"))
    for name, value in packages.items():
        monkeypatch.setenv(name, value)

    # Local, so that the pickle holds the class itself.
    class Double:
        def __call__(self, x):
            return x * 2

    headrace.picklable_model.save_model("double", Double())
    project = tmp_path / "project"
    project.mkdir()
    (project / "service.py").write_text(SERVICE)
    (project / "bentofile.yaml").write_text("service: 'service.py:svc'\ninclude: ['*.py']\n")

    built, again = bundles.build(project), bundles.build(project)
    archive = bundles.export_bundle(built, tmp_path / "bundle.tar")
    bodies = ([1, 2, 3], [0], [-5, 2**40])
    with serving(project / "service.py", env={"HEADRACE_HOME": str(tmp_path / "home")}) as server:
        expected = [ask(server.http, "POST", "/twice", body).body for body in bodies]

    assert again.info.digest == built.info.digest
    assert expected[0] == b"[2,4,6]"
    python = tmp_path / "fresh/bin/python"
    lock = f"{built.path}env/python/requirements.lock.txt"
    assert "--hash=sha256:" in Path(lock).read_text()
    for command in (
        ["venv", "--quiet", "--python", sys.executable, str(tmp_path / "fresh")],
        ["pip", "install", "--quiet", "--no-index", "--require-hashes", "--python", str(python),
         "-r", lock],
    ):  # fmt: skip
        subprocess.run([sys.executable, "-m", "uv", *command], check=True)
    program = python.with_name("headrace")
    elsewhere = {"HEADRACE_HOME": str(tmp_path / "elsewhere"), "PYTHONPATH": ""}
    imported = subprocess.run(
        [program, "bundles", "import", archive], env={**elsewhere}, capture_output=True, text=True
    )
    assert imported.returncode == 0, imported.stderr
    with serving("doubling:latest", env=elsewhere, python=python) as server:
        answers = [ask(server.http, "POST", "/twice", body).body for body in bodies]
        document = ask(server.http, "GET", "/openapi.json").json
    assert answers == expected
    assert "/twice" in document["paths"]
