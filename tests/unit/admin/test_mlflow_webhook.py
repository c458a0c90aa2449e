"""Deliveries of MLflow's webhooks: which are believed, and what they lead to."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.requests import Request

from headrace import Model
from headrace.admin import mlflow_webhook
from headrace.admin.mlflow_webhook import PATH, TOLERANCE, Webhook, read_secret
from headrace.errors import ConfigurationError, HeadraceError, InvalidInput, Unauthenticated
from headrace.testing import TestClient

SECRET = b"a secret of MLflow's"
NOW = 1_800_000_000
MOVED = {
    "entity": "model_version_alias",
    "action": "created",
    "timestamp": "2027-01-15T08:00:00+00:00",
    "data": {"name": "wine", "alias": "champion", "version": "2"},
}


class Double(Model):
    def predict(self, x: float) -> float:
        return x * 2


class Hook:
    """A webhook at a time of the test's choosing, and what it asked about."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.now = float(NOW)
        self._webhook = Webhook(SECRET, self._poll, lambda: self.now)

    def _poll(self, name: str) -> list[str]:
        self.asked.append(name)
        return [name]

    def take(self, headers: dict[str, str], body: bytes) -> Any:
        """The answer to a delivery."""

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        fields = [(key.lower().encode(), value.encode()) for key, value in headers.items()]
        scope = {"type": "http", "method": "POST", "path": PATH, "headers": fields}
        answer = asyncio.run(self._webhook.deliver(Request(scope, receive)))
        return json.loads(bytes(answer.body))


def delivery(
    body: Any = MOVED, id: str = "d-1", at: Any = NOW, secret: bytes = SECRET
) -> tuple[dict[str, str], bytes]:
    """A delivery as MLflow makes it."""
    text = json.dumps(body).encode()
    signed = hmac.new(secret, f"{id}.{at}.".encode() + text, hashlib.sha256).digest()
    headers = {
        "X-MLflow-Delivery-Id": id,
        "X-MLflow-Timestamp": str(at),
        "X-MLflow-Signature": "v1," + base64.b64encode(signed).decode(),
    }
    return headers, text


def test_a_genuine_delivery_asks_about_the_registered_model_that_it_names() -> None:
    hook = Hook()

    assert hook.take(*delivery()) == {"models": ["wine"]}
    assert hook.asked == ["wine"]


def without(header: str) -> tuple[dict[str, str], bytes]:
    headers, body = delivery()
    del headers[header]
    return headers, body


def altered(**changed: str) -> tuple[dict[str, str], bytes]:
    headers, body = delivery()
    return {**headers, **{f"X-MLflow-{key}": value for key, value in changed.items()}}, body


@pytest.mark.parametrize(
    "forged",
    [
        delivery(secret=b"another secret"),
        (delivery()[0], delivery({**MOVED, "data": {"name": "other"}})[1]),
        altered(Timestamp=str(NOW + 1)),
        altered(Signature="v1,"),
        altered(Signature="v1a," + delivery()[0]["X-MLflow-Signature"][3:]),
        altered(Signature="v1,\xe9"),
        altered(**{"Delivery-Id": "d-2"}),
        without("X-MLflow-Signature"),
        without("X-MLflow-Timestamp"),
        without("X-MLflow-Delivery-Id"),
        delivery(id="d" * 129),
        delivery(at="soon"),
        delivery(at="9" * 5000),
        delivery(at=-NOW),
    ],
    ids=[
        "secret", "body", "moved-time", "empty", "version", "not-ascii", "moved-id",
        "no-signature", "no-time", "no-id", "long-id", "no-number", "long-number", "negative",
    ],
)  # fmt: skip
def test_a_forged_delivery_is_refused_and_asks_nothing(
    forged: tuple[dict[str, str], bytes],
) -> None:
    hook = Hook()
    with pytest.raises(Unauthenticated):
        hook.take(*forged)

    assert hook.asked == []


@pytest.mark.parametrize("seconds", [TOLERANCE + 1, -TOLERANCE - 1])
def test_a_delivery_of_another_time_is_refused(seconds: int) -> None:
    hook = Hook()
    hook.now += seconds
    with pytest.raises(Unauthenticated, match="300 s"):
        hook.take(*delivery())

    assert hook.asked == []


