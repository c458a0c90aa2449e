"""pip's configuration in uv's words."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from headrace.environments import pip_settings


def test_later_sections_win_and_other_commands_do_not_count() -> None:
    found = pip_settings.parse(
        [
            ":env:.find-links='/c'",
            "global.find-links='/a'",
            "install.find-links='/b'",
            "global.index-url='https://one/simple'",
            "install.index-url='https://two/simple'",
            "download.index-url='https://three/simple'",
            "global.timeout='60'",
            "WARNING: something = else",
        ]
    )

    assert found == {"find-links": "/c", "index-url": "https://two/simple", "timeout": "60"}


def test_several_values_are_separated_as_uv_wants_them() -> None:
    found = pip_settings.translate(
        {"extra-index-url": "https://a/s\nhttps://b/s", "find-links": "/x /y", "cert": "/ca.pem"}
    )

    assert found == {
        "UV_INDEX": "https://a/s https://b/s",
        "UV_FIND_LINKS": "/x,/y",
        "SSL_CERT_FILE": "/ca.pem",
    }


def test_uv_that_was_told_where_packages_come_from_is_told_nothing_else() -> None:
    variables = {"UV_INDEX_URL": "https://mine/simple", "PIP_INDEX_URL": "https://other/simple"}

    assert asyncio.run(pip_settings.as_uv_variables(variables)) == {}


@pytest.mark.parametrize("pip", ["-m pip", "none"])
def test_pips_variables_reach_uv_with_pip_and_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pip: str
) -> None:
    if pip == "none":
        (tmp_path / "python").write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / "python").chmod(0o755)
        monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
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
