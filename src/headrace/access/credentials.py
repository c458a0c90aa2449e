"""What a server accepts from its callers: keys, tokens, or both."""

from __future__ import annotations

from collections.abc import Callable

from headrace.access.grant import Grant
from headrace.access.keyring import Keyring
from headrace.access.tokens import Tokens
from headrace.settings import ServerSettings


def accepted(settings: ServerSettings) -> list[Keyring | Tokens]:
    """The kinds that the settings ask for; none lets everybody in.

    Raises:
        ConfigurationError: a setting is wrong, or what it names cannot be read.
        MissingDependency: tokens need a package that is not installed.
    """
    found: list[Keyring | Tokens] = []
    if settings.api_keys_file is not None:
        found.append(Keyring(settings.api_keys_file))
    if settings.accepts_tokens:
        found.append(Tokens(settings))
    return found


def finder(kinds: list[Keyring | Tokens]) -> Callable[[bytes], Grant]:
    """A function that finds the grant of a credential, or raises Unauthenticated."""
    first, *others = kinds
    if not others:
        return first.find
    (tokens,) = others

    def find(secret: bytes) -> Grant:
        # Keys have no dots; a token has two.
        return tokens.find(secret) if secret.count(b".") == 2 else first.find(secret)

    return find
