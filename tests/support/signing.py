"""Signs the folders of models, with keys and certificates that are made for a test."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import model_signing
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


class Signer(NamedTuple):
    """Files in a folder: a private key, its public key, a certificate of it, and its issuer's."""

    private: Path
    public: Path
    certificate: Path
    root: Path

    def sign(self, folder: Path, *ignored: str, certified: bool = False) -> Path:
        """Write `model.sig` into the folder; what is ignored is not listed in it."""
        paths = [folder / name for name in (*ignored, "model.sig")]
        config = model_signing.signing.Config().set_hashing_config(
            model_signing.hashing.Config().set_ignored_paths(paths=paths)
        )
        if certified:
            config.use_certificate_signer(
                private_key=self.private,
                signing_certificate=self.certificate,
                certificate_chain=[self.root],
            )
        else:
            config.use_elliptic_key_signer(private_key=self.private)
        config.sign(folder, folder / "model.sig")
        return folder


def signer(folder: Path) -> Signer:
    """Somebody new, whose files are in a folder."""
    folder.mkdir(parents=True)
    root, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    made = Signer(*(folder / name for name in ("key.pem", "public.pem", "cert.pem", "root.pem")))
    made.private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    made.public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    made.root.write_bytes(_certificate("root", root, root).public_bytes(Encoding.PEM))
    made.certificate.write_bytes(_certificate("signer", key, root).public_bytes(Encoding.PEM))
    return made


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    is_root = key is issuer
    now = datetime.now(UTC)
    others = (
        *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
        *("crl_sign", "encipher_only", "decipher_only"),
    )
    usage = dict.fromkeys(others, False)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=not is_root, key_cert_sign=is_root, **usage), True
        )
    )
    if not is_root:
        signing = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
        builder = builder.add_extension(signing, critical=False)
    return builder.sign(issuer, hashes.SHA256())
