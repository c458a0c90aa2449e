"""Writes small plugins for a server to serve."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

SOURCE = """
import json, os, sys, time
from headrace import InvalidInput
from headrace.plugins import BasePlugin

class Plugin(BasePlugin):
    def load_model(self, model_uri):
        return model_uri

    def request_content_type(self):
        return {takes!r}

    def predict(self, model, data):
{predict}

{more}
"""


def source(predict: str = "return data.upper()", takes: str = "text/plain", more: str = "") -> str:
    """A module with a plugin whose `predict` gets `model` and `data`; `more` are methods."""
    return SOURCE.format(
        takes=takes,
        predict=textwrap.indent(textwrap.dedent(predict), " " * 8),
        more=textwrap.indent(textwrap.dedent(more), " " * 4),
    )


def write_plugin(
    root: Path,
    predict: str = "return data.upper()",
    takes: str = "text/plain",
    more: str = "",
    name: str = "p",
    **settings: Any,
) -> Path:
    """A folder with a plugin and the settings of a model that it serves."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "plugin.py").write_text(source(predict, takes, more))
    settings = {"name": name, "implementation": "plugin.Plugin", **settings}
    (folder / "model-settings.json").write_text(json.dumps(settings))
    return folder
