"""Compose: the server, Prometheus that scrapes it, and Grafana with a dashboard, in one file.

The files of the latter two are in it as `configs` with their content, which Compose 2.23.1 and
later take.
"""

from __future__ import annotations

from typing import Any

from headrace.deploy import checks, documents, monitoring, mounted_files
from headrace.deploy.documents import Manifest
from headrace.deploy.workload import PRE_STOP, Options, Workload, find, require_tracking

SERVER = "headrace"
PROMETHEUS = "prom/prometheus:v3.5.0"
GRAFANA = "grafana/grafana:12.1.0"
# Only this machine reaches them, because anyone who does may read everything.
LOCAL = "127.0.0.1"
PROVISIONING = "/etc/grafana/provisioning"
DASHBOARDS = "/etc/grafana/dashboards"


def manifests(source: str, options: Options) -> tuple[Workload, list[Manifest]]:
    """The Compose file.

    Raises:
        ConfigurationError: SOURCE cannot be served so, or a flag is missing or wrong.
    """
    workload = find(source, options, "none")
    require_tracking(workload)
    services = {SERVER: _server(workload)}
    found: dict[str, Any] = {"name": workload.name, "services": services}
    if workload.metrics_path is not None:
        services |= {"prometheus": _prometheus(), "grafana": _grafana()}
        found |= {"configs": _configs(workload), "volumes": {"prometheus": {}, "grafana": {}}}
    return workload, [_escaped(found)]


def _server(workload: Workload) -> dict[str, Any]:
    settings = workload.settings
    amounts: dict[str, Any] = {
        "cpus": str(checks.cores(workload.cpu)),
        "memory": str(checks.size(workload.memory)),
    }
    resources: dict[str, Any] = {"limits": amounts}
    if workload.options.gpus:
        devices = {"driver": "nvidia", "count": workload.options.gpus, "capabilities": ["gpu"]}
        resources["reservations"] = {"devices": [devices]}
    return {
        "image": workload.image,
        "command": workload.command,
        "environment": workload.variables(),
        "ports": [f"{port}:{port}" for port in (settings.http_port, settings.grpc_port)],
        "healthcheck": {
            "test": ["CMD", "headrace", "health"],
            "interval": "10s",
            "timeout": "5s",
            "start_period": "300s",
        },
        "restart": "unless-stopped",
        "stop_grace_period": f"{workload.grace_period - PRE_STOP}s",
        "read_only": True,
        # Frameworks may compile code into it and load that.
        "tmpfs": ["/tmp:exec"],
        **_files(workload),
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "deploy": {"resources": resources},
    }


def _files(workload: Workload) -> dict[str, Any]:
    """The folders with the server's keys and certificates, beside the Compose file."""
    found = [
        {
            "type": "bind",
            "source": f"./{folder.name}",
            "target": folder.path,
            "read_only": True,
            # An empty folder in the place of one that was forgotten would be hard to explain.
            "bind": {"create_host_path": False},
        }
        for folder in mounted_files.folders(workload)
    ]
    return {"volumes": found} if found else {}


def _prometheus() -> dict[str, Any]:
    return {
        "image": PROMETHEUS,
        "command": [
            "--config.file=/etc/prometheus/prometheus.yml",
            "--storage.tsdb.path=/prometheus",
        ],
        "ports": [f"{LOCAL}:9090:9090"],
        "restart": "unless-stopped",
        "configs": [
            _mounted("prometheus", "/etc/prometheus/prometheus.yml"),
            _mounted("rules", f"/etc/prometheus/{monitoring.RULES}"),
        ],
        "volumes": ["prometheus:/prometheus"],
    }


def _grafana() -> dict[str, Any]:
    return {
        "image": GRAFANA,
        "environment": {
            "GF_AUTH_ANONYMOUS_ENABLED": "true",
            "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
            "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH": f"{DASHBOARDS}/{monitoring.DASHBOARD}",
        },
        "ports": [f"{LOCAL}:3000:3000"],
        "restart": "unless-stopped",
        "depends_on": ["prometheus"],
        "configs": [
            _mounted("datasources", f"{PROVISIONING}/datasources/prometheus.yml"),
            _mounted("dashboards", f"{PROVISIONING}/dashboards/files.yml"),
            _mounted("dashboard", f"{DASHBOARDS}/{monitoring.DASHBOARD}"),
        ],
        "volumes": ["grafana:/var/lib/grafana"],
    }


def _configs(workload: Workload) -> dict[str, dict[str, str]]:
    """The files of Prometheus and Grafana."""
    target = {"targets": [f"{SERVER}:{workload.settings.http_port}"]}
    scraped: dict[str, Any] = {
        "job_name": SERVER,
        "metrics_path": workload.metrics_path,
        "static_configs": [target],
    }
    if workload.settings.ssl_certfile is not None:
        # The certificate is for the names that others know the server by.
        scraped |= {"scheme": "https", "tls_config": {"insecure_skip_verify": True}}
    prometheus = {
        "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
        "rule_files": [monitoring.RULES],
        "scrape_configs": [scraped],
    }
    source = {
        "name": "Prometheus",
        "uid": "prometheus",
        "type": "prometheus",
        "url": "http://prometheus:9090",
        "isDefault": True,
    }
    provider = {"name": "headrace", "type": "file", "options": {"path": DASHBOARDS}}
    return {
        "prometheus": {"content": documents.dump(prometheus)},
        "rules": {"content": monitoring.rules()},
        "datasources": {"content": documents.dump({"apiVersion": 1, "datasources": [source]})},
        "dashboards": {"content": documents.dump({"apiVersion": 1, "providers": [provider]})},
        "dashboard": {"content": monitoring.dashboard()},
    }


def _mounted(config: str, path: str) -> dict[str, str]:
    return {"source": config, "target": path}


def _escaped(value: Any) -> Any:
    """The same with every $ doubled, since Compose replaces variables in all texts."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, list):
        return [_escaped(each) for each in value]
    if isinstance(value, dict):
        return {key: _escaped(each) for key, each in value.items()}
    return value
