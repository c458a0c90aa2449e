"""The messages of the model repository extension, as in `mlserver.types`."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any

from headrace.compat.mlserver.types.base import (
    REQUIRED,
    BaseModel,
    Field,
    anything,
    instance_of,
    list_of,
    text,
)


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


class RepositoryIndexResponse(BaseModel):
    """The models of the repository: a JSON array, a list of items in `root`."""

    FIELDS = {"root": Field(list_of(instance_of(RepositoryIndexResponseItem)), REQUIRED)}

    root: list[RepositoryIndexResponseItem]

    def __init__(self, root: Any = REQUIRED, **values: Any) -> None:
        super().__init__(**({} if root is REQUIRED else {"root": root}), **values)

    @classmethod
    def model_validate(cls, obj: Any, **_: Any) -> RepositoryIndexResponse:
        return obj if isinstance(obj, cls) else cls(obj)

    def model_dump(self, *args: Any, **options: Any) -> Any:
        return super().model_dump(*args, **options)["root"]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.root)

    def __getitem__(self, index: Any) -> Any:
        return self.root[index]

    def __len__(self) -> int:
        return len(self.root)


class RepositoryLoadErrorResponse(BaseModel):
    """The body of a load that failed."""

    FIELDS = {"error": Field(text)}
    error: str | None


class RepositoryUnloadErrorResponse(RepositoryLoadErrorResponse):
    """The body of an unload that failed."""
