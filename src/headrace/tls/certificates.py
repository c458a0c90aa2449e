"""The certificates of the server, and the authorities of its clients, as their files are now.

One set of files is for all listeners. They are read again when they change, so that a certificate
is renewed without a restart: new connections get the new one, and open ones keep theirs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from headrace.errors import ConfigurationError
from headrace.settings import ServerSettings
from headrace.tls.validity import PEM, Validity, validity

logger = logging.getLogger("headrace.tls")

CERTIFICATE, KEY, PASSWORD, AUTHORITIES = (
    *("--ssl-certfile", "--ssl-keyfile"),
    *("--ssl-keyfile-password-file", "--ssl-ca-certs"),
)
# What a client chooses from in the handshake (ALPN).
HTTP, GRPC = "http/1.1", "h2"
# Seconds between two looks at the files.
INTERVAL = 3.0
# Larger files are no certificates; those of authorities are bundles of hundreds.
LARGEST_FILE = 4 * 1024 * 1024
# Bytes; OpenSSL takes no longer ones.
LONGEST_PASSWORD = 1024
# A certificate ends soon if this many seconds are left, and less than this part of its life.
SOON, LAST_PART = 7 * 24 * 3600.0, 1 / 3

# What tells whether a file has changed: a Secret of Kubernetes is renewed by another symlink.
Stamps = Mapping[str, tuple[int, int, int] | None]


@dataclass(frozen=True, repr=False)
class Contents:
    """What the files hold; `authorities` is empty if clients need no certificate.

    `contexts` are for each protocol that a client may choose.
    """

    chain: bytes
    key: bytes
    authorities: bytes
    validity: Validity
    contexts: Mapping[str, ssl.SSLContext]


class Certificates:
    """The files that `--ssl-certfile` and the flags beside it name.

    `current` is what they held when they were last right. `failed_handshakes` counts clients that
    could not agree with the server.

    Raises:
        ConfigurationError: they cannot be used; the message names the flag.
    """

    def __init__(self, settings: ServerSettings) -> None:
        named = {
            CERTIFICATE: settings.ssl_certfile,
            KEY: settings.ssl_keyfile,
            PASSWORD: settings.ssl_keyfile_password_file,
            AUTHORITIES: settings.ssl_ca_certs,
        }
        self._files = {flag: file for flag, file in named.items() if file is not None}
        self._needs_plain_key = not settings.native_grpc
        self.failed_handshakes = 0
        self._stamps = self._looked_at()
        # What was wrong when the files were last looked at, and with which stamps.
        self._fault = ""
        self._faulty: Stamps | None = None
        self.current = self._read()
        self._warn()

    async def follow(self, interval: float = INTERVAL) -> None:
        """Look at the files from time to time, for as long as the server runs."""
        while True:
            await asyncio.sleep(interval)
            # A file system may hang, and a bundle of authorities take a while.
            await asyncio.to_thread(self.look)

    def look(self) -> None:
        """Read the files again if they have changed.

        While they are wrong, what they held before counts. That is only logged if they still are
        the next time: whoever writes one after the other is not done yet.
        """
        stamps = self._looked_at()
        if stamps == self._stamps:
            return
        try:
            self.current = self._read()
        except ConfigurationError as error:
            if stamps == self._faulty and error.message != self._fault:
                self._fault = error.message
                logger.error("the certificates have changed and cannot be used: %s", error.message)
            self._faulty = stamps
            return
        self._stamps, self._faulty, self._fault = stamps, None, ""
        logger.info("the certificates were read again; %s", _until(self.current.validity))
        self._warn()

    def _looked_at(self) -> Stamps:
        return {flag: _stamp(file) for flag, file in self._files.items()}

    def _read(self) -> Contents:
        held = {flag: _bytes(flag, file) for flag, file in self._files.items()}
        chain = held[CERTIFICATE]
        key = held.get(KEY, chain)
        self._check(held)
        try:
            period = validity(chain)
        except ValueError as error:
            raise self._wrong(CERTIFICATE, str(error)) from None
        contexts = {protocol: self._context(protocol, held) for protocol in (HTTP, GRPC)}
        return Contents(chain, key, held.get(AUTHORITIES, b""), period, contexts)

    def _check(self, held: Mapping[str, bytes]) -> None:
        """Find what OpenSSL would say in words that name neither file nor flag."""
        if b"-----BEGIN CERTIFICATE-----" not in held[CERTIFICATE]:
            raise self._wrong(CERTIFICATE, "there is no certificate in it; expected PEM")
        flag = KEY if KEY in held else CERTIFICATE
        if b"PRIVATE KEY-----" not in held[flag]:
            more = f"; {KEY} names the file that has it" if flag == CERTIFICATE else ""
            raise self._wrong(flag, f"there is no private key in it; expected PEM{more}")
        is_encrypted = b"ENCRYPTED" in held[flag]
        if is_encrypted and PASSWORD not in held:
            raise self._wrong(
                flag, f"the key is encrypted; {PASSWORD} names the file with its password"
            )
        if is_encrypted and self._needs_plain_key:
            raise self._wrong(flag, "the key is encrypted, which --no-native-grpc cannot use")

    def _context(self, protocol: str, held: Mapping[str, bytes]) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.set_alpn_protocols([protocol])
        key = self._files.get(KEY)
        password = held.get(PASSWORD, b"").rstrip(b"\r\n")
        if len(password) > LONGEST_PASSWORD:
            raise self._wrong(
                PASSWORD,
                f"expected a password of at most {LONGEST_PASSWORD} bytes, got {len(password)}",
            )
        try:
            # Without a password, OpenSSL would ask for one at the terminal.
            context.load_cert_chain(self._files[CERTIFICATE], key, password=lambda: password)
        except OSError as error:
            raise self._unusable(error) from None
        if AUTHORITIES in held:
            # Python takes nothing else, and bundles have comments in any language.
            found = b"\n".join(PEM.findall(held[AUTHORITIES])).decode("ascii", "replace")
            try:
                context.load_verify_locations(cadata=found)
            except (OSError, ValueError, TypeError):
                raise self._wrong(
                    AUTHORITIES, "expected certificates of authorities, in PEM"
                ) from None
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _unusable(self, error: OSError) -> ConfigurationError:
        """What keeps a certificate and a key from being used."""
        reason = getattr(error, "reason", None) or error.strerror or str(error)
        flag = KEY if KEY in self._files else CERTIFICATE
        if reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
            return self._wrong(flag, f"the key is not that of the certificate of {CERTIFICATE}")
        if PASSWORD in self._files:
            return self._wrong(PASSWORD, f"expected the password that opens the key of {flag}")
        return self._wrong(CERTIFICATE, f"certificate or key cannot be read ({_words(reason)})")

    def _wrong(self, flag: str, why: str) -> ConfigurationError:
        return ConfigurationError(f"{flag}: '{self._files[flag]}': {why}")

    def _warn(self) -> None:
        """Warn of what works and had better be changed."""
        period = self.current.validity
        left = period.ends - time.time()
        if left <= 0:
            logger.warning("the certificate of %s is not valid; %s", CERTIFICATE, _until(period))
        elif left < min(SOON, (period.ends - period.begins) * LAST_PART):
            logger.warning("the certificate of %s ends soon; %s", CERTIFICATE, _until(period))
        elif period.begins > time.time():
            logger.warning("the certificate of %s is not valid yet", CERTIFICATE)
        for flag in (KEY if KEY in self._files else CERTIFICATE, PASSWORD):
            if flag in self._files and _is_open(self._files[flag]):
                logger.warning(
                    "%s: every user of this machine can read '%s'; chmod o-r is enough",
                    flag,
                    self._files[flag],
                )


def certificates(settings: ServerSettings) -> Certificates | None:
    """The certificates, if the server has any.

    Raises:
        ConfigurationError: they cannot be used, or `--ssl-certfile` is missing.
    """
    if settings.ssl_certfile is not None:
        return Certificates(settings)
    for flag, file in (
        (KEY, settings.ssl_keyfile),
        (PASSWORD, settings.ssl_keyfile_password_file),
        (AUTHORITIES, settings.ssl_ca_certs),
    ):
        if file is not None:
            raise ConfigurationError(
                f"{flag} needs {CERTIFICATE}, the certificate of this server, which is missing"
            )
    return None


def _bytes(flag: str, file: str) -> bytes:
    try:
        with open(file, "rb") as opened:
            held = opened.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigurationError(f"{flag}: '{file}': {reason}") from None
    if len(held) > LARGEST_FILE:
        raise ConfigurationError(f"{flag}: '{file}': it is larger than {LARGEST_FILE} bytes")
    return held


def _stamp(file: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(file)
    except (OSError, ValueError):
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _is_open(file: str) -> bool:
    try:
        return bool(os.stat(file).st_mode & stat.S_IROTH)
    except OSError:
        return False


def _words(reason: str) -> str:
    return reason.lower().replace("_", " ")


def _until(period: Validity) -> str:
    try:
        ends = datetime.fromtimestamp(period.ends, UTC)
    except (OverflowError, OSError, ValueError):
        return "it has no end"
    word = "ends" if period.ends > time.time() else "ended"
    return f"it {word} at {ends:%Y-%m-%d %H:%M:%S} UTC"
