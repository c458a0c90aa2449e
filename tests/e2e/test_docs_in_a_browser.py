"""The page at `/docs` in a real browser; skipped if Chromium is not installed."""

from __future__ import annotations

import datetime
import json
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from support.agents import CHAT, RESPONSES, save_agents
from support.api_keys import write_keys
from support.browser import Browser, browsing, chromium
from support.custom import write_model
from support.serving import Server, serving

BROWSER = chromium()
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(300),
    pytest.mark.skipif(BROWSER is None, reason="no chromium"),
]

TABLE = pd.DataFrame(
    {
        "it's": [1.5],
        'a "quoted" $(name)': ["it's"],
        "größe": [2**53 + 1],
        "raw": [b"@\x00"],
        "day": pd.to_datetime(["2024-05-07"]),
    }
)
# Opens each operation of a model for one media type, and gives what is copied.
COPIED = """
[...document.querySelectorAll("details")].flatMap((details) => {
  const type = details.querySelector("select");
  if (type === null || !details.querySelector("textarea").value) return [];
  return [...type.options].flatMap((option) => {
    type.value = option.value;
    type.dispatchEvent(new Event("change"));
    if (!details.querySelector("textarea").value) return [];
    [...details.querySelectorAll("button")].at(-1).click();
    return [[details.querySelector("code").textContent, details.querySelector("pre").textContent]];
  });
})
"""
# Settled once no request that the page has sent waits for its answer.
ANSWERED = """
new Promise((done) => {
  const look = () => [...document.querySelectorAll("pre")]
    .some((each) => each.textContent === "Waiting for the answer.") ? setTimeout(look, 20) : done();
  look();
})
"""


