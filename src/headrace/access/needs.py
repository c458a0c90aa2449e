"""What a route needs its callers to be allowed. Each route declares one of these, and no other."""

from __future__ import annotations

from typing import NamedTuple

# The scopes of keys and tokens.
SCOPES = ("infer", "read", "admin")


class Needs(NamedTuple):
    """The scope that a call needs, and none if it is "". The `other` one will do as well.

    `any_key` is for what is refused whoever asks, so that strangers learn nothing from how. What
    is about the `whole` server is not for keys that are restricted to some of its models.
    """

    scope: str
    other: str = ""
    any_key: bool = False
    whole: bool = False


# Health, and what proves by other means who is calling.
OPEN = Needs("")
KNOWN = Needs("", any_key=True)
# About one model, or showing only the models that the key may see.
INFER, READ, ADMIN = map(Needs, SCOPES)
# What clients ask before they send a request.
DESCRIBE = Needs("read", other="infer")
READ_ALL, ADMIN_ALL = Needs("read", whole=True), Needs("admin", whole=True)
