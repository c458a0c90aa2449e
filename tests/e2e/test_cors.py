"""`cors_settings`: the headers that a browser gets for pages of other origins."""

from __future__ import annotations

import json

import pytest

from support.asking import ask, numbers
from support.custom import write_model
from support.serving import serving

pytestmark = pytest.mark.e2e

PAGE = {"Origin": "http://page"}


def test_a_page_may_request_what_the_settings_allow(tmp_path):
    write_model(tmp_path)
    cors = {"allow_origins": ["http://page"], "allow_methods": ["POST"], "expose_headers": ["X-A"]}
    (tmp_path / "settings.json").write_text(json.dumps({"cors_settings": cors}))

    with serving(tmp_path) as server:
        path = "/v2/models/m/infer"
        asked = {**PAGE, "Access-Control-Request-Method": "POST"}
        preflight = ask(server.http, "OPTIONS", path, headers=asked)
        answer = ask(server.http, "POST", path, numbers(1), PAGE)
        other = ask(server.http, "POST", path, numbers(1), {"Origin": "http://other"})

    assert preflight.status == 200
    assert preflight.headers["access-control-allow-origin"] == "http://page"
    assert preflight.headers["access-control-max-age"] == "600"
    assert answer.json["outputs"][0]["data"] == [2.0]
    assert answer.headers["access-control-allow-origin"] == "http://page"
    assert answer.headers["access-control-expose-headers"] == "X-A"
    assert "access-control-allow-origin" not in other.headers


def test_without_settings_there_are_no_such_headers(tmp_path):
    with serving(write_model(tmp_path)) as server:
        answer = ask(server.http, "POST", "/v2/models/m/infer", numbers(1), PAGE)

    assert not [name for name in answer.headers if name.startswith("access-control")]
