"""What a server under comparison declares of itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.peers.forms import Form

# Ports that stand for themselves where a command is shown.
NAMED_PORTS = {"HTTP_PORT": 65533, "GRPC_PORT": 65534, "METRICS_PORT": 65535}


@dataclass(frozen=True)
class Place:
    """Where a server runs: its folder, the interpreter of its environment, and its ports."""

    folder: Path
    python: Path
    port: int
    grpc_port: int
    metrics_port: int

    def program(self, name: str) -> str:
        """A command of the environment."""
        return str(self.python.with_name(name))


NAMED = Place(Path("FOLDER"), Path("bin/python"), *NAMED_PORTS.values())


def _with_names(text: str) -> str:
    for name, port in NAMED_PORTS.items():
        text = text.replace(str(port), name)
    return text


@dataclass(frozen=True)
class Contender:
    """One server with one configuration.

    `live` is the path that answers 200 once the server runs, "" if it has gRPC only. `forms` has
    its requests by scenario. `files` are written to its folder, and `copies` maps names there to
    those of the saved models.
    """

    name: str
    title: str
    command: Callable[[Place], Sequence[str]]
    live: str
    forms: Mapping[str, Form]
    files: Mapping[str, str] = field(default_factory=dict)
    copies: Mapping[str, str] = field(default_factory=lambda: {"model.joblib": "wine.joblib"})
    environ: Callable[[Place], Mapping[str, str]] = lambda place: {}
    prepare: Callable[[Place], None] = lambda place: None

    def shown_command(self) -> str:
        """The command as the page shows it, with words in place of ports and folders."""
        words = list(self.command(NAMED))
        return _with_names(" ".join([Path(words[0]).name, *words[1:]]))

    def shown_environ(self) -> dict[str, str]:
        """Its variables, without those that only say where something is on this machine."""
        return {
            name: _with_names(value)
            for name, value in self.environ(NAMED).items()
            if not any(part.startswith("/") for part in value.split(":"))
        }

    def fill(self, place: Place, models: Path) -> None:
        """Write what the server reads.

        Raises:
            NotStarted: what prepares it failed.
        """
        for name, text in self.files.items():
            path = place.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for name, source in self.copies.items():
            path = place.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            copy: Any = shutil.copytree if (models / source).is_dir() else shutil.copy
            copy(models / source, path)
        self.prepare(place)


@dataclass(frozen=True)
class Peer:
    """Somebody's server: what is installed for it, and the configurations that are compared.

    Without `requirements` it runs in our own environment.
    """

    name: str
    requirements: Sequence[str]
    contenders: Sequence[Contender]
    note: str = ""
