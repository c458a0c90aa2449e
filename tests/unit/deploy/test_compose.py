"""The Compose file: its parts fit together, and its texts survive Compose."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from headrace.deploy import compose, documents, monitoring
from headrace.deploy.workload import Options
from support.custom import write_model


def of(source: Path, **flags: Any) -> dict[str, Any]:
    """The file as Compose reads it, with no variable set."""
    _, manifests = compose.manifests(str(source), Options(**flags))
    text = documents.joined(manifests)
    # A single $ begins a variable.
    assert not re.search(r"(?<!\$)\$(?!\$)", text.replace("$$", ""))
    read: dict[str, Any] = yaml.safe_load(text.replace("$$", "$"))
    return read


def test_prometheus_scrapes_the_server_and_grafana_asks_prometheus(tmp_path):
    found = of(write_model(tmp_path), env={"HEADRACE_HTTP_PORT": "9000"})

    services, configs = found["services"], found["configs"]
    prometheus = yaml.safe_load(configs["prometheus"]["content"])
    (scraped,) = prometheus["scrape_configs"]
    assert scraped["static_configs"] == [{"targets": ["headrace:9000"]}]
    assert "headrace" in services
    assert "9000:9000" in services["headrace"]["ports"]
    (source,) = yaml.safe_load(configs["datasources"]["content"])["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load(configs["dashboards"]["content"])["providers"]
    paths = {each["source"]: each["target"] for each in services["grafana"]["configs"]}
    assert Path(paths["dashboard"]).parent == Path(provider["options"]["path"])
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == paths["dashboard"]


def test_prometheus_speaks_tls_to_a_server_that_does(tmp_path):
    found = of(write_model(tmp_path), env={"HEADRACE_SSL_CERTFILE": "/tls/tls.crt"})

    (scraped,) = yaml.safe_load(found["configs"]["prometheus"]["content"])["scrape_configs"]
    assert scraped["scheme"] == "https"


def test_every_config_and_volume_is_declared_and_used(tmp_path):
    found = of(write_model(tmp_path))

    used = [each for service in found["services"].values() for each in service.get("configs", [])]
    assert {each["source"] for each in used} == set(found["configs"])
    volumes = [
        each for service in found["services"].values() for each in service.get("volumes", [])
    ]
    assert {each.partition(":")[0] for each in volumes} == set(found["volumes"])


def test_the_dashboard_and_the_rules_arrive_as_they_are(tmp_path):
    configs = of(write_model(tmp_path))["configs"]

    assert json.loads(configs["dashboard"]["content"]) == json.loads(monitoring.dashboard())
    assert yaml.safe_load(configs["rules"]["content"]) == yaml.safe_load(monitoring.rules())
    rules = yaml.safe_load(configs["prometheus"]["content"])["rule_files"]
    assert rules == [monitoring.RULES]


def test_a_value_with_a_dollar_is_no_variable_of_composes(tmp_path):
    found = of(write_model(tmp_path), env={"A": "$HOME ${B}"})

    assert found["services"]["headrace"]["environment"]["A"] == "$HOME ${B}"


def test_only_the_server_is_reached_from_elsewhere_and_it_may_do_little(tmp_path):
    services = of(write_model(tmp_path), cpu="1500m", memory="2Gi", gpus=1)["services"]

    for name in ("prometheus", "grafana"):
        assert all(port.startswith("127.0.0.1:") for port in services[name]["ports"])
    server = services["headrace"]
    assert server["read_only"]
    assert server["cap_drop"] == ["ALL"]
    resources = server["deploy"]["resources"]
    assert resources["limits"] == {"cpus": "1.5", "memory": str(2 * 1024**3)}
    assert resources["reservations"]["devices"][0]["count"] == 1


def test_without_metrics_there_is_only_the_server(tmp_path):
    found = of(write_model(tmp_path), env={"HEADRACE_METRICS_ENDPOINT": ""})

    assert list(found["services"]) == ["headrace"]
    assert set(found) == {"name", "services"}
