"""Follows the page of an example: types what its blocks say, in a copy of the example's folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import urlsplit

from support.pages import ADDRESS, blocks
from support.tracking import ENVIRONMENT

EXAMPLES = Path(__file__).parents[2] / "examples"
MADE = ("mlruns", "mlflow.db", "model-uri.txt", "__pycache__")
# Building and training are slow on a busy machine.
TIMEOUT = 400


class Asked(NamedTuple):
    """A curl command of the page, what it was answered, and what the page shows, as JSON."""

    command: str
    answer: Any
    shown: Any


class Walkthrough:
    """A folder, its page as it is read, and the server that the page started last.

    `http` is that server's URL, `asked` what it and those before it answered so far, and
    `variables` the environment, with all that the page exported.
    """

    def __init__(
        self,
        folder: Path,
        page: list[tuple[str, str]],
        root: Path,
        variables: Mapping[str, str],
    ) -> None:
        self.root = root
        self.folder = folder
        self.variables = _environment(root / "home") | dict(variables)
        self.http = ""
        self.asked: list[Asked] = []
        self._page = page
        self._server: subprocess.Popen[bytes] | None = None

    def follow(self, until: str | None = None) -> None:
        """Type block after block, to the end or up to the first one with the text `until`.

        A block that starts a server ends with it, and replaces the server before.
        """
        while self._page and (until is None or until not in self._page[0][1]):
            language, text = self._page.pop(0)
            if language != "sh":
                continue
            if text.startswith("curl "):
                answer, (shown_as, shown) = self._curl(text), self._page.pop(0)
                assert shown_as == "json", f"the page shows no answer to {text}"
                self.asked.append(Asked(text, answer, json.loads(shown)))
            elif "headrace serve" in text:
                self._serve(text)
            else:
                self._type(text)
        assert until is None or self._page, f"no block of the page has '{until}'"

    def run(self, *command: str) -> str:
        """What a command prints, run in the folder with the page's environment."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.variables,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def log(self) -> str:
        """All that the page's servers wrote."""
        return (self.root / "log").read_text(errors="replace")

    def stop(self) -> None:
        """Press Ctrl-C, if a server runs; it must end well."""
        if self._server is not None:
            os.killpg(self._server.pid, signal.SIGINT)
            assert self._server.wait(60) == 0, self.log()
            self._server = None

    def close(self) -> None:
        """End a server that still runs."""
        if self._server is not None and self._server.poll() is None:
            os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait()

    def _type(self, text: str) -> None:
        exported = self.root / "exported"
        self.run("bash", "-ec", f"{text}\nenv -0 > '{exported}'")
        lines = exported.read_text().rstrip("\0").split("\0")
        self.variables = dict(line.split("=", 1) for line in lines)

    def _curl(self, text: str) -> Any:
        assert ADDRESS in text, f"the page's server is at {ADDRESS}"
        return json.loads(
            self.run("bash", "-ec", text.replace(ADDRESS, urlsplit(self.http).netloc))
        )

    def _serve(self, text: str) -> None:
        self.stop()
        reading, writing = os.pipe()
        with (self.root / "log").open("ab") as log:
            self._server = subprocess.Popen(
                ["bash", "-ec", text],
                cwd=self.folder,
                env={**self.variables, "HEADRACE_READY_FD": str(writing)},
                pass_fds=[writing],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # The keys of a terminal go to a group of processes.
                process_group=0,
            )
        os.close(writing)
        with os.fdopen(reading) as ready:
            self.http = self._announced(ready)

    def _announced(self, ready: IO[str]) -> str:
        line = ready.readline()
        assert line, self.log()
        return str(json.loads(line)["http"])


@contextmanager
def walkthrough(name: str, root: Path, **variables: str) -> Iterator[Walkthrough]:
    """The page of `examples/NAME`, to be followed; its last server is stopped at the end."""
    ignored = shutil.ignore_patterns(*MADE)
    folder = shutil.copytree(EXAMPLES / name, root / name, ignore=ignored)
    page = Walkthrough(folder, _typed(name, blocks(folder / "README.md")), root, variables)
    try:
        yield page
        page.stop()
    finally:
        page.close()


def _typed(name: str, page: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The blocks of the page, without the two lines that bring a reader to the example."""
    (language, text), *rest = page
    install, enter, *commands = text.splitlines()
    assert install.startswith("pip install '.[")
    assert enter == f"cd examples/{name}"
    return [(language, "\n".join(commands)), *rest]


def _environment(home: Path) -> dict[str, str]:
    """Our own, with this interpreter's programs, free ports, and MLflow's default store."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "MLFLOW_"))}
    programs = os.pathsep.join([str(Path(sys.executable).parent), ours.get("PATH", "")])
    ports = {f"HEADRACE_{name}_PORT": "0" for name in ("HTTP", "GRPC", "METRICS")}
    return {**ours, "PATH": programs, "HEADRACE_HOME": str(home), **ports, **ENVIRONMENT}
