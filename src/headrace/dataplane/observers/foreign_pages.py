"""Refuses to let the pages of other sites change what is served, through a browser."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from headrace.dataplane.call import ADMIN
from headrace.dataplane.observers.observer import Observer
from headrace.errors import Forbidden, shorten
from headrace.settings import ServerSettings

if TYPE_CHECKING:
    from headrace.dataplane.call import Call

# Methods that change nothing.
SAFE = frozenset(("GET", "HEAD", "OPTIONS"))


class ForeignPages(Observer):
    """Lets a page change what is served only if the page is this server's own.

    A page of any site can make the browsers of those who look at it send requests to servers that
    only they reach, on their machine or in their network. It cannot read the answers, and need
    not: an unloaded model is unloaded. Such a request says where it comes from, in `Origin` or in
    `Sec-Fetch-Site`; those of programs have neither, and pass.

    A site can also have its name lead to this server for a while (DNS rebinding), which a browser
    then takes for a part of the site. So where the server `is_local`, a page must come from a name
    that cannot be another's: an address, `localhost`, or one of `--allowed-hosts`. If that is set,
    no request may be for another name.

    Sources: Fetch, "`Origin` header"; W3C, "Fetch Metadata Request Headers".
    """

    def __init__(self, settings: ServerSettings, is_local: bool) -> None:
        self._allowed = frozenset(name.lower() for name in settings.allowed_hosts)
        self._is_local = is_local

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
        if call.protocol != ADMIN or call.method in SAFE:
            return
        text = (origin or b"null").decode("latin-1").lower()
        if not self._is_own(text, headers.get(b"host", b"").decode("latin-1").lower()):
            raise Forbidden(
                f"the request comes from a page of another site, '{shorten(text, 100)}'; "
                "--allowed-hosts has the further names of this server"
            )

    def _require_known(self, host: bytes | None) -> None:
        name = name_of((host or b"").decode("latin-1").lower())
        if not (name in self._allowed or is_unambiguous(name)):
            raise Forbidden(
                f"this server has no name '{shorten(name, 100)}'; --allowed-hosts has its names"
            )

    def _is_own(self, origin: str, host: str) -> bool:
        """Whether a page of this origin is the server's own, as far as the browser knows."""
        authority = origin.partition("://")[2]
        name = name_of(authority)
        if name in self._allowed:
            return True
        return authority == host != "" and (not self._is_local or is_unambiguous(name))


def is_unambiguous(name: str) -> bool:
    """Whether no DNS server decides where this name leads."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def name_of(authority: str) -> str:
    """The host of `host:port`; an address of IPv6 keeps its brackets."""
    name, colon, port = authority.rpartition(":")
    return name if colon and port.isdigit() else authority
