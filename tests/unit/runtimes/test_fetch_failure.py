"""Why MLflow's client could not fetch a model, in words that say what to do; and what to repeat."""

from __future__ import annotations

import errno

import pytest
import requests
from mlflow.exceptions import MlflowException, RestException, get_error_code
from mlflow.tracking.registry import UnsupportedModelRegistryStoreURIException

from headrace.errors import InvalidModel, LoadFailed, MissingDependency
from headrace.runtimes.fetch_failure import failure, reason


def of_server(code: str, message: str = "of the server") -> RestException:
    """What the client raises for an answer of a tracking server in its own form."""
    return RestException({"error_code": code, "message": message})


def of_proxy(status: int) -> MlflowException:
    """What the client raises for any other answer, such as that of a proxy."""
    words = (
        f"API request to endpoint /api failed with error code {status} != 200. Response body: ''"
    )
    return MlflowException(words, error_code=get_error_code(status))


def of_store(status: int) -> Exception:
    """What boto's client raises, in the form that its errors have."""
    error = Exception("An error occurred")
    error.response = {"ResponseMetadata": {"HTTPStatusCode": status}}  # type: ignore[attr-defined]
    return error


def from_cause(cause: Exception) -> MlflowException:
    error = MlflowException("API request to http://x failed with exception")
    error.__cause__ = cause
    return error


class NoCredentialsError(Exception):
    """Named as boto's."""


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "postgresql://host/db", "mysql+x://h/d"])
def test_a_client_that_reads_no_database_is_told_what_to_install(uri: str) -> None:
    error = UnsupportedModelRegistryStoreURIException(uri, ["file", "http"])

    assert reason(error).startswith(
        "a tracking store in a database needs all of MLflow: pip install mlflow; "
    )


@pytest.mark.parametrize(
    "error",
    [
        of_server("RESOURCE_DOES_NOT_EXIST"),
        of_server("INVALID_PARAMETER_VALUE"),
        of_server("PERMISSION_DENIED"),
        of_proxy(401),
        of_proxy(403),
        of_proxy(404),
        of_store(404),
        MlflowException("Not a proper runs:/ URI"),
        MlflowException("##### File x #####\n404 Client Error: Not Found for url"),
        MlflowException("could not find a registered artifact repository for: ss3://b/"),
        UnsupportedModelRegistryStoreURIException("nosuch://x", ["file"]),
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
        PermissionError(errno.EACCES, "Permission denied"),
        ValueError("not enough values to unpack"),
        NoCredentialsError("Unable to locate credentials"),
        ModuleNotFoundError("No module named 'google.cloud'", name="google.cloud"),
    ],
    ids=repr,
)
def test_what_is_not_there_or_not_given_out_is_not_asked_for_again(error: Exception) -> None:
    assert isinstance(failure(error, "models:/m/1"), InvalidModel)


@pytest.mark.parametrize(
    "error",
    [
        of_server("INTERNAL_ERROR"),
        of_server("TEMPORARILY_UNAVAILABLE"),
        of_server("REQUEST_LIMIT_EXCEEDED"),
        of_proxy(429),
        of_proxy(500),
        of_proxy(503),
        of_store(503),
        from_cause(requests.ConnectionError("refused")),
        from_cause(requests.Timeout("read")),
        MlflowException("##### File x #####\n503 Server Error: Service Unavailable for url"),
        MlflowException("##### File x #####\nHTTPConnectionPool: Max retries exceeded"),
        OSError(errno.ENOSPC, "No space left on device"),
        TimeoutError(),
        Exception("nobody knows"),
    ],
    ids=repr,
)
def test_what_may_pass_is_tried_again(error: Exception) -> None:
    assert type(failure(error, "models:/m/1")) is LoadFailed


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (of_server("RESOURCE_DOES_NOT_EXIST"), "it does not exist: of the server"),
        (
            of_proxy(401),
            "the server does not accept the credentials; MLflow's client reads ",
        ),
        (of_proxy(403), "the server does not let these credentials read it: "),
        (of_proxy(404), "the server is not a tracking server of MLflow: "),
        (ValueError("x"), "it is not a URI that MLflow can read (ValueError: x)"),
        (
            MlflowException(
                "Could not find a registered artifact repository for: ss3://b/. Currently "
                "registered schemes are: ['', 'file', 's3', 'gs']"
            ),
            "there is no scheme 'ss3'; did you mean 's3'?",
        ),
    ],
    ids=repr,
)
def test_a_reason_says_what_to_look_at(error: Exception, words: str) -> None:
    assert failure(error, "u:/x").message.startswith(f"MLflow cannot fetch 'u:/x': {words}")


def test_a_kind_of_uri_whose_library_is_missing_names_the_library() -> None:
    found = failure(ModuleNotFoundError("gone", name="google.cloud"), "gs://b/k")

    assert isinstance(found, MissingDependency)
    assert "the module 'google.cloud', which is not installed" in found.message


def test_a_password_in_an_address_is_not_repeated() -> None:
    error = MlflowException("API request to http://user:secret@host/api failed with exception")

    assert "API request to http://user:***@host/api failed" in reason(error)
