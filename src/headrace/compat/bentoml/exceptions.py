"""The exceptions of `bentoml.exceptions`.

Most are our own errors under BentoML's names, so that `except NotFound` around a call of the store
catches what it raises. A class of a user's may set `error_code`, the HTTP status of its answer.
"""

from __future__ import annotations

from http import HTTPStatus

from headrace import errors

BentoMLException = errors.HeadraceError
InvalidArgument = BadInput = errors.InvalidInput
NotFound = errors.NotFound
ServiceUnavailable = errors.Overloaded
BentoMLConfigException = errors.ConfigurationError
MissingDependencyException = errors.MissingDependency
ImportServiceError = errors.LoadFailed

# VtsServing's names of the same.
VtsServingException = BentoMLException
VtsServingConfigException = BentoMLConfigException


class UnprocessableEntity(errors.InvalidInput):
    """The request is understood, and cannot be processed."""

    error_code = HTTPStatus.UNPROCESSABLE_ENTITY


class InternalServerError(errors.HeadraceError):
    """The endpoint failed."""

    error_code = HTTPStatus.INTERNAL_SERVER_ERROR


class StateException(errors.HeadraceError):
    """An object is in a state that does not allow the call."""


class APIDeprecated(errors.HeadraceError):
    """The call belongs to an API that is gone."""


class CLIException(errors.HeadraceError):
    """A command failed."""


class RemoteException(errors.HeadraceError):
    """A server that was asked failed."""


def declared_status(error: BaseException) -> int | None:
    """The HTTP status that an exception's class sets as its `error_code`; None for none."""
    code = getattr(error, "error_code", None)
    return int(code) if isinstance(code, int) and 400 <= code <= 599 else None
