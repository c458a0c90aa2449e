"""The table of errors, and the form that each path gives them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from headrace.application import PROTOCOLS
from headrace.errors import BY_KIND, InvalidInput
from headrace.http.router import Router
from headrace.protocol.error_table import TABLE


def error_body(path, error):
    return json.loads(Router(PROTOCOLS).error_body(path, error)[1])


@pytest.mark.parametrize("path", ["/v2/models/m/infer", "/v2", "/nothing", ""])
def test_an_open_inference_error_has_a_message_and_a_code(path):
    assert error_body(path, InvalidInput("missing")) == {
        "error": "missing",
        "code": "invalid_argument",
    }


def test_an_mlflow_error_has_mlflows_code_and_our_message():
    assert error_body("/invocations", InvalidInput("missing column 'a'")) == {
        "error_code": "INVALID_PARAMETER_VALUE",
        "message": "missing column 'a'",
    }


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("unsupported_media", "BAD_REQUEST"),
        ("not_found", "RESOURCE_DOES_NOT_EXIST"),
        ("forbidden", "PERMISSION_DENIED"),
        ("overloaded", "TEMPORARILY_UNAVAILABLE"),
        ("worker_crashed", "TEMPORARILY_UNAVAILABLE"),
        ("deadline_exceeded", "DEADLINE_EXCEEDED"),
        ("conflict", "RESOURCE_CONFLICT"),
        ("cancelled", "CANCELLED"),
        ("unimplemented", "NOT_IMPLEMENTED"),
        ("model_error", "INTERNAL_ERROR"),
        ("bad_model_output", "INTERNAL_ERROR"),
        ("answer_too_large", "INTERNAL_ERROR"),
        ("poisoned", "INTERNAL_ERROR"),
        ("internal", "INTERNAL_ERROR"),
    ],
)
def test_error_code_follows_the_table(kind, code):
    assert error_body("/invocations", BY_KIND[kind]("x"))["error_code"] == code


def test_the_page_of_routes_has_the_whole_table_of_errors():
    page = Path(__file__).parents[3] / "docs/reference/http.md"
    lines = re.findall(
        r"^\| (\d{3})(, with .*?)? \| (.*?) \| `(.*?)` \|$", page.read_text(), re.MULTILINE
    )
    documented = {
        kind: (int(status), mlflow, bool(again))
        for status, again, kinds, mlflow in lines
        for kind in re.findall(r"`(.*?)`", kinds)
    }
    assert documented == {
        kind: (row.status, row.mlflow, row.retry_after) for kind, row in TABLE.items()
    }
