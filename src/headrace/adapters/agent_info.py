"""What MLflow's agent server tells about its agent.

Source: MLflow's agent server, `GET /agent/info`.
"""

from __future__ import annotations

import os

import orjson

from headrace.adapters.adapter import JSON_HEADERS, Adapter, Directory, ModelView, Page, Reply
from headrace.adapters.error_bodies import mlflow_error
from headrace.errors import HeadraceError
from headrace.protocol.messages import RESPONSES_AGENT


class AgentInfo(Adapter):
    """A page about the only agent, which calls are made to by other protocols."""

    name = "agent_info"
    named_at = "/v2/models/{name}"
    absent = "no agent is served"

    def speaks(self, model: ModelView) -> bool:
        return (model.model_metadata.task or "").startswith("agent/")

    def error(self, error: HeadraceError) -> tuple[int, bytes]:
        return mlflow_error(error)

    def info(self, directory: Directory) -> Reply:
        """The agent's name, the MLflow that runs it, and how it is called.

        Raises:
            HeadraceError: no agent is served, or more than one.
        """
        model = directory.find(None, None, self)
        metadata = model.model_metadata
        info = {
            "name": os.environ.get("DATABRICKS_APP_NAME") or model.name,
            "use_case": "agent",
            "mlflow_version": metadata.parameters.get("mlflow_version"),
        }
        if metadata.task == RESPONSES_AGENT:
            info["agent_api"] = "responses"
        return Reply(200, JSON_HEADERS, orjson.dumps(info))

    pages = (Page("/agent/info", info, "The agent, as MLflow's agent server shows it"),)
