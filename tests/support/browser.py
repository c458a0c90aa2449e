"""Drives Chromium through its DevTools protocol, over a pair of pipes."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PATIENCE = 60.0
# What a page reports if something in it is wrong.
COMPLAINTS = (
    *("Runtime.exceptionThrown", "Runtime.consoleAPICalled"),
    *("Log.entryAdded", "Network.loadingFailed"),
)


def chromium() -> str | None:
    """Where Chromium is, if it is installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """One page of a browser; `events` are those of DevTools since the page was opened."""

    def __init__(self, reads: int, writes: int) -> None:
        self._reads, self._writes = reads, writes
        self._buffer = b""
        self._count = 0
        self._session: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        session = self.command("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": session["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.command(f"{domain}.enable")

    def command(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of DevTools and wait for its result."""
        self._count += 1
        call = {"id": self._count, "method": method, "params": params, **self._session}
        os.write(self._writes, json.dumps(call).encode() + b"\0")
        while True:
            message = self._next()
            if message.get("id") == self._count:
                assert "error" not in message, message
                found: dict[str, Any] = message["result"]
                return found
            self.events.append(message)

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        done = self.command(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def open(self, url: str, shows: str) -> None:
        """Open a page and wait until it has an element that this selector finds."""
        self.events.clear()
        self.command("Page.navigate", url=url)
        found = (
            "new Promise(done => { const look = () => document.querySelector("
            f"{json.dumps(shows)}) ? done(true) : setTimeout(look, 20); look(); }})"
        )
        assert self.evaluate(found)

    def press(self, key: str, code: int) -> None:
        """Press and release a key, by its name and its Windows key code."""
        text = {"Enter": "\r"}.get(key, "")
        for kind in ("keyDown", "keyUp"):
            self.command(
                "Input.dispatchKeyEvent",
                **{"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code},
                **({"text": text} if text and kind == "keyDown" else {}),
            )

    @property
    def requested(self) -> list[str]:
        """The URLs that the page has asked for."""
        sent = [each for each in self.events if each["method"] == "Network.requestWillBeSent"]
        return [each["params"]["request"]["url"] for each in sent]

    @property
    def complaints(self) -> list[dict[str, Any]]:
        """What went wrong in the page, or was written to its console."""
        return [each for each in self.events if each["method"] in COMPLAINTS]

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while b"\0" not in self._buffer:
            left = max(0.0, deadline - time.monotonic())
            assert select.select([self._reads], [], [], left)[0], "the browser does not answer"
            part = os.read(self._reads, 1 << 16)
            assert part, "the browser has ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


@contextmanager
def browsing(program: str, folder: Path) -> Iterator[Browser]:
    """A running browser, whose profile is in `folder`."""
    # The browser reads commands from its descriptor 3 and writes to its descriptor 4.
    commands, writes = os.pipe()
    reads, answers = os.pipe()
    script = f'exec "$0" "$@" 3<&{commands} 4>&{answers}'
    flags = (*QUIET, "--remote-debugging-pipe", f"--user-data-dir={folder}")
    process = subprocess.Popen(
        ["bash", "-c", script, program, *flags],
        pass_fds=(commands, answers),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(commands)
    os.close(answers)
    try:
        yield Browser(reads, writes)
    finally:
        os.close(writes)
        process.terminate()
        process.wait(PATIENCE)
        os.close(reads)