def _sized() -> mlflow.pyfunc.PythonModel:
    class Sized(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return [len(model_input)]

    return Sized()


def _hinted() -> mlflow.pyfunc.PythonModel:
    class Hinted(mlflow.pyfunc.PythonModel):
        def predict(self, model_input: list[dict[str, datetime.datetime]]):
            return [len(each) for each in model_input]

    return Hinted()


def _save(root: Path, name: str, model: mlflow.pyfunc.PythonModel, table: object = None) -> None:
    with warnings.catch_warnings(action="ignore"):
        signature = None if table is None else mlflow.models.infer_signature(table)
        mlflow.pyfunc.save_model(
            str(root / name), python_model=model, signature=signature, pip_requirements=["numpy"]
        )
    settings = {"name": name, "implementation": "mlflow"}
    (root / name / "model-settings.json").write_text(json.dumps(settings))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("models")
    _save(root, "table", _sized(), TABLE)
    _save(root, "tensor", _sized(), np.zeros((3, 28, 28), "float32"))
    _save(root, "named", _sized(), {"a": np.zeros((2, 2)), "b": np.array([True, False])})
    _save(root, "hinted", _hinted())
    save_agents(root, {"chat": CHAT, "responses": RESPONSES})
    with serving(root) as server:
        yield server


@pytest.fixture
def page(server: Server, tmp_path: Path) -> Iterator[Browser]:
    assert BROWSER is not None
    with browsing(BROWSER, tmp_path) as browser:
        browser.open(f"{server.http}/docs", shows="details")
        yield browser


def test_each_example_is_answered_when_its_curl_command_is_run(page: Browser) -> None:
    copied = page.evaluate(COPIED)
    answers = {
        path + " " + command.partition("Content-Type: ")[2][:16]: subprocess.run(
            ["bash", "-c", f"{command} --write-out '\\n%{{http_code}}'"],
            capture_output=True,
            text=True,
            timeout=90,
        ).stdout
        for path, command in copied
    }

    assert {path: answer for path, answer in answers.items() if answer[-3:] != "200"} == {}
    asked = " ".join(answers)
    for name in ("table", "tensor", "named", "hinted", "chat", "responses"):
        assert f"/v2/models/{name}/infer" in asked
        assert f"/v2/models/{name}/invocations" in asked
    assert "/v2/models/table/invocations text/csv" in asked
    assert "/v1/chat/completions" in asked
    assert "/v1/responses" in asked
    assert "/v1/models/tensor:predict" in asked


def test_the_page_has_no_fault_and_asks_nobody_but_its_server(
    page: Browser, server: Server
) -> None:
    page.evaluate("[...document.querySelectorAll('button')].forEach((each) => each.click())")
    page.evaluate(ANSWERED)

    assert [each for each in page.complaints if each["method"] == "Runtime.exceptionThrown"] == []
    assert {url.partition("/docs")[0].partition("/openapi")[0] for url in page.requested[:2]} == {
        server.http
    }
    assert all(url.startswith(server.http) for url in page.requested)


def test_a_request_is_sent_with_the_keyboard_alone(page: Browser) -> None:
    page.evaluate(
        "window.answered = new Promise((done) => new MutationObserver(() => {"
        "  const found = [...document.querySelectorAll('pre')].map((each) => each.textContent)"
        "    .find((text) => /^[0-9]{3} /.test(text));"
        "  if (found) done(found);"
        "}).observe(document.body, { childList: true, subtree: true })); undefined"
    )
    focused = "document.activeElement.tagName + ' ' + document.activeElement.textContent.slice(0,4)"
    for wanted in ("SUMMARY POST", "BUTTON Send"):
        for _ in range(10):
            page.press("Tab", 9)
            if page.evaluate(focused) == wanted:
                break
        assert page.evaluate(focused) == wanted
        page.press("Enter", 13)

    assert page.evaluate("window.answered").startswith("200 ")


def test_what_a_model_says_of_itself_is_text(tmp_path: Path) -> None:
    hostile = "</script><img src=x onerror='window.broken=1'><script>window.broken=1</script>"
    described = [{"name": hostile, "datatype": "FP64", "shape": [-1]}]
    write_model(
        tmp_path / "models",
        name="m",
        **{"platform": hostile, "inputs": described, "outputs": described},
    )

    assert BROWSER is not None
    with serving(tmp_path / "models") as server, browsing(BROWSER, tmp_path) as browser:
        for path in ("/docs", "/v2/models/m/docs"):
            browser.open(server.http + path, shows="details")
            browser.evaluate("[...document.querySelectorAll('details')].map((e) => e.open = true)")
            shown = browser.evaluate(
                "document.body.innerText"
                " + [...document.querySelectorAll('textarea')].map((e) => e.value)"
            )
            assert "onerror" in shown
            assert browser.evaluate("window.broken === undefined")
            assert browser.evaluate("document.querySelectorAll('img').length") == 0


def test_nothing_is_wider_than_a_phone(page: Browser) -> None:
    page.command(
        "Emulation.setDeviceMetricsOverride",
        width=360,
        height=740,
        deviceScaleFactor=2,
        mobile=True,
    )
    page.evaluate("[...document.querySelectorAll('details')].forEach((each) => each.open = true)")

    assert page.evaluate("document.scrollingElement.scrollWidth") == 360


def test_the_page_asks_for_a_key_where_the_server_does(tmp_path: Path) -> None:
    assert BROWSER is not None
    keys = write_keys(tmp_path / "keys.json", one={"scopes": ["read"]})
    with (
        serving(write_model(tmp_path), "--api-keys-file", keys) as server,
        browsing(BROWSER, tmp_path / "browser") as browser,
    ):
        browser.open(f"{server.http}/docs", shows="input[type=password]")
        assert "send an API key" in browser.evaluate("document.body.textContent")
        browser.evaluate(
            """new Promise((done) => {
              document.querySelector("input[type=password]").value = "hr_one";
              document.querySelector("form").requestSubmit();
              const look = () =>
                document.querySelector("details") ? done() : setTimeout(look, 20);
              look();
            })"""
        )
        assert "/v2/models/m/infer" in browser.evaluate("document.body.textContent")
