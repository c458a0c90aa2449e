"""A server that may map little memory (`ulimit -v`) starts, and answers large requests too."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from support.asking import ask, numbers
from support.custom import write_model
from support.serving import serving

pytestmark = pytest.mark.e2e

KILOBYTES = 4_000_000


def test_a_server_with_little_address_space_answers_large_requests(tmp_path: Path) -> None:
    python = tmp_path / "python-with-little-address-space"
    begin = f"#!/bin/sh -e\nulimit -v {KILOBYTES}\nexec"
    python.write_text(f'{begin} {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    limit = "import resource\nreturn x[-1:] + resource.getrlimit(resource.RLIMIT_AS)[0]"
    folder = write_model(tmp_path, limit)

    with serving(folder, "--parallel-workers", "2", python=python) as server:
        answer = ask(server.http, "POST", "/v2/models/m/infer", numbers(*range(100_000)))

    assert answer.json["outputs"][0]["data"] == [99_999 + KILOBYTES * 1024]
