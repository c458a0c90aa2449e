"""Settings as runtimes read them, named as in `mlserver.settings`."""

from __future__ import annotations

import json
import os
from typing import Any

from headrace.compat.mlserver.types.base import (
    REQUIRED,
    BaseModel,
    Field,
    anything,
    instance_of,
    list_of,
    mapping,
    text,
)
from headrace.compat.mlserver.types.dataplane import MetadataTensor


class _Settings(BaseModel):
    """Settings are dumped with their defaults, unlike messages."""

    def model_dump(
        self,
        exclude_unset: bool = False,
        exclude_none: bool = False,
        include: Any = None,
        exclude: Any = None,
        **more: Any,
    ) -> dict[str, Any]:
        return super().model_dump(exclude_unset, exclude_none, include, exclude, **more)


class ModelParameters(_Settings):
    """The `parameters` of a `model-settings.json`, with whatever else was written there."""

    EXTRA = True
    FIELDS = {
        "uri": Field(text),
        "version": Field(text),
        "environment_path": Field(text),
        "environment_tarball": Field(text),
        "inference_pool_gid": Field(text),
        "autogenerate_inference_pool_gid": Field(bool, False),
        "format": Field(text),
        "content_type": Field(text),
        "extra": Field(mapping, {}),
    }

    uri: str | None
    version: str | None
    format: str | None
    content_type: str | None
    extra: dict[str, Any] | None


_TENSORS = Field(list_of(instance_of(MetadataTensor)), [])


class ModelSettings(_Settings):
    """The settings of one model. `implementation` is an import path or the class itself."""

    FIELDS = {
        "implementation": Field(anything, REQUIRED),
        "name": Field(text, ""),
        "platform": Field(text, ""),
        "versions": Field(list_of(text), []),
        "inputs": _TENSORS,
        "outputs": _TENSORS,
        "parallel_workers": Field(int),
        "warm_workers": Field(bool, False),
        "max_batch_size": Field(int, 0),
        "max_batch_time": Field(float, 0.0),
        "parameters": Field(instance_of(ModelParameters)),
        "cache_enabled": Field(bool, False),
    }
    # Where the settings were read from; artefacts are looked for next to it.
    _source: str | None = None

    implementation: Any
    name: str
    platform: str
    versions: list[str]
    inputs: list[MetadataTensor]
    outputs: list[MetadataTensor]
    max_batch_size: int
    max_batch_time: float
    parameters: ModelParameters | None

    @property
    def version(self) -> str | None:
        return self.parameters.version if self.parameters else None

    @classmethod
    def parse_file(cls, path: str) -> ModelSettings:
        """Read a `model-settings.json`."""
        with open(path, "rb") as file:
            made = cls(**json.load(file))
        made._source = os.path.abspath(path)
        return made


class Settings(_Settings):
    """The settings of a server, for code that creates one; they configure nothing here."""

    EXTRA = True
    FIELDS = {
        "debug": Field(bool, False),
        "parallel_workers": Field(int, 1),
        "server_name": Field(text, "mlserver"),
        "server_version": Field(text, "1.7.1"),
        "extensions": Field(list_of(text), []),
        "host": Field(text, "0.0.0.0"),
        "http_port": Field(int, 8080),
        "grpc_port": Field(int, 8081),
        "metrics_port": Field(int, 8082),
        "root_path": Field(text, ""),
    }
