"""MLServer's metrics of HTTP, as dashboards made for it read them."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from headrace import Model
from headrace.testing import TestClient

INFER = "/v2/models/{model_name}/infer"


class Echo(Model):
    def predict(self, x: list[str]) -> list[str]:
        return x


def scraped(prefix: str) -> dict[tuple[str, str, str], float]:
    """Name, path and status of each series of the prefix after one answer and two refusals."""
    body = {"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}
    with TestClient(Echo, metrics_rest_server_prefix=prefix) as client:
        assert client.post("/v2/models/Echo/infer", json=body).status_code == 200
        assert client.post("/v2/models/Echo/infer", content=b"{").status_code == 400
        assert client.post("/v2/models/stranger/infer", json=body).status_code == 404
        client.get("/v2/models/Echo")
        client.get("/v2/nowhere")
        text = client.get("/metrics").text
    return {
        (sample.name, sample.labels["path"], sample.labels["status_code"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("app_name") == "mlserver"
        and "le" not in sample.labels
        and not sample.name.endswith(("_sum", "_created"))
    }


def test_requests_are_counted_by_route_and_status_under_the_name_that_mlserver_gives_them() -> None:
    counted = {
        (name, INFER, status): 1.0
        for name in ("rest_server_requests_total", "rest_server_request_duration_seconds_count")
        for status in ("200", "400", "404")
    }

    assert scraped("rest_server") == counted


def test_the_prefix_is_honoured() -> None:
    assert {name for name, _, _ in scraped("my_rest")} == {
        "my_rest_requests_total", "my_rest_request_duration_seconds_count",
    }  # fmt: skip


def test_without_a_prefix_there_are_none() -> None:
    assert scraped("") == {}
