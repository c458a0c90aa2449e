"""The one exception tree. Layers above translate `kind` to their status codes.

HeadraceError
├── InvalidInput          the caller's request breaks the contract
│   └── MalformedBody     a body of MLflow's scoring protocol cannot be read at all
├── UnsupportedMedia      a content type or encoding that is not supported
├── TooLarge              a body or tensor over its cap
├── HeadersTooLarge       the request head over its cap
├── NotFound              no such model, version or route
├── MethodNotAllowed      the route exists, the verb does not
├── Unauthenticated       nobody knows who is calling
├── Forbidden             a setting, the caller's key or the model disallows this operation
├── ModelNotReady         known, but loading, restarting, or to be loaded again
│   └── ModelUnavailable  known, but its load failed for good, or it was unloaded
├── Conflict              a load is already under way
├── Overloaded            a queue is full
├── RateLimited           this caller has sent more requests than it may
├── DeadlineExceeded      the caller's or the model's time is up
├── RequestTimeout        the request itself arrived too slowly
├── Cancelled             the caller left
├── ModelFailed           user code raised
├── BadModelOutput        the model answered something that cannot be delivered
├── WorkerCrashed         the worker died and no retry is left
├── Poisoned              the request killed a worker that held nothing else
├── Unimplemented         the feature is off or not implemented
├── ShuttingDown          the server is draining
├── LoadFailed            a model could not be loaded; a retry may succeed
│   ├── LoadKilled        something outside ended a process that the load needs
│   ├── MemoryShort       there is not enough memory for it, or for an answer
│   └── InvalidModel      its settings or files are wrong; a retry cannot succeed
│       └── MissingDependency   a framework is not installed
├── StoreFailed           the model store cannot be read or written
└── ConfigurationError    a flag, environment variable or file is wrong

Errors cross the process boundary as `(kind, message)`, never as objects.
"""

from __future__ import annotations

import signal
from collections.abc import Collection, Iterable

from headrace.masking import without_credentials


class HeadraceError(Exception):
    """Base of every error the server raises on purpose.

    `kind` is the stable code that clients and tables use; the message is shown to
    clients, so it never holds paths, tracebacks or payload values.
    """

    kind = "internal"
    # The HTTP answer that its raiser asks for: status, header fields and body. Only services set
    # it; all other errors are answered by their kind.
    answer: tuple[int, list[list[str]], bytes] | None = None
    # Seconds after which a retry may succeed, for kinds that invite one.
    retry_after = 1
    # How a caller could say who it is, in the words of RFC 9110, "WWW-Authenticate".
    challenge = ""
    # What the log says, if that is not the message.
    logged = ""

    @property
    def message(self) -> str:
        return without_credentials(str(self.args[0])) if self.args else self.kind

    def logged_as(self, text: str) -> HeadraceError:
        """The same error, with a reason that only the log has."""
        self.logged = text
        return self


class InvalidInput(HeadraceError):
    """The request breaks the contract; the message names the input and what was expected."""

    kind = "invalid_argument"


class MalformedBody(InvalidInput):
    """A body of MLflow's scoring protocol cannot be read, whatever the model takes."""

    kind = "malformed_body"


class UnsupportedMedia(HeadraceError):
    """The route does not support the content type or encoding."""

    kind = "unsupported_media"


class TooLarge(HeadraceError):
    """A body or tensor exceeds its cap; the message names the setting that raises it."""

    kind = "too_large"


class HeadersTooLarge(HeadraceError):
    """The request head exceeds its cap."""

    kind = "headers_too_large"


class NotFound(HeadraceError):
    """No such model, version or route."""

    kind = "not_found"


class MethodNotAllowed(HeadraceError):
    """The route exists but does not answer this verb."""

    kind = "method_not_allowed"


class Unauthenticated(HeadraceError):
    """Nobody knows who is calling."""

    kind = "unauthenticated"


class Forbidden(HeadraceError):
    """A setting, a key without the scope, or the model disallows it; the message says which."""

    kind = "forbidden"


class ModelNotReady(HeadraceError):
    """The model is known but cannot answer now. Safe to retry."""

    kind = "model_not_ready"


class ModelUnavailable(ModelNotReady):
    """The model is known but will not answer until somebody loads it. A retry cannot succeed."""

    kind = "model_unavailable"


class Conflict(HeadraceError):
    """Another load of the same model is under way."""

    kind = "conflict"


class Overloaded(HeadraceError):
    """A bounded queue is full. Safe to retry."""

    kind = "overloaded"


class RateLimited(HeadraceError):
    """This caller has sent more requests than its key, or the model, allows it for now."""

    kind = "rate_limited"


class DeadlineExceeded(HeadraceError):
    """The time given to the request ran out."""

    kind = "deadline_exceeded"


class RequestTimeout(HeadraceError):
    """The request was not received within its deadline."""

    kind = "request_timeout"


class Cancelled(HeadraceError):
    """The caller left before the answer."""

    kind = "cancelled"


class ModelFailed(HeadraceError):
    """The model raised an exception; its traceback is in the log."""

    kind = "model_error"


class BadModelOutput(HeadraceError):
    """The model's answer cannot be delivered (wrong rows, unknown type)."""

    kind = "bad_model_output"


