"""Frozen settings of the server and of each model. Values only; `configuration` reads them.

Standard library only: a worker receives its `ModelSettings` as JSON.
Durations are seconds and sizes are bytes, in every flag, file and environment variable.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

MIB = 1024 * 1024


def _flag(default: Any, help: str, **extra: Any) -> Any:
    """A server setting: its default, its help text, and how the command line shows it."""
    return field(default=default, metadata={"help": help, **extra})


@dataclass(frozen=True)
class CorsSettings:
    """Which origins' pages may ask this server from a browser, and how; `max_age` is seconds."""

    allow_origins: tuple[str, ...] = ()
    allow_origin_regex: str | None = None
    allow_credentials: bool = False
    allow_methods: tuple[str, ...] = ("GET",)
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: int = 600


@dataclass(frozen=True)
class ServerSettings:
    """How the server listens, what it refuses, and how long it waits.

    Each field is one flag (`--http-port`), one environment variable (`HEADRACE_HTTP_PORT`,
    or `MLSERVER_HTTP_PORT`) and one key of `settings.json`.
    """

    host: str = _flag("127.0.0.1", "address to listen on")
    http_port: int = _flag(8080, "port of the HTTP door; 0 picks a free one for every listener")
    grpc_port: int = _flag(8081, "port of the gRPC door; follows --http-port 0")
    native_grpc: bool = _flag(
        False, "carry gRPC by the native core: faster, but messages have no limit in memory"
    )
    metrics_port: int = _flag(8082, "port of the metrics listener; follows --http-port 0")
    ready_fd: int | None = _flag(
        None, "file descriptor that gets the addresses as one JSON line when ready"
    )
    parallel_workers: int = _flag(
        1, "worker processes per environment; 0 runs models inside the server"
    )
    max_body_size: int = _flag(64 * MIB, "largest request body, decoded, in bytes")
    max_header_size: int = _flag(16 * 1024, "largest request head in bytes")
    max_connections: int = _flag(10_000, "connections served at once; more are closed at once")
    header_timeout: float = _flag(10.0, "seconds to receive a request head")
    body_timeout: float = _flag(30.0, "seconds to receive a request body")
    keep_alive_timeout: float = _flag(75.0, "seconds an idle connection is kept")
    infer_timeout: float = _flag(60.0, "seconds one request may take, queueing included")
    load_timeout: float = _flag(300.0, "seconds a model may take to load")
    env_manager: str = _flag(
        "auto",
        "where models get their packages: local never builds an environment, uv builds one for "
        "every model that says what it needs, auto only where the server's own does not suffice",
        choices=("auto", "local", "uv"),
    )
    environments_dir: str | None = _flag(
        None, "folder of built and unpacked environments, instead of $HEADRACE_HOME/environments"
    )
    environment_timeout: float = _flag(1800.0, "seconds building one environment may take")
    load_models_at_startup: bool = _flag(True, "load what is found; otherwise wait to be asked")
    allow_repository_api: bool | None = _flag(
        None, "let clients load and unload models; without it, only on a loopback address"
    )
    server_name: str = _flag("headrace", "the server's name in its metadata")
    server_version: str | None = _flag(None, "the version in its metadata, instead of ours")
    extensions: tuple[str, ...] = _flag((), "protocol extensions to name beside ours, by commas")
    root_path: str = _flag("", "path that a proxy in front strips off, for the OpenAPI document")
    cors_settings: CorsSettings | None = _flag(
        None, "what browsers may ask from pages of other origins, as JSON: allow_origins and so on"
    )
    metrics_endpoint: str | None = _flag(
        "/metrics", "path of the metrics; empty switches them and their listener off"
    )
    max_queue_size: int = _flag(4096, "requests waiting for one model before 503")
    max_queue_bytes: int = _flag(512 * MIB, "bytes of requests waiting for one model before 503")
    drain_delay: float = _flag(0.0, "seconds to answer not-ready but keep accepting after SIGTERM")
    drain_timeout: float = _flag(30.0, "seconds in-flight requests may take after SIGTERM")
    log_level: str = _flag(
        "info", "least severe level logged", choices=("debug", "info", "warning", "error")
    )
    log_format: str = _flag(
        "auto",
        "text for people, json for machines; auto asks the terminal",
        choices=("auto", "text", "json"),
    )


@dataclass(frozen=True)
class ModelSettings:
    """One version of one model: what to load, with which runtime, and how to run it.

    `implementation` is an import path, one of our runtimes or a user's class. `uri` is the
    local folder or file to load. `folder` is where `model-settings.json` lies; a user's class is
    imported from there.

    `environment` says what the model needs installed: `requirements` (a file, or the lines of
    one) replaces what the model itself asks for, `packages` (lines) is added to it, `python` is
    a version such as "3.11". `environment_path` is an environment that exists already,
    `environment_tarball` a packed one. Models with different `inference_pool_gid` never share a
    worker.
    """

    name: str
    implementation: str
    uri: str = ""
    version: str | None = None
    folder: str = ""
    platform: str = ""
    content_type: str | None = None
    inputs: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    max_batch_size: int | None = None
    max_batch_time: float = 0.0
    instances: int = 1
    inline: bool = False
    infer_timeout: float | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    environment_path: str = ""
    environment_tarball: str = ""
    inference_pool_gid: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def home_folder() -> Path:
    """Where everything this program keeps between runs lies: `HEADRACE_HOME` or `~/headrace`."""
    home = os.path.expanduser("~")
    # A user whom the system does not know has no home, and in containers that of `/`.
    return Path(os.environ.get("HEADRACE_HOME") or Path("/" if home == "~" else home, "headrace"))
