"""pip's configuration as variables for uv."""

from __future__ import annotations

import asyncio

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


def test_several_values_are_separated_as_uv_expects() -> None:
    found = pip_settings.translate(
        {"extra-index-url": "https://a/s\nhttps://b/s", "find-links": "/x /y", "cert": "/ca.pem"}
    )

    assert found == {
        "UV_INDEX": "https://a/s https://b/s",
        "UV_FIND_LINKS": "/x,/y",
        "SSL_CERT_FILE": "/ca.pem",
    }


def test_uv_that_knows_where_packages_come_from_is_left_alone() -> None:
    variables = {"UV_INDEX_URL": "https://mine/simple", "PIP_INDEX_URL": "https://other/simple"}

    assert asyncio.run(pip_settings.as_uv_variables(variables)) == {}


def test_no_index_is_a_flag_since_uv_reads_it_from_no_variable() -> None:
    assert pip_settings.as_uv_flags({"UV_NO_INDEX": "true"}) == ["--no-index"]
    assert pip_settings.as_uv_flags({"UV_NO_INDEX": "1"}) == ["--no-index"]
    assert pip_settings.as_uv_flags({"UV_NO_INDEX": "false"}) == []
    assert pip_settings.as_uv_flags({}) == []
