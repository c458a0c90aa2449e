"""Why MLflow's client cannot fetch a model, in words for people, and whether a retry may help.

Judged by attributes and words: the client raises errors of its own and of the libraries below it,
of which none may be installed here.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from http import HTTPStatus

from headrace.errors import InvalidModel, LoadFailed, MissingDependency, did_you_mean, shorten
from headrace.masking import masked

_IN_DATABASE = re.compile(r"unsupported URI '(?:sqlite|mysql|postgresql|mssql)")
_NO_SCHEME = re.compile(
    r"artifact repository for: (?P<scheme>[\w.+-]+):.*schemes are: (?P<known>.*)"
)
# A store may quote a URI without its scheme.
_PASSWORD = re.compile(r"""([^\s/:@'"]+:)[^\s/@'"]+(?=@)""")
# What signs an address is in its query.
_QUERY = re.compile(r"(?<=//)([^\s?'\"]*)\?[^\s'\")]*")
# MLflow puts its code before the words of its server.
_CODE = re.compile(r"^\s*[A-Z][A-Z_]{3,}: ")
# The status of an answer, where only the words of the error have it.
_STATUS = re.compile(r"\b(?:failed with error code (\d{3})|(\d{3}) (?:Client|Server) Error)\b")
# How urllib3 and requests word a connection that failed; MLflow joins their words to its own.
_OF_NETWORK = re.compile(
    r"Max retries exceeded|timed out|Connection (?:refused|reset|aborted|broken)"
)
_NETWORK_ERRORS = frozenset((
    "ConnectionError", "Timeout", "HTTPError", "TimeoutError", "ProtocolError", "gaierror",
    "HTTPClientError", "EndpointConnectionError", "TransportError", "ServiceRequestError",
))  # fmt: skip
# Codes that stand for no status of their own, as MLflow raises them for what is wrong by itself.
_UNSPECIFIC = ("INTERNAL_ERROR", "")
# Statuses after which the same request may succeed.
_LATER = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
# Faults of a disk or of the machine that may pass; a missing file does not appear by itself.
_PASSING = frozenset((
    errno.ENOSPC, errno.EIO, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EINTR, errno.EBUSY,
    errno.ESTALE, errno.EDQUOT, errno.ENOMEM, errno.ECONNREFUSED, errno.ECONNRESET,
    errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EPIPE,
))  # fmt: skip


def failure(error: Exception, uri: str) -> LoadFailed:
    """The error for a model that could not be fetched: `InvalidModel` if a retry cannot help."""
    message = f"MLflow cannot fetch '{shorten(uri, 200)}': {reason(error)}"
    if isinstance(error, ImportError):
        return MissingDependency(message)
    return InvalidModel(message) if is_permanent(error) else LoadFailed(message)


def is_permanent(error: Exception) -> bool:
    """Whether the same fetch would fail again: what it names is not there, or is not given out.

    A failure of the network, of the server (5xx) or of the disk is not permanent, and neither is
    one that nothing is known about.
    """
    found = status(error)
    if found:
        return 400 <= found < 500 and found not in _LATER
    if any(_is_of_network(each) for each in _chain(error)):
        return False
    if isinstance(error, OSError):
        return error.errno is not None and error.errno not in _PASSING
    if _code(error) is not None:
        # The client's own refusals have no code of their own; its server's are RestExceptions.
        return type(error).__name__ != "RestException"
    return isinstance(error, (ImportError, LookupError, TypeError, ValueError)) or (
        "Credential" in type(error).__name__
    )


def reason(error: Exception) -> str:
    """Why something cannot be fetched, and what helps where that is known.

    The client alone knows no tracking store in a database, which is where MLflow 3 logs by default.
    """
    text = _QUERY.sub(r"\1", _PASSWORD.sub(r"\1***", masked(_CODE.sub("", str(error)))))
    words = shorten(text.strip(), 300)
    found = status(error)
    if type(error).__name__ == "UnsupportedModelRegistryStoreURIException":
        if _IN_DATABASE.search(text):
            need = "a tracking store in a database needs all of MLflow: pip install mlflow"
            return f"{need}; {words}"
        return f"MLFLOW_TRACKING_URI or MLFLOW_REGISTRY_URI is wrong: {words}"
    if isinstance(error, ImportError):
        return f"this kind of URI needs the module '{error.name}', which is not installed"
    if scheme := _NO_SCHEME.search(text):
        known = re.findall(r"'([\w-]+)'", scheme["known"])
        hint = did_you_mean(scheme["scheme"], known) or f"; MLflow knows {', '.join(known)}"
        return f"there is no scheme '{shorten(scheme['scheme'])}'{hint}"
    if found == HTTPStatus.UNAUTHORIZED or "Credential" in type(error).__name__:
        return (
            "the server does not accept the credentials; MLflow's client reads "
            f"MLFLOW_TRACKING_USERNAME and _PASSWORD, or _TOKEN, and those of the store: {words}"
        )
    if found == HTTPStatus.FORBIDDEN:
        return f"the server does not let these credentials read it: {words}"
    if found == HTTPStatus.NOT_FOUND:
        if "failed with error code" in text:
            return f"the server is not a tracking server of MLflow: {words}"
        return f"it does not exist: {words}"
    if "not in a valid JSON format" in text:
        return f"the server is not a tracking server of MLflow: {words}"
    if _code(error) is None and isinstance(error, (LookupError, TypeError, ValueError)):
        return f"it is not a URI that MLflow can read ({type(error).__name__}: {words})"
    return words


def status(error: Exception) -> int:
    """The status that a server answered with, or that MLflow's code stands for; 0 if unknown."""
    for each in _chain(error):
        answer = getattr(each, "response", None)
        if isinstance(answer, dict):
            # botocore's, of which the code may say more than the status.
            answer = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        for value in (answer, getattr(answer, "status_code", None), getattr(each, "code", None)):
            if isinstance(value, int) and 400 <= value < 600:
                return int(value)
    text = str(error)
    if written := _STATUS.search(text):
        return int(written[1] or written[2])
    if _code(error) not in (None, *_UNSPECIFIC):
        to_status = getattr(error, "get_http_status_code", None)
        return int(to_status()) if callable(to_status) else 0
    return 0


def _code(error: Exception) -> str | None:
    """MLflow's code of its own errors; None for those of others."""
    is_mlflows = "MlflowException" in [cls.__name__ for cls in type(error).__mro__]
    return str(getattr(error, "error_code", "")) if is_mlflows else None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it comes from."""
    for _ in range(20):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _is_of_network(error: BaseException) -> bool:
    names = {cls.__name__ for cls in type(error).__mro__}
    return bool(names & _NETWORK_ERRORS) or _OF_NETWORK.search(str(error)) is not None
