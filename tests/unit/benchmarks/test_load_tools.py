"""What is written for wrk, and what is read of h2load."""

from __future__ import annotations

import pytest
from benchmarks import h2load, load

REPORT = """
finished in 2.01s, 1500.50 req/s, 200.00KB/s
requests: 3001 total, 3129 started, 3001 done, {succeeded} succeeded, {failed} failed, \
0 errored, 0 timeout
status codes: 3001 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 400KB (400000) total, 100KB (100000) headers (space savings 90%), 293KB ({data}) data
"""


def report(succeeded: int = 3001, failed: int = 0, data: int = 3001 * 105) -> str:
    return REPORT.format(succeeded=succeeded, failed=failed, data=data)


def test_the_rate_of_h2load_is_read():
    assert h2load.read(report(), 100) == h2load.Answered(3001, 1500.5)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(report(succeeded=3000, failed=1), id="a call failed"),
        pytest.param(report(data=3000 * 105), id="an answer has no message"),
        pytest.param(report(succeeded=0), id="no answer"),
        pytest.param("", id="no report"),
    ],
)
def test_a_run_of_h2load_with_a_failure_has_no_rate(text):
    with pytest.raises(load.LoadFailed):
        h2load.read(text, 100)


def test_a_script_holds_what_lua_cannot_hold_by_its_number(tmp_path):
    script = tmp_path / "request.lua"
    load.write_script(script, b'{"a": 1}\n\\\xff', headers={"X-Length": "8"})
    text = script.read_text()

    assert r'wrk.body = "{\034a\034: 1}\010\092\255"' in text
    assert 'wrk.headers["X-Length"] = "8"' in text
