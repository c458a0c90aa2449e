"""`Context`: what an endpoint sees of its request, and sets of its answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from email.utils import formatdate
from http.cookies import Morsel, SimpleCookie
from time import time
from typing import Any
from urllib.parse import parse_qsl


class Headers(MutableMapping[str, str]):
    """Header fields by name, in whatever case; a field that is there twice is joined by commas."""

    def __init__(self, fields: Any = ()) -> None:
        self._fields: dict[str, list[str]] = {}
        for name, value in fields:
            self.append(name, value)

    def append(self, name: str, value: str) -> None:
        """Add a field besides those of the same name."""
        self._fields.setdefault(name.lower(), []).append(str(value))

    def getlist(self, name: str) -> list[str]:
        """The values of all fields of a name."""
        return list(self._fields.get(name.lower(), ()))

    def multi_items(self) -> list[tuple[str, str]]:
        """All fields, one by one."""
        return [(name, value) for name, values in self._fields.items() for value in values]

    def __getitem__(self, name: str) -> str:
        return ", ".join(self._fields[name.lower()])

    def __setitem__(self, name: str, value: str) -> None:
        self._fields[name.lower()] = [str(value)]

    def __delitem__(self, name: str) -> None:
        del self._fields[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"Headers({self._fields!r})"


class Parameters(dict[str, str]):
    """The parameters of a query by name; of one that is given twice, the last."""

    def __init__(self, query: str) -> None:
        self._items = parse_qsl(query, keep_blank_values=True)
        super().__init__(self._items)

    def getlist(self, name: str) -> list[str]:
        """All values of a name."""
        return [value for each, value in self._items if each == name]

    def multi_items(self) -> list[tuple[str, str]]:
        """All parameters, in their order."""
        return list(self._items)


class RequestView:
    """The request. `metadata` is another name of `headers`; over gRPC both are empty."""

    def __init__(
        self, headers: Mapping[str, str], query: str, method: str, path: str, id: str
    ) -> None:
        self.headers = headers
        self.method = method
        self.path = path
        self.id = id
        self._query = query

    @property
    def metadata(self) -> Mapping[str, str]:
        return self.headers

    @property
    def query_params(self) -> Parameters:
        """The parameters of the query."""
        return Parameters(self._query)

    @property
    def query_list(self) -> list[tuple[str, str]]:
        """The parameters of the query in their order."""
        return self.query_params.multi_items()

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies that the caller sent."""
        found: SimpleCookie = SimpleCookie()
        found.load(self.headers.get("cookie", ""))
        return {name: morsel.value for name, morsel in found.items()}


class ResponseView:
    """What is sent with the output. `metadata` is another name of `headers`."""

    def __init__(self) -> None:
        self.status_code = 200
        self._headers = Headers()
        self.cookies: list[str] = []

    @property
    def headers(self) -> Headers:
        return self._headers

    @headers.setter
    def headers(self, fields: Mapping[str, str]) -> None:
        self._headers = Headers(fields.items())

    @property
    def metadata(self) -> Headers:
        return self._headers

    def set_cookie(
        self,
        key: str,
        value: str = "",
        *,
        max_age: int | None = None,
        expires: int | None = None,
        path: str = "/",
        domain: str | None = None,
        secure: bool = False,
        httponly: bool = False,
        samesite: str = "lax",
    ) -> None:
        """Have the caller keep a cookie; `max_age` and `expires` are seconds from now."""
        jar: SimpleCookie = SimpleCookie()
        jar[key] = value
        morsel: Morsel[str] = jar[key]
        if max_age is not None:
            morsel["max-age"] = max_age
        if expires is not None:
            morsel["expires"] = formatdate(time() + expires, usegmt=True)
        morsel["path"] = path
        if domain is not None:
            morsel["domain"] = domain
        morsel["secure"], morsel["httponly"] = secure, httponly
        morsel["samesite"] = samesite
        self.cookies.append(morsel.OutputString())

    def delete_cookie(self, key: str, path: str = "/", domain: str | None = None) -> None:
        """Have the caller forget a cookie."""
        self.set_cookie(key, "", max_age=0, expires=0, path=path, domain=domain)

    def fields(self) -> list[list[str]]:
        """The header fields to send."""
        if not self.cookies and not self.headers:
            return []
        cookies = [["set-cookie", cookie] for cookie in self.cookies]
        return [*map(list, self._headers.multi_items()), *cookies]


class Context:
    """Of one request. `state` is a dict that all requests and hooks of the process share."""

    def __init__(self, request: RequestView, state: dict[str, Any]) -> None:
        self.request = request
        self.response = ResponseView()
        self.state = state


def outside_request(state: dict[str, Any]) -> Context:
    """The context that hooks get."""
    return Context(RequestView(Headers(), "", "", "", ""), state)
