"""Authorities, and the certificates that they sign, as files."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import NamedTuple

import trustme

from headrace.settings import ServerSettings
from headrace.tls.certificates import Certificates

LOCAL = ("localhost", "127.0.0.1", "::1")


class Authority:
    """An authority whose certificates are written to a folder; `file` has its own."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._ca = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self._folder = folder
        self.file = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def issue(self, name: str = "server", *identities: str, **more: object) -> Pair:
        """Sign a certificate, of this machine unless others are named, and write it."""
        leaf = self._ca.issue_cert(*(identities or LOCAL), **more)  # type: ignore[arg-type]
        pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        for file, held in (
            (pair.certificate, b"".join(each.bytes() for each in leaf.cert_chain_pems)),
            (pair.key, leaf.private_key_pem.bytes()),
        ):
            new = file.with_suffix(".new")
            new.write_bytes(held)
            new.chmod(0o600)
            # At once, as those do who renew a certificate.
            os.replace(new, file)
        return pair

    def context(self, pair: Pair | None = None) -> ssl.SSLContext:
        """What a client needs that trusts the authority, and shows a certificate if it has one."""
        context = ssl.create_default_context(cafile=str(self.file))
        if pair is not None:
            context.load_cert_chain(pair.certificate, pair.key)
        return context


class Pair:
    """The files of a certificate and of its key."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self.certificate = certificate
        self.key = key

    @property
    def flags(self) -> tuple[str, ...]:
        """What `headrace serve` takes to show this certificate."""
        return ("--ssl-certfile", str(self.certificate), "--ssl-keyfile", str(self.key))


class Secured(NamedTuple):
    """The certificates of a server, and what its clients need: a context, or an authority."""

    certificates: Certificates
    context: ssl.SSLContext
    authority: bytes


def secured(folder: Path) -> Secured:
    """A server's certificates in a folder, and a client that trusts them."""
    authority = Authority(folder)
    pair = authority.issue()
    files = {"ssl_certfile": str(pair.certificate), "ssl_keyfile": str(pair.key)}
    found = Certificates(ServerSettings(**files))
    return Secured(found, authority.context(), authority.file.read_bytes())
