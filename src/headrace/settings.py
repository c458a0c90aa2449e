"""Frozen settings of the server and of each model. Values only; `configuration` reads them.

Standard library only: a worker receives its `ModelSettings` as JSON.
Durations are seconds and sizes are bytes, in every flag, file and environment variable.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from headrace import platform_table

MIB = 1024 * 1024

# The batch size of models whose rows are independent, unless they set one.
DEFAULT_MAX_BATCH_SIZE = 256

# Which models are opened; see `headrace.runtimes.trust`.
Trust = Literal["any", "signed", "formats"]

# How `/invocations` reads what does not fit a signature exactly.
Scoring = Literal["mlflow", "strict"]


def setting(default: Any, help: str, *, unit: str = "", unset: str = "", **extra: Any) -> Any:
    """A field with its meaning, for `--help` and for docs/reference/settings.md.

    `unit` is what a number counts. `unset` describes the effect of not setting it, for fields whose
    default does not show that. `above` is what a number must exceed, if 0 is not allowed.
    """
    return field(default=default, metadata={"help": help, "unit": unit, "unset": unset, **extra})


@dataclass(frozen=True)
class CorsSettings:
    """Which cross-origin requests browsers may make; see Starlette's `CORSMiddleware`."""

    allow_origins: tuple[str, ...] = setting(
        (), "origins that may make requests, such as https://example.com; * allows every origin"
    )
    allow_origin_regex: str | None = setting(None, "regular expression for further such origins")
    allow_credentials: bool = setting(False, "let requests carry cookies and credentials")
    allow_methods: tuple[str, ...] = setting(("GET",), "allowed methods; * allows all of them")
    allow_headers: tuple[str, ...] = setting((), "allowed request headers; * allows all of them")
    expose_headers: tuple[str, ...] = setting((), "response headers that scripts may read")
    max_age: int = setting(
        600, "how long browsers may cache the answer to a preflight request", unit="seconds"
    )


