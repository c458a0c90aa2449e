"""What one caller may do."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from headrace.access.token_bucket import TokenBucket


class Grant:
    """The scopes and models of a key or a token, until `expires`, in seconds since 1970.

    `models` are names, or patterns with `*` and `?`; None stands for every model. `name` is for
    logs and messages. A `bucket` limits how often its owner may call.
    """

    __slots__ = ("bucket", "expires", "hides", "models", "name", "scopes")

    def __init__(
        self,
        name: str,
        scopes: Iterable[str],
        models: Iterable[str] | None = None,
        expires: float | None = None,
        bucket: TokenBucket | None = None,
    ) -> None:
        self.name = name
        self.scopes = frozenset(scopes)
        self.models = None if models is None else tuple(models)
        self.expires = expires
        self.bucket = bucket
        # Says whether a model is hidden from this caller; None if no model is.
        self.hides = None if self.models is None else self._hides

    def _hides(self, model: str) -> bool:
        assert self.models is not None, "it is restricted"
        return not any(fnmatchcase(model, pattern) for pattern in self.models)


def hides_all(model: str) -> bool:
    """As `Grant.hides`, for strangers: they see no model."""
    return True
