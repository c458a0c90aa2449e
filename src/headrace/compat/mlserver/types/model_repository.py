"""The messages of the model repository extension, as in `mlserver.types`."""

from __future__ import annotations

from enum import Enum

from headrace.compat.mlserver.types.base import REQUIRED, BaseModel, Field, anything, text


class State(Enum):
    """The state of a model in the repository."""

    UNKNOWN = "UNKNOWN"
    READY = "READY"
    UNAVAILABLE = "UNAVAILABLE"
    LOADING = "LOADING"
    UNLOADING = "UNLOADING"


class RepositoryIndexRequest(BaseModel):
    """A request for the models of the repository."""

    FIELDS = {"ready": Field(anything)}
    ready: bool | None


class RepositoryIndexResponseItem(BaseModel):
    """One model of the repository."""

    FIELDS = {
        "name": Field(text, REQUIRED),
        "version": Field(text),
        "state": Field(text, REQUIRED),
        "reason": Field(text, REQUIRED),
    }

    name: str
    version: str | None
    state: str
    reason: str


class RepositoryLoadErrorResponse(BaseModel):
    """The body of a load that failed."""

    FIELDS = {"error": Field(text)}
    error: str | None


class RepositoryUnloadErrorResponse(RepositoryLoadErrorResponse):
    """The body of an unload that failed."""
