"""Refuses what the pages of other sites ask through a browser, unless CORS allows it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from headrace.access.needs import OPEN
from headrace.dataplane.call import OWN_ROUTE
from headrace.dataplane.observers.observer import Observer
from headrace.errors import Forbidden, shorten
from headrace.settings import ServerSettings
from headrace.sockets import is_address

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.dataplane.call import Call

# Methods that change nothing.
SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
# A browser's word, which pages cannot change, that the page belongs to the site it asks.
RELATED = frozenset((b"same-origin", b"same-site", b"none"))


class ForeignPages(Observer):
    """Refuses a request that changes or asks something if a page of another site makes it.

    A page of any site can make the browsers of those who look at it send requests to servers that
    only they reach, on their machine or in their network. It cannot read the answers, and need
    not: an unloaded model is unloaded. Such a request says where it comes from, in `Origin` or in
    `Sec-Fetch-Site`; those of programs have neither, and pass.

    A site can also have its name lead to this server for a while (DNS rebinding), which a browser
    then takes for a part of the site. So where the server `is_local`, a page must come from a name
    that cannot be another's: an address, `localhost`, or one of `--allowed-hosts`. If that is set,
    no request may be for another name.

    Pages that `cors_settings` allows may ask models, and those that it names may load and unload
    them. Pages of the same site may ask. Routes that models declare see to this themselves.

    Sources: Fetch, "`Origin` header"; W3C, "Fetch Metadata Request Headers".
    """

    def __init__(self, settings: ServerSettings, is_local: bool) -> None:
        self._allowed = frozenset(name.lower() for name in settings.allowed_hosts)
        self._is_local = is_local
        cors = settings.cors_settings
        origins = () if cors is None else cors.allow_origins
        pattern = None if cors is None else cors.allow_origin_regex
        self._allows_every = "*" in origins
        self._pattern = None if pattern is None else re.compile(pattern)
        # Any page can have the origin "null".
        self._named = frozenset(each.lower() for each in origins if each not in ("*", "null"))
        self._allows_null = "null" in origins

    def admit(self, call: Call) -> None:
        headers = call.headers
        # Calls of gRPC have no method, and no browser makes them.
        if self._allowed and call.method:
            self._require_known(headers.get(b"host"))
        origin = headers.get(b"origin")
        if origin is None:
            site = headers.get(b"sec-fetch-site")
            if site is None or site in (b"same-origin", b"none"):
                return
        if call.method in SAFE or call.protocol == OWN_ROUTE or call.needs is OPEN:
            return
        text = (origin or b"null").decode("latin-1")
        if text.lower() in self._named or self._is_own(text.lower(), headers):
            return
        changes = call.needs is None or call.needs.scope not in ("infer", "read")
        if not changes and (
            headers.get(b"sec-fetch-site") in RELATED or (origin is not None and self._allows(text))
        ):
            return
        raise Forbidden(
            f"the request comes from a page of another site, '{shorten(text, 100)}'; "
            "--cors-settings has the pages that may ask, and --allowed-hosts the further names "
            "of this server"
        )

    def _allows(self, origin: str) -> bool:
        """Whether `cors_settings` allows an origin, by the rules of Starlette's middleware."""
        if self._allows_every or (self._allows_null and origin == "null"):
            return True
        return self._pattern is not None and self._pattern.fullmatch(origin) is not None

    def _require_known(self, host: bytes | None) -> None:
        name = name_of((host or b"").decode("latin-1").lower())
        if not (name in self._allowed or is_unambiguous(name)):
            raise Forbidden(
                f"this server has no name '{shorten(name, 100)}'; --allowed-hosts has its names"
            )

    def _is_own(self, origin: str, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a page of this origin is the server's own, as far as the browser knows."""
        authority = origin.partition("://")[2]
        name = name_of(authority)
        if name in self._allowed:
            return True
        if not authority or (self._is_local and not is_unambiguous(name)):
            return False
        # What a proxy was asked for. A page of another site cannot add this field unasked.
        given = (headers.get(b"host", b""), headers.get(b"x-forwarded-host", b""))
        return authority in (host.decode("latin-1").lower() for host in given)


def is_unambiguous(name: str) -> bool:
    """Whether no DNS server decides where this name leads."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    return is_address(name.strip("[]"))


def name_of(authority: str) -> str:
    """The host of `host:port`; an address of IPv6 keeps its brackets."""
    name, colon, port = authority.rpartition(":")
    return name if colon and port.isdigit() else authority
