"""Targets: what says who is calling, and the files of keys that it is compared with."""

from __future__ import annotations

import base64
import json
from functools import cache

from fuzz.file_decoders import folder
from fuzz.target import Target
from headrace.access import keys_file
from headrace.access.tokens import Tokens
from headrace.errors import ConfigurationError, Overloaded, Unauthenticated
from headrace.settings import ServerSettings

# A public key of nobody: RFC 8037, appendix A.2.
PUBLIC = {
    "kty": "OKP",
    "crv": "Ed25519",
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    "kid": "a",
    "alg": "EdDSA",
}
KEYS = json.dumps({"keys": [PUBLIC]}).encode()
ENTRY = {"name": "a", "sha256": "0" * 64, "scopes": ["infer"], "models": ["m"]}


@cache
def _tokens() -> Tokens:
    place = folder().file("jwks.json", KEYS)
    settings = ServerSettings(
        jwt_issuer="https://issuer",
        jwt_audience="headrace",
        jwt_keys=str(place),
        jwt_algorithms=("EdDSA",),
    )
    return Tokens(settings)


def access_token(data: bytes) -> None:
    _tokens().find(data)


def json_web_keys(data: bytes) -> None:
    place = str(folder().file("further.json", data))
    settings = ServerSettings(jwt_issuer="https://issuer", jwt_audience="headrace", jwt_keys=place)
    Tokens(settings)


def api_keys_file(data: bytes) -> None:
    place = folder().file("keys.json", data)
    place.chmod(0o600)
    keys_file.read(str(place), "--api-keys")


def _encoded(text: bytes) -> bytes:
    return base64.urlsafe_b64encode(text).rstrip(b"=")


def _part(value: object) -> bytes:
    return _encoded(json.dumps(value).encode())


TOKENS = [
    b".".join((_part(header), _part({"iss": "https://issuer", "exp": 1}), b"c2ln"))
    for header in ({"alg": "EdDSA", "kid": "a"}, {"alg": "none"}, {"alg": "HS256", "kid": 1}, [])
]
WORDS = (b'"kid"', b'"alg"', b'"crit"', b'"b64"', b'"none"', b"NaN", b"1e999", b"..", b"{}")

TARGETS = {
    "access_token": Target(
        access_token, TOKENS, (*WORDS, *map(_encoded, WORDS)), (Unauthenticated, Overloaded)
    ),
    "json_web_keys": Target(json_web_keys, [KEYS], WORDS, (ConfigurationError,)),
    "api_keys_file": Target(
        api_keys_file, [json.dumps({"keys": [ENTRY]}).encode()], (), (ConfigurationError,)
    ),
}
