"""The exceptions of `mlserver.errors`; their status decides how the caller is answered."""

from __future__ import annotations


class MLServerError(Exception):
    """An error with the HTTP status to answer with."""

    def __init__(self, msg: str, status_code: int = 400) -> None:
        super().__init__(msg)
        self.status_code = status_code


class InferenceError(MLServerError):
    """The request cannot be answered."""

    def __init__(self, msg: str) -> None:
        super().__init__(msg)


class InvalidModelURI(MLServerError):
    """The settings name no artefact, or one that does not exist."""

    def __init__(self, name: str, model_uri: str | None = None) -> None:
        which = f" ({model_uri})" if model_uri else ""
        super().__init__(f"Invalid URI specified for model {name}{which}", 422)


class ModelNotFound(MLServerError):
    """No such model or version."""

    def __init__(self, name: str, version: str | None = None) -> None:
        super().__init__(f"Model {_named(name, version)} not found", 404)


class ModelNotReady(MLServerError):
    """The model cannot answer yet."""

    def __init__(self, name: str, version: str | None = None) -> None:
        super().__init__(f"Model {_named(name, version)} is not ready yet.")


class ModelParametersMissing(MLServerError):
    """The settings lack parameters that the model needs."""

    def __init__(self, model_name: str) -> None:
        super().__init__(f"Parameters missing for model {model_name}")


def _named(name: str, version: str | None) -> str:
    return name if version is None else f"{name} with version {version}"
