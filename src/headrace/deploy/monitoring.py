"""The dashboard and the alerts that go with every server, as files."""

from __future__ import annotations

from pathlib import Path

FILES = Path(__file__).parent / "files"
DASHBOARD, RULES = "grafana-dashboard.json", "prometheus-rules.yml"


def dashboard() -> str:
    """A dashboard for Grafana."""
    return (FILES / DASHBOARD).read_text(encoding="utf-8")


def rules() -> str:
    """Alerts for Prometheus."""
    return (FILES / RULES).read_text(encoding="utf-8")
