"""Tokens of an identity provider: JSON Web Tokens, verified with the provider's public keys.

Sources: RFC 7519 (JWT), RFC 7517 (JWK), RFC 8725 (best current practices).
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from headrace.access import timed_download
from headrace.access.grant import Grant
from headrace.access.needs import SCOPES
from headrace.errors import (
    ConfigurationError,
    HeadraceError,
    MissingDependency,
    Overloaded,
    Unauthenticated,
    shorten,
)
from headrace.settings import ServerSettings
from headrace.sockets import is_loopback

logger = logging.getLogger("headrace.access")

# Signatures that only the holder of a private key can make. With HS256 and the like, whoever knows
# the public keys could sign.
ALGORITHMS = frozenset(
    f"{kind}{bits}" for kind in ("RS", "PS", "ES") for bits in (256, 384, 512)
) | {"EdDSA"}
REFUSED = "the token is not valid"
LARGEST_TOKEN = 16 * 1024
LARGEST_KEYS = 1024 * 1024
# Seconds that the clocks may differ.
LEEWAY = 30
# Verified tokens that are remembered until they expire; the oldest is forgotten first.
MOST_REMEMBERED = 10_000
# Seconds between two fetches of the keys, at most, at least, and until one is given up.
REFRESH, SOONEST, FETCH_TIMEOUT = 300.0, 10.0, 10.0


class Tokens:
    """Finds what a token grants.

    The keys are fetched when the server starts, every few minutes, and when a token is signed with
    one that is unknown, but never more often than every `SOONEST` seconds.

    Raises:
        ConfigurationError: a setting is missing or wrong, or the file of keys is.
        MissingDependency: PyJWT is not installed.
    """

    def __init__(
        self,
        settings: ServerSettings,
        clock: Callable[[], float] = time.time,
        soonest: float = SOONEST,
    ) -> None:
        try:
            import jwt
        except ImportError as error:
            raise MissingDependency(
                "PyJWT is not installed: pip install 'headrace[jwt]'"
            ) from error
        self._jwt = jwt
        self._issuer = _required(settings.jwt_issuer, "--jwt-issuer")
        self._audience = _required(settings.jwt_audience, "--jwt-audience")
        self._place = _required(settings.jwt_keys, "--jwt-keys")
        self._algorithms = list(settings.jwt_algorithms)
        if unknown := [each for each in self._algorithms if each not in ALGORITHMS]:
            raise ConfigurationError(
                f"--jwt-algorithms: expected some of {', '.join(sorted(ALGORITHMS))}, got "
                f"'{shorten(unknown[0])}'"
            )
        self._scopes_claim = settings.jwt_scopes_claim
        self._models_claim = settings.jwt_models_claim
        self._clock = clock
        self._soonest = soonest
        self._keys: dict[str | None, Any] = {}
        self._text = b""
        self._known: dict[bytes, Grant] = {}
        self._fetched_at = -soonest
        self._wanted = asyncio.Event()
        self._is_url = "://" in self._place
        if self._is_url:
            _check_url(self._place)
        else:
            self._take(_read(self._place))

    def find(self, token: bytes) -> Grant:
        """What a token grants. Hot for those that are known.

        Raises:
            Unauthenticated: it is not valid.
            Overloaded: the key that it is signed with is being fetched.
        """
        digest = hashlib.sha256(token).digest()
        grant = self._known.get(digest)
        if grant is None:
            grant = self._granted(token)
            if len(self._known) >= MOST_REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[digest] = grant
        if grant.expires is not None and self._clock() >= grant.expires:
            self._known.pop(digest, None)
            raise Unauthenticated(REFUSED).logged_as("a token that has expired")
        return grant

    async def run(self) -> None:
        """Keep the keys fresh until cancelled."""
        while True:
            await self.refresh()
            try:
                await asyncio.wait_for(self._wanted.wait(), REFRESH)
            except TimeoutError:
                continue

    async def refresh(self) -> None:
        """Fetch or read the keys again; if that fails, those from before stay."""
        loop = asyncio.get_running_loop()
        try:
            read = _fetch if self._is_url else _read
            self._take(await asyncio.to_thread(read, self._place))
        except HeadraceError as error:
            logger.error("%s", error.message)
        self._fetched_at = loop.time()
        self._wanted.clear()

    def _take(self, text: bytes) -> None:
        try:
            found = msgspec.json.decode(text, type=dict[str, Any])["keys"]
            # It leaves out those that it does not know.
            keys = self._jwt.PyJWKSet.from_dict({"keys": found}).keys
        except Exception as error:
            raise ConfigurationError(
                f"--jwt-keys: expected a set of JSON Web Keys at '{shorten(self._place, 200)}'"
            ) from error
        # A shared secret would let whoever reads it sign.
        self._keys = {key.key_id: key for key in keys if key.key_type != "oct"}
        if text != self._text:
            # A key that is gone may have been stolen.
            self._known.clear()
        self._text = text

    def _granted(self, token: bytes) -> Grant:
        jwt = self._jwt
        if len(token) > LARGEST_TOKEN:
            raise Unauthenticated(REFUSED).logged_as("a token that is too long")
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            key = self._key(kid)
            claims = jwt.decode(
                token,
                key,
                algorithms=self._algorithms,
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY,
                options={"require": ["exp", "iss", "aud"]},
            )
        # Older versions of PyJWT pass on what the parser of JSON raises.
        except (jwt.PyJWTError, RecursionError) as error:
            reason = f"a token that is not valid: {shorten(error, 200)}"
            raise Unauthenticated(REFUSED).logged_as(reason) from None
        owner = claims.get("sub") or claims.get("client_id") or claims.get("azp") or "a token"
        scopes = [each for each in _words(claims.get(self._scopes_claim)) if each in SCOPES]
        models = None if self._models_claim is None else _words(claims.get(self._models_claim))
        return Grant(shorten(owner), scopes, models, float(claims["exp"]) + LEEWAY)

    def _key(self, kid: Any) -> Any:
        """The key of a token, which need not name it if there is only one."""
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        found = self._keys.get(kid) if isinstance(kid, str) else None
        if found is not None:
            return found
        if not self._wanted.is_set():
            if time.monotonic() - self._fetched_at < self._soonest:
                raise Unauthenticated(REFUSED).logged_as("a token with the key of somebody else")
            self._wanted.set()
        raise Overloaded("the keys of the tokens' issuer are being fetched; try again")


def _required(value: str | None, flag: str) -> str:
    if not value:
        raise ConfigurationError(
            f"{flag} is missing: tokens need --jwt-issuer, --jwt-audience and --jwt-keys"
        )
    return value


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise ConfigurationError(
            "--jwt-keys: expected a URL without a user, which is not sent, got "
            f"'{shorten(url, 200)}'"
        )
    # Whoever answers in the place of the issuer could sign as it.
    if parts.scheme != "https" and not (
        parts.scheme == "http" and is_loopback(parts.hostname or "")
    ):
        raise ConfigurationError(
            f"--jwt-keys: expected a file or an https URL, got '{shorten(url, 200)}'"
        )


def _read(path: str) -> bytes:
    try:
        with Path(path).open("rb") as opened:
            return opened.read(LARGEST_KEYS)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise ConfigurationError(f"--jwt-keys: '{shorten(path, 200)}': {reason}") from exc


def _fetch(url: str) -> bytes:
    try:
        # It may come from elsewhere than where it was asked for.
        text, found_at = timed_download.read(url, FETCH_TIMEOUT, LARGEST_KEYS)
    except (OSError, ValueError, http.client.HTTPException) as exc:
        # That of urllib is `<urlopen error ...>` around it.
        reason = getattr(exc, "reason", None) or exc
        raise ConfigurationError(
            f"--jwt-keys: '{shorten(url, 200)}': {shorten(reason, 200)}"
        ) from exc
    _check_url(found_at)
    return text


def _words(value: Any) -> list[str]:
    """The words of a claim, which is a text with spaces between them or a list."""
    if isinstance(value, str):
        return value.split()
    if isinstance(value, list):
        return [each for each in value if isinstance(each, str)]
    return []
