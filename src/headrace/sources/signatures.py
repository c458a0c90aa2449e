"""Models that are signed: copied to where nobody else writes, and compared there to the signature.

The signature is `model.sig` in the folder of the model, as `model_signing sign` of OpenSSF's
model-signing writes it, with a private key or with a certificate. What is loaded is the copy, so
that nothing can be exchanged once it was verified.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from headrace.errors import IN_LOG, ConfigurationError, HeadraceError, InvalidModel, LoadFailed
from headrace.settings import MIB, ModelSettings, ServerSettings
from headrace.sources.model_file import SETTINGS_FILE, read_model
from headrace.sources.names import is_uri

logger = logging.getLogger("headrace.sources")

SIGNATURE = "model.sig"
INSTALL = "pip install 'headrace[signing]'"
# It lists the files of a model with their digests.
LARGEST_SIGNATURE = 64 * MIB
# What says which code a model runs, and on what.
_OF_CODE = ("implementation", "extra", "environment", "environment_path", "environment_tarball")

# Raises whatever its library does if a folder is not as its signature says.
Verify = Callable[[Path, Path], None]


def verifier(settings: ServerSettings) -> Verify | None:
    """What compares a folder with its signature, by the key or the certificates of the settings.

    None unless only signed models are trusted.

    Raises:
        ConfigurationError: there is none or more than one of them, it cannot be read, or the
            library is not installed.
    """
    key, certificates = settings.trust_key, settings.trust_certificates
    if settings.trust != "signed":
        if key or certificates:
            raise ConfigurationError("--trust-key and --trust-certificates need --trust signed")
        return None
    if bool(key) == bool(certificates):
        raise ConfigurationError(
            "--trust signed needs --trust-key, a public key, or --trust-certificates, the "
            "certificates of those who sign"
        )
    file, flag = (key, "--trust-key") if key else (certificates, "--trust-certificates")
    try:
        from model_signing import verifying
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"--trust signed needs model-signing: {INSTALL}") from error

    def config() -> Any:
        # One for each model, which is hashed in the way that its own signature says.
        made: Any = verifying.Config()  # type: ignore[no-untyped-call]
        if key:
            return made.use_elliptic_key_verifier(public_key=key)
        # With an empty list, the system's would count.
        return made.use_certificate_verifier(certificate_chain=[Path(str(certificates))])

    try:
        config()
    except OSError as error:
        raise ConfigurationError(f"{flag}: {file}: {error.strerror}") from None
    except Exception as error:
        raise ConfigurationError(f"{flag}: {file} holds none: {type(error).__name__}") from error
    return lambda folder, signature: config().verify(folder, signature)


def verified(settings: ModelSettings, verify: Verify, place: Path) -> ModelSettings:
    """The settings of a model with its files copied into `place`, once they are verified there.

    `place` is a folder that only this user can write.

    Raises:
        InvalidModel: a folder is not signed, or is not as it was signed, or the settings name files
            outside of it.
        LoadFailed: the files cannot be copied, or the settings changed meanwhile.
    """
    copies: dict[str, str] = {}
    for root in _roots(settings):
        copy = place / str(len(copies))
        try:
            _copy(Path(root), copy, settings.name)
        except OSError as error:
            raise LoadFailed(
                f"model '{settings.name}' cannot be copied to be verified: {error.strerror}"
            ) from error
        _check(copy, place / f"{len(copies)}.sig", verify, settings.name)
        copies[root] = str(copy)
    moved = {key: _moved(getattr(settings, key), copies) for key in (*_OF_CODE, "uri", "folder")}
    found = replace(settings, **moved)
    _check_inside(found, copies.values())
    _check_settings(found)
    return found


def _roots(settings: ModelSettings) -> list[str]:
    """The folders that hold all of a model: that of its settings, and that of a download."""
    roots = [settings.folder] if settings.folder else []
    if settings.uri and not any(_is_in(settings.uri, root) for root in roots):
        roots.append(settings.uri)
    return roots


def _copy(source: Path, target: Path, name: str) -> None:
    """Copy a folder of files and folders; nothing else is copied, or followed.

    Raises:
        InvalidModel: there is something else in it.
    """
    if not source.is_dir():
        raise InvalidModel(f"model '{name}' is not a folder, which could be signed")
    target.mkdir(mode=0o700)
    with os.scandir(source) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _copy(Path(entry.path), target / entry.name, name)
                continue
            descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(descriptor, "rb") as read, (target / entry.name).open("wb") as written:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise InvalidModel(f"model '{name}' holds something that is not a plain file")
                shutil.copyfileobj(read, written, MIB)


def _check(copy: Path, signature: Path, verify: Verify, name: str) -> None:
    """Compare a copy with its signature, and remove what that does not list.

    Raises:
        InvalidModel: they differ.
    """
    if not (copy / SIGNATURE).is_file():
        raise InvalidModel(f"model '{name}' is not signed: its folder has no {SIGNATURE}")
    # It is not part of what was signed.
    (copy / SIGNATURE).rename(signature)
    try:
        if signature.stat().st_size > LARGEST_SIGNATURE:
            raise InvalidModel(f"model '{name}': {SIGNATURE} is over {LARGEST_SIGNATURE} bytes")
        verify(copy, signature)
        listed = _listed(signature)
    except HeadraceError:
        raise
    except Exception as error:
        # Its text lists files, and is long.
        logger.error("model %s does not match its signature", name, exc_info=error)
        raise InvalidModel(
            f"model '{name}' does not match its signature, or was signed by somebody else; {IN_LOG}"
        ) from error
    for path in copy.rglob("*"):
        if not path.is_dir() and str(path.relative_to(copy)) not in listed:
            path.unlink()


def _listed(signature: Path) -> set[str]:
    """The files that a signature lists; it may have left out some, which anybody could add."""
    envelope = json.loads(signature.read_bytes())["dsseEnvelope"]
    signed = json.loads(base64.b64decode(envelope["payload"]))["predicate"]
    names = [row["name"] for row in signed["resources"]]
    if signed["serialization"]["method"] == "shards":
        names = [name.rsplit(":", 2)[0] for name in names]
    return set(names)


def _moved(value: Any, copies: dict[str, str]) -> Any:
    """A value of the settings, with the paths in it that were copied as those of the copy."""
    if isinstance(value, dict):
        return {key: _moved(each, copies) for key, each in value.items()}
    if isinstance(value, list):
        return [_moved(each, copies) for each in value]
    if isinstance(value, str):
        for root, copy in copies.items():
            if _is_in(value, root):
                return copy + value[len(root) :]
    return value


def _check_inside(settings: ModelSettings, copies: Iterable[str]) -> None:
    requirements = settings.environment.get("requirements")
    paths = [settings.environment_path, settings.environment_tarball, settings.uri]
    paths += [requirements] if isinstance(requirements, str) else []
    named = [settings.implementation, *_texts(settings.extra)]
    paths += [each for each in named if each[:1] == "/" or ".." in each.split("/")]
    # A relative path is one in the folder of the settings.
    full = [os.path.normpath(os.path.join(settings.folder, path)) for path in paths if path]
    if not all(any(_is_in(path, copy) for copy in copies) for path in full):
        raise InvalidModel(f"model '{settings.name}' names files outside of its signed folder")


def _texts(value: Any) -> Iterator[str]:
    """The texts in a value of the settings, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _check_settings(settings: ModelSettings) -> None:
    """Compare settings that were read before with those that were signed.

    Raises:
        LoadFailed: they differ.
    """
    file = Path(settings.folder, SETTINGS_FILE)
    if not settings.folder or not file.is_file():
        return
    signed = read_model(file, os.environ).settings
    keys = _OF_CODE if is_uri(signed.uri) else (*_OF_CODE, "uri")
    if any(getattr(settings, key) != getattr(signed, key) for key in keys):
        raise LoadFailed(
            f"model '{settings.name}': its settings are not those that were signed; they changed "
            "while they were read, or --packages adds to them"
        )


def _is_in(path: str, root: str) -> bool:
    return path == root or path.startswith(root + os.sep)