@dataclass(frozen=True)
class ServerSettings:
    """How the server listens, what it refuses, and how long it waits.

    Each field is one flag (`--http-port`), one environment variable (`HEADRACE_HTTP_PORT`,
    or `MLSERVER_HTTP_PORT`) and one key of `settings.json`.
    """

    platform: str = setting(
        "auto",
        "platform whose variables, folders and routes are taken; auto finds it in images of "
        "`headrace build`, and nowhere else",
        choices=platform_table.CHOICES,
    )
    host: str = setting("127.0.0.1", "address to listen on")
    http_port: int = setting(
        8080, "port for HTTP; 0 takes a free one, and so does every other port that is not set"
    )
    grpc_port: int = setting(8081, "port for gRPC; 0 takes a free one")
    native_grpc: bool = setting(
        True, "serve gRPC with the server's own HTTP/2; otherwise grpcio does it, which is slower"
    )
    metrics_port: int = setting(8082, "port for metrics; 0 takes a free one")
    ssl_certfile: str | None = setting(
        None,
        "file with the certificate of the server, and those that lead to its authority, in PEM; "
        "with it, HTTP, gRPC and metrics are served over TLS only",
        unset="no TLS",
    )
    ssl_keyfile: str | None = setting(
        None, "file with the key of that certificate, in PEM", unset="in the same file"
    )
    ssl_keyfile_password_file: str | None = setting(
        None, "file with the password of the key", unset="the key has none"
    )
    ssl_ca_certs: str | None = setting(
        None,
        "file with the certificates of authorities, in PEM; clients must have a certificate of one "
        "of them (mTLS)",
        unset="clients need no certificate",
    )
    ready_fd: int | None = setting(
        None,
        "file descriptor that the addresses are written to, as a line of JSON, once the server is "
        "ready",
    )
    parallel_workers: int = setting(
        1,
        "worker processes for each environment; 0 runs models inside the server",
        unit="processes",
    )
    max_body_size: int = setting(
        64 * MIB,
        "largest request body after decompression, and largest gRPC message",
        unit="bytes",
    )
    max_answer_size: int = setting(
        256 * MIB,
        "largest answer of a model, before it is encoded; each piece of a streamed one, and the "
        "answer to a whole batch; a text counts as 64 bytes at least",
        unit="bytes",
        above=0,
    )
    max_header_size: int = setting(
        16 * 1024, "largest request head, and largest metadata of a gRPC call", unit="bytes"
    )
    max_text_elements: int = setting(
        1_000_000, "text elements of a request; raw ones are not counted", unit="elements", above=0
    )
    max_inputs: int = setting(10_000, "inputs of a request", unit="inputs", above=0)
    max_outputs: int = setting(
        10_000, "outputs that a request may ask for by name", unit="outputs", above=0
    )
    max_parameters: int = setting(
        50_000,
        "parameters of a request and all its inputs; in JSON of 1 MiB or more, with the values "
        "within them",
        unit="parameters",
        above=0,
    )
    max_receive_bytes: int = setting(
        512 * MIB,
        "total size of the requests that arrive in parts, over HTTP and gRPC, until they are "
        "answered; further ones wait, and then get a 503",
        unit="bytes",
        above=0,
    )
    max_connections: int = setting(
        10_000,
        "HTTP and gRPC connections that may be open at once; further ones take the place of idle "
        "ones, and are refused if none is idle",
        unit="connections",
        above=0,
    )
    grpc_connection_age: float | None = setting(
        None,
        "how long a gRPC connection lasts; its client is then told to open another, which may lead "
        "to another replica",
        unit="seconds",
        unset="for as long as it is used",
        above=0,
    )
    header_timeout: float = setting(
        10.0, "how long the head of a request may take to arrive", unit="seconds", above=0
    )
    body_timeout: float = setting(
        30.0,
        "how long the body of a request may take to arrive, and how long an answer may wait for a "
        "client that does not read it",
        unit="seconds",
        above=0,
    )
    keep_alive_timeout: float = setting(
        75.0, "how long an idle connection is kept open", unit="seconds"
    )
    infer_timeout: float = setting(
        60.0,
        "how long a request may take, including the wait in the queue",
        unit="seconds",
        above=0,
    )
    fetch_timeout: float = setting(
        600.0,
        "how long fetching a model from a tracking server or an object store may take",
        unit="seconds",
        above=0,
    )
    follow: bool = setting(
        False, "follow the registry: load the version that an alias moves to, and then serve it"
    )
    follow_interval: float = setting(
        15.0,
        "how often the registry is asked about each model, and with --watch how often files are "
        "looked at",
        unit="seconds",
        above=0,
    )
    follow_incompatible: bool = setting(
        False, "move to a version even if its inputs or outputs differ from the one before"
    )
    mlflow_webhook_secret_file: str | None = setting(
        None,
        "file with the secret of the registry's webhooks; those that it signs make the server ask "
        "the registry at once, at /admin/mlflow-webhook",
        unset="no such route",
    )
    follow_tags: bool = setting(
        False,
        "share the state of rollouts with other servers, in the tag headrace.rollout of the "
        "registered model",
    )
    load_timeout: float = setting(
        300.0, "how long a model may take to load", unit="seconds", above=0
    )
    max_concurrency: int | None = setting(
        None,
        "requests of one model that each worker works on at once, for models that do not say "
        "themselves: coroutines on one event loop, plain functions in threads",
        unit="requests",
        unset="32 for MLflow's agents and for MLflow models with coroutines, 128 for services, "
        "otherwise 1",
        above=0,
    )
    env_manager: str = setting(
        "auto",
        "where models get their packages: local always uses the server's environment, uv builds "
        "one for every model that states its requirements, auto builds one only if the server's "
        "does not meet them",
        choices=("auto", "local", "uv"),
    )
    trust: str = setting(
        "any",
        "models that are opened: any, signed ones, or those in formats without code, which are "
        "ONNX, skops, safetensors and the boosters' own",
        choices=get_args(Trust),
    )
    trusted_folders: tuple[str, ...] = setting(
        (),
        "folders, separated by commas, of the models that a platform names while the server runs; "
        "of those elsewhere, only formats without code are opened",
        unset="none, and /opt/ml on SageMaker",
    )
    trust_key: str | None = setting(
        None, "file of the public key of signed models, as PEM", unset="--trust-certificates counts"
    )
    trust_certificates: str | None = setting(
        None,
        "file of the certificates, as PEM, that those of the signers of models come from",
        unset="--trust-key counts",
    )
    environments_dir: str | None = setting(
        None, "folder of built and unpacked environments", unset="$HEADRACE_HOME/environments"
    )
    environment_timeout: float = setting(
        1800.0, "how long building one environment may take", unit="seconds", above=0
    )
    worker_env: tuple[str, ...] = setting(
        (),
        "environment variables, separated by commas, that workers get besides the usual ones, such "
        "as PATH; AWS_* stands for all that begin so",
        unset="all but the server's own secrets, and with trust formats the usual ones",
    )
    worker_network: str = setting(
        "host",
        "network of workers: host is that of the server, none is only a loopback of their own",
        choices=("host", "none"),
    )
    worker_uid: int | None = setting(
        None, "user and group that workers run as, if root starts the server", unset="the server's"
    )
    reload: bool = setting(
        False, "load a service again whenever a file in its folder changes, for development"
    )
    watch: bool = setting(
        False,
        "watch the models in a folder, or the latest version in the store: load what is new or has "
        "changed, and unload what is gone",
    )
    load_models_at_startup: bool = setting(
        True, "load all models at startup; otherwise each is loaded on request"
    )
    allow_empty: bool = setting(
        False, "report that the server is ready although it was given no model"
    )
    allow_repository_api: bool | None = setting(
        None,
        "let clients load and unload models; where keys are asked for, those with the scope admin",
        unset="on a loopback address, and where keys are asked for",
    )
    api_keys_file: str | None = setting(
        None,
        "file with the keys that callers need, which `headrace keys` writes; it is read again when "
        "it changes",
        unset="no keys are asked for",
    )
    jwt_issuer: str | None = setting(
        None,
        "issuer of the JSON Web Tokens that callers may send instead of keys, the claim iss",
        unset="no tokens are accepted",
    )
    jwt_audience: str | None = setting(
        None,
        "who these tokens are for, the claim aud",
        unset="an error, if there is an issuer",
    )
    jwt_keys: str | None = setting(
        None,
        "the issuer's public keys (JWKS), an https URL or a file",
        unset="an error, if there is an issuer",
    )
    jwt_algorithms: tuple[str, ...] = setting(
        ("RS256", "ES256"), "algorithms that tokens may be signed with, separated by commas"
    )
    jwt_scopes_claim: str = setting("scope", "claim with the scopes of a token")
    jwt_models_claim: str | None = setting(
        None,
        "claim with the models that a token is for; one without the claim is for none",
        unset="tokens are for all models",
    )
    server_name: str = setting("headrace", "name of the server in its metadata")
    server_version: str | None = setting(
        None, "version of the server in its metadata", unset="the version of Headrace"
    )
    scoring: str = setting(
        "mlflow",
        "how /invocations reads what does not fit a model's signature exactly: mlflow drops "
        "surplus columns and takes text that is a number, strict refuses both, as /v2 always does",
        choices=get_args(Scoring),
    )
    extensions: tuple[str, ...] = setting(
        (), "protocol extensions to add to those in the server's metadata, separated by commas"
    )
    root_path: str = setting(
        "", "path prefix that a reverse proxy strips, for the OpenAPI document"
    )
    health_route: str = setting("", "further path of /v2/health/ready", unset="none")
    predict_route: str = setting(
        "",
        "further path that takes what /v1/models/MODEL:predict and /invocations take, for the only "
        "model",
        unset="none",
    )
    cors_settings: CorsSettings | None = setting(
        None,
        "which cross-origin requests browsers may make, as a JSON object",
        unset="none",
    )
    allowed_hosts: tuple[str, ...] = setting(
        (),
        "names of this server, separated by commas, beside its addresses and localhost; requests "
        "for any other name get a 403",
        unset="every name; on loopback, pages must come from localhost or an address",
    )
    metrics_endpoint: str | None = setting(
        "/metrics", "path of the metrics; empty turns them and their port off"
    )
    metrics_rest_server_prefix: str | None = setting(
        None,
        "first part of the names of MLServer's metrics of HTTP; if set, there are MLServer's "
        "metrics whatever is served, and none of them if empty",
        unset="rest_server, if a model comes from MLServer",
    )
    max_queue_size: int = setting(
        4096, "requests that may wait for one model; further ones get a 503", unit="requests"
    )
    max_queue_bytes: int = setting(
        512 * MIB,
        "total size of the requests that may wait for one model, and of those that it answers in "
        "pieces; further ones get a 503",
        unit="bytes",
    )
    drain_delay: float = setting(
        0.0,
        "after SIGTERM, how long the server reports that it is not ready but accepts requests",
        unit="seconds",
    )
    drain_timeout: float = setting(
        30.0,
        "after SIGTERM, how long requests in flight may take to finish; new ones are taken until "
        "none is in flight, for at most half of it",
        unit="seconds",
    )
    access_log: bool | None = setting(
        None,
        "log a line for each request: what was requested, its outcome, and how long it took",
        unset="where standard error is a terminal",
    )
    log_level: str = setting(
        "info",
        "least severe level that is logged",
        choices=("debug", "info", "warning", "error"),
    )
    log_format: str = setting(
        "auto",
        "text for people, json for machines; auto is text on a terminal and json elsewhere",
        choices=("auto", "text", "json"),
    )

    @property
    def asks_for_keys(self) -> bool:
        """Whether callers have to say who they are."""
        return self.api_keys_file is not None or self.accepts_tokens

    @property
    def accepts_tokens(self) -> bool:
        """Whether any setting is about whose tokens count; without the others, none is valid."""
        asked = (self.jwt_issuer, self.jwt_audience, self.jwt_keys)
        return any(value is not None for value in asked)


