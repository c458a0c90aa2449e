"""A service that a file or a module defines, and the models of its runners."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from headrace.errors import OUTSIDE, ConfigurationError, shorten
from headrace.runtimes import SERVICE
from headrace.settings import ModelSettings
from headrace.sources.model_file import FoundModel
from headrace.sources.source import Source

# Seconds that a service's module may take to be imported.
DESCRIBE_TIMEOUT = 120.0
# How often that is tried if something outside ends it.
DESCRIBE_TRIES = 3
DESCRIBE = "headrace.runtimes.service.description"


class Reference(NamedTuple):
    """A module of a user's, the folder that it is imported from, and the service in it."""

    module: str
    attribute: str
    folder: Path


def reference_of(place: str, folder: Path = Path()) -> Reference | None:
    """What `service.py:svc`, `service.py`, or `package.module:svc` names; None for anything else.

    A module is one if its file is below `folder`, by default the working directory; what looks the
    same may be a tag.
    """
    file, colon, attribute = place.rpartition(":")
    if not colon:
        file, attribute = place, ""
    if colon and not all(part.isidentifier() for part in attribute.split(".")):
        return None
    if file.endswith(".py"):
        path = folder / file
        if not path.is_file():
            return Reference(path.stem, attribute, path.parent.resolve()) if colon else None
        return Reference(path.stem, attribute, path.parent.resolve())
    if not colon or not all(part.isidentifier() for part in file.split(".")):
        return None
    below = folder.joinpath(*file.split("."))
    if not below.with_suffix(".py").is_file() and not (below / "__init__.py").is_file():
        return None
    return Reference(file, attribute, folder.resolve())


class ServiceSource(Source):
    """A service as one model, and one more for each of its runners.

    Its module is imported by a child process, never here.
    """

    def __init__(
        self,
        place: str,
        reference: Reference,
        name: str | None = None,
        environ: Mapping[str, str] | None = None,
        packages: Sequence[str] = (),
    ) -> None:
        super().__init__(place, name, environ, packages)
        self._reference = reference

    @property
    def reference(self) -> Reference:
        """Where the service is."""
        return self._reference

    @property
    def folder(self) -> Path:
        """Where the service's own files are."""
        return self._reference.folder

    def read(self) -> list[FoundModel]:
        """The models of the runners, then the service."""
        if self.packages:
            raise ConfigurationError("--packages is for a model, not for a service")
        found = self.described()
        reference = self._reference
        models = [ModelSettings(**fields) for fields in found["runners"]]
        service = ModelSettings(
            name=self.name or _free_name(found["name"], models),
            implementation=SERVICE,
            folder=str(reference.folder),
            extra={"module": reference.module, "attribute": reference.attribute},
            # Its threads and loop would take turns with the models in their workers.
            inference_pool_gid=f"service {found['name']}",
        )
        return [FoundModel(settings) for settings in (*models, service)]

    def described(self) -> dict[str, Any]:
        """What `headrace.runtimes.service.description` prints of the service.

        Raises:
            ConfigurationError: its module cannot be imported, or defines no such service; or code
                is not trusted.
        """
        if self.trust != "any":
            raise ConfigurationError(
                f"MODEL '{self.place}' is a service, which is code; --trust {self.trust} serves "
                "models only"
            )
        module, attribute, folder = self._reference
        file = folder / f"{module.rpartition('.')[2]}.py"
        if "." not in module and not file.is_file() and not (folder / module).is_dir():
            raise ConfigurationError(f"MODEL '{self.place}': there is no file {shorten(file)}")
        # Without -B it would write into the folder, which a bundle may be made of.
        command = [sys.executable, "-B", "-m", DESCRIBE, module, attribute, str(folder)]
        try:
            done = _run(command)
        except subprocess.TimeoutExpired:
            raise ConfigurationError(
                f"MODEL '{self.place}': importing it took more than {DESCRIBE_TIMEOUT:g} s"
            ) from None
        try:
            answer: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            raise ConfigurationError(
                f"MODEL '{self.place}': the process that imports it ended with status "
                f"{done.returncode} and no answer"
            ) from None
        if "kind" in answer:
            raise ConfigurationError(f"MODEL '{self.place}': {answer['message']}")
        return answer


def _free_name(service: str, runners: Sequence[ModelSettings]) -> str:
    """The service's name; in BentoML, services and runners may have the same."""
    taken = any(runner.name == service for runner in runners)
    return f"{service}-service" if taken else service


def _run(command: list[str]) -> subprocess.CompletedProcess[bytes]:
    """Run it to its end, and again if something outside ended it.

    Raises:
        subprocess.TimeoutExpired: it took too long.
    """
    for left in reversed(range(DESCRIBE_TRIES)):
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=DESCRIBE_TIMEOUT,
            env={**os.environ, "PYTHONPATH": _with_own_package()},
        )
        if -done.returncode not in OUTSIDE or not left:
            break
    return done


def _with_own_package() -> str:
    """A module search path on which the child finds this very package."""
    source = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), source]))
