"""`docs/reference/metrics.md` lists what is scraped, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from headrace import Model
from headrace.admin.certificate_metrics import CertificateCollector
from headrace.admin.mlserver_metrics import DEFAULT_PREFIX, MLServerCollector
from headrace.dataplane.observers.mlserver_counters import MLServerCounters
from headrace.testing import TestClient
from support.certificates import secured

PAGE = Path(__file__).parents[3] / "docs/reference/metrics.md"
ROW = re.compile(r"^\| `((?:model|headrace)_\w+)` \| (\w+) \|", re.MULTILINE)
OF_MLSERVER = re.compile(r"^\| (`(?:rest|grpc|batch|parallel)_.*?) \| (\w+) \|", re.MULTILINE)


class Echo(Model):
    def predict(self, x: list[str]) -> list[str]:
        return x


def scraped() -> dict[str, str]:
    with TestClient(Echo) as client:
        client.post("/v2/models/Echo/infer", content=b"{")
        text = client.get("/metrics").text
    families = text_string_to_metric_families(text)
    return {
        family.name: family.type
        for family in families
        if family.name.startswith(("model_", "headrace_"))
    }


def test_the_page_lists_every_metric_with_its_type(tmp_path: Path) -> None:
    with_tls = CertificateCollector(secured(tmp_path).certificates).describe()
    found = scraped() | {metric.name: metric.type for metric in with_tls}

    assert dict(ROW.findall(PAGE.read_text())) == found


def test_the_page_lists_every_metric_of_mlserver_with_its_type() -> None:
    collector = MLServerCollector(MLServerCounters(frozenset()), DEFAULT_PREFIX, True)
    listed = {
        name: kind
        for names, kind in OF_MLSERVER.findall(PAGE.read_text())
        for name in re.findall(r"`(\w+)`", names)
    }

    assert listed == {metric.name: metric.type for metric in collector.describe()}


def test_a_failure_has_its_kind_as_a_label() -> None:
    with TestClient(Echo) as client:
        client.post("/v2/models/Echo/infer", content=b"{")
        text = client.get("/metrics").text

    labels = 'code="invalid_argument",model="Echo",version=""'
    assert f"model_infer_request_failure_total{{{labels}}} 1.0" in text