class AnswerTooLarge(BadModelOutput):
    """The model's answer has more bytes than --max-answer-size allows."""

    kind = "answer_too_large"


class WorkerCrashed(HeadraceError):
    """The worker process died while it held the request. Safe to retry."""

    kind = "worker_crashed"


class Poisoned(HeadraceError):
    """The request killed a worker that held nothing else, and is not retried."""

    kind = "poisoned"


class Unimplemented(HeadraceError):
    """The feature is switched off or not implemented."""

    kind = "unimplemented"


class ShuttingDown(HeadraceError):
    """The server is draining and takes no new work."""

    kind = "shutting_down"


class LoadFailed(HeadraceError):
    """A model could not be loaded; the message is the reason shown in the index.

    The server retries: a network, a disk or a worker may have failed temporarily.
    """

    kind = "load_failed"


# Signals that something outside sends: a process that dies of one is hardly to blame for it.
OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}


class LoadKilled(LoadFailed):
    """Something outside ended a process that the load needs, which says nothing of the model."""


class MemoryShort(LoadFailed):
    """There is not enough memory to load the model, or for one of its answers."""

    kind = "memory_short"


class InvalidModel(LoadFailed):
    """The model's settings or files are wrong, which a retry would not change."""

    kind = "invalid_model"


class MissingDependency(InvalidModel):
    """A framework is not installed; the message is the install command."""

    kind = "missing_dependency"


class StoreFailed(HeadraceError):
    """The model store, or an object store, cannot be read or written: a full disk, no access."""

    kind = "store_failed"


class ConfigurationError(HeadraceError):
    """A flag, environment variable or settings file is wrong."""

    kind = "configuration"


# What a message about somebody else's exception ends with: its text may hold an address with a
# password, a row or a path. Whoever can read the log finds it there, with the traceback.
IN_LOG = "the server's log has the details"

# Only editing the code, or installing something, helps against these.
_OF_CODE = (SyntaxError, ImportError, NameError)


def load_failure(message: str, cause: BaseException) -> LoadFailed:
    """The error for user code that raised `cause` while loading: LoadFailed if a retry may help."""
    if isinstance(cause, MemoryError):
        return MemoryShort(message)
    return InvalidModel(message) if isinstance(cause, _OF_CODE) else LoadFailed(message)


def _subclasses(root: type[HeadraceError]) -> dict[str, type[HeadraceError]]:
    found = {}
    for sub in root.__subclasses__():
        found.update(_subclasses(sub))
    # A class without a kind of its own has that of its parent, which stands for it.
    return {**found, root.kind: root}


BY_KIND = _subclasses(HeadraceError)


def from_kind(kind: str, message: str) -> HeadraceError:
    """Rebuild an error that crossed a process boundary."""
    return BY_KIND.get(kind, HeadraceError)(message)


# Characters in which credentials are looked for, where a text is shortened.
_LONGEST_ADDRESS = 1024


def shorten(text: object, limit: int = 64) -> str:
    """A client's string made safe for a message: at most `limit` characters, all of them printable.

    A backslash is doubled, so that what was escaped can be told from what was not. Addresses are
    shown without credentials, of which a part might be left otherwise.
    """
    # One character more than is shown; what a caller sent may be megabytes.
    shown = without_credentials(str(text)[: limit + _LONGEST_ADDRESS])[: limit + 1]
    shown = shown.replace("\\", "\\\\")
    if not shown.isprintable():
        shown = "".join(
            each if each.isprintable() else each.encode("unicode_escape").decode("ascii")
            for each in shown
        )
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


def listing(names: list[str] | tuple[str, ...], most: int = 10) -> str:
    """Quote up to `most` names for a message and count the rest."""
    shown = ", ".join(f"'{shorten(name)}'" for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


# A longer word is not a typo. Of many known words, only so many are compared letter by letter,
# which takes up to 0.1 ms each.
_LONGEST_WORD = 256
MOST_COMPARED = 50


def nearest(word: object, known: Iterable[str]) -> str:
    """The one of `known` that a mistyped word resembles most, in any case; "" if none does.

    Takes a few milliseconds: where callers choose how many words are looked up, their number has to
    be bounded.
    """
    if isinstance(word, str) and len(word) > _LONGEST_WORD:
        return ""
    # Imported here: workers start without it, and only messages need it.
    from difflib import get_close_matches

    by_lower = {each.lower(): each for each in known}
    lower = str(word).lower()
    near = get_close_matches(lower, _alike(lower, by_lower), 1)
    return by_lower[near[0]] if near else ""


def _alike(word: str, known: Collection[str]) -> Collection[str]:
    """Of many known words, those that have the most pairs of letters in common with this one."""
    if len(known) <= MOST_COMPARED:
        return known
    from heapq import nlargest

    pairs = set(zip(word, word[1:]))

    def in_common(each: str) -> float:
        return len(pairs.intersection(zip(each, each[1:]))) / (len(word) + len(each))

    return nlargest(MOST_COMPARED, known, in_common)


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """What a message about an unknown word ends with; "" if nothing resembles the word."""
    near = nearest(word, known)
    return f"; did you mean '{near}'?" if near else ""
