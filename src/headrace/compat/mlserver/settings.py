"""Settings as runtimes read them, named as in `mlserver.settings`."""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any, ClassVar

from headrace.compat.mlserver.types.base import (
    REQUIRED,
    BaseModel,
    Field,
    anything,
    flag,
    instance_of,
    list_of,
    mapping,
    text,
)
from headrace.compat.mlserver.types.dataplane import MetadataTensor
from headrace.compat.mlserver.version import __version__

ENV_FILE_SETTINGS = ".env"
ENV_PREFIX_SETTINGS = "MLSERVER_"
ENV_PREFIX_MODEL_SETTINGS = "MLSERVER_MODEL_"


class _Settings(BaseModel):
    """Settings are dumped with their defaults, unlike messages.

    What is not given is read from the variables that begin with `PREFIX`, in any case, and from
    the file `_env_file`.
    """

    PREFIX: ClassVar[str] = ENV_PREFIX_SETTINGS

    def __init__(self, _env_file: str | None = ENV_FILE_SETTINGS, **values: Any) -> None:
        variables = {name.upper(): text for name, text in os.environ.items()}
        for source in (variables, _file_variables(_env_file)):
            for name in self.FIELDS:
                text = source.get(self.PREFIX + name.upper())
                if text is not None and name not in values:
                    values[name] = _value(text)
        super().__init__(**values)

    def model_dump(
        self,
        exclude_unset: bool = False,
        exclude_none: bool = False,
        include: Any = None,
        exclude: Any = None,
        **more: Any,
    ) -> dict[str, Any]:
        return super().model_dump(exclude_unset, exclude_none, include, exclude, **more)


def _file_variables(path: str | None) -> dict[str, str]:
    """The variables of a `.env` file; none if there is no such file."""
    if path is None or not os.path.isfile(path):
        return {}
    found = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            name, is_set, text = line.strip().removeprefix("export ").partition("=")
            if is_set and not name.startswith("#"):
                found[name.strip().upper()] = text.strip().strip("'\"")
    return found


def _value(text: str) -> Any:
    """What a variable holds: JSON for lists and objects, and text for all else."""
    return json.loads(text) if text[:1] in ("[", "{") else text


class ModelParameters(_Settings):
    """The `parameters` of a `model-settings.json`, with whatever else was written there."""

    EXTRA = True
    PREFIX = ENV_PREFIX_MODEL_SETTINGS
    FIELDS = {
        "uri": Field(text),
        "version": Field(text),
        "environment_path": Field(text),
        "environment_tarball": Field(text),
        "inference_pool_gid": Field(text),
        "autogenerate_inference_pool_gid": Field(flag, False),
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
    """The settings of one model.

    `implementation` is the class, imported when it is asked for, and `implementation_` its path.
    """

    PREFIX = ENV_PREFIX_MODEL_SETTINGS
    FIELDS = {
        "implementation": Field(anything, REQUIRED),
        "name": Field(text, ""),
        "platform": Field(text, ""),
        "versions": Field(list_of(text), []),
        "inputs": _TENSORS,
        "outputs": _TENSORS,
        "parallel_workers": Field(int),
        "warm_workers": Field(flag, False),
        "max_batch_size": Field(int, 0),
        "max_batch_time": Field(float, 0.0),
        "parameters": Field(instance_of(ModelParameters)),
        "cache_enabled": Field(flag, False),
    }
    # Where the settings were read from; artefacts are looked for next to it.
    _source: str | None = None

    name: str
    platform: str
    versions: list[str]
    inputs: list[MetadataTensor]
    outputs: list[MetadataTensor]
    max_batch_size: int
    max_batch_time: float
    parameters: ModelParameters | None

    def __init__(self, _source: str | None = None, **values: Any) -> None:
        super().__init__(**values)
        self._source = _source

    @property
    def implementation(self) -> Any:
        """The class of the model.

        Raises:
            ImportError, AttributeError: it is not where the settings say.
        """
        given = self.__dict__["implementation"]
        if not isinstance(given, str):
            return given
        module, _, name = given.rpartition(".")
        folder = [os.path.dirname(os.path.abspath(self._source))] if self._source else []
        before = sys.path[:]
        sys.path[:0] = folder
        try:
            return getattr(importlib.import_module(module), name)
        finally:
            sys.path[:] = before

    @property
    def implementation_(self) -> str:
        """The import path of the class of the model."""
        given = self.__dict__["implementation"]
        return given if isinstance(given, str) else f"{given.__module__}.{given.__qualname__}"

    def _fields(self) -> list[tuple[str, Any]]:
        path = ("implementation", self.implementation_)
        return [path, *(pair for pair in super()._fields() if pair[0] != path[0])]

    @property
    def version(self) -> str | None:
        return self.parameters.version if self.parameters else None

    @classmethod
    def parse_file(cls, path: str | os.PathLike[str], **_: Any) -> ModelSettings:
        """Read a `model-settings.json`."""
        made = super().parse_file(path)
        made._source = os.path.abspath(path)
        return made


class CORSSettings(_Settings):
    """The `cors_settings` of a server."""

    FIELDS = {
        "allow_origins": Field(list_of(text), []),
        "allow_origin_regex": Field(text),
        "allow_credentials": Field(flag, False),
        "allow_methods": Field(list_of(text), ["GET"]),
        "allow_headers": Field(list_of(text), []),
        "expose_headers": Field(list_of(text), []),
        "max_age": Field(int, 600),
    }


class Settings(_Settings):
    """The settings of a server, for code that creates one; they configure nothing here."""

    EXTRA = True
    FIELDS = {
        "debug": Field(flag, False),
        "parallel_workers": Field(int, 1),
        "parallel_workers_timeout": Field(int, 5),
        "model_repository_root": Field(text, "."),
        "load_models_at_startup": Field(flag, True),
        "server_name": Field(text, "mlserver"),
        "server_version": Field(text, __version__),
        "extensions": Field(list_of(text), []),
        "host": Field(text, "0.0.0.0"),
        "http_port": Field(int, 8080),
        "root_path": Field(text, ""),
        "grpc_port": Field(int, 8081),
        "grpc_max_message_length": Field(int),
        "cors_settings": Field(instance_of(CORSSettings)),
        "metrics_endpoint": Field(text, "/metrics"),
        "metrics_port": Field(int, 8082),
        "metrics_rest_server_prefix": Field(text, "rest_server"),
        "use_structured_logging": Field(flag, False),
        "cache_enabled": Field(flag, False),
        "cache_size": Field(int, 100),
        "gzip_enabled": Field(flag, True),
    }
