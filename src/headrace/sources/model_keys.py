"""The keys of a `model-settings.json`, and what each means.

Every key of MLServer's file is known here. docs/reference/settings.md is rendered from `Keys`;
docs/reference/mlserver.md says how they differ from MLServer's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_type_hints

import msgspec

from headrace.settings import DEFAULT_MAX_BATCH_SIZE, Scoring, setting
from headrace.sources.follow import Follow


class Environment(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What a model needs installed; see `ModelSettings`."""

    requirements: Annotated[
        str | list[str] | None,
        msgspec.Meta(
            description="requirements file, relative to the settings file, or a list of its lines; "
            "replaces the requirements an MLflow model states itself"
        ),
    ] = None
    packages: Annotated[
        list[str] | None, msgspec.Meta(description="requirements to add, as a list of lines")
    ] = None
    python: Annotated[
        str | None, msgspec.Meta(description="minor version of Python, such as 3.11")
    ] = None


class DeclaredTensor(msgspec.Struct, omit_defaults=True):
    """An input or output in the model's metadata; shapes have -1 where any size will do."""

    name: str
    datatype: str = "BYTES"
    shape: list[int] = msgspec.field(default_factory=lambda: [-1])
    parameters: dict[str, Any] | None = None


@dataclass(frozen=True)
class Keys:
    """The keys in use, including those of `parameters`, for files and for the environment."""

    implementation: str | None = setting(
        None,
        "runtime, such as sklearn, or class to import: module.Class, module:Class or file.py:Class",
        unset="required, unless an MLmodel file takes the place of the settings file",
    )
    name: str | None = setting(
        None, "name of the model in routes, logs and metrics", unset="name of the folder"
    )
    platform: str | None = setting(
        None, "platform in the model's metadata", unset="depends on the runtime"
    )
    inputs: list[DeclaredTensor] | None = setting(
        None,
        "inputs in the model's metadata: objects with name, datatype, shape and parameters",
        unset="depends on the runtime",
    )
    outputs: list[DeclaredTensor] | None = setting(
        None,
        "outputs in the model's metadata, in the same form",
        unset="depends on the runtime",
    )
    max_batch_size: Annotated[int, msgspec.Meta(ge=0)] | None = setting(
        None,
        "most rows that are merged into one batch; above 1, requests are merged for every model, "
        "and 1 turns batching off",
        unit="rows",
        unset=f"{DEFAULT_MAX_BATCH_SIZE} if rows are independent, otherwise 1",
    )
    max_batch_time: Annotated[float, msgspec.Meta(ge=0)] | None = setting(
        None, "how long a batch that is not full waits for more requests", unit="seconds"
    )
    parallel_workers: int | None = setting(
        None,
        "0 or less runs the model inside the server; any other number has no effect",
        unit="processes",
        unset="parallel_workers of the server",
    )
    instances: Annotated[int, msgspec.Meta(ge=1)] | None = setting(
        None,
        "workers that load the model, at most parallel_workers of the server",
        unit="workers",
    )
    max_concurrency: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = setting(
        None,
        "requests that each worker works on at once: coroutines on one event loop, plain functions "
        "in threads",
        unit="requests",
        unset="max_concurrency of the server",
    )
    memory_limit: Annotated[int, msgspec.Meta(gt=0)] | None = setting(
        None,
        "memory that each worker of the model may allocate; the model then shares none",
        unit="bytes",
        unset="no limit",
    )
    max_answer_size: Annotated[int, msgspec.Meta(gt=0)] | None = setting(
        None,
        "largest answer of the model, before it is encoded",
        unit="bytes",
        unset="max_answer_size of the server",
    )
    infer_timeout: Annotated[float, msgspec.Meta(gt=0)] | None = setting(
        None,
        "how long a request may take, including the wait in the queue",
        unit="seconds",
        unset="infer_timeout of the server",
    )
    scoring: Scoring | None = setting(
        None,
        "how /invocations reads what does not fit the signature exactly: mlflow or strict",
        unset="scoring of the server",
        choices=get_args(Scoring),
    )
    follow: Follow | None = setting(
        None, "how the server follows a registered model", unset="not at all"
    )
    uri: str | None = setting(
        None,
        "file or folder of the model, relative to the settings file, or an MLflow URI",
        unset="folder of the settings file",
    )
    version: str | int | None = setting(None, "version of the model", unset="none")
    content_type: str | None = setting(
        None,
        "content type of requests that state none; a subclass of headrace.Model only shows it in "
        "its metadata",
        unset="depends on the runtime",
    )
    extra: dict[str, Any] | None = setting(None, "options for the runtime or the class")
    format: str | None = setting(
        None, "format of the model, handed to the runtime as extra.format", unset="none"
    )
    environment: Environment | None = setting(None, "packages and Python that the model needs")
    environment_path: str | None = setting(
        None, "folder of an existing environment to run the model in", unset="none"
    )
    environment_tarball: str | None = setting(
        None, "environment to run the model in, packed by conda-pack", unset="none"
    )
    inference_pool_gid: str | None = setting(
        None,
        "models with different ids never share a worker; models without one share workers unless "
        "they bring different modules of the same name",
        unset="none",
    )
    autogenerate_inference_pool_gid: bool | None = setting(
        None, "give the model an id of its own", unset="false"
    )


HINTS = get_type_hints(Keys, include_extras=True)
NESTED = (
    "uri", "version", "content_type", "extra", "format", "environment_path", "environment_tarball",
    "inference_pool_gid", "autogenerate_inference_pool_gid",
)  # fmt: skip
TOP = tuple(key for key in HINTS if key not in NESTED)
# Accepted because MLServer's users have them in their files; the docs say why they do nothing.
IGNORED = ("versions", "warm_workers", "cache_enabled")
