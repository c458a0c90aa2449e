"""Files of keys and certificates that settings name: what a container needs to find them.

They are mounted by their folder, never one by one: a folder shows the new file when somebody
replaces it, as everybody does who renews a certificate or changes keys.
"""

from __future__ import annotations

import itertools
import posixpath
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from headrace.deploy import checks
from headrace.deploy.workload import Workload
from headrace.errors import ConfigurationError, shorten

# Settings that name such a file. A test compares them with what the settings say of themselves.
FIELDS = (
    *("api_keys_file", "jwt_keys", "mlflow_webhook_secret_file", "trust_key"),
    *("trust_certificates", "ssl_certfile", "ssl_keyfile", "ssl_keyfile_password_file"),
    "ssl_ca_certs",
)
# Folders that hold something else, which a mounted one would hide.
SYSTEM = frozenset((
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/opt", "/proc", "/root",
    "/run", "/sbin", "/sys", "/tmp", "/usr", "/var",
))  # fmt: skip
# So are these, and all folders below them.
SYSTEM_TREES = (
    *("/bin/", "/boot/", "/dev/", "/lib/", "/lib64/", "/proc/", "/sbin/", "/sys/", "/usr/"),
    *("/etc/pki/", "/etc/ssl/"),
)
# A key of a Secret.
_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}")


@dataclass
class Folder:
    """A folder of the container, the files in it, and the name of what is mounted there."""

    path: str
    name: str
    files: list[str] = field(default_factory=list)


def named(workload: Workload) -> Iterator[tuple[str, str]]:
    """Each such setting that has a value, with its path.

    Raises:
        ConfigurationError: it cannot be a path in a manifest.
    """
    for setting in FIELDS:
        path = getattr(workload.settings, setting)
        if path and not path.isprintable():
            raise ConfigurationError(f"{setting}: expected a path, got '{shorten(path)}'")
        if path and "://" not in path:
            yield setting, path


def folders(workload: Workload) -> list[Folder]:
    """The folders to mount."""
    found: dict[str, Folder] = {}
    for _, path in named(workload):
        if not _why_not(path):
            place, file = posixpath.split(posixpath.normpath(path))
            if place not in found:
                found[place] = Folder(place, _free_name(place, found.values()))
            if file not in found[place].files:
                found[place].files.append(file)
    return list(found.values())


def _free_name(place: str, others: Iterable[Folder]) -> str:
    """A name for a folder that none of the others has."""
    last = checks.name_from(posixpath.basename(place))
    taken = {each.name for each in others}
    names = itertools.chain([last], (f"{last}-{number}" for number in itertools.count(2)))
    return next(name for name in names if name not in taken)


def mounts(workload: Workload) -> list[dict[str, Any]]:
    """What a container on Kubernetes has for them."""
    return [
        {"name": f"files-{each.name}", "mountPath": each.path, "readOnly": True}
        for each in folders(workload)
    ]


def volumes(workload: Workload) -> list[dict[str, Any]]:
    """What its pod has: one Secret for each folder, whose keys are the names of the files."""
    return [
        {"name": f"files-{each.name}", "secret": {"secretName": secret(workload, each)}}
        for each in folders(workload)
    ]


def secret(workload: Workload, folder: Folder) -> str:
    """The name of the Secret that is mounted there."""
    return f"{workload.name}-{folder.name}"


def notes(workload: Workload, target: str) -> list[str]:
    """What to do so that the server finds its files; and which it does not find."""
    if target == "systemd":
        names = [path for _, path in named(workload)]
        return [f"restart the unit after {' or '.join(names)} has changed"] if names else []
    return [*_to_make(workload, target), *_left_out(workload)]


def _to_make(workload: Workload, target: str) -> Iterator[str]:
    for each in folders(workload):
        if target == "compose":
            yield (
                f"put {', '.join(each.files)} into the folder ./{each.name}; the server, which is "
                f"not root, has to be able to read them at {each.path}"
            )
        else:
            files = " ".join(f"--from-file={shlex.quote(file)}" for file in each.files)
            yield (
                f"make the Secret that is mounted at {each.path} with `kubectl create secret "
                f"generic {secret(workload, each)} {files}`"
            )


def _left_out(workload: Workload) -> Iterator[str]:
    for setting, path in named(workload):
        if why := _why_not(path):
            variable = f"HEADRACE_{setting.upper()}"
            yield (
                f"{setting}: '{path}' is not mounted, since {why}; unless the image has it, give "
                f"another path, such as --env {variable}=/files/{setting}"
            )


def _why_not(path: str) -> str:
    if not posixpath.isabs(path):
        return "it is relative to a folder of the image"
    place, file = posixpath.split(posixpath.normpath(path))
    if place in SYSTEM or f"{place}/".startswith(SYSTEM_TREES):
        return f"{place} holds other files"
    return "" if _NAME.fullmatch(file) else "a Secret cannot have a key of that name"