@pytest.mark.parametrize("seconds", [TOLERANCE, -TOLERANCE])
def test_clocks_may_differ_by_five_minutes(seconds: int) -> None:
    hook = Hook()
    hook.now += seconds

    assert hook.take(*delivery()) == {"models": ["wine"]}


@pytest.mark.parametrize("seconds", [0, TOLERANCE])
def test_a_delivery_that_comes_again_is_answered_and_asks_nothing(seconds: int) -> None:
    hook = Hook()
    hook.take(*delivery())
    hook.now += seconds

    assert hook.take(*delivery()) == {"models": []}
    assert hook.asked == ["wine"]


def test_a_delivery_from_a_clock_that_is_ahead_is_remembered_until_it_is_too_old() -> None:
    hook = Hook()
    ahead = delivery(at=NOW + TOLERANCE)
    hook.take(*ahead)
    hook.now = NOW + 2 * TOLERANCE - 1

    assert hook.take(*ahead) == {"models": []}


def test_the_ids_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_webhook, "MOST_REMEMBERED", 3)
    hook = Hook()
    for number in range(10):
        hook.take(*delivery(id=f"d-{number}"))

    assert len(hook._webhook._delivered) == 3
    assert hook.take(*delivery(id="d-9")) == {"models": []}


@pytest.mark.parametrize(
    "body",
    [
        {**MOVED, "entity": "prompt_alias"},
        {**MOVED, "data": {"title": "no name"}},
        {**MOVED, "data": {"name": 7}},
        {**MOVED, "data": {"name": None}},
        {**MOVED, "data": {"name": [["wine"]]}},
    ],
)
def test_a_genuine_delivery_about_something_else_is_answered_and_asks_nothing(body: Any) -> None:
    hook = Hook()

    assert hook.take(*delivery(body)) == {"models": []}
    assert hook.asked == []


def test_nothing_is_made_of_what_else_a_delivery_says() -> None:
    _, body = delivery({**MOVED, "data": {"tags": [[], {}], "name": "wine", "more": {"a": "b"}}})
    event = msgspec.json.decode(body, type=mlflow_webhook.Event)

    assert bytes(event.data.name) == b'"wine"'
    assert event.__struct_fields__ + event.data.__struct_fields__ == ("entity", "data", "name")


@pytest.mark.parametrize("body", [[], {"entity": "model_version"}, "text", None])
def test_a_genuine_delivery_that_is_no_event_is_refused_with_what_is_wrong(body: Any) -> None:
    with pytest.raises(InvalidInput, match="data is missing|expected object"):
        Hook().take(*delivery(body))


def test_without_a_secret_there_is_no_such_route() -> None:
    headers, body = delivery()
    with TestClient(Double) as client:
        assert client.post(PATH, content=body, headers=headers).status_code == 404


def test_a_server_answers_401_to_whoever_does_not_know_its_secret(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(SECRET + b"\n")
    headers, body = delivery(secret=b"another secret")
    with TestClient(Double, mlflow_webhook_secret_file=str(tmp_path / "secret")) as client:
        answer = client.post(PATH, content=body, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert SECRET.decode() not in answer.text


def test_a_delivery_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(SECRET)
    headers, _ = delivery()
    body = b" " * (mlflow_webhook.LARGEST_BODY + 1)
    with TestClient(Double, mlflow_webhook_secret_file=str(tmp_path / "secret")) as client:
        answer = client.post(PATH, content=body, headers=headers)
        assert answer.status_code == 413
        assert "--max-body-size" not in answer.text, "that does not raise this limit"


@pytest.mark.parametrize("held", [b"", b"\n", b"short\n", b"x" * 5000])
def test_a_file_that_holds_no_secret_is_refused_without_showing_it(
    held: bytes, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(held)
    with pytest.raises(ConfigurationError, match="--mlflow-webhook-secret-file") as refused:
        read_secret(str(tmp_path / "secret"))

    assert "short" not in str(refused.value)


def test_a_secret_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(HeadraceError, match="No such file"):
        read_secret(str(tmp_path / "missing"))
