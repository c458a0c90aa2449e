"""No request reaches the model that was not sent in a form that everybody reads alike."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fuzz.ambiguous_requests import HIDDEN, ambiguous
from fuzz.figures import IS_LONG, SEED, amount, counted
from fuzz.hostile_server import SMUGGLED, Target, attacked, exchanged, statuses
from support.serving import until

pytestmark = [pytest.mark.fuzz, pytest.mark.e2e]

BATCH = 100
NGINX = """
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  log_format sizes "$content_length $upstream_status";
  access_log {folder}/sizes sizes;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream headrace {{ server {upstream}; keepalive 8; }}
  server {{
    listen unix:{folder}/socket;
    location / {{
      proxy_pass http://headrace;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host localhost;
      proxy_request_buffering off;
      proxy_ignore_client_abort on;
    }}
  }}
}}
"""


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    with attacked(tmp_path / "models") as target:
        yield target


@pytest.fixture
def nginx(target: Target, tmp_path: Path) -> Iterator[Path]:
    """The folder of an nginx before the server: its socket, and the sizes that it has passed on."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        assert not IS_LONG, "the long form needs nginx"
        pytest.skip("there is no nginx on this machine")
    folder = tmp_path / "n"
    folder.mkdir()
    upstream = urlsplit(target.server.http).netloc
    (folder / "conf").write_text(NGINX.format(folder=folder, upstream=upstream))
    command = [program, "-p", str(folder), "-c", str(folder / "conf"), "-e", "stderr"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        until((folder / "socket").exists, 30, "nginx listens")
        yield folder
    finally:
        process.terminate()
        process.wait(30)


def test_an_ambiguous_request_is_refused_and_none_is_hidden_in_it(target: Target) -> None:
    parts = urlsplit(target.server.http)
    address = (str(parts.hostname), int(parts.port or 0))
    taken: list[tuple[bytes, bytes]] = []
    with counted("malformed and smuggled HTTP/1.1", "server") as tally:
        for sent in islice(ambiguous(SEED), amount(1000, 100_000)):
            received = exchanged(address, sent)
            tally.count += 1
            if [status for status in statuses(received) if status < 400]:
                taken.append((sent, received))
            if not tally.count % BATCH:
                require_unseen(target)
        require_unseen(target)
        assert taken == [], len(taken)


def test_what_reaches_the_model_is_what_a_proxy_has_passed_on(target: Target, nginx: Path) -> None:
    def passed_on() -> int:
        return (nginx / "sizes").read_text().split("\n").count(f"{len(body)} 200")

    body = HIDDEN.partition(b"\r\n\r\n")[2]
    with counted("malformed and smuggled HTTP/1.1", "server behind nginx") as tally:
        for sent in islice(ambiguous(SEED), amount(1000, 100_000)):
            exchanged(str(nginx / "socket"), sent)
            tally.count += 1
            if not tally.count % BATCH:
                target.require_well()
                # A proxy may take a bare line feed for the end of a line, and then it passes the
                # hidden request on in its own words.
                until(lambda: target.seen().count(SMUGGLED) == passed_on(), 30, "they are as many")
        tally.notes["passed on by nginx"] = passed_on()


def require_unseen(target: Target) -> None:
    """No hidden request has reached the model, and good ones do."""
    target.require_well()
    assert SMUGGLED not in target.seen()
