"""Validates custom resources as an API server does that refuses what it would otherwise prune."""

from __future__ import annotations

import gzip
import os
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml


def kserve_data() -> Path:
    """The folder with KServe's own files; skips the test where there is none."""
    data = os.environ.get("HEADRACE_TEST_DATA", "")
    folder = Path(data, "kserve")
    if not data or not folder.is_dir():
        pytest.skip("HEADRACE_TEST_DATA names no folder with KServe's schemas")
    return folder


def faults(manifest: dict[str, Any], definition: Path) -> list[str]:
    """What is wrong with a resource, by the CustomResourceDefinition in a .yaml.gz file."""
    checker = _validator(definition, manifest["apiVersion"].rpartition("/")[2])
    return [
        f"{'.'.join(map(str, fault.absolute_path))}: {fault.message[:300]}"
        for fault in checker.iter_errors(manifest)
    ]


@cache
def _validator(definition: Path, version: str) -> jsonschema.Draft202012Validator:
    # The loader in C, because these files are large.
    content = yaml.load(gzip.decompress(definition.read_bytes()), yaml.CSafeLoader)
    (schema,) = (
        each["schema"]["openAPIV3Schema"]
        for each in content["spec"]["versions"]
        if each["name"] == version
    )
    strict = _strict(schema)
    # Kubernetes adds the fields of every object's metadata itself.
    strict["properties"]["metadata"] = {"type": "object", "required": ["name"]}
    return jsonschema.Draft202012Validator(strict)


def _strict(schema: dict[str, Any]) -> dict[str, Any]:
    """The same as a JSON schema, with unknown fields refused unless they would be kept."""
    found = dict(schema)
    if schema.get("x-kubernetes-int-or-string"):
        found["type"] = ["integer", "string"]
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            found[key] = _strict(schema[key])
    if "properties" in schema:
        found["properties"] = {name: _strict(inner) for name, inner in schema["properties"].items()}
    is_object = schema.get("type") == "object"
    keeps = schema.get("x-kubernetes-preserve-unknown-fields")
    if is_object and "additionalProperties" not in schema and not keeps:
        found["additionalProperties"] = False
    if schema.get("nullable"):
        found["type"] = [found["type"], "null"]
    return found