@dataclass(frozen=True)
class ModelSettings:
    """One version of one model: what to load, with which runtime, and how to run it.

    `implementation` names one of our runtimes or is the import path of a user's class. `uri` is the
    local folder or file to load. `folder` is where `model-settings.json` is; a user's class is
    imported from there.

    `environment` says what the model needs installed: `requirements` (a file, or the lines of
    one) replaces the model's own requirements, `packages` (lines) is added to them, `python` is
    a version such as "3.11". `environment_path` is an existing environment,
    `environment_tarball` a packed one. Models with different `inference_pool_gid` never share a
    worker. Requests for an output in `unbatched` are never merged; `""` stands for requests that
    name none. `batch_sizes` has outputs whose batches are smaller than `max_batch_size`. `scoring`
    is `mlflow` or `strict`, and None where the server's applies. `fault` is what is wrong with a
    model's description, which keeps it from loading. Each worker that holds the model works on
    `max_concurrency` requests at once, and without it on as many as the model says itself. An
    answer has `max_answer_size` bytes at most; None is for no bound.
    `follow` says how a registered model is followed; None if it is not. With `must_answer_example`,
    a model that cannot answer the input example logged with it does not load. `in_background` keeps
    a model, such as a shadow, in a worker apart that gets the processor when nobody else wants it.
    No code of a model's files runs where `trust` is `formats`. `memory_limit` is in bytes.
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
    unbatched: list[str] = field(default_factory=list)
    batch_sizes: dict[str, int] = field(default_factory=dict)
    scoring: str | None = None
    fault: str = ""
    max_concurrency: int | None = None
    max_answer_size: int | None = None
    follow: dict[str, Any] | None = None
    must_answer_example: bool = False
    in_background: bool = False
    trust: str = "any"
    memory_limit: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def home_folder() -> Path:
    """The folder for everything that is kept between runs: `HEADRACE_HOME` or `~/headrace`."""
    home = os.path.expanduser("~")
    # A user unknown to the system has no home folder; in containers it is often `/`.
    return Path(os.environ.get("HEADRACE_HOME") or Path("/" if home == "~" else home, "headrace"))
