"""Where uv takes packages from, according to the real pip or without one."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from headrace.environments import pip_settings


@pytest.fixture(autouse=True, params=["-m pip", "none"])
def pip(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real pip, or an interpreter that has none."""
    if request.param == "none":
        (tmp_path / "python").write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / "python").chmod(0o755)
        monkeypatch.setattr("sys.executable", str(tmp_path / "python"))


def test_pips_variables_reach_uv_with_pip_and_without() -> None:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("UV_")}
    variables |= {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "https://one/simple",
        "PIP_EXTRA_INDEX_URL": "https://two/simple",
        "PIP_CERT": "/ca.pem",
        "SSL_CERT_FILE": "/kept.pem",
    }
    variables.pop("PIP_FIND_LINKS", None)

    assert asyncio.run(pip_settings.as_uv_variables(variables)) == {
        "UV_DEFAULT_INDEX": "https://one/simple",
        "UV_INDEX": "https://two/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }


def test_pips_files_reach_uv_with_pip_and_without(tmp_path: Path) -> None:
    file = tmp_path / "pip.conf"
    file.write_text(
        "[global]\nindex_url = https://%me:p@one/simple\nfind-links =\n    /a\n    /b\n"
        "[install]\nextra-index-url = https://two/simple\n[list]\nformat = json\n"
    )
    dropped = ("UV_", "PIP_", "XDG_", "SSL_")
    variables = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    # The last file wins, so that those of this machine do not count.
    variables |= {"PIP_CONFIG_FILE": str(file), "PIP_CERT": "/ca.pem"}

    found = asyncio.run(pip_settings.as_uv_variables(variables))

    assert found["UV_DEFAULT_INDEX"] == "https://%me:p@one/simple"
    assert found["UV_FIND_LINKS"] == "/a,/b"
    assert found["UV_INDEX"] == "https://two/simple"
    assert found["SSL_CERT_FILE"] == "/ca.pem"
