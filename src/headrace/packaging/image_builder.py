"""Builds an image with docker, podman or buildah."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.environments import pip_settings
from headrace.errors import ConfigurationError

PROBE_TIMEOUT = 30.0
SECRET = "pip-conf"
# Options of pip that mean the same inside of a container; folders of this machine do not.
_SHARED = ("index-url", "extra-index-url", "trusted-host", "find-links")


@dataclass(frozen=True)
class Builder:
    """A program that builds images: its arguments before the build's own."""

    name: str
    command: tuple[str, ...]
    probe: tuple[str, ...]

    def is_usable(self) -> bool:
        """Whether it is installed and, if it needs one, its daemon answers."""
        if shutil.which(self.name) is None:
            return False
        try:
            done = subprocess.run(
                [self.name, *self.probe],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=PROBE_TIMEOUT,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0


# Docker's image format, where it is not the only one: OCI's has no health checks.
BUILDERS = (
    Builder("docker", ("docker", "build"), ("version",)),
    Builder("podman", ("podman", "build", "--format", "docker"), ("version",)),
    Builder("buildah", ("buildah", "build", "--format", "docker"), ("version",)),
)


def choose(name: str | None = None) -> Builder | None:
    """The builder of that name, or the first that is usable; None if none is.

    Raises:
        ConfigurationError: the one that was asked for is not usable.
    """
    if name is None:
        return next((each for each in BUILDERS if each.is_usable()), None)
    builder = next(each for each in BUILDERS if each.name == name)
    if not builder.is_usable():
        raise ConfigurationError(
            f"--builder: {name} is not installed, or its daemon is not running"
        )
    return builder


def arguments(
    builder: Builder, context: Path, tags: Sequence[str], options: Sequence[str] = ()
) -> list[str]:
    """The command that builds the image of a context; `options` are passed on as they are."""
    named = [f"--tag={tag}" for tag in tags]
    return [*builder.command, *named, *options, str(context)]


def build(
    builder: Builder,
    context: Path,
    tags: Sequence[str],
    options: Sequence[str] = (),
    environ: Mapping[str, str] = os.environ,
) -> int:
    """Build the image and return the builder's exit status; its output goes to the terminal.

    pip's configuration reaches the build as a secret, which no layer keeps; an option that gives
    the secret `pip-conf` replaces it.
    """
    variables = {**environ, "DOCKER_BUILDKIT": "1"}
    with _pip_secret(environ, options) as secret:
        command = arguments(builder, context, tags, [*secret, *options])
        return subprocess.run(command, stdin=subprocess.DEVNULL, env=variables).returncode


@contextlib.contextmanager
def _pip_secret(environ: Mapping[str, str], options: Sequence[str]) -> Iterator[list[str]]:
    """The flags that give the build pip's options, in a file that is removed afterwards."""
    if any(f"id={SECRET}" in option for option in options):
        yield []
        return
    found = pip_settings.without_pip(environ)
    lines = [f"{name} = {value}" for name in _SHARED if (value := _remote(found.get(name, "")))]
    if not lines:
        yield []
        return
    with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
        file = Path(folder, "pip.conf")
        file.touch(mode=0o600)
        file.write_text("\n".join(["[global]", *lines, ""]))
        yield [f"--secret=id={SECRET},src={file}"]


def _remote(value: str) -> str:
    """The places in a value that a container reaches as well."""
    words = value.split()
    return " ".join(word for word in words if not word.startswith(("/", ".", "~", "file:")))
